//! The devices of a user, with what each prefers, as an operator sees and changes them (requirement A5).
//!
//!     $ lemonade-proxy devices set joe pixel --channel SMS=WAKEUP --address +4915112345678
//!     $ lemonade-proxy devices show joe pixel
//!     { "device": "pixel", ..., "defaults": { "channel": { "value": "SMS=WAKEUP", "from": "default" }, ... } }
//!
//! What is shown is what holds: the mailbox's own word, the device's default, or what is built in.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    Settings,
    channel::Kind,
    enrolment::{self, Standing},
    preference::{Preference, Preferences, Whose, Wrong},
    registration,
};
use crate::{
    imap::{
        entry::EntryName,
        list,
        mailbox_name::{as_people_read, decoded, on_the_wire},
    },
    store::{self, Device, DeviceName, Edit, Entry, Key, Owner, Source},
};

/// A device of a user.
#[derive(Debug, Serialize)]
pub struct DeviceView {
    /// Its name.
    pub device: String,
    /// How it came by its name.
    pub source: &'static str,
    /// When it was first seen, in seconds since 1970, if it was seen and not only spoken of.
    pub first_seen: Option<i64>,
    /// When it was last seen.
    pub last_seen: Option<i64>,
    /// How it has registered for push by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered: Option<Registered>,
    /// What holds for mailboxes that have no word of their own.
    pub defaults: BTreeMap<&'static str, Value>,
    /// What holds for those that do.
    pub mailboxes: BTreeMap<String, BTreeMap<&'static str, Value>>,
}

/// A registration.
#[derive(Debug, Serialize)]
pub struct Registered {
    /// Channel and format.
    pub channel: String,
    /// Where, as far as it may be shown.
    pub address: String,
}

/// A preference that holds.
#[derive(Debug, Serialize)]
pub struct Value {
    /// What it is.
    pub value: String,
    /// Whose word it is.
    pub from: Whose,
}

/// What an operator wants of a device. An empty text takes a preference back.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wish {
    /// For this mailbox, its name as people read it or as it stands on the wire; else the device's default.
    pub mailbox: Option<String>,
    /// `SMS=WAKEUP`
    pub channel: Option<String>,
    /// `+4915112345678`
    pub address: Option<String>,
    /// `size=10000`, `total=50`
    pub limit: Option<String>,
    /// `ALL`, `NEW`, `NONE`
    pub filter: Option<String>,
    /// `(UID FLAGS)`
    pub msgformat: Option<String>,
    /// `push`, `pull`
    pub push: Option<String>,
}

impl Wish {
    /// The key of the mailbox; empty where it is about the device's default. What is modified UTF-7 already is left as it is.
    pub fn mailbox(&self) -> Box<[u8]> {
        let name = self.mailbox.as_deref().unwrap_or_default();
        match name.is_ascii() && decoded(name.as_bytes()).is_some() {
            true => list::canonical(name.as_bytes()),
            false => list::canonical(&on_the_wire(name)),
        }
    }
}

/// All devices that were seen, or that something is kept of.
pub fn devices(seen: Vec<Device>, entries: &[Entry], now: i64) -> Vec<DeviceView> {
    let mut known: BTreeMap<DeviceName, Option<Device>> =
        seen.into_iter().map(|device| (device.name.clone(), Some(device))).collect();
    for entry in entries {
        if let Owner::Device(name) = &entry.key.owner {
            known.entry(name.clone()).or_default();
        }
    }
    known.into_iter().map(|(name, device)| view(&name, device, entries, now)).collect()
}

fn view(name: &DeviceName, device: Option<Device>, entries: &[Entry], now: i64) -> DeviceView {
    let own = |entry: &&Entry| entry.key.owner == Owner::Device(name.clone()) && !entry.key.mailbox.is_empty();
    let preferred = |entry: &&Entry| Preference::find(&entry.key.name, false).is_some();
    let mailboxes: BTreeSet<_> = entries.iter().filter(own).filter(preferred).map(|entry| &entry.key.mailbox).collect();
    let holds = |mailbox: &[u8]| {
        let preferences = Preferences::resolve(entries, name, mailbox);
        let value = |preference: Preference| {
            let (value, from) = preferences.value(preference);
            let shown = if preference == Preference::Address { preferences.shown_address() } else { value.to_owned() };
            (preference.name(), Value { value: shown, from })
        };
        Preference::all().map(value).collect()
    };
    let registered = registration::reached(entries, name, now).map(|(channel, address)| Registered {
        channel: channel.to_string(),
        address: channel.kind().map(|kind| kind.shown(&address)).unwrap_or_default(),
    });
    let source = device.as_ref().map(|device| device.source);
    let guessed = if registered.is_some() { Source::Registration } else { Source::Default };
    let seen = device.filter(|device| device.source != Source::Operator);
    DeviceView {
        device: name.to_string(),
        source: source.unwrap_or(guessed).name(),
        first_seen: seen.as_ref().map(|device| device.first_seen),
        last_seen: seen.as_ref().map(|device| device.last_seen),
        registered,
        defaults: holds(b""),
        mailboxes: mailboxes.into_iter().map(|name| (as_people_read(name).into_owned(), holds(name))).collect(),
    }
}

