//! METADATA: annotations of mailboxes and of the server (RFC 5464), and in the words of source document 001 (section 11).
//!
//! Below: LIST, MYRIGHTS, perhaps METADATA.   Above: GETMETADATA, SETMETADATA, ENABLE METADATA.
//!
//!     C: a SETMETADATA INBOX /notify/outband (channel.priv "SMS=WAKEUP" address.priv "+4915112345678")
//!     >  p1 LIST "" INBOX
//!     S: a OK ...                                  when it is on the disk
//!     C: b GETMETADATA INBOX /private/vendor/lemonade/notify/outband/channel
//!     S: * METADATA INBOX (/private/vendor/lemonade/notify/outband/channel "SMS=WAKEUP")
//!     S: b OK ...
//!
//! What an entry is to us stands in `account/annotation.rs`, how the two dialects name a row in `account/draft.rs`. Where the
//! backend has annotations of its own they stay there, and ours are joined to them: DEPTH and MAXSIZE hold for both. Annotations
//! are kept per user, shared ones too: a proxy cannot know that a mailbox of two users is the same. Requirements N12 to N15.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    account::{
        annotation::{self, Loss, Role},
        channel::Kind,
        draft,
        preference::{Preferences, Wrong},
        registration::{self, Subscription, Token},
        special_use,
    },
    imap::{
        capability::Capabilities,
        entry::{Depth, EntryName},
        list,
        metadata::{self, Attribute, Get, MetadataError, Set, Value},
        response::Status,
        token,
        verb::{self, Verb},
    },
    session::{
        effect::{Annotated, Binding, Notice, OverQuota},
        layer::{Ask, Command, Extension, Layer, Out, Refusal, Reply},
        script::{Ending, Given, Script, Server, Work},
    },
    store::{self, Change, Device, DeviceName, Entry, Key, Owner, Query, Quota, Source},
};

/// RFC 5464.
pub const METADATA: Extension = Extension {
    name: "METADATA",
    spec: "RFC 5464",
    gives: &["METADATA"],
    joins: true,
    // RFC 9590: its answers would lack our entries.
    hides: &["LIST-METADATA"],
    hears: &["DELETE", "ENABLE", "GETMETADATA", "RENAME", "SETMETADATA"],
    concerns: |verb, arguments| verb.name != "ENABLE" || enables(arguments).next().is_some(),
    build: || Box::<Metadata>::default(),
    ..Extension::NONE
};

const ENABLE: &Verb = verb::row_of("ENABLE");
const GETMETADATA: &Verb = verb::row_of("GETMETADATA");
const MYRIGHTS: &Verb = verb::row_of("MYRIGHTS");
const SETMETADATA: &Verb = verb::row_of("SETMETADATA");

/// Mailboxes that one SETMETADATA of the draft may name with a pattern.
const MOST_MAILBOXES: usize = 1000;

/// Entries that one SETMETADATA may set, in all mailboxes that it names together.
const MOST_EDITS: usize = 10_000;

/// A value of the backend's that is longer is left out, as if the client had said MAXSIZE: it is to be held.
const LONGEST_VALUE: u32 = 64 << 10;

/// Who was told what, and what is under way.
#[derive(Debug, Default)]
struct Metadata {
    /// Changes of mailboxes are told unasked (RFC 5464 section 4.1).
    of_mailboxes: bool,
    /// Changes of the server are.
    of_server: bool,
    script: Option<Script>,
}

impl Layer for Metadata {
    fn command(&mut self, command: Command<'_>, out: &mut Out<'_>) {
        let run: fn(Given, Server) -> Work = match command.verb.name {
            "ENABLE" => {
                self.of_server = true;
                self.of_mailboxes |= enables(command.arguments).any(|word| word.eq_ignore_ascii_case("METADATA"));
                |given, server| Box::pin(enable(given, server))
            }
            "DELETE" => |given, server| Box::pin(delete(given, server)),
            "GETMETADATA" => |given, server| Box::pin(get(given, server)),
            "RENAME" => |given, server| Box::pin(rename(given, server)),
            _ => |given, server| Box::pin(set(given, server)),
        };
        self.script = Script::begin(command, out, run);
    }

