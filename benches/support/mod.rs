//! What the benchmarks share: servers as processes of their own, load, and the table at the end.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub(crate) mod engines;
pub(crate) mod service;
pub(crate) mod wire;

use std::{
    env,
    error::Error,
    ffi::OsStr,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Anything that can go wrong ends the benchmark.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Which part of a benchmark this process plays: the benchmark itself, or a server that it has started.
pub(crate) fn role() -> Option<String> {
    env::var("BENCH_ROLE").ok()
}

/// The arguments from the benchmark that started this server.
pub(crate) fn told(name: &str) -> Outcome<String> {
    Ok(env::var(name).map_err(|_| format!("{name} is not set"))?)
}

/// A server in a process of its own, killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// What it said of itself when it was ready.
    pub(crate) ready: String,
}

impl Server {
    /// Starts this very program in another role and waits until it says that it is ready.
    pub(crate) fn in_role(role: &str, told: &[(&str, &str)]) -> Outcome<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.env("BENCH_ROLE", role).envs(told.iter().copied());
        Self::start(command)
    }

    /// Starts a program that writes one line when it is ready.
    pub(crate) fn start(mut command: Command) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output to read")?);
        let mut ready = String::new();
        lines.read_line(&mut ready)?;
        let ready = ready.trim().to_owned();
        match ready.is_empty() {
            true => Err("a server ended before it was ready".into()),
            false => Ok(Self { child, ready }),
        }
    }

    /// Starts a program that says nothing, and waits until it accepts connections.
    pub(crate) fn start_silent(mut command: Command, address: SocketAddr) -> Outcome<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self {
            child,
            ready: address.to_string(),
        };
        for _ in 0..100 {
            if std::net::TcpStream::connect(address).is_ok() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err("a server did not come up in time".into())
    }

    /// The address that it said it listens on.
    pub(crate) fn address(&self) -> Outcome<SocketAddr> {
        Ok(self
            .ready
            .split_whitespace()
            .next()
            .ok_or("no address")?
            .parse()?)
    }

    /// Memory that the process holds now, in bytes.
    pub(crate) fn resident_bytes(&self) -> Outcome<u64> {
        resident_bytes(&self.child.id().to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Memory that a process holds now, in bytes; `self`: this one.
pub(crate) fn resident_bytes(process: &str) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("no resident memory")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

/// Reports to the parent process that this one is ready.
pub(crate) fn say_ready(line: &str) -> Outcome {
    let mut output = std::io::stdout();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

/// A port that is free now.
pub(crate) fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A request body as gRPC frames it: no compression, length, message.
pub(crate) fn framed(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend(message);
    framed
}

/// What h2load is asked for.
pub(crate) struct Load<'a> {
    pub(crate) url: &'a str,
    /// The body of each request; `None`: a plain GET.
    pub(crate) body: Option<&'a Path>,
    pub(crate) connections: u32,
    pub(crate) streams: u32,
    pub(crate) threads: u32,
    pub(crate) seconds: u32,
}

/// Requests per second, as h2load counted them.
///
/// h2load takes every HTTP 200 for a success, also where gRPC says in a trailer that the call failed: the caller makes sure
/// beforehand that the calls succeed.
pub(crate) fn h2load(load: &Load<'_>) -> Outcome<f64> {
    let Load {
        url,
        body,
        connections,
        streams,
        threads,
        seconds,
    } = load;
    let number = |flag: &str, value: &u32| [flag.to_owned(), value.to_string()];
    let mut command = Command::new("h2load");
    command
        .args(number("-D", seconds))
        .args(["--warm-up-time=1"])
        .args(number("-c", connections))
        .args(number("-m", streams))
        .args(number("-t", threads));
    if let Some(body) = body {
        command.args([OsStr::new("-d"), body.as_os_str()]);
        command.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
    }
    let output = command
        .arg(url)
        .output()
        .map_err(|failure| format!("h2load: {failure}"))?;
    let report = String::from_utf8(output.stdout)?;
    let count = |label: &str| -> Outcome<f64> {
        let line = report
            .lines()
            .find(|line| line.starts_with(label))
            .ok_or("h2load said something else")?;
        Ok(line
            .split(',')
            .find(|part| part.contains("succeeded"))
            .map_or(0.0, |part| {
                part.split_whitespace()
                    .next()
                    .and_then(|number| number.parse().ok())
                    .unwrap_or(0.0)
            }))
    };
    Ok(count("requests:")? / f64::from(*seconds))
}

/// The middle one of several measurements.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// What this part of the values keeps to. They ascend.
pub(crate) fn quantile(ascending: &[u32], part: f64) -> f64 {
    let last = ascending.len().saturating_sub(1);
    let index = (ascending.len() as f64 * part) as usize;
    ascending
        .get(index.min(last))
        .map_or(f64::NAN, |value| f64::from(*value))
}

/// The number behind a flag of this program.
pub(crate) fn flag(name: &str, default: u32) -> u32 {
    let mut arguments = env::args().skip_while(|argument| argument != name);
    arguments
        .nth(1)
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

/// Prints a line of the report.
pub(crate) fn report(line: &str) -> Outcome {
    let mut output = std::io::stdout();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

/// Prints what stage a long benchmark has come to, on one line of the terminal.
pub(crate) fn progress(line: &str) -> Outcome {
    let mut output = std::io::stderr();
    write!(output, "\r\x1b[K{line}")?;
    Ok(output.flush()?)
}

/// Shows how far something is that takes long.
pub(crate) fn bar(doing: &str, done: u64, of: u64) -> Outcome {
    const WIDTH: u64 = 40;
    let filled = (done * WIDTH / of.max(1)).min(WIDTH) as usize;
    let (full, empty) = ("#".repeat(filled), ".".repeat(WIDTH as usize - filled));
    progress(&format!("{doing} [{full}{empty}] {done} of {of}"))
}
