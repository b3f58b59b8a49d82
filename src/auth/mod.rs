//! The use cases: log in, check, log out, rotate, revoke, manage users.
