//! The user of a request: the one whom its session cookie, or its Basic credentials, prove.

use super::{
    Gateway,
    cookie::SessionCookies,
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
    /// The session cookies that this request carries. The browser's word for the cookie depends on how it reached the gateway.
    ///
    /// # Errors
    /// As [`SessionCookies::of`].
    pub(super) fn session_cookies<'a>(
        &self,
        context: &RequestContext,
        headers: &'a HeaderMap,
    ) -> Result<SessionCookies<'a>, ProblemKind> {
        SessionCookies::of(headers, &self.config.cookie_name.over(context.transport))
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
        let cookies = self.session_cookies(context, headers)?;
        match cookies.tokens() {
            [] if !cookies.is_any() && self.config.basic_auth => match credentials::of_basic(headers) {
                Some(credential) => self.check_once(context, credential).await,
                None => Err(ProblemKind::NoSession.into()),
            },
            [] => Err(ProblemKind::NoSession.into()),
            [token] => self.check_session(context, token, max_auth_age).await,
            tokens => {
                let token = self.one_live_among(context, tokens).await?;
                self.check_session(context, token, max_auth_age).await
            }
        }
    }

    /// The token that proves a session, if the others prove none or the same one.
    ///
    /// # Errors
    /// [`ProblemKind::SeveralCookies`] if there are two live sessions: one of them was planted, and nothing shows which.
    /// [`ProblemKind::NoSession`] if there is none. Whatever keeps one check from an answer.
    async fn one_live_among<'a>(
        &self,
        context: &RequestContext,
        tokens: &[&'a str],
    ) -> Result<&'a str, Problem> {
        let mut live: Option<(&str, String)> = None;
        for token in tokens {
            match self.check_session(context, token, None).await {
                Ok(identity) => {
                    let id = identity.session_id();
                    if live.as_ref().is_some_and(|(_, other)| other != id) {
                        return Err(ProblemKind::SeveralCookies.into());
                    }
                    live = Some((token, id.to_owned()));
                }
                Err(problem) if problem.kind() == ProblemKind::NoSession => {}
                Err(problem) => return Err(problem),
            }
        }
        live.map(|(token, _)| token)
            .ok_or_else(|| ProblemKind::NoSession.into())
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
