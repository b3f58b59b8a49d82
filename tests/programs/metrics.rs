//! What the running service shows of itself to Prometheus.

use crate::{built::start_sessiond, cli::Cli};
use sessiond::{
    domain::SessionToken,
    pb::{
        CreateSessionRequest, PasswordCredential, UserIdForSessionRequest, WatchRevocationsRequest,
        auth_service_client::AuthServiceClient, create_session_request::Credential,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};
use testkit::{
    process::{Running, shell},
    waiting::PATIENCE,
};
use tonic::{Code, transport::Channel};

const PASSWORD: &str = "blue lamp over the river";

fn sessiond(dir: &Path) -> Running {
    let arguments = [
        "--store=memory",
        "--metrics-listen=127.0.0.1:0",
        "--sweep-interval=100ms",
        "--password-cost=10",
    ];
    start_sessiond(dir, &arguments)
}

fn scrape(running: &Running, dir: &Path) -> String {
    let url = format!("http://{}/metrics", running.metrics.unwrap());
    let text = shell(dir, &format!("curl -sS -f {url}"));
    assert!(text.ends_with("# EOF\n"), "{text}");
    text
}

/// Every number shown now, by its name and labels.
fn numbers(running: &Running, dir: &Path) -> BTreeMap<String, f64> {
    let text = scrape(running, dir);
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let parts = samples.map(|line| line.rsplit_once(' ').unwrap());
    parts
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

fn calls(method: &str, code: &str) -> String {
    format!("sessiond_calls_total{{method=\"auth.v1.AuthService/{method}\",code=\"{code}\"}}")
}

async fn token(client: &mut AuthServiceClient<Channel>, lifetime: Option<Duration>) -> String {
    let credential = PasswordCredential {
        email: "ada@example.org".to_owned(),
        password: PASSWORD.to_owned(),
    };
    let request = CreateSessionRequest {
        credential: Some(Credential::Password(credential)),
        lifetime: lifetime.map(|span| span.try_into().unwrap()),
        idle_timeout: lifetime.map(|span| span.try_into().unwrap()),
        ..CreateSessionRequest::default()
    };
    client
        .create_session(request)
        .await
        .unwrap()
        .into_inner()
        .session_token
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_tells_what_was_called_hashed_watched_and_swept() {
    let dir = tempfile::tempdir().unwrap();
    let running = sessiond(dir.path());
    let url = format!("http://{}", running.grpc.unwrap());
    let cli = Cli {
        dir: dir.path(),
        arguments: vec![format!("--server={url}")],
    };
    cli.succeed("users create ada@example.org", &format!("{PASSWORD}\n"));
    let mut client = AuthServiceClient::connect(url).await.unwrap();
    let lasting = token(&mut client, None).await;
    token(&mut client, Some(Duration::from_secs(1))).await;
    let unknown = SessionToken::from_random([7; 32]).expose().to_owned();
    for (session_token, code) in [
        (lasting.clone(), Code::Ok),
        (lasting, Code::Ok),
        (unknown, Code::Unauthenticated),
    ] {
        let answer = client
            .user_id_for_session(UserIdForSessionRequest { session_token })
            .await;
        assert_eq!(answer.map_or_else(|status| status.code(), |_| Code::Ok), code);
    }
    let mut watching = client
        .watch_revocations(WatchRevocationsRequest::default())
        .await
        .unwrap()
        .into_inner();
    watching.message().await.unwrap().unwrap();

    let started_at = Instant::now();
    let found = loop {
        let found = numbers(&running, dir.path());
        // The one that expires is gone, and was counted after that.
        if found["sessiond_swept_sessions_total"] == 1.0 && found.get("sessiond_sessions") == Some(&1.0) {
            break found;
        }
        assert!(started_at.elapsed() < PATIENCE, "{found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(found["sessiond_sweep_duration_seconds_count"] >= 1.0);
    assert_eq!(found["sessiond_sweep_failures_total"], 0.0);
    assert_eq!(found[&calls("CreateSession", "OK")], 2.0);
    assert_eq!(found[&calls("UserIdForSession", "OK")], 2.0);
    assert_eq!(found[&calls("UserIdForSession", "UNAUTHENTICATED")], 1.0);
    assert_eq!(found[&calls("WatchRevocations", "OK")], 1.0);
    assert_eq!(found[&calls("RotateSession", "OK")], 0.0);
    // One when the user was made, one for each log-in.
    assert_eq!(found["sessiond_hashing_computed_total"], 3.0);
    assert_eq!(found["sessiond_hashing_running"], 0.0);
    assert_eq!(found["sessiond_revocation_subscribers"], 1.0);
    assert!(found["sessiond_wall_clock_offset_seconds"].abs() < 1.0);
}

#[test]
fn the_table_of_metrics_names_all_that_are_shown_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let running = sessiond(dir.path());
    let text = scrape(&running, dir.path());
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let shown: BTreeSet<String> = types
        .map(|line| match line.split_once(' ').unwrap() {
            (name, "counter") => format!("| `{name}_total` | counter "),
            (name, kind) => format!("| `{name}` | {kind} "),
        })
        .collect();
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    let rows = document.lines().filter(|line| line.starts_with("| `sessiond_"));
    let named: BTreeSet<String> = rows
        .map(|row| row.split_inclusive('|').take(3).collect::<String>())
        .map(|row| row.trim_end_matches('|').to_owned())
        .collect();
    assert_eq!(named, shown);
}

#[test]
fn s_70_metrics_are_on_a_listener_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let running = sessiond(dir.path());
    assert!(scrape(&running, dir.path()).contains("sessiond_sessions"));
    let status = |url: String| {
        let line = format!("curl -sS -o answer -w '%{{http_code}}' {url}");
        shell(dir.path(), &line)
    };
    let [metrics, http] = [running.metrics, running.http].map(Option::unwrap);
    assert_eq!(status(format!("http://{http}/metrics")), "404");
    for path in ["", "api/v1/status", "auth.v1.AuthService/GetStats"] {
        assert_eq!(status(format!("http://{metrics}/{path}")), "404", "{path}");
    }
    let answer = shell(
        dir.path(),
        &format!(
            "curl -sS -i --request POST --http2-prior-knowledge -H 'content-type: application/grpc' http://{}/metrics",
            running.grpc.unwrap()
        ),
    );
    assert!(answer.contains("grpc-status: 12"), "{answer}");
    assert!(!answer.contains("sessiond_"), "{answer}");

    let without = start_sessiond(dir.path(), &["--store=memory"]);
    assert_eq!(without.metrics, None);
}
