//! `/api/v1/sessions`: the sessions of the user who asks.

use crate::{
    contract::SESSIONS_PAGE,
    domain::SessionId,
    gateway::{
        Gateway,
        identity::Identity,
        json_view,
        page::PageQuery,
        problem::{Problem, ProblemKind},
        request_context::RequestContext,
    },
    pb,
};
use axum::{
    Extension, Json,
    extract::{Path, RawQuery, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use http::HeaderMap;
use serde_json::{Value, json};

/// `GET`: my sessions, newest first.
pub(in crate::gateway) async fn list(
    State(gateway): State<Gateway>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let identity = gateway.identify(&context, &headers).await?;
    let page = PageQuery::of_query(query.as_deref())?;
    let found = gateway.sessions_of(&context, &identity, page).await?;
    let sessions: Vec<_> = found
        .sessions
        .iter()
        .map(|session| json_view::session(session, session.id == identity.session_id()))
        .collect();
    Ok(Json(
        json!({ "sessions": sessions, "next_page_token": found.next_page_token }),
    ))
}

/// `DELETE …/{id}`: ends one of my sessions; with the current one it is a log-out.
pub(in crate::gateway) async fn end(
    State(gateway): State<Gateway>,
    Extension(context): Extension<RequestContext>,
    id: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let identity = gateway.identify_afresh(&context, &headers).await?;
    let Path(id) = id.map_err(|_| ProblemKind::NotFound)?;
    let id: SessionId = id.parse().map_err(|_| ProblemKind::NotFound)?;
    let id = id.to_string();
    let is_current = identity.session_id() == id;
    if !is_current && !gateway.owns_session(&context, &identity, &id).await? {
        return Err(ProblemKind::NotFound.into());
    }
    let request = pb::DestroySessionRequest {
        session: Some(pb::destroy_session_request::Session::SessionId(id)),
    };
    gateway.upstream.destroy_session(&context, request).await?;
    let answer = Json(json!({})).into_response();
    match is_current {
        true => Ok(gateway.forget_session(&context, answer)),
        false => Ok(answer),
    }
}

/// `DELETE`: ends all my other sessions.
pub(in crate::gateway) async fn end_others(
    State(gateway): State<Gateway>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let identity = gateway.identify_afresh(&context, &headers).await?;
    let request = pb::RevokeSessionsRequest {
        except_session_id: identity.session_id().to_owned(),
        target: Some(pb::revoke_sessions_request::Target::UserId(identity.user.id)),
    };
    let revoked = gateway.upstream.revoke_sessions(&context, request).await?;
    Ok(Json(json!({ "revoked_count": revoked.revoked_count })))
}

impl Gateway {
    async fn sessions_of(
        &self,
        context: &RequestContext,
        identity: &Identity,
        page: PageQuery,
    ) -> Result<pb::ListSessionsResponse, Problem> {
        let request = pb::ListSessionsRequest {
            owner: Some(pb::list_sessions_request::Owner::UserId(identity.user.id.clone())),
            page_size: page.size,
            page_token: page.token,
        };
        self.upstream.list_sessions(context, request).await
    }

    /// Whether the session is one of the user's. The service ends any session that a caller names, so the gateway has to
    /// find out first whose it is.
    async fn owns_session(
        &self,
        context: &RequestContext,
        identity: &Identity,
        id: &str,
    ) -> Result<bool, Problem> {
        let mut token = String::new();
        loop {
            let page = PageQuery {
                size: SESSIONS_PAGE.max.try_into().unwrap_or_default(),
                token,
            };
            let found = self.sessions_of(context, identity, page).await?;
            if found.sessions.iter().any(|session| session.id == id) {
                return Ok(true);
            }
            if found.next_page_token.is_empty() {
                return Ok(false);
            }
            token = found.next_page_token;
        }
    }
}
