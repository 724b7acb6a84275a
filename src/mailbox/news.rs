//! What somebody who looks after a mailbox has found there.
//!
//!     INBOX     18:20 have come, 19 is read already; 18 and 20 match `FROM "juliet"`; 20 begins so: ...
//!
//! Who has found it (`watch/`) and who tells of it (`outband/`) know nothing else of one another. Requirement N11.

use std::fmt;

use crate::imap::uid_set::UidSet;

/// What was found in a mailbox by one look.
#[derive(Clone, PartialEq, Eq)]
pub struct News {
    /// The mailbox.
    pub mailbox: Box<[u8]>,
    /// Under which UIDs are true; 0 where the backend does not say it.
    pub uidvalidity: u32,
    /// The lowest UID that was not looked at by now.
    pub next: u32,
    /// It was made anew, with this many messages in it: what is new among them nobody knows.
    pub renewed: Option<u32>,
    /// The messages that are new.
    pub arrived: UidSet,
    /// Those of them that somebody has read already.
    pub read: UidSet,
    /// Which of them match which search program.
    pub matched: Vec<(Box<[u8]>, UidSet)>,
    /// How many messages there are.
    pub messages: Option<u32>,
    /// The last one that is new, or one that was asked for, and how it begins.
    pub head: Option<(u32, Vec<u8>)>,
}

impl News {
    /// Nothing is new in this mailbox.
    pub fn of(mailbox: Box<[u8]>, uidvalidity: u32, next: u32) -> Self {
        let (arrived, read) = Default::default();
        Self {
            mailbox,
            uidvalidity,
            next,
            renewed: None,
            arrived,
            read,
            matched: Vec::new(),
            messages: None,
            head: None,
        }
    }
}

impl fmt::Debug for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "News(UIDVALIDITY {}, UID {} new, {} next)", self.uidvalidity, self.arrived, self.next)
    }
}
