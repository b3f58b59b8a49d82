//! Finishing a change that another process has left half done, before the operation that meets it answers.
//!
//! [`resolve`](Recovery::resolve) is a loop over [`state`](super::state): it asks what is true of a session, carries out the one
//! step that the answer needs, and asks again. Operations that leave something to be finished hand it over here as well, and do not
//! call one another. Within this module calls lead one way: a session's state may need a revocation finished, that reads the user's
//! index, that ends displaced sessions, and that ends records.

use super::{
    connection::failure,
    layout::{index_entry::IndexEntry, marks::SequencedRevocation, record::SessionRecord},
    protocol::{Database, EndCondition, EndReply, EndedSession, new_attempt},
    state::{Count, Goal, SessionState, ShardView, Snapshot, Step, View, count, live_sessions},
};
use crate::domain::{LiveSession, Revocation, Session, Timestamp, TokenDigest, UserId};
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    future::{try_join, try_join_all},
    stream,
};
use redis::RedisResult;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, time::timeout};

/// Steps until a session's state must be known. Without interference it takes eight at most.
const MAX_STEPS: usize = 32;

/// Times that a session which moves while it is looked for is followed. It has moved once, or twice meanwhile.
const MAX_MOVES: usize = 4;

/// How often sessions are counted again because some were between two places, before it is good enough.
const COUNT_READS: usize = 4;

/// Records that are ended at once.
const CONCURRENT_ENDS: usize = 64;

/// What became of a session that was looked for.
pub(crate) enum Resolution {
    /// It lives.
    Live(FoundSession),
    /// It does not: this is what was found.
    Gone(Snapshot),
    /// Nothing is stored under the digest, or another session.
    Missing,
}

/// A living session.
pub(crate) struct FoundSession {
    pub live: LiveSession,
    pub record: SessionRecord,
    /// What it is stored under: that of its latest token.
    pub digest: TokenDigest,
}

impl FoundSession {
    /// The session whole.
    pub(crate) fn session(&self) -> RedisResult<Session> {
        let session = self.record.session();
        let session = session.ok_or_else(|| failure("a session of another form"))?;
        Ok(Session {
            live: self.live,
            ..session
        })
    }
}

impl Resolution {
    pub(crate) fn live(self) -> Option<FoundSession> {
        match self {
            Self::Live(found) => Some(found),
            Self::Gone(_) | Self::Missing => None,
        }
    }
}

/// Finishes what was begun.
pub(crate) struct Recovery {
    db: Arc<Database>,
    handled: Handled,
    /// For finishing a revocation: one at a time, because many operations meet the same one.
    turn: Semaphore,
    patience: Duration,
}

impl Recovery {
    /// An operation waits no longer than `patience` for others to finish a revocation.
    pub(crate) fn new(db: Arc<Database>, patience: Duration) -> Self {
        Self {
            db,
            handled: Handled::nothing(),
            turn: Semaphore::new(1),
            patience,
        }
    }

    /// What is true of the session behind a token.
    pub(crate) async fn resolve(
        &self,
        goal: Goal,
        digest: &TokenDigest,
        now: Timestamp,
    ) -> RedisResult<Resolution> {
        let here = self.db.read_session(digest, None).await?;
        self.conclude(View::new(goal, *digest, here), now).await
    }

    /// What is true of the session that an entry of a user's index leads to.
    pub(crate) async fn resolve_entry(
        &self,
        user: UserId,
        entry: IndexEntry,
        now: Timestamp,
    ) -> RedisResult<Resolution> {
        let here = self.db.read_session(&entry.digest, Some(user)).await?;
        let here = here.filter(|here| here.record.id() == entry.id);
        self.conclude(View::new(Goal::IndexEntry, entry.digest, here), now)
            .await
    }

    /// Carries out step after step until it is known what is true.
    pub(crate) async fn conclude(&self, mut view: View, now: Timestamp) -> RedisResult<Resolution> {
        for _ in 0..MAX_STEPS {
            match view.state(now) {
                SessionState::Live(live) => {
                    let digest = view.latest_digest();
                    let (here, there) = view.into_snapshots();
                    let Some(Snapshot { record, .. }) = there.or(here) else {
                        return Ok(Resolution::Missing);
                    };
                    return Ok(Resolution::Live(FoundSession { live, record, digest }));
                }
                SessionState::Gone => {
                    let (here, _) = view.into_snapshots();
                    return Ok(here.map_or(Resolution::Missing, Resolution::Gone));
                }
                // In a box, because it is rare, and every check would carry it.
                SessionState::Needs(step) => Box::pin(self.carry_out(step, &mut view, now)).await?,
            }
        }
        Err(failure("a session that does not come to rest"))
    }

