//! How far a mailbox was looked at: which messages are old.
//!
//!     {"uidvalidity":385759045,"next":18}      UID 17 was seen, or never was; 18 will be news
//!
//! It is kept in the store, together with the routes that are to tell of what was found (architecture section 12): what stands below
//! `next` is found by nobody a second time, and what stands at or above it is lost by nobody. Requirement N11.

use serde::{Deserialize, Serialize};

use crate::session::aside::Examined;

/// How far a mailbox was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Under which UIDVALIDITY; 0 where the backend says none.
    pub uidvalidity: u32,
    /// The lowest UID that was not looked at.
    pub next: u32,
}

impl Cursor {
    /// All that is there is old: so the mailbox says, and this is its last message, if it has one. UIDNEXT is not asked: what comes has a
    /// larger UID than the last one anyway, and there are backends whose UIDNEXT runs ahead of what comes.
    pub fn behind(examined: Examined, last: Option<u32>) -> Self {
        let next = last.map_or(1, |last| last.saturating_add(1));
        Self { uidvalidity: examined.uidvalidity.unwrap_or_default(), next }
    }

    /// Whether UIDs mean in this mailbox what they meant.
    pub fn holds(&self, examined: Examined) -> bool {
        self.uidvalidity == examined.uidvalidity.unwrap_or_default()
    }
}