/// What is to be kept for a wish, with the checks that a device goes through.
pub fn edits(wish: &Wish, device: &DeviceName, entries: &[Entry], settings: &Settings) -> Result<Vec<Edit>, Wrong> {
    let mailbox = wish.mailbox();
    let wishes = [
        (Preference::Channel, &wish.channel),
        (Preference::Address, &wish.address),
        (Preference::Limit, &wish.limit),
        (Preference::Filter, &wish.filter),
        (Preference::MessageFormat, &wish.msgformat),
        (Preference::Push, &wish.push),
    ];
    let mut edits = Vec::new();
    for (preference, text) in wishes {
        let Some(text) = text else { continue };
        let value: Option<Box<[u8]>> = (!text.is_empty()).then(|| text.as_bytes().into());
        value.as_ref().map_or(Ok(()), |value| preference.check(value, settings))?;
        let name = if mailbox.is_empty() { preference.default_entry() } else { preference.entry() };
        let name = EntryName::parse(name.as_bytes()).map_err(|error| Wrong::Syntax(error.to_string()))?;
        edits.push((Key { mailbox: mailbox.clone(), owner: Owner::Device(device.clone()), name }, value));
    }
    if edits.is_empty() {
        return Err(Wrong::Syntax("there is nothing to set".to_owned()));
    }
    Preferences::after(entries.iter().cloned(), &edits, device, &mailbox)?;
    if let Some(address) = wish.address.as_deref().filter(|address| !address.is_empty()) {
        edits.extend(vouched(&edits, device, entries, address));
    }
    Ok(edits)
}

