//! Two processes' worth of the service inside this one, over any session store.

use sessiond::{
    auth::{Auth, AuthParts},
    domain::{RandomTokens, SessionLimits, SessionSpan, SystemClock},
    grpc::{Api, Options},
    listener::{self, Listener, Protocol},
    password::{HashingConfig, PasswordHasher},
    shutdown::{self, Trigger},
    store::{MemoryStore, SessionStore},
};
use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc};
use tonic::transport::{Channel, Endpoint};

/// Sessions that one user may have here.
pub(crate) const CAP: usize = 1000;

/// What is served until it is dropped.
pub(crate) struct InProcess {
    pub addresses: Vec<SocketAddr>,
    pub channels: Vec<Channel>,
    _running: Vec<Trigger>,
}

impl InProcess {
    /// One process for each view of the session store. Users are shared.
    pub(crate) fn over(views: Vec<Arc<dyn SessionStore>>) -> Self {
        let users = Arc::new(MemoryStore::new());
        let clock = Arc::new(SystemClock::starting_at_wall_time(None));
        let served: Vec<_> = views
            .into_iter()
            .map(|sessions| {
                let passwords = PasswordHasher::start(HashingConfig {
                    threads: 1,
                    ..HashingConfig::default()
                });
                serve(Auth::new(AuthParts {
                    users: users.clone(),
                    sessions,
                    passwords: passwords.unwrap(),
                    clock: clock.clone(),
                    tokens: Arc::new(RandomTokens),
                    limits: SessionLimits {
                        span: SessionSpan::from_secs(12 * 3600, 1800),
                        max_per_user: CAP as u32,
                    },
                }))
            })
            .collect();
        let (addresses, running): (Vec<_>, Vec<_>) = served.into_iter().unzip();
        Self {
            channels: addresses
                .iter()
                .map(|address| endpoint(*address).connect_lazy())
                .collect(),
            addresses,
            _running: running,
        }
    }
}

pub(crate) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).unwrap()
}

fn serve(auth: Auth) -> (SocketAddr, Trigger) {
    let api = Api::new(&auth, Options::default());
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_address();
    let mut options = listener::Options::new(Protocol::Rpc);
    options.workers = NonZeroUsize::MIN;
    let (trigger, shutdown) = shutdown::channel();
    listener.serve(options, shutdown, move || api.clone()).unwrap();
    (address, trigger)
}
