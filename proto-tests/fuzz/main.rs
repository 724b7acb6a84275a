//! Fuzz targets as plain functions: octets in, no panic, bounded memory, and what one octet at a time gives is what all at
//! once gives.
//!
//! Inputs are mutated from what real peers say. `FUZZ_SECONDS=60` fuzzes longer, `SEED=17` runs the same inputs again; a
//! failure prints the input.

mod notices;
mod session;
mod sip;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use lemonade_proxy::imap::{
    capability::Capabilities,
    code, command, date,
    entry::EntryName,
    esearch::{Esearch, Reader, Return},
    fetch::{FetchItems, Fetched},
    frame::{self, Bounds, CommandFramer, Cut, Skip},
    id::Fields,
    list::{self, List, Listed},
    metadata::{Get, Set, Value},
    notify::Notify,
    response::{self, Kind, Line},
    sasl::{self, Mechanism, Plain},
    search::{self, Program, What},
    sequence_set, token,
};
use proto_tests::random::Random;

/// What clients say.
const COMMANDS: &[&[u8]] = &[
    b"a LOGIN joe \"se\\\"cret\"\r\n",
    b"a LOGIN {3}\r\njoe {6+}\r\nsecret\r\n",
    b"a AUTHENTICATE PLAIN AGpvZQBzZWNyZXQ=\r\n",
    b"b SELECT \"Sent &AOQ-\"\r\n",
    b"c UID FETCH 1:*,7 (FLAGS BODY.PEEK[HEADER.FIELDS (DATE FROM)]<0.2048>)\r\n",
    b"d SEARCH CHARSET UTF-8 OR (FROM {3+}\r\njoe) NOT TEXT \"x {5}\"\r\n",
    b"e APPEND INBOX (\\Seen $Forwarded) \"17-Jul-1996 02:44:25 -0700\" {20+}\r\nz9 CREATE smuggled\r\n\r\n",
    b"f APPEND INBOX ~{5+}\r\na\0b\r\n\r\n",
    b"g ID (\"name\" \"Mail\" \"version\" NIL)\r\n",
    b"h IDLE\r\nDONE\r\n",
    b"i STORE 2:4 +FLAGS.SILENT (\\Deleted)\r\n",
    b"j XYZZY {18446744073709551616+}\r\n",
    b"k ENABLE CONDSTORE\r\nl NAMESPACE\r\nm UNSELECT\r\nn LOGOUT\r\n",
    b"o STARTTLS\r\n",
    b"p RENAME {4097}\r\n",
    b"q COMPRESS DEFLATE\r\nr NOOP\r\n",
];

/// What backends say.
const RESPONSES: &[&[u8]] = &[
    b"* OK [CAPABILITY IMAP4rev1 IDLE LITERAL+] ready {5}\r\n",
    b"* 23 EXISTS\r\n* 5 RECENT\r\n",
    b"* 2 FETCH (UID 7 FLAGS (\\Seen) BODY[] {10}\r\n0123456789)\r\n",
    b"* 4294967296 EXPUNGE\r\n* 3 EXPUNGE\r\n",
    b"* LIST (\\Noselect) \"/\" {3}\r\nfoo\r\n",
    b"* SEARCH 2 84 882\r\n* SORT 3 1\r\n* THREAD (2)(3 6 (4 23))\r\n",
    b"* VANISHED (EARLIER) 300:310,405\r\n* VANISHED 1:3\r\n",
    b"+ idling\r\n+ VXNlcm5hbWU6\r\n",
    b"a OK [APPENDUID 38505 3955] done\r\nb NO [UNAVAILABLE] no\r\nc BAD\r\n",
    b"* BYE enough\r\n",
    b"* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n* ID (\"name\" \"x\")\r\n",
];

/// Bounds small enough to be met.
const BOUNDS: Bounds = Bounds { line: 200, literal: 32, literals: 64, row: |_| 0 };

/// Inputs longer than this are cut: what is to be found is found in short ones.
const LONGEST: usize = 2_000;

