//! Histories of what clients asked and were told, and the rules that none may break.
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
#[path = "../support/postgres.rs"]
mod postgres_server;
#[path = "../support/proxy.rs"]
mod proxy;
mod proxying;
mod recorder;
#[path = "../support/redis.rs"]
#[allow(unreachable_pub, reason = "it is a module of its own elsewhere")]
mod redis_server;
mod rules;
#[path = "../programs/running.rs"]
#[allow(dead_code, reason = "shared with the tests of the programs")]
mod running;
mod seeded_bugs;
mod shared_store;
mod store_trouble;
mod summary;
mod wall_clock;
mod workload;
