//! What is promised about changes of users that are recorded before they are applied.

use futures_util::future::join_all;
use sessiond::{
    domain::{ChangeId, Timestamp},
    store::{Inserted, PendingChange, ReplacedHash, Updated, UserChange, UserRecord, UserStore},
};
use testkit::{
    samples::{hash, secs, user_record},
    stores::Opened,
};

type Users = Opened<dyn UserStore>;

const ANY: ReplacedHash<'static> = ReplacedHash::Any;

fn pending(number: u8, change: UserChange) -> PendingChange {
    PendingChange {
        id: ChangeId::new(Timestamp::from_millis(1_700_000_000_000), [number; 10]),
        change,
    }
}

async fn inserted(store: &Users) -> UserRecord {
    let record = user_record();
    assert_eq!(store.here.insert(&record).await.unwrap(), Inserted::Yes);
    record
}

async fn found(store: &Users, record: &UserRecord) -> Option<UserRecord> {
    let by_id = store.there.by_id(record.user.id).await.unwrap();
    let by_email = store.there.by_email(record.user.email.key()).await.unwrap();
    assert_eq!(by_id, by_email);
    by_id
}

fn every_change() -> [UserChange; 3] {
    [
        UserChange::SetPassword(hash("second")),
        UserChange::Disable(Timestamp::from_millis(1_800_000_000_000)),
        UserChange::Delete,
    ]
}

pub(crate) async fn a_recorded_change_is_seen_and_changes_nothing_else(store: Users) {
    for (number, change) in (0..).zip(every_change()) {
        let record = inserted(&store).await;
        let change = pending(number, change);
        assert!(
            store
                .here
                .record_change(record.user.id, ANY, &change)
                .await
                .unwrap()
        );
        let expected = UserRecord {
            pending: Some(change.clone()),
            ..record.clone()
        };
        assert_eq!(found(&store, &record).await, Some(expected));
        let all = store.there.pending_changes(100).await.unwrap();
        assert!(all.contains(&(record.user.id, change)), "{all:?}");
    }
    assert_eq!(store.there.pending_changes(2).await.unwrap().len(), 2);
}

pub(crate) async fn an_applied_change_makes_the_user_what_it_says(store: Users) {
    for (number, change) in (0..).zip(every_change()) {
        let record = inserted(&store).await;
        let change = pending(number, change);
        store
            .here
            .record_change(record.user.id, ANY, &change)
            .await
            .unwrap();
        assert!(store.here.apply_change(record.user.id, change.id).await.unwrap());
        let expected = match change.change.clone() {
            UserChange::SetPassword(hash) => Some(UserRecord {
                password_hash: Some(hash),
                ..record.clone()
            }),
            UserChange::Disable(at) => {
                let mut disabled = record.clone();
                disabled.user.disabled_at = Some(at);
                disabled.user.updated_at = at;
                disabled.user.version += 1;
                Some(disabled)
            }
            UserChange::Delete => None,
        };
        assert_eq!(found(&store, &record).await, expected);
        assert!(!store.here.apply_change(record.user.id, change.id).await.unwrap());
        assert_eq!(found(&store, &record).await, expected);
    }
    assert_eq!(store.there.pending_changes(100).await.unwrap(), []);
}

pub(crate) async fn a_disabled_user_is_not_disabled_anew(store: Users) {
    let mut record = user_record();
    record.user.disabled_at = Some(record.user.created_at.after(secs(1)));
    store.here.insert(&record).await.unwrap();
    let change = pending(1, UserChange::Disable(record.user.created_at.after(secs(9))));
    assert!(
        store
            .here
            .record_change(record.user.id, ANY, &change)
            .await
            .unwrap()
    );
    assert!(store.here.apply_change(record.user.id, change.id).await.unwrap());
    assert_eq!(found(&store, &record).await, Some(record));
}

pub(crate) async fn a_user_has_one_pending_change_at_a_time(store: Users) {
    let record = inserted(&store).await;
    let tasks = (0..10).map(|turn| {
        let (process, id) = (store.process(turn.into()), record.user.id);
        let change = pending(turn, UserChange::SetPassword(hash("second")));
        tokio::spawn(async move { process.record_change(id, ANY, &change).await })
    });
    let answers = join_all(tasks.collect::<Vec<_>>()).await;
    let recorded: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.unwrap().unwrap())
        .collect();
    assert_eq!(recorded.iter().filter(|recorded| **recorded).count(), 1);
    let winner = recorded.iter().position(|recorded| *recorded).unwrap();
    let winner = pending(
        u8::try_from(winner).unwrap(),
        UserChange::SetPassword(hash("second")),
    );
    let other = pending(99, UserChange::Delete);
    assert!(!store.there.apply_change(record.user.id, other.id).await.unwrap());
    assert_eq!(
        found(&store, &record).await.unwrap().pending,
        Some(winner.clone())
    );
    assert!(store.there.apply_change(record.user.id, winner.id).await.unwrap());
    assert!(
        store
            .here
            .record_change(record.user.id, ANY, &other)
            .await
            .unwrap()
    );
}

pub(crate) async fn s_47_a_change_is_recorded_for_the_expected_hash_only(store: Users) {
    let record = inserted(&store).await;
    let change = pending(1, UserChange::SetPassword(hash("second")));
    let (wrong, right) = (hash("another"), hash("first"));
    let record_for = |expected| store.here.record_change(record.user.id, expected, &change);
    assert!(!record_for(ReplacedHash::Exactly(&wrong)).await.unwrap());
    assert_eq!(found(&store, &record).await.as_ref(), Some(&record));
    assert!(record_for(ReplacedHash::Exactly(&right)).await.unwrap());
    let nobody = user_record().user.id;
    assert!(!store.here.record_change(nobody, ANY, &change).await.unwrap());
    assert!(!store.here.apply_change(nobody, change.id).await.unwrap());
}

pub(crate) async fn other_changes_of_the_user_leave_what_is_pending(store: Users) {
    let record = inserted(&store).await;
    let change = pending(1, UserChange::Disable(record.user.created_at.after(secs(9))));
    store
        .here
        .record_change(record.user.id, ANY, &change)
        .await
        .unwrap();
    let mut renamed = record.user.clone();
    renamed.version += 1;
    assert_eq!(store.here.update(&renamed, 1).await.unwrap(), Updated::Yes);
    let id = record.user.id;
    assert!(
        store
            .here
            .replace_password(id, ANY, &hash("rehashed"))
            .await
            .unwrap()
    );
    assert_eq!(
        found(&store, &record).await.unwrap().pending.as_ref(),
        Some(&change)
    );
    assert!(store.here.apply_change(id, change.id).await.unwrap());
    let disabled = found(&store, &record).await.unwrap();
    assert_eq!(disabled.user.version, 3);
    assert_eq!(disabled.password_hash, Some(hash("rehashed")));
}

pub(crate) async fn nothing_is_pending_for_a_deleted_user(store: Users) {
    let record = inserted(&store).await;
    let change = pending(1, UserChange::Delete);
    store
        .here
        .record_change(record.user.id, ANY, &change)
        .await
        .unwrap();
    assert!(store.here.delete(record.user.id).await.unwrap());
    assert_eq!(store.there.pending_changes(100).await.unwrap(), []);
    assert_eq!(store.here.insert(&record).await.unwrap(), Inserted::Yes);
    assert_eq!(found(&store, &record).await, Some(record));
}