/// An operator who sets an address says that it is the user's own, over whichever channel the device is told there.
fn vouched(edits: &[Edit], device: &DeviceName, entries: &[Entry], address: &str) -> Vec<Edit> {
    let after = store::changed(entries.iter().cloned(), edits);
    let entries: Vec<_> = after.into_iter().map(|(key, value)| Entry { key, value }).collect();
    let own = entries.iter().filter(|entry| entry.key.owner == Owner::Device(device.clone()));
    let mailboxes: BTreeSet<_> = own.map(|entry| &*entry.key.mailbox).collect();
    let kind = |mailbox: &[u8]| {
        let preferences = Preferences::resolve(&entries, device, mailbox);
        preferences.channel().kind().filter(|_| preferences.address() == address)
    };
    let kinds: BTreeSet<_> = mailboxes.into_iter().filter_map(kind).collect();
    let vouch = |kind: Kind| enrolment::edit(device, &format!("{kind} {address}"), &Standing::Confirmed);
    kinds.into_iter().filter_map(vouch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::channel::Format;

    fn settings() -> Settings {
        let mut settings = Settings::default();
        settings.outband.channels = [(Kind::Sms, vec![Format::Wakeup])].into();
        settings
    }

    fn wish(mailbox: Option<&str>, channel: &str, address: &str) -> Wish {
        let text = |text: &str| Some(text.to_owned());
        Wish { mailbox: mailbox.map(str::to_owned), channel: text(channel), address: text(address), ..Wish::default() }
    }

    fn kept(edits: Vec<Edit>) -> Vec<Entry> {
        edits.into_iter().filter_map(|(key, value)| Some(Entry { key, value: value? })).collect()
    }

    #[test]
    fn what_is_set_is_what_is_shown() {
        let pixel = DeviceName::parse(b"pixel").unwrap();
        let default = wish(None, "SMS=WAKEUP", "+4915112345678");
        let mut entries = kept(edits(&default, &pixel, &[], &settings()).unwrap());
        entries.extend(kept(edits(&wish(Some("inbox"), "NONE", ""), &pixel, &entries, &settings()).unwrap()));
        let shown = devices(Vec::new(), &entries, 0);
        assert_eq!((shown.len(), shown[0].device.as_str()), (1, "pixel"));
        let value = |held: &BTreeMap<&str, Value>, name: &str| (held[name].value.clone(), held[name].from);
        assert_eq!(value(&shown[0].defaults, "channel"), ("SMS=WAKEUP".to_owned(), Whose::Default));
        let inbox = &shown[0].mailboxes["INBOX"];
        assert_eq!(value(inbox, "channel"), ("NONE".to_owned(), Whose::Mailbox));
        assert_eq!(value(inbox, "address"), ("+4915112345678".to_owned(), Whose::Default));
        assert_eq!(value(inbox, "filter"), ("ALL".to_owned(), Whose::Builtin));
    }

    #[test]
    fn what_gives_the_power_to_send_is_not_shown_whatever_the_channel() {
        let pixel = DeviceName::default();
        let key = "a1b2c3d4:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
        for (channel, address, expected) in [
            ("SMS=WAKEUP", format!("+4915112345678;port=143|{key}"), "+4915112345678;port=143|..."),
            // The channel that it is for is chosen later, or in a mailbox.
            ("NONE", format!("+4915112345678;port=143|{key}"), "+4915112345678;port=143|..."),
            ("NONE", format!("phone.example.org:4000|{key}"), "phone.example.org:4000|..."),
            ("NONE", "https://example.org/hooks/s3cret".to_owned(), "https://example.org..."),
            ("NONE", "fcm-chat.delta:abcdefgh".to_owned(), "fcm-chat.del..."),
            ("NONE", "joe@example.org".to_owned(), "joe@example.org"),
            ("NONE", String::new(), ""),
        ] {
            let entries = kept(edits(&wish(None, channel, &address), &pixel, &[], &settings()).unwrap());
            assert_eq!(devices(Vec::new(), &entries, 0)[0].defaults["address"].value, expected);
        }
    }

    #[test]
    fn an_address_that_an_operator_sets_is_confirmed() {
        let pixel = DeviceName::default();
        let standing = |entries: &[Entry]| enrolment::standing(entries, &pixel, "SMS +4915112345678");
        let kept = |wish: &Wish| kept(edits(wish, &pixel, &[], &settings()).unwrap());
        assert_eq!(standing(&kept(&wish(None, "SMS=WAKEUP", "+4915112345678"))), Some(Standing::Confirmed));
        assert_eq!(standing(&kept(&wish(Some("Work"), "SMS=WAKEUP", "+4915112345678"))), Some(Standing::Confirmed));
        assert_eq!(standing(&kept(&wish(None, "NONE", "+4915112345678"))), None, "it may be anybody's, over anything");
        let by_user = kept(&wish(None, "NONE", "+4915112345678"));
        let only = Wish { channel: Some("SMS=WAKEUP".to_owned()), ..Wish::default() };
        assert_eq!(edits(&only, &pixel, &by_user, &settings()).unwrap().len(), 1, "of the address nothing is said");
    }

    #[test]
    fn a_mailbox_is_named_as_people_read_it() {
        let pixel = DeviceName::default();
        for (named, wire, shown) in [
            ("Entwürfe", "Entw&APw-rfe", "Entwürfe"),
            ("Entw&APw-rfe", "Entw&APw-rfe", "Entwürfe"),
            ("Tom & Jerry", "Tom &- Jerry", "Tom & Jerry"),
            ("Tom &- Jérôme", "Tom &-- J&AOk-r&APQ-me", "Tom &- Jérôme"),
        ] {
            let entries = kept(edits(&wish(Some(named), "NONE", ""), &pixel, &[], &settings()).unwrap());
            assert_eq!(String::from_utf8_lossy(&entries[0].key.mailbox), wire);
            assert!(devices(Vec::new(), &entries, 0)[0].mailboxes.contains_key(shown), "{named}");
        }
    }

    #[test]
    fn an_operator_is_held_to_the_same_rules() {
        let pixel = DeviceName::default();
        for (wish, said) in [
            (wish(None, "SIP=WAKEUP", ""), "SIP=WAKEUP is not offered here"),
            (wish(None, "PIGEON=WAKEUP", ""), "expected SMS, MMS"),
            (wish(None, "SMS=WAKEUP", "joe@example.org"), "SMS has another address"),
            (Wish::default(), "there is nothing to set"),
        ] {
            let error = edits(&wish, &pixel, &[], &settings()).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
