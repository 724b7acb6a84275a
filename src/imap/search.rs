//! Search criteria, walked from end to end: what in them may have to be said otherwise, and is the rest whole (RFC 3501 6.4.4)?
//!
//!     C: a SEARCH 2:4 UID $ FILTER on-the-road SINCE "3-Dec-2002" YOUNGER 3600
//!                 '-'     ^ '----------------'                    '----------'
//!                 numbers | what the filter says (RFC 5466)       a time (RFC 5032)
//!                         what was found before (RFC 5182)
//!
//! Nothing is evaluated, and nothing is copied but names. A key that is not in `KEYS` is an error: where its arguments end
//! nobody knows.

use std::{borrow::Cow, mem, ops::Range};

use super::{
    command::SyntaxError,
    sequence_set,
    token::Cursor,
    verb::Verb,
    words::{self, Bringers},
};

/// What a SEARCH looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program<'a> {
    /// Where `CHARSET name` stands, if it does, and the name.
    pub charset: Option<(Range<usize>, Cow<'a, [u8]>)>,
    /// Where the keys begin: behind RETURN and CHARSET. They go on to the end.
    pub keys: usize,
    /// What may have to be said otherwise, in its order.
    pub parts: Vec<Part>,
    /// What brings those of its keys that RFC 3501 has not.
    pub brought: Vec<Bringers>,
    /// No string has an octet above 0x7f: it means the same in every charset that a server may take it for.
    pub ascii: bool,
}

/// A part of search criteria that may have to be said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it stands; for `UIDs`, without the word UID.
    pub at: Range<usize>,
    /// What it is.
    pub what: What,
}

/// What a part of search criteria is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A key: message numbers, or the `$` of RFC 5182.
    Numbers,
    /// What stands behind UID: a set, or `$`.
    Uids,
    /// A key: the filter of this name, as it was written; names of entries are case-insensitive (RFC 5466).
    Filter(Box<str>),
    /// A key: messages older than so many seconds, or as old (RFC 5032).
    Older(u32),
    /// A key: messages younger than so many seconds, or as young.
    Younger(u32),
}

impl<'a> Program<'a> {
    /// Reads the arguments of SEARCH or UID SEARCH, without the line's end (RFC 4466 section 6, search-program).
    pub fn parse(arguments: &'a [u8]) -> Result<Self, SyntaxError> {
        let mut cursor = Cursor::new(arguments);
        if cursor.accept(b"RETURN ") {
            cursor.list_as_written()?;
            cursor.space()?;
        }
        Self::read(cursor, arguments.is_ascii())
    }

    /// Reads the arguments of SORT, THREAD and their UID forms (RFC 5256, RFC 5267 section 3.1): the charset has no word in front of it.
    pub fn parse_ordered(arguments: &'a [u8]) -> Result<Self, SyntaxError> {
        let mut cursor = Cursor::new(arguments);
        if cursor.accept(b"RETURN ") {
            cursor.list_as_written()?;
            cursor.space()?;
        }
        match cursor.peek() {
            Some(b'(') => drop(cursor.list_as_written()?),
            _ => drop(cursor.atom()?),
        }
        cursor.space()?;
        let start = cursor.at();
        let name = cursor.astring()?;
        let charset = Some((start..cursor.at(), name));
        cursor.space()?;
        let keys = cursor.at();
        let Keys { parts, brought } = walk(cursor)?;
        Ok(Self { charset, keys, parts, brought, ascii: arguments.is_ascii() })
    }

    fn read(mut cursor: Cursor<'a>, ascii: bool) -> Result<Self, SyntaxError> {
        let start = cursor.at();
        let mut charset = None;
        if cursor.accept(b"CHARSET ") {
            let name = cursor.astring()?;
            charset = Some((start..cursor.at(), name));
            cursor.space()?;
        }
        let keys = cursor.at();
        let Keys { parts, brought } = walk(cursor)?;
        Ok(Self { charset, keys, parts, brought, ascii })
    }

    /// Reads the arguments of a verb that has criteria.
    pub fn of(verb: &Verb, arguments: &'a [u8]) -> Result<Self, SyntaxError> {
        match verb.name {
            "SEARCH" | "UID SEARCH" => Self::parse(arguments),
            _ => Self::parse_ordered(arguments),
        }
    }

