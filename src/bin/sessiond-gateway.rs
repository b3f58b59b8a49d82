//! The HTTP gateway as a process of its own.

fn main() {}
