//! Each rule against histories written by hand: one that breaks it, and the nearest one that does not.

use crate::{
    history::{CacheBounds, Completion, Event, Identity, IssuedToken, Key, Operation, Span, Token},
    rules::{Bounds, violations},
};
use sessiond::domain::{SessionId, Timestamp, UserId};
use std::time::Duration;

const BOUNDS: Bounds = Bounds {
    skew: Duration::from_millis(5),
    clock_error: Duration::ZERO,
    write_lag: Duration::ZERO,
    cap: 3,
};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn user(n: u8) -> UserId {
    UserId::new(Timestamp::from_millis(1), [n; 10])
}

fn session(n: u8) -> SessionId {
    SessionId::new(Timestamp::from_millis(1), [n; 10])
}

fn issued(n: u8) -> IssuedToken {
    IssuedToken {
        token: Token(n.into()),
        session: session(n),
        user: user(1),
    }
}

fn alive(n: u8) -> Completion<Option<Identity>> {
    Completion::Answer(Some(Identity {
        session: session(n),
        user: user(1),
    }))
}

const DEAD: Completion<Option<Identity>> = Completion::Answer(None);

/// Calls written down one after the other.
#[derive(Default)]
struct Story(Vec<Operation>);

impl Story {
    fn call(mut self, from: u64, to: u64, event: Event) -> Self {
        self.0.push(Operation {
            client: 0,
            process: 0,
            invoked: ms(from),
            returned: ms(to),
            event,
        });
        self
    }

    /// Session `n` of user 1, created between these two milliseconds, with 10 s to live and 1 s without a check.
    fn created(self, from: u64, to: u64, n: u8) -> Self {
        self.created_as(from, to, None, Completion::Answer(issued(n)))
    }

    fn created_as(
        self,
        from: u64,
        to: u64,
        replaces: Option<u32>,
        completion: Completion<IssuedToken>,
    ) -> Self {
        let event = Event::Create {
            user: user(1),
            span: Span {
                lifetime: ms(10_000),
                idle: ms(1000),
            },
            replaces: replaces.map(Token),
            completion,
        };
        self.call(from, to, event)
    }

    fn checked(self, from: u64, to: u64, token: u8, completion: Completion<Option<Identity>>) -> Self {
        self.checked_from_memory(from, to, token, completion, 0)
    }

    fn checked_from_memory(
        self,
        from: u64,
        to: u64,
        token: u8,
        completion: Completion<Option<Identity>>,
        staleness: u64,
    ) -> Self {
        let event = Event::Check {
            token: Token(token.into()),
            cache_bounds: CacheBounds {
                staleness: ms(staleness),
                reported_within: ms(staleness),
            },
            completion,
        };
        self.call(from, to, event)
    }

    fn destroyed(self, from: u64, to: u64, token: u8, completion: Completion<bool>) -> Self {
        let key = Key::Token(Token(token.into()));
        self.call(from, to, Event::Destroy { key, completion })
    }

    fn rotated(self, from: u64, to: u64, token: u8, completion: Completion<Option<IssuedToken>>) -> Self {
        self.rotated_with_grace(from, to, token, 0, completion)
    }

    fn rotated_with_grace(
        self,
        from: u64,
        to: u64,
        token: u8,
        grace: u64,
        completion: Completion<Option<IssuedToken>>,
    ) -> Self {
        let event = Event::Rotate {
            token: Token(token.into()),
            grace: ms(grace),
            completion,
        };
        self.call(from, to, event)
    }

    fn ended(self, from: u64, to: u64, except: Option<SessionId>, completion: Completion<()>) -> Self {
        let event = Event::EndUser {
            user: user(1),
            except,
            completion,
        };
        self.call(from, to, event)
    }

    fn listed(self, from: u64, to: u64, sessions: &[u8]) -> Self {
        let event = Event::List {
            user: user(1),
            completion: Completion::Answer(sessions.iter().copied().map(session).collect()),
        };
        self.call(from, to, event)
    }

    fn counted(self, from: u64, to: u64, count: u64) -> Self {
        let completion = Completion::Answer(count);
        self.call(from, to, Event::Count { completion })
    }

    /// The rules that it breaks.
    fn broken_rules(&self) -> Vec<u8> {
        let found = violations(&self.0, &BOUNDS);
        found.iter().map(|violation| violation.rule).collect()
    }

    #[track_caller]
    fn breaks(&self, rule: u8) {
        let broken = self.broken_rules();
        assert!(broken.contains(&rule), "{broken:?}");
    }

