//! LIST, plain and extended, and the lines that answer it (RFC 3501 6.3.8 and 7.2.2, RFC 5258, 5819, 6154).
//!
//!     C: a LIST (SUBSCRIBED RECURSIVEMATCH) "" "%" RETURN (CHILDREN STATUS (MESSAGES))
//!     S: * LIST (\Subscribed \HasChildren) "/" "Foo" ("CHILDINFO" ("SUBSCRIBED"))
//!     S: * STATUS "Foo" (MESSAGES 17)
//!
//! Names are octets: in modified UTF-7, in UTF-8, or in whatever an old server has on its disk. Requirement N1.

use std::{borrow::Cow, mem};

use super::{
    command::SyntaxError,
    token::{self, Cursor},
};

/// What a client wants listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Only mailboxes that are all of these; none: every mailbox that exists.
    pub selection: Vec<Selection>,
    /// What stands in front of each pattern.
    pub reference: Box<[u8]>,
    /// Names with `*` and `%` in them.
    pub patterns: Vec<Box<[u8]>>,
    /// What to say of each.
    pub returns: Vec<Return>,
    /// Some of it is in the syntax of RFC 5258, in which an empty pattern does not ask for the delimiter (section 3).
    pub extended: bool,
}

/// A selection option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Names that are subscribed to, existing or not.
    Subscribed,
    /// Mailboxes of other servers as well.
    Remote,
    /// Parents of what matches, if they match the pattern and it does not.
    RecursiveMatch,
    /// Mailboxes with a use (RFC 6154).
    SpecialUse,
}

/// A return option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Return {
    /// Whether it is subscribed to.
    Subscribed,
    /// Whether it has children.
    Children,
    /// What it is used for (RFC 6154).
    SpecialUse,
    /// Its status (RFC 5819): the items as they were written, with parentheses.
    Status(Box<[u8]>),
}

/// A mailbox in a list: a line of LIST or LSUB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// `\HasNoChildren` and the like, as they came.
    pub attributes: Vec<Box<[u8]>>,
    /// What stands between the levels; `None` where all is flat.
    pub delimiter: Option<u8>,
    /// Its name. INBOX is in upper case.
    pub name: Box<[u8]>,
    /// `("CHILDINFO" ("SUBSCRIBED"))` as it came, with parentheses; empty for none.
    pub extended: Box<[u8]>,
}

impl List {
    /// So many patterns are a command's, and no more: every mailbox is compared with every one of them.
    pub const MOST_PATTERNS: usize = 64;

    /// Reads the arguments of LIST, without the line's end.
    pub fn parse(arguments: &[u8]) -> Result<Self, SyntaxError> {
        let mut cursor = Cursor::new(arguments);
        let selects = cursor.peek() == Some(b'(');
        let selection = if selects { selection(&mut cursor)? } else { Vec::new() };
        let reference = mailbox(&mut cursor, Cursor::astring)?;
        cursor.space()?;
        let many = cursor.peek() == Some(b'(');
        let mut room = Self::MOST_PATTERNS;
        let patterns = cursor.list_or_one(|cursor| {
            room = room.checked_sub(1).ok_or(cursor.expected("at most 64 patterns"))?;
            mailbox(cursor, Cursor::list_mailbox)
        })?;
        let says = cursor.accept(b" RETURN ");
        let returns = if says { once(cursor.list_or_empty(returned)?) } else { Vec::new() };
        cursor.end()?;
        Ok(Self { selection, reference, patterns, returns, extended: selects || many || says })
    }

    /// Whether these arguments are in the syntax of RFC 5258, be they right or wrong in it.
    pub fn is_extended(arguments: &[u8]) -> bool {
        // A plain LIST neither begins nor ends with a parenthesis, but in a literal.
        let looks = || arguments.starts_with(b"(") || arguments.ends_with(b")");
        Self::parse(arguments).map_or_else(|_| looks(), |list| list.extended)
    }

