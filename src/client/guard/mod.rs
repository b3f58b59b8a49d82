//! The check in front of a service: a tower layer for axum, tonic and whatever else speaks `http`.

mod denial;
mod path_pattern;
mod token_locations;

use self::{
    denial::Denial,
    path_pattern::{PathPattern, is_excluded},
    token_locations::{RequestToken, TokenLocations},
};
use super::{CheckError, CheckedSession, SessionClient};
use crate::contract::SESSION_TOKEN;
use bytes::Bytes;
use futures_util::{
    TryFutureExt as _,
    future::{self, BoxFuture, MapOk},
};
use http::{HeaderName, Request, Response};
use http_body_util::{Either, Full};
use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower::{Layer, Service};
use zeroize::Zeroizing;

pub use path_pattern::InvalidPathPattern;

/// The body of the service's own answer, or that of a refusal.
pub type GuardBody<B> = Either<B, Full<Bytes>>;

/// Lets only those requests through to a service that prove a session, and tells the service whose it is: as a
/// [`CheckedSession`] in the request's extensions, which nothing that comes over the network can put there.
///
/// The token is read from the metadata (header) `session-token` and from `authorization: Bearer …`, and from a cookie if one is
/// named. A request that carries two different tokens, or two cookies of the name, is refused.
///
/// Others are refused: gRPC requests by a status, all others by problem+json.
///
/// | the request | gRPC | HTTP |
/// |---|---|---|
/// | proves no session | UNAUTHENTICATED | 401 |
/// | proves one whose log-in is too old | FAILED_PRECONDITION | 401 |
/// | cannot be decision now: not "logged out" | UNAVAILABLE | 503 |
#[derive(Debug, Clone)]
pub struct RequireSession {
    client: SessionClient,
    rules: Arc<GuardRules>,
}

#[derive(Debug, Clone)]
struct GuardRules {
    locations: TokenLocations,
    excluded: Vec<PathPattern>,
    max_auth_age: Option<Duration>,
}

impl RequireSession {
    /// Requires a session of every request.
    #[must_use]
    pub fn new(client: SessionClient) -> Self {
        let locations = TokenLocations {
            metadata: Some(SESSION_TOKEN),
            is_bearer_read: true,
            cookie: None,
        };
        let rules = GuardRules {
            locations,
            excluded: Vec::new(),
            max_auth_age: None,
        };
        Self {
            client,
            rules: Arc::new(rules),
        }
    }

    /// Reads the token from this cookie, too. Browsers send cookies on requests that other sites cause: the service must refuse
    /// those by other means.
    #[must_use]
    pub fn cookie(self, name: &str) -> Self {
        self.with(|rules| rules.locations.cookie = Some(name.into()))
    }

    /// Reads the token from this metadata (header) instead of `session-token`; from none, if there is no name.
    #[must_use]
    pub fn metadata(self, name: Option<HeaderName>) -> Self {
        self.with(|rules| rules.locations.metadata = name)
    }

    /// Does not read the token from `authorization`, for services that take other credentials there.
    #[must_use]
    pub fn no_bearer(self) -> Self {
        self.with(|rules| rules.locations.is_bearer_read = false)
    }

    /// Refuses sessions whose user proved who they are longer ago than this.
    #[must_use]
    pub fn max_auth_age(self, max_auth_age: Duration) -> Self {
        self.with(|rules| rules.max_auth_age = Some(max_auth_age))
    }

    /// Lets requests for these paths through without a session, and without telling the service of one. A path means itself,
    /// with or without a slash at its end; with `*` at its end, all paths that begin so. A request's path that is not canonical
    /// (dots, doubled slashes, percent signs) is never excluded.
    ///
    /// # Errors
    /// [`InvalidPathPattern`] for `*` anywhere else, and for paths that could never be meant.
    pub fn exclude<'a>(
        self,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, InvalidPathPattern> {
        let patterns: Vec<_> = patterns
            .into_iter()
            .map(PathPattern::parse)
            .collect::<Result<_, _>>()?;
        Ok(self.with(|rules| rules.excluded.extend(patterns)))
    }

