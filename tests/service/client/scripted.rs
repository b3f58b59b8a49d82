//! A server of the contract that does what the test says, when the test says it.

use parking_lot::Mutex;
use sessiond::{
    client::{ClientOptions, SessionClient},
    domain::{ManualClock, SessionId, SessionToken, Timestamp, UserId},
    pb::{
        self,
        auth_service_server::{AuthService, AuthServiceServer},
        watch_revocations_response::Event,
    },
};
use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use testkit::waiting::PATIENCE;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::AbortHandle,
    time::timeout,
};
use tokio_stream::{Stream, wrappers::UnboundedReceiverStream};
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Endpoint, Server, server::TcpIncoming},
};
use tonic_types::{ErrorDetails, StatusExt as _};

/// A session as the server knows it.
#[derive(Clone)]
pub(crate) struct Held {
    pub token: String,
    pub user: UserId,
    pub session: SessionId,
    /// How long the session lives on without a check.
    pub valid_for: Duration,
    /// How long ago the log-in was.
    pub auth_age: Duration,
}

/// The session that this number names; sessions 10 n to 10 n + 9 belong to user n.
pub(crate) fn session(n: u32) -> Held {
    let mut random = [0; 32];
    random[..4].copy_from_slice(&n.to_be_bytes());
    let bits = |n: u32| {
        let mut bits = [0; 10];
        bits[6..].copy_from_slice(&n.wrapping_mul(0x9e37_79b1).to_be_bytes());
        bits
    };
    let at = Timestamp::from_millis(1_795_000_000_000);
    Held {
        token: SessionToken::from_random(random).expose().to_owned(),
        user: UserId::new(at, bits(n / 10)),
        session: SessionId::new(at, bits(n + 1_000_000)),
        valid_for: Duration::from_secs(1800),
        auth_age: Duration::from_secs(60),
    }
}

#[derive(Default)]
struct Script {
    sessions: HashMap<String, Held>,
    /// The next calls fail so, one each.
    failures: VecDeque<Status>,
    /// All calls fail so, once `failures` is empty.
    failure: Option<Status>,
    /// Tokens that the store cannot be asked about within a batch.
    unaskable: Vec<String>,
    /// The tokens of each call that came.
    calls: Vec<Vec<String>>,
    authorizations: Vec<Option<String>>,
    destroyed: Vec<String>,
    /// Calls from this one on are not held back.
    first_passing: Option<usize>,
}

struct Shared {
    script: Mutex<Script>,
    /// How many calls have come; an answer is made before, and sent after the gate has opened.
    arrived: watch::Sender<usize>,
    is_open: watch::Sender<bool>,
    watchers: mpsc::UnboundedSender<Watcher>,
}

/// The server's end of one stream of revocations. Dropping it ends the stream.
pub(crate) struct Watcher {
    pub cursor: String,
    sender: mpsc::UnboundedSender<Result<pb::WatchRevocationsResponse, Status>>,
    told: u64,
}

impl Watcher {
    pub(crate) fn tell(&mut self, event: Event) {
        self.told += 1;
        let cursor = format!("cursor-{}", self.told);
        let message = pb::WatchRevocationsResponse {
            cursor,
            event: Some(event),
        };
        // The client may be gone, which the test then finds.
        let _ = self.sender.send(Ok(message));
    }

    pub(crate) fn forget_everything(&mut self) {
        self.tell(Event::ForgetEverything(pb::ForgetEverything {}));
    }

    pub(crate) fn heartbeat(&mut self, complete_until: Duration) {
        let complete_until = Some(complete_until.try_into().unwrap());
        self.tell(Event::Heartbeat(pb::Heartbeat { complete_until }));
    }

    pub(crate) fn revoke(&mut self, held: &Held) {
        self.tell(Event::Session(pb::SessionRevoked {
            session_id: held.session.to_string(),
            user_id: held.user.to_string(),
        }));
    }

    pub(crate) fn revoke_user(&mut self, user: UserId) {
        self.tell(Event::User(pb::UserRevoked {
            user_id: user.to_string(),
            except_session_id: String::new(),
        }));
    }

    pub(crate) fn refuse(self, status: Status) {
        let _ = self.sender.send(Err(status));
    }

    pub(crate) async fn client_left(&self) {
        timeout(PATIENCE, self.sender.closed())
            .await
            .expect("the client still watches");
    }
}

