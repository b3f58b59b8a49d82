//! What no request may hold: refused by name, with nothing changed.

use sessiond::pb::{
    self, create_session_request::Credential, create_user_request::Credential as New,
    destroy_session_request::Session as Key, list_sessions_request::Owner,
};
use std::collections::HashMap;
use testkit::service::{PASSWORD, Service, bad_fields, by_user_id, reason};
use tonic::Code;

pub(crate) async fn s_84_every_bad_field_of_a_session_call_is_named(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let created = service.here.session_of(&user).await;
    let good = || by_user_id(&user.id);
    let secs = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let password = |email: &str, password: &str| pb::CreateSessionRequest {
        credential: Some(Credential::Password(pb::PasswordCredential {
            email: email.into(),
            password: password.into(),
        })),
        ..Default::default()
    };
    let client = |ip: &str, user_agent: &str, label: &str| {
        let client = pb::Client {
            ip: ip.into(),
            user_agent: user_agent.into(),
            label: label.into(),
        };
        pb::CreateSessionRequest {
            client: Some(client),
            ..good()
        }
    };
    let attributes = |entries: HashMap<String, String>| pb::CreateSessionRequest {
        attributes: entries,
        ..good()
    };
    let one = |key: &str, value: &str| HashMap::from([(key.to_owned(), value.to_owned())]);
    let cases = [
        (pb::CreateSessionRequest::default(), "credential"),
        (by_user_id(""), "user_id"),
        (by_user_id("x"), "user_id"),
        (by_user_id(&user.id.to_uppercase().replace('-', "")), "user_id"),
        (by_user_id(&format!("{}\0", user.id)), "user_id"),
        (by_user_id("6ba7b810-9dad-11d1-80b4-00c04fd430c8"), "user_id"),
        (password("", PASSWORD), "password.email"),
        (password("ann", PASSWORD), "password.email"),
        (password("ann\0@example.com", PASSWORD), "password.email"),
        (
            password(&format!("{}@example.com", "a".repeat(255)), PASSWORD),
            "password.email",
        ),
        (password("ann@example.com", ""), "password.password"),
        (client("256.1.1.1", "", ""), "client.ip"),
        (client("", &"x".repeat(513), ""), "client.user_agent"),
        (client("", "a\nb", ""), "client.user_agent"),
        (client("", "", &"x".repeat(101)), "client.label"),
        (client("", "", "a\0b"), "client.label"),
        (
            pb::CreateSessionRequest {
                lifetime: secs(0),
                ..good()
            },
            "lifetime",
        ),
        (
            pb::CreateSessionRequest {
                lifetime: secs(i64::MAX),
                ..good()
            },
            "lifetime",
        ),
        (
            pb::CreateSessionRequest {
                idle_timeout: secs(-5),
                ..good()
            },
            "idle_timeout",
        ),
        (
            pb::CreateSessionRequest {
                idle_timeout: Some(prost_types::Duration { seconds: 1, nanos: 1 }),
                ..good()
            },
            "idle_timeout",
        ),
        (attributes(one("", "x")), "attributes"),
        (attributes(one("a b", "x")), "attributes"),
        (attributes(one("a", "\0")), "attributes"),
        (attributes(one("a", &"x".repeat(4096))), "attributes"),
        (
            attributes((0..17).map(|n| (format!("k{n}"), String::new())).collect()),
            "attributes",
        ),
    ];
    for (request, field) in cases {
        assert_eq!(
            bad_fields(&service.here.create(request).await.unwrap_err()),
            [field]
        );
    }

    let mut sessions = service.here.sessions.clone();
    let none = sessions
        .destroy_session(pb::DestroySessionRequest { session: None })
        .await
        .unwrap_err();
    assert_eq!(bad_fields(&none), ["session"]);
    let request = pb::DestroySessionRequest {
        session: Some(Key::SessionId("x".into())),
    };
    assert_eq!(
        bad_fields(&sessions.destroy_session(request).await.unwrap_err()),
        ["session_id"]
    );
    let request = pb::ListSessionsRequest {
        owner: None,
        page_size: -1,
        page_token: "x".into(),
    };
    let refused = sessions.list_sessions(request).await.unwrap_err();
    assert_eq!(bad_fields(&refused), ["owner", "page_size", "page_token"]);
    let request = pb::ListSessionsRequest {
        owner: Some(Owner::UserId("x".into())),
        page_size: 101,
        ..Default::default()
    };
    assert_eq!(
        bad_fields(&sessions.list_sessions(request).await.unwrap_err()),
        ["user_id", "page_size"]
    );
    let request = pb::RevokeSessionsRequest {
        target: None,
        except_session_id: "x".into(),
    };
    assert_eq!(
        bad_fields(&sessions.revoke_sessions(request).await.unwrap_err()),
        ["except_session_id", "target"]
    );
    let everyone_but_one = pb::RevokeSessionsRequest {
        target: Some(pb::revoke_sessions_request::Target::Everyone(pb::Everyone {})),
        except_session_id: created.session.unwrap().id,
    };
    let refused = sessions.revoke_sessions(everyone_but_one).await.unwrap_err();
    assert_eq!(bad_fields(&refused), ["except_session_id"]);
    let grace = secs(-1);
    let request = pb::RotateSessionRequest {
        session_token: created.session_token.clone(),
        grace,
    };
    assert_eq!(
        bad_fields(&sessions.rotate_session(request).await.unwrap_err()),
        ["grace"]
    );

    let stats = sessions
        .get_stats(pb::GetStatsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((stats.user_count, stats.session_count), (1, 1));
    assert!(service.here.is_alive(&created.session_token).await);
}

pub(crate) async fn s_84_every_bad_field_of_a_user_call_is_named(service: Service) {
    let before = service.here.hasher.stats().computed;
    let mut users = service.here.users.clone();
    let email = |email: &str| pb::CreateUserRequest {
        email: email.into(),
        ..Default::default()
    };
    let good = || email("ann@example.com");
    let password = |password: &str| pb::CreateUserRequest {
        credential: Some(New::Password(password.into())),
        ..good()
    };
    let cases = [
        (email(""), "email"),
        (email("ann"), "email"),
        (email("ann@"), "email"),
        (email("@example.com"), "email"),
        (email("a b@example.com"), "email"),
        (email("ann\0@example.com"), "email"),
        (email("ann@example.com\r\n"), "email"),
        (email(&format!("{}@example.com", "a".repeat(250))), "email"),
        (password(""), "password"),
        (password("short"), "password"),
        (password("with a NUL\0 in the middle"), "password"),
        (password(&"x".repeat(300)), "password"),
        (
            pb::CreateUserRequest {
                credential: Some(New::PasswordHash("x".into())),
                ..good()
            },
            "password_hash",
        ),
        (
            pb::CreateUserRequest {
                first_name: "x".repeat(101),
                ..good()
            },
            "first_name",
        ),
        (
            pb::CreateUserRequest {
                last_name: "a\0".into(),
                ..good()
            },
            "last_name",
        ),
        (
            pb::CreateUserRequest {
                roles: vec!["".into()],
                ..good()
            },
            "roles",
        ),
        (
            pb::CreateUserRequest {
                roles: vec!["a b".into()],
                ..good()
            },
            "roles",
        ),
        (
            pb::CreateUserRequest {
                roles: (0..33).map(|n| format!("r{n}")).collect(),
                ..good()
            },
            "roles",
        ),
    ];
    for (request, field) in cases {
        assert_eq!(
            bad_fields(&users.create_user(request).await.unwrap_err()),
            [field]
        );
    }
    assert_eq!(
        bad_fields(
            &users
                .get_user(pb::GetUserRequest { key: None })
                .await
                .unwrap_err()
        ),
        ["key"]
    );
    for (field, refused) in [
        (
            "user_id",
            users
                .delete_user(pb::DeleteUserRequest { user_id: "x".into() })
                .await
                .map(drop),
        ),
        (
            "user_id",
            users
                .disable_user(pb::DisableUserRequest { user_id: "".into() })
                .await
                .map(drop),
        ),
        (
            "user_id",
            users
                .enable_user(pb::EnableUserRequest { user_id: "\0".into() })
                .await
                .map(drop),
        ),
    ] {
        assert_eq!(bad_fields(&refused.unwrap_err()), [field]);
    }
    let refused = users
        .update_user(pb::UpdateUserRequest::default())
        .await
        .unwrap_err();
    assert_eq!(bad_fields(&refused), ["user.id", "update_mask"]);
    let refused = users
        .change_password(pb::ChangePasswordRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        bad_fields(&refused),
        ["subject", "current_password", "new_password"]
    );

    let stats = service
        .here
        .sessions
        .clone()
        .get_stats(pb::GetStatsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(stats.user_count, 0);
    assert_eq!(
        service.here.hasher.stats().computed,
        before,
        "nothing of this was worth a hash"
    );
}

pub(crate) async fn s_83_a_message_is_bounded(service: Service) {
    let refused = service.here.check(&"x".repeat(17 * 1024)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(reason(&refused), "MESSAGE_TOO_LARGE");
    assert!(!service.here.is_alive("x").await, "the connection goes on");
}

pub(crate) async fn s_85_strange_text_comes_back_to_the_letter(service: Service) {
    let names = [
        "' OR 1=1 --",
        "\"; DROP TABLE users",
        "{}*?[]%_\\",
        "\u{202e}RTL",
        "\u{1f434}",
        "a:b|c",
    ];
    for (number, name) in (1..).zip(names) {
        let request = pb::CreateUserRequest {
            email: format!("user{number}@example.com"),
            first_name: name.into(),
            ..Default::default()
        };
        let user = service
            .here
            .users
            .clone()
            .create_user(request)
            .await
            .unwrap()
            .into_inner()
            .user
            .unwrap();
        assert_eq!(user.first_name, name);
        let key = Some(pb::get_user_request::Key::Email(user.email.clone()));
        let found = service
            .there
            .users
            .clone()
            .get_user(pb::GetUserRequest { key })
            .await
            .unwrap();
        assert_eq!(found.into_inner().user.unwrap(), user);
        let label = pb::Client {
            label: name.into(),
            ..Default::default()
        };
        let request = pb::CreateSessionRequest {
            client: Some(label.clone()),
            ..by_user_id(&user.id)
        };
        let token = service.here.create(request).await.unwrap().session_token;
        let request = pb::CurrentUserRequest {
            session_token: token,
            ..Default::default()
        };
        let current = service
            .there
            .sessions
            .clone()
            .current_user(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(current.session.unwrap().client, Some(label));
    }
}

pub(crate) async fn s_88_strange_text_stays_out_of_headers(service: Service) {
    let request = pb::CreateUserRequest {
        email: "a\r\nx-admin: yes@b\u{e9}".into(),
        ..Default::default()
    };
    let refused = service.here.users.clone().create_user(request).await.unwrap_err();
    assert_eq!(bad_fields(&refused), ["email"]);
    assert!(refused.metadata().get("x-admin").is_none());
    assert!(!refused.message().contains("x-admin"));
}