    /// Arguments again: plain ones if they can be. Literals stand inline, each announced as `{n}`.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.selection.is_empty() {
            write_list(&self.selection, |option, out| out.extend_from_slice(option.word().as_bytes()), &mut out);
            out.push(b' ');
        }
        token::write_astring(&self.reference, &mut out);
        out.push(b' ');
        self.write_patterns(&mut out);
        if !self.returns.is_empty() {
            out.extend_from_slice(b" RETURN ");
            write_list(&self.returns, Return::write, &mut out);
        }
        out
    }

    /// With parentheses if they are what is left to show that the syntax is the extended one.
    fn write_patterns(&self, out: &mut Vec<u8>) {
        let shown = !self.selection.is_empty() || !self.returns.is_empty();
        match &*self.patterns {
            [pattern] if shown || !self.extended => token::write_astring(pattern, out),
            patterns => write_list(patterns, |pattern, out| token::write_astring(pattern, out), out),
        }
    }
}

impl Selection {
    const ALL: [Self; 4] = [Self::Subscribed, Self::Remote, Self::RecursiveMatch, Self::SpecialUse];

    fn word(self) -> &'static str {
        match self {
            Self::Subscribed => "SUBSCRIBED",
            Self::Remote => "REMOTE",
            Self::RecursiveMatch => "RECURSIVEMATCH",
            Self::SpecialUse => "SPECIAL-USE",
        }
    }
}

impl Return {
    fn write(&self, out: &mut Vec<u8>) {
        let (word, items): (&[u8], &[u8]) = match self {
            Self::Subscribed => (b"SUBSCRIBED", b""),
            Self::Children => (b"CHILDREN", b""),
            Self::SpecialUse => (b"SPECIAL-USE", b""),
            Self::Status(items) => (b"STATUS ", items),
        };
        out.extend_from_slice(word);
        out.extend_from_slice(items);
    }
}

impl Listed {
    /// Reads a line, without its end. What is not in the grammar is `None`, and may pass as it came.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(line);
        if !cursor.accept(b"* LIST ") && !cursor.accept(b"* LSUB ") {
            return None;
        }
        let attributes = attributes(&mut cursor).ok()?;
        cursor.space().ok()?;
        let delimiter = delimiter(&mut cursor)?;
        cursor.space().ok()?;
        let name = mailbox(&mut cursor, listed_name).ok()?;
        let extended = if cursor.accept(b" ") { cursor.list_as_written().ok()? } else { b"" };
        cursor.end().ok()?;
        // RFC 3501 5.1: INBOX in any case. What stands below it is the server's own.
        let name = if name.eq_ignore_ascii_case(INBOX) { INBOX.into() } else { name };
        Some(Self { attributes, delimiter, name, extended: extended.into() })
    }

    /// Whether it has this attribute, in any case.
    pub fn has(&self, attribute: &[u8]) -> bool {
        self.attributes.iter().any(|own| own.eq_ignore_ascii_case(attribute))
    }

    /// Whether one of its attributes says what it is used for (RFC 6154 section 2).
    pub fn has_use(&self) -> bool {
        USES.iter().any(|attribute| self.has(attribute.as_bytes()))
    }

    /// Gives it an attribute, once.
    pub fn add(&mut self, attribute: &[u8]) {
        if !self.has(attribute) {
            self.attributes.push(attribute.into());
        }
    }

    /// Takes an attribute from it.
    pub fn remove(&mut self, attribute: &[u8]) {
        self.attributes.retain(|own| !own.eq_ignore_ascii_case(attribute));
    }

    /// Whether it is a mailbox, and not only a name.
    pub fn is_selectable(&self) -> bool {
        !self.has(b"\\Noselect") && !self.has(b"\\NonExistent")
    }

    /// Its name as a key.
    pub fn key(&self) -> Box<[u8]> {
        canonical(&self.name)
    }

    /// Writes an attribute into a line that was read, and leaves the rest of it as it came.
    pub fn insert(line: &mut Vec<u8>, attribute: &[u8]) {
        if let Some(at) = memchr::memchr(b')', line) {
            let first = at > 0 && line[at - 1] == b'(';
            let space: &[u8] = if first { b"" } else { b" " };
            line.splice(at..at, [space, attribute].concat());
        }
    }

    /// Writes it as a line of LIST, without the line's end.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"* LIST ");
        write_list(&self.attributes, |attribute, out| out.extend_from_slice(attribute), out);
        out.push(b' ');
        match self.delimiter {
            Some(delimiter) => token::write_quoted(&[delimiter], out),
            None => out.extend_from_slice(b"NIL"),
        }
        out.push(b' ');
        token::write_astring(&self.name, out);
        if !self.extended.is_empty() {
            out.push(b' ');
            out.extend_from_slice(&self.extended);
        }
    }
}

