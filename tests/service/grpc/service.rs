//! A service started for one test: two processes' worth of it over one store, on real sockets.

use super::opened::Opened;
use sessiond::{
    auth::{Auth, AuthParts},
    contract::ERROR_DOMAIN,
    domain::{Clock as _, ManualClock, RandomTokens, SessionLimits, SessionSpan, Timestamp},
    grpc::{Api, Options},
    listener::{self, Listener, Protocol},
    password::{HashingConfig, PasswordHasher},
    pb::{
        self, auth_service_client::AuthServiceClient, create_session_request::Credential,
        user_service_client::UserServiceClient,
    },
    shutdown::{self, Trigger},
    store::{SessionStore, UserStore},
};
use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;

/// A password that the rules allow.
pub(crate) const PASSWORD: &str = "a horse that eats batteries";

/// One process of the service.
#[derive(Clone)]
pub(crate) struct Process {
    pub sessions: AuthServiceClient<Channel>,
    pub users: UserServiceClient<Channel>,
    pub channel: Channel,
    pub address: SocketAddr,
    pub hasher: PasswordHasher,
}

/// The service.
pub(crate) struct Service {
    pub here: Process,
    /// The same store through another process.
    pub there: Process,
    pub clock: Arc<ManualClock>,
    pub limits: SessionLimits,
    /// The stores themselves, for what no call shows.
    pub user_store: Arc<dyn UserStore>,
    stores: (Opened<dyn UserStore>, Opened<dyn SessionStore>),
    _running: Vec<Trigger>,
}

impl Service {
    pub(crate) async fn start(
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
            let hasher = PasswordHasher::start(hashing()).unwrap();
            let auth = Auth::new(AuthParts {
                users,
                sessions,
                passwords: hasher.clone(),
                clock: clock.clone(),
                tokens: Arc::new(RandomTokens),
                limits,
            });
            serve(&auth, hasher, has_fast_path)
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
            _running: vec![first, second],
        }
    }

    /// How late another process's end of a session may be published here.
    pub(crate) fn telling_lag(&self) -> Duration {
        self.stores.1.telling_lag + Duration::from_secs(2)
    }

    pub(crate) fn advance(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }

    /// Waits until the other process knows that the user's sessions were seen just now.
    pub(crate) async fn activity_is_written(&self, user_id: &str) {
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

    pub(crate) fn now_secs(&self) -> i64 {
        self.clock.now().as_millis().div_euclid(1000)
    }
}

/// As cheap as the rules allow, with room for as many log-ins as a test starts at once.
fn hashing() -> HashingConfig {
    HashingConfig {
        cost: 10,
        threads: 2,
        queue: 2000,
        ..HashingConfig::default()
    }
}

fn serve(auth: &Auth, hasher: PasswordHasher, has_fast_path: bool) -> (Process, Trigger) {
    let options = Options {
        has_fast_path,
        // A hundred log-ins at once take longer than the default on a busy machine.
        call_timeout: Duration::from_secs(60),
        ..Options::default()
    };
    let api = Api::new(auth, options);
    tokio::spawn(api.keep_readiness(auth.clone()));
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_address();
    let mut options = listener::Options::new(Protocol::Rpc);
    options.workers = NonZeroUsize::new(2).unwrap();
    let (trigger, shutdown) = shutdown::channel();
    listener
        .serve(options, shutdown, move || api.for_thread())
        .unwrap();
    let channel = Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect_lazy();
    let process = Process {
        sessions: AuthServiceClient::new(channel.clone()),
        users: UserServiceClient::new(channel.clone()),
        channel,
        address,
        hasher,
    };
    (process, trigger)
}

impl Process {
    /// A user with [`PASSWORD`].
    pub(crate) async fn user(&self, email: &str) -> pb::User {
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
    pub(crate) async fn quick_user(&self, email: &str) -> pb::User {
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

    pub(crate) async fn create(
        &self,
        request: pb::CreateSessionRequest,
    ) -> Result<pb::CreateSessionResponse, Status> {
        Ok(self.sessions.clone().create_session(request).await?.into_inner())
    }

    pub(crate) async fn log_in(
        &self,
        email: &str,
        password: &str,
    ) -> Result<pb::CreateSessionResponse, Status> {
        self.create(by_password(email, password)).await
    }

    /// A session by the caller's word.
    pub(crate) async fn session_of(&self, user: &pb::User) -> pb::CreateSessionResponse {
        self.create(by_user_id(&user.id)).await.unwrap()
    }

    pub(crate) async fn check(&self, token: &str) -> Result<pb::UserIdForSessionResponse, Status> {
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

    pub(crate) async fn is_alive(&self, token: &str) -> bool {
        match self.check(token).await {
            Ok(_) => true,
            Err(status) if status.code() == Code::Unauthenticated => false,
            Err(status) => panic!("neither alive nor dead: {status:?}"),
        }
    }

    pub(crate) async fn destroy(&self, token: &str) -> bool {
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

    pub(crate) async fn revoke_user(&self, user: &str, except: &str) -> i64 {
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

pub(crate) fn by_password(email: &str, password: &str) -> pb::CreateSessionRequest {
    let credential = pb::PasswordCredential {
        email: email.into(),
        password: password.into(),
    };
    pb::CreateSessionRequest {
        credential: Some(Credential::Password(credential)),
        ..Default::default()
    }
}

pub(crate) fn by_user_id(id: &str) -> pb::CreateSessionRequest {
    pb::CreateSessionRequest {
        credential: Some(Credential::UserId(id.into())),
        ..Default::default()
    }
}

/// The reason in a status's `ErrorInfo`, which must be of our domain.
pub(crate) fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, ERROR_DOMAIN);
    info.reason.clone()
}

/// The fields that a status's `BadRequest` names.
pub(crate) fn bad_fields(status: &Status) -> Vec<String> {
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
pub(crate) fn visible(status: &Status) -> (Code, String, Vec<u8>, String) {
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
