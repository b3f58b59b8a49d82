//! What the clients of a run do, by chance: each asks any process about anybody's session.

use crate::{
    chance::Chance,
    history::{Completion, IssuedToken, Key, Span, Token},
    recorder::{Caller, Recorder},
    rules::{Bounds, violations},
    summary::Summary,
};
use parking_lot::Mutex;
use sessiond::{
    client::SessionClient,
    domain::{SessionId, SessionToken, UserId},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tonic::transport::Channel;

const LONG: Span = Span {
    lifetime: Duration::from_secs(3600),
    idle: Duration::from_secs(600),
};

/// The longest that short-lived sessions last, where clocks are right.
pub(crate) const SHORT: Span = Span {
    lifetime: Duration::from_secs(4),
    idle: Duration::from_secs(2),
};

/// Users that have sessions at the same time.
const USERS: usize = 24;

/// Tokens to use again: of sessions that should live, and of those that should not.
const REMEMBERED: usize = 600;

/// How much longer than it is told to a run may go on until enough was answered to judge it.
const AT_MOST_LONGER: Duration = Duration::from_secs(180);

/// How long a run lasts: `SESSIOND_NEMESIS_SECS`, or else so many seconds.
pub(crate) fn run_length(secs: u64) -> Duration {
    let secs = match std::env::var("SESSIOND_NEMESIS_SECS") {
        Ok(text) => text.parse().expect("SESSIOND_NEMESIS_SECS is a number"),
        Err(_) => secs,
    };
    Duration::from_secs(secs)
}

/// A run of many clients at once.
pub(crate) struct Workload {
    pub seed: u64,
    pub clients: usize,
    /// How long it lasts at least.
    pub lasts: Duration,
    pub patience: Duration,
    /// How many of a hundred sessions last a few seconds only.
    pub short_lived: usize,
    /// How long those last at most.
    pub short_span: Span,
}

/// What the clients of a run know together.
struct Known {
    users: Mutex<Vec<UserId>>,
    all_users: Mutex<Vec<UserId>>,
    living: Mutex<Vec<IssuedToken>>,
    over: Mutex<Vec<IssuedToken>>,
}

impl Workload {
    /// Does it all until enough was answered, asks about everything when nothing is wrong any more, ends everything and asks
    /// again, and leaves the history with the recorder.
    ///
    /// With libraries that cache answers, most checks go through them. `heal` is run in between: when it is over, every process
    /// must answer.
    pub(crate) async fn run<T>(
        &self,
        channels: Vec<Channel>,
        remembering: Vec<SessionClient>,
        heal: impl Future<Output = T>,
    ) -> (Arc<Recorder>, T) {
        let recorder = Recorder::start();
        let caller = |number| Caller {
            number,
            recorder: Arc::clone(&recorder),
            channels: channels.clone(),
            remembering: remembering.clone(),
            patience: self.patience,
        };
        let known = Arc::new(Known {
            users: Mutex::default(),
            all_users: Mutex::default(),
            living: Mutex::default(),
            over: Mutex::default(),
        });
        let is_over = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..self.clients)
            .map(|number| {
                let mut client = Client {
                    caller: caller(number),
                    known: Arc::clone(&known),
                    chance: Chance::part(self.seed, number),
                    short_lived: self.short_lived,
                    short_span: self.short_span,
                    users_made: 0,
                };
                let is_over = Arc::clone(&is_over);
                tokio::spawn(async move {
                    while !is_over.load(Ordering::Relaxed) {
                        client.step().await;
                        let pause = client.chance.below(3) as u64;
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                    }
                })
            })
            .collect();
        self.until_enough_was_answered(&recorder).await;
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.unwrap();
        }
        let healed = heal.await;
        let caller = caller(self.clients);
        known.look_at_everything(&caller).await;
        caller.end_everyone(0).await;
        known.look_at_everything(&caller).await;
        (recorder, healed)
    }

    async fn until_enough_was_answered(&self, recorder: &Recorder) {
        tokio::time::sleep(self.lasts).await;
        let longer_since = Instant::now();
        while !recorder.summary().is_enough() && longer_since.elapsed() < AT_MOST_LONGER {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

/// Asserts that a history breaks no rule, and that enough was answered for that to mean something.
pub(crate) fn assert_clean(of: &str, recorder: &Recorder, bounds: &Bounds) {
    let history = recorder.history();
    let answered = Summary::of(&history);
    println!("{of}: {answered}");
    let broken = violations(&history, bounds);
    let first: Vec<_> = broken.iter().take(10).map(ToString::to_string).collect();
    assert!(
        broken.is_empty(),
        "{of}: {} broken rules, such as {first:#?}",
        broken.len()
    );
    assert!(
        answered.is_enough(),
        "{of}: too little was answered to judge: {answered}"
    );
}

impl Known {
    /// Every session and every user, through every process.
    async fn look_at_everything(&self, caller: &Caller) {
        let tokens: Vec<Token> = {
            let (living, over) = (self.living.lock(), self.over.lock());
            living
                .iter()
                .chain(over.iter())
                .map(|issued| issued.token)
                .collect()
        };
        let users = self.all_users.lock().clone();
        for process in 0..caller.channels.len() {
            for some in tokens.chunks(100) {
                caller.check_batch(process, some).await;
            }
            for user in &users {
                caller.list(process, *user).await;
            }
            caller.count(process).await;
        }
    }
}

struct Client {
    caller: Caller,
    known: Arc<Known>,
    chance: Chance,
    short_lived: usize,
    short_span: Span,
    users_made: usize,
}

impl Client {
    async fn step(&mut self) {
        let process = self.any_process();
        // So few sessions are ended that most get old enough to expire, or to be ended in more than one way.
        match self.chance.below(1000) {
            0..100 => self.create(process).await,
            100..125 => self.destroy(process).await,
            125..165 => self.rotate(process).await,
            165..168 => self.end_user(process).await,
            168..200 => {
                if let Some(user) = self.any_user() {
                    self.caller.list(process, user).await;
                }
            }
            200..250 => {
                if let Some(token) = self.any_token() {
                    self.caller.current_user(process, token).await;
                }
            }
            250..300 => {
                let some: Vec<_> = (0..8).filter_map(|_| self.any_token()).collect();
                if !some.is_empty() {
                    self.caller.check_batch(process, &some).await;
                }
            }
            _ => {
                if let Some(token) = self.any_token() {
                    self.check(process, token).await;
                }
            }
        }
    }

    async fn check(&mut self, process: usize, token: Token) {
        let is_remembering = !self.caller.remembering.is_empty() && self.chance.percent(80);
        let completion = match is_remembering {
            true => self.caller.check_remembering(process, token).await,
            false => self.caller.check(process, token).await,
        };
        if let Completion::Answer(None) = completion {
            let expired = self
                .known
                .living
                .lock()
                .iter()
                .find(|issued| issued.token == token)
                .copied();
            if let Some(issued) = expired {
                self.over(issued);
            }
        }
    }

    fn any_process(&mut self) -> usize {
        self.chance.below(self.caller.channels.len())
    }

    fn any_user(&mut self) -> Option<UserId> {
        self.chance.pick(&self.known.users.lock())
    }

    fn any_living(&mut self) -> Option<IssuedToken> {
        self.chance.pick(&self.known.living.lock())
    }

    /// Most often one that should be alive, sometimes one that should not, rarely one that was never issued.
    fn any_token(&mut self) -> Option<Token> {
        match self.chance.below(100) {
            0..75 => self.any_living().map(|issued| issued.token),
            75..98 => self
                .chance
                .pick(&self.known.over.lock())
                .map(|issued| issued.token),
            _ => {
                let mut bytes = [0; 32];
                bytes.fill_with(|| self.chance.below(256) as u8);
                let forged = SessionToken::from_random(bytes);
                Some(self.caller.recorder.token(forged.expose()))
            }
        }
    }

    async fn create(&mut self, process: usize) {
        let is_short_of_users = self.known.users.lock().len() < USERS;
        if is_short_of_users {
            self.users_made += 1;
            let email = format!("client-{}-{}@example.org", self.caller.number, self.users_made);
            if let Some(user) = self.caller.new_user(process, &email).await {
                self.known.users.lock().push(user);
                self.known.all_users.lock().push(user);
            }
        }
        let Some(user) = self.any_user() else { return };
        let up_to = |chance: &mut Chance, longest: Duration| {
            Duration::from_secs(1 + chance.below(longest.as_secs() as usize) as u64)
        };
        let span = match self.chance.percent(self.short_lived) {
            true => Span {
                lifetime: up_to(&mut self.chance, self.short_span.lifetime),
                idle: up_to(&mut self.chance, self.short_span.idle),
            },
            false => LONG,
        };
        let replaced = match self.chance.percent(10) {
            true => self.any_living(),
            false => None,
        };
        let completion = self
            .caller
            .create(process, user, span, replaced.map(|issued| issued.token))
            .await;
        if let Some(replaced) = replaced
            && completion.answer().is_some()
        {
            self.over(replaced);
            self.check_everywhere(replaced.token).await;
        }
        match completion {
            Completion::Answer(issued) => self.lives(issued),
            // A creation without an answer may have happened.
            Completion::Unknown | Completion::Refused | Completion::OutOfContract(_) => {}
        }
    }

    async fn destroy(&mut self, process: usize) {
        let Some(issued) = self.any_living() else { return };
        let key = match self.chance.percent(70) {
            true => Key::Token(issued.token),
            false => Key::Session(issued.session),
        };
        let completion = self.caller.destroy(process, key).await;
        self.over(issued);
        if completion.answer().is_some() {
            self.check_everywhere(issued.token).await;
        }
    }

    async fn rotate(&mut self, process: usize) {
        let Some(issued) = self.any_living() else { return };
        let grace = Duration::from_secs(self.chance.below(2) as u64);
        let completion = self.caller.rotate(process, issued.token, grace).await;
        self.over(issued);
        if let Completion::Answer(Some(new)) = completion {
            self.lives(new);
            self.check_everywhere(issued.token).await;
        }
    }

    async fn end_user(&mut self, process: usize) {
        let Some(user) = self.any_user() else { return };
        let of_user: Vec<IssuedToken> = {
            let living = self.known.living.lock();
            living
                .iter()
                .filter(|issued| issued.user == user)
                .copied()
                .collect()
        };
        let is_barred = self.chance.percent(20);
        let except: Option<SessionId> = match is_barred || self.chance.percent(50) {
            true => None,
            false => self.chance.pick(&of_user).map(|issued| issued.session),
        };
        let completion = match is_barred {
            true => self.caller.disable_user(process, user).await,
            false => self.caller.end_user(process, user, except).await,
        };
        // Of a user whose sessions may end at any time from now on, no check says anything any more.
        if is_barred || completion.answer().is_none() {
            self.known.users.lock().retain(|other| *other != user);
        }
        for issued in &of_user {
            if Some(issued.session) != except {
                self.over(*issued);
            }
        }
        for issued in of_user.iter().take(4) {
            self.check_everywhere(issued.token).await;
        }
    }

    /// Asks every process, one after the other, beginning anywhere.
    async fn check_everywhere(&mut self, token: Token) {
        let count = self.caller.channels.len();
        let first = self.any_process();
        for turn in 0..count {
            self.caller.check((first + turn) % count, token).await;
        }
    }

    fn lives(&mut self, issued: IssuedToken) {
        let mut living = self.known.living.lock();
        remember(&mut living, issued, &mut self.chance);
    }

    fn over(&mut self, issued: IssuedToken) {
        self.known
            .living
            .lock()
            .retain(|other| other.token != issued.token);
        let mut over = self.known.over.lock();
        remember(&mut over, issued, &mut self.chance);
    }
}

/// Keeps a fair sample of old and new.
fn remember(known: &mut Vec<IssuedToken>, issued: IssuedToken, chance: &mut Chance) {
    if known.len() < REMEMBERED {
        known.push(issued);
    } else {
        let place = chance.below(REMEMBERED);
        known[place] = issued;
    }
}
