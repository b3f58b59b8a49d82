//! Between wire messages and the domain. A message is taken apart field by field, so that a new field does not compile until
//! it is decided about; every broken field of a request is reported, not just the first.

use crate::{
    auth::{Checked, Credential, LogIn, LoggedIn, NewPassword, NewUser, Rotated, UserChanges},
    contract::{PageSize, user_field, wire_duration},
    domain::{
        Attributes, Client, Email, EmailLookup, FieldViolation, Names, Password, Roles, Session, SessionId,
        TokenDigest, User,
    },
    pb,
};
use std::{fmt::Display, mem, str::FromStr, time::Duration};

/// Collects what is wrong with a request while it is taken apart.
#[derive(Default)]
pub(super) struct Fields {
    violations: Vec<FieldViolation>,
}

impl Fields {
    /// The value, or its violations kept and `None`.
    fn keep<T, E: Into<Violations>>(&mut self, checked: Result<T, E>) -> Option<T> {
        match checked {
            Ok(value) => Some(value),
            Err(violations) => {
                self.violations.extend(violations.into().0);
                None
            }
        }
    }

    pub(super) fn refuse(&mut self, field: &str, rule: &str) {
        self.violations.push(FieldViolation::new(field, rule));
    }

    /// The parts of a request, all of them there unless something was refused.
    pub(super) fn finish<T>(self, parts: Option<T>) -> Result<T, Vec<FieldViolation>> {
        match parts {
            Some(parts) if self.violations.is_empty() => Ok(parts),
            Some(_) | None => Err(self.violations),
        }
    }

    /// A required field of text that parses.
    pub(super) fn parse<T: FromStr<Err: Display>>(&mut self, field: &str, text: &str) -> Option<T> {
        if text.is_empty() {
            self.refuse(field, "missing");
            return None;
        }
        self.keep(
            text.parse()
                .map_err(|rule: T::Err| FieldViolation::new(field, rule.to_string())),
        )
    }

    /// An optional field of text that parses: empty is `Some(None)`.
    #[expect(
        clippy::option_option,
        reason = "outer: whether it is valid; inner: whether it is there"
    )]
    pub(super) fn parse_optional<T: FromStr<Err: Display>>(
        &mut self,
        field: &str,
        text: &str,
    ) -> Option<Option<T>> {
        match text.is_empty() {
            true => Some(None),
            false => self.parse(field, text).map(Some),
        }
    }

    pub(super) fn email(&mut self, field: &str, text: &str) -> Option<Email> {
        if text.is_empty() {
            self.refuse(field, "missing");
            return None;
        }
        self.keep(Email::new(field, text))
    }

    /// An email that names a user who is there already.
    pub(super) fn email_lookup(&mut self, field: &str, text: &str) -> Option<EmailLookup> {
        if text.is_empty() {
            self.refuse(field, "missing");
            return None;
        }
        self.keep(EmailLookup::new(field, text))
    }

    /// A password that is presented. Only an absent one is refused here: any other is simply right or wrong.
    pub(super) fn presented_password(&mut self, field: &str, text: String) -> Option<Password> {
        if text.is_empty() {
            self.refuse(field, "missing");
            return None;
        }
        Some(Password::new(text))
    }

    #[expect(
        clippy::option_option,
        reason = "outer: whether it is valid; inner: whether it is there"
    )]
    pub(super) fn duration(
        &mut self,
        field: &str,
        duration: Option<prost_types::Duration>,
    ) -> Option<Option<Duration>> {
        let Some(duration) = duration else {
            return Some(None);
        };
        match Duration::try_from(duration) {
            Ok(duration) => Some(Some(duration)),
            Err(_) => {
                self.refuse(field, "must not be negative");
                None
            }
        }
    }

    pub(super) fn page_size(&mut self, size: i32, PageSize { default, max }: PageSize) -> Option<u32> {
        match u32::try_from(size) {
            Ok(0) => Some(default),
            Ok(size) if size <= max => Some(size),
            Ok(_) | Err(_) => {
                self.refuse("page_size", &format!("must be from 0 to {max}"));
                None
            }
        }
    }
}

