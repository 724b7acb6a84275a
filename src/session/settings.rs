//! What an operator may set about one session: `[limits]` and `[timeouts]` of the configuration.

use serde::{Deserialize, Serialize};

use crate::units::{Size, Span};

/// `[limits]`: what a peer may make us hold. Each is a bound on memory, not a matter of taste.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// A command line before login, without its literals.
    pub line_before_login: Size,
    /// A line of a SASL exchange; OAuth tokens are long.
    pub sasl_line: Size,
    /// All literals of one command before login together.
    pub literals_before_login: Size,
    /// A command line after login, without its literals.
    pub line: Size,
    /// A literal up to this size joins the head of its command; a larger one is streamed.
    pub small_literal: Size,
    /// Depth of parentheses in a command that we look into.
    pub nesting: u8,
    /// The largest literal a client may send: what APPENDLIMIT says (RFC 7889).
    pub append: Size,
    /// Commands of one client in progress at the same time; further ones wait unread.
    pub pipelined: u8,
    /// Octets waiting for a peer that does not read, before the other side is no longer read.
    pub unsent: Size,
}

/// `[timeouts]`: how long a peer may keep silent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// From accept to the end of the TLS handshake.
    pub handshake: Span,
    /// From accept to a successful login.
    pub login: Span,
    /// From the backend's connection to its word on a login.
    pub backend_login: Span,
    /// Silence of a client before login.
    pub idle_before_login: Span,
    /// Silence of a client after login, unless it is in IDLE (RFC 3501 5.4: at least 30 minutes).
    pub idle: Span,
    /// Silence of a backend that owes us an answer.
    pub backend: Span,
    /// Re-issue of an IDLE towards the backend (RFC 2177: before 30 minutes are over).
    pub idle_renewal: Span,
    /// `* OK Still here` to idling clients; off when absent, because chatter keeps radios awake (RFC 5383).
    pub still_here: Option<Span>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_before_login: Size::kib(8),
            sasl_line: Size::kib(12),
            literals_before_login: Size::kib(4),
            line: Size::kib(64),
            small_literal: Size::kib(4),
            nesting: 100,
            append: Size::mib(256),
            pipelined: 64,
            unsent: Size::kib(64),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            handshake: Span::seconds(20),
            login: Span::minutes(3),
            backend_login: Span::seconds(30),
            idle_before_login: Span::seconds(60),
            idle: Span::minutes(30),
            backend: Span::minutes(10),
            idle_renewal: Span::minutes(28),
            still_here: None,
        }
    }
}
