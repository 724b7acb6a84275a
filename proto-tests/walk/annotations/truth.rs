//! What should be kept: a map, and a handful of rules that share nothing with the program but the documents.

use std::collections::{BTreeMap, BTreeSet};

use proto_tests::random::Random;

/// Mailbox (none: the server), device (none: the user's), name.
pub(super) type Place = (String, String, String);

/// A name, and its new value if it is to have one.
pub(super) type Edit = (String, Option<Vec<u8>>);

/// Entries and their values, and the length of the longest that was left out.
pub(super) type Found = (BTreeMap<String, Vec<u8>>, usize);

/// The device is one of these entries: reading says which, writing chooses another.
const DEVICE: &str = "/private/vendor/lemonade/device";

/// Where an entry may stand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Server,
    Mailbox,
    Either,
}

/// Name, where, and the values it may have: none is any.
const ENTRIES: [(&str, On, &[&str]); 13] = [
    ("/private/comment", On::Either, &[]),
    ("/shared/comment", On::Either, &[]),
    ("/private/vendor/kmail/colour", On::Either, &[]),
    ("/private/vendor/kmail/colour/dark", On::Either, &[]),
    ("/shared/vendor/kmail/x y", On::Either, &[]),
    ("/private/vendor/lemonade/notify/event/filter", On::Mailbox, &["ALL", "NEW", "NONE"]),
    ("/private/vendor/lemonade/notify/inband/msgformat", On::Mailbox, &["(UID)", "(UID FLAGS ENVELOPE)"]),
    ("/private/vendor/lemonade/notify/outband/limit", On::Mailbox, &["total=5", "size=10 total=7"]),
    ("/private/vendor/lemonade/notify/default/filter", On::Server, &["ALL", "NEW"]),
    ("/private/filters/values/boss", On::Server, &["FROM boss", "NOT SEEN"]),
    ("/private/filters/descriptions/boss", On::Server, &[]),
    ("/shared/filters/descriptions/boss", On::Server, &[]),
    (DEVICE, On::Server, &["default", "pixel", "tablet"]),
];

/// What may not be set anywhere: to be read only, unknown, no value of this entry.
const WRONG: [(&str, &str); 5] = [
    ("/shared/vendor/lemonade/notify/security/integrity", "x"),
    ("/private/vendor/lemonade/nothing", "x"),
    ("/private/vendor/lemonade/notify/event/filter", "PIGEON"),
    ("/private/vendor/lemonade/notify/outband/limit", "total=0"),
    ("/private/vendor/lemonade/notify/inband/push", "shove"),
];

/// What the proxy itself says of the server.
const SAID: [(&str, &str); 3] = [
    ("/private/vendor/lemonade/notify/outband/channel", "NONE"),
    ("/shared/vendor/lemonade/notify/inband/push", "MessageNew MessageExpunge FlagChange new expunged"),
    ("/shared/vendor/lemonade/notify/security/integrity", "NONE"),
];

/// Places of the tree to look at, beside the entries themselves.
const PLACES: [&str; 7] = [
    "/private/vendor",
    "/shared/vendor",
    "/private/vendor/kmail",
    "/private/filters",
    "/shared/filters",
    "/private/vendor/lemonade",
    "/private/vendor/lemonade/notify",
];

/// A GETMETADATA of RFC 5464.
pub(super) struct Get {
    pub(super) mailbox: String,
    pub(super) names: Vec<String>,
    pub(super) depth: Option<u8>,
    pub(super) most: Option<usize>,
    /// Options stand behind the mailbox, as in the RFC's examples.
    pub(super) behind: bool,
}

/// How deep without an end.
pub(super) const INFINITY: u8 = 9;

#[derive(Clone)]
pub(super) struct Truth {
    native: bool,
    most: usize,
    pub(super) mailboxes: BTreeSet<String>,
    entries: BTreeMap<Place, Vec<u8>>,
}

impl Truth {
    pub(super) fn new(native: bool, most: usize) -> Self {
        Self { native, most, mailboxes: BTreeSet::from(["INBOX".to_owned()]), entries: BTreeMap::new() }
    }

    /// Whether the backend keeps this one.
    fn is_theirs(&self, (mailbox, _, name): &Place) -> bool {
        let ours = ["/private/vendor/lemonade/", "/shared/vendor/lemonade/"].iter().any(|it| name.starts_with(it));
        let filter = mailbox.is_empty() && name.contains("/filters/");
        self.native && !ours && !filter
    }

