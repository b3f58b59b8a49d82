//! Whether a service serves: for container and process supervisors.

use super::target::{at_address, connect, connectable, from_flag};
use crate::Failure;
use clap::ArgMatches;
use sessiond::config::ServiceConfig;
use std::time::Duration;
use tokio::time::timeout;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const TIMEOUT: Duration = Duration::from_secs(3);

/// Succeeds if the service says that it serves.
pub(super) async fn check(matches: &ArgMatches, config: &ServiceConfig) -> Result<(), Failure> {
    let upstream = match from_flag(matches)? {
        Some(upstream) => upstream,
        None => at_address(connectable(config.address))?,
    };
    let asked = async {
        let mut client = HealthClient::new(connect(&upstream).await?);
        let answer = client.check(HealthCheckRequest::default()).await;
        answer.map_err(|status| format!("{upstream} does not answer: {}", status.message()).into())
    };
    let answer: Result<_, Failure> = timeout(TIMEOUT, asked)
        .await
        .map_err(|_| format!("{upstream} does not answer within {} seconds", TIMEOUT.as_secs()))?;
    match answer?.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        ServingStatus::NotServing | ServingStatus::Unknown | ServingStatus::ServiceUnknown => {
            Err(format!("{upstream} is up and does not serve").into())
        }
    }
}
