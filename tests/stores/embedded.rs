//! The embedded store and its directory: what survives a restart, who may open it, and how it is copied and put back.
use sessiond::{
    domain::{Attributes, EmailKey, LiveSession, Session, Timestamp, TokenDigest},
    store::{
        Created, EmbeddedStore, ExistingData, Inserted, NewSession, OpenError, Rotation, SessionKey,
        SessionStore, UserRecord, UserStore,
    },
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testkit::samples::{check, digest, email, log_in, session_to_create, user_id, user_record};

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

fn at(secs: u64) -> Timestamp {
    START.after(Duration::from_secs(secs))
}

fn open(dir: &TempDir) -> EmbeddedStore {
    EmbeddedStore::open(&data_dir(dir)).unwrap()
}

fn data_dir(dir: &TempDir) -> std::path::PathBuf {
    dir.path().join("data")
}

fn database(dir: &TempDir) -> std::path::PathBuf {
    data_dir(dir).join("sessiond.db")
}

async fn get(store: &EmbeddedStore, digest: &TokenDigest, now: Timestamp) -> Option<Session> {
    store.get(digest, now).await.unwrap()
}

fn record(address: &str) -> UserRecord {
    let mut record = user_record();
    record.user.email = email(address);
    record
}

fn key(address: &str) -> EmailKey {
    email(address).key().clone()
}

fn sha256(path: &Path) -> Vec<u8> {
    Sha256::digest(fs::read(path).unwrap()).to_vec()
}

#[tokio::test]
async fn f_01_everything_acknowledged_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let user = record("ada@example.org");
    assert_eq!(store.insert(&user).await.unwrap(), Inserted::Yes);
    let kept = log_in(&store, user_id(), START).await;
    let destroyed = log_in(&store, user_id(), START).await;
    let rotated = log_in(&store, user_id(), START).await;
    let revoked = log_in(&store, user_id(), START).await;
    let spared = log_in(&store, user_id(), START).await;
    let unspared = log_in(&store, spared.session.live.user_id, START).await;
    let key = SessionKey::Token(destroyed.digest);
    store.destroy(key, START).await.unwrap().unwrap();
    let rotation = Rotation {
        from: rotated.digest,
        to: digest(),
        grace_until: at(30),
        authenticated_at: Some(at(5)),
    };
    store.rotate(rotation, at(5)).await.unwrap().unwrap();
    let revoked_user = revoked.session.live.user_id;
    store.revoke_user(revoked_user, None, START).await.unwrap();
    let late = NewSession {
        digest: digest(),
        ..revoked.clone()
    };
    let spared_id = Some(spared.session.live.id);
    let spared_user = spared.session.live.user_id;
    assert_eq!(store.revoke_user(spared_user, spared_id, START).await.unwrap(), 1);
    drop(store);

    let store = open(&dir);
    assert_eq!(store.by_id(user.user.id).await.unwrap(), Some(user));
    assert_eq!(get(&store, &kept.digest, at(5)).await, Some(kept.session));
    assert_eq!(get(&store, &destroyed.digest, at(5)).await, None);
    assert_eq!(get(&store, &spared.digest, at(5)).await, Some(spared.session));
    for dead in [&revoked, &unspared] {
        assert_eq!(get(&store, &dead.digest, at(5)).await, None);
    }
    let live = LiveSession {
        authenticated_at: at(5),
        ..rotated.session.live
    };
    for (token, grace_ends_at) in [(rotation.from, Some(at(30))), (rotation.to, None)] {
        let live = LiveSession {
            grace_ends_at,
            ..live
        };
        assert_eq!(check(&store, &token, at(29)).await, Some(live));
    }
    assert_eq!(check(&store, &rotation.from, at(30)).await, None);
    assert_eq!(store.create(late, START).await.unwrap(), Created::EpochMoved);
    assert_eq!(SessionStore::count(&store, at(5)).await.unwrap(), 3);
}

