//! The HTTP gateway: cookies and REST in, RPCs out. An ordinary client of the contract, with no store and no state.

mod body;
mod client_address;
mod cookie;
mod cors;
mod credentials;
mod cross_site;
mod form;
mod identity;
mod json_view;
mod middleware;
mod origin;
mod page;
mod problem;
mod request_context;
mod response_headers;
mod routes;
mod single_header;
mod status_mapping;
mod transport;
mod upstream;

pub use client_address::{AddressBlock, InvalidAddressBlock};
pub use cookie::{CookieName, InvalidCookieName};
pub use origin::{InvalidOrigin, Origin};
pub use upstream::connect;

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
    routing::{delete, get, post},
};
use routes::{auth_session, me, sessions, status, users};
use std::{sync::Arc, time::Duration};
use tonic::transport::Channel;
use tower_http::{catch_panic::CatchPanicLayer, normalize_path::NormalizePath};
use upstream::Upstream;

/// How the gateway behaves.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The session cookie's name. Over https it carries the prefix `__Host-`.
    pub cookie_name: CookieName,
    /// Whether the gateway listens on a loopback address without TLS. Then a request that names a loopback host and passed no proxy
    /// gets a cookie without prefix and `Secure`; every other request gets the full one.
    pub listens_on_plain_loopback: bool,
    /// Where browsers find the gateway. Decides what is cross-site and whether the cookie is `Secure`. `None`: the host that each
    /// request names decides.
    pub public_origin: Option<Origin>,
    /// Other origins whose pages may use the gateway with the user's cookie.
    pub allowed_origins: Vec<Origin>,
    /// Whether everyone may create a user; otherwise only administrators.
    pub registration: bool,
    /// Whether a guarded route takes `Authorization: Basic` in place of a session, for that one request. A session cookie goes first.
    ///
    /// Each such request costs a password check, and creates and ends a session: at the cap of sessions per user, the user's oldest
    /// makes room for it.
    pub basic_auth: bool,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<AddressBlock>,
    /// How long one call to the service may take.
    pub call_timeout: Duration,
    /// How fresh the log-in must be for a new email and for ending sessions. `None`: however old.
    pub reauthentication_age: Option<Duration>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            cookie_name: CookieName::default(),
            listens_on_plain_loopback: false,
            public_origin: None,
            allowed_origins: Vec::new(),
            registration: true,
            basic_auth: false,
            trusted_proxies: Vec::new(),
            call_timeout: Duration::from_secs(10),
            reauthentication_age: Some(Duration::from_secs(15 * 60)),
        }
    }
}

#[derive(Debug, Clone)]
struct Gateway {
    config: Arc<GatewayConfig>,
    upstream: Upstream,
}

/// The gateway's routes over a connection to the service.
///
/// The client's address is taken from the [`Peer`](crate::listener::Peer) that a listener puts into each request's extensions;
/// without it sessions have no address. The channel is best made by [`connect`]; while the service cannot be reached, answers are
/// 503.
pub fn router(config: GatewayConfig, channel: Channel) -> Router {
    let gateway = Gateway {
        upstream: Upstream::new(channel, config.call_timeout),
        config: Arc::new(config),
    };
    let routes = Router::new()
        .route("/api/v1/auth_session/login", post(auth_session::log_in))
        .route("/api/v1/auth_session/logout", delete(auth_session::log_out))
        .route("/api/v1/users/me", get(me::show).patch(me::change))
        .route("/api/v1/users/me/password", post(me::change_password))
        .route("/api/v1/users", get(users::list).post(users::register))
        .route(
            "/api/v1/users/{id}",
            get(users::show).put(users::change).delete(users::delete),
        )
        .route(
            "/api/v1/sessions",
            get(sessions::list).delete(sessions::end_others),
        )
        .route("/api/v1/sessions/{id}", delete(sessions::end))
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/stats", get(status::stats))
        .fallback(middleware::no_route)
        .method_not_allowed_fallback(middleware::no_method)
        .layer(from_fn(middleware::note_route))
        .with_state(gateway.clone());
    with_middleware(gateway, routes)
}

/// The routes with all that lies between them and the outside.
fn with_middleware(gateway: Gateway, routes: Router) -> Router {
    // Paths are trimmed before they are matched, so the trimming stands between two routers.
    Router::new()
        .fallback_service(NormalizePath::trim_trailing_slash(routes))
        .layer(CatchPanicLayer::custom(middleware::answer_panic))
        .layer(from_fn_with_state(gateway, middleware::handle))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    #[tokio::test]
    async fn s_94_a_panic_in_a_route_is_a_problem_without_its_message() {
        let channel = Channel::from_static("http://127.0.0.1:1").connect_lazy();
        let gateway = Gateway {
            upstream: Upstream::new(channel, Duration::from_secs(1)),
            config: Arc::default(),
        };
        async fn defect() -> &'static str {
            panic!("a secret message")
        }
        let routes = Router::new().route("/", get(defect));
        let request = http::Request::get("/")
            .header("host", "a")
            .body(Body::empty())
            .unwrap();
        let response = with_middleware(gateway, routes).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["type"], "urn:sessiond:problem:internal");
        assert!(!body.to_string().contains("secret"));
    }
}
