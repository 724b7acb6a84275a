//! SETMETADATA: what is to be kept here and what by the backend, all of it or nothing (RFC 5464 section 4.3).
//!
//!     C: a SETMETADATA INBOX (/private/vendor/lemonade/notify/event/filter "NEW" /private/comment "x")
//!     >  p1 LIST "" "INBOX"
//!     >  p2 SETMETADATA "INBOX" (/private/comment "x")     where the backend has METADATA
//!     S: a OK ...                                          when both are kept
//!
//! Requirements N12 to N15.

use std::collections::{BTreeMap, BTreeSet};

use super::{accessible, bad, confirm, is_native, is_their_affair, names::load, write_pair};
use crate::{
    account::{
        annotation::{self, Role},
        channel::Kind,
        draft, enrolment,
        preference::{Preference, Preferences, Wrong},
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
    store::{self, Change, Device, DeviceName, Entry, Key, Owner, Query, Quota, Source},
};

const SETMETADATA: &Verb = verb::row_of("SETMETADATA");

/// Mailboxes that one SETMETADATA of the draft may name with a pattern.
const MOST_MAILBOXES: usize = 1000;

/// Entries that one SETMETADATA may set, in all mailboxes that it names together.
const MOST_EDITS: usize = 10_000;

pub(super) async fn set(given: Given, server: Server) -> Result<Ending, Refusal> {
    let set = match Set::parse(&given.arguments) {
        Err(_) if is_their_affair(&server, &given.arguments) => return Ok(Ending::Forward),
        read => read.map_err(bad)?,
    };
    let (dialect, mailboxes, edits) = match set {
        Set::Entries { mailbox, edits } => {
            let mailbox = list::canonical(&mailbox);
            let ours =
                |(name, _): &(EntryName, _)| annotation::is_ours(name, mailbox.is_empty(), &server.plan().native);
            if is_native(&server, mailbox.is_empty()) && !edits.iter().any(ours) {
                return Ok(Ending::Forward);
            }
            (Dialect::Rfc5464, vec![mailbox], edits)
        }
        Set::Attributes { mailbox, edits } => {
            let row =
                |(entry, attribute, value): (Box<str>, Attribute, _)| Ok((draft::row(&entry, &attribute)?, value));
            let edits = edits.into_iter().map(row).collect::<Result<_, draft::DraftError>>();
            let edits = edits.map_err(|error| Refusal::bad(error.to_string()))?;
            (Dialect::Draft, named(&server, &mailbox).await?, edits)
        }
    };
    let assigns = |(name, _): &(EntryName, _)| name.as_str() == special_use::ENTRY;
    if mailboxes.len() > 1 && edits.iter().any(assigns) {
        return Err(Refusal::no("CANNOT", "a use belongs to one mailbox"));
    }
    if edits.len() * mailboxes.len() > MOST_EDITS {
        return Err(Refusal::no("LIMIT", "too many entries of too many mailboxes at once"));
    }
    let on_server = mailboxes.iter().all(|mailbox| mailbox.is_empty());
    if let Some((name, value)) = edits.iter().find(|(name, _)| is_answer(&server, name, on_server)) {
        let (1, Some(value)) = (edits.len(), value) else {
            return Err(Refusal::no("CANNOT", "what was sent to an address is written back, by itself"));
        };
        return confirm::answer(&given, &server, name, &value.octets).await;
    }
    let mut edit = Edit::new(&given, &server, dialect, on_server, edits)?;
    edit.fits(mailboxes.len())?;
    for mailbox in &mailboxes {
        edit.apply(mailbox).await?;
    }
    edit.save(&mailboxes[0]).await?;
    Ending::done("SETMETADATA done")
}

/// Whether an entry is written to answer us.
fn is_answer(server: &Server, name: &EntryName, on_server: bool) -> bool {
    let is_theirs = is_native(server, on_server) && !annotation::is_ours(name, on_server, &server.plan().native);
    confirm::is_answer(name, on_server) && !is_theirs
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

/// In whose words a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Rfc5464,
    Draft,
}

impl Dialect {
    /// The code of a value that is too large; the draft's has no number.
    fn too_large(self, most: u64) -> String {
        match self {
            Self::Rfc5464 => format!("METADATA MAXSIZE {most}"),
            Self::Draft => "METADATA TOOBIG".to_owned(),
        }
    }
}

/// Entries, and what becomes of them.
type Edits = Vec<(EntryName, Option<Value>)>;

/// An entry of ours, what it is to us, and what becomes of it.
type Ours = (Role, EntryName, Option<Value>);

/// A SETMETADATA on its way to the store.
struct Edit<'a> {
    server: &'a Server,
    /// What we keep, in each mailbox.
    ours: Vec<Ours>,
    /// What the backend is to keep.
    theirs: Edits,
    before: &'a Binding,
    /// The device that it belongs to; another one than before if the command says so.
    device: Binding,
    keys: Vec<store::Edit>,
    touched: Vec<(Box<[u8]>, Owner, EntryName)>,
    /// The time of day.
    now: i64,
    /// What the client is told of entries that it did not name.
    lines: Vec<Vec<u8>>,
    /// What the store has of the server, for the defaults of the device.
    defaults: Option<Vec<Entry>>,
}

