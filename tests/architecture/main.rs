//! What no compiler checks: that the imports point one way, that the documents name what exists, and that the tree gives
//! away nothing of the machines it was made on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the suite is test code, though the attribute that marks tests is on the functions that call it"
)]

mod clean_tree;
mod dependencies;
mod documents;
mod imports;
mod requirements;
mod settings;
mod tree;
mod walkthroughs;