/// Names in order, as keys: what is below one of them stands behind it, and is found at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(Vec<Box<[u8]>>);

impl Names {
    /// Whether it is among them.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.0.binary_search_by(|name| (**name).cmp(key)).is_ok()
    }

    /// Whether one of them is below this one.
    pub fn has_below(&self, key: &[u8], delimiter: Option<u8>) -> bool {
        let Some(delimiter) = delimiter else { return false };
        let above = [key, &[delimiter]].concat();
        let first = self.0.partition_point(|name| **name < *above);
        self.0.get(first).is_some_and(|name| name.starts_with(&above))
    }
}

impl FromIterator<Box<[u8]>> for Names {
    fn from_iter<I: IntoIterator<Item = Box<[u8]>>>(names: I) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self(names)
    }
}

/// Whether a pattern names a mailbox: `*` stands for any octets, `%` for any but the delimiter (RFC 3501 6.3.8).
///
/// A client chooses the pattern: the work is bounded by the square of the name's length, and the pattern read once.
pub fn matches(pattern: &[u8], name: &[u8], delimiter: Option<u8>) -> bool {
    let inbox = if is_inbox(name, |octet| Some(octet) == delimiter) { INBOX.len() } else { 0 };
    // reached[n]: what was read of the pattern can stand for the first n octets of the name.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    // The widest wildcard since the last octet: what follows it and is no wider adds nothing.
    let mut widest = None;
    for octet in pattern {
        match (octet, widest) {
            (b'*' | b'%', Some(b'*')) | (b'%', Some(b'%')) => {}
            (b'*' | b'%', _) => {
                spread(&mut reached, |at| *octet == b'*' || Some(name[at]) != delimiter);
                widest = Some(*octet);
            }
            _ => {
                let same = |at: usize| name[at] == *octet || at < inbox && name[at].eq_ignore_ascii_case(octet);
                if !advance(&mut reached, same) {
                    return false;
                }
                widest = None;
            }
        }
    }
    reached[name.len()]
}

/// A wildcard: from where one is, over every octet that it may stand for.
fn spread(reached: &mut [bool], crosses: impl Fn(usize) -> bool) {
    for at in 1..reached.len() {
        reached[at] |= reached[at - 1] && crosses(at - 1);
    }
}

/// An octet: one further, where it is the same. Says whether there is such a place.
fn advance(reached: &mut [bool], same: impl Fn(usize) -> bool) -> bool {
    for at in (1..reached.len()).rev() {
        reached[at] = reached[at - 1] && same(at - 1);
    }
    reached[0] = false;
    reached.contains(&true)
}

/// A mailbox's name as a key: INBOX, and what stands below it, has one spelling whatever delimiter the server uses.
pub fn canonical(name: &[u8]) -> Box<[u8]> {
    let mut key: Box<[u8]> = name.into();
    if is_inbox(name, |octet| matches!(octet, b'.' | b'/' | b'\\' | b':' | b'^')) {
        key[..INBOX.len()].copy_from_slice(INBOX);
    }
    key
}

