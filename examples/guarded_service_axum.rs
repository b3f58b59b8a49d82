//! A web service that answers whoever has a session, and tells them who they are:
//! `cargo run --example guarded_service_axum -- 127.0.0.1:8000 http://127.0.0.1:50051`

use axum::{Extension, Router, routing::get};
use sessiond::client::{CheckedSession, ClientOptions, RequireSession, SessionClient};
use std::{env, error::Error};
use tokio::net::TcpListener;
use tonic::transport::Endpoint;

async fn who_am_i(Extension(session): Extension<CheckedSession>) -> String {
    format!("{}\n", session.user_id)
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, sessiond: String) -> Result<(), Box<dyn Error + Send + Sync>> {
    let sessions = SessionClient::start(Endpoint::from_shared(sessiond)?, ClientOptions::default())?;
    let guard = RequireSession::new(sessions)
        .cookie("__Host-session")
        .exclude(["/status", "/assets/*"])?;
    let routes = Router::new()
        .route("/status", get(async || "well\n"))
        .route("/who-am-i", get(who_am_i))
        .layer(guard);
    Ok(axum::serve(listener, routes).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = env::args().skip(1);
    let (Some(address), Some(sessiond)) = (arguments.next(), arguments.next()) else {
        return Err("give an address to listen on and the address of sessiond".into());
    };
    serve(TcpListener::bind(address).await?, sessiond).await
}
