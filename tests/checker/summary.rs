//! How much a history says: a run in which nobody was answered breaks no rule either.

use crate::history::{Event, Operation, Told};
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

pub(crate) fn of(history: &[Operation]) -> Summary {
    let mut summary = Summary {
        calls: history.len(),
        ..Summary::default()
    };
    for operation in history {
        let told = match &operation.event {
            Event::Create { told, .. } => told.clone().map(|_| &mut summary.created),
            Event::Check { told, .. } => told.clone().map(|found| match found {
                Some(_) => &mut summary.alive,
                None => &mut summary.dead,
            }),
            Event::Rotate { told, .. } => told.clone().map(|_| &mut summary.ended),
            Event::Destroy { told, .. } => told.clone().map(|_| &mut summary.ended),
            Event::EndUser { told, .. } | Event::EndEveryone { told } => {
                told.clone().map(|()| &mut summary.ended)
            }
            Event::List { told, .. } => told.clone().map(|_| &mut summary.alive),
            Event::Count { told } => told.clone().map(|_| &mut summary.alive),
        };
        match told {
            Told::Answer(count) => *count += 1,
            Told::Unknown => summary.unknown += 1,
            Told::Refused | Told::Nonsense(_) => {}
        }
    }
    summary
}

impl Summary {
    pub(crate) fn assert_enough(&self, of: &str) {
        let Self {
            alive,
            dead,
            created,
            ended,
            ..
        } = *self;
        let is_enough = alive >= 40 && dead >= 20 && created >= 20 && ended >= 10;
        assert!(is_enough, "{of}: too little was answered to judge: {self}");
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
