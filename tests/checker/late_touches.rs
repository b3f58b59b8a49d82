//! A check that is written down late, after another check has answered that the session has expired, revives nothing.

use sessiond::{
    auth::{Auth, AuthError, AuthParts},
    domain::{Clock, RandomTokens, SessionLimits, SessionSpan, SystemClock, Timestamp, TokenSource as _},
    password::{HashingConfig, PasswordHasher},
    store::{
        Created, EmbeddedStore, MemoryStore, NewSession, PostgresConfig, PostgresStore, PostgresUrl,
        Rotation, SessionKey, SessionStore,
        redis::{RedisConfig, RedisStore},
    },
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use testkit::{
    postgres::PostgresServer,
    redis::RedisServer,
    samples::{LIFETIME, bare_session, millis, span, user_id},
};
use tokio::{task::block_in_place, time::sleep};

const IDLE: Duration = Duration::from_secs(2);

async fn new_session(store: &(impl SessionStore + ?Sized), now: Timestamp) -> NewSession {
    let user = user_id();
    let mut new = bare_session(user, store.epoch(user).await.unwrap(), now);
    new.session.live.span = span(LIFETIME, IDLE);
    new
}

/// Time itself has to pass here: stores judge how late a touch is by their server's clock.
async fn late_touches_revive_nothing(store: impl SessionStore) {
    let clock = SystemClock::starting_at_wall_time(None);
    let created_at = clock.now();
    let new = new_session(&store, created_at).await;
    let (live, digest) = (new.session.live, new.digest);
    assert_eq!(store.create(new, created_at).await.unwrap(), Created::Yes);

    // Late, but the session lives: it counts.
    let seen_at = created_at.after(millis(600));
    sleep(millis(1000)).await;
    store.touch(&live, &digest, seen_at);
    let seen = async || store.check(&digest, clock.now()).wait().await.unwrap().unwrap();
    while seen().await.last_seen_at != seen_at {
        sleep(millis(10)).await;
    }

    // Made while the session lived, and written down when it was over and other checks had said so.
    let expires_at = seen_at.after(IDLE);
    sleep(expires_at.since(clock.now()) + millis(50)).await;
    assert_eq!(store.check(&digest, clock.now()).wait().await.unwrap(), None);
    store.touch(&live, &digest, expires_at.before(millis(1)));
    sleep(millis(500)).await;
    assert_eq!(store.check(&digest, clock.now()).wait().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_late_touch_revives_nothing_in_redis() {
    let server = block_in_place(RedisServer::start);
    let config = RedisConfig::new(&server.url()).unwrap();
    late_touches_revive_nothing(RedisStore::connect(config).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_14_a_late_touch_revives_nothing_in_postgres() {
    let url = block_in_place(|| PostgresServer::shared().new_database());
    let config = PostgresConfig::new(PostgresUrl::new(url));
    late_touches_revive_nothing(PostgresStore::connect(config).await.unwrap()).await;
}

/// Ways in which somebody learns that a session has expired.
#[derive(Debug, Clone, Copy)]
enum Asks {
    Check,
    Get,
    List,
    DestroyByToken,
    DestroyById,
    Rotate,
}

async fn is_told_that_it_is_over(
    store: &impl SessionStore,
    asks: Asks,
    of: &NewSession,
    now: Timestamp,
) -> bool {
    let live = of.session.live;
    match asks {
        Asks::Check => store.check(&of.digest, now).wait().await.unwrap().is_none(),
        Asks::Get => store.get(&of.digest, now).await.unwrap().is_none(),
        Asks::List => store.list(live.user_id, None, 10, now).await.unwrap().is_empty(),
        Asks::DestroyByToken => {
            let destroyed = store.destroy(SessionKey::Token(of.digest), now).await;
            destroyed.unwrap().is_none()
        }
        Asks::DestroyById => {
            let destroyed = store.destroy(SessionKey::Id(live.id), now).await;
            destroyed.unwrap().is_none()
        }
        Asks::Rotate => {
            let rotation = Rotation {
                from: of.digest,
                to: RandomTokens.session_token().unwrap().digest(),
                grace_until: now,
                authenticated_at: None,
            };
            store.rotate(rotation, now).await.unwrap().is_none()
        }
    }
}

/// A check finds the session alive in its last moment and is held up; another check answers that it has expired; then the check
/// notes the activity.
async fn a_check_that_was_held_up_revives_nothing(store: impl SessionStore) {
    let created_at = Timestamp::from_millis(1_795_000_000_000);
    for asks in [
        Asks::Check,
        Asks::Get,
        Asks::List,
        Asks::DestroyByToken,
        Asks::DestroyById,
        Asks::Rotate,
    ] {
        let new = new_session(&store, created_at).await;
        assert_eq!(store.create(new.clone(), created_at).await.unwrap(), Created::Yes);
        let over_at = created_at.after(IDLE);
        let checked_at = over_at.before(millis(1));
        let found = store
            .check(&new.digest, checked_at)
            .wait()
            .await
            .unwrap()
            .unwrap();
        assert!(
            is_told_that_it_is_over(&store, asks, &new, over_at).await,
            "{asks:?}"
        );
        store.touch(&found, &new.digest, checked_at);
        for now in [over_at, over_at.after(millis(1))] {
            let found = store.check(&new.digest, now).wait().await.unwrap();
            assert_eq!(found, None, "back after {asks:?}");
        }
        let listed = store.list(new.session.live.user_id, None, 10, over_at).await;
        assert_eq!(listed.unwrap(), [], "back after {asks:?}");
    }
}

#[tokio::test]
async fn f_14_a_check_that_was_held_up_revives_nothing_in_memory() {
    a_check_that_was_held_up_revives_nothing(MemoryStore::new()).await;
}

#[tokio::test]
async fn f_14_a_check_that_was_held_up_revives_nothing_in_the_embedded_store() {
    let data_dir = tempfile::tempdir().unwrap();
    a_check_that_was_held_up_revives_nothing(EmbeddedStore::open(data_dir.path()).unwrap()).await;
}

/// A clock by which time passes only while a store is being waited for.
struct WaitingTime {
    asked_at: Timestamp,
    answered_at: Timestamp,
    is_asked: AtomicBool,
}

impl Clock for WaitingTime {
    fn now(&self) -> Timestamp {
        match self.is_asked.swap(true, Ordering::Relaxed) {
            false => self.asked_at,
            true => self.answered_at,
        }
    }
}

/// Sessions end while their store is asked for them: other checks have answered so before the answer comes.
async fn a_late_answer_revives_nothing(store: impl SessionStore) {
    let store: Arc<dyn SessionStore> = Arc::new(store);
    let created_at = SystemClock::starting_at_wall_time(None).now();
    let over_at = created_at.after(IDLE);
    for is_one_of_many in [false, true] {
        let token = RandomTokens.session_token().unwrap();
        let new = NewSession {
            digest: token.digest(),
            ..new_session(&*store, created_at).await
        };
        assert_eq!(store.create(new, created_at).await.unwrap(), Created::Yes);
        let auth = Auth::new(AuthParts {
            users: Arc::new(MemoryStore::new()),
            sessions: Arc::clone(&store),
            passwords: PasswordHasher::start(HashingConfig::default()).unwrap(),
            clock: Arc::new(WaitingTime {
                asked_at: over_at.before(millis(500)),
                answered_at: over_at,
                is_asked: AtomicBool::new(false),
            }),
            tokens: Arc::new(RandomTokens),
            limits: SessionLimits {
                span: SessionSpan::from_secs(3600, 1800),
                max_per_user: 10,
            },
        });
        let checked = match is_one_of_many {
            false => auth.check(token.expose()).wait().await,
            true => auth
                .check_many(&[token.expose()], |checked| checked)
                .await
                .remove(0),
        };
        assert!(matches!(checked, Err(AuthError::InvalidSession)), "{checked:?}");
        // As long as a touch may be on its way.
        sleep(millis(500)).await;
        assert_eq!(store.check(&token.digest(), over_at).wait().await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_11_a_late_answer_of_redis_revives_nothing() {
    let server = block_in_place(RedisServer::start);
    let config = RedisConfig::new(&server.url()).unwrap();
    a_late_answer_revives_nothing(RedisStore::connect(config).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_11_a_late_answer_of_postgres_revives_nothing() {
    let url = block_in_place(|| PostgresServer::shared().new_database());
    let config = PostgresConfig::new(PostgresUrl::new(url));
    a_late_answer_revives_nothing(PostgresStore::connect(config).await.unwrap()).await;
}
