//! Every setting, declared once. One file may serve both programs: each takes what it needs and knows the rest by name.
//!
//! A declaration is the help of a setting, its name, its type and its default. The name is the key in the file; the flag `--a-key`
//! and the variable `SESSIOND_A_KEY` follow from it, and so do the example file and the table in the README, which tests compare. The
//! type says how a value is written (see `value.rs`). Before each section stands whose command lines take its settings as flags. A
//! setting that a running program takes over from a changed file says so behind its default.

use super::{
    secret_file::SecretFile,
    sources::{Given, Values},
    store_url::{RedisUrl, StoreChoice},
    upstream::Upstream,
    value::{SessionSeconds, Value, Whole},
};
use crate::{
    gateway::{AddressBlock, CookieName, Origin},
    telemetry::{Filter, Format},
};
use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

/// A command line that takes settings as flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandLine {
    /// `sessiond` when it serves.
    Service,
    /// A command of `sessiond` that may open the stores itself.
    Command,
    /// `sessiond-gateway`.
    Gateway,
}

/// What is known of a setting without the type of its values.
#[derive(Debug)]
pub struct Setting {
    /// Its name in the file.
    pub key: &'static str,
    /// The text of its default.
    pub default: &'static str,
    /// What its values are called in `--help`.
    pub kind: &'static str,
    /// One or two sentences for the operator.
    pub help: &'static str,
    /// Which command lines take it as a flag.
    pub taken_by: &'static [CommandLine],
    /// Whether a running program takes a new value over ([`Reloader`](super::Reloader)).
    pub is_reloaded: bool,
}

/// What the names of all environment variables begin with.
pub(super) const VARIABLE_PREFIX: &str = "SESSIOND_";

impl Setting {
    /// Its name on the command line, without the dashes before it.
    #[must_use]
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// Its name in the environment.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.key.to_uppercase())
    }

    /// The setting of this name.
    pub(super) fn named(key: &str) -> Option<&'static Self> {
        ALL.iter().find(|setting| setting.key == key)
    }
}

