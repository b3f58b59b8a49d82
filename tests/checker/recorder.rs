//! Clients of the real contract that write down what they asked and what they were told.

use crate::history::{Born, Event, Key, Memory, Named, Operation, Span, Token, Told};
use parking_lot::Mutex;
use sessiond::{
    client::{CheckError, ClientOptions, SessionClient},
    contract::ERROR_DOMAIN,
    domain::{SessionId, UserId},
    pb::{
        self, auth_service_client::AuthServiceClient, create_session_request::Credential,
        user_service_client::UserServiceClient,
    },
};
use std::{
    collections::HashMap,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};
use tonic::{Code, Response, Status, transport::Channel};
use tonic_types::StatusExt as _;

/// How long a client waits before it asks again where nobody is at home.
const BACKOFF: Duration = Duration::from_millis(10);

/// Where all clients of a run write down what happened.
pub(crate) struct Recorder {
    started: Instant,
    history: Mutex<Vec<Operation>>,
    tokens: Mutex<Tokens>,
}

#[derive(Default)]
struct Tokens {
    numbers: HashMap<String, Token>,
    texts: Vec<String>,
}

impl Recorder {
    pub(crate) fn start() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            history: Mutex::default(),
            tokens: Mutex::default(),
        })
    }

    /// Everything that happened so far.
    pub(crate) fn history(&self) -> Vec<Operation> {
        self.history.lock().clone()
    }

    /// The number of a token's text.
    pub(crate) fn token(&self, text: &str) -> Token {
        let mut tokens = self.tokens.lock();
        if let Some(token) = tokens.numbers.get(text) {
            return *token;
        }
        let token = Token(u32::try_from(tokens.texts.len()).unwrap());
        tokens.numbers.insert(text.to_owned(), token);
        tokens.texts.push(text.to_owned());
        token
    }

    /// The text of a token.
    pub(crate) fn text(&self, token: Token) -> String {
        self.tokens.lock().texts[token.0 as usize].clone()
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

/// One client. It asks whichever process it is told to.
#[derive(Clone)]
pub(crate) struct Caller {
    pub number: usize,
    pub recorder: Arc<Recorder>,
    /// A connection to each process.
    pub channels: Vec<Channel>,
    /// For each process a client library that remembers answers; or none.
    pub remembering: Vec<SessionClient>,
    /// How long it waits for an answer.
    pub patience: Duration,
}

/// What the client libraries are told.
pub(crate) fn remembering_options() -> ClientOptions {
    ClientOptions {
        staleness_bound: MEMORY.staleness,
        recheck_interval: Duration::from_millis(100),
        ..ClientOptions::default()
    }
}

/// What they promise then; a report of use may be under way while a process stands still.
const MEMORY: Memory = Memory {
    staleness: Duration::from_secs(1),
    reported_within: Duration::from_secs(8),
};

impl Caller {
    fn sessions(&self, process: usize) -> AuthServiceClient<Channel> {
        AuthServiceClient::new(self.channels[process].clone())
    }

    /// Makes a call and writes it down as the events that its outcome amounts to.
    async fn call<R>(
        &self,
        process: usize,
        call: impl Future<Output = Result<Response<R>, Status>>,
        to_events: impl FnOnce(Result<R, Status>) -> Vec<Event>,
    ) {
        let invoked = self.recorder.now();
        let outcome = match tokio::time::timeout(self.patience, call).await {
            Ok(outcome) => outcome.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("the client stopped waiting")),
        };
        let returned = self.recorder.now();
        let is_nobody_at_home =
            outcome.as_ref().is_err_and(|status| reason(status).is_none()) && returned - invoked < BACKOFF;
        let events = to_events(outcome);
        let operations = events.into_iter().map(|event| Operation {
            client: self.number,
            process,
            invoked,
            returned,
            event,
        });
        self.recorder.history.lock().extend(operations);
        // As any sensible client would, where nobody is at home.
        if is_nobody_at_home {
            tokio::time::sleep(BACKOFF).await;
        }
    }

    /// A new user without a password; `None` if nobody knows whether there is one now.
    pub(crate) async fn new_user(&self, process: usize, email: &str) -> Option<UserId> {
        let request = pb::CreateUserRequest {
            email: email.to_owned(),
            ..Default::default()
        };
        let mut users = UserServiceClient::new(self.channels[process].clone());
        let answer = tokio::time::timeout(self.patience, users.create_user(request)).await;
        let user = answer.ok()?.ok()?.into_inner().user?;
        Some(user.id.parse().unwrap())
    }

    pub(crate) async fn create(
        &self,
        process: usize,
        user: UserId,
        span: Span,
        replaces: Option<Token>,
    ) -> Told<Born> {
        let request = pb::CreateSessionRequest {
            credential: Some(Credential::UserId(user.to_string())),
            lifetime: Some(span.lifetime.try_into().unwrap()),
            idle_timeout: Some(span.idle.try_into().unwrap()),
            replaces_session_token: replaces
                .map(|token| self.recorder.text(token))
                .unwrap_or_default(),
            ..Default::default()
        };
        let mut told = Told::Unknown;
        self.call(
            process,
            self.sessions(process).create_session(request),
            |outcome| {
                told = told_by(outcome).map(|answer| self.born(&answer.session_token, answer.session));
                vec![Event::Create {
                    user,
                    span,
                    replaces,
                    told: told.clone(),
                }]
            },
        )
        .await;
        told
    }

    fn born(&self, token: &str, session: Option<pb::Session>) -> Born {
        let session = session.unwrap();
        Born {
            token: self.recorder.token(token),
            session: session.id.parse().unwrap(),
            user: session.user_id.parse().unwrap(),
        }
    }

    pub(crate) async fn check(&self, process: usize, token: Token) -> Told<Option<Named>> {
        let request = pb::UserIdForSessionRequest {
            session_token: self.recorder.text(token),
        };
        let mut told = Told::Unknown;
        self.call(
            process,
            self.sessions(process).user_id_for_session(request),
            |outcome| {
                told = found_by(outcome).map(|found| found.as_ref().map(named));
                vec![checked(token, told.clone())]
            },
        )
        .await;
        told
    }

    /// As [`check`](Self::check), through the library that remembers answers.
    pub(crate) async fn check_remembering(&self, process: usize, token: Token) -> Told<Option<Named>> {
        let text = self.recorder.text(token);
        let invoked = self.recorder.now();
        let told = match self.remembering[process].check(&text).await {
            Ok(found) => Told::Answer(Some(Named {
                session: found.session_id,
                user: found.user_id,
            })),
            Err(CheckError::Invalid) => Told::Answer(None),
            Err(CheckError::CannotTell(_)) => Told::Unknown,
            Err(CheckError::CallerRefused) => Told::Nonsense("the caller is refused".to_owned()),
        };
        let event = Event::Check {
            token,
            memory: MEMORY,
            told: told.clone(),
        };
        self.recorder.history.lock().push(Operation {
            client: self.number,
            process,
            invoked,
            returned: self.recorder.now(),
            event,
        });
        told
    }

    pub(crate) async fn current_user(&self, process: usize, token: Token) {
        let request = pb::CurrentUserRequest {
            session_token: self.recorder.text(token),
            max_auth_age: None,
        };
        let call = self.sessions(process);
        let mut call = call;
        self.call(process, call.current_user(request), |outcome| {
            let told = found_by(outcome).map(|found| {
                found.map(|found| {
                    let session = found.session.unwrap();
                    assert_eq!(session.user_id, found.user.unwrap().id);
                    Named {
                        session: session.id.parse().unwrap(),
                        user: session.user_id.parse().unwrap(),
                    }
                })
            });
            vec![checked(token, told)]
        })
        .await;
    }

    pub(crate) async fn check_batch(&self, process: usize, tokens: &[Token]) {
        let request = pb::BatchUserIdForSessionRequest {
            session_tokens: tokens.iter().map(|token| self.recorder.text(*token)).collect(),
        };
        self.call(
            process,
            self.sessions(process).batch_user_id_for_session(request),
            |outcome| {
                let told = told_by(outcome);
                let of = |place: usize| match &told {
                    Told::Answer(answer) => one_of_batch(answer.checks.get(place)),
                    Told::Unknown => Told::Unknown,
                    Told::Refused => Told::Refused,
                    Told::Nonsense(what) => Told::Nonsense(what.clone()),
                };
                tokens
                    .iter()
                    .enumerate()
                    .map(|(place, token)| checked(*token, of(place)))
                    .collect()
            },
        )
        .await;
    }

    pub(crate) async fn rotate(&self, process: usize, token: Token, grace: Duration) -> Told<Option<Born>> {
        let request = pb::RotateSessionRequest {
            session_token: self.recorder.text(token),
            grace: Some(grace.try_into().unwrap()),
        };
        let mut told = Told::Unknown;
        self.call(
            process,
            self.sessions(process).rotate_session(request),
            |outcome| {
                told = found_by(outcome)
                    .map(|found| found.map(|answer| self.born(&answer.session_token, answer.session)));
                vec![Event::Rotate {
                    token,
                    grace,
                    told: told.clone(),
                }]
            },
        )
        .await;
        told
    }

    pub(crate) async fn destroy(&self, process: usize, key: Key) -> Told<bool> {
        use pb::destroy_session_request::Session;
        let session = match key {
            Key::Token(token) => Session::SessionToken(self.recorder.text(token)),
            Key::Session(id) => Session::SessionId(id.to_string()),
        };
        let request = pb::DestroySessionRequest {
            session: Some(session),
        };
        let mut told = Told::Unknown;
        self.call(
            process,
            self.sessions(process).destroy_session(request),
            |outcome| {
                told = told_by(outcome).map(|answer| answer.existed);
                vec![Event::Destroy {
                    key,
                    told: told.clone(),
                }]
            },
        )
        .await;
        told
    }

    pub(crate) async fn end_user(&self, process: usize, user: UserId, except: Option<SessionId>) -> Told<()> {
        let request = pb::RevokeSessionsRequest {
            target: Some(pb::revoke_sessions_request::Target::UserId(user.to_string())),
            except_session_id: except.map(|id| id.to_string()).unwrap_or_default(),
        };
        let mut told = Told::Unknown;
        self.call(
            process,
            self.sessions(process).revoke_sessions(request),
            |outcome| {
                told = told_by(outcome).map(drop);
                vec![Event::EndUser {
                    user,
                    except,
                    told: told.clone(),
                }]
            },
        )
        .await;
        told
    }

    /// Bars the user, which ends their sessions. Nobody lets them in again.
    pub(crate) async fn disable_user(&self, process: usize, user: UserId) -> Told<()> {
        let request = pb::DisableUserRequest {
            user_id: user.to_string(),
        };
        let mut users = UserServiceClient::new(self.channels[process].clone());
        let mut told = Told::Unknown;
        self.call(process, users.disable_user(request), |outcome| {
            told = told_by(outcome).map(drop);
            vec![Event::EndUser {
                user,
                except: None,
                told: told.clone(),
            }]
        })
        .await;
        told
    }

    pub(crate) async fn end_everyone(&self, process: usize) -> Told<()> {
        let request = pb::RevokeSessionsRequest {
            target: Some(pb::revoke_sessions_request::Target::Everyone(pb::Everyone {})),
            ..Default::default()
        };
        let mut told = Told::Unknown;
        self.call(
            process,
            self.sessions(process).revoke_sessions(request),
            |outcome| {
                told = told_by(outcome).map(drop);
                vec![Event::EndEveryone { told: told.clone() }]
            },
        )
        .await;
        told
    }

    pub(crate) async fn list(&self, process: usize, user: UserId) {
        let pages = async {
            let mut sessions = Vec::new();
            let mut page_token = String::new();
            loop {
                let request = pb::ListSessionsRequest {
                    owner: Some(pb::list_sessions_request::Owner::UserId(user.to_string())),
                    page_size: 100,
                    page_token,
                };
                let page = self.sessions(process).list_sessions(request).await?.into_inner();
                sessions.extend(page.sessions);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    return Ok(Response::new(sessions));
                }
            }
        };
        self.call(process, pages, |outcome| {
            let told = told_by(outcome).map(|sessions| {
                sessions
                    .iter()
                    .map(|session| session.id.parse().unwrap())
                    .collect()
            });
            vec![Event::List { user, told }]
        })
        .await;
    }

    pub(crate) async fn count(&self, process: usize) {
        self.call(
            process,
            self.sessions(process).get_stats(pb::GetStatsRequest {}),
            |outcome| {
                let told = told_by(outcome).map(|stats| u64::try_from(stats.session_count).unwrap());
                vec![Event::Count { told }]
            },
        )
        .await;
    }
}

