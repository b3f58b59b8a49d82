//! Several processes over one store, while processes, store and network fail at random: no answer may break a rule.

use crate::{
    chance::{self, Chance},
    health::becomes_serving,
    history::Told,
    node::{self, Node},
    proxy::Conduct,
    recorder::{Recorder, remembering_options},
    rules::Bounds,
    shared_store::SharedStore,
    workload::{Workload, assert_clean},
};
use sessiond::client::SessionClient;
use std::time::{Duration, Instant};
use tokio::{sync::watch, task::block_in_place, time::sleep};

/// Sessions that one user may have: more than any gets.
const CAP: usize = 10_000;

const CLIENTS: usize = 12;

const BOUNDS: Bounds = Bounds {
    skew: Duration::from_millis(100),
    // The longest that anything stands still, until everything has noticed that it goes on.
    write_lag: Duration::from_secs(10),
    cap: CAP,
};

/// How long each run lasts: `SESSIOND_NEMESIS_SECS`, or so little that all eight together take a minute.
fn lasts() -> Duration {
    let secs = match std::env::var("SESSIOND_NEMESIS_SECS") {
        Ok(text) => text.parse().expect("SESSIOND_NEMESIS_SECS is a number"),
        Err(_) => 7,
    };
    Duration::from_secs(secs)
}

/// Something that the nemesis did.
struct Deed {
    what: &'static str,
    /// The process that it happened to; `None` for the store.
    victim: Option<usize>,
    at: Duration,
    lasted: Duration,
}

/// Makes things fail, one after the other, until told to stop; then makes everything good again.
struct Nemesis {
    nodes: Vec<Node>,
    store: Option<SharedStore>,
    chance: Chance,
    started: Instant,
    /// What it did, when and for how long.
    deeds: Vec<Deed>,
}

impl Nemesis {
    async fn rage(mut self, mut stop: watch::Receiver<()>) -> Self {
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
                0..70 => self.kill_node(victim, lasts).await,
                70..90 => self.pause_node(victim, lasts).await,
                _ => self.part_node(victim, lasts).await,
            }
            return;
        };
        match deed {
            0..35 => self.kill_node(victim, lasts).await,
            35..45 => {
                self.deeds
                    .push(Deed::to_the_store("store killed", self.started, lasts));
                block_in_place(|| store.kill(&mut self.chance));
                sleep(lasts).await;
                block_in_place(|| store.start_again());
            }
            45..65 => self.pause_node(victim, lasts).await,
            65..80 => {
                self.deeds
                    .push(Deed::to_the_store("store paused", self.started, lasts));
                block_in_place(|| store.pause(&mut self.chance));
                sleep(lasts).await;
                block_in_place(|| store.resume());
            }
            _ => self.part_node(victim, lasts).await,
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
        block_in_place(|| self.nodes[victim].start_again());
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

/// What the clients of a run are.
#[derive(Clone, Copy)]
enum Clients {
    /// They ask for everything.
    Plain,
    /// They use the library that remembers answers.
    Remembering,
}

async fn run(of: &str, store: Option<SharedStore>, nodes: Vec<Node>, clients: Clients) {
    let seed = chance::seed(of);
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
        started: Instant::now(),
        deeds: Vec::new(),
    };
    let (stop, stopped) = watch::channel(());
    let raging = tokio::spawn(nemesis.rage(stopped));
    let workload = Workload {
        seed,
        clients: CLIENTS,
        lasts: lasts(),
        patience: Duration::from_secs(3),
        short_lived: 20,
    };
    let healed = async {
        stop.send(()).unwrap();
        let nemesis = raging.await.unwrap();
        for channel in &channels {
            becomes_serving(channel, true).await;
        }
        nemesis
    };
    let (recorder, nemesis) = workload.run(channels.clone(), remembering, healed).await;
    println!("{of}: {}", counted(&nemesis.deeds));
    assert_last_look_was_answered(&recorder);
    assert_clean(of, &recorder, &BOUNDS);
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
                    Event::Check { told, .. } => *told == Told::Unknown,
                    Event::List { told, .. } => *told == Told::Unknown,
                    Event::Count { told } => *told == Told::Unknown,
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
    ($($store:ident { $answers:ident $remembered:ident })*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $answers() {
                let (store, nodes) = block_in_place($store);
                run(stringify!($store), store, nodes, Clients::Plain).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $remembered() {
                let (store, nodes) = block_in_place($store);
                let of = concat!(stringify!($store), ", remembering");
                run(of, store, nodes, Clients::Remembering).await;
            }
        )*
    };
}

over! {
    embedded {
        f_14_no_answer_over_the_embedded_store_breaks_a_rule
        f_14_no_remembered_answer_over_the_embedded_store_breaks_a_rule
    }
    postgres {
        f_14_no_answer_over_postgres_breaks_a_rule
        f_14_no_remembered_answer_over_postgres_breaks_a_rule
    }
    redis {
        f_14_no_answer_over_redis_breaks_a_rule
        f_14_no_remembered_answer_over_redis_breaks_a_rule
    }
    redis_cluster {
        f_14_no_answer_over_a_redis_cluster_breaks_a_rule
        f_14_no_remembered_answer_over_a_redis_cluster_breaks_a_rule
    }
}

type Stage = (Option<SharedStore>, Vec<Node>);

fn embedded() -> Stage {
    (None, vec![Node::start(&capped(node::embedded_in_its_own()))])
}

fn postgres() -> Stage {
    three_nodes_over(SharedStore::postgres())
}

fn redis() -> Stage {
    three_nodes_over(SharedStore::redis())
}

fn redis_cluster() -> Stage {
    three_nodes_over(SharedStore::redis_cluster())
}

fn three_nodes_over(store: SharedStore) -> Stage {
    let arguments = capped(store.arguments());
    let nodes = (0..3).map(|_| Node::start(&arguments)).collect();
    (Some(store), nodes)
}

fn capped(mut arguments: Vec<String>) -> Vec<String> {
    arguments.push(format!("--sessions-per-user={CAP}"));
    arguments
}
