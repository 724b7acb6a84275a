//! Mod-sequences, and what has vanished since one of them. RFC 7162 (CONDSTORE, QRESYNC), but for conditional STORE.
//!
//!     C: a ENABLE QRESYNC
//!     C: b SELECT INBOX (QRESYNC (3857529045 9))
//!     S: * OK [HIGHESTMODSEQ 12] Highest
//!     S: * VANISHED (EARLIER) 3:4
//!     S: * 2 FETCH (UID 5 FLAGS (\Seen) MODSEQ (12))
//!     S: b OK [READ-WRITE] SELECT completed
//!     S: * VANISHED 5                                 in the place of EXPUNGE, from ENABLE on

use std::collections::BTreeMap;

use super::{
    Connection,
    changes::{Selected, say},
    connection::{End, State},
    store::{Flag, Mailbox, Uid},
    syntax::{Cursor, runs},
};

/// When what was changed in a mailbox. Whoever changes it need not say so: it is looked at before anything is told of it.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    highest: u64,
    /// The messages that were there when it was looked at last: their flags, and since when they have them.
    known: BTreeMap<Uid, (Vec<Flag>, u64)>,
    vanished: BTreeMap<Uid, u64>,
}

/// What a connection has switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Syncing {
    /// FETCH tells mod-sequences.
    pub(super) modseq: bool,
    /// VANISHED is said instead of EXPUNGE.
    pub(super) vanished: bool,
}

/// What a FETCH is only about (section 3.1.4.1).
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    pub(super) modseq: u64,
    vanished: bool,
}

/// What behind a mailbox's name asks for.
pub(super) enum Resync {
    Nothing,
    /// What has changed since this mod-sequence, if UIDs mean what they meant.
    Since {
        uidvalidity: u32,
        modseq: u64,
    },
}

impl Default for Ledger {
    fn default() -> Self {
        Self { highest: 1, known: BTreeMap::new(), vanished: BTreeMap::new() }
    }
}

impl Mailbox {
    /// Takes down what has changed.
    pub(super) fn take_down(&mut self) {
        let Ledger { highest, known, vanished } = &mut self.ledger;
        for message in &self.messages {
            if known.get(&message.uid).is_none_or(|(flags, _)| *flags != message.flags) {
                *highest += 1;
                known.insert(message.uid, (message.flags.clone(), *highest));
            }
        }
        let gone: Vec<Uid> =
            known.keys().copied().filter(|uid| self.messages.iter().all(|message| message.uid != *uid)).collect();
        for uid in gone {
            *highest += 1;
            known.remove(&uid);
            vanished.insert(uid, *highest);
        }
    }

    /// HIGHESTMODSEQ.
    pub(super) fn highest_modseq(&self) -> u64 {
        self.ledger.highest
    }

    /// The mod-sequence of this message, also when it is gone and somebody still reads it.
    pub(super) fn modseq(&self, uid: Uid) -> u64 {
        let Ledger { known, vanished, .. } = &self.ledger;
        known.get(&uid).map(|(_, modseq)| *modseq).or(vanished.get(&uid).copied()).unwrap_or(1)
    }

    /// What has vanished since, but for these, of which the session is yet to hear.
    fn vanished_since(&self, modseq: u64, but_for: &[Uid]) -> Vec<Uid> {
        let later = self.ledger.vanished.iter().filter(|(_, when)| **when > modseq);
        later.map(|(uid, _)| *uid).filter(|uid| !but_for.contains(uid)).collect()
    }
}

impl Connection {
    /// ENABLE.
    pub(super) fn sync(&mut self, word: &str) {
        let vanished = word == "QRESYNC";
        if vanished || word == "CONDSTORE" {
            self.syncing.modseq = true;
            self.syncing.vanished |= vanished;
        }
        if let State::Selected(selected) = &mut self.state {
            selected.syncing = self.syncing;
        }
    }

    /// Reads what stands behind a mailbox's name.
    pub(super) fn resync(&mut self, cursor: &mut Cursor<'_>) -> Result<Resync, End> {
        if !self.backend.store().settings.has("CONDSTORE") || !cursor.eat(b" (") {
            return Ok(Resync::Nothing);
        }
        let resync = if cursor.eat(b"CONDSTORE") {
            self.sync("CONDSTORE");
            Resync::Nothing
        } else {
            // Section 3.2.5: not before ENABLE.
            if !self.syncing.vanished {
                return Err(End::Bad("QRESYNC is not enabled".to_owned()));
            }
            cursor.expect(b"QRESYNC (")?;
            let uidvalidity = cursor.number()?;
            cursor.space()?;
            let modseq = cursor.number()?.into();
            cursor.expect(b")")?;
            Resync::Since { uidvalidity, modseq }
        };
        cursor.expect(b")")?;
        Ok(resync)
    }

    /// Reads `(CHANGEDSINCE 9 VANISHED)` behind the items of a FETCH.
    pub(super) fn since(&mut self, cursor: &mut Cursor<'_>, by_uid: bool) -> Result<Option<Since>, End> {
        if !self.backend.store().settings.has("CONDSTORE") || !cursor.eat(b" (CHANGEDSINCE ") {
            return Ok(None);
        }
        let modseq = cursor.number()?.into();
        let vanished = cursor.eat(b" VANISHED");
        cursor.expect(b")")?;
        if vanished && !(by_uid && self.syncing.vanished) {
            return Err(End::Bad("VANISHED is for UID FETCH with QRESYNC".to_owned()));
        }
        self.sync("CONDSTORE");
        Ok(Some(Since { modseq, vanished }))
    }

    /// What has vanished, as far as a FETCH asks for it.
    pub(super) fn tell_vanished(&mut self, since: Since, out: &mut Vec<u8>) {
        if since.vanished {
            self.with_selected(|selected, store, _| {
                let Some(mailbox) = store.mailbox(&selected.name) else { return };
                mailbox.take_down();
                say_earlier(&mailbox.vanished_since(since.modseq, &selected.uids()), out);
            });
        }
    }
}

impl Selected {
    /// Section 3.2.5.2: what a client that comes again has missed.
    pub(super) fn tell_missed(&self, resync: &Resync, mailbox: &mut Mailbox, out: &mut Vec<u8>) {
        let Resync::Since { uidvalidity, modseq } = *resync else { return };
        if uidvalidity != mailbox.uidvalidity {
            return;
        }
        say_earlier(&mailbox.vanished_since(modseq, &[]), out);
        for (number, message) in (1..).zip(&mailbox.messages) {
            let (uid, changed) = (message.uid, mailbox.modseq(message.uid));
            if changed > modseq {
                let flags = self.flags(message);
                say(out, &format!("* {number} FETCH (UID {uid} FLAGS ({flags}) MODSEQ ({changed}))"));
            }
        }
    }

    /// What a FETCH says of a message beside its flags.
    pub(super) fn modseq_of(&self, mailbox: &Mailbox, uid: Uid) -> String {
        if self.syncing.modseq { format!(" MODSEQ ({})", mailbox.modseq(uid)) } else { String::new() }
    }
}

fn say_earlier(uids: &[Uid], out: &mut Vec<u8>) {
    if !uids.is_empty() {
        say(out, &format!("* VANISHED (EARLIER) {}", runs(uids)));
    }
}