    fn reply(&mut self, ask: Ask, reply: Reply<'_>, out: &mut Out<'_>) {
        Script::hear(&mut self.script, ask, reply, out);
    }

    fn noticed(&mut self, notice: &Notice, out: &mut Out<'_>) {
        let Notice::Annotated(what) = notice else { return };
        let wanted = if what.mailbox.is_empty() { self.of_server } else { self.of_mailboxes };
        if wanted && concerns(what, out) && !out.is_notified() {
            out.answer(told(what));
        }
    }
}

/// Whether these entries are the session's: what belongs to one device, no other hears of.
pub(super) fn concerns(what: &Annotated, out: &Out<'_>) -> bool {
    match &what.owner {
        Owner::User => true,
        Owner::Device(device) => *device == out.device().device,
    }
}

/// Which entries were changed, as a line without its end (RFC 5464 section 4.4.2).
pub(super) fn told(what: &Annotated) -> Vec<u8> {
    let mut line = b"* METADATA ".to_vec();
    token::write_string(&what.mailbox, &mut line);
    for entry in &what.entries {
        line.push(b' ');
        token::write_astring(entry.as_str().as_bytes(), &mut line);
    }
    line
}

/// Ours is said by us; the rest, and on a backend that has it the word itself, is asked below. Told once.
async fn enable(given: Given, server: Server) -> Result<Ending, Refusal> {
    let words = std::str::from_utf8(&given.arguments).unwrap_or_default();
    let native = |word: &&str| !is_word(word) || server.below().has(word);
    let rest: Vec<_> = words.split(' ').filter(native).collect();
    let mut enabled: Capabilities = enables(&given.arguments).collect();
    if !rest.is_empty() {
        let answers = server.ask(ENABLE, rest.join(" ")).await?.passed_on()?;
        let said = answers.parts.iter().filter_map(|line| line.strip_prefix(b"* ENABLED "));
        said.for_each(|words| Capabilities::parse(words).iter().for_each(|word| enabled.add(word)));
    }
    server.answer(format!("* ENABLED {}", enabled.text()).into_bytes());
    Ending::done("ENABLE done")
}

