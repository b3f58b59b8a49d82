//! A check over Redis and over PostgreSQL, against the least that a program can ask them through the same client library: sides
//! in one run, in turns. Once by the store alone, once by the whole service over gRPC.
//!
//! `cargo bench --bench stores -- [--seconds N] [--rounds N]`

#![allow(missing_docs, reason = "a program")]

mod support;

use futures_util::future::join_all;
use sessiond::{
    domain::{Clock as _, SystemClock, TokenDigest},
    store::{
        PostgresConfig, PostgresStore, PostgresUrl, SessionStore,
        redis::{RedisConfig, RedisStore},
    },
};
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use support::{
    Outcome,
    engines::{Postgres, Redis},
    service::{Chance, Checks, Service, Tokens, check_load},
    wire,
};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Callers at once: connections to the service, and calls under way on each.
const CALLERS: (usize, usize) = (8, 8);
const USERS: usize = 2_000;
const SESSIONS: usize = 10_000;
const VALUE: [u8; 64] = [b'x'; 64];

fn main() -> Outcome {
    let (seconds, rounds) = (support::flag("--seconds", 4), support::flag("--rounds", 5));
    let span = Duration::from_secs(seconds.into());
    let directory = tempfile::tempdir()?;
    let directory = directory.path();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let clock = SystemClock::starting_at_wall_time(None);
    support::report(&format!(
        "Checks over a shared store, {} callers, per second (median of the rounds)",
        CALLERS.0 * CALLERS.1
    ))?;

    let redis = Redis::in_memory()?;
    let users = directory.join("users").to_string_lossy().into_owned();
    let service = Service::start(
        directory,
        &["--data-dir", &users, "--session-store", &redis.url()],
    )?;
    let tokens = sessions_in(&service)?;
    let config = RedisConfig::new(&redis.url())?;
    let connections = config.connections;
    let store = runtime.block_on(RedisStore::connect(config))?;
    let gets = Gets::connect(&runtime, &redis, connections)?;
    compare("Redis", "GET of 64 bytes", rounds, &tokens, |side| match side {
        Side::Plain => runtime.block_on(per_second(span, |number| gets.get(number))),
        Side::Store => runtime.block_on(per_second(span, |number| found(&store, &tokens, &clock, number))),
        Side::Service => by_service(&service, &tokens, span),
    })?;

    let postgres = Postgres::start(&directory.join("postgres"))?;
    let service = Service::start(directory, &["--store", &postgres.url()])?;
    let tokens = sessions_in(&service)?;
    let config = PostgresConfig::new(PostgresUrl::new(postgres.url()));
    let connections = config.check_connections;
    let store = runtime.block_on(PostgresStore::connect(config))?;
    let selects = Selects::connect(&runtime, &postgres, connections)?;
    compare(
        "PostgreSQL",
        "SELECT by primary key",
        rounds,
        &tokens,
        |side| match side {
            Side::Plain => runtime.block_on(per_second(span, |number| selects.select(number))),
            Side::Store => {
                runtime.block_on(per_second(span, |number| found(&store, &tokens, &clock, number)))
            }
            Side::Service => by_service(&service, &tokens, span),
        },
    )
}

#[derive(Debug, Clone, Copy)]
enum Side {
    /// The engine alone.
    Plain,
    /// The store over it, called in this process.
    Store,
    /// The service over the store, called over gRPC.
    Service,
}

fn compare(
    engine: &str,
    plain: &str,
    rounds: u32,
    tokens: &Tokens,
    mut measure: impl FnMut(Side) -> Outcome<f64>,
) -> Outcome {
    let sides = [
        (Side::Plain, plain),
        (Side::Store, "check through the store"),
        (Side::Service, "UserIdForSession through sessiond"),
    ];
    let mut measured: [Vec<f64>; 3] = Default::default();
    for round in 0..rounds {
        for ((side, name), measured) in sides.into_iter().zip(&mut measured) {
            support::progress(&format!("{engine}, round {round}: {name}"))?;
            measured.push(measure(side)?);
        }
    }
    support::progress("")?;
    let medians = measured.map(support::median);
    support::report(&format!("  {engine}, {} sessions", tokens.len()))?;
    for ((_, name), median) in sides.into_iter().zip(medians) {
        let ratio = median / medians[0];
        support::report(&format!("    {name:<34} {median:>10.0}   {ratio:.2}"))?;
    }
    Ok(())
}

