//! A session, and the rules for its life.
//!
//! The rules stand here, above every store: a store keeps what it is given, and expiry means the same in all of them.

use super::{FieldViolation, SessionId, Timestamp, UserId};
use std::{collections::BTreeMap, time::Duration};

/// How a session's user was authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    /// By password.
    Password,
    /// By the caller that created the session and vouches for the user.
    Caller,
}

/// One login of one user, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// What a check needs of it.
    pub live: LiveSession,
    /// The program that the user logged in with.
    pub client: Client,
    /// What the caller stored with it.
    pub attributes: Attributes,
}

/// What a check needs of a session: small, `Copy`, and all that a store has to keep close at hand.
///
/// When it was created is the timestamp of `id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveSession {
    /// Its public name.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// When it was last checked, give or take [`last_seen_slack`].
    pub last_seen_at: Timestamp,
    /// When the user last proved who they are.
    pub authenticated_at: Timestamp,
    /// How the user proved it.
    pub auth_method: AuthMethod,
    /// How long it may go without a check, and how long it may last at all.
    pub span: SessionSpan,
    /// If the session was found by an old token in its grace: when that token stops proving it. `None` otherwise.
    pub grace_ends_at: Option<Timestamp>,
}

impl LiveSession {
    /// When it was created.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.id.created_at()
    }

    /// When it ends, however often it is checked.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.created_at().after(self.span.lifetime())
    }

    /// When it ends if it is not checked again: the earlier of idle expiry and absolute expiry. If it was found by an old token
    /// whose grace ends before: the end of that grace.
    #[must_use]
    pub fn valid_until(&self) -> Timestamp {
        let ends_at = self
            .last_seen_at
            .after(self.span.idle_timeout())
            .min(self.expires_at());
        self.grace_ends_at
            .map_or(ends_at, |grace_ends_at| ends_at.min(grace_ends_at))
    }

    /// Whether it has reached its end. At the very instant of its end a session is over.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.valid_until()
    }

    /// Whether a check at `now` is worth writing down: half of [`last_seen_slack`] has passed since the last one that was. The
    /// other half is the stores' to coalesce writes in.
    #[must_use]
    pub fn is_touch_due(&self, now: Timestamp) -> bool {
        now.since(self.last_seen_at) >= last_seen_slack(self.span.idle_timeout()) / 2
    }
}

/// How far behind the last check a session's recorded last-seen may be: 60 s, or a tenth of the idle timeout if that is less.
///
/// The slack only ever shortens a session: it never lives longer than its idle timeout after its last check.
#[must_use]
pub fn last_seen_slack(idle_timeout: Duration) -> Duration {
    (idle_timeout / 10).min(Duration::from_secs(60))
}

/// A session's two time-outs, in whole seconds, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionSpan {
    lifetime_secs: u32,
    idle_timeout_secs: u32,
}

impl SessionSpan {
    /// A span as a store kept it.
    #[must_use]
    pub const fn from_secs(lifetime_secs: u32, idle_timeout_secs: u32) -> Self {
        Self {
            lifetime_secs,
            idle_timeout_secs,
        }
    }

    /// How long the session lasts, however often it is checked.
    #[must_use]
    pub const fn lifetime(self) -> Duration {
        Duration::from_secs(self.lifetime_secs as u64)
    }

    /// How long the session lasts without a check.
    #[must_use]
    pub const fn idle_timeout(self) -> Duration {
        Duration::from_secs(self.idle_timeout_secs as u64)
    }

    /// [`SessionSpan::lifetime`] in seconds.
    #[must_use]
    pub const fn lifetime_secs(self) -> u32 {
        self.lifetime_secs
    }

    /// [`SessionSpan::idle_timeout`] in seconds.
    #[must_use]
    pub const fn idle_timeout_secs(self) -> u32 {
        self.idle_timeout_secs
    }
}

/// The operator's ceilings for sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// What a session gets unless its creator asks for less.
    pub span: SessionSpan,
    /// Live sessions that one user may have; the oldest make room. At least 1.
    pub max_per_user: u32,
}

