//! The state of a session against a small model of Redis: processes whose operations are interleaved in any order and die anywhere.

use super::*;
use crate::{
    domain::{SessionId, UserId},
    store::redis::layout::record::tests::session,
};
use futures_util::task::noop_waker_ref;
use proptest::{collection::vec, option, prelude::*};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

const SHARDS: usize = 4;
const NOW: Timestamp = Timestamp::from_millis(1_795_000_001_000);
const GRACE_OVER: Timestamp = Timestamp::from_millis(1_795_000_031_000);

/// The first session's token, what two rotations give it instead, and the second session's token: each in a shard of its own.
const OLD: TokenDigest = TokenDigest::from_bytes([0; 32]);
const NEW: [TokenDigest; 2] = [TokenDigest::from_bytes([1; 32]), TokenDigest::from_bytes([2; 32])];
const OTHER: TokenDigest = TokenDigest::from_bytes([3; 32]);

fn user() -> UserId {
    session("").live.user_id
}

/// The sessions that are stored when a history begins.
fn stored(digest: TokenDigest) -> SessionRecord {
    let mut session = session("");
    session.live.id = id_of(digest);
    SessionRecord::of(&session, 0)
}

fn id_of(digest: TokenDigest) -> SessionId {
    SessionId::from_bytes([if digest == OTHER { 8 } else { 7 }; 16])
}

/// Redis as far as sessions go. Each method but `turn` does what one script does.
#[derive(Default)]
struct World {
    records: RefCell<BTreeMap<TokenDigest, SessionRecord>>,
    everyone_marks: RefCell<[u64; SHARDS]>,
    user_marks: RefCell<[u64; SHARDS]>,
    sequence: Cell<u64>,
    unsettled: RefCell<BTreeSet<TokenDigest>>,
    index: RefCell<BTreeMap<SessionId, TokenDigest>>,
    published: RefCell<Vec<Revocation>>,
    /// What was observed, in the order in which it ended, with when it began.
    observed: RefCell<Vec<(usize, usize, Event)>>,
    clock: Cell<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    /// A check of this token, and whether it said that the session lives.
    Checked(TokenDigest, bool),
    /// A rotation was acknowledged.
    Rotated(TokenDigest),
    /// The end of this token's session was acknowledged.
    Destroyed,
    /// A revocation of both sessions was acknowledged.
    Revoked,
}

impl World {
    fn new() -> Self {
        let world = Self::default();
        for digest in [OLD, OTHER] {
            world.records.borrow_mut().insert(digest, stored(digest));
            world.index.borrow_mut().insert(id_of(digest), digest);
        }
        world
    }

