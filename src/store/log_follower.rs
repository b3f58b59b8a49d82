//! Keeps a process's log of revocations up to date with the one that all processes share.

use super::{Cursor, RevocationLog, monotonic_millis};
use crate::{domain::Revocation, error_chain::chain, jitter};
use std::{error::Error as StdError, time::Duration};
use tokio::time::sleep;

/// How long to wait before a log that could not be read is read again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// The log of revocations that all processes share, as a store keeps it.
pub(super) trait SharedLog: Send {
    type Error: StdError + Send + Sync + 'static;

    /// Some of what comes after `at`. Empty if nothing does.
    fn read_after(&mut self, at: Cursor) -> impl Future<Output = Result<LogPage, Self::Error>> + Send;

    /// Waits until there may be something new, and for a moment at most: the log is to be confirmed often.
    fn wait(&mut self) -> impl Future<Output = ()> + Send;

    /// Gets ready to be read again after an error.
    fn reconnect(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Entries of the shared log that follow one another.
pub(super) struct LogPage {
    /// Which log it is, and how far it goes at least.
    pub(super) head: Cursor,
    /// Entries with their numbers, which have no gaps. `None`: all that is known is that something ended.
    pub(super) entries: Vec<(u64, Option<Revocation>)>,
    /// Whether everything that was acknowledged before the page was asked for is in it, or comes before it.
    pub(super) is_last: bool,
}

/// Keeps `log` what `shared` is, for ever.
pub(super) async fn follow(mut shared: impl SharedLog, log: RevocationLog) {
    let mut is_well = true;
    loop {
        let outcome = match is_well {
            true => read_on(&mut shared, &log).await,
            false => match shared.reconnect().await {
                Ok(()) => read_on(&mut shared, &log).await,
                Err(error) => Err(error),
            },
        };
        match outcome {
            Ok(is_last) => {
                if !is_well {
                    is_well = true;
                    tracing::info!("the log of revocations is up to date again");
                }
                if is_last {
                    shared.wait().await;
                }
            }
            Err(error) => {
                if is_well {
                    is_well = false;
                    let cause = chain(&error);
                    tracing::warn!(%cause, "the log of revocations cannot be read; trying again");
                }
                sleep(jitter::retry_pause(RETRY_AFTER)).await;
            }
        }
    }
}

/// Takes over one page. Whether it was the last one for now.
async fn read_on<S: SharedLog>(shared: &mut S, log: &RevocationLog) -> Result<bool, S::Error> {
    let asked_at = monotonic_millis();
    let at = log.head();
    let LogPage {
        head,
        entries,
        is_last,
    } = shared.read_after(at).await?;
    // A log with another name, or one that has lost numbers, is not the one that was followed.
    let continues = head.log == at.log && head.sequence >= at.sequence;
    let numbered = (at.sequence + 1..).zip(entries);
    let known: Option<Vec<_>> = numbered
        .map(|(expected, (sequence, revocation))| {
            let revocation = revocation.filter(|_| sequence == expected)?;
            Some((sequence, revocation))
        })
        .collect();
    let Some(known) = known.filter(|_| continues) else {
        tracing::warn!("the log of revocations does not continue; readers forget what they remember");
        log.restart(head);
        return Ok(false);
    };
    for (sequence, revocation) in known {
        log.publish_at(sequence, revocation);
    }
    if is_last {
        log.confirm(asked_at);
    }
    Ok(is_last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{RevocationEvent, Revocations};

    const AT: Cursor = Cursor { log: 1, sequence: 5 };

    /// Gives one page.
    struct Page(Option<LogPage>);

    impl SharedLog for Page {
        type Error = std::io::Error;

        async fn read_after(&mut self, at: Cursor) -> Result<LogPage, Self::Error> {
            assert_eq!(at, AT);
            self.0.take().ok_or_else(|| std::io::Error::other("away"))
        }

        async fn wait(&mut self) {}

        async fn reconnect(&mut self) -> Result<(), Self::Error> {
            Ok(())
        }
    }

    fn entries(numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, Option<Revocation>)> {
        let entry = |number| (number, Some(Revocation::Everyone));
        numbers.into_iter().map(entry).collect()
    }

    /// The log, and a reader of it, after one page that came in answer to [`AT`].
    async fn after(page: LogPage) -> (RevocationLog, Revocations) {
        let log = RevocationLog::following(AT);
        let reader = log.read(Some(AT));
        read_on(&mut Page(Some(page)), &log).await.unwrap();
        (log, reader)
    }

    #[tokio::test]
    async fn what_follows_is_published_and_the_last_page_confirms_the_log() {
        for is_last in [false, true] {
            let (log, mut reader) = after(LogPage {
                head: Cursor { log: 1, sequence: 9 },
                entries: entries([6, 7]),
                is_last,
            })
            .await;
            let revoked = RevocationEvent::Revoked(Revocation::Everyone);
            let events: Vec<_> = reader.ready(10).into_iter().map(|(_, event)| event).collect();
            assert_eq!(events, [revoked; 2]);
            assert_eq!(log.head(), Cursor { log: 1, sequence: 7 });
            assert_eq!(log.complete_until() > i64::MIN, is_last);
        }
    }

    #[tokio::test]
    async fn a_log_that_does_not_continue_makes_readers_forget() {
        let head = Cursor { log: 1, sequence: 9 };
        let other = Cursor { log: 2, sequence: 9 };
        let behind = Cursor { log: 1, sequence: 4 };
        for (head, entries) in [
            (head, entries([7, 8])),
            (head, entries([6, 8])),
            (head, vec![(6, None)]),
            (other, entries([6])),
            (other, entries([])),
            (behind, entries([])),
        ] {
            let is_last = true;
            let (log, mut reader) = after(LogPage {
                head,
                entries,
                is_last,
            })
            .await;
            assert_eq!(reader.ready(10), [(head, RevocationEvent::Forget)]);
            assert_eq!(log.complete_until(), i64::MIN);
        }
    }

    #[tokio::test]
    async fn an_error_publishes_and_confirms_nothing() {
        let log = RevocationLog::following(AT);
        assert!(read_on(&mut Page(None), &log).await.is_err());
        assert_eq!((log.head(), log.complete_until()), (AT, i64::MIN));
    }
}
