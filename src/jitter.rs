//! Spans of time that vary at random, so that processes which share a server do not act in step.

use std::time::Duration;

/// A pause before another attempt: between half of `pause` and all of it. Many that lost one server do not all come back at once.
pub(crate) fn retry_pause(pause: Duration) -> Duration {
    between(pause, 0.5, 1.0)
}

/// From one turn of something regular to the next: `interval`, give or take a tenth.
#[cfg(any(feature = "server", feature = "gateway"))]
pub(crate) fn interval(interval: Duration) -> Duration {
    between(interval, 0.9, 1.1)
}

/// Evenly distributed between two multiples of `span`.
fn between(span: Duration, least: f64, most: f64) -> Duration {
    // Without randomness everybody is in step, which is slow but not wrong.
    let part = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    span.mul_f64(least + (most - least) * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(1000);

    fn spread(vary: fn(Duration) -> Duration) -> (u64, u64) {
        let varied = || (0..1000).map(|_| vary(SPAN).as_secs());
        (varied().min().unwrap(), varied().max().unwrap())
    }

    #[test]
    fn a_retry_waits_between_half_of_its_pause_and_all_of_it() {
        let (least, most) = spread(retry_pause);
        assert!(
            (500..600).contains(&least) && (900..=1000).contains(&most),
            "{least} {most}"
        );
    }

    #[test]
    fn an_interval_varies_by_up_to_a_tenth() {
        let (least, most) = spread(interval);
        assert!(
            (900..920).contains(&least) && (1080..=1100).contains(&most),
            "{least} {most}"
        );
    }
}
