//! Stopping: what is open finishes, what is silent does not matter, what is stuck is cut off.

use super::{
    Server,
    clients::{Http2, closed},
    options,
};
use sessiond::listener::{Options, Protocol};
use std::time::{Duration, Instant};
use testkit::waiting::in_time;
use tokio::net::TcpStream;

#[tokio::test]
async fn f_21_a_drain_finishes_what_is_open_and_tells_clients_to_go() {
    let mut server = Server::start(options(Protocol::Rpc));
    let idle = Http2::connect(server.address).await;
    idle.get("/").await.unwrap();
    let busy = Http2::connect(server.address).await;
    let answer = tokio::spawn(async move { busy.get("/slow").await });
    server.request_begun().await;

    server.trigger.drain();
    let drained = tokio::spawn(server.serving.drained());
    in_time(idle.connection).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
    server.gate.add_permits(1);
    in_time(answer).await.unwrap().unwrap();
    assert_eq!(in_time(drained).await.unwrap(), 0);
}

#[tokio::test]
async fn f_21_silent_connections_do_not_delay_a_drain() {
    for protocol in [Protocol::Rpc, Protocol::Web] {
        // The limit is far beyond the patience of this test.
        let server = Server::start(options(protocol));
        let mut silent = Vec::new();
        for _ in 0..10 {
            silent.push(TcpStream::connect(server.address).await.unwrap());
        }
        let preface_only = Http2::connect(server.address).await;
        let idle = Http2::connect(server.address).await;
        idle.get("/").await.unwrap();
        server.trigger.drain();
        assert_eq!(in_time(server.serving.drained()).await, 0);
        for mut stream in silent {
            closed(&mut stream).await;
        }
        drop(preface_only);
    }
}

#[tokio::test]
async fn f_21_what_is_stuck_is_cut_off_at_the_limit() {
    let mut server = Server::start(Options {
        drain_timeout: Duration::from_millis(300),
        ..options(Protocol::Rpc)
    });
    let client = Http2::connect(server.address).await;
    let answer = tokio::spawn(async move { client.get("/slow").await });
    server.request_begun().await;
    let started = Instant::now();
    server.trigger.drain();
    assert_eq!(in_time(server.serving.drained()).await, 1);
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert!(in_time(answer).await.unwrap().is_err());
}

#[tokio::test]
async fn f_21_a_second_order_stops_at_once() {
    let mut server = Server::start(options(Protocol::Web));
    let client = Http2::connect(server.address).await;
    let answer = tokio::spawn(async move { client.get("/slow").await });
    server.request_begun().await;
    server.trigger.drain();
    server.trigger.stop_now();
    assert_eq!(in_time(server.serving.drained()).await, 1);
    assert!(in_time(answer).await.unwrap().is_err());
}

#[tokio::test]
async fn s_87_a_drain_waits_for_work_whose_caller_has_gone() {
    let mut server = Server::start(options(Protocol::Rpc));
    let client = Http2::connect(server.address).await;
    client.get("/detached").await.unwrap();
    server.trigger.drain();
    in_time(client.connection).await.unwrap().unwrap();
    // Without the wait the worker would be gone by now.
    tokio::time::sleep(Duration::from_millis(100)).await;
    server.gate.add_permits(1);
    in_time(server.serving.drained()).await;
    assert!(server.begun.try_recv().is_ok());
}
