-- Changes of users that end their sessions, from their recording until they are applied: one for a user at most. A release that
-- does not know the table applies such changes without it.
CREATE TABLE sessiond.pending_changes (
    user_id           uuid PRIMARY KEY,
    change_id         uuid NOT NULL,
    -- 1: set the password, 2: disable, 3: delete.
    kind              smallint NOT NULL,
    -- Of a disabling: since when.
    effective_at      bigint,
    -- Of a password that is set.
    new_password_hash text
);
