//! What a history says about each session and each token: since when it is certainly over, and since when it may be.

use crate::{
    history::{Completion, Event, IssuedToken, Key, Operation, Span, Token},
    rules::Bounds,
};
use sessiond::domain::{SessionId, UserId, last_seen_slack};
use std::{
    collections::{HashMap, hash_map::Entry},
    time::Duration,
};

/// What is known of the end of a session or of a token, expiry aside.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct End {
    /// When the first call that certainly ended it had returned.
    pub certain_from: Option<Duration>,
    /// When the first call that may have ended it was made.
    pub possible_from: Option<Duration>,
}

impl End {
    fn may_come(&mut self, from: Duration) {
        self.possible_from = Some(self.possible_from.map_or(from, |before| before.min(from)));
    }

    fn has_come(&mut self, by: Duration) {
        self.certain_from = Some(self.certain_from.map_or(by, |before| before.min(by)));
    }

    fn by_destroying(&mut self, operation: &Operation, existed: &Completion<bool>) {
        match existed {
            Completion::Answer(true) => {
                self.may_come(operation.invoked);
                self.has_come(operation.returned);
            }
            Completion::Unknown | Completion::OutOfContract(_) => self.may_come(operation.invoked),
            // It was over before.
            Completion::Answer(false) | Completion::Refused => {}
        }
    }

    /// Of two ends that each suffice, whatever comes first.
    pub(crate) fn or(self, other: Self) -> Self {
        let mut either = self;
        other
            .possible_from
            .into_iter()
            .for_each(|from| either.may_come(from));
        other.certain_from.into_iter().for_each(|by| either.has_come(by));
        either
    }
}

/// One session whose token a client has received.
#[derive(Debug)]
pub(crate) struct Life {
    pub id: SessionId,
    pub user: UserId,
    pub span: Span,
    /// When its creation was asked for, and when it was acknowledged.
    pub invoked: Duration,
    pub returned: Duration,
    pub end: End,
    /// Its token, if it never had and never may have had another.
    pub only_token: Option<Token>,
    activity: Activity,
}

/// A token that a client was given.
#[derive(Debug)]
pub(crate) struct Proof {
    /// Index of its session in [`Lives::sessions`].
    pub life: usize,
    pub returned: Duration,
    /// Its own end, apart from its session's: by rotation, or because another session replaced it.
    pub end: End,
    /// When it was first asked to be replaced by another token of its session, if that may have happened.
    pub rotated_from: Option<Duration>,
}

/// Checks of a session that may have kept it from expiring.
#[derive(Debug, Default)]
struct Activity {
    /// Calls that found it alive, by their instant; each with the latest at which it was noted, and its place in the history.
    by_call: Vec<(Duration, Duration, usize)>,
    /// For checks that found it alive, by the instant of the answer: the latest call among those up to here.
    by_answer: Vec<(Duration, Duration)>,
    /// Calls that may have kept it alive and have not completed with an answer.
    unknown: Vec<Duration>,
}

/// A call that ended, or may have ended, the sessions of a user or of everyone.
struct WideEnd<'a> {
    operation: &'a Operation,
    except: Option<SessionId>,
    is_certain: bool,
}

/// Everything that a history tells about sessions and tokens.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    pub sessions: Vec<Life>,
    pub by_id: HashMap<SessionId, usize>,
    pub by_user: HashMap<UserId, Vec<SessionId>>,
    pub tokens: HashMap<Token, Proof>,
    /// For each user, the calls that may have created a session whose token no client has received.
    pub untold: HashMap<UserId, Vec<Duration>>,
    /// Tokens and sessions that were given out twice.
    pub twins: Vec<IssuedToken>,
    /// How far the clocks of two processes may be apart because they are wrong.
    wrong_apart: Duration,
}

