//! Manage users.

use sessiond::{
    pb::{self, get_user_request::Key},
    store::Updated,
};
use testkit::service::{PASSWORD, Service, bad_fields, reason};
use tonic::{Code, Status};

async fn get(service: &Service, key: Key) -> Result<pb::User, Status> {
    let request = pb::GetUserRequest { key: Some(key) };
    Ok(service
        .there
        .users
        .clone()
        .get_user(request)
        .await?
        .into_inner()
        .user
        .unwrap())
}

async fn update(service: &Service, user: pb::User, paths: &[&str]) -> Result<pb::User, Status> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let request = pb::UpdateUserRequest {
        user: Some(user),
        update_mask: Some(prost_types::FieldMask { paths }),
    };
    Ok(service
        .here
        .users
        .clone()
        .update_user(request)
        .await?
        .into_inner()
        .user
        .unwrap())
}

pub(crate) async fn a_user_lives_from_creation_to_deletion(service: Service) {
    let request = pb::CreateUserRequest {
        email: "Ann@example.com".into(),
        first_name: "Ann".into(),
        last_name: "O'Hara".into(),
        roles: vec!["editor".into(), "admin".into(), "admin".into()],
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
    assert_eq!(user.roles, ["admin", "editor"]);
    assert_eq!(user.created_at, user.updated_at);
    assert_eq!(user.disabled_at, None);
    assert_eq!(get(&service, Key::UserId(user.id.clone())).await.unwrap(), user);
    assert_eq!(
        get(&service, Key::Email("ann@EXAMPLE.com".into())).await.unwrap(),
        user
    );

    let request = pb::DeleteUserRequest {
        user_id: user.id.clone(),
    };
    service
        .here
        .users
        .clone()
        .delete_user(request.clone())
        .await
        .unwrap();
    let gone = service
        .there
        .users
        .clone()
        .delete_user(request)
        .await
        .unwrap_err();
    assert_eq!(
        (gone.code(), reason(&gone).as_str()),
        (Code::NotFound, "USER_NOT_FOUND")
    );
    assert_eq!(
        get(&service, Key::UserId(user.id)).await.unwrap_err().code(),
        Code::NotFound
    );
    service.here.quick_user("ann@example.com").await;
}

pub(crate) async fn s_15_a_deleted_users_sessions_die(service: Service) {
    let user = service.here.user("ann@example.com").await;
    let token = service
        .here
        .log_in("ann@example.com", PASSWORD)
        .await
        .unwrap()
        .session_token;
    let request = pb::DeleteUserRequest { user_id: user.id };
    service.here.users.clone().delete_user(request).await.unwrap();
    assert!(!service.there.is_alive(&token).await);
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
}

/// A disabled user whose sessions could not be ended: the session store was away, and the call was not repeated.
pub(crate) async fn s_15_a_half_disabled_users_session_is_dead_to_all_once_it_is_to_one(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let token = service.here.session_of(&user).await.session_token;
    let id = user.id.parse().unwrap();
    let mut disabled = service.user_store.by_id(id).await.unwrap().unwrap().user;
    disabled.disabled_at = Some(disabled.created_at);
    disabled.version += 1;
    let updated = service.user_store.update(&disabled, disabled.version - 1).await;
    assert_eq!(updated.unwrap(), Updated::Yes);
    assert!(service.there.is_alive(&token).await);
    let request = pb::CurrentUserRequest {
        session_token: token.clone(),
        max_auth_age: None,
    };
    let refused = service.here.sessions.clone().current_user(request).await;
    assert_eq!(reason(&refused.unwrap_err()), "INVALID_SESSION");
    assert!(!service.there.is_alive(&token).await);
}

pub(crate) async fn an_email_belongs_to_one_user(service: Service) {
    service.here.quick_user("ann@example.com").await;
    let bob = service.here.quick_user("bob@example.com").await;
    service.here.quick_user("νικος@münchen.example").await;
    let create = async |email: &str| {
        let request = pb::CreateUserRequest {
            email: email.into(),
            ..Default::default()
        };
        service.there.users.clone().create_user(request).await
    };
    for email in [
        "\u{ff21}NN@example.com",
        "ann@example\u{3002}com",
        "ΝΙΚΟΣ@xn--mnchen-3ya.example",
    ] {
        let taken = create(email).await.unwrap_err();
        assert_eq!(
            (taken.code(), reason(&taken).as_str()),
            (Code::AlreadyExists, "EMAIL_TAKEN"),
            "{email}"
        );
    }
    for email in [".ann@example.com", "a..b@example.com", "an\u{200b}n@example.com"] {
        let refused = create(email).await.unwrap_err();
        assert_eq!(bad_fields(&refused), ["email"], "{email}");
    }
    let taken = update(
        &service,
        pb::User {
            email: "Ann@example.com".into(),
            ..bob
        },
        &["email"],
    )
    .await
    .unwrap_err();
    assert_eq!(reason(&taken), "EMAIL_TAKEN");
}

pub(crate) async fn an_update_names_what_it_changes(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    service.advance(5);
    let wanted = pb::User {
        id: user.id.clone(),
        email: "other@example.com".into(),
        first_name: "Ann".into(),
        last_name: "Lee".into(),
        roles: vec!["admin".into()],
        ..Default::default()
    };
    let changed = update(&service, wanted.clone(), &["first_name", "roles"])
        .await
        .unwrap();
    assert_eq!(
        (changed.email.as_str(), changed.last_name.as_str()),
        ("ann@example.com", "")
    );
    assert_eq!((changed.first_name.as_str(), changed.roles.len()), ("Ann", 1));
    assert_ne!(changed.etag, user.etag);
    assert_eq!(
        changed.updated_at.unwrap().seconds - user.updated_at.unwrap().seconds,
        5
    );
    assert_eq!(get(&service, Key::UserId(user.id)).await.unwrap(), changed);

    assert_eq!(
        bad_fields(&update(&service, wanted.clone(), &[]).await.unwrap_err()),
        ["update_mask"]
    );
    assert_eq!(
        bad_fields(&update(&service, wanted.clone(), &["id"]).await.unwrap_err()),
        ["update_mask"]
    );
    let nobody = pb::User {
        id: "01890000-0000-7000-8000-000000000000".into(),
        ..wanted
    };
    assert_eq!(
        update(&service, nobody, &["email"]).await.unwrap_err().code(),
        Code::NotFound
    );
}

pub(crate) async fn a_lost_update_is_refused(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    let mine = pb::User {
        first_name: "Mine".into(),
        ..user.clone()
    };
    let theirs = pb::User {
        first_name: "Theirs".into(),
        ..user
    };
    update(&service, mine, &["first_name"]).await.unwrap();
    let refused = update(&service, theirs.clone(), &["first_name"])
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Aborted, "ETAG_MISMATCH")
    );
    let without_etag = pb::User {
        etag: String::new(),
        ..theirs
    };
    assert_eq!(
        update(&service, without_etag, &["first_name"])
            .await
            .unwrap()
            .first_name,
        "Theirs"
    );
}

pub(crate) async fn users_are_listed_in_pages(service: Service) {
    let mut created = Vec::new();
    for n in 0..5 {
        created.push(service.here.quick_user(&format!("user{n}@example.com")).await.id);
        service.advance(1);
    }
    let list = async |page_size, page_token: &str| {
        let request = pb::ListUsersRequest {
            page_size,
            page_token: page_token.into(),
        };
        service
            .there
            .users
            .clone()
            .list_users(request)
            .await
            .map(tonic::Response::into_inner)
    };
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = list(2, &page_token).await.unwrap();
        listed.extend(page.users.into_iter().map(|user| user.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, created);
    assert_eq!(
        bad_fields(&list(1001, "x").await.unwrap_err()),
        ["page_size", "page_token"]
    );
}

pub(crate) async fn there_are_stats(service: Service) {
    let user = service.here.quick_user("ann@example.com").await;
    service.here.quick_user("bob@example.com").await;
    let token = service.here.session_of(&user).await.session_token;
    service.here.session_of(&user).await;
    service.here.destroy(&token).await;
    let stats = service
        .there
        .sessions
        .clone()
        .get_stats(pb::GetStatsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((stats.user_count, stats.session_count), (2, 1));
}
