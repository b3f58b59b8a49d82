//! Many checks in one message, each with its own result.

use super::status::BatchErrors;
use crate::{
    auth::{Auth, AuthError, Checked},
    contract::{BATCH_USER_ID_FOR_SESSION, MAX_BATCH_TOKENS, STREAM_USER_ID_FOR_SESSION},
    domain::FieldViolation,
    pb::{self, ErrorReason, session_check},
};
use futures_util::{Stream, StreamExt as _};
use std::{future::Future, pin::Pin};
use tokio::sync::watch as signal;
use tonic::{Status, Streaming};

/// Whether this is one of the methods with many tokens.
pub(super) fn is_path(path: &str) -> bool {
    matches!(path, BATCH_USER_ID_FOR_SESSION | STREAM_USER_ID_FOR_SESSION)
}

/// What the check of one token comes to.
pub(super) type Check = Result<Checked, ErrorReason>;

/// Responses, one for each message of a stream.
pub(super) type Responses<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

/// The responses of a stream of checks.
pub(super) type Checks = Responses<pb::StreamUserIdForSessionResponse>;

/// Checks every token of one message. The results stand in the order of the tokens.
pub(super) async fn check_all<T: AsRef<[u8]>>(auth: &Auth, tokens: &[T]) -> Result<Vec<Check>, AuthError> {
    if tokens.is_empty() || tokens.len() > MAX_BATCH_TOKENS {
        let rule = format!("must be 1 to {MAX_BATCH_TOKENS} tokens");
        return Err(FieldViolation::new("session_tokens", rule).into());
    }
    let mut errors = BatchErrors::default();
    let conclude = |outcome: Result<Checked, AuthError>| outcome.map_err(|error| errors.reason_of(error));
    let checks = auth.check_many(tokens, conclude).await;
    errors.log();
    Ok(checks)
}

/// The message for the generated code.
pub(super) fn wire(check: Check) -> pb::SessionCheck {
    let result = match check {
        Ok(checked) => session_check::Result::Found(checked.into()),
        Err(reason) => session_check::Result::Failure(reason.into()),
    };
    pb::SessionCheck { result: Some(result) }
}

/// [`in_order`] for the generated code.
pub(super) fn check_stream(
    auth: Auth,
    requests: Streaming<pb::StreamUserIdForSessionRequest>,
    draining: signal::Receiver<bool>,
) -> Checks {
    in_order(requests, draining, move |request| {
        let auth = auth.clone();
        async move {
            let checks = check_all(&auth, &request.session_tokens).await?;
            let checks = checks.into_iter().map(wire).collect();
            Ok(pb::StreamUserIdForSessionResponse { checks })
        }
    })
}

/// Answers message by message, in order. The next message is taken when the answer before it has been: a client that does not
/// read is not read from either. Ends when the client ends, or when the server drains.
pub(super) fn in_order<Q, A, F>(
    requests: Streaming<Q>,
    mut draining: signal::Receiver<bool>,
    mut answer: impl FnMut(Q) -> F + Send + 'static,
) -> Responses<A>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: Future<Output = Result<A, Status>> + Send + 'static,
{
    let drained = async move {
        // An error means that the server is gone, which ends the stream as well.
        let _ = draining.wait_for(|is_draining| *is_draining).await;
    };
    let answers = requests.then(move |request| {
        let answered = request.map(&mut answer);
        async move { answered?.await }
    });
    Box::pin(answers.take_until(drained))
}