    pub(super) fn entries_here(&self) -> BTreeMap<Place, Vec<u8>> {
        self.entries
            .iter()
            .filter(|(place, _)| !self.is_theirs(place))
            .map(|(at, it)| (at.clone(), it.clone()))
            .collect()
    }

    pub(super) fn entries_there(&self) -> BTreeMap<Place, Vec<u8>> {
        self.entries
            .iter()
            .filter(|(place, _)| self.is_theirs(place))
            .map(|(at, it)| (at.clone(), it.clone()))
            .collect()
    }

    /// What is true after a SETMETADATA, and the device then; or why it has to be refused.
    pub(super) fn set(&self, mailboxes: &[String], device: &str, edits: &[Edit]) -> Result<(Self, String), String> {
        let mut after = self.clone();
        let mut device = device.to_owned();
        for (name, value) in edits {
            if name == DEVICE {
                device = String::from_utf8_lossy(value.as_ref().ok_or("a device has a name")?).into_owned();
            }
        }
        if mailboxes.is_empty() {
            return Err("no mailbox".to_owned());
        }
        let theirs = |(name, _): &Edit| self.is_theirs(&(mailboxes[0].clone(), String::new(), name.clone()));
        if mailboxes.len() > 1 && edits.iter().any(theirs) {
            return Err("the backend takes back what it keeps of one mailbox at a time".to_owned());
        }
        for mailbox in mailboxes {
            if !mailbox.is_empty() && !self.mailboxes.contains(mailbox) {
                return Err(format!("no mailbox {mailbox}"));
            }
            for (name, value) in edits {
                allowed(mailbox, name, value.as_deref())?;
                let of_device = name.starts_with("/private/vendor/lemonade/notify/");
                let place = (mailbox.clone(), if of_device { device.clone() } else { String::new() }, name.clone());
                match value {
                    _ if name == DEVICE => {}
                    Some(value) => _ = after.entries.insert(place, value.clone()),
                    None => _ = after.entries.remove(&place),
                }
            }
        }
        let adds = edits.iter().any(|edit| edit.1.is_some() && edit.0 != DEVICE && !theirs(edit));
        match adds && after.entries_here().len() > self.most {
            true => Err(format!("more than {} entries", self.most)),
            false => Ok((after, device)),
        }
    }

    /// What a device reads; `None`: there is no such mailbox. And the length of the longest value that is left out.
    pub(super) fn get(&self, device: &str, get: &Get) -> Option<Found> {
        if !get.mailbox.is_empty() && !self.mailboxes.contains(&get.mailbox) {
            return None;
        }
        let depth = get.depth.unwrap_or(0);
        let wanted = |name: &str| get.names.iter().any(|of| is_within(name, of, depth));
        let mut found = self.visible(device, &get.mailbox);
        found.retain(|name, _| wanted(name));
        let fits = |value: &Vec<u8>| get.most.is_none_or(|most| value.len() <= most);
        let skipped = found.values().filter(|value| !fits(value)).map(Vec::len).max().unwrap_or(0);
        found.retain(|_, value| fits(value));
        Some((found, skipped))
    }

