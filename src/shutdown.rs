//! When to stop, and how long stopping may take.
