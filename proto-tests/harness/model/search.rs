//! SEARCH. RFC 3501 6.4.4.

use super::{
    Connection,
    changes::say,
    connection::End,
    mime,
    store::{Message, Uid},
    syntax::{Cursor, Malformed, Set, text},
};

/// A search key.
#[derive(Clone, Debug)]
pub(super) enum Key {
    All(Vec<Key>),
    /// INTERNALDATE, as a day: before, on, since.
    Arrived(Order, u32),
    /// The Date header, as a day.
    Sent(Order, u32),
    /// A search that is kept under this name (RFC 5466).
    Filter(String),
    Flag(String),
    Header(String, String),
    Larger(usize),
    Not(Box<Key>),
    Numbers(Set),
    Or(Box<Key>, Box<Key>),
    Recent,
    Smaller(usize),
    /// Anywhere, or only in the body.
    Text {
        whole: bool,
        wanted: String,
    },
    Uids(Set),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Before,
    On,
    Since,
}

/// What a key is compared with.
struct Place<'a> {
    number: u32,
    count: u32,
    last: Uid,
    recent: bool,
    message: &'a Message,
}

impl Connection {
    pub(super) fn search(&mut self, mut cursor: Cursor<'_>, by_uid: bool, out: &mut Vec<u8>) -> Result<End, End> {
        self.selected()?;
        if cursor.eat(b"CHARSET ") {
            let charset = cursor.text()?.to_uppercase();
            cursor.space()?;
            if !matches!(charset.as_str(), "UTF-8" | "US-ASCII") {
                return Err(bad_charset(&Key::All(keys(&mut cursor)?)));
            }
        }
        let key = Key::All(keys(&mut cursor)?);
        cursor.done()?;
        let key = self.with_filters(key)?;
        let manners = self.manners();
        if manners.early_expunge && by_uid && self.random.one_in(2) {
            self.tell(true, out);
        }
        let mut found = self.with_selected(|selected, store, random| {
            let Some(mailbox) = store.mailbox(&selected.name) else { return Vec::new() };
            let (count, last) = (selected.known.len() as u32, selected.known.last().map_or(0, |known| known.uid));
            let mut found = Vec::new();
            for (number, known) in (1..).zip(&selected.known) {
                let Some(message) = mailbox.message(known.uid) else { continue };
                let place = Place { number, count, last, recent: selected.recent.contains(&known.uid), message };
                if key.holds(&place) {
                    found.push(if by_uid { known.uid } else { number });
                }
            }
            if manners.unsorted_search {
                random.shuffle(&mut found);
            }
            found
        });
        let said: String = found.drain(..).map(|number| format!(" {number}")).collect();
        say(out, &format!("* SEARCH{said}"));
        Ok(End::Ok(format!("{}SEARCH completed", if by_uid { "UID " } else { "" })))
    }
}

/// RFC 3501 6.4.4: NO. RFC 5466 3.1: a search with a filter is in UTF-8, and BAD if it says that it is not.
fn bad_charset(key: &Key) -> End {
    let why = "[BADCHARSET (US-ASCII UTF-8)] Charset not supported".to_owned();
    if key.has_filter() { End::Bad(why) } else { End::No(why) }
}

impl Key {
    fn holds(&self, place: &Place<'_>) -> bool {
        let message = place.message;
        match self {
            Self::All(keys) => keys.iter().all(|key| key.holds(place)),
            Self::Arrived(order, day) => order.holds(day_of(&message.date), *day),
            Self::Sent(order, day) => {
                order.holds(mime::value(message.header(), "Date").map_or(0, |date| day_of(&date)), *day)
            }
            Self::Filter(_) => unreachable!("filters have been put in"),
            Self::Flag(flag) => message.has(flag),
            Self::Header(name, wanted) => {
                mime::value(message.header(), name).is_some_and(|value| contains(&value, wanted))
            }
            Self::Larger(size) => message.octets.len() > *size,
            Self::Not(key) => !key.holds(place),
            Self::Numbers(set) => set.contains(place.number, place.count),
            Self::Or(one, other) => one.holds(place) || other.holds(place),
            Self::Recent => place.recent,
            Self::Smaller(size) => message.octets.len() < *size,
            Self::Text { whole: true, wanted } => contains(&text(&message.octets), wanted),
            Self::Text { whole: false, wanted } => contains(&text(message.body()), wanted),
            Self::Uids(set) => set.contains(message.uid, place.last),
        }
    }
}

