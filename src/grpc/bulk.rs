//! Many checks in one message, each with its own result.

use crate::{
    auth::{Auth, AuthError, Checked},
    domain::FieldViolation,
    pb::{self, ErrorReason, session_check},
};
use futures_util::{Stream, StreamExt as _};
use std::pin::Pin;
use tokio::sync::watch as signal;
use tonic::{Status, Streaming};
use tracing::error;

/// Tokens in one message, at most.
const MAX_TOKENS: usize = 4096;

/// The responses of a stream of checks.
pub(super) type Checks =
    Pin<Box<dyn Stream<Item = Result<pb::StreamUserIdForSessionResponse, Status>> + Send>>;

/// Checks every token of one message. The results stand in the order of the tokens.
pub(super) async fn check_all(auth: &Auth, tokens: &[String]) -> Result<Vec<pb::SessionCheck>, AuthError> {
    if tokens.is_empty() || tokens.len() > MAX_TOKENS {
        return Err(FieldViolation::new("session_tokens", "must be 1 to 4096 tokens").into());
    }
    Ok(auth.check_many(tokens).await.into_iter().map(check).collect())
}

fn check(checked: Result<Checked, AuthError>) -> pb::SessionCheck {
    let result = match checked {
        Ok(session) => session_check::Result::Found(session.into()),
        Err(AuthError::InvalidSession) => session_check::Result::Failure(ErrorReason::InvalidSession.into()),
        Err(failure) => {
            error!(event = "store_failed", cause = %failure, "a check within a batch failed");
            session_check::Result::Failure(ErrorReason::StoreUnavailable.into())
        }
    };
    pb::SessionCheck { result: Some(result) }
}

/// Answers message by message, in order. The next message is taken when the answer before it has been: a client that does not
/// read is not read from either. Ends when the client ends, or when the server drains.
pub(super) fn check_stream(
    auth: Auth,
    requests: Streaming<pb::StreamUserIdForSessionRequest>,
    mut draining: signal::Receiver<bool>,
) -> Checks {
    let drained = async move {
        // An error means that the server is gone, which ends the stream as well.
        let _ = draining.wait_for(|is_draining| *is_draining).await;
    };
    let answers = requests.then(move |request| {
        let auth = auth.clone();
        async move {
            let pb::StreamUserIdForSessionRequest { session_tokens } = request?;
            let checks = check_all(&auth, &session_tokens).await?;
            Ok(pb::StreamUserIdForSessionResponse { checks })
        }
    });
    Box::pin(answers.take_until(drained))
}
