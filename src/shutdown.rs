//! The order to stop, and which stage the stop has reached.

use std::io;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// The stage of the stop. It never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    Draining,
    Immediate,
}

/// A trigger, and the view of it that everything that has to stop holds.
#[must_use]
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(Stage::Running);
    (Trigger(sender), Shutdown(receiver))
}

/// Orders the stop.
#[derive(Debug)]
pub struct Trigger(watch::Sender<Stage>);

impl Trigger {
    /// Asks everyone to take nothing new and to finish what is open.
    pub fn drain(&self) {
        self.advance(Stage::Draining);
    }

    /// Asks everyone to drop what is open.
    pub fn stop_now(&self) {
        self.advance(Stage::Immediate);
    }

    /// Drains at the first SIGTERM or SIGINT and stops at once at the second. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// If the signals cannot be listened to.
    pub fn follow_signals(self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            for stage in [Stage::Draining, Stage::Immediate] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                match stage {
                    Stage::Running | Stage::Draining => tracing::info!("asked to stop: draining"),
                    Stage::Immediate => tracing::warn!("asked again: stopping at once"),
                }
                self.advance(stage);
            }
            // Keeps the sender alive for as long as anybody watches it.
            self.0.closed().await;
        });
        Ok(())
    }

    fn advance(&self, to: Stage) {
        self.0.send_if_modified(|stage| {
            let is_further = to > *stage;
            *stage = to.max(*stage);
            is_further
        });
    }
}

/// The view of a [`Trigger`]. While the trigger is untouched, or if it is dropped untouched, nothing stops.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Stage>);

impl Shutdown {
    /// Whether the stop has been ordered.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.0.borrow() >= Stage::Draining
    }

    /// Waits until the stop is ordered. Cancel-safe.
    pub async fn draining(&mut self) {
        self.reached(Stage::Draining).await;
    }

    /// Waits until the stop can wait no longer. Cancel-safe.
    pub async fn immediate(&mut self) {
        self.reached(Stage::Immediate).await;
    }

    async fn reached(&mut self, wanted: Stage) {
        if self.0.wait_for(|stage| *stage >= wanted).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn a_stop_goes_on_and_never_back() {
        let (trigger, mut shutdown) = channel();
        assert!(!shutdown.is_draining());
        trigger.stop_now();
        trigger.drain();
        assert!(shutdown.is_draining());
        assert!(shutdown.immediate().now_or_never().is_some());
    }

    #[test]
    fn without_an_order_nothing_stops() {
        let (trigger, mut shutdown) = channel();
        drop(trigger);
        assert!(shutdown.draining().now_or_never().is_none());
    }
}
