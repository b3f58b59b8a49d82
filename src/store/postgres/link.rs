//! A place for one connection that fills itself again, and the ways to share several of them.

use super::{
    PostgresConnectError,
    connection::{Connection, Target, Terms},
    server_error::ServerError,
};
use crate::store::thread_connections::PerThread;
use futures_util::future::try_join_all;
use parking_lot::{Mutex, RwLock};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{AbortHandle, JoinHandle, JoinSet},
    time::{Instant, sleep, timeout_at},
};

/// The first and the longest wait between two attempts to connect. Each is varied by half, so that processes do not come in step.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A place for one connection. While the server is away it is empty, and whoever asks is told so at once.
pub(super) struct Link {
    target: Arc<Target>,
    terms: Terms,
    current: RwLock<Option<Arc<Connection>>>,
}

impl Link {
    /// As many links as `count`, connected for the first time. Tasks in `tasks` connect them again whenever they end.
    pub(super) async fn open(
        count: u16,
        target: &Arc<Target>,
        terms: &Terms,
        tasks: &mut JoinSet<()>,
    ) -> Result<Vec<Arc<Self>>, PostgresConnectError> {
        let opened = try_join_all((0..count.max(1)).map(|_| target.open(terms))).await?;
        let links = opened.into_iter().map(|(connection, driver)| {
            let link = Arc::new(Self {
                target: Arc::clone(target),
                terms: terms.clone(),
                current: RwLock::new(Some(Arc::new(connection))),
            });
            tasks.spawn(Arc::clone(&link).keep(Some(driver)));
            link
        });
        Ok(links.collect())
    }

    /// The connection, if there is one.
    pub(super) fn connection(&self) -> Result<Arc<Connection>, ServerError> {
        self.current.read().clone().ok_or(ServerError::NotConnected)
    }

    fn is_connected(&self) -> bool {
        self.current.read().is_some()
    }

    async fn keep(self: Arc<Self>, mut driver: Option<JoinHandle<()>>) {
        loop {
            if let Some(driver) = driver {
                // It ends when the server closes the connection, and when somebody gives it up.
                let _ = driver.await;
                *self.current.write() = None;
                tracing::debug!("a connection to PostgreSQL ended");
            }
            driver = Some(self.connect().await);
        }
    }

    async fn connect(&self) -> JoinHandle<()> {
        let mut wait = FIRST_WAIT;
        loop {
            match self.target.open(&self.terms).await {
                Ok((connection, driver)) => {
                    *self.current.write() = Some(Arc::new(connection));
                    tracing::debug!("a connection to PostgreSQL is there");
                    return driver;
                }
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "PostgreSQL cannot be reached"
                    );
                    sleep(varied(wait)).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
        }
    }
}

/// Half of `wait` to one and a half of it.
fn varied(wait: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness the waits are in step, which is no reason not to connect.
    let _ = getrandom::fill(&mut random);
    wait / 2 + wait * u32::from(random[0]) / 255
}

/// Connections that all callers share: requests follow one another without waiting for answers. For statements that are over in
/// no time and wait for no lock.
pub(super) struct SharedLinks {
    links: Vec<Arc<Link>>,
    next: AtomicUsize,
}

impl SharedLinks {
    pub(super) fn new(links: Vec<Arc<Link>>) -> Self {
        Self {
            links,
            next: AtomicUsize::new(0),
        }
    }

    /// The next connection in turn that is there.
    pub(super) fn connection(&self) -> Result<Arc<Connection>, ServerError> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..self.links.len()).map(|n| &self.links[turn.wrapping_add(n) % self.links.len()]);
        in_turn
            .into_iter()
            .find_map(|link| link.connection().ok())
            .ok_or(ServerError::NotConnected)
    }
}

/// Threads that have a connection of their own: of all processes together, the server lets in no more than its `max_connections`.
pub(super) const THREAD_LIMIT: usize = 16;

/// Connections for checks: of the threads that make them, and shared ones for everybody else.
pub(super) struct CheckLinks {
    per_thread: PerThread<Lane>,
    shared: SharedLinks,
    target: Arc<Target>,
    terms: Terms,
}

