//! Several processes over one store, while processes, store and network fail at random: no answer may break a rule.

use crate::{
    chance::{self, Chance},
    health::becomes_serving,
    history::{Completion, Span},
    node::{self, Node},
    recorder::{Recorder, remembering_options},
    rules::Bounds,
    shared_store::SharedStore,
    workload::{SHORT, Workload, assert_clean, run_length},
};
use sessiond::client::SessionClient;
use std::time::{Duration, Instant};
use testkit::{
    proxy::Conduct,
    wall_clock::{self, HOUR},
};
use tokio::{sync::watch, task::block_in_place, time::sleep};

/// Sessions that one user may have: more than any gets.
const CAP: usize = 10_000;

const CLIENTS: usize = 12;

const BOUNDS: Bounds = Bounds {
    skew: Duration::from_millis(100),
    clock_error: Duration::ZERO,
    // The longest that anything stands still, until everything has noticed that it goes on.
    write_lag: Duration::from_secs(10),
    cap: CAP,
};

/// How far wrong wall clocks are where they are wrong at the start; the processes' clocks are up to twice that apart.
const CLOCK_ERROR: Duration = Duration::from_secs(1);

/// Sessions that last long enough for such clocks to tell one from the other.
const SHORT_FOR_WRONG_CLOCKS: Span = Span {
    lifetime: Duration::from_secs(10),
    idle: Duration::from_secs(5),
};

/// What happened last may have been over before the health service, which asks the store every second, has noticed it; connections
/// that ended with it are there again a moment later.
const NOTICED_WITHIN: Duration = Duration::from_secs(2);

/// Something that the nemesis did.
struct Deed {
    what: &'static str,
    /// The process that it happened to; `None` for the store, or for all of them.
    victim: Option<usize>,
    at: Duration,
    lasted: Duration,
}

/// Makes things fail, one after the other, until told to stop; then makes everything good again.
struct Nemesis {
    nodes: Vec<Node>,
    store: Option<SharedStore>,
    chance: Chance,
    /// How far wrong the wall clock of a process may be when it starts.
    clock_error: Duration,
    started: Instant,
    /// What it did, when and for how long.
    deeds: Vec<Deed>,
}

impl Nemesis {
    async fn rage(mut self, mut stop: watch::Receiver<()>) -> Self {
        self.set_clocks(None);
        loop {
            let quiet = self.some_millis(100, 700);
            tokio::select! {
                () = sleep(quiet) => {}
                _ = stop.changed() => return self,
            }
            self.do_something().await;
        }
    }

    fn some_millis(&mut self, from: usize, to: usize) -> Duration {
        Duration::from_millis((from + self.chance.below(to - from)) as u64)
    }

    async fn do_something(&mut self) {
        let victim = self.chance.below(self.nodes.len());
        let deed = self.chance.below(100);
        let lasts = match deed {
            0..45 => self.some_millis(0, 400),
            _ => self.some_millis(300, 2000),
        };
        let Some(store) = &mut self.store else {
            // The one process of a store that belongs to it.
            match deed {
                0..60 => self.kill_node(victim, lasts).await,
                60..75 => self.pause_node(victim, lasts).await,
                75..85 => self.part_node(victim, lasts).await,
                _ => self.set_clocks(Some(victim)),
            }
            return;
        };
        match deed {
            0..30 => self.kill_node(victim, lasts).await,
            30..39 => {
                self.deeds
                    .push(Deed::to_the_store("store killed", self.started, lasts));
                block_in_place(|| store.kill(&mut self.chance));
                sleep(lasts).await;
                block_in_place(|| store.start_again());
            }
            39..54 => self.pause_node(victim, lasts).await,
            54..66 => {
                self.deeds
                    .push(Deed::to_the_store("store paused", self.started, lasts));
                block_in_place(|| store.pause(&mut self.chance));
                sleep(lasts).await;
                block_in_place(|| store.resume());
            }
            66..82 => self.part_node(victim, lasts).await,
            82..91 => self.set_clocks(Some(victim)),
            _ => self.set_clocks(None),
        }
    }

    fn note(&mut self, what: &'static str, victim: usize, lasts: Duration) {
        self.deeds.push(Deed {
            what,
            victim: Some(victim),
            at: self.started.elapsed(),
            lasted: lasts,
        });
    }