    fn visible(&self, device: &str, mailbox: &str) -> BTreeMap<String, Vec<u8>> {
        let own = |place: &Place| place.0 == *mailbox && (place.1.is_empty() || place.1 == *device);
        let own = self.entries.iter().filter(|(place, _)| own(place));
        let mut found: BTreeMap<_, _> = own.map(|((_, _, name), value)| (name.clone(), value.clone())).collect();
        if mailbox.is_empty() {
            let said = SAID.iter().map(|(name, value)| (*name, *value)).chain([(DEVICE, device)]);
            found.extend(said.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())));
        }
        found
    }

    /// What the draft's GETMETADATA finds: entry, attribute, value.
    pub(super) fn attributes(
        &self,
        device: &str,
        patterns: &[&str],
        asked: &[&str],
    ) -> BTreeSet<(String, String, Vec<u8>)> {
        let mut found = BTreeSet::new();
        for (name, value) in self.visible(device, "") {
            let (entry, attribute, suffix) = draft(&name);
            if !patterns.iter().any(|pattern| fits(pattern.as_bytes(), entry.as_bytes())) {
                continue;
            }
            let full = format!("{attribute}{suffix}");
            if asked.iter().any(|it| *it == attribute || *it == full) {
                found.insert((entry.clone(), full, value.clone()));
            }
            let size = format!("size{suffix}");
            if attribute == "value" && asked.iter().any(|it| *it == "size" || *it == size) {
                found.insert((entry, size, value.len().to_string().into_bytes()));
            }
        }
        found
    }

    /// What a pattern means. With `%` also a name that is none and only has children below it (RFC 3501 section 6.3.8): it takes
    /// no annotation, so that the command is refused.
    pub(super) fn matching(&self, pattern: &str) -> Vec<String> {
        let above = |name: &str| name.match_indices('/').map(|(at, _)| name[..at].to_owned()).collect::<Vec<_>>();
        let parents = self.mailboxes.iter().filter(|_| pattern.contains('%')).flat_map(|name| above(name));
        let names: BTreeSet<String> = parents.chain(self.mailboxes.iter().cloned()).collect();
        names.into_iter().filter(|name| fits(pattern.as_bytes(), name.as_bytes())).collect()
    }

    pub(super) fn delete(&mut self, name: &str) {
        self.mailboxes.remove(name);
        self.entries.retain(|place, _| place.0 != name);
    }

    /// Whether this is a question that servers answer alike: not into itself, and not onto mailboxes that are there.
    pub(super) fn may_be_renamed(&self, from: &str, to: &str) -> bool {
        let into_itself = below(to, from).is_some() || below(from, to).is_some();
        let onto =
            |name: &String| below(name, from).is_some_and(|rest| self.mailboxes.contains(&format!("{to}{rest}")));
        let onto = !self.mailboxes.contains(to) && from != "INBOX" && self.mailboxes.iter().any(onto);
        !into_itself && !onto
    }

    /// RFC 5464 section 4: annotations follow their mailbox and those below it, and of INBOX they are copied.
    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if from == "INBOX" {
            self.mailboxes.insert(to.to_owned());
            let copied: Vec<_> = self.entries.iter().filter(|(place, _)| place.0 == from).collect();
            let copied: Vec<_> =
                copied.into_iter().map(|(at, it)| ((to.to_owned(), at.1.clone(), at.2.clone()), it.clone())).collect();
            // The backend copies what it keeps; we copy all of ours, or none where the quota does not allow it.
            let (theirs, ours): (Vec<_>, Vec<_>) = copied.into_iter().partition(|(place, _)| self.is_theirs(place));
            self.entries.extend(theirs);
            if self.entries_here().len() + ours.len() <= self.most {
                self.entries.extend(ours);
            }
            return;
        }
        let moved = |name: &str| below(name, from).map_or_else(|| name.to_owned(), |rest| format!("{to}{rest}"));
        self.mailboxes = self.mailboxes.iter().map(|name| moved(name)).collect();
        let entries = std::mem::take(&mut self.entries);
        self.entries =
            entries.into_iter().map(|((name, device, entry), value)| ((moved(&name), device, entry), value)).collect();
    }
}

impl Get {
    pub(super) fn random(random: &mut Random, mailbox: String) -> Self {
        let name = |random: &mut Random| match random.one_in(2) {
            true => (*random.pick(&PLACES)).to_owned(),
            false => random.pick(&ENTRIES).0.to_owned(),
        };
        let names = (0..random.within(1..4)).map(|_| name(random)).collect();
        let depth = *random.pick(&[None, Some(0), Some(1), Some(INFINITY), Some(INFINITY)]);
        let most = if random.one_in(3) { Some(random.below(60)) } else { None };
        Self { mailbox, names, depth, most, behind: random.one_in(2) }
    }

    /// All there is.
    pub(super) fn everything(mailbox: String) -> Self {
        let names = PLACES.iter().copied().chain(ENTRIES.iter().map(|row| row.0)).map(str::to_owned).collect();
        Self { mailbox, names, depth: Some(INFINITY), most: None, behind: false }
    }
}

