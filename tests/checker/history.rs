//! The history of a run: every call with its invocation and completion. The rules judge nothing else.

use sessiond::domain::{SessionId, UserId};
use std::time::Duration;

/// A token by its number: one number for one text, also for texts that the service never issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token(pub u32);

/// One call of one client. Instants are counted from the start of the run, by one monotonic clock.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub client: usize,
    /// Which process was called.
    pub process: usize,
    pub invoked: Duration,
    pub returned: Duration,
    pub event: Event,
}

impl Operation {
    /// One line, with its place in the history.
    pub(crate) fn brief(&self, place: usize) -> String {
        let Self {
            client,
            process,
            invoked,
            returned,
            event,
        } = self;
        let event = match event {
            Event::List { user, completion } => {
                let completion = completion.clone().map(|sessions| sessions.len());
                format!("List {{ user: {user}, sessions: {completion:?} }}")
            }
            Event::Create { .. }
            | Event::Check { .. }
            | Event::Rotate { .. }
            | Event::Destroy { .. }
            | Event::EndUser { .. }
            | Event::EndEveryone { .. }
            | Event::Count { .. } => format!("{event:?}"),
        };
        format!("[{place}] client {client}, process {process}, {invoked:?} to {returned:?}: {event}")
    }
}

/// A call and its completion.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Create {
        user: UserId,
        span: Span,
        replaces: Option<Token>,
        completion: Completion<IssuedToken>,
    },
    /// `None`: a definite no.
    Check {
        token: Token,
        cache_bounds: CacheBounds,
        completion: Completion<Option<Identity>>,
    },
    Rotate {
        token: Token,
        grace: Duration,
        completion: Completion<Option<IssuedToken>>,
    },
    /// Whether there was a living session to end.
    Destroy {
        key: Key,
        completion: Completion<bool>,
    },
    /// Whatever ends all sessions of a user but one.
    EndUser {
        user: UserId,
        except: Option<SessionId>,
        completion: Completion<()>,
    },
    EndEveryone {
        completion: Completion<()>,
    },
    /// All living sessions of a user.
    List {
        user: UserId,
        completion: Completion<Vec<SessionId>>,
    },
    /// How many sessions live.
    Count {
        completion: Completion<u64>,
    },
}

/// What a client that caches answers is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CacheBounds {
    /// How long after a revocation it may still use a cached answer.
    pub staleness: Duration,
    /// How long after a use the client may report it to the service.
    pub reported_within: Duration,
}

/// What a client knows after its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Completion<T> {
    /// It was done, and this is the answer.
    Answer(T),
    /// UNAVAILABLE, DEADLINE_EXCEEDED or a broken connection: it may have happened, or happen at any time from now on.
    Unknown,
    /// It was refused for a reason that the contract names; nothing happened.
    Refused,
    /// An answer outside the contract.
    OutOfContract(String),
}

impl<T> Completion<T> {
    pub(crate) fn answer(&self) -> Option<&T> {
        match self {
            Self::Answer(answer) => Some(answer),
            Self::Unknown | Self::Refused | Self::OutOfContract(_) => None,
        }
    }

    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Completion<U> {
        match self {
            Self::Answer(answer) => Completion::Answer(change(answer)),
            Self::Unknown => Completion::Unknown,
            Self::Refused => Completion::Refused,
            Self::OutOfContract(what) => Completion::OutOfContract(what),
        }
    }

    /// Whether it may have happened.
    pub(crate) fn may_have_happened(&self) -> bool {
        match self {
            Self::Answer(_) | Self::Unknown | Self::OutOfContract(_) => true,
            Self::Refused => false,
        }
    }
}

/// A session's time-outs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub lifetime: Duration,
    pub idle: Duration,
}

/// A token as the service issued it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IssuedToken {
    pub token: Token,
    pub session: SessionId,
    pub user: UserId,
}

/// The session and user that a check names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub session: SessionId,
    pub user: UserId,
}

/// Which session to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Token(Token),
    Session(SessionId),
}
