//! What a device prefers for a mailbox (source document 001 section 11.3), and in which order that holds.
//!
//!     /notify/outband channel.priv "SMS=WAKEUP" address.priv "+4915112345678" limit.priv "total=50"
//!     /notify/inband  push.priv "push" msgformat.priv "(UID FLAGS ENVELOPE)"
//!     /notify/event   filter.priv "NEW"
//!
//! The mailbox's own word holds, else the device's default under `/notify/default`, else what is built in. Requirement N13.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::channel::{Channel, ChannelError, Kind};
use crate::{
    account::Settings,
    imap::{entry::EntryName, fetch::FetchItems},
    store::{self, DeviceName, Edit, Entry, Key, Owner},
};

/// Below this stand the entries of source document 001, under their names of RFC 5464.
pub const NOTIFY: &str = "/private/vendor/lemonade/notify";

/// A preference: which attribute of which entry it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preference {
    /// `/notify/outband` channel.priv
    Channel,
    /// `/notify/outband` address.priv
    Address,
    /// `/notify/outband` limit.priv
    Limit,
    /// `/notify/inband` msgformat.priv
    MessageFormat,
    /// `/notify/inband` push.priv
    Push,
    /// `/notify/event` filter.priv
    Filter,
}

/// Group, attribute, what it is when nobody says anything.
const TABLE: [(Preference, &str, &str, &str); 6] = [
    (Preference::Channel, "outband", "channel", "NONE"),
    (Preference::Address, "outband", "address", ""),
    (Preference::Limit, "outband", "limit", ""),
    (Preference::MessageFormat, "inband", "msgformat", "(UID FLAGS)"),
    (Preference::Push, "inband", "push", "pull"),
    (Preference::Filter, "event", "filter", "ALL"),
];

/// Why a preference is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is none.
    Syntax(String),
    /// It is one, and cannot be had here.
    Impossible(String),
}

/// How much a device wants to get in a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Octets of payload.
    pub size: Option<u32>,
    /// Notifications.
    pub total: Option<u32>,
}

/// Whose word a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// The mailbox's own.
    Mailbox,
    /// The device's default.
    Default,
    /// Nobody's.
    Builtin,
}

/// All preferences of a device for one mailbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preferences(BTreeMap<Preference, (String, Whose)>);

impl Preference {
    /// All there are.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> (&'static str, &'static str, &'static str) {
        TABLE.iter().find(|row| row.0 == self).map_or(("", "", ""), |row| (row.1, row.2, row.3))
    }

    /// The attribute's name: `channel`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The name of its entry on a mailbox.
    pub fn entry(self) -> String {
        let (group, name, _) = self.row();
        format!("{NOTIFY}/{group}/{name}")
    }

    /// The name of the entry of a device's default, which stands on the server.
    pub fn default_entry(self) -> String {
        format!("{NOTIFY}/default/{}", self.name())
    }

    /// Which preference this entry is: on the server a default, on a mailbox its own.
    pub fn find(name: &EntryName, on_server: bool) -> Option<Self> {
        let entry = |preference: &Self| if on_server { preference.default_entry() } else { preference.entry() };
        Self::all().find(|preference| entry(preference) == name.as_str())
    }

    /// Whether the value is one (section 11.3), and can be had here.
    pub fn check(self, value: &[u8], settings: &Settings) -> Result<(), Wrong> {
        let text = std::str::from_utf8(value).map_err(|_| Wrong::Syntax("expected text".to_owned()))?;
        let syntax = |error: ChannelError| Wrong::Syntax(error.to_string());
        match self {
            Self::Channel => match text.parse().map_err(syntax)? {
                Channel::Over(kind, format) if !settings.outband.offers(kind, format) => {
                    Err(Wrong::Impossible(format!("{kind}={format} is not offered here")))
                }
                _ => Ok(()),
            },
            Self::Address => match text.len() <= Kind::LONGEST && text.bytes().all(|octet| octet.is_ascii_graphic()) {
                true => Ok(()),
                false => Err(Wrong::Syntax("expected an address without blanks".to_owned())),
            },
            Self::Limit => Limit::parse(text).map(|_| ()).map_err(syntax),
            Self::MessageFormat => {
                FetchItems::parse(value).map(|_| ()).map_err(|error| Wrong::Syntax(error.to_string()))
            }
            Self::Push => one_of(text, &["push", "pull"], "push or pull"),
            Self::Filter => one_of(text, &["ALL", "NEW", "NONE"], "ALL, NEW or NONE"),
        }
    }
}

fn one_of(text: &str, words: &[&str], expected: &str) -> Result<(), Wrong> {
    match words.iter().any(|word| word.eq_ignore_ascii_case(text)) {
        true => Ok(()),
        false => Err(Wrong::Syntax(format!("expected {expected}"))),
    }
}

impl Limit {
    /// `size=N`, `total=N`, or both with a space between them; N is an nz-number of RFC 3501: 32 bits, and no zero in front.
    pub fn parse(text: &str) -> Result<Self, ChannelError> {
        let expected = ChannelError("size=N or total=N, N octets or notifications a day");
        let mut limit = Self::default();
        for part in text.split(' ') {
            let (name, number) = part.split_once('=').ok_or(expected)?;
            let digits = number.bytes().all(|octet| octet.is_ascii_digit()) && !number.starts_with('0');
            let number: u32 = number.parse().ok().filter(|_| digits).ok_or(expected)?;
            match name.to_ascii_lowercase().as_str() {
                "size" if limit.size.is_none() => limit.size = Some(number),
                "total" if limit.total.is_none() => limit.total = Some(number),
                _ => return Err(expected),
            }
        }
        Ok(limit)
    }

