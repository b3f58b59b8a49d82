//! What readers see of changes that are staged, taken back and committed.

use super::{Creation, SHARDS, SessionTable, TableWriter, new_log, writer::Refused};
use crate::{
    domain::{
        Attributes, AuthMethod, Client, LiveSession, RandomTokens, Session, SessionId, SessionSpan,
        Timestamp, TokenDigest, TokenSource as _, UserId,
    },
    store::{Epoch, NewSession, Rotation, SessionKey},
};
use proptest::{collection::vec, prelude::*};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

fn at(secs: u64) -> Timestamp {
    START.after(Duration::from_secs(secs))
}

fn digest(n: u64) -> TokenDigest {
    let mut bytes = [0; 32];
    // Spread over shards as a real one is.
    bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    bytes[8..16].copy_from_slice(&n.wrapping_mul(0xff51_afd7_ed55_8ccd).to_le_bytes());
    TokenDigest::from_bytes(bytes)
}

fn user(n: u64) -> UserId {
    UserId::new(START, [u8::try_from(n % 251).unwrap(); 10])
}

fn id(n: u64) -> SessionId {
    let mut bits = [0; 10];
    bits[2..].copy_from_slice(&n.to_be_bytes());
    SessionId::new(START, bits)
}

fn new_session(n: u64, user: UserId, epoch: u64) -> NewSession {
    NewSession {
        digest: digest(n),
        session: Session {
            live: LiveSession {
                id: id(n),
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
        epoch: Epoch::from_count(epoch),
        replaces: None,
        max_per_user: 1000,
    }
}

fn create(writer: &mut TableWriter, n: u64, user: UserId) {
    let epoch = writer.epoch(user);
    let created = writer.create(&new_session(n, user, epoch), START);
    assert!(matches!(created, Ok(Creation::Row(..))), "{created:?}");
}

fn finds(table: &SessionTable, n: u64) -> bool {
    table.find(&digest(n), START).is_some()
}

#[test]
fn readers_see_what_is_committed_and_the_writer_what_is_staged() {
    let mut writer = TableWriter::new();
    let table = Arc::clone(writer.table());
    let log = new_log();
    create(&mut writer, 1, user(1));
    assert!(!finds(&table, 1));
    assert!(table.list(user(1), None, 10, START).is_empty());
    assert!(writer.destroy(SessionKey::Token(digest(1)), START).is_some());
    assert!(writer.destroy(SessionKey::Token(digest(1)), START).is_none());
    create(&mut writer, 2, user(1));
    writer.commit(&log);
    assert!(!finds(&table, 1));
    assert!(finds(&table, 2));
    assert!(writer.destroy(SessionKey::Id(id(2)), START).is_some());
    assert!(finds(&table, 2), "it ends with the commit");
    assert_eq!(table.list(user(1), None, 10, START).len(), 1);
    writer.commit(&log);
    assert!(!finds(&table, 2));
}

#[test]
fn a_token_or_an_id_is_taken_once() {
    let mut writer = TableWriter::new();
    create(&mut writer, 1, user(1));
    let same_id = NewSession {
        digest: digest(2),
        ..new_session(1, user(2), 0)
    };
    for taken in [new_session(1, user(2), 0), same_id] {
        assert!(matches!(writer.create(&taken, START), Err(Refused::Taken)));
    }
}

/// Which of a user's sessions, at most 20, end when one more is created.
fn evicted_by(writer: &mut TableWriter, n: u64, user: UserId) -> Vec<SessionId> {
    let mut new = new_session(n, user, 0);
    new.max_per_user = 20;
    match writer.create(&new, START) {
        Ok(Creation::Row(_, ended)) => ended.iter().map(|ended| ended.id).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn s_19_the_cap_holds_for_a_user_whose_sessions_are_only_counted() {
    let mut writer = TableWriter::new();
    let log = new_log();
    let user = user(1);
    for n in 1..=20 {
        assert_eq!(evicted_by(&mut writer, n, user), []);
        writer.commit(&log);
    }
    assert_eq!(evicted_by(&mut writer, 21, user), [id(1)]);
    writer.commit(&log);
    for n in [2, 3] {
        writer.destroy(SessionKey::Id(id(n)), START);
    }
    assert_eq!(evicted_by(&mut writer, 22, user), []);
    writer.roll_back();
    // Those two live again, and the new one does not.
    assert_eq!(evicted_by(&mut writer, 23, user), [id(2)]);
    writer.commit(&log);
    writer.destroy(SessionKey::Id(id(3)), START);
    assert_eq!(evicted_by(&mut writer, 24, user), []);
    assert_eq!(evicted_by(&mut writer, 25, user), [id(4)]);
    assert_eq!(writer.table().list(user, None, 100, START).len(), 20);
    writer.commit(&log);
    assert_eq!(writer.table().list(user, None, 100, START).len(), 20);
}

#[test]
fn f_20_nothing_moves_when_the_index_grows() {
    let mut writer = TableWriter::new();
    let table = Arc::clone(writer.table());
    let log = new_log();
    create(&mut writer, 0, user(0));
    writer.commit(&log);
    let place = || {
        let number = super::shard_of(&digest(0));
        let shard = table.shard(number).read();
        let slot = shard.find(&digest(0), |_| true).unwrap();
        std::ptr::from_ref(&*shard.record(slot)).addr()
    };
    let before = place();
    for n in 1..50_000 {
        let user = UserId::new(START, RandomTokens.id_bits().unwrap());
        create(&mut writer, n, user);
        writer.commit(&log);
    }
    assert_eq!(place(), before);
    let largest = (0..SHARDS)
        .map(|number| table.shard(number).read().records().count())
        .max()
        .unwrap();
    assert!(largest < 50_000 / SHARDS * 3, "a shard has {largest} sessions");
    let tables = table.table_bytes() + writer.table_bytes();
    assert!(
        tables <= 50_000 * 24,
        "{} bytes of tables a session",
        tables as f64 / 50_000.0
    );
}

#[test]
fn an_old_token_proves_its_session_without_a_gap_while_it_is_rotated() {
    let mut writer = TableWriter::new();
    let table = Arc::clone(writer.table());
    let log = new_log();
    create(&mut writer, 0, user(1));
    writer.commit(&log);
    // The number of the token that the rotation under way leads to.
    let begun = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while done.load(Ordering::SeqCst) < 20_000 {
                    let n = done.load(Ordering::SeqCst);
                    let is_found = finds(&table, n);
                    // Only the second rotation from here ends its grace.
                    assert!(is_found || begun.load(Ordering::SeqCst) >= n + 2, "token {n}");
                }
            });
        }
        for n in 0..20_000 {
            begun.store(n + 1, Ordering::SeqCst);
            let rotation = Rotation {
                from: digest(n),
                to: digest(n + 1),
                grace_until: at(30),
                authenticated_at: None,
            };
            writer.rotate(&rotation, START).unwrap().unwrap();
            writer.commit(&log);
            done.store(n + 1, Ordering::SeqCst);
        }
    });
}

