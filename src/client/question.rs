//! The call that asks sessiond about tokens, and what its answer says of each.

use super::{
    answer::Answer,
    check_error::{CannotTell, CheckError},
    rpc::{AuthService, Connections},
};
use crate::{
    domain::Timestamp,
    pb::{self, session_check::Result as Checked},
};

/// Tokens in one call, at most, as the contract allows.
pub(super) const MAX_TOKENS: usize = 4096;

/// Asks about one token or many, at most [`MAX_TOKENS`], in one call. As many results as tokens, in their order. `asked_at` is
/// now or a little earlier.
pub(super) async fn ask(
    connections: &Connections,
    tokens: &[&str],
    asked_at: Timestamp,
) -> Vec<Result<Answer, CheckError>> {
    match tokens {
        [token] => vec![ask_one(connections, token, asked_at).await],
        _ => ask_many(connections, tokens, asked_at).await,
    }
}

async fn ask_one(connections: &Connections, token: &str, asked_at: Timestamp) -> Result<Answer, CheckError> {
    let message = pb::UserIdForSessionRequest {
        session_token: token.to_owned(),
    };
    let call = |mut service: AuthService, request| async move { service.user_id_for_session(request).await };
    match connections.call_idempotent(message, call).await {
        Ok(found) => Answer::from_pb(&found, asked_at).ok_or_else(broken_answer),
        Err(status) => Err(failed(&status)),
    }
}

async fn ask_many(
    connections: &Connections,
    tokens: &[&str],
    asked_at: Timestamp,
) -> Vec<Result<Answer, CheckError>> {
    let message = pb::BatchUserIdForSessionRequest {
        session_tokens: tokens.iter().map(|&token| token.to_owned()).collect(),
    };
    let call =
        |mut service: AuthService, request| async move { service.batch_user_id_for_session(request).await };
    let error = match connections.call_idempotent(message, call).await {
        Ok(response) if response.checks.len() == tokens.len() => {
            let checks = response.checks.iter();
            return checks.map(|check| answer_of(check, asked_at)).collect();
        }
        // Which answer is whose could only be guessed.
        Ok(_) => broken_answer(),
        Err(status) => match failed(&status) {
            // The contract knows no verdict on a whole batch.
            CheckError::Invalid => broken_answer(),
            error @ (CheckError::CannotTell(_) | CheckError::CallerRefused) => error,
        },
    };
    vec![Err(error); tokens.len()]
}

fn answer_of(check: &pb::SessionCheck, asked_at: Timestamp) -> Result<Answer, CheckError> {
    match &check.result {
        Some(Checked::Found(found)) => Answer::from_pb(found, asked_at).ok_or_else(broken_answer),
        Some(Checked::Failure(reason)) => Err(match pb::ErrorReason::try_from(*reason) {
            Ok(pb::ErrorReason::InvalidSession) => CheckError::Invalid,
            Ok(_) | Err(_) => CheckError::CannotTell(CannotTell::Unreachable),
        }),
        None => Err(broken_answer()),
    }
}

fn broken_answer() -> CheckError {
    tracing::error!("an answer of sessiond breaks the contract");
    CheckError::CannotTell(CannotTell::BrokenAnswer)
}

fn failed(status: &tonic::Status) -> CheckError {
    let error = CheckError::from_status(status);
    match error {
        CheckError::Invalid => {}
        CheckError::CannotTell(_) => {
            tracing::debug!(code = ?status.code(), reason = %error, "a check of sessions failed");
        }
        CheckError::CallerRefused => {
            tracing::error!(code = ?status.code(), "sessiond refuses to answer this program");
        }
    }
    error
}