#[tokio::test]
async fn s_17_an_end_of_everyones_sessions_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let old = log_in(&store, user_id(), START).await;
    assert_eq!(store.revoke_everyone(START).await.unwrap(), 1);
    let new = log_in(&store, user_id(), START).await;
    drop(store);
    let store = open(&dir);
    assert_eq!(check(&store, &old.digest, START).await, None);
    assert_eq!(check(&store, &new.digest, START).await, Some(new.session.live));
    assert_eq!(store.create(old, START).await.unwrap(), Created::EpochMoved);
}

#[tokio::test]
async fn rows_that_had_ended_before_a_restart_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    for _ in 0..3 {
        log_in(&store, user_id(), START).await;
    }
    store.revoke_everyone(START).await.unwrap();
    let kept = log_in(&store, user_id(), START).await;
    drop(store);
    let store = open(&dir);
    assert_eq!(store.sweep(START, 2).await.unwrap(), 2);
    assert_eq!(store.sweep(START, 100).await.unwrap(), 1);
    assert_eq!(store.sweep(START, 100).await.unwrap(), 0);
    assert_eq!(get(&store, &kept.digest, START).await, Some(kept.session));
    store.close();
    let rows: i64 = rusqlite::Connection::open(database(&dir))
        .unwrap()
        .query_row("SELECT count(*) FROM sessions", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn s_10_a_touch_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let new = log_in(&store, user_id(), START).await;
    store.touch(&new.session.live, &new.digest, at(500));
    drop(store);
    let store = open(&dir);
    assert_eq!(
        check(&store, &new.digest, at(1000)).await.unwrap().last_seen_at,
        at(500)
    );
    assert_eq!(check(&store, &new.digest, at(1100)).await, None);
}

#[tokio::test]
async fn f_09_the_clocks_high_water_mark_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    assert_eq!(store.clock_high_water(), None);
    // Nothing that is stored says what time it was, but for the mark.
    check(&store, &digest(), at(7000)).await;
    store
        .destroy(SessionKey::Token(digest()), at(7000))
        .await
        .unwrap();
    drop(store);
    assert_eq!(open(&dir).clock_high_water(), Some(at(7000)));
}

#[tokio::test]
async fn f_27_a_second_opener_is_refused_and_no_lock_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let asked_at = Instant::now();
    let refused = EmbeddedStore::open(&data_dir(&dir)).unwrap_err();
    // SQLite itself would try for five seconds.
    assert!(asked_at.elapsed() < Duration::from_secs(4));
    assert!(matches!(&refused, OpenError::Locked { data_dir: named } if *named == data_dir(&dir)));
    assert!(refused.to_string().contains(data_dir(&dir).to_str().unwrap()));
    drop(store);
    open(&dir);
}

#[tokio::test]
async fn the_directory_and_its_files_are_their_owners_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    log_in(&store, user_id(), START).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data_dir(&dir)), 0o700);
    let files: Vec<_> = fs::read_dir(data_dir(&dir))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{file:?}");
    }
}

#[tokio::test]
async fn f_23_a_newer_releases_file_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    let newer = rusqlite::Connection::open(database(&dir)).unwrap();
    newer.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    newer
        .execute_batch("CREATE TABLE novelty (it TEXT) STRICT; PRAGMA user_version = 99")
        .unwrap();
    // With the newer schema in the log only, as a crash would leave it.
    let crashed = tempfile::tempdir().unwrap();
    fs::create_dir(data_dir(&crashed)).unwrap();
    for name in ["sessiond.db", "sessiond.db-wal"] {
        fs::copy(data_dir(&dir).join(name), data_dir(&crashed).join(name)).unwrap();
    }
    drop(newer);
    for dir in [dir, crashed] {
        let before = sha256(&database(&dir));
        let refused = EmbeddedStore::open(&data_dir(&dir)).unwrap_err();
        assert!(
            matches!(
                refused,
                OpenError::Newer {
                    found: 99,
                    known: 2,
                    ..
                }
            ),
            "{refused:?}"
        );
        assert_eq!(sha256(&database(&dir)), before);
    }
}