impl Lives {
    pub(crate) fn of(history: &[Operation], bounds: &Bounds) -> Self {
        let mut lives = Self {
            wrong_apart: bounds.wrong_apart(),
            ..Self::default()
        };
        for operation in history {
            lives.note_birth(operation);
        }
        // Tokens of one session may come in any order in the history, but never before the token that they follow was given out.
        let mut rotations: Vec<_> = history
            .iter()
            .filter(|operation| is_rotation(operation))
            .collect();
        rotations.sort_by_key(|operation| operation.returned);
        for operation in rotations {
            lives.note_rotation(operation);
        }
        for operation in history {
            lives.note_end(operation);
        }
        for (place, operation) in history.iter().enumerate() {
            lives.note_activity(place, operation);
        }
        lives.note_user_wide_ends(history);
        lives.note_evictions(history, bounds.cap);
        for life in &mut lives.sessions {
            life.activity.sort();
        }
        lives
    }

    pub(crate) fn session_of(&self, token: Token) -> Option<(&Life, &Proof)> {
        let proof = self.tokens.get(&token)?;
        Some((&self.sessions[proof.life], proof))
    }

    pub(crate) fn session(&self, id: SessionId) -> Option<&Life> {
        self.by_id.get(&id).map(|index| &self.sessions[*index])
    }

    /// Whether an event says something of this session.
    pub(crate) fn concerns(&self, life: &Life, event: &Event) -> bool {
        let is_its = |token: &Token| {
            self.session_of(*token)
                .is_some_and(|(other, _)| other.id == life.id)
        };
        match event {
            Event::Create {
                replaces, completion, ..
            } => {
                completion
                    .answer()
                    .is_some_and(|issued| issued.session == life.id)
                    || replaces.as_ref().is_some_and(is_its)
            }
            Event::Check { token, .. } | Event::Rotate { token, .. } => is_its(token),
            Event::Destroy { key, .. } => match key {
                Key::Token(token) => is_its(token),
                Key::Session(id) => *id == life.id,
            },
            Event::EndUser { user, .. } | Event::List { user, .. } => *user == life.user,
            Event::EndEveryone { .. } => true,
            Event::Count { .. } => false,
        }
    }

    fn note_birth(&mut self, operation: &Operation) {
        let Event::Create {
            user,
            span,
            completion,
            ..
        } = &operation.event
        else {
            return;
        };
        let Some(issued) = completion.answer() else {
            if completion.may_have_happened() {
                self.untold.entry(*user).or_default().push(operation.invoked);
            }
            return;
        };
        let life = self.sessions.len();
        if self.by_id.contains_key(&issued.session) || self.tokens.contains_key(&issued.token) {
            self.twins.push(*issued);
            return;
        }
        self.by_id.insert(issued.session, life);
        self.by_user.entry(issued.user).or_default().push(issued.session);
        self.tokens
            .insert(issued.token, Proof::new(life, operation.returned));
        self.sessions.push(Life {
            id: issued.session,
            user: issued.user,
            span: *span,
            invoked: operation.invoked,
            returned: operation.returned,
            end: End::default(),
            only_token: Some(issued.token),
            activity: Activity::default(),
        });
    }

    fn note_rotation(&mut self, operation: &Operation) {
        let Event::Rotate {
            token,
            grace,
            completion,
        } = &operation.event
        else {
            return;
        };
        let Some(old) = self.tokens.get_mut(token) else {
            return;
        };
        let is_possible = match completion {
            Completion::Answer(answer) => answer.is_some(),
            Completion::Unknown | Completion::OutOfContract(_) => true,
            Completion::Refused => false,
        };
        if !is_possible {
            return;
        }
        let life = old.life;
        let from = operation.invoked;
        old.end.may_come(from);
        old.rotated_from = Some(old.rotated_from.map_or(from, |before| before.min(from)));
        self.sessions[life].only_token = None;
        if let Completion::Answer(Some(issued)) = completion {
            // Without a grace no clock is asked.
            let late_by = match grace.is_zero() {
                true => Duration::ZERO,
                false => self.wrong_apart,
            };
            old.end.has_come(operation.returned + *grace + late_by);
            match self.tokens.entry(issued.token) {
                Entry::Occupied(_) => self.twins.push(*issued),
                Entry::Vacant(place) => {
                    place.insert(Proof::new(life, operation.returned));
                }
            }
        }
    }

