//! The text of the gRPC protocol over HTTP/2, sentence by sentence, on single frames: with the fast path and without it.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>. Its parts on PING, GOAWAY and the end of a connection are
//! the listener's: `tests/service/listener`.

use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, RST_STREAM, RawConnection, Recorder, Tap,
    header_block,
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use prost::Message as _;
use sessiond::pb::{self, ErrorReason, session_check::Result as Found};
use std::io::Write as _;
use testkit::{
    service::{Service, reason},
    stores,
};
use tonic::{Code, Status};

const CHECK: &str = "/auth.v1.AuthService/UserIdForSession";
const BATCH: &str = "/auth.v1.AuthService/BatchUserIdForSession";
const STREAM: &str = "/auth.v1.AuthService/StreamUserIdForSession";
const CREATE_USER: &str = "/auth.v1.UserService/CreateUser";
const DESTROY: &str = "/auth.v1.AuthService/DestroySession";
const CURRENT_USER: &str = "/auth.v1.AuthService/CurrentUser";
const WATCH: &str = "/auth.v1.AuthService/WatchRevocations";

/// What a request may hold, and one with many tokens.
const LIMIT: usize = 16 * 1024;
const BATCH_LIMIT: usize = 256 * 1024;

/// A service, and a session that lives in it.
struct Door {
    service: Service,
    user_id: String,
    token: String,
}

impl Door {
    async fn open(has_fast_path: bool) -> Self {
        let (users, sessions) = (stores::memory::users().await, stores::memory::sessions().await);
        let service = Service::start(users, sessions, has_fast_path).await;
        let user = service.here.quick_user("ann@example.com").await;
        let token = service.here.session_of(&user).await.session_token;
        Self {
            service,
            user_id: user.id,
            token,
        }
    }

    /// With the fast path and without it.
    async fn both() -> [Self; 2] {
        [Self::open(true).await, Self::open(false).await]
    }

    async fn connect(&self) -> Connection {
        Connection::open(self.service.here.address).await
    }

    /// One call on a connection of its own.
    async fn call(&self, path: &str, data: &[&[u8]]) -> Exchange {
        self.connect().await.call(post(path), data).await
    }

    /// A check whose request has these headers too.
    async fn check_with(&self, headers: &[(&str, &[u8])]) -> Exchange {
        let mut request = post(CHECK);
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            let value = HeaderValue::from_bytes(value).unwrap();
            request.headers_mut().append(name, value);
        }
        let message = self.check_message();
        self.connect().await.call(request, &[&message]).await
    }

    fn check_message(&self) -> Vec<u8> {
        framed(0, &token_field(self.token.as_bytes()))
    }

    fn assert_found(&self, exchange: &Exchange) {
        assert_eq!(exchange.status().code(), Code::Ok, "{exchange:?}");
        let [message] = exchange.messages().try_into().unwrap();
        let found = pb::UserIdForSessionResponse::decode(message.as_slice()).unwrap();
        assert_eq!(found.user_id, self.user_id);
    }
}

struct Connection {
    requests: h2::client::SendRequest<Bytes>,
    recorder: Recorder,
}

/// All that the caller is sent.
#[derive(Debug)]
struct Exchange {
    http_status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    frames: Vec<Frame>,
}

impl Connection {
    async fn open(address: std::net::SocketAddr) -> Self {
        let (tap, recorder) = Tap::connect(address).await;
        let (requests, connection) = h2::client::handshake(tap).await.unwrap();
        tokio::spawn(connection);
        Self { requests, recorder }
    }

    /// One call whose body is these DATA frames, of which the last ends the stream; without any, the HEADERS do.
    async fn call(&mut self, request: Request<()>, data: &[&[u8]]) -> Exchange {
        let (answer, mut stream) = self.start(request, data.is_empty()).await;
        for (number, chunk) in (1..).zip(data) {
            // It fails once the server has answered what came before.
            let _ = stream.send_data(Bytes::copy_from_slice(chunk), number == data.len());
        }
        self.receive(answer).await
    }

