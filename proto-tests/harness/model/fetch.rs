//! FETCH. RFC 3501 6.4.5 and 7.4.2.
//!
//!     C: a UID FETCH 15 BODY.PEEK[]
//!     S: * 3 FETCH (BODY[] {10}
//!     S: 0123456789 UID 15)

use super::{
    Connection,
    changes::{Selected, say},
    connection::End,
    mime,
    store::{Message, Store, Uid},
    syntax::{Cursor, Malformed, text},
};

/// One thing that FETCH is asked for.
#[derive(Clone, Debug)]
enum Item {
    Body {
        extended: bool,
    },
    Envelope,
    Flags,
    InternalDate,
    ModSeq,
    /// `RFC822` and its kin: name and section.
    Rfc822(&'static str, &'static str),
    Section {
        name: String,
        partial: Option<(usize, usize)>,
        peek: bool,
    },
    Size,
    Uid,
}

impl Connection {
    pub(super) fn fetch(&mut self, mut cursor: Cursor<'_>, by_uid: bool, out: &mut Vec<u8>) -> Result<End, End> {
        let uids = self.set(&mut cursor, by_uid)?;
        cursor.space()?;
        let mut items = items(&mut cursor)?;
        let since = self.since(&mut cursor, by_uid)?;
        cursor.done()?;
        let counts = items.iter().any(|item| matches!(item, Item::ModSeq));
        if counts {
            self.needs("CONDSTORE")?;
            self.sync("CONDSTORE");
        }
        if let Some(since) = since {
            self.tell_vanished(since, out);
            items.extend((!counts).then_some(Item::ModSeq));
        }
        let manners = self.manners();
        let named = by_uid || self.syncing.vanished;
        if named && !items.iter().any(|item| matches!(item, Item::Uid)) {
            let at = if manners.uid_first { 0 } else { items.len() };
            items.insert(at, Item::Uid);
        }
        for uid in uids {
            if manners.early_expunge && by_uid && self.random.one_in(3) {
                self.tell(true, out);
            }
            self.with_selected(|selected, store, _| {
                let changed = store.mailbox(&selected.name).map_or(0, |mailbox| {
                    mailbox.take_down();
                    mailbox.modseq(uid)
                });
                if since.is_none_or(|since| changed > since.modseq) {
                    fetch_one(selected, store, uid, &items, out);
                }
            });
        }
        Ok(End::Ok(format!("{}FETCH completed", if by_uid { "UID " } else { "" })))
    }
}

fn fetch_one(selected: &mut Selected, store: &mut Store, uid: Uid, items: &[Item], out: &mut Vec<u8>) {
    let read_only = selected.read_only;
    let Some(number) = selected.number(uid) else { return };
    let Some(mailbox) = store.mailbox(&selected.name) else { return };
    mailbox.take_down();
    let mut seen = false;
    if items.iter().any(Item::sets_seen)
        && !read_only
        && let Some(message) = mailbox.message_mut(uid)
    {
        seen = !message.has("\\Seen");
        message.set("\\Seen");
    }
    mailbox.take_down();
    let Some(message) = mailbox.message(uid).cloned() else { return };
    let modseq = mailbox.modseq(uid);
    let mut said: Vec<Vec<u8>> = items.iter().map(|item| item.say(selected, &message, modseq)).collect();
    let flags_asked = items.iter().any(|item| matches!(item, Item::Flags));
    if seen && !flags_asked {
        said.push(Item::Flags.say(selected, &message, modseq));
    }
    if seen || (flags_asked && !selected.snapshot) {
        selected.told(&message);
    }
    out.extend(format!("* {number} FETCH (").into_bytes());
    out.extend(said.join(&b' '));
    say(out, ")");
}

impl Item {
    fn sets_seen(&self) -> bool {
        match self {
            Self::Section { peek, .. } => !peek,
            Self::Rfc822(name, _) => *name != "RFC822.HEADER",
            _ => false,
        }
    }

