//! What a release writes into its fixtures: through the operations of the stores, so that each store has it in its own form.
//!
//! Sessions last for more than a century: also a program with a clock of its own can be shown the fixtures.

use super::known::{KnownSession, KnownUser, Manifest};
use sessiond::{
    domain::{
        Attributes, AuthMethod, Client, Email, LiveSession, Names, Password, Roles, Session, SessionId,
        SessionSpan, SessionToken, Timestamp, TokenDigest, User, UserId,
    },
    password::{HashingConfig, PasswordHasher},
    store::{
        Created, Inserted, NewSession, Rotation, SessionKey, SessionStore, Updated, UserRecord, UserStore,
    },
};
use std::{collections::BTreeMap, time::Duration};

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);
const CENTURIES: SessionSpan = SessionSpan::from_secs(u32::MAX, u32::MAX - 1);
const PASSWORD: &str = "blue lamp over the river";

fn minute(number: u64) -> Timestamp {
    START.after(Duration::from_secs(60 * number))
}

/// The instant of the manifest.
fn end() -> Timestamp {
    minute(60)
}

fn token(number: u8) -> String {
    SessionToken::from_random([number; 32]).expose().to_owned()
}

fn digest(token: &str) -> TokenDigest {
    TokenDigest::of_presented(token).unwrap()
}

fn user(number: u8, email: &str, first: &str, last: &str, roles: &[&str]) -> UserRecord {
    let created_at = minute(number.into());
    UserRecord {
        user: User {
            id: UserId::new(created_at, [number; 10]),
            email: Email::new("email", email).unwrap(),
            names: Names::new(first.into(), last.into()).unwrap(),
            roles: Roles::new(roles.iter().map(|&role| role.to_owned()).collect()).unwrap(),
            created_at,
            updated_at: created_at,
            disabled_at: None,
            version: 1,
        },
        password_hash: None,
        pending: None,
    }
}

/// A session, made at a minute of its number.
fn session(number: u8, user: &UserRecord) -> Session {
    let created_at = minute(number.into());
    Session {
        live: LiveSession {
            id: SessionId::new(created_at, [number; 10]),
            user_id: user.user.id,
            last_seen_at: created_at,
            authenticated_at: created_at,
            auth_method: AuthMethod::Password,
            span: CENTURIES,
            grace_ends_at: None,
        },
        client: Client::default(),
        attributes: Attributes::default(),
    }
}

/// The users, and the sessions that live in the end; those that do not are the business of [`Content::write`].
pub(crate) struct Content {
    ada: UserRecord,
    disabled: UserRecord,
    revoked: UserRecord,
    accented: UserRecord,
    gone: UserRecord,
    detailed: Session,
    rotated: Session,
    spared: Session,
    renewed: Session,
}

