//! The log of revocations that all processes share: a stream, and the task that follows it.

use super::{
    Shared,
    config::RedisConfig,
    keys::Keyspace,
    link::{Connection, failure},
    scripts,
};
use crate::{
    domain::{Revocation, SessionId, TokenDigest, UserId},
    store::{Cursor, RevocationLog, monotonic_millis},
};
use redis::{Cmd, RedisResult, Value};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::sleep;

/// Entries that the stream keeps, more or less: as many as a process keeps for its readers.
const KEPT_ENTRIES: u32 = 65_536;

/// How long one read waits for the next entry. Readers learn as often that nothing has come.
const READ_PATIENCE: Duration = Duration::from_millis(200);

const READ_LIMIT: usize = 1_000;

const RETRY_AFTER: Duration = Duration::from_millis(200);

fn to_entry(revocation: &Revocation) -> Vec<u8> {
    match revocation {
        Revocation::Session { session, user } => {
            [b"s".as_slice(), &session.to_bytes(), &user.to_bytes()].concat()
        }
        Revocation::User { user, except } => {
            let except = except.map(SessionId::to_bytes);
            let except = except.as_ref().map_or(&[][..], |except| &except[..]);
            [b"u".as_slice(), &user.to_bytes(), except].concat()
        }
        Revocation::Everyone => b"e".to_vec(),
    }
}

fn from_entry(entry: &[u8]) -> Option<Revocation> {
    let (kind, rest) = entry.split_first()?;
    let two = |rest: &[u8]| {
        let (first, second) = rest.split_first_chunk::<16>()?;
        Some((*first, <[u8; 16]>::try_from(second).ok()?))
    };
    match (kind, rest.len()) {
        (b's', _) => two(rest).map(|(session, user)| Revocation::Session {
            session: SessionId::from_bytes(session),
            user: UserId::from_bytes(user),
        }),
        (b'u', 16) => Some(Revocation::User {
            user: UserId::from_bytes(rest.try_into().ok()?),
            except: None,
        }),
        (b'u', _) => two(rest).map(|(user, except)| Revocation::User {
            user: UserId::from_bytes(user),
            except: Some(SessionId::from_bytes(except)),
        }),
        (b'e', 0) => Some(Revocation::Everyone),
        _ => None,
    }
}

/// Ends that this process has come across and told of: the last one for each place here, by half of a token's digest or by
/// a revocation's number.
///
/// An end that is forgotten is told of once more, which costs those who remember answers a check.
pub(super) struct Told(Vec<AtomicU64>);

/// 8 bytes each.
const TOLD: usize = 1 << 13;

impl Told {
    pub(super) fn nothing() -> Self {
        Self(std::iter::repeat_with(AtomicU64::default).take(TOLD).collect())
    }

    fn place(&self, name: u64) -> &AtomicU64 {
        &self.0[name as usize % TOLD]
    }

    pub(super) fn has(&self, name: u64) -> bool {
        self.place(name).load(Ordering::Relaxed) == name
    }

    pub(super) fn note(&self, name: u64) {
        self.place(name).store(name, Ordering::Relaxed);
    }
}

fn name_of(digest: &TokenDigest) -> u64 {
    let mut name = [0; 8];
    name.copy_from_slice(&digest.as_bytes()[8..16]);
    u64::from_be_bytes(name)
}

impl Shared {
    /// Appends to the log. What has been told is true already, and nobody is told that it is done before it is told here.
    pub(super) async fn tell(&self, revocations: &[Revocation]) -> RedisResult<()> {
        if revocations.is_empty() {
            return Ok(());
        }
        self.wire.write(&self.publication(revocations)).await.map(drop)
    }

    /// Tells of an end that somebody has come across, once for each token that it comes across with. A check does not wait for
    /// replicas: that is for those who bring an end about.
    pub(super) async fn tell_again(&self, digest: &TokenDigest, revocation: Revocation) -> RedisResult<()> {
        let name = name_of(digest);
        if !self.told.has(name) {
            self.wire.read(&self.publication(&[revocation])).await?;
            self.told.note(name);
        }
        Ok(())
    }

    fn publication(&self, revocations: &[Revocation]) -> Cmd {
        let mut cmd = scripts::PUBLISH.on(&[self.keys.stream(), self.keys.stream_head()]);
        cmd.arg(KEPT_ENTRIES);
        for revocation in revocations {
            cmd.arg(to_entry(revocation));
        }
        cmd
    }
}

