//! The service inside the test's own process, on real sockets: one listener, or two processes' worth of it over one store.

use crate::{stores::Opened, waiting::PATIENCE};
use sessiond::{
    auth::{Auth, AuthParts},
    contract::ERROR_DOMAIN,
    domain::{Clock as _, ManualClock, RandomTokens, SessionLimits, SessionSpan, Timestamp},
    grpc::{Api, Options},
    listener::{self, Listener, Protocol, Serve, Serving},
    password::{HashingConfig, PasswordHasher},
    pb::{
        self, auth_service_client::AuthServiceClient, create_session_request::Credential,
        user_service_client::UserServiceClient,
    },
    shutdown::{self, Trigger},
    store::{SessionStore, UserStore},
};
use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

/// A password that the rules allow.
pub const PASSWORD: &str = "a horse that eats batteries";

/// One process of the service.
#[derive(Clone)]
pub struct Process {
    /// For calls about sessions.
    pub sessions: AuthServiceClient<Channel>,
    /// For calls about users.
    pub users: UserServiceClient<Channel>,
    /// The connection of both.
    pub channel: Channel,
    /// Where it listens.
    pub address: SocketAddr,
    /// What hashes its passwords.
    pub hasher: PasswordHasher,
}

/// The service.
pub struct Service {
    /// One process.
    pub here: Process,
    /// The same store through another process.
    pub there: Process,
    /// What time it is for both processes.
    pub clock: Arc<ManualClock>,
    /// The limits of both processes.
    pub limits: SessionLimits,
    /// The stores themselves, for what no call shows.
    pub user_store: Arc<dyn UserStore>,
    stores: (Opened<dyn UserStore>, Opened<dyn SessionStore>),
    _served: [Served; 2],
}

impl Service {
    /// Two processes over these stores, with the fast path of checks or without.
    pub async fn start(
        users: Opened<dyn UserStore>,
        sessions: Opened<dyn SessionStore>,
        has_fast_path: bool,
    ) -> Self {
        // A clock near the real one: stores that expire by their server's clock must agree with it.
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let clock = Arc::new(ManualClock::standing_at(Timestamp::default().after(now)));
        let limits = SessionLimits {
            span: SessionSpan::from_secs(12 * 3600, 1800),
            max_per_user: 20,
        };
        let process = |users, sessions| {
            let hasher = PasswordHasher::start(cheap_hashing()).unwrap();
            let auth = Auth::new(AuthParts {
                users,
                sessions,
                passwords: hasher.clone(),
                clock: clock.clone(),
                tokens: Arc::new(RandomTokens),
                limits,
            });
            let served = Served::rpc_with(&auth, 2, has_fast_path);
            (Process::at(&served, hasher), served)
        };
        let (here, first) = process(users.here.clone(), sessions.here.clone());
        let (there, second) = process(users.there.clone(), sessions.there.clone());
        Self {
            here,
            there,
            clock,
            limits,
            user_store: users.here.clone(),
            stores: (users, sessions),
            _served: [first, second],
        }
    }

    /// How late another process's end of a session may be published here.
    pub fn telling_lag(&self) -> Duration {
        self.stores.1.telling_lag + Duration::from_secs(2)
    }

    /// Lets time go by.
    pub fn advance(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    /// Waits until the other process knows that the user's sessions were seen just now.
    pub async fn activity_is_written(&self, user_id: &str) {
        let owner = Some(pb::list_sessions_request::Owner::UserId(user_id.into()));
        let request = pb::ListSessionsRequest {
            owner,
            ..Default::default()
        };
        for _ in 0..200 {
            let listed = self
                .there
                .sessions
                .clone()
                .list_sessions(request.clone())
                .await
                .unwrap();
            let is_now = |session: &pb::Session| session.last_seen_at.unwrap().seconds == self.now_secs();
            if listed.into_inner().sessions.iter().all(is_now) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("the activity was not written in time");
    }

    /// The seconds since 1970 on its clock.
    pub fn now_secs(&self) -> i64 {
        self.clock.now().as_millis().div_euclid(1000)
    }
}

/// As cheap as the rules allow, with room for as many log-ins as a test starts at once.
pub fn cheap_hashing() -> HashingConfig {
    HashingConfig {
        cost: 10,
        threads: 2,
        queue: 2000,
        ..HashingConfig::default()
    }
}

/// A listener on a free port. It stops when it is dropped.
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    trigger: Trigger,
    serving: Option<Serving>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop_now();
    }
}

impl Served {
    /// Serves what `make` makes for each of the threads.
    pub fn start<S: Serve>(
        protocol: Protocol,
        workers: usize,
        make: impl Fn() -> S + Clone + Send + 'static,
    ) -> Self {
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_address();
        let mut options = listener::Options::new(protocol);
        options.workers = NonZeroUsize::new(workers).unwrap();
        let (trigger, shutdown) = shutdown::channel();
        Self {
            address,
            trigger,
            serving: Some(listener.serve(options, shutdown, make).unwrap()),
        }
    }

    /// Serves the gRPC contract.
    pub fn rpc(auth: &Auth, workers: usize) -> Self {
        Self::rpc_with(auth, workers, true)
    }

