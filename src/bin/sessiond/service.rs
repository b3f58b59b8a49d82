//! The service without its socket: the use cases over opened stores, and the contract over the use cases.

use crate::{Failure, stores::OpenStores};
use sessiond::{
    auth::{Auth, AuthParts},
    domain::{RandomTokens, SessionLimits, SystemClock},
    grpc::{self, Api},
    password::{HashingConfig, PasswordHasher},
};
use std::sync::Arc;

/// A service that can be called.
pub(crate) struct Service {
    pub(crate) auth: Auth,
    pub(crate) api: Api,
    pub(crate) clock: Arc<SystemClock>,
    pub(crate) passwords: PasswordHasher,
}

impl Service {
    pub(crate) fn new(
        stores: &OpenStores,
        hashing: HashingConfig,
        limits: SessionLimits,
        options: grpc::Options,
    ) -> Result<Self, Failure> {
        let clock = Arc::new(SystemClock::starting_at_wall_time(stores.known_until));
        let passwords = PasswordHasher::start(hashing)?;
        let auth = Auth::new(AuthParts {
            users: stores.users.clone(),
            sessions: stores.sessions.clone(),
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
