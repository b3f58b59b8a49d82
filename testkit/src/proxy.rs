//! A TCP proxy that misbehaves on command: the network between a program and its server.

use socket2::SockRef;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

/// What happens to the bytes. What is held arrives when the proxy passes again, as TCP would have it after a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// Everything arrives at once.
    Pass,
    /// Every byte takes so long, each way.
    Delay(Duration),
    /// Requests arrive, replies do not.
    HoldReplies,
    /// Replies arrive, requests do not.
    HoldRequests,
    /// Nothing arrives, and neither side notices.
    HoldAll,
    /// Connections, old and new, are reset.
    Refuse,
    /// So many bytes of replies pass in all; then each connection is reset where it would get more.
    CutReplies {
        /// How many.
        after: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Request,
    Reply,
}

struct Route {
    target: SocketAddr,
    conduct: Conduct,
    /// Connections of an earlier generation are reset.
    generation: usize,
}

struct Shared {
    route: watch::Sender<Route>,
    /// Bytes of replies that have passed since the conduct was set.
    replied: AtomicUsize,
    opened: AtomicUsize,
}

/// A running proxy. It ends when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Arc<Notify>,
}

impl Proxy {
    /// A proxy on a free port of this machine, on a thread of its own.
    pub fn to(target: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            route: watch::Sender::new(Route {
                target,
                conduct: Conduct::Pass,
                generation: 0,
            }),
            replied: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
        });
        let stop = Arc::new(Notify::new());
        let (shared_with_thread, stop_of_thread) = (Arc::clone(&shared), Arc::clone(&stop));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = accept(listener, shared_with_thread) => {}
                    () = stop_of_thread.notified() => {}
                }
            });
        });
        Self {
            address,
            shared,
            stop,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it treats bytes from now on.
    pub fn set(&self, conduct: Conduct) {
        self.shared.replied.store(0, Ordering::SeqCst);
        self.shared.route.send_modify(|route| route.conduct = conduct);
    }

    /// Sends connections that are opened from now on elsewhere. Those that are open are reset.
    pub fn retarget(&self, target: SocketAddr) {
        self.shared.route.send_modify(|route| {
            route.target = target;
            route.generation += 1;
        });
    }

    /// Resets every connection that is open.
    pub fn cut(&self) {
        self.shared.route.send_modify(|route| route.generation += 1);
    }

    /// Connections that were opened so far.
    pub fn opened(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // Out of descriptors: those that wait are served when some are free again.
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        shared.opened.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(carry(client, Arc::clone(&shared)));
    }
}

/// Closes with a reset, so that the other side notices at once and gets nothing that was in flight.
fn reset_on_close(stream: &TcpStream) {
    // The connection may be gone already.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    let _ = stream.set_nodelay(true);
}

async fn carry(client: TcpStream, shared: Arc<Shared>) {
    reset_on_close(&client);
    let (target, generation) = {
        let route = shared.route.borrow();
        (route.target, route.generation)
    };
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    reset_on_close(&server);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut route = shared.route.subscribe();
    let is_cut = route.wait_for(|route| route.conduct == Conduct::Refuse || route.generation != generation);
    let requests = pump(from_client, to_server, Way::Request, Arc::clone(&shared));
    let replies = pump(from_server, to_client, Way::Reply, Arc::clone(&shared));
    // Where one way is cut, all four halves are dropped together; an end that a side has chosen is passed on.
    tokio::select! {
        _ = is_cut => {}
        _ = async { tokio::try_join!(requests, replies) } => {}
    }
}

/// The connection is to be reset.
struct Cut;

/// Bytes that were read, with the instant, until they are written.
type Held = Mutex<VecDeque<(Instant, Vec<u8>)>>;

/// How many pieces are held before nothing more is read: then the sender waits, as it would for a full network.
const HELD: usize = 256;

/// Carries bytes one way until that way ends.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Way,
    shared: Arc<Shared>,
) -> Result<(), Cut> {
    let held = Held::default();
    let (came, went) = (Notify::new(), Notify::new());
    let read = async {
        let mut piece = vec![0; 16 * 1024];
        loop {
            let length = from.read(&mut piece).await.map_err(|_| Cut)?;
            // An empty piece is the end, which must not overtake what was sent before it.
            held.lock()
                .unwrap()
                .push_back((Instant::now(), piece[..length].to_vec()));
            came.notify_one();
            if length == 0 {
                return Ok(());
            }
            while held.lock().unwrap().len() >= HELD {
                went.notified().await;
            }
        }
    };
    let write = async {
        loop {
            let next = held.lock().unwrap().pop_front();
            let Some((read_at, piece)) = next else {
                came.notified().await;
                continue;
            };
            went.notify_one();
            let passing = shared.pass(way, read_at, piece.len()).await;
            if piece.is_empty() {
                return to.shutdown().await.map_err(|_| Cut);
            }
            to.write_all(&piece[..passing]).await.map_err(|_| Cut)?;
            if passing < piece.len() {
                return Err(Cut);
            }
        }
    };
    tokio::try_join!(read, write).map(|_| ())
}

impl Shared {
    /// Waits until bytes may pass, and says how many of them do. With fewer than all, the connection ends.
    async fn pass(&self, way: Way, read_at: Instant, length: usize) -> usize {
        let mut route = self.route.subscribe();
        loop {
            let conduct = route.borrow_and_update().conduct;
            match (conduct, way) {
                (Conduct::Delay(delay), _) => {
                    let due = read_at + delay;
                    tokio::select! {
                        () = sleep_until(due) => return length,
                        _ = route.changed() => {}
                    }
                }
                (Conduct::HoldAll, _)
                | (Conduct::HoldReplies, Way::Reply)
                | (Conduct::HoldRequests, Way::Request) => {
                    // Fails only when the proxy ends, and this with it.
                    let _ = route.changed().await;
                }
                (Conduct::CutReplies { after }, Way::Reply) => {
                    let passed = self.replied.fetch_add(length, Ordering::SeqCst);
                    return length.min(after.saturating_sub(passed));
                }
                (Conduct::Refuse, _) => return 0,
                (
                    Conduct::Pass | Conduct::HoldReplies | Conduct::HoldRequests | Conduct::CutReplies { .. },
                    _,
                ) => {
                    return length;
                }
            }
        }
    }
}
