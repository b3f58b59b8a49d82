//! The built programs, driven by clients of other projects: grpcurl, buf, Python's grpcio, and curl with a cookie jar.
//!
//! `scripts/test tools` installs them. A tool that is missing fails its test.

mod clients;
mod programs;
mod readme;
mod tools;
mod transcript;
mod welcome;