    async fn start(
        &mut self,
        request: Request<()>,
        is_whole: bool,
    ) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let mut requests = self.requests.clone().ready().await.unwrap();
        requests.send_request(request, is_whole).unwrap()
    }

    async fn receive(&self, answer: h2::client::ResponseFuture) -> Exchange {
        let stream = answer.stream_id().as_u32();
        let (head, mut body) = answer.await.unwrap().into_parts();
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            bytes.extend(data);
        }
        Exchange {
            http_status: head.status,
            headers: head.headers,
            body: bytes,
            trailers: body.trailers().await.unwrap(),
            frames: self.recorder.of_stream(stream),
        }
    }
}

impl Exchange {
    /// The status, from the trailers or from a response that is nothing else.
    fn status(&self) -> Status {
        let trailers = self.trailers.as_ref().unwrap_or(&self.headers);
        Status::from_header_map(trailers).unwrap_or_else(|| panic!("no status in {self:?}"))
    }

    fn messages(&self) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let mut rest = self.body.as_slice();
        while let [flag, a, b, c, d, after @ ..] = rest {
            assert_eq!(*flag, 0, "nobody asked for compression");
            let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            messages.push(after[..length].to_vec());
            rest = &after[length..];
        }
        assert!(rest.is_empty());
        messages
    }

    /// Refused with this code and reason, by a call's status.
    #[track_caller]
    fn assert_refused(&self, code: Code, reason_: ErrorReason) {
        assert_eq!(self.http_status, StatusCode::OK, "{self:?}");
        self.assert_status(code, reason_);
    }

    #[track_caller]
    fn assert_status(&self, code: Code, expected: ErrorReason) {
        let status = self.status();
        assert_eq!(status.code(), code, "{self:?}");
        assert_eq!(
            format!("ERROR_REASON_{}", reason(&status)),
            expected.as_str_name()
        );
    }
}

fn post(path: &str) -> Request<()> {
    of_method(Method::POST, path)
}

fn of_method(method: Method, path: &str) -> Request<()> {
    Request::builder()
        .method(method)
        .uri(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

fn with_header(path: &str, name: &str, value: &str) -> Request<()> {
    let mut request = post(path);
    let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

/// A message with its flag and length.
fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag], &length[..], message].concat()
}

/// A request of one token: field 1.
fn token_field(token: &[u8]) -> Vec<u8> {
    let mut field = vec![0x0a];
    prost::encoding::encode_varint(token.len() as u64, &mut field);
    field.extend(token);
    field
}

fn gzipped(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(message).unwrap();
    encoder.finish().unwrap()
}

/// The owners that a response with many checks names.
fn owners(message: &[u8]) -> Vec<Result<String, ErrorReason>> {
    let response = pb::BatchUserIdForSessionResponse::decode(message).unwrap();
    let owner = |check: pb::SessionCheck| match check.result.unwrap() {
        Found::Found(found) => Ok(found.user_id),
        Found::Failure(reason) => Err(ErrorReason::try_from(reason).unwrap()),
    };
    response.checks.into_iter().map(owner).collect()
}

/// "Request-Headers are delivered as HTTP2 headers …" "EOS is indicated by the presence of the END_STREAM flag on the last received
/// DATA frame"; "implementations MUST send an empty DATA frame with this flag set" if no data remains.
#[tokio::test]
async fn a_call_is_headers_messages_and_the_end_of_the_stream() {
    for door in Door::both().await {
        let message = door.check_message();
        for data in [&[&message[..]][..], &[&message, b""]] {
            let exchange = door.call(CHECK, data).await;
            door.assert_found(&exchange);
            assert_eq!(exchange.http_status, StatusCode::OK);
            assert_eq!(exchange.headers["content-type"], "application/grpc");
            // "Status must be sent in Trailers even if the status code is OK", which end the stream.
            assert_eq!(exchange.trailers.as_ref().unwrap()["grpc-status"], "0");
            let frames: Vec<_> = exchange
                .frames
                .iter()
                .map(|frame| (frame.kind, frame.ends_stream()))
                .collect();
            assert_eq!(frames, [(HEADERS, false), (DATA, false), (HEADERS, true)]);
        }
    }
}

