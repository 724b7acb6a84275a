//! A mailbox as it was last seen: which messages, with which flags.
//!
//!     * OK [UIDVALIDITY 3857529045]
//!     * 1 FETCH (UID 11 FLAGS (\Seen))          messages  11:12
//!     * 2 FETCH (UID 12 FLAGS (\Seen work))     \Seen     11:12     work  12
//!
//! It holds under one UIDVALIDITY only: where that changes, nothing of it is true any more (RFC 3501 section 2.3.1.1).
//!
//! What it takes: 8 octets for each run of UIDs, once for the messages and once for each flag. Runs are long where a mailbox is
//! read from one end: usually some hundred octets. At worst, every second message has its own run everywhere: 4 octets a
//! message, and as many for each of at most 64 flags.

use crate::imap::uid_set::UidSet;

/// What a session has seen of its mailbox (RFC 5423 section 4, before it is an event).
#[derive(Clone, Debug)]
pub struct Sighting {
    /// Which mailbox, in the form that is the same for all sessions.
    pub mailbox: Box<[u8]>,
    /// The session's client has done it itself.
    pub own: bool,
    /// What.
    pub sight: Sight,
}

/// All of a mailbox, or what is other than it was.
#[derive(Clone, Debug)]
pub enum Sight {
    /// So it is.
    Whole(Shadow),
    /// So it has changed, in this order.
    Changes(Vec<Change>),
}

/// Something that happens to messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This one is there, with these flags and no others.
    Seen {
        /// Its UID.
        uid: u32,
        /// Its flags.
        flags: Vec<Box<str>>,
    },
    /// Of these, as far as they are there, flags were stored without an answer that says them (RFC 3501 6.4.6, .SILENT).
    Stored {
        /// Which messages.
        uids: UidSet,
        /// What becomes of the flags that they have.
        how: Storing,
        /// The flags.
        flags: Vec<Box<str>>,
    },
    /// These are gone.
    Gone(UidSet),
    /// All that were marked as deleted are gone (RFC 3501 6.4.2, CLOSE).
    Purged,
}

/// What STORE does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storing {
    /// These flags and no others.
    Replace,
    /// These too.
    Add,
    /// No more these.
    Remove,
}

/// One mailbox under one UIDVALIDITY.
#[derive(Clone, Debug)]
pub struct Shadow {
    uidvalidity: u32,
    /// The next UID as the server has said it, if it has; since then at least one more than the last that came.
    uidnext: Option<u32>,
    messages: UidSet,
    /// Each flag that some message has, as it was first written, and the messages that have it.
    flags: Vec<(Box<str>, UidSet)>,
}

impl Shadow {
    /// Flags that are followed; those that come later are not. The system has five, servers bound keywords at 26 and the like.
    pub const MOST_FLAGS: usize = 64;

    /// Nothing has been seen yet.
    pub fn new(uidvalidity: u32) -> Self {
        Self { uidvalidity, uidnext: None, messages: UidSet::default(), flags: Vec::new() }
    }

    /// The server has said which UID comes next.
    pub fn expect(&mut self, uidnext: u32) {
        let least = self.messages.last().map_or(0, |last| last.saturating_add(1));
        self.uidnext = Some(uidnext.max(least));
    }

