//! Stores that other programs run: PostgreSQL and Redis.

use crate::{
    built::{SESSIOND, start_sessiond},
    cli::{Cli, log_in},
};
use sessiond::{
    contract::{LOG_IN_HEALTH, reason_of},
    domain::TokenDigest,
    pb::{self, auth_service_client::AuthServiceClient, user_service_client::UserServiceClient},
};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};
use testkit::{
    postgres::PostgresServer,
    process::{Running, program, shell, text},
    redis::RedisServer,
};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

const PASSWORD: &str = "blue lamp over the river";

fn cli_for<'a>(dir: &'a Path, running: &Running) -> Cli<'a> {
    Cli {
        dir,
        arguments: vec![format!("--server=http://{}", running.grpc.unwrap())],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_share_postgresql_share_users_and_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let server = tokio::task::block_in_place(PostgresServer::start);
    let url_file = dir.path().join("url");
    fs::write(&url_file, server.new_database()).unwrap();
    fs::set_permissions(&url_file, fs::Permissions::from_mode(0o600)).unwrap();
    let from_file = "--store-url-file=url";
    let offline = Cli {
        dir: dir.path(),
        arguments: vec![from_file.to_owned()],
    };
    assert_eq!(
        offline.succeed("migrate", ""),
        "The schema is up to date in PostgreSQL\n"
    );

    let [here, there] = [(); 2].map(|()| start_sessiond(dir.path(), &[from_file, "--gateway=false"]));
    cli_for(dir.path(), &here).succeed("users create ada@example.org", &format!("{PASSWORD}\n"));
    let session = log_in(&here, PASSWORD).await.unwrap();
    let seen = cli_for(dir.path(), &there).json("sessions list ada@example.org");
    assert_eq!(seen[0]["id"], session.as_str());
    cli_for(dir.path(), &there).succeed("sessions revoke ada@example.org", "");
    assert!(
        cli_for(dir.path(), &here)
            .json("sessions list ada@example.org")
            .is_empty()
    );
    for running in [here, there] {
        let (status, log) = running.stopped();
        assert!(status.success(), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_live_in_redis_and_users_in_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let server = tokio::task::block_in_place(RedisServer::start);
    let store = format!("--session-store={}", server.url());
    let mut running = start_sessiond(dir.path(), &[&store, "--gateway=false"]);
    cli_for(dir.path(), &running).succeed("users create ada@example.org", &format!("{PASSWORD}\n"));
    let session = log_in(&running, PASSWORD).await.unwrap();
    assert!(running.printed_until("in Redis").contains("in the directory"));
    let (status, log) = running.stopped();
    assert!(status.success(), "{log}");
    // It keeps nothing on disk, and that is said.
    assert!(log.contains("\"event\":\"redis_durability\""), "{log}");

    let running = start_sessiond(dir.path(), &[&store, "--gateway=false"]);
    let seen = cli_for(dir.path(), &running).json("sessions list ada@example.org");
    assert_eq!(seen[0]["id"], session.as_str());
}

#[test]
fn a_store_that_cannot_be_reached_is_named_without_its_password() {
    let dir = tempfile::tempdir().unwrap();
    let free = testkit::waiting::free_port();
    for (flag, url) in [
        (
            "--store-url-file=url",
            format!("postgres://app:hunter2@127.0.0.1:{free}/app"),
        ),
        (
            "--session-store-url-file=url",
            format!("redis://:hunter2@127.0.0.1:{free}"),
        ),
    ] {
        let url_file = dir.path().join("url");
        fs::write(&url_file, url).unwrap();
        fs::set_permissions(&url_file, fs::Permissions::from_mode(0o600)).unwrap();
        let mut command = program(SESSIOND, dir.path());
        command.args(["--listen=127.0.0.1:0", "--gateway=false", flag]);
        let output = command.output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains("PostgreSQL") || stderr.contains("Redis"),
            "{stderr}"
        );
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_to_another_store_logs_nobody_out() {
    let dir = tempfile::tempdir().unwrap();
    let server = tokio::task::block_in_place(PostgresServer::start);
    let url_file = dir.path().join("url");
    fs::write(&url_file, server.new_database()).unwrap();
    fs::set_permissions(&url_file, fs::Permissions::from_mode(0o600)).unwrap();

    let before = start_sessiond(dir.path(), &["--gateway=false"]);
    cli_for(dir.path(), &before).succeed("users create ada@example.org", &format!("{PASSWORD}\n"));
    let session = log_in(&before, PASSWORD).await.unwrap();
    let offline = Cli {
        dir: dir.path(),
        arguments: Vec::new(),
    };
    // While the data directory is in use it cannot be copied.
    let refusal = offline.fail("copy --from ./sessiond-data --to @url", "");
    assert!(refusal.contains("sessiond-data"), "{refusal}");
    before.stopped();

    let copied = offline.succeed("copy --from ./sessiond-data --to @url", "");
    assert_eq!(
        copied,
        "1 users: 1 copied, 0 taken away\n1 sessions: 1 copied, 0 taken away\n"
    );
    let again = offline.succeed("copy --from ./sessiond-data --to @url", "");
    assert_eq!(
        again,
        "1 users: 0 copied, 0 taken away\n1 sessions: 0 copied, 0 taken away\n"
    );

    let after = start_sessiond(dir.path(), &["--store-url-file=url", "--gateway=false"]);
    let seen = cli_for(dir.path(), &after).json("sessions list ada@example.org");
    assert_eq!(seen[0]["id"], session.as_str());
    assert!(log_in(&after, PASSWORD).await.is_ok());

    let refusal = offline.fail("copy --from ./nothing-here --to @url", "");
    assert!(refusal.contains("no data"), "{refusal}");
}

/// What a user does in a while: several log-ins, one of them rotated, one ended. Every token that was ever shown.
async fn tokens_of_a_busy_user(running: &Running) -> Vec<String> {
    let url = format!("http://{}", running.grpc.unwrap());
    let mut users = UserServiceClient::connect(url.clone()).await.unwrap();
    let mut sessions = AuthServiceClient::connect(url).await.unwrap();
    let request = pb::CreateUserRequest {
        email: "ada@example.org".into(),
        ..Default::default()
    };
    let user = users
        .create_user(request)
        .await
        .unwrap()
        .into_inner()
        .user
        .unwrap();
    let mut tokens = Vec::new();
    for _ in 0..20 {
        let credential = Some(pb::create_session_request::Credential::UserId(user.id.clone()));
        let request = pb::CreateSessionRequest {
            credential,
            ..Default::default()
        };
        tokens.push(
            sessions
                .create_session(request)
                .await
                .unwrap()
                .into_inner()
                .session_token,
        );
    }
    let grace = Some(prost_types::Duration {
        seconds: 60,
        nanos: 0,
    });
    let request = pb::RotateSessionRequest {
        session_token: tokens[0].clone(),
        grace,
    };
    tokens.push(
        sessions
            .rotate_session(request)
            .await
            .unwrap()
            .into_inner()
            .session_token,
    );
    let session = Some(pb::destroy_session_request::Session::SessionToken(
        tokens[1].clone(),
    ));
    sessions
        .destroy_session(pb::DestroySessionRequest { session })
        .await
        .unwrap();
    for digest in [hex(&tokens[2]), base64_of(&tokens[2])] {
        for presented in [digest.clone(), format!("ses_{digest}")] {
            let request = pb::UserIdForSessionRequest {
                session_token: presented,
            };
            let refused = sessions.user_id_for_session(request).await.unwrap_err();
            assert_eq!(
                refused.code(),
                tonic::Code::Unauthenticated,
                "a stored digest is no token"
            );
        }
    }
    tokens
}

fn hex(token: &str) -> String {
    let digest = TokenDigest::of_presented(token).unwrap();
    digest
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn base64_of(token: &str) -> String {
    let digest = TokenDigest::of_presented(token).unwrap();
    base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        digest.as_bytes(),
    )
}

/// That what is stored has the digest of a living session somewhere, and no token anywhere, in no spelling.
fn assert_only_digests(stored: &[u8], tokens: &[String]) {
    let holds = |needle: &[u8]| stored.windows(needle.len()).any(|window| window == needle);
    let digest = *TokenDigest::of_presented(&tokens[2]).unwrap().as_bytes();
    let is_there =
        holds(&digest) || holds(hex(&tokens[2]).as_bytes()) || holds(base64_of(&tokens[2]).as_bytes());
    assert!(is_there, "this is not where sessions are stored");
    for token in tokens {
        let secret = &token["ses_".len()..];
        let engine = &base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let random = base64::Engine::decode(engine, secret).unwrap();
        assert!(!holds(secret.as_bytes()) && !holds(&random), "a token is stored");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s_02_the_data_directory_holds_digests_only() {
    let dir = tempfile::tempdir().unwrap();
    let running = start_sessiond(dir.path(), &["--gateway=false"]);
    let tokens = tokens_of_a_busy_user(&running).await;
    running.stopped();
    let files = fs::read_dir(dir.path().join("sessiond-data")).unwrap();
    let stored: Vec<u8> = files
        .flat_map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert_only_digests(&stored, &tokens);
}

#[tokio::test(flavor = "multi_thread")]
async fn s_02_postgresql_holds_digests_only() {
    let dir = tempfile::tempdir().unwrap();
    let server = tokio::task::block_in_place(PostgresServer::start);
    let url = server.new_database();
    fs::write(dir.path().join("url"), &url).unwrap();
    fs::set_permissions(dir.path().join("url"), fs::Permissions::from_mode(0o600)).unwrap();
    let running = start_sessiond(dir.path(), &["--store-url-file=url", "--gateway=false"]);
    let tokens = tokens_of_a_busy_user(&running).await;
    let database = url.rsplit_once('/').unwrap().1.split('?').next().unwrap();
    let tables = [
        "sessions",
        "users",
        "epochs",
        "revocations",
        "unnumbered_revocations",
    ];
    let stored: String = tables
        .map(|table| server.sql(database, &format!("SELECT * FROM sessiond.{table}")))
        .concat();
    assert_only_digests(stored.as_bytes(), &tokens);
}

#[tokio::test(flavor = "multi_thread")]
async fn s_02_redis_holds_digests_only() {
    let dir = tempfile::tempdir().unwrap();
    let server = tokio::task::block_in_place(RedisServer::start);
    let store = format!("--session-store={}", server.url());
    let running = start_sessiond(dir.path(), &[&store, "--gateway=false"]);
    let tokens = tokens_of_a_busy_user(&running).await;
    let mut stored = Vec::new();
    for key in server.keys() {
        stored.extend_from_slice(&key);
        let name = String::from_utf8(key).unwrap();
        stored.extend(server.try_ask::<Vec<u8>>(&["DUMP", &name]).unwrap_or_default());
    }
    assert_only_digests(&stored, &tokens);
}

/// What the health service says under this name.
async fn health(running: &Running, service: &str) -> ServingStatus {
    let url = format!("http://{}", running.grpc.unwrap());
    let channel = Endpoint::from_shared(url).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    let service = service.to_owned();
    let answer = client.check(HealthCheckRequest { service }).await.unwrap();
    answer.into_inner().status()
}

#[tokio::test(flavor = "multi_thread")]
async fn f_03_a_full_redis_refuses_log_ins_and_everything_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = tokio::task::block_in_place(RedisServer::start);
    let store = format!("--session-store={}", server.url());
    let arguments = [&store, "--gateway=false", "--metrics-listen=127.0.0.1:0"];
    let mut running = start_sessiond(dir.path(), &arguments);
    cli_for(dir.path(), &running).succeed("users create ada@example.org", &format!("{PASSWORD}\n"));
    log_in(&running, PASSWORD).await.unwrap();
    assert_eq!(health(&running, LOG_IN_HEALTH).await, ServingStatus::Serving);

    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = log_in(&running, PASSWORD).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(reason_of(&refused), Some(pb::ErrorReason::StoreFull));
    assert!(refused.get_details_retry_info().unwrap().retry_delay.is_some());
    running.line_with("\"event\":\"store_full\"");
    assert_eq!(health(&running, LOG_IN_HEALTH).await, ServingStatus::NotServing);
    assert_eq!(health(&running, "").await, ServingStatus::Serving);
    let metrics = format!("http://{}/metrics", running.metrics.unwrap());
    let numbers = shell(dir.path(), &format!("curl -sS -f {metrics}"));
    assert!(numbers.contains("\nsessiond_store_full 1.0\n"), "{numbers}");
    cli_for(dir.path(), &running).succeed("sessions revoke ada@example.org", "");

    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    running.line_with("\"event\":\"store_has_room\"");
    log_in(&running, PASSWORD).await.unwrap();
}
