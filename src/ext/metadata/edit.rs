//! SETMETADATA: what is to be kept here and what by the backend, all of it or nothing (RFC 5464 section 4.3).
//!
//!     C: a SETMETADATA INBOX (/private/vendor/lemonade/notify/event/filter "NEW" /private/comment "x")
//!     >  p1 LIST "" "INBOX"
//!     >  p2 SETMETADATA "INBOX" (/private/comment "x")     where the backend has METADATA
//!     S: a OK ...                                          when both are kept
//!
//! Requirements N12 to N15.

use std::collections::{BTreeMap, BTreeSet};

use super::{accessible, bad, is_native, names::load, write_pair};
use crate::{
    account::{
        annotation::{self, Role},
        channel::Kind,
        draft,
        preference::{Preferences, Wrong},
        registration::{self, Subscription, Token},
        special_use,
    },
    imap::{
        entry::EntryName,
        list,
        metadata::{Attribute, Set, Value},
        token,
        verb::{self, Verb},
    },
    session::{
        effect::{Annotated, Binding, Notice, OverQuota},
        layer::Refusal,
        script::{Ending, Given, Server},
    },
    store::{self, Change, Device, DeviceName, Entry, Key, Owner, Query, Source},
};

const SETMETADATA: &Verb = verb::row_of("SETMETADATA");

/// Mailboxes that one SETMETADATA of the draft may name with a pattern.
const MOST_MAILBOXES: usize = 1000;

/// Entries that one SETMETADATA may set, in all mailboxes that it names together.
const MOST_EDITS: usize = 10_000;

pub(super) async fn set(given: Given, server: Server) -> Result<Ending, Refusal> {
    let (mailboxes, edits) = match Set::parse(&given.arguments).map_err(bad)? {
        Set::Entries { mailbox, edits } => {
            let mailbox = list::canonical(&mailbox);
            let ours =
                |(name, _): &(EntryName, _)| annotation::is_ours(name, mailbox.is_empty(), &server.plan().backend);
            if is_native(&server, mailbox.is_empty()) && !edits.iter().any(ours) {
                return Ok(Ending::Forward);
            }
            (vec![mailbox], edits)
        }
        Set::Attributes { mailbox, edits } => {
            let row =
                |(entry, attribute, value): (Box<str>, Attribute, _)| Ok((draft::row(&entry, &attribute)?, value));
            let edits = edits.into_iter().map(row).collect::<Result<_, draft::DraftError>>();
            (named(&server, &mailbox).await?, edits.map_err(|error| Refusal::bad(error.to_string()))?)
        }
    };
    let assigns = |(name, _): &(EntryName, _)| name.as_str() == special_use::ENTRY;
    if mailboxes.len() > 1 && edits.iter().any(assigns) {
        return Err(Refusal::no("CANNOT", "a use belongs to one mailbox"));
    }
    if edits.len() * mailboxes.len() > MOST_EDITS {
        return Err(Refusal::no("LIMIT", "too many entries of too many mailboxes at once"));
    }
    let mut edit = Edit::new(&given, &server, edits)?;
    for mailbox in &mailboxes {
        edit.apply(mailbox).await?;
    }
    edit.save().await?;
    Ending::done("SETMETADATA done")
}

/// Of one entry that is named twice the last word counts.
fn last_words(edits: Vec<Ours>) -> Vec<Ours> {
    let mut named = BTreeSet::new();
    let mut last: Vec<_> = edits.into_iter().rev().filter(|(_, name, _)| named.insert(name.clone())).collect();
    last.reverse();
    last
}

/// The mailboxes that the draft's SETMETADATA names, perhaps with a pattern; the server is named by nothing alone.
async fn named(server: &Server, pattern: &[u8]) -> Result<Vec<Box<[u8]>>, Refusal> {
    if !pattern.iter().any(|octet| matches!(octet, b'*' | b'%')) {
        return Ok(vec![list::canonical(pattern)]);
    }
    let names: Vec<_> = server.list(pattern).await?.iter().map(|listed| list::canonical(&listed.name)).collect();
    match names.len() {
        0 => Err(Refusal::no("NONEXISTENT", "no mailbox has such a name")),
        1..=MOST_MAILBOXES => Ok(names),
        _ => Err(Refusal::no("LIMIT", "too many mailboxes have such a name")),
    }
}