#[test]
fn what_a_record_has_no_room_for_is_kept_exactly() {
    // More pairs of time-outs than there are numbers for.
    const COUNT: u64 = 5000;
    let mut writer = TableWriter::new();
    let table = Arc::clone(writer.table());
    let log = new_log();
    let span = |n: u64| SessionSpan::from_secs(100_000 + u32::try_from(n).unwrap(), 50_000);
    for n in 0..COUNT {
        let mut new = new_session(n, user(n), writer.epoch(user(n)));
        new.session.live.span = span(n);
        assert!(matches!(writer.create(&new, START), Ok(Creation::Row(..))));
    }
    writer.commit(&log);
    let later = at(49_999);
    for n in 0..COUNT {
        let rotation = Rotation {
            from: digest(n),
            to: digest(COUNT + n),
            grace_until: later,
            authenticated_at: n.is_multiple_of(2).then_some(later),
        };
        assert!(writer.rotate(&rotation, later).unwrap().is_some());
    }
    writer.commit(&log);
    for n in 0..COUNT {
        let live = table.find(&digest(COUNT + n), later).unwrap().live;
        let authenticated_at = if n.is_multiple_of(2) { later } else { START };
        assert_eq!((live.span, live.authenticated_at), (span(n), authenticated_at));
    }
    for n in 0..COUNT {
        assert!(writer.destroy(SessionKey::Id(id(n)), later).is_some());
    }
    writer.commit(&log);
    assert_eq!(writer.entries(), 0);
}

/// A change, of sessions and users with small numbers so that changes meet.
#[derive(Debug, Clone)]
enum Step {
    Create {
        user: u64,
        replaces: Option<u64>,
        cap: u32,
    },
    Rotate {
        from: u64,
        with_grace: bool,
    },
    DestroyToken(u64),
    DestroyId(u64),
    RevokeUser {
        user: u64,
        except: u64,
    },
    RevokeEveryone,
    Touch(u64),
    Reap,
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0_u64..40;
    prop_oneof![
        6 => (0_u64..4, proptest::option::of(n.clone()), 1_u32..6)
            .prop_map(|(user, replaces, cap)| Step::Create { user, replaces, cap }),
        4 => (n.clone(), any::<bool>()).prop_map(|(from, with_grace)| Step::Rotate { from, with_grace }),
        2 => n.clone().prop_map(Step::DestroyToken),
        1 => n.clone().prop_map(Step::DestroyId),
        1 => (0_u64..4, n.clone()).prop_map(|(user, except)| Step::RevokeUser { user, except }),
        1 => Just(Step::RevokeEveryone),
        2 => n.prop_map(Step::Touch),
        1 => Just(Step::Reap),
        1 => (1_u64..400).prop_map(Step::Pass),
    ]
}

