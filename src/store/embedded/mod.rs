//! The default store: memory answers, SQLite remembers.
