//! Whom the store believes to be its server.

use super::samples::{check, config, database, log_in, start};
use sessiond::store::PostgresStore;
use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};
use testkit::postgres::PostgresServer;

/// The URL of a new database with the server's name in place of its address, and these options.
fn named(server: &PostgresServer, host: &str, options: &str) -> String {
    let url = server.new_database();
    format!(
        "postgres://tester@{host}:{}/{}?{options}",
        server.port(),
        database(&url)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn s_73_a_server_with_the_right_certificate_is_used_encrypted() {
    let server = PostgresServer::shared();
    let authority = server.authority();
    let url = named(
        server,
        "localhost",
        &format!(
            "hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={}",
            authority.display()
        ),
    );
    let store = PostgresStore::connect(config(&url)).await.unwrap();
    let now = start();
    let new = log_in(&store, now, 600).await;
    assert_eq!(
        check(&store, &new.digest, now).await.unwrap(),
        Some(new.session.live)
    );
    let name = database(&url).split('?').next().unwrap();
    let plain = server.sql(
        "postgres",
        &format!(
            "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
             WHERE datname = '{name}' AND application_name = 'sessiond' AND NOT ssl"
        ),
    );
    assert_eq!(plain, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn s_73_a_server_with_another_name_is_refused() {
    let server = PostgresServer::shared();
    let options = format!("sslmode=verify-full&sslrootcert={}", server.authority().display());
    let refused = PostgresStore::connect(config(&named(server, "127.0.0.1", &options)))
        .await
        .unwrap_err();
    assert!(format!("{refused:?}").contains("NotValidForName"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s_73_a_server_that_another_authority_vouches_for_is_refused() {
    let server = PostgresServer::shared();
    // Without sslrootcert the system's authorities count, and none of them knows the tests' server.
    for mode in ["verify-full", "verify-ca", "require"] {
        let url = named(server, "localhost", &format!("hostaddr=127.0.0.1&sslmode={mode}"));
        let refused = PostgresStore::connect(config(&url)).await.unwrap_err();
        assert!(
            format!("{refused:?}").contains("UnknownIssuer"),
            "{mode}: {refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s_73_a_server_without_tls_is_refused_and_gets_no_credentials() {
    let server = PostgresServer::shared();
    let imposter = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = imposter.local_addr().unwrap().port();
    let heard = tokio::task::spawn_blocking(move || {
        let (mut socket, _) = imposter.accept().unwrap();
        let mut request = [0; 8];
        socket.read_exact(&mut request).unwrap();
        // "No, I speak no TLS."
        socket.write_all(b"N").unwrap();
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
        (request, rest)
    });
    let authority = server.authority();
    let url = format!(
        "postgres://someone:secret@localhost:{port}/x?hostaddr=127.0.0.1&sslmode=require&sslrootcert={}",
        authority.display()
    );
    PostgresStore::connect(config(&url)).await.unwrap_err();
    let (request, rest) = heard.await.unwrap();
    // The request for TLS (PostgreSQL's protocol, SSLRequest), and not a byte more.
    assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47]);
    assert_eq!(rest, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_certificates_is_named_in_the_error() {
    let server = PostgresServer::shared();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display().to_string();
    let url = named(
        server,
        "localhost",
        &format!("hostaddr=127.0.0.1&sslrootcert={path}"),
    );
    let refused = PostgresStore::connect(config(&url)).await.unwrap_err();
    assert!(format!("{refused:?}").contains(&path), "{refused:?}");
}