    /// The arguments, with some parts said otherwise; `None`: as it was.
    pub fn rewritten(&self, arguments: &[u8], mut say: impl FnMut(&Part) -> Option<Vec<u8>>) -> Vec<u8> {
        let mut out = Vec::with_capacity(arguments.len());
        let mut at = 0;
        for part in &self.parts {
            if let Some(words) = say(part) {
                out.extend_from_slice(&arguments[at..part.at.start]);
                out.extend_from_slice(&words);
                at = part.at.end;
            }
        }
        out.extend_from_slice(&arguments[at..]);
        out
    }

    /// Whether its charset is one in which a filter can be used (RFC 5466 3.1): UTF-8, or a part of it.
    pub fn is_unicode(&self) -> bool {
        let unicode = |name: &[u8]| name.eq_ignore_ascii_case(b"UTF-8") || name.eq_ignore_ascii_case(b"US-ASCII");
        self.charset.as_ref().is_none_or(|(_, name)| unicode(name))
    }
}

/// Reads the value of a filter's entry. RFC 5466 section 4 has keys only; a CHARSET in front of them is forgiven if it says what
/// is so anyhow. What is put in the place of a use begins at [`Program::keys`].
///
/// Numbers mean other messages in another mailbox and at another time, and `$` what this session has found: a filter outlives
/// them all, and is put in its place where neither is said otherwise any more.
pub fn criteria(value: &[u8]) -> Result<Program<'_>, SyntaxError> {
    if let Err(error) = std::str::from_utf8(value) {
        return Err(SyntaxError { expected: "UTF-8", at: error.valid_up_to() });
    }
    let program = Program::read(Cursor::new(value), value.is_ascii())?;
    let passes =
        |part: &&Part| part.what == What::Numbers || (part.what == What::Uids && &value[part.at.clone()] == b"$");
    match program.parts.iter().find(passes) {
        Some(part) => Err(SyntaxError { expected: "no message numbers and no $", at: part.at.start }),
        None if program.is_unicode() => Ok(program),
        None => Err(SyntaxError { expected: "no charset but UTF-8", at: 0 }),
    }
}

/// Whether it is worth a walk: this word stands somewhere, be it in a string.
pub fn mentions(word: &str, arguments: &[u8]) -> bool {
    arguments.windows(word.len()).any(|octets| octets.eq_ignore_ascii_case(word.as_bytes()))
}

/// What follows the name of a key.
#[derive(Clone, Copy, Debug)]
enum Argument {
    /// An atom, or a string.
    Astring,
    /// An atom: a keyword, an object's id.
    Atom,
    /// `1-Feb-1994`, in quotes or not.
    Date,
    /// The name of a filter.
    Filter,
    /// Another key.
    Key,
    /// `"/flags/\\draft" all 620162338`, or just the number (RFC 7162 3.1.5).
    ModSeq,
    /// Seconds, not 0: the key is this part.
    Within(fn(u32) -> What),
    /// 32 bits.
    Number,
    /// The names of entries, with wildcards in them.
    Pattern,
    /// `2:4,7`
    Set,
}

