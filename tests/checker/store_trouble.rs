//! A service whose store is down, hung, slow or cut off: "I cannot tell" is not "logged out", and never "logged in".

use crate::{
    chance::{self, Chance},
    health::becomes_serving,
    history::{Completion, Event, IssuedToken, Key, Operation, Span, Token},
    node::Node,
    recorder::{Caller, Recorder},
    rules::Bounds,
    shared_store::SharedStore,
    workload::{assert_clean, run_length},
};
use parking_lot::Mutex;
use sessiond::domain::UserId;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use testkit::{
    proxy::{Conduct, Proxy},
    waiting::{PATIENCE, within},
};
use tokio::{
    task::{JoinHandle, block_in_place},
    time::sleep,
};

const SPAN: Span = Span {
    lifetime: Duration::from_secs(3600),
    idle: Duration::from_secs(600),
};

const BOUNDS: Bounds = Bounds {
    skew: Duration::from_millis(100),
    clock_error: Duration::ZERO,
    write_lag: Duration::from_secs(20),
    cap: 100,
};

/// How long an answer to a check may take, whatever the store does: the store's own time limit of a second and a half, twice
/// because it may be asked twice, on a machine with other things to do.
const CHECK_WITHIN: Duration = Duration::from_secs(12);

/// How soon the health service must tell, and how soon everything must work again without a restart.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

const CLIENTS: usize = 8;

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Killed,
    Hung,
    Network(Conduct),
}

const FAULTS: [Fault; 6] = [
    Fault::Killed,
    Fault::Hung,
    Fault::Network(Conduct::Refuse),
    Fault::Network(Conduct::HoldReplies),
    Fault::Network(Conduct::HoldRequests),
    // Longer than anybody waits.
    Fault::Network(Conduct::Delay(Duration::from_secs(30))),
];

/// A process, its store, and a network between them.
struct Stage {
    store: SharedStore,
    network: Proxy,
    node: Node,
    recorder: Arc<Recorder>,
    users: Vec<UserId>,
    living: Arc<Mutex<Vec<IssuedToken>>>,
    over: Arc<Mutex<Vec<Token>>>,
    chance: Chance,
    seed: u64,
}

impl Stage {
    async fn start(of: &str, store: fn() -> SharedStore) -> Self {
        Self::start_with(of, store, &[]).await
    }

    async fn start_with(of: &str, store: fn() -> SharedStore, settings: &[&str]) -> Self {
        let (store, network, node) = block_in_place(|| {
            let store = store();
            let (network, mut arguments) = store.behind_a_proxy();
            arguments.extend(settings.iter().map(|setting| (*setting).to_owned()));
            let node = Node::start(&arguments);
            (store, network, node)
        });
        let seed = chance::seed(of);
        let mut stage = Self {
            store,
            network,
            node,
            recorder: Recorder::start(),
            users: Vec::new(),
            living: Arc::default(),
            over: Arc::default(),
            chance: Chance::part(seed, CLIENTS),
            seed,
        };
        let caller = stage.caller(CLIENTS);
        for number in 0..10 {
            let user = caller.new_user(0, &format!("user-{number}@example.org")).await;
            stage.users.push(user.unwrap());
        }
        for turn in 0..60 {
            let completion = caller
                .create(0, stage.users[turn % stage.users.len()], SPAN, None)
                .await;
            stage.living.lock().push(*completion.answer().unwrap());
        }
        for _ in 0..20 {
            let issued = stage.living.lock().pop().unwrap();
            assert_eq!(
                caller.destroy(0, Key::Token(issued.token)).await,
                Completion::Answer(true)
            );
            stage.over.lock().push(issued.token);
        }
        stage
    }

    /// A client that waits longer than any answer may take.
    fn caller(&self, number: usize) -> Caller {
        Caller {
            number,
            recorder: Arc::clone(&self.recorder),
            channels: vec![self.node.channel()],
            remembering: Vec::new(),
            patience: Duration::from_secs(30),
        }
    }