/// Runs a target on mutated inputs until its time is over.
fn fuzz(name: &str, corpus: &[&[u8]], mut target: impl FnMut(&[u8], &mut Random)) {
    let usual = if std::env::var_os("LEMONADE_LONG").is_some() { 60 } else { 2 };
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(usual);
    let (end, seed) = (Instant::now() + Duration::from_secs(seconds), Random::seed());
    println!("{name}: SEED={seed}");
    let mut random = Random::new(seed);
    let mut runs = 0u64;
    while Instant::now() < end {
        let input = mutated(corpus, &mut random);
        let mut own = Random::new(random.bits());
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(&input, &mut own))) {
            eprintln!("{name}: SEED={seed}, input {runs}: \"{}\"", input.escape_ascii());
            resume_unwind(panic);
        }
        runs += 1;
    }
    println!("{name}: {runs} inputs");
}

/// Some of the corpus behind one another, with octets changed, removed, repeated and inserted.
fn mutated(corpus: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut input = Vec::new();
    for _ in 0..random.within(1..5) {
        input.extend_from_slice(corpus[random.below(corpus.len())]);
    }
    for _ in 0..random.below(6) {
        let at = random.below(input.len() + 1);
        let to = (at + random.below(8)).min(input.len());
        match random.below(7) {
            0 => drop(input.drain(at..to)),
            1 if at < to => input[at] = random.bits() as u8,
            2 => input.insert(at, *random.pick(b"\0\r\n {}()+~\"\\*%0123456789:,\xff")),
            3 => drop(input.splice(at..at, input[at..to].to_vec().repeat(random.within(1..20)))),
            4 => drop(input.splice(at..to, random.pick(corpus).iter().copied())),
            5 => drop(input.splice(at..at, format!("{{{}+}}\r\n", random.bits() >> random.below(64)).into_bytes())),
            _ => input.truncate(at.max(1)),
        }
    }
    input.truncate(LONGEST);
    input
}

/// All cuts of these octets up to the first error, given so many at a time.
fn cuts(octets: &[u8], step: usize, bounds: &Bounds) -> Vec<(usize, String)> {
    let mut framer = CommandFramer::default();
    let (mut from, mut known) = (0, 0);
    let mut found = Vec::new();
    while known < octets.len() {
        known = (known + step).min(octets.len());
        loop {
            let cut = framer.cut(&octets[from..known], bounds);
            match cut {
                Ok(Cut::Partial) => break,
                // A client that does not wait for the `+` sends on.
                Ok(Cut::Prompt) => {}
                Ok(Cut::Whole { len } | Cut::Open { len, .. }) => {
                    check_head(&octets[from..from + len]);
                    found.push((from, format!("{cut:?}")));
                    from += len;
                }
                Err(_) => {
                    found.push((from, format!("{cut:?}")));
                    return found;
                }
            }
        }
    }
    found
}

/// Outside literals: CRLF at the end of a line and nowhere else, and no NUL. By another hand than the framer's.
fn check_head(head: &[u8]) {
    let mut rest = head;
    while !rest.is_empty() {
        let end = rest.iter().position(|&octet| octet == b'\n').expect("a head ends with a line") + 1;
        let text = rest[..end].strip_suffix(b"\r\n").expect("a line ends with CRLF");
        assert!(!text.iter().any(|octet| b"\0\r\n".contains(octet)), "{}", head.escape_ascii());
        rest = &rest[end..];
        if rest.is_empty() {
            return;
        }
        let announced = text.strip_suffix(b"}").expect("lines inside a head announce a literal");
        let open = announced.iter().rposition(|&octet| octet == b'{').expect("a literal opens");
        let digits = std::str::from_utf8(&announced[open + 1..]).expect("digits").trim_end_matches('+');
        let len: usize = digits.parse().expect("a length");
        rest = &rest[len..];
    }
}

#[test]
fn frame() {
    fuzz("frame", COMMANDS, |octets, random| {
        // Where the bound bites, a line is refused as soon as it is too long, and that depends on how it comes.
        let wide = Bounds { line: LONGEST, ..BOUNDS };
        let whole = cuts(octets, octets.len(), &wide);
        assert_eq!(whole, cuts(octets, 1, &wide), "octet by octet");
        assert_eq!(whole, cuts(octets, random.within(1..40), &wide), "in pieces");
        cuts(octets, 1, &BOUNDS);
        let (Skip::More(len) | Skip::End(len) | Skip::Literal(len, _)) = frame::skip(octets);
        assert!(len <= octets.len());
        frame::backend_literal(octets);
    });
}

