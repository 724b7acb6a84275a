//! What is heard on a stream: its begin, its elements one after the other, its end (RFC 6120 section 4).
//!
//!     <?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='++TR84Sm6A3hnt3Q065SnAbbk3Y='>
//!     <message from='romeo@example.com/phone'><received xmlns='urn:xmpp:receipts' id='9c41...'/></message>
//!     </stream:stream>
//!
//! Octets come as they come, and an element is heard when it is whole. Strangers may send us what they like, as much as servers let them: of an
//! element no more is kept than we could understand, which is a few levels and a few dozens of elements; the rest is passed over, and so is the
//! whole of one that is too long, for the stream is that of all and must not end. Comments, processing instructions and DOCTYPEs are no XMPP
//! (section 11.1). Requirement N20.

use crate::outband::xml::{self, XmlError};

/// The namespace of streams.
pub const STREAMS: &str = "http://etherx.jabber.org/streams";

/// The longest element that is kept, in octets; a longer one is passed over. Servers let pass half of that, and some write six octets for one
/// that a stranger sent (`&apos;`).
const LONGEST: usize = 1 << 20;
/// The longest tag that is read, in octets. Of a longer one only the name is.
const LONGEST_TAG: usize = 8 << 10;
/// Levels of elements that are kept below the stream: `<iq><error><condition>` has three, `<features><mechanisms><mechanism>` too.
const LEVELS: usize = 3;
/// Elements that are kept within one: `<features>` of servers has a dozen or two.
const MOST: usize = 64;

/// An element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// Its name, without a prefix.
    pub name: String,
    /// The namespace of the name.
    pub namespace: String,
    /// Names with their prefixes, and values.
    attributes: Vec<(String, String)>,
    /// The elements in it.
    pub children: Vec<Element>,
    /// The text in it.
    pub text: String,
}

impl Element {
    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The element in it that is called so in this namespace.
    pub fn child(&self, name: &str, namespace: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.is(name, namespace))
    }

    /// Whether it is called so in this namespace.
    pub fn is(&self, name: &str, namespace: &str) -> bool {
        self.name == name && self.namespace == namespace
    }

    /// Names of namespaces that it declares for this prefix; that of names without one is "".
    fn binds(&self, prefix: &str) -> Option<&str> {
        match prefix {
            "" => self.attribute("xmlns"),
            _ => self.attributes.iter().find_map(|(name, value)| {
                name.strip_prefix("xmlns:").filter(|declared| *declared == prefix).map(|_| value.as_str())
            }),
        }
    }
}

/// What was heard.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// The stream begins: its tag, without what is in it.
    Opened(Element),
    /// An element of the stream.
    Whole(Element),
    /// The stream ends.
    Closed,
}

/// The octets are no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl From<XmlError> for Unreadable {
    fn from(_: XmlError) -> Self {
        Self
    }
}

/// The reader of a stream.
#[derive(Debug, Default)]
pub struct Reader {
    heard: Vec<u8>,
    /// Octets of the element that is being read.
    octets: usize,
    /// The stream, and what is open in it, with their names as they are written.
    open: Vec<(String, Element)>,
    /// Levels that are open and not kept.
    passed: usize,
    /// Elements that were kept.
    kept: usize,
}

