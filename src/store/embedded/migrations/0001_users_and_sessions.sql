-- Instants are milliseconds since 1970, ids and digests their bytes. Every `sum` covers the row it stands in (see seal.rs).

CREATE TABLE marks (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL,
    sum   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
    id            BLOB    NOT NULL PRIMARY KEY,
    email         TEXT    NOT NULL,
    email_key     TEXT    NOT NULL UNIQUE,
    first_name    TEXT    NOT NULL,
    last_name     TEXT    NOT NULL,
    roles         TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    disabled_at   INTEGER,
    version       INTEGER NOT NULL,
    password_hash TEXT,
    sum           INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Users whose sessions were all revoked at least once; the others stand at 0.
CREATE TABLE epochs (
    user_id BLOB    NOT NULL PRIMARY KEY,
    count   INTEGER NOT NULL,
    sum     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Rows are appended, and found by number only. An index here would cost more than all the rest: whatever else finds a session is
-- kept in memory. A row whose epoch is less than its user's has ended.
CREATE TABLE sessions (
    row               INTEGER NOT NULL PRIMARY KEY,
    digest            BLOB    NOT NULL,
    id                BLOB    NOT NULL,
    user_id           BLOB    NOT NULL,
    epoch             INTEGER NOT NULL,
    last_seen_at      INTEGER NOT NULL,
    authenticated_at  INTEGER NOT NULL,
    auth_method       INTEGER NOT NULL,
    lifetime_secs     INTEGER NOT NULL,
    idle_timeout_secs INTEGER NOT NULL,
    old_digest        BLOB,
    old_until         INTEGER,
    sum               INTEGER NOT NULL,
    client_ip         TEXT,
    user_agent        TEXT,
    label             TEXT,
    attributes        TEXT,
    details_sum       INTEGER
) STRICT;