impl SessionLimits {
    /// 12 hours in all, 30 minutes idle, 100 sessions a user.
    pub const DEFAULT: Self = Self {
        span: SessionSpan::from_secs(12 * 60 * 60, 30 * 60),
        max_per_user: 100,
    };

    /// The span of a session whose creator asked for these time-outs; `None` takes the ceiling.
    ///
    /// # Errors
    /// One violation (`lifetime`, `idle_timeout`) for each that is no whole number of seconds, is zero, or exceeds its ceiling.
    pub fn span_for(
        &self,
        lifetime: Option<Duration>,
        idle_timeout: Option<Duration>,
    ) -> Result<SessionSpan, Vec<FieldViolation>> {
        let mut violations = Vec::new();
        let mut within = |field: &str, wanted: Option<Duration>, ceiling_secs: u32| match wanted {
            None => ceiling_secs,
            Some(wanted) => match u32::try_from(wanted.as_secs()) {
                Ok(secs) if secs >= 1 && secs <= ceiling_secs && wanted.subsec_nanos() == 0 => secs,
                _ => {
                    let rule = format!("must be a whole number of seconds from 1 to {ceiling_secs}");
                    violations.push(FieldViolation::new(field, rule));
                    ceiling_secs
                }
            },
        };
        let lifetime_secs = within("lifetime", lifetime, self.span.lifetime_secs);
        let idle_timeout_secs = within("idle_timeout", idle_timeout, self.span.idle_timeout_secs);
        match violations.is_empty() {
            true => Ok(SessionSpan::from_secs(lifetime_secs, idle_timeout_secs)),
            false => Err(violations),
        }
    }
}

/// The program that a user logged in with, as the caller saw it. Shown in lists; decides nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Client {
    ip: String,
    user_agent: String,
    label: String,
}

impl Client {
    /// What a client calls itself, at most.
    pub const MAX_USER_AGENT_BYTES: usize = 512;

    /// A client as the caller describes it; each part may be empty.
    ///
    /// # Errors
    /// One violation (`client.ip`, `client.user_agent`, `client.label`) for each part that breaks its rule.
    pub fn new(ip: String, user_agent: String, label: String) -> Result<Self, Vec<FieldViolation>> {
        let mut violations = Vec::new();
        if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
            violations.push(FieldViolation::new(
                "client.ip",
                "must be an IPv4 or IPv6 address",
            ));
        }
        if user_agent.len() > Self::MAX_USER_AGENT_BYTES || has_control(&user_agent) {
            let rule = format!(
                "must be at most {} bytes without control characters",
                Self::MAX_USER_AGENT_BYTES
            );
            violations.push(FieldViolation::new("client.user_agent", rule));
        }
        if label.chars().count() > 100 || has_control(&label) {
            let rule = "must be at most 100 characters without control characters";
            violations.push(FieldViolation::new("client.label", rule));
        }
        match violations.is_empty() {
            true => Ok(Self::from_stored(ip, user_agent, label)),
            false => Err(violations),
        }
    }

    /// A client as a store kept it.
    #[must_use]
    pub fn from_stored(ip: String, user_agent: String, label: String) -> Self {
        Self {
            ip,
            user_agent,
            label,
        }
    }

    /// Its address; empty if not known.
    #[must_use]
    pub fn ip(&self) -> &str {
        &self.ip
    }

    /// What it calls itself; empty if not known.
    #[must_use]
    pub fn user_agent(&self) -> &str {
        &self.user_agent
    }

    /// A name that the user would recognise; empty if none was given.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

/// What the caller stored with a session: opaque keys and values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes(BTreeMap<String, String>);

impl Attributes {
    /// At most 16 entries, keys of 1 to 64 name characters, at most 4096 bytes of keys and values together.
    ///
    /// # Errors
    /// A violation of `attributes`.
    pub fn new(entries: BTreeMap<String, String>) -> Result<Self, FieldViolation> {
        let is_key = |key: &String| is_name(key);
        let bytes: usize = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        let rule = if entries.len() > 16 {
            "must have at most 16 entries"
        } else if !entries.keys().all(is_key) {
            "must have keys of 1 to 64 characters out of a-z A-Z 0-9 . _ : / -"
        } else if bytes > 4096 {
            "must have at most 4096 bytes of keys and values together"
        } else if entries.values().any(|value| value.contains('\0')) {
            "must have values without NUL"
        } else {
            return Ok(Self(entries));
        };
        Err(FieldViolation::new("attributes", rule))
    }

