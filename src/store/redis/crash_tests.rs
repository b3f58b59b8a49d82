//! Operations that stop between two of their steps, and what others then see: all of it or nothing.

use super::{
    RedisConfig, RedisStore,
    layout::{
        keys::{Keyspace, Location},
        marks::SequencedRevocation,
        record::SessionRecord,
    },
    operations::{create, sweep},
    protocol::{Database, EndCondition},
    state::Snapshot,
};
use crate::{
    domain::{
        Attributes, AuthMethod, Client, LiveSession, RandomTokens, Revocation, Session, SessionId,
        SessionSpan, Timestamp, TokenDigest, TokenSource as _, UserId,
    },
    store::{Created, NewSession, RevocationEvent, Revocations, Rotation, SessionKey, SessionStore as _},
};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};
use testkit::redis::{RedisCluster, RedisServer};

/// The store of two processes: one that stops in the middle, and another.
struct Two {
    stopped: RedisStore,
    other: RedisStore,
    now: Timestamp,
    /// Sessions so far: each is a millisecond younger than the one before.
    sessions: AtomicU64,
}

impl Two {
    async fn over(url: &str) -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Self {
            stopped: RedisStore::connect(RedisConfig::new(url).unwrap()).await.unwrap(),
            other: RedisStore::connect(RedisConfig::new(url).unwrap()).await.unwrap(),
            now: Timestamp::default().after(since_1970),
            sessions: AtomicU64::new(0),
        }
    }

    fn user(&self) -> UserId {
        UserId::new(self.now, RandomTokens.id_bits().unwrap())
    }

    async fn new_session(&self, user: UserId) -> NewSession {
        let age = 1000 - self.sessions.fetch_add(1, Ordering::Relaxed);
        let created_at = self.now.before(Duration::from_millis(age));
        NewSession {
            digest: digest(),
            session: Session {
                live: LiveSession {
                    id: SessionId::new(created_at, RandomTokens.id_bits().unwrap()),
                    user_id: user,
                    last_seen_at: self.now,
                    authenticated_at: self.now,
                    auth_method: AuthMethod::Password,
                    span: SessionSpan::from_secs(3600, 600),
                    grace_ends_at: None,
                },
                client: Client::default(),
                attributes: Attributes::default(),
            },
            epoch: self.other.epoch(user).await.unwrap(),
            replaces: None,
            max_per_user: 100,
        }
    }

    async fn log_in(&self, user: UserId) -> NewSession {
        let new = self.new_session(user).await;
        self.create(&new).await;
        new
    }

    async fn create(&self, new: &NewSession) {
        let created = self.other.create(new.clone(), self.now).await.unwrap();
        assert_eq!(created, Created::Yes);
    }

    async fn lives(&self, digest: &TokenDigest) -> bool {
        self.other.check(digest, self.now).wait().await.unwrap().is_some()
    }

    async fn listed(&self, user: UserId) -> Vec<SessionId> {
        let listed = self.other.list(user, None, 100, self.now).await.unwrap();
        listed.iter().map(|session| session.live.id).collect()
    }

    async fn count(&self) -> u64 {
        self.other.count(self.now).await.unwrap()
    }

    /// The calls of the process that stops.
    fn db(&self) -> &Database {
        &self.stopped.context.db
    }

    fn keys(&self) -> &Keyspace {
        self.db().parts().0
    }

    async fn seen(&self, digest: &TokenDigest) -> Snapshot {
        self.db().read_session(digest, None).await.unwrap().unwrap()
    }

    async fn ask<T: redis::FromRedisValue>(&self, cmd: &redis::Cmd) -> T {
        let (_, pool) = self.db().parts();
        redis::from_redis_value(pool.read(cmd).await.unwrap()).unwrap()
    }

    /// Rotates as far as to the departure. Gives what waits at the new place, and the note at the old one.
    async fn departed(&self, rotation: &Rotation) -> (SessionRecord, SessionRecord) {
        let seen = self.seen(&rotation.from).await;
        self.departed_as(rotation, &seen.record).await
    }

    async fn departed_as(&self, rotation: &Rotation, seen: &SessionRecord) -> (SessionRecord, SessionRecord) {
        let waiting = seen.arriving(rotation.authenticated_at);
        let preparing = self.db().prepare_arrival(&rotation.to, &waiting, self.now);
        preparing.await.unwrap();
        let left = self.db().depart(rotation, seen, self.now).await.unwrap();
        (waiting, left.expect("the session is there"))
    }

    async fn arrive(&self, rotation: &Rotation, arrived: &SessionRecord) -> bool {
        let arriving = self.db().arrive(&rotation.to, arrived, self.now);
        arriving.await.unwrap()
    }

    /// A session whose rotation stopped after the departure.
    async fn between(&self, user: UserId) -> (NewSession, Rotation) {
        let new = self.log_in(user).await;
        let rotation = self.rotation(&new);
        self.departed(&rotation).await;
        (new, rotation)
    }

    fn rotation(&self, of: &NewSession) -> Rotation {
        Rotation {
            from: of.digest,
            to: digest(),
            grace_until: self.now.after(Duration::from_secs(30)),
            authenticated_at: None,
        }
    }

    /// Creates as far as to the index.
    async fn indexed(&self, new: &NewSession) {
        let context = &self.stopped.context;
        let hour = Duration::from_secs(3600);
        context.db.allow_lifetime(hour).await.unwrap();
        let stored = create::store_under_epoch(context, new, self.now).await;
        let replaced = create::find_replaced(context, new.replaces.as_ref(), self.now).await;
        let (epoch, replaced) = (stored.unwrap().unwrap(), replaced.unwrap().entry());
        let indexed = create::add_to_index(context, new, epoch, replaced, self.now).await;
        indexed.unwrap().expect("the epoch has not moved");
    }

    /// Revokes as far as to the mark of this session's shard.
    async fn revoked_in_one_shard(&self, new: &NewSession, except: Option<SessionId>) {
        let sequence = self.db().next_sequence(false).await.unwrap();
        let shard = Location::of(&new.digest).shard;
        let user = new.session.live.user_id;
        let marking = self.db().mark_user(shard, user, except, sequence);
        marking.await.unwrap();
    }

    /// Sessions of a user, no two in one shard.
    async fn log_in_apart(&self, user: UserId, count: usize) -> Vec<NewSession> {
        let mut apart: Vec<NewSession> = Vec::new();
        while apart.len() < count {
            let mut new = self.new_session(user).await;
            let is_apart = |digest: &TokenDigest| {
                let shard = Location::of(digest).shard;
                apart
                    .iter()
                    .all(|other| Location::of(&other.digest).shard != shard)
            };
            while !is_apart(&new.digest) {
                new.digest = digest();
            }
            self.create(&new).await;
            apart.push(new);
        }
        apart
    }

    /// Until the touches of a session are written.
    async fn until_seen_at(&self, digest: &TokenDigest, at: Timestamp) {
        let until = async {
            while self.seen(digest).await.record.live().unwrap().last_seen_at != at {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(5), until).await;
        waited.expect("a touch is written");
    }

    /// Takes a key away, as time does.
    async fn forget(&self, digest: &TokenDigest) {
        let mut cmd = redis::cmd("DEL");
        cmd.arg(self.keys().session(&Location::of(digest)));
        self.ask::<()>(&cmd).await;
    }

    async fn millis_left(&self, key: String) -> i64 {
        let mut cmd = redis::cmd("PTTL");
        cmd.arg(key);
        self.ask(&cmd).await
    }

    async fn size(&self, cmd: &str, key: String) -> u64 {
        let mut cmd = redis::cmd(cmd);
        cmd.arg(key);
        self.ask(&cmd).await
    }

    fn reader(&self) -> Revocations {
        let log = self.other.revocations();
        log.read(Some(log.head()))
    }
}