fn is_word(word: &str) -> bool {
    ["METADATA", "METADATA-SERVER"].iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// Which of our words ENABLE names.
fn enables(arguments: &[u8]) -> impl Iterator<Item = &str> {
    std::str::from_utf8(arguments).unwrap_or_default().split(' ').filter(|word| is_word(word))
}

async fn get(given: Given, server: Server) -> Result<Ending, Refusal> {
    match Get::parse(&given.arguments).map_err(bad)? {
        Get::Entries { mailbox, entries, depth, most } => {
            let mailbox = list::canonical(&mailbox);
            let wanted = Wanted { mailbox, entries, depth, most };
            wanted.get(&given, &server).await
        }
        Get::Attributes { patterns, attributes } => {
            for line in get_attributes(&given, &server, &patterns, &attributes).await? {
                server.answer(line);
            }
            Ending::done("GETMETADATA done")
        }
    }
}

/// What a GETMETADATA of RFC 5464 asks for.
struct Wanted {
    mailbox: Box<[u8]>,
    entries: Vec<EntryName>,
    depth: Depth,
    most: Option<u32>,
}

impl Wanted {
    async fn get(self, given: &Given, server: &Server) -> Result<Ending, Refusal> {
        let on_server = self.mailbox.is_empty();
        let native = is_native(server, on_server);
        let done = &server.plan().native;
        let ours = |name: &&EntryName| annotation::has_ours(name, self.depth, on_server, done);
        if native && !self.entries.iter().any(|name| ours(&name)) {
            return Ok(Ending::Forward);
        }
        if !on_server {
            accessible(server, &self.mailbox).await?;
        }
        let mut found: BTreeMap<_, _> = read(given, server, &self.mailbox).await?.into_iter().collect();
        let mut longest = 0;
        if native {
            let theirs = |name: &EntryName| !annotation::is_ours(name, on_server, done);
            found.retain(|name, _| !theirs(name));
            let (values, skipped) = self.ask_backend(server, &theirs).await?;
            found.extend(values.into_iter().filter(|(name, _)| theirs(name)));
            longest = skipped;
        }
        let wanted = |name: &EntryName| self.entries.iter().any(|entry| name.is_within(entry, self.depth));
        let mut line = b"* METADATA ".to_vec();
        token::write_string(&self.mailbox, &mut line);
        let head = line.len();
        for (name, value) in found.iter().filter(|(name, _)| wanted(name)) {
            if self.most.is_some_and(|most| value.len() > most as usize) {
                longest = longest.max(value.len() as u64);
                continue;
            }
            line.extend_from_slice(if line.len() == head { b" (" } else { b" " });
            write_pair(name.as_str(), value, &mut line);
        }
        if line.len() > head {
            line.push(b')');
            server.answer(line);
        }
        let code = if longest > 0 { format!("[METADATA LONGENTRIES {longest}] ") } else { String::new() };
        Ending::done(&format!("{code}GETMETADATA done"))
    }

    /// What the backend has of it, and the length of the longest value that it left out.
    async fn ask_backend(
        &self,
        server: &Server,
        theirs: &impl Fn(&EntryName) -> bool,
    ) -> Result<(Vec<(EntryName, Box<[u8]>)>, u64), Refusal> {
        let entries: Vec<_> = self.entries.iter().filter(|name| theirs(name)).collect();
        if entries.is_empty() {
            return Ok(Default::default());
        }
        let depth = match self.depth {
            Depth::Zero => "0",
            Depth::One => "1",
            Depth::Infinity => "infinity",
        };
        let most = self.most.unwrap_or(LONGEST_VALUE).min(LONGEST_VALUE);
        let mut arguments = format!("(MAXSIZE {most} DEPTH {depth}) ").into_bytes();
        token::write_string(&self.mailbox, &mut arguments);
        for (at, name) in entries.iter().enumerate() {
            arguments.extend_from_slice(if at == 0 { b" (" } else { b" " });
            token::write_astring(name.as_str().as_bytes(), &mut arguments);
        }
        arguments.push(b')');
        let answers = server.ask(GETMETADATA, arguments).await?.passed_on()?;
        let mut values = Vec::new();
        for line in &answers.parts {
            match metadata::values(line) {
                Some(pairs) => values.extend(pairs),
                // The backend tells what others have changed, and the client has asked for that.
                None => server.answer(line.clone()),
            }
        }
        Ok((values, long_entries(&answers.text)))
    }
}

/// `[METADATA LONGENTRIES 2199] ...`
fn long_entries(text: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(text).to_ascii_uppercase();
    let number = text.strip_prefix("[METADATA LONGENTRIES ").and_then(|rest| rest.split(']').next()?.parse().ok());
    number.unwrap_or(0)
}

/// The draft's GETMETADATA: of the server, by patterns of entries, then by attributes.
async fn get_attributes(
    given: &Given,
    server: &Server,
    patterns: &[Box<str>],
    attributes: &[Attribute],
) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut rows: BTreeMap<_, _> = read(given, server, b"").await?.into_iter().collect();
    if is_native(server, true) {
        let theirs = |name: &EntryName| !annotation::is_ours(name, true, &server.plan().native);
        rows.retain(|name, _| !theirs(name));
        let (mailbox, entries) = (Box::default(), patterns.iter().flat_map(|pattern| roots(pattern)).collect());
        let wanted = Wanted { mailbox, entries, depth: Depth::Infinity, most: None };
        let (values, _) = wanted.ask_backend(server, &theirs).await?;
        rows.extend(values.into_iter().filter(|(name, _)| theirs(name)));
    }
    let mut entries: BTreeMap<String, Vec<(String, Vec<u8>)>> = BTreeMap::new();
    for (row, value) in rows {
        let name = draft::name(&row);
        if !patterns.iter().any(|pattern| list::matches(pattern.as_bytes(), name.entry.as_bytes(), Some(b'/'))) {
            continue;
        }
        let found = entries.entry(name.entry.clone()).or_default();
        if attributes.iter().any(|asked| name.is(asked)) {
            found.push((format!("{}{}", name.attribute, name.suffix()), value.to_vec()));
        }
        if attributes.iter().any(|asked| name.is_size(asked)) {
            found.push((format!("size{}", name.suffix()), value.len().to_string().into_bytes()));
        }
    }
    entries.retain(|_, found| !found.is_empty());
    Ok(entries.into_iter().map(|(entry, found)| draft_line(&entry, &found)).collect())
}

