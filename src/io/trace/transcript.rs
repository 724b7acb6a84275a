//! Octets of four directions into the lines of a transcript, secrets struck out. Pure.
//!
//! | written | meaning |
//! |---|---|
//! | `C: ` `S: ` `>  ` `<  ` | a line from the client, to the client, to the backend, from the backend |
//! | `C\| ` ... | the same, where a literal or a character that means something in a transcript stands in it |
//! | `C\ ` ... | the same, with octets that are not text written as `\xHH` |
//!
//! What is struck out, on the client's leg and on the backend's alike:
//!
//! - the arguments of LOGIN and AUTHENTICATE, literals included, and of every command before login whose verb is not one
//!   that takes no secret: what looks like `LOGNI joe secret` is a slip, and its password is one too;
//! - between AUTHENTICATE and its tagged response every line of the client and every challenge;
//! - at all times a line of a single word, because a SASL answer that comes too late is one.

use std::fmt::Write as _;

use memchr::memchr;
use zeroize::Zeroize as _;

use crate::{
    imap::sasl,
    io::metrics::{Way, Words as _},
};

/// Longer lines lose their middle.
const LINE: usize = 1000;

/// What is kept of the end of a longer line: `~{18446744073709551615+}` and its line end fit.
const TAIL: usize = 32;

/// Larger literals are told by their size.
const LITERAL: u64 = 256;

/// Verbs whose arguments are written before login.
const NO_SECRETS: [&[u8]; 7] = [b"CAPABILITY", b"COMPRESS", b"ENABLE", b"ID", b"LOGOUT", b"NOOP", b"STARTTLS"];

const STRUCK: &str = "***";

/// Makes transcript lines of what it is fed.
pub struct Transcript {
    client: Leg,
    backend: Leg,
}

impl Transcript {
    /// A transcript that begins now: after login, or while the client waits for the end of its login.
    pub fn new(logged_in: bool) -> Self {
        let [client, backend] = match logged_in {
            true => [Login::Done, Login::Done],
            // The client's LOGIN came before the user was known, and is not fed.
            false => [Login::Trying { tag: None, before: false }, Login::None],
        };
        Self { client: Leg::new(client), backend: Leg::new(backend) }
    }

    /// Another connection to the backend: what was half said on the one before is void, and there will be a login.
    pub fn reconnected(&mut self, out: &mut String) {
        self.backend = Leg::new(Login::None);
        out.push_str("; the backend connection was lost, this is another one\n");
    }

    /// Appends the lines that these octets complete.
    pub fn feed(&mut self, way: Way, mut octets: &[u8], out: &mut String) {
        let leg = match way {
            Way::ClientSays | Way::ClientHears => &mut self.client,
            Way::BackendHears | Way::BackendSays => &mut self.backend,
        };
        while let Some(mut line) = leg.cut(way, &mut octets) {
            match leg.judge(way, &line) {
                Verdict::Show => line.write(SIGNS[way.index()], out),
                Verdict::Strike(shown) => {
                    let _ = writeln!(out, "{}{shown}", SIGNS[way.index()].plain);
                }
                Verdict::Drop => {}
            }
            line.text.zeroize();
        }
    }
}

/// How lines of one way begin.
struct Sign {
    plain: &'static str,
    literal: &'static str,
    octets: &'static str,
}

/// In the order of [`Way`].
const SIGNS: [&Sign; 4] = [
    &Sign { plain: "C: ", literal: "C| ", octets: "C\\ " },
    &Sign { plain: "S: ", literal: "S| ", octets: "S\\ " },
    &Sign { plain: ">  ", literal: ">| ", octets: ">\\ " },
    &Sign { plain: "<  ", literal: "<| ", octets: "<\\ " },
];

enum Verdict {
    Show,
    Strike(String),
    Drop,
}

/// How far the login on one leg is.
#[derive(Clone, Debug)]
enum Login {
    None,
    /// `tag` is `None` where the command was not seen; `before` says whether somebody was logged in already.
    Trying {
        tag: Option<Vec<u8>>,
        before: bool,
    },
    Done,
}

