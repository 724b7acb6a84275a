//! Durable memory: what is kept of an account across sessions and restarts (architecture sections 3 and 12).
//!
//!     save(joe, Entries [/private/comment = "x"])   ->   Ok: it is on the disk;   Err: nothing has changed
//!     load(joe, Mailbox "INBOX")                    ->   its entries
//!
//! The store answers like a server: one answer to each request, and no request needs another one to be whole. There are two
//! engines behind one trait, and one suite of tests runs on both. The SQL is kept to what PostgreSQL understands too.
//!
//! Beside accounts there is the log of [`feed`]. Requirements N12, N14, N15.

pub mod feed;
pub mod memory;
pub mod sqlite;
#[cfg(test)]
mod suite;

use std::{collections::BTreeMap, fmt, pin::Pin, sync::Arc};

use crate::imap::entry::EntryName;

/// A user at a backend: two backends may have users of one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountName {
    /// The backend's name in the configuration.
    pub backend: Arc<str>,
    /// The user's name as this backend knows it.
    pub user: Arc<str>,
}

/// The name of a device of an account.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName(Box<str>);

/// Whose an entry is, within its account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// The user's, on all devices: what RFC 5464 calls private, and what is shared.
    #[default]
    User,
    /// One device's: the entries below `/private/vendor/lemonade/notify` and their like.
    Device(DeviceName),
}

/// Under which an entry is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The mailbox as the backend writes it; empty: the server itself.
    pub mailbox: Box<[u8]>,
    /// Whose.
    pub owner: Owner,
    /// The name.
    pub name: EntryName,
}

/// An annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub key: Key,
    /// Any octets.
    pub value: Box<[u8]>,
}

/// What becomes of an entry: its new value, or nothing where it is to be removed.
pub type Edit = (Key, Option<Box<[u8]>>);

/// A device that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: DeviceName,
    /// How it came by its name.
    pub source: Source,
    /// When it was first seen, in seconds since 1970.
    pub first_seen: i64,
    /// When it was last seen.
    pub last_seen: i64,
}

/// How a device came by its name (architecture section 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `user<separator>device` at login.
    Suffix,
    /// The field `device-id` of the ID command.
    Id,
    /// The entry `/private/vendor/lemonade/device`.
    Entry,
    /// A push registration.
    Registration,
    /// An operator.
    Operator,
    /// Nothing was said: the device `default`.
    Default,
}

/// Devices of an account that nothing is kept of: names are free, and a client can make up many.
pub const MOST_DEVICES: usize = 100;

/// A way in which a device is told: over which channel, and to which address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Way {
    /// The device.
    pub device: DeviceName,
    /// Channel and address, with a space between them. It gives the power to send, and is not shown.
    pub to: Box<str>,
}

/// A mailbox, and how far it was looked at, as JSON; none: nobody looks at it any more.
pub type Looked = (Box<[u8]>, Option<Box<str>>);

/// A thing that the outband side remembers of an account as a whole, by its name, as JSON; none: not any more. It may be a secret, and is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Memo {
    /// The name.
    pub name: Box<str>,
    /// What.
    pub state: Option<Box<str>>,
}

/// What one turn of the outband side changes: it stands as a whole or not at all, so that no message is lost between a mailbox that was
/// looked at and the routes that are to tell of it, and none is found twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Routes, as JSON; none: it is to be forgotten.
    pub routes: Vec<(Way, Option<Box<str>>)>,
    /// How far mailboxes were looked at.
    pub looked: Vec<Looked>,
    /// What is remembered of the account as a whole.
    pub memos: Vec<Memo>,
    /// Entries of the proxy's own: they are set whatever the account may keep.
    pub entries: Vec<Edit>,
    /// What is to be remembered of what was done. Of an account the last [`MOST_LINES`] lines are.
    pub journal: Vec<Line>,
}

