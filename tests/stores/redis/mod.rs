//! What Redis adds to the promises of every store: a server that has to be found, believed and shared, that forgets, and that fails.

mod failover;
mod full;
mod keys;
mod samples;
mod starting;
mod thread_connections;
mod trouble;
mod unfinished;
mod verifying;
