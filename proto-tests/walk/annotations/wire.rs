//! How a client writes it, in either dialect and every kind of string, and what it is answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lemonade_proxy::store::Store;
use proto_tests::{
    cast::{Cut, Scene},
    model::{Backend, Settings},
    proxy::{Proxy, Setup},
    random::Random,
};

use super::truth::{Edit, Found, Get, INFINITY, draft};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    Rfc5464,
    Draft,
}

/// An attribute and its new value.
type Row<'a> = (String, Option<&'a [u8]>);

/// A name and its value, as they were answered.
type Pair = (Vec<u8>, Vec<u8>);

/// How a command ended.
pub(super) struct Answer {
    /// Untagged responses with their literals.
    pub(super) lines: Vec<Vec<u8>>,
    pub(super) status: String,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn is_ok(&self) -> bool {
        self.status == "OK"
    }
}

/// A client that has logged in.
pub(super) struct Session {
    pub(super) scene: Scene,
    pub(super) device: String,
    random: Random,
    number: usize,
}

impl Session {
    /// Logs in before this store; `backend` is where another session of the user is already.
    pub(super) fn new(
        settings: &Settings,
        cut: Cut,
        random: Random,
        store: Arc<dyn Store>,
        most: usize,
        backend: Option<Backend>,
    ) -> Result<Self, String> {
        let mut setup = Setup::before(settings);
        setup.set("account", &format!("entries={most} octets=10000000"))?;
        let mut proxy = Proxy::new(setup, 7);
        proxy.store = store;
        let mut scene = Scene::new(Box::new(proxy), settings.clone(), cut);
        if let Some(backend) = backend {
            scene.backend = backend;
        }
        scene.run_backend();
        scene.client_inbox().clear();
        let mut session = Self { scene, device: String::new(), random, number: 0 };
        session.ok(vec![b"LOGIN joe secret".to_vec()])?;
        Ok(session)
    }

    /// A command; behind each piece but the last one a `+` has to come, or the end.
    pub(super) fn say(&mut self, pieces: Vec<Vec<u8>>) -> Result<Answer, String> {
        self.number += 1;
        let tag = format!("c{} ", self.number);
        let last = pieces.len() - 1;
        for (at, piece) in pieces.into_iter().enumerate() {
            let head = if at == 0 { tag.as_bytes() } else { b"" };
            let end: &[u8] = if at == last { b"\r\n" } else { b"" };
            self.scene.client_sends(&[head, &piece, end].concat(), false);
            self.scene.run_backend();
            let inbox = self.scene.client_inbox();
            if at < last && inbox.starts_with(b"+ ") {
                inbox.clear();
            } else if at < last {
                break;
            }
        }
        let inbox = std::mem::take(self.scene.client_inbox());
        let mut rest = &inbox[..];
        let mut lines = Vec::new();
        while !rest.is_empty() {
            let (line, behind) = response(rest).ok_or_else(|| format!("no response: {}", rest.escape_ascii()))?;
            rest = behind;
            match line.strip_prefix(tag.as_bytes()) {
                None => lines.push(line.to_vec()),
                Some(end) if rest.is_empty() => {
                    let end = String::from_utf8_lossy(end).into_owned();
                    let (status, text) = end.split_once(' ').unwrap_or((&end, ""));
                    return Ok(Answer { lines, status: status.to_owned(), text: text.to_owned() });
                }
                Some(_) => return Err(format!("said behind the end: {}", rest.escape_ascii())),
            }
        }
        Err("no end".to_owned())
    }

    pub(super) fn ok(&mut self, pieces: Vec<Vec<u8>>) -> Result<(), String> {
        let answer = self.say(pieces)?;
        if answer.is_ok() { Ok(()) } else { Err(format!("{} {}", answer.status, answer.text)) }
    }

    /// A command whose arguments are names of mailboxes: whether it was OK.
    pub(super) fn command(&mut self, verb: &str, names: &[&str]) -> Result<bool, String> {
        let mut pieces = vec![verb.as_bytes().to_vec()];
        for name in names {
            put(&mut pieces, " ");
            self.mailbox(name, &mut pieces);
        }
        let answer = self.say(pieces)?;
        match answer.status.as_str() {
            "BAD" => Err(format!("BAD {}", answer.text)),
            status => Ok(status == "OK"),
        }
    }