/// Entries, and what becomes of them.
type Edits = Vec<(EntryName, Option<Value>)>;

/// An entry of ours, what it is to us, and what becomes of it.
type Ours = (Role, EntryName, Option<Value>);

/// A SETMETADATA on its way to the store.
struct Edit<'a> {
    server: &'a Server,
    edits: Edits,
    before: &'a Binding,
    /// The device that it belongs to; another one than before if the command says so.
    device: Binding,
    keys: Vec<store::Edit>,
    touched: Vec<(Box<[u8]>, Owner, EntryName)>,
    /// The time of day.
    now: i64,
    /// What the client is told of entries that it did not name.
    lines: Vec<Vec<u8>>,
    /// What the backend is to keep, mailbox by mailbox.
    theirs: Vec<(Box<[u8]>, Edits)>,
    /// What the store has of the server, for the defaults of the device.
    defaults: Option<Vec<Entry>>,
}

impl<'a> Edit<'a> {
    /// The device is settled first: what else is set belongs to it.
    fn new(given: &'a Given, server: &'a Server, edits: Edits) -> Result<Self, Refusal> {
        let mut device = given.device.clone();
        for (name, value) in &edits {
            if !name.is_leaf() {
                return Err(Refusal::bad("an entry below /vendor/ has a name behind the vendor's"));
            }
            if name.as_str() == annotation::DEVICE {
                let value = value.as_ref().ok_or_else(|| Refusal::no("CANNOT", "a device has a name"))?;
                let name = DeviceName::parse(&value.octets).map_err(|error| Refusal::bad(error.to_string()))?;
                device = Binding { device: name, source: Source::Entry };
            }
        }
        let (before, keys, touched) = (&given.device, Vec::new(), Vec::new());
        let (lines, theirs) = (Vec::new(), Vec::new());
        Ok(Self { server, edits, before, device, keys, touched, now: 0, lines, theirs, defaults: None })
    }

    /// Looks at what becomes of one mailbox, or of the server.
    async fn apply(&mut self, mailbox: &[u8]) -> Result<(), Refusal> {
        let on_server = mailbox.is_empty();
        if !on_server {
            accessible(self.server, mailbox).await?;
        }
        let backend = &self.server.plan().backend;
        let native = is_native(self.server, on_server);
        let is_theirs = |name: &EntryName| native && !annotation::is_ours(name, on_server, backend);
        let (theirs, ours): (Vec<_>, Vec<_>) = self.edits.clone().into_iter().partition(|(name, _)| is_theirs(name));
        let roles: Vec<_> =
            ours.into_iter().map(|(name, value)| (annotation::role(&name, on_server), name, value)).collect();
        for (role, _, value) in &roles {
            self.check(role, value.as_ref())?;
        }
        let (before, now) = load(self.server, mailbox).await?;
        self.now = now;
        for (role, name, value) in last_words(roles) {
            let value = value.map(|value| value.octets);
            match (role, value) {
                (Role::SpecialUse, Some(value)) => self.assign(mailbox, name, &value).await?,
                (role, value) => self.edit(mailbox, role, name, value, &before)?,
            }
        }
        self.judge(mailbox, before).await?;
        if !theirs.is_empty() {
            self.theirs.push((mailbox.into(), theirs));
        }
        Ok(())
    }

    fn check(&self, role: &Role, value: Option<&Value>) -> Result<(), Refusal> {
        match role {
            Role::ReadOnly => Err(Refusal::no("NOPERM", "this entry can only be read")),
            Role::Unknown => Err(Refusal::no("CANNOT", "there is no such entry here")),
            _ => {
                let settings = &self.server.plan().account;
                value.map_or(Ok(()), |value| annotation::check(role, &value.octets, settings)).map_err(wrong)
            }
        }
    }

