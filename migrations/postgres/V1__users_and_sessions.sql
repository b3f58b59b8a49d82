-- What every release must keep: a release that is already running goes on with the schema that a newer one has migrated.
-- So a migration adds; it takes away only what no release before it has used. A function whose meaning changes gets a new name.
--
-- Everything lives in the schema "sessiond", which the program creates. Instants are milliseconds since 1970.

CREATE TABLE sessiond.users (
    id            uuid PRIMARY KEY,
    email         text NOT NULL,
    -- The folded email: what tells two addresses apart.
    email_key     text COLLATE "C" NOT NULL CONSTRAINT users_email_key UNIQUE,
    first_name    text NOT NULL,
    last_name     text NOT NULL,
    roles         text[] NOT NULL,
    created_at    bigint NOT NULL,
    updated_at    bigint NOT NULL,
    disabled_at   bigint,
    version       bigint NOT NULL,
    password_hash text
);

-- A touch rewrites a row but none of its indexed columns, so with space left on the page it needs no index work.
CREATE TABLE sessiond.sessions (
    -- SHA-256 of the token.
    digest            bytea PRIMARY KEY,
    id                uuid NOT NULL CONSTRAINT sessions_id UNIQUE,
    user_id           uuid NOT NULL,
    -- Everyone's epoch when the session was created: it lives only while that has not moved. The user's own epoch need not be
    -- asked: revoking the user's sessions deletes them, under the lock under which they are created.
    epoch             bigint NOT NULL,
    last_seen_at      bigint NOT NULL,
    -- When the session ends unless it is touched: what domain::LiveSession::valid_until says.
    valid_until       bigint NOT NULL,
    -- When a sweep is to look at the row. A touch leaves it, and the sweep sets it anew if the session still lives then.
    sweep_at          bigint NOT NULL,
    authenticated_at  bigint NOT NULL,
    -- 1: password, 2: caller.
    auth_method       smallint NOT NULL,
    lifetime_secs     bigint NOT NULL,
    idle_timeout_secs bigint NOT NULL,
    -- The token before the last rotation, and until when it still proves the session.
    old_digest        bytea,
    old_until         bigint,
    client_ip         text NOT NULL,
    client_user_agent text NOT NULL,
    client_label      text NOT NULL,
    attributes        jsonb NOT NULL
) WITH (fillfactor = 85);

CREATE UNIQUE INDEX sessions_old_digest ON sessiond.sessions (old_digest) WHERE old_digest IS NOT NULL;
CREATE INDEX sessions_by_user ON sessiond.sessions (user_id, id);
CREATE INDEX sessions_by_sweep ON sessiond.sessions (sweep_at);

-- How often all of a user's sessions were revoked. No row: never. Rows stay, also when the user is gone.
CREATE TABLE sessiond.epochs (
    user_id uuid PRIMARY KEY,
    epoch   bigint NOT NULL
);

-- How often everyone's sessions were revoked: one row.
CREATE TABLE sessiond.everyone (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    epoch   bigint NOT NULL
);
INSERT INTO sessiond.everyone (epoch) VALUES (0);

-- Revocations that have no number yet. See sessiond.number_revocations.
CREATE TABLE sessiond.unnumbered_revocations (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- One session: both ids. All of a user's: the user, and the session that was spared, if any. Everyone's: neither.
    is_one     boolean NOT NULL,
    session_id uuid,
    user_id    uuid
);

-- The log of revocations. Its numbers have no gaps.
CREATE TABLE sessiond.revocations (
    sequence   bigint PRIMARY KEY,
    is_one     boolean NOT NULL,
    session_id uuid,
    user_id    uuid
);

-- Which log it is, and its last number: one row.
CREATE TABLE sessiond.revocation_log (
    is_only  boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    log      bigint NOT NULL,
    sequence bigint NOT NULL,
    -- Which history of which server the numbers belong to.
    origin   text NOT NULL
);
INSERT INTO sessiond.revocation_log (log, sequence, origin) VALUES (0, 0, '');

