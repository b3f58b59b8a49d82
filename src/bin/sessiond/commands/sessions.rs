//! `sessiond sessions …`

use super::{
    output::{Output, instant},
    refusal, users,
};
use crate::Failure;
use clap::ArgMatches;
use serde_json::{Value, json};
use sessiond::pb::{
    DestroySessionRequest, Everyone, ListSessionsRequest, RevokeSessionsRequest, Session,
    auth_service_client::AuthServiceClient, destroy_session_request, list_sessions_request,
    revoke_sessions_request, user_service_client::UserServiceClient,
};
use tonic::transport::Channel;

const PAGE: i32 = 100;

pub(super) async fn run(
    subcommand: &str,
    matches: &ArgMatches,
    channel: Channel,
    output: Output,
) -> Result<(), Failure> {
    let mut users = UserServiceClient::new(channel.clone());
    let mut sessions = AuthServiceClient::new(channel);
    match subcommand {
        "list" => {
            let user = users::named(&mut users, matches).await?;
            list(&mut sessions, user.id, output).await
        }
        "revoke" => {
            if let Some(id) = matches.get_one::<String>("session") {
                return end_one(&mut sessions, id, output).await;
            }
            let target = match matches.get_flag("everyone") {
                true => revoke_sessions_request::Target::Everyone(Everyone {}),
                false => {
                    let user = users::named(&mut users, matches).await?;
                    revoke_sessions_request::Target::UserId(user.id)
                }
            };
            let request = RevokeSessionsRequest {
                target: Some(target),
                except_session_id: String::new(),
            };
            let answer = sessions
                .revoke_sessions(request)
                .await
                .map_err(|status| refusal(&status))?;
            ended(output, answer.into_inner().revoked_count)
        }
        _ => Err(format!("there is no command sessions {subcommand}").into()),
    }
}

async fn end_one(sessions: &mut AuthServiceClient<Channel>, id: &str, output: Output) -> Result<(), Failure> {
    let request = DestroySessionRequest {
        session: Some(destroy_session_request::Session::SessionId(id.to_owned())),
    };
    let answer = sessions
        .destroy_session(request)
        .await
        .map_err(|status| refusal(&status))?;
    ended(output, i64::from(answer.into_inner().existed))
}

fn ended(output: Output, count: i64) -> Result<(), Failure> {
    let noun = match count {
        1 => "session has",
        _ => "sessions have",
    };
    output.sentence(
        &format!("{count} {noun} ended"),
        &json!({ "revoked_count": count }),
    )
}

async fn list(
    sessions: &mut AuthServiceClient<Channel>,
    user_id: String,
    output: Output,
) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListSessionsRequest {
            owner: Some(list_sessions_request::Owner::UserId(user_id.clone())),
            page_size: PAGE,
            page_token,
        };
        let page = sessions
            .list_sessions(request)
            .await
            .map_err(|status| refusal(&status))?
            .into_inner();
        rows.extend(
            page.sessions
                .iter()
                .map(|session| (as_cells(session), as_json(session))),
        );
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    output.rows(["ID", "CREATED", "LAST SEEN", "EXPIRES", "IP", "CLIENT"], &rows)
}

fn as_cells(session: &Session) -> [String; 6] {
    let client = session.client.clone().unwrap_or_default();
    let name = match client.label.is_empty() {
        true => client.user_agent,
        false => client.label,
    };
    [
        session.id.clone(),
        instant(session.created_at.as_ref()),
        instant(session.last_seen_at.as_ref()),
        instant(session.expires_at.as_ref()),
        client.ip,
        name,
    ]
}

fn as_json(session: &Session) -> Value {
    let client = session.client.clone().unwrap_or_default();
    json!({
        "id": session.id,
        "user_id": session.user_id,
        "created_at": instant(session.created_at.as_ref()),
        "last_seen_at": instant(session.last_seen_at.as_ref()),
        "expires_at": instant(session.expires_at.as_ref()),
        "authenticated_at": instant(session.authenticated_at.as_ref()),
        "client": {"ip": client.ip, "user_agent": client.user_agent, "label": client.label},
        "attributes": session.attributes,
    })
}