/// Where a pattern begins, to ask a backend that knows no patterns: `/private/vendor` and `/shared/vendor` for `/vendor/k*`.
/// Nobody can be asked for what begins with a wildcard, and what stands below `/notify` is ours.
fn roots(pattern: &str) -> Vec<EntryName> {
    let wild = pattern.find(['*', '%']);
    let fixed = wild.map_or(pattern, |at| &pattern[..pattern[..at].rfind('/').unwrap_or(0)]);
    let names = ["/private", "/shared"].map(|root| EntryName::parse(format!("{root}{fixed}").as_bytes()));
    names.into_iter().flatten().filter(|name| name.components().nth(1) != Some("notify")).collect()
}

/// `* METADATA /notify/outband (channel.priv "NONE" ...)`
fn draft_line(entry: &str, found: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut line = b"* METADATA ".to_vec();
    token::write_astring(entry.as_bytes(), &mut line);
    line.push(b' ');
    for (at, (attribute, value)) in found.iter().enumerate() {
        line.push(if at == 0 { b'(' } else { b' ' });
        write_pair(attribute, value, &mut line);
    }
    line.push(b')');
    line
}

fn write_pair(name: &str, value: &[u8], line: &mut Vec<u8>) {
    token::write_astring(name.as_bytes(), line);
    line.push(b' ');
    token::write_string(value, line);
}

/// What this session may read of a mailbox, or of the server, in our store.
async fn read(given: &Given, server: &Server, mailbox: &[u8]) -> Result<Vec<(EntryName, Box<[u8]>)>, Refusal> {
    let (entries, now) = load(server, mailbox).await?;
    let inband = server.plan().told.has("IDLE");
    let settings = &server.plan().account;
    Ok(annotation::visible(entries, mailbox.is_empty(), &given.device.device, settings, inband, now))
}

/// Whether the backend keeps such annotations itself.
fn is_native(server: &Server, on_server: bool) -> bool {
    server.below().has("METADATA") || (on_server && server.below().has("METADATA-SERVER"))
}

/// RFC 5464 section 3.3: the mailbox can be listed, and the user may do something with its content.
async fn accessible(server: &Server, mailbox: &[u8]) -> Result<(), Refusal> {
    let names = server.list(mailbox).await?;
    let Some(listed) = names.iter().find(|listed| *list::canonical(&listed.name) == *mailbox) else {
        lose(server, mailbox).await?;
        return Err(Refusal::no("NONEXISTENT", "no such mailbox"));
    };
    // Of what is only a name nobody has rights, and section 4.1 gives it annotations all the same.
    if server.below().has("ACL") && !listed.has(b"\\Noselect") {
        let mut name = Vec::new();
        token::write_string(mailbox, &mut name);
        let answers = server.ask(MYRIGHTS, name).await?;
        let rights = answers.parts.iter().filter_map(|line| line.rsplit(|octet| *octet == b' ').next()).next_back();
        let rights = rights.unwrap_or_default();
        if answers.status != Status::Ok || !rights.contains(&b'l') || !b"rswip".iter().any(|it| rights.contains(it)) {
            return Err(Refusal::no("NOPERM", "annotations need a right to the mailbox and its content"));
        }
    }
    Ok(())
}

/// A mailbox is not there. Its entries wait a day for it: a list that lacks it may be a server's bad hour.
async fn lose(server: &Server, mailbox: &[u8]) -> Result<(), Refusal> {
    let (entries, now) = server.entries(Query::Mailbox(mailbox.into())).await?;
    let quota = Quota::NONE;
    let change = match annotation::lost(mailbox, &entries, now) {
        Loss::Nothing => return Ok(()),
        Loss::Mark(mark) => Change::Entries { edits: vec![mark], quota },
        Loss::Forget => Change::Deleted(mailbox.into()),
    };
    server.save(change).await.map(|_| ())
}