    /// The smaller of two, of each kind: what holds where several mailboxes are told over one route.
    pub fn least(self, other: Self) -> Self {
        let least = |one: Option<u32>, other: Option<u32>| one.into_iter().chain(other).min();
        Self { size: least(self.size, other.size), total: least(self.total, other.total) }
    }
}

impl Preferences {
    /// What holds for a device in a mailbox, of all entries of the account.
    pub fn resolve(entries: &[Entry], device: &DeviceName, mailbox: &[u8]) -> Self {
        let value = |mailbox: &[u8], name: &str| {
            let wanted = |entry: &&Entry| {
                entry.key.owner == Owner::Device(device.clone())
                    && *entry.key.mailbox == *mailbox
                    && entry.key.name.as_str() == name
            };
            entries.iter().find(wanted).map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
        };
        let resolve = |preference: Preference| {
            let own = Some(mailbox).filter(|mailbox| !mailbox.is_empty());
            let own = own.and_then(|mailbox| value(mailbox, &preference.entry())).map(|value| (value, Whose::Mailbox));
            let default = || value(b"", &preference.default_entry()).map(|value| (value, Whose::Default));
            let built_in = || (preference.row().2.to_owned(), Whose::Builtin);
            (preference, own.or_else(default).unwrap_or_else(built_in))
        };
        Self(Preference::all().map(resolve).collect())
    }

    /// One of them, and whose word it is.
    pub fn value(&self, preference: Preference) -> (&str, Whose) {
        self.0.get(&preference).map_or(("", Whose::Builtin), |(value, from)| (value, *from))
    }

    /// The channel.
    pub fn channel(&self) -> Channel {
        self.value(Preference::Channel).0.parse().unwrap_or_default()
    }

    /// The address.
    pub fn address(&self) -> &str {
        self.value(Preference::Address).0
    }

    /// The address, as it may be shown.
    pub fn shown_address(&self) -> String {
        let address = self.address();
        // The channel that it belongs to may be chosen later, or elsewhere.
        let chosen = self.channel().kind().filter(|kind| kind.check(address).is_ok());
        chosen.or_else(|| Kind::of(address)).map_or(String::new(), |kind| kind.shown(address))
    }

    /// What will hold when these entries have been changed, if it goes together: there, and for defaults, which stand on the server,
    /// in each mailbox among the entries.
    pub fn after(
        entries: impl Iterator<Item = Entry>,
        edits: &[Edit],
        device: &DeviceName,
        mailbox: &[u8],
    ) -> Result<Self, Wrong> {
        let own = Owner::Device(device.clone());
        let preferred = |key: &Key| key.owner == own && Preference::find(&key.name, key.mailbox.is_empty()).is_some();
        let after = store::changed(entries.filter(|entry| preferred(&entry.key)), edits);
        let mut places: BTreeMap<Box<[u8]>, Vec<Entry>> = BTreeMap::new();
        for (key, value) in after.into_iter().filter(|(key, _)| preferred(key)) {
            places.entry(key.mailbox.clone()).or_default().push(Entry { key, value });
        }
        let defaults = places.remove(&b""[..]).unwrap_or_default();
        let at = |mailbox: &[u8]| {
            let own = places.get(mailbox).map_or(&[][..], Vec::as_slice);
            let preferences = Self::resolve(&[&defaults[..], own].concat(), device, mailbox);
            preferences.check().map(|()| preferences)
        };
        // A default holds wherever a mailbox has no word of its own, beside the words that it has.
        let reaching = [Preference::Channel, Preference::Address].map(Preference::default_entry);
        let reaches = edits.iter().any(|(key, _)| reaching.iter().any(|name| *name == key.name.as_str()));
        for other in places.keys().filter(|_| mailbox.is_empty() && reaches) {
            let name = String::from_utf8_lossy(other);
            at(other).map_err(|wrong| Wrong::Impossible(format!("mailbox \"{name}\": {wrong}")))?;
        }
        at(mailbox)
    }

    /// Whether channel and address go together; no address is the device's own, if its network knows it.
    fn check(&self) -> Result<(), Wrong> {
        match (self.channel(), self.address()) {
            (Channel::None, _) | (Channel::Over(..), "") => Ok(()),
            (Channel::Over(kind, _), address) => kind.check(address).map_err(|error| {
                Wrong::Impossible(format!("{kind} has another address: {error}; set channel and address together"))
            }),
        }
    }

    /// Whether the device is registered for Web Push by its address.
    pub fn is_web_push(&self) -> bool {
        matches!(self.channel(), Channel::Over(Kind::WebPush, _)) && !self.value(Preference::Address).0.is_empty()
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(text) | Self::Impossible(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_limits_the_least_of_each_kind_holds() {
        let limits = ["size=1000", "total=50 size=2000", "total=60"].map(|text| Limit::parse(text).unwrap());
        let least = limits.into_iter().fold(Limit::default(), Limit::least);
        assert_eq!(least, Limit { size: Some(1000), total: Some(50) });
    }
}
