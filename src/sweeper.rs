//! Frees the space of sessions that have ended.
