//! Request coalescing: checks of one token share one pending check, pending checks of many tokens share one batch.
//!
//! No check is ever delayed in order to fill a batch. While fewer than [`MAX_CALLS`] calls are in flight, a check is sent at
//! once; otherwise it is queued, and the next call that completes takes the whole queue along.
//!
//! A check may always join a pending check that has not been sent. It may join one that is in flight only while remembered
//! answers are trusted: the answer to such a call comes from the recent past, exactly as a remembered one does.

use super::{
    cache::{Cache, CheckStart},
    check_call::check_tokens,
    check_error::{CannotTell, CheckError},
    checked_session::LocalSession,
    rpc::Connections,
};
use crate::{
    contract::MAX_BATCH_TOKENS,
    domain::{Clock, TokenDigest},
};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
};
use tokio::{runtime, sync::oneshot};
use zeroize::Zeroizing;

/// Calls that may be in flight before checks are queued.
const MAX_CALLS: usize = 16;
/// Tokens that may be queued. A check of one more fails at once as overloaded.
const MAX_QUEUED: usize = 16 * MAX_BATCH_TOKENS;

/// What a call said of one token, for each check that shared it.
pub(super) type SharedResult = Result<SharedAnswer, CheckError>;

/// A positive answer, and whether it was still current when it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct SharedAnswer {
    pub(super) session: LocalSession,
    /// `false`: while the call was in flight, a revocation came, or another call about the token was answered with no.
    pub(super) is_current: bool,
}

/// Which pending checks a check may join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinPolicy {
    /// Only those that have not been sent yet.
    Queued,
    /// Also those that are in flight.
    QueuedOrInFlight,
}

/// Sends checks to sessiond. Shared by all checks of one client.
pub(super) struct Coalescer {
    connections: Arc<Connections>,
    clock: Arc<dyn Clock>,
    cache: Option<Arc<Cache>>,
    runtime: runtime::Handle,
    pending: Mutex<PendingChecks>,
}

#[derive(Default)]
struct PendingChecks {
    /// The queued tokens, in the order in which they came.
    queue: VecDeque<TokenDigest>,
    queued: HashMap<TokenDigest, CoalescedCheck>,
    /// The tokens that calls in flight are about.
    in_flight: HashMap<TokenDigest, InFlight>,
    /// How many [`CallPermit`]s are held.
    permits_held: usize,
    last_call: u64,
}

/// A token that is to be checked, and the checks that wait for the result.
struct CoalescedCheck {
    token: Zeroizing<String>,
    waiters: Vec<oneshot::Sender<SharedResult>>,
}

/// A token that at least one call in flight is about.
#[derive(Default)]
struct InFlight {
    calls: usize,
    /// The call that checks may join, and those that have joined it.
    joinable: Option<u64>,
    joined: Vec<oneshot::Sender<SharedResult>>,
    /// One of these calls was answered with no, or this program ended the session: a yes that is still to come may be older.
    is_invalidated: bool,
}

impl Coalescer {
    pub(super) fn new(
        connections: Arc<Connections>,
        clock: Arc<dyn Clock>,
        cache: Option<Arc<Cache>>,
        runtime: runtime::Handle,
    ) -> Self {
        Self {
            connections,
            clock,
            cache,
            runtime,
            pending: Mutex::new(PendingChecks::default()),
        }
    }

    /// Submits the check of a well-formed token. Dropping the receiver gives the result up; the call goes on for others.
    pub(super) fn submit(
        self: &Arc<Self>,
        token: &str,
        digest: TokenDigest,
        join: JoinPolicy,
    ) -> Result<oneshot::Receiver<SharedResult>, CheckError> {
        let (waiter, result) = oneshot::channel();
        let mut pending = self.pending.lock();
        if join == JoinPolicy::QueuedOrInFlight
            && let Some(in_flight) = pending.in_flight.get_mut(&digest)
            && in_flight.joinable.is_some()
        {
            in_flight.joined.push(waiter);
            return Ok(result);
        }
        if let Some(check) = pending.queued.get_mut(&digest) {
            check.waiters.push(waiter);
            return Ok(result);
        }
        if pending.queue.len() >= MAX_QUEUED {
            return Err(CheckError::CannotTell(CannotTell::Overloaded));
        }
        pending.queue.push_back(digest);
        pending.queued.insert(
            digest,
            CoalescedCheck {
                token: Zeroizing::new(token.to_owned()),
                waiters: vec![waiter],
            },
        );
        if pending.permits_held < MAX_CALLS {
            pending.permits_held += 1;
            drop(pending);
            let permit = CallPermit {
                coalescer: Arc::clone(self),
                is_held: true,
            };
            self.runtime.spawn(permit.send_until_queue_is_empty());
        }
        Ok(result)
    }

    /// Notes that a token's session has ended: removes it from the cache, and invalidates every answer that is in flight.
    pub(super) fn invalidate(&self, token: &str) {
        let mut pending = self.pending.lock();
        if let Some(digest) = TokenDigest::of_presented(token)
            && let Some(in_flight) = pending.in_flight.get_mut(&digest)
        {
            in_flight.is_invalidated = true;
        }
        if let Some(cache) = &self.cache {
            cache.remove(token);
        }
    }

    /// Checks these tokens, at most [`MAX_BATCH_TOKENS`], although no check waits for them, and caches the answers. Returns the tokens
    /// about which nothing could be learned.
    pub(super) async fn recheck(self: &Arc<Self>, tokens: Vec<Zeroizing<String>>) -> Vec<Zeroizing<String>> {
        let checks = tokens.into_iter().filter_map(|token| {
            let waiters = Vec::new();
            Some((
                TokenDigest::of_presented(&token)?,
                CoalescedCheck { token, waiters },
            ))
        });
        let checks = checks.collect();
        let batch = self.pending.lock().start_call(self, checks);
        batch.send().await
    }
}

