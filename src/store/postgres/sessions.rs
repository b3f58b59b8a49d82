//! The operations of the session store.

use super::{Checks, PostgresStore, rows, server_error::ServerError};
use crate::{
    domain::{LiveSession, Session, SessionId, Timestamp, TokenDigest, UserId},
    store::{
        Created, Epoch, Lookup, NewSession, Operation, RevocationLog, Rotation, ScanCursor, ScanPage,
        SessionKey, SessionStore, StoreError,
    },
};
use async_trait::async_trait;
use std::sync::Arc;
use tokio::time::Instant;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Sessions that one statement of a sweep looks at: it is over in milliseconds.
const SWEPT_AT_ONCE: i64 = 500;

/// Sessions in one page of a scan.
const PAGE_SIZE: i64 = 2_000;

/// Entries that the log of revocations keeps, for processes that were away.
const LOG_KEEPS: i64 = 262_144;

/// Entries that are taken off the log at once.
const TRIMMED_AT_ONCE: i64 = 5_000;

impl Checks {
    async fn find(&self, digest: &TokenDigest, now: Timestamp) -> Result<Option<LiveSession>, StoreError> {
        const OPERATION: Operation = Operation::Check;
        let deadline = Instant::now() + self.call_timeout;
        let found = self.batcher.ask(*digest).await;
        let found = match found.map_err(|error| StoreError::new(OPERATION, error))? {
            Some(found) => Some(found),
            None => self
                .find_by_old_token(digest, now, deadline)
                .await
                .map_err(|error| error.at(OPERATION))?,
        };
        Ok(found.filter(|live| !live.is_expired(now)))
    }

    async fn find_by_old_token(
        &self,
        digest: &TokenDigest,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Option<LiveSession>, ServerError> {
        let connection = self.connections.connection()?;
        let (client, statements) = (&connection.client, &connection.statements);
        let finding = async {
            let values: [&(dyn ToSql + Sync); 2] = [&digest.as_bytes().as_slice(), &now.as_millis()];
            let found = client.query_opt(&statements.check_old, &values).await?;
            found.as_ref().map(rows::live_by_old_token).transpose()
        };
        connection.answer_by(deadline, finding).await
    }

    pub(super) async fn ping(&self) -> Result<(), ServerError> {
        let connection = self.connections.connection()?;
        let asking = async {
            Ok(connection
                .client
                .query_one(&connection.statements.ping, &[])
                .await?)
        };
        connection
            .answer_by(Instant::now() + self.call_timeout, asking)
            .await?;
        Ok(())
    }
}

#[async_trait]
impl SessionStore for PostgresStore {
    fn check(&self, digest: &TokenDigest, now: Timestamp) -> Lookup<Option<LiveSession>> {
        let (checks, digest) = (Arc::clone(&self.checks), *digest);
        Lookup::Pending(Box::pin(async move { checks.find(&digest, now).await }))
    }

    fn touch(&self, session: &LiveSession, _digest: &TokenDigest, at: Timestamp) {
        self.touches.note(session, at);
    }

    async fn get(&self, digest: &TokenDigest, now: Timestamp) -> Result<Option<Session>, StoreError> {
        let reading = self.writes.ask(async |connection| {
            let values: [&(dyn ToSql + Sync); 2] = [&digest.as_bytes().as_slice(), &now.as_millis()];
            let row = connection
                .client
                .query_opt(&connection.statements.get, &values)
                .await?;
            row.as_ref().map(rows::session_by_any_token).transpose()
        });
        reading.await.map_err(|error| error.at(Operation::Get))
    }

    async fn epoch(&self, user: UserId) -> Result<Epoch, StoreError> {
        let reading = self.writes.ask(async |connection| {
            let row = connection
                .client
                .query_one(&connection.statements.epoch, &[user.as_uuid()])
                .await?;
            Ok(Epoch::from_count(rows::number(&row, 0)?))
        });
        reading.await.map_err(|error| error.at(Operation::ReadEpoch))
    }

