//! What an annotation is to us: whose it is, who may write it, what its value has to be.
//!
//!     /private/comment                            the user's: any value
//!     /private/vendor/lemonade/notify/...         the device's: preferences, checked; on the server itself: ours to say
//!     /private/filters/values/NAME                the user's: search criteria (RFC 5466)
//!
//! A table of names, and of those that are kept here although the backend has annotations of its own. Requirements N12 to N15.

use super::{
    Settings,
    preference::{NOTIFY, Preference, Wrong},
    registration,
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

/// Seconds that the entries of a mailbox outlive it, unless we saw it deleted: a server may hide one for a while.
const GRACE: i64 = 24 * 3600;

/// What becomes of the entries of a mailbox that is not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// There are none, or their time is not over.
    Nothing,
    /// Note when it began.
    Mark(Edit),
    /// They go.
    Forget,
}

/// What is to be done about a mailbox that is not found, with these entries.
pub fn lost(mailbox: &[u8], entries: &[Entry], now: i64) -> Loss {
    match missing_since(entries) {
        _ if entries.is_empty() => Loss::Nothing,
        Some(since) if now >= since + GRACE => Loss::Forget,
        Some(_) => Loss::Nothing,
        None => mark(mailbox, Some(now)).map_or(Loss::Nothing, Loss::Mark),
    }
}

/// What is to be done about one that is found: nothing, unless it was not before.
pub fn found(mailbox: &[u8], entries: &[Entry]) -> Option<Edit> {
    missing_since(entries).and_then(|_| mark(mailbox, None))
}

fn missing_since(entries: &[Entry]) -> Option<i64> {
    let mark = entries.iter().find(|entry| entry.key.name.as_str() == MISSING)?;
    std::str::from_utf8(&mark.value).ok()?.parse().ok()
}

fn mark(mailbox: &[u8], since: Option<i64>) -> Option<Edit> {
    let name = EntryName::parse(MISSING.as_bytes()).ok()?;
    let key = Key { mailbox: mailbox.into(), owner: Owner::User, name };
    Some((key, since.map(|since| since.to_string().into_bytes().into())))
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
    /// What the mailbox is for (RFC 6154 section 5.4).
    SpecialUse,
    /// A push token of Delta Chat.
    Token,
    /// A push subscription of COI, of this id.
    Subscription(Box<str>),
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

/// Names at and below which entries are kept here, unless the backend itself has what they are for.
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
const ROLES: [(&str, On, Role); 14] = [
    ("/shared/admin", On::Server, Role::ReadOnly),
    (DEVICE, On::Server, Role::Device),
    ("/private/vendor/lemonade/notify/outband/", On::Server, Role::ReadOnly),
    ("/private/vendor/lemonade/notify/inband/", On::Server, Role::ReadOnly),
    ("/private/vendor/lemonade/notify/security/", On::Server, Role::ReadOnly),
    ("/shared/vendor/lemonade/", On::Either, Role::ReadOnly),
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
    let fits = |row: &str| match row.ends_with('/') {
        true => name.as_str().starts_with(row),
        false => name.as_str() == row,
    };
    let row = ROLES.iter().find(|(row, on, _)| on.is(on_server) && fits(row));
    row.map_or(Role::Plain, |(_, _, role)| role.clone())
}

/// Whether this entry, and all below it, is kept here although the backend has annotations.
pub fn is_ours(name: &EntryName, on_server: bool, backend: &Capabilities) -> bool {
    ours(on_server, backend).any(|root| name.is_within(&root, Depth::Infinity))
}

/// Whether entries that are kept here stand at this place of the tree, or as deep below it.
pub fn has_ours(name: &EntryName, depth: Depth, on_server: bool, backend: &Capabilities) -> bool {
    let below = |root: EntryName| depth != Depth::Zero && root.is_within(name, Depth::Infinity);
    is_ours(name, on_server, backend) || ours(on_server, backend).any(below)
}

/// Whether a command that we cannot read may name what is kept here, or reach it from above.
pub fn may_name_ours(arguments: &[u8]) -> bool {
    let arguments = arguments.to_ascii_lowercase();
    let below = |root: &'static str| root.trim_start_matches("/private").trim_start_matches("/shared");
    let mut words = OURS.iter().map(|(root, ..)| below(root)).chain(["/notify", "depth"]);
    words.any(|word| memchr::memmem::find(&arguments, word.as_bytes()).is_some())
}

fn ours(on_server: bool, backend: &Capabilities) -> impl Iterator<Item = EntryName> {
    let ours = OURS.iter().filter(move |(_, on, _)| on.is(on_server));
    let ours = ours.filter(|(_, _, native)| native.is_empty() || !backend.has(native));
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
    let shown = |entry: &Entry| match role(&entry.key.name, on_server) {
        Role::Subscription(_) => true,
        Role::Token => false,
        Role::Unknown if entry.key.name.as_str() == MISSING => false,
        _ => entry.key.owner == Owner::User || entry.key.owner == Owner::Device(device.clone()),
    };
    let kept = entries.into_iter().filter(shown).map(|entry| (entry.key.name, entry.value));
    let said = match on_server {
        true => said(device, settings, inband),
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
            ("/private/vendor/lemonade/notify/outband/colour", false, Role::Unknown),
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
