//! The store's primary is lost and another takes over: what was acknowledged is still so.

use crate::{
    chance,
    health::becomes_serving,
    history::{Completion, Key, Span},
    node::Node,
    recorder::{Caller, Recorder},
    rules::Bounds,
    workload::{SHORT, Workload, assert_clean},
};
use std::time::Duration;
use testkit::{postgres::PostgresServer, redis::RedisSentinel};
use tokio::{task::block_in_place, time::sleep};

const BOUNDS: Bounds = Bounds {
    skew: Duration::from_millis(100),
    clock_error: Duration::ZERO,
    write_lag: Duration::from_secs(30),
    cap: 10_000,
};

fn workload(of: &str, secs: u64) -> Workload {
    Workload {
        seed: chance::seed(of),
        clients: 8,
        lasts: Duration::from_secs(secs),
        patience: Duration::from_secs(3),
        short_lived: 10,
        short_span: SHORT,
    }
}

fn two_nodes(arguments: &[String]) -> Vec<Node> {
    let mut arguments = arguments.to_vec();
    arguments.push(format!("--sessions-per-user={}", BOUNDS.cap));
    (0..2).map(|_| Node::start(&arguments)).collect()
}

/// Two servers of which the second follows the first, and the arguments that name both.
fn postgres_pair() -> (PostgresServer, PostgresServer, Vec<String>) {
    let (primary, standby) = (PostgresServer::start(), PostgresServer::start());
    let database = primary.new_database();
    standby.become_standby_of(&primary);
    let one = format!("127.0.0.1:{}", primary.port());
    let both = format!("{one},127.0.0.1:{}", standby.port());
    (
        primary,
        standby,
        vec![format!("--store={}", database.replace(&one, &both))],
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_16_a_promoted_postgres_standby_has_everything_that_was_acknowledged() {
    const OF: &str = "PostgreSQL failing over";
    let (mut primary, mut standby, arguments) = block_in_place(postgres_pair);
    let nodes = block_in_place(|| two_nodes(&arguments));
    let channels: Vec<_> = nodes.iter().map(Node::channel).collect();
    let failing_over = tokio::spawn(async move {
        for _ in 0..2 {
            sleep(Duration::from_secs(2)).await;
            block_in_place(|| {
                primary.kill();
                standby.promote();
            });
            (primary, standby) = (standby, primary);
            sleep(Duration::from_secs(1)).await;
            block_in_place(|| standby.become_standby_of(&primary));
        }
        (primary, standby)
    });
    let healed = async {
        let servers = failing_over.await.unwrap();
        for channel in &channels {
            becomes_serving(channel, true).await;
        }
        servers
    };
    let (recorder, _servers) = workload(OF, 12).run(channels.clone(), Vec::new(), healed).await;
    assert_clean(OF, &recorder, &BOUNDS);
}

/// A PostgreSQL that is asked to break off its wait for the standby answers as if all were well, so nothing may break it off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_16_what_no_standby_has_is_not_acknowledged() {
    let (primary, standby, arguments) = block_in_place(postgres_pair);
    let node = block_in_place(|| Node::start(&arguments));
    let caller = Caller {
        number: 0,
        recorder: Recorder::start(),
        channels: vec![node.channel()],
        remembering: Vec::new(),
        patience: Duration::from_secs(20),
    };
    let span = Span {
        lifetime: Duration::from_secs(3600),
        idle: Duration::from_secs(600),
    };
    let user = caller.new_user(0, "ada@example.org").await.unwrap();
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(*caller.create(0, user, span, None).await.answer().unwrap());
    }
    block_in_place(|| standby.pause());
    let destroyed = caller.destroy(0, Key::Token(sessions[0].token)).await;
    let created = caller.create(0, user, span, None).await;
    let ended = caller.end_user(0, user, Some(sessions[1].session)).await;
    block_in_place(|| {
        primary.kill();
        standby.resume();
        standby.promote();
    });
    becomes_serving(&node.channel(), true).await;
    assert_eq!((destroyed, ended), (Completion::Unknown, Completion::Unknown));
    assert_eq!(created, Completion::Unknown);
    for session in &sessions {
        assert_ne!(caller.check(0, session.token).await, Completion::Unknown);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f_15_a_strict_redis_failover_loses_nothing_that_was_acknowledged() {
    const OF: &str = "Redis failing over";
    let (mut redis, nodes) = block_in_place(|| {
        let redis = RedisSentinel::start();
        let arguments = [
            format!("--store={}", PostgresServer::shared().new_database()),
            format!("--session-store={}", redis.url()),
            "--redis-strict-replicas=1".to_owned(),
        ];
        let nodes = two_nodes(&arguments);
        (redis, nodes)
    });
    let channels: Vec<_> = nodes.iter().map(Node::channel).collect();
    let failing_over = tokio::spawn(async move {
        sleep(Duration::from_secs(3)).await;
        block_in_place(|| redis.primary.kill());
        // Nothing is written without a replica; the old primary comes back as one.
        sleep(Duration::from_secs(4)).await;
        block_in_place(|| redis.primary.run());
        redis
    });
    let healed = async {
        let redis = failing_over.await.unwrap();
        for channel in &channels {
            becomes_serving(channel, true).await;
        }
        redis
    };
    let (recorder, _redis) = workload(OF, 12).run(channels.clone(), Vec::new(), healed).await;
    assert_clean(OF, &recorder, &BOUNDS);
}
