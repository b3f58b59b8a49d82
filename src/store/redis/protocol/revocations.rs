//! Calls about revocations: their sequence, their marks, and the log of them that all processes share.

use super::{Database, scripts};
use crate::{
    domain::{Revocation, SessionId, Timestamp, UserId},
    store::{
        Cursor,
        redis::{
            connection::{Connection, failure},
            layout::{HOUR, keys::Keyspace, log_entry, marks::SequencedRevocation, millis},
        },
    },
};
use futures_util::future::try_join_all;
use redis::{Cmd, RedisResult};

/// Entries that the stream keeps, more or less: as many as a process keeps for its readers.
const KEPT_ENTRIES: u32 = 65_536;

/// The last revocation of all of a user's or of everyone's sessions, and everyone's epoch at the same moment.
pub(crate) struct LastRevocation {
    pub sequence: u64,
    pub everyone_epoch: u64,
}

impl Database {
    pub(crate) async fn last_revocation(&self) -> RedisResult<LastRevocation> {
        let mut cmd = redis::cmd("MGET");
        cmd.arg(self.keys.revocation_clock())
            .arg(self.keys.everyone_epoch());
        let (last, epoch): (Option<String>, Option<u64>) =
            redis::from_redis_value(self.pool.read(&cmd).await?)?;
        let sequence = match &last {
            Some(last) => last.split(' ').next().and_then(|sequence| sequence.parse().ok()),
            None => Some(0),
        };
        Ok(LastRevocation {
            sequence: sequence.ok_or_else(|| failure("a sequence of another form"))?,
            everyone_epoch: epoch.unwrap_or(0),
        })
    }

    /// A sequence greater than all before. For a revocation of everyone's sessions, everyone's epoch moves with it.
    pub(crate) async fn next_sequence(&self, is_for_everyone: bool) -> RedisResult<u64> {
        let mut cmd = scripts::NEXT_SEQUENCE.on(&[
            self.keys.revocation_clock(),
            self.keys.longest_lifetime(),
            self.keys.everyone_epoch(),
        ]);
        cmd.arg(u8::from(is_for_everyone));
        let (sequence, longest): (u64, Option<u64>) = redis::from_redis_value(self.pool.write(&cmd).await?)?;
        self.note_longest_lifetime(longest.unwrap_or(0));
        Ok(sequence)
    }

    /// Marks every shard. Returns how many live sessions that ended at once, which is known of everyone's only.
    pub(crate) async fn mark(&self, revocation: SequencedRevocation, now: Timestamp) -> RedisResult<u64> {
        let shards = Self::shards();
        match revocation {
            SequencedRevocation::Everyone { sequence } => {
                let marked = try_join_all(shards.map(|shard| self.mark_everyone(shard, sequence, now)));
                Ok(marked.await?.iter().sum())
            }
            SequencedRevocation::User {
                user,
                sequence,
                except,
            } => {
                let marked = try_join_all(shards.map(|shard| self.mark_user(shard, user, except, sequence)));
                marked.await.map(|_| 0)
            }
        }
    }

    /// Marks one shard with a revocation of a user's sessions.
    pub(crate) async fn mark_user(
        &self,
        shard: usize,
        user: UserId,
        except: Option<SessionId>,
        sequence: u64,
    ) -> RedisResult<()> {
        let spared = except.map(SessionId::to_bytes);
        let mut cmd = scripts::MARK_USER.on(&[self.keys.user_mark(shard, user)]);
        cmd.arg(sequence)
            .arg(spared.as_ref().map_or(&[][..], |id| &id[..]))
            .arg(millis(self.longest_lifetime() + HOUR));
        self.pool.write(&cmd).await.map(drop)
    }

    /// Marks one shard with a revocation of everyone's sessions. Returns how many live sessions there that ended.
    pub(crate) async fn mark_everyone(
        &self,
        shard: usize,
        sequence: u64,
        now: Timestamp,
    ) -> RedisResult<u64> {
        let mut cmd = scripts::MARK_EVERYONE.on(&[
            self.keys.everyone_mark(shard),
            self.keys.live_sessions(shard),
            self.keys.revoked_sessions(shard, sequence),
        ]);
        cmd.arg(sequence)
            .arg(now.as_millis())
            .arg(millis(self.longest_lifetime() + HOUR));
        Ok(redis::from_redis_value(self.pool.write(&cmd).await?)?)
    }

    /// Appends to the log of revocations. What is published is true already, and is acknowledged afterwards.
    pub(crate) async fn publish(&self, revocations: &[Revocation]) -> RedisResult<()> {
        if revocations.is_empty() {
            return Ok(());
        }
        self.pool.write(&self.publication(revocations)).await.map(drop)
    }

    /// As [`publish`](Self::publish), of an end that a check has met. It waits for no replica: the operation that ends a
    /// session does.
    pub(crate) async fn publish_again(&self, revocation: Revocation) -> RedisResult<()> {
        self.pool.read(&self.publication(&[revocation])).await.map(drop)
    }

    fn publication(&self, revocations: &[Revocation]) -> Cmd {
        let mut cmd = scripts::PUBLISH.on(&[self.keys.stream(), self.keys.stream_head()]);
        cmd.arg(KEPT_ENTRIES);
        for revocation in revocations {
            cmd.arg(log_entry::to_bytes(revocation));
        }
        cmd
    }
}

/// Which log the stream is now, and its last entry.
///
/// Where nobody may know which server it is, the log is `of_connection`: one that ends with the connection.
pub(crate) async fn read_head(
    connection: &mut Connection,
    keys: &Keyspace,
    of_connection: u64,
) -> RedisResult<Cursor> {
    let fresh = new_log()?;
    let mut cmd = scripts::READ_HEAD.on(&[keys.stream_id(), keys.stream_head()]);
    cmd.arg(fresh);
    let (log, head): (u64, Option<u64>) = redis::from_redis_value(connection.ask(&cmd).await?)?;
    Ok(Cursor {
        log: if log == 0 { of_connection } else { log },
        sequence: head.unwrap_or(0),
    })
}

/// A number that no other log has. Clients hold it as text; half of the bits are enough.
pub(crate) fn new_log() -> RedisResult<u64> {
    let fresh = getrandom::u32().map_err(|_| failure("no randomness"))?;
    Ok(u64::from(fresh) + 1)
}
