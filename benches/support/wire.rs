//! Load over gRPC, for calls whose messages differ from one to the next: a small HTTP/2 client that writes frames by hand, so
//! that it takes as little as possible of the processor that it shares with the server.
//!
//! It does not decode headers. A call that fails has no message in gRPC, so an answer without one counts as a failure, and a
//! failure ends the benchmark.

use super::Outcome;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use std::{
    collections::{HashMap, VecDeque},
    io::ErrorKind,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};
use tokio::{io::Interest, net::TcpStream, runtime, time::timeout};

const FRAME_HEADER: usize = 9;
const GRPC_HEADER: usize = 5;
/// What HTTP/2 allows unless the peer says otherwise (RFC 9113 §6.5.2).
const DEFAULT_WINDOW: i64 = 65_535;
const FRAME_BYTES: usize = 16_384;
/// The greatest window there is; it is opened again when half of it is used up.
const WINDOW: u32 = (1 << 31) - 1;
/// A server that says nothing for so long has failed.
const SILENCE: Duration = Duration::from_secs(20);
const WARM_UP: Duration = Duration::from_millis(500);

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
}

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// What one connection asks, and what it makes of the answers.
pub(crate) trait Calls: Send {
    /// Appends the next request message; `false`: there is nothing more to ask.
    fn ask(&mut self, message: &mut Vec<u8>) -> bool;

    /// Takes an answer, and says how many it counts for.
    fn answered(&mut self, message: &[u8]) -> Outcome<u64>;
}

/// How calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Each call on a stream of its own.
    Unary,
    /// All messages of a connection on one stream.
    Streaming,
}

/// How much is asked at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) form: Form,
    pub(crate) connections: usize,
    /// Messages under way on each connection.
    pub(crate) at_once: usize,
    pub(crate) threads: usize,
    /// After half a second that does not count; `None`: until nothing more is asked.
    pub(crate) span: Option<Duration>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Measured<C> {
    pub(crate) per_second: f64,
    /// Of each message, in microseconds, ascending.
    pub(crate) latencies: Vec<u32>,
    /// As they were when they ended.
    pub(crate) calls: Vec<C>,
}

impl<C> Measured<C> {
    /// The latency that this part of the messages kept to, in milliseconds.
    pub(crate) fn latency_millis(&self, part: f64) -> f64 {
        super::quantile(&self.latencies, part) / 1000.0
    }
}

/// Runs the load.
pub(crate) fn run<C: Calls>(load: Load, mut make: impl FnMut(usize) -> C) -> Outcome<Measured<C>> {
    let all: Vec<C> = (0..load.connections).map(&mut make).collect();
    let mut shares: Vec<Vec<C>> = (0..load.threads).map(|_| Vec::new()).collect();
    for (number, calls) in all.into_iter().enumerate() {
        shares[number % load.threads].push(calls);
    }
    let started = Instant::now();
    let counted = load
        .span
        .map(|span| (started + WARM_UP, started + WARM_UP + span));
    let ended: Vec<Outcome<Vec<Connection<C>>>> = thread::scope(|scope| {
        let threads: Vec<_> = shares
            .into_iter()
            .map(|share| scope.spawn(move || run_share(load, share, counted)))
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| Err("a thread of the load failed".into()))
        };
        threads.into_iter().map(join).collect()
    });
    let span = load.span.unwrap_or_else(|| started.elapsed());
    let mut measured = Measured {
        per_second: 0.0,
        latencies: Vec::new(),
        calls: Vec::new(),
    };
    let mut count = 0;
    for share in ended {
        for connection in share? {
            count += connection.count;
            measured.latencies.extend(connection.latencies);
            measured.calls.push(connection.calls);
        }
    }
    measured.latencies.sort_unstable();
    measured.per_second = count as f64 / span.as_secs_f64();
    Ok(measured)
}

fn run_share<C: Calls>(
    load: Load,
    share: Vec<C>,
    counted: Option<(Instant, Instant)>,
) -> Outcome<Vec<Connection<C>>> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut running: FuturesUnordered<_> = share
            .into_iter()
            .map(|calls| Connection::new(load, calls, counted).run())
            .collect();
        let mut ended = Vec::new();
        while let Some(connection) = running.next().await {
            ended.push(connection?);
        }
        Ok(ended)
    })
}

struct Connection<C> {
    load: Load,
    calls: C,
    counted: Option<(Instant, Instant)>,
    count: u64,
    latencies: Vec<u32>,

    outgoing: Vec<u8>,
    message: Vec<u8>,
    /// The message is written but does not fit the window yet.
    is_waiting_for_window: bool,
    has_asked_all: bool,
    next_stream: u32,
    under_way: usize,
    /// Answers by stream, as far as they have come.
    answers: HashMap<u32, Answer>,
    spare: Vec<Vec<u8>>,

    connection_window: i64,
    stream_window: i64,
    initial_stream_window: i64,
    consumed: u32,
}