/// One connection: commands go one way, responses the other.
struct Leg {
    commands: Cutter,
    responses: Cutter,
    login: Login,
    /// Of the command in hand, so that the response which refuses its literal is known.
    tag: Vec<u8>,
    /// The command in hand is struck out, with all lines that belong to it.
    struck: bool,
}

impl Leg {
    fn new(login: Login) -> Self {
        Self { commands: Cutter::default(), responses: Cutter::default(), login, tag: Vec::new(), struck: false }
    }

    fn cut(&mut self, way: Way, octets: &mut &[u8]) -> Option<Line> {
        match way {
            Way::ClientSays | Way::BackendHears => self.commands.next(octets, |_| false),
            Way::ClientHears | Way::BackendSays => self.responses.next(octets, is_status),
        }
    }

    fn judge(&mut self, way: Way, line: &Line) -> Verdict {
        match way {
            Way::ClientSays | Way::BackendHears => self.command(line),
            Way::ClientHears | Way::BackendSays => self.response(line),
        }
    }

    fn command(&mut self, line: &Line) -> Verdict {
        if !line.first {
            return if self.struck { Verdict::Drop } else { Verdict::Show };
        }
        let shown = self.first_words(&line.text);
        self.struck = shown.is_some();
        shown.map_or(Verdict::Show, Verdict::Strike)
    }

    /// What may be shown of a command's first line; `None` is all of it.
    fn first_words(&mut self, text: &[u8]) -> Option<String> {
        let mut words = text.trim_ascii_end().split(|octet| *octet == b' ');
        let tag = words.next().unwrap_or_default();
        let Some(verb) = words.next() else { return single_word(tag) };
        if self.is_trying() {
            return Some(STRUCK.to_owned());
        }
        self.tag = tag.to_vec();
        let mechanism = words.next();
        if verb.eq_ignore_ascii_case(b"LOGIN") {
            self.try_login(tag);
            return Some(format!("{} LOGIN {STRUCK}", readable(tag)));
        }
        if verb.eq_ignore_ascii_case(b"AUTHENTICATE") {
            self.try_login(tag);
            let mechanism = known_mechanism(mechanism);
            let initial = if words.next().is_some() { " ***" } else { "" };
            return Some(format!("{} AUTHENTICATE {mechanism}{initial}", readable(tag)));
        }
        let harmless = || NO_SECRETS.iter().any(|known| verb.eq_ignore_ascii_case(known));
        let open = matches!(self.login, Login::Done) || harmless();
        (!open).then(|| format!("{} {STRUCK}", readable(tag)))
    }

    fn try_login(&mut self, tag: &[u8]) {
        self.login = Login::Trying { tag: Some(tag.to_vec()), before: matches!(self.login, Login::Done) };
    }

    fn is_trying(&self) -> bool {
        matches!(self.login, Login::Trying { .. })
    }

    fn response(&mut self, line: &Line) -> Verdict {
        if !line.first {
            return Verdict::Show;
        }
        let (word, rest) = first_word(&line.text);
        match word {
            b"*" => Verdict::Show,
            b"+" if matches!(self.login, Login::Done) => Verdict::Show,
            b"+" => Verdict::Strike(format!("+ {STRUCK}")),
            tag => {
                self.ended(tag, first_word(rest).0);
                Verdict::Show
            }
        }
    }

    /// A tagged response came: the login is over, or the literal that its command waited to send will not come.
    fn ended(&mut self, tag: &[u8], status: &[u8]) {
        if self.tag == tag {
            self.commands.give_up();
        }
        let Login::Trying { tag: of, before } = &self.login else { return };
        if of.as_ref().is_none_or(|of| of == tag) {
            let done = *before || status.eq_ignore_ascii_case(b"OK");
            self.login = if done { Login::Done } else { Login::None };
        }
    }
}

