//! What an operator says of accounts: `[account]` of the configuration.

use serde::{Deserialize, Serialize};

use super::special_use::Configured;
use crate::{store::Quota, units::Size};

/// `[account]`: what a user may keep, and how devices are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What stands between user and device in a login name: with `#`, `joe#phone` is the device `phone` of `joe`.
    pub device_separator: Option<char>,
    /// Annotations of one user, of all devices and mailboxes together.
    pub entries: u32,
    /// Octets of these annotations, names and values together.
    pub octets: Size,
    /// What mailboxes are used for, where neither user nor backend says so (RFC 6154).
    pub special_use: Configured,
}

impl Settings {
    /// The bounds as the store keeps them.
    pub fn quota(&self) -> Quota {
        Quota { entries: self.entries.into(), octets: self.octets.0 }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { device_separator: None, entries: 2000, octets: Size::mib(1), special_use: Configured::default() }
    }
}
