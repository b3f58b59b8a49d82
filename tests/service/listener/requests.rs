//! How requests are read and answered on a gRPC connection: bodies, trailers, windows, resets, signs of life.

use super::{
    Server,
    clients::{Http2, closed, request},
    options,
    raw::{Frame, Raw},
};
use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Method, Request, StatusCode};
use sessiond::listener::{Options, Protocol};
use std::time::{Duration, Instant};
use testkit::waiting::{PATIENCE, in_time};
use tokio::net::TcpStream;

fn post(path: &str) -> Request<()> {
    let mut request = request(path);
    *request.method_mut() = Method::POST;
    request
}

/// The answer's body and its trailers.
async fn read(response: h2::client::ResponseFuture) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut body = in_time(response).await?.into_body();
    let mut bytes = Vec::new();
    while let Some(data) = in_time(body.data()).await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, in_time(body.trailers()).await?))
}

#[tokio::test]
async fn a_body_is_read_however_it_is_cut_up() {
    let mut server = Server::start(options(Protocol::Rpc));
    let client = Http2::connect(server.address).await;
    let cuts: [&[&str]; 4] = [
        &[],
        &["whole"],
        &["in ", "three ", "pieces"],
        &["with an end of its own", ""],
    ];
    for pieces in cuts {
        let mut requests = client.requests.clone().ready().await.unwrap();
        let (answer, mut body) = requests.send_request(post("/echo"), pieces.is_empty()).unwrap();
        for (number, piece) in pieces.iter().enumerate() {
            if number > 0 {
                // The service has read what was sent before: nothing comes in one piece by chance.
                server.request_begun().await;
            }
            body.send_data(Bytes::from_static(piece.as_bytes()), number + 1 == pieces.len())
                .unwrap();
        }
        assert_eq!(read(answer).await.unwrap().0, pieces.concat().as_bytes());
        while server.begun.try_recv().is_ok() {}
    }
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    let server = Server::start(options(Protocol::Rpc));
    let client = Http2::connect(server.address).await;
    let mut requests = client.requests.clone().ready().await.unwrap();
    let (answer, mut body) = requests.send_request(post("/echo"), false).unwrap();
    body.send_data(Bytes::from_static(b"first"), false).unwrap();
    let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("x-last"), "said".parse().unwrap())]);
    body.send_trailers(trailers.clone()).unwrap();
    let (text, heard) = read(answer).await.unwrap();
    assert_eq!(text, b"first");
    assert_eq!(heard, Some(trailers));
}