/// "… in HEADERS + CONTINUATION frames." Of the headers of a call, the protocol gives "Authority" as optional, and "TE" is there to
/// detect proxies only; the scheme is "http" or "https".
#[tokio::test]
async fn a_call_needs_method_scheme_path_and_content_type_only() {
    let needed = [
        (":method", "POST"),
        (":path", CHECK),
        (":scheme", "https"),
        ("content-type", "application/grpc+proto"),
    ];
    for door in Door::both().await {
        let block = header_block(&needed);
        for cuts in [vec![block.len()], vec![1, block.len() / 2, block.len()]] {
            let mut connection = RawConnection::open(door.service.here.address).await;
            let mut begin = 0;
            for (number, end) in (1..).zip(&cuts) {
                let kind = if begin == 0 { HEADERS } else { CONTINUATION };
                let flags = if number == cuts.len() { END_HEADERS } else { 0 };
                connection.send(kind, flags, 1, &block[begin..*end]).await;
                begin = *end;
            }
            connection.send(DATA, END_STREAM, 1, &door.check_message()).await;
            let frames = connection.response(1).await;
            let kinds: Vec<_> = frames
                .iter()
                .map(|frame| (frame.kind, frame.ends_stream()))
                .collect();
            assert_eq!(kinds, [(HEADERS, false), (DATA, false), (HEADERS, true)]);
            let found = pb::UserIdForSessionResponse::decode(&frames[1].payload[5..]).unwrap();
            assert_eq!(found.user_id, door.user_id);
        }
    }
}

/// "Method → :method POST".
#[tokio::test]
async fn another_method_than_post_is_not_allowed_and_does_nothing() {
    let new_user = pb::CreateUserRequest {
        email: "bob@example.com".into(),
        ..Default::default()
    };
    let new_user = framed(0, &new_user.encode_to_vec());
    for door in Door::both().await {
        let check = door.check_message();
        let methods = [
            Method::GET,
            Method::HEAD,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ];
        for method in methods {
            for (path, message) in [(CREATE_USER, &new_user), (CHECK, &check), (BATCH, &check)] {
                let mut request = of_method(method.clone(), path);
                if method == Method::GET {
                    request
                        .headers_mut()
                        .insert("content-type", "text/plain".parse().unwrap());
                }
                let exchange = door.connect().await.call(request, &[message]).await;
                assert_eq!(
                    exchange.http_status,
                    StatusCode::METHOD_NOT_ALLOWED,
                    "{method} {path}"
                );
                assert_eq!(exchange.headers["allow"], "POST");
                exchange.assert_status(Code::InvalidArgument, ErrorReason::MalformedRequest);
            }
        }
        let stats = door
            .service
            .here
            .sessions
            .clone()
            .get_stats(pb::GetStatsRequest {})
            .await;
        assert_eq!(stats.unwrap().into_inner().user_count, 1);
    }
}

/// "If Content-Type does not begin with "application/grpc", gRPC servers SHOULD respond with HTTP status of 415".
#[tokio::test]
async fn another_content_type_than_that_of_grpc_is_unsupported() {
    for door in Door::both().await {
        let message = door.check_message();
        for path in [CHECK, BATCH, CREATE_USER, "/no.Such/Method"] {
            for content_type in [
                None,
                Some("application/json"),
                Some("text/plain"),
                Some("application/grpc-web"),
                Some("application/grpc-web+proto"),
                Some("application/grpc-web-text"),
                Some("x-application/grpc"),
            ] {
                let mut request = post(path);
                match content_type {
                    Some(value) => {
                        request
                            .headers_mut()
                            .insert("content-type", value.parse().unwrap());
                    }
                    None => {
                        request.headers_mut().remove("content-type");
                    }
                }
                let exchange = door.connect().await.call(request, &[&message]).await;
                assert_eq!(
                    exchange.http_status,
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "{content_type:?}"
                );
                exchange.assert_status(Code::InvalidArgument, ErrorReason::MalformedRequest);
            }
        }
    }
}

