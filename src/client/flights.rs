//! Checks that share calls: those of one token share a place, those of many tokens share a batch.
//!
//! No check is ever held back to wait for company. While few calls are under way, a check leaves at once; when [`MAX_CALLS`]
//! are, checks gather, and the next call to come back takes all of them along.
//!
//! A check may always share a call that has not left yet. It may share one that has left only while remembered answers are
//! trusted: such a call is an answer from the recent past, exactly as a remembered one.

use super::{
    answer::Answer,
    cache::{Asked, Cache},
    check_error::{CannotTell, CheckError},
    question::{MAX_TOKENS, ask},
    rpc::Connections,
};
use crate::domain::{Clock, TokenDigest};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
};
use tokio::{runtime, sync::oneshot};
use zeroize::Zeroizing;

/// Calls that may be under way before checks gather.
const MAX_CALLS: usize = 16;
/// Tokens that may wait for a call to come back. Whoever comes then is told at once that nobody can tell.
const MAX_WAITING: usize = 16 * MAX_TOKENS;

/// What a call said of one token, for each check that shared it.
pub(super) type Outcome = Result<Landed, CheckError>;

/// A positive answer, and whether it still stood when it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Landed {
    pub(super) answer: Answer,
    /// `false`: while the answer was under way, a revocation came, or another call's answer that was no.
    pub(super) stands: bool,
}

/// Which calls a check may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// Only calls that start after the check.
    NotYetSent,
    /// Also calls that have started.
    AlsoSent,
}

/// Asks sessiond. Shared by all checks of one client.
pub(super) struct Flights {
    connections: Arc<Connections>,
    clock: Arc<dyn Clock>,
    cache: Option<Arc<Cache>>,
    runtime: runtime::Handle,
    ground: Mutex<Ground>,
}

#[derive(Default)]
struct Ground {
    /// Tokens that wait, in the order in which they came.
    order: VecDeque<TokenDigest>,
    waiting: HashMap<TokenDigest, Passenger>,
    /// Tokens that calls are under way about.
    flying: HashMap<TokenDigest, Flying>,
    /// Seats that are taken.
    seats: usize,
    last_call: u64,
}

struct Passenger {
    token: Zeroizing<String>,
    askers: Vec<oneshot::Sender<Outcome>>,
}

/// A token that calls are under way about.
#[derive(Default)]
struct Flying {
    calls: usize,
    /// The call that checks may join, and those that did.
    joinable: Option<u64>,
    joined: Vec<oneshot::Sender<Outcome>>,
    /// One of these calls came back with a no, or the session was ended by this program: a yes that comes may be from before.
    is_refused: bool,
}

impl Flights {
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
            ground: Mutex::new(Ground::default()),
        }
    }

    /// Has sessiond asked about a well-formed token. Dropping the receiver gives the answer up; the call goes on for others.
    pub(super) fn board(
        self: &Arc<Self>,
        token: &str,
        digest: TokenDigest,
        share: Share,
    ) -> Result<oneshot::Receiver<Outcome>, CheckError> {
        let (asker, outcome) = oneshot::channel();
        let mut ground = self.ground.lock();
        if share == Share::AlsoSent
            && let Some(flying) = ground.flying.get_mut(&digest)
            && flying.joinable.is_some()
        {
            flying.joined.push(asker);
            return Ok(outcome);
        }
        if let Some(passenger) = ground.waiting.get_mut(&digest) {
            passenger.askers.push(asker);
            return Ok(outcome);
        }
        if ground.order.len() >= MAX_WAITING {
            return Err(CheckError::CannotTell(CannotTell::Overloaded));
        }
        ground.order.push_back(digest);
        ground.waiting.insert(
            digest,
            Passenger {
                token: Zeroizing::new(token.to_owned()),
                askers: vec![asker],
            },
        );
        if ground.seats < MAX_CALLS {
            ground.seats += 1;
            drop(ground);
            let seat = Seat {
                flights: Arc::clone(self),
                is_taken: true,
            };
            self.runtime.spawn(seat.fly_while_anyone_waits());
        }
        Ok(outcome)
    }

    /// Learns from elsewhere that a token's session has ended: forgets it, and believes no yes that is under way.
    pub(super) fn refuse(&self, token: &str) {
        let mut ground = self.ground.lock();
        if let Some(digest) = TokenDigest::of_presented(token)
            && let Some(flying) = ground.flying.get_mut(&digest)
        {
            flying.is_refused = true;
        }
        if let Some(cache) = &self.cache {
            cache.forget(token);
        }
    }

    /// Asks about these tokens, at most [`MAX_TOKENS`], although nobody waits for the answers, and remembers them. Gives back
    /// the tokens of which nothing could be learned.
    pub(super) async fn ask_again(
        self: &Arc<Self>,
        tokens: Vec<Zeroizing<String>>,
    ) -> Vec<Zeroizing<String>> {
        let passengers = tokens.into_iter().filter_map(|token| {
            let askers = Vec::new();
            Some((TokenDigest::of_presented(&token)?, Passenger { token, askers }))
        });
        let passengers = passengers.collect();
        let party = self.ground.lock().take_off(self, passengers);
        party.fly().await
    }
}

