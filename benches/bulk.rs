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

    let shapes = [
        (
            "batches of 100 tokens",
            "BatchUserIdForSession",
            Form::Unary,
            100,
            8,
            8,
        ),
        (
            "batches of 1000 tokens",
            "BatchUserIdForSession",
            Form::Unary,
            1000,
            8,
            4,
        ),
        (
            "stream of 100 tokens a message",
            "StreamUserIdForSession",
            Form::Streaming,
            100,
            8,
            8,
        ),
        (
            "stream of 1000 tokens a message",
            "StreamUserIdForSession",
            Form::Streaming,
            1000,
            8,
            4,
        ),
    ];
    let mut measured = vec![Vec::new(); shapes.len() + 1];
    for round in 0..rounds {
        support::progress(&format!("round {round}: redis"))?;
        let pipelined = [
            "-t",
            "get",
            "-d",
            "64",
            "-P",
            "32",
            "-c",
            "50",
            "--threads",
            "2",
            "-n",
            &requests,
        ];
        measured[0].push(redis.benchmark(&pipelined)?);
        for (index, (name, method, form, count, connections, at_once)) in shapes.into_iter().enumerate() {
            support::progress(&format!("round {round}: {name}"))?;
            let load = Load {
                address: service.address,
                path: match method {
                    "BatchUserIdForSession" => "/auth.v1.AuthService/BatchUserIdForSession",
                    _ => "/auth.v1.AuthService/StreamUserIdForSession",
                },
                form,
                connections,
                at_once,
                threads: 2,
                span: Some(Duration::from_secs(seconds.into())),
            };
            let ran = wire::run(load, |connection| Batches {
                tokens: Arc::clone(&tokens),
                count,
                chance: Chance::new(connection),
            })?;
            measured[index + 1].push(ran.per_second);
        }
    }
    support::progress("")?;
    let medians: Vec<f64> = measured.into_iter().map(support::median).collect();
    support::report("Checks of many sessions, sessions per second (median of the rounds)")?;
    support::report(&format!("    {:<34} {:>11.0}", "redis GET, 50 x 32", medians[0]))?;
    for ((name, _, _, _, connections, at_once), median) in shapes.into_iter().zip(&medians[1..]) {
        let name = format!("{name}, {connections} x {at_once}");
        let ratio = median / medians[0];
        support::report(&format!("    {name:<34} {median:>11.0}   {ratio:.2} of redis"))?;
    }
    Ok(())
}

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
