//! What a million sessions take on the embedded store, and ten million: memory against Redis, growing, restarting, sweeping, and
//! whether a check notices how many there are.
//!
//! `cargo bench --bench sizes -- [--millions N] [--per-user N] [--seconds N] [--rounds N]`: one million and, with
//! `--millions 10`, also ten.

#![allow(missing_docs, reason = "a program")]

mod support;

use sessiond::{
    domain::{
        Attributes, AuthMethod, Client, Clock as _, LiveSession, Session, SessionId, SessionSpan,
        SessionToken, SystemClock, Timestamp, TokenDigest, UserId,
    },
    store::{Created, EmbeddedStore, Epoch, NewSession, SessionStore as _},
};
use std::{
    cell::RefCell,
    fmt,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use support::{
    Outcome, Server,
    engines::Redis,
    service::{Chance, Service, check_load},
    wire::{self, Calls},
};

/// The same as the service's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Log-ins at once while the store grows, and while it sweeps.
const GROWING_CALLERS: u64 = 1024;
const SWEEPING_CALLERS: u64 = 16;

/// Half of the sessions last shorter than the other half. All live while they are measured.
const SHORT: Duration = Duration::from_secs(12 * 3600);
const LONG: Duration = Duration::from_secs(24 * 3600);

fn main() -> Outcome {
    match support::role().as_deref() {
        Some("grow") => grow(),
        Some(_) => sweep(),
        None => measure(),
    }
}

/// A directory with so many sessions, and the service over it.
struct Sized {
    count: u64,
    directory: PathBuf,
    service: Service,
}

fn measure() -> Outcome {
    let per_user = support::flag("--per-user", 1);
    let millions = u64::from(support::flag("--millions", 1));
    let (seconds, rounds) = (support::flag("--seconds", 4), support::flag("--rounds", 5));
    let mut counts = vec![1_000, 1_000_000];
    if millions > 1 {
        counts.push(millions * 1_000_000);
    }
    let directory = tempfile::tempdir()?;
    let directory = directory.path();
    let (_, empty) = start(directory, &directory.join("empty"))?;
    let empty = empty.server.resident_bytes()?;
    let mut sized = Vec::new();
    for count in counts {
        support::report(&format!(
            "{} sessions, {per_user} for each user",
            thousands(count)
        ))?;
        let data = directory.join(format!("data-{count}"));
        let told = [
            ("DATA_DIR", &*data.to_string_lossy()),
            ("COUNT", &count.to_string()),
            ("PER_USER", &per_user.to_string()),
        ];
        let grown = Server::in_role("grow", &told)?.ready.clone();
        support::progress("")?;
        support::report(&format!("    {}", grown.replace(';', "\n    ")))?;
        let (restarted, service) = start(directory, &data)?;
        let taken = service.server.resident_bytes()?.saturating_sub(empty) as f64 / count as f64;
        if count >= 1_000_000 {
            let redis = bytes_in_redis(count, per_user.into())?;
            support::report(&format!(
                "    memory after a restart: {taken:.0} bytes a session; Redis: {redis:.0}; ratio {:.2}",
                taken / redis
            ))?;
        }
        support::report(&format!(
            "    restart until it serves: {:.2} s; on disk {} MB",
            restarted.as_secs_f64(),
            bytes_on_disk(&data)? / 1_000_000
        ))?;
        sized.push(Sized {
            count,
            directory: data,
            service,
        });
    }
    check(&sized, seconds, rounds)?;

    let Some(Sized {
        count,
        directory,
        service,
    }) = sized.pop()
    else {
        return Ok(());
    };
    drop(service);
    let told = [
        ("DATA_DIR", &*directory.to_string_lossy()),
        ("COUNT", &count.to_string()),
    ];
    let swept = Server::in_role("sweep", &told)?.ready.clone();
    support::progress("")?;
    support::report(&format!("Sweeping half of {} sessions", thousands(count)))?;
    support::report(&format!("    {}", swept.replace(';', "\n    ")))
}

/// How long the service takes until it says that it serves.
fn start(directory: &Path, data: &Path) -> Outcome<(Duration, Service)> {
    let begin = Instant::now();
    let service = Service::start(directory, &["--data-dir".as_ref(), data.as_os_str()])?;
    Ok((begin.elapsed(), service))
}

fn bytes_on_disk(directory: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

fn thousands(count: u64) -> String {
    match count {
        0..1_000_000 => format!("{},{:03}", count / 1000, count % 1000),
        _ => format!("{} million", count / 1_000_000),
    }
}

/// Checks of sessions picked at random, over gRPC, on services with few and with many: in turns.
fn check(sized: &[Sized], seconds: u32, rounds: u32) -> Outcome {
    let mut measured = vec![(Vec::new(), Vec::new(), Vec::new()); sized.len()];
    for round in 0..rounds {
        for (sized, (rates, middles, tails)) in sized.iter().zip(&mut measured) {
            support::progress(&format!("checks, round {round}: {}", thousands(sized.count)))?;
            let span = Duration::from_secs(seconds.into());
            let ran = wire::run(check_load(sized.service.address, 4, 4, span), |connection| {
                SpreadChecks {
                    count: sized.count,
                    chance: Chance::new(connection),
                }
            })?;
            rates.push(ran.per_second);
            middles.push(ran.latency_millis(0.5));
            tails.push(ran.latency_millis(0.99));
        }
    }
    support::progress("")?;
    support::report("UserIdForSession of sessions picked at random, 16 callers (median of the rounds)")?;
    let mut first = None;
    for (sized, (rates, middles, tails)) in sized.iter().zip(measured) {
        let [rate, middle, tail] = [rates, middles, tails].map(support::median);
        let first = *first.get_or_insert(tail);
        support::report(&format!(
            "    {:<12} {rate:>9.0} per second   p50 {middle:.3} ms   p99 {tail:.3} ms   {:.2} of the first",
            thousands(sized.count),
            tail / first
        ))?;
    }
    Ok(())
}

struct SpreadChecks {
    count: u64,
    chance: Chance,
}

impl Calls for SpreadChecks {
    fn ask(&mut self, message: &mut Vec<u8>) -> bool {
        let number = self.chance.below(self.count as usize) as u64;
        let token = token(number);
        let token = token.expose().as_bytes();
        message.extend([0x0a, token.len() as u8]);
        message.extend_from_slice(token);
        true
    }

    fn answered(&mut self, message: &[u8]) -> Outcome<u64> {
        match message.starts_with(&[0x0a, 36]) {
            true => Ok(1),
            false => Err("a check that found nobody".into()),
        }
    }
}

/// What Redis takes for a session as services keep them there: its token as a key with 64 bytes and an expiry, and as a member of
/// a set of its user's.
fn bytes_in_redis(count: u64, per_user: u64) -> Outcome<f64> {
    const AT_ONCE: u64 = 10_000;
    let server = Redis::in_memory()?;
    let mut connection = redis::Client::open(server.url())?.get_connection()?;
    let used = |connection: &mut redis::Connection| -> Outcome<f64> {
        let info: String = redis::cmd("INFO").arg("memory").query(connection)?;
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        Ok(line.ok_or("no used_memory")?.trim().parse()?)
    };
    let before = used(&mut connection)?;
    for from in (0..count).step_by(AT_ONCE as usize) {
        support::bar("Redis", from, count)?;
        let mut pipeline = redis::pipe();
        for number in from..count.min(from + AT_ONCE) {
            let token = token(number);
            let token = token.expose();
            let key = format!("session:{token}");
            let user = format!("user:{}", user(number, per_user));
            pipeline
                .cmd("SET")
                .arg(key)
                .arg(&[7_u8; 64][..])
                .arg("EX")
                .arg(43_200)
                .ignore();
            pipeline.cmd("SADD").arg(user).arg(token).ignore();
        }
        // The failure of a pipeline lists every command in it.
        pipeline
            .exec(&mut connection)
            .map_err(|_| "Redis has refused a session")?;
    }
    support::progress("")?;
    Ok((used(&mut connection)? - before) / count as f64)
}

/// The token of a session by its number, so that ten million of them need not be kept.
fn token(number: u64) -> SessionToken {
    let mut random = [0; 32];
    let mut chance = Chance::new(number as usize);
    for part in random.chunks_exact_mut(4) {
        part.copy_from_slice(&(chance.below(1 << 32) as u32).to_be_bytes());
    }
    SessionToken::from_random(random)
}

fn user(number: u64, per_user: u64) -> UserId {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&(number / per_user).to_be_bytes());
    UserId::new(Timestamp::from_millis(1_795_000_000_000), random)
}

fn new_session(number: u64, per_user: u64, now: Timestamp) -> NewSession {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&number.to_be_bytes());
    let lasts = if number.is_multiple_of(2) { SHORT } else { LONG };
    let secs = lasts.as_secs() as u32;
    NewSession {
        digest: token(number).digest(),
        session: Session {
            live: LiveSession {
                id: SessionId::new(now, random),
                user_id: user(number, per_user),
                last_seen_at: now,
                authenticated_at: now,
                auth_method: AuthMethod::Caller,
                span: SessionSpan::from_secs(secs, secs),
                grace_ends_at: None,
            },
            client: Client::default(),
            attributes: Attributes::default(),
        },
        epoch: Epoch::from_count(0),
        replaces: None,
        max_per_user: 100,
    }
}

