//! What the server promises to keep: read at the start and put into sentences for the log.

use super::{
    ConnectError,
    config::{RedisConfig, Server},
    connection::{is_forbidden, pool::ConnectionPool},
};
use redis::RedisResult;
use std::collections::HashMap;

/// What the server keeps, and what it could lose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durability {
    sentences: Vec<String>,
    is_lossy: bool,
}

impl Durability {
    /// What could be lost and when, for the log: one thing in each sentence.
    #[must_use]
    pub fn sentences(&self) -> &[String] {
        &self.sentences
    }

    /// Whether something that was acknowledged could be lost, or the server does not show it.
    #[must_use]
    pub fn is_lossy(&self) -> bool {
        self.is_lossy
    }

    /// Asks every primary.
    ///
    /// # Errors
    /// [`ConnectError::Eviction`] if one may drop sessions and `config` does not accept that.
    pub(super) async fn of(pool: &ConnectionPool, config: &RedisConfig) -> Result<Self, ConnectError> {
        let settings = settings(pool).await;
        let settings = settings.as_deref();
        let policy = settings
            .ok()
            .and_then(|nodes| nodes.iter().find_map(Settings::evicting));
        if let (Some(policy), false) = (policy, config.accept_eviction) {
            return Err(ConnectError::Eviction(policy.to_owned()));
        }
        let mut report = Report::default();
        match settings {
            Ok(nodes) => {
                report.about_disks(nodes);
                if let Some(policy) = policy {
                    report.loses(format!(
                        "When its memory is full, Redis drops sessions (maxmemory-policy {policy})."
                    ));
                }
            }
            Err(_) => report.loses(
                "Redis does not allow CONFIG GET: what it keeps on disk, and whether it drops sessions when its \
                 memory is full, is not known."
                    .into(),
            ),
        }
        let replicas = replicas(pool).await;
        if replicas.as_ref().is_err_and(is_forbidden) {
            report.loses(
                "Redis does not allow INFO: a server that has started again or taken over is not noticed by itself. Whoever \
                 remembers answers forgets them with every connection that breaks, and by another process than before."
                    .into(),
            );
        }
        let replicas = replicas.unwrap_or(None);
        report.about_replicas(replicas, settings.unwrap_or_default(), config);
        Ok(Self {
            sentences: report.sentences,
            is_lossy: report.is_lossy,
        })
    }
}

/// One primary's settings.
struct Settings(HashMap<String, String>);

impl Settings {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The policy, if it may drop sessions.
    fn evicting(&self) -> Option<&str> {
        Some(self.get("maxmemory-policy")).filter(|policy| !matches!(*policy, "" | "noeviction"))
    }

    fn required_replicas(&self) -> u32 {
        self.get("min-replicas-to-write").parse().unwrap_or(0)
    }
}

async fn settings(pool: &ConnectionPool) -> RedisResult<Vec<Settings>> {
    let mut nodes: Vec<Settings> = Vec::new();
    // One at a time: older servers know no other form.
    for name in [
        "appendonly",
        "appendfsync",
        "save",
        "maxmemory-policy",
        "min-replicas-to-write",
    ] {
        let mut cmd = redis::cmd("CONFIG");
        cmd.arg("GET").arg(name);
        for (node, reply) in pool.read_primaries(&cmd).await?.into_iter().enumerate() {
            let read: HashMap<String, String> = redis::from_redis_value(reply)?;
            match nodes.get_mut(node) {
                Some(known) => known.0.extend(read),
                None => nodes.push(Settings(read)),
            }
        }
    }
    Ok(nodes)
}

/// The fewest replicas that any primary has.
async fn replicas(pool: &ConnectionPool) -> RedisResult<Option<u32>> {
    let mut cmd = redis::cmd("INFO");
    cmd.arg("replication");
    let mut fewest = None;
    for reply in pool.read_primaries(&cmd).await? {
        let info: String = redis::from_redis_value(reply)?;
        let count = info
            .lines()
            .find_map(|line| line.strip_prefix("connected_slaves:")?.trim().parse().ok());
        fewest = fewest.into_iter().chain(count).min();
    }
    Ok(fewest)
}

#[derive(Default)]
struct Report {
    sentences: Vec<String>,
    is_lossy: bool,
}

impl Report {
    fn loses(&mut self, sentence: String) {
        self.sentences.push(sentence);
        self.is_lossy = true;
    }

    fn about_disks(&mut self, nodes: &[Settings]) {
        let any = |is: &dyn Fn(&Settings) -> bool| nodes.iter().any(is);
        let appends = |node: &Settings| node.get("appendonly") == "yes";
        if any(&|node| !appends(node) && node.get("save").is_empty()) {
            self.loses("Redis keeps nothing on disk: when it stops, every session is lost and everybody has to log in again.".into());
        } else if any(&|node| !appends(node)) {
            self.loses(
                "Redis writes snapshots only: when it crashes, what happened since the last one is undone, and sessions that \
                 were ended since then live again."
                    .into(),
            );
        } else if any(&|node| node.get("appendfsync") == "no") {
            self.loses(
                "Redis leaves it to the system when its log reaches the disk (appendfsync no): when the machine crashes, about \
                 half a minute is undone, and sessions that were ended in it live again."
                    .into(),
            );
        } else if any(&|node| node.get("appendfsync") != "always") {
            self.loses(
                "Redis writes its log to the disk every second (appendfsync everysec): when the machine crashes, up to two \
                 seconds are undone, and sessions that were ended in them live again."
                    .into(),
            );
        } else {
            self.sentences
                .push("Redis writes to the disk before it acknowledges: a crash loses nothing.".into());
        }
    }

    fn about_replicas(&mut self, replicas: Option<u32>, nodes: &[Settings], config: &RedisConfig) {
        let is_cluster = matches!(config.server, Server::Cluster(_));
        match (replicas, config.strict_replicas) {
            (None, _) => self.loses("Whether Redis has replicas is not known.".into()),
            (Some(0), None) if is_cluster => {
                self.sentences.push(
                    "A primary without replica: while one of the Cluster's primaries is away, its sessions cannot be checked.".into(),
                );
            }
            (Some(0), None) => self
                .sentences
                .push("Redis has no replica: while it is away, no session can be checked.".into()),
            (Some(some), None) => self.loses(format!(
                "Redis copies to its replicas ({some}) after it has acknowledged: a failover may undo the last moments, and \
                 sessions that were ended in them live again."
            )),
            (Some(some), Some(wanted)) if some < wanted => self.loses(format!(
                "Strict: a change is acknowledged once {wanted} replicas have it, but there are {some}. Until there are enough, \
                 nobody can log in or out."
            )),
            (Some(_), Some(wanted)) => {
                self.sentences.push(format!(
                    "Strict: a change is acknowledged once {wanted} replicas have it; otherwise callers are told that the \
                     store cannot tell."
                ));
                if nodes.iter().any(|node| node.required_replicas() == 0) {
                    self.loses(
                        "A primary that is cut off from its replicas goes on taking changes (min-replicas-to-write 0); they \
                         are not acknowledged, but checks that reach it may see it as it was. PostgreSQL has no such gap."
                            .into(),
                    );
                }
            }
        }
    }
}