/// Some edits of one command; once in a while one that must be refused, and the others with it.
pub(super) fn some_edits(random: &mut Random, on_server: bool) -> Vec<Edit> {
    let stands = |on: On| on == On::Either || (on == On::Server) == on_server;
    let rows: Vec<_> = ENTRIES.iter().filter(|row| stands(row.1)).collect();
    let mut edits = Vec::new();
    for _ in 0..random.within(1..5) {
        let (name, _, values) = **random.pick(&rows);
        let value = match values {
            _ if random.one_in(4) => None,
            [] => Some(any_value(random)),
            some => Some(random.pick(some).as_bytes().to_vec()),
        };
        // The device is chosen now and then; it is the whole session's.
        if name != DEVICE || random.one_in(3) {
            edits.push((name.to_owned(), value));
        }
    }
    if random.one_in(8) || edits.is_empty() {
        let (name, value) = *random.pick(&WRONG);
        edits.insert(random.below(edits.len() + 1), (name.to_owned(), Some(value.as_bytes().to_vec())));
    }
    edits
}

/// Patterns and attributes of the draft.
pub(super) fn some_attributes(random: &mut Random) -> (Vec<&'static str>, Vec<&'static str>) {
    const PATTERNS: [&str; 9] = [
        "/comment",
        "/vendor/kmail/colour",
        "/vendor/kmail/*",
        "/vendor/kmail/%",
        "/vendor/%/colour",
        "/filters/*",
        "/notify/*",
        "/notify/default",
        "/vendor/lemonade/device",
    ];
    const ATTRIBUTES: [&str; 7] = ["value", "value.priv", "value.shared", "size", "size.priv", "filter", "filter.priv"];
    let patterns = (0..random.within(1..3)).map(|_| *random.pick(&PATTERNS)).collect();
    (patterns, (0..random.within(1..3)).map(|_| *random.pick(&ATTRIBUTES)).collect())
}

/// Any octets: what must be quoted, what may not be, what looks like something else.
pub(super) fn any_value(random: &mut Random) -> Vec<u8> {
    match random.below(10) {
        0 => Vec::new(),
        1 => b"quote \" and \\".to_vec(),
        2 => b"a)\r\nz9 CREATE smuggled\r\n".to_vec(),
        3 => b"\0\xff\0".to_vec(),
        4 => "gr\u{fc}n".into(),
        5 => random.pick(&[&b"NIL"[..], b"{5}", b"{3+}\r\nabc", b"(x y)", b"~{1}"]).to_vec(),
        6 => vec![b'x'; random.within(1020..3000)],
        _ => (0..random.below(20)).map(|_| random.bits() as u8).collect(),
    }
}

fn allowed(mailbox: &str, name: &str, value: Option<&[u8]>) -> Result<(), String> {
    let of = |on: On| on == On::Either || (on == On::Server) == mailbox.is_empty();
    let Some((_, _, values)) = ENTRIES.iter().find(|(known, on, _)| *known == name && of(*on)) else {
        return Err(format!("{name} is nothing that may be set"));
    };
    match value {
        Some(value) if !values.is_empty() && !values.iter().any(|it| it.as_bytes() == value) => {
            Err(format!("no {name}"))
        }
        _ => Ok(()),
    }
}

/// RFC 5464 section 4.2.2.
fn is_within(name: &str, of: &str, depth: u8) -> bool {
    below(name, of).is_some_and(|rest| rest.matches('/').count() <= usize::from(depth))
}

/// What stands behind a name in another: nothing, or `/` and more.
fn below<'a>(name: &'a str, of: &str) -> Option<&'a str> {
    name.strip_prefix(of).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Entry, attribute and suffix of the draft.
pub(super) fn draft(name: &str) -> (String, String, &'static str) {
    let (suffix, path) = match name.strip_prefix("/private") {
        Some(path) => (".priv", path),
        None => (".shared", &name["/shared".len()..]),
    };
    match path.strip_prefix("/vendor/lemonade/notify/").and_then(|rest| rest.split_once('/')) {
        Some((group, attribute)) => (format!("/notify/{group}"), attribute.to_owned(), suffix),
        None => (path.to_owned(), "value".to_owned(), suffix),
    }
}

/// `*` is anything, `%` anything without a slash.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', rest @ ..] => (0..=name.len()).any(|at| fits(rest, &name[at..])),
        [b'%', rest @ ..] => (0..=name.len()).any(|at| !name[..at].contains(&b'/') && fits(rest, &name[at..])),
        [octet, rest @ ..] => name.first() == Some(octet) && fits(rest, &name[1..]),
    }
}
