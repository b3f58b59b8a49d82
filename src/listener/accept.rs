//! The accept loop: takes connections, refuses those over the limits, hands each to the worker with the fewest.

use super::{
    admission::{Admission, Refusal},
    worker::{AcceptedConnection, Worker},
};
use crate::{error_chain::chain, shutdown::Shutdown};
use futures_util::future::join_all;
use socket2::SockRef;
use std::{
    io,
    time::{Duration, Instant},
};
use tokio::net::{TcpListener, TcpStream};

/// The first and the longest wait after an error that will not go away by trying again at once.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

pub(super) struct Acceptor {
    pub(super) socket: TcpListener,
    pub(super) admission: Admission,
    pub(super) workers: Vec<Worker>,
    /// How long sent bytes may stay unacknowledged.
    pub(super) user_timeout: Duration,
    pub(super) shutdown: Shutdown,
}

impl Acceptor {
    /// Accepts until the stop is ordered, then waits for the workers. Says how many requests were cut off.
    pub(super) async fn run(mut self) -> usize {
        let mut back_off = BACK_OFF.0;
        let mut refused = LogThrottle::default();
        let mut failed = LogThrottle::default();
        let mut next_worker = 0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.draining() => break,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    back_off = BACK_OFF.0;
                    match self.admission.admit(peer) {
                        Ok(permit) => {
                            // A socket that refuses its options is a closed one.
                            if let Ok(stream) = prepare(stream, self.user_timeout) {
                                let accepted = AcceptedConnection { stream, peer, permit };
                                next_worker = self.hand_over(accepted, next_worker);
                            }
                        }
                        Err(refusal) => refused.note(|count| {
                            let limit = match refusal {
                                Refusal::Full => "connections",
                                Refusal::SourceFull => "connections of one source",
                            };
                            tracing::warn!(count, limit, peer.ip = %peer.ip(), "connections refused");
                        }),
                    }
                }
                // The client is gone again; the next one waits already.
                Err(error) if is_about_one_connection(&error) => {}
                // Out of file descriptors or memory: the connection stays in the queue, so trying again at once would spin.
                Err(error) => {
                    failed.note(
                        |count| tracing::error!(count, cause = %chain(&error), "cannot accept connections"),
                    );
                    tokio::select! {
                        () = self.shutdown.draining() => break,
                        () = tokio::time::sleep(back_off) => {}
                    }
                    back_off = (back_off * 2).min(BACK_OFF.1);
                }
            }
        }
        drop(self.socket);
        let drained = join_all(self.workers.into_iter().map(Worker::drained)).await;
        drained.into_iter().sum()
    }

    /// Gives the connection to the least loaded worker, from `start` on among equals. Says where to start next.
    fn hand_over(&self, accepted: AcceptedConnection, start: usize) -> usize {
        let count = self.workers.len();
        let chosen = (0..count)
            .map(|step| (start + step) % count)
            .min_by_key(|&index| self.workers.get(index).map_or(usize::MAX, Worker::load));
        if let Some(worker) = chosen.and_then(|index| self.workers.get(index)) {
            worker.take(accepted);
        }
        chosen.map_or(0, |index| index + 1)
    }
}

/// Takes the socket off this runtime, for a worker's.
fn prepare(stream: TcpStream, user_timeout: Duration) -> io::Result<std::net::TcpStream> {
    let stream = stream.into_std()?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_user_timeout(Some(user_timeout))?;
    Ok(stream)
}

/// accept(2): errors that are already pending on the new connection are returned by `accept` and say nothing of the next.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::Interrupted
    )
}

/// Logs what may happen often: at most once a second, with the number of times since the last line.
#[derive(Debug, Default)]
struct LogThrottle {
    logged_at: Option<Instant>,
    unlogged: u64,
}

impl LogThrottle {
    fn note(&mut self, log: impl FnOnce(u64)) {
        self.unlogged += 1;
        let is_due = self
            .logged_at
            .is_none_or(|logged_at| logged_at.elapsed() >= Duration::from_secs(1));
        if is_due {
            log(self.unlogged);
            self.logged_at = Some(Instant::now());
            self.unlogged = 0;
        }
    }
}