#[tokio::test]
async fn another_programs_file_is_refused_and_not_touched() {
    for content in [b"not a database, but long enough to be looked at".repeat(100), {
        let other = tempfile::NamedTempFile::new().unwrap();
        let connection = rusqlite::Connection::open(other.path()).unwrap();
        connection.execute_batch("CREATE TABLE theirs (it TEXT)").unwrap();
        drop(connection);
        fs::read(other.path()).unwrap()
    }] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(data_dir(&dir)).unwrap();
        fs::write(database(&dir), &content).unwrap();
        let refused = EmbeddedStore::open(&data_dir(&dir)).unwrap_err();
        assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused:?}");
        assert_eq!(fs::read(database(&dir)).unwrap(), content);
    }
}

/// Every byte of a small file, flipped: what opens has the very users and sessions, or says that it is damaged.
#[tokio::test]
async fn f_02_a_flipped_byte_is_refused_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let user = record("ada@example.org");
    store.insert(&user).await.unwrap();
    let kept = log_in(&store, user_id(), START).await;
    let destroyed = log_in(&store, user_id(), START).await;
    store
        .destroy(SessionKey::Token(destroyed.digest), START)
        .await
        .unwrap();
    let revoked = log_in(&store, user_id(), START).await;
    store
        .revoke_user(revoked.session.live.user_id, None, START)
        .await
        .unwrap();
    drop(store);
    let whole = fs::read(database(&dir)).unwrap();
    let mut refused = 0;
    // A prime step, so that every kind of place in a page is met, in every page.
    for offset in (0..whole.len()).step_by(43) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(data_dir(&dir)).unwrap();
        let mut flipped = whole.clone();
        flipped[offset] ^= 0x20;
        fs::write(database(&dir), &flipped).unwrap();
        let store = match EmbeddedStore::open(&data_dir(&dir)) {
            Ok(store) => store,
            Err(OpenError::Corrupt { .. } | OpenError::Newer { .. } | OpenError::Io { .. }) => {
                refused += 1;
                continue;
            }
            Err(other @ (OpenError::Locked { .. } | OpenError::Exists { .. })) => panic!("{offset}: {other}"),
        };
        assert_eq!(
            check(&store, &kept.digest, START).await,
            Some(kept.session.live),
            "{offset}"
        );
        for dead in [&destroyed, &revoked] {
            assert_eq!(check(&store, &dead.digest, START).await, None, "{offset}");
        }
        match store.get(&kept.digest, START).await {
            Ok(found) => assert_eq!(found.as_ref(), Some(&kept.session), "{offset}"),
            Err(_) => refused += 1,
        }
        for found in [
            store.by_id(user.user.id).await,
            store.by_email(&key("ada@example.org")).await,
        ] {
            match found {
                Ok(found) => assert_eq!(found.as_ref(), Some(&user), "{offset}"),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 10, "only {refused} were refused");
}

