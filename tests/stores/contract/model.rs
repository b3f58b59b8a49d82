//! Random histories: a store and a model of it that is too simple to be wrong are asked the same, and must answer the same.

use super::touching::touch_and_wait;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use sessiond::{
    domain::{LiveSession, Session, SessionId, Timestamp, TokenDigest, UserId, last_seen_slack},
    store::{Created, Epoch, Rotation, SessionKey, SessionStore},
};
use std::collections::BTreeMap;
use testkit::{
    samples::{check, digest, millis, new_session, secs, span, start, user_id},
    stores::Opened,
};

type Sessions = Opened<dyn SessionStore>;

/// How many histories, and how long each may be. A store behind a network takes a while over each.
const HISTORIES: u32 = 12;
const STEPS: usize = 60;

const USERS: usize = 3;

/// One thing to do. Tokens and sessions are named by how many there were before: the same number always means the same one.
#[derive(Debug, Clone)]
enum Step {
    LogIn {
        user: usize,
        replaces: Option<usize>,
        max_per_user: u32,
        idle_timeout: u64,
        epoch_is_old: bool,
    },
    Touch {
        token: usize,
    },
    Rotate {
        token: usize,
        grace: u64,
        authenticated: bool,
    },
    DestroyToken {
        token: usize,
    },
    DestroyId {
        session: usize,
    },
    RevokeUser {
        user: usize,
        except: Option<usize>,
    },
    RevokeEveryone,
    Wait {
        secs: u64,
    },
    Sweep {
        limit: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let some = 0..64_usize;
    let maybe = || prop::option::weighted(0.4, 0..64_usize);
    prop_oneof![
        8 => (0..USERS, maybe(), 1..5_u32, prop_oneof![Just(100), Just(600)], prop::bool::weighted(0.1)).prop_map(
            |(user, replaces, max_per_user, idle_timeout, epoch_is_old)| Step::LogIn {
                user, replaces, max_per_user, idle_timeout, epoch_is_old,
            }
        ),
        3 => some.clone().prop_map(|token| Step::Touch { token }),
        4 => (some.clone(), prop_oneof![Just(0), Just(40)], any::<bool>())
            .prop_map(|(token, grace, authenticated)| Step::Rotate { token, grace, authenticated }),
        2 => some.clone().prop_map(|token| Step::DestroyToken { token }),
        2 => some.prop_map(|session| Step::DestroyId { session }),
        2 => (0..USERS, maybe()).prop_map(|(user, except)| Step::RevokeUser { user, except }),
        1 => Just(Step::RevokeEveryone),
        3 => prop_oneof![Just(1), Just(39), Just(60), Just(300)].prop_map(|secs| Step::Wait { secs }),
        2 => (1..5_u32).prop_map(|limit| Step::Sweep { limit }),
    ]
}

/// What a store should hold: the sessions that have not been ended, each with its present token and perhaps an old one.
#[derive(Default)]
struct Model {
    sessions: BTreeMap<SessionId, Kept>,
    epochs: BTreeMap<UserId, u64>,
    everyone: u64,
}

struct Kept {
    session: Session,
    token: TokenDigest,
    old: Option<(TokenDigest, Timestamp)>,
}

impl Kept {
    /// As a check of this token shows it.
    fn seen_by(&self, digest: &TokenDigest) -> Session {
        let mut session = self.session.clone();
        if self.token != *digest {
            session.live.grace_ends_at = self.old.map(|(_, until)| until);
        }
        session
    }
}

impl Model {
    fn epoch(&self, user: UserId) -> u64 {
        self.everyone + self.epochs.get(&user).unwrap_or(&0)
    }

    fn drop_expired(&mut self, now: Timestamp) {
        self.sessions.retain(|_, kept| !kept.session.live.is_expired(now));
    }

    fn find(&self, digest: &TokenDigest, now: Timestamp) -> Option<&Kept> {
        self.sessions.values().find(|kept| {
            let is_old = kept.old.is_some_and(|(old, until)| old == *digest && now < until);
            kept.token == *digest || is_old
        })
    }