/// A connection that reads the stream and nothing else: its reads wait.
pub(super) struct Follower {
    config: RedisConfig,
    keys: Arc<Keyspace>,
    connection: Connection,
}

impl Follower {
    pub(super) async fn open(config: &RedisConfig, keys: &Arc<Keyspace>) -> RedisResult<Self> {
        Ok(Self {
            config: config.clone(),
            keys: Arc::clone(keys),
            connection: Connection::open(config).await?,
        })
    }

    /// Which log the stream is now, and its last entry.
    pub(super) async fn head(&mut self) -> RedisResult<Cursor> {
        // Numbers of logs are told to clients as text; half of the bits are enough to be new.
        let fresh = getrandom::u32().map_err(|_| failure("no randomness"))?;
        let mut cmd = scripts::FOLLOW.on(&[self.keys.stream_id(), self.keys.stream_head()]);
        cmd.arg(fresh);
        let reply = self.connection.ask(&cmd).await?;
        let (log, head): (u64, Option<u64>) = redis::from_redis_value(reply)?;
        Ok(Cursor {
            log,
            sequence: head.unwrap_or(0),
        })
    }

    /// Keeps `log` what the stream is, for ever.
    pub(super) async fn follow(mut self, log: RevocationLog) {
        loop {
            if let Err(error) = self.read_on(&log).await {
                tracing::warn!(%error, "cannot read the log of revocations; trying again");
            }
            loop {
                sleep(RETRY_AFTER).await;
                if let Ok(connection) = Connection::open(&self.config).await {
                    self.connection = connection;
                    break;
                }
            }
        }
    }

    async fn read_on(&mut self, log: &RevocationLog) -> RedisResult<()> {
        loop {
            let asked_at = monotonic_millis();
            let at = log.head();
            let entries = self.entries_after(at.sequence).await?;
            // Asked after the read, so that a read of another log, or of this one on a server that is no longer its own, is noticed.
            let head = self.head().await?;
            let continues = head.log == at.log && head.sequence >= at.sequence;
            let is_last_read = entries.len() < READ_LIMIT;
            let numbered = (at.sequence + 1..).zip(entries);
            let known: Option<Vec<_>> = numbered
                .map(|(expected, (sequence, revocation))| {
                    revocation
                        .filter(|_| sequence == expected)
                        .map(|known| (sequence, known))
                })
                .collect();
            let Some(known) = known.filter(|_| continues) else {
                tracing::warn!("the log of revocations does not continue; readers forget what they remember");
                log.restart(head);
                continue;
            };
            for (sequence, revocation) in known {
                log.publish_at(sequence, revocation);
            }
            if is_last_read {
                log.confirm(asked_at);
            }
        }
    }

    /// Up to [`READ_LIMIT`] entries, waited for a moment. Those of a later version are `None`: all that is known of them is that
    /// something ended.
    async fn entries_after(&mut self, sequence: u64) -> RedisResult<Vec<(u64, Option<Revocation>)>> {
        let patience = READ_PATIENCE.min(self.config.timeout / 2).as_millis().max(1);
        let mut cmd = redis::cmd("XREAD");
        cmd.arg("COUNT")
            .arg(READ_LIMIT)
            .arg("BLOCK")
            .arg(u64::try_from(patience).unwrap_or(1))
            .arg("STREAMS")
            .arg(self.keys.stream())
            .arg(format!("{sequence}-0"));
        let reply = self.connection.ask(&cmd).await?;
        if reply == Value::Nil {
            return Ok(Vec::new());
        }
        type Entry = (String, (String, Vec<u8>));
        let streams: Vec<(String, Vec<Entry>)> = redis::from_redis_value(reply)?;
        let entries = streams.into_iter().flat_map(|(_, entries)| entries);
        entries
            .map(|(id, (_, entry))| {
                let sequence = id.split_once('-').and_then(|(sequence, _)| sequence.parse().ok());
                let sequence = sequence.ok_or_else(|| failure("a log entry of another form"))?;
                Ok((sequence, from_entry(&entry)))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_is_read_back_as_it_was() {
        let (session, user) = (SessionId::from_bytes([1; 16]), UserId::from_bytes([2; 16]));
        let all = [
            Revocation::Session { session, user },
            Revocation::User { user, except: None },
            Revocation::User {
                user,
                except: Some(session),
            },
            Revocation::Everyone,
        ];
        for revocation in all {
            assert_eq!(from_entry(&to_entry(&revocation)), Some(revocation));
        }
        for entry in [&b""[..], b"?", b"s", b"u123", b"e1"] {
            assert_eq!(from_entry(entry), None);
        }
    }
}
