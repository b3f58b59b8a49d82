//! Addresses that a former version stored: who logs in with them, and what `users check-emails` says and does.

use crate::{built::start_sessiond, cli::Cli};
use sessiond::{
    domain::{Email, Names, PasswordHash, Roles, Timestamp, User, UserId},
    pb::{
        CreateSessionRequest, PasswordCredential, auth_service_client::AuthServiceClient,
        create_session_request::Credential,
    },
    store::{EmbeddedStore, Inserted, PostgresConfig, PostgresStore, PostgresUrl, UserRecord, UserStore},
};
use std::{fs, os::unix::fs::PermissionsExt as _};
use testkit::{postgres::PostgresServer, process::Running};

const PASSWORD: &str = "blue lamp over the river";

/// Each as a person typed it, and the key that the former version made of it.
const FORMER_USERS: [(&str, &str); 6] = [
    ("Ada@example.org", "ada@example.org"),
    ("νικος@example.gr", "νικος@example.gr"),
    ("ΝΙΚΟΣ@example.gr", "νικοσ@example.gr"),
    ("straße@example.de", "straße@example.de"),
    ("user@xn--mnchen-3ya.de", "user@xn--mnchen-3ya.de"),
    (".a@example.org", ".a@example.org"),
];

async fn write_former_users(store: &dyn UserStore) {
    // Of the lowest cost that is taken: the first log-in replaces it.
    let hash = PasswordHash::from_stored(bcrypt::hash(PASSWORD, 4).unwrap());
    for (n, (typed, key)) in (1..).zip(FORMER_USERS) {
        let created_at = Timestamp::from_millis(1_795_000_000_000 + i64::from(n));
        let user = User {
            id: UserId::new(created_at, [n; 10]),
            email: Email::from_stored(typed.to_owned(), key.to_owned()),
            names: Names::default(),
            roles: Roles::default(),
            created_at,
            updated_at: created_at,
            disabled_at: None,
            version: 1,
        };
        let password_hash = Some(hash.clone());
        let record = UserRecord {
            user,
            password_hash,
            pending: None,
        };
        assert_eq!(store.insert(&record).await.unwrap(), Inserted::Yes);
    }
}

/// Whose password it is, as that user typed their address; `None`: nobody's.
async fn log_in(running: &Running, email: &str) -> Option<String> {
    let url = format!("http://{}", running.grpc.unwrap());
    let mut client = AuthServiceClient::connect(url).await.unwrap();
    let credential = PasswordCredential {
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
    };
    let request = CreateSessionRequest {
        credential: Some(Credential::Password(credential)),
        ..CreateSessionRequest::default()
    };
    match client.create_session(request).await {
        Ok(response) => Some(response.into_inner().user.unwrap().email),
        Err(status) => {
            assert_eq!(status.code(), tonic::Code::Unauthenticated, "{email}: {status}");
            None
        }
    }
}

fn findings(rows: &[serde_json::Value]) -> Vec<(&str, &str)> {
    rows.iter()
        .filter(|row| row.get("finding").is_some())
        .map(|row| (row["finding"].as_str().unwrap(), row["email"].as_str().unwrap()))
        .collect()
}

/// `dir` is where the service runs, whose store holds [`FORMER_USERS`].
async fn prove(dir: &std::path::Path, store: Option<&str>) {
    let arguments = || store.into_iter().chain(["--gateway=false"]);
    let running = start_sessiond(dir, &arguments().collect::<Vec<_>>());
    let cli = Cli {
        dir,
        arguments: vec![format!("--server=http://{}", running.grpc.unwrap())],
    };
    for (typed, _) in FORMER_USERS {
        assert_eq!(log_in(&running, typed).await.as_deref(), Some(typed));
    }
    assert_eq!(log_in(&running, "STRASSE@example.de").await, None);
    for taken in ["ΝΙΚΟΣ@example.gr", "νικος@example.gr", "straße@EXAMPLE.de"] {
        cli.fail(&format!("users create {taken} --no-password"), "");
    }
    cli.fail("users create .b@example.org --no-password", "");

    let expected = [
        ("clash", "νικος@example.gr"),
        ("clash", "ΝΙΚΟΣ@example.gr"),
        ("refused", ".a@example.org"),
        ("former form", "straße@example.de"),
        ("former form", "user@xn--mnchen-3ya.de"),
    ];
    let before = cli.json("users list");
    // To look changes nothing, however often.
    for _ in 0..2 {
        assert_eq!(findings(&cli.json("users check-emails")), expected);
        assert_eq!(cli.json("users list"), before);
    }
    let applied = cli.json("users check-emails --apply");
    assert_eq!(findings(&applied), expected);
    assert_eq!(applied.last().unwrap()["updated"], 2);
    assert_eq!(findings(&cli.json("users check-emails")), expected[..3]);

    for (typed, _) in FORMER_USERS {
        assert_eq!(log_in(&running, typed).await.as_deref(), Some(typed));
    }
    for (spelling, typed) in [
        ("STRASSE@example.de", "straße@example.de"),
        ("user@münchen.de", "user@xn--mnchen-3ya.de"),
        ("User@MÜNCHEN。de", "user@xn--mnchen-3ya.de"),
    ] {
        assert_eq!(log_in(&running, spelling).await.as_deref(), Some(typed));
    }
    for taken in ["user@münchen.de", "STRASSE@example.de"] {
        let refused = cli.fail(&format!("users create {taken} --no-password"), "");
        assert!(refused.contains("email"), "{refused}");
    }
    // Somebody decides, and the rest is as it should be.
    cli.succeed("users delete νικος@example.gr", "");
    cli.succeed("users delete .a@example.org", "");
    assert!(findings(&cli.json("users check-emails")).is_empty());
    let left = log_in(&running, "νικος@example.gr").await;
    assert_eq!(left.as_deref(), Some("ΝΙΚΟΣ@example.gr"));
    let (status, log) = running.stopped();
    assert!(status.success(), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s_41_former_addresses_are_reported_and_changed_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&dir.path().join("sessiond-data")).unwrap();
    write_former_users(&store).await;
    drop(store);
    prove(dir.path(), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s_41_former_addresses_are_reported_over_postgresql_too() {
    let dir = tempfile::tempdir().unwrap();
    let server = tokio::task::block_in_place(PostgresServer::start);
    let url = server.new_database();
    let config = PostgresConfig::new(PostgresUrl::new(url.clone()));
    let store = PostgresStore::connect(config).await.unwrap();
    write_former_users(&store).await;
    drop(store);
    let url_file = dir.path().join("url");
    fs::write(&url_file, url).unwrap();
    fs::set_permissions(&url_file, fs::Permissions::from_mode(0o600)).unwrap();
    prove(dir.path(), Some("--store-url-file=url")).await;
}