    async fn kill_node(&mut self, victim: usize, lasts: Duration) {
        self.note("process killed", victim, lasts);
        block_in_place(|| self.nodes[victim].kill());
        sleep(lasts).await;
        let error = error_at_start(&mut self.chance, self.clock_error);
        self.nodes[victim].wall_clock.set_wrong_by(error);
        block_in_place(|| self.nodes[victim].start_again());
    }

    /// Sets the wall clock of a process, or of all, while they run. It stays so: each starts again under one that is right, or as
    /// wrong as may be.
    fn set_clocks(&mut self, victim: Option<usize>) {
        let errors = [-24 * HOUR, -HOUR, -30_000, -1500, 1500, 30_000, HOUR, 24 * HOUR];
        let error = self.chance.pick(&errors).unwrap();
        let what = match (victim, error < 0) {
            (Some(_), true) => "clock set back",
            (Some(_), false) => "clock set forward",
            (None, true) => "all clocks set back",
            (None, false) => "all clocks set forward",
        };
        self.deeds.push(Deed {
            what,
            victim,
            at: self.started.elapsed(),
            lasted: Duration::ZERO,
        });
        for (number, node) in self.nodes.iter().enumerate() {
            if victim.is_none_or(|victim| victim == number) {
                node.wall_clock.set_wrong_by(error);
            }
        }
    }

    async fn pause_node(&mut self, victim: usize, lasts: Duration) {
        self.note("process paused", victim, lasts);
        self.nodes[victim].pause();
        sleep(lasts).await;
        self.nodes[victim].resume();
    }

    /// Parts a process from its clients, one way or both.
    async fn part_node(&mut self, victim: usize, lasts: Duration) {
        self.note("process parted from its clients", victim, lasts);
        let conducts = [
            Conduct::HoldAll,
            Conduct::HoldReplies,
            Conduct::HoldRequests,
            Conduct::Refuse,
            Conduct::CutReplies { after: 1000 },
        ];
        let conduct = self.chance.pick(&conducts).unwrap();
        self.nodes[victim].set_network(conduct);
        sleep(lasts).await;
        self.nodes[victim].set_network(Conduct::Pass);
    }
}

fn error_at_start(chance: &mut Chance, at_most: Duration) -> wall_clock::Error {
    let at_most = at_most.as_millis() as usize;
    chance.below(at_most * 2 + 1) as wall_clock::Error - at_most as wall_clock::Error
}

/// What the clients of a run are.
#[derive(Clone, Copy)]
enum Clients {
    /// They ask for everything.
    Plain,
    /// They use the library that caches answers.
    Remembering,
}

/// Starts the processes of a run.
struct Starter {
    chance: Chance,
    clock_error: Duration,
}

impl Starter {
    fn start(&mut self, count: usize, mut arguments: Vec<String>) -> Vec<Node> {
        arguments.push(format!("--sessions-per-user={CAP}"));
        let mut start = || {
            let error = error_at_start(&mut self.chance, self.clock_error);
            Node::start_wrong_by(error, &arguments)
        };
        (0..count).map(|_| start()).collect()
    }
}

async fn run(of: &str, stage: fn(&mut Starter) -> Stage, clients: Clients, clock_error: Duration) {
    let seed = chance::seed(of);
    let mut starter = Starter {
        chance: Chance::part(seed, CLIENTS + 1),
        clock_error,
    };
    let (store, nodes) = block_in_place(|| stage(&mut starter));
    let channels: Vec<_> = nodes.iter().map(Node::channel).collect();
    let remembering = match clients {
        Clients::Plain => Vec::new(),
        Clients::Remembering => {
            let start = |node: &Node| SessionClient::start(node.endpoint(), remembering_options());
            nodes.iter().map(|node| start(node).unwrap()).collect()
        }
    };
    let nemesis = Nemesis {
        nodes,
        store,
        chance: Chance::part(seed, CLIENTS),
        clock_error,
        started: Instant::now(),
        deeds: Vec::new(),
    };
    let (stop, stopped) = watch::channel(());
    let raging = tokio::spawn(nemesis.rage(stopped));
    let workload = Workload {
        seed,
        clients: CLIENTS,
        // So little that all twelve together take a minute.
        lasts: run_length(5),
        patience: Duration::from_secs(3),
        short_lived: 20,
        short_span: match clock_error.is_zero() {
            true => SHORT,
            false => SHORT_FOR_WRONG_CLOCKS,
        },
    };
    let healed = async {
        stop.send(()).unwrap();
        let nemesis = raging.await.unwrap();
        sleep(NOTICED_WITHIN).await;
        for channel in &channels {
            becomes_serving(channel, true).await;
        }
        nemesis
    };
    let (recorder, nemesis) = workload.run(channels.clone(), remembering, healed).await;
    println!("{of}: {}", counted(&nemesis.deeds));
    let bounds = Bounds {
        clock_error,
        ..BOUNDS
    };
    assert_clean(of, &recorder, &bounds);
    assert_last_look_was_answered(&recorder);
}