/// A piece of a stream.
enum Token<'a> {
    Text(&'a [u8]),
    /// Text in which nothing has a meaning.
    Cdata(&'a [u8]),
    Tag(&'a [u8]),
    Declaration,
}

impl Reader {
    /// Takes what was heard, and says what it is as far as that can be known.
    pub fn hear(&mut self, octets: &[u8]) -> Result<Vec<Heard>, Unreadable> {
        self.heard.extend_from_slice(octets);
        let heard = std::mem::take(&mut self.heard);
        let (mut rest, mut found) = (&heard[..], Vec::new());
        while let Some((token, length)) = token(rest, self.passed == 0 && self.has_room(rest.len()))? {
            if !self.has_room(length) {
                self.pass_over()?;
            }
            self.octets += length;
            found.extend(self.take(&token)?);
            rest = &rest[length..];
        }
        self.heard = shortened(rest);
        // A name without an end, or what no server writes.
        if self.heard.len() > LONGEST { Err(Unreadable) } else { Ok(found) }
    }

    /// Whether an element with so many octets more is not too long.
    fn has_room(&self, more: usize) -> bool {
        self.octets + more <= LONGEST
    }

    /// Forgets what was kept of the element that is being read.
    fn pass_over(&mut self) -> Result<(), Unreadable> {
        self.passed += self.open.len().checked_sub(1).ok_or(Unreadable)?;
        self.open.truncate(1);
        Ok(())
    }

    fn take(&mut self, token: &Token<'_>) -> Result<Option<Heard>, Unreadable> {
        match token {
            Token::Declaration if self.open.is_empty() => Ok(None),
            Token::Declaration => Err(Unreadable),
            Token::Text(text) => self.text(|| Ok(xml::text(text)?)).map(|()| None),
            Token::Cdata(text) => {
                let text = || String::from_utf8(text.to_vec()).map_err(|_| Unreadable);
                self.text(text).map(|()| None)
            }
            Token::Tag(tag) => match tag.strip_prefix(b"</") {
                Some(end) => self.end(end),
                None => self.begin(tag),
            },
        }
    }

    /// Adds text to what is open. Between elements it keeps a connection alive.
    fn text(&mut self, text: impl FnOnce() -> Result<String, Unreadable>) -> Result<(), Unreadable> {
        match &mut self.open[..] {
            [_, .., (_, element)] if self.passed == 0 => element.text.push_str(&text()?),
            [_, _, ..] => {}
            _ => self.octets = 0,
        }
        Ok(())
    }

    fn begin(&mut self, octets: &[u8]) -> Result<Option<Heard>, Unreadable> {
        let is_empty = octets.ends_with(b"/>");
        if self.open.len() > LEVELS || self.passed > 0 || self.kept == MOST {
            self.passed += usize::from(!is_empty);
            return Ok(None);
        }
        let (written, element) = self.element(octets)?;
        if self.open.is_empty() {
            self.octets = 0;
            let opened = element.clone();
            self.open.push((written, element));
            return if is_empty { Err(Unreadable) } else { Ok(Some(Heard::Opened(opened))) };
        }
        self.kept += 1;
        self.open.push((written, element));
        if is_empty { self.close() } else { Ok(None) }
    }

    fn end(&mut self, name: &[u8]) -> Result<Option<Heard>, Unreadable> {
        if self.passed > 0 {
            self.passed -= 1;
            if self.passed == 0 && self.open.len() == 1 {
                (self.octets, self.kept) = (0, 0);
            }
            return Ok(None);
        }
        let name = name.strip_suffix(b">").unwrap_or(name).trim_ascii_end();
        match self.open.last() {
            Some((written, _)) if written.as_bytes() == name => self.close(),
            _ => Err(Unreadable),
        }
    }

    /// What was open last is whole.
    fn close(&mut self) -> Result<Option<Heard>, Unreadable> {
        let (_, element) = self.open.pop().ok_or(Unreadable)?;
        match &mut self.open[..] {
            [] => Ok(Some(Heard::Closed)),
            [_] => {
                (self.octets, self.kept) = (0, 0);
                Ok(Some(Heard::Whole(element)))
            }
            [.., (_, parent)] => {
                parent.children.push(element);
                Ok(None)
            }
        }
    }

    /// The element that begins here, and its name as it is written.
    fn element(&self, octets: &[u8]) -> Result<(String, Element), Unreadable> {
        let name = [start(octets), b">"].concat();
        let tag = xml::tag(if octets.len() <= LONGEST_TAG { octets } else { &name })?;
        let attributes = tag.attributes.into_iter().map(|attribute| (attribute.name, attribute.value)).collect();
        let (prefix, local) = tag.name.split_once(':').unwrap_or(("", &tag.name));
        let mut element = Element { name: local.to_owned(), attributes, ..Element::default() };
        let around = self.open.iter().rev().map(|(_, element)| element);
        let namespace = std::iter::once(&element).chain(around).find_map(|element| element.binds(prefix));
        element.namespace = namespace.unwrap_or_default().to_owned();
        Ok((tag.name, element))
    }
}

/// The first token and its length; none: it is not whole. Text that is not kept is whole wherever it ends.
fn token(octets: &[u8], is_kept: bool) -> Result<Option<(Token<'_>, usize)>, Unreadable> {
    const CDATA: &[u8] = b"<![CDATA[";
    let until = |end: &[u8]| octets.windows(end.len()).position(|window| window == end).map(|at| at + end.len());
    let found = match octets {
        [] | b"<" => None,
        [b'<', b'?', ..] => until(b"?>").map(|length| (Token::Declaration, length)),
        [b'<', b'!', ..] if octets.starts_with(CDATA) => {
            until(b"]]>").map(|length| (Token::Cdata(&octets[CDATA.len()..length - 3]), length))
        }
        [b'<', b'!', ..] if CDATA.starts_with(octets) => None,
        [b'<', b'!', ..] => return Err(Unreadable),
        [b'<', ..] => end_of_tag(octets).ok().map(|length| (Token::Tag(&octets[..length]), length)),
        // Blanks between elements are worth being taken at once.
        _ => match memchr::memchr(b'<', octets) {
            Some(length) => Some((Token::Text(&octets[..length]), length)),
            None if !is_kept || octets.trim_ascii().is_empty() => Some((Token::Text(octets), octets.len())),
            None => None,
        },
    };
    Ok(found)
}

/// Its length; else the quote that is open. A `>` within quotes is no end.
fn end_of_tag(octets: &[u8]) -> Result<usize, Option<u8>> {
    let mut quote = None;
    let end = octets.iter().position(|&octet| {
        match (quote, octet) {
            (None, b'"' | b'\'') => quote = Some(octet),
            (Some(open), _) if open == octet => quote = None,
            _ => {}
        }
        quote.is_none() && octet == b'>'
    });
    end.map(|at| at + 1).ok_or(quote)
}

/// A tag up to the end of its name.
fn start(tag: &[u8]) -> &[u8] {
    let end = tag.iter().position(|octet| b" \t\r\n/>".contains(octet));
    &tag[..end.unwrap_or(tag.len())]
}

/// What is not whole yet, as it is kept: of a tag that is too long to be read its name, blanks that make it as long, and how it goes on.
fn shortened(rest: &[u8]) -> Vec<u8> {
    let is_long_tag = rest.len() > 2 * LONGEST_TAG && rest[0] == b'<' && !b"!?".contains(&rest[1]);
    match (is_long_tag.then(|| end_of_tag(rest)), start(rest)) {
        (Some(Err(quote)), name) if name.len() < LONGEST_TAG => {
            let slash = if rest.ends_with(b"/") { b'/' } else { b' ' };
            [name, &[b' '; LONGEST_TAG], &[quote.unwrap_or(slash)]].concat()
        }
        _ => rest.to_vec(),
    }
}

#[cfg(test)]
pub(in crate::outband) mod tests {
    use super::*;

    const OPEN: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
        xmlns:stream='http://etherx.jabber.org/streams' id='a>b' version='1.0'>";

    fn opened() -> Reader {
        let mut reader = Reader::default();
        assert!(matches!(&reader.hear(OPEN.as_bytes()).unwrap()[..], [Heard::Opened(_)]));
        reader
    }

    /// The element of a stream of `jabber:client`.
    pub(in crate::outband) fn element(text: &str) -> Element {
        match opened().hear(text.as_bytes()).unwrap().pop() {
            Some(Heard::Whole(element)) => element,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_stream_is_read_however_it_comes() {
        let text = format!(
            "{OPEN} <stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism>\
             </mechanisms></stream:features>\n<message id = \"7\" from='a@b/&lt;c&gt;'><body>1 &lt; <![CDATA[2 & <3>]]></body\n>\
             </message></stream:stream>"
        );
        let mut whole = Reader::default();
        let heard = whole.hear(text.as_bytes()).unwrap();
        let [Heard::Opened(stream), Heard::Whole(features), Heard::Whole(message), Heard::Closed] = &heard[..] else {
            panic!("{heard:?}")
        };
        assert!(stream.is("stream", STREAMS));
        assert_eq!(stream.attribute("id"), Some("a>b"));
        assert!(features.is("features", STREAMS));
        let mechanisms = features.child("mechanisms", "urn:ietf:params:xml:ns:xmpp-sasl").unwrap();
        assert_eq!((&*mechanisms.children[0].name, &*mechanisms.children[0].text), ("mechanism", "PLAIN"));
        assert_eq!(mechanisms.children[0].namespace, mechanisms.namespace);
        assert!(message.is("message", "jabber:client"));
        assert_eq!((message.attribute("from"), message.attribute("id")), (Some("a@b/<c>"), Some("7")));
        assert_eq!(message.child("body", "jabber:client").unwrap().text, "1 < 2 & <3>");
        let mut octets = Reader::default();
        let one_by_one: Vec<Heard> = text.as_bytes().iter().flat_map(|octet| octets.hear(&[*octet]).unwrap()).collect();
        assert_eq!(one_by_one, heard);
    }

    #[test]
    fn what_is_no_stream_is_not_read() {
        for text in [
            "<a></b>",
            "<!-- x -->",
            "<!DOCTYPE a>",
            "<?x ?>",
            "<a>&nbsp;</a>",
            "<a b='1' b='2'/>",
            "<a b=1/>",
            "<a>\u{1}</a>",
            "</stream:stream></a>",
            "</a>",
        ] {
            assert_eq!(opened().hear(text.as_bytes()), Err(Unreadable), "{text}");
        }
        assert_eq!(opened().hear(b"<a>\xff</a>"), Err(Unreadable));
        assert_eq!(Reader::default().hear(b"<stream:stream/>"), Err(Unreadable));
    }

    #[test]
    fn of_what_strangers_send_little_is_kept() {
        let deep = element(&format!("<a>{}{}<b/></a>", "<x>".repeat(5000), "</x>".repeat(5000)));
        assert_eq!(deep.children[0].children[0].children, []);
        assert_eq!(deep.children[1].name, "b");
        let wide = element(&format!("<a>{}</a>", "<b/>".repeat(5000)));
        assert_eq!(wide.children.len(), MOST - 1);
        let long = element(&format!("<a b='{}' c='d'><e/></a>", "x".repeat(LONGEST_TAG)));
        assert_eq!((long.attributes.len(), long.children.len()), (0, 1));
    }

    #[test]
    fn an_element_has_a_longest_length_and_a_stream_has_none() {
        let mut reader = opened();
        let element = format!("<a>{}</a>", "x".repeat(LONGEST / 2));
        for _ in 0..3 {
            assert_eq!(reader.hear(element.as_bytes()).unwrap().len(), 1);
            assert_eq!(reader.hear(" ".repeat(LONGEST / 2).as_bytes()), Ok(vec![]));
        }
    }

    #[test]
    fn an_element_that_is_too_long_is_passed_over_and_the_next_is_heard() {
        let quotes = "&apos;".repeat(LONGEST / 3);
        for long in [
            format!("<a>{quotes}</a>"),
            format!("<a><b>x</b><c>{quotes}<d>{quotes}</d></c>{quotes}</a>"),
            "<a>".repeat(LONGEST) + &"</a>".repeat(LONGEST),
            "<a>".to_owned() + &"<b>x</b>".repeat(LONGEST) + "</a>",
        ] {
            let mut reader = opened();
            for piece in long.as_bytes().chunks(4096) {
                assert_eq!(reader.hear(piece), Ok(vec![]));
                assert!(reader.heard.len() <= LONGEST && reader.open.len() <= LEVELS + 1);
            }
            let [Heard::Whole(next)] = &reader.hear(b"<b>x</b>").unwrap()[..] else { panic!("the next one") };
            assert_eq!((&*next.name, &*next.text), ("b", "x"));
            assert_eq!(reader.hear(b"</stream:stream>"), Ok(vec![Heard::Closed]));
        }
    }

    #[test]
    fn a_long_tag_is_not_held_until_it_ends() {
        let value = "/>&apos;".repeat(LONGEST_TAG);
        for tag in
            [format!("<a b='{value}' c=\"'\"></a>"), format!("<a b='{value}'/>"), format!("<a b = \"'{value}\" />")]
        {
            for last in 1..12 {
                let (before, behind) = tag.as_bytes().split_at(tag.len() - last);
                let mut reader = opened();
                for piece in before.chunks(4096) {
                    assert_eq!(reader.hear(piece), Ok(vec![]));
                    assert!(reader.heard.len() <= 2 * LONGEST_TAG);
                }
                let [Heard::Whole(element)] = &reader.hear(behind).unwrap()[..] else { panic!("{last}") };
                assert_eq!((&*element.name, &element.attributes[..]), ("a", &[][..]));
                // All of it but this at once.
                let mut reader = opened();
                assert_eq!(reader.hear(before), Ok(vec![]));
                assert_eq!(reader.hear(behind).unwrap(), [Heard::Whole(element.clone())]);
            }
        }
        let name = vec![b'x'; LONGEST];
        assert_eq!(opened().hear(&[b"<", &name[..]].concat()), Err(Unreadable), "a name without an end");
    }
}
