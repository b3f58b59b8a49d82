//! The client against the service itself, over the memory store.

use futures_util::future::join_all;
use sessiond::{
    auth::{Auth, AuthParts},
    client::{CheckError, ClientOptions, SessionClient},
    domain::{RandomTokens, SessionLimits, SessionSpan, SystemClock},
    password::PasswordHasher,
    pb,
    store::MemoryStore,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use testkit::{
    service::{Served, cheap_hashing},
    waiting::{PATIENCE, eventually},
};
use tokio::time::timeout;
use tonic::transport::Endpoint;

/// One sessiond. Stopped when dropped.
pub(crate) struct Service(Served);

impl Service {
    pub(crate) fn start() -> Self {
        let store = Arc::new(MemoryStore::new());
        let auth = Auth::new(AuthParts {
            users: store.clone(),
            sessions: store,
            passwords: PasswordHasher::start(cheap_hashing()).unwrap(),
            clock: Arc::new(SystemClock::starting_at_wall_time(None)),
            tokens: Arc::new(RandomTokens),
            limits: SessionLimits {
                span: SessionSpan::from_secs(12 * 3600, 1800),
                max_per_user: 10_000,
            },
        });
        Self(Served::rpc(&auth, 2))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.0.endpoint()
    }

    pub(crate) fn client(&self, options: ClientOptions) -> SessionClient {
        SessionClient::start(self.endpoint(), options).unwrap()
    }
}

pub(crate) async fn user(client: &SessionClient, email: &str) -> pb::User {
    let request = pb::CreateUserRequest {
        email: email.into(),
        ..Default::default()
    };
    client
        .user_service()
        .create_user(request)
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap()
}

pub(crate) async fn log_in(client: &SessionClient, user: &pb::User) -> pb::CreateSessionResponse {
    let credential = pb::create_session_request::Credential::UserId(user.id.clone());
    let request = pb::CreateSessionRequest {
        credential: Some(credential),
        ..Default::default()
    };
    client
        .auth_service()
        .create_session(request)
        .await
        .unwrap()
        .into_inner()
}

async fn live_client(service: &Service) -> SessionClient {
    let client = service.client(ClientOptions::default());
    timeout(PATIENCE, client.cache_live()).await.unwrap();
    client
}

#[tokio::test]
async fn a_session_is_remembered_until_it_is_ended_elsewhere() {
    let service = Service::start();
    let (here, there) = (live_client(&service).await, live_client(&service).await);
    let user = user(&here, "ann@example.com").await;
    let token = log_in(&here, &user).await.session_token;
    for client in [&here, &there] {
        let checked = client.check(&token).await.unwrap();
        assert_eq!(checked.user_id.to_string(), user.id);
        assert_eq!(
            client.try_cached(&token).map(|session| session.session_id),
            Some(checked.session_id)
        );
    }
    assert!(there.destroy_session(&token).await.unwrap());
    assert_eq!(there.check(&token).await, Err(CheckError::Invalid));
    eventually("the end is heard", || here.try_cached(&token).is_none()).await;
    assert_eq!(here.check(&token).await, Err(CheckError::Invalid));
    assert!(here.is_cache_live());
}

#[tokio::test]
async fn s_17_all_sessions_of_a_user_end_everywhere_but_the_one_that_is_spared() {
    let service = Service::start();
    let (here, there) = (live_client(&service).await, live_client(&service).await);
    let user = user(&here, "ann@example.com").await;
    let sessions = [log_in(&here, &user).await, log_in(&here, &user).await];
    for session in &sessions {
        here.check(&session.session_token).await.unwrap();
    }
    let [spared, ended] = sessions;
    let request = pb::RevokeSessionsRequest {
        target: Some(pb::revoke_sessions_request::Target::UserId(user.id)),
        except_session_id: spared.session.unwrap().id,
    };
    there.auth_service().revoke_sessions(request).await.unwrap();
    eventually("the end is heard", || {
        here.try_cached(&ended.session_token).is_none()
    })
    .await;
    assert_eq!(here.check(&ended.session_token).await, Err(CheckError::Invalid));
    assert!(here.check(&spared.session_token).await.is_ok());
    assert!(here.try_cached(&spared.session_token).is_some());
}

#[tokio::test]
async fn f_12_thousands_of_checks_at_once_each_get_their_own_answer() {
    let service = Service::start();
    let client = live_client(&service).await;
    let mut sessions = Vec::new();
    for n in 0..20 {
        let user = user(&client, &format!("user-{n}@example.com")).await;
        let logging_in = (0..50).map(|_| log_in(&client, &user));
        let tokens = join_all(logging_in)
            .await
            .into_iter()
            .map(|created| created.session_token);
        sessions.extend(tokens.map(|token| (token, user.id.clone())));
    }
    let none = |n: usize| sessiond::domain::SessionToken::from_random([n as u8; 32]);
    let nones: Vec<_> = (0..100).map(none).collect();
    let checks = sessions.iter().map(|(token, user)| async {
        assert_eq!(client.check(token).await.unwrap().user_id.to_string(), *user);
    });
    let refusals = nones.iter().map(|token| async {
        assert_eq!(client.check(token.expose()).await, Err(CheckError::Invalid));
    });
    futures_util::future::join(join_all(checks), join_all(refusals)).await;
    for (token, user) in &sessions {
        assert_eq!(client.try_cached(token).unwrap().user_id.to_string(), *user);
    }
}

#[tokio::test]
async fn s_96_a_service_that_is_gone_can_tell_nothing() {
    let service = Service::start();
    let client = live_client(&service).await;
    let user = user(&client, "ann@example.com").await;
    let token = log_in(&client, &user).await.session_token;
    client.check(&token).await.unwrap();
    service.0.stopped().await;
    eventually("the stream has ended", || !client.is_cache_live()).await;
    let error = client.check(&token).await.unwrap_err();
    assert!(matches!(error, CheckError::CannotTell(_)), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_refuse_within_moments_of_a_log_out() {
    let service = Service::start();
    let options = ClientOptions {
        max_entries: 64,
        connections: 1,
        // So long that no trust lapses while the test waits.
        staleness_bound: PATIENCE * 10,
        ..ClientOptions::default()
    };
    let clients: Vec<_> = (0..100).map(|_| service.client(options.clone())).collect();
    for client in &clients {
        timeout(PATIENCE, client.cache_live()).await.unwrap();
    }
    let user = user(&clients[0], "ann@example.com").await;
    let token = log_in(&clients[0], &user).await.session_token;
    for client in &clients {
        client.check(&token).await.unwrap();
        assert!(client.try_cached(&token).is_some());
    }
    clients[0].destroy_session(&token).await.unwrap();
    for client in &clients {
        eventually("the end is heard", || client.try_cached(&token).is_none()).await;
    }
    // It came as an event, not by the trust's lapse.
    assert!(clients.iter().all(SessionClient::is_cache_live));
}

#[tokio::test]
async fn s_13_an_old_token_is_not_remembered_beyond_its_grace() {
    let service = Service::start();
    let client = live_client(&service).await;
    let user = user(&client, "ann@example.com").await;
    let old = log_in(&client, &user).await.session_token;
    client.check(&old).await.unwrap();
    let request = pb::RotateSessionRequest {
        session_token: old.clone(),
        // Shorter than the margin before its end in which nothing is given from memory.
        grace: Some(Duration::from_secs(5).try_into().unwrap()),
    };
    let rotated = client
        .auth_service()
        .rotate_session(request)
        .await
        .unwrap()
        .into_inner();
    client.forget_token(&old);
    assert!(client.check(&old).await.is_ok());
    assert_eq!(client.try_cached(&old), None);
    assert!(client.check(&rotated.session_token).await.is_ok());
}