    pub(super) fn set(&mut self, dialect: Dialect, mailbox: &str, edits: &[Edit]) -> Result<Answer, String> {
        let mut pieces = vec![b"SETMETADATA ".to_vec()];
        self.mailbox(mailbox, &mut pieces);
        put(&mut pieces, " ");
        match dialect {
            Dialect::Rfc5464 => {
                for (at, (name, value)) in edits.iter().enumerate() {
                    put(&mut pieces, if at == 0 { "(" } else { " " });
                    self.entry(name, &mut pieces);
                    self.value(value.as_deref(), &mut pieces);
                }
                put(&mut pieces, ")");
            }
            Dialect::Draft => {
                // A list of groups, or one group alone; neighbours of one entry share a group.
                let mut groups: Vec<(String, Vec<Row<'_>>)> = Vec::new();
                for (name, value) in edits {
                    let (entry, attribute, suffix) = draft(name);
                    let row = (format!("{attribute}{suffix}"), value.as_deref());
                    match groups.last_mut() {
                        Some((last, rows)) if *last == entry => rows.push(row),
                        _ => groups.push((entry, vec![row])),
                    }
                }
                let list = groups.len() > 1 || self.random.one_in(2);
                put(&mut pieces, if list { "(" } else { "" });
                for (at, (entry, rows)) in groups.iter().enumerate() {
                    put(&mut pieces, if at == 0 { "" } else { " " });
                    self.entry(entry, &mut pieces);
                    for (at, (attribute, value)) in rows.iter().enumerate() {
                        put(&mut pieces, if at == 0 { " (" } else { " " });
                        put(&mut pieces, attribute);
                        self.value(*value, &mut pieces);
                    }
                    put(&mut pieces, ")");
                }
                put(&mut pieces, if list { ")" } else { "" });
            }
        }
        self.say(pieces)
    }

    /// What was found and the longest that was left out; `None`: NO.
    pub(super) fn get(&mut self, get: &Get) -> Result<Option<Found>, String> {
        let mut words = Vec::new();
        words.extend(get.most.map(|most| format!("MAXSIZE {most}")));
        words.extend(get.depth.map(|depth| match depth {
            INFINITY => "DEPTH infinity".to_owned(),
            depth => format!("DEPTH {depth}"),
        }));
        let options = if words.is_empty() { String::new() } else { format!("({})", words.join(" ")) };
        let mut pieces = vec![b"GETMETADATA ".to_vec()];
        if !options.is_empty() && !get.behind {
            put(&mut pieces, &format!("{options} "));
        }
        self.mailbox(&get.mailbox, &mut pieces);
        if !options.is_empty() && get.behind {
            put(&mut pieces, &format!(" {options}"));
        }
        for (at, name) in get.names.iter().enumerate() {
            put(&mut pieces, if at == 0 { " (" } else { " " });
            self.entry(name, &mut pieces);
        }
        put(&mut pieces, ")");
        let answer = self.say(pieces)?;
        if answer.status == "NO" {
            return Ok(None);
        }
        if !answer.is_ok() {
            return Err(format!("{} {}", answer.status, answer.text));
        }
        let mut found = BTreeMap::new();
        for line in &answer.lines {
            let (mailbox, pairs) = metadata(line).ok_or_else(|| format!("unread: {}", line.escape_ascii()))?;
            if !mailbox.eq_ignore_ascii_case(get.mailbox.as_bytes()) {
                return Err(format!("of another mailbox: {}", line.escape_ascii()));
            }
            for (name, value) in pairs {
                if found.insert(String::from_utf8_lossy(&name).into_owned(), value).is_some() {
                    return Err(format!("told twice: {}", line.escape_ascii()));
                }
            }
        }
        let longest =
            answer.text.strip_prefix("[METADATA LONGENTRIES ").and_then(|rest| rest.split(']').next()?.parse().ok());
        Ok(Some((found, longest.unwrap_or(0))))
    }

    pub(super) fn get_attributes(
        &mut self,
        patterns: &[&str],
        attributes: &[&str],
    ) -> Result<BTreeSet<(String, String, Vec<u8>)>, String> {
        let list = |words: &[&str], alone: bool| match words {
            [one] if alone => (*one).to_owned(),
            words => format!("({})", words.join(" ")),
        };
        let alone = self.random.one_in(2);
        let line = format!("GETMETADATA {} {}", list(patterns, alone), list(attributes, alone));
        let answer = self.say(vec![line.into_bytes()])?;
        if !answer.is_ok() {
            return Err(format!("{} {}", answer.status, answer.text));
        }
        let mut found = BTreeSet::new();
        let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
        for line in &answer.lines {
            let (entry, pairs) = metadata(line).ok_or_else(|| format!("unread: {}", line.escape_ascii()))?;
            let entry = text(entry);
            found.extend(pairs.into_iter().map(|(attribute, value)| (entry.clone(), text(attribute), value)));
        }
        Ok(found)
    }

    /// INBOX has no case; the rest is written in any way.
    fn mailbox(&mut self, name: &str, pieces: &mut Vec<Vec<u8>>) {
        let name = if name == "INBOX" { *self.random.pick(&["INBOX", "inbox", "Inbox"]) } else { name };
        let atom =
            !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"/&-".contains(&octet));
        if atom && self.random.one_in(2) { put(pieces, name) } else { self.string(name.as_bytes(), pieces) }
    }