fn checked(token: Token, told: Told<Option<Named>>) -> Event {
    Event::Check {
        token,
        memory: Memory::default(),
        told,
    }
}

fn named(found: &pb::UserIdForSessionResponse) -> Named {
    Named {
        session: found.session_id.parse().unwrap(),
        user: found.user_id.parse().unwrap(),
    }
}

fn one_of_batch(check: Option<&pb::SessionCheck>) -> Told<Option<Named>> {
    use pb::{ErrorReason, session_check::Result};
    match check.and_then(|check| check.result.as_ref()) {
        Some(Result::Found(found)) => Told::Answer(Some(named(found))),
        Some(Result::Failure(reason)) if *reason == i32::from(ErrorReason::InvalidSession) => {
            Told::Answer(None)
        }
        Some(Result::Failure(reason)) if *reason == i32::from(ErrorReason::StoreUnavailable) => Told::Unknown,
        other => Told::Nonsense(format!("{other:?} in a batch")),
    }
}

/// What an outcome tells where "no such session" is an answer.
fn found_by<R>(outcome: Result<R, Status>) -> Told<Option<R>> {
    match outcome {
        Err(status) if reason(&status).as_deref() == Some("INVALID_SESSION") => {
            match status.code() == Code::Unauthenticated {
                true => Told::Answer(None),
                false => Told::Nonsense(format!("{status:?}")),
            }
        }
        outcome => told_by(outcome).map(Some),
    }
}

fn told_by<R>(outcome: Result<R, Status>) -> Told<R> {
    let status = match outcome {
        Ok(answer) => return Told::Answer(answer),
        Err(status) => status,
    };
    let is_unknown = match (status.code(), reason(&status).as_deref()) {
        (Code::Unavailable, Some("STORE_UNAVAILABLE"))
        | (Code::DeadlineExceeded, Some("DEADLINE_EXCEEDED"))
        // Not from the service: the connection broke, or the client stopped waiting.
        | (
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled | Code::Internal,
            None,
        ) => true,
        (Code::Aborted, Some("RACED")) | (Code::FailedPrecondition, Some("USER_DISABLED")) => false,
        _ => return Told::Nonsense(format!("{status:?}")),
    };
    if is_unknown { Told::Unknown } else { Told::Refused }
}

/// The reason that the service gave; `None` if the status is not the service's.
fn reason(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    (info.domain == ERROR_DOMAIN).then_some(info.reason)
}
