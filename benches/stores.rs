//! A check over Redis, over a Cluster of three and over PostgreSQL, against the least that a program can ask them through the same
//! client library: sides in one run, in turns. Once by the store alone, once by the whole service over gRPC.
//!
//! 64 callers are 64 tasks on a runtime with a thread for each core, as independent callers in a service are: each asks, waits and
//! asks again. The plain side shares as many connections as serve it best, which is found out beforehand; the store has those of
//! its defaults. For comparison, plain and store are also measured with all callers joined in a single task: its one thread hands
//! 64 questions over in one go and is woken once for their answers, the best case of a client library, which no service meets.
//! A ratio is to the plain side in the same shape; the service's is to tasks.
//!
//! `cargo bench --bench stores -- [--seconds N] [--rounds N] [--only redis|cluster|postgres]`

#![allow(missing_docs, reason = "a program")]

mod support;

use futures_util::future::{BoxFuture, join_all};
use redis::aio::ConnectionLike;
use sessiond::{
    domain::{Clock as _, SystemClock, TokenDigest},
    store::{
        PostgresConfig, PostgresStore, PostgresUrl, SessionStore,
        redis::{RedisConfig, RedisStore},
    },
};
use std::{
    env,
    future::Future,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use support::{
    Outcome,
    engines::{Postgres, Redis, RedisCluster},
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

/// How many connections the plain side may choose from, and how long it tries each.
const CONNECTIONS: [usize; 4] = [1, 2, 4, 8];
const TRIAL: Duration = Duration::from_millis(700);

fn main() -> Outcome {
    let bench = Bench {
        runtime: tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
        span: Duration::from_secs(support::flag("--seconds", 4).into()),
        rounds: support::flag("--rounds", 5),
    };
    let directory = tempfile::tempdir()?;
    support::report(&format!(
        "Checks over a shared store, {} callers, per second (median of the rounds)",
        CALLERS.0 * CALLERS.1
    ))?;
    if is_wanted("redis") {
        bench.redis(&directory.path().join("redis"))?;
    }
    if is_wanted("cluster") {
        bench.cluster(&directory.path().join("cluster"))?;
    }
    if is_wanted("postgres") {
        bench.postgres(&directory.path().join("postgres"))?;
    }
    Ok(())
}

fn is_wanted(engine: &str) -> bool {
    let mut arguments = env::args().skip_while(|argument| argument != "--only");
    arguments.nth(1).is_none_or(|only| only == engine)
}

struct Bench {
    runtime: Runtime,
    span: Duration,
    rounds: u32,
}

impl Bench {
    fn redis(&self, directory: &Path) -> Outcome {
        let server = Redis::in_memory()?;
        let client = redis::Client::open(server.url())?;
        self.redis_at("Redis", directory, &server.url(), || {
            Ok(client.get_multiplexed_async_connection())
        })
    }

    fn cluster(&self, directory: &Path) -> Outcome {
        let cluster = RedisCluster::start(directory)?;
        let client = redis::cluster::ClusterClient::new(cluster.nodes())?;
        self.redis_at("Redis Cluster of three", directory, &cluster.url(), || {
            let client = client.clone();
            Ok(async move { client.get_async_connection().await })
        })
    }

    fn redis_at<C, F>(
        &self,
        engine: &str,
        directory: &Path,
        url: &str,
        connect: impl Fn() -> Outcome<F>,
    ) -> Outcome
    where
        C: ConnectionLike + Clone + Send + Sync + 'static,
        F: Future<Output = redis::RedisResult<C>>,
    {
        std::fs::create_dir_all(directory)?;
        let users = directory.join("users").to_string_lossy().into_owned();
        let service = Service::start(directory, &["--data-dir", &users, "--session-store", url])?;
        let tokens = sessions_in(&service)?;
        let store = self
            .runtime
            .block_on(RedisStore::connect(RedisConfig::new(url)?))?;
        self.compare(
            engine,
            "GET of 64 bytes",
            &service,
            &tokens,
            Arc::new(store),
            |count| {
                let mut connections = Vec::new();
                for _ in 0..count {
                    connections.push(self.runtime.block_on(connect()?)?);
                }
                self.runtime.block_on(Gets::filled(connections))
            },
        )
    }

    fn postgres(&self, directory: &Path) -> Outcome {
        std::fs::create_dir_all(directory)?;
        let server = Postgres::start(&directory.join("server"))?;
        server.sql(
            "CREATE TABLE plain (key bytea PRIMARY KEY, value bytea NOT NULL); \
             INSERT INTO plain SELECT convert_to(lpad(n::text, 32, '0'), 'UTF8'), convert_to(repeat('x', 64), 'UTF8') \
             FROM generate_series(0, 9999) n; ANALYZE plain",
        )?;
        let service = Service::start(directory, &["--store", &server.url()])?;
        let tokens = sessions_in(&service)?;
        let config = PostgresConfig::new(PostgresUrl::new(server.url()));
        let store = self.runtime.block_on(PostgresStore::connect(config))?;
        let plain = "SELECT by primary key";
        self.compare("PostgreSQL", plain, &service, &tokens, Arc::new(store), |count| {
            self.runtime.block_on(Selects::connect(&server.url(), count))
        })
    }

    fn compare<A: Ask>(
        &self,
        engine: &str,
        plain_name: &str,
        service: &Service,
        tokens: &Arc<Tokens>,
        store: Arc<dyn SessionStore>,
        plain_over: impl Fn(usize) -> Outcome<A>,
    ) -> Outcome {
        support::progress(&format!(
            "{engine}: how many connections serve the plain side best"
        ))?;
        let mut best: Option<(f64, usize, Arc<A>)> = None;
        for count in CONNECTIONS {
            let asker = Arc::new(plain_over(count)?);
            let tried = [(); 3].map(|()| self.per_second(Shape::Tasks, TRIAL, &asker));
            let tried = support::median(tried.into_iter().collect::<Outcome<_>>()?);
            if best.as_ref().is_none_or(|(most, ..)| tried > *most) {
                best = Some((tried, count, asker));
            }
        }
        let (_, connections, plain) = best.ok_or("no plain side")?;
        let found = Arc::new(Found {
            store,
            tokens: Arc::clone(tokens),
            clock: SystemClock::starting_at_wall_time(None),
        });
        let mut measured: [Vec<f64>; 5] = Default::default();
        for round in 0..self.rounds {
            support::progress(&format!("{engine}, round {round}"))?;
            let sides = [
                self.per_second(Shape::Tasks, self.span, &plain)?,
                self.per_second(Shape::Tasks, self.span, &found)?,
                by_service(service, tokens, self.span)?,
                self.per_second(Shape::OneTask, self.span, &plain)?,
                self.per_second(Shape::OneTask, self.span, &found)?,
            ];
            measured
                .iter_mut()
                .zip(sides)
                .for_each(|(side, rate)| side.push(rate));
        }
        support::progress("")?;
        let medians = measured.map(support::median);
        let plain_name = format!("{plain_name}, {connections} connections");
        support::report(&format!("  {engine}, {} sessions", tokens.len()))?;
        for (name, rate, of) in [
            (plain_name.as_str(), medians[0], medians[0]),
            ("check through the store", medians[1], medians[0]),
            ("UserIdForSession through sessiond", medians[2], medians[0]),
            ("plain, all callers in one task", medians[3], medians[3]),
            ("store, all callers in one task", medians[4], medians[3]),
        ] {
            support::report(&format!("    {name:<40} {rate:>10.0}   {:.2}", rate / of))?;
        }
        Ok(())
    }

    /// Questions per second of so many callers, each of which picks a session at random and asks for it, over and over.
    fn per_second<A: Ask>(&self, shape: Shape, span: Duration, asker: &Arc<A>) -> Outcome<f64> {
        let count = Arc::new(AtomicU64::new(0));
        let begin = Instant::now();
        let caller = |number| {
            let (asker, count) = (Arc::clone(asker), Arc::clone(&count));
            async move {
                let mut chance = Chance::new(number);
                while begin.elapsed() < span {
                    asker.ask(chance.below(SESSIONS)).await?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Outcome::Ok(())
            }
        };
        let callers = (0..CALLERS.0 * CALLERS.1).map(caller);
        self.runtime.block_on(async {
            match shape {
                Shape::Tasks => {
                    for ended in join_all(callers.map(tokio::spawn)).await {
                        ended??;
                    }
                }
                Shape::OneTask => {
                    let all = tokio::spawn(join_all(callers));
                    for outcome in all.await? {
                        outcome?;
                    }
                }
            }
            Outcome::Ok(())
        })?;
        Ok(count.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64())
    }
}

/// How callers are run.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// Each as a task.
    Tasks,
    /// All joined in one.
    OneTask,
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

/// One side, asked in this process.
trait Ask: Send + Sync + 'static {
    /// Asks for the session, or the value, of this number.
    fn ask(&self, number: usize) -> BoxFuture<'_, Outcome>;
}

/// The store.
struct Found {
    store: Arc<dyn SessionStore>,
    tokens: Arc<Tokens>,
    clock: SystemClock,
}

impl Ask for Found {
    fn ask(&self, number: usize) -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            let digest = TokenDigest::of_presented(self.tokens.text(number)).ok_or("no token")?;
            match self.store.check(&digest, self.clock.now()).wait().await? {
                Some(_) => Ok(()),
                None => Err("a check that found nobody".into()),
            }
        })
    }
}

