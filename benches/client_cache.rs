//! A check that the client answers from memory, against the verification of an HS256 JWT: both sides in one run.
//!
//! `cargo bench --bench client_cache`

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sessiond::{
    auth::{Auth, AuthParts},
    client::{ClientOptions, SessionClient},
    domain::{RandomTokens, SessionLimits, SessionSpan, SystemClock},
    grpc::{Api, Options},
    listener::{self, Listener, Protocol},
    password::{HashingConfig, PasswordHasher},
    pb, shutdown,
    store::MemoryStore,
};
use std::{
    error::Error,
    hint::black_box,
    io::{Write as _, stdout},
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};
use tonic::transport::Endpoint;

type Failure = Box<dyn Error + Send + Sync>;

/// Each measurement lasts at least this long; the sides take turns, and of so many rounds the median counts.
const ROUND: Duration = Duration::from_millis(300);
const ROUNDS: usize = 7;
const USERS: usize = 100;
const SESSIONS_PER_USER: usize = 100;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let client = client_of_a_fresh_service().await?;
    let mut tokens = Vec::new();
    for n in 0..USERS {
        tokens.extend(log_in(&client, n).await?);
    }
    for token in &tokens {
        client.check(token).await?;
    }
    let jwts: Vec<String> = (0..tokens.len()).map(jwt).collect::<Result<_, _>>()?;
    let key = DecodingKey::from_secret(&SECRET);
    let validation = Validation::new(Algorithm::HS256);

    let check = |n: usize| client.try_cached(&tokens[n % tokens.len()]).is_some();
    let verify = |n: usize| decode::<Claims>(&jwts[n % jwts.len()], &key, &validation).is_ok();
    let check_one = |_: usize| client.try_cached(&tokens[0]).is_some();
    let verify_one = |_: usize| decode::<Claims>(&jwts[0], &key, &validation).is_ok();

    let mut out = stdout().lock();
    writeln!(
        out,
        "{} sessions remembered; median of {ROUNDS} rounds, sides in turn",
        tokens.len()
    )?;
    writeln!(
        out,
        "{:<34} {:>13} {:>13} {:>8}",
        "", "cached check", "HS256 verify", "ratio"
    )?;
    for threads in [1, 4] {
        for (what, check, verify) in [
            ("all sessions in turn", &check as Side<'_>, &verify as Side<'_>),
            ("one session over and over", &check_one, &verify_one),
        ] {
            let (mut checks, mut verifies) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                checks.push(nanoseconds_each(threads, check)?);
                verifies.push(nanoseconds_each(threads, verify)?);
            }
            let (check, verify) = (median(checks), median(verifies));
            let what = format!("{what}, {threads} threads");
            writeln!(
                out,
                "{what:<34} {check:>10.1} ns {verify:>10.1} ns {:>7.1}x",
                verify / check
            )?;
        }
    }
    Ok(())
}

type Side<'a> = &'a (dyn Fn(usize) -> bool + Sync);

/// How long one call takes on one thread while so many threads make calls.
fn nanoseconds_each(threads: usize, side: Side<'_>) -> Result<f64, Failure> {
    const AT_ONCE: usize = 1_000;
    let start = Barrier::new(threads);
    let spans = Mutex::new(Vec::new());
    let failed = Mutex::new(0);
    thread::scope(|scope| {
        for thread in 0..threads {
            let (start, spans, failed) = (&start, &spans, &failed);
            scope.spawn(move || {
                start.wait();
                let began = Instant::now();
                let (mut calls, mut failures) = (0_usize, 0_usize);
                while began.elapsed() < ROUND {
                    for n in calls..calls + AT_ONCE {
                        // Far apart, so that threads are not in step.
                        failures += usize::from(!side(black_box(n.wrapping_mul(7919) + thread * 1_237)));
                    }
                    calls += AT_ONCE;
                }
                spans
                    .lock()
                    .push(began.elapsed().as_nanos() as f64 / calls as f64);
                *failed.lock() += failures;
            });
        }
    });
    match failed.into_inner() {
        0 => Ok(median(spans.into_inner())),
        failures => Err(format!("{failures} calls failed").into()),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn client_of_a_fresh_service() -> Result<SessionClient, Failure> {
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
    let api = Api::new(&auth, Options::default());
    let listener = Listener::bind(([127, 0, 0, 1], 0).into())?;
    let address = listener.local_address();
    let (_never_stopped, shutdown) = shutdown::channel();
    listener.serve(listener::Options::new(Protocol::Rpc), shutdown, move || {
        api.clone()
    })?;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let client = SessionClient::start(endpoint, ClientOptions::default())?;
    client.cache_live().await;
    Ok(client)
}

async fn log_in(client: &SessionClient, user: usize) -> Result<Vec<String>, Failure> {
    let request = pb::CreateUserRequest {
        email: format!("user-{user}@example.com"),
        ..Default::default()
    };
    let created = client.user_service().create_user(request).await?.into_inner();
    let user_id = created.user.ok_or("no user")?.id;
    let mut tokens = Vec::new();
    for _ in 0..SESSIONS_PER_USER {
        let request = pb::CreateSessionRequest {
            credential: Some(pb::create_session_request::Credential::UserId(user_id.clone())),
            ..Default::default()
        };
        let created = client.auth_service().create_session(request).await?.into_inner();
        tokens.push(created.session_token);
    }
    Ok(tokens)
}

const SECRET: [u8; 32] = [7; 32];

/// What a service would need of a JWT in a session's stead.
#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    sid: String,
    auth_time: u64,
    exp: u64,
}

fn jwt(n: usize) -> Result<String, Failure> {
    let claims = Claims {
        sub: format!("01939d2a-1111-7000-8000-{n:012}"),
        sid: format!("01939d2a-2222-7000-8000-{n:012}"),
        auth_time: 1_795_000_000,
        exp: 4_000_000_000,
    };
    Ok(encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(&SECRET),
    )?)
}
