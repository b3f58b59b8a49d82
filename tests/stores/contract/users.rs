//! What is promised about users.

use futures_util::future::join_all;
use sessiond::{
    domain::{Email, Names, Roles, User},
    store::{Inserted, ReplacedHash, Updated, UserRecord, UserStore},
};
use testkit::{
    samples::{email, hash, secs, user_id, user_record},
    stores::Opened,
};

type Users = Opened<dyn UserStore>;

async fn inserted(store: &Users) -> UserRecord {
    let record = user_record();
    assert_eq!(store.here.insert(&record).await.unwrap(), Inserted::Yes);
    record
}

async fn found(store: &Users, user: &User) -> Option<UserRecord> {
    let by_id = store.there.by_id(user.id).await.unwrap();
    let by_email = store.there.by_email(user.email.key()).await.unwrap();
    assert_eq!(by_id, by_email);
    by_id
}

/// The user with the next version, and a new name.
fn changed(user: &User) -> User {
    User {
        names: Names::new("Augusta".into(), "King".into()).unwrap(),
        updated_at: user.updated_at.after(secs(9)),
        version: user.version + 1,
        ..user.clone()
    }
}

pub(crate) async fn an_inserted_user_is_found_by_id_and_by_email(store: Users) {
    let first = inserted(&store).await;
    let mut second = user_record();
    second.password_hash = None;
    second.user.disabled_at = Some(second.user.created_at.after(secs(1)));
    second.user.roles = Roles::default();
    assert_eq!(store.here.insert(&second).await.unwrap(), Inserted::Yes);
    assert_eq!(found(&store, &first.user).await, Some(first));
    assert_eq!(found(&store, &second.user).await, Some(second));
}

pub(crate) async fn an_unknown_user_is_not_found(store: Users) {
    inserted(&store).await;
    assert_eq!(found(&store, &user_record().user).await, None);
}

pub(crate) async fn s_85_a_user_is_kept_to_the_letter(store: Users) {
    let texts = [
        "",
        "' OR 1=1 --",
        "\"",
        "\r\n",
        "{}",
        "{a,b}",
        "*",
        "%s%n%",
        "\\",
        "$1",
        "NULL",
        "; DROP TABLE users; --",
        "naïve Ω 漢字 👩‍💻 \u{202e}",
        " lead and trail ",
    ];
    for (n, text) in texts.into_iter().enumerate() {
        let mut record = user_record();
        let spelling = format!("{text}{n}@example.org");
        record.user.email = Email::from_stored(spelling.clone(), spelling.to_lowercase());
        record.user.names = Names::from_stored(text.into(), text.repeat(2));
        record.user.roles = Roles::from_stored(vec![text.into(), format!("{text},{text}")]);
        record.password_hash = Some(sessiond::domain::PasswordHash::from_stored(text.into()));
        assert_eq!(
            store.here.insert(&record).await.unwrap(),
            Inserted::Yes,
            "{text:?}"
        );
        assert_eq!(
            found(&store, &record.user).await.as_ref(),
            Some(&record),
            "{text:?}"
        );
        let listed = store.there.list(None, 1000).await.unwrap();
        assert!(listed.contains(&record.user), "{text:?}");
    }
}

pub(crate) async fn an_email_is_taken_once(store: Users) {
    let first = inserted(&store).await;
    let mut second = user_record();
    second.user.email = email(
        &first
            .user
            .email
            .as_str()
            .to_uppercase()
            .replace("EXAMPLE.ORG", "example.org"),
    );
    assert_eq!(store.there.insert(&second).await.unwrap(), Inserted::EmailTaken);
    assert_eq!(store.there.by_id(second.user.id).await.unwrap(), None);
    assert_eq!(found(&store, &first.user).await, Some(first));
}