    fn edit(
        &mut self,
        mailbox: &[u8],
        role: Role,
        name: EntryName,
        value: Option<Box<[u8]>>,
        before: &[Entry],
    ) -> Result<(), Refusal> {
        let now = self.now;
        let key = |owner| Key { mailbox: mailbox.into(), owner, name: name.clone() };
        match (role, value) {
            (Role::Device, _) => return Ok(()),
            (Role::Token, None) => {
                let tokens = before.iter().filter(|entry| entry.key.name == name);
                self.keys.extend(tokens.map(|entry| (entry.key.clone(), None)));
            }
            (Role::Token, Some(value)) => {
                let token = Token::parse(&value, now).ok_or_else(|| Refusal::bad("this is no device token"))?;
                let dead = before.iter().filter(|entry| Token::of_row(entry).is_some_and(|token| !token.lives(now)));
                self.keys.extend(dead.map(|entry| (entry.key.clone(), None)));
                self.register(token.device());
                self.keys.push((key(Owner::Device(token.device())), Some(token.stored())));
            }
            (Role::Subscription(id), value) => {
                let device = registration::subscriber(&id);
                let value = value.map(|value| Subscription::parse(&value, now)).transpose();
                let value = value.map_err(|why| Refusal::no("CANNOT", why))?.map(|it| it.stored());
                if value.is_some() {
                    self.register(device.clone());
                }
                self.keys.push((key(Owner::Device(device)), value));
            }
            (_, value) => self.keys.push((key(annotation::owner(&name, &self.device.device)), value)),
        }
        let owner = annotation::owner(&name, &self.device.device);
        self.touched.push((mailbox.into(), owner, name));
        Ok(())
    }

    /// A use belongs to one mailbox: where another one has it, it is taken from there (RFC 6154 section 5.4).
    async fn assign(&mut self, mailbox: &[u8], name: EntryName, value: &[u8]) -> Result<(), Refusal> {
        let uses = special_use::read(value).map_err(|error| Refusal::no("USEATTR", error.to_string()))?;
        let (all, _) = self.server.entries(Query::Entries).await?;
        let edits = special_use::assign(&all, mailbox, &uses);
        for (key, value) in edits.iter().filter(|(key, _)| *key.mailbox != *mailbox) {
            let mut line = b"* METADATA ".to_vec();
            token::write_string(&key.mailbox, &mut line);
            line.extend_from_slice(b" (");
            match value {
                Some(value) => write_pair(name.as_str(), value, &mut line),
                None => line.extend_from_slice(format!("{name} NIL").as_bytes()),
            }
            line.push(b')');
            self.lines.push(line);
        }
        self.touched.extend(edits.iter().map(|(key, _)| (key.mailbox.clone(), Owner::User, name.clone())));
        self.keys.extend(edits);
        Ok(())
    }

    /// A session that has said nothing of its device belongs to the one that registers (architecture section 12).
    fn register(&mut self, device: DeviceName) {
        let registered = Binding { device, source: Source::Registration };
        if registered.replaces(&self.device) {
            self.device = registered;
        }
    }

    /// Whether the preferences of the device go together, as they will be.
    async fn judge(&mut self, mailbox: &[u8], before: Vec<Entry>) -> Result<(), Refusal> {
        if !self.touched.iter().any(|(_, owner, _)| *owner != Owner::User) {
            return Ok(());
        }
        if self.defaults.is_none() {
            // A default concerns every mailbox.
            let query = if mailbox.is_empty() { Query::Entries } else { Query::Mailbox(Box::default()) };
            self.defaults = Some(self.server.entries(query).await?.0);
        }
        let defaults = self.defaults.iter().flatten().cloned();
        let entries = before.into_iter().chain(defaults);
        let concerned = |(key, _): &&store::Edit| key.mailbox.is_empty() || *key.mailbox == *mailbox;
        let keys: Vec<_> = self.keys.iter().filter(concerned).cloned().collect();
        let preferences = Preferences::after(entries, &keys, &self.device.device, mailbox).map_err(wrong)?;
        if preferences.is_web_push() && self.device.source == Source::Default {
            self.move_to(registration::device(Kind::WebPush, preferences.address()));
        }
        Ok(())
    }