fn sessions_in(service: &Service) -> Outcome<Arc<Tokens>> {
    let users: Arc<[String]> = service.create_users(USERS)?.into();
    Ok(Arc::new(service.create_sessions(&users, SESSIONS)?))
}

fn by_service(service: &Service, tokens: &Arc<Tokens>, span: Duration) -> Outcome<f64> {
    let (connections, at_once) = CALLERS;
    let ran = wire::run(
        check_load(service.address, connections, at_once, span),
        |connection| Checks {
            tokens: Arc::clone(tokens),
            chance: Chance::new(connection),
        },
    )?;
    Ok(ran.per_second)
}

async fn found(store: &dyn SessionStore, tokens: &Tokens, clock: &SystemClock, number: usize) -> Outcome {
    let digest = TokenDigest::of_presented(tokens.text(number)).ok_or("no token")?;
    match store.check(&digest, clock.now()).get().await? {
        Some(_) => Ok(()),
        None => Err("a check that found nobody".into()),
    }
}

/// Calls of so many tasks, each of which picks a session at random and asks for it, over and over.
async fn per_second<F: Future<Output = Outcome>>(span: Duration, ask: impl Fn(usize) -> F) -> Outcome<f64> {
    let count = AtomicU64::new(0);
    let begin = Instant::now();
    let task = async |number| {
        let mut chance = Chance::new(number);
        while begin.elapsed() < span {
            ask(chance.below(SESSIONS)).await?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        Outcome::Ok(())
    };
    for outcome in join_all((0..CALLERS.0 * CALLERS.1).map(task)).await {
        outcome?;
    }
    Ok(count.into_inner() as f64 / begin.elapsed().as_secs_f64())
}

/// The same library as the store's, with as many connections, each shared by all callers.
struct Gets(Vec<redis::aio::MultiplexedConnection>);

impl Gets {
    fn connect(runtime: &Runtime, server: &Redis, connections: usize) -> Outcome<Self> {
        runtime.block_on(async {
            let client = redis::Client::open(server.url())?;
            let mut gets = Vec::new();
            for _ in 0..connections {
                gets.push(client.get_multiplexed_async_connection().await?);
            }
            for number in 0..SESSIONS {
                let mut set = redis::cmd("SET");
                set.arg(key(number)).arg(&VALUE);
                set.exec_async(&mut gets[0]).await?;
            }
            Ok(Self(gets))
        })
    }

    async fn get(&self, number: usize) -> Outcome {
        let mut connection = self.0[number % self.0.len()].clone();
        let value: Vec<u8> = redis::cmd("GET")
            .arg(key(number))
            .query_async(&mut connection)
            .await?;
        match value == VALUE {
            true => Ok(()),
            false => Err("another value".into()),
        }
    }
}

fn key(number: usize) -> String {
    format!("plain:{number:032}")
}

/// The same driver as the store's, with as many connections, each shared by all callers.
struct Selects(Vec<(tokio_postgres::Client, tokio_postgres::Statement)>);

impl Selects {
    fn connect(runtime: &Runtime, server: &Postgres, connections: u16) -> Outcome<Self> {
        server.sql(
            "CREATE TABLE plain (key bytea PRIMARY KEY, value bytea NOT NULL); \
             INSERT INTO plain SELECT convert_to(lpad(n::text, 32, '0'), 'UTF8'), convert_to(repeat('x', 64), 'UTF8') \
             FROM generate_series(0, 9999) n; ANALYZE plain",
        )?;
        runtime.block_on(async {
            let mut selects = Vec::new();
            for _ in 0..connections {
                let (client, connection) =
                    tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await?;
                tokio::spawn(connection);
                let statement = client.prepare("SELECT value FROM plain WHERE key = $1").await?;
                selects.push((client, statement));
            }
            Ok(Self(selects))
        })
    }

    async fn select(&self, number: usize) -> Outcome {
        let (client, statement) = &self.0[number % self.0.len()];
        let key = format!("{number:032}").into_bytes();
        let row = client.query_one(statement, &[&key]).await?;
        match row.try_get::<_, &[u8]>(0)? == VALUE {
            true => Ok(()),
            false => Err("another value".into()),
        }
    }
}
