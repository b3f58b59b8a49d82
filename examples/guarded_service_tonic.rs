//! A gRPC service that answers whoever has a session, and tells them who they are in the answer's metadata:
//! `cargo run --example guarded_service_tonic -- 127.0.0.1:8001 http://127.0.0.1:50051`

use sessiond::client::{CheckedSession, ClientOptions, RequireSession, SessionClient};
use std::{env, error::Error};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Endpoint, Server, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_server::{Health, HealthServer},
};

/// Any service will do: this one spares the example a contract of its own.
struct MyHealth;

#[tonic::async_trait]
impl Health for MyHealth {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let session = request.extensions().get::<CheckedSession>();
        let user = session
            .ok_or_else(|| Status::internal("not behind the guard"))?
            .user_id;
        let mut response = Response::new(HealthCheckResponse { status: 1 });
        let user = user
            .to_string()
            .parse()
            .map_err(|_| Status::internal("an id is ASCII"))?;
        response.metadata_mut().insert("user-id", user);
        Ok(response)
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask with Check"))
    }
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, sessiond: String) -> Result<(), Box<dyn Error + Send + Sync>> {
    let sessions = SessionClient::start(Endpoint::from_shared(sessiond)?, ClientOptions::default())?;
    let guarded = Server::builder()
        .layer(RequireSession::new(sessions))
        .add_service(HealthServer::new(MyHealth));
    Ok(guarded.serve_with_incoming(TcpIncoming::from(listener)).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = env::args().skip(1);
    let (Some(address), Some(sessiond)) = (arguments.next(), arguments.next()) else {
        return Err("give an address to listen on and the address of sessiond".into());
    };
    serve(TcpListener::bind(address).await?, sessiond).await
}
