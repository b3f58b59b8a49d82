//! Manage users.

use super::{Auth, AuthError, passwords::NewPassword};
use crate::{
    domain::{Email, EmailLookup, Names, Roles, User, UserId},
    store::{Inserted, ReplacedHash, Updated, UserChange, UserRecord},
};
use tracing::info;

/// How often an update without an etag is tried again when another one came between.
const UPDATE_ATTEMPTS: usize = 8;

/// A user to be created.
#[derive(Debug)]
pub struct NewUser {
    /// Where they get mail.
    pub email: Email,
    /// What they are called.
    pub names: Names,
    /// What others let them do.
    pub roles: Roles,
    /// How they will log in; `None`: not until a password is set.
    pub password: Option<NewPassword>,
}

/// Which user.
#[derive(Debug)]
pub enum UserKey {
    /// By id.
    Id(UserId),
    /// By email.
    Email(EmailLookup),
}

/// What to write; `None` leaves what is there.
#[derive(Debug, Default)]
pub struct UserChanges {
    /// The email.
    pub email: Option<Email>,
    /// The first name, checked by [`Names`] together with the last.
    pub first_name: Option<String>,
    /// The last name.
    pub last_name: Option<String>,
    /// The roles.
    pub roles: Option<Roles>,
}

/// One page of users, in the order of their ids.
#[derive(Debug)]
pub struct UsersPage {
    /// The users.
    pub users: Vec<User>,
    /// Where the next page starts; `None`: there is none.
    pub next: Option<UserId>,
}

/// How much there is.
#[derive(Debug, Clone, Copy)]
pub struct Stats {
    /// Users, disabled ones included.
    pub users: u64,
    /// Live sessions.
    pub sessions: u64,
}

impl Auth {
    /// Creates a user.
    ///
    /// # Errors
    /// [`AuthError::EmailTaken`]; [`AuthError::InvalidFields`] for a password that breaks the rules.
    pub async fn create_user(&self, new: NewUser) -> Result<User, AuthError> {
        let NewUser {
            email,
            names,
            roles,
            password,
        } = new;
        // Checked early to save the hashing; the store's own answer below is the one that counts.
        if self.user_by_email(&email.lookup()).await?.is_some() {
            return Err(AuthError::EmailTaken);
        }
        let password_hash = match password {
            Some(password) => self.hash_new(password, &email).await?,
            None => None,
        };
        let now = self.parts.clock.now();
        let user = User {
            id: UserId::new(now, self.parts.tokens.id_bits()?),
            email,
            names,
            roles,
            created_at: now,
            updated_at: now,
            disabled_at: None,
            version: 1,
        };
        let record = UserRecord {
            user,
            password_hash,
            pending: None,
        };
        match self.parts.users.insert(&record).await? {
            Inserted::Yes => {
                info!(event = "user_created", user_id = %record.user.id, "user created");
                Ok(record.user)
            }
            Inserted::EmailTaken => Err(AuthError::EmailTaken),
        }
    }

    /// One user.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`].
    pub async fn user(&self, key: UserKey) -> Result<User, AuthError> {
        let record = match key {
            UserKey::Id(id) => self.parts.users.by_id(id).await?,
            UserKey::Email(email) => self.user_by_email(&email).await?,
        };
        record.map(|record| record.user).ok_or(AuthError::UserNotFound)
    }

    /// Users with ids greater than `after`, at most `page_size`.
    ///
    /// # Errors
    /// The store's.
    pub async fn list_users(&self, after: Option<UserId>, page_size: u32) -> Result<UsersPage, AuthError> {
        let mut users = self.parts.users.list(after, page_size.saturating_add(1)).await?;
        let has_more = users.len() > page_size as usize;
        users.truncate(page_size as usize);
        let next = users.last().filter(|_| has_more).map(|user| user.id);
        Ok(UsersPage { users, next })
    }

