//! Clients of the real contract that record every call and its completion.

use crate::{
    history::{CacheBounds, Completion, Event, Identity, IssuedToken, Key, Operation, Span, Token},
    summary::Summary,
};
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

/// How long a client waits before it calls a process again that does not answer.
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

    pub(crate) fn summary(&self) -> Summary {
        Summary::of(&self.history.lock())
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

/// One client. Each call names the process.
#[derive(Clone)]
pub(crate) struct Caller {
    pub number: usize,
    pub recorder: Arc<Recorder>,
    /// A connection to each process.
    pub channels: Vec<Channel>,
    /// For each process a client library that caches answers; or none.
    pub remembering: Vec<SessionClient>,
    /// How long it waits for an answer.
    pub patience: Duration,
}

/// The options of the client libraries.
pub(crate) fn remembering_options() -> ClientOptions {
    ClientOptions {
        staleness_bound: CACHE_BOUNDS.staleness,
        recheck_interval: Duration::from_millis(100),
        ..ClientOptions::default()
    }
}

/// What they promise then; a report of use may be under way while a process stands still.
const CACHE_BOUNDS: CacheBounds = CacheBounds {
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
        // As any sensible client does when a process does not answer.
        if is_nobody_at_home {
            tokio::time::sleep(BACKOFF).await;
        }
    }

    /// A new user without a password; `None` if it is unknown whether there is one now.
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
    ) -> Completion<IssuedToken> {
        let request = pb::CreateSessionRequest {
            credential: Some(Credential::UserId(user.to_string())),
            lifetime: Some(span.lifetime.try_into().unwrap()),
            idle_timeout: Some(span.idle.try_into().unwrap()),
            replaces_session_token: replaces
                .map(|token| self.recorder.text(token))
                .unwrap_or_default(),
            ..Default::default()
        };
        let mut completion = Completion::Unknown;
        self.call(
            process,
            self.sessions(process).create_session(request),
            |outcome| {
                completion =
                    completion_of(outcome).map(|answer| self.issued(&answer.session_token, answer.session));
                vec![Event::Create {
                    user,
                    span,
                    replaces,
                    completion: completion.clone(),
                }]
            },
        )
        .await;
        completion
    }

    fn issued(&self, token: &str, session: Option<pb::Session>) -> IssuedToken {
        let session = session.unwrap();
        IssuedToken {
            token: self.recorder.token(token),
            session: session.id.parse().unwrap(),
            user: session.user_id.parse().unwrap(),
        }
    }

    pub(crate) async fn check(&self, process: usize, token: Token) -> Completion<Option<Identity>> {
        let request = pb::UserIdForSessionRequest {
            session_token: self.recorder.text(token),
        };
        let mut completion = Completion::Unknown;
        self.call(
            process,
            self.sessions(process).user_id_for_session(request),
            |outcome| {
                completion = lookup_completion_of(outcome).map(|found| found.as_ref().map(identity_of));
                vec![checked(token, completion.clone())]
            },
        )
        .await;
        completion
    }

    /// As [`check`](Self::check), through the library that caches answers.
    pub(crate) async fn check_remembering(
        &self,
        process: usize,
        token: Token,
    ) -> Completion<Option<Identity>> {
        let text = self.recorder.text(token);
        let invoked = self.recorder.now();
        let completion = match self.remembering[process].check(&text).await {
            Ok(found) => Completion::Answer(Some(Identity {
                session: found.session_id,
                user: found.user_id,
            })),
            Err(CheckError::Invalid) => Completion::Answer(None),
            Err(CheckError::CannotTell(_)) => Completion::Unknown,
            Err(CheckError::CallerRefused) => Completion::OutOfContract("the caller is refused".to_owned()),
        };
        let event = Event::Check {
            token,
            cache_bounds: CACHE_BOUNDS,
            completion: completion.clone(),
        };
        self.recorder.history.lock().push(Operation {
            client: self.number,
            process,
            invoked,
            returned: self.recorder.now(),
            event,
        });
        completion
    }

    pub(crate) async fn current_user(&self, process: usize, token: Token) {
        let request = pb::CurrentUserRequest {
            session_token: self.recorder.text(token),
            max_auth_age: None,
        };
        let call = self.sessions(process);
        let mut call = call;
        self.call(process, call.current_user(request), |outcome| {
            let completion = lookup_completion_of(outcome).map(|found| {
                found.map(|found| {
                    let session = found.session.unwrap();
                    assert_eq!(session.user_id, found.user.unwrap().id);
                    Identity {
                        session: session.id.parse().unwrap(),
                        user: session.user_id.parse().unwrap(),
                    }
                })
            });
            vec![checked(token, completion)]
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
                let completion = completion_of(outcome);
                let of = |place: usize| match &completion {
                    Completion::Answer(answer) => one_of_batch(answer.checks.get(place)),
                    Completion::Unknown => Completion::Unknown,
                    Completion::Refused => Completion::Refused,
                    Completion::OutOfContract(what) => Completion::OutOfContract(what.clone()),
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

    pub(crate) async fn rotate(
        &self,
        process: usize,
        token: Token,
        grace: Duration,
    ) -> Completion<Option<IssuedToken>> {
        let request = pb::RotateSessionRequest {
            session_token: self.recorder.text(token),
            grace: Some(grace.try_into().unwrap()),
        };
        let mut completion = Completion::Unknown;
        self.call(
            process,
            self.sessions(process).rotate_session(request),
            |outcome| {
                completion = lookup_completion_of(outcome)
                    .map(|found| found.map(|answer| self.issued(&answer.session_token, answer.session)));
                vec![Event::Rotate {
                    token,
                    grace,
                    completion: completion.clone(),
                }]
            },
        )
        .await;
        completion
    }

    pub(crate) async fn destroy(&self, process: usize, key: Key) -> Completion<bool> {
        use pb::destroy_session_request::Session;
        let session = match key {
            Key::Token(token) => Session::SessionToken(self.recorder.text(token)),
            Key::Session(id) => Session::SessionId(id.to_string()),
        };
        let request = pb::DestroySessionRequest {
            session: Some(session),
        };
        let mut completion = Completion::Unknown;
        self.call(
            process,
            self.sessions(process).destroy_session(request),
            |outcome| {
                completion = completion_of(outcome).map(|answer| answer.existed);
                vec![Event::Destroy {
                    key,
                    completion: completion.clone(),
                }]
            },
        )
        .await;
        completion
    }

    pub(crate) async fn end_user(
        &self,
        process: usize,
        user: UserId,
        except: Option<SessionId>,
    ) -> Completion<()> {
        let request = pb::RevokeSessionsRequest {
            target: Some(pb::revoke_sessions_request::Target::UserId(user.to_string())),
            except_session_id: except.map(|id| id.to_string()).unwrap_or_default(),
        };
        let mut completion = Completion::Unknown;
        self.call(
            process,
            self.sessions(process).revoke_sessions(request),
            |outcome| {
                completion = completion_of(outcome).map(drop);
                vec![Event::EndUser {
                    user,
                    except,
                    completion: completion.clone(),
                }]
            },
        )
        .await;
        completion
    }

    /// Bars the user, which ends their sessions. Nobody lets them in again.
    pub(crate) async fn disable_user(&self, process: usize, user: UserId) -> Completion<()> {
        let request = pb::DisableUserRequest {
            user_id: user.to_string(),
        };
        let mut users = UserServiceClient::new(self.channels[process].clone());
        let mut completion = Completion::Unknown;
        self.call(process, users.disable_user(request), |outcome| {
            completion = completion_of(outcome).map(drop);
            vec![Event::EndUser {
                user,
                except: None,
                completion: completion.clone(),
            }]
        })
        .await;
        completion
    }

    pub(crate) async fn end_everyone(&self, process: usize) -> Completion<()> {
        let request = pb::RevokeSessionsRequest {
            target: Some(pb::revoke_sessions_request::Target::Everyone(pb::Everyone {})),
            ..Default::default()
        };
        let mut completion = Completion::Unknown;
        self.call(
            process,
            self.sessions(process).revoke_sessions(request),
            |outcome| {
                completion = completion_of(outcome).map(drop);
                vec![Event::EndEveryone {
                    completion: completion.clone(),
                }]
            },
        )
        .await;
        completion
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
            let completion = completion_of(outcome).map(|sessions| {
                sessions
                    .iter()
                    .map(|session| session.id.parse().unwrap())
                    .collect()
            });
            vec![Event::List { user, completion }]
        })
        .await;
    }

    pub(crate) async fn count(&self, process: usize) {
        self.call(
            process,
            self.sessions(process).get_stats(pb::GetStatsRequest {}),
            |outcome| {
                let completion =
                    completion_of(outcome).map(|stats| u64::try_from(stats.session_count).unwrap());
                vec![Event::Count { completion }]
            },
        )
        .await;
    }
}

fn checked(token: Token, completion: Completion<Option<Identity>>) -> Event {
    Event::Check {
        token,
        cache_bounds: CacheBounds::default(),
        completion,
    }
}

fn identity_of(found: &pb::UserIdForSessionResponse) -> Identity {
    Identity {
        session: found.session_id.parse().unwrap(),
        user: found.user_id.parse().unwrap(),
    }
}

fn one_of_batch(check: Option<&pb::SessionCheck>) -> Completion<Option<Identity>> {
    use pb::{ErrorReason, session_check::Result};
    match check.and_then(|check| check.result.as_ref()) {
        Some(Result::Found(found)) => Completion::Answer(Some(identity_of(found))),
        Some(Result::Failure(reason)) if *reason == i32::from(ErrorReason::InvalidSession) => {
            Completion::Answer(None)
        }
        Some(Result::Failure(reason))
            if [ErrorReason::StoreUnavailable, ErrorReason::ChangePending]
                .map(i32::from)
                .contains(reason) =>
        {
            Completion::Unknown
        }
        other => Completion::OutOfContract(format!("{other:?} in a batch")),
    }
}

/// What an outcome tells where "no such session" is an answer.
fn lookup_completion_of<R>(outcome: Result<R, Status>) -> Completion<Option<R>> {
    match outcome {
        Err(status) if reason(&status).as_deref() == Some("INVALID_SESSION") => {
            match status.code() == Code::Unauthenticated {
                true => Completion::Answer(None),
                false => Completion::OutOfContract(format!("{status:?}")),
            }
        }
        outcome => completion_of(outcome).map(Some),
    }
}

fn completion_of<R>(outcome: Result<R, Status>) -> Completion<R> {
    let status = match outcome {
        Ok(answer) => return Completion::Answer(answer),
        Err(status) => status,
    };
    let is_unknown = match (status.code(), reason(&status).as_deref()) {
        (Code::Unavailable, Some("STORE_UNAVAILABLE" | "CHANGE_PENDING"))
        | (Code::DeadlineExceeded, Some("DEADLINE_EXCEEDED"))
        // Not from the service: the connection broke, or the client stopped waiting.
        | (
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled | Code::Internal,
            None,
        ) => true,
        (Code::Aborted, Some("RACED")) | (Code::FailedPrecondition, Some("USER_DISABLED")) => false,
        _ => return Completion::OutOfContract(format!("{status:?}")),
    };
    if is_unknown {
        Completion::Unknown
    } else {
        Completion::Refused
    }
}

/// The reason that the service gave; `None` if the status is not the service's.
fn reason(status: &Status) -> Option<String> {
    let info = status.get_details_error_info()?;
    (info.domain == ERROR_DOMAIN).then_some(info.reason)
}
