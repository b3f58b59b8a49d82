//! Users and sessions in this process's memory, gone with it.
