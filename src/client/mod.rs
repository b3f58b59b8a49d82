//! For services that check sessions: connection, coherent cache, tower layers.