/// What a pattern is compared as: behind its reference. An empty one matches nothing: it asks for the delimiter (RFC 3501 6.3.8),
/// or is to be ignored (RFC 5258 section 3).
pub fn joined(reference: &[u8], pattern: &[u8]) -> Vec<u8> {
    match pattern {
        b"" => Vec::new(),
        _ => [reference, pattern].concat(),
    }
}

/// What mailboxes are used for (RFC 6154 section 2).
pub const USES: [&str; 7] = ["\\All", "\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash"];

const INBOX: &[u8] = b"INBOX";

/// The five letters in any case, alone or in front of a delimiter.
fn is_inbox(name: &[u8], delimits: impl Fn(u8) -> bool) -> bool {
    let first = name.get(..INBOX.len()).is_some_and(|letters| letters.eq_ignore_ascii_case(INBOX));
    first && name.get(INBOX.len()).is_none_or(|octet| delimits(*octet))
}

/// `(SUBSCRIBED REMOTE) `
fn selection(cursor: &mut Cursor<'_>) -> Result<Vec<Selection>, SyntaxError> {
    // RFC 5258 3.1: RECURSIVEMATCH does not stand alone, or with REMOTE only. RFC 6154 calls SPECIAL-USE as independent as
    // REMOTE in its grammar, and says nothing of it in its text: it is let through, as it narrows the list.
    let alone = cursor.expected("an option that RECURSIVEMATCH applies to");
    let options = once(cursor.list_or_empty(|cursor| {
        let unknown = cursor.expected("SUBSCRIBED, REMOTE, RECURSIVEMATCH or SPECIAL-USE");
        let word = cursor.atom()?;
        let known = Selection::ALL.into_iter().find(|option| option.word().as_bytes().eq_ignore_ascii_case(word));
        known.ok_or(unknown)
    })?);
    cursor.space()?;
    let narrows = options.iter().any(|option| matches!(option, Selection::Subscribed | Selection::SpecialUse));
    if options.contains(&Selection::RecursiveMatch) && !narrows { Err(alone) } else { Ok(options) }
}

fn returned(cursor: &mut Cursor<'_>) -> Result<Return, SyntaxError> {
    let unknown = cursor.expected("SUBSCRIBED, CHILDREN, SPECIAL-USE or STATUS");
    match &*cursor.atom()?.to_ascii_uppercase() {
        b"SUBSCRIBED" => Ok(Return::Subscribed),
        b"CHILDREN" => Ok(Return::Children),
        b"SPECIAL-USE" => Ok(Return::SpecialUse),
        b"STATUS" => {
            cursor.space()?;
            let start = cursor.at();
            cursor.list(Cursor::atom)?;
            Ok(Return::Status(cursor.since(start).into()))
        }
        _ => Err(unknown),
    }
}

/// RFC 5258 section 3: an option that is repeated counts once; here the first.
fn once<T>(options: Vec<T>) -> Vec<T> {
    let mut kept: Vec<T> = Vec::new();
    for option in options {
        if kept.iter().all(|own| mem::discriminant(own) != mem::discriminant(&option)) {
            kept.push(option);
        }
    }
    kept
}

/// A name, in which there is no NUL: it could not be written again but as literal8, which no name is.
fn mailbox<'a>(
    cursor: &mut Cursor<'a>,
    read: fn(&mut Cursor<'a>) -> Result<Cow<'a, [u8]>, SyntaxError>,
) -> Result<Box<[u8]>, SyntaxError> {
    let wrong = cursor.expected("a name without NUL");
    let name = read(cursor)?;
    if name.contains(&0) { Err(wrong) } else { Ok(name.into()) }
}