    /// Lets any other process go first, or dies.
    async fn turn(&self) {
        let mut has_waited = false;
        poll_fn(|_| match std::mem::replace(&mut has_waited, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        self.clock.set(self.clock.get() + 1);
    }

    fn observe(&self, began: usize, event: Event) {
        let ended = self.clock.get();
        self.observed.borrow_mut().push((began, ended, event));
    }

    fn marks(&self, digest: &TokenDigest) -> RevocationMarks {
        let shard = usize::from(digest.as_bytes()[0]);
        let everyone = self.everyone_marks.borrow()[shard].to_string();
        let user = format!("{} 0 ", self.user_marks.borrow()[shard]);
        RevocationMarks::from_stored(Some(everyone.as_bytes()), Some(user.as_bytes())).unwrap()
    }

    fn read(&self, digest: &TokenDigest) -> Option<Snapshot> {
        Some(Snapshot {
            record: self.records.borrow().get(digest)?.clone(),
            marks: self.marks(digest),
        })
    }

    /// A record that is there, of this session, and that no revocation has ended.
    fn spared(&self, digest: &TokenDigest, id: SessionId) -> Option<SessionRecord> {
        let found = self.read(digest)?;
        let is_spared = found.marks.revocation_of(&found.record).is_none();
        (found.record.id() == id && is_spared).then_some(found.record)
    }

    /// Ends a session. Gives where it has moved, or whether there was one.
    fn end(&self, digest: &TokenDigest, created_before: Option<u64>) -> Result<bool, TokenDigest> {
        let mut records = self.records.borrow_mut();
        let Some(record) = records.get(digest) else {
            return Ok(false);
        };
        match record.kind() {
            RecordKind::Moved => Err(record.moved_to().unwrap().1),
            RecordKind::Ended => Ok(true),
            RecordKind::Active | RecordKind::Arriving => {
                let is_older = created_before.is_none_or(|sequence| record.created_after() < sequence);
                if is_older {
                    let mut bytes = record.bytes().to_vec();
                    bytes[0] = b'x';
                    records.insert(*digest, SessionRecord::from_stored(bytes).unwrap());
                }
                Ok(is_older)
            }
        }
    }

    fn depart(&self, from: &TokenDigest, to: &TokenDigest, works_until: Timestamp) -> Option<SessionRecord> {
        let record = self
            .spared(from, id_of(*from))
            .filter(|record| record.kind() == RecordKind::Active)?;
        let mut note = record.forwarding_note(works_until, to);
        note.extend(record.last_seen_bytes());
        let note = SessionRecord::from_stored(note).unwrap();
        self.records.borrow_mut().insert(*from, note.clone());
        self.unsettled.borrow_mut().insert(*from);
        Some(note)
    }

    fn arrive(&self, to: &TokenDigest, arrived: &SessionRecord) -> bool {
        match self.spared(to, arrived.id()) {
            Some(there) if there.kind() == RecordKind::Arriving => {
                self.records.borrow_mut().insert(*to, arrived.clone());
                true
            }
            Some(there) => there.kind() == RecordKind::Active,
            None => false,
        }
    }

    fn next_sequence(&self) -> u64 {
        self.sequence.set(self.sequence.get() + 1);
        self.sequence.get()
    }

    fn mark(&self, shard: usize, revocation: SequencedRevocation) {
        let marks = match revocation {
            SequencedRevocation::Everyone { .. } => &self.everyone_marks,
            SequencedRevocation::User { .. } => &self.user_marks,
        };
        let mark = &mut marks.borrow_mut()[shard];
        *mark = revocation.sequence().max(*mark);
    }

    fn publish(&self, revocation: Revocation) {
        self.published.borrow_mut().push(revocation);
    }

    fn is_published(&self, id: SessionId) -> bool {
        self.published.borrow().iter().any(|entry| match entry {
            Revocation::Session { session, .. } => *session == id,
            Revocation::User { .. } | Revocation::Everyone => true,
        })
    }
}

async fn carry_through(world: &World, revocation: SequencedRevocation) {
    for shard in 0..SHARDS {
        world.turn().await;
        world.mark(shard, revocation);
    }
    world.turn().await;
    world.publish(revocation.entry());
    if let SequencedRevocation::User { sequence, .. } = revocation {
        let entries: Vec<_> = world.index.borrow().values().copied().collect();
        for entry in entries {
            end_following(world, entry, Some(sequence)).await;
        }
    }
}

async fn end_following(world: &World, mut digest: TokenDigest, created_before: Option<u64>) -> bool {
    loop {
        world.turn().await;
        match world.end(&digest, created_before) {
            Ok(is_ended) => return is_ended,
            Err(to) => digest = to,
        }
    }
}

/// The loop of `recovery`, over the model.
async fn conclude(world: &World, mut view: View) -> Option<LiveSession> {
    loop {
        let step = match view.state(NOW) {
            SessionState::Live(live) => return Some(live),
            SessionState::Gone => return None,
            SessionState::Needs(step) => step,
        };
        if !matches!(step, Step::FinishRevocation(_)) {
            world.turn().await;
        }
        match step {
            Step::Follow(to) => view.follow(world.read(&to)),
            Step::Arrive => {
                let there = view.latest().unwrap().record.clone();
                view.arrive(world.arrive(&view.latest_digest(), &there));
            }
            Step::Reindex | Step::PublishMove { reindexes: true, .. } => {
                let id = view.latest().unwrap().record.id();
                if world.index.borrow().get(&id) == Some(&view.digest()) {
                    world.index.borrow_mut().insert(id, view.latest_digest());
                }
            }
            Step::FinishRevocation(revocation) => carry_through(world, revocation).await,
            Step::PublishOnce(_) | Step::Publish(_) | Step::PublishMove { .. } => {}
            Step::Settle { .. } => drop(world.unsettled.borrow_mut().remove(&view.digest())),
        }
        if let Step::PublishOnce(ended) | Step::Publish(ended) | Step::PublishMove { ended, .. } = step {
            world.turn().await;
            world.publish(ended);
        }
        view.done(step);
    }
}

async fn resolve(world: &World, goal: Goal, digest: TokenDigest) -> Option<LiveSession> {
    world.turn().await;
    conclude(world, View::new(goal, digest, world.read(&digest))).await
}

/// What a process does.
#[derive(Debug, Clone, Copy)]
enum Action {
    Check(TokenDigest),
    /// A check of the new token of this rotation, if it has been acknowledged.
    CheckNew(usize),
    /// To the new token with this number.
    Rotate(usize),
    DestroyByToken,
    DestroyById,
    Revoke {
        is_everyone: bool,
    },
    List,
    FinishMoves,
}

async fn act(world: Rc<World>, action: Action, works_until: Timestamp) {
    let world = &*world;
    world.turn().await;
    let began = world.clock.get();
    match action {
        Action::Check(digest) => check(world, digest).await,
        Action::CheckNew(number) => {
            let is_acknowledged = world
                .observed
                .borrow()
                .iter()
                .any(|(_, _, event)| *event == Event::Rotated(NEW[number]));
            if is_acknowledged {
                check(world, NEW[number]).await;
            }
        }
        Action::Rotate(number) => {
            let to = NEW[number];
            if resolve(world, Goal::LatestToken, OLD).await.is_none() {
                return;
            }
            let waiting = stored(OLD).arriving(None);
            world.turn().await;
            world.records.borrow_mut().entry(to).or_insert(waiting.clone());
            world.turn().await;
            let Some(note) = world.depart(&OLD, &to, works_until) else {
                world.turn().await;
                world.records.borrow_mut().remove(&to);
                return;
            };
            if conclude(world, View::departed(OLD, note, waiting))
                .await
                .is_some()
            {
                world.observe(began, Event::Rotated(to));
            }
        }
        Action::DestroyByToken => {
            if end_following(world, OLD, None).await {
                destroyed(world, began).await;
            }
        }
        Action::DestroyById => {
            world.turn().await;
            let digest = world.index.borrow()[&id_of(OLD)];
            if end_following(world, digest, None).await {
                destroyed(world, began).await;
            }
        }
        Action::Revoke { is_everyone } => {
            world.turn().await;
            let sequence = world.next_sequence();
            let revocation = match is_everyone {
                true => SequencedRevocation::Everyone { sequence },
                false => SequencedRevocation::User {
                    user: user(),
                    sequence,
                    except: None,
                },
            };
            carry_through(world, revocation).await;
            world.observe(began, Event::Revoked);
        }
        Action::List => {
            let entry = world.index.borrow()[&id_of(OLD)];
            let is_live = resolve(world, Goal::IndexEntry, entry).await.is_some();
            assert!(
                is_live || world.is_published(id_of(OLD)),
                "a list without a session whose end was not published"
            );
        }
        Action::FinishMoves => {
            let moves: Vec<_> = world.unsettled.borrow().iter().copied().collect();
            for from in moves {
                resolve(world, Goal::Move, from).await;
            }
        }
    }
}

async fn destroyed(world: &World, began: usize) {
    world.turn().await;
    world.publish(Revocation::Session {
        session: id_of(OLD),
        user: user(),
    });
    world.observe(began, Event::Destroyed);
}

async fn check(world: &World, digest: TokenDigest) {
    let began = world.clock.get();
    let is_live = resolve(world, Goal::Token, digest).await.is_some();
    // Before anybody learns of an end, those who remember answers are told.
    assert!(
        is_live || world.is_published(id_of(digest)),
        "an end that was not published"
    );
    world.observe(began, Event::Checked(digest, is_live));
}

type Process = Pin<Box<dyn Future<Output = ()>>>;

/// Runs processes, each until it ends or has had as many turns as it lives for, in this order and then one after the other.
fn run(mut processes: Vec<(Process, Option<usize>)>, order: &[usize]) {
    let mut context = Context::from_waker(noop_waker_ref());
    let rest = (0..processes.len()).flat_map(|process| std::iter::repeat_n(process, 1_000));
    let mut is_over = vec![false; processes.len()];
    for process in order.iter().copied().chain(rest) {
        let Some((future, turns_left)) = processes.get_mut(process) else {
            continue;
        };
        if is_over[process] {
            continue;
        }
        let dies = turns_left.as_mut().is_some_and(|left| {
            *left = left.saturating_sub(1);
            *left == 0
        });
        is_over[process] = dies || future.as_mut().poll(&mut context).is_ready();
    }
    assert!(
        is_over.iter().all(|over| *over),
        "a process that does not come to rest"
    );
}

/// The rules that no history may break.
fn judge(observed: &[(usize, usize, Event)], has_grace: bool) {
    for (_, ended, earlier) in observed {
        for (began, _, later) in observed.iter().filter(|(began, ..)| began >= ended) {
            let Event::Checked(token, true) = later else {
                continue;
            };
            let is_first = *token != OTHER;
            match earlier {
                // What was gone does not come back.
                Event::Checked(gone, false) if gone == token => panic!("{token:?} is back at {began}"),
                // Only a revocation ends the second session: it ends both.
                Event::Checked(OTHER, false) => panic!("a revocation counts for some at {began}"),
                // One token at most, but in the grace of the old one.
                Event::Checked(new, true) if NEW.contains(new) && is_first && new != token => {
                    assert!(has_grace && *token == OLD, "two tokens at {began}");
                }
                Event::Rotated(_) if *token == OLD => assert!(has_grace, "two tokens at {began}"),
                Event::Destroyed => assert!(!is_first, "a destroyed session lives at {began}"),
                Event::Revoked => panic!("a revoked session lives at {began}"),
                Event::Checked(..) | Event::Rotated(_) => {}
            }
        }
    }
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Action::Check(OLD)),
        3 => Just(Action::Check(OTHER)),
        3 => (0..2_usize).prop_map(Action::CheckNew),
        4 => (0..2_usize).prop_map(Action::Rotate),
        1 => Just(Action::DestroyByToken),
        1 => Just(Action::DestroyById),
        2 => any::<bool>().prop_map(|is_everyone| Action::Revoke { is_everyone }),
        2 => Just(Action::List),
        1 => Just(Action::FinishMoves),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn s_13_f_13_f_14_any_order_and_any_crash_converge(
        actions in vec((action(), option::of(1..30_usize)), 1..9),
        order in vec(0..9_usize, 0..200),
        has_grace in any::<bool>(),
    ) {
        let world = Rc::new(World::new());
        let works_until = if has_grace { GRACE_OVER } else { NOW };
        // Every rotation has a new token of its own.
        let mut rotations = BTreeSet::new();
        let processes = actions
            .iter()
            .filter(|(action, _)| !matches!(action, Action::Rotate(number) if !rotations.insert(*number)))
            .map(|(action, lives_for)| {
                let process: Process = Box::pin(act(Rc::clone(&world), *action, works_until));
                (process, *lives_for)
            })
            .collect();
        run(processes, &order);

        // Whoever comes last finds everything finished, or finishes it; and everybody after that finds the same.
        let rotated = world.observed.borrow().iter().any(|(_, _, event)| matches!(event, Event::Rotated(_)));
        let last = [Action::FinishMoves, Action::Check(OLD), Action::Check(OTHER), Action::List];
        for _ in 0..2 {
            for action in last.into_iter().chain([Action::CheckNew(0), Action::CheckNew(1)]) {
                let process: Process = Box::pin(act(Rc::clone(&world), action, works_until));
                run(vec![(process, None)], &[]);
            }
        }
        prop_assert!(world.unsettled.borrow().is_empty());
        judge(&world.observed.borrow(), has_grace);
        // A session that nobody has ended lives: by its old token, by a new one that was given out, or, if the rotation died
        // before that, by its id.
        let ends = actions.iter().any(|(action, _)| {
            matches!(action, Action::DestroyByToken | Action::DestroyById | Action::Revoke { .. })
        });
        let entry = world.index.borrow()[&id_of(OLD)];
        let is_live = Cell::new(false);
        let listing = async { is_live.set(resolve(&world, Goal::IndexEntry, entry).await.is_some()) };
        run_here(listing);
        prop_assert!(is_live.get() || ends, "a session is lost");
        let moved = world.read(&OLD).is_some_and(|found| found.record.kind() == RecordKind::Moved);
        prop_assert!(!rotated || moved || ends, "a rotation is undone");
    }
}

fn run_here(future: impl Future<Output = ()>) {
    let mut context = Context::from_waker(noop_waker_ref());
    let mut future = std::pin::pin!(future);
    while future.as_mut().poll(&mut context).is_pending() {}
}

#[test]
fn an_expired_session_is_gone_and_needs_no_step() {
    let expired = NOW.after(std::time::Duration::from_secs(3600));
    let view = View::new(Goal::Token, OLD, World::new().read(&OLD));
    assert!(matches!(view.state(NOW), SessionState::Live(_)));
    assert_eq!(view.state(expired), SessionState::Gone);
}

#[test]
fn shards_that_agree_are_counted_and_others_are_mended_first() {
    let shard = |everyone_mark, unsettled_moves| ShardView {
        live_sessions: 2,
        unsettled_moves,
        everyone_mark,
    };
    let agreed = [shard(5, Vec::new()), shard(5, Vec::new())];
    assert_eq!(count(&agreed), Count::Consistent(4));
    let needs = Count::Needs {
        finish: Some(SequencedRevocation::Everyone { sequence: 5 }),
        moves: vec![OLD],
    };
    assert_eq!(count(&[shard(5, vec![OLD]), shard(0, Vec::new())]), needs);
}
