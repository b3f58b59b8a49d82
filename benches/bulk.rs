//! Many checks in one message, as single calls and as a stream, against what Redis does with a pipeline: both sides in one run,
//! in turns.
//!
//! `cargo bench --bench bulk -- [--seconds N] [--rounds N]`

#![allow(missing_docs, reason = "a program")]

mod support;

use std::{sync::Arc, time::Duration};
use support::{
    Outcome,
    engines::Redis,
    service::{Chance, Service, TOKEN_FIELD_BYTES, Tokens},
    wire::{self, Calls, Form, Load},
};

const USERS: usize = 20_000;
const SESSIONS: usize = 100_000;

fn main() -> Outcome {
    let (seconds, rounds) = (support::flag("--seconds", 4), support::flag("--rounds", 5));
    let directory = tempfile::tempdir()?;
    let service = Service::start(directory.path(), &["--store", "memory"])?;
    let users: Arc<[String]> = service.create_users(USERS)?.into();
    let tokens = Arc::new(service.create_sessions(&users, SESSIONS)?);
    let redis = Redis::in_memory()?;
    redis.benchmark(&["-t", "set", "-d", "64", "-n", "1000"])?;
    let requests = (1_000_000 * u64::from(seconds)).to_string();
    let gets = |threads: &str| {
        let flags = "-t get -d 64 -P 32 -c 50".split(' ');
        let all: Vec<&str> = flags.chain(["--threads", threads, "-n", &requests]).collect();
        redis.benchmark(&all)
    };

    let mut measured = vec![Vec::new(); 2 + SHAPES.len()];
    for round in 0..rounds {
        for (index, threads) in ["1", "2"].into_iter().enumerate() {
            support::progress(&format!("round {round}: redis, asked by {threads} threads"))?;
            measured[index].push(gets(threads)?);
        }
        for (index, shape) in SHAPES.iter().enumerate() {
            support::progress(&format!("round {round}: {}", shape.name))?;
            let load = Load {
                address: service.address,
                path: shape.path,
                form: shape.form,
                connections: shape.connections,
                at_once: shape.at_once,
                threads: 2,
                span: Some(Duration::from_secs(seconds.into())),
            };
            let ran = wire::run(load, |connection| Batches {
                tokens: Arc::clone(&tokens),
                count: shape.tokens,
                chance: Chance::new(connection),
            })?;
            measured[2 + index].push(ran.per_second);
        }
    }
    support::progress("")?;
    let medians: Vec<f64> = measured.into_iter().map(support::median).collect();
    support::report("Checks of many sessions, sessions per second (median of the rounds)")?;
    for (name, median) in ["redis GET, 50 x 32", "the same, asked by two threads"]
        .iter()
        .zip(&medians)
    {
        support::report(&format!("    {name:<38} {median:>11.0}"))?;
    }
    for (shape, median) in SHAPES.iter().zip(&medians[2..]) {
        let name = format!("{}, {} x {}", shape.name, shape.connections, shape.at_once);
        let (ratio, more) = (median / medians[0], median / medians[1]);
        support::report(&format!(
            "    {name:<38} {median:>11.0}   {ratio:.2} of redis, {more:.2} of the other"
        ))?;
    }
    Ok(())
}

/// How sessiond is asked.
struct Shape {
    name: &'static str,
    path: &'static str,
    form: Form,
    /// In each message.
    tokens: usize,
    connections: usize,
    /// Messages under way on each connection.
    at_once: usize,
}

const BATCH: &str = "/auth.v1.AuthService/BatchUserIdForSession";
const STREAM: &str = "/auth.v1.AuthService/StreamUserIdForSession";

const SHAPES: [Shape; 4] = [
    Shape {
        name: "batches of 100",
        path: BATCH,
        form: Form::Unary,
        tokens: 100,
        connections: 8,
        at_once: 8,
    },
    Shape {
        name: "batches of 1000",
        path: BATCH,
        form: Form::Unary,
        tokens: 1000,
        connections: 8,
        at_once: 4,
    },
    Shape {
        name: "a stream, 100 a message",
        path: STREAM,
        form: Form::Streaming,
        tokens: 100,
        connections: 8,
        at_once: 8,
    },
    Shape {
        name: "a stream, 1000 a message",
        path: STREAM,
        form: Form::Streaming,
        tokens: 1000,
        connections: 8,
        at_once: 4,
    },
];

/// Batches of sessions that stand next to each other in the order of their creation, which is none in memory.
struct Batches {
    tokens: Arc<Tokens>,
    count: usize,
    chance: Chance,
}

impl Calls for Batches {
    fn ask(&mut self, message: &mut Vec<u8>) -> bool {
        let from = self.chance.below(self.tokens.len() - self.count);
        message.reserve(self.count * TOKEN_FIELD_BYTES);
        message.extend_from_slice(self.tokens.fields(from, self.count));
        true
    }

    fn answered(&mut self, message: &[u8]) -> Outcome<u64> {
        let mut rest = message;
        let mut found = 0;
        // `checks`: field 1 of the answer; in it `found`: field 1. Both lengths are below 128.
        while let &[0x0a, length, 0x0a, ..] = rest {
            found += 1;
            rest = rest
                .get(2 + usize::from(length)..)
                .ok_or("a check that is cut off")?;
        }
        match rest.is_empty() && found == self.count {
            true => Ok(found as u64),
            false => Err("a check that found nobody".into()),
        }
    }
}