fn digest() -> TokenDigest {
    RandomTokens.session_token().unwrap().digest()
}

fn end_of(new: &NewSession) -> Revocation {
    Revocation::Session {
        session: new.session.live.id,
        user: new.session.live.user_id,
    }
}

async fn hears(reader: &mut Revocations, expected: Revocation) {
    let hearing = async {
        while reader.next(1).await.first().map(|(_, event)| *event)
            != Some(RevocationEvent::Revoked(expected))
        {}
    };
    let received = tokio::time::timeout(Duration::from_secs(5), hearing).await;
    received.expect("the end of a session is told");
}

/// Each against one server and against a Cluster.
macro_rules! over_both {
    ($($scenario:ident)*) => {
        mod single {
            use super::{RedisServer, Two};
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    let server = RedisServer::start();
                    super::$scenario(Two::over(&server.url()).await).await;
                }
            )*
        }

        mod cluster {
            use super::{RedisCluster, Two};
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    let cluster = RedisCluster::start();
                    super::$scenario(Two::over(&cluster.url()).await).await;
                }
            )*
        }
    };
}

over_both! {
    before_its_departure_a_session_is_where_it_was
    f_13_an_old_token_in_its_grace_proves_a_session_whose_rotation_stopped
    f_13_a_list_has_a_session_whose_rotation_stopped
    f_13_a_count_has_a_session_whose_rotation_stopped
    f_13_a_half_rotated_session_ends_by_token_by_id_and_with_its_user
    f_13_a_half_rotated_session_is_spared_replaced_and_evicted
    s_13_what_was_ended_between_two_places_never_arrives
    s_13_what_was_revoked_between_two_places_never_arrives
    a_touch_right_before_the_departure_arrives_as_well
    a_rotation_that_a_reader_finished_is_acknowledged_despite_a_touch
    a_sweep_finishes_a_rotation_and_tells_of_it
    a_note_that_is_not_settled_outlives_the_old_token
    a_rotated_session_leaves_its_index_its_time_to_live
    what_replaces_a_session_on_the_move_takes_no_other_ones_place
    what_has_to_leave_does_so_wherever_it_moves
    s_13_whoever_sees_the_new_session_never_again_sees_the_replaced_one
    s_13_a_replaced_session_of_another_user_ends_before_the_new_is_seen
    s_13_a_replaced_session_of_another_user_ends_wherever_it_has_moved
    f_13_a_displaced_session_ends_by_its_id_and_no_revocation_spares_it
    s_13_a_creation_at_the_cap_finishes_those_before_it
    f_14_what_a_list_no_longer_has_is_told_to_those_who_remember_it
    s_13_a_creation_that_comes_again_and_late_revives_nothing
    a_touch_outlasts_the_clearing_after_a_revocation_of_everyone
    s_13_whoever_sees_one_session_revoked_never_again_sees_the_others
    s_13_a_revocation_that_is_finished_spares_whom_it_had_to_spare
    s_13_once_one_session_of_everyone_is_seen_revoked_all_are
    a_revocation_of_everyone_counts_for_all_or_for_nobody
    a_revocation_whose_sequence_is_lost_ends_no_younger_session
    what_a_revocation_of_everyone_has_set_aside_comes_back_with_a_sweep
}

