//! `/api/v1/auth_session`: log in and log out.

use crate::{
    gateway::{
        Gateway, cookie, credentials,
        identity::TokenInCookie,
        json_view,
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
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::json;

const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
/// Not "cookies": that would take along the cookies of every other application on the registered domain. Ours is cleared by name.
const CACHE_AND_STORAGE: HeaderValue = HeaderValue::from_static("\"cache\", \"storage\"");

/// `POST …/login`: email and password in, the user and a session cookie out.
pub(in crate::gateway) async fn log_in(
    State(gateway): State<Gateway>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    // The session that the browser already has dies with this log-in: nobody keeps a token that was planted before it.
    let replaced = match gateway.token_in_cookie(&context, &headers)? {
        TokenInCookie::Token(token) => token.to_owned(),
        TokenInCookie::NoCookie | TokenInCookie::Malformed => String::new(),
    };
    let credential = credentials::of_login(&headers, body).await?;
    let request = pb::CreateSessionRequest {
        replaces_session_token: replaced,
        ..gateway.log_in_request(&context, credential)
    };
    let created = gateway.upstream.create_session(&context, request).await?;
    let user = created.user.ok_or(ProblemKind::ServiceFailed)?;
    let cookie = gateway.set_cookie(&context, &created.session_token)?;
    Ok(([(header::SET_COOKIE, cookie)], Json(json_view::user(&user))).into_response())
}

/// `DELETE …/logout`: ends the session and clears the cookie. 401 if there was no session to end; the cookie is cleared even so.
pub(in crate::gateway) async fn log_out(
    State(gateway): State<Gateway>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let existed = match gateway.token_in_cookie(&context, &headers)? {
        TokenInCookie::NoCookie => return Err(ProblemKind::NoSession.into()),
        TokenInCookie::Malformed => false,
        TokenInCookie::Token(token) => {
            let request = pb::DestroySessionRequest {
                session: Some(pb::destroy_session_request::Session::SessionToken(
                    token.to_owned(),
                )),
            };
            gateway.upstream.destroy_session(&context, request).await?.existed
        }
    };
    let answer = match existed {
        true => Json(json!({})).into_response(),
        false => Problem::from(ProblemKind::NoSession).into_response(),
    };
    Ok(gateway.forget_session(&context, answer))
}

impl Gateway {
    /// # Errors
    /// [`ProblemKind::ServiceFailed`] if the service gave something that is no token.
    pub(super) fn set_cookie(&self, context: &RequestContext, token: &str) -> Result<HeaderValue, Problem> {
        cookie::set(&self.config.cookie_name, context.transport, token)
            .ok_or_else(|| ProblemKind::ServiceFailed.into())
    }

    /// Makes the browser forget what it has of the session. Only a log-out does this. A mere 401 does not: it may answer a request
    /// that was sent before the latest log-in, and must not take that log-in's cookie away.
    pub(super) fn forget_session(&self, context: &RequestContext, mut answer: Response) -> Response {
        let headers = answer.headers_mut();
        if let Some(cookie) = cookie::clear(&self.config.cookie_name, context.transport) {
            headers.insert(header::SET_COOKIE, cookie);
        }
        headers.insert(CLEAR_SITE_DATA, CACHE_AND_STORAGE);
        answer
    }
}