/// THE TABLE: what follows which key, and what brings it; nothing: RFC 3501.
#[rustfmt::skip]
const KEYS: [(&str, &[Argument], Bringers); 47] = {
    use Argument::{Astring, Atom, Date, Filter, Key, ModSeq, Number, Pattern, Set, Within};
    const BASE: Bringers = &[];
    const SAVEDATE: Bringers = &["SAVEDATE"];
    const WITHIN: Bringers = &["WITHIN"];
    [
        ("ALL", &[], BASE),
        ("ANNOTATION", &[Pattern, Astring, Astring], &["ANNOTATE-EXPERIMENT-1"]), // RFC 5257
        ("ANSWERED", &[], BASE), ("BCC", &[Astring], BASE), ("BEFORE", &[Date], BASE), ("BODY", &[Astring], BASE),
        ("CC", &[Astring], BASE), ("DELETED", &[], BASE), ("DRAFT", &[], BASE),
        ("EMAILID", &[Atom], words::OBJECTID), // RFC 8474
        ("FILTER", &[Filter], &["FILTERS"]), // RFC 5466
        ("FLAGGED", &[], BASE), ("FROM", &[Astring], BASE),
        ("FUZZY", &[Key], &["SEARCH=FUZZY"]), // RFC 6203
        ("HEADER", &[Astring, Astring], BASE), ("KEYWORD", &[Atom], BASE), ("LARGER", &[Number], BASE),
        ("MODSEQ", &[ModSeq], words::CONDSTORE), // RFC 7162
        ("NEW", &[], BASE), ("NOT", &[Key], BASE), ("OLD", &[], BASE),
        ("OLDER", &[Within(What::Older)], WITHIN), // RFC 5032
        ("ON", &[Date], BASE), ("OR", &[Key, Key], BASE), ("RECENT", &[], BASE),
        ("SAVEDATESUPPORTED", &[], SAVEDATE), ("SAVEDBEFORE", &[Date], SAVEDATE), ("SAVEDON", &[Date], SAVEDATE),
        ("SAVEDSINCE", &[Date], SAVEDATE), // RFC 8514
        ("SEEN", &[], BASE), ("SENTBEFORE", &[Date], BASE), ("SENTON", &[Date], BASE), ("SENTSINCE", &[Date], BASE),
        ("SINCE", &[Date], BASE), ("SMALLER", &[Number], BASE), ("SUBJECT", &[Astring], BASE), ("TEXT", &[Astring], BASE),
        ("THREADID", &[Atom], words::OBJECTID), // RFC 8474
        ("TO", &[Astring], BASE), ("UID", &[Set], BASE), ("UNANSWERED", &[], BASE), ("UNDELETED", &[], BASE),
        ("UNDRAFT", &[], BASE), ("UNFLAGGED", &[], BASE), ("UNKEYWORD", &[Atom], BASE), ("UNSEEN", &[], BASE),
        ("YOUNGER", &[Within(What::Younger)], WITHIN), // RFC 5032
    ]
};

/// Parentheses in parentheses go so deep. Nobody writes ten; those who parse what we pass on have bounds of their own.
pub const DEEPEST: usize = 50;

/// What is kept of keys.
#[derive(Debug, Default)]
struct Keys {
    /// Those that may have to be said otherwise.
    parts: Vec<Part>,
    brought: Vec<Bringers>,
}

/// Walks over keys to the end. No recursion: a parenthesis begins a level, and each level counts the keys that NOT and OR still
/// want.
fn walk(mut cursor: Cursor<'_>) -> Result<Keys, SyntaxError> {
    let mut keys = Keys::default();
    let (mut wanted, mut outer) = (1usize, Vec::new());
    loop {
        wanted = wanted.saturating_sub(1);
        if cursor.peek() == Some(b'(') {
            if outer.len() == DEEPEST {
                return Err(cursor.expected("fewer parentheses"));
            }
            cursor.open()?;
            outer.push(mem::replace(&mut wanted, 1));
            continue;
        }
        wanted += keys.read(&mut cursor)?;
        while wanted == 0 && !outer.is_empty() && cursor.accept(b")") {
            wanted = outer.pop().unwrap_or_default();
        }
        if wanted == 0 && outer.is_empty() && cursor.peek().is_none() {
            return Ok(keys);
        }
        cursor.space()?;
    }
}

impl Keys {
    /// Reads a key, and says how many more it wants.
    fn read(&mut self, cursor: &mut Cursor<'_>) -> Result<usize, SyntaxError> {
        let start = cursor.at();
        if matches!(cursor.peek(), Some(b'0'..=b'9' | b'*' | b'$')) {
            set(cursor)?;
            self.keep(start..cursor.at(), What::Numbers, cursor);
            return Ok(0);
        }
        let unknown = cursor.expected("a search key");
        let word = cursor.atom().map_err(|_| unknown)?;
        let row = KEYS.iter().find(|(name, ..)| name.as_bytes().eq_ignore_ascii_case(word));
        let (_, arguments, bringers) = row.ok_or(unknown)?;
        self.brought_by(bringers);
        let mut wanted = 0;
        for argument in *arguments {
            if matches!(argument, Argument::Key) {
                wanted += 1;
                continue;
            }
            cursor.space()?;
            let here = cursor.at();
            if let Some(what) = argument.read(cursor)? {
                let at = if what == What::Uids { here } else { start };
                self.keep(at..cursor.at(), what, cursor);
            }
        }
        Ok(wanted)
    }

