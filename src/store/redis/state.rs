//! What is true of a session, and which step has to be carried out before an operation may answer: pure, without a server.
//!
//! A session's state follows from the records and revocation marks that were read, and from the time. The process that wrote them
//! may have died between two of its steps. So a state is either an answer, [`Live`](SessionState::Live) or
//! [`Gone`](SessionState::Gone), or it [`Needs`](SessionState::Needs) one more step first, which the operation that meets it
//! carries out. [`recovery`](super::recovery) carries the step out, notes in the [`View`] what came of it, and asks again.

use super::layout::{
    marks::{RevocationMarks, SequencedRevocation},
    record::{RecordKind, SessionRecord},
};
use crate::domain::{LiveSession, Revocation, Timestamp, TokenDigest};

/// A record, and the revocation marks of its shard that concern it, as they were at one instant.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub record: SessionRecord,
    pub marks: RevocationMarks,
}

/// What the caller wants with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// The session that a token proves, also as an old token in its grace.
    Token,
    /// The session whose latest token this is.
    LatestToken,
    /// The session that an entry of a user's index leads to.
    IndexEntry,
    /// To complete the move of a session away from this token.
    Move,
}

/// One thing to do before there is an answer. Several processes may do it at once, and more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read what is stored under the digest that the session has moved to.
    Follow(TokenDigest),
    /// Make what waits at the new place the session that has left the old one.
    Arrive,
    /// Let the user's index lead to the new place.
    Reindex,
    /// Bring a revocation to all shards and publish it.
    FinishRevocation(SequencedRevocation),
    /// Publish the end of the token's session, once by each process that meets it.
    PublishOnce(Revocation),
    /// Publish the end of the token, which may still be in its grace: its end by time is published as well.
    Publish(Revocation),
    /// Publish the end of the old token, and if the session lives, let the user's index lead to the new place.
    PublishMove { ended: Revocation, reindexes: bool },
    /// Keep the forwarding note no longer than the old token works, which is until then; `None`: there is no note.
    Settle { works_until: Option<Timestamp> },
}

/// What is true of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionState {
    /// It lives.
    Live(LiveSession),
    /// It does not, and never will again.
    Gone,
    /// No operation may answer before this is done.
    Needs(Step),
}

/// What has been read and done so far.
pub(crate) struct View {
    goal: Goal,
    /// The digest that it began with.
    digest: TokenDigest,
    here: Option<Snapshot>,
    there: Option<Destination>,
    is_revocation_finished: bool,
    is_published: bool,
    /// The index may lead to the old place only.
    needs_reindex: bool,
    is_settled: bool,
}

/// Where a session has moved to.
struct Destination {
    /// What is there; what is arriving as it will be when it has arrived.
    snapshot: Option<Snapshot>,
    is_arriving: bool,
}

/// An answer about one place, before it is known whether an end has to be published.
enum PlaceState {
    Live(LiveSession),
    Gone {
        /// The process that ended it may have died before it could publish that.
        may_be_unpublished: bool,
    },
    Needs(Step),
}

impl View {
    /// Begins with what is stored under `digest`.
    pub(crate) fn new(goal: Goal, digest: TokenDigest, here: Option<Snapshot>) -> Self {
        Self {
            goal,
            digest,
            here,
            there: None,
            is_revocation_finished: false,
            is_published: false,
            needs_reindex: false,
            is_settled: false,
        }
    }

    /// A session that has just left `digest`, and waits where `forwarding` leads.
    pub(crate) fn departed(digest: TokenDigest, forwarding: SessionRecord, waiting: SessionRecord) -> Self {
        let unmarked = |record| Snapshot {
            record,
            marks: RevocationMarks::default(),
        };
        let mut view = Self::new(Goal::Move, digest, Some(unmarked(forwarding)));
        // The arrival itself looks at the marks.
        view.follow(Some(unmarked(waiting)));
        view
    }

    /// What is true now, or has to be done first.
    pub(crate) fn state(&self, now: Timestamp) -> SessionState {
        let place = self.place_state(now);
        if let PlaceState::Needs(step) = place {
            return SessionState::Needs(step);
        }
        let needed = match self.goal {
            Goal::Move => self.needed_by_move(&place),
            Goal::Token | Goal::LatestToken | Goal::IndexEntry => self.needed_by_answer(&place),
        };
        match (needed, place) {
            (Some(step), _) | (None, PlaceState::Needs(step)) => SessionState::Needs(step),
            (None, PlaceState::Live(live)) => SessionState::Live(live),
            (None, PlaceState::Gone { .. }) => SessionState::Gone,
        }
    }