/// One or several violations.
struct Violations(Vec<FieldViolation>);

impl From<FieldViolation> for Violations {
    fn from(violation: FieldViolation) -> Self {
        Self(vec![violation])
    }
}

impl From<Vec<FieldViolation>> for Violations {
    fn from(violations: Vec<FieldViolation>) -> Self {
        Self(violations)
    }
}

pub(super) fn log_in(request: pb::CreateSessionRequest) -> Result<LogIn, Vec<FieldViolation>> {
    use pb::create_session_request::Credential as Pb;
    let pb::CreateSessionRequest {
        credential,
        client,
        lifetime,
        idle_timeout,
        attributes,
        replaces_session_token,
    } = request;
    let mut fields = Fields::default();
    let credential = match credential {
        None => {
            fields.refuse("credential", "missing: password or user_id");
            None
        }
        Some(Pb::UserId(id)) => fields.parse("user_id", &id).map(Credential::User),
        Some(Pb::Password(mut credential)) => {
            let pb::PasswordCredential { email, password } = &mut credential;
            let email = fields.email_lookup("password.email", email);
            let password = fields.presented_password("password.password", mem::take(password));
            email
                .zip(password)
                .map(|(email, password)| Credential::Password { email, password })
        }
    };
    let pb::Client {
        ip,
        user_agent,
        label,
    } = client.unwrap_or_default();
    let client = fields.keep(Client::new(ip, user_agent, label));
    let lifetime = fields.duration("lifetime", lifetime);
    let idle_timeout = fields.duration("idle_timeout", idle_timeout);
    let attributes = fields.keep(Attributes::new(attributes.into_iter().collect()));
    let replaces = TokenDigest::of_presented(&replaces_session_token);
    let log_in = match (credential, client, lifetime, idle_timeout, attributes) {
        (Some(credential), Some(client), Some(lifetime), Some(idle_timeout), Some(attributes)) => {
            Some(LogIn {
                credential,
                client,
                lifetime,
                idle_timeout,
                attributes,
                replaces,
            })
        }
        _ => None,
    };
    fields.finish(log_in)
}

pub(super) fn new_user(request: pb::CreateUserRequest) -> Result<NewUser, Vec<FieldViolation>> {
    use pb::create_user_request::Credential as Pb;
    let pb::CreateUserRequest {
        email,
        credential,
        first_name,
        last_name,
        roles,
    } = request;
    let mut fields = Fields::default();
    let email = fields.email("email", &email);
    let names = fields.keep(Names::new(first_name, last_name));
    let roles = fields.keep(Roles::new(roles));
    let password = credential.map(|mut credential| match &mut credential {
        Pb::Password(password) => NewPassword::Clear("password", Password::new(mem::take(password))),
        Pb::PasswordHash(hash) => NewPassword::Imported("password_hash", mem::take(hash)),
    });
    let user = match (email, names, roles) {
        (Some(email), Some(names), Some(roles)) => Some(NewUser {
            email,
            names,
            roles,
            password,
        }),
        _ => None,
    };
    fields.finish(user)
}

/// What to change, out of the user given and the mask that says which of its fields count.
pub(super) fn user_changes(
    fields: &mut Fields,
    user: pb::User,
    mask: Option<prost_types::FieldMask>,
) -> Option<UserChanges> {
    let pb::User {
        id: _,
        email,
        first_name,
        last_name,
        roles,
        created_at: _,
        updated_at: _,
        disabled_at: _,
        etag: _,
    } = user;
    let paths = mask.unwrap_or_default().paths;
    if paths.is_empty() {
        let known = user_field::ALL.join(", ");
        fields.refuse("update_mask", &format!("missing: name at least one of {known}"));
        return None;
    }
    let is_named = |name: &str| paths.iter().any(|path| path == name);
    if paths.iter().any(|path| !user_field::ALL.contains(&path.as_str())) {
        let known = user_field::ALL.join(", ");
        fields.refuse("update_mask", &format!("must name only {known}"));
        return None;
    }
    let mut changes = UserChanges::default();
    if is_named(user_field::EMAIL) {
        changes.email = fields.email("user.email", &email);
    }
    if is_named(user_field::ROLES) {
        changes.roles = fields.keep(Roles::new(roles));
    }
    changes.first_name = is_named(user_field::FIRST_NAME).then_some(first_name);
    changes.last_name = is_named(user_field::LAST_NAME).then_some(last_name);
    Some(changes)
}

