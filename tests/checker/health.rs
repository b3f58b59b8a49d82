//! What the standard health service says of a process.

use std::time::{Duration, Instant};
use testkit::waiting::PATIENCE;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// What it says now; `None` if it says nothing in time.
pub(crate) async fn is_serving(channel: &Channel) -> Option<bool> {
    let mut client = HealthClient::new(channel.clone());
    let asked = tokio::time::timeout(
        Duration::from_secs(1),
        client.check(HealthCheckRequest::default()),
    );
    let status = asked.await.ok()?.ok()?.into_inner().status();
    Some(status == ServingStatus::Serving)
}

/// Waits until it says so, and says how long that took.
pub(crate) async fn becomes_serving(channel: &Channel, wanted: bool) -> Duration {
    let asked_at = Instant::now();
    while is_serving(channel).await != Some(wanted) {
        assert!(asked_at.elapsed() < PATIENCE, "it never says serving = {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    asked_at.elapsed()
}