impl<'a> Edit<'a> {
    /// What can be judged without the store is judged here, and the device is settled: what is set belongs to it, in whatever
    /// order the command names it.
    fn new(
        given: &'a Given,
        server: &'a Server,
        dialect: Dialect,
        on_server: bool,
        edits: Edits,
    ) -> Result<Self, Refusal> {
        if edits.iter().any(|(name, _)| !name.is_leaf()) {
            return Err(Refusal::bad("an entry below /vendor/ has a name behind the vendor's"));
        }
        let native = is_native(server, on_server);
        let is_theirs = |name: &EntryName| native && !annotation::is_ours(name, on_server, &server.plan().native);
        let (theirs, ours): (Edits, Edits) = edits.into_iter().partition(|(name, _)| is_theirs(name));
        let role = |(name, value)| (annotation::role(&name, on_server), name, value);
        let ours: Vec<Ours> = ours.into_iter().map(role).collect();
        for (role, name, value) in &ours {
            check(server, dialect, role, name, value.as_ref())?;
        }
        let (before, device, keys, touched) = (&given.device, given.device.clone(), Vec::new(), Vec::new());
        let (ours, lines) = (last_words(ours), Vec::new());
        let mut edit = Self { server, ours, theirs, before, device, keys, touched, now: 0, lines, defaults: None };
        edit.settle_device()?;
        Ok(edit)
    }

    /// By the entry that names it, else by what it registers.
    fn settle_device(&mut self) -> Result<(), Refusal> {
        let mut registered = Vec::new();
        for (role, _, value) in &self.ours {
            match (role, value) {
                (Role::Device, Some(value)) => {
                    let name = DeviceName::parse(&value.octets).map_err(|error| Refusal::bad(error.to_string()))?;
                    self.device = Binding { device: name, source: Source::Entry };
                }
                (Role::Token, Some(value)) => {
                    registered.extend(Token::parse(&value.octets, 0).map(|token| token.device()))
                }
                (Role::Subscription(id), Some(_)) => registered.push(registration::subscriber(id)),
                _ => {}
            }
        }
        registered.into_iter().for_each(|device| self.register(device));
        Ok(())
    }

    /// A pattern names many mailboxes, and each would hold the values; and no backend takes several of them back at once.
    fn fits(&self, mailboxes: usize) -> Result<(), Refusal> {
        if mailboxes > 1 && !self.theirs.is_empty() {
            return Err(Refusal::no("CANNOT", "the backend keeps such entries, of one mailbox at a time"));
        }
        let octets: usize = self.ours.iter().filter_map(|(_, _, value)| value.as_ref()).map(|it| it.octets.len()).sum();
        let most = self.server.plan().account.quota().octets;
        match octets.saturating_mul(mailboxes) as u64 > most {
            true => Err(over_quota(OverQuota::Octets(most))),
            false => Ok(()),
        }
    }

    /// Looks at what becomes of one mailbox, or of the server.
    async fn apply(&mut self, mailbox: &[u8]) -> Result<(), Refusal> {
        if !mailbox.is_empty() {
            accessible(self.server, mailbox).await?;
        }
        let (before, now) = load(self.server, mailbox).await?;
        self.now = now;
        for (role, name, value) in self.ours.clone() {
            let value = value.map(|value| value.octets);
            match (role, value) {
                (Role::SpecialUse, Some(value)) => self.assign(mailbox, name, &value).await?,
                (role, value) => self.edit(mailbox, role, name, value, &before)?,
            }
        }
        self.judge(mailbox, before).await
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
                self.keys.push((key(Owner::Device(token.device())), Some(token.stored())));
            }
            (Role::Subscription(id), value) => {
                let device = registration::subscriber(&id);
                let value = value.map(|value| Subscription::parse(&value, now)).transpose();
                let value = value.map_err(|why| Refusal::no("CANNOT", why))?;
                let stood = before.iter().find(|entry| entry.key.name == name).and_then(Subscription::of_row);
                if let Some(value) = &value {
                    self.keys.extend(enrolment::set_again(before, &device, &value.address(), now));
                }
                self.keys.push((key(Owner::Device(device)), value.map(|it| it.following(stood).stored())));
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
        self.ask_again();
        if preferences.is_web_push() && self.device.source == Source::Default {
            self.move_to(registration::device(Kind::WebPush, preferences.address()));
        }
        Ok(())
    }