/// An table under test, with the numbers that are used up.
struct Bench {
    writer: TableWriter,
    next: u64,
    now: Timestamp,
}

impl Bench {
    fn new() -> Self {
        Self {
            writer: TableWriter::new(),
            next: 0,
            now: START,
        }
    }

    /// Stages a step and gives the answer, as text.
    fn stage(&mut self, step: &Step) -> String {
        let now = self.now;
        match step {
            Step::Create {
                user: n,
                replaces,
                cap,
            } => {
                let user = user(*n);
                let mut new = new_session(self.next, user, self.writer.epoch(user));
                new.session.live.last_seen_at = now;
                new.replaces = replaces.map(digest);
                new.max_per_user = *cap;
                self.next += 1;
                format!("{:?}", self.writer.create(&new, now))
            }
            Step::Rotate { from, with_grace } => {
                let grace = Duration::from_secs(if *with_grace { 100 } else { 0 });
                let rotation = Rotation {
                    from: digest(*from),
                    to: digest(self.next),
                    grace_until: now.after(grace),
                    authenticated_at: Some(now),
                };
                self.next += 1;
                format!("{:?}", self.writer.rotate(&rotation, now))
            }
            Step::DestroyToken(n) => {
                format!("{:?}", self.writer.destroy(SessionKey::Token(digest(*n)), now))
            }
            Step::DestroyId(n) => format!("{:?}", self.writer.destroy(SessionKey::Id(id(*n)), now)),
            Step::RevokeUser { user: n, except } => {
                format!("{:?}", self.writer.revoke_user(user(*n), Some(id(*except)), now))
            }
            Step::RevokeEveryone => format!("{:?}", self.writer.revoke_everyone()),
            Step::Reap => {
                let table = Arc::clone(self.writer.table());
                let mut rows: Vec<u64> = (0..SHARDS)
                    .flat_map(|shard| self.writer.reap(&table.leftovers(shard, now, 100), now))
                    .collect();
                rows.sort_unstable();
                format!("{rows:?}")
            }
            Step::Touch(_) | Step::Pass(_) => String::new(),
        }
    }

    /// What needs no commit.
    fn happen(&mut self, step: &Step) {
        match step {
            Step::Touch(n) => {
                if let Some(found) = self.writer.table().find(&digest(*n), self.now) {
                    self.writer.table().touch(found.live.id, &digest(*n), self.now);
                }
            }
            Step::Pass(secs) => self.now = self.now.after(Duration::from_secs(*secs)),
            Step::Create { .. }
            | Step::Rotate { .. }
            | Step::DestroyToken(_)
            | Step::DestroyId(_)
            | Step::RevokeUser { .. }
            | Step::RevokeEveryone
            | Step::Reap => {}
        }
    }

    /// All that a reader can find out.
    fn seen(&self) -> String {
        let table = self.writer.table();
        let tokens: Vec<_> = (0..200).map(|n| table.find(&digest(n), self.now)).collect();
        let users: Vec<_> = (0..4)
            .map(|n| (table.list(user(n), None, 100, self.now), table.epoch(user(n))))
            .collect();
        format!("{tokens:?} {users:?} {}", table.living())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Batches of changes, each staged twice: taken back, and then committed. A twin only commits.
    #[test]
    fn what_is_taken_back_leaves_no_trace(batches in vec(vec(step(), 1..12), 1..10)) {
        let (mut bench, mut twin) = (Bench::new(), Bench::new());
        let log = new_log();
        for batch in batches {
            for step in &batch {
                bench.happen(step);
                twin.happen(step);
            }
            let before = bench.seen();
            let next = bench.next;
            for step in &batch {
                bench.stage(step);
            }
            prop_assert_eq!(bench.seen(), &*before, "staged, it shows");
            bench.writer.roll_back();
            bench.next = next;
            // Row numbers are not used twice.
            twin.writer.load_last_row(bench.writer.last_row());
            prop_assert_eq!(bench.seen(), before, "taken back, it shows");
            for step in &batch {
                prop_assert_eq!(bench.stage(step), twin.stage(step));
            }
            bench.writer.commit(&log);
            twin.writer.commit(&log);
            prop_assert_eq!(bench.seen(), twin.seen());
        }
        // When everything has ended, nothing is left.
        bench.now = at(1_000_000);
        bench.stage(&Step::Reap);
        bench.writer.commit(&log);
        prop_assert_eq!(bench.writer.entries(), 0);
        prop_assert_eq!(bench.writer.table().living(), 0);
    }
}
