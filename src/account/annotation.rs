//! What an annotation is to us: whose it is, who may write it, what its value has to be.
//!
//!     /private/comment                            the user's: any value
//!     /private/vendor/lemonade/notify/...         the device's: preferences, checked; on the server itself: ours to say
//!     /private/filters/values/NAME                the user's: search criteria (RFC 5466)
//!
//! A table of names, and of those that are kept here although the backend has annotations of its own. Requirements N12 to N15.

use std::collections::BTreeMap;

use super::{
    Settings, enrolment,
    moving::MOVING,
    preference::{NOTIFY, Preference, Wrong},
    registration::{self, Subscription},
    ringing::{self, Ringing},
    special_use, watching, zone,
};
use crate::{
    imap::{
        capability::Capabilities,
        entry::{Depth, EntryName},
        search,
    },
    store::{DeviceName, Edit, Entry, Key, Owner},
};

/// The device that a session belongs to: reading says which, writing chooses another one.
pub const DEVICE: &str = "/private/vendor/lemonade/device";

/// Marks a mailbox that was not found, with the time of day: what is kept of it is not thrown away at once.
pub const MISSING: &str = "/private/vendor/lemonade/missing";

/// What stays with INBOX when its other entries are copied to its new name: where devices register, what it is for, and whether
/// it was found.
pub const STAY: [&str; 3] = [registration::TOKEN, special_use::ENTRY, MISSING];

/// Seconds that the entries of a mailbox outlive it, unless we saw it deleted: a server may hide one for a while.
const GRACE: i64 = 24 * 3600;

/// What is to be done when one has looked for mailboxes, by their keys: `true` is there, `false` is not. Of others nothing is known.
/// One that is not there is marked with the time, and a day later its entries go; one that is there has no mark.
pub fn swept(entries: &[Entry], looked: &BTreeMap<Box<[u8]>, bool>, now: i64) -> Vec<Edit> {
    let mut edits = Vec::new();
    for (mailbox, there) in looked {
        let own = entries.iter().filter(|entry| entry.key.mailbox == *mailbox && entry.key.name.as_str() != MOVING);
        let (marks, kept): (Vec<_>, Vec<_>) = own.partition(|entry| entry.key.name.as_str() == MISSING);
        let removed = |entries: &[&Entry]| entries.iter().map(|entry| (entry.key.clone(), None)).collect::<Vec<_>>();
        match missing_since(&marks) {
            _ if *there || kept.is_empty() => edits.extend(removed(&marks)),
            Some(since) if now >= since + GRACE => edits.extend([removed(&kept), removed(&marks)].concat()),
            Some(_) => {}
            None => edits.extend(mark(mailbox, now)),
        }
    }
    edits
}

fn missing_since(marks: &[&Entry]) -> Option<i64> {
    std::str::from_utf8(&marks.first()?.value).ok()?.parse().ok()
}

fn mark(mailbox: &[u8], since: i64) -> Option<Edit> {
    let name = EntryName::parse(MISSING.as_bytes()).ok()?;
    let key = Key { mailbox: mailbox.into(), owner: Owner::User, name };
    Some((key, Some(since.to_string().into_bytes().into())))
}

/// What an annotation is to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Any value, of the user.
    Plain,
    /// We say what it is.
    ReadOnly,
    /// Below our own name, and nothing.
    Unknown,
    /// The name of the device.
    Device,
    /// A preference of a device.
    Preference(Preference),
    /// Search criteria under a name (RFC 5466).
    Filter,
    /// Which messages ring.
    Ringing,
    /// How mailboxes are to be looked after while the device is away.
    Watching,
    /// What the device has missed: who has read it removes it.
    Missed,
    /// What the mailbox is for (RFC 6154 section 5.4).
    SpecialUse,
    /// A push token of Delta Chat.
    Token,
    /// A push subscription of COI, of this id.
    Subscription(Box<str>),
    /// Where the day of the device begins.
    Zone,
    /// What the device was sent to prove that an address is the user's own.
    Confirmation,
    /// What the subscription of this id was sent for the same.
    Validation(Box<str>),
}