    /// Changes a user; if `etag` is given, only that version of them.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::EtagMismatch`], [`AuthError::EmailTaken`], [`AuthError::InvalidFields`].
    pub async fn update_user(
        &self,
        id: UserId,
        etag: Option<&str>,
        changes: UserChanges,
    ) -> Result<User, AuthError> {
        let UserChanges {
            email,
            first_name,
            last_name,
            roles,
        } = changes;
        // The store tells addresses apart by their keys, but a former key is another for the same address.
        if let Some(email) = &email
            && let Some(other) = self.user_by_email(&email.lookup()).await?
            && other.user.id != id
        {
            return Err(AuthError::EmailTaken);
        }
        let user = self
            .change(id, etag, |user| {
                if let Some(email) = &email {
                    user.email = email.clone();
                }
                if let Some(roles) = &roles {
                    user.roles = roles.clone();
                }
                let first = first_name.as_deref().unwrap_or(user.names.first());
                let last = last_name.as_deref().unwrap_or(user.names.last());
                user.names = Names::new(first.to_owned(), last.to_owned())?;
                Ok(())
            })
            .await?;
        info!(event = "user_updated", user_id = %id, "user updated");
        Ok(user)
    }

    /// Ends all sessions of a user and deletes them.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::ChangePending`].
    pub async fn delete_user(&self, id: UserId) -> Result<(), AuthError> {
        self.change_and_end_sessions(id, ReplacedHash::Any, UserChange::Delete, None)
            .await?
            .ok_or(AuthError::UserNotFound)?;
        info!(event = "user_deleted", user_id = %id, "user deleted");
        Ok(())
    }

    /// Ends all sessions of a user and bars them from logging in.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::ChangePending`].
    pub async fn disable_user(&self, id: UserId) -> Result<User, AuthError> {
        let disable = UserChange::Disable(self.parts.clock.now());
        self.change_and_end_sessions(id, ReplacedHash::Any, disable, None)
            .await?
            .ok_or(AuthError::UserNotFound)?;
        info!(event = "user_disabled", user_id = %id, "user disabled");
        self.user(UserKey::Id(id)).await
    }

    /// Lets a user log in again.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`]; [`AuthError::ChangePending`] while they are about to be disabled.
    pub async fn enable_user(&self, id: UserId) -> Result<User, AuthError> {
        let record = self.parts.users.by_id(id).await?;
        if record.is_some_and(|record| record.pending.is_some()) {
            return Err(AuthError::ChangePending);
        }
        let enable = |user: &mut User| {
            user.disabled_at = None;
            Ok(())
        };
        let user = self.change(id, None, enable).await?;
        info!(event = "user_enabled", user_id = %id, "user enabled");
        Ok(user)
    }

    /// How many users and live sessions there are.
    ///
    /// # Errors
    /// The store's.
    pub async fn stats(&self) -> Result<Stats, AuthError> {
        Ok(Stats {
            users: self.parts.users.count().await?,
            sessions: self.parts.sessions.count(self.parts.clock.now()).await?,
        })
    }

    /// The user with this email: the first that is stored under one of its keys. All are read whatever is found, so that the time
    /// tells nothing of what is stored (S-59).
    pub(super) async fn user_by_email(&self, email: &EmailLookup) -> Result<Option<UserRecord>, AuthError> {
        let mut found = None;
        for key in email.keys() {
            let record = self.parts.users.by_email(key).await?;
            found = found.or(record);
        }
        Ok(found)
    }

    /// Reads the user, applies the change and stores the next version of them; over again if another change came between.
    async fn change(
        &self,
        id: UserId,
        etag: Option<&str>,
        apply: impl Fn(&mut User) -> Result<(), AuthError>,
    ) -> Result<User, AuthError> {
        for _ in 0..UPDATE_ATTEMPTS {
            let record = self.parts.users.by_id(id).await?.ok_or(AuthError::UserNotFound)?;
            if etag.is_some_and(|etag| etag != record.user.etag()) {
                return Err(AuthError::EtagMismatch);
            }
            let mut user = record.user.clone();
            apply(&mut user)?;
            if user == record.user {
                return Ok(user);
            }
            user.version = record.user.version + 1;
            user.updated_at = self.parts.clock.now();
            match self.parts.users.update(&user, record.user.version).await? {
                Updated::Yes => return Ok(user),
                Updated::EmailTaken => return Err(AuthError::EmailTaken),
                Updated::VersionMoved => {}
            }
        }
        Err(AuthError::EtagMismatch)
    }
}