#[test]
fn token() {
    fuzz(
        "token",
        &[b"1:*,7", b"2:4,9", b"*", b"IMAP4rev1 AUTH=PLAIN APPENDLIMIT=7", b"(\"a\" {1+}\r\nb)"],
        |octets, _| {
            if let Some(ranges) = sequence_set::parse(octets) {
                let numbers: Vec<(u32, u32)> = ranges.iter().map(|(a, b)| (a.resolve(9), b.resolve(9))).collect();
                let written = sequence_set::write(numbers.iter().copied());
                assert_eq!(
                    sequence_set::parse(written.as_bytes()).map(|again| again.len()),
                    Some(ranges.len()),
                    "{written}"
                );
            }
            sequence_set::count(octets);
            let words = Capabilities::parse(octets);
            assert_eq!(Capabilities::parse(words.text().as_bytes()).text(), words.text());
            if let Ok(fields) = Fields::parse(octets) {
                let written = fields.write();
                let again = Fields::parse(written.as_bytes());
                assert_eq!(again.map(|again| again.write()).ok(), Some(written));
            }
            code::parse(octets);
            for (_, mechanism) in Mechanism::ALL {
                mechanism.user(octets);
            }
            if let Some(plain) = Plain::parse(octets) {
                let again = Plain::parse(plain.message().expose()).expect("what we write, we read");
                assert_eq!((again.user, again.authzid), (plain.user, plain.authzid));
            }
            if let Some(message) = sasl::decode(octets) {
                let written = sasl::encode(&message);
                assert_eq!(
                    sasl::decode(written.expose()).map(|again| again.expose().to_vec()),
                    Some(message.expose().to_vec())
                );
            }
        },
    );
}

#[test]
fn command() {
    fuzz("command", COMMANDS, |octets, _| {
        let Ok(Cut::Whole { len }) = CommandFramer::default().cut(octets, &BOUNDS) else { return };
        let whole = &octets[..len];
        let head = command::head(whole);
        command::depth(whole);
        // Whatever imap-codec can read has a head for us too, unless its tag is longer than any client's.
        let tag = whole.split(|&octet| octet == b' ').next().map_or(0, <[u8]>::len);
        if tag <= 128 && command::depth(whole) < 50 && command::decode(whole).is_ok() {
            let head = head.unwrap_or_else(|error| panic!("imap-codec reads it, and we do not: {error}"));
            assert!(whole.starts_with(head.tag));
            assert!(head.tag.len() <= len);
        }
        let total: u64 = frame::literals(whole).map(|(_, literal)| literal.len).sum();
        assert!(total <= BOUNDS.literals);
    });
}

#[test]
fn metadata() {
    const ARGUMENTS: &[&[u8]] = &[
        b"INBOX (DEPTH 1 MAXSIZE 1024) (/shared/comment /private/comment)",
        b"/notify/* (channel credential.priv push.shared)",
        b"\"a \\\"b\" (/private/comment {3+}\r\nx)y /private/x ~{2}\r\n\0\n /shared/comment NIL)",
        b"% (/comment (value.priv NIL value.shared \"y\") /notify/event (filter.priv \"NEW\"))",
    ];
    fuzz("metadata", ARGUMENTS, |octets, _| {
        let _ = Get::parse(octets);
        if let Ok(Set::Entries { mailbox, edits }) = Set::parse(octets) {
            assert_eq!(Set::parse(&written(&mailbox, &edits)), Ok(Set::Entries { mailbox, edits }));
        }
        // Whatever a value is, it comes back as it was, and begins nothing of its own.
        let name = EntryName::parse(b"/private/comment").expect("a name");
        let edits = vec![(name, Some(Value { octets: octets.into(), binary: octets.contains(&0) }))];
        let mailbox: Box<[u8]> = if octets.contains(&0) { b"INBOX".as_slice().into() } else { octets.into() };
        assert_eq!(Set::parse(&written(&mailbox, &edits)), Ok(Set::Entries { mailbox, edits }));
    });
}

