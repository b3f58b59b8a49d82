//! Log in.

use sessiond::pb::{self, create_session_request::Credential};
use std::collections::{BTreeSet, HashMap};
use testkit::service::{PASSWORD, Service, bad_fields, by_password, by_user_id, reason, visible};
use tonic::Code;

pub(crate) async fn s_01_every_log_in_has_a_token_of_its_own(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let mut tokens = BTreeSet::new();
    for _ in 0..20 {
        let token = service.here.session_of(&user).await.session_token;
        let secret = token.strip_prefix("ses_").unwrap();
        assert_eq!(secret.len(), 43);
        assert!(
            secret
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
        assert!(tokens.insert(token));
    }
}

pub(crate) async fn s_04_a_proposed_token_is_never_adopted(service: Service) {
    service.here.user("ann@example.com").await;
    let proposed = format!("ses_{}", "A".repeat(43));
    let mut request = by_password("ann@example.com", PASSWORD);
    request.replaces_session_token = proposed.clone();
    let created = service.here.create(request).await.unwrap();
    assert_ne!(created.session_token, proposed);
    assert!(!service.here.is_alive(&proposed).await);
    assert!(service.here.is_alive(&created.session_token).await);
}

pub(crate) async fn s_07_a_log_in_ends_the_session_that_it_replaces(service: Service) {
    let user = service.here.user("ann@example.com").await;
    let old = service.here.session_of(&user).await.session_token;
    let mut request = by_password("ann@example.com", PASSWORD);
    request.replaces_session_token = old.clone();
    let new = service.here.create(request).await.unwrap().session_token;
    assert_ne!(new, old);
    assert!(!service.there.is_alive(&old).await);
    assert!(service.there.is_alive(&new).await);
}

pub(crate) async fn s_07_fifty_parallel_log_ins_with_one_old_token(service: Service) {
    let old = service
        .here
        .session_of(&service.here.quick_user("ann@example.com").await)
        .await
        .session_token;
    let mut users = Vec::new();
    for n in 0..50 {
        users.push(service.here.quick_user(&format!("user{n}@example.com")).await);
    }
    let log_ins = users.into_iter().map(|user| {
        let (process, old) = (service.here.clone(), old.clone());
        tokio::spawn(async move {
            let request = pb::CreateSessionRequest {
                replaces_session_token: old,
                ..by_user_id(&user.id)
            };
            process.create(request).await.unwrap().session_token
        })
    });
    let mut tokens = BTreeSet::new();
    for log_in in log_ins.collect::<Vec<_>>() {
        tokens.insert(log_in.await.unwrap());
    }
    assert_eq!(tokens.len(), 50);
    assert!(!service.there.is_alive(&old).await);
    for token in tokens {
        assert!(service.there.is_alive(&token).await);
    }
}

pub(crate) async fn s_15_disabling_wins_against_a_hundred_log_ins(service: Service) {
    let user = service.here.user("ann@example.com").await;
    let mut tokens = Vec::new();
    for _ in 0..5 {
        tokens.push(service.here.session_of(&user).await.session_token);
    }
    let log_ins: Vec<_> = (0..100)
        .map(|n| {
            let process = if n % 2 == 0 {
                service.here.clone()
            } else {
                service.there.clone()
            };
            let id = user.id.clone();
            tokio::spawn(async move {
                match n % 10 {
                    0 => process.log_in("ann@example.com", PASSWORD).await,
                    _ => process.create(by_user_id(&id)).await,
                }
            })
        })
        .collect();
    let request = pb::DisableUserRequest {
        user_id: user.id.clone(),
    };
    let disabled = service
        .here
        .users
        .clone()
        .disable_user(request)
        .await
        .unwrap()
        .into_inner();
    assert!(disabled.user.unwrap().disabled_at.is_some());
    for log_in in log_ins {
        match log_in.await.unwrap() {
            Ok(created) => tokens.push(created.session_token),
            Err(status) => {
                assert!(
                    ["INVALID_CREDENTIALS", "USER_DISABLED", "CHANGE_PENDING"]
                        .contains(&reason(&status).as_str()),
                    "{status:?}"
                );
            }
        }
    }
    for token in &tokens {
        assert!(!service.there.is_alive(token).await);
    }
    assert_eq!(
        reason(
            &service
                .here
                .log_in("ann@example.com", PASSWORD)
                .await
                .unwrap_err()
        ),
        "INVALID_CREDENTIALS"
    );

    let request = pb::EnableUserRequest {
        user_id: user.id.clone(),
    };
    service.here.users.clone().enable_user(request).await.unwrap();
    assert!(service.there.log_in("ann@example.com", PASSWORD).await.is_ok());
    for token in &tokens {
        assert!(
            !service.here.is_alive(token).await,
            "enabling brings no session back"
        );
    }
}

pub(crate) async fn s_19_the_cap_holds_under_parallel_log_ins(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let log_ins: Vec<_> = (0..50)
        .map(|n| {
            let process = if n % 2 == 0 {
                service.here.clone()
            } else {
                service.there.clone()
            };
            let id = user.id.clone();
            tokio::spawn(async move { process.create(by_user_id(&id)).await.unwrap().session_token })
        })
        .collect();
    let mut tokens = Vec::new();
    for log_in in log_ins {
        tokens.push(log_in.await.unwrap());
    }
    let mut alive = 0;
    for token in &tokens {
        alive += usize::from(service.there.is_alive(token).await);
    }
    let cap = usize::try_from(service.limits.max_per_user).unwrap();
    assert_eq!(alive, cap);
    let request = pb::ListSessionsRequest {
        owner: Some(pb::list_sessions_request::Owner::UserId(user.id)),
        page_size: 100,
        ..Default::default()
    };
    let listed = service
        .there
        .sessions
        .clone()
        .list_sessions(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.sessions.len(), cap);
}

pub(crate) async fn s_45_nobody_can_log_in_to_a_fresh_service(service: Service) {
    let request = pb::GetStatsRequest {};
    let stats = service
        .here
        .sessions
        .clone()
        .get_stats(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((stats.user_count, stats.session_count), (0, 0));
    for (email, password) in [
        ("admin@localhost", "admin"),
        ("root@localhost", "root"),
        ("admin@admin.com", "password"),
    ] {
        let refused = service.here.log_in(email, password).await.unwrap_err();
        assert_eq!(reason(&refused), "INVALID_CREDENTIALS");
    }
}

pub(crate) async fn s_59_every_failed_log_in_has_one_answer(service: Service) {
    service.here.user("ann@example.com").await;
    service.here.quick_user("no-password@example.com").await;
    let disabled = service.here.user("disabled@example.com").await;
    let request = pb::DisableUserRequest { user_id: disabled.id };
    service.here.users.clone().disable_user(request).await.unwrap();

    let mut answers = BTreeSet::new();
    for (email, password) in [
        ("unknown@example.com", PASSWORD),
        ("ann@example.com", "a wrong password, surely"),
        ("disabled@example.com", PASSWORD),
        ("no-password@example.com", PASSWORD),
        ("ann@example.com", "nul\0"),
    ] {
        let hashes_before = service.here.hasher.stats().computed;
        let refused = service.here.log_in(email, password).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        // S-60: an account that is not there costs what one that is there costs.
        let can_be_a_password = !password.contains('\0');
        assert_eq!(
            service.here.hasher.stats().computed > hashes_before,
            can_be_a_password
        );
        answers.insert(format!("{:?}", visible(&refused)));
    }
    assert_eq!(answers.len(), 1, "{answers:#?}");
}

pub(crate) async fn a_caller_vouches_for_a_user(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let created = service.here.session_of(&user).await;
    assert_eq!(created.user.unwrap(), user);
    let session = created.session.unwrap();
    assert_eq!(session.auth_method(), pb::AuthMethod::Caller);
    assert_eq!(
        service.there.check(&created.session_token).await.unwrap().user_id,
        user.id
    );

    let nobody = "01890000-0000-7000-8000-000000000000";
    let refused = service.here.create(by_user_id(nobody)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::NotFound, "USER_NOT_FOUND")
    );
    let request = pb::DisableUserRequest {
        user_id: user.id.clone(),
    };
    service.here.users.clone().disable_user(request).await.unwrap();
    let refused = service.here.create(by_user_id(&user.id)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::FailedPrecondition, "USER_DISABLED")
    );
}

