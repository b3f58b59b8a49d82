//! `/api/v1/auth_session`: log in and log out.

use crate::{
    gateway::{
        Gateway,
        cookie::{self, SessionCookies},
        credentials, json_view,
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
    let credential = credentials::of_login(&headers, body).await?;
    // The sessions that the browser already has die with this log-in: nobody keeps a token that was planted before it. But no cookie
    // can keep anybody from logging in.
    let cookies = gateway.session_cookies(&context, &headers).ok();
    let (replaced, others) = match cookies.as_ref().map(SessionCookies::tokens) {
        Some([first, others @ ..]) => (*first, others),
        Some([]) | None => ("", &[][..]),
    };
    let request = pb::CreateSessionRequest {
        replaces_session_token: replaced.to_owned(),
        ..gateway.log_in_request(&context, credential)
    };
    let created = gateway.upstream.create_session(&context, request).await?;
    for token in others {
        // The user is logged in; a session that could not be ended is told as a second one by the next request.
        let _ = gateway.end_session(&context, token).await;
    }
    let user = created.user.ok_or(ProblemKind::ServiceFailed)?;
    let cookie = gateway.set_cookie(&context, &created.session_token)?;
    Ok(([(header::SET_COOKIE, cookie)], Json(json_view::user(&user))).into_response())
}

/// `DELETE …/logout`: ends every session presented and clears the cookie. 401 if there was none to end; the cookie is cleared even so.
pub(in crate::gateway) async fn log_out(
    State(gateway): State<Gateway>,
    Extension(context): Extension<RequestContext>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let cookies = gateway.session_cookies(&context, &headers)?;
    if !cookies.is_any() {
        return Err(ProblemKind::NoSession.into());
    }
    let mut existed = false;
    for token in cookies.tokens() {
        existed |= gateway.end_session(&context, token).await?;
    }
    let answer = match existed {
        true => Json(json!({})).into_response(),
        false => Problem::from(ProblemKind::NoSession).into_response(),
    };
    Ok(gateway.forget_session(&context, answer))
}

impl Gateway {
    /// Ends the session that a token proves, and says whether there was one.
    async fn end_session(&self, context: &RequestContext, token: &str) -> Result<bool, Problem> {
        let request = pb::DestroySessionRequest {
            session: Some(pb::destroy_session_request::Session::SessionToken(
                token.to_owned(),
            )),
        };
        Ok(self.upstream.destroy_session(context, request).await?.existed)
    }

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
