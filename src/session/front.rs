//! What the listener knows before its client has said a word: the same for all sessions that it begins.

use std::sync::OnceLock;

use super::{
    layer::Extension,
    plan::{Offer, Plans},
    settings::{Limits, Timeouts},
};
use crate::imap::{capability::Capabilities, sasl::Mechanism};

/// One listener, as its sessions see it. A new one is made when the configuration or a backend changes.
#[derive(Debug)]
pub struct Front {
    /// What a peer may make us hold.
    pub limits: Limits,
    /// How long a peer may keep silent.
    pub timeouts: Timeouts,
    /// What depends on the operator's word.
    pub offer: Offer,
    /// STARTTLS is to be had on a connection in clear.
    pub starttls: bool,
    /// A password may be said in clear.
    pub plaintext_login: bool,
    /// The mechanisms that all backends of this listener share, and that we can handle.
    pub mechanisms: Vec<Mechanism>,
    /// What a session at any of its backends is known to be told later. Many clients never ask again after login.
    pub shared: Capabilities,
    /// Says the time of day, in seconds since 1970: a session has no clock of its own.
    pub time_of_day: fn() -> i64,
    /// The extensions, top to bottom.
    pub extensions: &'static [&'static Extension],
    /// Plans that exist already.
    pub plans: Plans,
    /// What is told before login, in clear and under TLS, once somebody has asked.
    pub told: [OnceLock<Capabilities>; 2],
}

impl Front {
    /// What is told before login.
    pub fn capabilities(&self, secure: bool) -> &Capabilities {
        self.told[usize::from(secure)].get_or_init(|| self.tell(secure))
    }

    fn tell(&self, secure: bool) -> Capabilities {
        let mut words: Capabilities = ["IMAP4rev1", self.offer.literals.word(), "ID", "SASL-IR"].into_iter().collect();
        if self.starttls && !secure {
            words.add("STARTTLS");
        }
        match secure || self.plaintext_login {
            true => self.mechanisms.iter().for_each(|mechanism| words.add(&format!("AUTH={}", mechanism.name()))),
            false => words.add("LOGINDISABLED"),
        }
        self.shared.iter().for_each(|word| words.add(word));
        words
    }
}
