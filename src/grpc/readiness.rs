//! The health service: serving while the stores answer, not serving while they do not or while the server drains.

use crate::{
    auth::Auth,
    contract::{AUTH_SERVICE, LOG_IN_HEALTH, USER_SERVICE},
    error_chain::chain,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch as signal,
    time::{MissedTickBehavior, interval, timeout},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{error, info};

/// How often the stores are pinged, and how long they may take to answer.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The names under which health is reported: the server as a whole, and each service.
const SERVICES: [&str; 3] = ["", AUTH_SERVICE, USER_SERVICE];

/// Whether the server serves.
#[derive(Clone)]
pub(super) struct Lifecycle {
    health: HealthReporter,
    draining: Arc<signal::Sender<bool>>,
}

impl Lifecycle {
    pub(super) fn new(health: HealthReporter, draining: signal::Sender<bool>) -> Self {
        Self {
            health,
            draining: Arc::new(draining),
        }
    }

    /// Asks the stores again and again and reports what they say, until the server drains.
    pub(super) async fn follow(self, auth: Auth) {
        let mut probes = interval(PROBE_INTERVAL);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut draining = self.draining.subscribe();
        let mut was_ready = None;
        let mut was_full = false;
        loop {
            tokio::select! {
                _ = probes.tick() => {}
                _ = draining.wait_for(|is_draining| *is_draining) => return,
            }
            let answer = timeout(PROBE_INTERVAL, auth.ping()).await;
            let is_ready = matches!(answer, Ok(Ok(())));
            let is_full = auth.is_store_full();
            if !*self.draining.borrow() {
                let status = serving_if(is_ready && !is_full);
                self.health.set_service_status(LOG_IN_HEALTH, status).await;
            }
            if is_ready && is_full != was_full {
                was_full = is_full;
                match is_full {
                    true => error!(
                        event = "store_full",
                        "the session store has no room: nobody can log in"
                    ),
                    false => info!(event = "store_has_room", "the session store has room again"),
                }
            }
            if was_ready.replace(is_ready) == Some(is_ready) || *self.draining.borrow() {
                continue;
            }
            match answer {
                Ok(Ok(())) => info!(event = "store_answers", "the store answers: serving"),
                Ok(Err(failure)) => {
                    error!(event = "store_silent", cause = %chain(&failure), "the store does not answer: not serving");
                }
                Err(_) => error!(event = "store_silent", cause = "no answer in time", "not serving"),
            }
            self.report(serving_if(is_ready)).await;
        }
    }

    pub(super) async fn drain(&self) {
        self.draining.send_replace(true);
        self.report(ServingStatus::NotServing).await;
        self.health
            .set_service_status(LOG_IN_HEALTH, ServingStatus::NotServing)
            .await;
    }

    async fn report(&self, status: ServingStatus) {
        for service in SERVICES {
            self.health.set_service_status(service, status).await;
        }
    }
}

fn serving_if(serves: bool) -> ServingStatus {
    match serves {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    }
}
