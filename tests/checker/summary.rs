//! How much a history proves: a run in which no call was answered breaks no rule either.

use crate::history::{Completion, Event, Operation};
use std::fmt;

/// Counts of a history.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    calls: usize,
    alive: usize,
    dead: usize,
    created: usize,
    ended: usize,
    unknown: usize,
}

impl Summary {
    pub(crate) fn of(history: &[Operation]) -> Self {
        let mut summary = Self {
            calls: history.len(),
            ..Self::default()
        };
        for operation in history {
            let completion = match &operation.event {
                Event::Create { completion, .. } => completion.clone().map(|_| &mut summary.created),
                Event::Check { completion, .. } => completion.clone().map(|found| match found {
                    Some(_) => &mut summary.alive,
                    None => &mut summary.dead,
                }),
                Event::Rotate { completion, .. } => completion.clone().map(|_| &mut summary.ended),
                Event::Destroy { completion, .. } => completion.clone().map(|_| &mut summary.ended),
                Event::EndUser { completion, .. } | Event::EndEveryone { completion } => {
                    completion.clone().map(|()| &mut summary.ended)
                }
                Event::List { completion, .. } => completion.clone().map(|_| &mut summary.alive),
                Event::Count { completion } => completion.clone().map(|_| &mut summary.alive),
            };
            match completion {
                Completion::Answer(count) => *count += 1,
                Completion::Unknown => summary.unknown += 1,
                Completion::Refused | Completion::OutOfContract(_) => {}
            }
        }
        summary
    }

    /// Whether there is something to judge.
    pub(crate) fn is_enough(&self) -> bool {
        self.alive >= 40 && self.dead >= 20 && self.created >= 20 && self.ended >= 10
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            calls,
            alive,
            dead,
            created,
            ended,
            unknown,
        } = self;
        write!(
            f,
            "{calls} answers: {alive} alive, {dead} dead, {created} created, {ended} ended, {unknown} unknown"
        )
    }
}
