//! Responses (RFC 3261 section 7), from a datagram or from the head of a stream.
//!
//!     SIP/2.0 401 Unauthorized
//!     v: SIP/2.0/UDP 127.0.0.1:25061;branch=z9hG4bK776sgdkse2;rport=25061       whose answer it is: branch
//!     CSeq: 2 MESSAGE                                                           and method (17.1.3)
//!     WWW-Authenticate: Digest realm="example.com",
//!       nonce="47364c23432d2e131a5fb210812c"                                    a line that goes on
//!     l: 0
//!
//! Bodies are passed over: nothing in them is for us. A request from the peer, or what is no SIP at all, is passed over too as long as one
//! knows where it ends; on a stream, what has no end within the bounds ends the connection.

use std::time::Duration;

use memchr::memmem;

use super::{end_of_quoted, message::METHOD, uri::Uri};

/// The longest head, in octets: more than a datagram.
pub const LONGEST_HEAD: usize = 65_536;
/// The longest body, in octets: a reason, and no page.
pub const LONGEST_BODY: usize = 4096;
/// The longest pause that a provider may ask for: a mistake of its clock silences nobody for longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// A response.
#[derive(Debug, PartialEq, Eq)]
pub struct Response {
    /// The status: 100 to 699.
    pub status: u16,
    /// The fields of its head, their names whole and in small letters.
    fields: Vec<(String, String)>,
}

/// What stands at the head of a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Cut {
    /// How many octets it has, with what stands before it.
    pub octets: usize,
    /// What it is; none, where it is not a response.
    pub response: Option<Response>,
}

/// Nobody knows where the message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message without an end")]
pub struct Endless;

/// What stands at the head of these octets of a stream; none: it is not whole yet.
pub fn cut(octets: &[u8]) -> Result<Option<Cut>, Endless> {
    // Section 7.5: empty lines before a message mean nothing; some keep a connection open with them.
    let blank = octets.iter().take_while(|octet| b"\r\n".contains(octet)).count();
    let begun = &octets[blank..];
    if begun.is_empty() && blank > 0 {
        return Ok(Some(Cut { octets: blank, response: None }));
    }
    let head = memmem::find(&begun[..begun.len().min(LONGEST_HEAD)], END);
    let Some(head) = head else { return if begun.len() < LONGEST_HEAD { Ok(None) } else { Err(Endless) } };
    let fields = fields(&begun[..head]).ok_or(Endless)?;
    // Section 18.3: on a stream its length has to be said.
    let length = value(&fields.1, "content-length").and_then(|length| length.trim().parse::<usize>().ok());
    let body = length.filter(|length| *length <= LONGEST_BODY).ok_or(Endless)?;
    let end = head + END.len() + body;
    let whole = (end <= begun.len()).then(|| Cut { octets: blank + end, response: Response::of(fields) });
    Ok(whole)
}

/// How a head ends.
const END: &[u8] = b"\r\n\r\n";

impl Response {
    /// What a datagram is, where it is a response.
    pub fn datagram(octets: &[u8]) -> Option<Self> {
        let head = memmem::find(octets, END).unwrap_or(octets.len());
        Self::of(fields(&octets[..head])?)
    }

    fn of((first, fields): (String, Vec<(String, String)>)) -> Option<Self> {
        let (version, rest) = first.split_once(' ')?;
        let status = rest.split(' ').next().filter(|digits| digits.len() == 3)?.parse().ok();
        let status = status.filter(|status| (100..700).contains(status) && version.eq_ignore_ascii_case("SIP/2.0"))?;
        Some(Self { status, fields })
    }

    /// All values of a field, whose name is whole and in small letters.
    pub(super) fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.fields.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is the answer to the request with this branch (section 17.1.3). One for somebody else, with another `Via` below, is none
    /// (section 8.1.3.3).
    pub(super) fn is_to(&self, branch: &str) -> bool {
        let mut ways = self.fields("via").flat_map(|value| value.split(','));
        let (Some(way), None) = (ways.next(), ways.next()) else { return false };
        let named = way.split(';').filter_map(|parameter| parameter.split_once('='));
        let mut branches = named.filter(|(name, _)| name.trim().eq_ignore_ascii_case("branch"));
        let method = value(&self.fields, "cseq").and_then(|cseq| cseq.split_ascii_whitespace().nth(1));
        branches.any(|(_, value)| value.trim() == branch) && method == Some(METHOD)
    }

    /// Not sooner than this (section 20.33): `120 (in a meeting);duration=60`.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = value(&self.fields, "retry-after")?.trim_start();
        let digits = text.split(|character: char| !character.is_ascii_digit()).next().filter(|it| !it.is_empty())?;
        // More digits than fit are a long time, too.
        Some(Duration::from_secs(digits.parse().unwrap_or(u64::MAX)).min(LONGEST_PAUSE))
    }

    /// Where else one may ask: the first `Contact` that we can reach.
    pub(super) fn contact(&self) -> Option<Uri> {
        self.fields("contact").flat_map(addresses).find_map(|address| address.parse().ok())
    }
}

fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// The first line, and the fields of a head without its end; none where a line is none.
fn fields(head: &[u8]) -> Option<(String, Vec<(String, String)>)> {
    /// Section 7.3.3: those that matter to us.
    const COMPACT: [(&str, &str); 3] = [("v", "via"), ("m", "contact"), ("l", "content-length")];
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let first = lines.next()?.to_owned();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            let (_, value) = fields.last_mut()?;
            value.push(' ');
            value.push_str(line.trim());
            continue;
        }
        let (name, value) = line.split_once(':')?;
        let name = name.trim_end().to_ascii_lowercase();
        let whole = COMPACT.iter().find(|(compact, _)| *compact == name).map(|(_, whole)| (*whole).to_owned());
        fields.push((whole.unwrap_or(name), value.trim().to_owned()));
    }
    Some((first, fields))
}

/// The URIs of `"Romeo, M." <sip:a@b>;q=0.7, sip:c@d;q=0.5`: in brackets, or up to a semicolon, which then begins what is said of it.
fn addresses(value: &str) -> Vec<&str> {
    let (mut quoted, mut bracketed, mut escaped) = (false, false, false);
    let ends = |character: char| {
        let is_escaped = std::mem::take(&mut escaped);
        match character {
            '\\' if quoted => escaped = !is_escaped,
            '"' if !is_escaped && !bracketed => quoted = !quoted,
            '<' if !quoted => bracketed = true,
            '>' if !quoted => bracketed = false,
            ',' => return !quoted && !bracketed,
            _ => {}
        }
        false
    };
    value.split(ends).map(address_of).collect()
}

