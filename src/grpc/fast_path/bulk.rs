//! The calls with many tokens: their messages are read without one allocation for each token, and written without building them.
//!
//! What is not plain goes to the generated code, which answers the same.

use super::codec;
use crate::{
    auth::Auth,
    contract::{BATCH_USER_ID_FOR_SESSION, MAX_BATCH_BYTES},
    grpc::{
        bulk::{Check, Responses, check_all, in_order},
        status,
    },
    pb::{self, ErrorReason},
};
use bytes::{Buf as _, Bytes};
use http::{Request, Response};
use http_body::Body as HttpBody;
use std::{convert::Infallible, future::Future, pin::Pin};
use tokio::sync::watch as signal;
use tonic::{
    Status, Streaming,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, StreamingService, UnaryService},
};

/// The methods with many tokens, for calls in their plain form.
#[derive(Clone)]
pub(super) struct FastBulk {
    auth: Auth,
    draining: signal::Receiver<bool>,
}

impl FastBulk {
    pub(super) fn new(auth: Auth, draining: signal::Receiver<bool>) -> Self {
        Self { auth, draining }
    }

    /// Answers a call.
    pub(super) async fn call<B>(self, request: Request<B>) -> Result<Response<Body>, Infallible>
    where
        B: HttpBody + Send + 'static,
        B::Error: Into<tonic::codegen::StdError> + Send + 'static,
    {
        let mut grpc = Grpc::new(RawMessages).max_decoding_message_size(MAX_BATCH_BYTES);
        Ok(match request.uri().path() {
            BATCH_USER_ID_FOR_SESSION => grpc.unary(self, request).await,
            _ => grpc.streaming(self, request).await,
        })
    }

    async fn answer(self, message: Bytes) -> Result<Vec<Check>, Status> {
        if let Some(tokens) = codec::tokens_in(&message) {
            return Ok(check_all(&self.auth, &tokens).await?);
        }
        // The requests of both methods are spelled the same.
        let request: pb::BatchUserIdForSessionRequest =
            pb::decode(&message).map_err(|_| status::status(ErrorReason::MalformedRequest))?;
        Ok(check_all(&self.auth, &request.session_tokens).await?)
    }
}

impl UnaryService<Bytes> for FastBulk {
    type Response = Vec<Check>;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Vec<Check>>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let answer = self.clone().answer(request.into_inner());
        Box::pin(async move { answer.await.map(tonic::Response::new) })
    }
}

impl StreamingService<Bytes> for FastBulk {
    type Response = Vec<Check>;
    type ResponseStream = Responses<Vec<Check>>;
    type Future = std::future::Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<Bytes>>) -> Self::Future {
        let service = self.clone();
        let answers = in_order(request.into_inner(), self.draining.clone(), move |message| {
            service.clone().answer(message)
        });
        std::future::ready(Ok(tonic::Response::new(answers)))
    }
}

/// Leaves requests as they came, and writes responses without building their messages.
#[derive(Clone, Copy)]
struct RawMessages;

impl Codec for RawMessages {
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

impl Encoder for RawMessages {
    type Item = Vec<Check>;
    type Error = Status;

    fn encode(&mut self, checks: Vec<Check>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(checks.len() * codec::CHECK_BYTES);
        for check in &checks {
            codec::put_check(check, buffer);
        }
        Ok(())
    }
}

impl Decoder for RawMessages {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
