//! The routes, one file per resource.

pub(super) mod auth_session;
pub(super) mod me;
pub(super) mod sessions;
pub(super) mod status;
pub(super) mod users;
