//! The contract served: one service method is unwrap, call, wrap.
//!
//! [`Api`] is the whole of it as one `tower` service, for [`listener`](crate::listener) or any other HTTP/2 server.

mod auth_service;
mod bulk;
mod call;
mod call_counts;
mod convert;
mod fast_path;
mod protocol;
mod readiness;
mod response_body;
mod status;
mod user_service;
mod watch;

pub use response_body::ResponseBody;

use crate::{
    auth::Auth,
    contract::{self, MAX_BATCH_BYTES, MAX_MESSAGE_BYTES},
    metrics::{Calls, Method, ThreadCalls},
    pb::{DESCRIPTOR_SET, auth_service_server::AuthServiceServer, user_service_server::UserServiceServer},
};
use auth_service::Sessions;
use bytes::Bytes;
use fast_path::{Attempt, FastPath};
use http::{Request, Response};
use http_body::Body as HttpBody;
use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::watch as signal;
use tonic::{
    codec::CompressionEncoding::Gzip,
    service::{Routes, RoutesBuilder},
};
use tower::Service;
use user_service::Users;

/// What the operator decides about the served contract.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether the server describes its contract to those who ask: grpcurl needs it.
    pub has_reflection: bool,
    /// How long a call may take, however long its caller is willing to wait. Streams are not bounded by it.
    pub call_timeout: Duration,
    /// Whether plain calls take the shorter ways that exist for speed alone. Callers receive the same without them: tests turn them
    /// off, operators do not.
    pub has_fast_path: bool,
}

impl Default for Options {
    /// With reflection, ten seconds for a call, and the fast path.
    fn default() -> Self {
        Self {
            has_reflection: true,
            call_timeout: Duration::from_secs(10),
            has_fast_path: true,
        }
    }
}

/// `AuthService`, `UserService`, health and reflection as one service. Cheap to clone: clones share everything.
#[derive(Clone)]
pub struct Api {
    parts: Arc<Parts>,
    calls: Calls,
}

#[derive(Clone)]
struct Parts {
    counts: Arc<ThreadCalls>,
    /// `None`: every call goes through the generated code.
    fast_path: Option<FastPath>,
    sessions: AuthServiceServer<Sessions>,
    bulk: AuthServiceServer<Sessions>,
    rest: Routes,
    call_timeout: Duration,
    lifecycle: readiness::Lifecycle,
}

impl Api {
    /// The contract over these use cases.
    #[must_use]
    pub fn new(auth: &Auth, options: Options) -> Self {
        let draining = signal::Sender::new(false);
        let sessions = Sessions::new(auth.clone(), draining.subscribe());
        let (health, health_service) = tonic_health::server::health_reporter();
        let users = UserServiceServer::new(Users::new(auth.clone()));
        let mut rest = RoutesBuilder::default();
        // Proxies and some clients compress whatever they send. Limits hold for what it expands to as well.
        rest.add_service(
            users
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .accept_compressed(Gzip),
        )
        .add_service(
            health_service
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .accept_compressed(Gzip),
        );
        if options.has_reflection {
            let described = || {
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                    // So that a generic client can show the details of an error.
                    .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            };
            // The descriptors are part of this program; if they did not parse, its tests would have said so.
            if let (Ok(v1), Ok(v1alpha)) = (described().build_v1(), described().build_v1alpha()) {
                rest.add_service(
                    v1.max_decoding_message_size(MAX_MESSAGE_BYTES)
                        .accept_compressed(Gzip),
                )
                .add_service(
                    v1alpha
                        .max_decoding_message_size(MAX_MESSAGE_BYTES)
                        .accept_compressed(Gzip),
                );
            }
        }
        let calls = call_counts::calls();
        let fast_path = options
            .has_fast_path
            .then(|| FastPath::new(auth, &draining, &calls, options.call_timeout));
        let parts = Parts {
            counts: calls.for_thread(),
            fast_path,
            sessions: AuthServiceServer::new(sessions.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .accept_compressed(Gzip),
            bulk: AuthServiceServer::new(sessions)
                .max_decoding_message_size(MAX_BATCH_BYTES)
                .accept_compressed(Gzip),
            rest: rest.routes().prepare(),
            call_timeout: options.call_timeout,
            lifecycle: readiness::Lifecycle::new(health, draining),
        };
        Self {
            parts: Arc::new(parts),
            calls,
        }
    }

    /// The calls that were answered, by all threads.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// The same service for another thread. A clone works there as well, but every call would count on one counter that all
    /// cores then fight for.
    #[must_use]
    pub fn for_thread(&self) -> Self {
        let parts = Parts {
            counts: self.calls.for_thread(),
            ..Parts::clone(&self.parts)
        };
        Self {
            parts: Arc::new(parts),
            calls: self.calls.clone(),
        }
    }

    /// Keeps the health service true to what the stores answer. Runs until it is dropped.
    pub fn keep_readiness(&self, auth: Auth) -> impl Future<Output = ()> + Send + 'static {
        self.parts.lifecycle.clone().follow(auth)
    }

