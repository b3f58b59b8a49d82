//! Deadlines, health, reflection, and what every error looks like.

use http::Uri;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sessiond::pb::{self, ErrorReason, auth_service_client::AuthServiceClient};
use std::time::Duration;
use testkit::service::{Process, Service as Started, by_password, by_user_id, reason};
use tonic::{Code, Request, body::Body};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::Service;

pub(crate) async fn s_86_a_deadline_that_has_passed_is_answered_as_such(service: Started) {
    service.here.user("ann@example.com").await;
    let log_in = async |timeout: &str| {
        let mut request = Request::new(by_password("ann@example.com", testkit::service::PASSWORD));
        request
            .metadata_mut()
            .insert("grpc-timeout", timeout.parse().unwrap());
        let mut sessions = AuthServiceClient::with_origin(untimed(&service.here).await, Uri::default());
        sessions.create_session(request).await
    };
    let refused = log_in("1m").await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );

    // What that call started is done when the next one, behind it in the queue, is.
    assert!(log_in("garbage").await.is_ok());
    let before = service.here.hasher.stats().computed;
    assert_eq!(log_in("0n").await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(
        service.here.hasher.stats().computed,
        before,
        "what had expired on arrival was started"
    );
}

/// A connection that leaves deadlines to the server; tonic's own would be the first to notice them.
async fn untimed(
    process: &Process,
) -> impl Service<http::Request<Body>, Response = http::Response<Incoming>, Error = hyper::Error, Future: Send>
+ Clone {
    let socket = tokio::net::TcpStream::connect(process.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
            .await
            .unwrap();
    tokio::spawn(connection);
    tower::service_fn(move |mut request: http::Request<Body>| {
        let mut sender = sender.clone();
        *request.uri_mut() = format!("http://localhost{}", request.uri().path())
            .parse()
            .unwrap();
        async move { sender.send_request(request).await }
    })
}

pub(crate) async fn s_94_every_error_has_a_reason_from_the_list(service: Started) {
    let user = service.here.quick_user("ann@example.com").await;
    let refusals = [
        service.here.check("x").await.unwrap_err(),
        service.here.log_in("ann@example.com", "x").await.unwrap_err(),
        service.here.create(by_user_id("x")).await.unwrap_err(),
        service
            .here
            .create(by_user_id("01890000-0000-7000-8000-000000000000"))
            .await
            .unwrap_err(),
    ];
    for refused in refusals {
        let name = format!("ERROR_REASON_{}", reason(&refused));
        assert!(ErrorReason::from_str_name(&name).is_some(), "{name}");
        let message = refused.message().to_lowercase();
        for internal in ["sql", "panicked", ".rs", "src/", "redis", &user.id] {
            assert!(!message.contains(internal), "{message}");
        }
    }
}

pub(crate) async fn health_says_that_the_service_serves(service: Started) {
    let mut health = HealthClient::new(service.here.channel.clone());
    for name in ["", "auth.v1.AuthService", "auth.v1.UserService"] {
        let mut status = ServingStatus::Unknown;
        for _ in 0..50 {
            let request = HealthCheckRequest { service: name.into() };
            if let Ok(response) = health.check(request).await {
                status = response.into_inner().status();
                if status == ServingStatus::Serving {
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(status, ServingStatus::Serving, "{name}");
    }
    let unknown = health
        .check(HealthCheckRequest {
            service: "nope".into(),
        })
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

pub(crate) async fn reflection_describes_the_contract_in_both_versions(service: Started) {
    use tonic_reflection::pb::{v1, v1alpha};
    let list = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(service.here.channel.clone());
    let mut answers = client
        .server_reflection_info(tokio_stream::once(list))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(services) = answer else {
        panic!("not a list of services");
    };
    let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    for name in [
        "auth.v1.AuthService",
        "auth.v1.UserService",
        "grpc.health.v1.Health",
    ] {
        assert!(names.iter().any(|listed| listed == name), "{names:?}");
    }

    let describe = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
                "auth.v1.AuthService".into(),
            ),
        ),
    };
    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(service.here.channel.clone());
    let mut answers = client
        .server_reflection_info(tokio_stream::once(describe))
        .await
        .unwrap()
        .into_inner();
    let answer = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    assert!(matches!(
        answer,
        v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)
    ));
}

pub(crate) async fn an_unknown_method_is_unimplemented(service: Started) {
    for path in [
        "/auth.v1.AuthService/NoSuchCall",
        "/no.Such/Service",
        "/auth.v1.AuthService/userIdForSession",
    ] {
        let mut client = tonic::client::Grpc::new(service.here.channel.clone());
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<pb::GetStatsRequest, pb::GetStatsResponse>::default();
        let path = path.parse().unwrap();
        let refused = client
            .unary(Request::new(pb::GetStatsRequest {}), path, codec)
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented);
        assert_eq!(reason(&refused), "UNKNOWN_METHOD");
    }
}