async fn before_its_departure_a_session_is_where_it_was(two: Two) {
    let user = two.user();
    let new = two.log_in(user).await;
    let rotation = two.rotation(&new);
    let waiting = two.seen(&new.digest).await.record.arriving(None);
    two.db()
        .prepare_arrival(&rotation.to, &waiting, two.now)
        .await
        .unwrap();
    assert!(two.lives(&rotation.from).await);
    assert!(!two.lives(&rotation.to).await);
    assert_eq!(two.listed(user).await, [new.session.live.id]);
    assert_eq!(two.count().await, 1);
    // It waits as long as it would live, so that there is always somebody to help.
    let kept = two
        .millis_left(two.keys().session(&Location::of(&rotation.to)))
        .await;
    assert!(kept > 600_000, "{kept}");
}

async fn f_13_an_old_token_in_its_grace_proves_a_session_whose_rotation_stopped(two: Two) {
    let user = two.user();
    let (new, rotation) = two.between(user).await;
    let live = two.other.check(&rotation.from, two.now).wait().await.unwrap();
    let expected = LiveSession {
        grace_ends_at: Some(rotation.grace_until),
        ..new.session.live
    };
    assert_eq!(live, Some(expected));
    assert!(two.lives(&rotation.to).await);
    let mut reader = two.reader();
    let over = two.other.check(&rotation.from, rotation.grace_until).wait();
    assert_eq!(over.await.unwrap(), None);
    hears(&mut reader, end_of(&new)).await;
    assert_eq!(two.listed(user).await, [new.session.live.id]);
}