    #[track_caller]
    fn breaks_nothing(&self) {
        let found: Vec<_> = violations(&self.0, &BOUNDS)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(found.is_empty(), "{found:#?}");
    }
}

fn story() -> Story {
    Story::default()
}

#[test]
fn rule_0_an_answer_outside_the_contract_is_reported() {
    let nonsense = Completion::OutOfContract("Internal".into());
    story().created(0, 1, 1).checked(2, 3, 1, nonsense).breaks(0);
    story()
        .created(0, 1, 1)
        .checked(2, 3, 1, Completion::Unknown)
        .breaks_nothing();
}

#[test]
fn rule_1_a_check_names_the_owner() {
    story()
        .created(0, 1, 1)
        .created(0, 1, 2)
        .checked(2, 3, 1, alive(2))
        .breaks(1);
    story()
        .created(0, 1, 1)
        .created(0, 1, 2)
        .checked(2, 3, 1, alive(1))
        .breaks_nothing();
}

#[test]
fn rule_2_a_check_after_an_acknowledged_end_fails() {
    let ended = || {
        story()
            .created(0, 1, 1)
            .destroyed(10, 20, 1, Completion::Answer(true))
    };
    ended().checked(21, 22, 1, alive(1)).breaks(2);
    ended().checked(21, 22, 1, DEAD).breaks_nothing();
    ended().checked(19, 30, 1, alive(1)).breaks_nothing();
    let unknown = || story().created(0, 1, 1).destroyed(10, 20, 1, Completion::Unknown);
    unknown().checked(21, 22, 1, alive(1)).breaks_nothing();
    unknown().checked(21, 22, 1, DEAD).breaks_nothing();
}

#[test]
fn rule_2_ending_all_of_a_users_sessions_spares_one_and_those_of_later() {
    let except_2 = || {
        story()
            .created(0, 1, 1)
            .created(0, 1, 2)
            .ended(10, 20, Some(session(2)), Completion::Answer(()))
    };
    except_2().checked(21, 22, 1, alive(1)).breaks(2);
    except_2().checked(21, 22, 2, alive(2)).breaks_nothing();
    except_2().checked(21, 22, 2, DEAD).breaks(4);
    // Under way at the same time: either order will do.
    let meanwhile = || {
        story()
            .created(5, 15, 3)
            .ended(10, 20, None, Completion::Answer(()))
    };
    meanwhile().checked(21, 22, 3, alive(3)).breaks_nothing();
    meanwhile().checked(21, 22, 3, DEAD).breaks_nothing();
    let later = || {
        story()
            .ended(10, 20, None, Completion::Answer(()))
            .created(21, 22, 3)
    };
    later().checked(23, 24, 3, DEAD).breaks(4);
    let never_answered = || {
        story()
            .ended(10, 20, None, Completion::Unknown)
            .created(21, 22, 3)
    };
    never_answered().checked(23, 24, 3, DEAD).breaks_nothing();
}

#[test]
fn rule_2_a_replaced_and_a_rotated_token_are_dead() {
    let replaced = || {
        story()
            .created(0, 1, 1)
            .created_as(10, 20, Some(1), Completion::Answer(issued(2)))
    };
    replaced().checked(21, 22, 1, alive(1)).breaks(2);
    replaced().listed(21, 22, &[1, 2]).breaks(2);
    replaced().listed(21, 22, &[2]).breaks_nothing();
    let new_token = Completion::Answer(Some(IssuedToken {
        token: Token(9),
        ..issued(1)
    }));
    let rotated = || story().created(0, 1, 1).rotated(10, 20, 1, new_token.clone());
    rotated().checked(21, 22, 1, alive(1)).breaks(2);
    rotated().checked(21, 22, 9, alive(1)).breaks_nothing();
    rotated().checked(21, 22, 9, DEAD).breaks(4);
    rotated().listed(21, 22, &[]).breaks(4);
    // A destroyed session takes its new token along.
    rotated()
        .destroyed(21, 22, 9, Completion::Answer(true))
        .checked(23, 24, 9, alive(1))
        .breaks(2);
    let in_grace = || {
        story()
            .created(0, 1, 1)
            .rotated_with_grace(10, 20, 1, 100, new_token.clone())
    };
    in_grace().checked(119, 122, 1, alive(1)).breaks_nothing();
    in_grace().checked(121, 122, 1, alive(1)).breaks(2);
    in_grace()
        .rotated(21, 22, 1, Completion::Answer(None))
        .checked(23, 24, 1, alive(1))
        .breaks_nothing();
}

