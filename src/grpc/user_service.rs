//! `UserService`: each method takes the message out, calls the use case and converts the answer.

use super::convert::{self, Fields};
use crate::{
    auth::{Auth, AuthError, NewPassword, PasswordSubject, UserKey},
    contract::USERS_PAGE,
    domain::Password,
    pb::{self, user_service_server::UserService},
};
use std::mem;
use tonic::{Request, Response, Status};

/// Users over gRPC.
#[derive(Clone)]
pub(super) struct Users {
    auth: Auth,
}

impl Users {
    pub(super) fn new(auth: Auth) -> Self {
        Self { auth }
    }
}

/// The id in a request's field.
fn id_in<T: std::str::FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, AuthError> {
    let mut fields = Fields::default();
    let id = fields.parse(field, text);
    Ok(fields.finish(id)?)
}

#[tonic::async_trait]
impl UserService for Users {
    async fn create_user(
        &self,
        request: Request<pb::CreateUserRequest>,
    ) -> Result<Response<pb::CreateUserResponse>, Status> {
        let new = convert::new_user(request.into_inner()).map_err(AuthError::from)?;
        let user = self.auth.create_user(new).await?;
        Ok(Response::new(pb::CreateUserResponse {
            user: Some(user.into()),
        }))
    }

    async fn get_user(
        &self,
        request: Request<pb::GetUserRequest>,
    ) -> Result<Response<pb::GetUserResponse>, Status> {
        use pb::get_user_request::Key as Pb;
        let mut fields = Fields::default();
        let key = match request.into_inner().key {
            None => {
                fields.refuse("key", "missing: user_id or email");
                None
            }
            Some(Pb::UserId(id)) => fields.parse("user_id", &id).map(UserKey::Id),
            Some(Pb::Email(email)) => fields.email_lookup("email", &email).map(UserKey::Email),
        };
        let key = fields.finish(key).map_err(AuthError::from)?;
        let user = self.auth.user(key).await?;
        Ok(Response::new(pb::GetUserResponse {
            user: Some(user.into()),
        }))
    }

    async fn list_users(
        &self,
        request: Request<pb::ListUsersRequest>,
    ) -> Result<Response<pb::ListUsersResponse>, Status> {
        let pb::ListUsersRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let mut fields = Fields::default();
        let page_size = fields.page_size(page_size, USERS_PAGE);
        let after = fields.parse_optional("page_token", &page_token);
        let (page_size, after) = fields.finish(page_size.zip(after)).map_err(AuthError::from)?;
        let page = self.auth.list_users(after, page_size).await?;
        Ok(Response::new(pb::ListUsersResponse {
            users: page.users.into_iter().map(Into::into).collect(),
            next_page_token: page.next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    async fn update_user(
        &self,
        request: Request<pb::UpdateUserRequest>,
    ) -> Result<Response<pb::UpdateUserResponse>, Status> {
        let pb::UpdateUserRequest { user, update_mask } = request.into_inner();
        let user = user.unwrap_or_default();
        let etag = user.etag.clone();
        let mut fields = Fields::default();
        let id = fields.parse("user.id", &user.id);
        let changes = convert::user_changes(&mut fields, user, update_mask);
        let (id, changes) = fields.finish(id.zip(changes)).map_err(AuthError::from)?;
        let etag = Some(etag.as_str()).filter(|etag| !etag.is_empty());
        let user = self.auth.update_user(id, etag, changes).await?;
        Ok(Response::new(pb::UpdateUserResponse {
            user: Some(user.into()),
        }))
    }

    async fn delete_user(
        &self,
        request: Request<pb::DeleteUserRequest>,
    ) -> Result<Response<pb::DeleteUserResponse>, Status> {
        let pb::DeleteUserRequest { user_id } = request.into_inner();
        self.auth.delete_user(id_in("user_id", &user_id)?).await?;
        Ok(Response::new(pb::DeleteUserResponse {}))
    }

    async fn disable_user(
        &self,
        request: Request<pb::DisableUserRequest>,
    ) -> Result<Response<pb::DisableUserResponse>, Status> {
        let pb::DisableUserRequest { user_id } = request.into_inner();
        let user = self.auth.disable_user(id_in("user_id", &user_id)?).await?;
        Ok(Response::new(pb::DisableUserResponse {
            user: Some(user.into()),
        }))
    }

    async fn enable_user(
        &self,
        request: Request<pb::EnableUserRequest>,
    ) -> Result<Response<pb::EnableUserResponse>, Status> {
        let pb::EnableUserRequest { user_id } = request.into_inner();
        let user = self.auth.enable_user(id_in("user_id", &user_id)?).await?;
        Ok(Response::new(pb::EnableUserResponse {
            user: Some(user.into()),
        }))
    }

    async fn change_password(
        &self,
        request: Request<pb::ChangePasswordRequest>,
    ) -> Result<Response<pb::ChangePasswordResponse>, Status> {
        use pb::change_password_request::Subject as Pb;
        let pb::ChangePasswordRequest {
            subject,
            current_password,
            new_password,
        } = &mut request.into_inner();
        let mut fields = Fields::default();
        let subject = match subject.take() {
            None => {
                fields.refuse("subject", "missing: session_token or user_id");
                None
            }
            Some(Pb::SessionToken(token)) => Some(PasswordSubject::Token(token)),
            Some(Pb::UserId(id)) => fields.parse("user_id", &id).map(PasswordSubject::User),
        };
        let current = fields.presented_password("current_password", mem::take(current_password));
        let new = fields.presented_password("new_password", mem::take(new_password));
        let parts = subject.zip(current).zip(new);
        let ((subject, current), new) = fields.finish(parts).map_err(AuthError::from)?;
        let changed = self.auth.change_password(subject, current, new).await?;
        let kept = changed
            .kept
            .map(pb::RotateSessionResponse::from)
            .unwrap_or_default();
        let pb::RotateSessionResponse {
            session_token,
            session,
        } = kept;
        Ok(Response::new(pb::ChangePasswordResponse {
            session_token,
            session,
        }))
    }

    async fn set_password(
        &self,
        request: Request<pb::SetPasswordRequest>,
    ) -> Result<Response<pb::SetPasswordResponse>, Status> {
        use pb::set_password_request::Credential as Pb;
        let pb::SetPasswordRequest {
            user_id,
            mut credential,
        } = request.into_inner();
        let mut fields = Fields::default();
        let id = fields.parse("user_id", &user_id);
        let password = match credential.as_mut() {
            None => {
                fields.refuse("credential", "missing: password or password_hash");
                None
            }
            Some(Pb::Password(password)) => {
                Some(NewPassword::Clear("password", Password::new(mem::take(password))))
            }
            Some(Pb::PasswordHash(hash)) => Some(NewPassword::Imported("password_hash", mem::take(hash))),
        };
        let (id, password) = fields.finish(id.zip(password)).map_err(AuthError::from)?;
        let user = self.auth.set_password(id, password).await?;
        Ok(Response::new(pb::SetPasswordResponse {
            user: Some(user.into()),
        }))
    }
}
