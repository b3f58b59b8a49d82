//! Reports the use of cached answers to sessiond: such a use is activity, too, so its token is checked again, in batches.

use super::{cache::Cache, coalescer::Coalescer, seqlock_table::WAYS};
use crate::contract::MAX_BATCH_TOKENS;
use std::{sync::Arc, time::Duration};
use tokio::{
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval_at},
};
use zeroize::Zeroizing;

/// After so many sets of the table, other tasks get a turn: well under a millisecond.
const SETS_AT_ONCE: usize = 512;

/// Reports at this interval until the task is stopped. What was not used is not checked again, and expires.
pub(super) async fn run(cache: Arc<Cache>, coalescer: Arc<Coalescer>, every: Duration) {
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut used = Vec::new();
    loop {
        ticks.tick().await;
        for set in 0..cache.set_count() {
            cache.sweep_set(set, &mut used);
            if used.len() + WAYS > MAX_BATCH_TOKENS {
                report(&cache, &coalescer, &mut used).await;
            }
            if set % SETS_AT_ONCE == SETS_AT_ONCE - 1 {
                yield_now().await;
            }
        }
        report(&cache, &coalescer, &mut used).await;
    }
}

async fn report(cache: &Cache, coalescer: &Arc<Coalescer>, used: &mut Vec<Zeroizing<String>>) {
    if used.is_empty() {
        return;
    }
    for unreported in coalescer.recheck(std::mem::take(used)).await {
        // It is reported with the next.
        cache.set_used(&unreported);
    }
}
