//! Log in: from a credential to a session.

use super::{Auth, AuthError};
use crate::{
    domain::{
        Attributes, AuthMethod, Client, EmailLookup, LiveSession, Password, PasswordHash, Session, SessionId,
        SessionToken, TokenDigest, User, UserId,
    },
    password::Verdict,
    store::{Created, Epoch, NewSession, ReplacedHash, UserRecord},
};
use std::time::Duration;
use tokio::time::sleep;
use tracing::{info, warn};

/// How often a step is tried again when another change of the same user came between.
const ATTEMPTS: usize = 4;

/// How long a log-in waits for a change of its user.
const PAUSE: Duration = Duration::from_millis(20);

/// Who logs in.
#[derive(Debug)]
pub enum Credential {
    /// A user who proves who they are.
    Password {
        /// Their email.
        email: EmailLookup,
        /// Their password.
        password: Password,
    },
    /// A user for whom the caller vouches.
    User(UserId),
}

/// A log-in as asked for.
#[derive(Debug)]
pub struct LogIn {
    /// Who.
    pub credential: Credential,
    /// With which program.
    pub client: Client,
    /// For how long at most; `None`: as long as the limits allow.
    pub lifetime: Option<Duration>,
    /// For how long without a check; `None`: as long as the limits allow.
    pub idle_timeout: Option<Duration>,
    /// What to store with the session.
    pub attributes: Attributes,
    /// The token of a session that this one replaces; text that is no token is as good as none.
    pub replaces: Option<TokenDigest>,
}

/// A log-in that succeeded.
#[derive(Debug)]
pub struct LoggedIn {
    /// The secret, shown this once.
    pub token: SessionToken,
    /// The new session.
    pub session: Session,
    /// Its user.
    pub user: User,
}

/// Why a user may log in.
enum Proof {
    /// The password matched the hash that was stored then.
    Password { user: UserId, verified: PasswordHash },
    /// The caller vouches for them.
    Caller(UserId),
}

impl Proof {
    /// For the log.
    fn name(&self) -> &'static str {
        match self {
            Self::Password { .. } => "password",
            Self::Caller(_) => "caller",
        }
    }

    fn method(&self) -> AuthMethod {
        match self {
            Self::Password { .. } => AuthMethod::Password,
            Self::Caller(_) => AuthMethod::Caller,
        }
    }
}

/// A user who may log in, with the epoch that was read before anything that says so.
struct Vouched {
    user: User,
    epoch: Epoch,
}

