//! The payloads of source document 001 section 9.1: EMN 1.0 of the OMA wakes a device, XEMN tells it what there is.
//!
//!     EMN     <emn mailbox="mailat:joe@foo.com" timestamp="2004-02-20T06:40:00Z"/>
//!     WBXML   03 0D 6A 00 85 07 03 "joe@foo.com" 00 05 C3 06 20 04 02 20 06 40 01         the same
//!     XEMN    <xemn mailbox="mailat:joe@foo.com" timestamp="2004-02-20T06:40:00Z" event="MessageNew" view="INBOX"
//!              sequence-id="7" uid="18" sender="Juliet &lt;juliet@example.org&gt;" subject="Contact me!">Romeo, ...</xemn>
//!
//! XEMN has neither a DOCTYPE nor a binary form: the document's DTD is no XML, and nobody has given out tokens. What is written is
//! always the same for the same notice; [`read`] takes all that the three forms allow. Requirements N9, N10.

mod wbxml;

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime};

use super::{
    notice::{Notice, cut},
    xml::{self, XmlError},
};
use crate::imap::mailbox_name;

/// The longest payload that is read, in octets: eight times what a datagram carries.
pub const LONGEST: usize = 4096;

/// The longest sender and subject, in octets.
const HEADING: usize = 100;
/// The longest snippet, in octets.
const SNIPPET: usize = 200;
/// The longest name of a view, in octets.
const VIEW: usize = 200;
/// The year 10000, in seconds since 1970: four digits end here.
const END: u64 = 253_402_300_800;

/// An EMN: somebody should look into this mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emn {
    /// The account as a URI: `mailat:joe@foo.com`, or another that says where to fetch.
    pub mailbox: String,
    /// When it happened, since 1970, in whole seconds.
    pub timestamp: Option<Duration>,
}

/// An XEMN: the same, and what there is. Text has the characters that XML allows, and no others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Xemn {
    /// As in an EMN.
    pub mailbox: String,
    /// As in an EMN.
    pub timestamp: Option<Duration>,
    /// What happened, by its name in RFC 5423 or a vendor's.
    pub event: Option<String>,
    /// The mailbox, or the view, as people read it.
    pub view: Option<String>,
    /// The number of the notice.
    pub sequence_id: Option<u64>,
    /// The UID of the message.
    pub uid: Option<u32>,
    /// Who sent it: name and address.
    pub sender: Option<String>,
    /// When it was sent, since 1970, in whole seconds.
    pub datetime: Option<Duration>,
    /// Its subject.
    pub subject: Option<String>,
    /// The beginning of its text, or any other text that may be shown.
    pub text: String,
}

/// A payload that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// An EMN, in either form.
    Emn(Emn),
    /// An XEMN.
    Xemn(Xemn),
}

/// What is wrong with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at octet {at}")]
pub struct EmnError {
    /// What should have been there.
    pub expected: &'static str,
    /// Where, counted in octets from 0.
    pub at: usize,
}

impl From<XmlError> for EmnError {
    fn from(error: XmlError) -> Self {
        Self { expected: error.expected, at: error.at }
    }
}

/// Reads a payload of any form, of at most [`LONGEST`] octets.
pub fn read(octets: &[u8]) -> Result<Payload, EmnError> {
    if octets.len() > LONGEST {
        return Err(EmnError { expected: "the end", at: LONGEST });
    }
    match octets {
        // A document of WBXML begins with its version; these are no characters of XML.
        [1..=3, ..] => wbxml::read(octets).map(Payload::Emn),
        _ => Payload::of(xml::read(octets)?),
    }
}

impl Emn {
    /// What of a notice an EMN says.
    pub fn of(notice: &Notice) -> Self {
        Self { mailbox: mailbox(notice), timestamp: whole(notice.at) }
    }

    /// The element alone: what a text message carries.
    pub fn element(&self) -> String {
        let mut out = String::from("<emn");
        xml::attribute("mailbox", &self.mailbox, &mut out);
        if let Some(at) = self.timestamp.and_then(timestamp) {
            xml::attribute("timestamp", &at, &mut out);
        }
        out + "/>"
    }

    /// The document, of the type `text/vnd.wap.emn+xml`.
    pub fn xml(&self) -> String {
        const PROLOG: &str = concat!(
            "<?xml version=\"1.0\"?>\n",
            "<!DOCTYPE emn PUBLIC \"-//WAPFORUM//DTD EMN 1.0//EN\" \"http://www.wapforum.org/DTD/emn.dtd\">\n"
        );
        format!("{PROLOG}{}", self.element())
    }

