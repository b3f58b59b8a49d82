//! The client: a cheap handle over connections, remembered answers and the tasks beside them.

use super::{
    activity_report,
    cache::Cache,
    check_error::{CannotTell, CheckError},
    checked_session::CheckedSession,
    coalescer::{Coalescer, JoinPolicy, SharedAnswer},
    revocation_stream::RevocationStream,
    rpc::{AuthService, CallerCredential, Connections, UserService, with_transport_settings},
};
use crate::{
    contract::HEARTBEAT_INTERVAL,
    domain::{Clock, NoRandomness, Revocation, SystemClock, TokenDigest},
    pb::{DestroySessionRequest, auth_service_client::AuthServiceClient, destroy_session_request::Session},
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::{runtime, task::AbortHandle, time::timeout};
use tonic::{Status, transport::Endpoint};

/// Settings of a [`SessionClient`]. What is out of range is brought to the nearest end of it.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// What this program proves itself to sessiond with.
    pub credential: CallerCredential,
    /// How long a check may take, repetitions included. At most an hour; 2 s.
    pub deadline: Duration,
    /// Connections for calls, taken in turn; the stream of revocations has one more. At least 1; 2.
    pub connections: usize,
    /// How many answers are remembered; their memory, 136 bytes each, is taken at the start. 0: none, every check goes to
    /// sessiond, and revocations are not followed. At most 2^27; 100,000.
    pub max_entries: usize,
    /// How old the knowledge of what has been revoked may be while remembered answers are given. In quiet a revocation is
    /// received within milliseconds; this is for a network that delays. At least the second in which sessiond sends a heartbeat; 2 s.
    pub staleness_bound: Duration,
    /// How often the sessions that were used from memory are reported to sessiond as active. An answer is remembered until
    /// twice this before its session would end, so that no use is reported too late. 100 ms to 10 s; 5 s.
    pub recheck_interval: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            credential: CallerCredential::default(),
            deadline: Duration::from_secs(2),
            connections: 2,
            max_entries: 100_000,
            staleness_bound: Duration::from_secs(2),
            recheck_interval: Duration::from_secs(5),
        }
    }
}

/// Why a client cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It was started outside a tokio runtime.
    #[error("a session client is started inside a tokio runtime")]
    NoRuntime,
    /// See [`NoRandomness`].
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// Checks sessions. Cheap to clone: all clones share connections and remembered answers, and when the last one is dropped, its
/// tasks end and its tokens are wiped.
///
/// # How fresh an answer is
/// A check that goes to sessiond is as fresh as sessiond's own: what was revoked before the check began is refused. A remembered
/// answer may miss what was revoked within the last [`ClientOptions::staleness_bound`], and does miss only what is still on
/// its way: a revocation is applied as soon as the network brings it, and invalidates the answers that are in flight. When
/// nothing has been received for that long, every check goes to sessiond again.
///
/// "No" is never remembered: a session that has just been created is never refused for a check that came too early.
#[derive(Clone)]
pub struct SessionClient(Arc<ClientInner>);

struct ClientInner {
    connections: Arc<Connections>,
    clock: Arc<dyn Clock>,
    cache: Option<Arc<Cache>>,
    coalescer: Arc<Coalescer>,
    tasks: Vec<AbortHandle>,
}

impl Drop for ClientInner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl SessionClient {
    /// A client of the sessiond at this endpoint, which carries the address and TLS. Connects when it is first used.
    ///
    /// # Errors
    /// [`StartError`] outside a tokio runtime, or without random bytes.
    pub fn start(endpoint: Endpoint, options: ClientOptions) -> Result<Self, StartError> {
        Self::start_with_clock(
            endpoint,
            options,
            Arc::new(SystemClock::starting_at_wall_time(None)),
        )
    }

    /// [`SessionClient::start`] with a clock of the caller's, for tests. What the clock says only matters by how it moves.
    ///
    /// # Errors
    /// As [`SessionClient::start`].
    pub fn start_with_clock(
        endpoint: Endpoint,
        options: ClientOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let runtime = runtime::Handle::try_current().map_err(|_| StartError::NoRuntime)?;
        let endpoint = with_transport_settings(endpoint);
        let recheck_interval = options
            .recheck_interval
            .clamp(Duration::from_millis(100), Duration::from_secs(10));
        let connections = Arc::new(Connections::lazy(
            &endpoint,
            options.connections,
            options.credential.clone(),
            options.deadline.min(Duration::from_secs(3600)),
        ));
        let cache = match options.max_entries {
            0 => None,
            entries => Some(Arc::new(Cache::new(
                Arc::clone(&clock),
                entries.min(1 << 27),
                recheck_interval * 2,
            )?)),
        };
        let coalescer = Arc::new(Coalescer::new(
            Arc::clone(&connections),
            Arc::clone(&clock),
            cache.clone(),
            runtime.clone(),
        ));
        let mut tasks = Vec::new();
        if let Some(cache) = &cache {
            let bound = options.staleness_bound.max(2 * HEARTBEAT_INTERVAL);
            let revocations = RevocationStream::new(Arc::clone(cache), endpoint, options.credential, bound);
            let report = activity_report::run(Arc::clone(cache), Arc::clone(&coalescer), recheck_interval);
            tasks.push(runtime.spawn(revocations.run()).abort_handle());
            tasks.push(runtime.spawn(report).abort_handle());
        }
        Ok(Self(Arc::new(ClientInner {
            connections,
            clock,
            cache,
            coalescer,
            tasks,
        })))
    }