/// On which of the two an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    Server,
    Mailbox,
    Either,
}

impl On {
    fn is(self, on_server: bool) -> bool {
        match self {
            Self::Server => on_server,
            Self::Mailbox => !on_server,
            Self::Either => true,
        }
    }
}

/// Names at and below which entries are kept here, unless the backend itself does what they are for, and no layer of ours.
const OURS: [(&str, On, &str); 8] = [
    ("/private/vendor/lemonade", On::Either, ""),
    ("/shared/vendor/lemonade", On::Either, ""),
    ("/private/filters", On::Server, "FILTERS"),
    ("/shared/filters", On::Server, "FILTERS"),
    ("/private/specialuse", On::Mailbox, "SPECIAL-USE"),
    (registration::TOKEN, On::Mailbox, "XDELTAPUSH"),
    ("/private/vendor/vendor.dovecot/webpush", On::Server, "WEBPUSH"),
    ("/shared/vendor/deltachat", On::Server, "XDELTAPUSH"),
];

/// The roles of names; what ends with `/` is of all names below. The first row that fits counts.
const ROLES: [(&str, On, Role); 20] = [
    ("/shared/admin", On::Server, Role::ReadOnly),
    (DEVICE, On::Server, Role::Device),
    (enrolment::CONFIRM, On::Server, Role::Confirmation),
    ("/private/vendor/lemonade/notify/outband/", On::Server, Role::ReadOnly),
    ("/private/vendor/lemonade/notify/inband/", On::Server, Role::ReadOnly),
    ("/private/vendor/lemonade/notify/security/", On::Server, Role::ReadOnly),
    ("/shared/vendor/lemonade/", On::Either, Role::ReadOnly),
    (ringing::ENTRY, On::Mailbox, Role::Ringing),
    (watching::MODE, On::Server, Role::Watching),
    (watching::STATUS, On::Server, Role::ReadOnly),
    (watching::MISSED, On::Server, Role::Missed),
    (zone::ENTRY, On::Server, Role::Zone),
    ("/private/vendor/lemonade/", On::Either, Role::Unknown),
    ("/private/filters/values/", On::Server, Role::Filter),
    ("/shared/filters/values/", On::Server, Role::Filter),
    ("/private/specialuse", On::Mailbox, Role::SpecialUse),
    (registration::TOKEN, On::Mailbox, Role::Token),
    ("/private/vendor/vendor.dovecot/webpush/", On::Server, Role::ReadOnly),
    ("/shared/vendor/deltachat/", On::Server, Role::ReadOnly),
    ("/", On::Either, Role::Plain),
];

/// What this entry is to us.
pub fn role(name: &EntryName, on_server: bool) -> Role {
    if let Some(preference) = Preference::find(name, on_server) {
        return Role::Preference(preference);
    }
    if let Some(id) = registration::subscription_id(name).filter(|_| on_server) {
        return Role::Subscription(id.into());
    }
    if let Some(id) = registration::validated_id(name).filter(|_| on_server) {
        return Role::Validation(id.into());
    }
    let fits = |row: &str| match row.ends_with('/') {
        true => name.as_str().starts_with(row),
        false => name.as_str() == row,
    };
    let row = ROLES.iter().find(|(row, on, _)| on.is(on_server) && fits(row));
    row.map_or(Role::Plain, |(_, _, role)| role.clone())
}

/// Whether this entry, and all below it, is kept here although the backend has annotations. `native`: what the backend does
/// itself.
pub fn is_ours(name: &EntryName, on_server: bool, native: &Capabilities) -> bool {
    ours(on_server, native).any(|root| name.is_within(&root, Depth::Infinity))
}

/// Whether entries that are kept here stand at this place of the tree, or as deep below it.
pub fn has_ours(name: &EntryName, depth: Depth, on_server: bool, native: &Capabilities) -> bool {
    let below = |root: EntryName| depth != Depth::Zero && root.is_within(name, Depth::Infinity);
    is_ours(name, on_server, native) || ours(on_server, native).any(below)
}