    /// The binary form, of the type `application/vnd.wap.emn+wbxml`.
    pub fn wbxml(&self) -> Vec<u8> {
        wbxml::write(self)
    }
}

impl Xemn {
    /// What of a notice an XEMN says.
    pub fn of(notice: &Notice) -> Self {
        let message = notice.message.clone().unwrap_or_default();
        let heading = |text: Option<&str>| text.map(|text| cut(&clean(text), HEADING));
        let sender = match (message.name.as_deref(), message.from.as_deref()) {
            (Some(name), Some(from)) => Some(format!("{name} <{from}>")),
            (name, from) => name.or(from).map(str::to_owned),
        };
        Self {
            mailbox: mailbox(notice),
            timestamp: whole(notice.at),
            event: Some(notice.event_name()),
            // A name that is cut is the name of another mailbox; none: it concerns the whole account.
            view: Some(clean(&mailbox_name::as_people_read(&notice.mailbox)))
                .filter(|it| (1..=VIEW).contains(&it.len())),
            sequence_id: Some(notice.seq),
            uid: notice.message.as_ref().map(|message| message.uid),
            sender: heading(sender.as_deref()),
            datetime: message.sent.and_then(whole),
            subject: heading(message.subject.as_deref()),
            text: cut(&clean(notice.code.as_deref().or(message.snippet.as_deref()).unwrap_or_default()), SNIPPET),
        }
    }

    /// The element. Its text is cut further where the whole would be longer than so many octets, and left out where even that is too
    /// long; attributes are not, so that it may still be longer.
    pub fn xml(&self, room: usize) -> String {
        const CLOSED: &str = "/>";
        const END: &str = "</xemn>";
        // A text shorter than this says nothing.
        const SHORTEST: usize = 16;
        let mut out = String::from("<xemn");
        let numbers = (self.sequence_id.map(|id| id.to_string()), self.uid.map(|uid| uid.to_string()));
        let times = (self.timestamp.and_then(timestamp), self.datetime.and_then(timestamp));
        let attributes = [
            ("mailbox", Some(&self.mailbox)),
            ("timestamp", times.0.as_ref()),
            ("event", self.event.as_ref()),
            ("view", self.view.as_ref()),
            ("sequence-id", numbers.0.as_ref()),
            ("uid", numbers.1.as_ref()),
            ("sender", self.sender.as_ref()),
            ("datetime", times.1.as_ref()),
            ("subject", self.subject.as_ref()),
        ];
        for (name, value) in attributes {
            if let Some(value) = value {
                xml::attribute(name, value, &mut out);
            }
        }
        let left = room.saturating_sub(out.len() + ">".len() + END.len());
        let whole = Some(xml::escaped(&self.text)).filter(|text| text.len() <= left);
        let shorter = |octets| Some(xml::escaped(&cut(&self.text, octets))).filter(|text| text.len() <= left);
        let text = whole.or_else(|| (SHORTEST..self.text.len()).rev().find_map(shorter));
        match text.filter(|text| !text.is_empty()) {
            Some(text) => format!("{out}>{text}{END}"),
            None => out + CLOSED,
        }
    }
}

impl Payload {
    fn of(element: xml::Element) -> Result<Self, EmnError> {
        let value = |name: &str| element.attributes.iter().find(|attribute| attribute.name == name);
        let text = |name: &str| value(name).map(|attribute| attribute.value.clone());
        let time = |name: &str| value(name).map(|attribute| moment(&attribute.value, attribute.at)).transpose();
        let mailbox = text("mailbox").ok_or(EmnError { expected: "the attribute mailbox", at: element.at })?;
        let timestamp = time("timestamp")?;
        if element.name == "emn" {
            return Ok(Self::Emn(Emn { mailbox, timestamp }));
        }
        if element.name != "xemn" {
            return Err(EmnError { expected: "emn or xemn", at: element.at });
        }
        Ok(Self::Xemn(Xemn {
            mailbox,
            timestamp,
            // The document's own example calls it so.
            event: text("event").map(|name| if name == "New Message" { "MessageNew".to_owned() } else { name }),
            view: text("view"),
            sequence_id: value("sequence-id").map(number).transpose()?,
            uid: value("uid").map(number).transpose()?,
            sender: text("sender"),
            datetime: time("datetime")?,
            subject: text("subject"),
            text: element.text,
        }))
    }
}

/// The account, never the folder.
fn mailbox(notice: &Notice) -> String {
    format!("mailat:{}", clean(&notice.account))
}

/// Text without what XML has no way to say.
fn clean(text: &str) -> String {
    text.chars().filter(|&character| xml::is_allowed(character)).collect()
}

