//! The rules that no history may break, whatever was killed, stopped or cut off meanwhile.
//!
//! - Rule 0: every answer is one that the contract names.
//! - Rule 1: a check names the session's own user.
//! - Rule 2: no check that starts after an acknowledged end succeeds.
//! - Rule 3: what a check has called dead, or a list has left out, stays dead.
//! - Rule 4: a session that nobody ended and that has not expired lives.
//! - Rule 5: a session that has expired does not.
//! - Rule 6: nothing lives that was not created.
//! - Rule 7: lists and counts agree with that, and nobody has more sessions than allowed.
//!
//! Processes that start with wall clocks that are wrong by up to [`Bounds::clock_error`] disagree by up to twice that: sessions,
//! and old tokens in their grace, may end so much too early or too late, and a session that has expired for one process lives on
//! if it is used within that time through another. No other rule bends, and a clock that is set later on bends none.

use crate::{
    history::{Completion, Event, Key, Operation, Token},
    lives::{End, Life, Lives},
};
use sessiond::domain::{SessionId, UserId};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    time::Duration,
};

/// What the rules take for granted about the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// How far two clocks may be apart that are right.
    pub skew: Duration,
    /// How far the wall clock of a process may be wrong when it starts, either way.
    pub clock_error: Duration,
    /// How much longer than the slack an activity may take to be written down: the longest time for which anything stood still.
    pub write_lag: Duration,
    /// Sessions that one user may have.
    pub cap: usize,
}

impl Bounds {
    /// How far the clocks of two processes may be apart: by so much a session may end too early or too late.
    pub(crate) fn apart(&self) -> Duration {
        self.skew + self.wrong_apart()
    }

    /// How much of that comes from wall clocks that are wrong.
    pub(crate) fn wrong_apart(&self) -> Duration {
        self.clock_error * 2
    }
}

/// A broken rule.
#[derive(Debug)]
pub(crate) struct Violation {
    pub rule: u8,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}: {}", self.rule, self.what)
    }
}

/// Everything in this history that breaks a rule.
pub(crate) fn violations(history: &[Operation], bounds: &Bounds) -> Vec<Violation> {
    let mut judge = Judge {
        history,
        bounds,
        lives: Lives::of(history, bounds),
        sightings: Vec::new(),
        deaths: HashMap::new(),
        found: Vec::new(),
    };
    judge.look_at_answers();
    judge.note_deaths();
    judge.look_at_sightings();
    judge.look_for_late_expiry();
    judge.look_at_counts();
    judge.found
}

/// Whose life a call has something to say about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    Token(Token),
    Session(SessionId),
}

/// A call found something alive or dead.
#[derive(Debug, Clone, Copy)]
struct Sighting {
    place: usize,
    subject: Subject,
    is_alive: bool,
    staleness: Duration,
}

/// Sightings of a session that a report tells of.
const TOLD_OF: usize = 24;

struct Judge<'a> {
    history: &'a [Operation],
    bounds: &'a Bounds,
    lives: Lives,
    sightings: Vec<Sighting>,
    /// When the first call had returned that found something dead.
    deaths: HashMap<Subject, (Duration, usize)>,
    found: Vec<Violation>,
}