    /// What is set belongs to a device that has just registered.
    fn move_to(&mut self, device: DeviceName) {
        let (was, is) = (Owner::Device(self.device.device.clone()), Owner::Device(device.clone()));
        self.register(device);
        let owners = self.keys.iter_mut().map(|(key, _)| &mut key.owner);
        let owners = owners.chain(self.touched.iter_mut().map(|(_, owner, _)| owner));
        owners.filter(|owner| **owner == was).for_each(|owner| *owner = is.clone());
    }

    async fn tell_backend(&self, mailbox: &[u8], edits: &[(EntryName, Option<Value>)]) -> Result<(), Refusal> {
        let mut arguments = Vec::new();
        token::write_string(mailbox, &mut arguments);
        for (at, (name, value)) in edits.iter().enumerate() {
            arguments.extend_from_slice(if at == 0 { b" (" } else { b" " });
            match value {
                Some(value) => write_pair(name.as_str(), &value.octets, &mut arguments),
                None => {
                    token::write_astring(name.as_str().as_bytes(), &mut arguments);
                    arguments.extend_from_slice(b" NIL");
                }
            }
        }
        arguments.push(b')');
        self.server.ask(SETMETADATA, arguments).await?.passed_on().map(|_| ())
    }

    /// All of it or nothing: what we refuse is refused before the backend hears of it, and what the backend refuses before
    /// anything of ours is kept.
    async fn tell(&self) -> Result<(), Refusal> {
        if self.theirs.is_empty() {
            return Ok(());
        }
        if self.keys.iter().any(|(_, value)| value.is_some()) {
            let (entries, _) = self.server.entries(Query::Entries).await?;
            let quota = self.server.plan().account.quota();
            let over = quota.foresee(entries, &self.keys).err().and_then(|error| OverQuota::of(&error));
            over.map_or(Ok(()), |which| Err(over_quota(which)))?;
        }
        for (mailbox, edits) in &self.theirs {
            self.tell_backend(mailbox, edits).await?;
        }
        Ok(())
    }

    /// On the disk, then told.
    async fn save(self) -> Result<(), Refusal> {
        self.tell().await?;
        let Self { server, keys, device, touched, lines, now, .. } = self;
        let mut changed = 0;
        if !keys.is_empty() {
            let quota = server.plan().account.quota();
            changed = server.save(Change::Entries { edits: keys, quota }).await?.map_err(over_quota)?.entries;
        }
        lines.into_iter().for_each(|line| server.answer(line));
        if device != *self.before {
            let name = device.device.clone();
            let seen = Device { name, source: device.source, first_seen: now, last_seen: now };
            // That it was seen is no part of what was asked for.
            let _ = server.save(Change::Seen(seen)).await;
            server.bind(device);
        }
        if changed == 0 {
            return Ok(());
        }
        let mut told: BTreeMap<(Box<[u8]>, Owner), Vec<EntryName>> = BTreeMap::new();
        for (mailbox, owner, name) in touched {
            told.entry((mailbox, owner)).or_default().push(name);
        }
        for ((mailbox, owner), entries) in told {
            server.publish(Notice::Annotated(Annotated { mailbox, owner, entries }));
        }
        Ok(())
    }
}

fn over_quota(which: OverQuota) -> Refusal {
    match which {
        OverQuota::Entries(most) => {
            Refusal::no("METADATA TOOMANY", format!("a user has at most {most} annotations here"))
        }
        OverQuota::Octets(most) => {
            Refusal::no("OVERQUOTA", format!("annotations of a user have at most {most} octets here"))
        }
    }
}
fn wrong(wrong: Wrong) -> Refusal {
    match wrong {
        Wrong::Syntax(text) => Refusal::bad(text),
        Wrong::Impossible(text) => Refusal::no("CANNOT", text),
    }
}
