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
    rpc::Connections,
};
use crate::{
    domain::{Clock, Timestamp, TokenDigest},
    pb,
};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};
use tokio::{runtime, sync::oneshot};
use zeroize::Zeroizing;

/// Calls that may be under way before checks gather.
const MAX_CALLS: usize = 16;
/// Tokens in a batch, as the contract allows.
pub(super) const MAX_BATCH: usize = 4096;
/// Tokens that may wait for a call to come back. Whoever comes then is told at once that nobody can tell.
const MAX_WAITING: usize = 16 * MAX_BATCH;

/// What a call said of one token, for each check that shared it.
pub(super) type Outcome = Result<Landed, CheckError>;

/// A positive answer, and whether it still stood when it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Landed {
    pub(super) answer: Answer,
    /// `false`: a revocation came while the answer was under way.
    pub(super) stands: bool,
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
    /// Tokens that are under way, with the checks that joined since. A token that is under way twice is here once.
    flying: HashMap<TokenDigest, Flying>,
    calls: usize,
    last_call: u64,
}

struct Passenger {
    token: Zeroizing<String>,
    askers: Vec<oneshot::Sender<Outcome>>,
}

struct Flying {
    call: u64,
    joined: Vec<oneshot::Sender<Outcome>>,
}

/// A call's worth of tokens.
struct Party {
    call: u64,
    passengers: Vec<(TokenDigest, Passenger)>,
}

/// Which calls a check may share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Share {
    /// Only calls that start after the check.
    NotYetSent,
    /// Also calls that have started.
    AlsoSent,
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
        if ground.calls < MAX_CALLS {
            ground.calls += 1;
            drop(ground);
            let mut seat = Seat {
                flights: Arc::clone(self),
                call: None,
            };
            self.runtime.spawn(async move {
                while let Some(party) = seat.gather() {
                    seat.flights.fly(party).await;
                }
            });
        }
        Ok(outcome)
    }

    async fn fly(&self, party: Party) {
        let tokens: Vec<&str> = party
            .passengers
            .iter()
            .map(|(_, passenger)| passenger.token.as_str())
            .collect();
        let outcomes = self.ask(&tokens).await;
        let mut answers: Vec<(oneshot::Sender<Outcome>, Outcome)> = Vec::new();
        let mut ground = self.ground.lock();
        for ((digest, passenger), outcome) in party.passengers.into_iter().zip(outcomes) {
            if ground
                .flying
                .get(&digest)
                .is_some_and(|flying| flying.call == party.call)
                && let Some(flying) = ground.flying.remove(&digest)
            {
                answers.extend(flying.joined.into_iter().map(|asker| (asker, outcome)));
            }
            answers.extend(passenger.askers.into_iter().map(|asker| (asker, outcome)));
        }
        drop(ground);
        for (asker, outcome) in answers {
            // Whoever has given up does not hear it.
            let _ = asker.send(outcome);
        }
    }

    /// Asks about so many tokens in one call, at most [`MAX_BATCH`], and remembers what it says. As many outcomes as tokens.
    pub(super) async fn ask(&self, tokens: &[&str]) -> Vec<Outcome> {
        let asked = self.cache.as_ref().map(|cache| cache.about_to_ask());
        let asked_at = asked.map_or_else(|| self.clock.now(), |asked| asked.at);
        let answers = match tokens {
            [token] => vec![self.ask_one(token, asked_at).await],
            _ => self.ask_many(tokens, asked_at).await,
        };
        let landed = tokens.iter().zip(answers);
        landed
            .map(|(token, answer)| self.land(token, asked, answer))
            .collect()
    }

    fn land(&self, token: &str, asked: Option<Asked>, answer: Result<Answer, CheckError>) -> Outcome {
        let (Some(cache), Some(asked)) = (&self.cache, asked) else {
            return answer.map(|answer| Landed { answer, stands: true });
        };
        match answer {
            Ok(answer) => Ok(Landed {
                answer,
                stands: cache.remember(token, asked, answer),
            }),
            Err(error) => {
                if error == CheckError::Invalid {
                    cache.forget(token);
                }
                Err(error)
            }
        }
    }

    async fn ask_one(&self, token: &str, asked_at: Timestamp) -> Result<Answer, CheckError> {
        let message = pb::UserIdForSessionRequest {
            session_token: token.to_owned(),
        };
        let call = |mut service: super::rpc::AuthService, request| async move {
            service.user_id_for_session(request).await
        };
        let found = self.connections.call_idempotent(message, call).await;
        let found = found.map_err(|status| error_of(&status))?;
        Answer::from_pb(&found, asked_at).ok_or_else(broken_answer)
    }

    async fn ask_many(&self, tokens: &[&str], asked_at: Timestamp) -> Vec<Result<Answer, CheckError>> {
        let message = pb::BatchUserIdForSessionRequest {
            session_tokens: tokens.iter().map(|&token| token.to_owned()).collect(),
        };
        let call = |mut service: super::rpc::AuthService, request| async move {
            service.batch_user_id_for_session(request).await
        };
        match self.connections.call_idempotent(message, call).await {
            Ok(response) if response.checks.len() == tokens.len() => {
                let checks = response.checks.iter();
                checks.map(|check| answer_of(check, asked_at)).collect()
            }
            // Which answer is whose could only be guessed.
            Ok(_) => vec![Err(broken_answer()); tokens.len()],
            Err(status) => match error_of(&status) {
                // That a batch has one verdict for all is not in the contract.
                CheckError::Invalid => vec![Err(broken_answer()); tokens.len()],
                error @ (CheckError::CannotTell(_) | CheckError::CallerRefused) => {
                    vec![Err(error); tokens.len()]
                }
            },
        }
    }
}

