//! The cast of every protocol test: a client, a model backend, a proxy between them, a clock.
//!
//! | module | question |
//! |---|---|
//! | [`model`] | what would a real IMAP server do? (a small store whose capabilities and manners can be switched) |
//! | [`random`] | which run was that? (numbers from a printed seed) |
//!
//! No socket, no thread and no real time anywhere: the same seed gives the same run.

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod model;
pub mod random;