/// A line of one word: the end of IDLE, or of a SASL exchange, or nothing; else it may be an answer in such an exchange.
fn single_word(word: &[u8]) -> Option<String> {
    let known = word.is_empty() || word == b"*" || word.eq_ignore_ascii_case(b"DONE");
    (!known).then(|| STRUCK.to_owned())
}

fn known_mechanism(word: Option<&[u8]>) -> &'static str {
    let name = word.and_then(|word| str::from_utf8(word).ok());
    name.and_then(sasl::Mechanism::find).map_or(STRUCK, sasl::Mechanism::name)
}

fn first_word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_end();
    let end = memchr(b' ', text).unwrap_or(text.len());
    (&text[..end], text.get(end + 1..).unwrap_or_default())
}

/// Whether the text of this line is for people, so that braces at its end announce no literal (RFC 3501 7.1, 7.5).
fn is_status(text: &[u8]) -> bool {
    const STATUS: [&[u8]; 5] = [b"OK", b"NO", b"BAD", b"BYE", b"PREAUTH"];
    let (word, rest) = first_word(text);
    word == b"+" || STATUS.iter().any(|status| first_word(rest).0.eq_ignore_ascii_case(status))
}

fn readable(word: &[u8]) -> String {
    word.escape_ascii().to_string()
}

/// One line on its way into the transcript, its line end included.
struct Line {
    text: Vec<u8>,
    /// Octets left out behind the first [`LINE`].
    omitted: u64,
    /// The first line of a command or response; the others stand behind literals or are inside them.
    first: bool,
    /// A literal too large to be shown follows.
    big: bool,
}

impl Line {
    fn write(&self, sign: &Sign, out: &mut String) {
        let text = self.text.strip_suffix(b"\r\n");
        let whole = text.is_some() && self.omitted == 0;
        let text = text.unwrap_or(&self.text);
        match str::from_utf8(text).ok().filter(|text| whole && !text.contains(char::is_control)) {
            Some(text) if self.first && !has_meaning(text) => self.finish(sign.plain, text, out),
            Some(text) => self.finish(sign.literal, text, out),
            None if self.omitted > 0 => {
                let (head, tail) = text.split_at(LINE.min(text.len()));
                let note = format!("{} ... {}", head.escape_ascii(), tail.escape_ascii());
                self.finish(sign.octets, &note, out);
            }
            None => self.finish(sign.octets, &self.text.escape_ascii().to_string(), out),
        }
    }

    fn finish(&self, sign: &str, text: &str, out: &mut String) {
        let more = if self.big { " ..." } else { "" };
        let _ = writeln!(out, "{sign}{text}{more}");
    }
}

/// Whether a reader of transcripts would take part of this text for something else.
fn has_meaning(text: &str) -> bool {
    text.contains("  ;") || text.contains("...") || text.contains('$')
}

/// Cuts one direction into lines, and holds no more of a line than is shown.
struct Cutter {
    text: Vec<u8>,
    omitted: u64,
    first: bool,
    /// Where the text behind the last literal begins: what stands before it announces nothing.
    fresh: usize,
    /// Octets of a literal that are still to come.
    literal: u64,
    /// The literal is small enough to be shown.
    shown: bool,
    /// The literal was announced by `{n}`, and none of its octets has come.
    waits: bool,
}

impl Default for Cutter {
    fn default() -> Self {
        Self { text: Vec::new(), omitted: 0, first: true, fresh: 0, literal: 0, shown: false, waits: false }
    }
}

impl Cutter {
    /// The next line that is whole, taken from these octets.
    fn next(&mut self, octets: &mut &[u8], announces_nothing: fn(&[u8]) -> bool) -> Option<Line> {
        while !octets.is_empty() {
            let line = match self.literal {
                0 => self.words(octets, announces_nothing),
                _ => self.inside(octets),
            };
            if line.is_some() {
                return line;
            }
        }
        None
    }

