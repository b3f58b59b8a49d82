//! Calls about a user's index, and about whose sessions are.

use super::{Database, replies, scripts};
use crate::{
    domain::{SessionId, Timestamp, TokenDigest, UserId},
    store::{
        Epoch, NewSession,
        redis::{
            connection::failure,
            layout::{
                HOUR,
                index_entry::{IndexEntry, range_of},
                keep_millis, millis,
                record::SessionRecord,
            },
        },
    },
};
use futures_util::future::try_join;
use redis::{RedisResult, Value};

/// A user's sessions, oldest first.
pub(crate) struct UserIndex {
    pub entries: Vec<IndexEntry>,
    /// Those that a creation has evicted or replaced, and that have yet to be ended.
    pub displaced: Vec<IndexEntry>,
}

/// What became of a session that was to get its place in the index.
pub(crate) enum IndexReply {
    /// The user's sessions were revoked since the epoch was read.
    EpochMoved,
    /// It is there.
    Admitted { displaced: Vec<IndexEntry> },
    /// Some have to make room, and the caller must find out first which are dead.
    Full { entries: Vec<IndexEntry> },
}

impl Database {
    pub(crate) async fn read_index(&self, user: UserId) -> RedisResult<UserIndex> {
        let cmd = scripts::READ_INDEX.on(&[self.keys.index(user), self.keys.displaced(user)]);
        let (entries, displaced): (Value, Value) = redis::from_redis_value(self.pool.read(&cmd).await?)?;
        Ok(UserIndex {
            entries: replies::index_entries(entries)?,
            displaced: replies::index_entries(displaced)?,
        })
    }

    /// Puts a session into its user's index. `dead` are entries that are known to lead nowhere; without them, nobody makes room.
    pub(crate) async fn add_to_index(
        &self,
        new: &NewSession,
        user_epoch: u64,
        replaced: Option<IndexEntry>,
        dead: Option<&[IndexEntry]>,
        now: Timestamp,
    ) -> RedisResult<IndexReply> {
        let live = &new.session.live;
        let entry = IndexEntry {
            id: live.id,
            digest: new.digest,
        };
        let mut cmd = scripts::ADD_TO_INDEX.on(&[
            self.keys.index(live.user_id),
            self.keys.displaced(live.user_id),
            self.keys.user_epoch(live.user_id),
        ]);
        let replaced = replaced.map(IndexEntry::to_bytes);
        cmd.arg(user_epoch)
            .arg(&entry.to_bytes()[..])
            .arg(new.max_per_user.max(1))
            .arg(keep_millis(live.expires_at(), now))
            .arg(replaced.as_ref().map_or(&[][..], |entry| &entry[..]))
            .arg(u8::from(dead.is_some()));
        for entry in dead.unwrap_or_default() {
            cmd.arg(&entry.to_bytes()[..]);
        }
        let (outcome, entries): (u8, Value) = redis::from_redis_value(self.pool.write(&cmd).await?)?;
        let entries = replies::index_entries(entries)?;
        Ok(match outcome {
            0 => IndexReply::EpochMoved,
            1 => IndexReply::Admitted { displaced: entries },
            _ => IndexReply::Full { entries },
        })
    }

    /// Lets a user's index lead to the new place of a session, wherever the index has it.
    pub(crate) async fn reindex(
        &self,
        record: &SessionRecord,
        from: TokenDigest,
        to: TokenDigest,
    ) -> RedisResult<()> {
        let id = record.id();
        let entry = |digest| IndexEntry { id, digest }.to_bytes();
        let user = record.user();
        let mut cmd = scripts::REINDEX.on(&[self.keys.index(user), self.keys.displaced(user)]);
        cmd.arg(&entry(from)[..]).arg(&entry(to)[..]);
        self.pool.write(&cmd).await.map(drop)
    }

