//! What a check costs the server.

use crate::{
    postgres_server::PostgresServer,
    samples::{check, database, log_in, start, store_on, within},
};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_check_is_one_read_by_the_primary_key() {
    let server = PostgresServer::shared();
    let (store, url) = store_on(server).await;
    let now = start();
    let new = log_in(&store, now, 600).await;
    // Enough rows that reading them all would be the dearer plan.
    server.sql(
        database(&url),
        "INSERT INTO sessiond.sessions
         SELECT decode(lpad(to_hex(n), 64, '0'), 'hex'), gen_random_uuid(), gen_random_uuid(), 0, 0, 1, 1, 0, 1, 1, 1, NULL, NULL,
                '', '', '', '{}'
         FROM generate_series(1, 20000) n;
         ANALYZE sessiond.sessions",
    );
    let scans = || {
        server.sql(
            database(&url),
            "SELECT (SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'sessions_pkey'),
                    (SELECT sum(idx_scan) FROM pg_stat_user_indexes
                     WHERE schemaname = 'sessiond' AND indexrelname <> 'sessions_pkey'),
                    (SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'sessions')",
        )
    };
    let numbers = |scans: String| {
        scans
            .split('|')
            .map(|n| n.parse::<u64>().unwrap())
            .collect::<Vec<_>>()
    };
    let before = numbers(scans());
    for _ in 0..200 {
        assert!(check(&store, &new.digest, now).await.unwrap().is_some());
    }
    // The server counts with a delay.
    within(
        Duration::from_secs(10),
        "two hundred reads by the primary key",
        async || {
            let after = numbers(tokio::task::block_in_place(scans));
            assert_eq!(after[1..], before[1..], "a check read something else");
            (after[0] == before[0] + 200).then_some(())
        },
    )
    .await;
}
