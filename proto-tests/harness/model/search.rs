//! SEARCH. RFC 3501 6.4.4, RFC 5182 2.1 (`$`), RFC 5032 (OLDER and YOUNGER).

use super::{
    Connection,
    changes::say,
    connection::End,
    mime,
    results::Return,
    settings::Settings,
    store::{Message, Uid},
    syntax::{Cursor, Malformed, Set, text},
};
use crate::cast::NOON;

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
    /// What a search has found before (RFC 5182).
    Saved,
    Smaller(usize),
    /// Anywhere, or only in the body.
    Text {
        whole: bool,
        wanted: String,
    },
    Uids(Set),
    /// INTERNALDATE, as a moment: so many seconds ago, and earlier or later (RFC 5032).
    Within {
        seconds: u32,
        younger: bool,
    },
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
    saved: bool,
    message: &'a Message,
}

impl Connection {
    pub(super) fn search(
        &mut self,
        tag: &str,
        mut cursor: Cursor<'_>,
        by_uid: bool,
        out: &mut Vec<u8>,
    ) -> Result<End, End> {
        self.selected()?;
        let wanted = Return::read(&mut cursor, &self.backend.store().settings)?;
        let key = match self.criteria(&mut cursor) {
            Err(End::No(why)) if wanted.saves() => {
                self.selected()?.saved.clear();
                return Err(End::No(why));
            }
            key => key?,
        };
        let manners = self.manners();
        if manners.early_expunge && by_uid && self.random.one_in(2) {
            self.tell(true, out);
        }
        let mut found = self.with_selected(|selected, store, _| {
            let Some(mailbox) = store.mailbox(&selected.name) else { return Vec::new() };
            let (count, last) = (selected.known.len() as u32, selected.known.last().map_or(0, |known| known.uid));
            let mut found = Vec::new();
            for (number, known) in (1..).zip(&selected.known) {
                let Some(message) = mailbox.message(known.uid) else { continue };
                let recent = selected.recent.contains(&known.uid);
                let saved = selected.saved.contains(&known.uid);
                if key.holds(&Place { number, count, last, recent, saved, message }) {
                    found.push((number, known.uid));
                }
            }
            if wanted.saves() {
                selected.saved = wanted.kept(&found).map(|(_, uid)| *uid).collect();
            }
            found
        });
        if wanted.is_plain() && manners.unsorted_search {
            self.random.shuffle(&mut found);
        }
        let found: Vec<u32> = found.into_iter().map(|(number, uid)| if by_uid { uid } else { number }).collect();
        if let Some(line) = wanted.tell(tag, by_uid, &found) {
            say(out, &line);
        }
        Ok(End::Ok(format!("{}SEARCH completed", if by_uid { "UID " } else { "" })))
    }

    /// What is looked for.
    fn criteria(&self, cursor: &mut Cursor<'_>) -> Result<Key, End> {
        if cursor.eat(b"CHARSET ") {
            let charset = cursor.text()?.to_uppercase();
            cursor.space()?;
            if !matches!(charset.as_str(), "UTF-8" | "US-ASCII") {
                return Err(bad_charset(&Key::All(keys(cursor)?)));
            }
        }
        let key = Key::All(keys(cursor)?);
        cursor.done()?;
        self.with_filters(key)
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
            Self::Saved => place.saved,
            Self::Smaller(size) => message.octets.len() < *size,
            Self::Text { whole: true, wanted } => contains(&text(&message.octets), wanted),
            Self::Text { whole: false, wanted } => contains(&text(message.body()), wanted),
            Self::Uids(set) => set.contains(message.uid, place.last),
            Self::Within { seconds, younger } => {
                let age = NOON - moment_of(&message.date);
                if *younger { age <= i64::from(*seconds) } else { age >= i64::from(*seconds) }
            }
        }
    }

    /// Whether a server of these settings knows each key in it.
    pub(super) fn is_known(&self, settings: &Settings) -> bool {
        match self {
            Self::All(keys) => keys.iter().all(|key| key.is_known(settings)),
            Self::Not(key) => key.is_known(settings),
            Self::Or(one, other) => one.is_known(settings) && other.is_known(settings),
            Self::Filter(_) => settings.has("FILTERS"),
            Self::Saved => settings.has("SEARCHRES"),
            Self::Within { .. } => settings.has("WITHIN"),
            _ => true,
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
    if cursor.eat(b"$") {
        return Ok(Key::Saved);
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
        "OLDER" => Key::Within { seconds: seconds(cursor)?, younger: false },
        "SENTBEFORE" => Key::Sent(Order::Before, day(cursor)?),
        "SENTON" => Key::Sent(Order::On, day(cursor)?),
        "SENTSINCE" => Key::Sent(Order::Since, day(cursor)?),
        "SINCE" => Key::Arrived(Order::Since, day(cursor)?),
        "SMALLER" => Key::Smaller(cursor.number()? as usize),
        "TEXT" => Key::Text { whole: true, wanted: cursor.text()? },
        "UID" if cursor.eat(b"$") => Key::Saved,
        "UID" => Key::Uids(cursor.set()?),
        "UNKEYWORD" => Key::Not(Box::new(Key::Flag(cursor.word()?))),
        "YOUNGER" => Key::Within { seconds: seconds(cursor)?, younger: true },
        _ => return Err(Malformed),
    })
}

/// RFC 5032 3: nz-number.
fn seconds(cursor: &mut Cursor<'_>) -> Result<u32, Malformed> {
    cursor.number().and_then(|seconds| if seconds == 0 { Err(Malformed) } else { Ok(seconds) })
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

/// Seconds since 1970 of `17-Jul-1996 02:44:25 -0700`; 0 for what is no date-time.
fn moment_of(date: &str) -> i64 {
    let mut fields = date.trim().split([' ', ':']);
    let mut next = || fields.next().unwrap_or_default();
    let (day, hour, minute, second, zone) = (days_since_1970(next()), next(), next(), next(), next());
    let number = |digits: &str| digits.parse::<i64>().ok();
    let (Some(day), Some(hour), Some(minute), Some(second)) = (day, number(hour), number(minute), number(second))
    else {
        return 0;
    };
    let zone = number(zone).unwrap_or(0);
    day * 86_400 + hour * 3600 + minute * 60 + second - zone / 100 * 3600 - zone % 100 * 60
}

/// The days between 1-Jan-1970 and `17-Jul-1996`, counted year by year: a model may take its time.
fn days_since_1970(date: &str) -> Option<i64> {
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let [day, month, year] = date.splitn(3, '-').collect::<Vec<_>>().try_into().ok()?;
    let (day, year) = (day.parse::<i64>().ok()?, year.parse::<i64>().ok()?);
    let month = MONTHS.find(&month.to_lowercase())? / 3;
    let days = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let years = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum::<i64>();
    Some(years + days[..month].iter().sum::<i64>() + day - 1)
}

const MONTHS: &str = "janfebmaraprmayjunjulaugsepoctnovdec";

/// Year, month and day of `17-Jul-1996` or `Wed, 17 Jul 1996` as one number that grows; 0 for what is no date.
fn day_of(date: &str) -> u32 {
    let date = date.rsplit_once(", ").map_or(date, |(_, date)| date).trim();
    let mut fields = date.split(['-', ' ']);
    let mut next = || fields.next().unwrap_or_default();
    let (day, month, year) = (next().parse::<u32>(), next().to_lowercase(), next().parse::<u32>());
    match (day, MONTHS.find(&month), year) {
        (Ok(day), Some(month), Ok(year)) => (year * 12 + month as u32 / 3) * 31 + day,
        _ => 0,
    }
}
