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

macro_rules! scripts {
    ($($name:ident: $($file:literal)+;)*) => {
        $(
            pub(crate) static $name: LazyLock<Script> =
                LazyLock::new(|| Script::new([$(include_str!(concat!("lua/", $file, ".lua"))),+].concat()));
        )*

        /// All of them, to be loaded before they are needed.
        pub(crate) fn all() -> Vec<&'static Script> {
            vec![$(LazyLock::force(&$name)),*]
        }
    };
}

scripts! {
    ADD_TO_INDEX: "index_functions" "add_to_index";
    ARRIVE: "record_functions" "arrive";
    BUMP_EPOCH: "bump_epoch";
    CREATE: "create";
    DEPART: "record_functions" "depart";
    END: "record_functions" "end";
    EXTEND_LIFETIME: "extend_lifetime";
    FORGET_DISPLACED: "forget_displaced";
    FREE_EXPIRED: "free_expired";
    FREE_REVOKED: "record_functions" "free_revoked";
    MARK_EVERYONE: "mark_everyone";
    MARK_USER: "mark_user";
    NEXT_SEQUENCE: "next_sequence";
    PUBLISH: "publish";
    READ_HEAD: "read_head";
    READ_INDEX: "read_index";
    READ_SESSION: "record_functions" "read_session";
    READ_SHARD: "read_shard";
    REINDEX: "reindex";
    RELEASE_SWEEP: "release_sweep";
    SETTLE: "settle";
    TOUCH: "record_functions" "touch";
    UNDO_CREATE: "undo_create";
}
