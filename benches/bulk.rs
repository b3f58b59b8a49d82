//! Many checks in one message, as single calls and as a stream, against what Redis does with a pipeline: both sides in one run,
//! in turns.
//!
//! redis-benchmark GETs one and the same key without `-r`. A check is of any of the sessions, which a GET of any of as many keys
//! resembles more. Both are shown; every GET finds its 64 bytes, or the benchmark ends.
//!
//! `cargo bench --bench bulk -- [--seconds N] [--rounds N]`

#![allow(missing_docs, reason = "a program")]

mod support;

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
    time::Duration,
};
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
    fill(&redis)?;
    let requests = (1_000_000 * u64::from(seconds)).to_string();
    let gets = |keys: &str, threads: &str| {
        let flags = "-t get -d 64 -P 32 -c 50".split(' ');
        let mut all: Vec<&str> = flags.chain(["--threads", threads, "-n", &requests]).collect();
        if keys != "1" {
            all.extend(["-r", keys]);
        }
        redis.benchmark(&all)
    };

    let keys = SESSIONS.to_string();
    let asked = ["1", &keys].map(|keys| ["1", "2"].map(|threads| (keys, threads)));
    let asked = asked.as_flattened();
    let mut measured = vec![Vec::new(); asked.len() + SHAPES.len()];
    for round in 0..rounds {
        for (index, (keys, threads)) in asked.iter().enumerate() {
            support::progress(&format!(
                "round {round}: redis, {keys} keys, asked by {threads} threads"
            ))?;
            measured[index].push(gets(keys, threads)?);
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
            measured[asked.len() + index].push(ran.per_second);
        }
    }
    support::progress("")?;
    let medians: Vec<f64> = measured.into_iter().map(support::median).collect();
    support::report("Checks of many sessions, sessions per second (median of the rounds)")?;
    if redis_says(&redis, &["INFO", "stats"])?
        .lines()
        .all(|line| line != "keyspace_misses:0")
    {
        return Err("a GET that found nothing".into());
    }
    for ((keys, threads), median) in asked.iter().zip(&medians) {
        let name = format!("redis GET, 50 x 32, {keys} keys, {threads} threads");
        support::report(&format!("    {name:<48} {median:>11.0}"))?;
    }
    // Redis with whichever number of threads asks it for more.
    let [one_key, all_keys] = [&medians[..2], &medians[2..4]].map(|both| both[0].max(both[1]));
    for (shape, median) in SHAPES.iter().zip(&medians[asked.len()..]) {
        let name = format!("{}, {} x {}", shape.name, shape.connections, shape.at_once);
        let (like_for_like, other) = (median / all_keys, median / one_key);
        support::report(&format!(
            "    {name:<48} {median:>11.0}   {like_for_like:.2} of redis with as many keys, {other:.2} of redis with one"
        ))?;
    }
    Ok(())
}

/// Sets every key that redis-benchmark may ask for, with and without `-r`.
fn fill(redis: &Redis) -> Outcome {
    redis.benchmark(&["-t", "set", "-d", "64", "-n", "1000"])?;
    let value = "x".repeat(64);
    let mut connection = TcpStream::connect(redis.address)?;
    for first in (0..SESSIONS).step_by(1000) {
        let keys = first..SESSIONS.min(first + 1000);
        let replies = keys.len() * OK.len();
        let commands = keys.flat_map(|key| command(&["SET", &format!("key:{key:012}"), &value]));
        connection.write_all(&commands.collect::<Vec<_>>())?;
        let mut told = vec![0; replies];
        connection.read_exact(&mut told)?;
        if told != OK.repeat(replies / OK.len()) {
            return Err("Redis has refused a key".into());
        }
    }
    redis_says(redis, &["CONFIG", "RESETSTAT"])?;
    let last = format!("key:{:012}", SESSIONS - 1);
    for key in ["key:__rand_int__", &last] {
        if redis_says(redis, &["STRLEN", key])? != ":64\r\n" {
            return Err("a value of another size".into());
        }
    }
    Ok(())
}

const OK: &[u8] = b"+OK\r\n";

fn command(words: &[&str]) -> Vec<u8> {
    let mut command = format!("*{}\r\n", words.len());
    for word in words {
        command += &format!("${}\r\n{word}\r\n", word.len());
    }
    command.into_bytes()
}

/// The whole reply to one command.
fn redis_says(redis: &Redis, words: &[&str]) -> Outcome<String> {
    let mut connection = TcpStream::connect(redis.address)?;
    connection.write_all(&[command(words), command(&["QUIT"])].concat())?;
    let mut told = String::new();
    connection.read_to_string(&mut told)?;
    Ok(told.strip_suffix("+OK\r\n").ok_or("Redis broke off")?.to_owned())
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