    /// Outside of literals.
    fn words(&mut self, octets: &mut &[u8], announces_nothing: fn(&[u8]) -> bool) -> Option<Line> {
        let whole = self.take_line(octets, usize::MAX);
        if !whole {
            return None;
        }
        let status = self.first && announces_nothing(&self.text);
        let literal = if status { None } else { announced(&self.text[self.fresh..]) };
        let Some((len, synchronising)) = literal else { return Some(self.line(true, false)) };
        self.literal = len;
        self.shown = len <= LITERAL;
        self.waits = synchronising && len > 0;
        Some(self.line(false, !self.shown))
    }

    /// Inside of a literal: its lines are shown, or its octets are counted.
    fn inside(&mut self, octets: &mut &[u8]) -> Option<Line> {
        self.waits = false;
        let here = usize::try_from(self.literal).unwrap_or(usize::MAX).min(octets.len());
        if !self.shown {
            *octets = &octets[here..];
            self.literal -= here as u64;
            return None;
        }
        let before = octets.len();
        let whole = self.take_line(octets, here);
        self.literal -= (before - octets.len()) as u64;
        self.fresh = self.text.len();
        whole.then(|| self.line(false, false))
    }

    /// Takes octets up to a line end, at most so many; says whether the line ends.
    fn take_line(&mut self, octets: &mut &[u8], most: usize) -> bool {
        let most = most.min(octets.len());
        let end = memchr(b'\n', &octets[..most]).map(|at| at + 1);
        let (taken, rest) = octets.split_at(end.unwrap_or(most));
        *octets = rest;
        self.text.extend_from_slice(taken);
        self.shorten();
        end.is_some()
    }

    fn shorten(&mut self) {
        if self.text.len() > LINE + TAIL {
            let excess = self.text.len() - TAIL;
            self.text.drain(LINE..excess);
            self.omitted += (excess - LINE) as u64;
            self.fresh = self.fresh.min(LINE);
        }
    }

    /// Hands the line in hand out; `last` says whether a new command or response begins behind it.
    fn line(&mut self, last: bool, big: bool) -> Line {
        let line = Line {
            text: std::mem::take(&mut self.text),
            omitted: std::mem::take(&mut self.omitted),
            first: self.first,
            big,
        };
        self.first = last;
        self.fresh = 0;
        line
    }

    /// The literal that was announced will not come: what comes next is a new command.
    fn give_up(&mut self) {
        if self.waits {
            *self = Self::default();
        }
    }
}

