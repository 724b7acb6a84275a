//! The mail of a walk: what is true, who else changes it, and what may have become of it.

use std::collections::BTreeSet;

use proto_tests::{
    cast::NOON,
    model::{Backend, Message, Settings},
    random::Random,
};

use crate::commands::{APPENDED, HARM, Meant};

/// UIDs below this one belong to messages that carry their UID in the subject.
pub(crate) const FIRST_COPY: u32 = 100_000;

/// A mailbox that nobody selects, and that only others change.
pub(crate) const LISTS: &str = "Lists";

/// How old a message of INBOX is at noon, in seconds: not two of them are alike, and all came on this day.
pub(crate) fn age(uid: u32) -> u32 {
    uid * 7919 % 50_000
}

/// Its INTERNALDATE, in one zone or another.
fn arrival(uid: u32) -> String {
    let zone = i64::from(uid % 25) - 12;
    let seconds = 21 * 86_400 + NOON % 86_400 - i64::from(age(uid)) + zone * 3600;
    let (day, hour, minute, second) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let sign = if zone < 0 { '-' } else { '+' };
    format!("{day}-Sep-2026 {hour:02}:{minute:02}:{second:02} {sign}{:02}00", zone.abs())
}

/// What all sessions of a walk have in common.
pub(crate) struct Mail {
    pub(crate) random: Random,
    /// Clients keep to RFC 3501 5.5.
    pub(crate) legal: bool,
    pub(crate) backend: Backend,
    /// Messages of INBOX that others have removed, or a client has marked as deleted.
    pub(crate) removed: BTreeSet<u32>,
    /// Messages that a client may have removed.
    may_go: BTreeSet<u32>,
    /// And those behind this one.
    pub(crate) may_go_behind: u32,
    next_uid: u32,
    pub(crate) trace: Vec<String>,
}

impl Mail {
    pub(crate) fn new(mut random: Random, legal: bool, settings: Settings) -> Self {
        let backend = Backend::new(settings);
        let count = random.below(12) as u32;
        {
            let mut store = backend.store();
            for uid in 1..=count {
                let mailbox = store.mailbox_or_new("INBOX");
                mailbox.append(Some(uid), Vec::new(), Message::plain(uid)).date = arrival(uid);
            }
            store.mailbox_or_new("Work").uidnext = FIRST_COPY;
            store.mailbox_or_new(LISTS);
        }
        Self {
            random,
            legal,
            backend,
            removed: BTreeSet::new(),
            may_go: BTreeSet::new(),
            may_go_behind: u32::MAX,
            next_uid: count + 1,
            trace: Vec::new(),
        }
    }

    /// The messages of this mailbox.
    pub(crate) fn messages(&self, mailbox: &str) -> Vec<Message> {
        self.backend.store().mailbox(mailbox).map(|mailbox| mailbox.messages.clone()).unwrap_or_default()
    }

    /// What is new in the other mailbox; or a copy that is not of these.
    pub(crate) fn new_copies(&self, uids: &Meant, before: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Vec<u8>> {
        let mut copies = self.work();
        // Another session may append meanwhile.
        copies.retain(|copy| !copy.starts_with(APPENDED));
        for known in before {
            if let Some(at) = copies.iter().position(|copy| copy == known) {
                copies.swap_remove(at);
            }
        }
        let meant: BTreeSet<Vec<u8>> = (1..self.next_uid).filter(|&uid| uids.may_be(uid)).map(Message::plain).collect();
        match copies.iter().find(|copy| !meant.contains(*copy)) {
            Some(copy) => Err(copy.clone()),
            None => Ok(copies),
        }
    }

    /// These may be gone from now on.
    pub(crate) fn let_go(&mut self, uids: &Meant) {
        self.may_go.extend(uids.uids.iter().chain(&uids.others));
        self.may_go_behind = self.may_go_behind.min(uids.beyond.unwrap_or(u32::MAX));
    }

    /// No message has gone that nobody has removed.
    pub(crate) fn check_gone(&self) -> Result<(), String> {
        let there: BTreeSet<u32> = self.backend.store().mailbox_or_new("INBOX").uids().into_iter().collect();
        let gone = (1..self.next_uid).find(|uid| {
            !there.contains(uid)
                && !self.may_go.contains(uid)
                && !self.removed.contains(uid)
                && *uid <= self.may_go_behind
        });
        gone.map_or(Ok(()), |uid| Err(format!("UID {uid} is gone, and nobody has removed it")))
    }

    /// What the other mailbox holds.
    pub(crate) fn work(&self) -> Vec<Vec<u8>> {
        let mut store = self.backend.store();
        store.mailbox_or_new("Work").messages.iter().map(|message| message.octets.clone()).collect()
    }

    /// Somebody else adds, removes, marks.
    pub(crate) fn other_client(&mut self) {
        let mailbox = if self.random.one_in(6) { LISTS } else { "INBOX" };
        let uids = self.backend.store().mailbox_or_new(mailbox).uids();
        let uid = if uids.is_empty() { 0 } else { *self.random.pick(&uids) };
        match self.random.below(4) {
            0 if uids.len() < 30 => self.append(mailbox),
            _ if uids.is_empty() => {}
            1 => {
                self.backend.store().mailbox_or_new(mailbox).expunge(&[uid]);
                if mailbox == "INBOX" {
                    self.removed.insert(uid);
                }
                self.note(0, 'O', format!("expunge {mailbox} {uid}").as_bytes());
            }
            _ => {
                let flag = *self.random.pick(&["\\Seen", "\\Flagged", "\\Answered"]);
                if let Some(message) = self.backend.store().mailbox_or_new(mailbox).message_mut(uid) {
                    if message.has(flag) { message.clear(flag) } else { message.set(flag) }
                }
                self.note(0, 'O', format!("flags {mailbox} {uid} {flag}").as_bytes());
            }
        }
    }

    pub(crate) fn append(&mut self, to: &str) {
        let uid = self.next_uid;
        {
            let mut store = self.backend.store();
            let mailbox = store.mailbox_or_new(to);
            match to {
                "INBOX" => mailbox.append(Some(uid), Vec::new(), Message::plain(uid)).date = arrival(uid),
                _ => _ = mailbox.append(None, Vec::new(), b"Subject: to the list\r\n\r\n".to_vec()),
            }
        }
        self.next_uid += u32::from(to == "INBOX");
        self.note(0, 'O', format!("append {to}").as_bytes());
    }

    /// No octet of a literal is ever executed.
    pub(crate) fn check_smuggling(&self) -> Result<(), String> {
        let harm = HARM.trim_end().as_bytes();
        if let Some(line) = self.backend.executed().iter().find(|line| line.starts_with(harm)) {
            return Err(format!("executed: {}", line.escape_ascii()));
        }
        if self.backend.store().mailboxes.contains_key("smuggled") {
            return Err("smuggled exists".to_owned());
        }
        Ok(())
    }

    /// Somebody does something: the client of a session, its proxy, others, or time.
    pub(crate) fn note(&mut self, session: usize, who: char, octets: &[u8]) {
        if octets.is_empty() {
            return;
        }
        let shown: String = octets.iter().take(400).flat_map(|octet| octet.escape_ascii()).map(char::from).collect();
        self.trace.push(format!("{session} {who}: {shown}"));
        if self.trace.len() > 400 {
            self.trace.drain(..200);
        }
    }
}