impl Auth {
    /// Logs a user in.
    ///
    /// # Errors
    /// [`AuthError::InvalidCredentials`] for every way in which a password can fail. With a user id:
    /// [`AuthError::UserNotFound`], [`AuthError::UserDisabled`]. [`AuthError::InvalidFields`] for time-outs beyond the limits.
    /// [`AuthError::ChangePending`].
    pub async fn log_in(&self, log_in: LogIn) -> Result<LoggedIn, AuthError> {
        let LogIn {
            credential,
            client,
            lifetime,
            idle_timeout,
            attributes,
            replaces,
        } = log_in;
        let span = self.parts.limits.span_for(lifetime, idle_timeout)?;
        let proof = match credential {
            Credential::Password { email, password } => self.verify_password(&email, password).await?,
            Credential::User(id) => Proof::Caller(id),
        };
        let mut obstacle = AuthError::Raced;
        for _ in 0..ATTEMPTS {
            // If the user's sessions are revoked between this and the creation, the user is read again: a change of theirs may be
            // the reason.
            let Vouched { user, epoch } = match self.vouch(&proof).await {
                Ok(vouched) => vouched,
                // Changes take milliseconds, unless a store is away.
                Err(AuthError::ChangePending) => {
                    obstacle = AuthError::ChangePending;
                    sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let now = self.parts.clock.now();
            let token = self.parts.tokens.session_token()?;
            let session = Session {
                live: LiveSession {
                    id: SessionId::new(now, self.parts.tokens.id_bits()?),
                    user_id: user.id,
                    last_seen_at: now,
                    authenticated_at: now,
                    auth_method: proof.method(),
                    span,
                    grace_ends_at: None,
                },
                client: client.clone(),
                attributes: attributes.clone(),
            };
            let new = NewSession {
                digest: token.digest(),
                session: session.clone(),
                epoch,
                replaces,
                max_per_user: self.parts.limits.max_per_user,
            };
            match self.parts.sessions.create(new, now).await? {
                Created::Yes => {
                    let (session_id, user_id) = (session.live.id, user.id);
                    info!(event = "session_created", %session_id, %user_id, by = proof.name(), "logged in");
                    return Ok(LoggedIn { token, session, user });
                }
                Created::EpochMoved => obstacle = AuthError::Raced,
            }
        }
        Err(obstacle)
    }

    /// Checks a password and says whose it is, and which stored hash proves it now.
    ///
    /// Every failure takes the same steps: the same read, one hash of the same cost, the same answer (S-59, S-60).
    async fn verify_password(&self, email: &EmailLookup, password: Password) -> Result<Proof, AuthError> {
        for _ in 0..ATTEMPTS {
            let found = self.user_by_email(email).await?;
            let is_change_pending = found.as_ref().is_some_and(|record| record.pending.is_some());
            let (id, stored) = match found {
                Some(UserRecord {
                    user, password_hash, ..
                }) if user.disabled_at.is_none() => (Some(user.id), password_hash),
                // A right password may cost a rehash. A user who cannot log in must not cost one, or the time would tell.
                Some(UserRecord { user, .. }) => (Some(user.id), None),
                None => (None, None),
            };
            let presented = Password::new(password.expose().to_owned());
            let verdict = self.parts.passwords.verify(presented, stored.clone()).await?;
            let (Some(id), Some(stored), Verdict::Right { rehashed }) = (id, stored, verdict) else {
                // It may be the password that is about to be theirs.
                if is_change_pending {
                    return Err(AuthError::ChangePending);
                }
                info!(
                    event = "log_in_failed",
                    user_id = id.map(tracing::field::display),
                    "log-in failed"
                );
                return Err(AuthError::InvalidCredentials);
            };
            let Some(rehashed) = rehashed else {
                return Ok(Proof::Password {
                    user: id,
                    verified: stored,
                });
            };
            // Only what was verified may be replaced (S-47). If it has changed, to a new password or by a log-in beside this
            // one that brought it up to date as well, the password has to be checked against what is there now.
            let replaced = ReplacedHash::Exactly(&stored);
            if self.parts.users.replace_password(id, replaced, &rehashed).await? {
                info!(event = "password_rehashed", user_id = %id, "stored password hash brought up to date");
                return Ok(Proof::Password {
                    user: id,
                    verified: rehashed,
                });
            }
        }
        Err(AuthError::Raced)
    }

    /// The user, if the proof still holds. Checking a password takes long: it may have been changed, or the user disabled, since.
    ///
    /// The epoch is read first: what is read of the user afterwards is then at least as new, so a change of the user that ends
    /// their sessions either shows in what is read, as pending or applied, or moves the epoch.
    async fn vouch(&self, proof: &Proof) -> Result<Vouched, AuthError> {
        let (Proof::Password { user: id, .. } | Proof::Caller(id)) = proof;
        let epoch = self.parts.sessions.epoch(*id).await?;
        let record = self.parts.users.by_id(*id).await?;
        if record.as_ref().is_some_and(|record| record.pending.is_some()) {
            return Err(AuthError::ChangePending);
        }
        match (proof, record) {
            (Proof::Caller(_), None) => Err(AuthError::UserNotFound),
            (Proof::Caller(_), Some(UserRecord { user, .. })) if user.disabled_at.is_some() => {
                Err(AuthError::UserDisabled)
            }
            (Proof::Caller(_), Some(UserRecord { user, .. })) => Ok(Vouched { user, epoch }),
            (
                Proof::Password { verified, .. },
                Some(UserRecord {
                    user, password_hash, ..
                }),
            ) if user.disabled_at.is_none() && password_hash.as_ref() == Some(verified) => {
                Ok(Vouched { user, epoch })
            }
            (Proof::Password { user, .. }, _) => {
                warn!(event = "log_in_failed", user_id = %user, "right password, but the user may not log in");
                Err(AuthError::InvalidCredentials)
            }
        }
    }
}