fn address_of(item: &str) -> &str {
    let item = item.trim();
    // In a name that is quoted there may be a bracket.
    let name = item.strip_prefix('"').and_then(|quoted| quoted.get(end_of_quoted(quoted)? + 1..));
    let unquoted = name.unwrap_or(item);
    match unquoted.split_once('<').and_then(|(_, rest)| rest.split_once('>')) {
        Some((address, _)) => address,
        None => unquoted.split(';').next().unwrap_or_default().trim(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1:25061;branch=z9hG4bK1;rport=25061\r\nCSeq: 2 MESSAGE\r\n";

    fn read(text: &str) -> Response {
        Response::datagram(text.as_bytes()).unwrap_or_else(|| panic!("{text}"))
    }

    fn with(fields: &str) -> Response {
        read(&format!("{HEAD}{fields}\r\n\r\n"))
    }

    #[test]
    fn a_response_is_read_however_it_is_written() {
        let usual = "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nContact: <sip:a@b>\r\n\
                     WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\nContent-Length: 0\r\n\r\n";
        let odd = "sip/2.0 401 \r\nv :SIP/2.0/UDP h;branch=z9hG4bK1\r\nM:  <sip:a@b> \r\n\
                   WWW-AUTHENTICATE: Digest realm=\"r\",\r\n\t  nonce=\"n\"\r\nl: 0\r\n\r\nwhatever";
        assert_eq!(read(odd), read(usual));
    }

    #[test]
    fn what_is_no_response_is_none() {
        for text in [
            "",
            "\r\n\r\n",
            "SIP/2.0 200",
            "SIP/2.0 99 x\r\n\r\n",
            "SIP/2.0 0200 x\r\n\r\n",
            "SIP/2.0 700 x\r\n\r\n",
            "SIP/2.0 +20 x\r\n\r\n",
            "SIP/3.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "MESSAGE sip:a@b SIP/2.0\r\n\r\n",
            "SIP/2.0 200 OK\r\nVia\r\n\r\n",
            "SIP/2.0 200 OK\r\n Via: x\r\n\r\n",
        ] {
            let is_none = Response::datagram(text.as_bytes()).is_none();
            assert_eq!(is_none, text != "SIP/2.0 200", "{text:?}");
        }
    }

    #[test]
    fn an_answer_has_our_branch_our_method_and_nobody_elses_via() {
        assert!(read(HEAD.trim_end()).is_to("z9hG4bK1"));
        assert!(!read(HEAD.trim_end()).is_to("z9hG4bK"));
        for other in [
            HEAD.replace("MESSAGE", "INVITE"),
            HEAD.replace("MESSAGE", "message"),
            HEAD.replace("CSeq: 2 MESSAGE\r\n", ""),
            HEAD.replace("branch=z9hG4bK1;", ""),
            HEAD.replace("\r\nCSeq", "\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK2\r\nCSeq"),
            HEAD.replace("\r\nCSeq", ", SIP/2.0/UDP h;branch=z9hG4bK2\r\nCSeq"),
        ] {
            assert!(!read(other.trim_end()).is_to("z9hG4bK1"), "{other}");
        }
    }

    #[test]
    fn a_pause_has_seconds_perhaps_a_comment_and_an_end() {
        for (value, seconds) in [
            ("30", Some(30)),
            ("18000;duration=3600", Some(18_000)),
            ("120 (I'm in a meeting)", Some(120)),
            ("86401", Some(86_400)),
            ("99999999999999999999999", Some(86_400)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            let found = with(&format!("Retry-After: {value}")).retry_after();
            assert_eq!(found, seconds.map(Duration::from_secs), "{value}");
        }
        assert_eq!(with("X: y").retry_after(), None);
    }

    #[test]
    fn the_first_contact_that_can_be_reached_is_taken() {
        for (fields, found) in [
            ("Contact: <sip:a@b:5070;transport=tcp>;q=0.7, <sip:c@d>", Some("sip:a@b:5070;transport=tcp")),
            ("Contact: sip:a@b;q=0.5,sip:c@d", Some("sip:a@b")),
            ("Contact: \"<sip:x@y>, \\\" z\" <sip:a@b>;x=\"y\"", Some("sip:a@b")),
            ("Contact: <mailto:x@y>, M <sips:a@b>", Some("sips:a@b")),
            ("Contact: <sip:x@y;maddr=10.0.0.1>\r\nm: <sip:a@b>", Some("sip:a@b")),
            ("Contact: *", None),
            ("Contact: <sip:a@b", None),
            ("X: y", None),
        ] {
            assert_eq!(with(fields).contact().map(|uri| uri.to_string()).as_deref(), found, "{fields}");
        }
    }

    #[test]
    fn a_stream_is_cut_where_a_message_ends() {
        let one = format!("\r\n\r\n{HEAD}Content-Length: 4\r\n\r\nbody");
        let stream = format!("{one}OPTIONS sip:a@b SIP/2.0\r\nl: 0\r\n\r\n{HEAD}l: 0\r\n\r\n");
        assert_eq!(cut(b""), Ok(None));
        assert_eq!(cut(&one.as_bytes()[..3]), Ok(Some(Cut { octets: 3, response: None })));
        for len in 5..one.len() {
            assert_eq!(cut(&stream.as_bytes()[..len]), Ok(None), "{len}");
        }
        let mut rest = stream.as_bytes();
        let mut found = Vec::new();
        while let Ok(Some(Cut { octets, response })) = cut(rest) {
            found.push(response.map(|response| response.status));
            rest = &rest[octets..];
        }
        assert_eq!((found, rest), (vec![Some(200), None, Some(200)], &b""[..]));
    }

    #[test]
    fn a_stream_without_an_end_is_not_waited_for() {
        let of = |rest: &str| cut(format!("{HEAD}{rest}").as_bytes());
        assert_eq!(of("\r\n"), Err(Endless));
        for length in ["x", "-1", "4097", "99999999999999999999999"] {
            assert_eq!(of(&format!("Content-Length: {length}\r\n\r\n")), Err(Endless), "{length}");
        }
        assert_eq!(of("Content-Length: 4096\r\n\r\n"), Ok(None));
        assert_eq!(of("no field\r\nl: 0\r\n\r\n"), Err(Endless));
        assert_eq!(cut(&vec![b'x'; LONGEST_HEAD]), Err(Endless));
        assert_eq!(cut(&vec![b'x'; LONGEST_HEAD - 1]), Ok(None));
    }

    #[test]
    fn no_octets_make_it_panic() {
        // A generator of our own, so that a failure comes again (Knuth's MMIX).
        let mut state = 1_u64;
        let mut next = |most: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % most
        };
        let seed = format!(
            "{HEAD}Contact: \"a\" <sip:a@b;x=y>;q=1\r\nRetry-After: 1\r\nWWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\nl: 3\r\n\r\nabc"
        );
        let mut read = 0;
        for _ in 0..20_000 {
            let mut octets = seed.clone().into_bytes();
            for _ in 0..next(6) {
                let at = next(octets.len());
                match next(3) {
                    0 => octets[at] = b"\r\n \t\"\\<>;,=:%\0\xff"[next(15)],
                    1 => drop(octets.remove(at)),
                    _ => octets.insert(at, next(256) as u8),
                }
            }
            let _ = cut(&octets);
            if let Some(response) = Response::datagram(&octets) {
                read += 1;
                let _ = (response.contact(), response.retry_after(), response.is_to("z9hG4bK1"));
                let _ = super::super::digest::challenges(&response);
            }
        }
        // Most are still responses: the readers behind were reached.
        assert!(read > 5000, "{read}");
    }
}