    async fn carry_out(&self, step: Step, view: &mut View, now: Timestamp) -> RedisResult<()> {
        match step {
            Step::Follow(to) => {
                let user = view.latest().map(|here| here.record.user());
                view.follow(self.db.read_session(&to, user).await?);
            }
            Step::Arrive => {
                let there = view.latest().ok_or_else(|| failure("nothing that arrives"))?;
                let arrived = self.db.arrive(&view.latest_digest(), &there.record, now).await?;
                view.arrive(arrived);
            }
            Step::Reindex => self.reindex(view).await?,
            Step::FinishRevocation(revocation) => self.finish_revocation(revocation, now).await?,
            Step::PublishOnce(ended) => self.publish_once(&view.digest(), ended).await?,
            Step::Publish(ended) => self.db.publish(&[ended]).await?,
            Step::PublishMove { ended, reindexes } => {
                let reindexed = async {
                    match reindexes {
                        true => self.reindex(view).await,
                        false => Ok(()),
                    }
                };
                try_join(reindexed, self.db.publish(&[ended])).await?;
            }
            Step::Settle { works_until } => {
                let works_until = works_until.unwrap_or(now);
                self.db.settle(&view.digest(), works_until, now).await?;
            }
        }
        view.done(step);
        Ok(())
    }

    async fn reindex(&self, view: &View) -> RedisResult<()> {
        let there = view
            .latest()
            .ok_or_else(|| failure("nothing that is in the index"))?;
        self.db
            .reindex(&there.record, view.digest(), view.latest_digest())
            .await
    }

    /// Publishes the end of a token's session, unless this process has done so since it last met so many others.
    pub(crate) async fn publish_once(&self, digest: &TokenDigest, ended: Revocation) -> RedisResult<()> {
        let name = name_of_token(digest);
        if !self.handled.has(name) {
            self.db.publish_again(ended).await?;
            self.handled.note(name);
        }
        Ok(())
    }

    /// Finishes a revocation that an operation has met and that its own process may not have finished: once by each process.
    pub(crate) async fn finish_revocation(
        &self,
        revocation: SequencedRevocation,
        now: Timestamp,
    ) -> RedisResult<()> {
        let name = name_of_revocation(revocation);
        if self.handled.has(name) {
            return Ok(());
        }
        let turn = timeout(self.patience, self.turn.acquire()).await;
        let _turn = turn.map_err(|_| failure("a revocation is not finished in time"))?;
        if self.handled.has(name) {
            return Ok(());
        }
        // A server that took over may have lost the last sequences: what was created there since is older by its sequence only.
        if self.db.last_revocation().await?.sequence >= revocation.sequence() {
            self.carry_through(revocation, now).await?;
        }
        self.handled.note(name);
        Ok(())
    }

    /// Does all that is left to do once a revocation has its sequence. Returns how many living sessions it has ended.
    pub(crate) async fn carry_through(
        &self,
        revocation: SequencedRevocation,
        now: Timestamp,
    ) -> RedisResult<u64> {
        let mut ended = self.db.mark(revocation, now).await?;
        self.db.publish(&[revocation.entry()]).await?;
        if let SequencedRevocation::User { .. } = revocation {
            ended = self.end_revoked(revocation, now).await?;
        }
        self.handled.note(name_of_revocation(revocation));
        Ok(ended)
    }

    /// Ends the records of the user's sessions that a revocation has ended, and says how many of them lived until then.
    async fn end_revoked(&self, revocation: SequencedRevocation, now: Timestamp) -> RedisResult<u64> {
        let SequencedRevocation::User {
            user,
            sequence,
            except,
        } = revocation
        else {
            return Ok(0);
        };
        let attempt = new_attempt()?;
        let entries = self.index_of(user, now).await?;
        let ended: Vec<EndedSession> =
            stream::iter(entries.into_iter().filter(|entry| Some(entry.id) != except))
                .map(|entry| {
                    let condition = EndCondition::CreatedBefore(entry.id, sequence);
                    self.end_following(entry.digest, condition, attempt, now)
                })
                .buffer_unordered(CONCURRENT_ENDS)
                .try_filter_map(|ended| std::future::ready(Ok(ended)))
                .try_collect()
                .await?;
        stream::iter(ended.iter().map(|ended| ended.id).collect::<Vec<_>>())
            .map(|id| self.db.forget_session(user, id))
            .buffer_unordered(CONCURRENT_ENDS)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await?;
        Ok(ended.iter().filter(|ended| ended.is_counted).count() as u64)
    }

    /// A user's index, oldest session first. Those that a creation has displaced have ended when this returns: after the
    /// new session has been seen, the one that it replaced is never seen again.
    pub(crate) async fn index_of(&self, user: UserId, now: Timestamp) -> RedisResult<Vec<IndexEntry>> {
        let index = self.db.read_index(user).await?;
        if !index.displaced.is_empty() {
            self.end_displaced(user, index.displaced, Vec::new(), now).await?;
        }
        Ok(index.entries)
    }