#[test]
fn rule_2_a_client_that_remembers_has_as_long_as_it_may_be_stale() {
    let ended = || {
        story()
            .created(0, 1, 1)
            .destroyed(10, 20, 1, Completion::Answer(true))
    };
    ended()
        .checked_from_memory(70, 71, 1, alive(1), 50)
        .breaks_nothing();
    ended().checked_from_memory(71, 72, 1, alive(1), 50).breaks(2);
}

#[test]
fn rule_3_what_was_dead_stays_dead() {
    let dead = || {
        story()
            .created(0, 1, 1)
            .destroyed(5, 6, 1, Completion::Unknown)
            .checked(10, 20, 1, DEAD)
    };
    dead().checked(21, 22, 1, alive(1)).breaks(3);
    dead().checked(19, 22, 1, alive(1)).breaks_nothing();
    dead().listed(21, 22, &[1]).breaks(3);
    dead().destroyed(21, 22, 1, Completion::Answer(true)).breaks(3);
    // What replaced it is there, so it is not.
    let replaced = || {
        story()
            .created(0, 1, 1)
            .created_as(5, 6, Some(1), Completion::Unknown)
            .listed(10, 20, &[2])
    };
    replaced().checked(21, 22, 1, alive(1)).breaks(3);
    replaced().checked(19, 22, 1, alive(1)).breaks_nothing();
}

/// Where wall clocks may be wrong by 50 ms when processes start, so that two are up to 105 ms apart.
const WRONG_CLOCKS: Bounds = Bounds {
    clock_error: Duration::from_millis(50),
    ..BOUNDS
};

#[test]
fn rule_3_a_wrong_clock_may_keep_alive_what_has_expired_by_as_much() {
    let broken = |story: Story| -> Vec<u8> {
        let found = violations(&story.0, &WRONG_CLOCKS);
        found.iter().map(|violation| violation.rule).collect()
    };
    let expired = || story().created(0, 1, 1).checked(950, 960, 1, DEAD);
    assert_eq!(broken(expired().checked(1066, 1067, 1, alive(1))), [3]);
    assert!(broken(expired().checked(1065, 1066, 1, alive(1))).is_empty());
    let kept_alive = || expired().checked(1000, 1010, 1, alive(1));
    assert!(broken(kept_alive().checked(1500, 1510, 1, alive(1))).is_empty());
    assert_eq!(broken(kept_alive().checked(2116, 2117, 1, alive(1))), [5]);
    // It was over long before it could have expired, however wrong the clocks are.
    let ended = || story().created(0, 1, 1).destroyed(5, 6, 1, Completion::Unknown);
    let ended = ended().checked(700, 710, 1, DEAD).checked(711, 712, 1, alive(1));
    assert_eq!(broken(ended), [3]);
    // Where clocks are right, none is kept alive.
    kept_alive().breaks(3);
}

#[test]
fn rule_2_a_grace_ends_by_a_clock_and_without_one_none_is_asked() {
    let rotated = |grace| {
        let new_token = Completion::Answer(Some(IssuedToken {
            token: Token(9),
            ..issued(1)
        }));
        story()
            .created(0, 1, 1)
            .rotated_with_grace(10, 20, 1, grace, new_token)
    };
    let is_broken = |story: Story| !violations(&story.0, &WRONG_CLOCKS).is_empty();
    assert!(!is_broken(rotated(100).checked(220, 221, 1, alive(1))));
    assert!(is_broken(rotated(100).checked(221, 222, 1, alive(1))));
    assert!(is_broken(rotated(0).checked(21, 22, 1, alive(1))));
    // Over for one process, not yet for another.
    let over_for_one = || rotated(100).checked(30, 40, 1, DEAD);
    assert!(!is_broken(over_for_one().checked(145, 146, 1, alive(1))));
    assert!(is_broken(over_for_one().checked(146, 147, 1, alive(1))));
}

#[test]
fn rule_2_what_is_over_by_a_wrong_clock_is_not_replaced() {
    let is_broken = |story: Story| !violations(&story.0, &WRONG_CLOCKS).is_empty();
    let replaced_at = |at| {
        let created = story().created(0, 1, 1);
        created.created_as(at, at + 10, Some(1), Completion::Answer(issued(2)))
    };
    assert!(is_broken(replaced_at(880).checked(891, 892, 1, alive(1))));
    assert!(!is_broken(replaced_at(890).checked(901, 902, 1, alive(1))));
    replaced_at(890).checked(901, 902, 1, alive(1)).breaks(2);
}