/// "Content-Type → "content-type" "application/grpc" [("+proto" / "+json" / {custom})]".
#[tokio::test]
async fn every_content_type_of_grpc_is_taken() {
    for door in Door::both().await {
        let message = door.check_message();
        for content_type in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc+custom",
            "application/grpc;charset=utf-8",
            "Application/Grpc",
        ] {
            let request = with_header(CHECK, "content-type", content_type);
            let exchange = door.connect().await.call(request, &[&message]).await;
            door.assert_found(&exchange);
        }
    }
}

/// "Path → ":path" "/" Service-Name "/" {method name}"; "Path is case-sensitive."
#[tokio::test]
async fn a_path_that_names_no_method_is_unimplemented() {
    for door in Door::both().await {
        let message = door.check_message();
        for path in [
            "/",
            "/auth.v1.AuthService",
            "/auth.v1.AuthService/",
            "/auth.v1.AuthService/useridforsession",
            "/auth.v1.authservice/UserIdForSession",
            "/AUTH.V1.AUTHSERVICE/USERIDFORSESSION",
            "/auth.v1.AuthService/UserIdForSession/",
            "//auth.v1.AuthService/UserIdForSession",
            "/auth.v1.UserService/UserIdForSession",
            "/grpc.health.v1.Health/Nothing",
            "/no.Such/Method",
        ] {
            let exchange = door.call(path, &[&message]).await;
            exchange.assert_refused(Code::Unimplemented, ErrorReason::UnknownMethod);
        }
    }
}

/// "TimeoutValue → {positive integer as ASCII string of at most 8 digits}", with the units H M S m u n. "If Timeout is omitted a
/// server should assume an infinite timeout": this one has a limit of its own. What is no timeout counts as omitted.
#[tokio::test]
async fn s_86_a_timeout_is_kept_in_every_unit() {
    for door in Door::both().await {
        for timeout in ["1H", "1M", "99999999S", "99999999m", "99999999u", "00000020S"] {
            door.assert_found(&door.check_with(&[("grpc-timeout", timeout.as_bytes())]).await);
        }
        for passed in ["0H", "0M", "0S", "0m", "0u", "0n", "00000000n"] {
            let exchange = door.check_with(&[("grpc-timeout", passed.as_bytes())]).await;
            exchange.assert_refused(Code::DeadlineExceeded, ErrorReason::DeadlineExceeded);
        }
        for no_timeout in ["", "1", "S", "-1S", "1.5S", "1s", "123456789S", "1 S", "\u{e9}"] {
            door.assert_found(&door.check_with(&[("grpc-timeout", no_timeout.as_bytes())]).await);
        }
    }
}

/// "A Compressed-Flag value of 1 indicates that the binary octet sequence of Message is compressed using the mechanism declared by
/// the Message-Encoding header. A value of 0 indicates that no encoding of Message bytes has occurred."
#[tokio::test]
async fn a_message_may_be_compressed_with_gzip() {
    for door in Door::both().await {
        let plain = token_field(door.token.as_bytes());
        for (encoding, message) in [
            ("identity", framed(0, &plain)),
            ("gzip", framed(0, &plain)),
            ("gzip", framed(1, &gzipped(&plain))),
        ] {
            let mut connection = door.connect().await;
            let request = |path| with_header(path, "grpc-encoding", encoding);
            door.assert_found(&connection.call(request(CHECK), &[&message]).await);
            let batch = connection.call(request(BATCH), &[&message]).await;
            assert_eq!(owners(&batch.messages()[0]), [Ok(door.user_id.clone())]);
            let current = connection.call(request(CURRENT_USER), &[&message]).await;
            assert_eq!(current.status().code(), Code::Ok);
        }
    }
}