/// A name as servers write it: some leave quotes away where the grammar wants them, as in `Lists/[all]` or with 8 bits.
fn listed_name<'a>(cursor: &mut Cursor<'a>) -> Result<Cow<'a, [u8]>, SyntaxError> {
    match cursor.peek() {
        Some(b'"' | b'{') => Ok(cursor.string()?.octets),
        _ => cursor.run(|octet| octet > b' ' && octet != 0x7f && octet != b'"', "a name").map(Cow::Borrowed),
    }
}

/// `(\Noselect \Marked)`. More spaces than there should be are forgiven.
fn attributes(cursor: &mut Cursor<'_>) -> Result<Vec<Box<[u8]>>, SyntaxError> {
    if cursor.accept(b"()") {
        return Ok(Vec::new());
    }
    cursor.open()?;
    let belongs = |octet| matches!(octet, b' ' | b'\\') || token::is_atom_octet(octet);
    let words = cursor.run(belongs, "an attribute")?;
    cursor.close()?;
    Ok(words.split(|octet| *octet == b' ').filter(|word| !word.is_empty()).map(Into::into).collect())
}

/// NIL, or one octet between quotes; some servers write NIL as `""`.
fn delimiter(cursor: &mut Cursor<'_>) -> Option<Option<u8>> {
    let text = cursor.value().ok()?.map(|text| text.octets).unwrap_or_default();
    match *text {
        [] => Some(None),
        [octet @ b' '..=b'~'] => Some(Some(octet)),
        _ => None,
    }
}

