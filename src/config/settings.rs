//! All settings. One file may serve both programs: each takes what it needs and knows the rest by name.

use super::{
    setting::{AnySetting, SWITCH, Setting},
    store_url::StoreUrl,
    upstream::{InvalidUpstream, Upstream},
    value,
};
use crate::{
    gateway::{AddressBlock, CookieName, InvalidCookieName, Origin},
    telemetry::{Filter, Format, InvalidFilter},
};
use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

/// Settings that belong together.
pub type Group = &'static [&'static dyn AnySetting];

static SERVICE: Group = &[&LISTEN, &REFLECTION, &METRICS_LISTEN];

static STORES: Group = &[
    &STORE,
    &DATA_DIR,
    &STORE_URL_FILE,
    &SESSION_STORE,
    &SESSION_STORE_URL_FILE,
    &POSTGRES_CHECK_CONNECTIONS,
    &POSTGRES_WRITE_CONNECTIONS,
    &POSTGRES_STATEMENT_TIMEOUT,
    &POSTGRES_LOCK_TIMEOUT,
    &REDIS_PREFIX,
    &REDIS_CONNECTIONS,
    &REDIS_TIMEOUT,
    &REDIS_STRICT_REPLICAS,
    &REDIS_ROOT_CERTIFICATES,
    &DANGER_REDIS_EVICTION,
];

static SESSIONS: Group = &[
    &SESSION_LIFETIME,
    &SESSION_IDLE_TIMEOUT,
    &SESSIONS_PER_USER,
    &SWEEP_INTERVAL,
];

static PASSWORDS: Group = &[
    &PASSWORD_MIN_CHARS,
    &PASSWORD_COST,
    &PASSWORD_THREADS,
    &PASSWORD_QUEUE,
    &PEPPER_FILE,
];

static GATEWAY_BESIDE_THE_SERVICE: Group = &[&GATEWAY];

static GATEWAY_ALONE: Group = &[&UPSTREAM];

static GATEWAYS: Group = &[
    &GATEWAY_LISTEN,
    &PUBLIC_ORIGIN,
    &ALLOWED_ORIGINS,
    &TRUSTED_PROXIES,
    &COOKIE_NAME,
    &REGISTRATION,
    &BASIC_AUTH,
    &REAUTHENTICATION_AGE,
];

static PROCESSES: Group = &[
    &DANGER_PLAINTEXT_LISTEN,
    &WORKERS,
    &CONNECTIONS,
    &CONNECTIONS_PER_SOURCE,
    &STREAMS_PER_CONNECTION,
    &CONNECTION_IDLE_TIMEOUT,
    &CONNECTION_AGE,
    &CALL_TIMEOUT,
    &DRAIN_TIMEOUT,
    &LOG,
    &LOG_FORMAT,
];

/// All there are, in the order of the example file.
pub static ALL: &[Group] = &[
    SERVICE,
    STORES,
    SESSIONS,
    PASSWORDS,
    GATEWAY_BESIDE_THE_SERVICE,
    GATEWAY_ALONE,
    GATEWAYS,
    PROCESSES,
];

/// What `sessiond` takes as flags.
pub static OF_SESSIOND: &[Group] = &[
    SERVICE,
    STORES,
    SESSIONS,
    PASSWORDS,
    GATEWAY_BESIDE_THE_SERVICE,
    GATEWAYS,
    PROCESSES,
];

/// What `sessiond-gateway` takes as flags.
pub static OF_SESSIOND_GATEWAY: &[Group] = &[GATEWAY_ALONE, GATEWAYS, PROCESSES];

/// What those commands of `sessiond` take as flags that may open the stores themselves.
pub static OF_COMMANDS: &[Group] = &[STORES, PASSWORDS];

/// Every setting, in the order of the example file.
pub fn all() -> impl Iterator<Item = &'static dyn AnySetting> {
    ALL.iter().copied().flatten().copied()
}

pub(super) static LISTEN: Setting<SocketAddr> = Setting::new(
    "listen",
    "127.0.0.1:50051",
    "ADDRESS",
    "Where the gRPC service listens.",
    value::address,
);

pub(super) static REFLECTION: Setting<bool> = Setting::new(
    "reflection",
    "true",
    SWITCH,
    "Whether the service describes itself to clients that ask, as grpcurl does.",
    value::switch,
);

pub(super) static METRICS_LISTEN: Setting<Option<SocketAddr>> = Setting::new(
    "metrics_listen",
    "",
    "ADDRESS",
    "Where GET /metrics shows numbers to Prometheus, such as 127.0.0.1:9464; nowhere unless set.",
    |text| match text {
        "" => Ok(None),
        _ => value::address(text).map(Some),
    },
);

