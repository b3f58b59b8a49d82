//! The service under test: the very program that people run, with users and sessions in it.

use super::{
    Outcome, Server,
    wire::{self, Calls, Form, Load},
};
use prost::Message as _;
use sessiond::pb::{self, auth_service_client::AuthServiceClient};
use std::{ffi::OsStr, fs::File, net::SocketAddr, path::Path, process::Command, sync::Arc, time::Duration};

pub(crate) const CREATE: &str = "/auth.v1.AuthService/CreateSession";
pub(crate) const CHECK: &str = "/auth.v1.AuthService/UserIdForSession";

/// `session_token` as the wire spells it, in every request that holds one: field 1, and its length.
const TOKEN_FIELD: [u8; 2] = [0x0a, 47];
const TOKEN_BYTES: usize = 47;
pub(crate) const TOKEN_FIELD_BYTES: usize = TOKEN_FIELD.len() + TOKEN_BYTES;

/// A running `sessiond`, ended when dropped.
pub(crate) struct Service {
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
}

impl Service {
    /// Starts it with these flags. What it logs goes to a file in the directory, as with an operator.
    pub(crate) fn start(directory: &Path, flags: &[impl AsRef<OsStr>]) -> Outcome<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sessiond"));
        command
            .args(["--listen", "127.0.0.1:0", "--gateway=false"])
            .args(flags)
            .stderr(
                File::options()
                    .create(true)
                    .append(true)
                    .open(directory.join("sessiond.log"))?,
            );
        let server = Server::start(command)?;
        let address = server
            .ready
            .split_whitespace()
            .last()
            .ok_or("no address")?
            .parse()?;
        Ok(Self { server, address })
    }

    /// How many sessions it counts.
    pub(crate) fn session_count(&self) -> Outcome<u64> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut service = AuthServiceClient::connect(format!("http://{}", self.address)).await?;
            let stats = service.get_stats(pb::GetStatsRequest {}).await?.into_inner();
            Ok(u64::try_from(stats.session_count)?)
        })
    }

    /// Creates users and says who they are.
    pub(crate) fn create_users(&self, count: usize) -> Outcome<Vec<String>> {
        const CONNECTIONS: usize = 8;
        let made = wire::run(
            Load {
                address: self.address,
                path: "/auth.v1.UserService/CreateUser",
                form: Form::Unary,
                connections: CONNECTIONS,
                at_once: 64,
                threads: 1,
                span: None,
            },
            |connection| NewUsers {
                next: connection,
                end: count,
                step: CONNECTIONS,
                ids: Vec::new(),
            },
        )?;
        Ok(made.calls.into_iter().flat_map(|calls| calls.ids).collect())
    }

    /// Creates sessions of users in turn, and returns their tokens.
    pub(crate) fn create_sessions(&self, users: &Arc<[String]>, count: usize) -> Outcome<Tokens> {
        const CONNECTIONS: usize = 8;
        let made = wire::run(
            Load {
                address: self.address,
                path: CREATE,
                form: Form::Unary,
                connections: CONNECTIONS,
                at_once: 64,
                threads: 1,
                span: None,
            },
            |connection| NewSessions::up_to(users, connection, CONNECTIONS, count),
        )?;
        Ok(made.calls.into_iter().map(|calls| calls.tokens).collect())
    }
}

struct NewUsers {
    next: usize,
    end: usize,
    step: usize,
    ids: Vec<String>,
}

impl Calls for NewUsers {
    fn ask(&mut self, message: &mut Vec<u8>) -> bool {
        if self.next >= self.end {
            return false;
        }
        let request = pb::CreateUserRequest {
            email: format!("user-{}@example.com", self.next),
            ..Default::default()
        };
        self.next += self.step;
        request.encode(message).is_ok()
    }

    fn answered(&mut self, message: &[u8]) -> Outcome<u64> {
        let user = pb::CreateUserResponse::decode(message)?.user;
        self.ids.push(user.ok_or("no user")?.id);
        Ok(1)
    }
}