    async fn create(&self, new: NewSession, now: Timestamp) -> Result<Created, StoreError> {
        let creating = self.writes.ask(async |connection| {
            let NewSession {
                digest,
                session,
                epoch,
                replaces,
                max_per_user,
            } = &new;
            let Session {
                live,
                client,
                attributes,
            } = session;
            let attributes = serde_json::to_string(attributes.entries());
            let values: [&(dyn ToSql + Sync); 17] = [
                &digest.as_bytes().as_slice(),
                live.id.as_uuid(),
                live.user_id.as_uuid(),
                &i64::try_from(epoch.count()).map_err(|_| ServerError::Unreadable("epoch"))?,
                &live.last_seen_at.as_millis(),
                &live.valid_until().as_millis(),
                &live.authenticated_at.as_millis(),
                &rows::auth_method_code(live.auth_method),
                &i64::from(live.span.lifetime_secs()),
                &i64::from(live.span.idle_timeout_secs()),
                &client.ip(),
                &client.user_agent(),
                &client.label(),
                &attributes.map_err(|_| ServerError::Unreadable("attribute"))?,
                &replaces.as_ref().map(|digest| digest.as_bytes().as_slice()),
                &i64::from(*max_per_user),
                &now.as_millis(),
            ];
            let row = connection
                .client
                .query_one(&connection.statements.create, &values)
                .await?;
            Ok(match row.try_get(0)? {
                true => Created::Yes,
                false => Created::EpochMoved,
            })
        });
        let created = creating.await.map_err(|error| error.at(Operation::Create))?;
        self.woken.notify_one();
        Ok(created)
    }

    async fn rotate(&self, rotation: Rotation, now: Timestamp) -> Result<Option<Session>, StoreError> {
        let rotating = self.writes.ask(async |connection| {
            let values: [&(dyn ToSql + Sync); 5] = [
                &rotation.from.as_bytes().as_slice(),
                &rotation.to.as_bytes().as_slice(),
                &rotation.grace_until.as_millis(),
                &rotation.authenticated_at.map(Timestamp::as_millis),
                &now.as_millis(),
            ];
            let row = connection
                .client
                .query_opt(&connection.statements.rotate, &values)
                .await?;
            row.as_ref().map(rows::session).transpose()
        });
        let rotated = rotating.await.map_err(|error| error.at(Operation::Rotate))?;
        self.woken.notify_one();
        Ok(rotated)
    }

    async fn destroy(
        &self,
        key: SessionKey,
        now: Timestamp,
    ) -> Result<Option<(SessionId, UserId)>, StoreError> {
        let destroying = self.writes.ask(async |connection| {
            let (client, statements) = (&connection.client, &connection.statements);
            let now = now.as_millis();
            let row = match &key {
                SessionKey::Token(digest) => {
                    client
                        .query_opt(&statements.destroy_token, &[&digest.as_bytes().as_slice(), &now])
                        .await?
                }
                SessionKey::Id(id) => {
                    client
                        .query_opt(&statements.destroy_id, &[id.as_uuid(), &now])
                        .await?
                }
            };
            row.as_ref().map(rows::ended).transpose()
        });
        let ended = destroying.await.map_err(|error| error.at(Operation::Destroy))?;
        self.woken.notify_one();
        Ok(ended)
    }

