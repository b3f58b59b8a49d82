//! PostgreSQL: a database of its own for each test, and two stores on it.

use super::Opened;
use crate::{postgres::PostgresServer, waiting::PATIENCE};
use sessiond::store::{PostgresConfig, PostgresStore, PostgresUrl, SessionStore, UserStore};
use std::{sync::Arc, time::Duration};

/// Frees the database of a test that is over.
struct Database(String);

impl Drop for Database {
    fn drop(&mut self) {
        PostgresServer::shared().drop_database(&self.0);
    }
}

async fn two_processes() -> ([Arc<PostgresStore>; 2], Database) {
    let url = tokio::task::block_in_place(|| PostgresServer::shared().new_database());
    let config = PostgresConfig {
        check_connections: 2,
        write_connections: 4,
        // Many tests share the machine.
        call_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(9),
        lock_timeout: Duration::from_secs(8),
        connect_timeout: Duration::from_secs(10),
        ..PostgresConfig::new(PostgresUrl::new(url.clone()))
    };
    let [here, there] = [config.clone(), config].map(PostgresStore::connect);
    let (here, there) = tokio::try_join!(here, there).unwrap();
    ([here, there].map(Arc::new), Database(url))
}

/// A store of sessions.
pub async fn sessions() -> Opened<dyn SessionStore> {
    let ([here, there], database) = two_processes().await;
    Opened {
        here,
        there,
        telling_lag: PATIENCE,
        _keeps: vec![Box::new(database)],
    }
}

/// A store of users.
pub async fn users() -> Opened<dyn UserStore> {
    let ([here, there], database) = two_processes().await;
    Opened {
        here,
        there,
        telling_lag: Duration::ZERO,
        _keeps: vec![Box::new(database)],
    }
}
