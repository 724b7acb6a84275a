//! TLS: which certificate we show, and whom we believe.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[tls]`: what we show to clients.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Certificates, chosen by the name the client asks for (SNI); the first one serves all other names. None at all: a
    /// self-signed one is made on first start and kept in the state directory.
    pub certificates: Vec<Certificate>,
}

/// One certificate and its key, both PEM files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The certificate, then those that lead from it to a root.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}
