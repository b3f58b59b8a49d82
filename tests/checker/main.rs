//! Histories of calls under faults, and the rules that none may break.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "the suite is test code, though the attribute that marks tests is on the functions that call it"
)]

mod chance;
mod clocks;
mod disk_faults;
mod failover;
mod health;
mod history;
mod in_process;
mod judging;
mod kill_rounds;
mod late_touches;
mod lives;
mod lying_store;
mod nemesis;
mod node;
mod proxying;
mod recorder;
mod rules;
mod seeded_bugs;
mod shared_store;
mod store_trouble;
mod summary;
mod workload;
