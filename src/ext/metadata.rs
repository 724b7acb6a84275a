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

mod confirm;
mod edit;
mod names;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    account::{annotation, draft},
    imap::{
        capability::Capabilities,
        entry::{Depth, EntryName},
        list,
        metadata::{self, Attribute, Get, MetadataError},
        response::Status,
        token,
        verb::{self, Verb},
    },
    session::{
        effect::{Annotated, Notice},
        layer::{Ask, Command, Extension, Layer, Out, Refusal, Reply},
        script::{Ending, Given, Script, Server, Work},
    },
    store::Owner,
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

/// From one look for all mailboxes with entries to the next: each is a LIST to the backend.
const SWEEP_AGAIN: Duration = Duration::from_secs(3600);

/// Octets of patterns times octets of names that one command compares: a quarter of a second.
const MOST_WORK: usize = 1 << 28;

/// A value of the backend's that is longer is left out, as if the client had said MAXSIZE: it is to be held.
const LONGEST_VALUE: u32 = 64 << 10;

/// Who was told what, and what is under way.
#[derive(Debug, Default)]
struct Metadata {
    /// Changes of mailboxes are told unasked (RFC 5464 section 4.1).
    of_mailboxes: bool,
    /// Changes of the server are.
    of_server: bool,
    /// When all mailboxes with entries were last looked for.
    swept: Option<Instant>,
    script: Option<Script>,
}

impl Layer for Metadata {
    fn command(&mut self, command: Command<'_>, out: &mut Out<'_>) {
        let sweeps = match command.verb.name {
            "GETMETADATA" | "SETMETADATA" => {
                self.swept.is_none_or(|at| out.now().saturating_duration_since(at) >= SWEEP_AGAIN)
            }
            _ => false,
        };
        match command.verb.name {
            _ if sweeps => self.swept = Some(out.now()),
            "DELETE" | "RENAME" => self.swept = None,
            _ => {}
        }
        let run: fn(Given, Server) -> Work = match command.verb.name {
            "ENABLE" => {
                self.of_server = true;
                self.of_mailboxes |= enables(command.arguments).any(|word| word.eq_ignore_ascii_case("METADATA"));
                |given, server| Box::pin(enable(given, server))
            }
            "DELETE" => |given, server| Box::pin(names::delete(given, server)),
            "GETMETADATA" => |given, server| Box::pin(get(given, server)),
            "RENAME" => |given, server| Box::pin(names::rename(given, server)),
            _ => |given, server| Box::pin(edit::set(given, server)),
        };
        self.script = match sweeps {
            true => Script::begin(command, out, |given, server| Box::pin(swept(given, server, run))),
            false => Script::begin(command, out, run),
        };
    }

    fn reply(&mut self, ask: Ask, reply: Reply<'_>, out: &mut Out<'_>) {
        // What could not be made up for now is tried again with the next command.
        if reply == Reply::Unavailable {
            self.swept = None;
        }
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

/// Looks for all mailboxes with entries first. Whether that could be done or not, the command is done by its own lights.
async fn swept(given: Given, server: Server, run: fn(Given, Server) -> Work) -> Result<Ending, Refusal> {
    let _ = names::sweep(&server).await;
    run(given, server).await
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
    let get = match Get::parse(&given.arguments) {
        Err(_) if is_their_affair(&server, &given.arguments) => return Ok(Ending::Forward),
        read => read.map_err(bad)?,
    };
    match get {
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
        // What is none of its entries is no place to many a backend: BAD, with all that stands beside it.
        let (roots, entries): (Vec<_>, Vec<_>) =
            self.entries.iter().filter(|name| theirs(name)).partition(|name| name.is_root());
        let (mut values, mut longest) = (Vec::new(), 0);
        for entries in [entries, roots].into_iter().filter(|entries| !entries.is_empty()) {
            let answers = server.ask(GETMETADATA, self.question(&entries)).await?;
            if answers.status == Status::Bad && entries.iter().all(|name| name.is_root()) {
                continue;
            }
            let answers = answers.passed_on()?;
            for line in &answers.parts {
                match metadata::values(line) {
                    Some(pairs) => values.extend(pairs),
                    // The backend tells what others have changed, and the client has asked for that.
                    None => server.answer(line.clone()),
                }
            }
            longest = longest.max(long_entries(&answers.text));
        }
        Ok((values, longest))
    }

    /// The question to the backend.
    fn question(&self, entries: &[&EntryName]) -> Vec<u8> {
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
        arguments
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
    found(rows, patterns, attributes)
}

/// What of these rows the draft's GETMETADATA is told.
fn found(
    rows: BTreeMap<EntryName, Box<[u8]>>,
    patterns: &[Box<str>],
    attributes: &[Attribute],
) -> Result<Vec<Vec<u8>>, Refusal> {
    let octets: usize = rows.keys().map(|name| name.as_str().len()).sum();
    if octets.saturating_mul(patterns.iter().map(|pattern| pattern.len()).sum()) > MOST_WORK {
        return Err(Refusal::no("LIMIT", "too many and too long patterns for so many entries"));
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

/// Where a pattern begins, to ask a backend that knows no patterns: `/private/vendor` and `/shared/vendor` for `/vendor/k*`, the
/// roots for `/*`. What stands below `/notify` is ours.
fn roots(pattern: &str) -> Vec<EntryName> {
    let wild = pattern.find(['*', '%']);
    let fixed = wild.map_or(pattern, |at| &pattern[..pattern[..at].rfind('/').unwrap_or(0)]);
    let names = ["/private", "/shared"].map(|root| EntryName::place(format!("{root}{fixed}").as_bytes()));
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
    let (entries, now) = names::load(server, mailbox).await?;
    let inband = server.plan().told.has("IDLE");
    let settings = &server.plan().account;
    Ok(annotation::visible(entries, mailbox.is_empty(), &given.device.device, settings, inband, now))
}

/// Whether a command that we cannot read is the backend's: it knows such commands, and none of ours is in it.
fn is_their_affair(server: &Server, arguments: &[u8]) -> bool {
    is_native(server, false) && !annotation::may_name_ours(arguments)
}

/// Whether the backend keeps such annotations itself.
fn is_native(server: &Server, on_server: bool) -> bool {
    server.below().has("METADATA") || (on_server && server.below().has("METADATA-SERVER"))
}

/// RFC 5464 section 3.3: the mailbox can be listed, and the user may do something with its content.
async fn accessible(server: &Server, mailbox: &[u8]) -> Result<(), Refusal> {
    let Some(listed) = names::find(server, mailbox).await? else {
        names::lose(server, mailbox).await?;
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

fn bad(error: MetadataError) -> Refusal {
    Refusal::bad(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_compared_as_far_as_a_quarter_of_a_second_goes() {
        let rows = |count: usize| {
            let row = |at| EntryName::parse(format!("/private/{}{at}", "a".repeat(50)).as_bytes()).unwrap();
            (0..count).map(|at| (row(at), b"x"[..].into())).collect::<BTreeMap<_, Box<[u8]>>>()
        };
        let value = [Attribute { name: "value".into(), scope: None }];
        let told = |rows, pattern: &str| found(rows, &[pattern.into()], &value).map(|lines| lines.len());
        assert_eq!(told(rows(2000), "/a*"), Ok(2000));
        let bomb = "*a".repeat(32 << 10);
        assert_eq!(told(rows(2), &format!("{bomb}b")), Ok(0));
        assert_eq!(told(rows(2000), &bomb).unwrap_err().code, "LIMIT");
    }
}
