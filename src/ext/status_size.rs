//! STATUS=SIZE: how many octets a mailbox has (RFC 8438).
//!
//! Below: STATUS, and FETCH on an auxiliary connection.   Above: STATUS (SIZE).
//!
//!     C: a STATUS Work (MESSAGES SIZE)
//!     >  p1 STATUS Work (MESSAGES UIDNEXT UIDVALIDITY)     as it stood the last time: then its size is known
//!     >  p2 STATUS Work (MESSAGES)                         what else the client wants to know
//!     >  A1 EXAMINE Work, FETCH 1:* (RFC822.SIZE)          elsewhere: the session's own mailbox stays open
//!     S: * STATUS Work (MESSAGES 3 SIZE 1048)
//!
//! No message has come or gone where the count and UIDNEXT are the same, so a size once found is kept, for 1000 mailboxes of a
//! session. A sum that cannot be had is `NO [UNAVAILABLE]`: nobody is told a wrong one. Requirement A4.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    imap::{
        fetch::Fetched,
        list, response,
        token::{self, Cursor},
        verb::{self, Verb},
    },
    mailbox::status::Status,
    session::{
        aside::{Errand, Task},
        layer::{Ask, Command, Extension, Layer, Out, Refusal, Reply},
        script::{Answers, Ending, Given, Script, Server},
    },
};

/// RFC 8438.
pub const STATUS_SIZE: Extension = Extension {
    name: "STATUS=SIZE",
    spec: "RFC 8438",
    gives: &["STATUS=SIZE"],
    aside: true,
    hears: &["STATUS"],
    concerns: |_, arguments| wanted(arguments).is_some(),
    build: || Box::<Sizes>::default(),
    ..Extension::NONE
};

const FETCH: &Verb = verb::row_of("FETCH");
const STATUS: &Verb = verb::row_of("STATUS");

/// Mailboxes whose size is remembered.
const MOST_KNOWN: usize = 1000;

/// How a mailbox stood, and how many octets it had then.
type Known = Arc<Mutex<HashMap<Box<[u8]>, (Status, u64)>>>;

#[derive(Default)]
struct Sizes {
    known: Known,
    script: Option<Script>,
}

impl Layer for Sizes {
    fn command(&mut self, command: Command<'_>, out: &mut Out<'_>) {
        let known = Arc::clone(&self.known);
        self.script = Script::begin(command, out, |given, server| Box::pin(status(given, server, known)));
    }

    fn reply(&mut self, ask: Ask, reply: Reply<'_>, out: &mut Out<'_>) {
        Script::hear(&mut self.script, ask, reply, out);
    }
}

/// What a STATUS with SIZE names, and what else it wants to know: `INBOX (SIZE UNSEEN)` is INBOX and UNSEEN.
fn wanted(arguments: &[u8]) -> Option<(Vec<u8>, Vec<&[u8]>)> {
    let mut cursor = Cursor::new(arguments);
    let name = cursor.astring().ok()?.into_owned();
    cursor.space().ok()?;
    let mut items = cursor.list(Cursor::atom).ok()?;
    cursor.end().ok()?;
    let before = items.len();
    items.retain(|item| !item.eq_ignore_ascii_case(b"SIZE"));
    (items.len() < before).then_some((name, items))
}

async fn status(given: Given, server: Server, known: Known) -> Result<Ending, Refusal> {
    let Some((name, others)) = wanted(&given.arguments) else { return Ok(Ending::Forward) };
    let stands = ask(&server, &name, Status::items(false, false).as_bytes()).await?;
    let now = stands.parts.iter().find_map(|line| Status::parse(line)).map(|(_, status)| status).unwrap_or_default();
    let mut line = b"* STATUS ".to_vec();
    token::write_astring(&name, &mut line);
    line.extend_from_slice(b" (");
    if !others.is_empty() {
        let items = [b"(", others.join(&b' ').as_slice(), b")"].concat();
        let answers = ask(&server, &name, &items).await?;
        let said = answers.parts.iter().find_map(|line| items_of(line, &name)).ok_or_else(unavailable)?;
        line.extend_from_slice(&said);
        line.push(b' ');
    }
    let size = size(&server, &name, now, &known).await?;
    line.extend_from_slice(format!("SIZE {size})").as_bytes());
    server.answer(line);
    Ending::done("STATUS done")
}

