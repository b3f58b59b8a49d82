//! A primary that is lost, and the standby that takes its place.

use super::samples::{PATIENCE, check, config, database, log_in, start, within};
use sessiond::store::{PostgresStore, RevocationEvent, SessionKey, SessionStore as _};
use testkit::postgres::PostgresServer;

#[tokio::test(flavor = "multi_thread")]
async fn f_16_the_standby_is_never_asked_and_takes_over_reviving_nothing() {
    let primary = PostgresServer::start();
    let name = database(&primary.new_database()).to_owned();
    let standby = PostgresServer::start();
    // Acknowledged means from here on: on the standby too.
    tokio::task::block_in_place(|| standby.become_standby_of(&primary));
    // With the standby first in line, a store that would read from a standby does.
    let url = format!(
        "postgres://tester@127.0.0.1:{},127.0.0.1:{}/{name}",
        standby.port(),
        primary.port()
    );
    let store = PostgresStore::connect(config(&url)).await.unwrap();
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sessiond'";
    assert_eq!(standby.sql(&name, asked), "0");
    assert_ne!(primary.sql(&name, asked), "0");

    let now = start();
    let mut kept = Vec::new();
    let mut ended = Vec::new();
    for _ in 0..20 {
        kept.push(log_in(&store, now, 600).await);
        let new = log_in(&store, now, 600).await;
        assert!(
            store
                .destroy(SessionKey::Id(new.session.live.id), now)
                .await
                .unwrap()
                .is_some()
        );
        ended.push(new);
    }
    let mut reader = store.revocations().read(Some(store.revocations().head()));

    primary.kill();
    check(&store, &kept[0].digest, now).await.unwrap_err();
    standby.promote();
    within(PATIENCE, "the store on the new primary", async || {
        check(&store, &kept[0].digest, now).await.ok()
    })
    .await;
    for new in &kept {
        assert_eq!(
            check(&store, &new.digest, now).await.unwrap(),
            Some(new.session.live)
        );
    }
    for new in &ended {
        assert_eq!(check(&store, &new.digest, now).await.unwrap(), None, "revived");
    }
    // Not every standby is synchronous: what the old primary published may be lost, so no reader goes on from there.
    within(PATIENCE, "the log's restart", async || {
        let told = reader.ready(1000);
        told.iter()
            .any(|(_, told)| *told == RevocationEvent::Forget)
            .then_some(())
    })
    .await;
    within(PATIENCE, "a log-in", async || {
        let user = kept[0].session.live.user_id;
        store.revoke_user(user, None, now).await.ok()
    })
    .await;
    log_in(&store, now, 600).await;
}
