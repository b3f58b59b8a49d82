//! Password hashing behind a bounded pool, the schemes it knows, and the rules for new passwords.
