//! Wall clocks that are set while programs run, and that are wrong when they start.

use crate::{
    health::becomes_serving,
    history::{Completion, IssuedToken, Span},
    node::{Node, embedded_in_its_own},
    recorder::{Caller, Recorder, remembering_options},
};
use sessiond::client::{CheckError, ClientOptions, SessionClient};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::{Duration, Instant, SystemTime},
};
use testkit::{
    waiting::PATIENCE,
    wall_clock::{HOUR, WallClock},
};
use tokio::{task::block_in_place, time::sleep};

const SPAN: Span = Span {
    lifetime: Duration::from_secs(4),
    idle: Duration::from_secs(4),
};

/// For what a busy machine takes longer to do.
const LONGER: Span = Span {
    lifetime: Duration::from_secs(8),
    idle: Duration::from_secs(8),
};

fn caller(node: &Node) -> Caller {
    Caller {
        number: 0,
        recorder: Recorder::start(),
        channels: vec![node.channel()],
        remembering: Vec::new(),
        patience: PATIENCE,
    }
}

/// A session of a new user.
async fn session(caller: &Caller, span: Span) -> IssuedToken {
    let email = format!("ada-{}@example.org", span.lifetime.as_secs());
    let user = caller.new_user(0, &email).await.unwrap();
    *caller.create(0, user, span, None).await.answer().unwrap()
}

async fn is_alive(caller: &Caller, session: &IssuedToken) -> bool {
    match caller.check(0, session.token).await {
        Completion::Answer(found) => found.is_some(),
        unknown @ (Completion::Unknown | Completion::Refused | Completion::OutOfContract(_)) => {
            panic!("{unknown:?}")
        }
    }
}

/// How far its wall clock is away from the clock that its sessions live by, as a process shows it, in seconds.
fn offset(metrics: SocketAddr) -> f64 {
    let mut stream = TcpStream::connect(metrics).unwrap();
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nhost: {metrics}\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("sessiond_wall_clock_offset_seconds "));
    line.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_07_f_08_setting_the_wall_clock_neither_ends_nor_extends_a_session() {
    let mut arguments = embedded_in_its_own();
    arguments.push("--metrics-listen=127.0.0.1:0".to_owned());
    arguments.push("--sweep-interval=100ms".to_owned());
    let mut node = block_in_place(|| Node::start(&arguments));
    let metrics = node.running().metrics.unwrap();
    let caller = caller(&node);
    // A busy machine may not be done before the session ends: then with a longer one.
    for lifetime in [4, 20, 60].map(Duration::from_secs) {
        let span = Span {
            lifetime,
            idle: lifetime,
        };
        let asked_at = Instant::now();
        let session = session(&caller, span).await;
        let created_at = Instant::now();
        let mut found = Vec::new();
        for hours in [1, 24, -1, -24] {
            node.wall_clock.set_wrong_by(hours * HOUR);
            // That it was set, the process knows; and that its own clock went on, this shows as well.
            let shown = offset(metrics);
            assert!((shown - (hours * 3600) as f64).abs() < 1.0, "{shown}");
            found.push(is_alive(&caller, &session).await);
            // Time for a sweep, which must not take it away either.
            sleep(Duration::from_millis(250)).await;
            found.push(is_alive(&caller, &session).await);
        }
        if asked_at.elapsed() < lifetime {
            assert_eq!(found, [true; 8]);
            sleep((created_at + lifetime).saturating_duration_since(Instant::now())).await;
            assert!(!is_alive(&caller, &session).await);
            return;
        }
    }
    panic!("too slow to tell");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_09_a_restart_in_the_past_extends_a_session_by_the_downtime_at_most() {
    let mut node = block_in_place(|| Node::start(&embedded_in_its_own()));
    let caller = caller(&node);
    let session = session(&caller, SPAN).await;
    let created_at = Instant::now();
    // What time it is, the store learns from calls.
    while created_at.elapsed() < Duration::from_millis(2500) {
        assert!(is_alive(&caller, &session).await);
        sleep(Duration::from_millis(20)).await;
    }
    let stopped_at = Instant::now();
    block_in_place(|| node.kill());
    node.wall_clock.set_wrong_by(-500_000 * HOUR);
    block_in_place(|| node.start_again());
    becomes_serving(&node.channel(), true).await;
    let downtime = stopped_at.elapsed();
    let over_at = created_at + SPAN.lifetime + downtime + Duration::from_secs(1);
    sleep(over_at.saturating_duration_since(Instant::now())).await;
    assert!(!is_alive(&caller, &session).await);
}

/// Tells this test that it is the program whose wall clock is set, and by which file.
const INSIDE: &str = "WALL_CLOCK_OF_THIS_TEST";

/// The library's client uses the clock of its process, so it needs one of its own: this test starts itself again.
#[test]
fn f_07_remembered_answers_go_by_a_clock_that_nobody_sets() {
    if let Some(path) = std::env::var_os(INSIDE) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let clock = WallClock::at(Path::new(&path));
        return runtime.block_on(async { tokio::spawn(remember_while_set(clock)).await.unwrap() });
    }
    let dir = tempfile::tempdir().unwrap();
    let clock = WallClock::right_in(dir.path());
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args([
        "--exact",
        "clocks::f_07_remembered_answers_go_by_a_clock_that_nobody_sets",
    ]);
    again.env(INSIDE, clock.path());
    clock.govern(&mut again);
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

async fn remember_while_set(clock: WallClock) {
    let node = block_in_place(|| Node::start(&embedded_in_its_own()));
    let caller = caller(&node);
    // Far shorter than the fault, and longer than a busy machine keeps a heartbeat waiting.
    let options = ClientOptions {
        staleness_bound: PATIENCE,
        ..remembering_options()
    };
    let client = SessionClient::start(node.endpoint(), options).unwrap();
    client.cache_live().await;
    let session = session(&caller, LONGER).await;
    let created_at = Instant::now();
    let token = caller.recorder.text(session.token);
    client.check(&token).await.unwrap();
    let mut wall_before = SystemTime::now();
    for hours in [1_i64, -1] {
        clock.set_wrong_by(hours * HOUR);
        let wall = SystemTime::now();
        let moved = wall
            .duration_since(wall_before)
            .unwrap_or_else(|back| back.duration());
        assert!(
            moved > Duration::from_secs(3000),
            "the wall clock was not set: {moved:?}"
        );
        wall_before = wall;
        // The fault lasts long enough for heartbeats and reports of use to come under it.
        let until = Instant::now() + Duration::from_millis(1200);
        while Instant::now() < until {
            assert!(client.is_cache_live(), "it trusts the stream no longer");
            let remembered = client.try_cached(&token).expect("it has forgotten");
            assert!(remembered.auth_age < Duration::from_secs(10), "{remembered:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
    // The wall clock is an hour behind: a client that used it would trust the answer for an hour more.
    sleep((created_at + LONGER.lifetime).saturating_duration_since(Instant::now())).await;
    assert_eq!(client.try_cached(&token), None);
    assert_eq!(client.check(&token).await, Err(CheckError::Invalid));
}