    /// Ends of single sessions.
    fn note_end(&mut self, operation: &Operation) {
        match &operation.event {
            Event::Destroy {
                key: Key::Token(token),
                completion,
            } => {
                let Some(proof) = self.tokens.get_mut(token) else {
                    return;
                };
                let end = &mut self.sessions[proof.life].end;
                end.by_destroying(operation, completion);
            }
            Event::Destroy {
                key: Key::Session(id),
                completion,
            } => {
                let Some(index) = self.by_id.get(id) else { return };
                let end = &mut self.sessions[*index].end;
                end.by_destroying(operation, completion);
            }
            Event::Create {
                replaces: Some(token),
                completion,
                ..
            } if completion.may_have_happened() => {
                let Some(proof) = self.tokens.get_mut(token) else {
                    return;
                };
                let life = &mut self.sessions[proof.life];
                life.end.may_come(operation.invoked);
                // A process whose clock is ahead leaves alone what is over for it, and for others perhaps not yet.
                let may_be_over = proof.rotated_from.is_some()
                    || operation.returned + self.wrong_apart
                        >= life.invoked + life.span.idle.min(life.span.lifetime);
                let is_left_alone = !self.wrong_apart.is_zero() && may_be_over;
                if completion.answer().is_some() && !is_left_alone {
                    proof.end.has_come(operation.returned);
                    // A token that was rotated away may prove nothing any more; then its session goes on.
                    if life.only_token.is_some() {
                        life.end.has_come(operation.returned);
                    }
                }
            }
            Event::Create { .. }
            | Event::Check { .. }
            | Event::Rotate { .. }
            | Event::EndUser { .. }
            | Event::EndEveryone { .. }
            | Event::List { .. }
            | Event::Count { .. } => {}
        }
    }

    fn note_activity(&mut self, place: usize, operation: &Operation) {
        let (token, cache_bounds, completion) = match &operation.event {
            Event::Check {
                token,
                cache_bounds,
                completion,
            } => (
                token,
                Some(*cache_bounds),
                completion.clone().map(|found| found.is_some()),
            ),
            Event::Rotate {
                token, completion, ..
            } => (token, None, completion.clone().map(|found| found.is_some())),
            Event::Create { .. }
            | Event::Destroy { .. }
            | Event::EndUser { .. }
            | Event::EndEveryone { .. }
            | Event::List { .. }
            | Event::Count { .. } => return,
        };
        let Some(proof) = self.tokens.get(token) else {
            return;
        };
        let activity = &mut self.sessions[proof.life].activity;
        match completion {
            Completion::Answer(true) => {
                let noted_by = operation.returned + cache_bounds.unwrap_or_default().reported_within;
                activity.by_call.push((operation.invoked, noted_by, place));
                // Whether a rotation counts as activity is not promised: it may.
                if cache_bounds.is_some() {
                    activity.by_answer.push((operation.returned, operation.invoked));
                }
            }
            Completion::Unknown | Completion::OutOfContract(_) => activity.unknown.push(operation.invoked),
            Completion::Answer(false) | Completion::Refused => {}
        }
    }

    fn note_user_wide_ends(&mut self, history: &[Operation]) {
        let mut of_users: HashMap<UserId, Vec<WideEnd<'_>>> = HashMap::new();
        let mut everyones = Vec::new();
        for operation in history {
            match &operation.event {
                Event::EndUser {
                    user,
                    except,
                    completion,
                } if completion.may_have_happened() => {
                    let end = WideEnd {
                        operation,
                        except: *except,
                        is_certain: completion.answer().is_some(),
                    };
                    of_users.entry(*user).or_default().push(end);
                }
                Event::EndEveryone { completion } if completion.may_have_happened() => {
                    everyones.push(WideEnd {
                        operation,
                        except: None,
                        is_certain: completion.answer().is_some(),
                    });
                }
                Event::Create { .. }
                | Event::Check { .. }
                | Event::Rotate { .. }
                | Event::Destroy { .. }
                | Event::EndUser { .. }
                | Event::EndEveryone { .. }
                | Event::List { .. }
                | Event::Count { .. } => {}
            }
        }
        for life in &mut self.sessions {
            let of_user = of_users.get(&life.user).into_iter().flatten();
            for end in of_user.chain(&everyones) {
                let Operation {
                    invoked, returned, ..
                } = *end.operation;
                let was_over_before = end.is_certain && returned < life.invoked;
                if was_over_before || end.except == Some(life.id) {
                    continue;
                }
                life.end.may_come(invoked);
                if end.is_certain && life.returned < invoked {
                    life.end.has_come(returned);
                }
            }
        }
    }

