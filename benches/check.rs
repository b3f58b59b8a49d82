//! UserIdForSession over real gRPC, against a bare tonic service that returns a constant of the same size, against a Go server
//! with a map, and against what C does with HTTP/2: all sides in one run, in turns, driven by h2load.
//!
//! `cargo bench --bench check -- [--seconds N] [--rounds N]`

#![allow(missing_docs, reason = "a program")]

mod support;

use bytes::Bytes;
use prost::Message as _;
use sessiond::pb::{self, auth_service_client::AuthServiceClient};
use std::{
    convert::Infallible,
    future::{Future, ready},
    io::ErrorKind,
    path::{Path, PathBuf},
    pin::Pin,
    process::Command,
    sync::Arc,
    task::{Context, Poll},
};
use support::{Outcome, Server, service::Service};
use tonic::{Request, Response, Status, body::Body, server::NamedService, transport::server::TcpIncoming};
use tower::Service as TowerService;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Outcome {
    match support::role() {
        Some(_) => tonic_echo(),
        None => compare(),
    }
}

/// One server, and what it is asked.
struct Side {
    name: &'static str,
    url: String,
    /// The request's body; `None`: a plain GET.
    body: Option<PathBuf>,
}

impl Side {
    /// A gRPC server that answers a check of this token with a message of the usual size: it is asked once.
    fn grpc(directory: &Path, name: &'static str, address: &str, token: &str) -> Outcome<Self> {
        let message = pb::UserIdForSessionRequest {
            session_token: token.to_owned(),
        };
        let body = directory.join(name);
        std::fs::write(&body, support::framed(&message))?;
        let address = format!("http://{address}");
        let url = format!("{address}/auth.v1.AuthService/UserIdForSession");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let answered = runtime.block_on(async {
            let mut service = AuthServiceClient::connect(address).await?;
            Outcome::Ok(service.user_id_for_session(message).await?.into_inner())
        })?;
        // Nanoseconds and the length of the span take a byte more or less.
        match answered.encoded_len().abs_diff(answer().encoded_len()) {
            0..=8 => Ok(Self {
                name,
                url,
                body: Some(body),
            }),
            _ => Err(format!("{name} answers something else").into()),
        }
    }
}

/// Runs this program's own rounds over all sides.
fn compare() -> Outcome {
    let (seconds, rounds) = (support::flag("--seconds", 4), support::flag("--rounds", 5));
    let directory = tempfile::tempdir()?;
    let directory = directory.path();

    let echo = Server::in_role("tonic", &[])?;
    let memory = Service::start(directory, &["--store", "memory"])?;
    let data = directory.join("data");
    let embedded = Service::start(directory, &["--data-dir", &data.to_string_lossy()])?;
    let session_in = |service: &Service| -> Outcome<String> {
        let users: Arc<[String]> = service.create_users(1)?.into();
        Ok(service.create_sessions(&users, 1)?.text(0).to_owned())
    };
    let any_token = format!("ses_{}", "A".repeat(43));
    let mut sides = vec![
        Side::grpc(directory, "bare tonic echo", &echo.ready, &any_token)?,
        Side::grpc(
            directory,
            "sessiond, memory store",
            &memory.address.to_string(),
            &session_in(&memory)?,
        )?,
        Side::grpc(
            directory,
            "sessiond, embedded store",
            &embedded.address.to_string(),
            &session_in(&embedded)?,
        )?,
    ];
    let nghttpd = nghttpd(directory)?;
    sides.push(Side {
        name: "nghttpd, a file of the same size",
        url: format!("http://{}/answer", nghttpd.ready),
        body: None,
    });
    let go = go_server(directory)?;
    match &go {
        Some(server) => {
            let (address, token) = server.ready.split_once(' ').ok_or("no token")?;
            sides.push(Side::grpc(directory, "grpc-go with a map", address, token)?);
        }
        None => support::report("go is not installed: measured without the Go server")?,
    }

    support::report("UserIdForSession, requests per second (median of the rounds)")?;
    for (connections, streams) in [(1, 64), (8, 32), (32, 16)] {
        let mut measured: Vec<Vec<f64>> = vec![Vec::new(); sides.len()];
        for round in 0..rounds {
            for (side, measured) in sides.iter().zip(&mut measured) {
                support::progress(&format!(
                    "{connections} x {streams}, round {round}: {}",
                    side.name
                ))?;
                measured.push(support::h2load(&support::Load {
                    url: &side.url,
                    body: side.body.as_deref(),
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
        for (side, median) in sides.iter().zip(&medians) {
            let ratio = median / medians[0];
            support::report(&format!(
                "    {:<34} {median:>10.0}   {ratio:.2} of bare tonic",
                side.name
            ))?;
        }
        for (side, median) in sides.iter().zip(&medians).skip(3) {
            let ratio = medians[2] / median;
            support::report(&format!("    embedded store / {}: {ratio:.2}", side.name))?;
        }
    }
    Ok(())
}

/// A file of the size of the answer, served by nghttpd with as many threads as there are cores.
fn nghttpd(directory: &Path) -> Outcome<Server> {
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

/// The Go server of `benches/go`, built here; `None` without Go.
fn go_server(directory: &Path) -> Outcome<Option<Server>> {
    let program = directory.join("go-server");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/go"))
        .status();
    match built {
        Ok(status) if status.success() => Server::start(Command::new(program)).map(Some),
        Ok(_) => Err("the Go server does not compile".into()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A tonic server with its default settings that returns a constant.
fn tonic_echo() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // What `serve` itself would bind, with its TCP_NODELAY; only so is the port known.
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

impl<B> TowerService<http::Request<B>> for Echo
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