    fn keep(&mut self, at: Range<usize>, what: What, cursor: &Cursor<'_>) {
        if cursor.since(at.start) == b"$" {
            self.brought_by(&["SEARCHRES"]);
        }
        self.parts.push(Part { at, what });
    }

    /// Each once: there are a few, and keys may be many.
    fn brought_by(&mut self, bringers: Bringers) {
        if !bringers.is_empty() && !self.brought.contains(&bringers) {
            self.brought.push(bringers);
        }
    }
}

impl Argument {
    /// Reads it. The answer is what it is a part of, if that may have to be said otherwise.
    fn read(self, cursor: &mut Cursor<'_>) -> Result<Option<What>, SyntaxError> {
        match self {
            Self::Astring => cursor.astring().map(drop)?,
            Self::Atom => cursor.atom().map(drop)?,
            Self::Date => date(cursor)?,
            Self::ModSeq => modseq(cursor)?,
            Self::Number => cursor.number().map(drop)?,
            Self::Pattern => cursor.list_mailbox().map(drop)?,
            Self::Key => {}
            Self::Filter => return filter_name(cursor).map(|name| Some(What::Filter(name))),
            Self::Set => return set(cursor).map(|()| Some(What::Uids)),
            Self::Within(what) => return non_zero(cursor).map(|seconds| Some(what(seconds))),
        }
        Ok(None)
    }
}

/// RFC 5466 section 4: 1*<any ATOM-CHAR except "/">. An atom is ASCII.
fn filter_name(cursor: &mut Cursor<'_>) -> Result<Box<str>, SyntaxError> {
    let wrong = cursor.expected("the name of a filter");
    let name = cursor.atom().map_err(|_| wrong)?;
    if name.contains(&b'/') { Err(wrong) } else { Ok(String::from_utf8_lossy(name).into()) }
}

/// RFC 3501 section 9, date. Whether a month has 31 days is for the backend to say.
fn date(cursor: &mut Cursor<'_>) -> Result<(), SyntaxError> {
    const MONTHS: [&[u8]; 12] =
        [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    let wrong = cursor.expected("a date");
    let text = cursor.astring().map_err(|_| wrong)?;
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    let parts: Vec<&[u8]> = text.splitn(4, |octet| *octet == b'-').collect();
    match *parts {
        [day, month, year]
            if matches!((day.len(), year.len()), (1 | 2, 4))
                && digits(day)
                && digits(year)
                && MONTHS.iter().any(|name| name.eq_ignore_ascii_case(month)) =>
        {
            Ok(())
        }
        _ => Err(wrong),
    }
}

fn modseq(cursor: &mut Cursor<'_>) -> Result<(), SyntaxError> {
    if cursor.peek() == Some(b'"') {
        cursor.string()?;
        cursor.space()?;
        cursor.atom()?;
        cursor.space()?;
    }
    let wrong = cursor.expected("a number of 64 bits");
    let digits = cursor.run(|octet| octet.is_ascii_digit(), "a number")?;
    let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok());
    number.map(drop).ok_or(wrong)
}

fn non_zero(cursor: &mut Cursor<'_>) -> Result<u32, SyntaxError> {
    let wrong = cursor.expected("a number other than 0");
    match cursor.number()? {
        0 => Err(wrong),
        number => Ok(number),
    }
}

