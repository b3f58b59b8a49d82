//! What stands in Redis: which keys, with what in them, and for how long.

use super::samples::{
    PATIENCE, check, config, digest, lives, log_in, new_session, start, store_at, user_id, within,
};
use sessiond::{
    domain::{Attributes, Client, RandomTokens, SessionSpan, TokenSource as _},
    store::{
        Created, NewSession, Rotation, SessionKey, SessionStore,
        redis::{RedisConfig, RedisStore},
    },
};
use std::{collections::BTreeMap, time::Duration};
use testkit::redis::{RedisCluster, RedisServer};

const HOUR_MILLIS: i64 = 60 * 60 * 1000;

/// Uses every operation of the store, with texts that would be trouble in a key or a command.
pub(crate) async fn every_verb(store: &RedisStore) {
    let now = start();
    let user = user_id();
    for text in ["' OR 1=1 --", "\r\nFLUSHALL\r\n", "{a}{b}", "*", "%s", "\u{202e}"] {
        let mut new = new_session(store, user, now).await.unwrap();
        new.session.client = Client::from_stored(text.into(), text.into(), text.into());
        new.session.attributes = Attributes::new(BTreeMap::from([("k".into(), text.into())])).unwrap();
        new.max_per_user = 3;
        store.create(new.clone(), now).await.unwrap();
        assert_eq!(store.get(&new.digest, now).await.unwrap(), Some(new.session));
    }
    let first = log_in(store, user, now).await;
    let rotation = Rotation {
        from: first.digest,
        to: digest(),
        grace_until: now.after(Duration::from_secs(30)),
        authenticated_at: None,
    };
    store.rotate(rotation, now).await.unwrap().unwrap();
    let live = check(store, &rotation.to, now).await.unwrap().unwrap();
    store.touch(&live, &rotation.to, now.after(Duration::from_secs(60)));
    within(PATIENCE, "a touch", async || {
        let live = check(store, &rotation.to, now).await.unwrap().unwrap();
        (live.last_seen_at > now).then_some(())
    })
    .await;
    let second = log_in(store, user, now).await;
    store
        .destroy(SessionKey::Id(second.session.live.id), now)
        .await
        .unwrap()
        .unwrap();
    store.revoke_user(user, Some(live.id), now).await.unwrap();
    assert_eq!(store.list(user, None, 10, now).await.unwrap().len(), 1);
    assert_eq!(store.count(now).await.unwrap(), 1);
    store.sweep(now, 10).await.unwrap();
    store.revoke_everyone(now).await.unwrap();
    log_in(store, user, now).await;
    store.ping().await.unwrap();
}

/// A key with what differs from one to the next taken out: numbers, ids and digests.
fn shape(key: &[u8]) -> String {
    let key = std::str::from_utf8(key).expect("keys are text");
    let mut shape = String::new();
    for part in key.split_inclusive(['{', '}', ':']) {
        let (word, end) = match part.strip_suffix(['{', '}', ':']) {
            Some(word) => (word, &part[word.len()..]),
            None => (part, ""),
        };
        let is_uuid = word.len() == 36 && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        let is_digest = word.len() == 43;
        let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        shape.push_str(match () {
            () if is_uuid => "UUID",
            () if is_digest => "DIGEST",
            () if is_number => "N",
            () => word,
        });
        shape.push_str(end);
    }
    shape
}

const SHAPES: [&str; 17] = [
    "sessiond:{N}s:DIGEST",
    "sessiond:{N}x",
    "sessiond:{N}x:N",
    "sessiond:{N}m",
    "sessiond:{N}e",
    "sessiond:{N}e:UUID",
    "sessiond:{u:UUID}",
    "sessiond:{u:UUID}k",
    "sessiond:{u:UUID}e",
    "sessiond:{i:UUID}",
    "sessiond:{log}clock",
    "sessiond:{log}epoch",
    "sessiond:{log}lifetime",
    "sessiond:{log}stream",
    "sessiond:{log}head",
    "sessiond:{log}id",
    "sessiond:{log}sweep",
];

#[tokio::test]
async fn s_85_no_text_of_a_user_and_no_token_forms_a_key() {
    let server = RedisServer::start();
    every_verb(&store_at(&server.url()).await).await;
    for key in server.keys() {
        let shape = shape(&key);
        assert!(SHAPES.contains(&shape.as_str()), "{shape}");
    }
}

