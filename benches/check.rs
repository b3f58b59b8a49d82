//! UserIdForSession over real gRPC, against a bare tonic service that returns a constant of the same size, against a Go server
//! with a map, and against what C does with HTTP/2: all sides in one run, in turns, driven by h2load.
//!
//! `cargo bench --bench check -- [--seconds N] [--rounds N]`

#![allow(missing_docs, reason = "a program")]

mod support;

use bytes::Bytes;
use sessiond::{
    auth::{Auth, AuthParts},
    domain::{RandomTokens, SessionLimits, SystemClock},
    grpc::{Api, Options},
    listener::{self, Listener, Protocol},
    password::{HashingConfig, PasswordHasher},
    pb::{self, auth_service_client::AuthServiceClient, user_service_client::UserServiceClient},
    shutdown,
    store::{MemoryStore, SessionStore, UserStore},
};
use std::{
    convert::Infallible,
    future::{Future, ready},
    path::Path,
    pin::Pin,
    process::Command,
    sync::Arc,
    task::{Context, Poll},
};
use support::{Load, Outcome, Server};
use tonic::{
    Request, Response, Status,
    body::Body,
    server::NamedService,
    transport::{Channel, server::TcpIncoming},
};
use tower::Service;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Outcome {
    match support::role().as_deref() {
        Some("tonic") => tonic_echo(),
        Some(store) => sessiond(store),
        None => compare(),
    }
}

/// Runs this program's own rounds over all sides.
fn compare() -> Outcome {
    let flag = |name: &str, default: u32| {
        let mut arguments = std::env::args().skip_while(|argument| argument != name);
        arguments
            .nth(1)
            .and_then(|value| value.parse().ok())
            .unwrap_or(default)
    };
    let (seconds, rounds) = (flag("--seconds", 4), flag("--rounds", 3));
    let directory = tempfile::tempdir()?;
    let body = directory.path().join("request");

    let data = directory.path().join("data");
    let memory = Server::in_role("memory", &[])?;
    let embedded = Server::in_role("embedded", &[("DATA_DIR", &data.to_string_lossy())])?;
    let echo = Server::in_role("tonic", &[])?;
    let mut sides = vec![
        ("bare tonic echo", grpc_url(echo.address()?), true),
        ("sessiond, memory store", grpc_url(memory.address()?), true),
        ("sessiond, embedded store", grpc_url(embedded.address()?), true),
    ];
    let nghttpd = nghttpd(directory.path())?;
    sides.push((
        "nghttpd, a file of the same size",
        format!("http://{}/answer", nghttpd.ready),
        false,
    ));

    let tokens = [&memory, &embedded].map(|server| {
        server
            .ready
            .split_whitespace()
            .nth(1)
            .unwrap_or_default()
            .to_owned()
    });
    support::report("UserIdForSession, requests per second (median of the rounds)")?;
    for (connections, streams) in [(1, 64), (8, 32), (32, 16)] {
        let mut measured: Vec<Vec<f64>> = vec![Vec::new(); sides.len()];
        for round in 0..rounds {
            for (index, (name, url, is_grpc)) in sides.iter().enumerate() {
                support::progress(&format!("{connections} x {streams}, round {round}: {name}"))?;
                let token = if index == 2 { &tokens[1] } else { &tokens[0] };
                let message = pb::UserIdForSessionRequest {
                    session_token: token.clone(),
                };
                std::fs::write(&body, support::framed(&message))?;
                measured[index].push(support::h2load(&Load {
                    url,
                    body: is_grpc.then_some(&*body),
                    connections,
                    streams,
                    threads: connections.min(2),
                    seconds,
                })?);
            }
        }
        support::progress("")?;
        let medians: Vec<f64> = measured.into_iter().map(support::median).collect();
        support::report(&format!("  {connections} connections x {streams} streams"))?;
        for ((name, ..), median) in sides.iter().zip(&medians) {
            let ratio = median / medians[0];
            support::report(&format!(
                "    {name:<34} {median:>10.0}   {ratio:.2} of bare tonic"
            ))?;
        }
        if let Some(c) = medians.get(3) {
            support::report(&format!("    embedded store / nghttpd {:.2}", medians[2] / c))?;
        }
    }
    Ok(())
}

fn grpc_url(address: std::net::SocketAddr) -> String {
    format!("http://{address}/auth.v1.AuthService/UserIdForSession")
}

