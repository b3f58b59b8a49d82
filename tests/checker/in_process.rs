//! Two processes' worth of the service inside this one, over any session store.

use sessiond::{
    auth::{Auth, AuthParts},
    domain::{RandomTokens, SessionLimits, SessionSpan, SystemClock},
    password::PasswordHasher,
    store::{MemoryStore, SessionStore},
};
use std::sync::Arc;
use testkit::service::{Served, cheap_hashing};

/// Sessions that one user may have here.
pub(crate) const CAP: usize = 1000;

/// One process for each view of the session store. Users are shared.
pub(crate) fn serve(views: Vec<Arc<dyn SessionStore>>) -> Vec<Served> {
    let users = Arc::new(MemoryStore::new());
    let clock = Arc::new(SystemClock::starting_at_wall_time(None));
    let process = |sessions| {
        let auth = Auth::new(AuthParts {
            users: users.clone(),
            sessions,
            passwords: PasswordHasher::start(cheap_hashing()).unwrap(),
            clock: clock.clone(),
            tokens: Arc::new(RandomTokens),
            limits: SessionLimits {
                span: SessionSpan::from_secs(12 * 3600, 1800),
                max_per_user: CAP as u32,
            },
        });
        Served::rpc(&auth, 1)
    };
    views.into_iter().map(process).collect()
}