impl CheckLinks {
    pub(super) fn new(shared: Vec<Arc<Link>>, target: &Arc<Target>, terms: &Terms) -> Self {
        Self {
            per_thread: PerThread::new(THREAD_LIMIT),
            shared: SharedLinks::new(shared),
            target: Arc::clone(target),
            terms: terms.clone(),
        }
    }

    /// The connection of this thread; while it has none, a shared one.
    pub(super) fn connection(&self) -> Result<Arc<Connection>, ServerError> {
        self.per_thread
            .here(|| Lane::opening(&self.target, &self.terms))
            .and_then(|lane| lane.link.connection().ok())
            .map_or_else(|| self.shared.connection(), Ok)
    }

    /// Gives up the connections of threads, once what is asked on them is answered.
    pub(super) fn close_threads(&self) {
        self.per_thread.close();
    }
}

/// A link whose tasks run on the thread that uses it.
struct Lane {
    link: Arc<Link>,
    keeping: AbortHandle,
}

impl Lane {
    /// The first connection is still to be opened.
    fn opening(target: &Arc<Target>, terms: &Terms) -> Self {
        let link = Arc::new(Link {
            target: Arc::clone(target),
            terms: terms.clone(),
            current: RwLock::new(None),
        });
        let keeping = tokio::spawn(Arc::clone(&link).keep(None)).abort_handle();
        Self { link, keeping }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

/// Connections that one caller at a time has. For statements that may take a while.
pub(super) struct LentLinks {
    links: Vec<Arc<Link>>,
    /// Which of them nobody has: as many as there are permits.
    free: Mutex<Vec<usize>>,
    permits: Arc<Semaphore>,
    call_timeout: Duration,
}

impl LentLinks {
    pub(super) fn new(links: Vec<Arc<Link>>, call_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            free: Mutex::new((0..links.len()).collect()),
            permits: Arc::new(Semaphore::new(links.len())),
            links,
            call_timeout,
        })
    }

    /// What the server answers to `question`, which has a connection to itself.
    pub(super) async fn ask<T>(
        self: &Arc<Self>,
        question: impl AsyncFnOnce(&Connection) -> Result<T, ServerError>,
    ) -> Result<T, ServerError> {
        let deadline = Instant::now() + self.call_timeout;
        let loan = timeout_at(deadline, self.lend())
            .await
            .map_err(|_| ServerError::Unanswered)??;
        let connection = Arc::clone(&loan.connection);
        let returned = ReturnedWhenAnswered(Some(loan));
        let answer = connection.answer_by(deadline, question(&connection)).await;
        returned.now();
        answer
    }

    async fn lend(self: &Arc<Self>) -> Result<Loan, ServerError> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| ServerError::NotConnected)?;
        let mut free = self.free.lock();
        let place = free
            .iter()
            .position(|at| self.links[*at].is_connected())
            .ok_or(ServerError::NotConnected)?;
        let connection = self.links[free[place]].connection()?;
        Ok(Loan {
            at: free.swap_remove(place),
            links: Arc::clone(self),
            connection,
            _permit: permit,
        })
    }
}

/// A connection that one caller has. It is free for others when this is dropped.
struct Loan {
    links: Arc<LentLinks>,
    at: usize,
    connection: Arc<Connection>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.links.free.lock().push(self.at);
    }
}

/// Keeps a connection from others until what was asked is answered, also if the caller stops waiting: the next one would have to
/// wait for the answer to a question that is not its own.
struct ReturnedWhenAnswered(Option<Loan>);

impl ReturnedWhenAnswered {
    fn now(mut self) {
        self.0 = None;
    }
}

impl Drop for ReturnedWhenAnswered {
    fn drop(&mut self) {
        let (Some(loan), Ok(runtime)) = (self.0.take(), Handle::try_current()) else {
            return;
        };
        runtime.spawn(async move {
            // Answers come in order: that of an empty question comes last.
            let deadline = Instant::now() + loan.links.call_timeout;
            let last = async {
                loan.connection
                    .client
                    .batch_execute("")
                    .await
                    .map_err(ServerError::from)
            };
            let _ = loan.connection.answer_by(deadline, last).await;
        });
    }
}
