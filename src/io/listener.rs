//! Listeners: where clients come in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::network::Network;

/// One of `[[listeners]]`: an address where clients come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// Where to listen.
    pub address: SocketAddr,
    /// When TLS begins: at once, by STARTTLS, or never.
    pub tls: Security,
    /// Whether passwords may be sent without TLS. Default: only if the address is loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plaintext_login: Option<bool>,
    /// Networks of load balancers: their connections begin with a PROXY header that names the client, and only theirs.
    pub proxy_protocol_from: Vec<Network>,
    /// The backends that users of this listener may be routed to. Default: all.
    pub backends: Vec<String>,
    /// Which of the two literal extensions is offered (RFC 7888: never both).
    pub literal: Literal,
}

/// When TLS begins on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// When the client asks for it (RFC 3501 6.2.1).
    Starttls,
    /// With the first octet (RFC 8314 3.2).
    Implicit,
    /// Never; something in front of us does it.
    None,
}

/// Which literals a client may send without waiting (RFC 7888).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Literal {
    /// All of them: LITERAL+.
    Plus,
    /// Those of at most 4096 octets: LITERAL-.
    Minus,
}

impl Listener {
    /// A listener on this address, all else being default.
    pub fn at(address: SocketAddr, tls: Security) -> Self {
        Self {
            address,
            tls,
            plaintext_login: None,
            proxy_protocol_from: Vec::new(),
            backends: Vec::new(),
            literal: Literal::Plus,
        }
    }

    /// Whether a password may be sent without TLS here.
    pub fn allows_plaintext_login(&self) -> bool {
        self.plaintext_login.unwrap_or(self.address.ip().to_canonical().is_loopback())
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self::at(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1143), Security::Starttls)
    }
}