/// RFC 3501 section 9, sequence-set, or the `$` of RFC 5182.
fn set(cursor: &mut Cursor<'_>) -> Result<(), SyntaxError> {
    let wrong = cursor.expected("a set of messages");
    let belongs = |octet: u8| octet.is_ascii_digit() || matches!(octet, b'*' | b':' | b',' | b'$');
    let text = cursor.run(belongs, "a set of messages")?;
    if text == b"$" || sequence_set::parse(text).is_some() { Ok(()) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::command;

    fn uses(arguments: &[u8]) -> Result<Vec<(Range<usize>, String)>, String> {
        let program = Program::parse(arguments).map_err(|error| error.to_string())?;
        let filter = |part: Part| match part.what {
            What::Filter(name) => Some((part.at, name.into())),
            _ => None,
        };
        Ok(program.parts.into_iter().filter_map(filter).collect())
    }

    #[test]
    fn filters_are_found_where_keys_stand() {
        type Found = &'static [(Range<usize>, &'static str)];
        let table: &[(&[u8], Found)] = &[
            // RFC 5466 3.1.
            (b"UID 300:900 FILTER on-the-road SINCE \"3-Dec-2002\"", &[(12..30, "on-the-road")]),
            (b"filter a", &[(0..8, "a")]),
            (b"OR FILTER a NOT (FILTER b FILTER c)", &[(3..11, "a"), (17..25, "b"), (26..34, "c")]),
            (b"RETURN (MIN MAX) CHARSET UTF-8 FILTER a", &[(31..39, "a")]),
            // Words that are something else here.
            (b"SUBJECT FILTER FROM \"FILTER a\"", &[]),
            (b"HEADER FILTER FILTER KEYWORD FILTER", &[]),
            (b"BODY {8}\r\nFILTER a SEEN", &[]),
            (b"RETURN (FILTER (a)) ALL", &[]),
        ];
        for (arguments, expected) in table {
            let expected = expected.iter().map(|(at, name)| (at.clone(), (*name).to_owned())).collect();
            assert_eq!(uses(arguments), Ok(expected), "{}", arguments.escape_ascii());
        }
    }

    #[test]
    fn criteria_of_every_kind_are_walked() {
        let table: &[&[u8]] = &[
            // RFC 3501 6.4.4, 5032 section 4, 4731 section 3.1, 5182 section 2.3, 7162 section 3.1.5, 8514, 6203.
            b"FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\"",
            b"TEXT \"string not in mailbox\"",
            b"CHARSET UTF-8 TEXT {6}\r\n\xd0\xb0\xd0\xb1\xd0\xb2",
            b"UNSEEN YOUNGER 259200",
            b"RETURN () DELETED",
            b"RETURN (MIN COUNT) FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\"",
            b"RETURN (SAVE PARTIAL 1:10 UPDATE (FLAGS \"x\")) UID $ $",
            b"MODSEQ \"/flags/\\\\draft\" all 620162338",
            b"OR NOT MODSEQ 720162338 LARGER 50000",
            b"SAVEDBEFORE \"01-JAN-2000\" FUZZY (TEXT x)",
            b"2:4,7,* 1:* (SEEN (DRAFT) DELETED)",
            b"OR OR SEEN NEW OR OLD (1)",
            b"CHARSET \"US-ASCII\" OLDER 4294967295 OLD ON 1-Jan-2000",
            b"HEADER Message-ID \"\" SMALLER 0 BCC a CC b TO c BODY d KEYWORD $Forwarded UNKEYWORD x",
        ];
        for arguments in table {
            assert_eq!(uses(arguments), Ok(Vec::new()), "{}", arguments.escape_ascii());
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let table: &[(&[u8], &str)] = &[
            (b"", "expected a search key at octet 0"),
            (b"XYZZY", "expected a search key at octet 0"),
            (b"SEEN X-GM-RAW \"x\"", "expected a search key at octet 5"),
            (b"CHARSET UTF-8", "expected a space at octet 13"),
            (b"RETURN MIN ALL", "expected ( at octet 7"),
            (b"SEEN CHARSET UTF-8 ALL", "expected a search key at octet 5"),
            (b"OR SMALLER", "expected a space at octet 10"),
            (b"OR SEEN", "expected a space at octet 7"),
            (b"(OR SEEN) NEW", "expected a space at octet 8"),
            (b"NOT", "expected a space at octet 3"),
            (b"()", "expected a search key at octet 1"),
            (b"(SEEN", "expected a space at octet 5"),
            (b"SEEN)", "expected a space at octet 4"),
            (b"SEEN ", "expected a search key at octet 5"),
            (b"SEENALL", "expected a search key at octet 0"),
            (b"FILTER", "expected a space at octet 6"),
            (b"FILTER a/b", "expected the name of a filter at octet 7"),
            (b"FILTER \"a\"", "expected the name of a filter at octet 7"),
            (b"FILTER \xe9", "expected the name of a filter at octet 7"),
            (b"ON 1-Foo-2000", "expected a date at octet 3"),
            (b"ON 1-Jan-2000-1", "expected a date at octet 3"),
            (b"ON 1-Jan-20", "expected a date at octet 3"),
            (b"OLDER 0", "expected a number other than 0 at octet 6"),
            (b"LARGER 4294967296", "expected a number of 32 bits at octet 7"),
            (b"MODSEQ 18446744073709551616", "expected a number of 64 bits at octet 7"),
            (b"UID 0", "expected a set of messages at octet 4"),
            (b"1,,2", "expected a set of messages at octet 0"),
            (b"SUBJECT {9}\r\nx", "expected a literal at octet 8"),
        ];
        for (arguments, expected) in table {
            assert_eq!(uses(arguments), Err((*expected).to_owned()), "{}", arguments.escape_ascii());
        }
    }

    #[test]
    fn parentheses_have_a_bound_and_chains_have_none() {
        let nested = |depth: usize| [b"(".repeat(depth), b"SEEN".to_vec(), b")".repeat(depth)].concat();
        assert!(Program::parse(&nested(DEEPEST)).is_ok());
        assert_eq!(uses(&nested(DEEPEST + 1)), Err("expected fewer parentheses at octet 50".to_owned()));
        let chain = [b"OR FILTER a ".repeat(5_000), b"NOT ".repeat(5_000), b"SEEN".to_vec()].concat();
        assert_eq!(uses(&chain).map(|found| found.len()), Ok(5_000));
    }

    #[test]
    fn charset_keys_and_octets_are_told() {
        let program = Program::parse(b"RETURN (ALL) CHARSET \"iso-8859-1\" TEXT {1}\r\n\xe9").unwrap();
        assert_eq!(program.charset, Some((13..33, Cow::Borrowed(&b"iso-8859-1"[..]))));
        assert_eq!((program.keys, program.ascii, program.is_unicode()), (34, false, false));
        let program = Program::parse(b"CHARSET us-ascii SEEN").unwrap();
        assert_eq!((program.keys, program.ascii, program.is_unicode()), (17, true, true));
        let program = Program::parse(b"SEEN").unwrap();
        assert_eq!((program.charset.is_none(), program.keys, program.is_unicode()), (true, 0, true));
    }

    #[test]
    fn criteria_stand_behind_an_order_too() {
        let read = |arguments: &[u8]| {
            let program = Program::parse_ordered(arguments).map_err(|error| error.to_string())?;
            let (at, name) = program.charset.clone().unwrap();
            Ok((at, String::from_utf8_lossy(&name).into_owned(), program.keys, program.parts.len()))
        };
        assert_eq!(read(b"(SUBJECT REVERSE DATE) UTF-8 FILTER a"), Ok((23..28, "UTF-8".to_owned(), 29, 1)));
        assert_eq!(read(b"RETURN (ALL) (DATE) \"x\" SEEN"), Ok((20..23, "x".to_owned(), 24, 0)));
        assert_eq!(read(b"REFERENCES us-ascii FILTER a FILTER b"), Ok((11..19, "us-ascii".to_owned(), 20, 2)));
        assert_eq!(
            read(b"REFERENCES FILTER a"),
            Err::<(Range<usize>, String, usize, usize), _>("expected a search key at octet 18".to_owned())
        );
    }

    #[test]
    fn the_value_of_a_filter_is_criteria_in_utf_8() {
        let check = |value: &[u8]| criteria(value).map(|program| program.keys).map_err(|error| error.to_string());
        // RFC 5466 3.1 and 3.2.
        assert_eq!(check(b"OR SMALLER 5000 FROM \"boss@example.com\""), Ok(0));
        assert_eq!(check(b"OR SMALLER"), Err("expected a space at octet 10".to_owned()));
        assert_eq!(
            check(b"from \"@example.com>\" (x-dsfa from 5)"),
            Err("expected a search key at octet 22".to_owned())
        );
        assert_eq!(check("SUBJECT \"\u{e9}\"".as_bytes()), Ok(0));
        assert_eq!(check(b"SUBJECT \"\xe9\""), Err("expected UTF-8 at octet 9".to_owned()));
        assert_eq!(check(b"charset utf-8 SEEN"), Ok(14));
        assert_eq!(check(b"CHARSET KOI8-R SEEN"), Err("expected no charset but UTF-8 at octet 0".to_owned()));
        assert_eq!(check(b"RETURN (ALL) SEEN"), Err("expected a search key at octet 0".to_owned()));
        assert_eq!(check(b"SEEN\r\nb LOGOUT"), Err("expected a space at octet 4".to_owned()));
        assert_eq!(check(b""), Err("expected a search key at octet 0".to_owned()));
    }

    #[test]
    fn what_may_have_to_be_said_otherwise_is_found() {
        let arguments = b"RETURN (ALL) OR 2:4 NOT (UID $ OLDER 60) * SUBJECT 7 YOUNGER 5";
        let program = Program::parse(arguments).unwrap();
        let found: Vec<_> = program
            .parts
            .iter()
            .map(|part| (std::str::from_utf8(&arguments[part.at.clone()]).unwrap(), &part.what))
            .collect();
        let (numbers, older, younger) = (&What::Numbers, &What::Older(60), &What::Younger(5));
        let expected =
            [("2:4", numbers), ("$", &What::Uids), ("OLDER 60", older), ("*", numbers), ("YOUNGER 5", younger)];
        assert_eq!(found, expected);
        let say = |part: &Part| (part.what == What::Numbers).then(|| b"UID 9".to_vec());
        let said = program.rewritten(arguments, say);
        assert_eq!(said, b"RETURN (ALL) OR UID 9 NOT (UID $ OLDER 60) UID 9 SUBJECT 7 YOUNGER 5");
    }

    #[test]
    fn the_word_is_looked_for_in_any_case() {
        assert!(mentions("FILTER", b"SEEN filter x"));
        assert!(mentions("FILTER", b"TEXT \"Filters\""));
        assert!(!mentions("FILTER", b"FILTE"));
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(KEYS.windows(2).all(|rows| rows[0].0 < rows[1].0));
    }

    #[test]
    fn what_imap_codec_reads_we_read() {
        // One key after the other, alone and within others.
        let keys: &[&str] = &[
            "ALL",
            "ANSWERED",
            "BCC a",
            "BEFORE 1-Jan-2000",
            "BODY {1+}\r\nx",
            "CC \"a\\\"b\"",
            "DELETED",
            "DRAFT",
            "FLAGGED",
            "FROM a]b",
            "HEADER a \"\"",
            "KEYWORD $x",
            "LARGER 007",
            "MODSEQ 0",
            "MODSEQ \"/flags/\\\\seen\" shared 1",
            "NEW",
            "OLD",
            "OLDER 1",
            "ON \"01-dec-1999\"",
            "RECENT",
            "SEEN",
            "SENTBEFORE 1-Jan-2000",
            "SENTON 1-Jan-2000",
            "SENTSINCE 1-Jan-2000",
            "SINCE 1-Jan-2000",
            "SMALLER 4294967295",
            "SUBJECT \"\"",
            "TEXT nil",
            "TO +x",
            "UID *:1,2",
            "UNANSWERED",
            "UNDELETED",
            "UNDRAFT",
            "UNFLAGGED",
            "UNKEYWORD x",
            "UNSEEN",
            "YOUNGER 1",
            "1,2:*",
        ];
        for key in keys {
            for form in
                ["{}", "NOT {}", "OR {} NOT {}", "({} SEEN)", "CHARSET UTF-8 NOT (({} {}))", "charset \"x\" seen {}"]
            {
                let arguments = form.replace("{}", key);
                let command = format!("a SEARCH {arguments}\r\n");
                command::decode(command.as_bytes()).unwrap_or_else(|error| panic!("imap-codec: {command}: {error}"));
                assert_eq!(uses(arguments.as_bytes()), Ok(Vec::new()), "{arguments}");
            }
        }
    }
}