/// The literal that this line announces: its length, and whether its sender waits for `+`.
fn announced(line: &[u8]) -> Option<(u64, bool)> {
    let text = line.trim_ascii_end().strip_suffix(b"}")?;
    let number = str::from_utf8(&text[memchr::memrchr(b'{', text)? + 1..]).ok()?;
    let digits = number.strip_suffix('+').unwrap_or(number);
    digits.bytes().all(|octet| octet.is_ascii_digit()).then_some(())?;
    Some((digits.parse().ok()?, digits.len() == number.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    use Way::{BackendHears, BackendSays, ClientHears, ClientSays};

    type Talk<'a> = &'a [(Way, &'a [u8])];

    /// The transcript of this talk, which must be the same however the octets are cut.
    fn transcript(logged_in: bool, talk: Talk<'_>) -> String {
        let whole = fed(logged_in, talk, usize::MAX);
        assert_eq!(whole, fed(logged_in, talk, 1), "octet by octet");
        for at in 1..talk.iter().map(|(_, octets)| octets.len()).max().unwrap_or(0).min(200) {
            assert_eq!(whole, fed(logged_in, talk, at), "in pieces of {at}");
        }
        whole
    }

    fn fed(logged_in: bool, talk: Talk<'_>, piece: usize) -> String {
        let mut transcript = Transcript::new(logged_in);
        let mut out = String::new();
        for (way, octets) in talk {
            for piece in octets.chunks(piece) {
                transcript.feed(*way, piece, &mut out);
            }
        }
        out
    }

    /// A session that begins before login on the backend's leg: name, what is said, what is written.
    const LOGINS: &[(&str, Talk<'static>, &str)] = &[
        (
            "LOGIN",
            &[
                (BackendSays, b"* OK ready\r\n"),
                (BackendHears, b"p1 LOGIN joe secret\r\n"),
                (BackendSays, b"p1 OK in\r\n"),
                (BackendHears, b"p2 SELECT secret\r\n"),
            ],
            "<  * OK ready\n>  p1 LOGIN ***\n<  p1 OK in\n>  p2 SELECT secret\n",
        ),
        (
            "LOGIN with literals",
            &[
                (BackendHears, b"p1 login {3}\r\n"),
                (BackendSays, b"+ go on\r\n"),
                (BackendHears, b"joe {6+}\r\nsecret\r\n"),
                (BackendSays, b"p1 NO wrong\r\n"),
                (BackendHears, b"p2 LOGIN {8+}\r\nse\r\ncret {1+}\r\nx\r\n"),
            ],
            ">  p1 LOGIN ***\n<  + ***\n<  p1 NO wrong\n>  p2 LOGIN ***\n",
        ),
        (
            "AUTHENTICATE step by step",
            &[
                (BackendHears, b"p1 AUTHENTICATE LOGIN\r\n"),
                (BackendSays, b"+ VXNlcm5hbWU6\r\n"),
                (BackendHears, b"am9l\r\n"),
                (BackendSays, b"+ UGFzc3dvcmQ6\r\n"),
                (BackendHears, b"c2VjcmV0\r\n"),
                (BackendSays, b"* CAPABILITY IMAP4rev1\r\np1 OK in\r\n"),
                (BackendHears, b"p2 IDLE\r\n"),
                (BackendSays, b"+ idling\r\n"),
                (BackendHears, b"DONE\r\n"),
            ],
            ">  p1 AUTHENTICATE LOGIN\n<  + ***\n>  ***\n<  + ***\n>  ***\n\
             <  * CAPABILITY IMAP4rev1\n<  p1 OK in\n>  p2 IDLE\n<  + idling\n>  DONE\n",
        ),
        (
            "AUTHENTICATE with an initial response, and one that is no mechanism",
            &[
                (BackendHears, b"p1 authenticate PLAIN AGpvZQBzZWNyZXQ=\r\n"),
                (BackendSays, b"p1 NO wrong\r\n"),
                (BackendHears, b"p2 AUTHENTICATE secret\r\n"),
                (BackendSays, b"p2 BAD what\r\n"),
            ],
            ">  p1 AUTHENTICATE PLAIN ***\n<  p1 NO wrong\n>  p2 AUTHENTICATE ***\n<  p2 BAD what\n",
        ),
        (
            "a cancelled exchange, an answer that comes too late",
            &[
                (BackendHears, b"p1 AUTHENTICATE PLAIN\r\n"),
                (BackendHears, b"*\r\n"),
                (BackendSays, b"p1 BAD cancelled\r\n"),
                (BackendHears, b"AGpvZQBzZWNyZXQ=\r\n"),
            ],
            ">  p1 AUTHENTICATE PLAIN\n>  *\n<  p1 BAD cancelled\n>  ***\n",
        ),
        (
            "slips before login",
            &[
                (BackendHears, b"p1 LOGNI joe secret\r\n"),
                (BackendHears, b"joe secret\r\n"),
                (BackendHears, b"p2 ID (\"name\" \"x\")\r\np3 NOOP\r\n"),
            ],
            ">  p1 ***\n>  joe ***\n>  p2 ID (\"name\" \"x\")\n>  p3 NOOP\n",
        ),
        (
            "LOGIN behind a literal that was refused",
            &[
                (BackendHears, b"p1 ID {9}\r\n"),
                (BackendSays, b"p1 BAD no\r\n"),
                (BackendHears, b"p2 LOGIN joe secret\r\n"),
            ],
            ">  p1 ID {9}\n<  p1 BAD no\n>  p2 LOGIN ***\n",
        ),
        (
            "a second login",
            &[
                (BackendHears, b"p1 LOGIN joe secret\r\n"),
                (BackendSays, b"p1 OK in\r\n"),
                (BackendHears, b"p2 LOGIN joe secret\r\n"),
                (BackendSays, b"p2 BAD already\r\n"),
                (BackendHears, b"p3 NOOP\r\n"),
            ],
            ">  p1 LOGIN ***\n<  p1 OK in\n>  p2 LOGIN ***\n<  p2 BAD already\n>  p3 NOOP\n",
        ),
    ];

    #[test]
    fn secrets_are_struck_out_however_they_are_said() {
        for (name, talk, expected) in LOGINS {
            assert_eq!(transcript(false, talk), *expected, "{name}");
        }
    }

    #[test]
    fn no_secret_remains() {
        for (name, talk, _) in LOGINS {
            let text = fed(false, talk, 1).replace("SELECT secret", "");
            for secret in ["secret", "cret", "c2VjcmV0", "AGpvZQBzZWNyZXQ="] {
                assert!(!text.contains(secret), "{name}: {text}");
            }
        }
    }

    #[test]
    fn a_login_on_another_connection_is_no_part_of_what_was_half_said_on_the_first() {
        let mut transcript = Transcript::new(true);
        let mut out = String::new();
        transcript.feed(BackendHears, b"p1 STATUS {30}\r\n", &mut out);
        transcript.reconnected(&mut out);
        transcript.feed(BackendHears, b"p1 LOGIN joe secret\r\n", &mut out);
        let note = "; the backend connection was lost, this is another one\n";
        assert_eq!(out, format!(">  p1 STATUS {{30}}\n{note}>  p1 LOGIN ***\n"));
    }

    #[test]
    fn a_trace_that_begins_within_the_clients_login_shows_nothing_of_it() {
        let talk: Talk<'_> = &[
            (ClientHears, b"+ VXNlcm5hbWU6\r\n"),
            (ClientSays, b"am9l\r\n"),
            (ClientSays, b"with blanks in it\r\n"),
            (ClientHears, b"a OK in\r\n"),
            (ClientSays, b"b NOOP\r\n"),
        ];
        assert_eq!(transcript(false, talk), "S: + ***\nC: ***\nC: ***\nS: a OK in\nC: b NOOP\n");
    }

    /// After login: name, what is said, what is written.
    const LINES: &[(&str, Talk<'static>, &str)] = &[
        (
            "four ways",
            &[
                (ClientSays, b"a NOOP\r\n"),
                (BackendHears, b"p1 NOOP\r\n"),
                (BackendSays, b"p1 OK done\r\n"),
                (ClientHears, b"a OK done\r\n"),
            ],
            "C: a NOOP\n>  p1 NOOP\n<  p1 OK done\nS: a OK done\n",
        ),
        (
            "a small literal is shown",
            &[(ClientHears, b"* 1 FETCH (BODY[] {10}\r\n0123456789 UID 7)\r\na OK done\r\n")],
            "S: * 1 FETCH (BODY[] {10}\nS| 0123456789 UID 7)\nS: a OK done\n",
        ),
        (
            "the lines of a literal are its own, whatever they look like",
            &[(ClientHears, b"* 1 FETCH (BODY[] {25}\r\na OK {5}\r\n+ x\r\n* BYE {9} UID 7)\r\n* 2 EXISTS\r\n")],
            "S: * 1 FETCH (BODY[] {25}\nS| a OK {5}\nS| + x\nS| * BYE {9} UID 7)\nS: * 2 EXISTS\n",
        ),
        (
            "an announcement at the end of a literal is none",
            &[(ClientHears, b"* 1 FETCH (BODY[] {3}\r\n{5}\r\n* 2 EXISTS\r\n")],
            "S: * 1 FETCH (BODY[] {3}\nS| {5}\nS: * 2 EXISTS\n",
        ),
        (
            "words behind a literal announce, even if they look like a status",
            &[(ClientHears, b"* 1 FETCH (X {1}\r\nx OK {4}\r\n a\r\n)\r\n* 2 EXISTS\r\n")],
            "S: * 1 FETCH (X {1}\nS| x OK {4}\nS|  a\nS| )\nS: * 2 EXISTS\n",
        ),
        (
            "an empty literal",
            &[(ClientHears, b"* 1 FETCH (BODY[] {0}\r\n)\r\n* 2 EXISTS\r\n")],
            "S: * 1 FETCH (BODY[] {0}\nS| )\nS: * 2 EXISTS\n",
        ),
        (
            "braces in a status text announce nothing",
            &[(ClientHears, b"* OK see {5}\r\na NO see {5}\r\n+ see {5}\r\n* 2 EXISTS\r\n")],
            "S: * OK see {5}\nS: a NO see {5}\nS: + see {5}\nS: * 2 EXISTS\n",
        ),
        (
            "a refused literal does not swallow the next command",
            &[
                (ClientSays, b"a APPEND INBOX {300}\r\n"),
                (ClientHears, b"a NO [TRYCREATE] no\r\n"),
                (ClientSays, b"b NOOP\r\n"),
            ],
            "C: a APPEND INBOX {300} ...\nS: a NO [TRYCREATE] no\nC: b NOOP\n",
        ),
        (
            "a non-synchronising literal comes all the same",
            &[
                (ClientSays, b"a APPEND INBOX {9+}\r\n"),
                (ClientHears, b"a NO no\r\n"),
                (ClientSays, b"b LOGIN x\r\n"),
                (ClientSays, b"c NOOP\r\n"),
            ],
            "C: a APPEND INBOX {9+}\nS: a NO no\nC| b LOGIN x\nC: c NOOP\n",
        ),
        (
            "what means something in a transcript, and what is no text",
            &[(ClientSays, b"a X $y\r\nb X ...\r\nc X  ; y\r\nd X \xff\0\r\ne X\n")],
            "C| a X $y\nC| b X ...\nC| c X  ; y\nC\\ d X \\xff\\x00\\r\\n\nC\\ e X\\n\n",
        ),
        ("a word alone", &[(ClientSays, b"a IDLE\r\nc2VjcmV0\r\ndone\r\n\r\n")], "C: a IDLE\nC: ***\nC: done\nC: \n"),
    ];

    #[test]
    fn a_session_is_written_as_a_transcript() {
        for (name, talk, expected) in LINES {
            assert_eq!(transcript(true, talk), *expected, "{name}");
        }
    }

    #[test]
    fn a_big_literal_is_told_by_its_size() {
        let mut body = b"* 1 FETCH (BODY[] {100000}\r\n".to_vec();
        body.extend_from_slice(&b"a LOGIN x y {7}\r\n".repeat(100_000 / 17 + 1)[..100_000]);
        body.extend_from_slice(b" UID 7)\r\na OK done\r\n");
        let expected = "S: * 1 FETCH (BODY[] {100000} ...\nS|  UID 7)\nS: a OK done\n";
        for piece in [1, 7, 4096, usize::MAX] {
            assert_eq!(fed(true, &[(ClientHears, &body)], piece), expected);
        }
    }

    #[test]
    fn a_long_line_loses_its_middle_and_keeps_its_literal() {
        let mut line = b"a UID FETCH ".to_vec();
        line.extend_from_slice(&b"1,".repeat(50_000));
        line.extend_from_slice(b"2 (X {300+}\r\n");
        line.extend_from_slice(&[b'x'; 300]);
        line.extend_from_slice(b")\r\nb NOOP\r\n");
        for piece in [1, 1000, usize::MAX] {
            let text = fed(true, &[(ClientSays, &line)], piece);
            assert!(text.starts_with("C\\ a UID FETCH 1,1,") && text.len() < 1200, "{text}");
            assert!(text.ends_with("2 (X {300+} ...\nC| )\nC: b NOOP\n"), "{text}");
        }
    }

    #[test]
    fn memory_is_bounded_without_a_line_end() {
        let mut transcript = Transcript::new(true);
        let mut out = String::new();
        for _ in 0..1000 {
            transcript.feed(ClientSays, &[b'x'; 65_536], &mut out);
        }
        assert!(out.is_empty());
        assert!(transcript.client.commands.text.len() <= LINE + TAIL);
    }

    /// A generator whose seed is printed when an assertion fails.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % sides
        }

        fn pick<'a>(&mut self, of: &[Talk<'a>]) -> Talk<'a> {
            of[self.roll(of.len() as u64) as usize]
        }
    }

    /// What may happen on the way to a login, in any order; `t` stands for a tag, and the secret is `hunter2`.
    const EXCHANGES: &[Talk<'static>] = &[
        &[(BackendHears, b"t NOOP\r\n"), (BackendSays, b"t OK done\r\n")],
        &[(BackendHears, b"t ID {4}\r\n"), (BackendSays, b"t BAD what\r\n")],
        &[(BackendHears, b"t ID {1000}\r\n"), (BackendSays, b"t BAD what\r\n")],
        &[(BackendHears, b"t ID {4+}\r\n"), (BackendSays, b"t NO what\r\n"), (BackendHears, b"{9}\r\n\r\n")],
        &[(BackendHears, b"t LOGIN joe hunter2\r\n"), (BackendSays, b"t NO see {5}\r\n")],
        &[(BackendHears, b"t LOGIN joe {7+}\r\nhunter2\r\n"), (BackendSays, b"t NO no\r\n")],
        &[(BackendHears, b"t LOGIN {3}\r\n"), (BackendSays, b"t NO no\r\n"), (BackendHears, b"t X hunter2\r\n")],
        &[
            (BackendHears, b"t LOGIN {3}\r\n"),
            (BackendSays, b"+ \r\n"),
            (BackendHears, b"joe {7}\r\n"),
            (BackendSays, b"+ \r\n"),
            (BackendHears, b"hunter2\r\n"),
            (BackendSays, b"t NO no\r\n"),
        ],
        &[
            (BackendHears, b"t AUTHENTICATE LOGIN\r\n"),
            (BackendSays, b"+ hunter2\r\n"),
            (BackendHears, b"hunter2\r\n"),
            (BackendSays, b"* BYE {7}\r\nt NO no\r\n"),
            (BackendHears, b"hunter2\r\n"),
        ],
        &[(BackendHears, b"t AUTHENTICATE PLAIN hunter2\r\nt LOGIN joe hunter2\r\n"), (BackendSays, b"t NO no\r\n")],
    ];

    #[test]
    fn no_order_of_exchanges_and_no_cut_shows_a_secret() {
        for seed in 1u64..300 {
            let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut transcript = Transcript::new(false);
            let mut out = String::new();
            for _ in 0..30 {
                for (way, octets) in dice.pick(EXCHANGES) {
                    let mut rest = *octets;
                    while !rest.is_empty() {
                        let (piece, after) = rest.split_at(1 + dice.roll(rest.len() as u64) as usize);
                        transcript.feed(*way, piece, &mut out);
                        rest = after;
                    }
                }
            }
            assert!(!out.contains("hunter"), "seed {seed}:\n{out}");
        }
    }

    #[test]
    fn any_octets_are_taken_within_bounds() {
        const ALPHABET: &[u8] = b"a1 +*{}~\"\\\r\n\0\xff(LOGIN)OK";
        for seed in 1u64..100 {
            let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut transcript = Transcript::new(seed % 2 == 0);
            for _ in 0..300 {
                let octets: Vec<_> =
                    (0..dice.roll(64)).map(|_| ALPHABET[dice.roll(ALPHABET.len() as u64) as usize]).collect();
                let way = [ClientSays, ClientHears, BackendHears, BackendSays][dice.roll(4) as usize];
                let mut out = String::new();
                transcript.feed(way, &octets, &mut out);
                assert!(out.len() < 8 * LINE && out.lines().all(|line| line.is_ascii()), "seed {seed}: {out}");
            }
            for leg in [&transcript.client, &transcript.backend] {
                assert!(leg.commands.text.len().max(leg.responses.text.len()) <= LINE + TAIL);
                assert!(leg.tag.len() <= LINE + TAIL);
            }
        }
    }
}
