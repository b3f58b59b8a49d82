//! TLS: whom a store believes.

use super::samples::{config, lives, log_in, start, user_id};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sessiond::store::redis::{ConnectError, RedisStore};
use std::{fs, path::Path};
use testkit::{redis::RedisServer, waiting::free_port};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A server that speaks TLS on a second port, with a certificate for `name`.
fn start_server(dir: &Path, authority: &Authority, name: &str) -> (RedisServer, u16) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()])
        .unwrap()
        .signed_by(&key, authority)
        .unwrap();
    let file = |name: &str, text: String| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let port = free_port();
    let server = RedisServer::start_with(&[
        "--save",
        "",
        "--tls-port",
        &port.to_string(),
        "--tls-auth-clients",
        "no",
        "--tls-cert-file",
        &file("server.pem", certificate.pem()),
        "--tls-key-file",
        &file("server.key", key.serialize_pem()),
        "--tls-ca-cert-file",
        &file("authority.pem", authority.pem()),
    ]);
    (server, port)
}

#[tokio::test]
async fn s_73_a_server_is_believed_for_its_certificate_and_name_only() {
    let dir = tempfile::tempdir().unwrap();
    let (right, wrong) = (authority(), authority());
    let (server, port) = start_server(dir.path(), &right, "localhost");
    let url = format!("rediss://:s3cret@localhost:{port}");
    server.ask::<()>(&["CONFIG", "SET", "requirepass", "s3cret"]);
    let connect = async |url: &str, authority: Option<&Authority>| {
        let mut config = config(url);
        config.root_certificates = authority.map(|authority| authority.pem().into_bytes());
        RedisStore::connect(config).await
    };
    let store = connect(&url, Some(&right)).await.unwrap();
    let now = start();
    let new = log_in(&store, user_id(), now).await;
    assert!(lives(&store, &new.digest, now).await);

    let by_address = url.replace("localhost", "127.0.0.1");
    for (url, authority) in [(&url, Some(&wrong)), (&url, None), (&by_address, Some(&right))] {
        let refused = connect(url, authority).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Unreachable { .. }), "{url}");
    }
}

#[tokio::test]
async fn s_73_no_password_is_sent_to_a_server_that_speaks_no_tls() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "rediss://:hunter2@localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let heard = tokio::spawn(async move {
        use tokio::io::AsyncReadExt as _;
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut heard = vec![0; 4096];
        let length = stream.read(&mut heard).await.unwrap();
        heard.truncate(length);
        // Not a word of TLS.
        drop(stream);
        heard
    });
    RedisStore::connect(config(&url)).await.unwrap_err();
    let heard = heard.await.unwrap();
    assert!(!heard.is_empty());
    assert!(!heard.windows(7).any(|part| part == b"hunter2"));
}