async fn ask(server: &Server, name: &[u8], items: &[u8]) -> Result<Answers, Refusal> {
    let mut arguments = Vec::new();
    token::write_astring(name, &mut arguments);
    arguments.push(b' ');
    arguments.extend_from_slice(items);
    server.ask(STATUS, arguments).await?.passed_on()
}

/// What stands between the parentheses of a STATUS response about this mailbox.
fn items_of(line: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut cursor = Cursor::new(line.strip_prefix(b"* STATUS ")?);
    let same = list::canonical(&cursor.astring().ok()?) == list::canonical(name);
    cursor.space().ok()?;
    let items = cursor.list_as_written().ok()?;
    same.then(|| items.strip_prefix(b"(")?.strip_suffix(b")").map(Into::into))?
}

/// The octets of all its messages together, as it stands now.
async fn size(server: &Server, name: &[u8], now: Status, known: &Known) -> Result<u64, Refusal> {
    let (key, whole) = (list::canonical(name), now.messages.and(now.uidnext).and(now.uidvalidity).is_some());
    if now.messages == Some(0) {
        return Ok(0);
    }
    let sizes = || known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, size)) = sizes().get(&key).filter(|(before, _)| whole && *before == now) {
        return Ok(*size);
    }
    let task = Task::Ask { verb: FETCH, arguments: b"1:* (RFC822.SIZE)".to_vec(), keep: add };
    let told = server.aside(Errand { mailbox: name.into(), uidvalidity: now.uidvalidity, task }).await?;
    if told.status != response::Status::Ok {
        return Err(unavailable());
    }
    let size = told.parts.first().map_or(0, |sum| number(sum));
    let mut sizes = sizes();
    if whole && (sizes.len() < MOST_KNOWN || sizes.contains_key(&key)) {
        sizes.insert(key, (now, size));
    }
    Ok(size)
}

/// Keeps the sum of all sizes.
fn add(kept: &mut Vec<Vec<u8>>, response: &[u8]) {
    let size = Fetched::parse(response).and_then(|fetched| fetched.value("RFC822.SIZE").map(number)).unwrap_or(0);
    let sum = kept.first().map_or(0, |sum| number(sum)).saturating_add(size);
    *kept = vec![sum.to_string().into_bytes()];
}

fn number(digits: &[u8]) -> u64 {
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn unavailable() -> Refusal {
    Refusal::no("UNAVAILABLE", "the size of this mailbox cannot be had")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_told_from_the_other_items() {
        let table: [(&[u8], &[u8], usize); 2] =
            [(b"INBOX (SIZE)", b"INBOX", 0), (b"\"a b\" (MESSAGES size UNSEEN)", b"a b", 2)];
        for (arguments, name, others) in table {
            let found = wanted(arguments).map(|(name, others)| (name, others.len()));
            assert_eq!(found, Some((name.to_vec(), others)), "{}", arguments.escape_ascii());
        }
        for arguments in [&b"INBOX (MESSAGES)"[..], b"SIZE (MESSAGES)", b"INBOX SIZE", b"INBOX ()"] {
            assert!(wanted(arguments).is_none(), "{}", arguments.escape_ascii());
        }
    }

    #[test]
    fn sizes_are_added_up_beyond_32_bits() {
        let mut kept = Vec::new();
        for line in [
            &b"* 1 FETCH (RFC822.SIZE 4294967295)"[..],
            b"* 2 FETCH (FLAGS (\\Seen))",
            b"* 3 FETCH (UID 7 RFC822.SIZE 2)",
        ] {
            add(&mut kept, line);
        }
        assert_eq!(kept, [b"4294967297".to_vec()]);
    }
}