/// Sessions come to life one by one, through the store's own operation, while a thread checks those that are there.
fn grow() -> Outcome {
    let (directory, count) = (support::told("DATA_DIR")?, support::told("COUNT")?.parse()?);
    let per_user = support::told("PER_USER")?.parse()?;
    let store = Arc::new(EmbeddedStore::open(Path::new(&directory))?);
    let clock = SystemClock::starting_at_wall_time(None);
    let before = support::resident_bytes("self")?;
    let there = Arc::new(AtomicU64::new(0));
    let watch = Watch::start(
        &store,
        move |chance, there| {
            // The newest ones may not have been answered yet.
            let settled = there.saturating_sub(2 * GROWING_CALLERS);
            (settled > 0).then(|| chance.below(settled as usize) as u64)
        },
        clock.now(),
        &there,
    );
    let begin = Instant::now();
    let disk = DiskWatch::start(Path::new(&directory))?;
    let waits = log_in(
        &store,
        0..count,
        |number, now| new_session(number, per_user, now),
        GROWING_CALLERS,
        &clock,
        &there,
        "growing",
    )?;
    let took = begin.elapsed();
    let (seen, synced) = (watch.stop()?, disk.stop()?);
    let taken = support::resident_bytes("self")?.saturating_sub(before);
    // Closed before anybody else opens the directory.
    drop(store);
    support::say_ready(&format!(
        "grown in {:.1} s, {:.0} sessions per second;memory: {:.0} bytes a session;{seen};log-ins: {waits};{synced}",
        took.as_secs_f64(),
        count as f64 / took.as_secs_f64(),
        taken as f64 / count as f64,
    ))
}

