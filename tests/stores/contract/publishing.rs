//! What the log of revocations publishes, in each process, for every operation that ends sessions.

use futures_util::{FutureExt as _, future::join_all};
use sessiond::{
    domain::Revocation,
    store::{Created, NewSession, RevocationEvent, Revocations, Rotation, SessionKey, SessionStore},
};
use testkit::{
    samples::{IDLE_TIMEOUT, digest, log_in, log_in_with, millis, new_session, session_id, start, user_id},
    stores::Opened,
    waiting::{PATIENCE, within},
};

type Sessions = Opened<dyn SessionStore>;

/// A reader in each process, of what is published from now on.
async fn readers(store: &Sessions) -> [Revocations; 2] {
    // A log that lags behind could give old events first: wait until both stand where everything before is known.
    let marker = log_in(&*store.here, user_id(), start()).await.session.live;
    let mut readers = [&store.here, &store.there].map(|process| {
        let log = process.revocations();
        log.read(Some(log.head()))
    });
    store
        .here
        .destroy(SessionKey::Id(marker.id), start())
        .await
        .unwrap()
        .unwrap();
    let ended = Revocation::Session {
        session: marker.id,
        user: marker.user_id,
    };
    for reader in &mut readers {
        hears(reader, &[ended], store).await;
    }
    readers
}

/// Reads until every one of `expected` has come, in any order and perhaps among others.
async fn hears(reader: &mut Revocations, expected: &[Revocation], store: &Sessions) {
    let mut missing = expected.to_vec();
    while !missing.is_empty() {
        let told = match store.telling_lag.is_zero() {
            true => reader.next(1).now_or_never(),
            false => tokio::time::timeout(store.telling_lag, reader.next(1)).await.ok(),
        };
        for (_, told) in told.unwrap_or_else(|| panic!("not told in time: {missing:?}")) {
            match told {
                RevocationEvent::Revoked(revocation) => missing.retain(|missing| *missing != revocation),
                RevocationEvent::Forget => panic!("the reader was told to forget"),
            }
        }
    }
}

async fn both_hear(readers: &mut [Revocations; 2], expected: &[Revocation], store: &Sessions) {
    for reader in readers {
        hears(reader, expected, store).await;
    }
}

fn ended(new: &NewSession) -> Revocation {
    Revocation::Session {
        session: new.session.live.id,
        user: new.session.live.user_id,
    }
}

pub(crate) async fn s_13_a_destroyed_session_is_told(store: Sessions) {
    let now = start();
    let by_token = log_in(&*store.here, user_id(), now).await;
    let by_id = log_in(&*store.here, user_id(), now).await;
    let mut readers = readers(&store).await;
    store
        .here
        .destroy(SessionKey::Token(by_token.digest), now)
        .await
        .unwrap()
        .unwrap();
    both_hear(&mut readers, &[ended(&by_token)], &store).await;
    store
        .there
        .destroy(SessionKey::Id(by_id.session.live.id), now)
        .await
        .unwrap()
        .unwrap();
    both_hear(&mut readers, &[ended(&by_id)], &store).await;
}

pub(crate) async fn a_rotation_is_told(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let mut readers = readers(&store).await;
    let rotation = Rotation {
        from: new.digest,
        to: digest(),
        grace_until: now,
        authenticated_at: None,
    };
    store.here.rotate(rotation, now).await.unwrap().unwrap();
    both_hear(&mut readers, &[ended(&new)], &store).await;
}

pub(crate) async fn a_replaced_session_is_told(store: Sessions) {
    let now = start();
    let old = log_in(&*store.here, user_id(), now).await;
    let mut readers = readers(&store).await;
    log_in_with(&*store.here, user_id(), now, |new| {
        new.replaces = Some(old.digest)
    })
    .await;
    both_hear(&mut readers, &[ended(&old)], &store).await;
}

pub(crate) async fn an_evicted_session_is_told(store: Sessions) {
    let now = start();
    let user = user_id();
    let first = log_in(&*store.here, user, now).await;
    let second = log_in(&*store.here, user, now.after(millis(1))).await;
    let mut readers = readers(&store).await;
    log_in_with(&*store.here, user, now.after(millis(2)), |new| {
        new.max_per_user = 1
    })
    .await;
    both_hear(&mut readers, &[ended(&first), ended(&second)], &store).await;
}

pub(crate) async fn s_17_a_revoked_user_is_told_with_the_session_that_was_spared(store: Sessions) {
    let now = start();
    let new = log_in(&*store.here, user_id(), now).await;
    let (id, user) = (new.session.live.id, new.session.live.user_id);
    let mut readers = readers(&store).await;
    store.here.revoke_user(user, Some(id), now).await.unwrap();
    both_hear(
        &mut readers,
        &[Revocation::User {
            user,
            except: Some(id),
        }],
        &store,
    )
    .await;
    store.there.revoke_user(user, None, now).await.unwrap();
    both_hear(&mut readers, &[Revocation::User { user, except: None }], &store).await;
}