#[tokio::test]
async fn s_02_no_token_stands_anywhere_in_redis() {
    let server = RedisServer::start_durable();
    let store = store_at(&server.url()).await;
    let now = start();
    let mut tokens = Vec::new();
    for _ in 0..20 {
        let token = RandomTokens.session_token().unwrap();
        let new = NewSession {
            digest: token.digest(),
            ..new_session(&store, user_id(), now).await.unwrap()
        };
        store.create(new, now).await.unwrap();
        tokens.push(token);
    }
    // The append-only file has every command and every value.
    let files = std::fs::read_dir(server.dir().join("appendonlydir")).unwrap();
    let written: Vec<u8> = files
        .flat_map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    let contains = |needle: &[u8]| written.windows(needle.len()).any(|window| window == needle);
    assert!(contains(b"sessiond:"));
    for token in &tokens {
        assert!(!contains(&token.expose().as_bytes()[4..]));
    }
}

#[tokio::test]
async fn what_belongs_to_a_session_or_a_revocation_expires_by_itself() {
    let server = RedisServer::start();
    let store = store_at(&server.url()).await;
    every_verb(&store).await;
    let kept_for_ever = ["e", "x", "clock", "epoch", "lifetime", "stream", "head", "id"];
    for key in server.keys() {
        let key = String::from_utf8(key).unwrap();
        let ttl: i64 = server.ask(&["PTTL", &key]);
        let name = key.rsplit('}').next().unwrap();
        let is_of_all = !key.contains("{u:") && kept_for_ever.contains(&name);
        assert_eq!(ttl == -1, is_of_all, "{key}: {ttl}");
        // Marks outlive every session that they ended: these live for an hour.
        if name.starts_with("e:") {
            assert!(ttl > HOUR_MILLIS, "{key}: {ttl}");
        }
    }
}

#[tokio::test]
async fn marks_outlive_the_longest_session_that_any_process_has_allowed() {
    let server = RedisServer::start();
    let now = start();
    let other = store_at(&server.url()).await;
    let mut long = new_session(&other, user_id(), now).await.unwrap();
    long.session.live.span = SessionSpan::from_secs(100 * 60 * 60, 600);
    assert_eq!(other.create(long, now).await.unwrap(), Created::Yes);
    // A process that knows of shorter sessions only.
    let store = store_at(&server.url()).await;
    let user = user_id();
    store.revoke_user(user, None, start()).await.unwrap();
    let marks: Vec<_> = server
        .keys()
        .into_iter()
        .map(|key| String::from_utf8(key).unwrap())
        .filter(|key| key.contains("}e:"))
        .collect();
    assert_eq!(marks.len(), 48);
    for mark in marks {
        assert!(server.ask::<i64>(&["PTTL", &mark]) > 100 * HOUR_MILLIS);
    }
}

#[tokio::test]
async fn s_13_a_server_that_lost_the_last_numbers_spares_and_locks_out_nobody() {
    let server = RedisServer::start();
    let store = store_at(&server.url()).await;
    let now = start();
    let user = user_id();
    let clock = "sessiond:{log}clock";
    log_in(&store, user, now).await;
    let before: String = server.try_ask(&["GET", clock]).unwrap_or_else(|| "0 ".into());
    for round in 0..6 {
        match round % 2 {
            0 => drop(store.revoke_user(user, None, now).await.unwrap()),
            _ => drop(store.revoke_everyone(now).await.unwrap()),
        }
        // As a failover to a replica that lagged behind would.
        server.ask::<()>(&["SET", clock, &before]);
        let new = log_in(&store, user, now).await;
        assert!(lives(&store, &new.digest, now).await);
        server.ask::<()>(&["DEL", clock]);
        assert_eq!(store.revoke_user(user, None, now).await.unwrap(), 1);
        assert!(!lives(&store, &new.digest, now).await);
    }
}

#[tokio::test]
async fn redis_keeps_a_session_a_few_minutes_longer_than_it_lives() {
    let server = RedisServer::start();
    let store = store_at(&server.url()).await;
    let now = start();
    log_in(&store, user_id(), now).await;
    let key = session_key(&server);
    let ttl: i64 = server.ask(&["PTTL", &key]);
    assert!((600_000..=900_000).contains(&(ttl - 1)), "{ttl}");
}

