//! Users and sessions in PostgreSQL.