    fn entry(&mut self, name: &str, pieces: &mut Vec<Vec<u8>>) {
        let name = if self.random.one_in(4) { name.to_uppercase() } else { name.to_owned() };
        let atom = !name.contains(' ');
        if atom && !self.random.one_in(4) { put(pieces, &name) } else { self.string(name.as_bytes(), pieces) }
    }

    pub(super) fn value(&mut self, value: Option<&[u8]>, pieces: &mut Vec<Vec<u8>>) {
        match value {
            None => put(pieces, " NIL"),
            Some(value) if value.contains(&0) || self.random.one_in(6) => {
                put(pieces, " ~");
                self.literal(value, pieces);
            }
            Some(value) => {
                put(pieces, " ");
                self.string(value, pieces);
            }
        }
    }

    pub(super) fn string(&mut self, octets: &[u8], pieces: &mut Vec<Vec<u8>>) {
        if octets.iter().any(|octet| b"\r\n\0".contains(octet)) || self.random.one_in(4) {
            return self.literal(octets, pieces);
        }
        let escaped =
            octets.iter().flat_map(|octet| if b"\"\\".contains(octet) { vec![b'\\', *octet] } else { vec![*octet] });
        let quoted: Vec<u8> = [b'"'].into_iter().chain(escaped).chain([b'"']).collect();
        pieces.last_mut().expect("a command has begun").extend(quoted);
    }

    fn literal(&mut self, octets: &[u8], pieces: &mut Vec<Vec<u8>>) {
        let waits = self.random.one_in(2);
        put(pieces, &format!("{{{}{}}}\r\n", octets.len(), if waits { "" } else { "+" }));
        if waits {
            pieces.push(Vec::new());
        }
        pieces.last_mut().expect("a command has begun").extend_from_slice(octets);
    }
}

fn put(pieces: &mut [Vec<u8>], text: &str) {
    pieces.last_mut().expect("a command has begun").extend_from_slice(text.as_bytes());
}

/// The first response, without its end, and what stands behind it. A tagged one ends in text, which announces nothing.
fn response(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        let line = at;
        at += octets.get(at..)?.windows(2).position(|pair| pair == b"\r\n")? + 2;
        if !octets.starts_with(b"* ") {
            break;
        }
        let Some(open) = octets[line..at - 2].iter().rposition(|octet| *octet == b'{') else { break };
        let open = line + open;
        let announced = octets[open + 1..at - 2].strip_suffix(b"}").and_then(|it| std::str::from_utf8(it).ok());
        match announced.and_then(|digits| digits.parse::<usize>().ok()) {
            Some(len) => at += len,
            None => break,
        }
    }
    Some((octets.get(..at - 2)?, &octets[at..]))
}

/// `* METADATA name (name value name value)`
pub(super) fn metadata(line: &[u8]) -> Option<(Vec<u8>, Vec<Pair>)> {
    let mut rest = line.strip_prefix(b"* METADATA ")?;
    let name = string(&mut rest)?;
    rest = rest.strip_prefix(b" (")?;
    let mut pairs = Vec::new();
    loop {
        let entry = string(&mut rest)?;
        rest = rest.strip_prefix(b" ")?;
        pairs.push((entry, string(&mut rest)?));
        match rest {
            b")" => return Some((name, pairs)),
            _ => rest = rest.strip_prefix(b" ")?,
        }
    }
}

/// An atom, a quoted string, a literal, a literal8.
fn string(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let octets = rest.strip_prefix(b"~").unwrap_or(rest);
    if let Some(literal) = octets.strip_prefix(b"{") {
        let end = literal.iter().position(|octet| *octet == b'}')?;
        let len: usize = std::str::from_utf8(&literal[..end]).ok()?.parse().ok()?;
        let content = literal[end + 1..].strip_prefix(b"\r\n")?;
        *rest = content.get(len..)?;
        return Some(content[..len].to_vec());
    }
    let Some(mut quoted) = octets.strip_prefix(b"\"") else {
        let len = octets.iter().position(|octet| b" ()".contains(octet)).unwrap_or(octets.len());
        *rest = &octets[len..];
        return (len > 0).then(|| octets[..len].to_vec());
    };
    let mut value = Vec::new();
    loop {
        let octet = *quoted.first()?;
        quoted = &quoted[1..];
        match octet {
            b'"' => break,
            b'\\' => {
                value.push(*quoted.first()?);
                quoted = &quoted[1..];
            }
            octet => value.push(octet),
        }
    }
    *rest = quoted;
    Some(value)
}