    /// Clients that ask all the time, until told to stop.
    fn busy_clients(&self) -> (Arc<AtomicBool>, Vec<JoinHandle<()>>) {
        let is_over = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|number| {
            let mut client = Client {
                caller: self.caller(number),
                users: self.users.clone(),
                living: Arc::clone(&self.living),
                over: Arc::clone(&self.over),
                chance: Chance::part(self.seed, number),
            };
            let is_over = Arc::clone(&is_over);
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    client.step().await;
                    sleep(Duration::from_millis(5)).await;
                }
            })
        });
        (Arc::clone(&is_over), clients.collect())
    }

    fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Killed => block_in_place(|| self.store.kill(&mut self.chance)),
            Fault::Hung => block_in_place(|| self.store.pause(&mut self.chance)),
            Fault::Network(conduct) => self.network.set(conduct),
        }
    }

    fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Killed => block_in_place(|| self.store.start_again()),
            Fault::Hung => block_in_place(|| self.store.resume()),
            Fault::Network(_) => self.network.set(Conduct::Pass),
        }
    }

    /// Waits until a check, a log-in and a log-out are answered again, and says how long that took.
    async fn recovers(&mut self) -> Duration {
        let asked_at = Instant::now();
        let caller = self.caller(CLIENTS);
        let token = self.living.lock()[0].token;
        while caller.check(0, token).await == Completion::Unknown {
            assert!(asked_at.elapsed() < PATIENCE, "no check is answered any more");
        }
        loop {
            if let Completion::Answer(issued) = caller.create(0, self.users[0], SPAN, None).await
                && caller.destroy(0, Key::Token(issued.token)).await != Completion::Unknown
            {
                return asked_at.elapsed();
            }
            assert!(asked_at.elapsed() < PATIENCE, "nothing is written any more");
        }
    }

    async fn judge(self, of: &str) {
        let caller = self.caller(CLIENTS);
        let tokens: Vec<_> = self.living.lock().iter().map(|issued| issued.token).collect();
        let over = self.over.lock().clone();
        caller.check_batch(0, &tokens).await;
        for some in over.chunks(500) {
            caller.check_batch(0, some).await;
        }
        for user in &self.users {
            caller.list(0, *user).await;
        }
        assert_clean(of, &self.recorder, &BOUNDS);
    }
}

/// A program that checks sessions, and now and then creates and ends one.
struct Client {
    caller: Caller,
    users: Vec<UserId>,
    living: Arc<Mutex<Vec<IssuedToken>>>,
    over: Arc<Mutex<Vec<Token>>>,
    chance: Chance,
}

impl Client {
    async fn step(&mut self) {
        match self.chance.below(100) {
            0..75 => {
                let token = self.chance.pick(&self.living.lock()).unwrap().token;
                self.caller.check(0, token).await;
            }
            75..90 => {
                let token = self.chance.pick(&self.over.lock()).unwrap();
                self.caller.check(0, token).await;
            }
            _ => {
                let user = self.chance.pick(&self.users).unwrap();
                if let Completion::Answer(issued) = self.caller.create(0, user, SPAN, None).await {
                    self.caller.destroy(0, Key::Token(issued.token)).await;
                    self.over.lock().push(issued.token);
                }
            }
        }
    }
}

fn slowest_check(history: &[Operation]) -> Duration {
    let checks = history
        .iter()
        .filter(|operation| matches!(operation.event, Event::Check { .. }));
    checks
        .map(|operation| operation.returned - operation.invoked)
        .max()
        .unwrap_or_default()
}

fn unknown_checks(history: &[Operation]) -> usize {
    let is_unknown = |operation: &&Operation| {
        matches!(
            operation.event,
            Event::Check {
                completion: Completion::Unknown,
                ..
            }
        )
    };
    history.iter().filter(is_unknown).count()
}

