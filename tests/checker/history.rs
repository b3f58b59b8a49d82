//! What clients asked and what they were told: the only thing that the rules judge.

use sessiond::domain::{SessionId, UserId};
use std::time::Duration;

/// A token by its number: one number for one text, also for texts that nobody was ever given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token(pub u32);

/// One call of one client. Instants are counted from the start of the run, by one monotonic clock.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub client: usize,
    /// Which process was asked.
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
            Event::List { user, told } => {
                let told = told.clone().map(|sessions| sessions.len());
                format!("List {{ user: {user}, sessions: {told:?} }}")
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

/// What was asked, and what came of it.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Create {
        user: UserId,
        span: Span,
        replaces: Option<Token>,
        told: Told<Born>,
    },
    /// `None`: a definite no.
    Check {
        token: Token,
        memory: Memory,
        told: Told<Option<Named>>,
    },
    Rotate {
        token: Token,
        grace: Duration,
        told: Told<Option<Born>>,
    },
    /// Whether there was a living session to end.
    Destroy {
        key: Key,
        told: Told<bool>,
    },
    /// Whatever ends all sessions of a user but one.
    EndUser {
        user: UserId,
        except: Option<SessionId>,
        told: Told<()>,
    },
    EndEveryone {
        told: Told<()>,
    },
    /// All living sessions of a user.
    List {
        user: UserId,
        told: Told<Vec<SessionId>>,
    },
    /// How many sessions live.
    Count {
        told: Told<u64>,
    },
}

/// What a client that remembers answers is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Memory {
    /// How long after a revocation it may go on to believe what it remembers.
    pub staleness: Duration,
    /// How long after a use the service may hear of it.
    pub reported_within: Duration,
}

/// What a client knows after its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told<T> {
    /// It was done, and this is the answer.
    Answer(T),
    /// UNAVAILABLE, DEADLINE_EXCEEDED or a broken connection: it may have happened, or happen at any time from now on.
    Unknown,
    /// It was refused for a reason that the contract names; nothing happened.
    Refused,
    /// What the contract never says.
    Nonsense(String),
}

impl<T> Told<T> {
    pub(crate) fn answer(&self) -> Option<&T> {
        match self {
            Self::Answer(answer) => Some(answer),
            Self::Unknown | Self::Refused | Self::Nonsense(_) => None,
        }
    }

    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Told<U> {
        match self {
            Self::Answer(answer) => Told::Answer(change(answer)),
            Self::Unknown => Told::Unknown,
            Self::Refused => Told::Refused,
            Self::Nonsense(what) => Told::Nonsense(what),
        }
    }

    /// Whether it may have happened.
    pub(crate) fn may_have_happened(&self) -> bool {
        match self {
            Self::Answer(_) | Self::Unknown | Self::Nonsense(_) => true,
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

/// A token as it was given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Born {
    pub token: Token,
    pub session: SessionId,
    pub user: UserId,
}

/// Whom a check names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    pub session: SessionId,
    pub user: UserId,
}

/// Which session to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Token(Token),
    Session(SessionId),
}