/// `(x y)`
fn write_list<T>(members: &[T], write: impl Fn(&T, &mut Vec<u8>), out: &mut Vec<u8>) {
    out.push(b'(');
    for (at, member) in members.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"" } else { b" " });
        write(member, out);
    }
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_name_is_found() {
        let names: Names =
            ["INBOX", "a", "a.b", "a.b.c", "a/x", "ab", "A"].map(|name| name.as_bytes().into()).into_iter().collect();
        let table =
            [("a", true), ("a.b", true), ("a.b.c", false), ("ab", false), ("INBOX", false), ("", false), ("A", false)];
        for (name, expected) in table {
            assert_eq!(names.has_below(name.as_bytes(), Some(b'.')), expected, "{name}");
        }
        assert!(!names.has_below(b"a", None));
        assert!(names.has_below(b"a", Some(b'/')));
        assert!(names.contains(b"a.b") && !names.contains(b"a.") && !names.contains(b"inbox"));
    }

    #[test]
    fn the_extended_syntax_is_known_by_its_parentheses() {
        for plain in ["\"\" *", "\"\" \"\"", "\"\" \"a)\"", "", "x"] {
            assert!(!List::is_extended(plain.as_bytes()), "{plain}");
        }
        for extended in ["() \"\" *", "\"\" (a)", "\"\" a RETURN ()", "(WRONG) \"\" *", "\"\" * RETURN (WRONG)"] {
            assert!(List::is_extended(extended.as_bytes()), "{extended}");
        }
    }

    #[test]
    fn an_attribute_is_written_into_a_line() {
        let table: &[(&[u8], &[u8])] = &[
            (b"* LIST () \"/\" \"a)\"", b"* LIST (\\X) \"/\" \"a)\""),
            (b"* LIST (\\Marked) NIL a", b"* LIST (\\Marked \\X) NIL a"),
        ];
        for (line, expected) in table {
            let mut line = line.to_vec();
            Listed::insert(&mut line, b"\\X");
            assert_eq!(line, *expected);
        }
    }

    fn list(selection: &[Selection], reference: &str, patterns: &[&str], returns: &[Return]) -> List {
        List {
            selection: selection.to_vec(),
            reference: reference.as_bytes().into(),
            patterns: patterns.iter().map(|pattern| pattern.as_bytes().into()).collect(),
            returns: returns.to_vec(),
            extended: true,
        }
    }

    #[test]
    fn a_list_is_read_and_written_again() {
        use Selection::{RecursiveMatch, Remote, SpecialUse, Subscribed};
        let plain = |reference, pattern| List { extended: false, ..list(&[], reference, &[pattern], &[]) };
        let status = Return::Status((*b"(MESSAGES UNSEEN)").into());
        let table: &[(&[u8], List, &[u8])] = &[
            // RFC 3501 6.3.8.
            (b"\"\" \"\"", plain("", ""), b"\"\" \"\""),
            (b"/usr/staff/jones \"\"", plain("/usr/staff/jones", ""), b"/usr/staff/jones \"\""),
            (b"~/Mail/ %", plain("~/Mail/", "%"), b"~/Mail/ \"%\""),
            (b"\"\" {3}\r\na*b", plain("", "a*b"), b"\"\" \"a*b\""),
            (b"\"\" {2+}\r\n\xc3\xa9", plain("", "\u{e9}"), b"\"\" {2}\r\n\xc3\xa9"),
            // RFC 5258 section 5.
            (b"(SUBSCRIBED) \"\" \"*\"", list(&[Subscribed], "", &["*"], &[]), b"(SUBSCRIBED) \"\" \"*\""),
            (
                b"() \"\" \"%\" RETURN (CHILDREN)",
                list(&[], "", &["%"], &[Return::Children]),
                b"\"\" \"%\" RETURN (CHILDREN)",
            ),
            (
                b"(remote Subscribed REMOTE) \"\" *",
                list(&[Remote, Subscribed], "", &["*"], &[]),
                b"(REMOTE SUBSCRIBED) \"\" \"*\"",
            ),
            (
                b"\"\" (\"INBOX\" \"Drafts\" \"Sent/%\")",
                list(&[], "", &["INBOX", "Drafts", "Sent/%"], &[]),
                b"\"\" (INBOX Drafts \"Sent/%\")",
            ),
            (
                b"(SUBSCRIBED RECURSIVEMATCH) \"\" \"%\" RETURN (CHILDREN children)",
                list(&[Subscribed, RecursiveMatch], "", &["%"], &[Return::Children]),
                b"(SUBSCRIBED RECURSIVEMATCH) \"\" \"%\" RETURN (CHILDREN)",
            ),
            // Extended, and nothing to see of it.
            (b"() \"\" \"\" RETURN ()", list(&[], "", &[""], &[]), b"\"\" (\"\")"),
            // RFC 5819 section 4, RFC 6154 section 5.
            (
                b"\"\" % RETURN (STATUS (MESSAGES UNSEEN) SUBSCRIBED)",
                list(&[], "", &["%"], &[status, Return::Subscribed]),
                b"\"\" \"%\" RETURN (STATUS (MESSAGES UNSEEN) SUBSCRIBED)",
            ),
            (
                b"(SPECIAL-USE) \"\" \"*\" RETURN (SPECIAL-USE)",
                list(&[SpecialUse], "", &["*"], &[Return::SpecialUse]),
                b"(SPECIAL-USE) \"\" \"*\" RETURN (SPECIAL-USE)",
            ),
        ];
        for (arguments, expected, written) in table {
            let list = List::parse(arguments).unwrap_or_else(|error| panic!("{}: {error}", arguments.escape_ascii()));
            assert_eq!(list, *expected, "{}", arguments.escape_ascii());
            assert_eq!(list.write().escape_ascii().to_string(), written.escape_ascii().to_string());
            assert_eq!(List::parse(&list.write()).as_ref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_list_is_said_with_its_place() {
        let table: &[(&[u8], &str)] = &[
            (b"", "expected an atom or a string at octet 0"),
            (b"\"\"", "expected a space at octet 2"),
            (b"\"\" ()", "expected an atom or a string at octet 4"),
            (b"\"\" % ", "expected the end of the command at octet 4"),
            (b"% %", "expected an atom or a string at octet 0"),
            (b"(SUBSCRIBED VFOLDERS) \"\" *", "expected SUBSCRIBED, REMOTE, RECURSIVEMATCH or SPECIAL-USE at octet 12"),
            (b"(RECURSIVEMATCH) \"\" *", "expected an option that RECURSIVEMATCH applies to at octet 0"),
            (b"(REMOTE RECURSIVEMATCH) \"\" *", "expected an option that RECURSIVEMATCH applies to at octet 0"),
            (b"\"\" % RETURN", "expected the end of the command at octet 4"),
            (b"\"\" % RETURN (X)", "expected SUBSCRIBED, CHILDREN, SPECIAL-USE or STATUS at octet 13"),
            (b"\"\" % RETURN (STATUS ())", "expected an atom at octet 21"),
            (b"\"\" {1}\r\n\0", "expected a name without NUL at octet 3"),
        ];
        for (arguments, expected) in table {
            assert_eq!(List::parse(arguments).unwrap_err().to_string(), *expected, "{}", arguments.escape_ascii());
        }
        let patterns = |count: usize| format!("\"\" ({}*)", "* ".repeat(count - 1));
        assert!(List::parse(patterns(List::MOST_PATTERNS).as_bytes()).is_ok());
        let error = List::parse(patterns(List::MOST_PATTERNS + 1).as_bytes()).unwrap_err();
        assert_eq!(error.expected, "at most 64 patterns");
    }

    #[test]
    fn a_line_is_read_and_written_again() {
        type Expected = (&'static [&'static str], Option<u8>, &'static [u8], &'static str);
        let table: &[(&[u8], Expected, &[u8])] = &[
            // RFC 3501 7.2.2 and 7.2.3.
            (
                b"* LIST (\\Noselect) \"/\" ~/Mail/foo",
                (&["\\Noselect"], Some(b'/'), b"~/Mail/foo", ""),
                b"* LIST (\\Noselect) \"/\" ~/Mail/foo",
            ),
            (
                b"* lsub () \".\" #news.comp.mail.misc",
                (&[], Some(b'.'), b"#news.comp.mail.misc", ""),
                b"* LIST () \".\" #news.comp.mail.misc",
            ),
            // RFC 5258 section 5.
            (
                b"* LIST (\\Marked \\NoInferiors) \"/\" \"inbox\"",
                (&["\\Marked", "\\NoInferiors"], Some(b'/'), b"INBOX", ""),
                b"* LIST (\\Marked \\NoInferiors) \"/\" INBOX",
            ),
            (
                b"* LIST (\\Subscribed) \"/\" \"Foo\" (\"CHILDINFO\" (\"SUBSCRIBED\"))",
                (&["\\Subscribed"], Some(b'/'), b"Foo", "(\"CHILDINFO\" (\"SUBSCRIBED\"))"),
                b"* LIST (\\Subscribed) \"/\" Foo (\"CHILDINFO\" (\"SUBSCRIBED\"))",
            ),
            // Literals, no levels, the backslash for a delimiter, and what servers make of the grammar.
            (b"* LIST () NIL {4}\r\na\r\nb", (&[], None, b"a\r\nb", ""), b"* LIST () NIL {4}\r\na\r\nb"),
            (b"* LIST () \"\\\\\" \"a b\"", (&[], Some(b'\\'), b"a b", ""), b"* LIST () \"\\\\\" \"a b\""),
            (
                b"* LIST ( \\Marked ) \"\" \xe9[%]",
                (&["\\Marked"], None, b"\xe9[%]", ""),
                b"* LIST (\\Marked) NIL {4}\r\n\xe9[%]",
            ),
        ];
        for (line, (attributes, delimiter, name, extended), again) in table {
            let listed = Listed::parse(line).unwrap_or_else(|| panic!("{}", line.escape_ascii()));
            let expected = Listed {
                attributes: attributes.iter().map(|attribute| attribute.as_bytes().into()).collect(),
                delimiter: *delimiter,
                name: (*name).into(),
                extended: extended.as_bytes().into(),
            };
            assert_eq!(listed, expected, "{}", line.escape_ascii());
            let mut written = Vec::new();
            listed.write(&mut written);
            assert_eq!(written.escape_ascii().to_string(), again.escape_ascii().to_string());
            assert_eq!(Listed::parse(&written), Some(expected));
        }
    }

    #[test]
    fn what_is_no_line_of_a_list_is_left_alone() {
        let table: &[&[u8]] = &[
            b"",
            b"* LIST",
            b"* STATUS a (MESSAGES 1)",
            b"* LIST (\\Noselect \"/\" a",
            b"* LIST () \"//\" a",
            b"* LIST () / a",
            b"* LIST () \"/\"",
            b"* LIST () \"/\" {1}\r\n\0",
            b"* LIST () \"/\" a b",
            b"* LIST () \"/\" a (b",
            b"* LIST () \"/\" a\r\n",
        ];
        for line in table {
            assert_eq!(Listed::parse(line), None, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn attributes_are_added_once_and_removed() {
        let mut listed = Listed::parse(b"* LIST (\\hasChildren) NIL a").unwrap();
        listed.add(b"\\HasChildren");
        listed.add(b"\\Sent");
        assert!(listed.has(b"\\SENT"));
        listed.remove(b"\\HASCHILDREN");
        assert_eq!(listed.attributes, [(*b"\\Sent").into()]);
    }

    #[test]
    fn a_pattern_names_mailboxes() {
        let table = [
            ("*", "a/b", true),
            ("%", "a", true),
            ("%", "a/b", false),
            ("%/%", "a/b", true),
            ("%/%", "a/b/c", false),
            ("*%", "a/b", true),
            ("%*", "a/b", true),
            ("%%%%/b", "a/b", true),
            ("a*c", "a/b/c", true),
            ("a%c", "a/c", false),
            ("*/b%d", "x/y/bcd", true),
            ("*/b%d", "x/bc/d", false),
            ("*b%/d", "ab/cb/d", true),
            ("", "a", false),
            ("a", "a", true),
            ("a", "A", false),
            ("a*", "a", true),
            ("aa", "a", false),
            // INBOX, alone or above others.
            ("inbox", "INBOX", true),
            ("Inbox/%", "INBOX/Work", true),
            ("INBOX/%", "inbox/Work", true),
            ("%nbox", "INBOX", true),
            ("inbox.x", "INBOX.x", false),
            ("inboxes", "INBOXES", false),
            ("INBOX/work", "INBOX/Work", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes(), Some(b'/')), expected, "{pattern} {name}");
        }
        assert!(matches(b"%", b"a/b", None));
        assert!(matches(b"inbox", b"INBOX", None));
        // Whoever tries one way after the other is long at this.
        let long = [b'a'; 200];
        assert!(!matches(&b"*a%".repeat(60), &[&long[..], b"/b/"].concat(), Some(b'/')));
        assert!(matches(&b"*%".repeat(10_000), &long, Some(b'/')));
    }

    #[test]
    fn inbox_has_one_key() {
        for (name, key) in [
            ("inbox", "INBOX"),
            ("Inbox/a", "INBOX/a"),
            ("inBox.Inbox", "INBOX.Inbox"),
            ("inboxes", "inboxes"),
            ("", ""),
        ] {
            assert_eq!(*canonical(name.as_bytes()), *key.as_bytes());
        }
    }

    #[test]
    fn a_pattern_stands_behind_its_reference() {
        // RFC 3501 6.3.8: reference, pattern, interpretation.
        let table: [(&[u8], &[u8], &[u8]); 4] = [
            (b"~smith/Mail/", b"foo.*", b"~smith/Mail/foo.*"),
            (b"archive/", b"%", b"archive/%"),
            (b"", b"comp.mail.*", b"comp.mail.*"),
            (b"archive/", b"", b""),
        ];
        for (reference, pattern, expected) in table {
            assert_eq!(joined(reference, pattern), expected);
        }
    }
}