/// "Compression contexts are NOT maintained over message boundaries, implementations must create a new context for each message in
/// the stream."
#[tokio::test]
async fn each_message_of_a_stream_is_compressed_by_itself() {
    for door in Door::both().await {
        let plain = token_field(door.token.as_bytes());
        let packed = framed(1, &gzipped(&plain));
        let messages = [packed.clone(), framed(0, &plain), packed].concat();
        let request = with_header(STREAM, "grpc-encoding", "gzip");
        let exchange = door.connect().await.call(request, &[&messages]).await;
        assert_eq!(exchange.status().code(), Code::Ok);
        let answers = exchange.messages();
        assert_eq!(answers.len(), 3);
        assert!(
            answers
                .iter()
                .all(|answer| owners(answer) == [Ok(door.user_id.clone())])
        );
    }
}

/// Content-Coding may be "identity" / "gzip" / "deflate" / "snappy" / {custom}: of which others are refused, and the response says
/// what is taken.
#[tokio::test]
async fn another_compression_is_refused_with_those_that_are_taken() {
    for door in Door::both().await {
        for path in [CHECK, BATCH, STREAM, CREATE_USER] {
            for encoding in ["deflate", "snappy", "zstd", "GZIP", "custom"] {
                let request = with_header(path, "grpc-encoding", encoding);
                let exchange = door.connect().await.call(request, &[&door.check_message()]).await;
                exchange.assert_refused(Code::Unimplemented, ErrorReason::UnsupportedEncoding);
                let taken = exchange.headers["grpc-accept-encoding"].to_str().unwrap();
                let taken: Vec<_> = taken.split(',').map(str::trim).collect();
                assert_eq!(taken, ["gzip", "identity"]);
            }
        }
    }
}

/// "Compressed-Flag → 0 / 1". "If the Message-Encoding header is omitted then the Compressed-Flag must be 0."
#[tokio::test]
async fn a_flag_that_does_not_fit_the_message_is_a_malformed_request() {
    for door in Door::both().await {
        let plain = token_field(door.token.as_bytes());
        let packed = gzipped(&plain);
        let damaged = [&packed[..packed.len() / 2], &[0xff; 8][..]].concat();
        for path in [CHECK, BATCH, CURRENT_USER] {
            for (encoding, flag, message) in [
                (None, 1, &packed),
                (Some("identity"), 1, &packed),
                (None, 2, &plain),
                (Some("gzip"), 255, &packed),
                (Some("gzip"), 1, &plain),
                (Some("gzip"), 1, &damaged),
            ] {
                let request = match encoding {
                    Some(encoding) => with_header(path, "grpc-encoding", encoding),
                    None => post(path),
                };
                let exchange = door
                    .connect()
                    .await
                    .call(request, &[&framed(flag, message)])
                    .await;
                exchange.assert_refused(Code::InvalidArgument, ErrorReason::MalformedRequest);
            }
        }
    }
}

#[tokio::test]
async fn s_83_a_message_of_exactly_the_limit_is_taken_and_no_longer_one() {
    /// A request of one token, so many bytes long.
    fn of_length(length: usize) -> Vec<u8> {
        let header = token_field(&vec![b'x'; length - 4]).len() - (length - 4);
        let message = token_field(&vec![b'x'; length - header]);
        assert_eq!(message.len(), length);
        message
    }
    for door in Door::both().await {
        for (path, limit) in [
            (CHECK, LIMIT),
            (CURRENT_USER, LIMIT),
            (BATCH, BATCH_LIMIT),
            (STREAM, BATCH_LIMIT),
        ] {
            let mut connection = door.connect().await;
            for is_packed in [false, true] {
                let encoding = if is_packed { "gzip" } else { "identity" };
                let frame = |message: &[u8]| match is_packed {
                    true => framed(1, &gzipped(message)),
                    false => framed(0, message),
                };
                let mut call = async |message: &[u8]| {
                    let request = with_header(path, "grpc-encoding", encoding);
                    let frame = frame(message);
                    let data: Vec<_> = frame.chunks(LIMIT).collect();
                    connection.call(request, &data).await
                };
                let fits = call(&of_length(limit)).await;
                assert_ne!(fits.status().code(), Code::ResourceExhausted, "{path} {encoding}");
                let exceeds = call(&of_length(limit + 1)).await;
                exceeds.assert_refused(Code::ResourceExhausted, ErrorReason::MessageTooLarge);
            }
        }
    }
}