/// The same library as the store's, with connections that all callers share.
struct Gets<C>(Vec<C>);

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Gets<C> {
    async fn filled(mut connections: Vec<C>) -> Outcome<Self> {
        let first = connections.first_mut().ok_or("no connection")?;
        for number in 0..SESSIONS {
            let mut set = redis::cmd("SET");
            set.arg(key(number)).arg(&VALUE);
            set.exec_async(first).await?;
        }
        Ok(Self(connections))
    }
}

impl<C: ConnectionLike + Clone + Send + Sync + 'static> Ask for Gets<C> {
    fn ask(&self, number: usize) -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            let mut connection = self.0[number % self.0.len()].clone();
            let value: Vec<u8> = redis::cmd("GET")
                .arg(key(number))
                .query_async(&mut connection)
                .await?;
            match value == VALUE {
                true => Ok(()),
                false => Err("another value".into()),
            }
        })
    }
}

fn key(number: usize) -> String {
    format!("plain:{number:032}")
}

/// The same driver as the store's, with connections that all callers share.
struct Selects(Vec<(tokio_postgres::Client, tokio_postgres::Statement)>);

impl Selects {
    async fn connect(url: &str, connections: usize) -> Outcome<Self> {
        let mut selects = Vec::new();
        for _ in 0..connections {
            let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            let statement = client.prepare("SELECT value FROM plain WHERE key = $1").await?;
            selects.push((client, statement));
        }
        Ok(Self(selects))
    }
}

impl Ask for Selects {
    fn ask(&self, number: usize) -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            let (client, statement) = &self.0[number % self.0.len()];
            let key = format!("{number:032}").into_bytes();
            let row = client.query_one(statement, &[&key]).await?;
            match row.try_get::<_, &[u8]>(0)? == VALUE {
                true => Ok(()),
                false => Err("another value".into()),
            }
        })
    }
}
