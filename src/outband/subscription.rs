//! Who wants to hear of which mailboxes while he is away, and over which route (digest of notifications, section 10, "Routes").
//!
//!     phone    INBOX   UDP=EXTENDED 192.0.2.7:5000|...   total=50   NEW
//!     phone    Work    the same route                    total=10   ALL    FROM "boss"
//!     tablet   INBOX   WEBPUSH=WAKEUP https://...
//!
//! It is read out of the entries of the account. A default of the device says how INBOX is told; another mailbox is told where it has a channel
//! of its own, because nobody who switches notifications on means all his folders. Registrations by token or subscription are told of
//! INBOX. Where an operator has taken a channel away, or nobody sends over it, nothing is subscribed. Requirements N9, N10, N13.

use std::collections::BTreeSet;

use super::route::stored::Name;
use crate::{
    account::{
        channel::{Channel, Format, Kind},
        enrolment::{self, Question, Standing},
        preference::{Limit, Preference, Preferences},
        registration,
        ringing::{self, Ringing},
        settings::Outband,
        zone,
    },
    imap::search,
    store::{DeviceName, Entry, Owner, Way},
};

/// The mailbox that a default speaks of.
const INBOX: &[u8] = b"INBOX";

/// Mailboxes that are told to one device: each is looked at for its sake.
pub const MOST_MAILBOXES: usize = 50;

/// A device, a mailbox, and how the one is told of the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Over which route.
    pub way: Way,
    /// The channel of it.
    pub kind: Kind,
    /// How much is said.
    pub format: Format,
    /// How much a day.
    pub limit: Limit,
    /// Seconds by which that day is ahead of UTC's.
    pub zone: i32,
    /// Of which mailbox.
    pub mailbox: Name,
    /// What rings: messages that match this search program; none: all that come.
    pub program: Option<Box<[u8]>>,
    /// Whether the address is the user's own.
    pub proof: Proof,
}

/// Whether an address is the user's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It is, or nobody wants to know.
    Given,
    /// Somebody there was asked.
    Asked(Question),
    /// Somebody there is to be asked.
    Open,
}

/// What is wanted of a mailbox.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Search programs: which of the messages that come match each.
    pub programs: Vec<Box<[u8]>>,
    /// What the messages say.
    pub heads: bool,
}

/// A route as it is called in the store: channel and address.
pub fn way(device: &DeviceName, kind: Kind, address: &str) -> Way {
    Way { device: device.clone(), to: format!("{kind} {address}").into() }
}

/// A route as it is called while its device wants to be told over none.
pub fn nowhere(device: DeviceName) -> Way {
    Way { device, to: "NONE".into() }
}

/// The address of a route.
pub fn address(way: &Way) -> &str {
    way.to.split_once(' ').map_or("", |(_, address)| address)
}

/// All subscriptions of an account, in the order of devices and mailboxes, INBOX first. `now`: in seconds since 1970.
pub fn subscriptions(entries: &[Entry], offered: &Outband, now: i64) -> Vec<Subscription> {
    devices(entries).iter().flat_map(|device| of_device(entries, device, offered, now)).collect()
}

/// The devices that have said something.
pub fn devices(entries: &[Entry]) -> BTreeSet<DeviceName> {
    entries.iter().filter_map(|entry| device(&entry.key.owner)).cloned().collect()
}

fn device(owner: &Owner) -> Option<&DeviceName> {
    match owner {
        Owner::Device(name) => Some(name),
        Owner::User => None,
    }
}

