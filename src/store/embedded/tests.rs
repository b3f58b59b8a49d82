//! What happens inside one commit, and when a commit fails: with a hand on the writer.

use super::{Command, EmbeddedStore, Writer};
use crate::{
    domain::{
        Attributes, AuthMethod, Client, LiveSession, RandomTokens, Session, SessionId, SessionSpan,
        Timestamp, TokenDigest, TokenSource as _, UserId,
    },
    store::{Created, NewSession, RevocationEvent, Revocations, SessionKey, SessionStore},
};
use futures_util::future::{join, join_all};
use rusqlite::ffi;
use std::{
    path::Path,
    sync::mpsc,
    task::{Context, Poll, Waker},
};
use tempfile::TempDir;

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

fn open(dir: &TempDir) -> EmbeddedStore {
    EmbeddedStore::open(dir.path()).unwrap()
}

fn user_id() -> UserId {
    UserId::new(START, RandomTokens.id_bits().unwrap())
}

fn new_session(store: &EmbeddedStore, user: UserId) -> NewSession {
    NewSession {
        digest: RandomTokens.session_token().unwrap().digest(),
        session: Session {
            live: LiveSession {
                id: SessionId::new(START, RandomTokens.id_bits().unwrap()),
                user_id: user,
                last_seen_at: START,
                authenticated_at: START,
                auth_method: AuthMethod::Password,
                span: SessionSpan::from_secs(3600, 600),
                grace_ends_at: None,
            },
            client: Client::default(),
            attributes: Attributes::default(),
        },
        epoch: store.table.epoch(user),
        replaces: None,
        max_per_user: 100,
    }
}

async fn log_in(store: &EmbeddedStore) -> NewSession {
    let new = new_session(store, user_id());
    assert_eq!(store.create(new.clone(), START).await.unwrap(), Created::Yes);
    new
}

fn lives(store: &EmbeddedStore, digest: &TokenDigest) -> bool {
    store.table.find(digest, START).is_some()
}

fn intervene(store: &EmbeddedStore, intervene: impl FnOnce(&mut Writer) + Send + 'static) {
    store
        .commands
        .send(Command::Intervene(Box::new(intervene)))
        .unwrap();
}

/// Holds the writer until the sender is dropped: what is asked meanwhile shares its commit.
fn hold(store: &EmbeddedStore) -> mpsc::Sender<()> {
    let (go, wait) = mpsc::channel();
    let (holding, held) = mpsc::channel();
    intervene(store, move |_| {
        holding.send(()).unwrap();
        let _ = wait.recv();
    });
    held.recv().unwrap();
    go
}

fn fail_at_commit(store: &EmbeddedStore, code: i32) {
    let failure = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
    intervene(store, move |writer| writer.fails_at_commit = Some(failure));
}

/// Waits for commands that were asked while the writer was held, and then lets it go.
async fn together<T>(go: mpsc::Sender<()>, commands: impl Future<Output = T>) -> T {
    let mut go = Some(go);
    let mut commands = std::pin::pin!(commands);
    std::future::poll_fn(move |context| {
        let polled = commands.as_mut().poll(context);
        // The first poll has put every command into the queue.
        go.take();
        polled
    })
    .await
}

fn published(revocations: &mut Revocations) -> usize {
    let published = revocations.ready(1000);
    published
        .iter()
        .filter(|(_, published)| *published != RevocationEvent::Forget)
        .count()
}

#[tokio::test]
async fn a_commit_that_fails_changes_nothing_and_the_next_one_may_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let mut revocations = store.revocations().read(None);
    let old = log_in(&store).await;
    let key = SessionKey::Token(old.digest);
    published(&mut revocations);
    let new = new_session(&store, user_id());
    let go = hold(&store);
    fail_at_commit(&store, ffi::SQLITE_FULL);
    let commands = join(store.destroy(key, START), store.create(new.clone(), START));
    let (destroyed, created) = together(go, commands).await;
    assert!(destroyed.is_err() && created.is_err());
    assert!(lives(&store, &old.digest) && !lives(&store, &new.digest));
    assert_eq!(published(&mut revocations), 0);
    assert!(SessionStore::ping(&store).await.is_ok());

    assert!(store.destroy(key, START).await.unwrap().is_some());
    assert_eq!(store.create(new.clone(), START).await.unwrap(), Created::Yes);
    assert_eq!(published(&mut revocations), 1);
    drop(store);
    let store = open(&dir);
    assert!(!lives(&store, &old.digest) && lives(&store, &new.digest));
}

#[tokio::test]
async fn f_04_after_a_failed_sync_nothing_is_acknowledged_until_the_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let old = log_in(&store).await;
    let key = SessionKey::Token(old.digest);
    let go = hold(&store);
    fail_at_commit(&store, ffi::SQLITE_IOERR_FSYNC);
    assert!(together(go, store.destroy(key, START)).await.is_err());
    assert!(store.destroy(key, START).await.is_err());
    assert!(store.create(new_session(&store, user_id()), START).await.is_err());
    assert!(SessionStore::ping(&store).await.is_err());
    assert!(lives(&store, &old.digest));
    drop(store);
    let store = open(&dir);
    assert!(lives(&store, &old.digest));
    assert!(store.destroy(key, START).await.unwrap().is_some());
}