/// How long things took, in no more memory than when there was nothing: exact to a sixteenth.
struct Waits {
    /// By how many bits the microseconds have, and by the four bits that follow the first.
    counts: Vec<[u64; 16]>,
    longest: Duration,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            counts: vec![[0; 16]; 65],
            longest: Duration::ZERO,
        }
    }
}

impl Waits {
    fn note(&mut self, took: Duration) {
        let micros = took.as_micros() as u64;
        let bits = 64 - micros.leading_zeros() as usize;
        let following = micros << 4 >> bits.saturating_sub(1);
        self.counts[bits][following as usize % 16] += 1;
        self.longest = self.longest.max(took);
    }

    fn add(&mut self, other: &Self) {
        let pairs = self
            .counts
            .iter_mut()
            .flatten()
            .zip(other.counts.iter().flatten());
        pairs.for_each(|(count, more)| *count += more);
        self.longest = self.longest.max(other.longest);
    }

    /// What this part of them kept to, in milliseconds.
    fn quantile(&self, part: f64) -> f64 {
        let all: u64 = self.counts.iter().flatten().sum();
        let mut left = (all as f64 * part) as u64;
        for (bits, counts) in self.counts.iter().enumerate() {
            for (following, count) in counts.iter().enumerate() {
                if left < *count {
                    let micros = (16 + following as u64) << bits.saturating_sub(1) >> 4;
                    return micros as f64 / 1000.0;
                }
                left -= count;
            }
        }
        millis(self.longest)
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (middle, tail) = (self.quantile(0.5), self.quantile(0.99));
        write!(
            f,
            "p50 {middle:.1} ms, p99 {tail:.1} ms, longest {:.1} ms",
            millis(self.longest)
        )
    }
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

/// A thread that writes a page to a file of its own beside the store's and syncs it, some fifty times a second: no commit on this
/// disk is sure to take less than that does.
struct DiskWatch {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Outcome<Waits>>,
}

impl DiskWatch {
    fn start(directory: &Path) -> Outcome<Self> {
        let mut file = File::create(directory.with_extension("synced"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut waits = Waits::default();
            while !stopped.load(Ordering::Relaxed) {
                let begin = Instant::now();
                file.write_all(&[7; 4096])?;
                file.sync_data()?;
                waits.note(begin.elapsed());
                thread::sleep(Duration::from_millis(20));
            }
            Ok(waits)
        });
        Ok(Self { stop, thread })
    }