    async fn list(
        &self,
        user: UserId,
        before: Option<SessionId>,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreError> {
        let before = before.map_or(Uuid::max(), |id| *id.as_uuid());
        let listing = self.writes.ask(async |connection| {
            let values: [&(dyn ToSql + Sync); 4] =
                [user.as_uuid(), &before, &now.as_millis(), &i64::from(limit)];
            let sessions = connection
                .client
                .query(&connection.statements.list, &values)
                .await?;
            sessions.iter().map(rows::session).collect()
        });
        listing.await.map_err(|error| error.at(Operation::ListSessions))
    }

    async fn revoke_user(
        &self,
        user: UserId,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let revoking = self.writes.ask(async |connection| {
            let except = except.as_ref().map(SessionId::as_uuid);
            let values: [&(dyn ToSql + Sync); 3] = [user.as_uuid(), &except, &now.as_millis()];
            let row = connection
                .client
                .query_one(&connection.statements.revoke_user, &values)
                .await?;
            rows::number(&row, 0)
        });
        let ended = revoking.await.map_err(|error| error.at(Operation::RevokeUser))?;
        self.woken.notify_one();
        Ok(ended)
    }

    async fn revoke_everyone(&self, now: Timestamp) -> Result<u64, StoreError> {
        let revoking = self.writes.ask(async |connection| {
            let row = connection
                .client
                .query_one(&connection.statements.revoke_everyone, &[])
                .await?;
            Ok(row.try_get::<_, i64>(0)?)
        });
        let epoch_before = revoking
            .await
            .map_err(|error| error.at(Operation::RevokeEveryone))?;
        self.woken.notify_one();
        // They are dead. Counting them may take a while, and no session may live on for as long.
        let counting = self.slow.ask(async |connection| {
            let values: [&(dyn ToSql + Sync); 2] = [&epoch_before, &now.as_millis()];
            let row = connection
                .client
                .query_one(&connection.statements.count_of_epoch, &values)
                .await?;
            rows::number(&row, 0)
        });
        counting
            .await
            .map_err(|error| error.at(Operation::RevokeEveryone))
    }

    async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let started_at = Instant::now();
        let mut freed = 0;
        while freed < u64::from(limit) && started_at.elapsed() < self.call_timeout {
            let at_most = SWEPT_AT_ONCE.min(i64::from(limit).saturating_sub_unsigned(freed));
            let sweeping = self.slow.ask(async |connection| {
                let (client, statements) = (&connection.client, &connection.statements);
                let row = client
                    .query_one(&statements.sweep, &[&now.as_millis(), &at_most])
                    .await?;
                client
                    .execute(&statements.trim_log, &[&LOG_KEEPS, &TRIMMED_AT_ONCE])
                    .await?;
                Ok((rows::number(&row, 0)?, rows::number(&row, 1)?))
            });
            let (gone, kept) = sweeping.await.map_err(|error| error.at(Operation::Sweep))?;
            freed += gone;
            if gone + kept == 0 {
                break;
            }
        }
        Ok(freed)
    }

    async fn scan(&self, from: ScanCursor, now: Timestamp) -> Result<ScanPage, StoreError> {
        let scanning = self.slow.ask(async |connection| {
            let values: [&(dyn ToSql + Sync); 3] = [&from.0, &now.as_millis(), &PAGE_SIZE];
            let rows = connection
                .client
                .query(&connection.statements.scan, &values)
                .await?;
            rows.iter().map(rows::digest).collect::<Result<Vec<_>, _>>()
        });
        let digests = scanning.await.map_err(|error| error.at(Operation::Scan))?;
        let is_full = i64::try_from(digests.len()) == Ok(PAGE_SIZE);
        let last = digests.last().filter(|_| is_full);
        let next = last.map(|digest| ScanCursor::new(*digest.as_bytes()));
        Ok(ScanPage { digests, next })
    }

    async fn count(&self, now: Timestamp) -> Result<u64, StoreError> {
        let counting = self.slow.ask(async |connection| {
            let row = connection
                .client
                .query_one(&connection.statements.count, &[&now.as_millis()])
                .await?;
            rows::number(&row, 0)
        });
        counting.await.map_err(|error| error.at(Operation::CountSessions))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.checks
            .ping()
            .await
            .map_err(|error| error.at(Operation::Ping))
    }

    fn revocations(&self) -> &RevocationLog {
        &self.log
    }

    fn close_thread_connections(&self) {
        self.checks.batcher.close_threads();
        self.checks.connections.close_threads();
    }
}
