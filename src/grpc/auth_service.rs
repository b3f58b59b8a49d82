//! `AuthService`: each method takes the message out, calls the use case and converts the answer.

use super::{
    bulk, convert,
    convert::Fields,
    watch::{self, Watching},
};
use crate::{
    auth::{Auth, AuthError, RevocationTarget, SessionOwner},
    contract::SESSIONS_PAGE,
    domain::TokenDigest,
    pb::{self, auth_service_server::AuthService},
    store::SessionKey,
};
use tokio::sync::watch as signal;
use tonic::{Request, Response, Status, Streaming};

/// Sessions over gRPC.
#[derive(Clone)]
pub(super) struct Sessions {
    auth: Auth,
    /// Turns true when the server drains, which ends the streams that would never end by themselves.
    draining: signal::Receiver<bool>,
}

impl Sessions {
    pub(super) fn new(auth: Auth, draining: signal::Receiver<bool>) -> Self {
        Self { auth, draining }
    }
}

#[tonic::async_trait]
impl AuthService for Sessions {
    async fn create_session(
        &self,
        request: Request<pb::CreateSessionRequest>,
    ) -> Result<Response<pb::CreateSessionResponse>, Status> {
        let log_in = convert::log_in(request.into_inner()).map_err(AuthError::from)?;
        Ok(Response::new(self.auth.log_in(log_in).await?.into()))
    }

    async fn user_id_for_session(
        &self,
        request: Request<pb::UserIdForSessionRequest>,
    ) -> Result<Response<pb::UserIdForSessionResponse>, Status> {
        let pb::UserIdForSessionRequest { session_token } = request.into_inner();
        Ok(Response::new(
            self.auth.check(&session_token).wait().await?.into(),
        ))
    }

    async fn current_user(
        &self,
        request: Request<pb::CurrentUserRequest>,
    ) -> Result<Response<pb::CurrentUserResponse>, Status> {
        let pb::CurrentUserRequest {
            session_token,
            max_auth_age,
        } = request.into_inner();
        let mut fields = Fields::default();
        let max_auth_age = fields.duration("max_auth_age", max_auth_age);
        let max_auth_age = fields.finish(max_auth_age).map_err(AuthError::from)?;
        let current = self.auth.current_user(&session_token, max_auth_age).await?;
        Ok(Response::new(pb::CurrentUserResponse {
            user: Some(current.user.into()),
            session: Some(current.session.into()),
        }))
    }

    async fn destroy_session(
        &self,
        request: Request<pb::DestroySessionRequest>,
    ) -> Result<Response<pb::DestroySessionResponse>, Status> {
        use pb::destroy_session_request::Session as Pb;
        let mut fields = Fields::default();
        let key = match request.into_inner().session {
            None => {
                fields.refuse("session", "missing: session_token or session_id");
                None
            }
            Some(Pb::SessionToken(token)) => Some(TokenDigest::of_presented(&token).map(SessionKey::Token)),
            Some(Pb::SessionId(id)) => fields.parse("session_id", &id).map(|id| Some(SessionKey::Id(id))),
        };
        let key = fields.finish(key).map_err(AuthError::from)?;
        Ok(Response::new(pb::DestroySessionResponse {
            existed: self.auth.destroy(key).await?,
        }))
    }

