//! The log of revocations that all processes share: a stream.

use crate::domain::Revocation;
use crate::store::{
    Cursor,
    log_follower::{LogPage, SharedLog},
    redis::{
        config::RedisConfig,
        connection::{Connection, failure},
        layout::{keys::Keyspace, log_entry},
        protocol::{new_log, read_head},
    },
};
use redis::{RedisError, RedisResult, Value};
use std::{sync::Arc, time::Duration};

/// How long one read waits for the next entry. Readers learn as often that nothing has come.
const READ_PATIENCE: Duration = Duration::from_millis(200);

const READ_LIMIT: usize = 1_000;

/// A connection that reads the stream and nothing else: its reads wait.
pub(crate) struct Follower {
    config: RedisConfig,
    keys: Arc<Keyspace>,
    connection: Connection,
    /// The log's number where the server does not tell which it is.
    log_of_connection: u64,
}

impl Follower {
    pub(crate) async fn open(config: &RedisConfig, keys: &Arc<Keyspace>) -> RedisResult<Self> {
        Ok(Self {
            config: config.clone(),
            keys: Arc::clone(keys),
            connection: Connection::open(config).await?,
            log_of_connection: new_log()?,
        })
    }

    /// Which log the stream is now, and its last entry.
    pub(crate) async fn head(&mut self) -> RedisResult<Cursor> {
        read_head(&mut self.connection, &self.keys, self.log_of_connection).await
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
        type StreamEntry = (String, (String, Vec<u8>));
        let streams: Vec<(String, Vec<StreamEntry>)> = redis::from_redis_value(reply)?;
        let entries = streams.into_iter().flat_map(|(_, entries)| entries);
        entries
            .map(|(id, (_, entry))| {
                let sequence = id.split_once('-').and_then(|(sequence, _)| sequence.parse().ok());
                let sequence = sequence.ok_or_else(|| failure("a log entry of another form"))?;
                Ok((sequence, log_entry::from_bytes(&entry)))
            })
            .collect()
    }
}

impl SharedLog for Follower {
    type Error = RedisError;

    /// Waits a moment for the next entry.
    async fn read_after(&mut self, at: Cursor) -> RedisResult<LogPage> {
        let entries = self.entries_after(at.sequence).await?;
        Ok(LogPage {
            is_last: entries.len() < READ_LIMIT,
            entries,
            // Asked after the read, so that a read of another log, or of this one on a server that is no longer its own, is noticed.
            head: self.head().await?,
        })
    }

    /// The read has waited.
    async fn wait(&mut self) {}

    async fn reconnect(&mut self) -> RedisResult<()> {
        self.connection = Connection::open(&self.config).await?;
        self.log_of_connection = new_log()?;
        Ok(())
    }
}
