//! Durable log-ins over gRPC, against what Redis, PostgreSQL and SQLite do for one record: all sides in one run, in turns.
//!
//! `cargo bench --bench create -- [--seconds N] [--rounds N]`

#![allow(missing_docs, reason = "a program")]

mod support;

use parking_lot::Mutex;
use rusqlite::{Connection, params};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use support::{
    Outcome,
    engines::{Postgres, Redis},
    service::{CREATE, NewSessions, Service},
    wire::{self, Form, Load},
};

const USERS: usize = 50_000;

/// Callers at once: connections, and calls under way on each.
const CALLERS: [(usize, usize); 3] = [(1, 1), (8, 8), (16, 32)];

/// The embedded store's own table of sessions.
const SCHEMA: &str = include_str!("../src/store/embedded/migrations/0001_users_and_sessions.sql");

/// A row of the size of a session's.
const POSTGRES_SCHEMA: &str = "CREATE TABLE sessions (digest bytea PRIMARY KEY, id uuid NOT NULL, user_id uuid NOT NULL, \
     last_seen_at bigint NOT NULL, authenticated_at bigint NOT NULL, auth_method smallint NOT NULL, \
     lifetime_secs bigint NOT NULL, idle_timeout_secs bigint NOT NULL)";
const POSTGRES_INSERT: &str = "INSERT INTO sessions VALUES (sha256(random()::text::bytea), gen_random_uuid(), \
     gen_random_uuid(), 1795000000123, 1795000000123, 1, 43200, 1800);";

fn main() -> Outcome {
    let (seconds, rounds) = (support::flag("--seconds", 4), support::flag("--rounds", 5));
    let mut measured: [[Vec<f64>; 4]; 3] = Default::default();
    let mut waits: [Vec<f64>; 3] = Default::default();
    for round in 0..rounds {
        // No side's data grow from one round to the next.
        let directory = tempfile::tempdir()?;
        let directory = directory.path();
        support::progress(&format!("round {round}: starting"))?;
        let data = directory.join("data");
        let service = Service::start(directory, &["--data-dir", &data.to_string_lossy()])?;
        let users: Arc<[String]> = service.create_users(USERS)?.into();
        let redis = Redis::durable(directory)?;
        let postgres = Postgres::start(&directory.join("postgres"))?;
        postgres.sql(POSTGRES_SCHEMA)?;
        let script = directory.join("insert.sql");
        std::fs::write(&script, POSTGRES_INSERT)?;

        for (case, (connections, at_once)) in CALLERS.into_iter().enumerate() {
            let callers = connections * at_once;
            let say = |side: &str| support::progress(&format!("round {round}, {callers} callers: {side}"));
            say("sessiond")?;
            let before = service.session_count()?;
            let load = Load {
                address: service.address,
                path: CREATE,
                form: Form::Unary,
                connections,
                at_once,
                threads: connections.min(2),
                span: Some(Duration::from_secs(seconds.into())),
            };
            let created = wire::run(load, |connection| {
                NewSessions::endless(&users, connection, connections)
            })?;
            let answered = created.latencies.len() as u64;
            if service.session_count()? - before < answered {
                return Err("sessions were answered that are not there".into());
            }
            waits[case].push(created.latency_millis(0.99));
            measured[case][0].push(created.per_second);
            say("SQLite")?;
            measured[case][1].push(rows_per_second(
                &directory.join(format!("rows-{callers}")),
                callers,
                seconds,
            )?);
            say("Redis")?;
            let rough_rate = [4_000, 40_000, 80_000][case];
            let requests = (rough_rate * u64::from(seconds)).to_string();
            let flags = [
                "-t",
                "set",
                "-d",
                "64",
                "-r",
                "100000000",
                "-c",
                &callers.to_string(),
                "-n",
                &requests,
            ];
            measured[case][2].push(redis.benchmark(&flags)?);
            say("PostgreSQL")?;
            // Connecting alone can take a second.
            measured[case][3].push(postgres.benchmark(&script, callers, seconds.max(3))?);
        }
    }
    support::progress("")?;
    support::report("CreateSession by user_id on the embedded store, per second (median of the rounds)")?;
    for ((case, waits), (connections, at_once)) in measured.into_iter().zip(waits).zip(CALLERS) {
        let medians = case.map(support::median);
        let waits = support::median(waits);
        support::report(&format!("  {} callers", connections * at_once))?;
        support::report(&format!(
            "    {:<34} {:>10.0}   p99 {waits:.1} ms",
            "sessiond, synced before it answers", medians[0]
        ))?;
        let others = [
            "SQLite, a commit for each row",
            "redis SET, appendfsync always",
            "PostgreSQL INSERT",
        ];
        for (name, median) in others.into_iter().zip(&medians[1..]) {
            let ratio = medians[0] / median;
            support::report(&format!(
                "    {name:<34} {median:>10.0}   sessiond does {ratio:.2} of it"
            ))?;
        }
    }
    Ok(())
}

/// The same row into the same engine, a commit for each, from so many threads that take turns.
fn rows_per_second(file: &Path, callers: usize, seconds: u32) -> Outcome<f64> {
    let connection = Connection::open(file)?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute_batch(SCHEMA)?;
    let connection = Mutex::new(connection);
    let rows = AtomicU64::new(0);
    let begin = Instant::now();
    let span = Duration::from_secs(seconds.into());
    thread::scope(|scope| {
        let insert = || -> rusqlite::Result<()> {
            while begin.elapsed() < span {
                let connection = connection.lock();
                connection
                    .prepare_cached(
                        "INSERT INTO sessions (digest, id, user_id, epoch, last_seen_at, authenticated_at, auth_method, \
                         lifetime_secs, idle_timeout_secs, sum) VALUES (?1, ?2, ?3, 0, ?4, ?4, 1, 43200, 1800, ?5)",
                    )?
                    .execute(params![[7_u8; 32], [8_u8; 16], [9_u8; 16], 1_795_000_000_123_i64, i64::MAX / 3])?;
                rows.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        };
        let threads: Vec<_> = (0..callers).map(|_| scope.spawn(insert)).collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread failed")??;
        }
        Outcome::Ok(())
    })?;
    Ok(rows.into_inner() as f64 / begin.elapsed().as_secs_f64())
}
