//! Users that were read lately, because every commit makes SQLite forget what its readers have read.

use crate::{domain::UserId, store::UserRecord};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

const SHARDS: usize = 16;

/// Users in one shard, at most: in all some 65,000, or about 25 MB.
const IN_A_SHARD: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct UserCache {
    shards: [Mutex<CacheShard>; SHARDS],
}

#[derive(Debug, Default)]
struct CacheShard {
    kept: HashMap<UserId, Arc<UserRecord>>,
    /// In the order in which they were added. Some may have left the cache since.
    order: VecDeque<UserId>,
    /// Changes that were ever begun.
    begun: u64,
    /// Those that have not ended.
    under_way: u64,
}

/// A user who was not there, to be read from the file.
#[derive(Debug)]
pub(super) struct Missed {
    id: UserId,
    /// How many changes had been begun; `None`: one was under way.
    begun: Option<u64>,
}

impl UserCache {
    /// The user as committed last, or what is needed to keep them once they are read.
    pub(super) fn get(&self, id: UserId) -> Result<Arc<UserRecord>, Missed> {
        let shard = self.shard(id).lock();
        shard.kept.get(&id).map(Arc::clone).ok_or_else(|| Missed {
            id,
            begun: (shard.under_way == 0).then_some(shard.begun),
        })
    }

    /// Keeps a user who was read after they were missed, unless what was read may be out of date by now.
    pub(super) fn keep(&self, missed: &Missed, record: &UserRecord) {
        let mut shard = self.shard(missed.id).lock();
        if missed.begun == Some(shard.begun) {
            shard.keep(Arc::new(record.clone()));
        }
    }

    /// Forgets a user who is about to change. Until [`end_change`](Self::end_change) the cache does not know what is committed.
    pub(super) fn begin_change(&self, id: UserId) {
        let mut shard = self.shard(id).lock();
        shard.begun += 1;
        shard.under_way += 1;
        shard.kept.remove(&id);
    }

    /// The change is committed, or taken back.
    pub(super) fn end_change(&self, id: UserId) {
        self.shard(id).lock().under_way -= 1;
    }

    fn shard(&self, id: UserId) -> &Mutex<CacheShard> {
        // The end of an id is random.
        let [.., last] = id.to_bytes();
        &self.shards[usize::from(last) % SHARDS]
    }
}

impl CacheShard {
    fn keep(&mut self, record: Arc<UserRecord>) {
        if self.order.len() == IN_A_SHARD
            && let Some(first) = self.order.pop_front()
        {
            self.kept.remove(&first);
        }
        self.order.push_back(record.user.id);
        self.kept.insert(record.user.id, record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Email, Names, Roles, Timestamp, User};

    fn user(number: u16, version: u64) -> UserRecord {
        let mut id = [7; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        let email = format!("user-{number}@example.com");
        UserRecord {
            user: User {
                id: UserId::from_bytes(id),
                email: Email::from_stored(email.clone(), email),
                names: Names::from_stored(String::new(), String::new()),
                roles: Roles::from_stored(Vec::new()),
                created_at: Timestamp::from_millis(0),
                updated_at: Timestamp::from_millis(0),
                disabled_at: None,
                version,
            },
            password_hash: None,
            pending: None,
        }
    }

    fn missed(cache: &UserCache, id: UserId) -> Missed {
        cache.get(id).unwrap_err()
    }

    #[test]
    fn what_was_read_is_there_until_the_user_changes() {
        let (cache, read) = (UserCache::default(), user(1, 1));
        let id = read.user.id;
        cache.keep(&missed(&cache, id), &read);
        assert_eq!(cache.get(id).unwrap().user.version, 1);
        cache.begin_change(id);
        assert!(cache.get(id).is_err());
        cache.end_change(id);
        assert!(cache.get(id).is_err());
        cache.keep(&missed(&cache, id), &user(1, 2));
        assert_eq!(cache.get(id).unwrap().user.version, 2);
    }

    #[test]
    fn what_was_read_beside_a_change_is_not_kept() {
        let (cache, old) = (UserCache::default(), user(1, 1));
        let id = old.user.id;
        let before = missed(&cache, id);
        cache.begin_change(id);
        let beside = missed(&cache, id);
        cache.keep(&before, &old);
        cache.keep(&beside, &old);
        assert!(cache.get(id).is_err(), "before the commit");
        cache.end_change(id);
        cache.keep(&before, &old);
        cache.keep(&beside, &old);
        assert!(cache.get(id).is_err(), "after the commit");
    }

    #[test]
    fn there_are_never_too_many_and_the_first_to_come_goes_first() {
        let cache = UserCache::default();
        let all: Vec<_> = (0..IN_A_SHARD as u16 + 5).map(|number| user(number, 1)).collect();
        for user in &all {
            cache.keep(&missed(&cache, user.user.id), user);
        }
        let are_kept: Vec<_> = all.iter().map(|user| cache.get(user.user.id).is_ok()).collect();
        assert_eq!(are_kept.iter().position(|is_kept| *is_kept), Some(5));
        assert!(are_kept[5..].iter().all(|is_kept| *is_kept));
    }

    #[test]
    fn a_user_who_changes_again_and_again_takes_no_more_room() {
        let (cache, read) = (UserCache::default(), user(1, 1));
        let id = read.user.id;
        for _ in 0..IN_A_SHARD * 2 {
            cache.keep(&missed(&cache, id), &read);
            cache.begin_change(id);
            cache.end_change(id);
        }
        assert!(cache.shard(id).lock().order.len() <= IN_A_SHARD);
        cache.keep(&missed(&cache, id), &read);
        assert!(cache.get(id).is_ok());
    }
}