fn of_device(entries: &[Entry], device: &DeviceName, offered: &Outband, now: i64) -> Vec<Subscription> {
    let own = |entry: &&Entry| self::device(&entry.key.owner) == Some(device);
    let channel = Preference::Channel.entry();
    let named = |entry: &&Entry| !entry.key.mailbox.is_empty() && entry.key.name.as_str() == channel;
    let mailboxes = entries.iter().filter(own).filter(named).map(|entry| &*entry.key.mailbox);
    let others: BTreeSet<_> = mailboxes.filter(|mailbox| **mailbox != *INBOX).collect();
    let (registered, zone) = (registration::reached(entries, device, now), zone::of(entries, device));
    let subscribe = |mailbox: &[u8]| {
        let preferences = Preferences::resolve(entries, device, mailbox);
        let filter = preferences.value(Preference::Filter).0;
        let (channel, address, limit) = match (preferences.channel(), &registered) {
            (Channel::None, Some((channel, address))) if *mailbox == *INBOX => {
                (*channel, address.clone(), Limit::default())
            }
            (channel, _) => {
                let limit = Limit::parse(preferences.value(Preference::Limit).0).unwrap_or_default();
                (channel, preferences.address().to_owned(), limit)
            }
        };
        let Channel::Over(kind, format) = channel else { return None };
        let is_registered = channel != preferences.channel();
        let is_offered = offered.running.contains(&kind) && (is_registered || offered.offers(kind, format));
        let is_told = is_offered && !address.is_empty() && !filter.eq_ignore_ascii_case("NONE");
        let way = way(device, kind, &address);
        is_told.then(|| Subscription {
            proof: proof(entries, &way, asks(kind, is_registered, offered)),
            way,
            kind,
            format,
            limit,
            zone,
            mailbox: Name(mailbox.into()),
            program: program(entries, device, mailbox),
        })
    };
    [INBOX].into_iter().chain(others).filter_map(subscribe).take(MOST_MAILBOXES).collect()
}

/// Whether an address has to be confirmed. A token proves itself, and a subscription of COI never does.
fn asks(kind: Kind, is_registered: bool, offered: &Outband) -> bool {
    match is_registered {
        true => kind == Kind::WebPush,
        false => offered.confirm.contains(&kind),
    }
}

fn proof(entries: &[Entry], way: &Way, asks: bool) -> Proof {
    match enrolment::standing(entries, &way.device, &way.to) {
        Some(Standing::Asked(question)) if asks => Proof::Asked(question),
        None if asks => Proof::Open,
        _ => Proof::Given,
    }
}

