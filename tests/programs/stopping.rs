//! Signals.

use crate::built::start_sessiond;
use bytes::Bytes;
use rustix::process::Signal;
use std::{net::TcpStream, time::Duration};
use testkit::{process::Running, waiting::PATIENCE};

#[test]
fn f_21_sigterm_drains_with_silent_connections_open() {
    let dir = tempfile::tempdir().unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let sessiond = start_sessiond(dir.path(), &["--store=memory", "--drain-timeout=1h"]);
        let silent: Vec<TcpStream> = (0..10)
            .flat_map(|_| [sessiond.grpc, sessiond.http])
            .map(|address| TcpStream::connect(address.unwrap()).unwrap())
            .collect();
        sessiond.signal(signal);
        let (status, log) = sessiond.ended(PATIENCE);
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("\"event\":\"stopped\",\"cut_off\":0"), "{log}");
        drop(silent);
    }
}

/// A call that never sends its message, of which the server knows.
async fn stuck_call(running: &Running) -> impl Sized + use<> {
    let stream = tokio::net::TcpStream::connect(running.grpc.unwrap())
        .await
        .unwrap();
    let (mut requests, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let call = |path: &str| {
        http::Request::post(format!("http://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap()
    };
    let stuck = requests
        .send_request(call("/auth.v1.AuthService/UserIdForSession"), false)
        .unwrap();
    // Requests arrive in order: when this one is answered, the one before has arrived.
    let (answer, mut message) = requests
        .send_request(call("/grpc.health.v1.Health/Check"), false)
        .unwrap();
    message.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
    answer.await.unwrap();
    (stuck, requests, connection)
}

#[tokio::test]
async fn f_21_a_stuck_call_is_cut_off_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let sessiond = start_sessiond(
        dir.path(),
        &["--store=memory", "--call-timeout=1h", "--drain-timeout=300ms"],
    );
    let call = stuck_call(&sessiond).await;
    let (status, log) = sessiond.stopped();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("\"event\":\"stopped\",\"cut_off\":1"), "{log}");
    drop(call);
}

#[tokio::test]
async fn f_21_a_second_signal_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut sessiond = start_sessiond(
        dir.path(),
        &["--store=memory", "--call-timeout=1h", "--drain-timeout=1h"],
    );
    let call = stuck_call(&sessiond).await;
    sessiond.signal(Signal::TERM);
    sessiond.line_with("draining");
    sessiond.signal(Signal::TERM);
    let (status, log) = sessiond.ended(Duration::from_secs(20));
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("asked again"), "{log}");
    drop(call);
}