    fn stop(self) -> Outcome<String> {
        self.stop.store(true, Ordering::Relaxed);
        let waits = self.thread.join().map_err(|_| "the thread that syncs failed")??;
        Ok(format!("a page synced by somebody else beside it: {waits}"))
    }
}

/// Logs in by the store, so many at once; says how long that took.
fn log_in(
    store: &EmbeddedStore,
    numbers: std::ops::Range<u64>,
    new_session: impl Fn(u64, Timestamp) -> NewSession,
    callers: u64,
    clock: &SystemClock,
    there: &AtomicU64,
    doing: &str,
) -> Outcome<Waits> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let next = AtomicU64::new(numbers.start);
    let waits = RefCell::new(Waits::default());
    runtime.block_on(async {
        let caller = async || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= numbers.end {
                    return Outcome::Ok(());
                }
                let now = clock.now();
                let new = new_session(number, now);
                let begin = Instant::now();
                if store.create(new, now).await? != Created::Yes {
                    return Err("a session was not created".into());
                }
                waits.borrow_mut().note(begin.elapsed());
                let done = there.fetch_add(1, Ordering::Relaxed);
                if done.is_multiple_of(20_000) {
                    support::bar(doing, done, numbers.end)?;
                }
            }
        };
        let all = futures_util::future::join_all((0..callers).map(|_| caller())).await;
        all.into_iter().collect::<Outcome>()
    })?;
    Ok(waits.into_inner())
}

/// A thread that checks sessions all the time, and notes how long the longest check took. As long again it does something else:
/// what that takes at the longest is the machine's doing.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Outcome<String>>,
}

