//! How each store is opened for one test.
