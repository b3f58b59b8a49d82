//! The calls to sessiond: each under a deadline, each with the id of the request that it is made for.

use super::{
    problem::{Problem, ProblemKind},
    request_context::RequestContext,
    status_mapping::problem_of,
};
use crate::{
    contract::{REQUEST_ID, reason_name, reason_of},
    pb::{self, auth_service_client::AuthServiceClient, user_service_client::UserServiceClient},
};
use std::{error::Error as _, sync::Arc, time::Duration};
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{
    Request, Response, Status,
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
/// a word is noticed within 15 s, also while nothing is asked of it.
pub fn connect(endpoint: Endpoint) -> Channel {
    endpoint
        .connect_timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .connect_lazy()
}

/// sessiond, as the gateway sees it. Clones share one connection.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    auth: AuthServiceClient<Channel>,
    users: UserServiceClient<Channel>,
    health: HealthClient<Channel>,
    call_timeout: Duration,
    hashing_calls: Arc<Semaphore>,
}

macro_rules! rpcs {
    ($($service:ident: $rpc:ident($request:ident) -> $response:ident $(, $hashes:ident)?;)*) => {$(
        pub(super) async fn $rpc(&self, context: &RequestContext, message: pb::$request) -> Result<pb::$response, Problem> {
            $(let _permit = self.$hashes()?;)?
            let mut client = self.$service.clone();
            let request = self.request(context, message);
            self.answer(context, stringify!($rpc), client.$rpc(request)).await
        }
    )*};
}

/// Every call fails with the problem that the service's answer, or its silence, amounts to.
impl Upstream {
    pub(super) fn new(channel: Channel, call_timeout: Duration) -> Self {
        Self {
            auth: AuthServiceClient::new(channel.clone()),
            users: UserServiceClient::new(channel.clone()),
            health: HealthClient::new(channel),
            call_timeout,
            hashing_calls: Arc::new(Semaphore::new(HASHING_CALLS)),
        }
    }

    rpcs! {
        auth: create_session(CreateSessionRequest) -> CreateSessionResponse, hashing_permit;
        auth: current_user(CurrentUserRequest) -> CurrentUserResponse;
        auth: destroy_session(DestroySessionRequest) -> DestroySessionResponse;
        auth: list_sessions(ListSessionsRequest) -> ListSessionsResponse;
        auth: revoke_sessions(RevokeSessionsRequest) -> RevokeSessionsResponse;
        auth: get_stats(GetStatsRequest) -> GetStatsResponse;
        users: create_user(CreateUserRequest) -> CreateUserResponse, hashing_permit;
        users: get_user(GetUserRequest) -> GetUserResponse;
        users: list_users(ListUsersRequest) -> ListUsersResponse;
        users: update_user(UpdateUserRequest) -> UpdateUserResponse;
        users: delete_user(DeleteUserRequest) -> DeleteUserResponse;
        users: change_password(ChangePasswordRequest) -> ChangePasswordResponse, hashing_permit;
    }

    /// Succeeds while the service says that it can serve, which it says while its store answers.
    pub(super) async fn check_health(&self, context: &RequestContext) -> Result<(), Problem> {
        let mut client = self.health.clone();
        let request = self.request(context, HealthCheckRequest::default());
        let health = self
            .answer(context, "health_check", client.check(request))
            .await?;
        match health.status() {
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

    fn request<T>(&self, context: &RequestContext, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.call_timeout);
        let name = AsciiMetadataKey::from_bytes(REQUEST_ID.as_str().as_bytes());
        if let (Ok(name), Ok(id)) = (name, context.request_id.as_str().parse()) {
            request.metadata_mut().insert(name, id);
        }
        request
    }

    async fn answer<T>(
        &self,
        context: &RequestContext,
        rpc: &'static str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Problem> {
        // The service is told the deadline too, but a service that hangs does not keep it.
        let status = match tokio::time::timeout(self.call_timeout, call).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded("no answer in time"),
        };
        let problem = problem_of(&status);
        log(context, rpc, &status, problem.kind());
        Err(problem)
    }
}

/// Failures that are not the user's are logged here, with their cause, and nowhere else.
fn log(context: &RequestContext, rpc: &'static str, status: &Status, kind: ProblemKind) {
    let request_id = context.request_id.as_str();
    let code = status.code();
    let reason = reason_of(status).map(reason_name);
    let message = status.message();
    let cause = status.source().map(tracing::field::display);
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
    } else if matches!(kind, ProblemKind::Unavailable | ProblemKind::TimedOut) {
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