#[test]
fn notify() {
    const ARGUMENTS: &[&[u8]] = &[
        b"NONE",
        b"SET STATUS (selected (MessageNew (uid body.peek[header.fields (from \"to)\" {7}\r\nsubject)]) MessageExpunge))",
        b"SET (subtree Lists MessageNew) (mailboxes (INBOX \"a b\" {3+}\r\nx y) (MessageNew MessageExpunge FlagChange))",
        b"SET (selected-delayed NONE) (personal (MailboxName SubscriptionChange)) (inboxes (ServerMetadataChange))",
    ];
    fuzz("notify", ARGUMENTS, |octets, _| {
        if let Ok(Notify::Set { groups, .. }) = Notify::parse(octets) {
            assert!(groups.iter().filter(|group| group.which.is_selected()).count() <= 1);
            assert!(groups.iter().all(|group| group.items.is_none() || group.which.is_selected()));
        }
    });
}

/// The arguments of SETMETADATA.
fn written(mailbox: &[u8], edits: &[(EntryName, Option<Value>)]) -> Vec<u8> {
    let mut out = Vec::new();
    token::write_astring(mailbox, &mut out);
    for (at, (name, value)) in edits.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b" (" } else { b" " });
        token::write_astring(name.as_str().as_bytes(), &mut out);
        out.push(b' ');
        match value {
            Some(value) if value.binary && !value.octets.contains(&0) => {
                out.extend_from_slice(format!("~{{{}}}\r\n", value.octets.len()).as_bytes());
                out.extend_from_slice(&value.octets);
            }
            Some(value) => token::write_string(&value.octets, &mut out),
            None => out.extend_from_slice(b"NIL"),
        }
    }
    out.push(b')');
    out
}

#[test]
fn list() {
    const LISTS: &[&[u8]] = &[
        b"\"\" *",
        b"(SUBSCRIBED RECURSIVEMATCH) \"\" \"%\" RETURN (CHILDREN STATUS (MESSAGES))",
        b"\"\" (inbox {1+}\r\na \"Sent/%\")",
        b"* LIST (\\Noselect) \"/\" \"inbox/a b\"",
        b"* LSUB () NIL {3}\r\nfoo (\"CHILDINFO\" (\"SUBSCRIBED\"))",
    ];
    fuzz("list", LISTS, |octets, random| {
        if let Ok(list) = List::parse(octets) {
            assert!(list.patterns.len() <= List::MOST_PATTERNS);
            assert_eq!(List::parse(&list.write()), Ok(list));
        }
        if let Some(listed) = Listed::parse(octets) {
            let mut written = Vec::new();
            listed.write(&mut written);
            assert_eq!(Listed::parse(&written), Some(listed));
        }
        // A short pattern and a short name of few letters: the plain way takes them in its time.
        let mut short = |letters: &[u8]| (0..random.below(7)).map(|_| *random.pick(letters)).collect::<Vec<u8>>();
        let (pattern, name) = (short(b"ab/*%"), short(b"ab/"));
        assert_eq!(
            list::matches(&pattern, &name, Some(b'/')),
            matches_plainly(&pattern, &name),
            "{} {}",
            pattern.escape_ascii(),
            name.escape_ascii()
        );
        list::matches(octets, b"inbox/a b/Sent", Some(b'/'));
        assert!(list::matches(b"*", octets, None));
        assert_eq!(list::canonical(&list::canonical(octets)), list::canonical(octets));
    });
}

/// A pattern of LIST, one way after the other.
fn matches_plainly(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], _) => name.is_empty(),
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|at| matches_plainly(rest, &name[at..])),
        ([b'%', rest @ ..], _) => {
            let level = name.iter().position(|&octet| octet == b'/').unwrap_or(name.len());
            (0..=level).any(|at| matches_plainly(rest, &name[at..]))
        }
        ([octet, rest @ ..], [first, name @ ..]) => octet == first && matches_plainly(rest, name),
        _ => false,
    }
}

