//! Admission: who may come in, and how often.

use serde::{Deserialize, Serialize};

use crate::units::Span;

/// `[admission]`: how much one address or one user may have of us.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admission {
    /// Connections of one address. A carrier puts up to a few thousand phones behind one IPv4 address, and each of them
    /// may hold several connections, so this is a bound on damage, not on use.
    pub connections_per_address: u32,
    /// Connections of one IPv6 /64, which is one phone, one household or one office, never a whole carrier.
    pub connections_per_64: u32,
    /// Sessions of one user. Five devices that open ten connections each.
    pub sessions_per_user: u32,
    /// Failed logins of one address within the window before it is refused. Behind a carrier's address some phones always
    /// have an old password, so this is far above what one of them can do.
    pub failures_per_address: u32,
    /// Failed logins of one user within the window before the user is refused.
    pub failures_per_user: u32,
    /// How long the next login waits after a failed one; it doubles with each further failure.
    pub failure_delay: Span,
    /// The longest such wait.
    pub failure_delay_limit: Span,
    /// How long after the last of them failures are remembered.
    pub failure_window: Span,
    /// TLS handshakes under way at the same time, in all: each costs a signature.
    pub handshakes: u32,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            connections_per_address: 4096,
            connections_per_64: 512,
            sessions_per_user: 50,
            failures_per_address: 500,
            failures_per_user: 20,
            failure_delay: Span::seconds(1),
            failure_delay_limit: Span::seconds(15),
            failure_window: Span::minutes(10),
            handshakes: 1024,
        }
    }
}
