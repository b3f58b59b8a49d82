//! How a test waits: for an event, and with a bound that only a failure reaches.

use std::{
    future::Future,
    net::TcpListener,
    time::{Duration, Instant},
};

/// Longer than anything here may take on a busy machine; no test waits for it unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long to do something else before asking again.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks again until the answer is there.
///
/// # Panics
/// If it is not there within [`PATIENCE`].
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let asked_at = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(asked_at.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(PAUSE);
    }
}

/// Asks again until the answer is there, for at most `bound`.
///
/// # Panics
/// If it is not there by then.
pub async fn within<T>(bound: Duration, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked_at = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(asked_at.elapsed() < bound, "{what}: not within {bound:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until something has happened.
///
/// # Panics
/// If it has not within [`PATIENCE`].
pub async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    within(PATIENCE, what, async || happened().then_some(())).await;
}

/// What a future comes to.
///
/// # Panics
/// If it takes longer than [`PATIENCE`].
pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it takes too long")
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