#[tokio::test]
async fn a_body_larger_than_all_windows_arrives_whole() {
    let server = Server::start(options(Protocol::Rpc));
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(1000)
        .handshake::<_, Bytes>(stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut requests = requests.ready().await.unwrap();
    let answers: Vec<_> = (0..3)
        .map(|_| requests.send_request(request("/large"), true).unwrap().0)
        .collect();
    for answer in answers {
        let (body, _) = read(answer).await.unwrap();
        assert_eq!(body.len(), super::LARGE_CHUNKS * super::LARGE_CHUNK.len());
    }
}

#[tokio::test]
async fn s_79_what_a_client_does_not_take_is_not_made() {
    let mut server = Server::start(options(Protocol::Rpc));
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (requests, connection) = h2::client::Builder::new()
        .initial_window_size(0)
        .handshake::<_, Bytes>(stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut requests = requests.ready().await.unwrap();
    let answer = requests.send_request(request("/large"), true).unwrap().0;
    let body = in_time(answer).await.unwrap().into_body();
    // Another call has been answered behind it, so the server has done all it would do.
    let other = requests.send_request(request("/empty"), true).unwrap().0;
    assert_eq!(in_time(other).await.unwrap().status(), StatusCode::OK);
    server.request_begun().await;
    assert!(server.begun.try_recv().is_err(), "a second chunk was made");
    // It counts as open: a drain waits for it, until the client goes.
    server.trigger.drain();
    let drained = tokio::spawn(server.serving.drained());
    drop(body);
    assert_eq!(in_time(drained).await.unwrap(), 0);
}

#[tokio::test]
async fn s_87_a_call_ends_when_its_client_resets_it() {
    let mut server = Server::start(options(Protocol::Rpc));
    let client = Http2::connect(server.address).await;
    for path in ["/endless", "/endless-body"] {
        let mut requests = client.requests.clone().ready().await.unwrap();
        let (answer, mut stream) = requests.send_request(post(path), false).unwrap();
        server.request_begun().await;
        stream.send_reset(Reason::CANCEL);
        // Dropped: the second message is sent by then only.
        server.request_begun().await;
        assert!(read(answer).await.is_err());
    }
    client.get("/").await.unwrap();
}

#[tokio::test]
async fn s_87_all_calls_end_when_their_connection_does() {
    let mut server = Server::start(options(Protocol::Rpc));
    let client = Http2::connect(server.address).await;
    let mut requests = client.requests.clone().ready().await.unwrap();
    let answers: Vec<_> = (0..3)
        .map(|_| requests.send_request(request("/endless"), true).unwrap())
        .collect();
    for _ in &answers {
        server.request_begun().await;
    }
    client.connection.abort();
    for _ in &answers {
        server.request_begun().await;
    }
}

#[tokio::test]
async fn what_goes_wrong_in_one_call_resets_its_stream_only() {
    let server = Server::start(options(Protocol::Rpc));
    let client = Http2::connect(server.address).await;
    let mut requests = client.requests.clone().ready().await.unwrap();
    let panicked = requests.send_request(request("/panic"), true).unwrap().0;
    let broken = requests.send_request(request("/broken"), true).unwrap().0;
    let good = requests.send_request(request("/empty"), true).unwrap().0;
    assert!(read(panicked).await.unwrap_err().is_reset());
    assert_eq!(
        read(broken).await.unwrap_err().reason(),
        Some(Reason::INTERNAL_ERROR)
    );
    assert!(read(good).await.is_ok());
}

#[tokio::test]
async fn headers_of_http_1_connections_are_left_out() {
    let server = Server::start(options(Protocol::Rpc));
    let client = Http2::connect(server.address).await;
    let mut requests = client.requests.clone().ready().await.unwrap();
    let answer = requests.send_request(request("/hop"), true).unwrap().0;
    let headers = in_time(answer).await.unwrap().headers().clone();
    assert_eq!(
        headers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(),
        ["x-kept"]
    );
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_has_ended() {
    let server = Server::start(options(Protocol::Rpc));
    let client = Http2::connect(server.address).await;
    let mut requests = client.requests.clone().ready().await.unwrap();
    let (answer, _body) = requests.send_request(post("/empty"), false).unwrap();
    assert_eq!(in_time(answer).await.unwrap().status(), StatusCode::OK);
    client.get("/").await.unwrap();
}

#[tokio::test]
async fn s_77_a_flood_of_resets_ends_the_connection() {
    let server = Server::start(options(Protocol::Rpc));
    let mut client = Raw::connect(server.address).await;
    let mut flood = Vec::new();
    for number in 0..200u32 {
        let stream = 2 * number + 1;
        flood.extend(Frame::get(stream).bytes());
        flood.extend(Frame::reset(stream).bytes());
    }
    client.send(&flood).await;
    assert_eq!(client.goaway().await, u32::from(Reason::ENHANCE_YOUR_CALM));
    closed(&mut client.stream).await;
}

#[tokio::test]
async fn what_is_not_http_2_is_not_answered() {
    let server = Server::start(options(Protocol::Rpc));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    closed(&mut stream).await;
}

#[tokio::test]
async fn a_client_without_a_sign_of_life_is_given_up() {
    let (interval, timeout) = (Duration::from_millis(100), Duration::from_millis(200));
    let server = Server::start(Options {
        keepalive_interval: interval,
        keepalive_timeout: timeout,
        ..options(Protocol::Rpc)
    });
    let started = Instant::now();
    let mut client = Raw::connect(server.address).await;
    client.ping().await;
    assert!(started.elapsed() >= interval);
    closed(&mut client.stream).await;
    assert!(started.elapsed() >= interval + timeout);
}

#[tokio::test]
async fn a_client_that_gives_signs_of_life_stays() {
    let server = Server::start(Options {
        keepalive_interval: Duration::from_millis(20),
        keepalive_timeout: PATIENCE,
        ..options(Protocol::Rpc)
    });
    let mut client = Raw::connect(server.address).await;
    // Asked again each time, so each answer was taken for one.
    for _ in 0..5 {
        let asked = client.ping().await;
        client.send(&asked.acknowledged().bytes()).await;
    }
    client.send(&Frame::get(1).bytes()).await;
    client.headers().await;
}
