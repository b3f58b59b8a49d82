//! The operations of the user store.

use super::{PostgresStore, rows, server_error::ServerError};
use crate::{
    domain::{ChangeId, EmailKey, PasswordHash, User, UserId},
    store::{Inserted, Operation, PendingChange, ReplacedHash, StoreError, Updated, UserRecord, UserStore},
};
use async_trait::async_trait;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// A version as the server keeps it.
fn version(version: u64) -> Result<i64, ServerError> {
    i64::try_from(version).map_err(|_| ServerError::Unreadable("version"))
}

#[async_trait]
impl UserStore for PostgresStore {
    async fn insert(&self, record: &UserRecord) -> Result<Inserted, StoreError> {
        let user = &record.user;
        let inserting = self.writes.ask(async |connection| {
            let values: [&(dyn ToSql + Sync); 11] = [
                user.id.as_uuid(),
                &user.email.as_str(),
                &user.email.key().as_str(),
                &user.names.first(),
                &user.names.last(),
                &user.roles.as_slice(),
                &user.created_at.as_millis(),
                &user.updated_at.as_millis(),
                &user.disabled_at.map(|at| at.as_millis()),
                &version(user.version)?,
                &record.password_hash.as_ref().map(PasswordHash::expose),
            ];
            let inserted = connection
                .client
                .execute(&connection.statements.insert_user, &values)
                .await?;
            Ok(match inserted {
                0 => Inserted::EmailTaken,
                _ => Inserted::Yes,
            })
        });
        inserting.await.map_err(|error| error.at(Operation::InsertUser))
    }

    async fn by_id(&self, id: UserId) -> Result<Option<UserRecord>, StoreError> {
        let reading = self.writes.ask(async |connection| {
            let row = connection
                .client
                .query_opt(&connection.statements.user_by_id, &[id.as_uuid()])
                .await?;
            row.as_ref().map(rows::user_record).transpose()
        });
        reading.await.map_err(|error| error.at(Operation::ReadUser))
    }

    async fn by_email(&self, key: &EmailKey) -> Result<Option<UserRecord>, StoreError> {
        let reading = self.writes.ask(async |connection| {
            let statement = &connection.statements.user_by_email;
            let row = connection.client.query_opt(statement, &[&key.as_str()]).await?;
            row.as_ref().map(rows::user_record).transpose()
        });
        reading.await.map_err(|error| error.at(Operation::ReadUser))
    }

    async fn list(&self, after: Option<UserId>, limit: u32) -> Result<Vec<User>, StoreError> {
        let after = after.map_or(Uuid::nil(), |id| *id.as_uuid());
        let listing = self.writes.ask(async |connection| {
            let statement = &connection.statements.list_users;
            let users = connection
                .client
                .query(statement, &[&after, &i64::from(limit)])
                .await?;
            users.iter().map(rows::user).collect()
        });
        listing.await.map_err(|error| error.at(Operation::ListUsers))
    }

    async fn update(&self, user: &User, expected_version: u64) -> Result<Updated, StoreError> {
        let updating = self.writes.ask(async |connection| {
            let Ok(expected_version) = version(expected_version) else {
                return Ok(Updated::VersionMoved);
            };
            let values: [&(dyn ToSql + Sync); 11] = [
                user.id.as_uuid(),
                &user.email.as_str(),
                &user.email.key().as_str(),
                &user.names.first(),
                &user.names.last(),
                &user.roles.as_slice(),
                &user.created_at.as_millis(),
                &user.updated_at.as_millis(),
                &user.disabled_at.map(|at| at.as_millis()),
                &version(user.version)?,
                &expected_version,
            ];
            match connection
                .client
                .execute(&connection.statements.update_user, &values)
                .await
            {
                Ok(0) => Ok(Updated::VersionMoved),
                Ok(_) => Ok(Updated::Yes),
                Err(error) if ServerError::is_taken(&error, "users_email_key") => Ok(Updated::EmailTaken),
                Err(error) => Err(error.into()),
            }
        });
        updating.await.map_err(|error| error.at(Operation::UpdateUser))
    }

    async fn replace_password(
        &self,
        id: UserId,
        replaced: ReplacedHash<'_>,
        hash: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let replacing = self.writes.ask(async |connection| {
            let (client, statements) = (&connection.client, &connection.statements);
            let hash = hash.expose();
            let changed = match replaced {
                ReplacedHash::Any => {
                    client
                        .execute(&statements.set_password, &[id.as_uuid(), &hash])
                        .await?
                }
                ReplacedHash::Exactly(old) => {
                    let values: [&(dyn ToSql + Sync); 3] = [id.as_uuid(), &hash, &old.expose()];
                    client.execute(&statements.replace_password, &values).await?
                }
            };
            Ok(changed > 0)
        });
        replacing
            .await
            .map_err(|error| error.at(Operation::ReplacePassword))
    }

    async fn record_change(
        &self,
        user: UserId,
        expected: ReplacedHash<'_>,
        pending: &PendingChange,
    ) -> Result<bool, StoreError> {
        let expected = match expected {
            ReplacedHash::Any => None,
            ReplacedHash::Exactly(hash) => Some(hash.expose()),
        };
        let (kind, effective_at, new_hash) = rows::change_columns(&pending.change);
        let recording = self.writes.ask(async |connection| {
            let values: [&(dyn ToSql + Sync); 6] = [
                user.as_uuid(),
                &expected,
                pending.id.as_uuid(),
                &kind,
                &effective_at,
                &new_hash,
            ];
            let statement = &connection.statements.record_change;
            Ok(connection.client.execute(statement, &values).await? > 0)
        });
        recording.await.map_err(|error| error.at(Operation::RecordChange))
    }

    async fn apply_change(&self, user: UserId, id: ChangeId) -> Result<bool, StoreError> {
        let applying = self.writes.ask(async |connection| {
            let statement = &connection.statements.apply_change;
            let row = connection
                .client
                .query_one(statement, &[user.as_uuid(), id.as_uuid()])
                .await?;
            Ok(rows::number(&row, 0)? > 0)
        });
        applying.await.map_err(|error| error.at(Operation::ApplyChange))
    }

    async fn pending_changes(&self, limit: u32) -> Result<Vec<(UserId, PendingChange)>, StoreError> {
        let listing = self.writes.ask(async |connection| {
            let statement = &connection.statements.pending_changes;
            let pending = connection.client.query(statement, &[&i64::from(limit)]).await?;
            pending.iter().map(rows::users_pending_change).collect()
        });
        listing
            .await
            .map_err(|error| error.at(Operation::ListPendingChanges))
    }

    async fn delete(&self, id: UserId) -> Result<bool, StoreError> {
        let deleting = self.writes.ask(async |connection| {
            let deleted = connection
                .client
                .execute(&connection.statements.delete_user, &[id.as_uuid()])
                .await?;
            Ok(deleted > 0)
        });
        deleting.await.map_err(|error| error.at(Operation::DeleteUser))
    }

    async fn count(&self) -> Result<u64, StoreError> {
        let counting = self.slow.ask(async |connection| {
            let row = connection
                .client
                .query_one(&connection.statements.count_users, &[])
                .await?;
            rows::number(&row, 0)
        });
        counting.await.map_err(|error| error.at(Operation::CountUsers))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.checks
            .ping()
            .await
            .map_err(|error| error.at(Operation::Ping))
    }
}
