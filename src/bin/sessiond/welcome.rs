//! What a person who has just started sessiond can try.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
};

/// Prints where everything is, and lines that work as they stand.
pub(crate) fn print(rpc: SocketAddr, http: Option<SocketAddr>, store: &str) {
    // The terminal may be closed.
    let _ = io::stdout().write_all(text(rpc, http, store).as_bytes());
}

fn text(rpc: SocketAddr, http: Option<SocketAddr>, store: &str) -> String {
    let log_in = r#"{"password":{"email":"ada@example.org","password":"blue lamp over the river"}}"#;
    let create = r#"{"email":"ada@example.org","password":"blue lamp over the river"}"#;
    let mut text = format!("sessiond serves gRPC on {rpc}");
    if let Some(http) = http {
        text += &format!(" and HTTP on http://{http}");
    }
    text += &format!(
        "\nUsers and sessions live {store}.\n\nThere is no user until you create one. To try it, from another terminal:\n\n"
    );
    if let Some(http) = http {
        text += &format!(
            "  curl -sS -H 'content-type: application/json' -d '{create}' http://{http}/api/v1/users
  curl -sS -c cookies.txt -H 'content-type: application/json' -d '{create}' http://{http}/api/v1/auth_session/login
  curl -sS -b cookies.txt http://{http}/api/v1/users/me\n\n"
        );
    } else {
        text += &format!("  grpcurl -plaintext -d '{create}' {rpc} auth.v1.UserService/CreateUser\n");
    }
    text += &format!("  grpcurl -plaintext -d '{log_in}' {rpc} auth.v1.AuthService/CreateSession\n\n");
    text
}