    /// Whose session the token proves. Counts as activity of the session.
    ///
    /// May be dropped at any time; a call that others share goes on for them.
    ///
    /// # Errors
    /// [`CheckError::Invalid`] is a definite no. All others say nothing about the session.
    pub async fn check(&self, token: &str) -> Result<CheckedSession, CheckError> {
        if let Some(session) = self.try_cached(token) {
            return Ok(session);
        }
        let digest = TokenDigest::of_presented(token).ok_or(CheckError::Invalid)?;
        match timeout(self.0.connections.deadline(), self.check_remotely(token, digest)).await {
            Ok(Ok(answer)) => Ok(answer.session.at(self.0.clock.now())),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(CheckError::CannotTell(CannotTell::DeadlinePassed)),
        }
    }

    /// [`SessionClient::check`] from memory alone: does not wait and does not allocate. `None` says nothing about the session.
    #[must_use]
    pub fn try_cached(&self, token: &str) -> Option<CheckedSession> {
        self.0.cache.as_ref()?.get(token)
    }

    async fn check_remotely(&self, token: &str, digest: TokenDigest) -> Result<SharedAnswer, CheckError> {
        let join = match &self.0.cache {
            Some(cache) if cache.is_trusted(cache.now()) => JoinPolicy::QueuedOrInFlight,
            Some(_) | None => JoinPolicy::Queued,
        };
        let answer = self.submit_once(token, digest, join).await?;
        if answer.is_current {
            return Ok(answer);
        }
        // A revocation came while the call was in flight. The next call is sent after it, so its answer need not be current:
        // it is what sessiond says of a check that begins now.
        self.submit_once(token, digest, JoinPolicy::Queued).await
    }

    async fn submit_once(
        &self,
        token: &str,
        digest: TokenDigest,
        join: JoinPolicy,
    ) -> Result<SharedAnswer, CheckError> {
        let result = self.0.coalescer.submit(token, digest, join)?.await;
        result.unwrap_or(Err(CheckError::CannotTell(CannotTell::Unreachable)))
    }

    /// Ends the session that the token proves, and says whether there was one. Idempotent, and repeated as checks are. Whatever
    /// it returns, this client no longer remembers the token.
    ///
    /// # Errors
    /// What sessiond said last. UNAVAILABLE and DEADLINE_EXCEEDED: the session may have ended or not.
    pub async fn destroy_session(&self, token: &str) -> Result<bool, Status> {
        let message = DestroySessionRequest {
            session: Some(Session::SessionToken(token.to_owned())),
        };
        let call =
            |channel, request| async move { AuthServiceClient::new(channel).destroy_session(request).await };
        let destroyed = self.0.connections.call_idempotent(message, call).await;
        self.forget_token(token);
        Ok(destroyed?.existed)
    }

    /// Forgets what is remembered of the token, and answers about it that are in flight: for a program that has just ended or
    /// rotated its session by a call of its own, and does not want to wait until the stream of revocations tells it.
    pub fn forget_token(&self, token: &str) {
        self.0.coalescer.invalidate(token);
    }

    /// [`SessionClient::forget_token`] for sessions that are not known by token.
    pub fn forget(&self, revocation: Revocation) {
        if let Some(cache) = &self.0.cache {
            cache.revoke(revocation);
        }
    }

    /// Whether remembered answers are given now.
    #[must_use]
    pub fn is_cache_live(&self) -> bool {
        let cache = self.0.cache.as_ref();
        cache.is_some_and(|cache| cache.is_trusted(cache.now()))
    }

    /// Waits until remembered answers are given; forever, if none are to be. Cancel-safe.
    pub async fn cache_live(&self) {
        match &self.0.cache {
            Some(cache) => {
                // The sender lives as long as this client.
                let _ = cache.live().wait_for(|live| *live).await;
            }
            None => std::future::pending().await,
        }
    }

    /// All other calls about sessions. Not repeated and without a deadline unless the request carries one.
    #[must_use]
    pub fn auth_service(&self) -> AuthService {
        self.0.connections.auth_service()
    }

    /// All calls about users. Not repeated and without a deadline unless the request carries one.
    #[must_use]
    pub fn user_service(&self) -> UserService {
        self.0.connections.user_service()
    }
}

impl fmt::Debug for SessionClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionClient").finish_non_exhaustive()
    }
}
