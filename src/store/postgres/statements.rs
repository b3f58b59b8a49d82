//! Every statement, prepared once for each connection. All take their values as parameters; none is put together at run time.

use tokio_postgres::{Client, Error, Statement};

macro_rules! statements {
    ($($name:ident: $sql:expr;)*) => {
        /// The statements of one connection. Each is a transaction of its own.
        pub(super) struct Statements {
            $(pub(super) $name: Statement,)*
        }

        impl Statements {
            /// Prepares all of them in one round trip or two.
            pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
                let ($($name,)*) = tokio::try_join!($(client.prepare($sql),)*)?;
                Ok(Self { $($name,)* })
            }
        }
    };
}

/// What `rows::live` reads, in its order.
macro_rules! live_columns {
    () => {
        "s.id, s.user_id, s.last_seen_at, s.authenticated_at, s.auth_method, s.lifetime_secs, s.idle_timeout_secs"
    };
}

/// What `rows::session` reads, in its order.
macro_rules! session_columns {
    () => {
        concat!(
            live_columns!(),
            ", s.client_ip, s.client_user_agent, s.client_label, s.attributes::text"
        )
    };
}

/// What `rows::user` reads, in its order.
macro_rules! user_columns {
    () => {
        "id, email, email_key, first_name, last_name, roles, created_at, updated_at, disabled_at, version"
    };
}

/// What `rows::pending_change` reads, in its order.
macro_rules! pending_columns {
    () => {
        "change_id, kind, effective_at, new_password_hash"
    };
}

/// What `rows::user_record` reads, in its order, of the users that a condition selects.
macro_rules! select_user_record {
    () => {
        concat!(
            "SELECT ",
            user_columns!(),
            ", password_hash, ",
            pending_columns!(),
            " FROM sessiond.users LEFT JOIN sessiond.pending_changes ON user_id = id"
        )
    };
}

/// That everyone's epoch has not ended the session `s`.
macro_rules! is_of_this_epoch {
    () => {
        "s.epoch >= (SELECT e.epoch FROM sessiond.everyone e)"
    };
}

/// The rest of a statement that begins `WITH ended AS (...)`: appends one revocation for each.
macro_rules! log_revocations {
    () => {
        ", logged AS (
            INSERT INTO sessiond.unnumbered_revocations (is_one, session_id, user_id)
            SELECT true, ended.id, ended.user_id FROM ended
        ) "
    };
}

