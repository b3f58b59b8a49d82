//! The examples, run as they are.

use super::real_service::{Service, log_in, user};
use sessiond::client::ClientOptions;
use std::net::SocketAddr;
use testkit::waiting::in_time;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tonic::{Code, Request, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

#[path = "../../../examples/guarded_service_axum.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod guarded_service_axum;
#[path = "../../../examples/guarded_service_tonic.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod guarded_service_tonic;

/// The status line and the body of the answer to a GET.
async fn get(address: SocketAddr, path: &str, cookie: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: example\r\nconnection: close\r\ncookie: {cookie}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn the_axum_example_tells_users_who_they_are() {
    let service = Service::start();
    let client = service.client(ClientOptions::default());
    let user = user(&client, "ann@example.com").await;
    let token = log_in(&client, &user).await.session_token;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sessiond = format!("http://{}", service.address());
    tokio::spawn(guarded_service_axum::serve(listener, sessiond));

    let cookie = format!("__Host-session={token}");
    for _ in 0..3 {
        let (status, body) = get(address, "/who-am-i", &cookie).await;
        assert_eq!(
            (status.as_str(), body),
            ("HTTP/1.1 200 OK", format!("{}\n", user.id))
        );
    }
    assert_eq!(get(address, "/who-am-i", "").await.0, "HTTP/1.1 401 Unauthorized");
    assert_eq!(get(address, "/status", "").await.1, "well\n");
    client.destroy_session(&token).await.unwrap();
    let refused =
        async { while get(address, "/who-am-i", &cookie).await.0 != "HTTP/1.1 401 Unauthorized" {} };
    in_time(refused).await;
}

#[tokio::test]
async fn the_tonic_example_tells_users_who_they_are() {
    let service = Service::start();
    let client = service.client(ClientOptions::default());
    let user = user(&client, "ann@example.com").await;
    let token = log_in(&client, &user).await.session_token;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let sessiond = format!("http://{}", service.address());
    tokio::spawn(guarded_service_tonic::serve(listener, sessiond));

    let channel = Endpoint::from_shared(address).unwrap().connect_lazy();
    let mut health = HealthClient::new(channel);
    for _ in 0..3 {
        let mut request = Request::new(HealthCheckRequest::default());
        request
            .metadata_mut()
            .insert("session-token", token.parse().unwrap());
        let response = health.check(request).await.unwrap();
        assert_eq!(
            response.metadata().get("user-id").unwrap().to_str().unwrap(),
            user.id
        );
    }
    let refused = health.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}
