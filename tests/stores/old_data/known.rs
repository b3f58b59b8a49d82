//! The manifest beside a release's fixtures: what must be found in them, and what must not.

use serde::{Deserialize, Serialize};
use sessiond::{
    domain::{AuthMethod, Session, Timestamp},
    store::UserRecord,
};
use std::collections::BTreeMap;

/// Instants are milliseconds since 1970.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// The instant at which all of it is true.
    pub(crate) at: i64,
    /// Every user there is.
    pub(crate) users: Vec<KnownUser>,
    /// Every session that lives.
    pub(crate) sessions: Vec<KnownSession>,
    /// Passwords by email.
    pub(crate) passwords: BTreeMap<String, String>,
    /// How often all sessions of a user were ended, everyone's endings included, by id.
    pub(crate) epochs: BTreeMap<String, u64>,
    /// Emails of users that are gone.
    pub(crate) gone_emails: Vec<String>,
    /// Tokens of sessions that are over, by why they are.
    pub(crate) dead_tokens: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KnownUser {
    pub(crate) id: String,
    pub(crate) email: String,
    first_name: String,
    last_name: String,
    roles: Vec<String>,
    created_at: i64,
    updated_at: i64,
    disabled_at: Option<i64>,
    version: u64,
    password_hash: Option<String>,
}

impl KnownUser {
    pub(crate) fn of(record: &UserRecord) -> Self {
        let UserRecord {
            user,
            password_hash,
            pending: _,
        } = record;
        Self {
            id: user.id.to_string(),
            email: user.email.as_str().to_owned(),
            first_name: user.names.first().to_owned(),
            last_name: user.names.last().to_owned(),
            roles: user.roles.as_slice().to_vec(),
            created_at: user.created_at.as_millis(),
            updated_at: user.updated_at.as_millis(),
            disabled_at: user.disabled_at.map(Timestamp::as_millis),
            version: user.version,
            password_hash: password_hash.as_ref().map(|hash| hash.expose().to_owned()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KnownSession {
    /// All that prove it: the old one too while its grace lasts.
    pub(crate) tokens: Vec<String>,
    pub(crate) id: String,
    pub(crate) user_id: String,
    last_seen_at: i64,
    authenticated_at: i64,
    /// `password` or `caller`.
    auth_method: String,
    lifetime_secs: u32,
    idle_timeout_secs: u32,
    client: [String; 3],
    attributes: BTreeMap<String, String>,
}

impl KnownSession {
    pub(crate) fn of(session: &Session, tokens: &[String]) -> Self {
        let Session {
            live,
            client,
            attributes,
        } = session;
        Self {
            tokens: tokens.to_vec(),
            id: live.id.to_string(),
            user_id: live.user_id.to_string(),
            last_seen_at: live.last_seen_at.as_millis(),
            authenticated_at: live.authenticated_at.as_millis(),
            auth_method: match live.auth_method {
                AuthMethod::Password => "password",
                AuthMethod::Caller => "caller",
            }
            .to_owned(),
            lifetime_secs: live.span.lifetime_secs(),
            idle_timeout_secs: live.span.idle_timeout_secs(),
            client: [client.ip(), client.user_agent(), client.label()].map(str::to_owned),
            attributes: attributes.entries().clone(),
        }
    }
}
