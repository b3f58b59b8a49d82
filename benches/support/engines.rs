//! What sessiond is measured against: Redis and PostgreSQL of the Debian packages, on free ports, with data that is thrown away.

use super::{Outcome, Server, free_address};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// A running `redis-server`.
pub(crate) struct Redis {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    /// The port at which other nodes of a Cluster reach it.
    bus: String,
}

impl Redis {
    /// Keeps nothing on disk.
    pub(crate) fn in_memory() -> Outcome<Self> {
        Self::start(&["--save", "", "--appendonly", "no"])
    }

    /// Has synced what it has answered.
    pub(crate) fn durable(directory: &Path) -> Outcome<Self> {
        let directory = directory.to_string_lossy();
        Self::start(&[
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--dir",
            &directory,
        ])
    }

    fn start(flags: &[&str]) -> Outcome<Self> {
        let address = free_address()?;
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
            .args(flags);
        let server = Server::start_silent(command, address)?;
        Ok(Self {
            server,
            address,
            bus: String::new(),
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Requests per second, as redis-benchmark counts them.
    pub(crate) fn benchmark(&self, flags: &[&str]) -> Outcome<f64> {
        let output = Command::new("redis-benchmark")
            .args(["-h", "127.0.0.1", "-p", &self.address.port().to_string(), "-q"])
            .args(flags)
            .output()
            .map_err(|failure| format!("redis-benchmark: {failure}"))?;
        let report = String::from_utf8_lossy(&output.stdout);
        // It overwrites its line as it goes; the last one counts.
        let before = report
            .rsplit_once(" requests per second")
            .ok_or_else(|| format!("redis-benchmark said: {report}"))?
            .0;
        Ok(before.split_whitespace().last().ok_or("no number")?.parse()?)
    }
}

/// Three primaries, which keep nothing on disk but what they know of each other.
pub(crate) struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    pub(crate) fn start(directory: &Path) -> Outcome<Self> {
        const NODES: usize = 3;
        let mut nodes: Vec<Redis> = Vec::new();
        for number in 0..NODES {
            let directory = directory.join(format!("node-{number}"));
            fs::create_dir_all(&directory)?;
            let bus = free_address()?.port().to_string();
            let node = Redis::start(&[
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
                &directory.to_string_lossy(),
                "--cluster-enabled",
                "yes",
                "--cluster-port",
                &bus,
            ])?;
            let mut connection = redis::Client::open(node.url())?.get_connection()?;
            let mut tell = |words: &[&str]| redis::cmd("CLUSTER").arg(words).exec(&mut connection);
            let first_slot = (16_384 * number / NODES).to_string();
            let last_slot = (16_384 * (number + 1) / NODES - 1).to_string();
            tell(&["SET-CONFIG-EPOCH", &(number + 1).to_string()])?;
            tell(&["ADDSLOTSRANGE", &first_slot, &last_slot])?;
            for other in &nodes {
                let port = other.address.port().to_string();
                tell(&["MEET", "127.0.0.1", &port, &other.bus])?;
            }
            nodes.push(Redis { bus, ..node });
        }
        let cluster = Self { nodes };
        cluster.until_agreed()?;
        Ok(cluster)
    }

    fn until_agreed(&self) -> Outcome {
        for node in &self.nodes {
            let mut connection = redis::Client::open(node.url())?.get_connection()?;
            for attempt in 0.. {
                let info: String = redis::cmd("CLUSTER").arg("INFO").query(&mut connection)?;
                if info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3") {
                    break;
                }
                if attempt > 200 {
                    return Err("the Cluster does not come together".into());
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// URLs of the nodes, for a client that asks the Cluster itself.
    pub(crate) fn nodes(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// The URL that sessiond is given.
    pub(crate) fn url(&self) -> String {
        let hosts: Vec<_> = self.nodes.iter().map(|node| node.address.to_string()).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }
}

/// A running `postgres`, with its defaults but for the number of connections.
pub(crate) struct Postgres {
    _server: Server,
    pub(crate) address: SocketAddr,
}

const ACCOUNT: &str = "bench";

impl Postgres {
    /// Makes a cluster in the directory, which must not exist yet, and starts it.
    pub(crate) fn start(directory: &Path) -> Outcome<Self> {
        fs::create_dir(directory)?;
        let as_account = as_account(directory)?;
        let data = directory.join("data");
        let made = as_account("initdb")
            .args([
                "--username",
                ACCOUNT,
                "--encoding",
                "UTF8",
                "--locale",
                "C.UTF-8",
                "--auth",
                "trust",
            ])
            .arg("--pgdata")
            .arg(&data)
            .stdout(Stdio::null())
            .status()?;
        if !made.success() {
            return Err("initdb failed".into());
        }
        let address = free_address()?;
        let mut command = as_account("postgres");
        command.arg("-D").arg(&data);
        for setting in [
            &*format!("port={}", address.port()),
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=600",
        ] {
            command.args(["-c", setting]);
        }
        let server = Self {
            _server: Server::start_silent(command, address)?,
            address,
        };
        server.sql("SELECT 1")?;
        Ok(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://{ACCOUNT}@{}/postgres", self.address)
    }

    /// Runs a statement, once the server is ready for one.
    pub(crate) fn sql(&self, statement: &str) -> Outcome {
        for _ in 0..100 {
            let ran = Command::new(program("psql"))
                .args([
                    "--quiet",
                    "--no-psqlrc",
                    "-v",
                    "ON_ERROR_STOP=1",
                    "-d",
                    &self.url(),
                    "-c",
                    statement,
                ])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?;
            if ran.success() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err("PostgreSQL does not take a statement".into())
    }

    /// Transactions per second of this script, as pgbench counts them without the time to connect.
    pub(crate) fn benchmark(&self, script: &Path, clients: usize, seconds: u32) -> Outcome<f64> {
        let output = Command::new(program("pgbench"))
            .args(["--no-vacuum", "--protocol", "prepared", "--file"])
            .arg(script)
            .args([
                "--client",
                &clients.to_string(),
                "--jobs",
                &clients.min(2).to_string(),
            ])
            .args(["--time", &seconds.to_string(), &self.url()])
            .output()?;
        let report = String::from_utf8_lossy(&output.stdout);
        let rest = report
            .split_once("tps = ")
            .ok_or_else(|| {
                format!(
                    "pgbench said: {report}{}",
                    String::from_utf8_lossy(&output.stderr)
                )
            })?
            .1;
        Ok(rest.split_whitespace().next().ok_or("no number")?.parse()?)
    }
}

/// How to run PostgreSQL's programs: it refuses to run as root, so then as the account of the Debian package.
fn as_account(directory: &Path) -> Outcome<impl Fn(&str) -> Command> {
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        let passwd = fs::read_to_string("/etc/passwd")?;
        let line = passwd
            .lines()
            .find(|line| line.starts_with("postgres:"))
            .ok_or("there is no account for PostgreSQL")?;
        let number = |field: usize| line.split(':').nth(field).and_then(|number| number.parse().ok());
        chown(directory, number(2), number(3))?;
    }
    Ok(move |name: &str| match is_root {
        false => Command::new(program(name)),
        true => {
            let mut command = Command::new("setpriv");
            command
                .args([
                    "--reuid=postgres",
                    "--regid=postgres",
                    "--clear-groups",
                    "--pdeathsig",
                    "INT",
                ])
                .arg(program(name))
                .current_dir("/");
            command
        }
    })
}

/// Of the newest version that the Debian packages have installed, or else wherever the shell finds it.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let newest = versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .max();
    newest.map_or_else(
        || PathBuf::from(name),
        |version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin/{name}")),
    )
}
