//! Verbs that are cut off in the middle, wherever that is: what was not acknowledged may have happened or not, but nothing is half
//! done, and who tries again gets through.

use super::samples::{
    PATIENCE, config, digest, lives, log_in, new_session, start, store_at, user_id, within,
};
use sessiond::{
    domain::{Revocation, Timestamp, TokenDigest},
    store::{
        Created, NewSession, RevocationEvent, Revocations, Rotation, SessionKey, SessionStore, StoreError,
        redis::RedisStore,
    },
};
use std::{net::SocketAddr, time::Duration};
use testkit::{
    proxy::{Conduct, Proxy},
    redis::RedisServer,
};

/// A store whose replies can be lost, and the same store as another process has it.
struct Torn {
    _server: RedisServer,
    proxy: Proxy,
    store: RedisStore,
    whole: RedisStore,
}

impl Torn {
    async fn new() -> Self {
        let server = RedisServer::start();
        let proxy = Proxy::to(SocketAddr::from(([127, 0, 0, 1], server.port)));
        let mut config = config(&format!("redis://{}", proxy.address()));
        // Replies are counted: of this one connection only.
        config.connections = 1;
        Self {
            store: RedisStore::connect(config).await.unwrap(),
            whole: store_at(&server.url()).await,
            _server: server,
            proxy,
        }
    }

    /// Carries out an operation, of which only so many bytes of replies arrive.
    async fn cut_off<T>(
        &self,
        after: usize,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.proxy.set(Conduct::CutReplies { after });
        let answer = operation.await;
        self.proxy.set(Conduct::Pass);
        within(PATIENCE, "the connection to come back", async || {
            self.store.epoch(user_id()).await.ok()
        })
        .await;
        answer
    }

    async fn lives(&self, digest: &TokenDigest, now: Timestamp) -> bool {
        lives(&self.whole, digest, now).await
    }
}

/// Where replies are cut off: from nothing arriving to everything.
fn cuts() -> impl Iterator<Item = usize> {
    (0..240).step_by(8).chain((240..2000).step_by(80))
}

async fn hears(reader: &mut Revocations, expected: Revocation) {
    loop {
        let told = tokio::time::timeout(PATIENCE, reader.next(1)).await;
        if told.expect("the end of a session is told")[0].1 == RevocationEvent::Revoked(expected) {
            return;
        }
    }
}