pub(super) static CALL_TIMEOUT: Setting<Duration> = Setting::new(
    "call_timeout",
    "10s",
    "SPAN",
    "How long one call may take, however long its caller would wait.",
    value::span,
);

/// Where users live, and sessions too unless they have a store of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StoreChoice {
    Memory,
    Embedded,
    Postgres(StoreUrl),
}

pub(super) const POSTGRES_SCHEMES: &[&str] = &["postgres", "postgresql"];

pub(super) static STORE: Setting<StoreChoice> = Setting::new(
    "store",
    "embedded",
    "STORE",
    "Where users and sessions live: embedded (in data_dir), memory (gone with the process), or postgres://USER@HOST/DATABASE.",
    |text| match text {
        "memory" => Ok(StoreChoice::Memory),
        "embedded" => Ok(StoreChoice::Embedded),
        url if url.contains("://") => {
            StoreUrl::from_open(url, POSTGRES_SCHEMES, "store_url_file").map(StoreChoice::Postgres)
        }
        _ => Err("must be embedded, memory or a URL that begins with postgres://".to_owned()),
    },
);

pub(super) static DATA_DIR: Setting<PathBuf> = Setting::new(
    "data_dir",
    "./sessiond-data",
    "DIRECTORY",
    "What the embedded store keeps its files in. Created if missing; one process at a time.",
    value::path,
);

pub(super) static STORE_URL_FILE: Setting<Option<PathBuf>> = Setting::new(
    "store_url_file",
    "",
    "FILE",
    "A file, readable by its owner alone, that holds the URL for store, with its password.",
    value::optional_path,
);

pub(super) const REDIS_SCHEMES: &[&str] = &[
    "redis",
    "rediss",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
];

pub(super) static SESSION_STORE: Setting<Option<StoreUrl>> = Setting::new(
    "session_store",
    "",
    "URL",
    "Where sessions live if not with the users: redis://HOST, redis+sentinel://HOST,HOST/SERVICE or redis+cluster://HOST,HOST; \
     rediss for TLS.",
    |text| match text {
        "" => Ok(None),
        url => StoreUrl::from_open(url, REDIS_SCHEMES, "session_store_url_file").map(Some),
    },
);

pub(super) static SESSION_STORE_URL_FILE: Setting<Option<PathBuf>> = Setting::new(
    "session_store_url_file",
    "",
    "FILE",
    "A file, readable by its owner alone, that holds the URL for session_store, with its password.",
    value::optional_path,
);

pub(super) static POSTGRES_CHECK_CONNECTIONS: Setting<u32> = Setting::new(
    "postgres_check_connections",
    "3",
    "NUMBER",
    "Connections to PostgreSQL for session checks, beside one of each serving thread's own (16 at most).",
    value::number::<1, 1000>,
);

pub(super) static POSTGRES_WRITE_CONNECTIONS: Setting<u32> = Setting::new(
    "postgres_write_connections",
    "8",
    "NUMBER",
    "Connections to PostgreSQL for everything else.",
    value::number::<1, 1000>,
);

pub(super) static POSTGRES_STATEMENT_TIMEOUT: Setting<Duration> = Setting::new(
    "postgres_statement_timeout",
    "1200ms",
    "SPAN",
    "After how long PostgreSQL breaks a statement off. Whoever waits for it is answered within 300ms more.",
    value::span,
);

pub(super) static POSTGRES_LOCK_TIMEOUT: Setting<Duration> = Setting::new(
    "postgres_lock_timeout",
    "1s",
    "SPAN",
    "After how long PostgreSQL breaks off a wait for a lock.",
    value::span,
);

pub(super) static REDIS_PREFIX: Setting<String> = Setting::new(
    "redis_prefix",
    "sessiond:",
    "TEXT",
    "What every key in Redis begins with. Deployments that share a server need different ones.",
    |text| Ok(text.to_owned()),
);

pub(super) static REDIS_CONNECTIONS: Setting<NonZeroUsize> = Setting::new(
    "redis_connections",
    "2",
    "NUMBER",
    "Connections to Redis, or to each node of a Cluster, beside one of each serving thread's own (64 at most).",
    value::count,
);

pub(super) static REDIS_TIMEOUT: Setting<Duration> = Setting::new(
    "redis_timeout",
    "1500ms",
    "SPAN",
    "How long Redis may take to answer.",
    value::span,
);

