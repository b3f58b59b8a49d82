//! Calls to sessiond: connections, deadlines, this program's credential, and retries of what may be repeated.

use crate::{
    contract, jitter,
    pb::{auth_service_client::AuthServiceClient, user_service_client::UserServiceClient},
};
use http::header::AUTHORIZATION;
use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{
    Code, Extensions, IntoRequest, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

/// The generated client of the service of sessions, with this program's credential.
pub type AuthService = AuthServiceClient<CallerChannel>;
/// The generated client of the service of users, with this program's credential.
pub type UserService = UserServiceClient<CallerChannel>;

/// A first attempt and two more.
const ATTEMPTS: u32 = 3;
/// A repetition waits up to this long, and up to twice as long the second time.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// A connection that answers no ping for so long is given up.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What this program proves itself to sessiond with: an API key, sent as `authorization: Bearer …` with every call, or nothing
/// (a client certificate is a matter of the [`Endpoint`]). `Debug` does not show it.
#[derive(Clone, Default)]
pub struct CallerCredential(Option<MetadataValue<Ascii>>);

/// The API key has bytes that cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an API key is visible ASCII")]
pub struct InvalidCredential;

impl CallerCredential {
    /// An API key.
    ///
    /// # Errors
    /// [`InvalidCredential`] if it is empty or is not visible ASCII.
    pub fn api_key(key: &str) -> Result<Self, InvalidCredential> {
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidCredential);
        }
        let mut value: MetadataValue<Ascii> = contract::bearer(key).parse().map_err(|_| InvalidCredential)?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }
}

impl fmt::Debug for CallerCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerCredential(..)")
    }
}

impl Interceptor for CallerCredential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert(AUTHORIZATION.as_str(), value.clone());
        }
        Ok(request)
    }
}

/// A connection whose calls carry this program's credential.
pub(crate) type CallerChannel = InterceptedService<Channel, CallerCredential>;

/// Connections to sessiond, taken in turn.
#[derive(Debug)]
pub(crate) struct Connections {
    channels: Box<[Channel]>,
    next: AtomicUsize,
    credential: CallerCredential,
    deadline: Duration,
}

/// The endpoint with what every connection of ours needs: a peer that is gone must be noticed, and small messages must go out
/// at once.
pub(crate) fn with_transport_settings(endpoint: Endpoint) -> Endpoint {
    let connect_timeout = endpoint.get_connect_timeout().unwrap_or(CONNECT_TIMEOUT);
    endpoint
        .connect_timeout(connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
}

impl Connections {
    /// These connections, of which there must be one. Calls may take as long as `deadline`, repetitions included.
    pub(crate) fn over(
        channels: impl IntoIterator<Item = Channel>,
        credential: CallerCredential,
        deadline: Duration,
    ) -> Self {
        Self {
            channels: channels.into_iter().collect(),
            next: AtomicUsize::new(0),
            credential,
            deadline,
        }
    }

    /// So many connections, made when they are first used and again when they break. Needs a tokio runtime.
    pub(super) fn lazy(
        endpoint: &Endpoint,
        count: usize,
        credential: CallerCredential,
        deadline: Duration,
    ) -> Self {
        let channels = (0..count.max(1)).map(|_| endpoint.connect_lazy());
        Self::over(channels, credential, deadline)
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) fn auth_service(&self) -> AuthService {
        AuthServiceClient::new(self.next_channel())
    }

    pub(super) fn user_service(&self) -> UserService {
        UserServiceClient::new(self.next_channel())
    }

    fn next_channel(&self) -> CallerChannel {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let channel = self.channels[turn % self.channels.len()].clone();
        InterceptedService::new(channel, self.credential.clone())
    }

    /// Makes a call once, under the deadline.
    #[cfg(feature = "gateway")]
    pub(crate) async fn call_once<Req, Resp, Fut>(
        &self,
        request: impl IntoRequest<Req>,
        call: impl FnOnce(CallerChannel, Request<Req>) -> Fut,
    ) -> Result<Resp, Status>
    where
        Fut: Future<Output = Result<Response<Resp>, Status>>,
    {
        self.attempt(request.into_request(), Instant::now() + self.deadline, call)
            .await
    }

    /// Makes a call that may be repeated, and repeats it on the next connection while the deadline has not passed and the
    /// failure is one that may be gone by then.
    pub(crate) async fn call_idempotent<Req, Resp, Fut>(
        &self,
        request: impl IntoRequest<Req>,
        call: impl Fn(CallerChannel, Request<Req>) -> Fut,
    ) -> Result<Resp, Status>
    where
        Req: Clone,
        Fut: Future<Output = Result<Response<Resp>, Status>>,
    {
        let ends_at = Instant::now() + self.deadline;
        let (metadata, _, message) = request.into_request().into_parts();
        let mut attempt = 1;
        loop {
            let request = Request::from_parts(metadata.clone(), Extensions::default(), message.clone());
            let status = match self.attempt(request, ends_at, &call).await {
                Ok(response) => return Ok(response),
                Err(status) => status,
            };
            let pause = jitter::retry_pause(RETRY_PAUSE * attempt);
            let is_last = attempt == ATTEMPTS || Instant::now() + pause >= ends_at;
            if is_last || !is_transient(status.code()) {
                return Err(status);
            }
            sleep(pause).await;
            attempt += 1;
        }
    }

    /// The server is told the deadline too, but a server that hangs does not keep it.
    async fn attempt<Req, Resp, Fut>(
        &self,
        mut request: Request<Req>,
        ends_at: Instant,
        call: impl FnOnce(CallerChannel, Request<Req>) -> Fut,
    ) -> Result<Resp, Status>
    where
        Fut: Future<Output = Result<Response<Resp>, Status>>,
    {
        request.set_timeout(ends_at.saturating_duration_since(Instant::now()));
        match timeout_at(ends_at, call(self.next_channel(), request)).await {
            Ok(outcome) => outcome.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("the deadline passed")),
        }
    }
}

/// A store or server that is away for a moment, or a connection that broke under the call: tonic reports that under several
/// codes.
fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted
    )
}