#[tokio::test]
async fn s_83_a_decompression_bomb_is_refused() {
    for door in Door::both().await {
        let bomb = gzipped(&vec![0; 8 << 20]);
        assert!(bomb.len() < LIMIT);
        for path in [CHECK, BATCH, STREAM, CREATE_USER] {
            let request = with_header(path, "grpc-encoding", "gzip");
            let exchange = door.connect().await.call(request, &[&framed(1, &bomb)]).await;
            exchange.assert_refused(Code::ResourceExhausted, ErrorReason::MessageTooLarge);
        }
    }
}

/// "If a server responds with Trailers before the client's END_STREAM, then the server should send RST_STREAM with NO_ERROR error
/// code immediately following that HEADERS frame".
#[tokio::test]
async fn an_early_response_is_followed_by_a_reset_without_an_error() {
    for door in Door::both().await {
        // Nothing but the length is there when it is refused.
        let endless = [0, 0xff, 0xff, 0xff, 0xff];
        for (path, content_type, data) in [
            (CHECK, "application/grpc", &endless[..]),
            (BATCH, "application/grpc", &endless),
            (CREATE_USER, "application/grpc", &endless),
            (CREATE_USER, "text/plain", b""),
            ("/no.Such/Method", "application/grpc", b""),
        ] {
            let mut connection = door.connect().await;
            let request = with_header(path, "content-type", content_type);
            let (answer, mut stream) = connection.start(request, false).await;
            stream.send_data(Bytes::copy_from_slice(data), false).unwrap();
            let exchange = connection.receive(answer).await;
            assert_ne!(exchange.status().code(), Code::Ok);
            let reset = connection.recorder.wait_for(RST_STREAM, 1).await;
            assert_eq!(reset.payload, [0, 0, 0, 0], "{path}");
            let kinds: Vec<_> = connection
                .recorder
                .of_stream(1)
                .iter()
                .map(|frame| frame.kind)
                .collect();
            assert_eq!(kinds, [HEADERS, RST_STREAM]);
            // The connection goes on.
            let next = connection.call(post(CHECK), &[&door.check_message()]).await;
            door.assert_found(&next);
        }
    }
}

/// "Implementations MUST accept padded and un-padded values"; they "must not error due to receiving an invalid ASCII-Value that's a
/// valid field-value in HTTP"; names that begin with "grpc-" are reserved for the future; duplicate names may occur.
#[tokio::test]
async fn metadata_that_nobody_reads_changes_nothing() {
    let metadata: [&[(&str, &[u8])]; 8] = [
        &[("x-trace-bin", b"AAE="), ("x-trace-bin", b"AAE")],
        &[("x-trace-bin", b"AAE,AAI="), ("x-other-bin", b"!!!")],
        &[("x-ascii", b"\xe9\xff"), ("x-ascii", b"two")],
        &[("x-request-id", b"\xe9"), ("x-request-id", b"a b")],
        &[("grpc-message-type", b"auth.v1.Nothing")],
        &[("grpc-of-tomorrow", b"1"), ("grpc-previous-rpc-attempts", b"7")],
        &[
            ("grpc-accept-encoding", b"gzip,snappy, x"),
            ("accept-encoding", b"br"),
        ],
        &[("user-agent", b"\xff"), ("x-a.b_c-1", b"~")],
    ];
    for door in Door::both().await {
        for headers in metadata {
            let exchange = door.check_with(headers).await;
            door.assert_found(&exchange);
            assert!(!exchange.headers.contains_key("grpc-encoding"));
        }
    }
}

