//! Clients that see what the wire shows: GOAWAY, SETTINGS, refused streams, closed sockets.

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use http::{Request, StatusCode};
use std::{io, net::SocketAddr};
use testkit::waiting::in_time;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
};

/// An HTTP/2 client, and the task that ends as the connection does.
pub(crate) struct Http2 {
    pub(crate) requests: SendRequest<Bytes>,
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

impl Http2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let (requests, connection) = handshake(address).await;
        Self {
            requests,
            connection: tokio::spawn(connection),
        }
    }

    /// Sends a request and waits for the whole answer.
    pub(crate) async fn get(&self, path: &str) -> Result<String, h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let (response, _) = requests.send_request(request(path), true)?;
        let response = in_time(response).await?;
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body();
        let mut text = Vec::new();
        while let Some(chunk) = in_time(body.data()).await {
            text.extend_from_slice(&chunk?);
        }
        Ok(String::from_utf8(text).unwrap())
    }
}

pub(crate) async fn handshake(address: SocketAddr) -> (SendRequest<Bytes>, Connection<TcpStream>) {
    let stream = TcpStream::connect(address).await.unwrap();
    h2::client::Builder::new()
        .initial_max_send_streams(1000)
        .handshake(stream)
        .await
        .unwrap()
}

pub(crate) fn request(path: &str) -> Request<()> {
    Request::get(format!("http://localhost{path}")).body(()).unwrap()
}

/// A socket bound to another of this machine's addresses.
pub(crate) async fn connect_from(source: [u8; 4], address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((source, 0))).unwrap();
    socket.connect(address).await.unwrap()
}

/// Waits until the other side has closed the connection.
pub(crate) async fn closed(stream: &mut TcpStream) {
    let mut buffer = [0; 1024];
    loop {
        match in_time(stream.read(&mut buffer)).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Sends text and reads one answer with a body of up to a kilobyte, which must arrive in one piece.
pub(crate) async fn exchange(stream: &mut TcpStream, text: &str) -> io::Result<String> {
    stream.write_all(text.as_bytes()).await?;
    let mut buffer = vec![0; 4096];
    let length = in_time(stream.read(&mut buffer)).await?;
    buffer.truncate(length);
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}