statements! {
    ping: "SELECT 1";

    // The hot one: one row by its primary key. An old token has a statement of its own, which only a token that is not found
    // here costs; both in one would cost every check the half of it again.
    check: concat!(
        "SELECT ", live_columns!(), " FROM sessiond.sessions s WHERE s.digest = $1 AND ", is_of_this_epoch!()
    );
    // Several of the hot one. The inner query is planned like it, by the primary key, however small the table was when a connection
    // first asked; `= ANY` could be planned to read the whole table, and keep that plan while the table grows.
    check_many: concat!(
        "SELECT found.*, asked.n FROM unnest($1::bytea[]) WITH ORDINALITY AS asked (digest, n)
         CROSS JOIN LATERAL (
            SELECT ", live_columns!(), " FROM sessiond.sessions s
            WHERE s.digest = asked.digest AND ", is_of_this_epoch!(), " LIMIT 1
         ) found"
    );
    check_old: concat!(
        "SELECT ", live_columns!(), ", s.old_until FROM sessiond.sessions s
         WHERE s.old_digest = $1 AND s.old_until > $2 AND ", is_of_this_epoch!()
    );
    get: concat!(
        "SELECT ", session_columns!(), ", CASE WHEN s.digest <> $1 THEN s.old_until END FROM sessiond.sessions s
         WHERE (s.digest = $1 OR (s.old_digest = $1 AND s.old_until > $2)) AND s.valid_until > $2 AND ",
        is_of_this_epoch!()
    );
    list: concat!(
        "SELECT ", session_columns!(), " FROM sessiond.sessions s
         WHERE s.user_id = $1 AND s.id < $2 AND s.valid_until > $3 AND ", is_of_this_epoch!(),
        " ORDER BY s.id DESC LIMIT $4"
    );
    scan: concat!(
        "SELECT s.digest FROM sessiond.sessions s WHERE s.digest > $1 AND s.valid_until > $2 AND ", is_of_this_epoch!(),
        " ORDER BY s.digest LIMIT $3"
    );
    epoch: "SELECT e.epoch + coalesce((SELECT u.epoch FROM sessiond.epochs u WHERE u.user_id = $1), 0)
            FROM sessiond.everyone e";
    create: "SELECT sessiond.create_session($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14::text::jsonb, $15,
                                            $16, $17)";
    rotate: concat!(
        "WITH ended AS (
            UPDATE sessiond.sessions s
            SET digest = $2,
                old_digest = CASE WHEN $3::bigint > $5::bigint THEN $1 END,
                old_until = CASE WHEN $3::bigint > $5::bigint THEN $3 END,
                authenticated_at = coalesce($4, s.authenticated_at)
            WHERE s.digest = $1 AND s.valid_until > $5 AND ", is_of_this_epoch!(), " RETURNING s.*
        )", log_revocations!(), "SELECT ", session_columns!(), " FROM ended s"
    );
    // The condition is tried again on a row that was being rotated meanwhile: an old token in its grace still finds it.
    destroy_token: concat!(
        "WITH ended AS (
            DELETE FROM sessiond.sessions s
            WHERE (s.digest = $1 OR (s.old_digest = $1 AND s.old_until > $2)) AND s.valid_until > $2 AND ",
        is_of_this_epoch!(), " RETURNING s.id, s.user_id
        )", log_revocations!(), "SELECT id, user_id FROM ended"
    );
    destroy_id: concat!(
        "WITH ended AS (
            DELETE FROM sessiond.sessions s
            WHERE s.id = $1 AND s.valid_until > $2 AND ", is_of_this_epoch!(), " RETURNING s.id, s.user_id
        )", log_revocations!(), "SELECT id, user_id FROM ended"
    );
    revoke_user: "SELECT ended FROM sessiond.revoke_user($1, $2, $3)";
    revoke_everyone: "SELECT sessiond.revoke_everyone()";
    count_of_epoch: "SELECT count(*) FROM sessiond.sessions WHERE epoch = $1 AND valid_until > $2";
    count: concat!(
        "SELECT count(*) FROM sessiond.sessions s WHERE s.valid_until > $1 AND ", is_of_this_epoch!()
    );

    // Sessions that are to be looked at: those that have ended go, the others are looked at again when they may have. One
    // process at a time, and nothing that another transaction holds is waited for.
    sweep: concat!(
        "WITH due AS (
            SELECT s.id, s.valid_until <= $1 OR NOT ", is_of_this_epoch!(), " AS is_over
            FROM sessiond.sessions s
            WHERE (SELECT pg_try_advisory_xact_lock(8315178135962050929)) AND s.sweep_at <= $1
            ORDER BY s.sweep_at LIMIT $2 FOR UPDATE OF s SKIP LOCKED
        ), gone AS (
            DELETE FROM sessiond.sessions s USING due WHERE s.id = due.id AND due.is_over RETURNING 1
        ), kept AS (
            UPDATE sessiond.sessions s SET sweep_at = s.valid_until FROM due
            WHERE s.id = due.id AND NOT due.is_over RETURNING 1
        )
        SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM kept)"
    );
    trim_log: "DELETE FROM sessiond.revocations
               WHERE sequence <= (SELECT l.sequence - $1 FROM sessiond.revocation_log l)
                 AND sequence < (SELECT min(r.sequence) FROM sessiond.revocations r) + $2";

    clock: "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    // Rows are locked in the order of ids, like everywhere.
    touch: "WITH seen AS (
                SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
                    AS t (id, seen_at, valid_until, alive_at, late_at)
            ), locked AS (
                SELECT s.id FROM sessiond.sessions s WHERE s.id = ANY ($1) ORDER BY s.id FOR UPDATE
            )
            UPDATE sessiond.sessions s SET last_seen_at = t.seen_at, valid_until = t.valid_until
            FROM locked l, seen t
            WHERE s.id = l.id AND t.id = l.id AND s.last_seen_at < t.seen_at AND s.valid_until > t.alive_at
              AND extract(epoch FROM clock_timestamp()) * 1000 < t.late_at";

    number_revocations: "SELECT log, sequence, is_complete FROM sessiond.number_revocations($1)";
    revocations_after: "SELECT sequence, is_one, session_id, user_id FROM sessiond.revocations
                        WHERE sequence > $1 ORDER BY sequence LIMIT $2";

    insert_user: "INSERT INTO sessiond.users (id, email, email_key, first_name, last_name, roles, created_at, updated_at,
                                              disabled_at, version, password_hash)
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (email_key) DO NOTHING";
    user_by_id: concat!(select_user_record!(), " WHERE id = $1");
    user_by_email: concat!(select_user_record!(), " WHERE email_key = $1");
    list_users: concat!("SELECT ", user_columns!(), " FROM sessiond.users WHERE id > $1 ORDER BY id LIMIT $2");
    update_user: "UPDATE sessiond.users
                  SET email = $2, email_key = $3, first_name = $4, last_name = $5, roles = $6, created_at = $7,
                      updated_at = $8, disabled_at = $9, version = $10
                  WHERE id = $1 AND version = $11";
    set_password: "UPDATE sessiond.users SET password_hash = $2 WHERE id = $1";
    replace_password: "UPDATE sessiond.users SET password_hash = $2 WHERE id = $1 AND password_hash = $3";
    delete_user: "WITH forgotten AS (DELETE FROM sessiond.pending_changes WHERE user_id = $1)
                  DELETE FROM sessiond.users WHERE id = $1";

    // The lock keeps the user, and the password hash that was asked for, until the change is recorded.
    record_change: "WITH expected AS (
                        SELECT id FROM sessiond.users WHERE id = $1 AND ($2::text IS NULL OR password_hash = $2) FOR UPDATE
                    )
                    INSERT INTO sessiond.pending_changes (user_id, change_id, kind, effective_at, new_password_hash)
                    SELECT id, $3, $4, $5, $6 FROM expected ON CONFLICT (user_id) DO NOTHING";
    apply_change: "WITH applied AS (
                       DELETE FROM sessiond.pending_changes WHERE user_id = $1 AND change_id = $2 RETURNING *
                   ), changed AS (
                       UPDATE sessiond.users u SET password_hash = a.new_password_hash
                       FROM applied a WHERE u.id = a.user_id AND a.kind = 1
                   ), disabled AS (
                       UPDATE sessiond.users u
                       SET disabled_at = a.effective_at, updated_at = a.effective_at, version = u.version + 1
                       FROM applied a WHERE u.id = a.user_id AND a.kind = 2 AND u.disabled_at IS NULL
                   ), deleted AS (
                       DELETE FROM sessiond.users u USING applied a WHERE u.id = a.user_id AND a.kind = 3
                   )
                   SELECT count(*) FROM applied";
    pending_changes: concat!("SELECT user_id, ", pending_columns!(), " FROM sessiond.pending_changes LIMIT $1");
    count_users: "SELECT count(*) FROM sessiond.users";
}