async fn f_13_a_list_has_a_session_whose_rotation_stopped(two: Two) {
    let user = two.user();
    let (new, rotation) = two.between(user).await;
    assert_eq!(two.listed(user).await, [new.session.live.id]);
    assert!(two.lives(&rotation.to).await);
    // The index leads there directly.
    two.forget(&rotation.from).await;
    assert_eq!(two.listed(user).await, [new.session.live.id]);
}

async fn f_13_a_count_has_a_session_whose_rotation_stopped(two: Two) {
    let (_, rotation) = two.between(two.user()).await;
    assert_eq!(two.count().await, 1);
    assert!(two.lives(&rotation.to).await);
    let moving = two.keys().unsettled_moves(Location::of(&rotation.from).shard);
    assert_eq!(two.size("SCARD", moving).await, 0);
}

async fn f_13_a_half_rotated_session_ends_by_token_by_id_and_with_its_user(two: Two) {
    for way in 0..3 {
        let user = two.user();
        let (new, rotation) = two.between(user).await;
        let ids = (new.session.live.id, user);
        match way {
            0 => {
                let key = SessionKey::Token(rotation.from);
                assert_eq!(two.other.destroy(key, two.now).await.unwrap(), Some(ids));
            }
            1 => {
                let key = SessionKey::Id(ids.0);
                assert_eq!(two.other.destroy(key, two.now).await.unwrap(), Some(ids));
            }
            _ => assert_eq!(two.other.revoke_user(user, None, two.now).await.unwrap(), 1),
        }
        assert!(!two.lives(&rotation.from).await);
        assert!(!two.lives(&rotation.to).await);
        assert_eq!(two.listed(user).await, []);
        assert_eq!(two.count().await, 0);
    }
}

async fn f_13_a_half_rotated_session_is_spared_replaced_and_evicted(two: Two) {
    let user = two.user();
    let (new, rotation) = two.between(user).await;
    let id = new.session.live.id;
    assert_eq!(two.other.revoke_user(user, Some(id), two.now).await.unwrap(), 0);
    assert!(two.lives(&rotation.to).await);

    let user = two.user();
    let (_, rotation) = two.between(user).await;
    let mut replacing = two.new_session(user).await;
    replacing.replaces = Some(rotation.from);
    two.create(&replacing).await;
    assert!(!two.lives(&rotation.to).await);
    assert_eq!(two.listed(user).await, [replacing.session.live.id]);

    let user = two.user();
    let (_, rotation) = two.between(user).await;
    let kept = two.log_in(user).await;
    let mut next = two.new_session(user).await;
    next.max_per_user = 2;
    two.create(&next).await;
    assert!(!two.lives(&rotation.from).await);
    assert!(!two.lives(&rotation.to).await);
    assert!(two.lives(&kept.digest).await);
}

async fn s_13_what_was_ended_between_two_places_never_arrives(two: Two) {
    let user = two.user();
    let new = two.log_in(user).await;
    let rotation = two.rotation(&new);
    let (waiting, left) = two.departed(&rotation).await;
    let key = SessionKey::Id(new.session.live.id);
    two.other.destroy(key, two.now).await.unwrap().unwrap();
    for is_remembered in [true, false] {
        if !is_remembered {
            two.forget(&rotation.to).await;
        }
        assert!(!two.arrive(&rotation, &waiting.arrived(&left)).await);
        assert_eq!(two.listed(user).await, []);
        assert!(!two.lives(&rotation.from).await);
        two.other.sweep(two.now, 100).await.unwrap();
        assert!(!two.lives(&rotation.to).await);
        assert_eq!(two.count().await, 0);
    }
    // The first step, sent again: a note that it ended is still there.
    let new = two.log_in(user).await;
    let rotation = two.rotation(&new);
    let (waiting, left) = two.departed(&rotation).await;
    two.other
        .destroy(SessionKey::Token(new.digest), two.now)
        .await
        .unwrap();
    two.db()
        .prepare_arrival(&rotation.to, &waiting, two.now)
        .await
        .unwrap();
    assert!(!two.arrive(&rotation, &waiting.arrived(&left)).await);
    assert!(!two.lives(&rotation.from).await);
}