/// Whether a command that we cannot read may name what is kept here, or reach it from above.
pub fn may_name_ours(arguments: &[u8]) -> bool {
    let arguments = arguments.to_ascii_lowercase();
    let below = |root: &'static str| root.trim_start_matches("/private").trim_start_matches("/shared");
    let mut words = OURS.iter().map(|(root, ..)| below(root)).chain(["/notify", "depth"]);
    words.any(|word| memchr::memmem::find(&arguments, word.as_bytes()).is_some())
}

fn ours(on_server: bool, native: &Capabilities) -> impl Iterator<Item = EntryName> {
    let ours = OURS.iter().filter(move |(_, on, _)| on.is(on_server));
    let ours = ours.filter(|(_, _, word)| word.is_empty() || !native.has(word));
    ours.filter_map(|(root, _, _)| EntryName::parse(root.as_bytes()).ok())
}

/// Whose an entry is: private to a device, or the user's (digest 2.4).
pub fn owner(name: &EntryName, device: &DeviceName) -> Owner {
    let below =
        |root: &str| name.as_str().strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match below(NOTIFY) || below("/private/vendor/lemonade/view") {
        true => Owner::Device(device.clone()),
        false => Owner::User,
    }
}

/// Checks the value of an entry, as far as it can be checked by itself.
pub fn check(role: &Role, value: &[u8], settings: &Settings) -> Result<(), Wrong> {
    match role {
        Role::Preference(preference) => preference.check(value, settings),
        Role::Device => match DeviceName::parse(value) {
            Ok(_) => Ok(()),
            Err(error) => Err(Wrong::Syntax(error.to_string())),
        },
        Role::Ringing => Ringing::parse(value).map(|_| ()).map_err(Wrong::Impossible),
        Role::Missed => Err(Wrong::Impossible("this entry can only be read and removed".to_owned())),
        Role::Watching => watching::check(value, settings.outband.sealed),
        Role::Zone => match zone::parse(value) {
            Some(_) => Ok(()),
            None => Err(Wrong::Syntax("expected an offset from UTC, +02:00".to_owned())),
        },
        Role::Filter => match search::criteria(value) {
            Ok(_) => Ok(()),
            Err(error) => Err(Wrong::Impossible(format!("these are no search criteria: {error}"))),
        },
        _ => Ok(()),
    }
}

/// What a device reads of a mailbox: its own entries and the user's, and on the server what we say there ourselves.
pub fn visible(
    entries: Vec<Entry>,
    on_server: bool,
    device: &DeviceName,
    settings: &Settings,
    inband: bool,
    now: i64,
) -> Vec<(EntryName, Box<[u8]>)> {
    let tokens = registration::tokens(&entries, now);
    let confirmed = enrolment::said(&entries, device, now);
    let shown = |entry: &Entry| match role(&entry.key.name, on_server) {
        Role::Subscription(_) => Subscription::of_row(entry).is_some_and(|subscription| subscription.lives(now)),
        Role::Token => false,
        // Marks, notes and enrolments are ours.
        Role::Unknown => false,
        _ => entry.key.owner == Owner::User || entry.key.owner == Owner::Device(device.clone()),
    };
    let kept = entries.into_iter().filter(shown).map(|entry| (entry.key.name, entry.value));
    let said = match on_server {
        true => {
            let confirmed = confirmed.map(|standing| (enrolment::CONFIRM, standing.to_owned()));
            said(device, settings, inband).into_iter().chain(confirmed).collect::<Vec<_>>()
        }
        false => tokens.into_iter().map(|tokens| (registration::TOKEN, tokens)).collect(),
    };
    let said = said.into_iter().filter_map(|(name, value)| {
        Some((EntryName::parse(name.as_bytes()).ok()?, value.into_bytes().into_boxed_slice()))
    });
    let mut all: Vec<_> = kept.chain(said).collect();
    all.sort();
    all
}

