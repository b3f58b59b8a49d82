//! The call that checks tokens, and what its response says of each.

use super::{
    check_error::{CannotTell, CheckError},
    checked_session::LocalSession,
    rpc::Connections,
};
use crate::{
    domain::Timestamp,
    error_chain::chain,
    pb::{self, auth_service_client::AuthServiceClient, session_check::Result as Checked},
};

/// Checks one token or many, at most [`MAX_BATCH_TOKENS`](crate::contract::MAX_BATCH_TOKENS), in one call. As many results as
/// tokens, in their order. `sent_at` is now or a little earlier.
pub(super) async fn check_tokens(
    connections: &Connections,
    tokens: &[&str],
    sent_at: Timestamp,
) -> Vec<Result<LocalSession, CheckError>> {
    match tokens {
        [token] => vec![check_one(connections, token, sent_at).await],
        _ => check_many(connections, tokens, sent_at).await,
    }
}

async fn check_one(
    connections: &Connections,
    token: &str,
    sent_at: Timestamp,
) -> Result<LocalSession, CheckError> {
    let message = pb::UserIdForSessionRequest {
        session_token: token.to_owned(),
    };
    let call =
        |channel, request| async move { AuthServiceClient::new(channel).user_id_for_session(request).await };
    match connections.call_idempotent(message, call).await {
        Ok(found) => LocalSession::from_pb(&found, sent_at).ok_or_else(broken_response),
        Err(status) => Err(failed(&status)),
    }
}

async fn check_many(
    connections: &Connections,
    tokens: &[&str],
    sent_at: Timestamp,
) -> Vec<Result<LocalSession, CheckError>> {
    let message = pb::BatchUserIdForSessionRequest {
        session_tokens: tokens.iter().map(|&token| token.to_owned()).collect(),
    };
    let call = |channel, request| async move {
        AuthServiceClient::new(channel)
            .batch_user_id_for_session(request)
            .await
    };
    let error = match connections.call_idempotent(message, call).await {
        Ok(response) if response.checks.len() == tokens.len() => {
            let checks = response.checks.iter();
            return checks.map(|check| result_of(check, sent_at)).collect();
        }
        // Which result belongs to which token could only be guessed.
        Ok(_) => broken_response(),
        Err(status) => match failed(&status) {
            // The contract knows no verdict on a whole batch.
            CheckError::Invalid => broken_response(),
            error @ (CheckError::CannotTell(_) | CheckError::CallerRefused) => error,
        },
    };
    vec![Err(error); tokens.len()]
}

fn result_of(check: &pb::SessionCheck, sent_at: Timestamp) -> Result<LocalSession, CheckError> {
    match &check.result {
        Some(Checked::Found(found)) => LocalSession::from_pb(found, sent_at).ok_or_else(broken_response),
        Some(Checked::Failure(reason)) => Err(match pb::ErrorReason::try_from(*reason) {
            Ok(pb::ErrorReason::InvalidSession) => CheckError::Invalid,
            Ok(_) | Err(_) => CheckError::CannotTell(CannotTell::Unreachable),
        }),
        None => Err(broken_response()),
    }
}

fn broken_response() -> CheckError {
    tracing::error!("an answer of sessiond breaks the contract");
    CheckError::CannotTell(CannotTell::BrokenAnswer)
}

fn failed(status: &tonic::Status) -> CheckError {
    let error = CheckError::from_status(status);
    match error {
        CheckError::Invalid => {}
        CheckError::CannotTell(_) => {
            tracing::debug!(code = ?status.code(), cause = %chain(status), "a check of sessions failed");
        }
        CheckError::CallerRefused => {
            tracing::error!(code = ?status.code(), "sessiond refuses to answer this program");
        }
    }
    error
}