#[test]
fn rule_4_a_session_that_nobody_ended_lives() {
    story().created(0, 1, 1).checked(2, 3, 1, DEAD).breaks(4);
    story()
        .created(0, 1, 1)
        .destroyed(2, 3, 1, Completion::Answer(false))
        .breaks(4);
    story()
        .created(0, 1, 1)
        .rotated(2, 3, 1, Completion::Answer(None))
        .breaks(4);
    story().created(0, 1, 1).listed(2, 3, &[]).breaks(4);
    story()
        .created(0, 1, 1)
        .checked(2, 30, 1, DEAD)
        .destroyed(29, 40, 1, Completion::Unknown)
        .breaks_nothing();
    // Activity counts, less the slack of a tenth.
    let active = || story().created(0, 1, 1).checked(500, 510, 1, alive(1));
    active().checked(1380, 1390, 1, DEAD).breaks(4);
    active().checked(1396, 1401, 1, DEAD).breaks_nothing();
}

#[test]
fn rule_4_a_rotation_that_was_cut_off_ends_no_session() {
    let cut_off = || story().created(0, 1, 1).rotated(10, 20, 1, Completion::Unknown);
    cut_off().listed(21, 22, &[]).breaks(4);
    cut_off().listed(21, 22, &[1]).breaks_nothing();
}

#[test]
fn rule_4_the_oldest_may_make_room_for_more_than_the_cap() {
    let three = || story().created(0, 1, 1).created(2, 3, 2).created(4, 5, 3);
    three().checked(8, 9, 1, DEAD).breaks(4);
    three().created(6, 7, 4).checked(8, 9, 1, DEAD).breaks_nothing();
    three().created(6, 7, 4).checked(8, 9, 2, DEAD).breaks(4);
}

#[test]
fn rule_5_an_expired_session_is_dead() {
    story()
        .created(0, 1, 1)
        .checked(1006, 1010, 1, alive(1))
        .breaks_nothing();
    story()
        .created(0, 1, 1)
        .checked(1007, 1010, 1, alive(1))
        .breaks(5);
    let active = || story().created(0, 1, 1).checked(500, 510, 1, alive(1));
    active().checked(1515, 1520, 1, alive(1)).breaks_nothing();
    active().checked(1516, 1520, 1, alive(1)).breaks(5);
    // A client with a cached answer uses the session without a call, and reports the use later.
    let remembered = || {
        story()
            .created(0, 1, 1)
            .checked_from_memory(500, 510, 1, alive(1), 100)
    };
    remembered().checked(1615, 1620, 1, alive(1)).breaks_nothing();
    remembered().checked(1616, 1620, 1, alive(1)).breaks(5);
    // Two late answers do not vouch for each other.
    story()
        .created(0, 1, 1)
        .checked(1100, 1110, 1, alive(1))
        .checked(1101, 1111, 1, alive(1))
        .breaks(5);
    let mut busy = story().created(0, 1, 1);
    for second in 0..11 {
        busy = busy.checked(second * 900 + 800, second * 900 + 810, 1, alive(1));
    }
    busy.breaks_nothing();
    busy.checked(10_007, 10_008, 1, alive(1)).breaks(5);
}

#[test]
fn rule_6_nothing_lives_that_was_not_created() {
    story().checked(2, 3, 7, alive(7)).breaks(6);
    story().checked(2, 3, 7, DEAD).breaks_nothing();
    story().destroyed(2, 3, 7, Completion::Answer(true)).breaks(6);
    story().created(0, 1, 1).created(2, 3, 1).breaks(6);
    story().listed(2, 3, &[7]).breaks(6);
    story()
        .created_as(0, 1, None, Completion::Unknown)
        .listed(2, 3, &[7])
        .breaks_nothing();
}

#[test]
fn rule_7_lists_and_counts_agree_and_keep_the_cap() {
    let three = || story().created(0, 1, 1).created(2, 3, 2).created(4, 5, 3);
    three().listed(8, 9, &[1, 2, 3]).counted(8, 9, 3).breaks_nothing();
    three().counted(8, 9, 2).breaks(7);
    three().counted(8, 9, 4).breaks(7);
    three()
        .destroyed(6, 7, 1, Completion::Answer(true))
        .counted(8, 9, 3)
        .breaks(7);
    three()
        .destroyed(6, 7, 1, Completion::Unknown)
        .counted(8, 9, 2)
        .breaks_nothing();
    three().created(6, 7, 4).listed(8, 9, &[1, 2, 3, 4]).breaks(7);
    three().listed(8, 9, &[1, 2, 3, 3]).breaks(7);
}