async fn s_13_what_was_revoked_between_two_places_never_arrives(two: Two) {
    let user = two.user();
    let new = two.log_in(user).await;
    let rotation = two.rotation(&new);
    let (waiting, left) = two.departed(&rotation).await;
    two.other.revoke_everyone(two.now).await.unwrap();
    assert!(!two.arrive(&rotation, &waiting.arrived(&left)).await);
    assert_eq!(two.listed(user).await, []);
    assert!(!two.lives(&rotation.from).await);
    assert!(!two.lives(&rotation.to).await);
    assert_eq!(two.count().await, 0);
}

async fn a_touch_right_before_the_departure_arrives_as_well(two: Two) {
    let user = two.user();
    let at = two.now.after(Duration::from_secs(300));
    for is_helped in [false, true] {
        let new = two.log_in(user).await;
        let rotation = two.rotation(&new);
        let seen = two.seen(&new.digest).await.record;
        two.other.touch(&new.session.live, &new.digest, at);
        two.until_seen_at(&new.digest, at).await;
        let (waiting, left) = two.departed_as(&rotation, &seen).await;
        match is_helped {
            true => assert!(two.lives(&rotation.from).await),
            false => assert!(two.arrive(&rotation, &waiting.arrived(&left)).await),
        }
        let live = two.other.check(&rotation.to, at).wait().await.unwrap().unwrap();
        assert_eq!(live.last_seen_at, at);
    }
}

async fn a_rotation_that_a_reader_finished_is_acknowledged_despite_a_touch(two: Two) {
    let new = two.log_in(two.user()).await;
    let rotation = two.rotation(&new);
    let (waiting, left) = two.departed(&rotation).await;
    let at = two.now.after(Duration::from_secs(20));
    let live = two.other.check(&rotation.from, at).wait().await.unwrap().unwrap();
    two.other.touch(&live, &rotation.from, at);
    two.until_seen_at(&rotation.to, at).await;
    assert!(two.arrive(&rotation, &waiting.arrived(&left)).await);
    let live = two.other.check(&rotation.to, at).wait().await.unwrap().unwrap();
    assert_eq!(live.last_seen_at, at);
    // The departure, asked once more, gives the same note.
    let again = two
        .db()
        .depart(&rotation, &waiting, two.now)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(again.bytes(), left.bytes());
}

async fn a_sweep_finishes_a_rotation_and_tells_of_it(two: Two) {
    let user = two.user();
    let mut reader = two.reader();
    let (new, rotation) = two.between(user).await;
    two.other.sweep(two.now, 100).await.unwrap();
    hears(&mut reader, end_of(&new)).await;
    assert!(two.lives(&rotation.to).await);
    let keys = two.keys();
    let place = Location::of(&rotation.from);
    assert_eq!(two.size("SCARD", keys.unsettled_moves(place.shard)).await, 0);
    let kept = two.millis_left(keys.session(&place)).await;
    assert!((30_000..=90_000).contains(&kept), "{kept}");
    two.forget(&rotation.from).await;
    assert_eq!(two.listed(user).await, [new.session.live.id]);
}

async fn a_note_that_is_not_settled_outlives_the_old_token(two: Two) {
    let (_, rotation) = two.between(two.user()).await;
    assert!(two.lives(&rotation.from).await);
    let key = two.keys().session(&Location::of(&rotation.from));
    assert!(two.millis_left(key).await > 3_600_000);
}

async fn a_rotated_session_leaves_its_index_its_time_to_live(two: Two) {
    let user = two.user();
    let new = two.log_in(user).await;
    let rotated = two.other.rotate(two.rotation(&new), two.now).await.unwrap();
    assert!(rotated.is_some());
    let index = two.keys().index(user);
    let left = two.millis_left(index).await;
    assert!(left > 3_600_000, "{left}");
}

