//! What exists for speed alone: shorter ways to the same responses.
//!
//! The service is whole without this module, and [`Options::has_fast_path`](super::Options) turns it off: the suite of the service
//! passes both ways, and what a caller receives is the same to the byte. Whatever is not plain is declined here and goes to the
//! generated code.
//!
//! | part | what it spares a plain call |
//! |---|---|
//! | [`check`] | over a store that answers from memory: box, timer, span and task of the call, and tonic's stream of messages |
//! | [`peeked_body`] | makes [`check`] possible: a body that has arrived is read in place, and put together again if need be |
//! | [`message_body`] | a box and an encoder: the body is one buffer and the trailers |
//! | [`codec`] | prost's strings, messages and buffers |
//! | [`bulk`] | a string and a message for each token of a batch |
//!
//! `cargo bench --bench fast_path` measures them. A check that finds no session has no message to encode: what it gains is
//! [`check`]'s, and what one that finds a session gains beyond that is [`codec`]'s and [`message_body`]'s. A check that is not plain
//! shows what peeking costs in vain, and the batches show [`bulk`].
//!
//! What is for speed too, and stands elsewhere because the service is not whole without it: the listener answers requests where it
//! reads them, and each thread counts its own calls.

mod bulk;
mod check;
mod codec;
mod message_body;
mod peeked_body;

pub(super) use message_body::MessageBody;

use super::{
    ResponseBody,
    call::{Call, Running},
};
use crate::{
    auth::Auth,
    contract::{BATCH_USER_ID_FOR_SESSION, STREAM_USER_ID_FOR_SESSION, USER_ID_FOR_SESSION},
    metrics::{Calls, Method},
};
use bulk::FastBulk;
use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body::Body;
use peeked_body::{Peeked, PeekedBody};
use std::{
    task::{Context, Waker},
    time::Duration,
};
use tokio::sync::watch as signal;

/// The calls that have a shorter way.
#[derive(Clone)]
pub(super) struct FastPath {
    auth: Auth,
    bulk: FastBulk,
    call_timeout: Duration,
    check_method: Method,
    batch_method: Method,
    stream_method: Method,
}

/// A call that may take the fast path.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    fast_path: &'a FastPath,
    /// What it counts as.
    pub(super) method: Method,
    is_check: bool,
}

/// What the fast path makes of a request.
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is made; a box would cost the declined request an allocation"
)]
pub(super) enum Attempt<B: Body<Data = Bytes>> {
    /// The response, made without waiting.
    Ready(Response<ResponseBody>),
    /// The response is under way.
    Running(Running),
    /// The generated code has to see it.
    Declined(Request<PeekedBody<B>>),
}

impl FastPath {
    pub(super) fn new(
        auth: &Auth,
        draining: &signal::Sender<bool>,
        calls: &Calls,
        call_timeout: Duration,
    ) -> Self {
        Self {
            auth: auth.clone(),
            bulk: FastBulk::new(auth.clone(), draining.subscribe()),
            call_timeout,
            check_method: calls.method(USER_ID_FOR_SESSION),
            batch_method: calls.method(BATCH_USER_ID_FOR_SESSION),
            stream_method: calls.method(STREAM_USER_ID_FOR_SESSION),
        }
    }

    /// The call of this path, if it may take the fast path: its request decides the rest.
    pub(super) fn candidate(&self, path: &str) -> Option<Candidate<'_>> {
        let method = match path {
            USER_ID_FOR_SESSION => self.check_method,
            BATCH_USER_ID_FOR_SESSION => self.batch_method,
            STREAM_USER_ID_FOR_SESSION => self.stream_method,
            _ => return None,
        };
        Some(Candidate {
            fast_path: self,
            method,
            is_check: path == USER_ID_FOR_SESSION,
        })
    }
}

impl Candidate<'_> {
    /// Takes the request if it is plain.
    pub(super) fn attempt<B>(&self, request: Request<B>) -> Attempt<B>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<tonic::codegen::StdError> + Send + 'static,
    {
        match has_plain_messages(&request) {
            true if self.is_check => self.attempt_check(request),
            true => {
                let call = Call::of(&request, self.fast_path.call_timeout);
                Attempt::Running(call.run(self.fast_path.bulk.clone().call(request)))
            }
            false => Attempt::Declined(request.map(PeekedBody::unread)),
        }
    }

    fn attempt_check<B>(&self, mut request: Request<B>) -> Attempt<B>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        if !check::may_start(request.headers()) {
            return Attempt::Declined(request.map(PeekedBody::unread));
        }
        // The code that reads the rest of the body polls it again, with a waker of its own.
        let peeked = Peeked::read(request.body_mut(), &mut Context::from_waker(Waker::noop()));
        let attempt = peeked
            .whole()
            .map(|message| check::attempt(&self.fast_path.auth, message, request.headers()));
        match attempt {
            Some(check::Attempt::Ready(response)) => Attempt::Ready(response),
            Some(check::Attempt::Pending(check)) => {
                let call = Call::without_span(request.headers(), self.fast_path.call_timeout);
                let headers = std::mem::take(request.headers_mut());
                Attempt::Running(call.run(check::finish(check, headers)))
            }
            Some(check::Attempt::Declined) | None => {
                Attempt::Declined(request.map(|rest| peeked.before(rest)))
            }
        }
    }
}

/// Whether the messages of this call are neither compressed nor something else than protobuf.
fn has_plain_messages<B>(request: &Request<B>) -> bool {
    // There are few headers, so looking at all of them is less work than looking two of them up.
    let mut content_type = None;
    for (name, value) in request.headers() {
        if name == CONTENT_TYPE {
            content_type = content_type.or(Some(value));
        } else if name == "grpc-encoding" {
            return false;
        }
    }
    let is_plain = content_type
        .is_some_and(|value| matches!(value.as_bytes(), b"application/grpc" | b"application/grpc+proto"));
    is_plain && request.method() == http::Method::POST
}