#[tokio::test]
async fn f_03_a_full_disk_fails_writes_until_there_is_space_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let limit = |store: &EmbeddedStore, pages: u32| {
        intervene(store, move |writer| {
            writer
                .connection
                .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
                .unwrap();
        });
    };
    limit(&store, 30);
    let mut kept = Vec::new();
    let refused = loop {
        let new = new_session(&store, user_id());
        match store.create(new.clone(), START).await {
            Ok(created) => assert_eq!(created, Created::Yes),
            Err(_) => break new,
        }
        kept.push(new.digest);
        assert!(kept.len() < 10_000, "the disk is never full");
    };
    assert!(kept.iter().all(|digest| lives(&store, digest)));
    assert!(!lives(&store, &refused.digest));
    limit(&store, 1_000_000);
    assert_eq!(store.create(refused.clone(), START).await.unwrap(), Created::Yes);
    kept.push(refused.digest);
    drop(store);
    let store = open(&dir);
    assert!(kept.iter().all(|digest| lives(&store, digest)));
}

#[tokio::test]
async fn nobody_sees_a_change_before_it_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let old = log_in(&store).await;
    let new = new_session(&store, user_id());
    let go = hold(&store);
    let key = SessionKey::Token(old.digest);
    let (seen, saw) = mpsc::channel();
    let commands = join(store.destroy(key, START), store.create(new.clone(), START));
    let (old, new) = (old.digest, new.digest);
    let commands = join(commands, async {
        // Queued behind the two: the writer has decided them by then, and not committed.
        let table = std::sync::Arc::clone(&store.table);
        intervene(&store, move |_| {
            let finds = |digest| table.find(digest, START).is_some();
            seen.send((finds(&old), finds(&new))).unwrap();
        });
    });
    let ((destroyed, created), ()) = together(go, commands).await;
    assert!(destroyed.is_ok() && created.is_ok());
    assert_eq!(saw.recv().unwrap(), (true, false));
    assert!(!lives(&store, &old) && lives(&store, &new));
}

#[tokio::test]
async fn s_19_five_hundred_logins_of_one_user_share_a_commit_and_meet_the_cap() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let user = user_id();
    let sessions: Vec<_> = (0..512)
        .map(|_| NewSession {
            max_per_user: 5,
            ..new_session(&store, user)
        })
        .collect();
    let create = || join_all(sessions.iter().map(|new| store.create(new.clone(), START)));
    // One failure fails them all, so they were one commit.
    let go = hold(&store);
    fail_at_commit(&store, ffi::SQLITE_FULL);
    assert!(together(go, create()).await.iter().all(Result::is_err));
    assert_eq!(store.table.list(user, None, 1000, START).len(), 0);

    let go = hold(&store);
    let created = together(go, create()).await;
    assert!(
        created
            .into_iter()
            .all(|created| created.unwrap() == Created::Yes)
    );
    let living = |store: &EmbeddedStore| sessions.iter().filter(|new| lives(store, &new.digest)).count();
    assert_eq!(living(&store), 5);
    assert_eq!(rows(dir.path()), 5);
    drop(store);
    assert_eq!(living(&open(&dir)), 5);
}

fn rows(data_dir: &Path) -> i64 {
    super::open::open_to_read(&data_dir.join("sessiond.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM sessions", [], |row| row.get(0))
        .unwrap()
}

#[tokio::test]
async fn a_revocation_that_failed_leaves_the_sweep_nothing_to_delete() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let new = log_in(&store).await;
    let go = hold(&store);
    fail_at_commit(&store, ffi::SQLITE_FULL);
    let user = new.session.live.user_id;
    assert!(together(go, store.revoke_user(user, None, START)).await.is_err());
    assert_eq!(store.sweep(START, 100).await.unwrap(), 0);
    drop(store);
    assert!(lives(&open(&dir), &new.digest));
}

#[tokio::test]
async fn f_06_a_full_queue_is_refused_and_what_nobody_waits_for_happens() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let go = hold(&store);
    while store.commands.try_send(Command::Flush).is_ok() {}
    assert!(store.create(new_session(&store, user_id()), START).await.is_err());
    drop(go);

    let dropped = new_session(&store, user_id());
    let mut asked = false;
    while !asked {
        let mut creation = store.create(dropped.clone(), START);
        let polled = creation.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        // Refused at once as long as the queue is full.
        asked = !matches!(polled, Poll::Ready(Err(_)));
    }
    // Commands are worked off in order, so this one's answer comes after.
    log_in(&store).await;
    assert!(lives(&store, &dropped.digest));
}

#[tokio::test]
async fn touches_that_could_not_be_written_are_written_later() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let new = log_in(&store).await;
    let seen_at = START.after(std::time::Duration::from_secs(60));
    let go = hold(&store);
    store.touch(&new.session.live, &new.digest, seen_at);
    intervene(&store, |writer| {
        let failure = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None);
        writer.connection.execute_batch("COMMIT").unwrap();
        writer.fails_at_commit = Some(failure);
        assert!(writer.flush(), "not again at once");
        writer.connection.execute_batch("BEGIN").unwrap();
    });
    drop(go);
    drop(store);
    let store = open(&dir);
    let found = store.table.find(&new.digest, START).unwrap();
    assert_eq!(found.live.last_seen_at, seen_at);
}