#[tokio::test]
async fn f_24_no_session_of_a_backup_lives_after_it_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let user = record("ada@example.org");
    store.insert(&user).await.unwrap();
    let destroyed_since = log_in(&store, user_id(), START).await;
    let never_destroyed = log_in(&store, user_id(), START).await;
    let copy = dir.path().join("copy.db");
    store.backup(&copy).unwrap();
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    store
        .destroy(SessionKey::Token(destroyed_since.digest), START)
        .await
        .unwrap();
    store.insert(&record("later@example.org")).await.unwrap();

    let restore = |existing| EmbeddedStore::restore(&copy, &data_dir(&dir), existing);
    assert!(matches!(
        restore(ExistingData::Replace),
        Err(OpenError::Locked { .. })
    ));
    drop(store);
    assert!(matches!(
        restore(ExistingData::Keep),
        Err(OpenError::Exists { .. })
    ));
    restore(ExistingData::Replace).unwrap();

    let store = open(&dir);
    assert_eq!(store.by_id(user.user.id).await.unwrap(), Some(user));
    assert_eq!(store.by_email(&key("later@example.org")).await.unwrap(), None);
    for dead in [&destroyed_since, &never_destroyed] {
        assert_eq!(check(&store, &dead.digest, START).await, None);
        assert_eq!(
            store.create(dead.clone(), START).await.unwrap(),
            Created::EpochMoved
        );
    }
    let new = log_in(&store, user_id(), START).await;
    assert_eq!(get(&store, &new.digest, START).await, Some(new.session));
    drop(store);

    let fresh = tempfile::tempdir().unwrap();
    EmbeddedStore::restore(&copy, &data_dir(&fresh), ExistingData::Keep).unwrap();
    let store = open(&fresh);
    assert_eq!(UserStore::count(&store).await.unwrap(), 1);
    assert_eq!(SessionStore::count(&store, START).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_24_a_backup_under_load_has_everything_acknowledged_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(open(&dir));
    let before = record("before@example.org");
    store.insert(&before).await.unwrap();
    let load = tokio::spawn({
        let store = std::sync::Arc::clone(&store);
        async move {
            for _ in 0..200 {
                log_in(&*store, user_id(), START).await;
            }
        }
    });
    let copy = dir.path().join("copy.db");
    let backup = tokio::task::spawn_blocking({
        let (store, copy) = (std::sync::Arc::clone(&store), copy.clone());
        move || store.backup(&copy)
    });
    backup.await.unwrap().unwrap();
    load.await.unwrap();
    assert!(matches!(store.backup(&copy), Err(OpenError::Exists { .. })));
    let fresh = tempfile::tempdir().unwrap();
    EmbeddedStore::restore(&copy, &data_dir(&fresh), ExistingData::Keep).unwrap();
    assert_eq!(open(&fresh).by_id(before.user.id).await.unwrap(), Some(before));
}

#[tokio::test]
async fn a_damaged_backup_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let user = record("ada@example.org");
    store.insert(&user).await.unwrap();
    let copy = dir.path().join("copy.db");
    store.backup(&copy).unwrap();
    drop(store);
    let damaging = rusqlite::Connection::open(&copy).unwrap();
    damaging
        .execute("UPDATE users SET roles = '[\"root\"]'", [])
        .unwrap();
    drop(damaging);
    let refused = EmbeddedStore::restore(&copy, &data_dir(&dir), ExistingData::Replace).unwrap_err();
    assert!(matches!(refused, OpenError::Corrupt { .. }), "{refused:?}");
    assert_eq!(open(&dir).by_id(user.user.id).await.unwrap(), Some(user));
}

#[tokio::test]
async fn a_closed_store_answers_checks_and_refuses_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let new = log_in(&store, user_id(), START).await;
    store.close();
    store.close();
    assert_eq!(check(&store, &new.digest, START).await, Some(new.session.live));
    let late = session_to_create(&store, user_id(), START).await;
    assert!(store.create(late, START).await.is_err());
    assert!(SessionStore::ping(&store).await.is_err());
}

/// The log of a file that is written to without pause is emptied all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_a_busy_file_stays_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let log = data_dir(&dir).join("sessiond.db-wal");
    let attributes = Attributes::new(BTreeMap::from([("filler".into(), "x".repeat(4000))])).unwrap();
    // A single session is some two pages: in all, several times what is worth emptying.
    for _ in 0..60 {
        let creations = (0..500).map(|_| async {
            let mut new = session_to_create(&store, user_id(), START).await;
            new.session.attributes = attributes.clone();
            store.create(new, START).await.unwrap();
        });
        futures_util::future::join_all(creations).await;
    }
    let (log, file) = (
        fs::metadata(log).unwrap().len(),
        fs::metadata(database(&dir)).unwrap().len(),
    );
    assert!(
        file > 50 << 20 && log < file,
        "the log has {log} bytes, the file {file}"
    );
}