    /// Serves the gRPC contract, with the fast path of checks or without.
    pub fn rpc_with(auth: &Auth, workers: usize, has_fast_path: bool) -> Self {
        let options = Options {
            has_fast_path,
            // A hundred log-ins at once take longer than the default on a busy machine.
            call_timeout: PATIENCE,
            ..Options::default()
        };
        let api = Api::new(auth, options);
        tokio::spawn(api.keep_readiness(auth.clone()));
        Self::start(Protocol::Rpc, workers, move || api.for_thread())
    }

    /// How a client gets there.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap()
    }

    /// Cuts all calls and connections off, as a crash would.
    pub fn stop_now(&self) {
        self.trigger.stop_now();
    }

    /// Ends all calls and connections, and waits until no more are taken.
    pub async fn stopped(mut self) {
        self.stop_now();
        if let Some(serving) = self.serving.take() {
            serving.drained().await;
        }
    }
}

impl Process {
    fn at(served: &Served, hasher: PasswordHasher) -> Self {
        let channel = served.endpoint().connect_lazy();
        Self {
            sessions: AuthServiceClient::new(channel.clone()),
            users: UserServiceClient::new(channel.clone()),
            channel,
            address: served.address,
            hasher,
        }
    }

    /// A user with [`PASSWORD`].
    pub async fn user(&self, email: &str) -> pb::User {
        let request = pb::CreateUserRequest {
            email: email.into(),
            credential: Some(pb::create_user_request::Credential::Password(PASSWORD.into())),
            ..Default::default()
        };
        self.users
            .clone()
            .create_user(request)
            .await
            .unwrap()
            .into_inner()
            .user
            .unwrap()
    }

    /// A user without a password: no hash to wait for.
    pub async fn quick_user(&self, email: &str) -> pb::User {
        let request = pb::CreateUserRequest {
            email: email.into(),
            ..Default::default()
        };
        self.users
            .clone()
            .create_user(request)
            .await
            .unwrap()
            .into_inner()
            .user
            .unwrap()
    }

    /// Creates a session.
    pub async fn create(
        &self,
        request: pb::CreateSessionRequest,
    ) -> Result<pb::CreateSessionResponse, Status> {
        Ok(self.sessions.clone().create_session(request).await?.into_inner())
    }

    /// Creates a session by email and password.
    pub async fn log_in(&self, email: &str, password: &str) -> Result<pb::CreateSessionResponse, Status> {
        self.create(by_password(email, password)).await
    }

    /// A session by the caller's word.
    pub async fn session_of(&self, user: &pb::User) -> pb::CreateSessionResponse {
        self.create(by_user_id(&user.id)).await.unwrap()
    }

    /// Whose session a token proves.
    pub async fn check(&self, token: &str) -> Result<pb::UserIdForSessionResponse, Status> {
        let request = pb::UserIdForSessionRequest {
            session_token: token.into(),
        };
        Ok(self
            .sessions
            .clone()
            .user_id_for_session(request)
            .await?
            .into_inner())
    }

    /// Whether a token proves a session.
    pub async fn is_alive(&self, token: &str) -> bool {
        match self.check(token).await {
            Ok(_) => true,
            Err(status) if status.code() == Code::Unauthenticated => false,
            Err(status) => panic!("neither alive nor dead: {status:?}"),
        }
    }

    /// Ends a session by its token, and says whether there was one.
    pub async fn destroy(&self, token: &str) -> bool {
        let session = pb::destroy_session_request::Session::SessionToken(token.into());
        let request = pb::DestroySessionRequest {
            session: Some(session),
        };
        self.sessions
            .clone()
            .destroy_session(request)
            .await
            .unwrap()
            .into_inner()
            .existed
    }

    /// Ends the sessions of a user but for one, and says how many there were.
    pub async fn revoke_user(&self, user: &str, except: &str) -> i64 {
        let request = pb::RevokeSessionsRequest {
            target: Some(pb::revoke_sessions_request::Target::UserId(user.into())),
            except_session_id: except.into(),
        };
        self.sessions
            .clone()
            .revoke_sessions(request)
            .await
            .unwrap()
            .into_inner()
            .revoked_count
    }
}

/// A log-in by email and password.
pub fn by_password(email: &str, password: &str) -> pb::CreateSessionRequest {
    let credential = pb::PasswordCredential {
        email: email.into(),
        password: password.into(),
    };
    pb::CreateSessionRequest {
        credential: Some(Credential::Password(credential)),
        ..Default::default()
    }
}

/// A log-in by the caller's word.
pub fn by_user_id(id: &str) -> pb::CreateSessionRequest {
    pb::CreateSessionRequest {
        credential: Some(Credential::UserId(id.into())),
        ..Default::default()
    }
}

/// The reason in a status's `ErrorInfo`, which must be of our domain.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, ERROR_DOMAIN);
    info.reason.clone()
}

/// The fields that a status's `BadRequest` names.
pub fn bad_fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(reason(status), "INVALID_FIELD");
    let details = status.get_error_details();
    let violations = &details.bad_request().expect("a BadRequest").field_violations;
    violations
        .iter()
        .map(|violation| violation.field.clone())
        .collect()
}

/// Everything of a status that a caller sees.
pub fn visible(status: &Status) -> (Code, String, Vec<u8>, String) {
    let mut headers: Vec<String> = status
        .metadata()
        .clone()
        .into_headers()
        .iter()
        .filter(|(name, _)| name.as_str() != "date")
        .map(|(name, value)| format!("{name}: {value:?}"))
        .collect();
    headers.sort();
    (
        status.code(),
        status.message().to_owned(),
        status.details().to_vec(),
        headers.join("\n"),
    )
}