impl Content {
    pub(crate) async fn new() -> Self {
        let hashing = HashingConfig {
            cost: 10,
            threads: 1,
            ..HashingConfig::default()
        };
        let passwords = PasswordHasher::start(hashing).unwrap();
        let mut ada = user(
            1,
            "ada@example.org",
            "Ada",
            "Lovelace",
            &["admin", "reports:read"],
        );
        ada.password_hash = Some(passwords.hash(Password::new(PASSWORD.into())).await.unwrap());
        let mut disabled = user(2, "bob@example.org", "Bob", "", &[]);
        disabled.user.disabled_at = Some(minute(30));
        disabled.user.updated_at = minute(30);
        disabled.user.version = 2;
        let revoked = user(3, "Carl@Example.org", "Carl", "Linn\u{e9}", &["reader"]);
        let accented = user(
            4,
            "zo\u{eb}@example.org",
            "Zo\u{eb}",
            "\u{17b}\u{f3}\u{142}w",
            &[],
        );
        let gone = user(5, "gone@example.org", "Gone", "", &[]);

        let mut detailed = session(11, &ada);
        detailed.live.last_seen_at = minute(12);
        detailed.client =
            Client::new("2001:db8::7".into(), "curl/8.14".into(), "Ada's \u{1f4bb}".into()).unwrap();
        let attributes = [("theme", "dark"), ("tenant", "a \"b\" \\ c"), ("empty", "")];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned()));
        detailed.attributes = Attributes::new(BTreeMap::from(attributes)).unwrap();
        let mut rotated = session(13, &ada);
        rotated.live.auth_method = AuthMethod::Caller;
        rotated.live.authenticated_at = minute(40);
        let spared = session(14, &revoked);
        let renewed = session(50, &revoked);
        Self {
            ada,
            disabled,
            revoked,
            accented,
            gone,
            detailed,
            rotated,
            spared,
            renewed,
        }
    }

    fn users(&self) -> [&UserRecord; 4] {
        [&self.ada, &self.disabled, &self.revoked, &self.accented]
    }

    pub(crate) fn manifest(&self) -> Manifest {
        let sessions = [
            (&self.detailed, vec![token(11)]),
            (&self.rotated, vec![token(13), token(41)]),
            (&self.spared, vec![token(14)]),
            (&self.renewed, vec![token(50)]),
        ];
        let epoch = |record: &UserRecord| {
            let own = u64::from(record.user.id == self.revoked.user.id);
            (record.user.id.to_string(), own + 1)
        };
        let dead = [
            ("everyone's sessions were ended", 6),
            ("the session was destroyed", 15),
            ("the user's sessions were ended", 16),
            ("it expired", 17),
            ("it was rotated away, without a grace", 18),
            ("the token that took its place was destroyed", 42),
            ("another session replaced it", 19),
            ("it was never given out", 255),
        ];
        let dead = dead.map(|(why, number)| (why.to_owned(), token(number)));
        Manifest {
            at: end().as_millis(),
            users: self.users().map(KnownUser::of).to_vec(),
            sessions: sessions
                .map(|(session, tokens)| KnownSession::of(session, &tokens))
                .to_vec(),
            passwords: BTreeMap::from([("ada@example.org".to_owned(), PASSWORD.to_owned())]),
            epochs: self.users().map(epoch).into(),
            gone_emails: vec!["gone@example.org".to_owned()],
            dead_tokens: dead.into(),
        }
    }

    /// Puts it all into empty stores.
    pub(crate) async fn write(&self, users: &dyn UserStore, sessions: &dyn SessionStore) {
        for record in self.users().into_iter().chain([&self.gone]) {
            let mut new = record.clone();
            new.user.disabled_at = None;
            new.user.version = 1;
            assert_eq!(users.insert(&new).await.unwrap(), Inserted::Yes);
        }
        assert!(users.delete(self.gone.user.id).await.unwrap());
        let updated = users.update(&self.disabled.user, 1).await.unwrap();
        assert_eq!(updated, Updated::Yes);

        create(sessions, 6, &session(6, &self.accented), None).await;
        assert_eq!(sessions.revoke_everyone(minute(7)).await.unwrap(), 1);

        create(sessions, 11, &self.detailed, None).await;
        let mut as_created = self.rotated.clone();
        as_created.live.authenticated_at = as_created.live.created_at();
        create(sessions, 13, &as_created, None).await;
        create(sessions, 14, &self.spared, None).await;
        create(sessions, 15, &session(15, &self.disabled), None).await;
        create(sessions, 16, &session(16, &self.revoked), None).await;
        let mut short = session(17, &self.accented);
        short.live.span = SessionSpan::from_secs(600, 60);
        create(sessions, 17, &short, None).await;
        create(sessions, 18, &session(18, &self.accented), None).await;
        create(sessions, 19, &session(19, &self.revoked), None).await;
        create(sessions, 20, &session(20, &self.revoked), Some(19)).await;

        destroy(sessions, 15).await;
        // For as long as the session itself: the old token proves it also for a program with a clock of its own.
        let grace_until = self.rotated.live.expires_at();
        rotate(sessions, 13, 41, grace_until, Some(minute(40))).await;
        rotate(sessions, 18, 42, minute(40), None).await;
        destroy(sessions, 42).await;
        let spared = Some(self.spared.live.id);
        let ended = sessions
            .revoke_user(self.revoked.user.id, spared, minute(45))
            .await;
        assert_eq!(ended.unwrap(), 2);
        create(sessions, 50, &self.renewed, None).await;
    }
}

async fn create(sessions: &dyn SessionStore, number: u8, session: &Session, replaces: Option<u8>) {
    let new = NewSession {
        digest: digest(&token(number)),
        session: session.clone(),
        epoch: sessions.epoch(session.live.user_id).await.unwrap(),
        replaces: replaces.map(|number| digest(&token(number))),
        max_per_user: 100,
    };
    let created = sessions.create(new, session.live.created_at()).await;
    assert_eq!(created.unwrap(), Created::Yes);
}

async fn destroy(sessions: &dyn SessionStore, number: u8) {
    let key = SessionKey::Token(digest(&token(number)));
    assert!(sessions.destroy(key, minute(40)).await.unwrap().is_some());
}

async fn rotate(
    sessions: &dyn SessionStore,
    from: u8,
    to: u8,
    grace_until: Timestamp,
    authenticated_at: Option<Timestamp>,
) {
    let rotation = Rotation {
        from: digest(&token(from)),
        to: digest(&token(to)),
        grace_until,
        authenticated_at,
    };
    assert!(sessions.rotate(rotation, minute(40)).await.unwrap().is_some());
}
