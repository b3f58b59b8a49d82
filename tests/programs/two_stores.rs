//! A change of a user that ends their sessions, while the store of sessions is away: users live in one store, sessions in Redis.

use crate::built::start_sessiond;
use sessiond::{
    contract::reason_of,
    pb::{
        ChangePasswordRequest, CreateSessionRequest, CreateUserRequest, DeleteUserRequest,
        DisableUserRequest, ErrorReason, GetUserRequest, PasswordCredential, SetPasswordRequest,
        UserIdForSessionRequest, auth_service_client::AuthServiceClient, change_password_request,
        create_session_request, create_user_request, get_user_request, set_password_request,
        user_service_client::UserServiceClient,
    },
};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use testkit::{postgres::PostgresServer, process::Running, redis::RedisServer};
use tonic::{Code, Status, transport::Channel};

const EMAIL: &str = "ada@example.org";
const OLD: &str = "blue lamp over the river";
const NEW: &str = "green lamp under the bridge";

/// Longer than a change takes to complete once every store is back, on a busy machine.
const BOUND: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    ReplacePassword,
    SetPassword,
    Disable,
    Delete,
}

const CHANGES: [Change; 4] = [
    Change::ReplacePassword,
    Change::SetPassword,
    Change::Disable,
    Change::Delete,
];

/// Users in one store and sessions in Redis, with the processes that serve them.
struct Stage {
    redis: RedisServer,
    dir: TempDir,
    arguments: Vec<String>,
}

impl Stage {
    fn over_embedded() -> Self {
        Self::over(None)
    }

    fn over_postgres() -> Self {
        Self::over(Some(PostgresServer::shared()))
    }

    fn over(postgres: Option<&PostgresServer>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Durable, so that what a test holds against it is not what Redis itself forgets.
        let redis = RedisServer::start_durable();
        let mut arguments = vec![
            format!("--session-store={}", redis.url()),
            "--gateway=false".to_owned(),
            "--password-cost=10".to_owned(),
        ];
        if let Some(postgres) = postgres {
            let url_file = dir.path().join("url");
            fs::write(&url_file, postgres.new_database()).unwrap();
            fs::set_permissions(&url_file, fs::Permissions::from_mode(0o600)).unwrap();
            arguments.push("--store-url-file=url".to_owned());
        }
        Self {
            redis,
            dir,
            arguments,
        }
    }

    fn start(&self) -> Running {
        let arguments: Vec<_> = self.arguments.iter().map(String::as_str).collect();
        start_sessiond(self.dir.path(), &arguments)
    }
}

/// One process, as its clients reach it.
#[derive(Clone)]
struct Service {
    auth: AuthServiceClient<Channel>,
    users: UserServiceClient<Channel>,
}

impl Service {
    async fn of(running: &Running) -> Self {
        let url = format!("http://{}", running.grpc.unwrap());
        Self {
            auth: AuthServiceClient::connect(url.clone()).await.unwrap(),
            users: UserServiceClient::connect(url).await.unwrap(),
        }
    }

    async fn create_user(&mut self) -> String {
        let request = CreateUserRequest {
            email: EMAIL.to_owned(),
            credential: Some(create_user_request::Credential::Password(OLD.to_owned())),
            ..CreateUserRequest::default()
        };
        let created = self.users.create_user(request).await.unwrap().into_inner();
        created.user.unwrap().id
    }

    async fn log_in(&mut self, password: &str) -> Result<String, Status> {
        let credential = create_session_request::Credential::Password(PasswordCredential {
            email: EMAIL.to_owned(),
            password: password.to_owned(),
        });
        let request = CreateSessionRequest {
            credential: Some(credential),
            ..CreateSessionRequest::default()
        };
        Ok(self
            .auth
            .create_session(request)
            .await?
            .into_inner()
            .session_token)
    }

    async fn check(&mut self, token: &str) -> Result<(), Status> {
        let session_token = token.to_owned();
        let request = UserIdForSessionRequest { session_token };
        self.auth.user_id_for_session(request).await.map(drop)
    }

    async fn make(&mut self, change: Change, user: &str) -> Result<(), Status> {
        let user_id = user.to_owned();
        match change {
            Change::ReplacePassword => {
                let request = ChangePasswordRequest {
                    subject: Some(change_password_request::Subject::UserId(user_id)),
                    current_password: OLD.to_owned(),
                    new_password: NEW.to_owned(),
                };
                self.users.change_password(request).await.map(drop)
            }
            Change::SetPassword => {
                let request = SetPasswordRequest {
                    user_id,
                    credential: Some(set_password_request::Credential::Password(NEW.to_owned())),
                };
                self.users.set_password(request).await.map(drop)
            }
            Change::Disable => {
                let request = DisableUserRequest { user_id };
                self.users.disable_user(request).await.map(drop)
            }
            Change::Delete => {
                let request = DeleteUserRequest { user_id };
                self.users.delete_user(request).await.map(drop)
            }
        }
    }

