//! `/api/v1/users/me`: the user who asks.

use super::users::{UserChange, changed_user};
use crate::{
    gateway::{
        Gateway,
        body::JsonFields,
        problem::{Problem, ProblemKind},
        request_context::RequestContext,
    },
    pb,
};
use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header};
use serde_json::json;

/// `GET`: the user.
pub(in crate::gateway) async fn show(
    State(gateway): State<Gateway>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let identity = gateway.identify(&context, &headers).await?;
    Ok(super::users::user_response(&identity.user))
}

/// `PATCH`: names and email. A new email takes a fresh log-in: whoever has the email has the account.
pub(in crate::gateway) async fn change(
    State(gateway): State<Gateway>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut identity = gateway.identify(&context, &headers).await?;
    let mut fields = JsonFields::read(&headers, body).await?;
    let change = UserChange {
        email: fields.optional_text("email"),
        first_name: fields.optional_text("first_name"),
        last_name: fields.optional_text("last_name"),
        roles: None,
    };
    fields.finish()?;
    if change.email.is_some() {
        identity = gateway.identify_afresh(&context, &headers).await?;
    }
    changed_user(
        &gateway,
        &context,
        &headers,
        identity.user.id,
        change,
        String::new(),
    )
    .await
}

/// `POST …/password`: a new password for the current one. All sessions end; this one goes on under a new token.
pub(in crate::gateway) async fn change_password(
    State(gateway): State<Gateway>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let identity = gateway.identify(&context, &headers).await?;
    let mut fields = JsonFields::read(&headers, body).await?;
    let subject = match identity.session {
        Some(session) => pb::change_password_request::Subject::SessionToken(session.token),
        None => pb::change_password_request::Subject::UserId(identity.user.id),
    };
    let request = pb::ChangePasswordRequest {
        subject: Some(subject),
        current_password: fields.text("current_password"),
        new_password: fields.text("new_password"),
    };
    fields.finish()?;
    let changed = gateway.upstream.change_password(&context, request).await;
    let changed = changed.map_err(|problem| match problem.kind() == ProblemKind::WrongCredentials {
        // 401 would say that the session is gone.
        true => ProblemKind::WrongCurrentPassword.into(),
        false => problem,
    })?;
    let answer = Json(json!({}));
    match changed.session_token.is_empty() {
        true => Ok(answer.into_response()),
        false => {
            let cookie = gateway.set_cookie(&context, &changed.session_token)?;
            Ok(([(header::SET_COOKIE, cookie)], answer).into_response())
        }
    }
}
