//! Annotations of mailboxes and of the server. RFC 5464 (METADATA, METADATA-SERVER), with errata 1692, 2785 and 3868.
//!
//!     C: a GETMETADATA (MAXSIZE 1024) INBOX (/shared/comment /private/comment)
//!     S: * METADATA INBOX (/private/comment "My own comment")
//!     S: a OK [METADATA LONGENTRIES 2199] GETMETADATA complete
//!
//! There is one user, so `/private` and `/shared` differ by name alone. Of an entry that is absent nothing is said.

use std::collections::BTreeMap;

use super::{
    Connection,
    connection::{End, State},
    special_use,
    store::{Store, canonical},
    syntax::{Cursor, Malformed, astring, text, value},
};

/// Entries, in lower case, and their values.
pub type Annotations = BTreeMap<String, Vec<u8>>;

/// An entry, and its new value if it is to have one.
type Edit = (String, Option<Vec<u8>>);

/// An annotation that was changed.
#[derive(Clone, Debug)]
pub(super) struct Changed {
    mailbox: String,
    entry: String,
    /// The connection that changed it; none of ours, if it was another client.
    by: Option<u32>,
}

/// What a connection is told of changes that others make.
#[derive(Debug)]
pub(super) struct Listening {
    /// Which connection it is.
    number: u32,
    /// ENABLE METADATA, or METADATA-SERVER: of the server only.
    to: Option<Scope>,
    /// How many of all changes have been told.
    told: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Server,
    All,
}

/// The options of GETMETADATA.
#[derive(Debug, Default)]
struct Options {
    most: Option<u32>,
    depth: Depth,
}

#[derive(Clone, Copy, Debug, Default)]
enum Depth {
    #[default]
    Zero,
    One,
    Infinity,
}

impl Connection {
    pub(super) fn get_metadata(&self, mut cursor: Cursor<'_>, out: &mut Vec<u8>) -> Result<End, End> {
        self.has_metadata()?;
        let mut options = None;
        if cursor.peek() == Some(b'(') {
            options = Some(Options::read(&mut cursor)?);
            cursor.space()?;
        }
        let name = cursor.text()?;
        cursor.space()?;
        // The examples of 4.2.1 and 4.2.2 have the options here; erratum 2785 moves them before the name.
        if options.is_none() && cursor.peek() == Some(b'(') && !begins_with_entry(&cursor) {
            options = Some(Options::read(&mut cursor)?);
            cursor.space()?;
        }
        let entries = if cursor.peek() == Some(b'(') { cursor.words()? } else { vec![cursor.text()?] };
        cursor.done()?;
        let entries = entries.iter().map(|entry| entry_name(entry)).collect::<Result<Vec<_>, _>>()?;
        let mut store = self.backend.store();
        store.may_annotate(&name)?;
        let Some(annotations) = store.annotations(&name) else { return Err(missing(&name)) };
        let (found, longest) = options.unwrap_or_default().choose(annotations, &entries);
        if !found.is_empty() {
            let pairs: Vec<_> = found.iter().map(|(entry, octets)| (entry.as_str(), value(Some(octets)))).collect();
            say_values(&store.settings.name(&name), &pairs, out);
        }
        let code = longest.map(|octets| format!("[METADATA LONGENTRIES {octets}] ")).unwrap_or_default();
        Ok(End::Ok(format!("{code}GETMETADATA complete")))
    }

    pub(super) fn set_metadata(&self, mut cursor: Cursor<'_>, out: &mut Vec<u8>) -> Result<End, End> {
        self.has_metadata()?;
        let name = cursor.text()?;
        cursor.space()?;
        let edits = edits(&mut cursor)?;
        cursor.done()?;
        let mut store = self.backend.store();
        store.may_annotate(&name)?;
        store.check(&name, &edits)?;
        for (entry, new) in edits {
            if store.is_use(&name, &entry) {
                store.assign_by_annotation(&name, new.as_deref(), out)?;
            } else {
                store.annotate(&name, &entry, new);
            }
            store.note(&name, &entry, Some(self.listening.number));
        }
        Ok(End::Ok("SETMETADATA complete".to_owned()))
    }

    fn has_metadata(&self) -> Result<(), End> {
        let known = self.backend.store().settings.has_metadata();
        if known { self.authenticated() } else { self.needs("METADATA") }
    }

