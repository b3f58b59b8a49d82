//! The service and the gateway, started for one test and stopped with it.

use super::{
    logs,
    wire::{Ask, Jar, Reply, get, post},
};
use sessiond::{
    auth::{Auth, AuthParts},
    domain::{ManualClock, RandomTokens, SessionLimits, Timestamp},
    gateway::{GatewayConfig, connect, router},
    listener::Protocol,
    password::PasswordHasher,
    pb::{self, auth_service_client::AuthServiceClient, user_service_client::UserServiceClient},
    store::MemoryStore,
};
use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};
use testkit::{
    service::{Served, cheap_hashing},
    waiting::{PATIENCE, in_time},
};
use tonic::transport::{Channel, Endpoint};

pub(crate) const EMAIL: &str = "bobsession@hbtn.io";
pub(crate) const PASSWORD: &str = "a quiet harbour at dawn";
pub(crate) const ADMIN_EMAIL: &str = "admin@hbtn.io";

pub(crate) const LOGIN: &str = "/api/v1/auth_session/login";
pub(crate) const LOGOUT: &str = "/api/v1/auth_session/logout";
pub(crate) const ME: &str = "/api/v1/users/me";
pub(crate) const USERS: &str = "/api/v1/users";
pub(crate) const SESSIONS: &str = "/api/v1/sessions";

/// One for all tests: it owns threads.
static HASHER: LazyLock<PasswordHasher> = LazyLock::new(|| PasswordHasher::start(cheap_hashing()).unwrap());

pub(crate) fn channel_to(address: SocketAddr) -> Channel {
    connect(Endpoint::from_shared(format!("http://{address}")).unwrap())
}

/// A gateway in front of whatever answers at an address.
pub(crate) fn serve_gateway(config: GatewayConfig, channel: Channel) -> Served {
    let routes = router(config, channel);
    Served::start(Protocol::Web, 1, move || routes.clone())
}

/// The service with its gateway.
pub(crate) struct Stage {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) sessions: AuthServiceClient<Channel>,
    users: UserServiceClient<Channel>,
    service: Served,
    web: Served,
}

/// How a test reaches the gateway unless it is about something else: from this machine, in the clear.
pub(crate) fn plain() -> GatewayConfig {
    GatewayConfig {
        listens_on_plain_loopback: true,
        call_timeout: PATIENCE,
        ..GatewayConfig::default()
    }
}

impl Stage {
    pub(crate) async fn set() -> Self {
        Self::set_with(plain()).await
    }

    pub(crate) async fn set_with(config: GatewayConfig) -> Self {
        Self::set_within(config, SessionLimits::DEFAULT).await
    }

    /// With two users: one of no special role, and an administrator.
    pub(crate) async fn set_within(config: GatewayConfig, limits: SessionLimits) -> Self {
        logs::capture();
        let clock = Arc::new(ManualClock::standing_at(Timestamp::from_millis(
            1_795_000_000_000,
        )));
        let store = Arc::new(MemoryStore::new());
        let auth = Auth::new(AuthParts {
            users: store.clone(),
            sessions: store,
            passwords: HASHER.clone(),
            clock: clock.clone(),
            tokens: Arc::new(RandomTokens),
            limits,
        });
        let service = Served::rpc(&auth, 1);
        let channel = channel_to(service.address);
        let stage = Self {
            clock,
            sessions: AuthServiceClient::new(channel.clone()),
            users: UserServiceClient::new(channel.clone()),
            web: serve_gateway(config, channel),
            service,
        };
        stage.create_user(EMAIL, &[]).await;
        // Ids of one millisecond have no order.
        stage.clock.advance(Duration::from_millis(1));
        stage.create_user(ADMIN_EMAIL, &["admin"]).await;
        stage
    }

    /// Creates a user with [`PASSWORD`], past the gateway.
    pub(crate) async fn create_user(&self, email: &str, roles: &[&str]) -> pb::User {
        let request = pb::CreateUserRequest {
            email: email.to_owned(),
            credential: Some(pb::create_user_request::Credential::Password(PASSWORD.to_owned())),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..Default::default()
        };
        let created = self.users.clone().create_user(request).await.unwrap();
        created.into_inner().user.unwrap()
    }

    /// Creates a session, past the gateway and without a password.
    pub(crate) async fn create_session(&self, user_id: &str) -> pb::Session {
        let request = pb::CreateSessionRequest {
            credential: Some(pb::create_session_request::Credential::UserId(user_id.to_owned())),
            ..Default::default()
        };
        let created = self.sessions.clone().create_session(request).await.unwrap();
        created.into_inner().session.unwrap()
    }

    pub(crate) async fn disable_user(&self, id: &str) {
        let request = pb::DisableUserRequest {
            user_id: id.to_owned(),
        };
        self.users.clone().disable_user(request).await.unwrap();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.web.address
    }

    pub(crate) async fn send(&self, ask: Ask) -> Reply {
        ask.send(self.web.address).await
    }

    /// Logs in and returns the browser's cookies.
    pub(crate) async fn log_in(&self, email: &str) -> Jar {
        let mut jar = Jar::default();
        let reply = self.send(log_in_as(email, PASSWORD)).await.expect(200);
        jar.keep(&reply);
        jar
    }

    /// The user that a token proves, asked past the gateway; `None` if it proves none.
    pub(crate) async fn whose(&self, token: &str) -> Option<String> {
        let request = pb::UserIdForSessionRequest {
            session_token: token.to_owned(),
        };
        match self.sessions.clone().user_id_for_session(request).await {
            Ok(found) => Some(found.into_inner().user_id),
            Err(status) => {
                assert_eq!(status.code(), tonic::Code::Unauthenticated, "{status:?}");
                None
            }
        }
    }

    pub(crate) async fn session_count(&self) -> i64 {
        let stats = self
            .sessions
            .clone()
            .get_stats(pb::GetStatsRequest {})
            .await
            .unwrap();
        stats.into_inner().session_count
    }

    /// Cuts the service off, as a crash would.
    pub(crate) async fn stop_service(&self) {
        self.service.stop_now();
        while tokio::net::TcpStream::connect(self.service.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the service says that it serves: it asks its store first.
    pub(crate) async fn ready(&self) {
        in_time(async { while self.send(get("/api/v1/status")).await.status != 200 {} }).await;
    }
}

pub(crate) fn log_in_as(email: &str, password: &str) -> Ask {
    post(LOGIN).json(&serde_json::json!({ "email": email, "password": password }))
}