impl PendingChecks {
    fn start_call(
        &mut self,
        coalescer: &Arc<Coalescer>,
        checks: Vec<(TokenDigest, CoalescedCheck)>,
    ) -> Batch {
        self.last_call += 1;
        let call = self.last_call;
        for (digest, _) in &checks {
            let in_flight = self.in_flight.entry(*digest).or_default();
            in_flight.calls += 1;
            in_flight.joinable.get_or_insert(call);
        }
        Batch {
            coalescer: Arc::clone(coalescer),
            call,
            checks,
        }
    }

    /// Completes one token of a call. Returns the checks that had joined it, and whether the token is invalidated by now.
    fn complete(
        &mut self,
        digest: TokenDigest,
        call: u64,
        is_no: bool,
    ) -> (Vec<oneshot::Sender<SharedResult>>, bool) {
        let Entry::Occupied(mut entry) = self.in_flight.entry(digest) else {
            return (Vec::new(), is_no);
        };
        let in_flight = entry.get_mut();
        in_flight.is_invalidated |= is_no;
        let is_invalidated = in_flight.is_invalidated;
        let mut joined = Vec::new();
        if in_flight.joinable == Some(call) {
            in_flight.joinable = None;
            joined = std::mem::take(&mut in_flight.joined);
        }
        in_flight.calls -= 1;
        if in_flight.calls == 0 {
            entry.remove();
        }
        (joined, is_invalidated)
    }
}

/// One of the [`MAX_CALLS`], held until the queue is empty, or until its task is stopped.
struct CallPermit {
    coalescer: Arc<Coalescer>,
    is_held: bool,
}

impl CallPermit {
    async fn send_until_queue_is_empty(mut self) {
        while let Some(batch) = self.next_batch() {
            batch.send().await;
        }
    }

    /// The queued tokens, as many as one call takes. `None` if there are none: then the permit has been released.
    fn next_batch(&mut self) -> Option<Batch> {
        let mut pending = self.coalescer.pending.lock();
        let mut checks = Vec::new();
        while checks.len() < MAX_BATCH_TOKENS
            && let Some(digest) = pending.queue.pop_front()
        {
            // A check whose waiters have all given up is not sent: under overload that is most.
            if let Some(check) = pending.queued.remove(&digest)
                && !check.waiters.iter().all(oneshot::Sender::is_closed)
            {
                checks.push((digest, check));
            }
        }
        if checks.is_empty() {
            // Under the same lock as the look, or a token that is queued in between would wait for a call that is never sent.
            pending.permits_held -= 1;
            self.is_held = false;
            return None;
        }
        Some(pending.start_call(&self.coalescer, checks))
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        if self.is_held {
            self.coalescer.pending.lock().permits_held -= 1;
        }
    }
}

/// The tokens of one call, from its start to its completion.
struct Batch {
    coalescer: Arc<Coalescer>,
    call: u64,
    checks: Vec<(TokenDigest, CoalescedCheck)>,
}

impl Batch {
    /// Makes the call, caches its answers, and sends them to the waiters. Returns the tokens about which nothing could be
    /// learned.
    async fn send(mut self) -> Vec<Zeroizing<String>> {
        let cache = self.coalescer.cache.clone();
        let start = cache.as_ref().map(|cache| cache.check_start());
        let sent_at = start.map_or_else(|| self.coalescer.clock.now(), |start| start.at);
        let tokens = self.checks.iter();
        let tokens: Vec<&str> = tokens.map(|(_, check)| check.token.as_str()).collect();
        let answers = check_tokens(&self.coalescer.connections, &tokens, sent_at).await;

        let mut results = Vec::new();
        let mut unknown = Vec::new();
        let mut pending = self.coalescer.pending.lock();
        for ((digest, check), answer) in std::mem::take(&mut self.checks).into_iter().zip(answers) {
            let is_no = answer.as_ref().is_err_and(|error| *error == CheckError::Invalid);
            let (joined, is_invalidated) = pending.complete(digest, self.call, is_no);
            // Under the lock, or a no that completes in between would be overwritten by an older yes.
            let result = match answer {
                Ok(session) => Ok(SharedAnswer {
                    session,
                    is_current: !is_invalidated && insert(cache.as_deref(), &check.token, start, session),
                }),
                Err(error) => {
                    if let (true, Some(cache)) = (is_no, &cache) {
                        cache.remove(&check.token);
                    }
                    Err(error)
                }
            };
            let waiters = check.waiters.into_iter().chain(joined);
            results.extend(waiters.map(|waiter| (waiter, result)));
            if result.is_err() && !is_no {
                unknown.push(check.token);
            }
        }
        drop(pending);
        for (waiter, result) in results {
            // A waiter that has given up has dropped its receiver.
            let _ = waiter.send(result);
        }
        unknown
    }
}

/// A call whose task is stopped half-way. Its waiters get [`CannotTell::Unreachable`], since their senders are dropped.
impl Drop for Batch {
    fn drop(&mut self) {
        if self.checks.is_empty() {
            return;
        }
        let mut pending = self.coalescer.pending.lock();
        for (digest, _) in &self.checks {
            pending.complete(*digest, self.call, false);
        }
    }
}

fn insert(cache: Option<&Cache>, token: &str, start: Option<CheckStart>, session: LocalSession) -> bool {
    match (cache, start) {
        (Some(cache), Some(start)) => cache.insert(token, start, session),
        (Some(_) | None, _) => true,
    }
}
