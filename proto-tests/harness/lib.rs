//! The cast of every protocol test: a client, a model backend, a proxy between them, a clock.
//!
//! | module | question |
//! |---|---|
//! | [`model`] | what would a real IMAP server do? (a small store whose capabilities and manners can be switched) |
//! | [`transcript`] | how does a test read as a session? (the format of `proto-tests/transcripts`) |
//! | [`cast`] | who carries whose octets, and at what moment of a virtual clock? |
//! | [`proxy`] | what does a session do between the two? (a real one, with a shell of lists around it) |
//! | [`events`] | what do those who follow hear, in a line that one can read? |
//! | [`notice`] | what is a device told, in tests that send it to others? |
//! | [`random`] | which run was that? (numbers from a printed seed) |
//!
//! No socket, no thread and no real time anywhere: the same seed gives the same run. [`transcript::live`] speaks over whatever
//! it is handed.

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod cast;
pub mod errand;
pub mod events;
pub mod model;
pub mod notice;
pub mod proxy;
pub mod random;
pub mod transcript;
