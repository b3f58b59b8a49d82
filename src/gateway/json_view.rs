//! Users and sessions as the routes show them.

use crate::{
    contract::{auth_method, timestamp},
    domain::AuthMethod,
    pb,
};
use serde_json::{Value, json};

/// A user. Never anything of their password.
pub(super) fn user(user: &pb::User) -> Value {
    json!({
        "id": user.id,
        "email": user.email,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "roles": user.roles,
        "created_at": instant(user.created_at),
        "updated_at": instant(user.updated_at),
        "disabled_at": instant(user.disabled_at),
        "etag": user.etag,
    })
}

/// A session, for its owner. Never anything of its token.
pub(super) fn session(session: &pb::Session, is_current: bool) -> Value {
    let client = session.client.clone().unwrap_or_default();
    json!({
        "id": session.id,
        "created_at": instant(session.created_at),
        "last_seen_at": instant(session.last_seen_at),
        "idle_timeout_seconds": session.idle_timeout.map(|span| span.seconds),
        "expires_at": instant(session.expires_at),
        "authenticated_at": instant(session.authenticated_at),
        "auth_method": auth_method(session.auth_method()).map(auth_method_name),
        "client": {
            "ip": client.ip,
            "user_agent": client.user_agent,
            "label": client.label,
        },
        "is_current": is_current,
    })
}

fn auth_method_name(method: AuthMethod) -> &'static str {
    match method {
        AuthMethod::Password => "password",
        AuthMethod::Caller => "caller",
    }
}

/// RFC 3339 in UTC, to the millisecond; `null` if there is none.
fn instant(instant: Option<prost_types::Timestamp>) -> Value {
    instant.map_or(Value::Null, |instant| json!(timestamp(instant).to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_read_as_rfc_3339() {
        let at = |seconds, nanos| instant(Some(prost_types::Timestamp { seconds, nanos }));
        assert_eq!(at(1_795_298_400, 7_999_999), json!("2026-11-21T22:00:00.007Z"));
        assert_eq!(instant(None), Value::Null);
        assert!(at(i64::MAX, i32::MAX).is_string());
    }
}