async fn every_fault_is_told_and_got_over(of: &str, store: fn() -> SharedStore) {
    let mut stage = Stage::start(of, store).await;
    let channel = stage.node.channel();
    let (is_over, clients) = stage.busy_clients();
    for fault in FAULTS {
        let before = unknown_checks(&stage.recorder.history());
        stage.begin(fault);
        let noticed = becomes_serving(&channel, false).await;
        assert!(
            noticed <= NOTICED_WITHIN,
            "{of}, {fault:?}: not serving after {noticed:?}"
        );
        sleep(Duration::from_millis(500)).await;
        stage.end(fault);
        let recovering = Instant::now();
        let works_again = stage.recovers().await;
        assert!(
            works_again <= NOTICED_WITHIN,
            "{of}, {fault:?}: works again after {works_again:?}"
        );
        becomes_serving(&channel, true).await;
        let serving_again = recovering.elapsed();
        assert!(
            serving_again <= NOTICED_WITHIN,
            "{of}, {fault:?}: serving after {serving_again:?}"
        );
        let unknown = unknown_checks(&stage.recorder.history()) - before;
        assert!(unknown > 0, "{of}: {fault:?} has troubled no check");
        println!(
            "{of}, {fault:?}: not serving after {noticed:?}, {unknown} checks could not tell, works after {works_again:?}"
        );
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let slowest = slowest_check(&stage.recorder.history());
    assert!(slowest <= CHECK_WITHIN, "{of}: a check took {slowest:?}");
    stage.judge(of).await;
}

/// Slow but within the time limits: every call is answered.
async fn a_slow_store_is_waited_for(of: &str, store: fn() -> SharedStore) {
    // Limits that a busy machine does not reach.
    let limits = ["--redis-timeout=9s", "--postgres-statement-timeout=8s"];
    let stage = Stage::start_with(of, store, &limits).await;
    stage.network.set(Conduct::Delay(Duration::from_millis(40)));
    let channel = stage.node.channel();
    let (is_over, clients) = stage.busy_clients();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(crate::health::is_serving(&channel).await, Some(true));
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(unknown_checks(&stage.recorder.history()), 0);
    stage.network.set(Conduct::Pass);
    stage.judge(of).await;
}

/// Connections are cut in the middle of replies, at every place.
async fn a_cut_reply_is_no_answer(of: &str, store: fn() -> SharedStore) {
    let mut stage = Stage::start(of, store).await;
    let (is_over, clients) = stage.busy_clients();
    let before = unknown_checks(&stage.recorder.history());
    for _ in 0..40 {
        let after = stage.chance.below(600);
        stage.network.set(Conduct::CutReplies { after });
        sleep(Duration::from_millis(50)).await;
        stage.network.set(Conduct::Pass);
        sleep(Duration::from_millis(50)).await;
    }
    let works_again = stage.recovers().await;
    assert!(
        works_again <= NOTICED_WITHIN,
        "{of}: works again after {works_again:?}"
    );
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(
        unknown_checks(&stage.recorder.history()) > before,
        "{of}: nothing was cut"
    );
    let slowest = slowest_check(&stage.recorder.history());
    assert!(slowest <= CHECK_WITHIN, "{of}: a check took {slowest:?}");
    stage.judge(of).await;
}

/// The store does its work, and the reply is lost on the way.
async fn a_lost_reply_is_no_acknowledgement(of: &str, store: fn() -> SharedStore) {
    let mut stage = Stage::start(of, store).await;
    let caller = stage.caller(CLIENTS);
    let mut ended_unheard = 0;
    for _ in 0..8 {
        let issued = stage.living.lock().pop().unwrap();
        stage.network.set(Conduct::CutReplies { after: 0 });
        let completion = caller.destroy(0, Key::Token(issued.token)).await;
        assert_eq!(
            completion,
            Completion::Unknown,
            "{of}: an end without the store's word"
        );
        let completion = caller.create(0, stage.users[0], SPAN, None).await;
        assert_eq!(
            completion,
            Completion::Unknown,
            "{of}: a session without the store's word"
        );
        stage.network.set(Conduct::Pass);
        let works_again = stage.recovers().await;
        assert!(
            works_again <= NOTICED_WITHIN,
            "{of}: works again after {works_again:?}"
        );
        // Trying again comes to the same end, whether the first attempt arrived or not.
        let completion = caller.destroy(0, Key::Token(issued.token)).await;
        let existed = completion.answer().expect("nothing is wrong any more");
        ended_unheard += u32::from(!existed);
        assert_eq!(caller.check(0, issued.token).await, Completion::Answer(None));
    }
    assert!(ended_unheard > 0, "{of}: no reply was lost after the deed");
    for _ in 0..20 {
        let issued = stage.living.lock()[0];
        stage.over.lock().push(issued.token);
        caller.check(0, issued.token).await;
    }
    stage.judge(of).await;
}

/// Callers give up at all times, and every caller that waits gets its own answer.
async fn an_answer_belongs_to_whom_it_was_asked_for(of: &str, store: fn() -> SharedStore) {
    const ASKERS: usize = 48;
    let stage = Stage::start(of, store).await;
    stage.network.set(Conduct::Delay(Duration::from_millis(10)));
    let is_over = Arc::new(AtomicBool::new(false));
    let tokens: Vec<Token> = stage.living.lock().iter().map(|issued| issued.token).collect();
    let askers: Vec<_> = (0..ASKERS)
        .map(|number| {
            let mut caller = stage.caller(number);
            let mut chance = Chance::part(stage.seed, number);
            let (tokens, is_over) = (tokens.clone(), Arc::clone(&is_over));
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    caller.patience = Duration::from_millis(chance.below(60) as u64);
                    let token = chance.pick(&tokens).unwrap();
                    match chance.below(8) {
                        0 => caller.current_user(0, token).await,
                        1 => caller.check_batch(0, &tokens[..8]).await,
                        _ => drop(caller.check(0, token).await),
                    }
                }
            })
        })
        .collect();
    sleep(run_length(5)).await;
    // On a busy machine it takes longer until enough were answered, and enough were not.
    within(PATIENCE, "checks that are given up, and others", async || {
        let history = stage.recorder.history();
        let (all, cut) = (history.len(), unknown_checks(&history));
        println!("{of}: {all} checks, {cut} of them given up");
        (cut > 200 && all - cut > 200).then_some(())
    })
    .await;
    is_over.store(true, Ordering::Relaxed);
    for asker in askers {
        asker.await.unwrap();
    }
    stage.network.set(Conduct::Pass);
    stage.judge(of).await;
}

macro_rules! over {
    ($store:ident: $($number:ident $trouble:ident)*) => {
        mod $store {
            use crate::shared_store::SharedStore;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $number() {
                    let of = concat!(stringify!($store), " ", stringify!($trouble));
                    super::$trouble(of, SharedStore::$store).await;
                }
            )*
        }
    };
    ($($store:ident)*) => {
        $(over! { $store:
            f_10_f_11_every_fault_is_told_and_got_over every_fault_is_told_and_got_over
            f_12_an_answer_belongs_to_whom_it_was_asked_for an_answer_belongs_to_whom_it_was_asked_for
            f_13_a_lost_reply_is_no_acknowledgement a_lost_reply_is_no_acknowledgement
            f_17_a_cut_reply_is_no_answer a_cut_reply_is_no_answer
            a_slow_store_is_waited_for a_slow_store_is_waited_for
        })*
    };
}

over! { postgres redis }
