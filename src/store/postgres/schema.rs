//! The schema: brought up to date by one process at a time, and refused if it is newer than this program.

use super::{PostgresConnectError, connection::Target};
use refinery::{Migration, Runner};
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::Client;

/// Every migration, in order. The last one's number is the schema's version.
const MIGRATIONS: &[(&str, &str)] = &[
    (
        "V1__users_and_sessions",
        include_str!("../../../migrations/postgres/V1__users_and_sessions.sql"),
    ),
    (
        "V2__pending_changes",
        include_str!("../../../migrations/postgres/V2__pending_changes.sql"),
    ),
];

/// The version that this program works with.
#[expect(clippy::cast_possible_truncation, reason = "a program has few migrations")]
const VERSION: i32 = MIGRATIONS.len() as i32;

/// The advisory lock under which the schema changes; a number that nothing else uses.
const MIGRATION_LOCK: i64 = 8_315_178_135_962_050_928;

/// How long migrating may take, and waiting for another process that does.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a migration waits for a table. While it waits, everybody else waits behind it; so it gives up and is tried again.
const TABLE_LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// Brings the schema up to date, if it is not.
pub(super) async fn bring_up_to_date(target: &Target) -> Result<(), PostgresConnectError> {
    let (mut client, driver) = target.connect(None).await?;
    let outcome = async {
        let asking = timeout(target.connect_timeout, stored_version(&client)).await;
        // Asked first without a lock or a right to change anything: an account that may only use the schema is enough.
        if asking.map_err(|_| PostgresConnectError::Unanswered)?? == Some(VERSION) {
            return Ok(());
        }
        let migrating = timeout(MIGRATION_TIMEOUT, migrate(&mut client)).await;
        migrating.map_err(|_| PostgresConnectError::Unanswered)?
    };
    let outcome = outcome.await;
    // The lock goes with the connection, whatever became of the migration.
    driver.abort();
    outcome
}

async fn migrate(client: &mut Client) -> Result<(), PostgresConnectError> {
    client
        .batch_execute(&format!(
            "SET statement_timeout = 0; SET lock_timeout = 0; SELECT pg_advisory_lock({MIGRATION_LOCK}); \
             SET lock_timeout = {}",
            TABLE_LOCK_TIMEOUT.as_millis()
        ))
        .await?;
    match stored_version(client).await? {
        Some(version) if version == VERSION => return Ok(()),
        Some(found) if found > VERSION => {
            return Err(PostgresConnectError::SchemaTooNew {
                found,
                known: VERSION,
            });
        }
        Some(_) | None => (),
    }
    // A schema that the account was given, without the right to create others, is as good.
    let exists = client
        .query_one("SELECT to_regnamespace('sessiond') IS NOT NULL", &[])
        .await?;
    if !exists.try_get::<_, bool>(0)? {
        client.batch_execute("CREATE SCHEMA sessiond").await?;
    }
    let migrations: Result<Vec<_>, _> = MIGRATIONS
        .iter()
        .map(|(name, sql)| Migration::unapplied(name, sql))
        .collect();
    let mut runner = Runner::new(&migrations?);
    runner.set_migration_table_name("sessiond.schema_history");
    runner.run_async(client).await?;
    Ok(())
}

/// The version of the schema; `None` if there is none.
async fn stored_version(client: &Client) -> Result<Option<i32>, PostgresConnectError> {
    let exists = client
        .query_one("SELECT to_regclass('sessiond.schema_history') IS NOT NULL", &[])
        .await?;
    if !exists.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let version = client
        .query_one("SELECT max(version) FROM sessiond.schema_history", &[])
        .await?;
    Ok(version.try_get(0)?)
}
