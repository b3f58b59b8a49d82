//! `sessiond copy`: users and sessions from one store into another.

use crate::Failure;
use clap::ArgMatches;
use sessiond::{
    config::StoreLocation,
    domain::{Clock as _, SystemClock},
    store::{
        CopyProgress, EmbeddedStore, PostgresStore, SessionStore, UserStore, copy_sessions, copy_users,
        redis::RedisStore,
    },
};
use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::Arc,
};
use tokio::task::spawn_blocking;

/// One end of a copy.
struct End {
    /// `None`: only sessions live there.
    users: Option<Arc<dyn UserStore>>,
    sessions: Arc<dyn SessionStore>,
    embedded: Option<Arc<EmbeddedStore>>,
}

impl End {
    fn both(store: Arc<impl UserStore + SessionStore>) -> Self {
        Self {
            users: Some(store.clone()),
            sessions: store,
            embedded: None,
        }
    }

    async fn open(place: StoreLocation, is_source: bool) -> Result<Self, Failure> {
        match place {
            StoreLocation::Directory(directory) => {
                if is_source && !directory.join("sessiond.db").exists() {
                    return Err(format!("there is no data in {}", directory.display()).into());
                }
                let store = Arc::new(spawn_blocking(move || EmbeddedStore::open(&directory)).await??);
                Ok(Self {
                    embedded: Some(Arc::clone(&store)),
                    ..Self::both(store)
                })
            }
            StoreLocation::Postgres(config) => {
                Ok(Self::both(Arc::new(PostgresStore::connect(*config).await?)))
            }
            StoreLocation::Redis(config) => {
                let sessions = Arc::new(RedisStore::connect(*config).await?);
                Ok(Self {
                    users: None,
                    sessions,
                    embedded: None,
                })
            }
        }
    }

    /// Writes down what is not yet.
    async fn close(self) -> Result<(), Failure> {
        if let Some(store) = self.embedded {
            spawn_blocking(move || store.close()).await?;
        }
        Ok(())
    }
}

pub(super) async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let place = |name: &str| {
        let text = matches.get_one::<String>(name).map_or("", String::as_str);
        StoreLocation::parse(text).map_err(|reason| Failure::from(format!("--{name} {reason}")))
    };
    let (from, to) = (place("from")?, place("to")?);
    let from = End::open(from, true).await?;
    let to = End::open(to, false).await?;
    let outcome = copy(&from, &to).await;
    let closed = (from.close().await, to.close().await);
    outcome.and(closed.0).and(closed.1)
}

async fn copy(from: &End, to: &End) -> Result<(), Failure> {
    if let (Some(from), Some(to)) = (&from.users, &to.users) {
        let mut bar = Bar::new("users", from.count().await?);
        let done = copy_users(&**from, &**to, &mut |progress| bar.show(progress)).await;
        bar.finish(done?)?;
    }
    let now = SystemClock::starting_at_wall_time(None).now();
    let mut bar = Bar::new("sessions", from.sessions.count(now).await?);
    let done = copy_sessions(&*from.sessions, &*to.sessions, now, &mut |progress| {
        bar.show(progress)
    })
    .await;
    bar.finish(done?)
}

/// How wide the bar is, in characters.
const WIDTH: u64 = 40;

/// A progress bar on a terminal; elsewhere, only the last line.
struct Bar {
    what: &'static str,
    total: u64,
    is_shown: bool,
}

impl Bar {
    fn new(what: &'static str, total: u64) -> Self {
        Self {
            what,
            total,
            is_shown: io::stderr().is_terminal(),
        }
    }

    fn show(&mut self, progress: CopyProgress) {
        if !self.is_shown {
            return;
        }
        let done = progress.looked_at;
        let total = self.total.max(done).max(1);
        let filled = usize::try_from(done * WIDTH / total).unwrap_or(0);
        let (full, empty) = ("#".repeat(filled), ".".repeat(WIDTH as usize - filled));
        // A terminal that is gone is no reason to stop copying.
        let _ = write!(
            io::stderr(),
            "\r{:>8} [{full}{empty}] {done} of {total}",
            self.what
        );
    }

    fn finish(self, done: CopyProgress) -> Result<(), Failure> {
        if self.is_shown {
            writeln!(io::stderr())?;
        }
        let CopyProgress {
            looked_at,
            copied,
            taken_away,
        } = done;
        let what = self.what;
        Ok(writeln!(
            io::stdout(),
            "{looked_at} {what}: {copied} copied, {taken_away} taken away"
        )?)
    }
}
