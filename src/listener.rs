//! Accepts connections, within limits, and drains them.
