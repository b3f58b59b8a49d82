//! A client that sends and reads single HTTP/2 frames, for what a well-behaved one would not do.

use std::net::SocketAddr;
use testkit::waiting::in_time;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const ACK: u8 = 1;
const END_STREAM_AND_HEADERS: u8 = 5;

/// One frame (RFC 9113 §4.1).
pub(crate) struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// `GET http://x/`, whole, out of the static table (RFC 7541 appendix A).
    pub(crate) fn get(stream: u32) -> Self {
        Self {
            kind: HEADERS,
            flags: END_STREAM_AND_HEADERS,
            stream,
            payload: vec![0x82, 0x86, 0x84, 0x41, 1, b'x'],
        }
    }

    pub(crate) fn reset(stream: u32) -> Self {
        Self {
            kind: RST_STREAM,
            flags: 0,
            stream,
            payload: vec![0, 0, 0, 8],
        }
    }

    /// The answer to a PING.
    pub(crate) fn acknowledged(self) -> Self {
        Self { flags: ACK, ..self }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
}

impl Raw {
    /// A connection on which the preface and empty settings have been sent.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let mut client = Self {
            stream: TcpStream::connect(address).await.unwrap(),
        };
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let settings = Frame {
            kind: SETTINGS,
            flags: 0,
            stream: 0,
            payload: Vec::new(),
        };
        client.send(&settings.bytes()).await;
        client
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        in_time(self.stream.write_all(bytes)).await.unwrap();
    }

    /// The next PING that wants an answer.
    pub(crate) async fn ping(&mut self) -> Frame {
        self.next(PING).await
    }

    pub(crate) async fn headers(&mut self) -> Frame {
        self.next(HEADERS).await
    }

    /// The reason that the server gives for closing.
    pub(crate) async fn goaway(&mut self) -> u32 {
        let payload = self.next(GOAWAY).await.payload;
        u32::from_be_bytes(payload[4..8].try_into().unwrap())
    }

    /// The next frame of a kind that is no acknowledgement of one.
    async fn next(&mut self, kind: u8) -> Frame {
        loop {
            let mut header = [0; 9];
            in_time(self.stream.read_exact(&mut header)).await.unwrap();
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            let mut payload = vec![0; length as usize];
            in_time(self.stream.read_exact(&mut payload)).await.unwrap();
            let frame = Frame {
                kind: header[3],
                flags: header[4],
                stream: u32::from_be_bytes([header[5], header[6], header[7], header[8]]),
                payload,
            };
            let is_acknowledgement = kind != HEADERS && frame.flags & ACK != 0;
            if frame.kind == kind && !is_acknowledgement {
                return frame;
            }
        }
    }
}