    /// This message is there, with these flags and no others. \Recent is nobody's business (RFC 5423 section 4.2).
    pub fn see<'a>(&mut self, uid: u32, flags: impl IntoIterator<Item = &'a str>) {
        match self.messages.insert(uid) {
            true => self.uidnext = self.uidnext.map(|uidnext| uidnext.max(uid.saturating_add(1))),
            false => self.strip(uid),
        }
        for flag in flags.into_iter().filter(|flag| !flag.eq_ignore_ascii_case("\\Recent")) {
            self.mark(uid, flag);
        }
    }

    /// This message is gone.
    pub fn lose(&mut self, uid: u32) {
        self.messages.remove(uid);
        self.strip(uid);
    }

    /// This has happened.
    pub fn change(&mut self, change: &Change) {
        match change {
            Change::Seen { uid, flags } => self.see(*uid, flags.iter().map(|flag| &**flag)),
            Change::Stored { how, flags, .. } => {
                self.concerned(change).iter().for_each(|uid| self.store(uid, *how, flags));
            }
            Change::Gone(_) | Change::Purged => self.concerned(change).iter().for_each(|uid| self.lose(uid)),
        }
    }

    /// The messages that this concerns, as far as they are there or come by it.
    pub fn concerned(&self, change: &Change) -> UidSet {
        match change {
            Change::Seen { uid, .. } => [*uid].into_iter().collect(),
            Change::Stored { uids, .. } | Change::Gone(uids) => {
                let mut there = uids.clone();
                there.narrow(&self.messages);
                there
            }
            Change::Purged => self.flagged("\\Deleted").cloned().unwrap_or_default(),
        }
    }

    /// Of these messages alone, what there is. They are fewer than all, and so is the work.
    pub fn part(&self, uids: &UidSet) -> Self {
        let of = |all: &UidSet| uids.iter().filter(|uid| all.contains(*uid)).collect::<UidSet>();
        let flags = self.flags.iter().map(|(name, having)| (name.clone(), of(having)));
        Self {
            uidvalidity: self.uidvalidity,
            uidnext: self.uidnext,
            messages: of(&self.messages),
            flags: flags.filter(|(_, having)| !having.is_empty()).collect(),
        }
    }

    fn store(&mut self, uid: u32, how: Storing, flags: &[Box<str>]) {
        match how {
            Storing::Replace => self.see(uid, flags.iter().map(|flag| &**flag)),
            Storing::Add => flags.iter().for_each(|flag| self.mark(uid, flag)),
            Storing::Remove => self.flags.retain_mut(|(name, having)| {
                if flags.iter().any(|flag| flag.eq_ignore_ascii_case(name)) {
                    having.remove(uid);
                }
                !having.is_empty()
            }),
        }
    }

    fn mark(&mut self, uid: u32, flag: &str) {
        if let Some((_, having)) = self.flags.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(flag)) {
            having.insert(uid);
        } else if self.flags.len() < Self::MOST_FLAGS {
            self.flags.push((flag.into(), [uid].into_iter().collect()));
        }
    }

    fn strip(&mut self, uid: u32) {
        self.flags.retain_mut(|(_, having)| {
            having.remove(uid);
            !having.is_empty()
        });
    }

    /// Under which UIDVALIDITY all this is true.
    pub fn uidvalidity(&self) -> u32 {
        self.uidvalidity
    }

    /// The next UID, if the server has said it.
    pub fn uidnext(&self) -> Option<u32> {
        self.uidnext
    }

    /// The messages.
    pub fn messages(&self) -> &UidSet {
        &self.messages
    }

    /// Each flag that some message has, and the messages that have it.
    pub fn flags(&self) -> impl Iterator<Item = (&str, &UidSet)> {
        self.flags.iter().map(|(name, having)| (&**name, having))
    }

    /// The messages that have this flag: names differ in more than case (RFC 5788 section 3).
    pub fn flagged(&self, flag: &str) -> Option<&UidSet> {
        self.flags().find(|(name, _)| name.eq_ignore_ascii_case(flag)).map(|(_, having)| having)
    }

    /// The flags of one message.
    pub fn flags_of(&self, uid: u32) -> impl Iterator<Item = &str> {
        self.flags().filter(move |(_, having)| having.contains(uid)).map(|(name, _)| name)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::hash::{BuildHasher as _, RandomState};

    use super::*;

    /// Numbers from a seed: that of the environment variable `SEED`, else a new one, which is printed.
    pub(in crate::mailbox) struct Random(u64);

    impl Random {
        pub(in crate::mailbox) fn from_the_environment() -> Self {
            let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
            let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
            println!("SEED={seed}");
            Self(seed)
        }

        /// SplitMix64.
        pub(in crate::mailbox) fn below(&mut self, end: u32) -> u32 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) % u64::from(end)) as u32
        }
    }

    fn flags(shadow: &Shadow, uid: u32) -> Vec<&str> {
        shadow.flags_of(uid).collect()
    }

    #[test]
    fn what_was_seen_last_is_true() {
        let mut shadow = Shadow::new(7);
        shadow.see(11, ["\\Seen", "\\Recent", "work"]);
        shadow.see(12, ["\\seen", "WORK"]);
        assert_eq!((flags(&shadow, 11), flags(&shadow, 12)), (vec!["\\Seen", "work"], vec!["\\Seen", "work"]));
        assert_eq!(shadow.flagged("\\SEEN").unwrap().to_string(), "11:12");
        shadow.see(11, ["\\Flagged"]);
        shadow.lose(12);
        shadow.lose(13);
        assert_eq!((shadow.messages().to_string(), flags(&shadow, 11)), ("11".to_owned(), vec!["\\Flagged"]));
        assert_eq!((flags(&shadow, 12), shadow.flagged("work")), (vec![], None));
    }

    #[test]
    fn what_is_stored_in_silence_is_known_all_the_same() {
        let flag = |text: &str| vec![text.into()];
        let stored = |how, text: &str| Change::Stored { uids: [11, 13].into_iter().collect(), how, flags: flag(text) };
        let mut shadow = Shadow::new(7);
        shadow.change(&Change::Seen { uid: 11, flags: flag("a") });
        shadow.change(&Change::Seen { uid: 12, flags: flag("\\deleted") });
        shadow.change(&stored(Storing::Add, "b"));
        assert_eq!((flags(&shadow, 11), shadow.messages().to_string()), (vec!["a", "b"], "11:12".to_owned()));
        shadow.change(&stored(Storing::Remove, "A"));
        assert_eq!(flags(&shadow, 11), vec!["b"]);
        shadow.change(&stored(Storing::Replace, "c"));
        assert_eq!(flags(&shadow, 11), vec!["c"]);
        shadow.change(&Change::Purged);
        assert_eq!(shadow.messages().to_string(), "11");
        shadow.change(&Change::Gone([11].into_iter().collect()));
        assert!(shadow.messages().is_empty() && shadow.flags().next().is_none());
    }

    #[test]
    fn the_next_uid_is_above_all_that_came() {
        let mut shadow = Shadow::new(7);
        shadow.see(11, []);
        assert_eq!(shadow.uidnext(), None, "the server has not said it");
        shadow.expect(11);
        assert_eq!(shadow.uidnext(), Some(12));
        shadow.see(20, []);
        shadow.lose(20);
        assert_eq!(shadow.uidnext(), Some(21));
    }

    #[test]
    fn a_part_is_what_there_is_of_some_messages() {
        let mut shadow = Shadow::new(7);
        (1..=9).for_each(|uid| shadow.see(uid, (uid > 4).then_some("\\Deleted")));
        let part = shadow.part(&shadow.concerned(&Change::Gone([3, 8, 12].into_iter().collect())));
        assert_eq!(
            (part.messages().to_string(), part.flagged("\\deleted").unwrap().to_string()),
            ("3,8".into(), "8".into())
        );
        assert_eq!(shadow.concerned(&Change::Purged).to_string(), "5:9");
    }

    #[test]
    fn flags_are_bounded() {
        let mut shadow = Shadow::new(7);
        let names: Vec<String> = (0..1000).map(|number| format!("k{number}")).collect();
        (1..10).for_each(|uid| shadow.see(uid, names.iter().map(String::as_str)));
        assert_eq!(shadow.flags().count(), Shadow::MOST_FLAGS);
        assert_eq!(shadow.flagged("k63").unwrap().len(), 9);
    }

    #[test]
    fn a_mailbox_that_was_read_from_one_end_is_small() {
        let mut shadow = Shadow::new(7);
        (1..=100_000).for_each(|uid| shadow.see(uid, (uid <= 90_000).then_some("\\Seen")));
        assert_eq!((shadow.messages().runs().count(), shadow.flagged("\\Seen").unwrap().runs().count()), (1, 1));
    }
}
