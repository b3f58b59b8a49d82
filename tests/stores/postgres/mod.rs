//! What PostgreSQL adds to the promises of every store: a server that has to be found, believed, shared, and that fails.

mod failing_over;
mod following;
mod network;
mod reading;
mod samples;
mod starting;
mod sweeping;
mod thread_connections;
mod touching;
mod trouble;
mod verifying;