    /// Newest first.
    fn of_user(&self, user: UserId) -> Vec<Session> {
        let sessions = self.sessions.values().rev().map(|kept| &kept.session);
        sessions
            .filter(|session| session.live.user_id == user)
            .cloned()
            .collect()
    }
}

/// A store, its model, and everything that ever happened to them.
struct History<'a> {
    store: &'a Sessions,
    model: Model,
    users: Vec<UserId>,
    tokens: Vec<TokenDigest>,
    ids: Vec<SessionId>,
    first_epochs: Vec<Epoch>,
    now: Timestamp,
}

/// The thing of this number, if there is anything.
fn pick<T: Copy>(things: &[T], number: usize) -> Option<T> {
    (!things.is_empty()).then(|| things[number % things.len()])
}

impl<'a> History<'a> {
    async fn new(store: &'a Sessions) -> Self {
        let users: Vec<_> = (0..USERS).map(|_| user_id()).collect();
        let mut model = Model::default();
        let mut first_epochs = Vec::new();
        for user in &users {
            let epoch = store.here.epoch(*user).await.unwrap();
            model.epochs.insert(*user, epoch.count());
            first_epochs.push(epoch);
        }
        Self {
            store,
            model,
            users,
            tokens: Vec::new(),
            ids: Vec::new(),
            first_epochs,
            now: start(),
        }
    }

    async fn take(&mut self, turn: usize, step: Step) {
        let (store, now) = (self.store.process(turn), self.now);
        match step {
            Step::LogIn {
                user,
                replaces,
                max_per_user,
                idle_timeout,
                epoch_is_old,
            } => {
                let id = self.users[user];
                let epoch = match epoch_is_old {
                    true => self.first_epochs[user],
                    false => store.epoch(id).await.unwrap(),
                };
                let mut new = new_session(id, epoch, now);
                new.session.live.span = span(secs(1000), secs(idle_timeout));
                new.max_per_user = max_per_user;
                new.replaces = replaces.and_then(|number| pick(&self.tokens, number));
                let created = store.create(new.clone(), now).await.unwrap();
                self.tokens.push(new.digest);
                self.ids.push(new.session.live.id);
                if epoch.count() < self.model.epoch(id) {
                    assert_eq!(created, Created::EpochMoved);
                    return;
                }
                assert_eq!(created, Created::Yes);
                let replaced = new
                    .replaces
                    .and_then(|digest| Some(self.model.find(&digest, now)?.session.live.id));
                replaced.map(|id| self.model.sessions.remove(&id));
                for oldest in self.model.of_user(id).iter().skip(max_per_user as usize - 1) {
                    self.model.sessions.remove(&oldest.live.id);
                }
                let kept = Kept {
                    session: new.session,
                    token: new.digest,
                    old: None,
                };
                self.model.sessions.insert(kept.session.live.id, kept);
            }
            Step::Touch { token } => {
                let Some(digest) = pick(&self.tokens, token) else {
                    return;
                };
                let Some(live) = check(&*store, &digest, now).await else {
                    return;
                };
                let slack = last_seen_slack(live.span.idle_timeout());
                // So near to its end, a store may let a session end rather than write a touch that could come too late.
                if live.is_touch_due(now) && live.valid_until().since(now) > slack {
                    touch_and_wait(self.store, &live, &digest, now).await;
                    self.model
                        .sessions
                        .get_mut(&live.id)
                        .unwrap()
                        .session
                        .live
                        .last_seen_at = now;
                }
            }
            Step::Rotate {
                token,
                grace,
                authenticated,
            } => {
                let Some(from) = pick(&self.tokens, token) else {
                    return;
                };
                let rotation = Rotation {
                    from,
                    to: digest(),
                    grace_until: now.after(secs(grace)),
                    authenticated_at: authenticated.then_some(now),
                };
                let rotated = store.rotate(rotation, now).await.unwrap();
                self.tokens.push(rotation.to);
                let expected = self
                    .model
                    .sessions
                    .values_mut()
                    .find(|kept| kept.token == from)
                    .map(|kept| {
                        kept.token = rotation.to;
                        kept.old = Some((from, rotation.grace_until));
                        kept.session.live.authenticated_at = rotation
                            .authenticated_at
                            .unwrap_or(kept.session.live.authenticated_at);
                        kept.session.clone()
                    });
                assert_eq!(rotated, expected);
            }
            Step::DestroyToken { token } => {
                let Some(digest) = pick(&self.tokens, token) else {
                    return;
                };
                let expected = self.model.find(&digest, now).map(|kept| kept.session.live);
                self.destroy(&*store, SessionKey::Token(digest), expected).await;
            }
            Step::DestroyId { session } => {
                let Some(id) = pick(&self.ids, session) else {
                    return;
                };
                let expected = self.model.sessions.get(&id).map(|kept| kept.session.live);
                self.destroy(&*store, SessionKey::Id(id), expected).await;
            }
            Step::RevokeUser { user, except } => {
                let user = self.users[user];
                let except = except.and_then(|number| pick(&self.ids, number));
                let before = self.model.sessions.len();
                self.model
                    .sessions
                    .retain(|id, kept| kept.session.live.user_id != user || Some(*id) == except);
                *self.model.epochs.entry(user).or_default() += 1;
                let ended = (before - self.model.sessions.len()) as u64;
                assert_eq!(store.revoke_user(user, except, now).await.unwrap(), ended);
            }
            Step::RevokeEveryone => {
                let ended = self.model.sessions.len() as u64;
                self.model.sessions.clear();
                self.model.everyone += 1;
                assert_eq!(store.revoke_everyone(now).await.unwrap(), ended);
            }
            Step::Wait { secs: waited } => {
                self.now = now.after(secs(waited));
                self.model.drop_expired(self.now);
            }
            Step::Sweep { limit } => assert!(store.sweep(now, limit).await.unwrap() <= u64::from(limit)),
        }
    }

