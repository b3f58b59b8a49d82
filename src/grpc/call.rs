//! What every call has, whichever method it is for: a deadline, a request id, and a status even if its code panics.

use super::{ResponseBody, protocol, status};
use crate::contract::{self, GRPC_TIMEOUT, RequestId};
use futures_util::FutureExt as _;
use http::{HeaderMap, Request, Response};
use std::{convert::Infallible, future::Future, panic::AssertUnwindSafe, pin::Pin, time::Duration};
use tracing::Instrument as _;

/// One call, before its method runs.
pub(super) struct Call {
    timeout: Option<Duration>,
    span: tracing::Span,
}

/// A method under way.
pub(super) type Running = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, Infallible>> + Send>>;

impl Call {
    pub(super) fn of<B>(request: &Request<B>, call_timeout: Duration) -> Self {
        let path = request.uri().path();
        let headers = request.headers();
        Self {
            timeout: (!contract::is_streaming(path)).then(|| timeout_of(headers, call_timeout)),
            span: span(headers, path),
        }
    }

    /// A call of one response that is spared the span which its log lines would stand in: it logs nothing unless it fails.
    pub(super) fn without_span(headers: &HeaderMap, call_timeout: Duration) -> Self {
        Self {
            timeout: Some(timeout_of(headers, call_timeout)),
            span: tracing::Span::none(),
        }
    }

    /// Runs the method under the deadline. A method that does not end in time is dropped where it waits; use cases of several
    /// steps go on by themselves.
    pub(super) fn run<B: Into<ResponseBody>>(
        self,
        method: impl Future<Output = Result<Response<B>, Infallible>> + Send + 'static,
    ) -> Running {
        let Self { timeout, span } = self;
        let method = AssertUnwindSafe(method).catch_unwind();
        let call = async move {
            let outcome = match timeout {
                // A deadline that has passed on arrival: nothing is started.
                Some(Duration::ZERO) => return Ok(status::deadline_exceeded().into_http()),
                Some(timeout) => match tokio::time::timeout(timeout, method).await {
                    Ok(outcome) => outcome,
                    Err(_) => return Ok(status::deadline_exceeded().into_http()),
                },
                None => method.await,
            };
            match outcome {
                Ok(response) => response.map(|mut response| {
                    protocol::complete(response.headers_mut());
                    response.map(Into::into)
                }),
                Err(_) => Ok(status::internal(&Panicked).into_http()),
            }
        };
        match span.is_none() {
            true => Box::pin(call),
            false => Box::pin(call.instrument(span)),
        }
    }
}

/// What the log lines of a call stand in.
pub(super) fn span(headers: &HeaderMap, path: &str) -> tracing::Span {
    tracing::info_span!("call", request_id = %RequestId::of(headers), method = method(path))
}

/// The code of a method panicked; the panic hook has logged where.
#[derive(Debug, thiserror::Error)]
#[error("a method panicked")]
pub(super) struct Panicked;

/// The method's name for the log: text from outside is only quoted if it can be one.
fn method(path: &str) -> &str {
    let is_path_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"/._".contains(&byte);
    match path.len() <= 100 && path.bytes().all(is_path_byte) {
        true => path,
        false => "(not a method)",
    }
}

/// How long a call may take: as long as its caller is willing to wait, and no longer than every call.
fn timeout_of(headers: &HeaderMap, call_timeout: Duration) -> Duration {
    asked_timeout(headers).map_or(call_timeout, |asked| asked.min(call_timeout))
}

/// The caller's deadline, as the gRPC protocol spells it: up to eight digits and a unit. Anything else is ignored.
fn asked_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn timeout(text: &'static str) -> Option<Duration> {
        asked_timeout(&HeaderMap::from_iter([(
            GRPC_TIMEOUT,
            HeaderValue::from_bytes(text.as_bytes()).unwrap(),
        )]))
    }

    #[test]
    fn s_86_a_timeout_is_read_as_the_protocol_spells_it() {
        assert_eq!(timeout("200m"), Some(Duration::from_millis(200)));
        assert_eq!(timeout("1M"), Some(Duration::from_secs(60)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(timeout("0n"), Some(Duration::ZERO));
        for garbage in ["", "m", "1", "-1S", "1.5S", "123456789S", "1s", "1 S", "\u{e9}"] {
            assert_eq!(timeout(garbage), None, "{garbage:?}");
        }
    }

    #[tokio::test]
    async fn s_95_a_panic_becomes_internal() {
        let request = Request::new(());
        let call = Call::of(&request, Duration::from_secs(1));
        let response = call
            .run::<ResponseBody>(async { panic!("a defect") })
            .await
            .unwrap();
        assert_eq!(
            tonic::Status::from_header_map(response.headers()).unwrap().code(),
            tonic::Code::Internal
        );
    }

    #[tokio::test(start_paused = true)]
    async fn s_86_a_call_that_is_too_slow_answers_deadline_exceeded() {
        let request = Request::new(());
        let call = Call::of(&request, Duration::from_secs(1));
        let response = call.run::<ResponseBody>(std::future::pending()).await.unwrap();
        let status = tonic::Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }
}
