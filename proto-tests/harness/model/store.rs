//! What a model backend stores: mailboxes, messages, flags. RFC 3501 section 2.3.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Settings,
    annotations::{Annotations, Changed},
    condstore::Ledger,
    mime,
};

/// A message's unique identifier (RFC 3501 2.3.1.1).
pub type Uid = u32;

/// A flag as it is written: `\Seen`, `$Forwarded`.
pub type Flag = String;

/// Everything behind a model backend.
#[derive(Debug)]
pub struct Store {
    /// How it behaves.
    pub settings: Settings,
    /// All mailboxes by name. A name without mailbox is one that only has children.
    pub mailboxes: BTreeMap<String, Mailbox>,
    /// What SUBSCRIBE named.
    pub subscriptions: BTreeSet<String>,
    /// The annotations of the server.
    pub annotations: Annotations,
    /// The rights of the user (RFC 4314) in mailboxes where they are not all of them.
    pub rights: BTreeMap<String, String>,
    /// How much of its quota is used, as QUOTA says it (RFC 9208 5.1).
    pub quota: Option<String>,
    /// Every change of an annotation, for those who want to be told.
    pub(super) changed: Vec<Changed>,
    /// Every command executed so far.
    pub executed: Vec<Vec<u8>>,
    pub(super) connections: u32,
}

/// One mailbox.
#[derive(Clone, Debug)]
pub struct Mailbox {
    /// UIDVALIDITY.
    pub uidvalidity: u32,
    /// UIDNEXT.
    pub uidnext: Uid,
    /// The messages in order of their UIDs.
    pub messages: Vec<Message>,
    /// What was expunged and can still be read by a session that has not been told.
    pub gone: Vec<Message>,
    /// `\Noselect`.
    pub noselect: bool,
    /// Its annotations.
    pub annotations: Annotations,
    /// When what was changed.
    pub(super) ledger: Ledger,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its UID.
    pub uid: Uid,
    /// Its flags, in the order in which they were set, without `\Recent`.
    pub flags: Vec<Flag>,
    /// No session has been told of it yet.
    pub recent: bool,
    /// INTERNALDATE.
    pub date: String,
    /// Header and body.
    pub octets: Vec<u8>,
}

/// The date of messages that have been given none.
pub const SOME_DATE: &str = "17-Jul-1996 02:44:25 -0700";

impl Store {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            mailboxes: BTreeMap::from([("INBOX".to_owned(), Mailbox::new())]),
            subscriptions: BTreeSet::new(),
            annotations: Annotations::new(),
            rights: BTreeMap::new(),
            quota: None,
            changed: Vec::new(),
            executed: Vec::new(),
            connections: 0,
        }
    }

    /// The mailbox of this name. INBOX is INBOX in any case (RFC 3501 5.1).
    pub fn mailbox(&mut self, name: &str) -> Option<&mut Mailbox> {
        self.mailboxes.get_mut(&canonical(name))
    }

    /// The mailbox of this name, created if it is missing.
    pub fn mailbox_or_new(&mut self, name: &str) -> &mut Mailbox {
        self.mailboxes.entry(canonical(name)).or_insert_with(Mailbox::new)
    }

    /// What the user may do with this mailbox (RFC 4314 2.1).
    pub(super) fn rights(&self, name: &str) -> &str {
        self.rights.get(&canonical(name)).map_or("lrswipkxtea", String::as_str)
    }

    /// Whether the user has this right.
    pub(super) fn allows(&self, name: &str, right: char) -> bool {
        self.rights(name).contains(right)
    }

    /// Whether there are names below this one.
    pub(super) fn has_children(&self, name: &str) -> bool {
        let prefix = format!("{name}{}", self.settings.separator);
        self.mailboxes.keys().any(|other| other.starts_with(&prefix))
    }
}

/// The one spelling of a mailbox name.
pub(super) fn canonical(name: &str) -> String {
    if name.eq_ignore_ascii_case("INBOX") { "INBOX".to_owned() } else { name.to_owned() }
}

impl Mailbox {
    pub(super) fn new() -> Self {
        Self {
            uidvalidity: 3_857_529_045,
            uidnext: 1,
            messages: Vec::new(),
            gone: Vec::new(),
            noselect: false,
            annotations: Annotations::new(),
            ledger: Ledger::default(),
        }
    }

    /// The message of this UID, also when it is gone and somebody may still ask for it.
    pub fn message(&self, uid: Uid) -> Option<&Message> {
        self.messages.iter().chain(&self.gone).find(|message| message.uid == uid)
    }

    /// The message of this UID, to be changed: none if it is gone.
    pub fn message_mut(&mut self, uid: Uid) -> Option<&mut Message> {
        self.messages.iter_mut().find(|message| message.uid == uid)
    }

    /// Adds a message with the next UID, or this one if it is higher.
    pub fn append(&mut self, uid: Option<Uid>, flags: Vec<Flag>, octets: Vec<u8>) -> &mut Message {
        let uid = uid.unwrap_or(0).max(self.uidnext);
        self.uidnext = uid + 1;
        self.messages.push(Message { uid, flags, recent: true, date: SOME_DATE.to_owned(), octets });
        self.messages.last_mut().expect("one has just been pushed")
    }

    /// Removes these messages.
    pub fn expunge(&mut self, uids: &[Uid]) {
        let (gone, left) = self.messages.drain(..).partition(|message| uids.contains(&message.uid));
        self.messages = left;
        self.gone.extend::<Vec<_>>(gone);
    }

    /// The UIDs in order.
    pub fn uids(&self) -> Vec<Uid> {
        self.messages.iter().map(|message| message.uid).collect()
    }
}

impl Message {
    /// Whether this flag is set; flags have no case.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|set| set.eq_ignore_ascii_case(flag))
    }

    /// Sets a flag.
    pub fn set(&mut self, flag: &str) {
        if !self.has(flag) {
            self.flags.push(flag.to_owned());
        }
    }

    /// Takes a flag away.
    pub fn clear(&mut self, flag: &str) {
        self.flags.retain(|set| !set.eq_ignore_ascii_case(flag));
    }

    /// The header with its empty line.
    pub(super) fn header(&self) -> &[u8] {
        mime::split(&self.octets).0
    }

    /// What follows the header.
    pub(super) fn body(&self) -> &[u8] {
        mime::split(&self.octets).1
    }

    /// The octets of a message nobody has written: its number says which one it is.
    pub fn plain(number: u32) -> Vec<u8> {
        format!("Subject: message {number}\r\n\r\nbody of {number}\r\n").into_bytes()
    }
}
