//! The embedded store on a disk that fails: `strace` makes a chosen write or sync of the running service go wrong.

use crate::{
    chance::{self, Chance},
    health::becomes_serving,
    history::{Completion, Event, IssuedToken, Key, Span},
    node::{Node, embedded_in},
    recorder::{Caller, Recorder},
    rules::Bounds,
    workload::assert_clean,
};
use sessiond::domain::UserId;
use std::{
    os::unix::process::ExitStatusExt as _,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testkit::waiting::PATIENCE;
use tokio::task::block_in_place;

const SPAN: Span = Span {
    lifetime: Duration::from_secs(3600),
    idle: Duration::from_secs(600),
};

const BOUNDS: Bounds = Bounds {
    skew: Duration::from_millis(20),
    clock_error: Duration::ZERO,
    write_lag: Duration::ZERO,
    cap: 100,
};

/// SQLite syncs with either, depending on how it was built.
const SYNC: &str = "fsync,fdatasync";

/// What files are written with, and nothing else is.
const WRITE: &str = "pwrite64";

/// A service on a data directory with some history.
struct Trial {
    node: Node,
    caller: Caller,
    users: Vec<UserId>,
    living: Vec<IssuedToken>,
    chance: Chance,
    _data_dir: TempDir,
}

/// `strace` that makes these system calls go wrong in each thread, as `what` says in its own words. The service stays this
/// process's child, and is killed as such.
fn strace(calls: &str, what: &str) -> Vec<String> {
    let inject = format!("inject={calls}:{what}");
    let trace = format!("trace={calls}");
    [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        &trace,
        "-e",
        &inject,
    ]
    .map(str::to_owned)
    .to_vec()
}

impl Trial {
    async fn start(of: &str) -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        let node = block_in_place(|| Node::start(&embedded_in(data_dir.path())));
        let caller = Caller {
            number: 0,
            recorder: Recorder::start(),
            channels: vec![node.channel()],
            remembering: Vec::new(),
            patience: PATIENCE,
        };
        let mut users = Vec::new();
        for number in 0..8 {
            let user = caller.new_user(0, &format!("user-{number}@example.org")).await;
            users.push(user.unwrap());
        }
        let mut trial = Self {
            node,
            caller,
            users,
            living: Vec::new(),
            chance: Chance::from_seed(chance::seed(of)),
            _data_dir: data_dir,
        };
        for _ in 0..40 {
            trial.create().await;
        }
        for _ in 0..20 {
            trial.destroy().await;
        }
        trial
    }

    fn restart_under(&mut self, strace: &[String]) {
        let wrapper: Vec<&str> = strace.iter().map(String::as_str).collect();
        block_in_place(|| {
            self.node.kill();
            self.node.start_again_under(&wrapper);
        });
    }

    async fn create(&mut self) -> Completion<IssuedToken> {
        let user = self.chance.pick(&self.users).unwrap();
        let completion = self.caller.create(0, user, SPAN, None).await;
        self.living.extend(completion.answer());
        completion
    }

    async fn destroy(&mut self) -> Completion<bool> {
        let Some(issued) = self.chance.pick(&self.living) else {
            return Completion::Refused;
        };
        self.living.retain(|other| *other != issued);
        self.caller.destroy(0, Key::Token(issued.token)).await
    }

    /// One log-in or log-out. Whether it was acknowledged.
    async fn write(&mut self) -> bool {
        match self.chance.percent(60) {
            true => self.create().await.answer().is_some(),
            false => self.destroy().await != Completion::Unknown,
        }
    }

    /// Everything that was ever given out.
    async fn look_at_everything(&self) {
        let history = self.caller.recorder.history();
        let tokens: Vec<_> = history
            .iter()
            .filter_map(|operation| match &operation.event {
                Event::Create { completion, .. } => Some(completion.answer()?.token),
                Event::Check { .. }
                | Event::Rotate { .. }
                | Event::Destroy { .. }
                | Event::EndUser { .. }
                | Event::EndEveryone { .. }
                | Event::List { .. }
                | Event::Count { .. } => None,
            })
            .collect();
        for some in tokens.chunks(500) {
            self.caller.check_batch(0, some).await;
        }
        for user in &self.users {
            self.caller.list(0, *user).await;
        }
    }

    /// A check of a session that lives. Whether it was found.
    async fn is_checked(&mut self) -> bool {
        let issued = self.chance.pick(&self.living).unwrap();
        matches!(
            self.caller.check(0, issued.token).await,
            Completion::Answer(Some(_))
        )
    }

    /// Starts the service again without faults, and holds it to what it has said.
    async fn judge(mut self, of: &str) {
        block_in_place(|| {
            self.node.kill();
            self.node.start_again();
        });
        self.look_at_everything().await;
        assert!(self.write().await, "{of}: nothing is written after a restart");
        assert_clean(of, &self.caller.recorder, &BOUNDS);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_01_a_kill_inside_a_commit_loses_nothing_that_was_acknowledged() {
    let mut trial = Trial::start("kills inside a commit").await;
    // The first 16 writes of a thread are those of the start: SQLite makes room for the index of its log.
    let places = [
        (SYNC, 1),
        (SYNC, 2),
        (SYNC, 9),
        (WRITE, 17),
        (WRITE, 20),
        (WRITE, 35),
        (WRITE, 60),
    ];
    for (calls, place) in places {
        trial.restart_under(&strace(calls, &format!("signal=SIGKILL:when={place}")));
        let started_at = Instant::now();
        while trial.write().await {
            assert!(started_at.elapsed() < PATIENCE, "no {calls} {place}");
        }
        let (status, log) = block_in_place(|| trial.node.ended());
        assert_eq!(status.signal(), Some(9), "{calls} {place}: {log}");
        block_in_place(|| trial.node.start_again());
        trial.look_at_everything().await;
    }
    trial.judge("kills inside a commit").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_04_after_a_sync_has_failed_nothing_is_acknowledged_and_checks_go_on() {
    let mut trial = Trial::start("a failing sync").await;
    // Once only: whoever tried it again would succeed, though what was to be synced may be gone.
    trial.restart_under(&strace(SYNC, "error=EIO:when=5"));
    let started_at = Instant::now();
    while trial.write().await {
        assert!(started_at.elapsed() < PATIENCE, "no sync has failed");
    }
    for _ in 0..20 {
        assert!(!trial.write().await, "acknowledged after a sync had failed");
        assert!(trial.is_checked().await);
    }
    becomes_serving(&trial.node.channel(), false).await;
    assert!(trial.is_checked().await);
    trial.judge("a failing sync").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_03_a_full_disk_refuses_writes_for_as_long_as_it_is_full() {
    let mut trial = Trial::start("a full disk").await;
    trial.restart_under(&strace(WRITE, "error=ENOSPC:when=20..60"));
    let started_at = Instant::now();
    while trial.write().await {
        assert!(started_at.elapsed() < PATIENCE, "the disk was never full");
    }
    assert!(trial.is_checked().await);
    // Only log-ins: a session whose log-out was not acknowledged is none to check any more, and there are not many.
    while trial.create().await.answer().is_none() {
        assert!(started_at.elapsed() < PATIENCE, "the disk stays full");
        assert!(trial.is_checked().await);
    }
    for _ in 0..10 {
        assert!(trial.write().await);
    }
    becomes_serving(&trial.node.channel(), true).await;
    trial.judge("a full disk").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_06_no_check_waits_for_a_slow_disk() {
    let mut trial = Trial::start("a slow disk").await;
    trial.restart_under(&strace(SYNC, "delay_enter=2s"));
    let caller = trial.caller.clone();
    let user = trial.users[0];
    let stuck = tokio::spawn(async move { caller.create(0, user, SPAN, None).await });
    let mut checks = 0;
    while !stuck.is_finished() {
        assert!(trial.is_checked().await);
        checks += 1;
    }
    assert!(
        checks >= 100,
        "{checks} checks while a log-in waited for the disk"
    );
    trial.judge("a slow disk").await;
}