    async fn destroy(&mut self, store: &dyn SessionStore, key: SessionKey, expected: Option<LiveSession>) {
        let destroyed = store.destroy(key, self.now).await.unwrap();
        assert_eq!(destroyed, expected.map(|live| (live.id, live.user_id)));
        expected.map(|live| self.model.sessions.remove(&live.id));
    }

    /// Every question that can be asked without changing anything, in the process whose turn it is not.
    async fn compare(&self, turn: usize) {
        let (store, now) = (self.store.process(turn + 1), self.now);
        for digest in &self.tokens {
            let expected = self.model.find(digest, now).map(|kept| kept.seen_by(digest));
            assert_eq!(
                check(&*store, digest, now).await,
                expected.as_ref().map(|session| session.live)
            );
            assert_eq!(store.get(digest, now).await.unwrap(), expected);
        }
        for user in &self.users {
            assert_eq!(
                store.list(*user, None, 1000, now).await.unwrap(),
                self.model.of_user(*user)
            );
            assert_eq!(store.epoch(*user).await.unwrap().count(), self.model.epoch(*user));
        }
    }
}

async fn play(store: &Sessions, steps: Vec<Step>) {
    // The history before may have been cut short by a failure.
    store.here.revoke_everyone(start()).await.unwrap();
    let mut history = History::new(store).await;
    for (turn, step) in steps.into_iter().enumerate() {
        // Two ids of one millisecond have no order that a model could know.
        history.now = history.now.after(millis(1));
        history.model.drop_expired(history.now);
        history.take(turn, step).await;
        if turn % 8 == 7 {
            history.compare(turn).await;
        }
    }
    history.compare(0).await;
    history.compare(1).await;
    while store.here.sweep(history.now, 1000).await.unwrap() > 0 {}
    history.compare(0).await;
    assert_eq!(
        store.there.count(history.now).await.unwrap(),
        history.model.sessions.len() as u64
    );
}

pub(crate) async fn random_histories_have_the_answers_of_the_model(store: Sessions) {
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        let config = Config {
            cases: HISTORIES,
            failure_persistence: None,
            ..Config::default()
        };
        let histories = vec(step(), 1..STEPS);
        let outcome = TestRunner::new(config).run(&histories, |steps| {
            runtime.block_on(play(&store, steps));
            Ok(())
        });
        if let Err(found) = outcome {
            panic!("{found}");
        }
    });
}