    /// ENABLE: from now on the client is told what others change (section 4.1).
    pub(super) fn listen(&mut self, word: &str) {
        let scope = match word {
            "METADATA" => Scope::All,
            "METADATA-SERVER" => Scope::Server,
            _ => return,
        };
        if self.listening.to.is_none() {
            self.listening.told = self.backend.store().changed.len();
        }
        if self.listening.to != Some(Scope::All) {
            self.listening.to = Some(scope);
        }
    }

    /// RFC 5464 4.4.2: names, without values, of what others changed.
    pub(super) fn tell_annotations(&mut self, out: &mut Vec<u8>) {
        let Some(scope) = self.listening.to else { return };
        if matches!(self.state, State::NotAuthenticated | State::Authenticating { .. } | State::Logout) {
            return;
        }
        let store = self.backend.store();
        let news = &store.changed[self.listening.told..];
        let number = self.listening.number;
        let news = news.iter().filter(|it| it.by != Some(number) && (scope == Scope::All || it.mailbox.is_empty()));
        let news: Vec<&Changed> = news.collect();
        for of_one_mailbox in news.chunk_by(|one, next| one.mailbox == next.mailbox) {
            let entries: String =
                of_one_mailbox.iter().map(|changed| format!(" {}", astring(&changed.entry))).collect();
            let name = store.settings.name(&of_one_mailbox[0].mailbox);
            out.extend_from_slice(format!("* METADATA {name}{entries}\r\n").as_bytes());
        }
        self.listening.told = store.changed.len();
    }
}

impl Store {
    /// Another client changes an annotation: `O: metadata BOX ENTRY VALUE`.
    pub fn annotate_as_another(&mut self, mailbox: &str, entry: &str, value: Option<Vec<u8>>) {
        self.annotate(mailbox, entry, value);
        self.note(mailbox, entry, None);
    }

    /// The annotations of a mailbox, or of the server, whose name is empty.
    fn annotations(&mut self, mailbox: &str) -> Option<&mut Annotations> {
        if mailbox.is_empty() {
            return Some(&mut self.annotations);
        }
        self.mailbox(mailbox).map(|mailbox| &mut mailbox.annotations)
    }

    fn annotate(&mut self, mailbox: &str, entry: &str, value: Option<Vec<u8>>) {
        let Some(annotations) = self.annotations(mailbox) else { return };
        match value {
            Some(value) => annotations.insert(entry.to_owned(), value),
            None => annotations.remove(entry),
        };
    }

    fn note(&mut self, mailbox: &str, entry: &str, by: Option<u32>) {
        self.changed.push(Changed { mailbox: canonical(mailbox), entry: entry.to_owned(), by });
    }

    /// RFC 5464 3.3: the mailbox must be listable, and something in it readable or writable. The server always is.
    fn may_annotate(&self, mailbox: &str) -> Result<(), End> {
        if mailbox.is_empty() {
            return Ok(());
        }
        if !self.settings.has("METADATA") {
            return Err(End::No("[CANNOT] Only the server has annotations".to_owned()));
        }
        let content = ['r', 's', 'w', 'i', 'p'].into_iter().any(|right| self.allows(mailbox, right));
        if self.allows(mailbox, 'l') && content { Ok(()) } else { Err(missing(mailbox)) }
    }

    /// Whether all of these edits may be made: if not, none is (section 4.3).
    fn check(&mut self, mailbox: &str, edits: &[Edit]) -> Result<(), End> {
        let (largest, most) = (self.settings.largest_value, self.settings.most_entries);
        let mut after = self.annotations(mailbox).ok_or_else(|| missing(mailbox))?.clone();
        let before = after.len();
        for (entry, new) in edits {
            if mailbox.is_empty() && entry == "/shared/admin" {
                return Err(End::No("[NOPERM] /shared/admin is read-only".to_owned()));
            }
            if self.is_use(mailbox, entry) {
                special_use::assignable(words(new.as_deref()))?;
            }
            match new {
                Some(new) if new.len() > largest => {
                    return Err(End::No(format!("[METADATA MAXSIZE {largest}] SETMETADATA failed")));
                }
                Some(new) => after.insert(entry.clone(), new.clone()),
                None => after.remove(entry),
            };
        }
        if after.len() > most.max(before) {
            return Err(End::No("[METADATA TOOMANY] SETMETADATA failed".to_owned()));
        }
        Ok(())
    }

    /// RFC 6154 section 4: this annotation is the mailbox's use itself, and is checked as CREATE checks it.
    fn is_use(&self, mailbox: &str, entry: &str) -> bool {
        entry == special_use::ENTRY && !mailbox.is_empty() && self.settings.has("SPECIAL-USE")
    }

