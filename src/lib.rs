//! lemonade-proxy: an IMAP proxy that gives an old IMAP server what mobile mail needs.
//!
//! Which directory answers which question:
//!
//! | directory | question |
//! |---|---|
//! | [`imap`] | how is the language written? (no opinion about sessions) |
//! | [`store`] | what is kept across sessions and restarts? |
//! | [`mailbox`] | what do we remember of one mailbox, and what can happen in it? |
//! | [`account`] | what is true of one user across sessions? |
//! | [`outband`] | how is a device that is away told? (pure, too) |
//! | [`session`] | what happens on one client's connection? (a pure state machine: no socket, no clock) |
//! | [`watch`] | what has come into a mailbox while its owner is away? (pure, too) |
//! | [`ext`] | which extensions do we add, one file each? |
//! | [`io`] | who touches the world: sockets, clocks, files, signals? |
//! | [`config`] | what may an operator set, and where did a value come from? |
//!
//! Each uses only what stands above it in this table, [`io`] excepted, which drives them all.

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod account;
pub mod config;
pub mod ext;
pub mod imap;
pub mod io;
pub mod mailbox;
pub mod outband;
pub mod session;
pub mod store;
pub mod units;
pub mod watch;
