//! `GET /metrics`, and nothing else.

use super::Metrics;
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body_util::Full;
use std::{convert::Infallible, future::ready, sync::Arc};
use tower::Service;

const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

type Shown = Response<Full<Bytes>>;

/// A service that shows the numbers to whoever asks. It belongs on a listener of its own, which the public does not reach (S-70).
pub fn endpoint<B>(
    metrics: Arc<Metrics>,
) -> impl Service<Request<B>, Response = Shown, Error = Infallible, Future: Send + Unpin> + Clone + Send + 'static
{
    tower::service_fn(move |request: Request<B>| {
        ready(Ok::<_, Infallible>(answer(
            &metrics,
            request.method(),
            request.uri().path(),
        )))
    })
}

fn answer(metrics: &Metrics, method: &Method, path: &str) -> Shown {
    let mut response = Response::new(Full::default());
    if path != "/metrics" {
        *response.status_mut() = StatusCode::NOT_FOUND;
    } else if method != Method::GET && method != Method::HEAD {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    } else if let Ok(text) = metrics.text() {
        response.headers_mut().insert(CONTENT_TYPE, OPEN_METRICS);
        *response.body_mut() = Full::from(text);
    } else {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_metrics_are_served_and_only_read() {
        let status = |method, path| answer(&Metrics::default(), &method, path).status();
        assert_eq!(status(Method::GET, "/metrics"), StatusCode::OK);
        assert_eq!(status(Method::POST, "/metrics"), StatusCode::METHOD_NOT_ALLOWED);
        for path in ["/", "/metrics/", "/debug"] {
            assert_eq!(status(Method::GET, path), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