    fn needed_by_answer(&self, place: &PlaceState) -> Option<Step> {
        match place {
            PlaceState::Live(_) => self.needs_reindex.then_some(Step::Reindex),
            PlaceState::Gone { may_be_unpublished } if *may_be_unpublished && !self.is_published => {
                let ended = self.ended()?;
                match self.goal {
                    // A list without the session says that it has ended, as a check does.
                    Goal::Token | Goal::IndexEntry => Some(Step::PublishOnce(ended)),
                    Goal::LatestToken => Some(Step::Publish(ended)),
                    Goal::Move => None,
                }
            }
            PlaceState::Gone { .. } => None,
            PlaceState::Needs(step) => Some(*step),
        }
    }

    fn needed_by_move(&self, place: &PlaceState) -> Option<Step> {
        let moved = self.here.as_ref().and_then(|here| here.record.moved_to());
        match moved {
            Some(_) if !self.is_published => Some(Step::PublishMove {
                ended: self.ended()?,
                reindexes: matches!(place, PlaceState::Live(_)),
            }),
            Some(_) | None => (!self.is_settled).then_some(Step::Settle {
                works_until: moved.map(|(works_until, _)| works_until),
            }),
        }
    }

    fn place_state(&self, now: Timestamp) -> PlaceState {
        let Some(here) = &self.here else {
            return PlaceState::Gone {
                may_be_unpublished: false,
            };
        };
        match here.record.kind() {
            RecordKind::Active => self.judge(here, now),
            RecordKind::Moved => self.judge_moved(here, now),
            // The token of a record that has not arrived has been given to nobody.
            RecordKind::Arriving => PlaceState::Gone {
                may_be_unpublished: false,
            },
            RecordKind::Ended => PlaceState::Gone {
                may_be_unpublished: here.record.live().is_some_and(|live| !live.is_expired(now)),
            },
        }
    }

    /// What is true of an active record.
    fn judge(&self, at: &Snapshot, now: Timestamp) -> PlaceState {
        let Some(live) = at.record.live().filter(|live| !live.is_expired(now)) else {
            return PlaceState::Gone {
                may_be_unpublished: false,
            };
        };
        match at.marks.revocation_of(&at.record) {
            None => PlaceState::Live(live),
            // Other shards may not have the mark: all sessions that it is to end have ended before an answer says that this one
            // has.
            Some(revocation) if !self.is_revocation_finished => {
                PlaceState::Needs(Step::FinishRevocation(revocation))
            }
            // One entry has published the end of everyone's sessions: there are too many to publish each.
            Some(SequencedRevocation::Everyone { .. }) => PlaceState::Gone {
                may_be_unpublished: false,
            },
            // The mark is that of the last revocation only. It may have spared this session, and an earlier one may have ended it.
            Some(SequencedRevocation::User { .. }) => PlaceState::Gone {
                may_be_unpublished: true,
            },
        }
    }

    /// What is true of a session that has moved.
    fn judge_moved(&self, here: &Snapshot, now: Timestamp) -> PlaceState {
        let gone = PlaceState::Gone {
            may_be_unpublished: true,
        };
        let Some((works_until, to)) = here.record.moved_to() else {
            return gone;
        };
        let leads_on = match self.goal {
            Goal::Token => now < works_until,
            Goal::LatestToken => false,
            Goal::IndexEntry | Goal::Move => true,
        };
        if !leads_on {
            return gone;
        }
        let Some(there) = &self.there else {
            return PlaceState::Needs(Step::Follow(to));
        };
        let same = |there: &&Snapshot| {
            there.record.id() == here.record.id() && there.record.kind() == RecordKind::Active
        };
        let Some(snapshot) = there.snapshot.as_ref().filter(same) else {
            return gone;
        };
        match self.judge(snapshot, now) {
            PlaceState::Live(_) if there.is_arriving => PlaceState::Needs(Step::Arrive),
            PlaceState::Live(live) => PlaceState::Live(LiveSession {
                grace_ends_at: (self.goal == Goal::Token).then_some(works_until),
                ..live
            }),
            PlaceState::Gone { .. } => gone,
            PlaceState::Needs(step) => PlaceState::Needs(step),
        }
    }