    /// Ends the sessions that creations of this user have evicted or replaced, publishes that and what was `ended` before, and then
    /// forgets them.
    pub(crate) async fn end_displaced(
        &self,
        user: UserId,
        displaced: Vec<IndexEntry>,
        mut ended: Vec<Revocation>,
        now: Timestamp,
    ) -> RedisResult<()> {
        let attempt = new_attempt()?;
        let ends = displaced
            .iter()
            .map(|entry| self.end_one_displaced(*entry, attempt, now));
        let ends: Vec<Option<EndedSession>> = try_join_all(ends).await?;
        // One that was dead already may have been ended by a creation that failed before it could publish.
        ended.extend(ends.iter().flatten().map(EndedSession::revocation));
        self.db.publish(&ended).await?;
        let forgotten = displaced.iter().zip(&ends).map(async |(entry, ended)| {
            let owner = ended.as_ref().map_or(user, |ended| ended.user);
            self.db.forget_session(owner, entry.id).await?;
            self.db.forget_displaced(user, entry.id).await
        });
        try_join_all(forgotten).await.map(drop)
    }

    /// Ends a displaced session, of any user, wherever it has moved since.
    async fn end_one_displaced(
        &self,
        entry: IndexEntry,
        attempt: u64,
        now: Timestamp,
    ) -> RedisResult<Option<EndedSession>> {
        let condition = EndCondition::Session(entry.id);
        let ended = self.end_following(entry.digest, condition, attempt, now).await?;
        if ended.is_some() {
            return Ok(ended);
        }
        match self.db.find_by_id(entry.id).await? {
            Some(moved) if moved.digest != entry.digest => {
                self.end_following(moved.digest, condition, attempt, now).await
            }
            Some(_) | None => Ok(None),
        }
    }

    /// Ends a session that was stored under `digest` a moment ago, wherever it has moved.
    pub(crate) async fn end_following(
        &self,
        mut digest: TokenDigest,
        condition: EndCondition,
        attempt: u64,
        now: Timestamp,
    ) -> RedisResult<Option<EndedSession>> {
        for _ in 0..MAX_MOVES {
            match self.db.end(&digest, condition, attempt, now).await? {
                EndReply::NotFound => return Ok(None),
                EndReply::Ended(ended) => return Ok(Some(ended)),
                EndReply::Moved { to, .. } => digest = to,
            }
        }
        Err(failure("a session that moves on and on"))
    }

    /// Completes the moves of sessions away from these digests.
    pub(crate) async fn finish_moves(&self, from: &[TokenDigest], now: Timestamp) -> RedisResult<()> {
        let moves = from.iter().map(|from| self.resolve(Goal::Move, from, now));
        try_join_all(moves).await.map(drop)
    }

    /// How many sessions there are. Those that are between two places are brought to their end first, and so is a revocation of
    /// everyone's sessions that some shards know and others do not.
    pub(crate) async fn count(&self, now: Timestamp) -> RedisResult<u64> {
        for _ in 1..COUNT_READS {
            match count(&self.read_shards(now).await?) {
                Count::Consistent(sessions) => return Ok(sessions),
                Count::Needs { finish, moves } => {
                    if let Some(revocation) = finish {
                        self.finish_revocation(revocation, now).await?;
                    }
                    self.finish_moves(&moves, now).await?;
                }
            }
        }
        Ok(live_sessions(&self.read_shards(now).await?))
    }

    pub(crate) async fn read_shards(&self, now: Timestamp) -> RedisResult<Vec<ShardView>> {
        try_join_all(Database::shards().map(|shard| self.db.read_shard(shard, now))).await
    }
}

/// Ends that this process has published and revocations that it has finished: the last one for each slot here.
///
/// An end that is forgotten is published once more, which costs clients that cache answers a check.
struct Handled(Vec<AtomicU64>);

/// 8 bytes each.
const HANDLED: usize = 1 << 13;

impl Handled {
    fn nothing() -> Self {
        Self(std::iter::repeat_with(AtomicU64::default).take(HANDLED).collect())
    }

    fn slot(&self, name: u64) -> &AtomicU64 {
        &self.0[name as usize % HANDLED]
    }

    fn has(&self, name: u64) -> bool {
        self.slot(name).load(Ordering::Relaxed) == name
    }

    fn note(&self, name: u64) {
        self.slot(name).store(name, Ordering::Relaxed);
    }
}

/// What a token's end is known by: half of its digest.
fn name_of_token(digest: &TokenDigest) -> u64 {
    let mut name = [0; 8];
    name.copy_from_slice(&digest.as_bytes()[8..16]);
    u64::from_be_bytes(name)
}

/// What a revocation is known by.
fn name_of_revocation(revocation: SequencedRevocation) -> u64 {
    match revocation {
        SequencedRevocation::Everyone { sequence } => sequence,
        SequencedRevocation::User { user, sequence, .. } => {
            sequence ^ u128::from_be_bytes(user.to_bytes()) as u64
        }
    }
}