    fn assign_by_annotation(&mut self, name: &str, new: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), End> {
        for loser in self.assign(&canonical(name), &special_use::assignable(words(new))?) {
            let left = self.mailbox(&loser).and_then(|mailbox| mailbox.annotations.get(special_use::ENTRY).cloned());
            say_values(&self.settings.name(&loser), &[(special_use::ENTRY, value(left.as_deref()))], out);
        }
        Ok(())
    }
}

impl Listening {
    pub(super) fn to_nothing(number: u32) -> Self {
        Self { number, to: None, told: 0 }
    }
}

impl Options {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let words = cursor.words()?;
        let mut options = Self::default();
        for option in words.chunks(2) {
            let [name, value] = option else { return Err(Malformed) };
            match (name.to_uppercase().as_str(), value.to_lowercase().as_str()) {
                ("MAXSIZE", size) => options.most = Some(size.parse().map_err(|_| Malformed)?),
                ("DEPTH", "0") => options.depth = Depth::Zero,
                ("DEPTH", "1") => options.depth = Depth::One,
                ("DEPTH", "infinity") => options.depth = Depth::Infinity,
                _ => return Err(Malformed),
            }
        }
        if words.is_empty() { Err(Malformed) } else { Ok(options) }
    }

    /// What of these annotations is asked for, and the size of the largest that is too large to be told.
    fn choose(&self, annotations: &Annotations, asked: &[String]) -> (Annotations, Option<usize>) {
        let wanted = |entry: &String| asked.iter().any(|asked| self.depth.reaches(asked, entry));
        let small = |value: &[u8]| self.most.is_none_or(|most| value.len() <= most as usize);
        let found = annotations.iter().filter(|(entry, _)| wanted(entry));
        let found = found.map(|(entry, value)| (entry.clone(), value.clone()));
        let (told, long): (Annotations, Annotations) = found.partition(|(_, value)| small(value));
        (told, long.values().map(Vec::len).max())
    }
}

impl Depth {
    /// Whether `entry` is the one asked for, or stands below it so deep.
    fn reaches(self, asked: &str, entry: &str) -> bool {
        let Some(below) = entry.strip_prefix(asked) else { return false };
        match (self, below.strip_prefix('/')) {
            (_, None) => below.is_empty(),
            (Self::Zero, _) => false,
            (Self::One, Some(below)) => !below.contains('/'),
            (Self::Infinity, _) => true,
        }
    }
}

fn words(value: Option<&[u8]>) -> Vec<String> {
    text(value.unwrap_or_default()).split_whitespace().map(str::to_owned).collect()
}

fn missing(mailbox: &str) -> End {
    End::No(format!("[NONEXISTENT] Mailbox doesn't exist: {mailbox}"))
}

/// Whether a list of entries stands here, and not one of options.
fn begins_with_entry(cursor: &Cursor<'_>) -> bool {
    cursor.0.starts_with(b"(/") || cursor.0.starts_with(b"(\"") || cursor.0.starts_with(b"({")
}

/// `(entry value entry value)`.
fn edits(cursor: &mut Cursor<'_>) -> Result<Vec<Edit>, Malformed> {
    let mut edits = Vec::new();
    cursor.expect(b"(")?;
    loop {
        let entry = entry_name(&cursor.text()?)?;
        cursor.space()?;
        edits.push((entry, cursor.nstring()?));
        if cursor.eat(b")") {
            return Ok(edits);
        }
        cursor.space()?;
    }
}

/// RFC 5464 3.2: an entry name in lower case, if it is one.
fn entry_name(name: &str) -> Result<String, Malformed> {
    let octets = name.bytes().all(|octet| (b' '..=b'~').contains(&octet) && octet != b'*' && octet != b'%');
    let components: Vec<&str> = name.split('/').skip(1).collect();
    let root =
        components.first().is_some_and(|root| ["private", "shared"].iter().any(|it| root.eq_ignore_ascii_case(it)));
    let whole = name.starts_with('/') && components.len() >= 2 && !components.contains(&"");
    if octets && root && whole { Ok(name.to_lowercase()) } else { Err(Malformed) }
}

/// `* METADATA INBOX (/shared/comment "x")`.
fn say_values(name: &str, pairs: &[(&str, Vec<u8>)], out: &mut Vec<u8>) {
    let pairs: Vec<Vec<u8>> =
        pairs.iter().map(|(entry, value)| [astring(entry).as_bytes(), b" ", value].concat()).collect();
    out.extend_from_slice(format!("* METADATA {name} (").as_bytes());
    out.extend_from_slice(&pairs.join(&b' '));
    out.extend_from_slice(b")\r\n");
}