    /// Takes entries out of a user's index whose records are gone.
    pub(crate) async fn remove_from_index(&self, user: UserId, entries: &[IndexEntry]) -> RedisResult<()> {
        let mut cmd = redis::cmd("ZREM");
        cmd.arg(self.keys.index(user));
        for entry in entries {
            cmd.arg(&entry.to_bytes()[..]);
        }
        self.pool.write(&cmd).await.map(drop)
    }

    /// Notes whose session it is.
    pub(crate) async fn store_owner(&self, new: &NewSession, now: Timestamp) -> RedisResult<()> {
        let live = &new.session.live;
        let mut cmd = redis::cmd("SET");
        cmd.arg(self.keys.owner(live.id))
            .arg(&live.user_id.to_bytes()[..])
            .arg("PX")
            .arg(keep_millis(live.expires_at(), now));
        self.pool.write(&cmd).await.map(drop)
    }

    pub(crate) async fn forget_owner(&self, id: SessionId) -> RedisResult<()> {
        let mut cmd = redis::cmd("DEL");
        cmd.arg(self.keys.owner(id));
        self.pool.write(&cmd).await.map(drop)
    }

    /// Removes what is left of a session that has ended: its place in the user's index, and whose it was.
    pub(crate) async fn forget_session(&self, user: UserId, id: SessionId) -> RedisResult<()> {
        let [from, to] = range_of(id);
        let mut cmd = redis::cmd("ZREMRANGEBYLEX");
        cmd.arg(self.keys.index(user)).arg(from).arg(to);
        try_join(self.pool.write(&cmd), self.forget_owner(id))
            .await
            .map(drop)
    }

    /// Removes a displaced session that has ended.
    pub(crate) async fn forget_displaced(&self, user: UserId, id: SessionId) -> RedisResult<()> {
        let mut cmd = scripts::FORGET_DISPLACED.on(&[self.keys.displaced(user)]);
        cmd.arg(&id.to_bytes()[..]);
        self.pool.write(&cmd).await.map(drop)
    }

    /// Where the session with this id is stored, living or not, displaced or not. Up to three round trips.
    pub(crate) async fn find_by_id(&self, id: SessionId) -> RedisResult<Option<IndexEntry>> {
        let mut cmd = redis::cmd("GET");
        cmd.arg(self.keys.owner(id));
        let Some(user) = redis::from_redis_value::<Option<Vec<u8>>>(self.pool.read(&cmd).await?)? else {
            return Ok(None);
        };
        let user = user.try_into().map(UserId::from_bytes);
        let user = user.map_err(|_| failure("an owner of another form"))?;
        let [from, to] = range_of(id);
        let mut cmd = redis::cmd("ZRANGEBYLEX");
        cmd.arg(self.keys.index(user)).arg(from).arg(to);
        if let Some(entry) = replies::index_entries(self.pool.read(&cmd).await?)?.first() {
            return Ok(Some(*entry));
        }
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(self.keys.displaced(user)).arg(0).arg(-1);
        let displaced = replies::index_entries(self.pool.read(&cmd).await?)?;
        Ok(displaced.into_iter().find(|entry| entry.id == id))
    }

    pub(crate) async fn epoch(&self, user: UserId) -> RedisResult<Epoch> {
        let count = async |key: String| {
            let mut cmd = redis::cmd("GET");
            cmd.arg(key);
            RedisResult::Ok(redis::from_redis_value::<Option<u64>>(self.pool.read(&cmd).await?)?.unwrap_or(0))
        };
        let (users, everyones) = try_join(
            count(self.keys.user_epoch(user)),
            count(self.keys.everyone_epoch()),
        )
        .await?;
        Ok(Epoch::from_count(users.saturating_add(everyones)))
    }

    /// Moves a user's epoch: a creation whose epoch was read before is refused.
    pub(crate) async fn bump_epoch(&self, user: UserId) -> RedisResult<()> {
        let mut cmd = scripts::BUMP_EPOCH.on(&[self.keys.user_epoch(user)]);
        cmd.arg(millis(self.longest_lifetime() + HOUR));
        self.pool.write(&cmd).await.map(drop)
    }
}
