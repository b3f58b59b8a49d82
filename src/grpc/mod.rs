//! The contract served: one service method is unwrap, call, wrap.
//!
//! [`Api`] is the whole of it as one `tower` service, for [`listener`](crate::listener) or any other HTTP/2 server.

mod auth_service;
mod bulk;
mod call;
mod convert;
mod readiness;
mod status;
mod user_service;
mod watch;

pub use status::ERROR_DOMAIN;

use crate::{
    auth::Auth,
    pb::{DESCRIPTOR_SET, auth_service_server::AuthServiceServer, user_service_server::UserServiceServer},
};
use auth_service::Sessions;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::watch as signal;
use tonic::{
    body::Body,
    service::{Routes, RoutesBuilder},
};
use tower::Service;
use user_service::Users;

/// A request message, at most. Everything that a request may hold fits.
const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// A message of many tokens, at most: 4096 of them with their framing.
const MAX_BULK_MESSAGE_BYTES: usize = 256 * 1024;

const BULK_METHODS: [&str; 2] = [
    "/auth.v1.AuthService/BatchUserIdForSession",
    "/auth.v1.AuthService/StreamUserIdForSession",
];

/// What the operator decides about the served contract.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether the server describes its contract to those who ask: grpcurl needs it.
    pub has_reflection: bool,
    /// How long a call may take, however long its caller is willing to wait. Streams are not bounded by it.
    pub call_timeout: Duration,
}

impl Default for Options {
    /// With reflection, and ten seconds for a call.
    fn default() -> Self {
        Self {
            has_reflection: true,
            call_timeout: Duration::from_secs(10),
        }
    }
}

/// `AuthService`, `UserService`, health and reflection as one service. Cheap to clone: clones share everything.
#[derive(Clone)]
pub struct Api {
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
        rest.add_service(users.max_decoding_message_size(MAX_MESSAGE_BYTES))
            .add_service(health_service.max_decoding_message_size(MAX_MESSAGE_BYTES));
        if options.has_reflection {
            let described = || {
                tonic_reflection::server::Builder::configure()
                    .register_encoded_file_descriptor_set(DESCRIPTOR_SET)
                    .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            };
            // The descriptors are part of this program; if they did not parse, its tests would have said so.
            if let (Ok(v1), Ok(v1alpha)) = (described().build_v1(), described().build_v1alpha()) {
                rest.add_service(v1.max_decoding_message_size(MAX_MESSAGE_BYTES))
                    .add_service(v1alpha.max_decoding_message_size(MAX_MESSAGE_BYTES));
            }
        }
        Self {
            sessions: AuthServiceServer::new(sessions.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            bulk: AuthServiceServer::new(sessions).max_decoding_message_size(MAX_BULK_MESSAGE_BYTES),
            rest: rest.routes().prepare(),
            call_timeout: options.call_timeout,
            lifecycle: readiness::Lifecycle::new(health, draining),
        }
    }

    /// Keeps the health service true to what the stores answer. Runs until it is dropped.
    pub fn keep_readiness(&self, auth: Auth) -> impl Future<Output = ()> + Send + 'static {
        self.lifecycle.clone().follow(auth)
    }

    /// Says NOT_SERVING from now on and ends the streams that would not end by themselves. Calls under way go on.
    pub async fn drain(&self) {
        self.lifecycle.drain().await;
    }
}

impl<B> Service<Request<B>> for Api
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // All parts are always ready: none of them limits or queues.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let call = call::Call::of(&request, self.call_timeout);
        // The path alone decides, as it does for the generated code; a query never takes part.
        let path = request.uri().path();
        if BULK_METHODS.contains(&path) {
            call.run(self.bulk.call(request))
        } else if path.starts_with("/auth.v1.AuthService/") {
            call.run(self.sessions.call(request))
        } else {
            call.run(self.rest.call(request))
        }
    }
}
