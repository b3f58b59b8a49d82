//! `sessiond users …`

use super::{
    check_emails,
    output::{Output, escape_control_characters, instant},
    password, refusal,
};
use crate::Failure;
use clap::ArgMatches;
use serde_json::{Value, json};
use sessiond::pb::{
    CreateUserRequest, DeleteUserRequest, DisableUserRequest, EnableUserRequest, GetUserRequest,
    ListUsersRequest, SetPasswordRequest, User, create_user_request, get_user_request, set_password_request,
    user_service_client::UserServiceClient,
};
use tonic::transport::Channel;

pub(super) type Client = UserServiceClient<Channel>;

const PAGE: i32 = 1000;

pub(super) async fn run(
    subcommand: &str,
    matches: &ArgMatches,
    channel: Channel,
    output: Output,
) -> Result<(), Failure> {
    let mut client = Client::new(channel);
    match subcommand {
        "create" => create(&mut client, matches, output).await,
        "list" => list(&mut client, output).await,
        "check-emails" => check_emails::run(&mut client, matches.get_flag("apply"), output).await,
        "set-password" => {
            let user = named(&mut client, matches).await?;
            let password = password::ask(matches)?;
            let request = SetPasswordRequest {
                user_id: user.id.clone(),
                credential: Some(set_password_request::Credential::Password(password.to_string())),
            };
            client
                .set_password(request)
                .await
                .map_err(|status| refusal(&status))?;
            done(output, &user, "has a new password; all their sessions have ended")
        }
        "disable" => {
            let user = named(&mut client, matches).await?;
            let request = DisableUserRequest {
                user_id: user.id.clone(),
            };
            client
                .disable_user(request)
                .await
                .map_err(|status| refusal(&status))?;
            done(
                output,
                &user,
                "cannot log in any more; all their sessions have ended",
            )
        }
        "enable" => {
            let user = named(&mut client, matches).await?;
            let request = EnableUserRequest {
                user_id: user.id.clone(),
            };
            client
                .enable_user(request)
                .await
                .map_err(|status| refusal(&status))?;
            done(output, &user, "can log in again")
        }
        "delete" => {
            let user = named(&mut client, matches).await?;
            let request = DeleteUserRequest {
                user_id: user.id.clone(),
            };
            client
                .delete_user(request)
                .await
                .map_err(|status| refusal(&status))?;
            done(output, &user, "is deleted; all their sessions have ended")
        }
        _ => Err(format!("there is no command users {subcommand}").into()),
    }
}

async fn create(client: &mut Client, matches: &ArgMatches, output: Output) -> Result<(), Failure> {
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let credential = match matches.get_flag("no-password") {
        true => None,
        false => {
            let password = password::ask(matches)?;
            Some(create_user_request::Credential::Password(password.to_string()))
        }
    };
    let request = CreateUserRequest {
        email: text("email"),
        credential,
        first_name: text("first-name"),
        last_name: text("last-name"),
        roles: matches
            .get_many::<String>("role")
            .unwrap_or_default()
            .cloned()
            .collect(),
    };
    let response = client
        .create_user(request)
        .await
        .map_err(|status| refusal(&status))?;
    let user = response.into_inner().user.unwrap_or_default();
    output.sentence(
        &format!("{} is created: {}", user.email, user.id),
        &as_json(&user),
    )
}

async fn list(client: &mut Client, output: Output) -> Result<(), Failure> {
    let users = all(client).await?;
    let rows: Vec<_> = users.iter().map(|user| (as_cells(user), as_json(user))).collect();
    output.rows(["ID", "EMAIL", "NAME", "ROLES", "CREATED", "DISABLED"], &rows)
}

/// Every user, page by page.
pub(super) async fn all(client: &mut Client) -> Result<Vec<User>, Failure> {
    let mut users = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListUsersRequest {
            page_size: PAGE,
            page_token,
        };
        let page = client
            .list_users(request)
            .await
            .map_err(|status| refusal(&status))?;
        let page = page.into_inner();
        users.extend(page.users);
        if page.next_page_token.is_empty() {
            return Ok(users);
        }
        page_token = page.next_page_token;
    }
}

/// The user that the command names, by email or by id.
pub(super) async fn named(client: &mut Client, matches: &ArgMatches) -> Result<User, Failure> {
    let text = matches.get_one::<String>("user").cloned().unwrap_or_default();
    let key = match text.contains('@') {
        true => get_user_request::Key::Email(text.clone()),
        false => get_user_request::Key::UserId(text.clone()),
    };
    let response = client
        .get_user(GetUserRequest { key: Some(key) })
        .await
        .map_err(|status| match status.code() == tonic::Code::NotFound {
            true => format!("there is no user {}", escape_control_characters(&text)).into(),
            false => refusal(&status),
        })?;
    response
        .into_inner()
        .user
        .ok_or_else(|| "the service names no user".into())
}

fn done(output: Output, user: &User, what: &str) -> Result<(), Failure> {
    output.sentence(&format!("{} {what}", user.email), &json!({ "user_id": user.id }))
}

fn as_cells(user: &User) -> [String; 6] {
    [
        user.id.clone(),
        user.email.clone(),
        format!("{} {}", user.first_name, user.last_name)
            .trim()
            .to_owned(),
        user.roles.join(","),
        instant(user.created_at.as_ref()),
        instant(user.disabled_at.as_ref()),
    ]
}

fn as_json(user: &User) -> Value {
    json!({
        "id": user.id,
        "email": user.email,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "roles": user.roles,
        "created_at": instant(user.created_at.as_ref()),
        "updated_at": instant(user.updated_at.as_ref()),
        "disabled_at": user.disabled_at.as_ref().map(|at| instant(Some(at))),
    })
}