impl Watch {
    fn start(
        store: &Arc<EmbeddedStore>,
        mut pick: impl FnMut(&mut Chance, u64) -> Option<u64> + Send + 'static,
        now: Timestamp,
        there: &Arc<AtomicU64>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (store, there, stopped) = (Arc::clone(store), Arc::clone(there), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut chance = Chance::new(0);
            let (mut longest, mut idlest, mut checks) = (Duration::ZERO, Duration::ZERO, 0_u64);
            while !stopped.load(Ordering::Relaxed) {
                let Some(number) = pick(&mut chance, there.load(Ordering::Relaxed)) else {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                };
                let begin = Instant::now();
                let digest = token(number).digest();
                let between = Instant::now();
                let is_found = is_found(&store, &digest, now);
                let end = Instant::now();
                if !is_found {
                    return Err(format!("session {number} was not found").into());
                }
                idlest = idlest.max(between - begin);
                longest = longest.max(end - between);
                checks += 1;
            }
            Ok(format!(
                "{checks} checks beside it, the longest {:.2} ms (the same loop outside the store: {:.2} ms)",
                longest.as_secs_f64() * 1000.0,
                idlest.as_secs_f64() * 1000.0
            ))
        });
        Self { stop, thread }
    }

    fn stop(self) -> Outcome<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the thread that checks failed")?
    }
}

fn is_found(store: &EmbeddedStore, digest: &TokenDigest, now: Timestamp) -> bool {
    match store.check(digest, now) {
        sessiond::store::Lookup::Ready(Ok(found)) => found.is_some(),
        sessiond::store::Lookup::Ready(Err(_)) | sessiond::store::Lookup::Pending(_) => false,
    }
}

/// Half of the sessions have expired; they are swept without a pause, while others are checked and users log in.
fn sweep() -> Outcome {
    let (directory, count): (_, u64) = (support::told("DATA_DIR")?, support::told("COUNT")?.parse()?);
    let store = Arc::new(EmbeddedStore::open(Path::new(&directory))?);
    let clock = SystemClock::starting_at_wall_time(None);
    let later = clock.now().after(SHORT + Duration::from_secs(60));
    let there = Arc::new(AtomicU64::new(0));
    let watch = Watch::start(
        &store,
        // Those with odd numbers live on.
        move |chance, _| Some(chance.below(count as usize / 2) as u64 * 2 + 1),
        later,
        &there,
    );
    let is_swept = Arc::new(AtomicBool::new(false));
    let log_ins = {
        let (store, is_swept, there) = (Arc::clone(&store), Arc::clone(&is_swept), Arc::clone(&there));
        thread::spawn(move || {
            let mut waits = Waits::default();
            // Only odd numbers: these sessions live on as well.
            let lasting = |number, now| new_session(2 * number + 1, 1, now);
            let mut from = count;
            while !is_swept.load(Ordering::Relaxed) {
                let numbers = from..from + 1_000;
                from = numbers.end;
                waits.add(&log_in(
                    &store,
                    numbers,
                    lasting,
                    SWEEPING_CALLERS,
                    &clock,
                    &there,
                    "sweeping",
                )?);
            }
            Outcome::Ok(waits)
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let disk = DiskWatch::start(Path::new(&directory))?;
    let (mut swept, mut steps) = (0, Waits::default());
    let begin = Instant::now();
    runtime.block_on(async {
        loop {
            let step = Instant::now();
            let freed = store.sweep(later, 1000).await?;
            steps.note(step.elapsed());
            swept += freed;
            support::bar("sweeping", swept, count / 2)?;
            if freed < 1000 {
                return Outcome::Ok(());
            }
        }
    })?;
    let took = begin.elapsed();
    is_swept.store(true, Ordering::Relaxed);
    let waits = log_ins.join().map_err(|_| "the log-ins failed")??;
    let (seen, synced) = (watch.stop()?, disk.stop()?);
    if swept < count / 2 {
        return Err(format!("only {swept} were swept").into());
    }
    support::say_ready(&format!(
        "swept in {:.1} s, {:.0} sessions per second;a step of 1000: {steps};{seen};log-ins beside it: {waits};{synced}",
        took.as_secs_f64(),
        swept as f64 / took.as_secs_f64(),
    ))
}