    /// Who sets an address again that has to be confirmed wants to be asked again.
    fn ask_again(&mut self) {
        let entries = self.defaults.as_deref().unwrap_or_default();
        let set = self.ours.iter().filter_map(|(role, _, value)| match role {
            Role::Preference(Preference::Address) => str::from_utf8(&value.as_ref()?.octets).ok(),
            _ => None,
        });
        let again = |address| enrolment::set_again(entries, &self.device.device, address, self.now);
        let again: Vec<_> = set.flat_map(again).collect();
        self.keys.extend(again);
    }

    /// What is set belongs to a device that has just registered.
    fn move_to(&mut self, device: DeviceName) {
        let (was, is) = (Owner::Device(self.device.device.clone()), Owner::Device(device.clone()));
        self.register(device);
        let owners = self.keys.iter_mut().map(|(key, _)| &mut key.owner);
        let owners = owners.chain(self.touched.iter_mut().map(|(_, owner, _)| owner));
        owners.filter(|owner| **owner == was).for_each(|owner| *owner = is.clone());
    }

    async fn tell_backend(&self, mailbox: &[u8]) -> Result<(), Refusal> {
        if self.theirs.is_empty() {
            return Ok(());
        }
        let mut arguments = Vec::new();
        token::write_string(mailbox, &mut arguments);
        for (at, (name, value)) in self.theirs.iter().enumerate() {
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

    /// What stands now where something is set, to be put back.
    async fn standing(&self) -> Result<Vec<store::Edit>, Refusal> {
        let (entries, _) = self.server.entries(Query::Entries).await?;
        let entries: BTreeMap<_, _> = entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
        Ok(self.keys.iter().map(|(key, _)| (key.clone(), entries.get(key).cloned())).collect())
    }

    /// On the disk. How many entries that were.
    async fn keep(&self, edits: Vec<store::Edit>, quota: Quota) -> Result<u64, Refusal> {
        match edits.is_empty() {
            true => Ok(0),
            false => Ok(self.server.save(Change::Entries { edits, quota }).await?.map_err(over_quota)?.entries),
        }
    }

    /// All of it or nothing: ours is kept first, and what the backend then refuses is taken back. Should that fail too, or the proxy
    /// end in between, ours is there without what the backend should have.
    async fn store(&self, mailbox: &[u8]) -> Result<u64, Refusal> {
        let standing = if self.theirs.is_empty() { Vec::new() } else { self.standing().await? };
        let changed = self.keep(self.keys.clone(), self.server.plan().account.quota()).await?;
        let told = self.tell_backend(mailbox).await;
        if told.is_err() {
            let _ = self.keep(standing, Quota::NONE).await;
        }
        told.map(|()| changed)
    }

    /// Kept, then told.
    async fn save(self, mailbox: &[u8]) -> Result<(), Refusal> {
        let changed = self.store(mailbox).await?;
        let Self { server, device, touched, lines, now, .. } = self;
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

/// Whether an entry may have this value, as far as that can be said of it alone.
fn check(
    server: &Server,
    dialect: Dialect,
    role: &Role,
    name: &EntryName,
    value: Option<&Value>,
) -> Result<(), Refusal> {
    let settings = &server.plan().account;
    match (role, value) {
        (Role::ReadOnly, _) => return Err(Refusal::no("NOPERM", "this entry can only be read")),
        (Role::Unknown, _) => return Err(Refusal::no("CANNOT", "there is no such entry here")),
        (Role::Device, None) => return Err(Refusal::no("CANNOT", "a device has a name")),
        (_, None) => return Ok(()),
        _ => {}
    }
    let octets = value.map_or(&[][..], |value| &value.octets);
    // With its name it is all that the user keeps.
    let most = settings.quota().octets.saturating_sub(name.as_str().len() as u64);
    if octets.len() as u64 > most {
        return Err(Refusal::no(dialect.too_large(most), "this value is larger than all that a user may keep here"));
    }
    annotation::check(role, octets, settings).map_err(wrong)
}

pub(super) fn over_quota(which: OverQuota) -> Refusal {
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
