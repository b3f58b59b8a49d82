-- Changes of users that end their sessions, from their recording until they are applied: one for a user at most.
CREATE TABLE pending_changes (
    user_id           BLOB    NOT NULL PRIMARY KEY,
    change_id         BLOB    NOT NULL,
    -- 1: set the password, 2: disable, 3: delete.
    kind              INTEGER NOT NULL,
    -- Of a disabling: since when.
    effective_at      INTEGER,
    -- Of a password that is set.
    new_password_hash TEXT,
    sum               INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
