//! What both ends of the contract must agree on, beside the messages themselves: names, limits, and how errors, headers and
//! cookies are read. The server, the client and the gateway import it; none of them says any of it again.
//!
//! `proto/auth/v1/auth.proto` is the reference. Tests here hold the methods and limits against it.

mod authorization;
mod convert;
mod error;
mod headers;
mod limits;
mod methods;
mod request_id;
mod session_cookie;

pub use authorization::{BEARER, bearer, credentials};
pub use convert::{auth_method, timestamp, wire_duration};
pub use error::{CallFailure, ERROR_DOMAIN, error_details, reason_name, reason_of};
pub use headers::{GRPC_TIMEOUT, REQUEST_ID, SESSION_TOKEN, is_grpc};
pub use limits::{
    HEARTBEAT_INTERVAL, MAX_BATCH_BYTES, MAX_BATCH_TOKENS, MAX_MESSAGE_BYTES, PageSize, SESSIONS_PAGE,
    USERS_PAGE,
};
pub use methods::{
    AUTH_SERVICE, BATCH_USER_ID_FOR_SESSION, LOG_IN_HEALTH, STREAM_USER_ID_FOR_SESSION, USER_ID_FOR_SESSION,
    USER_SERVICE, WATCH_REVOCATIONS, is_of_auth_service, is_streaming, user_field,
};
pub use request_id::RequestId;
pub use session_cookie::cookie_values;
