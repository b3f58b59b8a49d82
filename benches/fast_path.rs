//! What the fast path of the gRPC service buys, part by part: the same calls with it and without it, in turn, on one thread and
//! without a socket.
//!
//! `cargo bench --bench fast_path`

use bytes::{Buf as _, Bytes};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use prost::Message;
use sessiond::{
    auth::{Auth, AuthParts},
    domain::{RandomTokens, SessionLimits, SessionSpan, SystemClock},
    grpc::{Api, Options},
    password::{HashingConfig, PasswordHasher},
    pb::{self, create_session_request::Credential},
    store::MemoryStore,
};
use std::{
    error::Error,
    io::{Write as _, stdout},
    sync::Arc,
    time::{Duration, Instant},
};
use tower::Service as _;

type Failure = Box<dyn Error + Send + Sync>;

/// Each measurement lasts at least this long; the sides take turns, and of so many rounds the median counts.
const ROUND: Duration = Duration::from_millis(300);
const ROUNDS: usize = 7;

/// A token of the right form that proves nothing.
const DEAD: &str = "ses_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

const CHECK: &str = "/auth.v1.AuthService/UserIdForSession";
const BATCH: &str = "/auth.v1.AuthService/BatchUserIdForSession";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let store = Arc::new(MemoryStore::new());
    let auth = Auth::new(AuthParts {
        users: store.clone(),
        sessions: store,
        passwords: PasswordHasher::start(HashingConfig::default())?,
        clock: Arc::new(SystemClock::starting_at_wall_time(None)),
        tokens: Arc::new(RandomTokens),
        limits: SessionLimits {
            span: SessionSpan::from_secs(12 * 3600, 1800),
            max_per_user: 1_000,
        },
    });
    let side = |has_fast_path| {
        Api::new(
            &auth,
            Options {
                has_fast_path,
                ..Options::default()
            },
        )
    };
    let (mut with, mut without) = (side(true), side(false));
    let live = log_in(&mut with).await?;

    let one = |token: &str| {
        framed(&pb::UserIdForSessionRequest {
            session_token: token.to_owned(),
        })
    };
    let thousand = |token: &str| {
        framed(&pb::BatchUserIdForSessionRequest {
            session_tokens: vec![token.to_owned(); 1_000],
        })
    };
    let cases = [
        ("a check that finds a session", CHECK, one(&live)),
        ("a check that finds none", CHECK, one(DEAD)),
        (
            "a check that is not plain",
            CHECK,
            one(&format!("{DEAD}{}", "x".repeat(100))),
        ),
        ("1,000 checks that find sessions", BATCH, thousand(&live)),
        ("1,000 checks that find none", BATCH, thousand(DEAD)),
    ];
    let mut out = stdout().lock();
    writeln!(
        out,
        "one thread, no socket; median of {ROUNDS} rounds, sides in turn"
    )?;
    writeln!(
        out,
        "{:<34} {:>12} {:>12} {:>10}",
        "", "with", "without", "bought"
    )?;
    for (what, path, body) in cases {
        let (mut fast, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            fast.push(nanoseconds_each(&mut with, path, &body).await?);
            plain.push(nanoseconds_each(&mut without, path, &body).await?);
        }
        let (fast, plain) = (median(fast), median(plain));
        let bought = plain - fast;
        writeln!(out, "{what:<34} {fast:>9.0} ns {plain:>9.0} ns {bought:>7.0} ns")?;
    }
    Ok(())
}

/// What one call takes, from the request to the last byte of the response.
async fn nanoseconds_each(api: &mut Api, path: &'static str, body: &Bytes) -> Result<f64, Failure> {
    let started_at = Instant::now();
    let mut calls = 0_u32;
    while started_at.elapsed() < ROUND {
        for _ in 0..20 {
            let mut response = api.call(request(path, body.clone())).await?.into_body();
            while let Some(frame) = response.frame().await {
                std::hint::black_box(frame?);
            }
            calls += 1;
        }
    }
    Ok(started_at.elapsed().as_nanos() as f64 / f64::from(calls))
}

/// The token of a user who has just been created.
async fn log_in(api: &mut Api) -> Result<String, Failure> {
    let new_user = pb::CreateUserRequest {
        email: "ann@example.com".to_owned(),
        ..Default::default()
    };
    let created: pb::CreateUserResponse = ask(api, "/auth.v1.UserService/CreateUser", &new_user).await?;
    let log_in = pb::CreateSessionRequest {
        credential: Some(Credential::UserId(created.user.ok_or("no user")?.id)),
        ..Default::default()
    };
    let created: pb::CreateSessionResponse = ask(api, "/auth.v1.AuthService/CreateSession", &log_in).await?;
    Ok(created.session_token.clone())
}

async fn ask<A: Message + Default>(
    api: &mut Api,
    path: &'static str,
    message: &impl Message,
) -> Result<A, Failure> {
    let response = api.call(request(path, framed(message))).await?;
    let mut body = response.into_body().collect().await?.to_bytes();
    body.advance(5);
    Ok(A::decode(body)?)
}

fn request(path: &'static str, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static(path);
    let content_type = http::HeaderValue::from_static("application/grpc");
    request.headers_mut().insert("content-type", content_type);
    request
}

/// A message as gRPC frames it: no compression, length, message.
fn framed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], &length[..], &message].concat().into()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
