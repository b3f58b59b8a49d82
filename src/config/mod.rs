//! Flags, environment and configuration file, and every mistake in them at once.
