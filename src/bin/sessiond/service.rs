//! The service without its socket: the use cases over opened stores, and the contract over the use cases.

use crate::{Failure, stores::Opened};
use sessiond::{
    auth::{Auth, AuthParts},
    domain::{RandomTokens, SessionLimits, SystemClock},
    grpc::{self, Api},
    password::{HashingConfig, PasswordHasher},
};
use std::sync::Arc;

/// A service that can be called.
pub(crate) struct Built {
    pub(crate) auth: Auth,
    pub(crate) api: Api,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) passwords: PasswordHasher,
}

impl Built {
    pub(crate) fn over(
        opened: &Opened,
        hashing: HashingConfig,
        limits: SessionLimits,
        options: grpc::Options,
    ) -> Result<Self, Failure> {
        let clock = Arc::new(SystemClock::starting_at_wall_time(opened.known_until));
        let passwords = PasswordHasher::start(hashing)?;
        let auth = Auth::new(AuthParts {
            users: opened.users.clone(),
            sessions: opened.sessions.clone(),
            passwords: passwords.clone(),
            clock: clock.clone(),
            tokens: Arc::new(RandomTokens),
            limits,
        });
        let api = Api::new(&auth, options);
        Ok(Self {
            auth,
            api,
            clock,
            passwords,
        })
    }
}