/// A line in the journal of an account: what has become of a message, or of a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// Of which device; none: of all.
    pub device: Option<DeviceName>,
    /// In which mailbox; empty: in none.
    pub mailbox: Box<[u8]>,
    /// Of which messages, as a set of IMAP; empty: of none.
    pub uids: Box<str>,
    /// Of which notice of the device; 0: of none.
    pub seq: u64,
    /// What.
    pub what: Box<str>,
}

/// Lines of the journal that are kept of an account: some weeks of somebody who gets much mail, in about half a megabyte.
pub const MOST_LINES: usize = 4000;

/// How much an account may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Entries.
    pub entries: u64,
    /// Octets of all names and values.
    pub octets: u64,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// The entries of this mailbox, of the user and of all devices.
    Mailbox(Box<[u8]>),
    /// All entries.
    Entries,
    /// The devices.
    Devices,
    /// All routes, how far mailboxes were looked at, and memos.
    Outband,
    /// The journal, in the order in which it was written.
    Journal,
}

/// What was found, in the order of keys or names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Entries.
    Entries(Vec<Entry>),
    /// Devices.
    Devices(Vec<Device>),
    /// Routes, and how far mailboxes were looked at.
    Outband(Outband),
    /// Lines of the journal.
    Journal(Vec<Line>),
}

/// What is kept of how the devices of an account are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outband {
    /// The routes, as JSON.
    pub routes: Vec<(Way, Box<str>)>,
    /// How far mailboxes were looked at, as JSON.
    pub looked: Vec<(Box<[u8]>, Box<str>)>,
    /// What is remembered of the account as a whole.
    pub memos: Vec<Memo>,
}

/// What is to change: all of it or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets entries, or removes them where there is no value.
    Entries {
        /// Which, and to what. Of one key that is named twice the last one counts.
        edits: Vec<Edit>,
        /// What the account may have afterwards; nobody is refused for removing something.
        quota: Quota,
    },
    /// A mailbox, and what stands below it, has another name now: its entries, and how far it was looked at. What was left under such a
    /// name is removed. Other mailboxes below the new name keep theirs: a name may have had children before there was a mailbox of that
    /// name.
    Renamed {
        /// The old name.
        from: Box<[u8]>,
        /// The new one.
        to: Box<[u8]>,
        /// What separates names, if anything does.
        delimiter: Option<u8>,
    },
    /// INBOX was renamed: the new mailbox has its entries, and INBOX keeps them, as what is below it keeps its own
    /// (RFC 3501 section 6.3.5, RFC 5464 section 4).
    Copied {
        /// INBOX.
        from: Box<[u8]>,
        /// The new mailbox.
        to: Box<[u8]>,
        /// Names of entries that say something of INBOX itself, and are not copied.
        except: &'static [&'static str],
        /// What the account may have afterwards.
        quota: Quota,
    },
    /// A mailbox is no more.
    Deleted(Box<[u8]>),
    /// This change, where this entry stands as it does here, and the entry goes with it. Where it does not stand so the change
    /// was made already, or is not to be made any more: nothing changes.
    Once {
        /// The entry.
        mark: Entry,
        /// The change.
        change: Box<Change>,
    },
    /// A device was seen, perhaps for the first time. Of those that nothing is kept of, so many are remembered
    /// ([`MOST_DEVICES`]): the ones seen last.
    Seen(Device),
    /// What the outband side has done.
    Turn(Turn),
    /// A device, and all that is its own, is to be forgotten.
    Forget(DeviceName),
    /// All that is kept of the account is to be forgotten.
    Purge,
}

/// What a change has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Entries that were written, moved or removed.
    pub entries: u64,
    /// Devices that were written or removed.
    pub devices: u64,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The account would have more entries than it may.
    #[error("more than {0} entries")]
    TooMany(u64),
    /// The account would have more octets than it may.
    #[error("more than {0} octets")]
    TooLarge(u64),
    /// The disk is full, read-only or gone, or somebody else holds it.
    #[error("the store is not available: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// An answer that is on its way.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// An engine.
