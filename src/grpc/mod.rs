//! The contract served: one service method is unwrap, call, wrap.
