//! The report of what was used: a use of a remembered answer is activity, too, so its token is checked again, in batches.

use super::{cache::Cache, flights::Flights, question::MAX_TOKENS};
use std::{sync::Arc, time::Duration};
use tokio::{
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval_at},
};
use zeroize::Zeroizing;

/// After so many sets of the table, other tasks get a turn: well under a millisecond.
const SETS_AT_ONCE: usize = 512;

/// Reports at this interval until the task is stopped. What was not used is not asked for, and lapses.
pub(super) async fn run(cache: Arc<Cache>, flights: Arc<Flights>, every: Duration) {
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut used = Vec::new();
    loop {
        ticks.tick().await;
        for set in 0..cache.set_count() {
            cache.sweep_set(set, &mut used);
            // A set holds eight.
            if used.len() + 8 > MAX_TOKENS {
                report(&cache, &flights, &mut used).await;
            }
            if set % SETS_AT_ONCE == SETS_AT_ONCE - 1 {
                yield_now().await;
            }
        }
        report(&cache, &flights, &mut used).await;
    }
}

async fn report(cache: &Cache, flights: &Arc<Flights>, used: &mut Vec<Zeroizing<String>>) {
    if used.is_empty() {
        return;
    }
    for unreported in flights.ask_again(std::mem::take(used)).await {
        // It is reported with the next.
        cache.mark_used(&unreported);
    }
}