pub(crate) async fn s_41_of_fifty_parallel_inserts_with_one_email_one_succeeds(store: Users) {
    let shared = user_record().user.email;
    let records: Vec<_> = (0..50)
        .map(|_| {
            let mut record = user_record();
            record.user.email = shared.clone();
            record
        })
        .collect();
    let tasks = records.iter().cloned().enumerate().map(|(turn, record)| {
        let process = store.process(turn);
        tokio::spawn(async move { process.insert(&record).await })
    });
    let answers = join_all(tasks.collect::<Vec<_>>()).await;
    let answers: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.unwrap().unwrap())
        .collect();
    assert_eq!(
        answers.iter().filter(|answer| **answer == Inserted::Yes).count(),
        1
    );
    for (record, answer) in records.iter().zip(answers) {
        let stored = store.there.by_id(record.user.id).await.unwrap();
        assert_eq!(stored.is_some(), answer == Inserted::Yes);
    }
}

pub(crate) async fn an_id_is_taken_once(store: Users) {
    let first = inserted(&store).await;
    let mut second = user_record();
    second.user.id = first.user.id;
    // No caller makes an id twice, so there is no answer for it; it must not pass for a success.
    let answer = store.there.insert(&second).await;
    assert!(!matches!(answer, Ok(Inserted::Yes)), "{answer:?}");
    assert_eq!(found(&store, &first.user).await, Some(first));
    assert_eq!(store.there.by_email(second.user.email.key()).await.unwrap(), None);
}

pub(crate) async fn users_are_listed_in_the_order_of_their_ids(store: Users) {
    let mut users = Vec::new();
    for _ in 0..7 {
        users.push(inserted(&store).await.user);
    }
    users.sort_unstable_by_key(|user| user.id);
    assert_eq!(store.there.list(None, 100).await.unwrap(), users);
    assert_eq!(store.there.list(None, 3).await.unwrap(), users[..3]);
    assert_eq!(store.there.list(Some(users[2].id), 3).await.unwrap(), users[3..6]);
    assert_eq!(store.there.list(Some(users[6].id), 3).await.unwrap(), []);
    assert_eq!(store.there.list(None, 0).await.unwrap(), []);
    // The id of a user who is gone is still a place to go on from.
    assert!(store.here.delete(users[3].id).await.unwrap());
    assert_eq!(store.there.list(Some(users[3].id), 2).await.unwrap(), users[4..6]);
}

pub(crate) async fn an_update_replaces_everything_but_the_password(store: Users) {
    let record = inserted(&store).await;
    let user = User {
        email: user_record().user.email,
        roles: Roles::new(vec!["other".into()]).unwrap(),
        disabled_at: Some(record.user.created_at.after(secs(5))),
        ..changed(&record.user)
    };
    assert_eq!(store.here.update(&user, 1).await.unwrap(), Updated::Yes);
    let stored = found(&store, &user).await.unwrap();
    assert_eq!(
        stored,
        UserRecord {
            user: user.clone(),
            pending: None,
            password_hash: record.password_hash
        }
    );
    let enabled = User {
        disabled_at: None,
        version: 3,
        ..user
    };
    assert_eq!(store.here.update(&enabled, 2).await.unwrap(), Updated::Yes);
    assert_eq!(found(&store, &enabled).await.unwrap().user, enabled);
}

pub(crate) async fn an_update_that_expects_another_version_changes_nothing(store: Users) {
    let record = inserted(&store).await;
    for expected_version in [0, 2, u64::from(u32::MAX)] {
        let user = User {
            version: expected_version + 1,
            ..changed(&record.user)
        };
        assert_eq!(
            store.here.update(&user, expected_version).await.unwrap(),
            Updated::VersionMoved
        );
    }
    assert_eq!(found(&store, &record.user).await, Some(record));
}

