//! For services that check sessions: connection, coherent cache, tower layer.
//!
//! [`SessionClient::check`] answers whose session a token proves. Answers are remembered, and a remembered answer is given only
//! while sessiond's stream of revocations is known to be alive: a log-out is seen within milliseconds, and at the latest after
//! [`ClientOptions::staleness_bound`], whatever the network does. [`RequireSession`] puts the check in front of a service.
//!
//! The path of a check: the remembered answers (`cache`), the calls that checks share (`flights`), the connections (`rpc`).
//! Beside it run the stream of revocations (`watch`) and the report of what was used (`recheck`).

mod answer;
mod cache;
mod check_error;
mod flights;
mod guard;
mod marks;
mod question;
mod recheck;
mod rpc;
mod session_client;
mod table;
mod watch;

pub use answer::CheckedSession;
pub use check_error::{CannotTell, CheckError};
pub use guard::{GuardBody, InvalidPathPattern, RequireSession, SessionGuard};
pub use rpc::{AuthService, CallerCredential, InvalidCredential, UserService};
pub use session_client::{ClientOptions, SessionClient, StartError};