/// Log-ins of users in turn.
pub(crate) struct NewSessions {
    users: Arc<[String]>,
    next: usize,
    step: usize,
    left: usize,
    keeps_tokens: bool,
    pub(crate) tokens: Tokens,
}

impl NewSessions {
    /// This connection's share of so many sessions; the tokens are kept.
    fn up_to(users: &Arc<[String]>, connection: usize, connections: usize, count: usize) -> Self {
        Self {
            users: Arc::clone(users),
            next: connection,
            step: connections,
            left: (count + connections - 1 - connection) / connections,
            keeps_tokens: true,
            tokens: Tokens::default(),
        }
    }

    /// As many as there is time for.
    pub(crate) fn endless(users: &Arc<[String]>, connection: usize, connections: usize) -> Self {
        Self {
            keeps_tokens: false,
            ..Self::up_to(users, connection, connections, usize::MAX / 2)
        }
    }
}

impl Calls for NewSessions {
    fn ask(&mut self, message: &mut Vec<u8>) -> bool {
        if self.left == 0 {
            return false;
        }
        let user = &self.users[self.next % self.users.len()];
        // `user_id`: field 2.
        message.extend([0x12, user.len() as u8]);
        message.extend(user.as_bytes());
        self.next += self.step;
        self.left -= 1;
        true
    }

    fn answered(&mut self, message: &[u8]) -> Outcome<u64> {
        let field = message.get(..TOKEN_FIELD_BYTES).ok_or("no token")?;
        if !field.starts_with(b"\x0a\x2fses_") {
            return Err("an answer without a token".into());
        }
        if self.keeps_tokens {
            self.tokens.fields.extend_from_slice(field);
        }
        Ok(1)
    }
}

/// Session tokens, one behind the other, as the wire spells them in a message.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens {
    fields: Vec<u8>,
}

impl FromIterator<Self> for Tokens {
    fn from_iter<I: IntoIterator<Item = Self>>(parts: I) -> Self {
        let mut fields = Vec::new();
        for part in parts {
            fields.extend(part.fields);
        }
        Self { fields }
    }
}

impl Tokens {
    pub(crate) fn len(&self) -> usize {
        self.fields.len() / TOKEN_FIELD_BYTES
    }

    pub(crate) fn push(&mut self, token: &str) {
        self.fields.extend(TOKEN_FIELD);
        self.fields.extend(token.as_bytes());
    }

    /// So many tokens from there on, as fields of a message.
    pub(crate) fn fields(&self, from: usize, count: usize) -> &[u8] {
        &self.fields[from * TOKEN_FIELD_BYTES..(from + count) * TOKEN_FIELD_BYTES]
    }

    /// One of them.
    pub(crate) fn text(&self, number: usize) -> &str {
        let field = self.fields(number, 1);
        std::str::from_utf8(&field[TOKEN_FIELD.len()..]).unwrap_or_default()
    }
}

/// Checks of single sessions, picked at random.
pub(crate) struct Checks {
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) chance: Chance,
}

impl Calls for Checks {
    fn ask(&mut self, message: &mut Vec<u8>) -> bool {
        let number = self.chance.below(self.tokens.len());
        message.extend_from_slice(self.tokens.fields(number, 1));
        true
    }

    fn answered(&mut self, message: &[u8]) -> Outcome<u64> {
        // `user_id`: field 1, 36 characters.
        match message.starts_with(&[0x0a, 36]) {
            true => Ok(1),
            false => Err("a check that found nobody".into()),
        }
    }
}

/// Numbers that spread evenly and cost nothing (Marsaglia's xorshift).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: usize) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (seed as u64 + 1) << 20)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// A closed loop of checks: so many connections, each with one request after the other on so many streams.
pub(crate) fn check_load(address: SocketAddr, connections: usize, at_once: usize, span: Duration) -> Load {
    Load {
        address,
        path: CHECK,
        form: Form::Unary,
        connections,
        at_once,
        threads: 1,
        span: Some(span),
    }
}