fn answer_of(check: &pb::SessionCheck, asked_at: Timestamp) -> Result<Answer, CheckError> {
    match &check.result {
        Some(pb::session_check::Result::Found(found)) => {
            Answer::from_pb(found, asked_at).ok_or_else(broken_answer)
        }
        Some(pb::session_check::Result::Failure(reason)) => Err(match pb::ErrorReason::try_from(*reason) {
            Ok(pb::ErrorReason::InvalidSession) => CheckError::Invalid,
            Ok(_) | Err(_) => CheckError::CannotTell(CannotTell::Unreachable),
        }),
        None => Err(broken_answer()),
    }
}

fn broken_answer() -> CheckError {
    tracing::error!("an answer of sessiond breaks the contract");
    CheckError::CannotTell(CannotTell::BrokenAnswer)
}

fn error_of(status: &tonic::Status) -> CheckError {
    let error = CheckError::from_status(status);
    match error {
        CheckError::Invalid => {}
        CheckError::CannotTell(_) => {
            tracing::debug!(code = ?status.code(), reason = %error, "a check of sessions failed");
        }
        CheckError::CallerRefused => {
            tracing::error!(code = ?status.code(), "sessiond refuses to answer this program");
        }
    }
    error
}

/// One of the [`MAX_CALLS`], from its start until nobody waits; given back also when its task is stopped half-way.
struct Seat {
    flights: Arc<Flights>,
    /// The number of the call under way; `None` before the first.
    call: Option<u64>,
}

impl Seat {
    /// The tokens that wait, as many as a call takes. `None` if there are none: then the seat has been given back.
    fn gather(&mut self) -> Option<Party> {
        let mut ground = self.flights.ground.lock();
        let ground = &mut *ground;
        ground.last_call += 1;
        let call = ground.last_call;
        let mut passengers = Vec::new();
        while passengers.len() < MAX_BATCH
            && let Some(digest) = ground.order.pop_front()
        {
            let Some(passenger) = ground.waiting.remove(&digest) else {
                continue;
            };
            // Whoever has given up needs no answer: under overload that is most.
            if passenger.askers.iter().all(oneshot::Sender::is_closed) {
                continue;
            }
            ground.flying.entry(digest).or_insert_with(|| Flying {
                call,
                joined: Vec::new(),
            });
            passengers.push((digest, passenger));
        }
        if passengers.is_empty() {
            // Under the same lock as the look, or a token that comes in between would wait for a call that never leaves.
            ground.calls -= 1;
            self.call = None;
            return None;
        }
        self.call = Some(call);
        Some(Party { call, passengers })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            let mut ground = self.flights.ground.lock();
            ground.calls -= 1;
            ground.flying.retain(|_, flying| flying.call != call);
        }
    }
}
