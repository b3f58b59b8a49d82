//! A copy of all users and sessions from one store into another, by the operations that every store has.
//!
//! A copy that was cut off is simply started again: what is there already is left alone, and at the end what is there and not
//! (or no longer) in the source is taken away. The store that is copied into must not serve yet: a log-in there would be taken
//! away as well, and what ended there would come back.

use super::{
    Created, Inserted, NewSession, ReplacedHash, ScanCursor, SessionKey, SessionStore, StoreError, Updated,
    UserRecord, UserStore,
};
use crate::domain::{Timestamp, TokenDigest, User, UserId};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

/// Sessions that are on their way at the same time.
const AT_ONCE: usize = 256;

/// Users that are read at once.
const USERS_AT_ONCE: u32 = 500;

/// How far a copy has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CopyProgress {
    /// Users or sessions that were looked at in the source; they are there now.
    pub looked_at: u64,
    /// How many of them were not there, or were otherwise, before.
    pub copied: u64,
    /// Users or sessions that were taken away because the source does not have them.
    pub taken_away: u64,
}

/// Why a copy did not come to its end. It can be started again.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The store that is read from does not answer as it should.
    #[error("the store that is copied from: {0}")]
    Source(#[source] StoreError),
    /// The store that is written to does not answer as it should.
    #[error("the store that is copied to: {0}")]
    Target(#[source] StoreError),
    /// Another user of the target has the email of a user of the source.
    #[error("the email of user {0} belongs to another user in the store that is copied to")]
    EmailTaken(UserId),
    /// A user lost their password in the source since they were copied; no store can take a password away.
    #[error(
        "user {0} has a password in the store that is copied to and none in the other: delete the user there"
    )]
    PasswordStays(UserId),
    /// A change of the user that ends their sessions is recorded in the source and not completed.
    #[error(
        "a change of user {0} is pending in the store that is copied from: start a service over it to complete it"
    )]
    ChangePending(UserId),
    /// The target serves: a user was changed, or their sessions were revoked, while they were copied.
    #[error("user {0} was changed in the store that is copied to: it must not serve yet")]
    TargetServes(UserId),
}

/// Copies all users, with their password hashes.
///
/// # Errors
/// See [`CopyError`]; what was copied until then stays.
pub async fn copy_users(
    from: &dyn UserStore,
    to: &dyn UserStore,
    report: &mut (dyn FnMut(CopyProgress) + Send),
) -> Result<CopyProgress, CopyError> {
    let mut progress = CopyProgress::default();
    let mut after = None;
    loop {
        let users = from.list(after, USERS_AT_ONCE).await.map_err(CopyError::Source)?;
        let Some(last) = users.last() else { break };
        after = Some(last.id);
        for User { id, .. } in users {
            // Deleted meanwhile: taken away below, if it is there.
            let Some(record) = from.by_id(id).await.map_err(CopyError::Source)? else {
                continue;
            };
            progress.copied += u64::from(copy_user(&record, to).await?);
            progress.looked_at += 1;
        }
        report(progress);
    }
    let mut after = None;
    loop {
        let users = to.list(after, USERS_AT_ONCE).await.map_err(CopyError::Target)?;
        let Some(last) = users.last() else { break };
        after = Some(last.id);
        for User { id, .. } in users {
            if from.by_id(id).await.map_err(CopyError::Source)?.is_none() {
                to.delete(id).await.map_err(CopyError::Target)?;
                progress.taken_away += 1;
            }
        }
    }
    report(progress);
    Ok(progress)
}

/// Makes a user of the target what they are in the source. `false` if they were.
async fn copy_user(record: &UserRecord, to: &dyn UserStore) -> Result<bool, CopyError> {
    let id = record.user.id;
    if record.pending.is_some() {
        return Err(CopyError::ChangePending(id));
    }
    let Some(there) = to.by_id(id).await.map_err(CopyError::Target)? else {
        return match to.insert(record).await.map_err(CopyError::Target)? {
            Inserted::Yes => Ok(true),
            Inserted::EmailTaken => Err(CopyError::EmailTaken(id)),
        };
    };
    if there == *record {
        return Ok(false);
    }
    match to
        .update(&record.user, there.user.version)
        .await
        .map_err(CopyError::Target)?
    {
        Updated::Yes => {}
        Updated::EmailTaken => return Err(CopyError::EmailTaken(id)),
        Updated::VersionMoved => return Err(CopyError::TargetServes(id)),
    }
    match &record.password_hash {
        Some(hash) => {
            to.replace_password(id, ReplacedHash::Any, hash)
                .await
                .map_err(CopyError::Target)?;
        }
        None if there.password_hash.is_some() => return Err(CopyError::PasswordStays(id)),
        None => {}
    }
    Ok(true)
}

/// Copies all living sessions: their tokens prove them in the target as they did in the source. Old tokens in their grace are not
/// copied.
///
/// # Errors
/// See [`CopyError`]; what was copied until then stays.
pub async fn copy_sessions(
    from: &dyn SessionStore,
    to: &dyn SessionStore,
    now: Timestamp,
    report: &mut (dyn FnMut(CopyProgress) + Send),
) -> Result<CopyProgress, CopyError> {
    let mut progress = CopyProgress::default();
    let mut cursor = Some(ScanCursor::default());
    while let Some(at) = cursor {
        let page = from.scan(at, now).await.map_err(CopyError::Source)?;
        let looked_at = page.digests.len() as u64;
        let copied: u64 = stream::iter(page.digests)
            .map(|digest| copy_session(digest, from, to, now))
            .buffer_unordered(AT_ONCE)
            .try_fold(0, |copied, is_new| async move { Ok(copied + u64::from(is_new)) })
            .await?;
        progress.looked_at += looked_at;
        progress.copied += copied;
        report(progress);
        cursor = page.next;
    }
    let mut cursor = Some(ScanCursor::default());
    while let Some(at) = cursor {
        let page = to.scan(at, now).await.map_err(CopyError::Target)?;
        for digest in page.digests {
            let found = from.check(&digest, now).wait().await.map_err(CopyError::Source)?;
            if found.is_none() {
                to.destroy(SessionKey::Token(digest), now)
                    .await
                    .map_err(CopyError::Target)?;
                progress.taken_away += 1;
            }
        }
        cursor = page.next;
    }
    report(progress);
    Ok(progress)
}

/// Brings a session of the source to life in the target. `false` if it lives there, or no longer here.
async fn copy_session(
    digest: TokenDigest,
    from: &dyn SessionStore,
    to: &dyn SessionStore,
    now: Timestamp,
) -> Result<bool, CopyError> {
    if to
        .check(&digest, now)
        .wait()
        .await
        .map_err(CopyError::Target)?
        .is_some()
    {
        return Ok(false);
    }
    let Some(session) = from.get(&digest, now).await.map_err(CopyError::Source)? else {
        return Ok(false);
    };
    let user = session.live.user_id;
    let epoch = to.epoch(user).await.map_err(CopyError::Target)?;
    // The source has kept to its cap, and the target will from the next log-in on.
    let new = NewSession {
        digest,
        session,
        epoch,
        replaces: None,
        max_per_user: u32::MAX,
    };
    match to.create(new, now).await.map_err(CopyError::Target)? {
        Created::Yes => Ok(true),
        Created::EpochMoved => Err(CopyError::TargetServes(user)),
    }
}
