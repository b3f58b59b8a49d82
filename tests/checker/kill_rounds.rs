//! `kill -9` in the middle of log-ins and log-outs on the embedded store, again and again.

use crate::{
    chance::{self, Chance},
    history::{Completion, Event, Key, Span, Token},
    node::{Node, embedded_in},
    recorder::{Caller, Recorder},
    rules::Bounds,
    workload::assert_clean,
};
use sessiond::domain::UserId;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::block_in_place;

const ROUNDS: usize = 50;
const CLIENTS: usize = 16;

/// More sessions than a client's one user gets.
const CAP: usize = 10_000;

/// How many tokens of earlier rounds are looked at again after each; all are after the last.
const LOOKED_AT_AGAIN: usize = 500;

const SPAN: Span = Span {
    lifetime: Duration::from_secs(3600),
    idle: Duration::from_secs(600),
};

fn arguments(data_dir: &std::path::Path) -> Vec<String> {
    let mut arguments = embedded_in(data_dir);
    arguments.push(format!("--sessions-per-user={CAP}"));
    arguments
}

/// A user for each client, so that no client's sessions are another's.
async fn make_users(caller: &Caller) -> Vec<UserId> {
    let mut users = Vec::new();
    for number in 0..CLIENTS {
        let email = format!("client-{number}@example.org");
        users.push(caller.new_user(0, &email).await.unwrap());
    }
    users
}

/// Creates sessions and ends two of three, until told to stop or nobody answers.
async fn log_in_and_out(caller: Caller, user: UserId, mut chance: Chance, is_over: Arc<AtomicBool>) {
    while !is_over.load(Ordering::Relaxed) {
        let Completion::Answer(issued) = caller.create(0, user, SPAN, None).await else {
            return;
        };
        let key = match chance.below(3) {
            0 => continue,
            1 => Key::Token(issued.token),
            _ => Key::Session(issued.session),
        };
        if caller.destroy(0, key).await == Completion::Unknown {
            return;
        }
    }
}

/// The tokens that were given out so far.
fn tokens(recorder: &Recorder) -> Vec<Token> {
    let history = recorder.history();
    let issued = history.iter().filter_map(|operation| match &operation.event {
        Event::Create { completion, .. } => Some(completion.answer()?.token),
        Event::Check { .. }
        | Event::Rotate { .. }
        | Event::Destroy { .. }
        | Event::EndUser { .. }
        | Event::EndEveryone { .. }
        | Event::List { .. }
        | Event::Count { .. } => None,
    });
    issued.collect()
}

async fn look_at(caller: &Caller, tokens: &[Token]) {
    for some in tokens.chunks(500) {
        caller.check_batch(0, some).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_01_what_was_acknowledged_before_a_kill_holds_after_it() {
    let seed = chance::seed("kill rounds");
    let mut chance = Chance::from_seed(seed);
    let data_dir = tempfile::tempdir().unwrap();
    let mut node = block_in_place(|| Node::start(&arguments(data_dir.path())));
    let recorder = Recorder::start();
    let caller = |number| Caller {
        number,
        recorder: Arc::clone(&recorder),
        channels: vec![node.channel()],
        remembering: Vec::new(),
        patience: Duration::from_secs(10),
    };
    let callers: Vec<Caller> = (0..=CLIENTS).map(caller).collect();
    let users = make_users(&callers[CLIENTS]).await;
    let mut slowest_start = Duration::ZERO;
    let mut judged = 0;
    for round in 0..ROUNDS {
        let is_over = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let chance = Chance::part(seed, round * CLIENTS + number);
                let stream = log_in_and_out(
                    callers[number].clone(),
                    users[number],
                    chance,
                    Arc::clone(&is_over),
                );
                tokio::spawn(stream)
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(20 + chance.below(150) as u64)).await;
        block_in_place(|| node.kill());
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.unwrap();
        }
        slowest_start = slowest_start.max(block_in_place(|| node.start_again()));
        let all = tokens(&recorder);
        look_at(&callers[CLIENTS], &all[judged.min(all.len())..]).await;
        let again: Vec<_> = (0..LOOKED_AT_AGAIN)
            .filter_map(|_| chance.pick(&all[..judged]))
            .collect();
        look_at(&callers[CLIENTS], &again).await;
        judged = all.len();
    }
    look_at(&callers[CLIENTS], &tokens(&recorder)).await;
    for user in &users {
        callers[CLIENTS].list(0, *user).await;
    }
    callers[CLIENTS].count(0).await;
    println!("{judged} sessions over {ROUNDS} kills, ready again after {slowest_start:?} at most");
    let bounds = Bounds {
        skew: Duration::from_millis(20),
        clock_error: Duration::ZERO,
        write_lag: Duration::ZERO,
        cap: CAP,
    };
    assert_clean("kill rounds", &recorder, &bounds);
}
