//! Sees what changes the store, on its way to the backend and back: the events of RFC 5423 that need no message numbers.
//!
//!     >  a RENAME Work Play                     remembered, if somebody follows
//!     <  a OK renamed                           MailboxRename: Play, before Work
//!     >  b APPEND Play (\Seen) {310}
//!     <  b OK [APPENDUID 38505 3955] stored     MessageAppend: Play, UIDVALIDITY 38505, UID 3955
//!     <  * QUOTA "" (STORAGE 512 512)           QuotaExceed
//!
//! It stands at the backend: what a layer asks for in the client's name counts as the client's own command does, and each
//! once; what the backend has not confirmed has not happened. A created mailbox is called what the client has called it. What
//! has to be asked besides, asks `inquiry.rs`. While nobody follows, a command costs one branch, and a session keeps nothing
//! but the names of a RENAME, which other sessions of the account want to know, and where somebody looks after the account what happens to
//! names; whoever begins to follow hears of the commands
//! that begin then. Requirements E1, E2 and E5.

use super::{
    effect::{Effect, Effects},
    gate::Tag,
    open::Open,
};
use crate::{
    imap::{
        code::{self, Text},
        command::{Head, SyntaxError},
        list,
        response::{self, Kind as Line, Status},
        token::Cursor,
        uid_set::UidSet,
    },
    mailbox::{
        event::{Event, Kind, Quota, Resource},
        overview::{Finding, Found, Overview},
        tree::Renaming,
    },
};

/// What is remembered while somebody follows.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// Commands whose good end is an event: no more than the gate lets run.
    under_way: Vec<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    tag: Tag,
    /// Its UIDs may be told before its end (RFC 6851 section 4.3).
    moves: bool,
    /// It may well concern no message at all: a set of UIDs of which none is there (RFC 3501 section 6.4.8).
    may_be_empty: bool,
    event: Event,
}

/// A longer name is a path that no file system takes: no mailbox has it.
const LONGEST_NAME: usize = 4 << 10;

/// Flags of a new message that are told; no message has more that anybody looks at.
const MOST_FLAGS: usize = 64;

impl Open {
    /// This command goes to the backend, from whomever it is.
    pub(super) fn witness_command(&mut self, head: &Head<'_>, out: &Effects) {
        if !self.is_witnessed(out) && head.verb.name != "RENAME" {
            return;
        }
        let Ok(Some(event)) = announced(head.verb.name, head.arguments) else { return };
        let names = [&event.mailbox, &event.old_mailbox];
        if names.into_iter().flatten().any(|name| name.len() > LONGEST_NAME) {
            return;
        }
        let tag = Tag::from_slice(head.tag);
        let moves = matches!(head.verb.name, "MOVE" | "UID MOVE");
        let may_be_empty = matches!(head.verb.name, "UID COPY" | "UID MOVE") && self.plan.backend.has("UIDPLUS");
        self.witness.get_or_insert_default().under_way.push(UnderWay { tag, moves, may_be_empty, event });
    }

    /// The backend says something that may belong to an event: a quota, or where messages were moved to.
    pub(super) fn witness_untagged(&mut self, kind: Line, line: &[u8], out: &mut Effects) {
        match kind {
            Line::Quota if out.followed => {
                let quotas = quotas(line).unwrap_or_default();
                let found = Found::Quotas { quotas, refused: None };
                out.push(Effect::Found(Box::new(Finding { asked: self.now, own: true, found })));
            }
            Line::Exists if out.followed && self.before.is_none() && !self.news.is_looking() => self.stir_quotas(),
            Line::Ok => {
                let Some(witness) = &mut self.witness else { return };
                let moving = |command: &&mut UnderWay| command.moves && command.event.uids.is_empty();
                if let Some(command) = witness.under_way.iter_mut().find(moving) {
                    place(&mut command.event, code::parse(response::text(line, 2)));
                }
            }
            _ => {}
        }
    }

    /// The backend has ended a command. If it was a mailbox that was renamed, which.
    pub(super) fn witness_end(
        &mut self,
        tag: &[u8],
        status: Status,
        line: &[u8],
        out: &mut Effects,
    ) -> Option<Renaming> {
        let witness = self.witness.as_mut()?;
        let at = witness.under_way.iter().position(|command| command.tag.as_slice() == tag);
        let ended = at.map(|at| witness.under_way.swap_remove(at));
        if witness.under_way.is_empty() {
            self.witness = None;
        }
        let event = happened(ended?, status, code::parse(response::text(line, 2)))?;
        if self.client.notify.is_some() {
            self.changed(&event, out);
        }
        let renamed = event.old_mailbox.clone().zip(event.mailbox.clone()).map(|(from, to)| Renaming { from, to });
        match () {
            () if out.followed => self.happened(event, out),
            () if out.attended && event.kind != Kind::MessageAppend => out.push(Effect::Event(Box::new(event))),
            () => {}
        }
        renamed
    }

