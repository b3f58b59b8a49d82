//! How long a log-out takes until a thousand clients, each with the session in its memory, refuse it: over each store.
//!
//! `cargo bench --bench revocation -- [--revocations N] [--clients N]`

#![allow(missing_docs, reason = "a program")]

mod support;

use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all, stream};
use sessiond::{
    client::{ClientOptions, SessionClient},
    pb::{self, auth_service_client::AuthServiceClient},
};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use support::{
    Outcome,
    engines::{Postgres, Redis},
    service::Service,
};
use tokio::task::spawn_blocking;
use tonic::transport::{Channel, Endpoint};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A client that has received nothing for this long will not.
const LOST: Duration = Duration::from_secs(5);

fn main() -> Outcome {
    let revocations = support::flag("--revocations", 300);
    let clients = support::flag("--clients", 1000);
    let directory = tempfile::tempdir()?;
    let directory = directory.path();
    let postgres = Postgres::start(&directory.join("postgres"))?;
    let redis = Redis::durable(directory)?;
    let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let stores: [(&str, Vec<String>); 3] = [
        ("embedded", vec!["--data-dir".into(), path("data")]),
        (
            "Redis",
            vec![
                "--data-dir".into(),
                path("users"),
                "--session-store".into(),
                redis.url(),
            ],
        ),
        ("PostgreSQL", vec!["--store".into(), postgres.url()]),
    ];
    support::report(&format!(
        "From the call of DestroySession until {clients} of {clients} clients refuse the session, milliseconds, {revocations} times"
    ))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for (name, mut flags) in stores {
        flags.push("--connections-per-source=5000".into());
        let service = Service::start(directory, &flags)?;
        let measured = runtime.block_on(measure(name, &service, clients, revocations))?;
        support::progress("")?;
        let [heard, acknowledged] = measured.map(|mut micros| {
            micros.sort_unstable();
            [0.5, 0.99, 1.0].map(|part| support::quantile(&micros, part) / 1000.0)
        });
        let [p50, p99, most] = heard;
        support::report(&format!(
            "    {name:<12} p50 {p50:>6.1}   p99 {p99:>6.1}   longest {most:>6.1}   (the call itself: p50 {:.1}, p99 {:.1})",
            acknowledged[0], acknowledged[1]
        ))?;
    }
    Ok(())
}

/// Microseconds until every client refused, and until the call was answered.
async fn measure(name: &str, service: &Service, clients: u32, revocations: u32) -> Outcome<[Vec<u32>; 2]> {
    let user = service.create_users(1)?.pop().ok_or("no user")?;
    let address = format!("http://{}", service.address);
    let mut calls = AuthServiceClient::new(Channel::from_shared(address.clone())?.connect().await?);
    let clients: Arc<[SessionClient]> = (0..clients)
        .map(|_| {
            let options = ClientOptions {
                connections: 1,
                max_entries: 64,
                ..ClientOptions::default()
            };
            Ok(SessionClient::start(
                Endpoint::from_shared(address.clone())?,
                options,
            )?)
        })
        .collect::<Outcome<_>>()?;
    join_all(clients.iter().map(SessionClient::cache_live)).await;

    let (mut heard, mut acknowledged) = (Vec::new(), Vec::new());
    while heard.len() < revocations as usize {
        support::progress(&format!("{name}: {} of {revocations}", heard.len()))?;
        let token: Arc<str> = log_in(&mut calls, &user).await?.into();
        stream::iter(clients.iter().map(|client| client.check(&token)))
            .buffer_unordered(64)
            .try_for_each(async |_| Ok(()))
            .await?;
        // What a client does not answer from memory now, it would not have to refuse.
        if !clients.iter().all(|client| client.try_cached(&token).is_some()) {
            continue;
        }
        let begin = Instant::now();
        let watched = {
            let (clients, token) = (Arc::clone(&clients), Arc::clone(&token));
            spawn_blocking(move || until_all_refuse(&clients, &token, begin))
        };
        let destroyed = calls
            .destroy_session(pb::DestroySessionRequest {
                session: Some(pb::destroy_session_request::Session::SessionToken(
                    token.to_string(),
                )),
            })
            .await?;
        let answered = begin.elapsed();
        let all_refuse = watched.await??;
        if !destroyed.into_inner().existed {
            return Err("the session had ended already".into());
        }
        if !clients.iter().all(SessionClient::is_cache_live) {
            return Err("a client refused because it no longer heard of revocations".into());
        }
        heard.push(micros(all_refuse));
        acknowledged.push(micros(answered));
    }
    Ok([heard, acknowledged])
}

/// Looks at each client again and again until it no longer answers from memory that the session lives.
fn until_all_refuse(clients: &[SessionClient], token: &str, begin: Instant) -> Outcome<Duration> {
    let mut remaining: Vec<_> = clients.iter().collect();
    loop {
        remaining.retain(|client| client.try_cached(token).is_some());
        let passed = begin.elapsed();
        if remaining.is_empty() {
            return Ok(passed);
        }
        if passed > LOST {
            return Err(format!("{} clients never heard of a revocation", remaining.len()).into());
        }
        thread::sleep(Duration::from_micros(100));
    }
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

async fn log_in(calls: &mut AuthServiceClient<Channel>, user: &str) -> Outcome<String> {
    let request = pb::CreateSessionRequest {
        credential: Some(pb::create_session_request::Credential::UserId(user.to_owned())),
        ..Default::default()
    };
    Ok(calls.create_session(request).await?.into_inner().session_token)
}
