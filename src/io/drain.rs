//! How a shutdown is spread over time: `[drain]`.

use serde::{Deserialize, Serialize};

use crate::units::Span;

/// `[drain]`: what SIGTERM does to the sessions there are.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// The time over which the sessions are told to end, evenly, so that their clients do not all come back at once.
    pub spread: Span,
    /// From the signal to the end of whatever session is still there; more than `spread`.
    pub limit: Span,
}

impl Default for Drain {
    fn default() -> Self {
        Self { spread: Span::seconds(10), limit: Span::seconds(60) }
    }
}
