//! The cast of every protocol test: a client, a model backend, a clock.
