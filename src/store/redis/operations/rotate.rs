//! How a session gets another token.
//!
//! The new token's digest is in another shard, so a session moves in steps. It first *waits* at the new place, where nothing finds
//! it yet. Then it *departs* from the old place, in one script that finds it there or not: of two rotations one departs, and what
//! is destroyed or revoked does not depart. That is when the rotation happens: from then on the old place has a forwarding note,
//! and the old token, if it has a grace, proves the session by way of it. All that is left is a move to be completed, which is the
//! same for the rotation itself and for an operation that meets the session after the rotation's process has died: the session
//! *arrives*, unless it has been ended meanwhile at the new place; the index gets the new place; the end of the old token is
//! published; and the note is *settled*.
//!
//! No operation waits for a session to arrive: one that follows it there, by the old token, by the user's index or to count it,
//! completes its arrival first. All write the same: the session as it waits, last seen when it departed, which the note holds. So a
//! rotation that stops half-way has either not happened, and what waits at the new place is lost space until the session would have
//! expired; or it has, and the session lives on in lists and, in its grace, under the old token, until it expires or is ended. Its
//! new token has been given to nobody.
//!
//! The forwarding note stays until the index leads past it and the end of the old token is published. If no operation gets that
//! far, a sweep does.

use super::Context;
use crate::{
    domain::{Session, Timestamp},
    store::{
        Rotation,
        redis::state::{Goal, View},
    },
};
use redis::RedisResult;

pub(crate) async fn rotate(
    context: &Context,
    rotation: &Rotation,
    now: Timestamp,
) -> RedisResult<Option<Session>> {
    let Context { db, recovery } = context;
    let found = recovery.resolve(Goal::LatestToken, &rotation.from, now).await?;
    let Some(found) = found.live() else {
        return Ok(None);
    };
    let waiting = found.record.arriving(rotation.authenticated_at);
    db.prepare_arrival(&rotation.to, &waiting, now).await?;
    let Some(note) = db.depart(rotation, &found.record, now).await? else {
        db.cancel_arrival(&rotation.to).await?;
        // Whatever came between has to be seen to its end, as by a check.
        recovery.resolve(Goal::Token, &rotation.from, now).await?;
        return Ok(None);
    };
    let moved = recovery
        .conclude(View::departed(rotation.from, note, waiting), now)
        .await?;
    moved.live().map(|found| found.session()).transpose()
}