/// What we say ourselves: provisioning (section 11.2), computed from the configuration.
fn said(device: &DeviceName, settings: &Settings, inband: bool) -> Vec<(&'static str, String)> {
    let outband = &settings.outband;
    // RFC 5465 section 5, and the words that section 11.4 of the document uses.
    let events = if inband { "MessageNew MessageExpunge FlagChange new expunged" } else { "" };
    let key = outband.public_key.as_ref();
    let sender = [outband.sender.clone(), key.map(|key| format!("key={key}"))];
    let credential: Vec<_> = sender.into_iter().flatten().collect();
    let mut said = vec![
        (DEVICE, device.to_string()),
        ("/private/vendor/lemonade/notify/outband/channel", outband.provision()),
        ("/shared/vendor/lemonade/notify/inband/push", events.to_owned()),
        (
            "/shared/vendor/lemonade/notify/security/integrity",
            if key.is_some() { "ED25519" } else { "NONE" }.to_owned(),
        ),
    ];
    if !credential.is_empty() {
        said.push(("/private/vendor/lemonade/notify/outband/credential", credential.join(" ")));
    }
    if let Some(most) = outband.deltachat_recipients {
        said.push(("/shared/vendor/deltachat/maxsmtprecipients", most.to_string()));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> EntryName {
        EntryName::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_entry_has_its_role() {
        for (name, on_server, expected) in [
            ("/private/comment", false, Role::Plain),
            ("/shared/admin", true, Role::ReadOnly),
            ("/private/vendor/lemonade/device", true, Role::Device),
            ("/private/vendor/lemonade/notify/outband/channel", true, Role::ReadOnly),
            ("/private/vendor/lemonade/notify/outband/channel", false, Role::Preference(Preference::Channel)),
            ("/private/vendor/lemonade/notify/default/channel", true, Role::Preference(Preference::Channel)),
            ("/private/vendor/lemonade/notify/default/channel", false, Role::Unknown),
            ("/private/vendor/lemonade/notify/default/zone", true, Role::Zone),
            ("/private/vendor/lemonade/notify/default/zone", false, Role::Unknown),
            ("/private/vendor/lemonade/notify/outband/colour", false, Role::Unknown),
            ("/private/vendor/lemonade/notify/watch/mode", true, Role::Watching),
            ("/private/vendor/lemonade/notify/watch/mode", false, Role::Unknown),
            ("/private/vendor/lemonade/notify/watch/status", true, Role::ReadOnly),
            ("/private/vendor/lemonade/notify/outband/confirm", true, Role::Confirmation),
            ("/private/vendor/lemonade/notify/outband/confirm", false, Role::Unknown),
            ("/private/vendor/lemonade/enrolment/0123", true, Role::Unknown),
            (
                "/private/vendor/vendor.dovecot/webpush/subscriptions/aw3nnq-9q12/validate",
                true,
                Role::Validation("aw3nnq-9q12".into()),
            ),
            ("/shared/vendor/lemonade/notify/inband/push", true, Role::ReadOnly),
            ("/private/filters/values/boss", true, Role::Filter),
            ("/private/filters/descriptions/boss", true, Role::Plain),
            ("/private/filters/values/boss", false, Role::Plain),
            ("/private/specialuse", false, Role::SpecialUse),
            ("/private/devicetoken", false, Role::Token),
            ("/private/vendor/vendor.dovecot/webpush/vapid", true, Role::ReadOnly),
            ("/private/vendor/vendor.dovecot/webpush/subscriptions/short", true, Role::ReadOnly),
            ("/private/vendor/kmail/x", true, Role::Plain),
        ] {
            assert_eq!(role(&entry(name), on_server), expected, "{name}");
        }
    }

    #[test]
    fn what_is_kept_here_stays_here_unless_the_backend_does_what_it_is_for() {
        let [plain, filters] = ["METADATA", "METADATA FILTERS"].map(|words| Capabilities::parse(words.as_bytes()));
        assert!(is_ours(&entry("/private/vendor/lemonade/notify/event/filter"), false, &plain));
        assert!(!is_ours(&entry("/private/vendor/lemonades"), false, &plain));
        assert!(is_ours(&entry("/private/filters/values/x"), true, &plain));
        assert!(!is_ours(&entry("/private/filters/values/x"), true, &filters));
        assert!(!is_ours(&entry("/private/comment"), true, &plain));
        assert!(has_ours(&entry("/private/vendor"), Depth::Infinity, false, &plain));
        assert!(!has_ours(&entry("/private/vendor"), Depth::Zero, false, &plain));
        assert!(!has_ours(&entry("/private/comment"), Depth::Infinity, false, &plain));
    }

    #[test]
    fn what_cannot_be_read_may_name_what_is_ours() {
        for (arguments, may) in [
            ("INBOX (/private/vendor/LEMONADE/notify/x \"", true),
            ("(DEPTH 7) INBOX /private", true),
            ("\"\" /shared/filters//x", true),
            ("/notify/* (channel", true),
            ("(WIDTH 7) INBOX /private/comment", false),
            ("INBOX (/private/vendor/kmail/x NIL", false),
        ] {
            assert_eq!(may_name_ours(arguments.as_bytes()), may, "{arguments}");
        }
    }

    #[test]
    fn entries_wait_a_day_for_a_mailbox_that_is_not_found() {
        let row = |mailbox: &str, name: &str, value: &str| {
            let key = Key { mailbox: mailbox.as_bytes().into(), owner: Owner::User, name: entry(name) };
            Entry { key, value: value.as_bytes().into() }
        };
        let comment = row("Work", "/private/comment", "x");
        let marked = [comment.clone(), row("Work", MISSING, "1000")];
        let moving = [comment.clone(), row("Work", MISSING, "1000"), row("Work", MOVING, "1000 0 0 ")];
        let swept = |entries: &[Entry], there: Option<bool>, now: i64| {
            let looked = there.map(|there| (b"Work"[..].into(), there)).into_iter().collect();
            let edits = swept(entries, &looked, now).into_iter();
            let text = |value: Box<[u8]>| String::from_utf8_lossy(&value).into_owned();
            edits.map(|(key, value)| (key.name.to_string(), value.map(text))).collect::<Vec<_>>()
        };
        let gone = |name: &str| (name.to_owned(), None);
        let none: [(String, Option<String>); 0] = [];
        assert_eq!(
            swept(std::slice::from_ref(&comment), Some(false), 1000),
            [(MISSING.to_owned(), Some("1000".to_owned()))]
        );
        assert_eq!(swept(std::slice::from_ref(&comment), Some(true), 1000), none);
        assert_eq!(swept(&marked, Some(false), 1000 + GRACE - 1), none);
        assert_eq!(swept(&marked, Some(false), 1000 + GRACE), [gone("/private/comment"), gone(MISSING)]);
        assert_eq!(swept(&marked, Some(true), 1000 + GRACE), [gone(MISSING)]);
        assert_eq!(swept(&marked, None, 1000 + GRACE), none, "nobody has looked");
        assert_eq!(swept(&moving, Some(false), 1000 + GRACE), [gone("/private/comment"), gone(MISSING)]);
        assert_eq!(swept(&marked[1..], Some(false), 1000), [gone(MISSING)], "nothing is kept that could be lost");
        assert_eq!(swept(&[], Some(false), 1000), none);
    }

    #[test]
    fn preferences_belong_to_a_device_and_the_rest_to_the_user() {
        let device = DeviceName::default();
        assert_eq!(
            owner(&entry("/private/vendor/lemonade/notify/event/filter"), &device),
            Owner::Device(device.clone())
        );
        assert_eq!(owner(&entry("/private/vendor/lemonade/notifyx"), &device), Owner::User);
        assert_eq!(owner(&entry("/private/comment"), &device), Owner::User);
    }
}