macro_rules! settings {
    ($($taken_by:tt { $($(#[doc = $help:literal])+ $key:ident: $type:ty = $default:literal $(, $reloaded:ident)?;)+ })+) => {
        /// Every setting, in the order of the example file.
        pub static ALL: &[Setting] = {
            use CommandLine::{Command, Gateway, Service};
            &[$($(Setting {
                key: stringify!($key),
                default: $default,
                kind: <$type as Value>::KIND,
                help: concat!($($help),+).trim_ascii(),
                taken_by: &$taken_by,
                is_reloaded: is_there!($($reloaded)?),
            },)+)+]
        };

        /// The value of every setting.
        #[cfg_attr(not(feature = "server"), expect(dead_code, reason = "the gateway alone reads few of them"))]
        pub(super) struct Settings {
            $($(pub(super) $key: Given<$type>,)+)+
        }

        impl Settings {
            /// Takes every value. Where one is wrong, that is noted and the default stands in for it, so that what is wrong with the
            /// others is noted too.
            pub(super) fn take(values: &mut Values) -> Option<Self> {
                $($(let $key = values.take(stringify!($key), $default);)+)+
                Some(Self { $($($key: $key?,)+)+ })
            }
        }
    };
}

macro_rules! is_there {
    () => {
        false
    };
    (reloaded) => {
        true
    };
}

settings! {
    [Service] {
        /// Where the gRPC service listens.
        listen: SocketAddr = "127.0.0.1:50051";

        /// Whether the service describes itself to clients that ask, as grpcurl does.
        reflection: bool = "true";

        /// Where GET /metrics shows numbers to Prometheus, such as 127.0.0.1:9464; nowhere unless set.
        metrics_listen: Option<SocketAddr> = "";
    }

    [Service, Command] {
        /// Where users and sessions live: embedded (in data_dir), memory (gone with the process), or
        /// postgres://USER@HOST/DATABASE.
        store: StoreChoice = "embedded";

        /// What the embedded store keeps its files in. Created if missing; one process at a time.
        data_dir: PathBuf = "./sessiond-data";

        /// A file, readable by its owner alone, that holds the URL for store, with its password.
        store_url_file: Option<SecretFile> = "";

        /// Where sessions live if not with the users: redis://HOST, redis+sentinel://HOST,HOST/SERVICE or
        /// redis+cluster://HOST,HOST; rediss for TLS.
        session_store: Option<RedisUrl> = "";

        /// A file, readable by its owner alone, that holds the URL for session_store, with its password.
        session_store_url_file: Option<SecretFile> = "";

        /// Connections to PostgreSQL for session checks, beside one of each serving thread's own (16 at most).
        postgres_check_connections: Whole<1, 1000> = "3";

        /// Connections to PostgreSQL for everything else.
        postgres_write_connections: Whole<1, 1000> = "8";

        /// After how long PostgreSQL breaks a statement off. Whoever waits for it is answered within 300ms more.
        postgres_statement_timeout: Duration = "1200ms";

        /// After how long PostgreSQL breaks off a wait for a lock.
        postgres_lock_timeout: Duration = "1s";

        /// What every key in Redis begins with. Deployments that share a server need different ones.
        redis_prefix: String = "sessiond:";

        /// Connections to Redis, or to each node of a Cluster, beside one of each serving thread's own (64 at most).
        redis_connections: NonZeroUsize = "2";

        /// How long Redis may take to answer.
        redis_timeout: Duration = "1500ms";

        /// How many replicas must have a change before it is acknowledged, so that a failover loses none; off waits for none.
        redis_strict_replicas: Option<Whole<1, 100>> = "off";

        /// PEM certificates to trust instead of the system's, for rediss URLs.
        redis_root_certificates: Option<PathBuf> = "";

        /// DANGER: use a Redis that drops sessions when its memory is full (maxmemory-policy other than noeviction).
        danger_redis_eviction: bool = "false";
    }

    [Service] {
        /// How long a session lasts at most, however busy. Whoever creates one may ask for less.
        session_lifetime: SessionSeconds = "12h";

        /// How long a session lasts without a check. Whoever creates one may ask for less.
        session_idle_timeout: SessionSeconds = "30m";

        /// How many sessions one user may have; the oldest make room.
        sessions_per_user: Whole<1, 10_000> = "100";

        /// How often the space of ended sessions is freed. They are over before that.
        sweep_interval: Duration = "1m";
    }

    [Service, Command] {
        /// How long a new password must be, in characters.
        password_min_chars: Whole<8, 64> = "15";

        /// bcrypt's cost: each step doubles the time of a log-in; 12 takes about a quarter of a second of one core.
        password_cost: Whole<10, 16> = "12";

        /// Threads that hash passwords; auto leaves one core to everything else.
        password_threads: Option<NonZeroUsize> = "auto";

        /// Log-ins that may wait for such a thread before more are refused; auto is what is done within five seconds.
        password_queue: Option<NonZeroUsize> = "auto";

        /// A file, readable by its owner alone, with the secrets that are hashed with every password.
        pepper_file: Option<SecretFile> = "", reloaded;
    }

    [Service] {
        /// Whether sessiond also runs the HTTP gateway.
        gateway: bool = "true";
    }

    [Gateway] {
        /// The service that sessiond-gateway asks. sessiond's own gateway asks the service beside it.
        upstream: Upstream = "http://127.0.0.1:50051";
    }

    [Service, Gateway] {
        /// Where the HTTP gateway listens.
        gateway_listen: SocketAddr = "127.0.0.1:8080";

        /// Where browsers find the gateway, such as https://login.example.org. Needed behind a proxy that changes the host.
        public_origin: Option<Origin> = "";

        /// Other origins, separated by commas, whose pages may use the gateway with the user's cookie. Exact ones, also of an app such as capacitor://localhost.
        allowed_origins: Vec<Origin> = "";

        /// Proxies whose X-Forwarded-For is believed: addresses or blocks such as 10.0.0.0/8, separated by commas.
        trusted_proxies: Vec<AddressBlock> = "";

        /// The session cookie's name. Over https it carries the prefix __Host- besides.
        cookie_name: CookieName = "session";

        /// Whether everyone may create a user through the gateway; otherwise only administrators.
        registration: bool = "true";

        /// Whether the gateway's guarded routes take Authorization: Basic in place of a session, at the price of a password
        /// check each.
        basic_auth: bool = "false";

        /// How fresh a log-in must be for changing one's email and ending sessions through the gateway.
        reauthentication_age: Option<Duration> = "15m";
    }

    [Service, Gateway] {
        /// DANGER: allow listening, and asking an upstream, in plain text beyond this machine. Tokens and passwords are readable
        /// on the way, and whoever reaches the service is trusted.
        danger_plaintext_listen: bool = "false";

        /// Threads that serve connections, for each listener; auto is one for each core.
        workers: Option<NonZeroUsize> = "auto";

        /// Connections at once, for each listener. Fewer if the process may not open as many files.
        connections: NonZeroUsize = "10000";

        /// Connections at once from one IPv4 address or one IPv6 /64, for each listener.
        connections_per_source: NonZeroUsize = "2000";

        /// Requests at once on one HTTP/2 connection.
        streams_per_connection: Whole<1, 100_000> = "256";

        /// How long a connection may go without a request.
        connection_idle_timeout: Duration = "5m";

        /// How old a connection may get before its client is asked to open a new one, give or take a tenth.
        connection_age: Option<Duration> = "never";

        /// How long one call may take, however long its caller would wait.
        call_timeout: Duration = "10s";

        /// How long requests under way may take when the process is asked to stop.
        drain_timeout: Duration = "30s";

        /// What is logged: a level, or levels by module such as info,sessiond::grpc=debug. Of other people's code nothing below
        /// info.
        log: Filter = "info", reloaded;

        /// human, json, or auto: human on a terminal, json otherwise.
        log_format: Format = "auto";
    }
}