    fn say(&self, selected: &Selected, message: &Message, modseq: u64) -> Vec<u8> {
        let octets = &message.octets;
        match self {
            Self::Body { extended: false } => format!("BODY {}", mime::structure(octets, false)).into_bytes(),
            Self::Body { extended: true } => format!("BODYSTRUCTURE {}", mime::structure(octets, true)).into_bytes(),
            Self::Envelope => format!("ENVELOPE {}", mime::envelope(octets)).into_bytes(),
            Self::Flags => format!("FLAGS ({})", selected.flags(message)).into_bytes(),
            Self::InternalDate => format!("INTERNALDATE \"{}\"", message.date).into_bytes(),
            Self::ModSeq => format!("MODSEQ ({modseq})").into_bytes(),
            Self::Rfc822(name, section) => literal(name, mime::section(octets, section), None),
            Self::Section { name, partial, .. } => {
                literal(&format!("BODY[{name}]"), mime::section(octets, name), *partial)
            }
            Self::Size => format!("RFC822.SIZE {}", octets.len()).into_bytes(),
            Self::Uid => format!("UID {}", message.uid).into_bytes(),
        }
    }
}

fn literal(name: &str, content: Option<Vec<u8>>, partial: Option<(usize, usize)>) -> Vec<u8> {
    let Some(mut content) = content else { return format!("{name} NIL").into_bytes() };
    let mut origin = String::new();
    if let Some((start, len)) = partial {
        content = content.into_iter().skip(start).take(len).collect();
        origin = format!("<{start}>");
    }
    let mut said = format!("{name}{origin} {{{}}}\r\n", content.len()).into_bytes();
    said.extend(content);
    said
}

fn items(cursor: &mut Cursor<'_>) -> Result<Vec<Item>, Malformed> {
    let macros = |name: &str| match name {
        "FAST" => Some(vec![Item::Flags, Item::InternalDate, Item::Size]),
        "ALL" => Some(vec![Item::Flags, Item::InternalDate, Item::Size, Item::Envelope]),
        "FULL" => {
            Some(vec![Item::Flags, Item::InternalDate, Item::Size, Item::Envelope, Item::Body { extended: false }])
        }
        _ => None,
    };
    if !cursor.eat(b"(") {
        let mut ahead = cursor.clone();
        if let Some(items) = macros(&ahead.word()?.to_uppercase()) {
            *cursor = ahead;
            return Ok(items);
        }
        return Ok(vec![item(cursor)?]);
    }
    let mut items = vec![item(cursor)?];
    while cursor.eat(b" ") {
        items.push(item(cursor)?);
    }
    cursor.expect(b")")?;
    Ok(items)
}

fn item(cursor: &mut Cursor<'_>) -> Result<Item, Malformed> {
    for (prefix, peek) in [(&b"BODY.PEEK["[..], true), (b"BODY[", false)] {
        if cursor.eat(prefix) {
            let name = if cursor.peek() == Some(b']') { String::new() } else { text(cursor.until(b"]")?) };
            cursor.expect(b"]")?;
            return Ok(Item::Section { name: name.to_uppercase(), partial: partial(cursor)?, peek });
        }
    }
    let name = text(cursor.until(b" ()\r\n")?).to_uppercase();
    Ok(match name.as_str() {
        "BODY" => Item::Body { extended: false },
        "BODYSTRUCTURE" => Item::Body { extended: true },
        "ENVELOPE" => Item::Envelope,
        "FLAGS" => Item::Flags,
        "INTERNALDATE" => Item::InternalDate,
        "MODSEQ" => Item::ModSeq,
        "RFC822" => Item::Rfc822("RFC822", ""),
        "RFC822.HEADER" => Item::Rfc822("RFC822.HEADER", "HEADER"),
        "RFC822.TEXT" => Item::Rfc822("RFC822.TEXT", "TEXT"),
        "RFC822.SIZE" => Item::Size,
        "UID" => Item::Uid,
        _ => return Err(Malformed),
    })
}

fn partial(cursor: &mut Cursor<'_>) -> Result<Option<(usize, usize)>, Malformed> {
    if !cursor.eat(b"<") {
        return Ok(None);
    }
    let start = cursor.number()?;
    cursor.expect(b".")?;
    let len = cursor.number()?;
    cursor.expect(b">")?;
    Ok(Some((start as usize, len as usize)))
}