#[derive(Default)]
struct Answer {
    body: Vec<u8>,
    asked_at: VecDeque<Instant>,
}

impl<C: Calls> Connection<C> {
    fn new(load: Load, calls: C, counted: Option<(Instant, Instant)>) -> Self {
        Self {
            load,
            calls,
            counted,
            count: 0,
            latencies: Vec::new(),
            outgoing: Vec::new(),
            message: Vec::new(),
            is_waiting_for_window: false,
            has_asked_all: false,
            next_stream: 1,
            under_way: 0,
            answers: HashMap::new(),
            spare: Vec::new(),
            connection_window: DEFAULT_WINDOW,
            stream_window: DEFAULT_WINDOW,
            initial_stream_window: DEFAULT_WINDOW,
            consumed: 0,
        }
    }

    async fn run(mut self) -> Outcome<Self> {
        let stream = TcpStream::connect(self.load.address).await?;
        stream.set_nodelay(true)?;
        self.outgoing.extend(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        // No push, and windows that never stand in the way.
        let settings = [[0, 2, 0, 0, 0, 0], [0, 4, 0x7f, 0xff, 0xff, 0xff]].concat();
        self.frame(kind::SETTINGS, 0, 0, &settings);
        self.open_window(0, WINDOW - DEFAULT_WINDOW as u32);
        let mut incoming = vec![0; 256 * 1024];
        let mut filled = 0;
        loop {
            let now = Instant::now();
            if self.counted.is_some_and(|(_, end)| now >= end) {
                return Ok(self);
            }
            self.ask(now);
            if self.under_way == 0 && self.has_asked_all {
                return Ok(self);
            }
            if !self.outgoing.is_empty() {
                match stream.try_write(&self.outgoing) {
                    Ok(written) => drop(self.outgoing.drain(..written)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let interest = match self.outgoing.is_empty() {
                true => Interest::READABLE,
                false => Interest::READABLE | Interest::WRITABLE,
            };
            timeout(SILENCE, stream.ready(interest)).await??;
            match stream.try_read(&mut incoming[filled..]) {
                Ok(0) => return Err("the server has closed the connection".into()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            let taken = self.take_frames(&incoming[..filled])?;
            incoming.copy_within(taken..filled, 0);
            filled -= taken;
        }
    }

    /// Asks as much as may be asked at once.
    fn ask(&mut self, now: Instant) {
        while self.under_way < self.load.at_once && !self.has_asked_all {
            if !self.is_waiting_for_window {
                self.message.clear();
                self.message.extend([0; GRPC_HEADER]);
                if !self.calls.ask(&mut self.message) {
                    self.has_asked_all = true;
                    return;
                }
                let length = (self.message.len() - GRPC_HEADER) as u32;
                self.message[1..GRPC_HEADER].copy_from_slice(&length.to_be_bytes());
            }
            let length = self.message.len() as i64;
            let stream_window = match self.load.form {
                Form::Unary => self.initial_stream_window,
                Form::Streaming => self.stream_window,
            };
            self.is_waiting_for_window = length > self.connection_window.min(stream_window);
            if self.is_waiting_for_window {
                return;
            }
            self.connection_window -= length;
            self.stream_window -= length;
            self.send(now);
        }
    }

    fn send(&mut self, now: Instant) {
        let is_first_on_stream = self.load.form == Form::Unary || self.next_stream == 1;
        if is_first_on_stream {
            let headers = match self.next_stream {
                1 => self.first_headers(),
                _ => REPEATED_HEADERS.to_vec(),
            };
            let id = self.next_stream;
            self.frame(kind::HEADERS, END_HEADERS, id, &headers);
            self.next_stream += 2;
        }
        let id = self.next_stream - 2;
        let message = std::mem::take(&mut self.message);
        let last = (message.len() - 1) / FRAME_BYTES;
        for (number, part) in message.chunks(FRAME_BYTES).enumerate() {
            let flags = match number == last && self.load.form == Form::Unary {
                true => END_STREAM,
                false => 0,
            };
            self.frame(kind::DATA, flags, id, part);
        }
        self.message = message;
        self.under_way += 1;
        let spare = &mut self.spare;
        let answer = self.answers.entry(id).or_insert_with(|| Answer {
            body: spare.pop().unwrap_or_default(),
            asked_at: VecDeque::new(),
        });
        answer.asked_at.push_back(now);
    }

    /// The header of the first request, which the server's table then knows (RFC 7541 §6.2.1).
    fn first_headers(&self) -> Vec<u8> {
        // POST and http stand in the static table.
        let mut block = vec![0x83, 0x86];
        let authority = self.load.address.to_string();
        let mut literal = |index: u8, name: Option<&str>, value: &str| {
            block.push(0x40 | index);
            for text in name.into_iter().chain([value]) {
                block.push(text.len() as u8);
                block.extend(text.as_bytes());
            }
        };
        literal(4, None, self.load.path);
        literal(1, None, &authority);
        literal(31, None, "application/grpc");
        literal(0, Some("te"), "trailers");
        block
    }

    fn take_frames(&mut self, bytes: &[u8]) -> Outcome<usize> {
        let now = Instant::now();
        let mut taken = 0;
        while let Some((header, rest)) = bytes[taken..].split_at_checked(FRAME_HEADER) {
            let &[a, b, c, kind, flags, d, e, f, g] = header else {
                break;
            };
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let Some(payload) = rest.get(..length) else { break };
            let id = u32::from_be_bytes([d, e, f, g]) & WINDOW;
            self.take_frame(kind, flags, id, payload, now)?;
            taken += FRAME_HEADER + length;
        }
        Ok(taken)
    }

    fn take_frame(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8], now: Instant) -> Outcome {
        match kind {
            kind::DATA => {
                self.consume(id, payload.len() as u32);
                let answer = self.answers.get_mut(&id).ok_or("data of an unknown stream")?;
                answer.body.extend_from_slice(payload);
                if self.load.form == Form::Streaming {
                    self.take_messages(id, now)?;
                }
                if flags & END_STREAM != 0 {
                    self.end_stream(id, now)?;
                }
            }
            kind::HEADERS if flags & END_STREAM != 0 => self.end_stream(id, now)?,
            kind::RST_STREAM => return Err("the server has reset a stream".into()),
            kind::GOAWAY => return Err("the server has asked to leave".into()),
            kind::SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    if let &[0, 4, a, b, c, d] = setting {
                        let window = i64::from(u32::from_be_bytes([a, b, c, d]));
                        self.stream_window += window - self.initial_stream_window;
                        self.initial_stream_window = window;
                    }
                }
                self.frame(kind::SETTINGS, ACK, 0, &[]);
            }
            kind::PING if flags & ACK == 0 => self.frame(kind::PING, ACK, 0, payload),
            kind::WINDOW_UPDATE => {
                let more = i64::from(u32::from_be_bytes(payload.try_into()?) & WINDOW);
                match id {
                    0 => self.connection_window += more,
                    _ if self.load.form == Form::Streaming => self.stream_window += more,
                    _ => {}
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes the whole messages out of a stream that goes on.
    fn take_messages(&mut self, id: u32, now: Instant) -> Outcome {
        let answer = self.answers.get_mut(&id).ok_or("an unknown stream")?;
        let body = std::mem::take(&mut answer.body);
        let mut taken = 0;
        while let Some((message, length)) = first_message(&body[taken..]) {
            taken += length;
            let asked_at = self
                .answers
                .get_mut(&id)
                .and_then(|answer| answer.asked_at.pop_front());
            self.note(message, asked_at, now)?;
        }
        if let Some(answer) = self.answers.get_mut(&id) {
            answer.body = body;
            answer.body.drain(..taken);
        }
        Ok(())
    }

    fn end_stream(&mut self, id: u32, now: Instant) -> Outcome {
        let mut answer = self.answers.remove(&id).ok_or("the end of an unknown stream")?;
        let (message, length) = first_message(&answer.body).ok_or("a call failed")?;
        if length != answer.body.len() {
            return Err("more than one message".into());
        }
        self.note(message, answer.asked_at.pop_front(), now)?;
        answer.body.clear();
        self.spare.push(answer.body);
        Ok(())
    }

    fn note(&mut self, message: &[u8], asked_at: Option<Instant>, now: Instant) -> Outcome {
        let asked_at = asked_at.ok_or("an answer to nothing")?;
        let count = self.calls.answered(message)?;
        self.under_way -= 1;
        if self.counted.is_none_or(|(begin, _)| now >= begin) {
            self.count += count;
            let micros = now.duration_since(asked_at).as_micros();
            self.latencies.push(u32::try_from(micros).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    fn consume(&mut self, id: u32, bytes: u32) {
        self.consumed += bytes;
        if self.consumed > WINDOW / 2 {
            let consumed = std::mem::take(&mut self.consumed);
            self.open_window(0, consumed);
            if self.load.form == Form::Streaming {
                self.open_window(id, consumed);
            }
        }
    }

    fn open_window(&mut self, id: u32, by: u32) {
        self.frame(kind::WINDOW_UPDATE, 0, id, &by.to_be_bytes());
    }

    fn frame(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) {
        let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
        self.outgoing.extend([a, b, c, kind, flags]);
        self.outgoing.extend(id.to_be_bytes());
        self.outgoing.extend_from_slice(payload);
    }
}

/// POST and http out of the static table, the other four as the first request left them in the dynamic one, newest first.
const REPEATED_HEADERS: [u8; 6] = [0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62];

/// The first whole message of what has come, and its length with its frame.
fn first_message(body: &[u8]) -> Option<(&[u8], usize)> {
    let (header, rest) = body.split_at_checked(GRPC_HEADER)?;
    let &[_, a, b, c, d] = header else { return None };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    Some((rest.get(..length)?, GRPC_HEADER + length))
}