pub(crate) struct ScriptedServer {
    shared: Arc<Shared>,
    watchers: mpsc::UnboundedReceiver<Watcher>,
    endpoint: Endpoint,
    serving: AbortHandle,
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl ScriptedServer {
    pub(crate) async fn start() -> Self {
        let (sender, watchers) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            script: Mutex::default(),
            arrived: watch::Sender::new(0),
            is_open: watch::Sender::new(true),
            watchers: sender,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let service =
            AuthServiceServer::new(Scripted(Arc::clone(&shared))).max_decoding_message_size(1 << 20);
        let server = Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
        let serving = tokio::spawn(server).abort_handle();
        Self {
            shared,
            watchers,
            endpoint,
            serving,
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.endpoint.clone()
    }

    pub(crate) fn client(&self, options: ClientOptions) -> SessionClient {
        SessionClient::start(self.endpoint(), options).unwrap()
    }

    /// A client whose stream of revocations has just been found alive, by a clock that stands still: trusted for a minute.
    pub(crate) async fn live_client(
        &mut self,
        options: ClientOptions,
    ) -> (SessionClient, Watcher, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::standing_at(Timestamp::from_millis(1_000_000)));
        let options = ClientOptions {
            staleness_bound: BOUND,
            ..options
        };
        let client = SessionClient::start_with_clock(self.endpoint(), options, clock.clone()).unwrap();
        let mut watcher = self.watcher().await;
        assert_eq!(watcher.cursor, "");
        watcher.forget_everything();
        watcher.heartbeat(Duration::ZERO);
        timeout(PATIENCE, client.cache_live()).await.unwrap();
        (client, watcher, clock)
    }

    /// The next stream of revocations that a client asks for.
    pub(crate) async fn watcher(&mut self) -> Watcher {
        timeout(PATIENCE, self.watchers.recv())
            .await
            .expect("nobody watches")
            .unwrap()
    }

    pub(crate) fn hold_session(&self, n: u32) -> Held {
        let held = session(n);
        self.hold(&held);
        held
    }

    pub(crate) fn hold(&self, held: &Held) {
        self.script().sessions.insert(held.token.clone(), held.clone());
    }

    pub(crate) fn end(&self, held: &Held) {
        self.script().sessions.remove(&held.token);
    }

    pub(crate) fn fail_once(&self, status: Status) {
        self.script().failures.push_back(status);
    }

    pub(crate) fn fail_from_now_on(&self, status: Status) {
        self.script().failure = Some(status);
    }

    pub(crate) fn cannot_ask_about(&self, held: &Held) {
        self.script().unaskable.push(held.token.clone());
    }

    /// Answers are made but not sent until [`release`](Self::release).
    pub(crate) fn hold_back(&self) {
        self.shared.is_open.send_replace(false);
    }

    /// Calls that come from now on are answered at once; those that were held back are not.
    pub(crate) fn let_pass_from_now_on(&self) {
        let mut script = self.script();
        script.first_passing = Some(script.calls.len());
    }

    pub(crate) fn release(&self) {
        self.shared.is_open.send_replace(true);
    }

    /// Waits until so many calls have come in all.
    pub(crate) async fn arrived(&self, calls: usize) {
        let mut arrived = self.shared.arrived.subscribe();
        let came = timeout(PATIENCE, arrived.wait_for(|count| *count >= calls)).await;
        came.expect("fewer calls came").unwrap();
    }

    pub(crate) fn calls(&self) -> Vec<Vec<String>> {
        self.script().calls.clone()
    }

    pub(crate) fn call_count(&self) -> usize {
        self.script().calls.len()
    }

    pub(crate) fn authorizations(&self) -> Vec<Option<String>> {
        self.script().authorizations.clone()
    }

    pub(crate) fn destroyed(&self) -> Vec<String> {
        self.script().destroyed.clone()
    }

    fn script(&self) -> parking_lot::MutexGuard<'_, Script> {
        self.shared.script.lock()
    }
}

/// How long the clients of [`ScriptedServer::live_client`] trust a heartbeat.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

pub(crate) fn unavailable() -> Status {
    Status::unavailable("the store cannot be asked now")
}

pub(crate) fn invalid_session() -> Status {
    let details = ErrorDetails::with_error_info("INVALID_SESSION", "auth.v1", HashMap::new());
    Status::with_error_details(Code::Unauthenticated, "no such session", details)
}

struct Scripted(Arc<Shared>);

impl Scripted {
    /// Makes the answers to a call, and gives them when the gate is open.
    async fn answers<T>(
        &self,
        request: &Request<T>,
        tokens: Vec<String>,
    ) -> Result<Vec<Option<pb::UserIdForSessionResponse>>, Status> {
        let (answers, passes) = {
            let mut script = self.0.script.lock();
            let passes = script
                .first_passing
                .is_some_and(|first| script.calls.len() >= first);
            let authorization = request.metadata().get("authorization");
            let authorization = authorization.map(|value| value.to_str().unwrap().to_owned());
            script.authorizations.push(authorization);
            let answers = tokens
                .iter()
                .map(|token| script.sessions.get(token).map(found))
                .collect();
            script.calls.push(tokens);
            let answers = match script.failures.pop_front().or_else(|| script.failure.clone()) {
                Some(status) => Err(status),
                None => Ok(answers),
            };
            (answers, passes)
        };
        self.0.arrived.send_modify(|count| *count += 1);
        if !passes {
            let _ = self.0.is_open.subscribe().wait_for(|is_open| *is_open).await;
        }
        answers
    }
}

