//! How the log of revocations stays complete, whichever process dies and in whatever order commits come.

use super::samples::{PATIENCE, client, config, database, log_in, start, store_on, user_id, within};
use sessiond::{
    domain::{Revocation, UserId},
    store::{PostgresStore, RevocationEvent, Revocations, SessionKey, SessionStore as _},
};
use testkit::postgres::PostgresServer;

fn reader(store: &PostgresStore) -> Revocations {
    let log = store.revocations();
    log.read(Some(log.head()))
}

async fn next(reader: &mut Revocations) -> RevocationEvent {
    let told = tokio::time::timeout(PATIENCE, reader.next(1)).await;
    told.expect("something is told in time")[0].1
}

fn of_user(user: UserId) -> RevocationEvent {
    RevocationEvent::Revoked(Revocation::User { user, except: None })
}

const WRITE: &str = "INSERT INTO sessiond.unnumbered_revocations (is_one, user_id) VALUES (false, $1)";

#[tokio::test(flavor = "multi_thread")]
async fn what_commits_late_is_told_although_later_writes_were_told_before() {
    let (store, url) = store_on(PostgresServer::shared()).await;
    let mut reader = reader(&store);
    let (early, late) = (user_id(), user_id());
    let mut slow = client(&url).await;
    let transaction = slow.transaction().await.unwrap();
    transaction.execute(WRITE, &[late.as_uuid()]).await.unwrap();
    client(&url)
        .await
        .execute(WRITE, &[early.as_uuid()])
        .await
        .unwrap();
    assert_eq!(next(&mut reader).await, of_user(early));
    transaction.commit().await.unwrap();
    assert_eq!(next(&mut reader).await, of_user(late));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_wrote_before_it_died_is_told_by_the_others() {
    let (store, url) = store_on(PostgresServer::shared()).await;
    let mut reader = reader(&store);
    // Committed, and no process was notified.
    let user = user_id();
    client(&url)
        .await
        .execute(WRITE, &[user.as_uuid()])
        .await
        .unwrap();
    assert_eq!(next(&mut reader).await, of_user(user));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_cut_off_is_told_what_it_missed_and_need_not_forget() {
    let server = PostgresServer::shared();
    let (here, url) = store_on(server).await;
    let there = PostgresStore::connect(config(&url)).await.unwrap();
    let now = start();
    let new = log_in(&here, now, 600).await;
    let mut readers = [reader(&here), reader(&there)];
    let listeners = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name = 'sessiond'";
    assert_ne!(server.sql(database(&url), listeners), "0");
    let live = new.session.live;
    let ended = within(PATIENCE, "reconnecting", async || {
        here.destroy(SessionKey::Id(live.id), now).await.ok()
    })
    .await;
    assert!(ended.is_some());
    for reader in &mut readers {
        let told = RevocationEvent::Revoked(Revocation::Session {
            session: live.id,
            user: live.user_id,
        });
        assert_eq!(next(reader).await, told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_missed_what_is_no_longer_kept_is_told_to_forget() {
    let server = PostgresServer::shared();
    let (store, url) = store_on(server).await;
    let mut reader = reader(&store);
    let user = user_id();
    // In one commit, so that the log cannot be read in between.
    server.sql(
        database(&url),
        "BEGIN; UPDATE sessiond.revocation_log SET sequence = sequence + 7;
         INSERT INTO sessiond.revocations SELECT sequence, false FROM sessiond.revocation_log; COMMIT",
    );
    assert_eq!(next(&mut reader).await, RevocationEvent::Forget);
    client(&url)
        .await
        .execute(WRITE, &[user.as_uuid()])
        .await
        .unwrap();
    assert_eq!(next(&mut reader).await, of_user(user));
}

#[tokio::test(flavor = "multi_thread")]
async fn f_16_the_log_of_a_server_with_another_past_is_another_log() {
    let server = PostgresServer::shared();
    let (store, url) = store_on(server).await;
    let other = PostgresStore::connect(config(&url)).await.unwrap();
    let mut readers = [reader(&store), reader(&other)];
    let before = store.revocations().head();
    server.sql(
        database(&url),
        "UPDATE sessiond.revocation_log SET origin = '1/00000001'",
    );
    for reader in &mut readers {
        assert_eq!(next(reader).await, RevocationEvent::Forget);
    }
    let after = store.revocations().head();
    assert_ne!(after.log, before.log);
    assert_eq!(other.revocations().head(), after);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_fits_one_read_is_told_in_order_and_completely() {
    let server = PostgresServer::shared();
    let (store, url) = store_on(server).await;
    let mut reader = reader(&store);
    server.sql(
        database(&url),
        "INSERT INTO sessiond.unnumbered_revocations (is_one, user_id)
         SELECT false, lpad(to_hex(n), 32, '0')::uuid FROM generate_series(1, 12000) n",
    );
    let mut expected = 1_u128;
    while expected <= 12_000 {
        let told = tokio::time::timeout(PATIENCE, reader.next(1000)).await.unwrap();
        for (_, told) in told {
            assert_eq!(told, of_user(UserId::from_bytes(expected.to_be_bytes())));
            expected += 1;
        }
    }
}