async fn what_replaces_a_session_on_the_move_takes_no_other_ones_place(two: Two) {
    let user = two.user();
    let oldest = two.log_in(user).await;
    let new = two.log_in(user).await;
    let rotation = two.rotation(&new);
    let (waiting, left) = two.departed(&rotation).await;
    // It has arrived; the index has it under its old name.
    assert!(two.arrive(&rotation, &waiting.arrived(&left)).await);
    let mut replacing = two.new_session(user).await;
    replacing.replaces = Some(rotation.to);
    replacing.max_per_user = 2;
    two.create(&replacing).await;
    assert!(!two.lives(&rotation.to).await);
    assert!(two.lives(&oldest.digest).await);
    let displaced = two.keys().displaced(user);
    assert_eq!(two.size("ZCARD", displaced).await, 0);
}

async fn what_has_to_leave_does_so_wherever_it_moves(two: Two) {
    let user = two.user();
    let old = two.log_in(user).await;
    let mut next = two.new_session(user).await;
    next.max_per_user = 1;
    two.indexed(&next).await;
    let rotated = two.other.rotate(two.rotation(&old), two.now).await.unwrap();
    assert_eq!(rotated.map(|session| session.live.id), Some(old.session.live.id));
    // Long after the rotation.
    two.forget(&old.digest).await;
    assert_eq!(two.listed(user).await, [next.session.live.id]);
    assert_eq!(two.count().await, 1);
}

async fn s_13_whoever_sees_the_new_session_never_again_sees_the_replaced_one(two: Two) {
    let user = two.user();
    let (replaced, evicted) = (two.log_in(user).await, two.log_in(user).await);
    let mut new = two.new_session(user).await;
    new.replaces = Some(replaced.digest);
    new.max_per_user = 1;
    two.indexed(&new).await;
    // Nobody has seen the new one yet.
    assert!(two.lives(&replaced.digest).await);
    let mut reader = two.reader();
    assert_eq!(two.listed(user).await, [new.session.live.id]);
    assert!(!two.lives(&replaced.digest).await);
    assert!(!two.lives(&evicted.digest).await);
    assert_eq!(two.count().await, 1);
    hears(&mut reader, end_of(&replaced)).await;
    let displaced = two.keys().displaced(user);
    assert_eq!(two.size("ZCARD", displaced).await, 0);
}

async fn s_13_a_replaced_session_of_another_user_ends_before_the_new_is_seen(two: Two) {
    let (user, another) = (two.user(), two.user());
    let replaced = two.log_in(another).await;
    let mut new = two.new_session(user).await;
    new.replaces = Some(replaced.digest);
    two.indexed(&new).await;
    assert!(two.lives(&replaced.digest).await);
    let mut reader = two.reader();
    assert_eq!(two.listed(user).await, [new.session.live.id]);
    assert!(!two.lives(&replaced.digest).await);
    hears(&mut reader, end_of(&replaced)).await;
    assert_eq!(two.listed(another).await, []);
    let index = two.keys().index(another);
    assert_eq!(two.size("ZCARD", index).await, 0);
}

async fn s_13_a_replaced_session_of_another_user_ends_wherever_it_has_moved(two: Two) {
    let (user, another) = (two.user(), two.user());
    let replaced = two.log_in(another).await;
    let mut new = two.new_session(user).await;
    new.replaces = Some(replaced.digest);
    two.indexed(&new).await;
    let rotation = two.rotation(&replaced);
    two.other.rotate(rotation, two.now).await.unwrap().unwrap();
    two.forget(&rotation.from).await;
    assert!(two.lives(&rotation.to).await);
    assert_eq!(two.listed(user).await, [new.session.live.id]);
    assert!(!two.lives(&rotation.to).await);
}