pub trait Store: Send + Sync {
    /// Changes what is kept. `Ok`: the change is on the disk, and a loss of power does not undo it.
    fn save<'a>(&'a self, account: &'a AccountName, change: &'a Change) -> Answer<'a, Changed>;

    /// Finds what is kept. An account that nobody knows has nothing.
    fn load<'a>(&'a self, account: &'a AccountName, query: &'a Query) -> Answer<'a, Found>;

    /// The accounts of which somebody may want to hear when he is away: those that have routes, and those of which a device has said something,
    /// since a process may have ended before it has made a route of that.
    fn subscribers(&self) -> Answer<'_, Vec<AccountName>>;
}

/// What is wrong with the name of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of a device is 1 to 64 letters, digits and -._:@+")]
pub struct DeviceNameError;

impl DeviceName {
    /// No name is longer.
    pub const LONGEST: usize = 64;

    /// Reads a name: it stands in logs, in URLs of the admin port and on command lines as it is.
    pub fn parse(octets: &[u8]) -> Result<Self, DeviceNameError> {
        let fits = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._:@+".contains(octet);
        let sound = !octets.is_empty() && octets.len() <= Self::LONGEST && octets.iter().all(fits);
        let name = std::str::from_utf8(octets).ok().filter(|_| sound);
        name.map(|name| Self(name.into())).ok_or(DeviceNameError)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for DeviceName {
    /// The device of those that say nothing of themselves.
    fn default() -> Self {
        Self("default".into())
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Memo({})", self.name)
    }
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Way({})", self.device)
    }
}

impl Owner {
    /// As a column: empty for the user.
    fn column(&self) -> &str {
        match self {
            Self::User => "",
            Self::Device(name) => name.as_str(),
        }
    }

    fn of_column(column: &str) -> Self {
        match column {
            "" => Self::User,
            name => Self::Device(DeviceName(name.into())),
        }
    }
}

impl Source {
    const NAMES: [(Self, &str); 6] = [
        (Self::Suffix, "suffix"),
        (Self::Id, "id"),
        (Self::Entry, "entry"),
        (Self::Registration, "registration"),
        (Self::Operator, "operator"),
        (Self::Default, "default"),
    ];

    /// Its name, in the store and in lists.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(source, _)| *source == self).map_or("default", |(_, name)| name)
    }

    /// The source of this name; one that nobody knows is none.
    pub fn find(name: &str) -> Self {
        Self::NAMES.iter().find(|(_, known)| *known == name).map_or(Self::Default, |(source, _)| *source)
    }
}

impl Quota {
    /// None: for what the proxy keeps for itself.
    pub const NONE: Self = Self { entries: u64::MAX, octets: u64::MAX };

    /// Whether an account with so many entries and octets keeps to it.
    fn judge(self, entries: u64, octets: u64) -> Result<(), StoreError> {
        match () {
            () if entries > self.entries => Err(StoreError::TooMany(self.entries)),
            () if octets > self.octets => Err(StoreError::TooLarge(self.octets)),
            () => Ok(()),
        }
    }
}

/// What is kept of these entries when they have been changed.
pub fn changed(entries: impl IntoIterator<Item = Entry>, edits: &[Edit]) -> BTreeMap<Key, Box<[u8]>> {
    let mut after: BTreeMap<_, _> = entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
    for (key, value) in edits {
        match value {
            Some(value) => _ = after.insert(key.clone(), value.clone()),
            None => _ = after.remove(key),
        }
    }
    after
}

/// The name of a mailbox after another one was renamed; `None`: it is not concerned.
fn renamed(mailbox: &[u8], from: &[u8], to: &[u8], delimiter: Option<u8>) -> Option<Box<[u8]>> {
    let rest = mailbox.strip_prefix(from)?;
    let concerned = rest.is_empty() || (rest.first().copied() == delimiter && delimiter.is_some());
    concerned.then(|| [to, rest].concat().into())
}