    fn ended(&self) -> Option<Revocation> {
        let record = &self.here.as_ref()?.record;
        Some(Revocation::Session {
            session: record.id(),
            user: record.user(),
        })
    }

    /// Notes what is stored where the session has moved to.
    pub(crate) fn follow(&mut self, there: Option<Snapshot>) {
        let is_arriving = there
            .as_ref()
            .is_some_and(|there| there.record.kind() == RecordKind::Arriving);
        let snapshot = match (there, &self.here) {
            (Some(there), Some(here)) if is_arriving => Some(Snapshot {
                record: there.record.arrived(&here.record),
                marks: there.marks,
            }),
            (there, _) => there,
        };
        self.there = Some(Destination {
            snapshot,
            is_arriving,
        });
    }

    /// Notes what came of the arrival. If it was refused, the destination is not what it was: it has to be read again.
    pub(crate) fn arrive(&mut self, has_arrived: bool) {
        match &mut self.there {
            Some(there) if has_arrived => there.is_arriving = false,
            _ => self.there = None,
        }
        self.needs_reindex = has_arrived;
    }

    /// Notes that a step is done of which nothing comes but that.
    pub(crate) fn done(&mut self, step: Step) {
        match step {
            Step::Follow(_) | Step::Arrive => {}
            Step::Reindex => self.needs_reindex = false,
            Step::FinishRevocation(_) => self.is_revocation_finished = true,
            Step::PublishOnce(_) | Step::Publish(_) | Step::PublishMove { .. } => self.is_published = true,
            Step::Settle { .. } => self.is_settled = true,
        }
    }

    /// The digest that it began with.
    pub(crate) fn digest(&self) -> TokenDigest {
        self.digest
    }

    /// The digest that the session is stored under as far as it has been followed.
    pub(crate) fn latest_digest(&self) -> TokenDigest {
        match (&self.there, &self.here) {
            (Some(_), Some(here)) => here.record.moved_to().map_or(self.digest, |(_, to)| to),
            _ => self.digest,
        }
    }

    /// What is stored under the latest digest.
    pub(crate) fn latest(&self) -> Option<&Snapshot> {
        match &self.there {
            Some(there) => there.snapshot.as_ref(),
            None => self.here.as_ref(),
        }
    }

    /// What is stored under the digest that it began with, and where that led.
    pub(crate) fn into_snapshots(self) -> (Option<Snapshot>, Option<Snapshot>) {
        (self.here, self.there.and_then(|there| there.snapshot))
    }
}

/// What there is in a shard.
#[derive(Debug, Clone)]
pub(crate) struct ShardView {
    pub live_sessions: u64,
    /// Digests that sessions are moving away from: some, if there are many.
    pub unsettled_moves: Vec<TokenDigest>,
    /// The sequence of the last revocation of everyone's sessions; 0: there was none.
    pub everyone_mark: u64,
}

/// How many sessions there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Count {
    /// So many, and nothing was under way.
    Consistent(u64),
    /// Sessions are between two places, or some shards know of a revocation of everyone's and others do not.
    Needs {
        finish: Option<SequencedRevocation>,
        moves: Vec<TokenDigest>,
    },
}

/// How many sessions there are in all shards, or what has to be done first.
pub(crate) fn count(shards: &[ShardView]) -> Count {
    let moves: Vec<_> = shards
        .iter()
        .flat_map(|shard| shard.unsettled_moves.iter().copied())
        .collect();
    let sequence = shards.iter().map(|shard| shard.everyone_mark).max().unwrap_or(0);
    let is_marked = shards.iter().all(|shard| shard.everyone_mark == sequence);
    match moves.is_empty() && is_marked {
        true => Count::Consistent(live_sessions(shards)),
        false => Count::Needs {
            finish: (!is_marked).then_some(SequencedRevocation::Everyone { sequence }),
            moves,
        },
    }
}

/// How many sessions there are in all shards, whatever is under way.
pub(crate) fn live_sessions(shards: &[ShardView]) -> u64 {
    shards.iter().map(|shard| shard.live_sessions).sum()
}

#[cfg(test)]
mod tests;
