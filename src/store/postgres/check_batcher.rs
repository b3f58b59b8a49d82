//! Checks in batches: one statement for each batch.

use super::{
    rows,
    server_error::ServerError,
    shared_connections::{CheckConnections, THREAD_LIMIT},
};
use crate::{
    domain::{LiveSession, TokenDigest},
    store::batcher::{BatchServer, Batcher},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Asks the server what is stored under a digest, whether or not it has expired.
pub(super) type CheckBatcher = Batcher<CheckServer>;

pub(super) struct CheckServer {
    pub(super) checks: Arc<CheckConnections>,
    pub(super) call_timeout: Duration,
}

impl CheckServer {
    /// As many tasks as there are shared connections, and one for each thread that has one of its own.
    pub(super) fn batcher(self, connections: u16) -> CheckBatcher {
        Batcher::start(Arc::new(self), connections.into(), THREAD_LIMIT)
    }
}

impl BatchServer for CheckServer {
    type Question = TokenDigest;
    type Answer = Option<LiveSession>;
    type Error = Arc<ServerError>;

    async fn ask(&self, digests: &[TokenDigest]) -> Result<Vec<Self::Answer>, Self::Error> {
        let connection = self.checks.connection()?;
        let (client, statements) = (&connection.client, &connection.statements);
        let asking = async {
            if let [digest] = digests {
                let found = client
                    .query_opt(&statements.check, &[&digest.as_bytes().as_slice()])
                    .await?;
                return Ok(vec![found.as_ref().map(rows::live).transpose()?]);
            }
            let bytes: Vec<&[u8]> = digests.iter().map(|digest| &digest.as_bytes()[..]).collect();
            let mut answers = vec![None; digests.len()];
            for row in client.query(&statements.check_many, &[&bytes]).await? {
                let (number, live) = rows::live_and_number(&row)?;
                let place = number.checked_sub(1).and_then(|number| answers.get_mut(number));
                *place.ok_or(ServerError::Unreadable("number"))? = Some(live);
            }
            Ok(answers)
        };
        let deadline = Instant::now() + self.call_timeout;
        Ok(connection.answer_by(deadline, asking).await?)
    }

    fn refusal(_: &'static str) -> Self::Error {
        Arc::new(ServerError::NotConnected)
    }
}
