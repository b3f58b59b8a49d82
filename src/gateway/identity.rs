//! The user of a request: the one whom its session cookie, or its Basic credentials, prove.

use super::{
    Gateway,
    cookie::{self, Presented},
    credentials,
    problem::{Problem, ProblemKind},
    request_context::RequestContext,
};
use crate::pb;
use http::HeaderMap;
use std::time::Duration;

/// The role that the administration routes ask for.
const ADMIN: &str = "admin";

/// How long the session behind a one-shot check lives if ending it fails.
const ONE_SHOT_LIFETIME: Duration = Duration::from_secs(1);

/// The user of a request. No `Debug`: it may hold a token.
pub(super) struct Identity {
    pub(super) user: pb::User,
    /// The session that the cookie proves; `None` after a one-shot check, which leaves none.
    pub(super) session: Option<CurrentSession>,
}

/// The session that a request is made in.
pub(super) struct CurrentSession {
    pub(super) token: String,
    pub(super) id: String,
}

impl Identity {
    /// The id of the current session, or an empty text without one, as the contract wants it.
    pub(super) fn session_id(&self) -> &str {
        self.session.as_ref().map_or("", |session| &session.id)
    }

    /// # Errors
    /// [`ProblemKind::Forbidden`] unless the user has the role.
    pub(super) fn must_be_admin(&self) -> Result<(), Problem> {
        match self.user.roles.iter().any(|role| role == ADMIN) {
            true => Ok(()),
            false => Err(ProblemKind::Forbidden.into()),
        }
    }
}

impl Gateway {
    /// The session cookie as this request carries it. The browser's word for the cookie depends on how it reached the gateway.
    ///
    /// # Errors
    /// [`ProblemKind::SeveralCookies`]: nothing shows which of them is the user's.
    pub(super) fn token_in_cookie<'a>(
        &self,
        context: &RequestContext,
        headers: &'a HeaderMap,
    ) -> Result<TokenInCookie<'a>, Problem> {
        let name = self.config.cookie_name.over(context.transport);
        match cookie::presented(headers, &name) {
            Presented::Nothing => Ok(TokenInCookie::NoCookie),
            Presented::Token(token) => Ok(TokenInCookie::Token(token)),
            Presented::Malformed => Ok(TokenInCookie::Malformed),
            Presented::Several => Err(ProblemKind::SeveralCookies.into()),
        }
    }

    /// The user of the request.
    ///
    /// # Errors
    /// [`ProblemKind::NoSession`] without a live session, and those of the check itself.
    pub(super) async fn identify(
        &self,
        context: &RequestContext,
        headers: &HeaderMap,
    ) -> Result<Identity, Problem> {
        self.identify_within(context, headers, None).await
    }

    /// The user of the request, if they proved who they are no longer ago than `reauthentication_age` of the configuration.
    ///
    /// # Errors
    /// [`ProblemKind::ReauthenticationRequired`] if it was longer ago, and those of [`Gateway::identify`].
    pub(super) async fn identify_afresh(
        &self,
        context: &RequestContext,
        headers: &HeaderMap,
    ) -> Result<Identity, Problem> {
        self.identify_within(context, headers, self.config.reauthentication_age)
            .await
    }

    /// An administrator.
    ///
    /// # Errors
    /// [`ProblemKind::Forbidden`] for any other user, and those of [`Gateway::identify`].
    pub(super) async fn identify_admin(
        &self,
        context: &RequestContext,
        headers: &HeaderMap,
    ) -> Result<Identity, Problem> {
        let identity = self.identify(context, headers).await?;
        identity.must_be_admin()?;
        Ok(identity)
    }

    async fn identify_within(
        &self,
        context: &RequestContext,
        headers: &HeaderMap,
        max_auth_age: Option<Duration>,
    ) -> Result<Identity, Problem> {
        match self.token_in_cookie(context, headers)? {
            TokenInCookie::Token(token) => self.check_session(context, token, max_auth_age).await,
            TokenInCookie::Malformed => Err(ProblemKind::NoSession.into()),
            TokenInCookie::NoCookie if self.config.basic_auth => match credentials::of_basic(headers) {
                Some(credential) => self.check_once(context, credential).await,
                None => Err(ProblemKind::NoSession.into()),
            },
            TokenInCookie::NoCookie => Err(ProblemKind::NoSession.into()),
        }
    }

    async fn check_session(
        &self,
        context: &RequestContext,
        token: &str,
        max_auth_age: Option<Duration>,
    ) -> Result<Identity, Problem> {
        let question = pb::CurrentUserRequest {
            session_token: token.to_owned(),
            max_auth_age: max_auth_age.and_then(|age| age.try_into().ok()),
        };
        let answer = self.upstream.current_user(context, question).await?;
        let (user, session) = answer
            .user
            .zip(answer.session)
            .ok_or(ProblemKind::ServiceFailed)?;
        Ok(Identity {
            user,
            session: Some(CurrentSession {
                token: token.to_owned(),
                id: session.id,
            }),
        })
    }

    /// Checks email and password for this one request. The contract checks passwords by creating a session, so one is created and
    /// ended at once.
    async fn check_once(
        &self,
        context: &RequestContext,
        credential: pb::PasswordCredential,
    ) -> Result<Identity, Problem> {
        let (gateway, context) = (self.clone(), context.clone());
        // On a task of its own, so that a client that hangs up cannot leave the session behind.
        let check = tokio::spawn(async move {
            let request = pb::CreateSessionRequest {
                lifetime: ONE_SHOT_LIFETIME.try_into().ok(),
                ..gateway.log_in_request(&context, credential)
            };
            let created = gateway.upstream.create_session(&context, request).await?;
            let user = created.user.ok_or(ProblemKind::ServiceFailed)?;
            let end = pb::DestroySessionRequest {
                session: Some(pb::destroy_session_request::Session::SessionToken(
                    created.session_token,
                )),
            };
            // Nobody has its token any more and its lifetime ends it soon, so the user need not hear of a failure.
            let _ = gateway.upstream.destroy_session(&context, end).await;
            Ok(Identity { user, session: None })
        });
        check.await.unwrap_or_else(|_| Err(ProblemKind::Internal.into()))
    }

    /// A log-in with this credential by the client that `context` describes.
    pub(super) fn log_in_request(
        &self,
        context: &RequestContext,
        credential: pb::PasswordCredential,
    ) -> pb::CreateSessionRequest {
        pb::CreateSessionRequest {
            credential: Some(pb::create_session_request::Credential::Password(credential)),
            client: Some(pb::Client {
                ip: context.client_ip.map(|ip| ip.to_string()).unwrap_or_default(),
                user_agent: context.user_agent.clone(),
                label: String::new(),
            }),
            ..Default::default()
        }
    }
}

/// The token that a request's cookie holds. No `Debug`: it is the secret.
pub(super) enum TokenInCookie<'a> {
    /// There is no session cookie.
    NoCookie,
    /// There is one, and its value cannot be a token.
    Malformed,
    /// There is one.
    Token(&'a str),
}