pub(crate) async fn of_two_parallel_updates_one_wins(store: Users) {
    let mut record = inserted(&store).await;
    for round in 0..20 {
        let version = record.user.version;
        let updates = ["left", "right"].map(|name| User {
            names: Names::new(name.into(), format!("{round}")).unwrap(),
            ..changed(&record.user)
        });
        let tasks = updates.iter().cloned().enumerate().map(|(turn, user)| {
            let process = store.process(turn);
            tokio::spawn(async move { process.update(&user, version).await })
        });
        let answers = join_all(tasks.collect::<Vec<_>>()).await;
        let answers: Vec<_> = answers
            .into_iter()
            .map(|answer| answer.unwrap().unwrap())
            .collect();
        let winner = answers.iter().position(|answer| *answer == Updated::Yes).unwrap();
        assert_eq!(answers[1 - winner], Updated::VersionMoved);
        record.user = updates[winner].clone();
        assert_eq!(found(&store, &record.user).await.as_ref(), Some(&record));
    }
}

pub(crate) async fn an_update_to_a_taken_email_changes_nothing(store: Users) {
    let first = inserted(&store).await;
    let second = inserted(&store).await;
    let user = User {
        email: first.user.email.clone(),
        ..changed(&second.user)
    };
    assert_eq!(store.here.update(&user, 1).await.unwrap(), Updated::EmailTaken);
    assert_eq!(found(&store, &second.user).await, Some(second));
    assert_eq!(found(&store, &first.user).await, Some(first));
}

pub(crate) async fn an_update_frees_the_former_email(store: Users) {
    let record = inserted(&store).await;
    let moved = User {
        email: user_record().user.email,
        ..changed(&record.user)
    };
    assert_eq!(store.here.update(&moved, 1).await.unwrap(), Updated::Yes);
    assert_eq!(store.there.by_email(record.user.email.key()).await.unwrap(), None);
    let mut second = user_record();
    second.user.email = record.user.email;
    assert_eq!(store.here.insert(&second).await.unwrap(), Inserted::Yes);
    assert_eq!(found(&store, &second.user).await, Some(second));
}

pub(crate) async fn a_user_may_keep_their_email_in_another_spelling(store: Users) {
    let record = inserted(&store).await;
    let spelling = record.user.email.as_str().replace("user", "USER");
    let user = User {
        email: email(&spelling),
        ..changed(&record.user)
    };
    assert_eq!(user.email.key(), record.user.email.key());
    assert_eq!(store.here.update(&user, 1).await.unwrap(), Updated::Yes);
    assert_eq!(found(&store, &user).await.unwrap().user.email.as_str(), spelling);
}

pub(crate) async fn a_missing_user_is_not_updated(store: Users) {
    let never_stored = user_record().user;
    assert_eq!(
        store.here.update(&changed(&never_stored), 1).await.unwrap(),
        Updated::VersionMoved
    );
    assert_eq!(found(&store, &never_stored).await, None);
}

pub(crate) async fn a_password_is_replaced_whatever_it_was(store: Users) {
    let record = inserted(&store).await;
    let mut without = user_record();
    without.password_hash = None;
    store.here.insert(&without).await.unwrap();
    for user in [&record.user, &without.user] {
        assert!(
            store
                .here
                .replace_password(user.id, ReplacedHash::Any, &hash("second"))
                .await
                .unwrap()
        );
        let stored = found(&store, user).await.unwrap();
        assert_eq!(stored.password_hash, Some(hash("second")));
    }
}

pub(crate) async fn s_47_a_password_is_replaced_only_if_it_is_still_the_expected_one(store: Users) {
    let record = inserted(&store).await;
    let mut without = user_record();
    without.password_hash = None;
    store.here.insert(&without).await.unwrap();
    let expected = hash("another");
    for user in [&record.user, &without.user] {
        let replaced = ReplacedHash::Exactly(&expected);
        assert!(
            !store
                .here
                .replace_password(user.id, replaced, &hash("second"))
                .await
                .unwrap()
        );
    }
    assert_eq!(found(&store, &record.user).await.as_ref(), Some(&record));
    assert_eq!(found(&store, &without.user).await, Some(without));
    let expected = hash("first");
    let replaced = ReplacedHash::Exactly(&expected);
    assert!(
        store
            .here
            .replace_password(record.user.id, replaced, &hash("second"))
            .await
            .unwrap()
    );
    assert_eq!(
        found(&store, &record.user).await.unwrap().password_hash,
        Some(hash("second"))
    );
}

