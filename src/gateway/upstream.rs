//! The calls to sessiond: each under a deadline, each with the id of the request that it is made for.

use super::{
    problem::{Problem, ProblemKind},
    request_context::RequestContext,
    status_mapping::problem_of,
};
use crate::{
    client::{CallerCredential, Connections, with_transport_settings},
    contract::{REQUEST_ID, reason_name, reason_of},
    error_chain::chain,
    pb::{self, auth_service_client::AuthServiceClient, user_service_client::UserServiceClient},
};
use std::{error::Error as _, sync::Arc, time::Duration};
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{
    Request, Status,
    metadata::AsciiMetadataKey,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// Calls that wait for a password to be hashed, at most. The service takes 256 calls at once on a connection: log-ins, however many,
/// leave room for session checks.
const HASHING_CALLS: usize = 128;

/// A connection to the service that is made when it is first needed and made again when it breaks. A service that is gone without
/// a word is noticed within seconds, also while nothing is asked of it.
pub fn connect(endpoint: Endpoint) -> Channel {
    with_transport_settings(endpoint).connect_lazy()
}

/// sessiond, as the gateway sees it. Clones share one connection.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    connections: Arc<Connections>,
    hashing_calls: Arc<Semaphore>,
}

/// How a call is made: `once`, or `idempotent` and then repeated, or once and only while a password may be `hashing`.
macro_rules! rpcs {
    ($($client:ident: $how:ident $rpc:ident($request:ident) -> $response:ident;)*) => {$(
        pub(super) async fn $rpc(&self, context: &RequestContext, message: pb::$request) -> Result<pb::$response, Problem> {
            let request = with_id(context, message);
            let call = |channel, request| async move { $client::new(channel).$rpc(request).await };
            rpcs!(@$how self, context, stringify!($rpc), request, call)
        }
    )*};
    (@once $self:ident, $context:ident, $name:expr, $request:ident, $call:ident) => {
        or_problem($context, $name, $self.connections.call_once($request, $call).await)
    };
    (@idempotent $self:ident, $context:ident, $name:expr, $request:ident, $call:ident) => {
        or_problem($context, $name, $self.connections.call_idempotent($request, $call).await)
    };
    (@hashing $self:ident, $context:ident, $name:expr, $request:ident, $call:ident) => {{
        let _permit = $self.hashing_permit()?;
        rpcs!(@once $self, $context, $name, $request, $call)
    }};
}

/// Every call fails with the problem that the service's answer, or its silence, amounts to.
impl Upstream {
    pub(super) fn new(channel: Channel, call_timeout: Duration) -> Self {
        // The service authenticates no callers.
        let connections = Connections::over([channel], CallerCredential::default(), call_timeout);
        Self {
            connections: Arc::new(connections),
            hashing_calls: Arc::new(Semaphore::new(HASHING_CALLS)),
        }
    }

    rpcs! {
        AuthServiceClient: hashing create_session(CreateSessionRequest) -> CreateSessionResponse;
        AuthServiceClient: idempotent current_user(CurrentUserRequest) -> CurrentUserResponse;
        AuthServiceClient: idempotent destroy_session(DestroySessionRequest) -> DestroySessionResponse;
        AuthServiceClient: idempotent list_sessions(ListSessionsRequest) -> ListSessionsResponse;
        AuthServiceClient: once revoke_sessions(RevokeSessionsRequest) -> RevokeSessionsResponse;
        AuthServiceClient: idempotent get_stats(GetStatsRequest) -> GetStatsResponse;
        UserServiceClient: hashing create_user(CreateUserRequest) -> CreateUserResponse;
        UserServiceClient: idempotent get_user(GetUserRequest) -> GetUserResponse;
        UserServiceClient: idempotent list_users(ListUsersRequest) -> ListUsersResponse;
        UserServiceClient: once update_user(UpdateUserRequest) -> UpdateUserResponse;
        UserServiceClient: once delete_user(DeleteUserRequest) -> DeleteUserResponse;
        UserServiceClient: hashing change_password(ChangePasswordRequest) -> ChangePasswordResponse;
    }

    /// Succeeds while the service says that it can serve, which it says while its store answers.
    pub(super) async fn check_health(&self, context: &RequestContext) -> Result<(), Problem> {
        let request = with_id(context, HealthCheckRequest::default());
        let call = |channel, request| async move { HealthClient::new(channel).check(request).await };
        let health = self.connections.call_once(request, call).await;
        match or_problem(context, "health_check", health)?.status() {
            ServingStatus::Serving => Ok(()),
            ServingStatus::NotServing | ServingStatus::Unknown | ServingStatus::ServiceUnknown => {
                Err(ProblemKind::Unavailable.into())
            }
        }
    }

    /// # Errors
    /// [`ProblemKind::TooMany`], at once, while too many passwords are being hashed for this gateway.
    fn hashing_permit(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let busy = |_| Problem::from(ProblemKind::TooMany).retry_after(Some(Duration::from_secs(1)));
        self.hashing_calls.try_acquire().map_err(busy)
    }
}

/// The call with the id of the request that it is made for.
fn with_id<T>(context: &RequestContext, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let name = AsciiMetadataKey::from_bytes(REQUEST_ID.as_str().as_bytes());
    if let (Ok(name), Ok(id)) = (name, context.request_id.as_str().parse()) {
        request.metadata_mut().insert(name, id);
    }
    request
}

fn or_problem<T>(
    context: &RequestContext,
    rpc: &'static str,
    outcome: Result<T, Status>,
) -> Result<T, Problem> {
    outcome.map_err(|status| {
        let problem = problem_of(&status);
        log(context, rpc, &status, problem.kind());
        problem
    })
}

/// Failures that are not the user's are logged here, with their cause, and nowhere else.
fn log(context: &RequestContext, rpc: &'static str, status: &Status, kind: ProblemKind) {
    let request_id = context.request_id.as_str();
    let code = status.code();
    let reason = reason_of(status).map(reason_name);
    let message = status.message();
    let cause = status
        .source()
        .map(|source| tracing::field::display(chain(source)));
    if matches!(kind, ProblemKind::ServiceFailed | ProblemKind::GatewayForbidden) {
        tracing::error!(
            request_id,
            rpc,
            ?code,
            reason,
            message,
            cause,
            "the session service refused or failed"
        );
    } else if matches!(
        kind,
        ProblemKind::Unavailable | ProblemKind::TimedOut | ProblemKind::ChangePending
    ) {
        tracing::warn!(
            request_id,
            rpc,
            ?code,
            reason,
            message,
            cause,
            "the session service cannot tell"
        );
    }
}
