//! A copy of everything while the store runs, and the way back.