impl Order {
    fn holds(self, day: u32, asked: u32) -> bool {
        match self {
            Self::Before => day < asked,
            Self::On => day == asked,
            Self::Since => day >= asked,
        }
    }
}

fn contains(text: &str, wanted: &str) -> bool {
    text.to_lowercase().contains(&wanted.to_lowercase())
}

pub(super) fn keys(cursor: &mut Cursor<'_>) -> Result<Vec<Key>, Malformed> {
    let mut keys = vec![key(cursor)?];
    while cursor.eat(b" ") {
        keys.push(key(cursor)?);
    }
    Ok(keys)
}

fn key(cursor: &mut Cursor<'_>) -> Result<Key, Malformed> {
    if cursor.eat(b"(") {
        let keys = keys(cursor)?;
        cursor.expect(b")")?;
        return Ok(Key::All(keys));
    }
    if cursor.peek().is_some_and(|octet| octet.is_ascii_digit() || octet == b'*') {
        return Ok(Key::Numbers(cursor.set()?));
    }
    let word = cursor.word()?.to_uppercase();
    if let Some(flag) = flag(&word) {
        return Ok(flag);
    }
    cursor.space()?;
    Ok(match word.as_str() {
        "BCC" | "CC" | "FROM" | "SUBJECT" | "TO" => Key::Header(word, cursor.text()?),
        "BEFORE" => Key::Arrived(Order::Before, day(cursor)?),
        "BODY" => Key::Text { whole: false, wanted: cursor.text()? },
        "FILTER" => Key::Filter(cursor.word()?),
        "HEADER" => {
            let name = cursor.text()?;
            cursor.space()?;
            Key::Header(name, cursor.text()?)
        }
        "KEYWORD" => Key::Flag(cursor.word()?),
        "LARGER" => Key::Larger(cursor.number()? as usize),
        "NOT" => Key::Not(Box::new(key(cursor)?)),
        "ON" => Key::Arrived(Order::On, day(cursor)?),
        "OR" => {
            let one = key(cursor)?;
            cursor.space()?;
            Key::Or(Box::new(one), Box::new(key(cursor)?))
        }
        "SENTBEFORE" => Key::Sent(Order::Before, day(cursor)?),
        "SENTON" => Key::Sent(Order::On, day(cursor)?),
        "SENTSINCE" => Key::Sent(Order::Since, day(cursor)?),
        "SINCE" => Key::Arrived(Order::Since, day(cursor)?),
        "SMALLER" => Key::Smaller(cursor.number()? as usize),
        "TEXT" => Key::Text { whole: true, wanted: cursor.text()? },
        "UID" => Key::Uids(cursor.set()?),
        "UNKEYWORD" => Key::Not(Box::new(Key::Flag(cursor.word()?))),
        _ => return Err(Malformed),
    })
}

/// The keys that are one word.
fn flag(word: &str) -> Option<Key> {
    let not = |key| Key::Not(Box::new(key));
    let plain = |word: &str| match word {
        "ANSWERED" | "DELETED" | "DRAFT" | "FLAGGED" | "SEEN" => Some(Key::Flag(format!("\\{word}"))),
        _ => None,
    };
    match word {
        "ALL" => Some(Key::All(Vec::new())),
        "NEW" => Some(Key::All(vec![Key::Recent, not(Key::Flag("\\Seen".to_owned()))])),
        "OLD" => Some(not(Key::Recent)),
        "RECENT" => Some(Key::Recent),
        _ => plain(word).or_else(|| plain(word.strip_prefix("UN")?).map(not)),
    }
}

fn day(cursor: &mut Cursor<'_>) -> Result<u32, Malformed> {
    let date = cursor.text()?;
    match day_of(&date) {
        0 => Err(Malformed),
        day => Ok(day),
    }
}

/// Year, month and day of `17-Jul-1996` or `Wed, 17 Jul 1996` as one number that grows; 0 for what is no date.
fn day_of(date: &str) -> u32 {
    const MONTHS: &str = "janfebmaraprmayjunjulaugsepoctnovdec";
    let date = date.rsplit_once(", ").map_or(date, |(_, date)| date).trim();
    let mut fields = date.split(['-', ' ']);
    let mut next = || fields.next().unwrap_or_default();
    let (day, month, year) = (next().parse::<u32>(), next().to_lowercase(), next().parse::<u32>());
    match (day, MONTHS.find(&month), year) {
        (Ok(day), Some(month), Ok(year)) => (year * 12 + month as u32 / 3) * 31 + day,
        _ => 0,
    }
}