pub(crate) async fn an_exception_that_spared_nothing_is_not_told(store: Sessions) {
    let now = start();
    let own = log_in(&*store.here, user_id(), now).await;
    let others = log_in(&*store.here, user_id(), now).await;
    let expired = log_in(&*store.here, own.session.live.user_id, now.before(IDLE_TIMEOUT)).await;
    let user = own.session.live.user_id;
    let mut readers = readers(&store).await;
    for except in [others.session.live.id, expired.session.live.id, session_id(now)] {
        store.here.revoke_user(user, Some(except), now).await.unwrap();
        both_hear(&mut readers, &[Revocation::User { user, except: None }], &store).await;
    }
}

pub(crate) async fn s_17_everyones_revocation_is_told(store: Sessions) {
    let mut readers = readers(&store).await;
    store.here.revoke_everyone(start()).await.unwrap();
    both_hear(&mut readers, &[Revocation::Everyone], &store).await;
    store.there.revoke_everyone(start()).await.unwrap();
    both_hear(&mut readers, &[Revocation::Everyone], &store).await;
}

pub(crate) async fn a_refused_creation_is_not_told(store: Sessions) {
    let now = start();
    let user = user_id();
    let epoch = store.here.epoch(user).await.unwrap();
    store.here.revoke_user(user, None, now).await.unwrap();
    let kept = log_in(&*store.here, user, now).await;
    let mut readers = readers(&store).await;
    let late = NewSession {
        replaces: Some(kept.digest),
        ..new_session(user, epoch, now)
    };
    assert_eq!(store.here.create(late, now).await.unwrap(), Created::EpochMoved);
    // Had the refusal been published, it would be first.
    store.here.revoke_everyone(now).await.unwrap();
    for reader in &mut readers {
        let told = tokio::time::timeout(PATIENCE, reader.next(1)).await.unwrap();
        assert_eq!(told[0].1, RevocationEvent::Revoked(Revocation::Everyone));
    }
}

pub(crate) async fn what_many_callers_end_at_once_is_told_completely(store: Sessions) {
    let now = start();
    let mut sessions = Vec::new();
    for _ in 0..100 {
        sessions.push(log_in(&*store.here, user_id(), now).await);
    }
    let mut readers = readers(&store).await;
    let tasks = sessions.iter().enumerate().map(|(turn, new)| {
        let (process, live) = (store.process(turn), new.session.live);
        tokio::spawn(async move {
            match turn % 2 {
                0 => drop(process.destroy(SessionKey::Id(live.id), now).await.unwrap()),
                _ => drop(process.revoke_user(live.user_id, None, now).await.unwrap()),
            }
        })
    });
    for done in join_all(tasks.collect::<Vec<_>>()).await {
        done.unwrap();
    }
    let expected: Vec<_> = sessions
        .iter()
        .enumerate()
        .map(|(turn, new)| match turn % 2 {
            0 => ended(new),
            _ => Revocation::User {
                user: new.session.live.user_id,
                except: None,
            },
        })
        .collect();
    both_hear(&mut readers, &expected, &store).await;
}

pub(crate) async fn a_cursor_is_worth_the_same_in_every_process(store: Sessions) {
    let now = start();
    let sessions = [
        log_in(&*store.here, user_id(), now).await,
        log_in(&*store.here, user_id(), now).await,
        log_in(&*store.here, user_id(), now).await,
    ];
    let [mut here, mut there] = readers(&store).await;
    store
        .here
        .destroy(SessionKey::Token(sessions[0].digest), now)
        .await
        .unwrap()
        .unwrap();
    hears(&mut here, &[ended(&sessions[0])], &store).await;
    hears(&mut there, &[ended(&sessions[0])], &store).await;
    let cursor = here.cursor();
    assert_eq!(cursor, there.cursor());
    for new in &sessions[1..] {
        store
            .here
            .destroy(SessionKey::Token(new.digest), now)
            .await
            .unwrap()
            .unwrap();
    }
    let mut continued = store.there.revocations().read(Some(cursor));
    hears(
        &mut continued,
        &[ended(&sessions[1]), ended(&sessions[2])],
        &store,
    )
    .await;
}

pub(crate) async fn the_log_goes_on_being_complete(store: Sessions) {
    for process in [&store.here, &store.there] {
        let log = process.revocations();
        within(PATIENCE, "a log that knows how far it is complete", async || {
            (log.complete_until() != i64::MIN).then_some(())
        })
        .await;
        for _ in 0..3 {
            let known = log.complete_until();
            within(PATIENCE, "a log that is complete further on", async || {
                (log.complete_until() > known).then_some(())
            })
            .await;
        }
    }
}
