//! What a session knows of its selected mailbox, and what it has yet to be told. RFC 3501 5.2, 7.3 and 7.4.
//!
//!     S: * 22 EXPUNGE                          a message went, and this command may say so
//!     S: * 23 EXISTS                           one came
//!     S: * 14 FETCH (FLAGS (\Seen \Deleted))   one changed

use std::collections::BTreeSet;

use super::{
    condstore::Syncing,
    store::{Flag, Mailbox, Message, Store, Uid},
    syntax::runs,
};
use crate::random::Random;

/// The selected mailbox as this session believes it to be.
#[derive(Debug)]
pub(super) struct Selected {
    pub(super) name: String,
    pub(super) read_only: bool,
    /// Nothing of what others do is seen in it.
    pub(super) snapshot: bool,
    /// The messages in order: number `n` is `known[n - 1]`.
    pub(super) known: Vec<Known>,
    /// What is `\Recent` to this session.
    pub(super) recent: BTreeSet<Uid>,
    /// What `$` stands for (RFC 5182); what is expunged is in no set any more.
    pub(super) saved: BTreeSet<Uid>,
    /// What its connection has switched on (RFC 7162).
    pub(super) syncing: Syncing,
}

/// A message as this session was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) uid: Uid,
    pub(super) flags: Vec<Flag>,
}

impl Selected {
    pub(super) fn new(name: &str, read_only: bool, snapshot: bool, syncing: Syncing, mailbox: &mut Mailbox) -> Self {
        let mut selected = Self {
            name: name.to_owned(),
            read_only,
            snapshot,
            known: Vec::new(),
            recent: BTreeSet::new(),
            saved: BTreeSet::new(),
            syncing,
        };
        selected.learn(mailbox);
        selected
    }

    /// Takes in what arrived; how many there were.
    fn learn(&mut self, mailbox: &mut Mailbox) -> usize {
        let last = self.known.last().map_or(0, |known| known.uid);
        let mut arrived = 0;
        for message in mailbox.messages.iter_mut().filter(|message| message.uid > last) {
            if message.recent {
                self.recent.insert(message.uid);
            }
            // RFC 3501 2.3.2: EXAMINE leaves it recent to the next session.
            message.recent &= self.read_only;
            self.known.push(Known { uid: message.uid, flags: message.flags.clone() });
            arrived += 1;
        }
        arrived
    }

    pub(super) fn uids(&self) -> Vec<Uid> {
        self.known.iter().map(|known| known.uid).collect()
    }

    /// The number of this message for this session.
    pub(super) fn number(&self, uid: Uid) -> Option<usize> {
        self.known.iter().position(|known| known.uid == uid).map(|at| at + 1)
    }

    /// This session's flags of a message: `\Recent` is its own affair.
    pub(super) fn flags(&self, message: &Message) -> String {
        let recent = self.recent.contains(&message.uid).then_some("\\Recent");
        let known = self.known.iter().find(|known| self.snapshot && known.uid == message.uid);
        known
            .map_or(&message.flags, |known| &known.flags)
            .iter()
            .map(String::as_str)
            .chain(recent)
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The session has been told these flags.
    pub(super) fn told(&mut self, message: &Message) {
        if let Some(known) = self.known.iter_mut().find(|known| known.uid == message.uid) {
            known.flags.clone_from(&message.flags);
        }
    }

    pub(super) fn tell(&mut self, store: &mut Store, may_expunge: bool, random: &mut Random, out: &mut Vec<u8>) {
        let manners = store.settings.mischief.clone();
        let Some(mailbox) = store.mailbox(&self.name).filter(|_| !self.snapshot) else { return };
        mailbox.take_down();
        if may_expunge {
            let left: BTreeSet<Uid> = mailbox.messages.iter().map(|message| message.uid).collect();
            self.tell_removed(|uid| !left.contains(&uid), manners.silent_expunge, out);
        }
        if !manners.silent_arrival && self.learn(mailbox) > 0 {
            say(out, &format!("* {} EXISTS", self.known.len()));
            say(out, &format!("* {} RECENT", self.recent.len()));
        }
        self.tell_flags(mailbox, random, out);
    }

    /// Says that messages have gone.
    pub(super) fn tell_removed(&mut self, is_gone: impl Fn(Uid) -> bool, silently: bool, out: &mut Vec<u8>) {
        let (mut at, mut vanished) = (0, Vec::new());
        while at < self.known.len() {
            if !is_gone(self.known[at].uid) {
                at += 1;
                continue;
            }
            let removed = self.known.remove(at);
            self.recent.remove(&removed.uid);
            match silently {
                true => {}
                false if self.syncing.vanished => vanished.push(removed.uid),
                false => say(out, &format!("* {} EXPUNGE", at + 1)),
            }
        }
        if !vanished.is_empty() {
            say(out, &format!("* VANISHED {}", runs(&vanished)));
        }
    }

    fn tell_flags(&mut self, mailbox: &Mailbox, random: &mut Random, out: &mut Vec<u8>) {
        for at in 0..self.known.len() {
            let uid = self.known[at].uid;
            let Some(message) = mailbox.messages.iter().find(|message| message.uid == uid) else { continue };
            if message.flags != self.known[at].flags {
                let flags = self.flags(message);
                self.known[at].flags.clone_from(&message.flags);
                let modseq = self.modseq_of(mailbox, uid);
                // An unsolicited FETCH may name the UID, and need not; RFC 7162 3.2.3: it has to.
                let named = self.syncing.vanished || (self.recent.contains(&uid) && random.one_in(2));
                let uid = if named { format!(" UID {uid}") } else { String::new() };
                say(out, &format!("* {} FETCH (FLAGS ({flags}){uid}{modseq})", at + 1));
            }
        }
    }
}

/// Writes a line.
pub(super) fn say(out: &mut Vec<u8>, line: &str) {
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(b"\r\n");
}