/// "Servers may limit the size of Request-Headers".
#[tokio::test]
async fn s_81_headers_over_the_limit_are_refused_and_the_connection_goes_on() {
    for door in Door::both().await {
        let mut connection = door.connect().await;
        let request = with_header(CHECK, "x-large", &"x".repeat(17 * 1024));
        let (answer, mut stream) = connection.start(request, false).await;
        let _ = stream.send_data(door.check_message().into(), true);
        let answered = answer.await.map(|response| response.status());
        assert!(
            !matches!(answered, Ok(StatusCode::OK)),
            "what exceeds the limit is no call: {answered:?}"
        );
        let next = connection.call(post(CHECK), &[&door.check_message()]).await;
        door.assert_found(&next);
    }
}

/// "DATA frame boundaries have no relation to Length-Prefixed-Message boundaries and implementations should make no assumptions about
/// their alignment."
#[tokio::test]
async fn messages_and_data_frames_need_not_be_aligned() {
    for door in Door::both().await {
        let check = door.check_message();
        let bytes: Vec<_> = check.chunks(1).collect();
        door.assert_found(&door.call(CHECK, &bytes).await);
        let with_gaps: Vec<&[u8]> = check.chunks(7).flat_map(|chunk| [chunk, b""]).collect();
        door.assert_found(&door.call(CHECK, &with_gaps).await);

        let three = check.repeat(3);
        for size in [1, 3, 50, three.len()] {
            let data: Vec<_> = three.chunks(size).collect();
            let exchange = door.call(STREAM, &data).await;
            assert_eq!(exchange.status().code(), Code::Ok);
            assert_eq!(exchange.messages().len(), 3);
        }
    }
}

/// "Length-Prefixed-Message → Compressed-Flag Message-Length Message", whole and of the method's type.
#[tokio::test]
async fn what_is_no_whole_message_is_a_malformed_request() {
    for door in Door::both().await {
        let whole = door.check_message();
        let with_garbage = [&whole[..], &[0, 0]].concat();
        let bodies: [&[&[u8]]; 10] = [
            &[],
            &[b""],
            &[&whole[..1]],
            &[&whole[..4]],
            &[&whole[..5]],
            &[&whole[..whole.len() - 1]],
            &[&with_garbage],
            // Field 1 as a number; a field without its length; a tag that is none.
            &[&framed(0, &[0x08, 1])],
            &[&framed(0, &[0x0a])],
            &[&framed(0, &[0xff; 16])],
        ];
        for path in [CHECK, BATCH, CURRENT_USER, CREATE_USER, DESTROY, WATCH] {
            for (number, body) in bodies.iter().enumerate() {
                let exchange = door.call(path, body).await;
                assert_eq!(
                    exchange.status().code(),
                    Code::InvalidArgument,
                    "{path} {number}: {exchange:?}"
                );
                exchange.assert_refused(Code::InvalidArgument, ErrorReason::MalformedRequest);
            }
        }
    }
}

#[tokio::test]
async fn a_stream_ends_at_the_message_that_is_none() {
    for door in Door::both().await {
        let whole = door.check_message();
        for rest in [&whole[..whole.len() - 1], &framed(0, &[0x0a])[..], &[7; 9][..]] {
            let exchange = door.call(STREAM, &[&[&whole[..], rest].concat()]).await;
            assert_eq!(exchange.messages().len(), 1);
            exchange.assert_refused(Code::InvalidArgument, ErrorReason::MalformedRequest);
        }
        let nothing = door.call(STREAM, &[]).await;
        assert_eq!((nothing.status().code(), nothing.messages().len()), (Code::Ok, 0));
    }
}