impl Judge<'_> {
    fn report(&mut self, rule: u8, place: usize, why: &str) {
        let what = format!("{why}, in\n    {}", self.history[place].brief(place));
        self.found.push(Violation { rule, what });
    }

    /// As [`report`](Self::report), with what was done to the session until then, and how it was seen last.
    fn report_of(&mut self, rule: u8, place: usize, subject: Subject, why: &str) {
        self.report(rule, place, why);
        let Some(life) = self.known_of(subject).map(|(life, ..)| life) else {
            return;
        };
        let until = self.history[place].returned;
        let said = self.history.iter().enumerate().filter(|(_, operation)| {
            operation.invoked <= until && self.lives.concerns(life, &operation.event)
        });
        let is_sighting =
            |operation: &Operation| matches!(operation.event, Event::Check { .. } | Event::List { .. });
        let (seen, done): (Vec<_>, Vec<_>) = said.partition(|(_, operation)| is_sighting(operation));
        let mut completion = [&done[..], &seen[seen.len().saturating_sub(TOLD_OF)..]].concat();
        completion.sort_unstable_by_key(|(place, _)| *place);
        let story: Vec<_> = completion
            .iter()
            .map(|(place, operation)| {
                let listed = match &operation.event {
                    Event::List { completion, .. } => {
                        let listed = completion.clone().map(|listed| listed.contains(&life.id));
                        format!(" [it is listed: {listed:?}]")
                    }
                    Event::Create { .. }
                    | Event::Check { .. }
                    | Event::Rotate { .. }
                    | Event::Destroy { .. }
                    | Event::EndUser { .. }
                    | Event::EndEveryone { .. }
                    | Event::Count { .. } => String::new(),
                };
                format!("{}{listed}", operation.brief(*place))
            })
            .collect();
        let story = format!("\n  of session {}:\n    {}", life.id, story.join("\n    "));
        if let Some(violation) = self.found.last_mut() {
            violation.what += &story;
        }
    }

    fn saw(&mut self, place: usize, subject: Subject, is_alive: bool) {
        self.sightings.push(Sighting {
            place,
            subject,
            is_alive,
            staleness: Duration::ZERO,
        });
    }

    /// Rules 0, 1, 6 and the cap; and notes what else the answers say.
    fn look_at_answers(&mut self) {
        let twins = std::mem::take(&mut self.lives.twins);
        for twin in twins {
            let what = format!("given out twice: {twin:?}");
            self.found.push(Violation { rule: 6, what });
        }
        for (place, operation) in self.history.iter().enumerate() {
            match &operation.event {
                Event::Create { user, completion, .. } => {
                    self.look_at_told(place, completion);
                    if completion.answer().is_some_and(|issued| issued.user != *user) {
                        self.report(1, place, "a session was created for another user");
                    }
                }
                Event::Check {
                    token,
                    cache_bounds,
                    completion,
                } => {
                    self.look_at_told(place, completion);
                    let Some(found) = completion.answer() else {
                        continue;
                    };
                    let named = found.map(|named| (named.session, named.user));
                    self.look_at_name(place, *token, named);
                    self.sightings.push(Sighting {
                        place,
                        subject: Subject::Token(*token),
                        is_alive: found.is_some(),
                        staleness: cache_bounds.staleness,
                    });
                }
                Event::Rotate {
                    token, completion, ..
                } => {
                    self.look_at_told(place, completion);
                    let Some(found) = completion.answer() else {
                        continue;
                    };
                    let named = found.map(|issued| (issued.session, issued.user));
                    self.look_at_name(place, *token, named);
                    if found.is_some() || !self.may_be_in_grace(*token, place) {
                        self.saw(place, Subject::Token(*token), found.is_some());
                    }
                }
                Event::Destroy { key, completion } => {
                    self.look_at_told(place, completion);
                    let Some(existed) = completion.answer() else {
                        continue;
                    };
                    let subject = match key {
                        Key::Token(token) => Subject::Token(*token),
                        Key::Session(id) => Subject::Session(*id),
                    };
                    self.saw(place, subject, *existed);
                }
                Event::EndUser { completion, .. } | Event::EndEveryone { completion } => {
                    self.look_at_told(place, completion)
                }
                Event::List { user, completion } => {
                    self.look_at_told(place, completion);
                    if let Some(listed) = completion.answer() {
                        self.look_at_list(place, *user, listed);
                    }
                }
                Event::Count { completion } => self.look_at_told(place, completion),
            }
        }
    }

    fn look_at_told<T>(&mut self, place: usize, completion: &Completion<T>) {
        if let Completion::OutOfContract(what) = completion {
            self.report(0, place, &format!("an answer outside the contract ({what})"));
        }
    }

    fn look_at_name(&mut self, place: usize, token: Token, named: Option<(SessionId, UserId)>) {
        let Some(named) = named else { return };
        match self.lives.session_of(token).map(|(life, _)| (life.id, life.user)) {
            None => self.report(6, place, "a token that nobody was given proves a session"),
            Some(owner) if owner != named => {
                self.report(1, place, &format!("the token's session and user are {owner:?}"));
            }
            Some(_) => {}
        }
    }

    /// Whether a token may have been replaced already when this call was answered: then that it cannot be rotated says nothing
    /// about whether it still proves its session.
    fn may_be_in_grace(&self, token: Token, place: usize) -> bool {
        let rotated_from = self.lives.tokens.get(&token).and_then(|proof| proof.rotated_from);
        rotated_from.is_some_and(|from| from < self.history[place].returned)
    }

    /// Rule 7 for one list; notes who is in it and who is not.
    fn look_at_list(&mut self, place: usize, user: UserId, listed: &[SessionId]) {
        if listed.len() > self.bounds.cap {
            self.report(7, place, "more sessions than one user may have");
        }
        let listed_once: HashSet<_> = listed.iter().copied().collect();
        if listed_once.len() != listed.len() {
            self.report(7, place, "a session is listed twice");
        }
        let is_known = |id: &SessionId| self.lives.session(*id).is_some();
        let (known, unknown): (Vec<_>, Vec<_>) = listed_once.iter().copied().partition(is_known);
        if unknown.len() > self.lives.untold.get(&user).map_or(0, Vec::len) {
            self.report(6, place, "a session that nobody created is listed");
        }
        for id in known {
            if self.lives.session(id).is_some_and(|life| life.user != user) {
                self.report(1, place, "another user's session is listed");
            }
            self.saw(place, Subject::Session(id), true);
        }
        let of_user = self.lives.by_user.get(&user).into_iter().flatten();
        let missing: Vec<_> = of_user.copied().filter(|id| !listed_once.contains(id)).collect();
        for id in missing {
            self.saw(place, Subject::Session(id), false);
        }
    }

    fn note_deaths(&mut self) {
        for sighting in &self.sightings {
            let Sighting { place, subject, .. } = *sighting;
            let Operation {
                invoked, returned, ..
            } = self.history[place];
            let Some((life, issued, _)) = self.known_of(subject) else {
                continue;
            };
            if sighting.is_alive || issued > invoked {
                continue;
            }
            // Two processes may disagree about the instant of expiry by as much as their clocks do.
            let apart = self.bounds.apart();
            let may_have_expired =
                returned + apart >= life.expires_not_before(invoked, self.bounds.write_lag);
            let is_clock_wrong = !self.bounds.clock_error.is_zero();
            let may_be_over_by_a_wrong_clock = match subject {
                Subject::Token(token) => is_clock_wrong && self.may_be_in_grace(token, place),
                Subject::Session(_) => false,
            };
            let skew = match may_have_expired || may_be_over_by_a_wrong_clock {
                true => apart,
                false => Duration::ZERO,
            };
            // What has expired for a process whose clock is wrong, another may keep alive until it has expired there, too.
            if may_have_expired && is_clock_wrong && life.may_be_kept_alive(invoked, returned + apart) {
                continue;
            }
            let death = (returned + skew, place);
            for subject in [Some(subject), self.same_as(subject)].into_iter().flatten() {
                let first = self.deaths.entry(subject).or_insert(death);
                *first = (*first).min(death);
            }
        }
    }

    /// Of a session that only ever had one token: the token for the session, the session for the token.
    fn same_as(&self, subject: Subject) -> Option<Subject> {
        let life = match subject {
            Subject::Token(token) => self.lives.session_of(token)?.0,
            Subject::Session(id) => self.lives.session(id)?,
        };
        let token = life.only_token?;
        Some(match subject {
            Subject::Token(_) => Subject::Session(life.id),
            Subject::Session(_) => Subject::Token(token),
        })
    }

    /// What is known of a subject: its session, when it was given out, and its end.
    fn known_of(&self, subject: Subject) -> Option<(&Life, Duration, End)> {
        match subject {
            Subject::Token(token) => {
                let (life, proof) = self.lives.session_of(token)?;
                Some((life, proof.returned, life.end.or(proof.end)))
            }
            Subject::Session(id) => {
                let life = self.lives.session(id)?;
                Some((life, life.returned, life.end))
            }
        }
    }

    /// Rules 2, 3 and 4, and 6 for what is not named.
    fn look_at_sightings(&mut self) {
        for sighting in std::mem::take(&mut self.sightings) {
            let Sighting { place, subject, .. } = sighting;
            let Operation {
                invoked, returned, ..
            } = self.history[place];
            let Some((life, issued, end)) = self.known_of(subject) else {
                if sighting.is_alive && matches!(self.history[place].event, Event::Destroy { .. }) {
                    self.report(6, place, "what nobody was given proved a session");
                }
                continue;
            };
            if sighting.is_alive {
                let lasts_until = life.returned + life.span.lifetime + self.bounds.apart();
                if matches!(subject, Subject::Session(_)) && invoked > lasts_until {
                    self.report(5, place, &format!("alive, and had to end by {lasts_until:?}"));
                }
                let trusted_from = |over: Duration| over + sighting.staleness;
                if let Some(over) = end.certain_from.filter(|over| invoked > trusted_from(*over)) {
                    self.report_of(2, place, subject, &format!("alive, and ended by {over:?}"));
                } else if let Some((over, by)) = self
                    .deaths
                    .get(&subject)
                    .copied()
                    .filter(|(over, _)| invoked > trusted_from(*over))
                {
                    let why = format!("alive, and found dead by {over:?} in operation {by}");
                    self.report_of(3, place, subject, &why);
                }
            } else if invoked > issued {
                let may_be_over = end.possible_from.is_some_and(|from| from <= returned);
                let expires = life.expires_not_before(invoked, self.bounds.write_lag);
                if !may_be_over && returned + self.bounds.apart() < expires {
                    self.report_of(4, place, subject, &format!("dead, and lives until {expires:?}"));
                }
            }
        }
    }

    /// Rule 5.
    fn look_for_late_expiry(&mut self) {
        let late = self
            .lives
            .sessions
            .iter()
            .flat_map(|life| life.found_after_expiry(self.bounds.apart()));
        let late: Vec<_> = late.collect();
        for (place, end) in late {
            self.report(5, place, &format!("alive, and expired at {end:?} at the latest"));
        }
    }

    /// Rule 7 for counts.
    fn look_at_counts(&mut self) {
        for (place, operation) in self.history.iter().enumerate() {
            let Event::Count {
                completion: Completion::Answer(count),
            } = &operation.event
            else {
                continue;
            };
            let (invoked, returned) = (operation.invoked, operation.returned);
            let untold = self
                .lives
                .untold
                .values()
                .flatten()
                .filter(|from| **from < returned)
                .count();
            let is_possible = |life: &&Life| {
                life.invoked < returned && life.end.certain_from.is_none_or(|over| over >= invoked)
            };
            let is_certain = |life: &&Life| {
                let may_be_over = life.end.possible_from.is_some_and(|from| from <= returned);
                let expires = life.expires_not_before(invoked, self.bounds.write_lag);
                life.returned < invoked && !may_be_over && returned + self.bounds.apart() < expires
            };
            let at_most = self.lives.sessions.iter().filter(is_possible).count() + untold;
            let at_least = self.lives.sessions.iter().filter(is_certain).count();
            if !(at_least as u64..=at_most as u64).contains(count) {
                self.report(
                    7,
                    place,
                    &format!("between {at_least} and {at_most} sessions live"),
                );
            }
        }
    }
}