-- Everything that orders revocations and creations of one user, or of everyone, waits for these locks. They last until the
-- transaction ends, which is one statement long.
CREATE FUNCTION sessiond.lock_user(the_user uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(8315178135962050926);
    -- Two users with one hash wait for each other, no more.
    PERFORM pg_advisory_xact_lock(hashtextextended(the_user::text, 8315178135962050926));
END $$;

-- False: the epoch (everyone's and the user's together) has moved, and nothing was changed.
CREATE FUNCTION sessiond.create_session(
    new_digest bytea, new_id uuid, the_user uuid, expected_epoch bigint, last_seen_at bigint, valid_until bigint,
    authenticated_at bigint, auth_method smallint, lifetime_secs bigint, idle_timeout_secs bigint, client_ip text,
    client_user_agent text, client_label text, attributes jsonb, replaced bytea, max_per_user bigint, now bigint
) RETURNS boolean LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    everyones_epoch bigint;
    users_epoch bigint;
    evicted uuid[];
    ended uuid[];
BEGIN
    PERFORM sessiond.lock_user(the_user);
    -- Each statement from here on sees what was committed before the lock was given.
    SELECT e.epoch, coalesce((SELECT u.epoch FROM sessiond.epochs u WHERE u.user_id = the_user), 0)
    INTO everyones_epoch, users_epoch FROM sessiond.everyone e;
    IF expected_epoch <> everyones_epoch + users_epoch THEN
        RETURN false;
    END IF;

    -- The new session has a place whatever its id says: a caller's clock that is behind must not cost it its own login.
    SELECT array_agg(oldest.id) INTO evicted FROM (
        SELECT s.id FROM sessiond.sessions s
        WHERE s.user_id = the_user AND s.valid_until > now AND s.epoch >= everyones_epoch
          AND (replaced IS NULL
               OR s.digest <> replaced AND (s.old_digest = replaced AND s.old_until > now) IS NOT TRUE)
        ORDER BY s.id DESC OFFSET greatest(max_per_user, 1) - 1
    ) AS oldest;

    -- Locked in the order of ids, like everything that locks several sessions: nobody waits in a circle. The condition is
    -- tried again on a row that was being rotated meanwhile, so an old token in its grace is not missed.
    WITH locked AS (
        SELECT s.id, s.user_id FROM sessiond.sessions s
        WHERE s.digest = replaced OR (s.old_digest = replaced AND s.old_until > now) OR s.id = ANY (evicted)
        ORDER BY s.id FOR UPDATE
    ), told AS (
        INSERT INTO sessiond.unnumbered_revocations (is_one, session_id, user_id)
        SELECT true, l.id, l.user_id FROM locked l
    )
    SELECT array_agg(l.id) INTO ended FROM locked l;
    IF ended IS NOT NULL THEN
        DELETE FROM sessiond.sessions s WHERE s.id = ANY (ended);
    END IF;

    INSERT INTO sessiond.sessions (
        digest, id, user_id, epoch, last_seen_at, valid_until, sweep_at, authenticated_at, auth_method, lifetime_secs,
        idle_timeout_secs, client_ip, client_user_agent, client_label, attributes
    ) VALUES (
        new_digest, new_id, the_user, everyones_epoch, last_seen_at, valid_until, valid_until, authenticated_at, auth_method,
        lifetime_secs, idle_timeout_secs, client_ip, client_user_agent, client_label, attributes
    );
    RETURN true;
END $$;

-- Moves the user's epoch and deletes their sessions. Says how many living ones ended, and which was spared.
CREATE FUNCTION sessiond.revoke_user(the_user uuid, excepted uuid, now bigint, OUT ended bigint, OUT spared uuid)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sessiond.lock_user(the_user);
    INSERT INTO sessiond.epochs AS u (user_id, epoch) VALUES (the_user, 1)
    ON CONFLICT (user_id) DO UPDATE SET epoch = u.epoch + 1;
    SELECT s.id INTO spared FROM sessiond.sessions s, sessiond.everyone e
    WHERE s.id = excepted AND s.user_id = the_user AND s.valid_until > now AND s.epoch >= e.epoch;
    -- What everyone's epoch has ended is left for the sweep: revoke_everyone's caller may be counting it.
    WITH locked AS (
        SELECT s.id FROM sessiond.sessions s, sessiond.everyone e
        WHERE s.user_id = the_user AND s.id IS DISTINCT FROM spared AND s.epoch >= e.epoch
        ORDER BY s.id FOR UPDATE OF s
    ), gone AS (
        DELETE FROM sessiond.sessions s USING locked l WHERE s.id = l.id RETURNING s.valid_until
    )
    SELECT count(*) FILTER (WHERE g.valid_until > now) INTO ended FROM gone g;
    INSERT INTO sessiond.unnumbered_revocations (is_one, session_id, user_id) VALUES (false, spared, the_user);
END $$;

-- Moves everyone's epoch, and says what it was. It counts nothing: nothing may keep it waiting.
CREATE FUNCTION sessiond.revoke_everyone() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    epoch_before bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(8315178135962050926);
    UPDATE sessiond.everyone SET epoch = epoch + 1 RETURNING epoch - 1 INTO epoch_before;
    INSERT INTO sessiond.unnumbered_revocations (is_one) VALUES (false);
    RETURN epoch_before;
END $$;

-- Gives numbers to revocations that were committed, and says how far the log goes now. is_complete: whatever was committed
-- before the call has a number.
--
-- A number that is taken when a revocation is written says nothing of when it is committed: a reader at 7 could find 6 behind
-- it later, and never look. A lock around writing and committing would put every logout in one queue behind the disk. So
-- numbers are given afterwards, to what is committed, by one at a time: the numbers' order is then the order in which they
-- become visible, and one flush of the disk serves many.
CREATE FUNCTION sessiond.number_revocations(at_most bigint, OUT log bigint, OUT sequence bigint, OUT is_complete boolean)
LANGUAGE plpgsql AS $$
DECLARE
    numbered bigint;
    the_origin text;
BEGIN
    -- A server that was promoted, or restored from a copy, may have lost numbers that were told. Its log is another one.
    SELECT system_identifier || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) INTO the_origin
    FROM pg_control_system();
    IF NOT EXISTS (SELECT FROM sessiond.unnumbered_revocations)
       AND EXISTS (SELECT FROM sessiond.revocation_log l WHERE l.origin = the_origin) THEN
        SELECT l.log, l.sequence, true INTO log, sequence, is_complete FROM sessiond.revocation_log l;
        RETURN;
    END IF;

    PERFORM pg_advisory_xact_lock(8315178135962050927);
    UPDATE sessiond.revocation_log l
    SET origin = the_origin, log = ('x' || left(replace(gen_random_uuid()::text, '-', ''), 12))::bit(48)::bigint
    WHERE l.origin <> the_origin;
    WITH moved AS (
        DELETE FROM sessiond.unnumbered_revocations
        WHERE id IN (SELECT id FROM sessiond.unnumbered_revocations ORDER BY id LIMIT at_most)
        RETURNING id, is_one, session_id, user_id
    )
    INSERT INTO sessiond.revocations
    SELECT l.sequence + row_number() OVER (ORDER BY m.id), m.is_one, m.session_id, m.user_id
    FROM moved m, sessiond.revocation_log l;
    GET DIAGNOSTICS numbered = ROW_COUNT;
    UPDATE sessiond.revocation_log l SET sequence = l.sequence + numbered
    RETURNING l.log, l.sequence INTO log, sequence;
    is_complete := numbered < at_most;
    IF numbered > 0 THEN
        PERFORM pg_notify('sessiond_revocations', '');
    END IF;
END $$;