impl Deed {
    fn to_the_store(what: &'static str, started: Instant, lasted: Duration) -> Self {
        Self {
            what,
            victim: None,
            at: started.elapsed(),
            lasted,
        }
    }
}

fn counted(deeds: &[Deed]) -> String {
    for Deed {
        what,
        victim,
        at,
        lasted,
    } in deeds
    {
        let victim = victim.map_or(String::new(), |number| format!(" {number}"));
        println!("{at:?}: {what}{victim} for {lasted:?}");
    }
    let mut kinds: Vec<&str> = deeds.iter().map(|deed| deed.what).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let count = |kind: &&str| deeds.iter().filter(|deed| deed.what == *kind).count();
    let counts: Vec<_> = kinds
        .iter()
        .map(|kind| format!("{} times {kind}", count(kind)))
        .collect();
    counts.join(", ")
}

/// When nothing is wrong any more, everything is answered.
fn assert_last_look_was_answered(recorder: &Recorder) {
    use crate::history::Event;
    let unanswered: Vec<_> = recorder
        .history()
        .into_iter()
        .filter(|operation| {
            operation.client == CLIENTS
                && match &operation.event {
                    Event::Check { completion, .. } => *completion == Completion::Unknown,
                    Event::List { completion, .. } => *completion == Completion::Unknown,
                    Event::Count { completion } => *completion == Completion::Unknown,
                    Event::Create { .. }
                    | Event::Rotate { .. }
                    | Event::Destroy { .. }
                    | Event::EndUser { .. }
                    | Event::EndEveryone { .. } => false,
                }
        })
        .collect();
    assert!(
        unanswered.is_empty(),
        "{} calls, such as {:?}",
        unanswered.len(),
        unanswered[0]
    );
}

/// Three processes over a shared store, one over a store of its own.
macro_rules! over {
    ($($store:ident { $answers:ident $remembered:ident $wrong_clocks:ident })*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $answers() {
                run(stringify!($store), $store, Clients::Plain, Duration::ZERO).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $remembered() {
                let of = concat!(stringify!($store), ", remembering");
                run(of, $store, Clients::Remembering, Duration::ZERO).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $wrong_clocks() {
                let of = concat!(stringify!($store), ", wrong clocks");
                run(of, $store, Clients::Remembering, CLOCK_ERROR).await;
            }
        )*
    };
}

over! {
    embedded {
        f_14_no_answer_over_the_embedded_store_breaks_a_rule
        f_14_no_remembered_answer_over_the_embedded_store_breaks_a_rule
        f_14_under_wrong_clocks_the_embedded_store_breaks_no_rule
    }
    postgres {
        f_14_no_answer_over_postgres_breaks_a_rule
        f_14_no_remembered_answer_over_postgres_breaks_a_rule
        f_14_under_wrong_clocks_postgres_breaks_no_rule
    }
    redis {
        f_14_no_answer_over_redis_breaks_a_rule
        f_14_no_remembered_answer_over_redis_breaks_a_rule
        f_14_under_wrong_clocks_redis_breaks_no_rule
    }
    redis_cluster {
        f_14_no_answer_over_a_redis_cluster_breaks_a_rule
        f_14_no_remembered_answer_over_a_redis_cluster_breaks_a_rule
        f_14_under_wrong_clocks_a_redis_cluster_breaks_no_rule
    }
}

type Stage = (Option<SharedStore>, Vec<Node>);

fn embedded(starter: &mut Starter) -> Stage {
    (None, starter.start(1, node::embedded_in_its_own()))
}

fn postgres(starter: &mut Starter) -> Stage {
    three_nodes_over(SharedStore::postgres(), starter)
}

fn redis(starter: &mut Starter) -> Stage {
    three_nodes_over(SharedStore::redis(), starter)
}

fn redis_cluster(starter: &mut Starter) -> Stage {
    three_nodes_over(SharedStore::redis_cluster(), starter)
}

fn three_nodes_over(store: SharedStore, starter: &mut Starter) -> Stage {
    let nodes = starter.start(3, store.arguments());
    (Some(store), nodes)
}