fn session_key(server: &RedisServer) -> String {
    let keys = server
        .keys()
        .into_iter()
        .map(|key| String::from_utf8(key).unwrap());
    let mut keys = keys.filter(|key| key.contains("}s:"));
    let only = keys.next().expect("a session");
    assert!(keys.next().is_none(), "more than one session");
    only
}

#[tokio::test]
async fn s_08_a_touch_that_arrives_after_the_end_revives_nothing() {
    let server = RedisServer::start();
    let store = store_at(&server.url()).await;
    let now = start();
    let new = log_in(&store, user_id(), now).await;
    // By the server's clock it ended a moment ago; other checks have said so.
    server.ask::<()>(&["PEXPIRE", &session_key(&server), "299000"]);
    let at = now.after(Duration::from_secs(300));
    store.touch(&new.session.live, &new.digest, at);
    let later = log_in(&store, user_id(), now).await;
    store.touch(&later.session.live, &later.digest, at);
    within(PATIENCE, "the later touch", async || {
        let live = check(&store, &later.digest, at).await.unwrap().unwrap();
        (live.last_seen_at == at).then_some(())
    })
    .await;
    let live = check(&store, &new.digest, at).await.unwrap().unwrap();
    assert_eq!(live.last_seen_at, now);
}

#[tokio::test]
async fn the_index_forgets_sessions_that_redis_has_forgotten() {
    let server = RedisServer::start();
    let store = store_at(&server.url()).await;
    let now = start();
    let user = user_id();
    let gone = log_in(&store, user, now).await;
    server.ask::<()>(&["DEL", &session_key(&server)]);
    let kept = log_in(&store, user, now).await;
    let index = format!("sessiond:{{u:{user}}}");
    assert_eq!(server.ask::<u64>(&["ZCARD", &index]), 2);
    let listed = store.list(user, None, 10, now).await.unwrap();
    assert_eq!(listed, [kept.session]);
    assert_eq!(server.ask::<u64>(&["ZCARD", &index]), 1);
    assert!(!lives(&store, &gone.digest, now).await);
}

#[tokio::test]
async fn a_revocation_of_everyone_frees_the_space_of_all_and_of_nobody_else() {
    let server = RedisServer::start();
    let store = store_at(&server.url()).await;
    let now = start();
    let mut sessions = Vec::new();
    for _ in 0..200 {
        sessions.push(log_in(&store, user_id(), now).await);
    }
    assert_eq!(store.revoke_everyone(now).await.unwrap(), 200);
    let kept = log_in(&store, user_id(), now).await;
    within(PATIENCE, "the space to be free", async || {
        let keys = server.keys();
        let of_sessions = keys.iter().filter(|key| {
            let shape = shape(key);
            shape.ends_with("DIGEST")
                || shape.ends_with("{i:UUID}")
                || shape.ends_with("{u:UUID}")
                || shape.ends_with("x:N")
        });
        (of_sessions.count() == 3).then_some(())
    })
    .await;
    assert!(lives(&store, &kept.digest, now).await);
    assert_eq!(store.count(now).await.unwrap(), 1);
}

#[tokio::test]
async fn two_deployments_on_one_server_know_nothing_of_each_other() {
    let server = RedisServer::start();
    let mut others = config(&server.url());
    others.prefix = "other:".into();
    let (store, other) = (
        store_at(&server.url()).await,
        RedisStore::connect(others).await.unwrap(),
    );
    let now = start();
    let new = log_in(&store, user_id(), now).await;
    assert!(!lives(&other, &new.digest, now).await);
    other.revoke_everyone(now).await.unwrap();
    assert!(lives(&store, &new.digest, now).await);
    assert_eq!(other.count(now).await.unwrap(), 0);
}

#[tokio::test]
async fn a_cluster_spreads_its_sessions_over_all_primaries() {
    let cluster = RedisCluster::start();
    let store = RedisStore::connect(RedisConfig::new(&cluster.url()).unwrap())
        .await
        .unwrap();
    let now = start();
    let user = user_id();
    for _ in 0..300 {
        let mut new = new_session(&store, user, now).await.unwrap();
        new.max_per_user = 1000;
        assert_eq!(store.create(new, now).await.unwrap(), Created::Yes);
    }
    for node in &cluster.nodes {
        let sessions = node
            .keys()
            .iter()
            .filter(|key| shape(key).ends_with("DIGEST"))
            .count();
        assert!((60..=140).contains(&sessions), "{sessions} of 300");
    }
}
