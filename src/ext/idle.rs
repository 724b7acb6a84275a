//! IDLE: the client is told at once what happens in its mailbox (RFC 2177).
//!
//! Below: IDLE, or NOOP, or just STATUS.   Above: IDLE.
//!
//!     C: b IDLE
//!     S: + idling
//!     S: * 24 EXISTS
//!
//! What a client waits for is a matter between it and us, so this layer hears nothing: the client edge and `session/idle.rs` do
//! the work. Here stands that it is to be had, and that an operator may switch it off, or have the backend's own left alone
//! (`always`). Requirement N2.

use crate::session::layer::Extension;

/// RFC 2177.
pub const IDLE: Extension = Extension { name: "IDLE", spec: "RFC 2177", gives: &["IDLE"], ..Extension::NONE };
