//! What runs inside Redis, where nothing can come between: one script for each step that must not be seen half done.
//!
//! Every script may run twice: a Cluster's client sends a request again when the node that it went to goes away. Every script
//! touches keys of one slot only. The head of a script's file says what it takes and returns; the typed calls are beside this
//! module, in [`sessions`](super::sessions), [`index`](super::index) and [`revocations`](super::revocations).

use redis::{Cmd, Script as Hashed};
use std::sync::LazyLock;

/// A script, and the name that Redis keeps it under.
pub(crate) struct Script {
    source: String,
    sha: String,
}

impl Script {
    fn new(source: String) -> Self {
        let sha = Hashed::new(&source).get_hash().to_owned();
        Self { source, sha }
    }

    /// The text to be loaded.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// A command that runs the script with these keys. Its arguments are added as any command's.
    pub(super) fn on(&self, keys: &[String]) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(self.sha.as_str()).arg(keys.len()).arg(keys);
        cmd
    }
}

/// What a script of this kind begins with.
macro_rules! prelude {
    // Writes nothing.
    (reads) => {
        ""
    };
    // Brings a session to life. A server whose memory is full refuses it.
    (begins) => {
        ""
    };
    // Ends a session, keeps one alive, or completes what has begun: it works when the memory is full. What it takes is little, and
    // soon given back.
    (completes) => {
        include_str!("lua/allow_oom.lua")
    };
}

macro_rules! scripts {
    ($($name:ident: $kind:ident $($file:literal)+;)*) => {
        $(
            pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| {
                Script::new([prelude!($kind), $(include_str!(concat!("lua/", $file, ".lua"))),+].concat())
            });
        )*

        /// All of them, to be loaded before they are needed.
        pub(crate) fn all() -> Vec<&'static Script> {
            vec![$(LazyLock::force(&$name)),*]
        }
    };
}

scripts! {
    ADD_TO_INDEX: completes "index_functions" "add_to_index";
    ARRIVE: completes "record_functions" "arrive";
    BUMP_EPOCH: completes "bump_epoch";
    CREATE: begins "create";
    DEPART: completes "record_functions" "depart";
    END: completes "record_functions" "end";
    EXTEND_LIFETIME: begins "extend_lifetime";
    FIND_MISSING_RIGHTS: reads "find_missing_rights";
    FORGET_DISPLACED: completes "forget_displaced";
    FREE_EXPIRED: completes "free_expired";
    FREE_REVOKED: completes "record_functions" "free_revoked";
    LOCK_SWEEP: completes "lock_sweep";
    MARK_EVERYONE: completes "mark_everyone";
    MARK_USER: completes "mark_user";
    NEXT_SEQUENCE: completes "next_sequence";
    PREPARE_ARRIVAL: completes "prepare_arrival";
    PUBLISH: completes "publish";
    READ_HEAD: completes "read_head";
    READ_INDEX: reads "read_index";
    READ_SESSION: reads "record_functions" "read_session";
    READ_SHARD: reads "read_shard";
    REINDEX: completes "reindex";
    RELEASE_SWEEP: completes "release_sweep";
    SETTLE: completes "settle";
    TOUCH: completes "record_functions" "touch";
    UNDO_CREATE: completes "undo_create";
}