    /// Asks about a token until it proves nothing.
    ///
    /// # Panics
    /// If it proves its session once, or if the answer stays unknown for too long.
    async fn is_never_alive_and_dead_in_the_end(&mut self, token: &str) {
        let started_at = Instant::now();
        loop {
            match self.check(token).await {
                Ok(()) => panic!("alive, {:?} after the store was back", started_at.elapsed()),
                Err(status) if status.code() == Code::Unauthenticated => return,
                Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
            }
            assert!(started_at.elapsed() < BOUND, "nobody can tell for {BOUND:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Holds the user against what the change says, as soon as it is complete.
    async fn is_changed(&mut self, change: Change, user: &str) {
        let started_at = Instant::now();
        let outcome = loop {
            let password = match change {
                Change::ReplacePassword | Change::SetPassword => NEW,
                Change::Disable | Change::Delete => OLD,
            };
            match self.log_in(password).await {
                Err(status) if status.code() == Code::Unavailable => {}
                outcome => break outcome.map_err(|status| status.code()),
            }
            assert!(started_at.elapsed() < BOUND, "no log-in for {BOUND:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let request = GetUserRequest {
            key: Some(get_user_request::Key::UserId(user.to_owned())),
        };
        let found = self.users.get_user(request).await;
        match change {
            Change::ReplacePassword | Change::SetPassword => {
                assert!(outcome.is_ok(), "{outcome:?}");
                let old = self.log_in(OLD).await.unwrap_err();
                assert_eq!(reason_of(&old), Some(ErrorReason::InvalidCredentials));
            }
            Change::Disable => {
                assert_eq!(outcome.unwrap_err(), Code::Unauthenticated);
                assert!(found.unwrap().into_inner().user.unwrap().disabled_at.is_some());
            }
            Change::Delete => {
                assert_eq!(outcome.unwrap_err(), Code::Unauthenticated);
                assert_eq!(found.unwrap_err().code(), Code::NotFound);
            }
        }
    }
}

/// A user with a live session, and a change of them that was asked for while Redis hung.
async fn changed_without_redis(
    stage: &Stage,
    service: &mut Service,
    change: Change,
) -> (String, String, Status) {
    let user = service.create_user().await;
    let token = service.log_in(OLD).await.unwrap();
    stage.redis.hang();
    let status = service.make(change, &user).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    (user, token, status)
}

async fn completes_by_itself(stage: Stage, change: Change) {
    let running = stage.start();
    let mut service = Service::of(&running).await;
    let (user, token, status) = changed_without_redis(&stage, &mut service, change).await;
    assert_eq!(reason_of(&status), Some(ErrorReason::ChangePending), "{status:?}");
    stage.redis.go_on();
    service.is_never_alive_and_dead_in_the_end(&token).await;
    service.is_changed(change, &user).await;
}

async fn completes_after_a_crash(stage: Stage, change: Change) {
    let running = stage.start();
    let mut service = Service::of(&running).await;
    let (user, token, _) = changed_without_redis(&stage, &mut service, change).await;
    running.signal(rustix::process::Signal::KILL);
    running.ended(BOUND);
    stage.redis.go_on();
    // What the killed process had sent to Redis may have been carried out; what it recorded has to be.
    let running = stage.start();
    let mut service = Service::of(&running).await;
    service.is_never_alive_and_dead_in_the_end(&token).await;
    service.is_changed(change, &user).await;
}

/// Another process completes on its own what a killed one has left.
async fn completes_elsewhere(stage: Stage, change: Change) {
    let [running, other] = [stage.start(), stage.start()];
    let mut service = Service::of(&running).await;
    let (user, token, _) = changed_without_redis(&stage, &mut service, change).await;
    running.signal(rustix::process::Signal::KILL);
    running.ended(BOUND);
    stage.redis.go_on();
    let mut other = Service::of(&other).await;
    let started_at = Instant::now();
    while other.check(&token).await.is_ok() {
        assert!(started_at.elapsed() < BOUND, "alive for {BOUND:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    other.is_never_alive_and_dead_in_the_end(&token).await;
    other.is_changed(change, &user).await;
}

macro_rules! changes_of_users {
    ($($test:ident: $stage:ident, $course:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            for change in CHANGES {
                println!("{change:?}");
                let stage = tokio::task::block_in_place(Stage::$stage);
                $course(stage, change).await;
            }
        }
    )*};
}

changes_of_users! {
    s_13_a_change_without_redis_completes_by_itself_embedded: over_embedded, completes_by_itself;
    s_13_a_change_without_redis_completes_by_itself_postgres: over_postgres, completes_by_itself;
    s_13_a_change_without_redis_survives_a_crash_embedded: over_embedded, completes_after_a_crash;
    s_13_a_change_without_redis_survives_a_crash_postgres: over_postgres, completes_after_a_crash;
    s_13_a_change_without_redis_completes_elsewhere: over_postgres, completes_elsewhere;
}