/// By a clock of the server's own, years away from any client's.
fn found(held: &Held) -> pb::UserIdForSessionResponse {
    const SERVER_NOW: i64 = 4_000_000_000;
    let at = |offset: i64| {
        Some(prost_types::Timestamp {
            seconds: SERVER_NOW + offset,
            nanos: 0,
        })
    };
    let secs = |span: Duration| i64::try_from(span.as_secs()).unwrap();
    pb::UserIdForSessionResponse {
        user_id: held.user.to_string(),
        session_id: held.session.to_string(),
        authenticated_at: at(-secs(held.auth_age)),
        auth_method: pb::AuthMethod::Password.into(),
        valid_until: at(secs(held.valid_for)),
        valid_for: Some(held.valid_for.try_into().unwrap()),
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

macro_rules! not_scripted {
    ($($rpc:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl AuthService for Scripted {
            $(async fn $rpc(&self, _: Request<pb::$request>) -> Result<Response<pb::$response>, Status> {
                Err(Status::unimplemented("not scripted"))
            })*

            async fn user_id_for_session(
                &self,
                request: Request<pb::UserIdForSessionRequest>,
            ) -> Result<Response<pb::UserIdForSessionResponse>, Status> {
                let tokens = vec![request.get_ref().session_token.clone()];
                let mut answers = self.answers(&request, tokens).await?;
                answers.remove(0).map(Response::new).ok_or_else(invalid_session)
            }

            async fn batch_user_id_for_session(
                &self,
                request: Request<pb::BatchUserIdForSessionRequest>,
            ) -> Result<Response<pb::BatchUserIdForSessionResponse>, Status> {
                use pb::session_check::Result::{Failure, Found};
                let tokens = request.get_ref().session_tokens.clone();
                assert!((1..=4096).contains(&tokens.len()));
                let answers = self.answers(&request, tokens.clone()).await?;
                let unaskable = self.0.script.lock().unaskable.clone();
                let checks = tokens.iter().zip(answers).map(|(token, answer)| pb::SessionCheck {
                    result: Some(match answer {
                        _ if unaskable.contains(token) => Failure(pb::ErrorReason::StoreUnavailable.into()),
                        Some(answer) => Found(answer),
                        None => Failure(pb::ErrorReason::InvalidSession.into()),
                    }),
                });
                Ok(Response::new(pb::BatchUserIdForSessionResponse { checks: checks.collect() }))
            }

            async fn destroy_session(
                &self,
                request: Request<pb::DestroySessionRequest>,
            ) -> Result<Response<pb::DestroySessionResponse>, Status> {
                let Some(pb::destroy_session_request::Session::SessionToken(token)) = request.into_inner().session
                else {
                    panic!("destroyed by token in these tests");
                };
                let mut script = self.0.script.lock();
                script.destroyed.push(token.clone());
                let existed = script.sessions.remove(&token).is_some();
                match script.failures.pop_front() {
                    Some(status) => Err(status),
                    None => Ok(Response::new(pb::DestroySessionResponse { existed })),
                }
            }

            type StreamUserIdForSessionStream = Answers<pb::StreamUserIdForSessionResponse>;

            async fn stream_user_id_for_session(
                &self,
                _: Request<Streaming<pb::StreamUserIdForSessionRequest>>,
            ) -> Result<Response<Self::StreamUserIdForSessionStream>, Status> {
                Err(Status::unimplemented("not scripted"))
            }

            type WatchRevocationsStream = Answers<pb::WatchRevocationsResponse>;

            async fn watch_revocations(
                &self,
                request: Request<pb::WatchRevocationsRequest>,
            ) -> Result<Response<Self::WatchRevocationsStream>, Status> {
                let (sender, messages) = mpsc::unbounded_channel();
                let cursor = request.into_inner().cursor;
                // The test may not care for this stream.
                let _ = self.0.watchers.send(Watcher { cursor, sender, told: 0 });
                Ok(Response::new(Box::pin(UnboundedReceiverStream::new(messages))))
            }
        }
    };
}

not_scripted! {
    create_session(CreateSessionRequest) -> CreateSessionResponse;
    current_user(CurrentUserRequest) -> CurrentUserResponse;
    list_sessions(ListSessionsRequest) -> ListSessionsResponse;
    revoke_sessions(RevokeSessionsRequest) -> RevokeSessionsResponse;
    rotate_session(RotateSessionRequest) -> RotateSessionResponse;
    get_stats(GetStatsRequest) -> GetStatsResponse;
}