fn ended(new: &NewSession) -> Revocation {
    Revocation::Session {
        session: new.session.live.id,
        user: new.session.live.user_id,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_13_a_half_done_destruction_is_finished_by_the_next_attempt() {
    let torn = Torn::new().await;
    let now = start();
    let mut failed = 0;
    for (turn, after) in cuts().enumerate() {
        let new = log_in(&torn.whole, user_id(), now).await;
        let key = match turn % 2 {
            0 => SessionKey::Token(new.digest),
            _ => SessionKey::Id(new.session.live.id),
        };
        let log = torn.whole.revocations();
        let mut reader = log.read(Some(log.head()));
        let answer = torn.cut_off(after, torn.store.destroy(key, now)).await;
        if answer.is_err() {
            failed += 1;
            torn.whole.destroy(key, now).await.unwrap();
        }
        assert!(!torn.lives(&new.digest, now).await);
        hears(&mut reader, ended(&new)).await;
    }
    assert!(failed > 10, "only {failed} were cut off");
}

/// No attempt follows; but a check says that the session is over, and then no cached answer may go on to say otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_what_a_check_calls_dead_is_told_to_those_who_remember_answers() {
    let torn = Torn::new().await;
    let now = start();
    let mut unheard = 0;
    for after in cuts() {
        let new = log_in(&torn.whole, user_id(), now).await;
        let log = torn.whole.revocations();
        let mut reader = log.read(Some(log.head()));
        let key = SessionKey::Token(new.digest);
        let answer = torn.cut_off(after, torn.store.destroy(key, now)).await;
        if !torn.lives(&new.digest, now).await {
            unheard += u32::from(answer.is_err());
            hears(&mut reader, ended(&new)).await;
        }
    }
    assert!(unheard > 0, "no session was ended without an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_13_a_rotation_that_is_cut_off_leaves_one_token_at_most() {
    let torn = Torn::new().await;
    let now = start();
    let (mut failed, mut unchanged) = (0, 0);
    for after in cuts() {
        let user = user_id();
        let new = log_in(&torn.whole, user, now).await;
        let rotation = Rotation {
            from: new.digest,
            to: digest(),
            grace_until: now,
            authenticated_at: None,
        };
        let answer = torn.cut_off(after, torn.store.rotate(rotation, now)).await;
        let (old, fresh) = (
            torn.lives(&rotation.from, now).await,
            torn.lives(&rotation.to, now).await,
        );
        match answer {
            Ok(rotated) => {
                assert!(rotated.is_some());
                assert_eq!((old, fresh), (false, true));
            }
            Err(_) => {
                failed += 1;
                unchanged += u32::from(old);
                assert!(!(old && fresh), "cut after {after} bytes: both tokens live");
            }
        }
        // Done or not, the session lives on, and can be ended by the id that everybody knows.
        let listed = torn.whole.list(user, None, 10, now).await.unwrap();
        assert_eq!(
            listed,
            std::slice::from_ref(&new.session),
            "cut after {after} bytes"
        );
        torn.whole
            .destroy(SessionKey::Id(new.session.live.id), now)
            .await
            .unwrap();
        assert!(!torn.lives(&rotation.from, now).await);
        assert!(!torn.lives(&rotation.to, now).await);
    }
    assert!(
        failed > 10 && unchanged > 0,
        "{failed} cut off, {unchanged} of them early"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_13_a_creation_that_is_cut_off_is_finished_by_the_next_one() {
    let torn = Torn::new().await;
    let now = start();
    let mut failed = 0;
    for after in cuts() {
        let user = user_id();
        let old = log_in(&torn.whole, user, now).await;
        let evicted = log_in(&torn.whole, user, now.before(Duration::from_secs(1))).await;
        let mut new = new_session(&torn.whole, user, now).await.unwrap();
        new.replaces = Some(old.digest);
        new.max_per_user = 1;
        let answer = torn.cut_off(after, torn.store.create(new.clone(), now)).await;
        let mut next = new_session(&torn.whole, user, now).await.unwrap();
        match answer {
            Ok(created) => assert_eq!(created, Created::Yes),
            Err(_) => {
                failed += 1;
                // After the new session is seen, those that it displaced are never seen again.
                let listed = torn.whole.list(user, None, 10, now).await.unwrap();
                let lives = [
                    torn.lives(&old.digest, now).await,
                    torn.lives(&evicted.digest, now).await,
                    torn.lives(&new.digest, now).await,
                ];
                match listed.contains(&new.session) {
                    true => assert_eq!(lives, [false, false, true], "cut after {after} bytes"),
                    false => assert_eq!(lives[..2], [true, true], "cut after {after} bytes"),
                }
                next.replaces = Some(old.digest);
            }
        }
        next.max_per_user = 1;
        let log = torn.whole.revocations();
        let mut reader = log.read(Some(log.head()));
        assert_eq!(torn.whole.create(next.clone(), now).await.unwrap(), Created::Yes);
        assert!(!torn.lives(&old.digest, now).await);
        let listed = torn.whole.list(user, None, 10, now).await.unwrap();
        assert_eq!(listed, [next.session.clone()]);
        if answer.is_err() {
            hears(&mut reader, ended(&old)).await;
        } else {
            assert!(!torn.lives(&evicted.digest, now).await);
        }
    }
    assert!(failed > 10, "only {failed} were cut off");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_13_a_revocation_that_is_cut_off_neither_spares_nor_locks_out() {
    let torn = Torn::new().await;
    let now = start();
    let mut failed = 0;
    for (turn, after) in (0..800).step_by(20).enumerate() {
        let user = user_id();
        let new = log_in(&torn.whole, user, now).await;
        let answer = match turn % 2 {
            0 => torn.cut_off(after, torn.store.revoke_user(user, None, now)).await,
            _ => torn.cut_off(after, torn.store.revoke_everyone(now)).await,
        };
        // Whatever became of it, the user can log in, wherever the session is kept.
        for _ in 0..3 {
            let meanwhile = log_in(&torn.whole, user, now).await;
            assert!(torn.lives(&meanwhile.digest, now).await);
        }
        if answer.is_err() {
            failed += 1;
            torn.whole.revoke_user(user, None, now).await.unwrap();
            assert_eq!(torn.whole.list(user, None, 10, now).await.unwrap(), []);
        }
        assert!(!torn.lives(&new.digest, now).await);
    }
    assert!(failed > 10, "only {failed} were cut off");
}

#[tokio::test]
async fn what_a_creation_left_behind_when_its_process_died_the_next_one_ends() {
    let server = RedisServer::start();
    let store = store_at(&server.url()).await;
    let now = start();
    let user = user_id();
    let left = log_in(&store, user, now).await;
    // Evicted from the index, and never ended.
    let (index, leaving) = (
        format!("sessiond:{{u:{user}}}"),
        format!("sessiond:{{u:{user}}}k"),
    );
    server.ask::<u64>(&[
        "EVAL",
        "local m = redis.call('ZRANGE', KEYS[1], 0, 0)[1] redis.call('ZREM', KEYS[1], m)
         return redis.call('ZADD', KEYS[2], redis.call('TIME')[1], m)",
        "2",
        &index,
        &leaving,
    ]);
    assert!(lives(&store, &left.digest, now).await);
    let next = log_in(&store, user, now).await;
    assert!(!lives(&store, &left.digest, now).await);
    assert!(lives(&store, &next.digest, now).await);
    assert_eq!(server.ask::<u64>(&["ZCARD", &leaving]), 0);
}