/// The entries of a mailbox that is there, or of the server, and the time of day.
async fn load(server: &Server, mailbox: &[u8]) -> Result<(Vec<Entry>, i64), Refusal> {
    let (mut entries, now) = server.entries(Query::Mailbox(mailbox.into())).await?;
    if let Some(edit) = annotation::found(mailbox, &entries) {
        entries.retain(|entry| entry.key != edit.0);
        let _ = server.save(Change::Entries { edits: vec![edit], quota: Quota::NONE }).await?;
    }
    Ok((entries, now))
}

async fn set(given: Given, server: Server) -> Result<Ending, Refusal> {
    let (mailboxes, edits) = match Set::parse(&given.arguments).map_err(bad)? {
        Set::Entries { mailbox, edits } => {
            let mailbox = list::canonical(&mailbox);
            let ours =
                |(name, _): &(EntryName, _)| annotation::is_ours(name, mailbox.is_empty(), &server.plan().native);
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
        let done = &self.server.plan().native;
        let native = is_native(self.server, on_server);
        let is_theirs = |name: &EntryName| native && !annotation::is_ours(name, on_server, done);
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
            self.defaults = Some(self.server.entries(Query::Mailbox(Box::default())).await?.0);
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

/// Annotations go with their mailbox (RFC 5464 section 4).
async fn delete(given: Given, server: Server) -> Result<Ending, Refusal> {
    let name = token::Cursor::new(&given.arguments).astring().map(|name| list::canonical(&name));
    let answers = server.follow().await?.passed_on()?;
    if let Ok(name) = name {
        // The mailbox is gone in any case; entries that stay behind are found to have no mailbox.
        let _ = server.save(Change::Deleted(name)).await;
    }
    Ok(Ending::Done(answers.text))
}

/// Annotations follow their mailbox, and what stands below it; INBOX keeps its own (RFC 5464 section 4, RFC 3501 6.3.5).
async fn rename(given: Given, server: Server) -> Result<Ending, Refusal> {
    let names = || {
        let mut cursor = token::Cursor::new(&given.arguments);
        let from = cursor.astring().ok()?.into_owned();
        cursor.space().ok()?;
        let to = cursor.astring().ok()?.into_owned();
        Some((list::canonical(&from), list::canonical(&to)))
    };
    let names = names();
    let answers = server.follow().await?.passed_on()?;
    if let Some((from, to)) = names {
        // The mailbox has its new name, whatever becomes of this.
        let _ = follow_name(&server, from, to).await;
    }
    Ok(Ending::Done(answers.text))
}

/// Moves what is kept, if anything is. Only names below the old one make it worth asking what separates names.
async fn follow_name(server: &Server, from: Box<[u8]>, to: Box<[u8]>) -> Result<(), Refusal> {
    let (entries, _) = server.entries(Query::Entries).await?;
    let below = |name: &[u8]| {
        entries.iter().any(|entry| entry.key.mailbox.len() > name.len() && entry.key.mailbox.starts_with(name))
    };
    let at = |name: &[u8]| entries.iter().any(|entry| *entry.key.mailbox == *name);
    // What stands under the new name is left over from another mailbox.
    if !(at(&from) || below(&from) || at(&to)) {
        return Ok(());
    }
    let change = match *from == *b"INBOX" {
        true => Change::Copied { from, to, except: &annotation::STAY, quota: server.plan().account.quota() },
        false => {
            let listed = if below(&from) { server.list(&to).await.unwrap_or_default() } else { Vec::new() };
            let delimiter = listed.iter().filter_map(|listed| listed.delimiter).next();
            Change::Renamed { from, to, delimiter }
        }
    };
    server.save(change).await.map(|_| ())
}

fn bad(error: MetadataError) -> Refusal {
    Refusal::bad(error.to_string())
}

fn wrong(wrong: Wrong) -> Refusal {
    match wrong {
        Wrong::Syntax(text) => Refusal::bad(text),
        Wrong::Impossible(text) => Refusal::no("CANNOT", text),
    }
}