impl From<Checked> for pb::UserIdForSessionResponse {
    fn from(checked: Checked) -> Self {
        let Checked { session, at } = checked;
        let valid_until = session.valid_until();
        Self {
            user_id: session.user_id.to_string(),
            session_id: session.id.to_string(),
            authenticated_at: Some(session.authenticated_at.into()),
            auth_method: pb::AuthMethod::from(session.auth_method).into(),
            valid_until: Some(valid_until.into()),
            valid_for: Some(wire_duration(valid_until.since(at))),
        }
    }
}

impl From<Session> for pb::Session {
    fn from(session: Session) -> Self {
        let Session {
            live,
            client,
            attributes,
        } = session;
        Self {
            id: live.id.to_string(),
            user_id: live.user_id.to_string(),
            created_at: Some(live.created_at().into()),
            last_seen_at: Some(live.last_seen_at.into()),
            idle_timeout: Some(wire_duration(live.span.idle_timeout())),
            expires_at: Some(live.expires_at().into()),
            authenticated_at: Some(live.authenticated_at.into()),
            auth_method: pb::AuthMethod::from(live.auth_method).into(),
            client: Some(pb::Client {
                ip: client.ip().to_owned(),
                user_agent: client.user_agent().to_owned(),
                label: client.label().to_owned(),
            }),
            attributes: attributes.entries().clone().into_iter().collect(),
            is_current: false,
        }
    }
}

/// A session in a list, marked if it is the current one.
pub(super) fn listed_session(session: Session, current: Option<SessionId>) -> pb::Session {
    let is_current = current == Some(session.live.id);
    pb::Session {
        is_current,
        ..session.into()
    }
}

impl From<User> for pb::User {
    fn from(user: User) -> Self {
        let etag = user.etag();
        let User {
            id,
            email,
            names,
            roles,
            created_at,
            updated_at,
            disabled_at,
            version: _,
        } = user;
        Self {
            id: id.to_string(),
            email: email.as_str().to_owned(),
            first_name: names.first().to_owned(),
            last_name: names.last().to_owned(),
            roles: roles.as_slice().to_vec(),
            created_at: Some(created_at.into()),
            updated_at: Some(updated_at.into()),
            disabled_at: disabled_at.map(Into::into),
            etag,
        }
    }
}

impl From<LoggedIn> for pb::CreateSessionResponse {
    fn from(logged_in: LoggedIn) -> Self {
        let LoggedIn { token, session, user } = logged_in;
        Self {
            session_token: token.expose().to_owned(),
            session: Some(session.into()),
            user: Some(user.into()),
        }
    }
}

impl From<Rotated> for pb::RotateSessionResponse {
    fn from(rotated: Rotated) -> Self {
        let Rotated { token, session } = rotated;
        Self {
            session_token: token.expose().to_owned(),
            session: Some(session.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_84_every_broken_field_is_named() {
        let request = pb::CreateSessionRequest {
            credential: Some(pb::create_session_request::Credential::Password(
                pb::PasswordCredential {
                    email: "nobody".into(),
                    password: String::new(),
                },
            )),
            client: Some(pb::Client {
                ip: "x".into(),
                ..Default::default()
            }),
            lifetime: Some(prost_types::Duration {
                seconds: -1,
                nanos: 0,
            }),
            attributes: [(String::new(), String::new())].into(),
            ..Default::default()
        };
        let violations = log_in(request).unwrap_err();
        let fields: Vec<_> = violations
            .iter()
            .map(|violation| violation.field.as_str())
            .collect();
        assert_eq!(
            fields,
            [
                "password.email",
                "password.password",
                "client.ip",
                "lifetime",
                "attributes"
            ]
        );
    }
}