pub(crate) async fn time_outs_may_be_shortened_only(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let secs = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let request = pb::CreateSessionRequest {
        lifetime: secs(60),
        idle_timeout: secs(10),
        ..by_user_id(&user.id)
    };
    let session = service.here.create(request).await.unwrap().session.unwrap();
    assert_eq!(session.idle_timeout, secs(10));
    assert_eq!(
        session.expires_at.unwrap().seconds - session.created_at.unwrap().seconds,
        60
    );

    let longer = pb::CreateSessionRequest {
        lifetime: secs(12 * 3600 + 1),
        idle_timeout: secs(0),
        ..by_user_id(&user.id)
    };
    assert_eq!(
        bad_fields(&service.here.create(longer).await.unwrap_err()),
        ["lifetime", "idle_timeout"]
    );
}

pub(crate) async fn what_was_stored_with_a_session_comes_back(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let client = pb::Client {
        ip: "2001:db8::7".into(),
        user_agent: "curl/8.0 \"x\"".into(),
        label: "làptop".into(),
    };
    let attributes = HashMap::from([("tenant".to_owned(), "a'b\"{}*%\\\n".to_owned())]);
    let request = pb::CreateSessionRequest {
        client: Some(client.clone()),
        attributes: attributes.clone(),
        ..by_user_id(&user.id)
    };
    let created = service.here.create(request).await.unwrap();
    let request = pb::CurrentUserRequest {
        session_token: created.session_token,
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
    let session = current.session.unwrap();
    assert_eq!(session.client, Some(client));
    assert_eq!(session.attributes, attributes);
    assert_eq!(session, created.session.unwrap());
    assert_eq!(current.user.unwrap(), user);
}

pub(crate) async fn an_email_is_one_however_it_is_spelled(service: Service) {
    service.here.user("Ann@Example.com").await;
    let created = service
        .there
        .log_in("ann@EXAMPLE\u{ff0e}com", PASSWORD)
        .await
        .unwrap();
    assert_eq!(created.user.unwrap().email, "Ann@Example.com");
    assert_eq!(created.session.unwrap().auth_method(), pb::AuthMethod::Password);
    let missing = pb::CreateSessionRequest {
        credential: Some(Credential::Password(pb::PasswordCredential::default())),
        ..Default::default()
    };
    let refused = service.here.create(missing).await.unwrap_err();
    assert_eq!(bad_fields(&refused), ["password.email", "password.password"]);
}