pub(super) static REDIS_STRICT_REPLICAS: Setting<Option<u32>> = Setting::new(
    "redis_strict_replicas",
    "off",
    "NUMBER",
    "How many replicas must have a change before it is acknowledged, so that a failover loses none; off waits for none.",
    |text| match text {
        "off" => Ok(None),
        _ => value::number::<1, 100>(text)
            .map(Some)
            .map_err(|rule| format!("{rule}; or off")),
    },
);

pub(super) static REDIS_ROOT_CERTIFICATES: Setting<Option<PathBuf>> = Setting::new(
    "redis_root_certificates",
    "",
    "FILE",
    "PEM certificates to trust instead of the system's, for rediss URLs.",
    value::optional_path,
);

pub(super) static DANGER_REDIS_EVICTION: Setting<bool> = Setting::new(
    "danger_redis_eviction",
    "false",
    SWITCH,
    "DANGER: use a Redis that drops sessions when its memory is full (maxmemory-policy other than noeviction).",
    value::switch,
);

pub(super) static SESSION_LIFETIME: Setting<u32> = Setting::new(
    "session_lifetime",
    "12h",
    "SPAN",
    "How long a session lasts at most, however busy. Whoever creates one may ask for less.",
    value::session_span,
);

pub(super) static SESSION_IDLE_TIMEOUT: Setting<u32> = Setting::new(
    "session_idle_timeout",
    "30m",
    "SPAN",
    "How long a session lasts without a check. Whoever creates one may ask for less.",
    value::session_span,
);

pub(super) static SESSIONS_PER_USER: Setting<u32> = Setting::new(
    "sessions_per_user",
    "100",
    "NUMBER",
    "How many sessions one user may have; the oldest make room.",
    value::number::<1, 10_000>,
);

pub(super) static SWEEP_INTERVAL: Setting<Duration> = Setting::new(
    "sweep_interval",
    "1m",
    "SPAN",
    "How often the space of ended sessions is freed. They are over before that.",
    value::span,
);

pub(super) static PASSWORD_MIN_CHARS: Setting<u32> = Setting::new(
    "password_min_chars",
    "15",
    "NUMBER",
    "How long a new password must be, in characters.",
    value::number::<8, 64>,
);

pub(super) static PASSWORD_COST: Setting<u32> = Setting::new(
    "password_cost",
    "12",
    "NUMBER",
    "bcrypt's cost: each step doubles the time of a log-in; 12 takes about a quarter of a second of one core.",
    value::number::<10, 16>,
);

pub(super) static PASSWORD_THREADS: Setting<Option<NonZeroUsize>> = Setting::new(
    "password_threads",
    "auto",
    "NUMBER",
    "Threads that hash passwords; auto leaves one core to everything else.",
    value::count_or_auto,
);

pub(super) static PASSWORD_QUEUE: Setting<Option<NonZeroUsize>> = Setting::new(
    "password_queue",
    "auto",
    "NUMBER",
    "Log-ins that may wait for such a thread before more are refused; auto is what is done within five seconds.",
    value::count_or_auto,
);

pub(super) static PEPPER_FILE: Setting<Option<PathBuf>> = Setting::new(
    "pepper_file",
    "",
    "FILE",
    "A file, readable by its owner alone, with the secrets that are hashed with every password.",
    value::optional_path,
);

pub(super) static GATEWAY: Setting<bool> = Setting::new(
    "gateway",
    "true",
    SWITCH,
    "Whether sessiond also runs the HTTP gateway.",
    value::switch,
);

pub(super) static GATEWAY_LISTEN: Setting<SocketAddr> = Setting::new(
    "gateway_listen",
    "127.0.0.1:8080",
    "ADDRESS",
    "Where the HTTP gateway listens.",
    value::address,
);

pub(super) static UPSTREAM: Setting<Upstream> = Setting::new(
    "upstream",
    "http://127.0.0.1:50051",
    "URL",
    "The service that sessiond-gateway asks. sessiond's own gateway asks the service beside it.",
    |text| text.parse().map_err(|error: InvalidUpstream| error.to_string()),
);

pub(super) static PUBLIC_ORIGIN: Setting<Option<Origin>> = Setting::new(
    "public_origin",
    "",
    "ORIGIN",
    "Where browsers find the gateway, such as https://login.example.org. Needed behind a proxy that changes the host.",
    value::optional,
);

pub(super) static ALLOWED_ORIGINS: Setting<Vec<Origin>> = Setting::new(
    "allowed_origins",
    "",
    "ORIGINS",
    "Other origins, separated by commas, whose pages may use the gateway with the user's cookie.",
    value::list,
);