#[tokio::test]
async fn s_03_a_token_of_any_bytes_proves_no_session_and_fails_nothing_else() {
    for door in Door::both().await {
        for token in [&b"\xff\xfe"[..], b"ses_\xff", &[0xff; 47], "\u{e9}".as_bytes()] {
            let message = framed(0, &token_field(token));
            for path in [CHECK, CURRENT_USER, "/auth.v1.AuthService/RotateSession"] {
                let exchange = door.call(path, &[&message]).await;
                exchange.assert_refused(Code::Unauthenticated, ErrorReason::InvalidSession);
            }
            let destroyed = door.call(DESTROY, &[&message]).await;
            let destroyed = pb::DestroySessionResponse::decode(&*destroyed.messages()[0]).unwrap();
            assert!(!destroyed.existed);

            let good = token_field(door.token.as_bytes());
            let three = framed(0, &[&good[..], &token_field(token), &good].concat());
            for path in [BATCH, STREAM] {
                let exchange = door.call(path, &[&three]).await;
                let found = Ok(door.user_id.clone());
                let expected = [found.clone(), Err(ErrorReason::InvalidSession), found];
                assert_eq!(owners(&exchange.messages()[0]), expected);
            }
        }
        // Text that is no token must be text.
        let email = framed(0, &token_field(b"\xff\xfe@example.com"));
        let exchange = door.call(CREATE_USER, &[&email]).await;
        exchange.assert_refused(Code::InvalidArgument, ErrorReason::MalformedRequest);
    }
}

/// "Trailers-Only is permitted for calls that produce an immediate error", "delivered in a single HTTP2 HEADERS frame block". "The value
/// portion of Status is a decimal-encoded integer as an ASCII string, without any leading zeros"; that of Status-Message is
/// percent-encoded.
#[tokio::test]
async fn an_immediate_error_is_one_frame_of_headers() {
    for door in Door::both().await {
        let dead = framed(0, &token_field(b"x"));
        for (path, message, code) in [
            (CHECK, &dead, "16"),
            (CURRENT_USER, &dead, "16"),
            (CREATE_USER, &framed(0, &token_field("\u{e9}%\n".as_bytes())), "3"),
            (BATCH, &framed(0, b""), "3"),
            ("/no.Such/Method", &dead, "12"),
        ] {
            let exchange = door.call(path, &[message]).await;
            let [frame] = exchange.frames.as_slice() else {
                panic!("{exchange:?}");
            };
            assert_eq!((frame.kind, frame.ends_stream()), (HEADERS, true));
            assert_eq!(exchange.headers["content-type"], "application/grpc");
            assert_eq!(exchange.headers["grpc-status"], code, "{path}");
            let text = exchange.headers["grpc-message"].as_bytes();
            assert!(text.iter().all(|byte| (b' '..=b'~').contains(byte)), "{text:?}");
            reason(&exchange.status());
        }
    }
}

/// "RPC runtime implementations should interpret RST_STREAM as immediate full-closure of the stream": with CANCEL, the client cancels.
#[tokio::test]
async fn a_call_that_the_client_cancels_leaves_the_others_alone() {
    for door in Door::both().await {
        let mut connection = door.connect().await;
        let check = door.check_message();
        for path in [STREAM, CHECK, WATCH, CREATE_USER] {
            let (answer, mut stream) = connection.start(post(path), false).await;
            stream
                .send_data(Bytes::copy_from_slice(&check[..7]), false)
                .unwrap();
            stream.send_reset(h2::Reason::CANCEL);
            assert!(answer.await.is_err());
            door.assert_found(&connection.call(post(CHECK), &[&check]).await);
        }
    }
}

#[tokio::test]
async fn s_94_errors_of_health_and_reflection_have_a_reason_too() {
    for door in Door::both().await {
        let unknown = framed(0, &token_field(b"no.such.Name"));
        for path in ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"] {
            let exchange = door.call(path, &[&unknown]).await;
            exchange.assert_refused(Code::NotFound, ErrorReason::UnknownName);
        }
        for version in ["v1", "v1alpha"] {
            let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
            // The file that contains a symbol: field 4.
            let symbol = framed(0, &[&[0x22, 4], &b"nope"[..]].concat());
            let exchange = door.call(&path, &[&symbol]).await;
            exchange.assert_refused(Code::NotFound, ErrorReason::UnknownName);
        }
    }
}
