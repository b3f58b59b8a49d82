//! A service that gives one prepared answer to every call: what a defect, a proxy or a newer release might say.

use super::stage::{channel_to, plain, serve_gateway};
use http::{Request, Response};
use sessiond::{
    gateway::GatewayConfig,
    listener::{Protocol, RequestBody},
};
use std::{convert::Infallible, future::ready, sync::Arc, time::Duration};
use testkit::service::Served;
use tokio::sync::Semaphore;
use tonic::{Code, Status, body::Body};

/// A gateway in front of a service that answers so.
pub(crate) struct Scripted {
    _service: Served,
    pub(crate) web: Served,
}

impl Scripted {
    pub(crate) fn answering(status: impl Fn() -> Status + Send + Sync + 'static) -> Self {
        let status: Arc<dyn Fn() -> Status + Send + Sync> = Arc::new(status);
        let service = Served::start(Protocol::Rpc, 1, move || {
            let status = Arc::clone(&status);
            tower::service_fn(move |_: Request<RequestBody>| {
                let response: Response<Body> = status().into_http();
                ready(Ok::<_, Infallible>(response))
            })
        });
        Self {
            web: serve_gateway(plain(), channel_to(service.address)),
            _service: service,
        }
    }

    /// A service that never answers, behind a gateway that does not wait long.
    pub(crate) fn silent() -> Self {
        let service = Served::start(Protocol::Rpc, 1, || {
            tower::service_fn(|_: Request<RequestBody>| {
                std::future::pending::<Result<Response<Body>, Infallible>>()
            })
        });
        let config = GatewayConfig {
            call_timeout: Duration::from_millis(200),
            ..plain()
        };
        Self {
            web: serve_gateway(config, channel_to(service.address)),
            _service: service,
        }
    }
}

/// A service whose log-ins take for ever while it refuses every session at once.
pub(crate) struct SlowLogIns {
    _service: Served,
    pub(crate) web: Served,
    /// Gets a permit for each log-in that has reached the service.
    pub(crate) begun: Arc<Semaphore>,
}

impl SlowLogIns {
    pub(crate) fn start() -> Self {
        let begun = Arc::new(Semaphore::new(0));
        let of_service = Arc::clone(&begun);
        let service = Served::start(Protocol::Rpc, 1, move || {
            let begun = Arc::clone(&of_service);
            tower::service_fn(move |request: Request<RequestBody>| {
                let is_log_in = request.uri().path().ends_with("/CreateSession");
                if is_log_in {
                    begun.add_permits(1);
                }
                Box::pin(async move {
                    match is_log_in {
                        true => std::future::pending().await,
                        false => {
                            let refusal = failure(Code::Unauthenticated, "INVALID_SESSION", None);
                            Ok::<Response<Body>, Infallible>(refusal.into_http())
                        }
                    }
                })
            })
        });
        Self {
            web: serve_gateway(plain(), channel_to(service.address)),
            _service: service,
            begun,
        }
    }
}

/// A failure with the service's own mark on it.
pub(crate) fn failure(code: Code, reason: &str, retry_after: Option<Duration>) -> Status {
    use tonic_types::{ErrorDetails, StatusExt as _};
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "auth.v1", []);
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Status::with_error_details(code, "the text of the service", details)
}
