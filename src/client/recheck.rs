//! The report of what was used: a use of a remembered answer is activity, too, so its token is checked again, in batches.

use super::{
    cache::Cache,
    check_error::CheckError,
    flights::{Flights, MAX_BATCH},
};
use std::{sync::Arc, time::Duration};
use tokio::{
    task::yield_now,
    time::{MissedTickBehavior, interval},
};
use zeroize::Zeroizing;

/// After so many sets of the table, other tasks get a turn: well under a millisecond.
const SETS_AT_ONCE: usize = 512;

/// Reports at this interval until the task is stopped. What was not used is not asked for, and lapses.
pub(super) async fn run(cache: Arc<Cache>, flights: Arc<Flights>, every: Duration) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut used = Vec::new();
    loop {
        ticks.tick().await;
        for set in 0..cache.set_count() {
            cache.sweep_set(set, &mut used);
            // A set holds eight.
            if used.len() + 8 > MAX_BATCH {
                report(&cache, &flights, &mut used).await;
            }
            if set % SETS_AT_ONCE == SETS_AT_ONCE - 1 {
                yield_now().await;
            }
        }
        report(&cache, &flights, &mut used).await;
    }
}

async fn report(cache: &Cache, flights: &Flights, used: &mut Vec<Zeroizing<String>>) {
    if used.is_empty() {
        return;
    }
    let tokens: Vec<&str> = used.iter().map(|token| token.as_str()).collect();
    let outcomes = flights.ask(&tokens).await;
    for (token, outcome) in tokens.iter().zip(outcomes) {
        match outcome {
            Ok(_) | Err(CheckError::Invalid) => {}
            // The use has not been heard of: it is reported with the next.
            Err(CheckError::CannotTell(_) | CheckError::CallerRefused) => cache.mark_used(token),
        }
    }
    used.clear();
}