pub(crate) async fn of_parallel_password_changes_from_one_hash_one_wins(store: Users) {
    let record = inserted(&store).await;
    let tasks = (0..10).map(|turn| {
        let (process, id) = (store.process(turn), record.user.id);
        tokio::spawn(async move {
            let expected = hash("first");
            process
                .replace_password(
                    id,
                    ReplacedHash::Exactly(&expected),
                    &hash(&format!("new {turn}")),
                )
                .await
        })
    });
    let answers = join_all(tasks.collect::<Vec<_>>()).await;
    let won: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.unwrap().unwrap())
        .collect();
    assert_eq!(won.iter().filter(|won| **won).count(), 1);
    let winner = won.iter().position(|won| *won).unwrap();
    let stored = found(&store, &record.user).await.unwrap().password_hash;
    assert_eq!(stored, Some(hash(&format!("new {winner}"))));
}

pub(crate) async fn a_new_password_leaves_the_rest_of_the_user(store: Users) {
    let record = inserted(&store).await;
    assert!(
        store
            .here
            .replace_password(record.user.id, ReplacedHash::Any, &hash("second"))
            .await
            .unwrap()
    );
    assert_eq!(found(&store, &record.user).await.unwrap().user, record.user);
    // The version included: an update that was being prepared still fits.
    assert_eq!(
        store.here.update(&changed(&record.user), 1).await.unwrap(),
        Updated::Yes
    );
    assert_eq!(
        found(&store, &record.user).await.unwrap().password_hash,
        Some(hash("second"))
    );
}

pub(crate) async fn a_missing_user_gets_no_password(store: Users) {
    let id = user_id();
    assert!(
        !store
            .here
            .replace_password(id, ReplacedHash::Any, &hash("second"))
            .await
            .unwrap()
    );
    assert_eq!(store.there.by_id(id).await.unwrap(), None);
}

pub(crate) async fn a_deleted_user_is_gone_and_their_email_is_free(store: Users) {
    let record = inserted(&store).await;
    let other = inserted(&store).await;
    assert!(store.here.delete(record.user.id).await.unwrap());
    assert_eq!(found(&store, &record.user).await, None);
    assert!(!store.there.delete(record.user.id).await.unwrap());
    assert_eq!(store.there.list(None, 100).await.unwrap(), [other.user]);
    let mut again = user_record();
    again.user.email = record.user.email;
    assert_eq!(store.there.insert(&again).await.unwrap(), Inserted::Yes);
    assert_eq!(
        store.here.by_email(again.user.email.key()).await.unwrap(),
        Some(again)
    );
}

pub(crate) async fn of_parallel_deletes_one_finds_the_user(store: Users) {
    let record = inserted(&store).await;
    let tasks = (0..8).map(|turn| {
        let (process, id) = (store.process(turn), record.user.id);
        tokio::spawn(async move { process.delete(id).await })
    });
    let answers = join_all(tasks.collect::<Vec<_>>()).await;
    let found = answers
        .into_iter()
        .filter(|answer| *answer.as_ref().unwrap().as_ref().unwrap());
    assert_eq!(found.count(), 1);
}

pub(crate) async fn users_are_counted(store: Users) {
    assert_eq!(store.there.count().await.unwrap(), 0);
    let first = inserted(&store).await;
    inserted(&store).await;
    assert_eq!(store.there.count().await.unwrap(), 2);
    let mut second = user_record();
    second.user.email = first.user.email.clone();
    assert_eq!(store.here.insert(&second).await.unwrap(), Inserted::EmailTaken);
    assert_eq!(store.there.count().await.unwrap(), 2);
    store.here.delete(first.user.id).await.unwrap();
    assert_eq!(store.there.count().await.unwrap(), 1);
}

pub(crate) async fn the_user_store_answers_a_ping(store: Users) {
    store.here.ping().await.unwrap();
    store.there.ping().await.unwrap();
}