    async fn list_sessions(
        &self,
        request: Request<pb::ListSessionsRequest>,
    ) -> Result<Response<pb::ListSessionsResponse>, Status> {
        use pb::list_sessions_request::Owner as Pb;
        let pb::ListSessionsRequest {
            owner,
            page_size,
            page_token,
        } = request.into_inner();
        let mut fields = Fields::default();
        let owner = match owner {
            None => {
                fields.refuse("owner", "missing: user_id or session_token");
                None
            }
            Some(Pb::UserId(id)) => fields.parse("user_id", &id).map(SessionOwner::User),
            Some(Pb::SessionToken(token)) => Some(SessionOwner::Token(token)),
        };
        let page_size = fields.page_size(page_size, SESSIONS_PAGE);
        let before = fields.parse_optional("page_token", &page_token);
        let parts = owner.zip(page_size).zip(before);
        let ((owner, page_size), before) = fields.finish(parts).map_err(AuthError::from)?;
        let page = self.auth.list_sessions(owner, before, page_size).await?;
        let listed = page
            .sessions
            .into_iter()
            .map(|session| convert::listed_session(session, page.current));
        Ok(Response::new(pb::ListSessionsResponse {
            sessions: listed.collect(),
            next_page_token: page.next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    async fn revoke_sessions(
        &self,
        request: Request<pb::RevokeSessionsRequest>,
    ) -> Result<Response<pb::RevokeSessionsResponse>, Status> {
        use pb::revoke_sessions_request::Target as Pb;
        let pb::RevokeSessionsRequest {
            target,
            except_session_id,
        } = request.into_inner();
        let mut fields = Fields::default();
        let except = fields.parse_optional("except_session_id", &except_session_id);
        let target = match (target, except) {
            (None, _) => {
                fields.refuse("target", "missing: user_id or everyone");
                None
            }
            (Some(Pb::Everyone(pb::Everyone {})), Some(None)) => Some(RevocationTarget::Everyone),
            (Some(Pb::Everyone(pb::Everyone {})), _) => {
                fields.refuse("except_session_id", "must be empty with everyone");
                None
            }
            (Some(Pb::UserId(id)), except) => {
                let user = fields.parse("user_id", &id);
                user.zip(except)
                    .map(|(user, except)| RevocationTarget::User { user, except })
            }
        };
        let target = fields.finish(target).map_err(AuthError::from)?;
        let count = self.auth.revoke(target).await?;
        Ok(Response::new(pb::RevokeSessionsResponse {
            revoked_count: i64::try_from(count).unwrap_or(i64::MAX),
        }))
    }

    async fn rotate_session(
        &self,
        request: Request<pb::RotateSessionRequest>,
    ) -> Result<Response<pb::RotateSessionResponse>, Status> {
        let pb::RotateSessionRequest { session_token, grace } = request.into_inner();
        let mut fields = Fields::default();
        let grace = fields.duration("grace", grace);
        let grace = fields.finish(grace).map_err(AuthError::from)?;
        Ok(Response::new(
            self.auth.rotate(&session_token, grace).await?.into(),
        ))
    }

    async fn batch_user_id_for_session(
        &self,
        request: Request<pb::BatchUserIdForSessionRequest>,
    ) -> Result<Response<pb::BatchUserIdForSessionResponse>, Status> {
        let pb::BatchUserIdForSessionRequest { session_tokens } = request.into_inner();
        let checks = bulk::check_all(&self.auth, &session_tokens).await?;
        let checks = checks.into_iter().map(bulk::wire).collect();
        Ok(Response::new(pb::BatchUserIdForSessionResponse { checks }))
    }

    type StreamUserIdForSessionStream = bulk::Checks;

    async fn stream_user_id_for_session(
        &self,
        request: Request<Streaming<pb::StreamUserIdForSessionRequest>>,
    ) -> Result<Response<Self::StreamUserIdForSessionStream>, Status> {
        let checks = bulk::check_stream(self.auth.clone(), request.into_inner(), self.draining.clone());
        Ok(Response::new(checks))
    }

    type WatchRevocationsStream = Watching;

    async fn watch_revocations(
        &self,
        request: Request<pb::WatchRevocationsRequest>,
    ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
        let pb::WatchRevocationsRequest { cursor } = request.into_inner();
        let mut fields = Fields::default();
        let after = fields.parse_optional("cursor", &cursor);
        let after = fields.finish(after).map_err(AuthError::from)?;
        let log = self.auth.revocations().clone();
        Ok(Response::new(watch::watch(log, after, self.draining.clone())))
    }

    async fn get_stats(
        &self,
        request: Request<pb::GetStatsRequest>,
    ) -> Result<Response<pb::GetStatsResponse>, Status> {
        let pb::GetStatsRequest {} = request.into_inner();
        let stats = self.auth.stats().await?;
        Ok(Response::new(pb::GetStatsResponse {
            user_count: i64::try_from(stats.users).unwrap_or(i64::MAX),
            session_count: i64::try_from(stats.sessions).unwrap_or(i64::MAX),
        }))
    }
}
