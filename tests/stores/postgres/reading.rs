//! What a check costs the server.

use super::samples::{PATIENCE, check, database, start, store_on, within};
use sessiond::domain::TokenDigest;
use testkit::postgres::PostgresServer;

#[tokio::test(flavor = "multi_thread")]
async fn a_check_is_one_read_by_the_primary_key() {
    let server = PostgresServer::shared();
    let (store, url) = store_on(server).await;
    let now = start();
    // Enough rows that reading them all would be the dearer plan.
    server.sql(
        database(&url),
        &format!(
            "INSERT INTO sessiond.sessions
             SELECT decode(lpad(to_hex(n), 64, '0'), 'hex'), ('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
                    gen_random_uuid(), 0, {now}, 1, 1, 0, 1, 4000000000, 4000000000, NULL, NULL, '', '', '', '{{}}'
             FROM generate_series(1, 20000) n;
             ANALYZE sessiond.sessions",
            now = now.as_millis()
        ),
    );
    let scans = || {
        let scans = server.sql(
            database(&url),
            "SELECT (SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'sessions_pkey'),
                    (SELECT sum(idx_scan) FROM pg_stat_user_indexes
                     WHERE relname = 'sessions' AND indexrelname <> 'sessions_pkey'),
                    (SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'sessions')",
        );
        scans
            .split('|')
            .map(|n| n.parse::<u64>().unwrap())
            .collect::<Vec<_>>()
    };
    let before = tokio::task::block_in_place(scans);
    for n in 1..=200_u8 {
        let mut digest = [0; 32];
        digest[31] = n;
        let found = check(&store, &TokenDigest::from_bytes(digest), now)
            .await
            .unwrap();
        assert_eq!(found.unwrap().id.to_bytes()[15], n);
    }
    // The server counts with a delay.
    within(PATIENCE, "two hundred reads by the primary key", async || {
        let after = tokio::task::block_in_place(scans);
        assert_eq!(after[1..], before[1..], "a check read something else");
        (after[0] == before[0] + 200).then_some(())
    })
    .await;
}