async fn f_13_a_displaced_session_ends_by_its_id_and_no_revocation_spares_it(two: Two) {
    for is_revoked in [false, true] {
        let user = two.user();
        let old = two.log_in(user).await;
        let mut next = two.new_session(user).await;
        next.max_per_user = 1;
        two.indexed(&next).await;
        let id = old.session.live.id;
        match is_revoked {
            true => assert_eq!(two.other.revoke_user(user, Some(id), two.now).await.unwrap(), 1),
            false => {
                let key = SessionKey::Id(id);
                let ended = two.other.destroy(key, two.now).await.unwrap();
                assert_eq!(ended, Some((id, user)));
            }
        }
        assert!(!two.lives(&old.digest).await);
        assert_eq!(two.lives(&next.digest).await, !is_revoked);
    }
}

async fn f_14_what_a_list_no_longer_has_is_told_to_those_who_remember_it(two: Two) {
    let user = two.user();
    let new = two.log_in(user).await;
    let mut reader = two.reader();
    let ending = two.db().end(&new.digest, EndCondition::Any, 7, two.now);
    ending.await.unwrap();
    assert_eq!(two.listed(user).await, []);
    hears(&mut reader, end_of(&new)).await;
}

async fn s_13_a_creation_at_the_cap_finishes_those_before_it(two: Two) {
    let user = two.user();
    let oldest = two.log_in(user).await;
    for is_acknowledged in [false, true] {
        let mut next = two.new_session(user).await;
        next.max_per_user = 1;
        match is_acknowledged {
            true => two.create(&next).await,
            false => two.indexed(&next).await,
        }
    }
    assert!(!two.lives(&oldest.digest).await);
    assert_eq!(two.count().await, 1);
}

async fn s_13_a_creation_that_comes_again_and_late_revives_nothing(two: Two) {
    let user = two.user();
    let new = two.new_session(user).await;
    let sequence = two.db().last_revocation().await.unwrap().sequence;
    two.create(&new).await;
    let key = SessionKey::Token(new.digest);
    two.other.destroy(key, two.now).await.unwrap().unwrap();
    two.db().store_session(&new, sequence, two.now).await.unwrap();
    assert!(!two.lives(&new.digest).await);

    let new = two.log_in(user).await;
    let rotation = Rotation {
        grace_until: two.now,
        ..two.rotation(&new)
    };
    two.other.rotate(rotation, two.now).await.unwrap().unwrap();
    two.db().store_session(&new, sequence, two.now).await.unwrap();
    assert!(!two.lives(&new.digest).await);
    assert_eq!(two.count().await, 1);
}

async fn a_touch_outlasts_the_clearing_after_a_revocation_of_everyone(two: Two) {
    let new = two.log_in(two.user()).await;
    let place = Location::of(&new.digest);
    // Set aside by a revocation that spares it, because it was created meanwhile.
    let sequence = 7;
    let mut cmd = redis::cmd("RENAME");
    cmd.arg(two.keys().live_sessions(place.shard))
        .arg(two.keys().revoked_sessions(place.shard, sequence));
    two.ask::<()>(&cmd).await;
    let at = two.now.after(Duration::from_secs(300));
    two.other.touch(&new.session.live, &new.digest, at);
    two.until_seen_at(&new.digest, at).await;
    sweep::free_all_revoked(two.db(), sequence).await.unwrap();
    let before_its_end = at.after(Duration::from_secs(599));
    two.other.sweep(before_its_end, 100).await.unwrap();
    let live = two.other.check(&new.digest, before_its_end).wait().await.unwrap();
    assert!(live.is_some());
}

async fn s_13_whoever_sees_one_session_revoked_never_again_sees_the_others(two: Two) {
    for way in 0..4 {
        let user = two.user();
        let sessions = two.log_in_apart(user, 3).await;
        two.revoked_in_one_shard(&sessions[0], None).await;
        assert!(two.lives(&sessions[1].digest).await);
        let mut reader = two.reader();
        let first = &sessions[0];
        match way {
            0 => assert!(!two.lives(&first.digest).await),
            1 => assert!(!two.listed(user).await.contains(&first.session.live.id)),
            2 => {
                let rotated = two.other.rotate(two.rotation(first), two.now).await;
                assert_eq!(rotated.unwrap(), None);
            }
            _ => {
                let ended = two.other.destroy(SessionKey::Token(first.digest), two.now).await;
                assert_eq!(ended.unwrap(), None);
            }
        }
        assert!(!two.lives(&sessions[1].digest).await);
        assert!(!two.lives(&sessions[2].digest).await);
        assert_eq!(two.count().await, 0);
        hears(&mut reader, Revocation::User { user, except: None }).await;
    }
}

