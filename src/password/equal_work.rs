//! Equal work: a log-in that fails costs one hash at the current cost, whatever is stored, so that its time tells nothing (S-60).
//!
//! bcrypt's work doubles with each cost, so what a hash of a lower cost leaves of the current one is exactly the sum of the costs
//! from its own up to the one before the current: 12 = 10 + 10 + 11. For other schemes the processor time that they took is
//! converted into bcrypt rounds at the speed that bcrypt shows on the same thread in the same moment.

use rustix::time::{ClockId, clock_gettime};
use std::{hint::black_box, time::Duration};

/// bcrypt's lowest cost: the smallest piece of work.
const MIN_COST: u32 = 4;

/// One hash of the given cost, of nothing, for nothing.
pub(super) fn burn(cost: u32) {
    // As long as what our own scheme gives to bcrypt.
    let input = [b'-'; 65];
    black_box(bcrypt::bcrypt(
        black_box(cost),
        black_box([0x5a; 16]),
        black_box(&input),
    ));
}

/// What a bcrypt hash of cost `done` leaves of one of cost `target`. Nothing if it was more.
pub(super) fn costs_left_after(done: u32, target: u32) -> impl Iterator<Item = u32> {
    done..target
}

/// Burns what `spent` processor time leaves of one hash of cost `target`. Nothing if it was more.
pub(super) fn burn_rest_of(spent: Duration, target: u32) {
    spend_rest_of(spent, target, |cost| {
        let started = thread_time();
        burn(cost);
        thread_time().saturating_sub(started)
    });
}

/// As [`burn_rest_of`], by a function that burns one hash of a cost and says how long it took.
fn spend_rest_of(spent: Duration, target: u32, mut burn: impl FnMut(u32) -> Duration) {
    let whole = rounds(target);
    let mut burnt = 0.0;
    let mut burning = Duration::ZERO;
    // A small piece first, to learn bcrypt's speed; each later piece sharpens it.
    let mut piece = Some(target.saturating_sub(5).max(MIN_COST));
    while let Some(cost) = piece {
        burning += burn(cost);
        burnt += rounds(cost);
        let speed = burnt / burning.as_secs_f64().max(f64::MIN_POSITIVE);
        piece = largest_piece_in(whole - burnt - spent.as_secs_f64() * speed);
    }
}

/// The cost whose rounds are the most that fit.
fn largest_piece_in(left: f64) -> Option<u32> {
    (MIN_COST..=31).take_while(|cost| rounds(*cost) <= left).last()
}

fn rounds(cost: u32) -> f64 {
    f64::from(1_u32.checked_shl(cost).unwrap_or(u32::MAX))
}

/// The processor time that this thread has used.
pub(super) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(secs, nanos)
}

/// What one hash of this cost takes here, by the best of a few of a lower cost.
pub(super) fn time_of_one(cost: u32) -> Duration {
    const MEASURED: u32 = 7;
    let time = || {
        let started = thread_time();
        burn(MEASURED);
        thread_time().saturating_sub(started)
    };
    let best = (0..3).map(|_| time()).min().unwrap_or_default();
    match cost.checked_sub(MEASURED) {
        Some(steps) => best.saturating_mul(1_u32.checked_shl(steps).unwrap_or(u32::MAX)),
        None => best,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_60_a_lower_cost_is_made_up_for_to_the_round() {
        for target in 10..=16 {
            for done in 4..=target {
                let rest: f64 = costs_left_after(done, target).map(rounds).sum();
                assert_eq!(rounds(done) + rest, rounds(target), "{done} of {target}");
            }
        }
        assert_eq!(costs_left_after(13, 12).count(), 0);
    }

    #[test]
    fn s_60_another_scheme_is_made_up_for_to_a_hundredth() {
        for target in [10, 12, 14] {
            for nanos_a_round in [20_000, 57_000, 200_000] {
                let of = |rounds: f64| Duration::from_nanos(nanos_a_round).mul_f64(rounds);
                for percent in [0, 1, 8, 30, 50, 77, 90] {
                    let spent = of(rounds(target)) * percent / 100;
                    let mut total = spent;
                    spend_rest_of(spent, target, |cost| {
                        total += of(rounds(cost));
                        of(rounds(cost))
                    });
                    let share = total.as_secs_f64() / of(rounds(target)).as_secs_f64();
                    assert!(
                        share <= 1.0 && share > 0.98,
                        "{share} at cost {target}, {percent} %"
                    );
                }
            }
        }
    }

    #[test]
    fn s_60_what_took_longer_is_not_made_longer_still() {
        let mut burnt = Vec::new();
        spend_rest_of(Duration::from_secs(9), 12, |cost| {
            burnt.push(cost);
            Duration::from_millis(7)
        });
        assert_eq!(burnt, [7]);
    }

    #[test]
    fn s_49_the_time_of_a_hash_doubles_with_its_cost() {
        let of_ten = time_of_one(10);
        assert!(
            of_ten > Duration::from_millis(5) && of_ten < Duration::from_secs(5),
            "{of_ten:?}"
        );
        let started = thread_time();
        burn(10);
        let measured = thread_time() - started;
        assert!(
            measured > of_ten / 3 && measured < of_ten * 3,
            "{measured:?} for {of_ten:?}"
        );
    }
}
