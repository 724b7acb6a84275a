//! One octet stream to a peer: TCP, or TLS over it.

use serde::{Deserialize, Serialize};

use crate::units::Span;

/// `[tcp]`: how soon the kernel finds out that a peer is gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tcp {
    /// Silence after which the kernel asks whether the peer is still there. Nine minutes come before the ten after which
    /// many firewalls forget a connection, and wake a phone's radio seldom enough.
    pub keepalive: Span,
    /// How long sent octets, or that question, may stay unacknowledged before the connection is given up.
    pub user_timeout: Span,
}

impl Default for Tcp {
    fn default() -> Self {
        Self { keepalive: Span::minutes(9), user_timeout: Span::minutes(2) }
    }
}