    fn with(mut self, change: impl FnOnce(&mut GuardRules)) -> Self {
        change(Arc::make_mut(&mut self.rules));
        self
    }
}

impl<S> Layer<S> for RequireSession {
    type Service = SessionGuard<S>;

    fn layer(&self, inner: S) -> SessionGuard<S> {
        SessionGuard {
            inner,
            guard: self.clone(),
        }
    }
}

/// A service behind [`RequireSession`].
#[derive(Debug, Clone)]
pub struct SessionGuard<S> {
    inner: S,
    guard: RequireSession,
}

/// What can be decided about a request without waiting.
enum Decision {
    Allow(Option<CheckedSession>),
    Deny(Denial),
    NeedsCheck(Zeroizing<String>),
}

impl GuardRules {
    fn decide<B>(&self, client: &SessionClient, request: &Request<B>) -> Decision {
        if is_excluded(&self.excluded, request.uri().path()) {
            return Decision::Allow(None);
        }
        match self.locations.token(request.headers()) {
            RequestToken::Nothing | RequestToken::Ambiguous => Decision::Deny(Denial::NoSession),
            RequestToken::Token(token) => match client.try_cached(token) {
                Some(session) => match self.admit(Ok(session)) {
                    Ok(session) => Decision::Allow(Some(session)),
                    Err(denial) => Decision::Deny(denial),
                },
                None => Decision::NeedsCheck(Zeroizing::new(token.to_owned())),
            },
        }
    }

    fn admit(&self, checked: Result<CheckedSession, CheckError>) -> Result<CheckedSession, Denial> {
        let session = checked?;
        match self.max_auth_age {
            Some(max_auth_age) if session.auth_age > max_auth_age => Err(Denial::AuthTooOld(max_auth_age)),
            Some(_) | None => Ok(session),
        }
    }
}

type Wrapped<ResBody> = Response<GuardBody<ResBody>>;
type Wrap<ResBody> = fn(Response<ResBody>) -> Wrapped<ResBody>;

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for SessionGuard<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    ReqBody: Send + 'static,
    ResBody: Default + Send + 'static,
{
    type Response = Wrapped<ResBody>;
    type Error = S::Error;
    /// The service's own, a refusal, or a check and then either: only the last is boxed.
    type Future = future::Either<
        MapOk<S::Future, Wrap<ResBody>>,
        future::Either<
            future::Ready<Result<Wrapped<ResBody>, S::Error>>,
            BoxFuture<'static, Result<Wrapped<ResBody>, S::Error>>,
        >,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<ReqBody>) -> Self::Future {
        let Self { inner, guard } = self;
        // A layer in front of us may have put one there for another purpose: a service behind us relies on ours alone.
        request.extensions_mut().remove::<CheckedSession>();
        let decision = guard.rules.decide(&guard.client, &request);
        guard.rules.locations.mark_sensitive(request.headers_mut());
        match decision {
            Decision::Allow(session) => {
                if let Some(session) = session {
                    request.extensions_mut().insert(session);
                }
                future::Either::Left(inner.call(request).map_ok(wrap_response as Wrap<ResBody>))
            }
            Decision::Deny(denial) => {
                let response = denial.response(request.headers());
                future::Either::Right(future::Either::Left(future::ready(Ok(response))))
            }
            Decision::NeedsCheck(token) => {
                // The one that was polled ready is the one to be called.
                let next = inner.clone();
                let mut inner = mem::replace(inner, next);
                let RequireSession { client, rules } = guard.clone();
                let answer = async move {
                    match rules.admit(client.check(&token).await) {
                        Ok(session) => {
                            request.extensions_mut().insert(session);
                            inner.call(request).await.map(wrap_response)
                        }
                        Err(denial) => Ok(denial.response(request.headers())),
                    }
                };
                future::Either::Right(future::Either::Right(Box::pin(answer)))
            }
        }
    }
}

fn wrap_response<B>(response: Response<B>) -> Wrapped<B> {
    response.map(Either::Left)
}