/// A file of the size of the answer, served by nghttpd with as many threads as there are cores.
fn nghttpd(directory: &Path) -> Outcome<Server> {
    use prost::Message as _;
    let root = directory.join("static");
    std::fs::create_dir(&root)?;
    std::fs::write(root.join("answer"), vec![b'x'; answer().encoded_len() + 5])?;
    let address = support::free_address()?;
    let threads = std::thread::available_parallelism()?.to_string();
    let mut command = Command::new("nghttpd");
    command
        .args(["--no-tls", "-a", "127.0.0.1", "-n", &threads, "-d"])
        .arg(&root);
    command.arg(address.port().to_string());
    Server::start_silent(command, address)
}

/// The service as `sessiond` serves it.
fn sessiond(store: &str) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (users, sessions): (Arc<dyn UserStore>, Arc<dyn SessionStore>) = match store {
            "memory" => {
                let store = Arc::new(MemoryStore::new());
                (store.clone(), store)
            }
            _ => {
                let store = Arc::new(sessiond::store::EmbeddedStore::open(Path::new(&support::told(
                    "DATA_DIR",
                )?))?);
                (store.clone(), store)
            }
        };
        let auth = Auth::new(AuthParts {
            users,
            sessions,
            passwords: PasswordHasher::start(HashingConfig::default())?,
            clock: Arc::new(SystemClock::starting_at_wall_time(None)),
            tokens: Arc::new(RandomTokens),
            limits: SessionLimits::DEFAULT,
        });
        let api = Api::new(&auth, Options::default());
        let listener = Listener::bind("127.0.0.1:0".parse()?)?;
        let address = listener.local_address();
        let (_trigger, shutdown) = shutdown::channel();
        let serving = listener.serve(listener::Options::new(Protocol::Rpc), shutdown, move || {
            api.clone()
        })?;
        let channel = Channel::from_shared(format!("http://{address}"))?
            .connect()
            .await?;
        let token = one_session(channel).await?;
        support::say_ready(&format!("{address} {token}"))?;
        serving.drained().await;
        Ok(())
    })
}

async fn one_session(channel: Channel) -> Outcome<String> {
    let request = pb::CreateUserRequest {
        email: "bench@example.com".into(),
        ..Default::default()
    };
    let user = UserServiceClient::new(channel.clone())
        .create_user(request)
        .await?
        .into_inner()
        .user;
    let user_id = user.ok_or("no user")?.id;
    let credential = Some(pb::create_session_request::Credential::UserId(user_id));
    let request = pb::CreateSessionRequest {
        credential,
        ..Default::default()
    };
    let mut sessions = AuthServiceClient::new(channel);
    let session_token = sessions.create_session(request).await?.into_inner().session_token;
    sessions
        .user_id_for_session(pb::UserIdForSessionRequest {
            session_token: session_token.clone(),
        })
        .await?;
    Ok(session_token)
}

/// A tonic server with its default settings that returns a constant.
fn tonic_echo() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // What `serve` itself would bind, with its TCP_NODELAY; only so can the port be told.
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse()?)?.with_nodelay(Some(true));
        support::say_ready(&incoming.local_addr()?.to_string())?;
        tonic::transport::Server::builder()
            .add_service(Echo)
            .serve_with_incoming(incoming)
            .await?;
        Ok(())
    })
}

fn answer() -> pb::UserIdForSessionResponse {
    let at = Some(prost_types::Timestamp {
        seconds: 1_795_000_000,
        nanos: 123_000_000,
    });
    pb::UserIdForSessionResponse {
        user_id: "01890000-0000-7000-8000-000000000000".into(),
        session_id: "01890000-0000-7000-8000-000000000001".into(),
        authenticated_at: at,
        auth_method: pb::AuthMethod::Caller.into(),
        valid_until: at,
        valid_for: Some(prost_types::Duration {
            seconds: 1799,
            nanos: 876_000_000,
        }),
    }
}

/// What tonic generates for a service of one method, and no more.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "auth.v1.AuthService";
}

struct Constant;

impl tonic::server::UnaryService<pb::UserIdForSessionRequest> for Constant {
    type Response = pb::UserIdForSessionResponse;
    type Future = std::future::Ready<Result<Response<Self::Response>, Status>>;

    fn call(&mut self, _: Request<pb::UserIdForSessionRequest>) -> Self::Future {
        ready(Ok(Response::new(answer())))
    }
}

impl<B> Service<http::Request<B>> for Echo
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(tonic_prost::ProstCodec::default());
            Ok(grpc.unary(Constant, request).await)
        })
    }
}