    /// A session may have made room for later ones.
    fn note_evictions(&mut self, history: &[Operation], cap: usize) {
        let mut creations: HashMap<UserId, Vec<(Duration, Duration)>> = HashMap::new();
        for operation in history {
            if let Event::Create { user, completion, .. } = &operation.event
                && completion.may_have_happened()
            {
                let over_by = match completion.answer() {
                    Some(_) => operation.returned,
                    None => Duration::MAX,
                };
                creations
                    .entry(*user)
                    .or_default()
                    .push((operation.invoked, over_by));
            }
        }
        for life in &mut self.sessions {
            let after = |(_, over_by): &&(Duration, Duration)| *over_by >= life.invoked;
            let count = creations
                .get(&life.user)
                .into_iter()
                .flatten()
                .filter(after)
                .count();
            if count > cap {
                life.end.may_come(life.invoked);
            }
        }
    }
}

fn is_rotation(operation: &Operation) -> bool {
    matches!(operation.event, Event::Rotate { .. })
}

impl Proof {
    fn new(life: usize, returned: Duration) -> Self {
        Self {
            life,
            returned,
            end: End::default(),
            rotated_from: None,
        }
    }
}

impl Activity {
    fn sort(&mut self) {
        self.by_call.sort_unstable();
        self.by_answer.sort_unstable();
        self.unknown.sort_unstable();
        let mut latest = Duration::ZERO;
        for (_, call) in &mut self.by_answer {
            latest = latest.max(*call);
            *call = latest;
        }
    }
}

impl Life {
    /// The session lives at least until then, expiry alone considered, for a check invoked at `asked`. `write_lag`: how much longer
    /// than the slack an activity may take to be written down, because a process or a store stood still.
    pub(crate) fn expires_not_before(&self, asked: Duration, write_lag: Duration) -> Duration {
        let answers = &self.activity.by_answer;
        let before = answers.partition_point(|(answer, _)| *answer < asked);
        let last_call = before
            .checked_sub(1)
            .map_or(Duration::ZERO, |last| answers[last].1);
        let noted = last_call.saturating_sub(last_seen_slack(self.span.idle) + write_lag);
        let idle_end = noted.max(self.invoked) + self.span.idle;
        idle_end.min(self.invoked + self.span.lifetime)
    }

    /// Whether a call that may have noted activity took place, at least in part, between these two instants.
    pub(crate) fn may_be_kept_alive(&self, from: Duration, until: Duration) -> bool {
        let calls = &self.activity.by_call;
        let mut before_the_end = calls.iter().take_while(|(call, ..)| *call <= until);
        let unknown = self.activity.unknown.first();
        before_the_end.any(|(_, noted_by, _)| *noted_by >= from) || unknown.is_some_and(|call| *call <= until)
    }

    /// The places in the history of calls that found the session alive although it must have expired, each with the instant at
    /// which it had expired at the latest.
    pub(crate) fn found_after_expiry(&self, skew: Duration) -> Vec<(usize, Duration)> {
        let mut late = Vec::new();
        let mut idle_end = self.returned + self.span.idle;
        let lifetime_end = self.returned + self.span.lifetime;
        for (call, noted_by, place) in &self.activity.by_call {
            // A call without an answer may take effect at any time.
            let is_idle_open = self
                .activity
                .unknown
                .first()
                .is_some_and(|first| first < noted_by);
            let end = match is_idle_open {
                true => lifetime_end,
                false => lifetime_end.min(idle_end),
            };
            if *call > end + skew {
                late.push((*place, end));
            } else {
                idle_end = idle_end.max(*noted_by + self.span.idle);
            }
        }
        late
    }
}