    /// Whether somebody follows or looks after the account, or a layer is to know what the client does itself.
    fn is_witnessed(&self, out: &Effects) -> bool {
        out.followed || out.attended || self.client.notify.is_some()
    }
}

/// Where the messages come to lie that this command stores, if it stores any.
pub(super) fn stored_into(head: &Head<'_>) -> Option<Box<[u8]>> {
    let event = announced(head.verb.name, head.arguments).ok().flatten()?;
    event.mailbox.filter(|_| event.kind == Kind::MessageAppend)
}

/// The event that the good end of this command will be.
fn announced(verb: &str, arguments: &[u8]) -> Result<Option<Event>, SyntaxError> {
    let mut cursor = Cursor::new(arguments);
    let kind = match verb {
        "CREATE" => Kind::MailboxCreate,
        "DELETE" => Kind::MailboxDelete,
        "RENAME" => Kind::MailboxRename,
        "SUBSCRIBE" => Kind::MailboxSubscribe,
        "UNSUBSCRIBE" => Kind::MailboxUnSubscribe,
        "APPEND" | "COPY" | "MOVE" | "REPLACE" | "UID COPY" | "UID MOVE" | "UID REPLACE" => Kind::MessageAppend,
        _ => return Ok(None),
    };
    if kind == Kind::MessageAppend && verb != "APPEND" {
        cursor.run(|octet| octet != b' ' && octet != b'\r', "messages")?;
        cursor.space()?;
    }
    let mut event = Event::of_mailbox(kind, list::canonical(&cursor.astring()?));
    match verb {
        "RENAME" => {
            cursor.space()?;
            event.old_mailbox = event.mailbox.replace(list::canonical(&cursor.astring()?));
        }
        "APPEND" | "REPLACE" | "UID REPLACE" => message(&mut cursor, &mut event)?,
        _ => {}
    }
    Ok(Some(event))
}

/// What APPEND says of a message: `(\Seen) "date" {310}`.
fn message(cursor: &mut Cursor<'_>, event: &mut Event) -> Result<(), SyntaxError> {
    cursor.space()?;
    if cursor.peek() == Some(b'(') {
        let flag = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'(' | b')');
        let flags = cursor.list_or_empty(|cursor| cursor.run(flag, "a flag"))?;
        let flags = flags.into_iter().filter(|flag| !flag.eq_ignore_ascii_case(b"\\Recent")).take(MOST_FLAGS);
        event.flags = flags.map(|flag| String::from_utf8_lossy(flag).into()).collect();
        cursor.space()?;
    }
    if cursor.peek() == Some(b'"') {
        cursor.string()?;
        cursor.space()?;
    }
    cursor.accept(b"~");
    if cursor.accept(b"{") {
        event.size = cursor.number().ok().map(u64::from);
    }
    Ok(())
}

/// What has come of a command.
fn happened(command: UnderWay, status: Status, code: Text<'_>) -> Option<Event> {
    let UnderWay { mut event, may_be_empty, .. } = command;
    match status {
        Status::No if code.is("OVERQUOTA") => {
            return Some(Event { mailbox: event.mailbox, ..Event::new(Kind::QuotaExceed) });
        }
        Status::Ok => place(&mut event, code),
        // Some messages may have been moved all the same (RFC 6851 section 4.4).
        Status::No if !event.uids.is_empty() => {}
        Status::No | Status::Bad => return None,
    }
    let known = event.uids.len();
    if known > 1 {
        // MULTIAPPEND: what was said of the first message is not true of all.
        (event.flags, event.size) = (Vec::new(), None);
    }
    (known > 0 || !may_be_empty).then_some(event)
}

/// APPENDUID and COPYUID say where messages came to lie: UIDVALIDITY first, their UIDs there last (RFC 4315 section 3).
fn place(event: &mut Event, code: Text<'_>) {
    if event.kind != Kind::MessageAppend || !(code.is("APPENDUID") || code.is("COPYUID")) {
        return;
    }
    let mut words = code.arguments.split(|octet| *octet == b' ');
    let uidvalidity = words.next().and_then(number).and_then(|number| u32::try_from(number).ok());
    let uids = words.next_back().and_then(UidSet::parse);
    if let (Some(uidvalidity), Some(uids)) = (uidvalidity, uids) {
        (event.uidvalidity, event.uids) = (Some(uidvalidity), uids);
    }
}

fn number(word: &[u8]) -> Option<u64> {
    str::from_utf8(word).ok()?.parse().ok()
}

