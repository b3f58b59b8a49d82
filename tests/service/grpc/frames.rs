//! HTTP/2 frames as they pass: what a client is sent, frame by frame, and frames that no well-behaved client would send.

use parking_lot::Mutex;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    sync::Notify,
    time::timeout,
};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Longer than anything here may take on a busy machine; no test waits for it unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// One frame (RFC 9113 §4.1).
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn ends_stream(&self) -> bool {
        self.flags & END_STREAM != 0
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// Takes a whole frame off the front of these bytes.
    fn take(bytes: &mut Vec<u8>) -> Option<Self> {
        let header: [u8; 9] = bytes.get(..9)?.try_into().unwrap();
        let [a, b, c, kind, flags, stream @ ..] = header;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let payload = bytes.get(9..9 + length)?.to_vec();
        bytes.drain(..9 + length);
        Some(Self {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }
}

/// The frames that have arrived on one connection.
#[derive(Default)]
struct Arrived {
    frames: Mutex<Vec<Frame>>,
    more: Notify,
}

/// What has arrived on one connection, while a client library reads it.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Arrived>);

impl Recorder {
    /// The frames of a stream until now.
    pub(crate) fn of_stream(&self, stream: u32) -> Vec<Frame> {
        let frames = self.0.frames.lock();
        frames
            .iter()
            .filter(|frame| frame.stream == stream)
            .cloned()
            .collect()
    }

    /// Waits for a frame of this kind on a stream.
    pub(crate) async fn wait_for(&self, kind: u8, stream: u32) -> Frame {
        let waiting = async {
            loop {
                let more = self.0.more.notified();
                if let Some(frame) = self
                    .of_stream(stream)
                    .into_iter()
                    .find(|frame| frame.kind == kind)
                {
                    return frame;
                }
                more.await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("the frame comes")
    }
}

/// A socket whose incoming frames are recorded.
pub(crate) struct Tap {
    socket: TcpStream,
    unread: Vec<u8>,
    recorder: Recorder,
}

impl Tap {
    pub(crate) async fn connect(address: SocketAddr) -> (Self, Recorder) {
        let recorder = Recorder::default();
        let tap = Self {
            socket: TcpStream::connect(address).await.unwrap(),
            unread: Vec::new(),
            recorder: recorder.clone(),
        };
        (tap, recorder)
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buffer))?;
        self.unread.extend(&buffer.filled()[before..]);
        while let Some(frame) = Frame::take(&mut self.unread) {
            self.recorder.0.frames.lock().push(frame);
        }
        self.recorder.0.more.notify_waiters();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tap {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// A connection on which every byte is the test's own.
pub(crate) struct RawConnection {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl RawConnection {
    /// A connection on which the preface and empty settings have been sent.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let mut connection = Self {
            socket: TcpStream::connect(address).await.unwrap(),
            unread: Vec::new(),
        };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        connection.socket.write_all(preface).await.unwrap();
        connection.send(SETTINGS, 0, 0, &[]).await;
        connection
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let frame = Frame {
            kind,
            flags,
            stream,
            payload: payload.to_vec(),
        };
        self.socket.write_all(&frame.bytes()).await.unwrap();
    }

    /// The frames of a stream, until the one that ends it.
    pub(crate) async fn response(&mut self, stream: u32) -> Vec<Frame> {
        let reading = async {
            let mut frames = Vec::new();
            loop {
                while let Some(frame) = Frame::take(&mut self.unread) {
                    if frame.stream != stream {
                        continue;
                    }
                    let is_last = frame.kind == RST_STREAM || frame.ends_stream();
                    frames.push(frame);
                    if is_last {
                        return frames;
                    }
                }
                assert_ne!(self.socket.read_buf(&mut self.unread).await.unwrap(), 0);
            }
        };
        timeout(PATIENCE, reading).await.expect("the response comes")
    }
}

/// A header block without compression: literal fields that are not indexed (RFC 7541 §6.2.2).
pub(crate) fn header_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(
                u8::try_from(text.len())
                    .ok()
                    .filter(|length| *length < 0x7f)
                    .unwrap(),
            );
            block.extend(text.as_bytes());
        }
    }
    block
}
