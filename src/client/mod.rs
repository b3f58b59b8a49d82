//! For services that check sessions: connection, coherent cache, tower layer.
//!
//! [`SessionClient::check`] answers whose session a token proves. Answers are remembered, and a remembered answer is given only
//! while sessiond's stream of revocations is known to be alive: a log-out is seen within milliseconds, and at the latest after
//! [`ClientOptions::staleness_bound`], whatever the network does. [`RequireSession`] puts the check in front of a service.
//!
//! The path of a check: the cache (`cache` over `seqlock_table`), the calls that checks share (`coalescer`), the connections
//! (`rpc`). Beside it run the stream of revocations (`revocation_stream`) and the report of what was used (`activity_report`).

mod activity_report;
mod cache;
mod check_call;
mod check_error;
mod checked_session;
mod coalescer;
mod guard;
mod revocation_stream;
mod revocation_versions;
mod rpc;
mod seqlock;
#[cfg(test)]
mod seqlock_model;
mod seqlock_table;
mod session_client;

pub use check_error::{CannotTell, CheckError};
pub use checked_session::CheckedSession;
pub use guard::{GuardBody, InvalidPathPattern, RequireSession, SessionGuard};
pub use rpc::{AuthService, CallerCredential, InvalidCredential, UserService};
#[cfg(feature = "gateway")]
pub(crate) use rpc::{Connections, with_transport_settings};
pub use session_client::{ClientOptions, SessionClient, StartError};

/// What `seqlock` is made of; `seqlock_model` makes it of loom's instead.
mod sync {
    pub(super) use std::{
        hint::spin_loop,
        sync::atomic::{AtomicU64, Ordering, fence},
    };
}
