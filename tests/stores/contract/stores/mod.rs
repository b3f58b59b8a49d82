//! How each store is opened for one test.

pub(crate) mod embedded;
pub(crate) mod memory;
pub(crate) mod postgres;
pub(crate) mod redis;
