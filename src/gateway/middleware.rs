//! What every request passes on its way in, and every answer on its way out, whatever the route.

use super::{
    Gateway, cors, cross_site,
    problem::{self, Problem, ProblemKind},
    request_context::RequestContext,
    response_headers,
};
use crate::contract::REQUEST_ID;
use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use std::{any::Any, time::Instant};

const BASIC_CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"sessiond\", charset=\"UTF-8\"");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The outermost layer: admits the request, then dresses the answer.
pub(super) async fn handle(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    let context = RequestContext::of(&parts, &gateway.config);
    let method = parts.method.clone();
    let is_browser = parts.headers.contains_key(SEC_FETCH_SITE);
    let named_origin = cors::named_origin(&parts.headers, &gateway.config.allowed_origins);

    let admitted = gateway.admit(&context, &method, &parts.headers, parts.version);
    let mut response = match admitted {
        Err(problem) => problem.into_response(),
        Ok(()) if named_origin.is_some() && cors::is_preflight(&method, &parts.headers) => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            cors::allow_sending(response.headers_mut());
            response
        }
        Ok(()) => {
            parts.extensions.insert(context.clone());
            next.run(Request::from_parts(parts, body)).await
        }
    };

    let problem = response.extensions_mut().remove::<Problem>();
    if let Some(problem) = &problem {
        let body = problem.body(context.request_id.as_str());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, problem::CONTENT_TYPE);
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        *response.body_mut() = Body::from(body);
    }
    let methods = response.headers().get(header::ALLOW).map(HeaderValue::as_bytes);
    if let Some(methods) =
        methods.and_then(|methods| HeaderValue::from_bytes(&[methods, b",OPTIONS"].concat()).ok())
    {
        response.headers_mut().insert(header::ALLOW, methods);
    }
    let route = response.extensions_mut().remove::<Route>();
    let status = response.status();
    let headers = response.headers_mut();
    // A browser would open its own log-in window for this challenge.
    if status == StatusCode::UNAUTHORIZED && gateway.config.basic_auth && !is_browser {
        headers.append(header::WWW_AUTHENTICATE, BASIC_CHALLENGE);
    }
    if !gateway.config.allowed_origins.is_empty() {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = named_origin {
            cors::allow_reading(headers, origin);
        }
    }
    if let Ok(id) = HeaderValue::from_str(context.request_id.as_str()) {
        headers.insert(REQUEST_ID, id);
    }
    response_headers::add(headers, context.transport);

    tracing::info!(
        request_id = context.request_id.as_str(),
        %method,
        // The pattern, not the path: a path may hold what somebody put there by mistake.
        route = route.as_ref().map_or("none", |route| route.0.as_str()),
        status = status.as_u16(),
        problem = problem.map(|problem| tracing::field::debug(problem.kind())),
        elapsed_ms = started.elapsed().as_millis(),
        "request"
    );
    response
}

/// The pattern that a request's path matched: an extension of the response, for the log.
#[derive(Debug, Clone)]
struct Route(MatchedPath);

/// The innermost layer: notes which route a request took.
pub(super) async fn note_route(path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(path) = path {
        response.extensions_mut().insert(Route(path));
    }
    response
}

impl Gateway {
    /// Whether the request may go on to a route at all.
    fn admit(
        &self,
        context: &RequestContext,
        method: &Method,
        headers: &HeaderMap,
        version: http::Version,
    ) -> Result<(), Problem> {
        let known = [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ];
        if !known.contains(method) {
            return Err(ProblemKind::MethodUnknown.into());
        }
        context.check_host(version)?;
        let own = self.config.public_origin.as_ref();
        let is_own = |origin: &_| context.is_own_origin(origin, own);
        match cross_site::is_allowed(method, headers, is_own, &self.config.allowed_origins) {
            true => Ok(()),
            false => Err(ProblemKind::CrossSite.into()),
        }
    }
}

/// A panic in a route is a defect: logged, and answered like every other problem.
pub(super) fn answer_panic(panic: Box<dyn Any + Send + 'static>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(message, "a route panicked");
    Problem::from(ProblemKind::Internal).into_response()
}

/// There is no such route.
pub(super) async fn no_route() -> Problem {
    ProblemKind::NotFound.into()
}

/// The route has no such method, or is asked which it has. The router adds the Allow header.
pub(super) async fn no_method(method: Method) -> Response {
    match method == Method::OPTIONS {
        true => StatusCode::NO_CONTENT.into_response(),
        false => Problem::from(ProblemKind::MethodNotAllowed).into_response(),
    }
}