#[test]
fn search() {
    const CRITERIA: &[&[u8]] = &[
        b"UID 300:900 FILTER on-the-road SINCE \"3-Dec-2002\"",
        b"OR (FROM {3+}\r\njoe SEEN) NOT TEXT \"x {5}\"",
        b"CHARSET UTF-8 1:*,7 OLDER 9 ",
        b"RETURN (MIN UPDATE (FLAGS)) FILTER a ",
        b"MODSEQ \"/flags/\\\\draft\" all 620162338 HEADER a \"\" ",
        b"NOT LARGER 10 KEYWORD x BEFORE 1-Jan-2000",
    ];
    fuzz("search", CRITERIA, |octets, _| {
        let program = Program::parse(octets);
        for part in program.iter().flat_map(|program| &program.parts) {
            let written = &octets[part.at.clone()];
            match &part.what {
                What::Filter(name) => {
                    assert!(search::mentions("FILTER", octets) && written.ends_with(name.as_bytes()));
                }
                What::Numbers | What::Uids => assert!(written == b"$" || sequence_set::parse(written).is_some()),
                What::Older(seconds) | What::Younger(seconds) => assert!(*seconds > 0),
            }
        }
        if let Ok(program) = &program {
            assert!(program.keys < octets.len() && program.ascii == octets.is_ascii());
            assert_eq!(program.rewritten(octets, |_| None), octets);
        }
        let _ = search::criteria(octets);
        // What imap-codec reads, we read; but for numbers that begin with 0, which it takes in sets as well.
        let whole = [b"a SEARCH ", octets, b"\r\n"].concat();
        let zero = whole.windows(2).any(|pair| !pair[0].is_ascii_digit() && pair[1] == b'0');
        if !zero && command::depth(&whole) < 50 && command::decode(&whole).is_ok() {
            program.unwrap_or_else(|error| panic!("imap-codec reads it, and we do not: {error}"));
        }
    });
}

#[test]
fn found() {
    const LINES: &[&[u8]] = &[
        b"* SEARCH 2 84 882 (MODSEQ 917162500)\r\n* SEARCH 9\r\n",
        b"* ESEARCH (TAG \"A285\") UID MIN 7 MAX 3800 ALL 1:17,21 COUNT 9 MODSEQ 5",
        b"* 12 FETCH (UID 7 BODY[HEADER.FIELDS (\"a]\")]<0> {3}\r\nabc FLAGS (\\Seen))\r\n",
        b"RETURN (MIN MAX SAVE) ALL",
    ];
    fuzz("found", LINES, |octets, _| {
        let mut reader = Reader::default();
        reader.read(octets);
        let uids = reader.finish().uids;
        let places = uids.iter().zip(1..);
        places.for_each(|(uid, place)| assert_eq!((uids.place(uid), uids.at(place)), (Some(place), Some(uid))));
        if let Some(said) = Esearch::parse(octets) {
            assert_eq!(Esearch::parse(&said.write()), Some(said));
        }
        if let Some(fetched) = Fetched::parse(octets) {
            assert!(fetched.names().all(|name| !name.is_empty()));
        }
        if let Ok(Some((_, keys))) = Return::parse(octets) {
            assert!(keys <= octets.len());
        }
        date::moment(octets);
    });
}

#[test]
fn fetch() {
    const ITEMS: &[&[u8]] = &[
        b"(FLAGS UID ENVELOPE)",
        b"BODY.PEEK[HEADER.FIELDS (FROM \"Subject\")]<0.2048>",
        b"FULL",
        b"(RFC822.SIZE BODY.PEEK[1.2.MIME])",
    ];
    fuzz("fetch", ITEMS, |octets, _| {
        let Ok(items) = FetchItems::parse(octets) else { return };
        let text = items.as_text();
        assert!(text.starts_with('(') && text.ends_with(')') && text.len() <= FetchItems::LONGEST + 2, "{text}");
        if text.len() <= FetchItems::LONGEST {
            assert_eq!(FetchItems::parse(text.as_bytes()).as_ref(), Ok(&items));
        }
        let whole = format!("a FETCH 1 {text}\r\n");
        assert!(command::decode(whole.as_bytes()).is_ok(), "{whole}");
    });
}

#[test]
fn response() {
    fuzz("response", RESPONSES, |octets, _| {
        for line in octets.split_inclusive(|&octet| octet == b'\n') {
            let head = response::line(line);
            if let Line::Untagged { kind: Kind::Exists | Kind::Expunge | Kind::Fetch, number } = head {
                let digits: String =
                    line[2..].iter().take_while(|octet| octet.is_ascii_digit()).map(|&o| char::from(o)).collect();
                if let Ok(expected) = digits.parse::<u32>() {
                    assert_eq!(number, expected);
                }
            }
            for words in 0..4 {
                assert!(response::text(line, words).len() <= line.len());
            }
            code::parse(response::text(line, 2));
            frame::backend_literal(line);
        }
    });
}