/// What rings in a mailbox: its own program, or the device's for all. One that is none lets all pass.
fn program(entries: &[Entry], device: &DeviceName, mailbox: &[u8]) -> Option<Box<[u8]>> {
    let value = |owner: &Owner, mailbox: &[u8], name: &str| {
        let wanted = |entry: &&Entry| {
            entry.key.owner == *owner
                && *entry.key.mailbox == *mailbox
                && entry.key.name.as_str().eq_ignore_ascii_case(name)
        };
        entries.iter().find(wanted).map(|entry| &*entry.value)
    };
    let said = value(&Owner::Device(device.clone()), mailbox, ringing::ENTRY)?;
    match Ringing::parse(said).ok()? {
        Ringing::Program(program) => Some(program.into()),
        Ringing::Filter(name) => {
            let program = value(&Owner::User, b"", &format!("{}{name}", ringing::FILTERS))?;
            search::criteria(program).ok().map(|_| program.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{imap::entry::EntryName, store::Key};

    fn entry(device: &str, mailbox: &str, name: &str, value: &str) -> Entry {
        let owner = match device {
            "" => Owner::User,
            name => Owner::Device(DeviceName::parse(name.as_bytes()).unwrap()),
        };
        let name = EntryName::parse(name.as_bytes()).unwrap();
        Entry { key: Key { mailbox: mailbox.as_bytes().into(), owner, name }, value: value.as_bytes().into() }
    }

    fn preference(device: &str, mailbox: &str, preference: Preference, value: &str) -> Entry {
        let name = if mailbox.is_empty() { preference.default_entry() } else { preference.entry() };
        entry(device, mailbox, &name, value)
    }

    fn told(entries: &[Entry]) -> Vec<String> {
        let channels = [(Kind::Udp, vec![Format::Wakeup, Format::Extended])].into();
        let offered = Outband { running: vec![Kind::Udp, Kind::DeltaChat], channels, ..Outband::default() };
        let line = |one: Subscription| {
            let program = one.program.map_or(String::new(), |program| format!(" {}", program.escape_ascii()));
            format!("{} {} {} {}{program}", one.way.device, one.mailbox.0.escape_ascii(), one.way.to, one.format)
        };
        subscriptions(entries, &offered, 0).into_iter().map(line).collect()
    }

    #[test]
    fn a_default_tells_of_inbox_and_a_mailbox_of_itself() {
        let mut entries = vec![
            preference("phone", "", Preference::Channel, "UDP=WAKEUP"),
            preference("phone", "", Preference::Address, "192.0.2.7:5000"),
            preference("phone", "Work", Preference::Channel, "UDP=EXTENDED"),
            preference("phone", "Lists", Preference::Channel, "NONE"),
            preference("tablet", "INBOX", Preference::Channel, "SMS=WAKEUP"),
            preference("tablet", "INBOX", Preference::Address, "+4915112345678"),
        ];
        let both = ["phone INBOX UDP 192.0.2.7:5000 WAKEUP", "phone Work UDP 192.0.2.7:5000 EXTENDED"];
        assert_eq!(told(&entries), both, "nobody sends by SMS here");
        entries.push(preference("phone", "INBOX", Preference::Filter, "none"));
        assert_eq!(told(&entries), both[1..]);
        entries.retain(|entry| entry.key.name.as_str() != Preference::Address.default_entry());
        assert_eq!(told(&entries), [""; 0], "there is no address");
    }

    #[test]
    fn fifty_mailboxes_are_told_and_those_that_are_not_to_be_are_none_of_them() {
        let mut entries = vec![
            preference("phone", "", Preference::Channel, "UDP=WAKEUP"),
            preference("phone", "", Preference::Address, "192.0.2.7:5000"),
        ];
        let named = |first: char, value: &'static str| {
            (0..60).map(move |number| preference("phone", &format!("{first}{number:02}"), Preference::Channel, value))
        };
        entries.extend(named('A', "NONE").chain(named('B', "UDP=WAKEUP")));
        let told = told(&entries);
        assert_eq!((told.len(), &*told[0]), (50, "phone INBOX UDP 192.0.2.7:5000 WAKEUP"));
        assert_eq!(told[49], "phone B48 UDP 192.0.2.7:5000 WAKEUP");
    }

    #[test]
    fn a_token_is_told_of_inbox() {
        let token = registration::Token::parse(b"abc", 0).unwrap();
        let name = token.device();
        let stored = String::from_utf8(token.stored().into()).unwrap();
        let entries = [entry(name.as_str(), "INBOX", registration::TOKEN, &stored)];
        assert_eq!(told(&entries), [format!("{name} INBOX DELTACHAT abc WAKEUP")]);
    }

    #[test]
    fn what_rings_is_a_program_or_a_filter() {
        let mut entries = vec![
            preference("phone", "INBOX", Preference::Channel, "UDP=WAKEUP"),
            preference("phone", "INBOX", Preference::Address, "192.0.2.7:5000"),
            entry("phone", "INBOX", ringing::ENTRY, "filter Important"),
            entry("", "", "/private/filters/values/important", "FROM boss"),
        ];
        let line = "phone INBOX UDP 192.0.2.7:5000 WAKEUP";
        assert_eq!(told(&entries), [format!("{line} FROM boss")]);
        entries[2].value = b"SUBJECT urgent".as_slice().into();
        assert_eq!(told(&entries), [format!("{line} SUBJECT urgent")]);
        for none in ["FILTER nobodys", "17", "FROM", "\u{fffd} x"] {
            entries[2].value = none.as_bytes().into();
            assert_eq!(told(&entries), [line], "{none}");
        }
    }
}
