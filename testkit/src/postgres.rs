//! A throw-away PostgreSQL server of the Debian package, for tests: started on a free port with data that is thrown away.

use crate::waiting::{free_port, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

/// The account that tests connect as. It needs no password, unlike [`LOCKED_ACCOUNT`].
const ACCOUNT: &str = "tester";

/// An account that has to prove itself, and its password.
pub const LOCKED_ACCOUNT: (&str, &str) = ("locked", "p&ss w\u{f6}rd");

/// A running server. It ends with the process of the test, however that ends.
pub struct PostgresServer {
    directory: PathBuf,
    port: u16,
    process: Mutex<Child>,
    databases: AtomicU32,
    /// Waits for the end of its input, which comes when this process is gone, and clears up.
    _guard: Child,
}

impl PostgresServer {
    /// The one server that the tests of a binary share; each makes a database of its own in it.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<PostgresServer> = LazyLock::new(PostgresServer::start);
        &SHARED
    }

    /// Starts a server of its own, for a test that stops it.
    pub fn start() -> Self {
        let directory = new_directory();
        let guard = guard(&directory);
        write_certificates(&directory);
        give_to_postgres(&directory);
        let data = directory.join("data");
        run(as_postgres(&program("initdb"))
            .args([
                "--username",
                ACCOUNT,
                "--encoding",
                "UTF8",
                "--locale",
                "C.UTF-8",
                "--no-sync",
                "--pgdata",
            ])
            .arg(&data));
        fs::write(
            data.join("pg_hba.conf"),
            format!(
                "host all {} 127.0.0.1/32 scram-sha-256\nhost all,replication all 127.0.0.1/32 trust\n",
                LOCKED_ACCOUNT.0
            ),
        )
        .unwrap();
        let port = free_port();
        let server = Self {
            process: Mutex::new(spawn(&directory, port)),
            directory,
            port,
            databases: AtomicU32::new(0),
            _guard: guard,
        };
        server.wait_until_it_answers();
        let (account, password) = LOCKED_ACCOUNT;
        server.sql(
            "postgres",
            &format!("CREATE ROLE {account} LOGIN SUPERUSER PASSWORD '{password}'"),
        );
        server
    }

    /// The URL of a new, empty database.
    pub fn new_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0"));
        self.url(ACCOUNT, &name)
    }

    /// Frees the space of a database that [`new_database`](Self::new_database) has made.
    pub fn drop_database(&self, url: &str) {
        let name = database(url);
        self.sql("postgres", &format!("DROP DATABASE {name} WITH (FORCE)"));
    }

    /// The URL of one of its databases.
    pub fn url(&self, account: &str, database: &str) -> String {
        format!("postgres://{account}@127.0.0.1:{}/{database}", self.port)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate that the server's was signed with, in PEM.
    pub fn authority(&self) -> PathBuf {
        self.directory.join("authority.pem")
    }

    /// What `psql` prints for a statement: rows as lines, columns with bars between.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = Command::new(program("psql"))
            .args(["-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .arg(self.url(ACCOUNT, database))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Schema and rows of a database, as statements that any server of this version or a later one takes.
    pub fn dump(&self, url: &str) -> String {
        let output = Command::new(program("pg_dump"))
            .args(["--inserts", "--no-owner", "--no-privileges", url])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let dump = String::from_utf8(output.stdout).unwrap();
        // Commands to psql, not to the server; and a setting that older servers do not know.
        let is_statement =
            |line: &&str| !line.starts_with('\\') && !line.starts_with("SET transaction_timeout");
        dump.lines()
            .filter(is_statement)
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// Ends the server and all its processes at once, as a crash does.
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap();
        let all = self.processes(process.id());
        signal("KILL", &all);
        process.wait().unwrap();
        while all.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts the server that was killed, on the same port.
    pub fn start_again(&self) {
        *self.process.lock().unwrap() = spawn(&self.directory, self.port);
        self.wait_until_it_answers();
    }

    /// Throws this server's data away and lets it follow another, which from then on acknowledges nothing that this one has not.
    pub fn become_standby_of(&self, primary: &Self) {
        if self.process.lock().unwrap().try_wait().unwrap().is_none() {
            self.kill();
        }
        let data = self.directory.join("data");
        fs::remove_dir_all(&data).unwrap();
        run(as_postgres(&program("pg_basebackup"))
            .args(["--host", "127.0.0.1", "--port", &primary.port.to_string()])
            .args(["--username", ACCOUNT, "--checkpoint", "fast", "--no-sync"])
            .args(["--write-recovery-conf", "--pgdata"])
            .arg(&data));
        self.start_again();
        primary.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        primary.sql("postgres", "SELECT pg_reload_conf()");
        let count = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        until("the standby to follow", || {
            (primary.sql("postgres", count) == "1").then_some(())
        });
    }

    /// Makes a primary of a standby whose primary is gone. It waits for no standby of its own.
    pub fn promote(&self) {
        assert_eq!(self.sql("postgres", "SELECT pg_promote()"), "t");
        self.sql("postgres", "ALTER SYSTEM RESET synchronous_standby_names");
        self.sql("postgres", "SELECT pg_reload_conf()");
    }

    /// Stops every process of the server without ending it: it hangs.
    pub fn pause(&self) {
        signal("STOP", &self.processes(self.process.lock().unwrap().id()));
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        signal("CONT", &self.processes(self.process.lock().unwrap().id()));
    }

    /// The server's first process and its children.
    fn processes(&self, first: u32) -> Vec<u32> {
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        std::iter::once(first).chain(children).collect()
    }

    fn wait_until_it_answers(&self) {
        until("PostgreSQL to start", || {
            let mut ask = Command::new(program("pg_isready"));
            ask.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
            if !ask.status().unwrap().success() {
                let has_ended = self.process.lock().unwrap().try_wait().unwrap().is_some();
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                assert!(!has_ended, "PostgreSQL does not start: {log}");
                return None;
            }
            Some(())
        });
    }
}

/// The database's name in a URL of [`PostgresServer::new_database`].
pub fn database(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

/// Of the newest version that the Debian packages have installed, or else wherever the shell finds it.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let newest = versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .max();
    newest.map_or_else(
        || PathBuf::from(name),
        |version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin/{name}")),
    )
}

fn as_postgres(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(program)
        .current_dir("/");
    command
}

fn new_directory() -> PathBuf {
    let directory = tempfile::Builder::new().prefix("sessiond-postgres-").tempdir();
    directory.unwrap().keep()
}

/// PostgreSQL refuses to run as root, so what it runs on must not be root's either.
fn give_to_postgres(directory: &Path) {
    if rustix::process::geteuid().is_root() {
        run(Command::new("chown").args(["-R", "postgres:"]).arg(directory));
    }
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn spawn(directory: &Path, port: u16) -> Child {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("log"))
        .unwrap();
    let settings = [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".into(),
        "unix_socket_directories=".into(),
        "max_connections=400".into(),
        // Tests kill the server, not the machine: what was written survives in the kernel.
        "fsync=off".into(),
        "ssl=on".into(),
        format!("ssl_cert_file={}", directory.join("server.pem").display()),
        format!("ssl_key_file={}", directory.join("server.key").display()),
    ];
    let mut server = as_postgres(&program("postgres"));
    server.arg("-D").arg(directory.join("data"));
    for setting in settings {
        server.args(["-c", &setting]);
    }
    // Its own process group: a Ctrl-C at the terminal is for the tests, and the guard clears up after them.
    server
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Starts the process that ends the server and deletes its data when this process is gone.
fn guard(directory: &Path) -> Child {
    const CLEAR_UP: &str = r#"
        cat > /dev/null
        pid=$(head -n 1 "$1/data/postmaster.pid" 2> /dev/null)
        if [ -n "$pid" ] && grep -qa "$1" "/proc/$pid/cmdline" 2> /dev/null; then
            kill -CONT "$pid" $(cat "/proc/$pid/task/$pid/children") 2> /dev/null
            kill -QUIT "$pid"
            while [ -e "/proc/$pid" ] && ! grep -q 'State:.Z' "/proc/$pid/status"; do sleep 0.05; done
        fi
        rm -rf "$1"
    "#;
    Command::new("sh")
        .args(["-c", CLEAR_UP, "guard"])
        .arg(directory)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn signal(name: &str, processes: &[u32]) {
    let mut kill = Command::new("kill");
    kill.arg(format!("-{name}"))
        .args(processes.iter().map(u32::to_string));
    // A process may have ended meanwhile.
    kill.stderr(Stdio::null()).status().unwrap();
}

fn write_certificates(directory: &Path) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    fs::write(directory.join("authority.pem"), authority.pem()).unwrap();
    fs::write(directory.join("server.pem"), certificate.pem()).unwrap();
    let key_file = directory.join("server.key");
    fs::write(&key_file, key.serialize_pem()).unwrap();
    fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}