pub(super) static TRUSTED_PROXIES: Setting<Vec<AddressBlock>> = Setting::new(
    "trusted_proxies",
    "",
    "BLOCKS",
    "Proxies whose X-Forwarded-For is believed: addresses or blocks such as 10.0.0.0/8, separated by commas.",
    value::list,
);

pub(super) static COOKIE_NAME: Setting<CookieName> = Setting::new(
    "cookie_name",
    "session",
    "NAME",
    "The session cookie's name. Over https it carries the prefix __Host- besides.",
    |text| text.parse().map_err(|error: InvalidCookieName| error.to_string()),
);

pub(super) static REGISTRATION: Setting<bool> = Setting::new(
    "registration",
    "true",
    SWITCH,
    "Whether everyone may create a user through the gateway; otherwise only administrators.",
    value::switch,
);

pub(super) static BASIC_AUTH: Setting<bool> = Setting::new(
    "basic_auth",
    "false",
    SWITCH,
    "Whether the gateway's guarded routes take Authorization: Basic in place of a session, at the price of a password check each.",
    value::switch,
);

pub(super) static REAUTHENTICATION_AGE: Setting<Option<Duration>> = Setting::new(
    "reauthentication_age",
    "15m",
    "SPAN",
    "How fresh a log-in must be for changing one's email and ending sessions through the gateway.",
    value::span_or_never,
);

pub(super) static DANGER_PLAINTEXT_LISTEN: Setting<bool> = Setting::new(
    "danger_plaintext_listen",
    "false",
    SWITCH,
    "DANGER: allow listening, and asking an upstream, in plain text beyond this machine. Tokens and passwords are readable on \
     the way, and whoever reaches the service is trusted.",
    value::switch,
);

pub(super) static WORKERS: Setting<Option<NonZeroUsize>> = Setting::new(
    "workers",
    "auto",
    "NUMBER",
    "Threads that serve connections, for each listener; auto is one for each core.",
    value::count_or_auto,
);

pub(super) static CONNECTIONS: Setting<NonZeroUsize> = Setting::new(
    "connections",
    "10000",
    "NUMBER",
    "Connections at once, for each listener. Fewer if the process may not open as many files.",
    value::count,
);

pub(super) static CONNECTIONS_PER_SOURCE: Setting<NonZeroUsize> = Setting::new(
    "connections_per_source",
    "2000",
    "NUMBER",
    "Connections at once from one IPv4 address or one IPv6 /64, for each listener.",
    value::count,
);

pub(super) static STREAMS_PER_CONNECTION: Setting<u32> = Setting::new(
    "streams_per_connection",
    "256",
    "NUMBER",
    "Requests at once on one HTTP/2 connection.",
    value::number::<1, 100_000>,
);

pub(super) static CONNECTION_IDLE_TIMEOUT: Setting<Duration> = Setting::new(
    "connection_idle_timeout",
    "5m",
    "SPAN",
    "How long a connection may go without a request.",
    value::span,
);

pub(super) static CONNECTION_AGE: Setting<Option<Duration>> = Setting::new(
    "connection_age",
    "never",
    "SPAN",
    "How old a connection may get before its client is asked to open a new one, give or take a tenth.",
    value::span_or_never,
);

pub(super) static DRAIN_TIMEOUT: Setting<Duration> = Setting::new(
    "drain_timeout",
    "30s",
    "SPAN",
    "How long requests under way may take when the process is asked to stop.",
    value::span,
);

pub(super) static LOG: Setting<Filter> = Setting::new(
    "log",
    "info",
    "FILTER",
    "What is logged: a level, or levels by module such as info,sessiond::grpc=debug. Of other people's code nothing below info.",
    |text| text.parse().map_err(|error: InvalidFilter| error.to_string()),
);

pub(super) static LOG_FORMAT: Setting<Format> = Setting::new(
    "log_format",
    "auto",
    "FORMAT",
    "human, json, or auto: human on a terminal, json otherwise.",
    |text| match text {
        "auto" => Ok(Format::Auto),
        "human" => Ok(Format::Human),
        "json" => Ok(Format::Json),
        _ => Err(format!("must be auto, human or json, not {text:?}")),
    },
);

#[cfg(test)]
mod tests {
    use super::all;

    #[test]
    fn every_setting_belongs_to_a_group() {
        let defined = include_str!("settings.rs").matches("= Setting::new(\n").count();
        assert_eq!(all().count(), defined);
    }
}
