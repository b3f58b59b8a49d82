//! Redis servers for tests: Debian's `redis-server` on free ports, with throw-away directories, gone with the test.
//!
//! Each is stopped by its own pid when it is dropped; if the test process dies in any other way, the kernel stops it.
use crate::waiting::{free_port, until};
use redis::{Client, FromRedisValue};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};
use tempfile::TempDir;

/// One running `redis-server`.
pub struct RedisServer {
    /// Where it listens.
    pub port: u16,
    arguments: Vec<String>,
    dir: TempDir,
    process: Option<(Child, mpsc::Sender<()>)>,
}

impl RedisServer {
    /// Keeps nothing on disk.
    pub fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"])
    }

    /// Writes everything to disk before it answers.
    pub fn start_durable() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Started with these flags besides its address and directory.
    pub fn start_with(arguments: &[&str]) -> Self {
        let mut server = Self::prepared(arguments);
        server.run();
        server
    }

    fn prepared(arguments: &[&str]) -> Self {
        Self {
            port: free_port(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            dir: tempfile::tempdir().unwrap(),
            process: None,
        }
    }

    /// Where it keeps its files.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Starts it, again if it has been killed, on the same port and with the same directory.
    pub fn run(&mut self) {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "redis-server"])
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--repl-diskless-sync-delay", "0"])
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.arguments);
        self.process = Some(spawn(command));
        until("redis-server to listen", || self.try_ask::<String>(&["PING"]));
    }

    /// The URL that a store is given.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Asks over a connection of its own. `None` if there is no answer, or an error.
    pub fn try_ask<T: FromRedisValue>(&self, words: &[&str]) -> Option<T> {
        let second = Duration::from_secs(1);
        let mut connection = Client::open(self.url())
            .unwrap()
            .get_connection_with_timeout(second)
            .ok()?;
        connection.set_read_timeout(Some(second)).unwrap();
        let mut cmd = redis::cmd(words[0]);
        cmd.arg(&words[1..]).query(&mut connection).ok()
    }

    /// Asks over a connection of its own.
    ///
    /// # Panics
    /// If there is no answer, or an error.
    pub fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words)
            .unwrap_or_else(|| panic!("redis-server did not answer {words:?}"))
    }

    /// Waits until a replica has everything that was written until now.
    pub fn until_replicated(&self) {
        until("the replica to be in step", || {
            let mut connection = Client::open(self.url()).unwrap().get_connection().ok()?;
            // WAIT speaks of what its own connection has written; the replica gets everything in order.
            let mut both = redis::pipe();
            both.cmd("SET").arg("test:written").arg(1).ignore();
            both.cmd("WAIT").arg(1).arg(1000);
            let (replicas,): (u64,) = both.query(&mut connection).ok()?;
            (replicas == 1).then_some(())
        });
    }

    /// All keys, in no order.
    pub fn keys(&self) -> Vec<Vec<u8>> {
        self.ask(&["KEYS", "*"])
    }

    fn signal(&self, signal: Signal) {
        let (child, _) = self.process.as_ref().expect("the server runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Stops it where it stands: connections stay open and nothing is answered.
    pub fn hang(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a server that hangs go on.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// As a power cut would, except for what the system has taken over.
    pub fn kill(&mut self) {
        if let Some((mut child, _keeper)) = self.process.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts a process from a thread that lives as long as the sender: the kernel ties the child's life to the thread that made it.
fn spawn(mut command: Command) -> (Child, mpsc::Sender<()>) {
    let (keeper, dropped) = mpsc::channel::<()>();
    let (sender, started) = mpsc::channel();
    std::thread::spawn(move || {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server and setpriv are installed");
        sender.send(child).unwrap();
        let _ = dropped.recv();
    });
    (started.recv().unwrap(), keeper)
}

/// A Cluster of three primaries.
pub struct RedisCluster {
    /// Its primaries.
    pub nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Keeps nothing on disk but what the nodes know of each other.
    pub fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"])
    }

    /// Each node is started with these flags besides its own.
    pub fn start_with(arguments: &[&str]) -> Self {
        let nodes: Vec<_> = (0..3)
            .map(|_| {
                // A port of its own, because the usual one, 10,000 above, may be taken or too high.
                let bus = free_port().to_string();
                let mut arguments = arguments.to_vec();
                arguments.extend(["--cluster-enabled", "yes", "--cluster-port", &bus]);
                arguments.extend(["--cluster-node-timeout", "2000"]);
                (RedisServer::start_with(&arguments), bus)
            })
            .collect();
        for (n, (node, _)) in nodes.iter().enumerate() {
            let slots = |n: usize| (16_384 * n / 3).to_string();
            let last = (16_384 * (n + 1) / 3 - 1).to_string();
            node.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]);
            node.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", &slots(n), &last]);
            let (first, bus) = &nodes[0];
            if n > 0 {
                node.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &first.port.to_string(), bus]);
            }
        }
        let nodes: Vec<_> = nodes.into_iter().map(|(node, _)| node).collect();
        for node in &nodes {
            until("the Cluster to agree", || {
                let info: String = node.try_ask(&["CLUSTER", "INFO"])?;
                let is_whole = info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3");
                is_whole.then_some(())
            });
        }
        Self { nodes }
    }

    /// The URL that a store is given.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        format!("redis+cluster://{}", hosts.join(","))
    }
}

/// A primary, its replica, and a Sentinel that replaces the one with the other when it is gone for a second.
pub struct RedisSentinel {
    /// The server that is written to at first.
    pub primary: RedisServer,
    /// The server that takes over.
    pub replica: RedisServer,
    sentinel: RedisServer,
}

impl RedisSentinel {
    /// Starts all three, and waits until the Sentinel knows the other two.
    pub fn start() -> Self {
        let (primary, replica) = primary_and_replica();
        let mut sentinel = RedisServer::prepared(&[]);
        let file = sentinel.dir().join("sentinel.conf");
        let port = primary.port;
        let settings = format!(
            "sentinel monitor main 127.0.0.1 {port} 1\nsentinel down-after-milliseconds main 1000\n\
             sentinel failover-timeout main 5000\n"
        );
        std::fs::write(&file, settings).unwrap();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "redis-server"])
            .arg(file)
            .args([
                "--sentinel",
                "--bind",
                "127.0.0.1",
                "--port",
                &sentinel.port.to_string(),
            ])
            .arg("--dir")
            .arg(sentinel.dir());
        sentinel.process = Some(spawn(command));
        until("the Sentinel to know the replica", || {
            let replicas: Vec<redis::Value> = sentinel.try_ask(&["SENTINEL", "REPLICAS", "main"])?;
            (replicas.len() == 1).then_some(())
        });
        Self {
            primary,
            replica,
            sentinel,
        }
    }

    /// The URL that a store is given.
    pub fn url(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{}/main", self.sentinel.port)
    }
}

/// A primary and a replica that is in step with it.
pub fn primary_and_replica() -> (RedisServer, RedisServer) {
    let primary = RedisServer::start();
    let of = format!("127.0.0.1 {}", primary.port);
    let replica = RedisServer::start_with(&["--save", "", "--replicaof", &of]);
    primary.until_replicated();
    (primary, replica)
}