    /// Attributes as a store kept them.
    #[must_use]
    pub fn from_stored(entries: BTreeMap<String, String>) -> Self {
        Self(entries)
    }

    /// The keys and values.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

/// Whether the text is 1 to 64 characters out of `a-z A-Z 0-9 . _ : / -`: what keys and roles are made of.
pub(super) fn is_name(text: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(is_name_byte)
}

/// Whether the text holds a control character, which would let it forge lines where it is shown.
pub(super) fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn session(lifetime_secs: u32, idle_timeout_secs: u32) -> LiveSession {
        let created_at = Timestamp::from_millis(1_000_000);
        LiveSession {
            id: SessionId::new(created_at, [1; 10]),
            user_id: UserId::new(created_at, [2; 10]),
            last_seen_at: created_at,
            authenticated_at: created_at,
            auth_method: AuthMethod::Password,
            span: SessionSpan::from_secs(lifetime_secs, idle_timeout_secs),
            grace_ends_at: None,
        }
    }

    #[test]
    fn s_08_s_09_a_session_ends_at_the_earlier_of_its_two_expiries() {
        let mut session = session(100, 10);
        let created_at = session.created_at();
        let at = |secs| created_at.after(Duration::from_secs(secs));
        assert!(!session.is_expired(at(9)));
        assert!(session.is_expired(at(10)));
        session.last_seen_at = at(95);
        assert!(!session.is_expired(at(99)));
        assert!(session.is_expired(at(100)));
    }

    #[test]
    fn what_an_old_token_proves_is_valid_until_the_end_of_its_grace() {
        let mut session = session(100, 10);
        let created_at = session.created_at();
        let at = |secs| created_at.after(Duration::from_secs(secs));
        session.grace_ends_at = Some(at(3));
        assert_eq!(session.valid_until(), at(3));
        session.grace_ends_at = Some(at(30));
        assert_eq!(session.valid_until(), at(10));
    }

    #[test]
    fn s_10_the_slack_is_a_tenth_of_the_idle_timeout_and_at_most_a_minute() {
        assert_eq!(last_seen_slack(Duration::from_secs(20)), Duration::from_secs(2));
        assert_eq!(
            last_seen_slack(Duration::from_secs(86_400)),
            Duration::from_secs(60)
        );
    }

    #[test]
    fn time_outs_may_be_shortened_and_never_extended() {
        let limits = SessionLimits::DEFAULT;
        let hour = Duration::from_secs(3600);
        assert_eq!(limits.span_for(None, None), Ok(limits.span));
        assert_eq!(limits.span_for(Some(hour), None).unwrap().lifetime(), hour);
        let wrong = limits
            .span_for(Some(hour * 13), Some(Duration::from_millis(1500)))
            .unwrap_err();
        let fields: Vec<_> = wrong.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["lifetime", "idle_timeout"]);
    }

    #[test]
    fn s_84_each_part_of_a_client_is_checked() {
        let wrong = Client::new("1.2.3".into(), "a\0".into(), "é".repeat(101)).unwrap_err();
        let fields: Vec<_> = wrong.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(fields, ["client.ip", "client.user_agent", "client.label"]);
        assert!(Client::new("::1".into(), "curl/8".into(), "é".repeat(100)).is_ok());
    }

    #[test]
    fn s_84_attributes_are_capped() {
        let one =
            |key: &str, value: &str| Attributes::new(BTreeMap::from([(key.to_owned(), value.to_owned())]));
        assert!(one("theme", "dark").is_ok());
        assert!(one("", "x").is_err());
        assert!(one("bad key", "x").is_err());
        assert!(one("key", &"x".repeat(4094)).is_err());
        assert!(one("key", "\0").is_err());
        let many = (0..17).map(|n| (format!("k{n}"), String::new())).collect();
        assert!(Attributes::new(many).is_err());
    }
}