    /// Says NOT_SERVING from now on and ends the streams that would not end by themselves. Calls under way go on.
    pub async fn drain(&self) {
        self.parts.lifecycle.drain().await;
    }
}

impl<B> Service<Request<B>> for Api
where
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<tonic::codegen::StdError> + Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // All parts are always ready: none of them limits or queues.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        let parts = &self.parts;
        let path = request.uri().path();
        let fast_path = parts.fast_path.as_ref();
        let Some(candidate) = fast_path.and_then(|fast_path| fast_path.candidate(path)) else {
            let method = self.calls.method(path);
            return parts.answer(request, method);
        };
        match candidate.attempt(request) {
            Attempt::Ready(response) => parts.ready(response, candidate.method),
            Attempt::Running(running) => parts.running(running, candidate.method),
            Attempt::Declined(request) => parts.answer(request, candidate.method),
        }
    }
}

impl Parts {
    /// Answers a request through the generated code.
    fn answer<B>(&self, request: Request<B>, method: Method) -> ResponseFuture
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<tonic::codegen::StdError> + Send + 'static,
    {
        match protocol::refusal(&request) {
            Some(response) => self.ready(response, method),
            None => self.running(self.run(request), method),
        }
    }

    fn ready(&self, response: Response<ResponseBody>, method: Method) -> ResponseFuture {
        self.counts.count(method, call_counts::code_of(&response));
        ResponseFuture(Stage::Ready(response))
    }

    fn running(&self, running: call::Running, method: Method) -> ResponseFuture {
        ResponseFuture(Stage::Running {
            running,
            method,
            counts: Arc::clone(&self.counts),
        })
    }

    fn run<B>(&self, request: Request<B>) -> call::Running
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<tonic::codegen::StdError> + Send + 'static,
    {
        let call = call::Call::of(&request, self.call_timeout);
        // The path alone decides, as it does for the generated code; a query never takes part.
        let path = request.uri().path();
        if bulk::is_path(path) {
            call.run(self.bulk.clone().call(request))
        } else if contract::is_of_auth_service(path) {
            call.run(self.sessions.clone().call(request))
        } else {
            call.run(self.rest.clone().call(request))
        }
    }
}

/// The response to a call, once it is there.
pub struct ResponseFuture(Stage);

enum Stage {
    /// Answered without waiting.
    Ready(Response<ResponseBody>),
    /// Under way; it counts when it is answered.
    Running {
        running: call::Running,
        method: Method,
        counts: Arc<ThreadCalls>,
    },
    /// Answered.
    Done,
}

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Stage::Running {
            running,
            method,
            counts,
        } = &mut self.0
        {
            let answered = running.as_mut().poll(cx);
            if let Poll::Ready(Ok(response)) = &answered {
                counts.count(*method, call_counts::code_of(response));
                self.0 = Stage::Done;
            }
            return answered;
        }
        match std::mem::replace(&mut self.0, Stage::Done) {
            Stage::Ready(response) => Poll::Ready(Ok(response)),
            Stage::Running { .. } | Stage::Done => Poll::Pending,
        }
    }
}
