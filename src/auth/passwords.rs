//! Set and change passwords. Either ends the user's sessions.

use super::{
    Auth, AuthError,
    user_changes::{ChangedUser, KeptSession},
};
use crate::{
    domain::{Email, FieldViolation, Password, PasswordHash, TokenDigest, User, UserId},
    password::Verdict,
    store::{ReplacedHash, UserChange},
};
use tracing::info;

/// The product's name. No password may be it, because it is tried first.
const PRODUCT: &str = "sessiond";

/// How often a change is tried again when the stored hash was replaced in between.
const CHANGE_ATTEMPTS: usize = 4;

/// A password to be stored, with the field of the request that it came in.
#[derive(Debug)]
pub enum NewPassword {
    /// In clear.
    Clear(&'static str, Password),
    /// As a hash that was made elsewhere.
    Imported(&'static str, String),
}

impl NewPassword {
    fn field(&self) -> &'static str {
        match self {
            Self::Clear(field, _) | Self::Imported(field, _) => field,
        }
    }
}

/// Whose password to change.
#[derive(Debug)]
pub enum PasswordSubject {
    /// That of the user whom this token proves, text as presented; the session goes on under a new token.
    Token(String),
    /// This user's.
    User(UserId),
}

impl Auth {
    /// Changes a password with the current one at hand, and ends the user's other sessions.
    ///
    /// # Errors
    /// [`AuthError::InvalidSession`], [`AuthError::UserNotFound`]; [`AuthError::InvalidCredentials`] if the current password is
    /// wrong; [`AuthError::InvalidFields`] if the new one breaks the rules; [`AuthError::ChangePending`].
    pub async fn change_password(
        &self,
        subject: PasswordSubject,
        current: Password,
        new: Password,
    ) -> Result<ChangedUser, AuthError> {
        let (user_id, kept) = match subject {
            PasswordSubject::User(id) => (id, None),
            PasswordSubject::Token(token) => {
                let session = self.check(&token).wait().await?.session;
                let digest = TokenDigest::of_presented(&token).ok_or(AuthError::InvalidSession)?;
                (
                    session.user_id,
                    Some(KeptSession {
                        id: session.id,
                        digest,
                    }),
                )
            }
        };
        let mut new = Some(new);
        let mut hash = None;
        for _ in 0..CHANGE_ATTEMPTS {
            let record = self
                .parts
                .users
                .by_id(user_id)
                .await?
                .ok_or(AuthError::UserNotFound)?;
            let presented = Password::new(current.expose().to_owned());
            let verdict = self
                .parts
                .passwords
                .verify(presented, record.password_hash.clone())
                .await?;
            let (Verdict::Right { .. }, Some(verified), None) =
                (verdict, record.password_hash, record.user.disabled_at)
            else {
                info!(event = "password_change_failed", user_id = %user_id, "password not changed");
                return Err(AuthError::InvalidCredentials);
            };
            if let Some(new) = new.take() {
                hash = Some(
                    self.hash_in_clear("new_password", new, &record.user.email)
                        .await?,
                );
            }
            let Some(hash) = hash.clone() else { break };
            let change = UserChange::SetPassword(hash);
            let replaced = ReplacedHash::Exactly(&verified);
            // `None`: another change, or a log-in that brought the hash up to date, came between.
            if let Some(changed) = self
                .change_and_end_sessions(user_id, replaced, change, kept)
                .await?
            {
                info!(event = "password_changed", user_id = %user_id, "password changed");
                return Ok(changed);
            }
        }
        Err(AuthError::Raced)
    }

    /// Sets a password without the current one, and ends the user's sessions.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::ChangePending`]; [`AuthError::InvalidFields`] if the password breaks the rules.
    pub async fn set_password(&self, id: UserId, new: NewPassword) -> Result<User, AuthError> {
        let record = self.parts.users.by_id(id).await?.ok_or(AuthError::UserNotFound)?;
        let field = new.field();
        let Some(hash) = self.hash_new(new, &record.user.email).await? else {
            let rule = "must be a hash: what begins with ! says that there is no password";
            return Err(FieldViolation::new(field, rule).into());
        };
        self.change_and_end_sessions(id, ReplacedHash::Any, UserChange::SetPassword(hash), None)
            .await?
            .ok_or(AuthError::UserNotFound)?;
        info!(event = "password_set", user_id = %id, "password set");
        Ok(record.user)
    }

    /// The hash of a new password that keeps the rules. `None`: what is imported says that there is no password.
    pub(super) async fn hash_new(
        &self,
        new: NewPassword,
        email: &Email,
    ) -> Result<Option<PasswordHash>, AuthError> {
        match new {
            NewPassword::Imported(field, text) => Ok(self.parts.passwords.check_import(field, &text)?),
            NewPassword::Clear(field, password) => self.hash_in_clear(field, password, email).await.map(Some),
        }
    }

    async fn hash_in_clear(
        &self,
        field: &str,
        password: Password,
        email: &Email,
    ) -> Result<PasswordHash, AuthError> {
        let address = email.as_str();
        let local = address.rsplit_once('@').map_or(address, |(local, _)| local);
        self.parts
            .passwords
            .check_new(field, &password, &[PRODUCT, address, local])?;
        Ok(self.parts.passwords.hash(password).await?)
    }
}
