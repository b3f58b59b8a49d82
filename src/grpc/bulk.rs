//! Many checks in one message, each with its own result.
//!
//! Messages are read and written by hand where they come in their plain form ([`Plain`]); whatever else comes goes to the
//! generated code, which answers the same.

use super::{at_once, by_hand};
use crate::{
    auth::{Auth, AuthError, Checked},
    domain::FieldViolation,
    pb::{self, ErrorReason, session_check},
};
use bytes::{Buf as _, Bytes};
use futures_util::{Stream, StreamExt as _};
use http::{Request, Response};
use http_body::Body as HttpBody;
use prost::Message as _;
use std::{convert::Infallible, future::Future, pin::Pin};
use tokio::sync::watch as signal;
use tonic::{
    Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, StreamingService, UnaryService},
};
use tracing::error;

/// Tokens in one message, at most.
const MAX_TOKENS: usize = 4096;

/// A message of many tokens, at most: 4096 of them with their framing.
pub(super) const MAX_MESSAGE_BYTES: usize = 256 * 1024;

const BATCH: &str = "/auth.v1.AuthService/BatchUserIdForSession";
const STREAM: &str = "/auth.v1.AuthService/StreamUserIdForSession";

/// Whether this is one of the methods with many tokens.
pub(super) fn is_path(path: &str) -> bool {
    matches!(path, BATCH | STREAM)
}

/// What the check of one token comes to.
type Check = Result<Checked, ErrorReason>;

/// Answers, one for each message of a stream.
type Answers<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

/// The responses of a stream of checks.
pub(super) type Checks = Answers<pb::StreamUserIdForSessionResponse>;

/// Checks every token of one message. The results stand in the order of the tokens.
pub(super) async fn check_all<T: AsRef<[u8]>>(auth: &Auth, tokens: &[T]) -> Result<Vec<Check>, AuthError> {
    if tokens.is_empty() || tokens.len() > MAX_TOKENS {
        return Err(FieldViolation::new("session_tokens", "must be 1 to 4096 tokens").into());
    }
    let conclude = |checked| match checked {
        Ok(checked) => Ok(checked),
        Err(AuthError::InvalidSession) => Err(ErrorReason::InvalidSession),
        Err(failure) => {
            error!(event = "store_failed", cause = %failure, "a check within a batch failed");
            Err(ErrorReason::StoreUnavailable)
        }
    };
    Ok(auth.check_many(tokens, conclude).await)
}

/// The message for the generated code.
pub(super) fn wire(check: Check) -> pb::SessionCheck {
    let result = match check {
        Ok(checked) => session_check::Result::Found(checked.into()),
        Err(reason) => session_check::Result::Failure(reason.into()),
    };
    pb::SessionCheck { result: Some(result) }
}

/// [`in_order`] for the generated code.
pub(super) fn check_stream(
    auth: Auth,
    requests: Streaming<pb::StreamUserIdForSessionRequest>,
    draining: signal::Receiver<bool>,
) -> Checks {
    in_order(requests, draining, move |request| {
        let auth = auth.clone();
        async move {
            let checks = check_all(&auth, &request.session_tokens).await?;
            let checks = checks.into_iter().map(wire).collect();
            Ok(pb::StreamUserIdForSessionResponse { checks })
        }
    })
}

/// Answers message by message, in order. The next message is taken when the answer before it has been: a client that does not
/// read is not read from either. Ends when the client ends, or when the server drains.
fn in_order<Q, A, F>(
    requests: Streaming<Q>,
    mut draining: signal::Receiver<bool>,
    mut answer: impl FnMut(Q) -> F + Send + 'static,
) -> Answers<A>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: Future<Output = Result<A, Status>> + Send + 'static,
{
    let drained = async move {
        // An error means that the server is gone, which ends the stream as well.
        let _ = draining.wait_for(|is_draining| *is_draining).await;
    };
    let answers = requests.then(move |request| {
        let answered = request.map(&mut answer);
        async move { answered?.await }
    });
    Box::pin(answers.take_until(drained))
}

/// The methods with many tokens, for calls in their plain form.
#[derive(Clone)]
pub(super) struct Plain {
    auth: Auth,
    draining: signal::Receiver<bool>,
}

impl Plain {
    pub(super) fn new(auth: Auth, draining: signal::Receiver<bool>) -> Self {
        Self { auth, draining }
    }

    /// Whether this call is one for here.
    pub(super) fn takes<B>(request: &Request<B>) -> bool {
        is_path(request.uri().path()) && at_once::has_plain_messages(request)
    }

    /// Answers a call.
    pub(super) async fn call<B>(self, request: Request<B>) -> Result<Response<Body>, Infallible>
    where
        B: HttpBody + Send + 'static,
        B::Error: Into<tonic::codegen::StdError> + Send + 'static,
    {
        let mut grpc = Grpc::new(ByHand).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(match request.uri().path() {
            BATCH => grpc.unary(self, request).await,
            _ => grpc.streaming(self, request).await,
        })
    }

    async fn answer(self, message: Bytes) -> Result<Vec<Check>, Status> {
        if let Some(tokens) = by_hand::tokens_in(&message) {
            return Ok(check_all(&self.auth, &tokens).await?);
        }
        // The requests of both methods are spelled the same.
        let request = pb::BatchUserIdForSessionRequest::decode(message)
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(check_all(&self.auth, &request.session_tokens).await?)
    }
}

impl UnaryService<Bytes> for Plain {
    type Response = Vec<Check>;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Vec<Check>>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let answer = self.clone().answer(request.into_inner());
        Box::pin(async move { answer.await.map(tonic::Response::new) })
    }
}

impl StreamingService<Bytes> for Plain {
    type Response = Vec<Check>;
    type ResponseStream = Answers<Vec<Check>>;
    type Future = std::future::Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let plain = self.clone();
        let answers = in_order(request.into_inner(), self.draining.clone(), move |message| {
            plain.clone().answer(message)
        });
        std::future::ready(Ok(tonic::Response::new(answers)))
    }
}

/// Leaves requests as they came, and writes responses without building their messages.
#[derive(Clone, Copy)]
struct ByHand;

impl Codec for ByHand {
    type Encode = Vec<Check>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for ByHand {
    type Item = Vec<Check>;
    type Error = Status;

    fn encode(&mut self, checks: Vec<Check>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(checks.len() * by_hand::CHECK_BYTES);
        for check in &checks {
            by_hand::put_check(check, buffer);
        }
        Ok(())
    }
}

impl Decoder for ByHand {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
