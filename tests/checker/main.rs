//! Histories of what clients asked and were told, and the rules that none may break.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the suite is test code, though the attribute that marks tests is on the functions that call it"
)]

mod chance;
mod history;
mod in_process;
mod judging;
mod kill_rounds;
mod lives;
mod lying_store;
mod node;
#[path = "../support/proxy.rs"]
mod proxy;
mod proxying;
mod recorder;
mod rules;
#[path = "../programs/running.rs"]
#[allow(dead_code, reason = "shared with the tests of the programs")]
mod running;
mod seeded_bugs;
mod summary;
mod workload;
