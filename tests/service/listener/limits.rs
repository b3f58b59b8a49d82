//! What a connection may do, and for how long.

use super::{
    Server,
    clients::{Http2, closed, connect_from, exchange, handshake, request},
    options,
};
use http::StatusCode;
use sessiond::listener::{Options, Protocol};
use std::time::{Duration, Instant};
use testkit::waiting::{PATIENCE, in_time};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

const GET: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

#[tokio::test]
async fn s_80_a_connection_that_says_nothing_is_closed() {
    for protocol in [Protocol::Rpc, Protocol::Web] {
        let server = Server::start(Options {
            header_timeout: Duration::from_millis(200),
            ..options(protocol)
        });
        let started = Instant::now();
        let mut silent = TcpStream::connect(server.address).await.unwrap();
        closed(&mut silent).await;
        assert!(started.elapsed() >= Duration::from_millis(150), "{protocol:?}");
    }
}

#[tokio::test]
async fn s_80_a_connection_that_never_asks_anything_is_asked_to_close() {
    let server = Server::start(Options {
        header_timeout: Duration::from_millis(200),
        ..options(Protocol::Rpc)
    });
    let client = Http2::connect(server.address).await;
    in_time(client.connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn s_80_an_idle_connection_is_asked_to_close() {
    let server = Server::start(Options {
        idle_timeout: Duration::from_millis(200),
        ..options(Protocol::Rpc)
    });
    let client = Http2::connect(server.address).await;
    client.get("/").await.unwrap();
    in_time(client.connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_connection_with_an_open_request_is_not_idle() {
    let mut server = Server::start(Options {
        idle_timeout: Duration::from_millis(100),
        ..options(Protocol::Rpc)
    });
    let slow = Http2::connect(server.address).await;
    let answer = tokio::spawn(async move { slow.get("/slow").await });
    server.request_begun().await;
    // An idle connection comes and goes, so the same limit has passed for the other.
    let idle = Http2::connect(server.address).await;
    idle.get("/").await.unwrap();
    in_time(idle.connection).await.unwrap().unwrap();
    server.gate.add_permits(1);
    in_time(answer).await.unwrap().unwrap();
}

#[tokio::test]
async fn s_80_a_header_that_trickles_in_is_cut_off() {
    let server = Server::start(Options {
        header_timeout: Duration::from_millis(200),
        ..options(Protocol::Web)
    });
    let trickle = b"GET / HTTP/1.1\r\nhost: local";
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(trickle).await.unwrap();
    let mut second = TcpStream::connect(server.address).await.unwrap();
    exchange(&mut second, GET).await.unwrap();
    second.write_all(trickle).await.unwrap();
    closed(&mut first).await;
    closed(&mut second).await;
}

#[tokio::test]
async fn a_kept_alive_connection_may_pause_longer_than_a_header() {
    let server = Server::start(Options {
        header_timeout: Duration::from_millis(100),
        ..options(Protocol::Web)
    });
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    assert!(
        exchange(&mut stream, GET)
            .await
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
    // The limit is about bytes that do not come: nothing marks that they did not.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        exchange(&mut stream, GET)
            .await
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn s_76_the_limit_of_streams_is_announced_and_kept() {
    let server = Server::start(Options {
        streams_per_connection: 3,
        ..options(Protocol::Rpc)
    });
    let (mut requests, connection) = handshake(server.address).await;
    // Sent before the client has read the limit.
    let answers: Vec<_> = (0..4)
        .map(|_| requests.send_request(request("/slow"), true).unwrap().0)
        .collect();
    let connection = tokio::spawn(connection);
    let mut refused = 0;
    for answer in answers {
        server.gate.add_permits(1);
        match in_time(answer).await {
            Ok(response) => assert_eq!(response.status(), StatusCode::OK),
            Err(error) => {
                assert_eq!(error.reason(), Some(h2::Reason::REFUSED_STREAM));
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 1);
    assert_eq!(requests.current_max_send_streams(), 3);
    connection.abort();
}

#[tokio::test]
async fn many_requests_run_at_once_on_one_connection() {
    let mut server = Server::start(options(Protocol::Rpc));
    let client = std::sync::Arc::new(Http2::connect(server.address).await);
    let answers: Vec<_> = (0..128)
        .map(|_| {
            let client = std::sync::Arc::clone(&client);
            tokio::spawn(async move { client.get("/slow").await })
        })
        .collect();
    for _ in 0..128 {
        server.request_begun().await;
    }
    server.gate.add_permits(128);
    for answer in answers {
        in_time(answer).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn s_78_a_header_over_16_kib_is_refused() {
    let server = Server::start(options(Protocol::Rpc));
    let client = Http2::connect(server.address).await;
    let mut big = request("/");
    for number in 0..20 {
        let name = http::HeaderName::from_bytes(format!("x-{number}").as_bytes()).unwrap();
        big.headers_mut().insert(name, "v".repeat(1024).parse().unwrap());
    }
    let mut requests = client.requests.clone().ready().await.unwrap();
    let answer = requests.send_request(big, true).unwrap().0;
    // Refused, by status or by reset; the connection goes on.
    if let Ok(response) = in_time(answer).await {
        assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    }
    client.get("/").await.unwrap();
}

#[tokio::test]
async fn s_35_an_http_1_header_over_16_kib_or_100_fields_is_refused() {
    let server = Server::start(options(Protocol::Web));
    let long = format!(
        "GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "v".repeat(17 * 1024)
    );
    let many: String = (0..101).map(|number| format!("x-{number}: v\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n");
    for text in [long, many] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let answer = exchange(&mut stream, &text).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        closed(&mut stream).await;
    }
}

#[tokio::test]
async fn s_81_connections_over_the_limit_are_closed_and_the_others_go_on() {
    let server = Server::start(Options {
        connections: 2,
        ..options(Protocol::Rpc)
    });
    let first = Http2::connect(server.address).await;
    let second = Http2::connect(server.address).await;
    first.get("/").await.unwrap();
    second.get("/").await.unwrap();
    let mut third = TcpStream::connect(server.address).await.unwrap();
    closed(&mut third).await;
    first.get("/").await.unwrap();
    drop(second.requests);
    in_time(second.connection).await.unwrap().unwrap();
    // The server notices the close a moment after the client has seen it.
    in_time(async {
        loop {
            let stream = TcpStream::connect(server.address).await.unwrap();
            let Ok((requests, connection)) = h2::client::handshake(stream).await else {
                continue;
            };
            let client = Http2 {
                requests,
                connection: tokio::spawn(connection),
            };
            if client.get("/").await.is_ok() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn s_81_one_source_cannot_take_all_connections() {
    let server = Server::start(Options {
        connections_per_source: 1,
        ..options(Protocol::Web)
    });
    let mut first = connect_from([127, 0, 0, 2], server.address).await;
    assert!(
        exchange(&mut first, GET)
            .await
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
    let mut second = connect_from([127, 0, 0, 2], server.address).await;
    closed(&mut second).await;
    let mut other = connect_from([127, 0, 0, 3], server.address).await;
    assert!(
        exchange(&mut other, GET)
            .await
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn s_82_an_old_connection_is_asked_to_close_and_finishes_its_request() {
    let mut server = Server::start(Options {
        connection_age: Some(Duration::from_millis(100)),
        closing_timeout: PATIENCE,
        ..options(Protocol::Rpc)
    });
    let (requests, connection) = handshake(server.address).await;
    let client = Http2 {
        requests: requests.clone(),
        connection: tokio::spawn(connection),
    };
    let answer = tokio::spawn(async move {
        client.get("/slow").await.unwrap();
        client.connection.await
    });
    server.request_begun().await;
    // Ready fails once the GOAWAY has arrived.
    in_time(async {
        while requests.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.gate.add_permits(1);
    in_time(answer).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_request_cannot_keep_an_old_connection_for_ever() {
    let mut server = Server::start(Options {
        connection_age: Some(Duration::from_millis(50)),
        closing_timeout: Duration::from_millis(100),
        ..options(Protocol::Rpc)
    });
    let client = Http2::connect(server.address).await;
    let answer = tokio::spawn(async move { client.get("/slow").await });
    server.request_begun().await;
    assert!(in_time(answer).await.unwrap().is_err());
}

#[tokio::test]
async fn a_request_knows_who_sent_it() {
    let server = Server::start(options(Protocol::Web));
    let mut stream = connect_from([127, 0, 0, 9], server.address).await;
    let own = stream.local_addr().unwrap().to_string();
    let answer = exchange(
        &mut stream,
        "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.unwrap().contains(&own));
}