/// `* QUOTA root (STORAGE 10 512 MESSAGE 3 100)`, what of it RFC 5423 has names for (RFC 9208 section 5.1).
pub(super) fn quotas(line: &[u8]) -> Result<Vec<Quota>, SyntaxError> {
    let mut cursor = Cursor::new(response::text(line, 2));
    let root = cursor.astring()?;
    cursor.space()?;
    let words = if root.len() > LONGEST_NAME { Vec::new() } else { cursor.list_or_empty(Cursor::atom)? };
    let quota = |words: &[&[u8]]| {
        let [name, used, limit] = words else { return None };
        let resource = match () {
            () if name.eq_ignore_ascii_case(b"STORAGE") => Resource::Storage,
            () if name.eq_ignore_ascii_case(b"MESSAGE") => Resource::Message,
            () => return None,
        };
        Some(Quota { root: (*root).into(), resource, used: number(used)?, limit: number(limit)? })
    };
    Ok(words.chunks(3).filter_map(quota).take(Overview::MOST_QUOTAS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(verb: &str, arguments: &[u8]) -> Option<Event> {
        announced(verb, arguments).ok().flatten()
    }

    #[test]
    fn a_command_announces_its_event() {
        let table: &[(&str, &[u8], Kind, &str)] = &[
            ("CREATE", b"\"Work\" (USE (\\Sent))\r\n", Kind::MailboxCreate, "Work"),
            ("DELETE", b"{4}\r\nWork\r\n", Kind::MailboxDelete, "Work"),
            ("RENAME", b"inbox \"Old mail\"\r\n", Kind::MailboxRename, "Old mail"),
            ("SUBSCRIBE", b"inbox\r\n", Kind::MailboxSubscribe, "INBOX"),
            ("UNSUBSCRIBE", b"Work\r\n", Kind::MailboxUnSubscribe, "Work"),
            ("APPEND", b"Work {3}\r\n", Kind::MessageAppend, "Work"),
            ("COPY", b"2:4,7 Work\r\n", Kind::MessageAppend, "Work"),
            ("UID MOVE", b"$ Work\r\n", Kind::MessageAppend, "Work"),
            ("REPLACE", b"4 Work () {3}\r\n", Kind::MessageAppend, "Work"),
        ];
        for (verb, arguments, kind, mailbox) in table {
            let event = event(verb, arguments).expect(verb);
            assert_eq!((event.kind, event.mailbox.as_deref()), (*kind, Some(mailbox.as_bytes())));
        }
        assert_eq!(event("RENAME", b"inbox A\r\n").unwrap().old_mailbox.as_deref(), Some(&b"INBOX"[..]));
        for (verb, arguments) in
            [("STATUS", &b"Work\r\n"[..]), ("CREATE", b"\r\n"), ("COPY", b"1\r\n"), ("COPY", b"\r\n")]
        {
            assert_eq!(event(verb, arguments), None, "{verb}");
        }
    }

    #[test]
    fn an_append_says_what_it_stores() {
        let appended = event("APPEND", b"A (\\Seen \\Recent work) \"17-Jul-1996 02:44:25 -0700\" ~{310+}\r\n").unwrap();
        assert_eq!((appended.flags, appended.size), (vec!["\\Seen".into(), "work".into()], Some(310)));
        let joined = event("APPEND", b"A CATENATE (URL \"/INBOX/;UID=1\")\r\n").unwrap();
        assert_eq!((joined.flags, joined.size), (vec![], None));
    }

    #[test]
    fn a_code_says_where_messages_lie() {
        let place = |text: &[u8]| {
            let mut event = Event::of_mailbox(Kind::MessageAppend, *b"A");
            super::place(&mut event, code::parse(text));
            (event.uidvalidity, event.uids.to_string())
        };
        assert_eq!(place(b"[APPENDUID 38505 3955] done"), (Some(38505), "3955".to_owned()));
        assert_eq!(place(b"[copyuid 38505 304,319:320 3956:3958] done"), (Some(38505), "3956:3958".to_owned()));
        for text in [&b"[COPYUID 38505 1 *] x"[..], b"[APPENDUID 4294967296 1]", b"[APPENDUID]", b"[UIDNEXT 1 2]", b""]
        {
            assert_eq!(place(text), (None, String::new()), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn of_a_quota_is_read_what_there_are_words_for() {
        type Row = (&'static [u8], &'static [(u64, u64)]);
        let table: &[Row] = &[
            (b"* QUOTA \"\" (STORAGE 10 512)\r\n", &[(10, 512)]),
            (b"* QUOTA \"\" (storage 600 512 MESSAGE 3 100)\r\n", &[(600, 512), (3, 100)]),
            (b"* QUOTA \"\" (MESSAGE 100 100 MAILBOX 9 9)\r\n", &[(100, 100)]),
            (b"* QUOTA other (STORAGE 1 1)\r\n", &[(1, 1)]),
            (b"* QUOTA \"\" ()\r\n", &[]),
            (b"* QUOTA \"\" (STORAGE 1)\r\n", &[]),
            (b"* QUOTA \"\" (STORAGE -1 18446744073709551616)\r\n", &[]),
            (b"* QUOTA\r\n", &[]),
        ];
        for (line, expected) in table {
            let read: Vec<_> = quotas(line).into_iter().flatten().map(|quota| (quota.used, quota.limit)).collect();
            assert_eq!(read, *expected, "{}", line.escape_ascii());
        }
        let many = format!("* QUOTA \"\" ({})\r\n", vec!["STORAGE 1 2"; 1000].join(" "));
        assert_eq!(quotas(many.as_bytes()).unwrap().len(), Overview::MOST_QUOTAS);
    }
}
