//! What exists for speed alone.

pub(super) mod bulk;
pub(super) mod check;
mod codec;
pub(super) mod peeked_body;