/// A moment in whole seconds, where four digits write its year.
fn whole(at: Duration) -> Option<Duration> {
    Some(Duration::from_secs(at.as_secs())).filter(|at| at.as_secs() < END)
}

/// A moment as it is written: `2004-02-20T06:40:00Z`. None from the year 10000 on.
pub fn timestamp(at: Duration) -> Option<String> {
    let at = DateTime::from_timestamp(i64::try_from(whole(at)?.as_secs()).ok()?, 0)?;
    Some(at.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// The other way round. Offsets and fractions are none of EMN's.
fn moment(text: &str, at: usize) -> Result<Duration, EmnError> {
    let whole = Some(text).filter(|text| text.len() == "2004-02-20T06:40:00Z".len());
    let parsed = whole.and_then(|text| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%SZ").ok());
    let seconds = parsed.and_then(|parsed| u64::try_from(parsed.and_utc().timestamp()).ok());
    seconds.map(Duration::from_secs).ok_or(EmnError { expected: "a time of 1970 or later: 2004-02-20T06:40:00Z", at })
}

fn number<T: std::str::FromStr>(attribute: &xml::Attribute) -> Result<T, EmnError> {
    let error = EmnError { expected: "a number", at: attribute.at };
    let digits = attribute.value.bytes().all(|octet| octet.is_ascii_digit());
    attribute.value.parse().ok().filter(|_| digits).ok_or(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{mailbox::event, outband::notice::Message};

    /// 2004-02-20T06:40:00Z.
    const AT: Duration = Duration::from_secs(1_077_259_200);

    fn notice() -> Notice {
        Notice {
            account: "joe@foo.com".into(),
            seq: 7,
            at: AT + Duration::from_millis(250),
            event: event::Kind::MessageNew,
            mailbox: b"INBOX".as_slice().into(),
            uidvalidity: Some(385_759_045),
            counts: Default::default(),
            message: Some(Message {
                uid: 18,
                from: Some("juliet@example.org".into()),
                name: Some("Juliet".into()),
                subject: Some("Contact me immediately!".into()),
                sent: Some(AT - Duration::from_secs(3)),
                snippet: Some("Romeo, where are you?".into()),
                id: None,
            }),
            urgent: false,
            code: None,
        }
    }

    fn emn(mailbox: &str, timestamp: Option<&str>) -> Payload {
        let timestamp = timestamp.map(|text| moment(text, 0).unwrap());
        Payload::Emn(Emn { mailbox: mailbox.to_owned(), timestamp })
    }

    fn octets(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|octet| !octet.is_ascii_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    const TEXT: &str = "<emn mailbox=\"mailat:joe@foo.com\" timestamp=\"2004-02-20T06:40:00Z\"/>";
    const BINARY: &str = "03 0D 6A 00 85 07 03 6A6F6540666F6F2E636F6D 00 05 C3 06 200402200640 01";
    const LARGE: &str = "<xemn mailbox=\"mailat:joe@foo.com\" timestamp=\"2004-02-20T06:40:00Z\" event=\"MessageNew\" \
        view=\"INBOX\" sequence-id=\"7\" uid=\"18\" sender=\"Juliet &lt;juliet@example.org&gt;\" \
        datetime=\"2004-02-20T06:39:57Z\" subject=\"Contact me immediately!\">Romeo, where are you?</xemn>";

    #[test]
    fn a_notice_is_written_as_the_examples_are() {
        let small = Emn::of(&notice());
        assert_eq!(small.element(), TEXT);
        assert_eq!(small.element().len(), 68);
        assert_eq!(small.wbxml(), octets(BINARY));
        let document = "<?xml version=\"1.0\"?>\n<!DOCTYPE emn PUBLIC \"-//WAPFORUM//DTD EMN 1.0//EN\" \
            \"http://www.wapforum.org/DTD/emn.dtd\">\n";
        assert_eq!(small.xml(), format!("{document}{TEXT}"));
        assert_eq!(Xemn::of(&notice()).xml(LONGEST), LARGE);
        assert_eq!(LARGE.len(), 262);
    }

    #[test]
    fn what_libwbxml_writes_is_read() {
        let table = [
            (
                "03 0D 6A 00 85 07 03 6A6F6540666F6F 00 85 05 C3 06 200402200640 01",
                "mailat:joe@foo.com",
                "2004-02-20T06:40:00Z",
            ),
            (
                "03 0D 6A 00 85 09 03 6A6F65406D61696C2E666F6F 00 85 03 2F494E424F58 00 05 C3 04 20261122 01",
                "imap://joe@mail.foo.com/INBOX",
                "2026-11-22T00:00:00Z",
            ),
            (
                "03 0D 6A 00 85 08 03 6A6F6540706F702E6578616D706C65 00 85 05 C3 07 20261122180559 01",
                "pop://joe@pop.example.com",
                "2026-11-22T18:05:59Z",
            ),
            (
                "03 0D 6A 00 85 0B 03 666F6F 00 85 03 2F6D61696C 00 05 C3 06 202611221805 01",
                "http://www.foo.com/mail",
                "2026-11-22T18:05:00Z",
            ),
        ];
        for (hex, mailbox, timestamp) in table {
            assert_eq!(read(&octets(hex)), Ok(emn(mailbox, Some(timestamp))), "{hex}");
        }
        let untimed = "03 0D 6A 00 85 07 03 757365724078 00 88 01";
        assert_eq!(read(&octets(untimed)), Ok(emn("mailat:user@x.org", None)));
    }

    #[test]
    fn other_writers_may_write_otherwise() {
        let known = emn("mailat:joe@foo.com", Some("2004-02-20T06:40:00Z"));
        let joe = "6A6F6540666F6F2E636F6D";
        for hex in [
            // Older versions, and US-ASCII.
            format!("01 0D 6A 00 85 07 03 {joe} 00 05 C3 06 200402200640 01"),
            format!("02 0D 03 00 85 07 03 {joe} 00 05 C3 06 200402200640 01"),
            // The other order, and zeros that are not cut.
            format!("03 0D 6A 00 85 05 C3 07 20040220064000 07 03 {joe} 00 01"),
            // An element with blank text: it is closed twice.
            format!("03 0D 6A 00 C5 07 03 {joe} 00 05 C3 06 200402200640 01 03 20 00 01"),
            // The whole URI inline, and one that stands in the string table.
            format!("03 0D 6A 00 85 06 03 6D61696C61743A {joe} 00 05 C3 06 200402200640 01"),
            format!("03 0D 6A 0E 78 00 {joe} 00 85 07 83 02 05 C3 06 200402200640 01"),
            // An attribute that nobody knows, by its name in the string table.
            format!("03 0D 6A 02 78 00 85 04 00 03 79 00 07 03 {joe} 00 05 C3 06 200402200640 01"),
            // An @ as an entity, and a time as text.
            "03 0D 6A 00 85 07 03 6A6F65 00 02 40 03 666F6F 00 85 05 03 323030342D30322D32305430363A34303A30305A 00 01"
                .to_owned(),
        ] {
            assert_eq!(read(&octets(&hex)), Ok(known.clone()), "{hex}");
        }
        for text in [
            "<emn\n mailbox=\"mailat:joe@foo.com\"\n timestamp=\"2004-02-20T06:40:00Z\">\n </emn>",
            "\u{feff}<?xml version='1.0' encoding='UTF-8'?><!-- x --><emn timestamp = '2004-02-20T06:40:00Z' lang=\"de\" \
             mailbox='mailat:joe&#64;foo&#x2e;com' />\r\n",
        ] {
            assert_eq!(read(text.as_bytes()), Ok(known.clone()), "{text}");
        }
        let Ok(Payload::Xemn(read)) = read(b"<xemn mailbox=\"mailat:joe@foo.com\" event=\"New Message\" x=\"y\"/>")
        else {
            panic!("the example of 9.1")
        };
        assert_eq!(read.event.as_deref(), Some("MessageNew"));
    }

    #[test]
    fn what_is_wrong_is_said_and_where() {
        let binary = |hex: &str| read(&octets(hex)).unwrap_err().to_string();
        assert_eq!(binary("03 01 6A 00 85 01"), "expected the public identifier of EMN (0D) at octet 1");
        assert_eq!(binary("03 0D 04 00 85 01"), "expected UTF-8 or US-ASCII at octet 2");
        assert_eq!(binary("03 0D 6A 00 86 01"), "expected the tag emn (85) at octet 4");
        assert_eq!(binary("03 0D 6A 00 85 01"), "expected the attribute mailbox at octet 5");
        assert_eq!(binary("03 0D 6A 00 85 07 03 6A"), "expected the end of a string at octet 8");
        assert_eq!(binary("03 0D 6A 00 85 07 83 05"), "expected a place in the string table at octet 7");
        assert_eq!(binary("03 0D 6A 00 85 05 C3 03 200402 01"), "expected a time of 4 to 7 octets at octet 7");
        assert_eq!(
            binary("03 0D 6A 00 85 05 C3 04 2004023F 01"),
            "expected a time of 1970 or later: 2004-02-20T06:40:00Z at octet 7"
        );
        assert_eq!(binary("03 0D 6A FF FF FF FF FF 01"), "expected a number of 32 bits at octet 3");
        assert_eq!(binary("03 0D 6A 00 85 07 03 78 00 07 03 78 00 01"), "expected each attribute once at octet 9");
        assert_eq!(binary("03 0D 6A 00 85 07 03 78 00 01 01"), "expected the end at octet 10");
        let text = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(text(""), "expected an element at octet 0");
        assert_eq!(text("<emn/>"), "expected the attribute mailbox at octet 1");
        assert_eq!(text("<si mailbox='x'/>"), "expected emn or xemn at octet 1");
        assert_eq!(text("<emn mailbox=x/>"), "expected a quoted value at octet 13");
        assert_eq!(text("<emn mailbox='x' mailbox='y'/>"), "expected each attribute once at octet 17");
        assert_eq!(text("<emn mailbox='&nbsp;'/>"), "expected a reference that XML knows at octet 14");
        assert_eq!(text("<emn mailbox='&#0;'/>"), "expected a reference that XML knows at octet 14");
        assert_eq!(text("<emn mailbox='a\u{1}'/>"), "expected a character that XML allows at octet 15");
        assert_eq!(text("<emn mailbox='x'>"), "expected </ at octet 17");
        assert_eq!(text("<emn mailbox='x'/> <emn"), "expected the end at octet 19");
        assert_eq!(
            text("<emn mailbox='x' timestamp='2004-02-20T06:40:00+01:00'/>").split(" at ").last(),
            Some("octet 28")
        );
        assert_eq!(text("<xemn mailbox='x' uid='+1'/>"), "expected a number at octet 23");
        assert_eq!(
            text("<!DOCTYPE emn [<!ENTITY a 'b'>]><emn mailbox='&a;'/>"),
            "expected a DOCTYPE without declarations at octet 14"
        );
        assert_eq!(read(b"<emn mailbox='\xff'/>").unwrap_err().to_string(), "expected UTF-8 at octet 14");
        assert_eq!(read(&[b' '; LONGEST + 1]).unwrap_err().to_string(), "expected the end at octet 4096");
    }

    #[test]
    fn text_is_escaped_and_what_xml_cannot_say_is_left_out() {
        let mut notice = notice();
        notice.account = "a&b\0@x.org".into();
        notice.mailbox = b"Entw&APw-rfe".as_slice().into();
        let message = notice.message.as_mut().unwrap();
        message.name = None;
        message.subject = Some("<\"Tom\"\t&\u{7}\u{ffff} Jerry>\r\n".into());
        message.snippet = Some("1 < 2 && \"3\" > 2\r\n".into());
        let written = Xemn::of(&notice).xml(LONGEST);
        assert!(written.contains("mailbox=\"mailat:a&amp;b@x.org\""), "{written}");
        assert!(written.contains("view=\"Entwürfe\""), "{written}");
        assert!(written.contains("sender=\"juliet@example.org\""), "{written}");
        assert!(written.contains("subject=\"&lt;&quot;Tom&quot;&#9;&amp; Jerry&gt;&#13;&#10;\""), "{written}");
        assert!(written.ends_with(">1 &lt; 2 &amp;&amp; \"3\" &gt; 2&#13;\n</xemn>"), "{written}");
        assert_eq!(read(written.as_bytes()), Ok(Payload::Xemn(Xemn::of(&notice))));
        // Inside an inline string nothing is escaped.
        assert!(Emn::of(&notice).wbxml().windows(9).any(|run| run == b"a&b@x.org"));
    }

    #[test]
    fn long_text_is_cut_and_a_long_view_left_out() {
        let mut notice = notice();
        notice.mailbox = b"x".repeat(VIEW + 1).into();
        let message = notice.message.as_mut().unwrap();
        message.subject = Some("ü".repeat(80).into());
        message.snippet = Some("é".repeat(300).into());
        message.sent = Some(Duration::from_secs(END));
        let large = Xemn::of(&notice);
        assert_eq!((large.view.clone(), large.datetime), (None, None));
        assert_eq!(large.subject.as_ref().map(String::len), Some(99));
        assert_eq!((large.text.len(), large.text.ends_with('\u{2026}')), (199, true));
        // The snippet gives way first; attributes never do.
        let whole = large.xml(LONGEST);
        let shorter = large.xml(whole.len() - 50);
        assert!(shorter.len() <= whole.len() - 50 && shorter.contains("\u{2026}</xemn>"), "{shorter}");
        let without = large.xml(whole.len() - large.text.len());
        assert!(without.ends_with("\"/>") && large.xml(0) == without, "{without}");
    }
}