async fn s_13_a_revocation_that_is_finished_spares_whom_it_had_to_spare(two: Two) {
    let user = two.user();
    let sessions = two.log_in_apart(user, 3).await;
    let spared = sessions[2].session.live.id;
    two.revoked_in_one_shard(&sessions[0], Some(spared)).await;
    let later = two.log_in(user).await;
    assert!(!two.lives(&sessions[0].digest).await);
    assert!(!two.lives(&sessions[1].digest).await);
    assert!(two.lives(&sessions[2].digest).await);
    assert!(two.lives(&later.digest).await);
    assert_eq!(two.listed(user).await, [later.session.live.id, spared]);
}

async fn s_13_once_one_session_of_everyone_is_seen_revoked_all_are(two: Two) {
    let users = [two.user(), two.user()];
    for is_rotating in [false, true] {
        let (one, other) = (two.log_in(users[0]).await, two.log_in(users[1]).await);
        let sequence = two.db().next_sequence(true).await.unwrap();
        let shard = match is_rotating {
            // It waits where it is ended already.
            true => {
                let rotation = two.rotation(&one);
                two.departed(&rotation).await;
                Location::of(&rotation.to).shard
            }
            false => Location::of(&one.digest).shard,
        };
        two.db().mark_everyone(shard, sequence, two.now).await.unwrap();
        let mut reader = two.reader();
        assert!(!two.lives(&one.digest).await);
        assert!(!two.lives(&other.digest).await);
        hears(&mut reader, Revocation::Everyone).await;
        let later = two.log_in(users[0]).await;
        assert!(two.lives(&later.digest).await);
        two.other
            .destroy(SessionKey::Token(later.digest), two.now)
            .await
            .unwrap();
    }
}

async fn a_revocation_of_everyone_counts_for_all_or_for_nobody(two: Two) {
    let sessions = two.log_in_apart(two.user(), 3).await;
    assert_eq!(two.count().await, 3);
    let sequence = two.db().next_sequence(true).await.unwrap();
    let shard = Location::of(&sessions[0].digest).shard;
    two.db().mark_everyone(shard, sequence, two.now).await.unwrap();
    assert_eq!(two.count().await, 0);
    assert!(!two.lives(&sessions[1].digest).await);
}

async fn a_revocation_whose_sequence_is_lost_ends_no_younger_session(two: Two) {
    let user = two.user();
    let sessions = two.log_in_apart(user, 1).await;
    two.revoked_in_one_shard(&sessions[0], None).await;
    // As a failover of the one node that has the clock to a replica that lagged behind would.
    let mut cmd = redis::cmd("SET");
    cmd.arg(two.keys().revocation_clock()).arg("1 before");
    two.ask::<()>(&cmd).await;
    let later = two.log_in_apart(two.user(), 1).await;
    let younger = loop {
        let new = two.new_session(user).await;
        if Location::of(&new.digest).shard != Location::of(&sessions[0].digest).shard {
            two.create(&new).await;
            break new;
        }
    };
    assert!(!two.lives(&sessions[0].digest).await);
    assert!(two.lives(&younger.digest).await);
    assert!(two.lives(&later[0].digest).await);
}

async fn what_a_revocation_of_everyone_has_set_aside_comes_back_with_a_sweep(two: Two) {
    let old = two.log_in(two.user()).await;
    let sequence = two.db().next_sequence(true).await.unwrap();
    let young = two.log_in(two.user()).await;
    let revocation = SequencedRevocation::Everyone { sequence };
    two.db().mark(revocation, two.now).await.unwrap();
    assert_eq!(two.count().await, 0);
    two.other.sweep(two.now, 100).await.unwrap();
    assert_eq!(two.count().await, 1);
    assert!(!two.lives(&old.digest).await);
    assert!(two.lives(&young.digest).await);
}