impl Ground {
    fn take_off(&mut self, flights: &Arc<Flights>, passengers: Vec<(TokenDigest, Passenger)>) -> Party {
        self.last_call += 1;
        let call = self.last_call;
        for (digest, _) in &passengers {
            let flying = self.flying.entry(*digest).or_default();
            flying.calls += 1;
            flying.joinable.get_or_insert(call);
        }
        Party {
            flights: Arc::clone(flights),
            call,
            passengers,
        }
    }

    /// Takes a token's call down. Gives the checks that joined it; `is_refused` if any call about the token said no.
    fn land(
        &mut self,
        digest: TokenDigest,
        call: u64,
        said_no: bool,
    ) -> (Vec<oneshot::Sender<Outcome>>, bool) {
        let Entry::Occupied(mut flying) = self.flying.entry(digest) else {
            return (Vec::new(), said_no);
        };
        let about = flying.get_mut();
        about.is_refused |= said_no;
        let is_refused = about.is_refused;
        let mut joined = Vec::new();
        if about.joinable == Some(call) {
            about.joinable = None;
            joined = std::mem::take(&mut about.joined);
        }
        about.calls -= 1;
        if about.calls == 0 {
            flying.remove();
        }
        (joined, is_refused)
    }
}

/// One of the [`MAX_CALLS`], taken until nobody waits, or until its task is stopped.
struct Seat {
    flights: Arc<Flights>,
    is_taken: bool,
}

impl Seat {
    async fn fly_while_anyone_waits(mut self) {
        while let Some(party) = self.gather() {
            party.fly().await;
        }
    }

    /// The tokens that wait, as many as a call takes. `None` if there are none: then the seat has been given back.
    fn gather(&mut self) -> Option<Party> {
        let mut ground = self.flights.ground.lock();
        let mut passengers = Vec::new();
        while passengers.len() < MAX_TOKENS
            && let Some(digest) = ground.order.pop_front()
        {
            // Whoever has given up needs no answer: under overload that is most.
            if let Some(passenger) = ground.waiting.remove(&digest)
                && !passenger.askers.iter().all(oneshot::Sender::is_closed)
            {
                passengers.push((digest, passenger));
            }
        }
        if passengers.is_empty() {
            // Under the same lock as the look, or a token that comes in between would wait for a call that never leaves.
            ground.seats -= 1;
            self.is_taken = false;
            return None;
        }
        Some(ground.take_off(&self.flights, passengers))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.is_taken {
            self.flights.ground.lock().seats -= 1;
        }
    }
}

/// The tokens of one call, from its start to its end.
struct Party {
    flights: Arc<Flights>,
    call: u64,
    passengers: Vec<(TokenDigest, Passenger)>,
}

impl Party {
    /// Makes the call, remembers what it says, and tells whoever waits for it. Gives back the tokens of which nothing could be
    /// learned.
    async fn fly(mut self) -> Vec<Zeroizing<String>> {
        let cache = self.flights.cache.clone();
        let asked = cache.as_ref().map(|cache| cache.about_to_ask());
        let asked_at = asked.map_or_else(|| self.flights.clock.now(), |asked| asked.at);
        let tokens = self.passengers.iter();
        let tokens: Vec<&str> = tokens.map(|(_, passenger)| passenger.token.as_str()).collect();
        let answers = ask(&self.flights.connections, &tokens, asked_at).await;

        let mut told = Vec::new();
        let mut unknown = Vec::new();
        let mut ground = self.flights.ground.lock();
        for ((digest, passenger), answer) in std::mem::take(&mut self.passengers).into_iter().zip(answers) {
            let said_no = answer.as_ref().is_err_and(|error| *error == CheckError::Invalid);
            let (joined, is_refused) = ground.land(digest, self.call, said_no);
            // Under the lock, or a no that lands in between would be forgotten for an older yes.
            let outcome = match answer {
                Ok(answer) => Ok(Landed {
                    answer,
                    stands: !is_refused && remember(cache.as_deref(), &passenger.token, asked, answer),
                }),
                Err(error) => {
                    if let (true, Some(cache)) = (said_no, &cache) {
                        cache.forget(&passenger.token);
                    }
                    Err(error)
                }
            };
            told.extend(
                passenger
                    .askers
                    .into_iter()
                    .chain(joined)
                    .map(|asker| (asker, outcome)),
            );
            if outcome.is_err() && !said_no {
                unknown.push(passenger.token);
            }
        }
        drop(ground);
        for (asker, outcome) in told {
            // Whoever has given up does not hear it.
            let _ = asker.send(outcome);
        }
        unknown
    }
}

/// A call whose task is stopped half-way. Its checks hear that nobody can tell, since their senders are dropped.
impl Drop for Party {
    fn drop(&mut self) {
        if self.passengers.is_empty() {
            return;
        }
        let mut ground = self.flights.ground.lock();
        for (digest, _) in &self.passengers {
            ground.land(*digest, self.call, false);
        }
    }
}

fn remember(cache: Option<&Cache>, token: &str, asked: Option<Asked>, answer: Answer) -> bool {
    match (cache, asked) {
        (Some(cache), Some(asked)) => cache.remember(token, asked, answer),
        (Some(_) | None, _) => true,
    }
}
