//! A multimedia message, by way of an MMSC (MM7 of 3GPP TS 23.140: SOAP 1.1 with attachments, over HTTP).
//!
//!     POST /mm7 HTTP/1.1
//!     Authorization: Basic bWVtOmh1bnRlcjI=
//!     Content-Type: multipart/related; boundary="..."; type="text/xml"; start="<soap>"
//!     SOAPAction: ""
//!
//!     <Envelope> ... <SubmitReq> VASPID, VASID, <To><Number>447700900123</Number></To> ... <Content href="cid:content"/>
//!     Mail for joe@foo.com                                                        the part <content>: text for a person
//!
//!     200  <SubmitRsp><Status><StatusCode>1000</StatusCode>                       accepted
//!     500  <Fault> ... <RSErrorRsp><Status><StatusCode>2003</StatusCode>          nobody is called so
//!
//! A telephone shows an MMS to its owner, so that it is text. The transaction of the same notice is the same. Networks read along: this channel is
//! private where the operator says so. Numbers go without their `+`, as MMSCs have them. Requirements N9, N10, N20.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::{http, text};
use crate::{
    account::channel::Kind,
    imap::secret::Secret,
    outband::{
        channel::{Answer, Channel, Delivery, Given, NamedBy, Outcome, Request, Undeliverable},
        emn::timestamp,
        notice::Notice,
        xml,
    },
};

/// Where the schemas of MM7 are.
const SCHEMAS: &str = "http://www.3gpp.org/ftp/Specs/archive/23_series/23.140/schema/";
/// Octets of the hash that names a transaction.
const HASH: usize = 16;

/// The channel: a value added service of an MMSC.
#[derive(Clone, Debug)]
pub struct Mms {
    /// `https://mmsc.example.net/mm7`.
    pub url: String,
    /// Its user; none: it knows us by our address.
    pub user: Option<String>,
    /// The user's password.
    pub password: Secret,
    /// Who we are: the provider, ...
    pub vaspid: String,
    /// ... and its service.
    pub vasid: String,
    /// The version of MM7: `6.8.0`.
    pub version: String,
    /// Its schema: `REL-6-MM7-1-4`.
    pub schema: String,
    /// The subject of messages.
    pub subject: String,
    /// For how long the network may try.
    pub validity: Duration,
    /// The operator says that the network is private enough for EXTENDED.
    pub private: bool,
}

impl Channel for Mms {
    fn kind(&self) -> Kind {
        Kind::Mms
    }

    fn is_private(&self, _: &str) -> bool {
        self.private
    }

    fn write(&self, notice: &Notice, address: &str, given: &Given) -> Result<Delivery, Undeliverable> {
        Kind::Mms.check(address).map_err(|_| Undeliverable::Address)?;
        let expiry = timestamp(given.now + self.validity);
        let expiry = expiry.ok_or(Undeliverable::Ours("the clock of this machine is wrong"))?;
        let boundary: String = given.chance[..HASH].iter().map(|octet| format!("{octet:02x}")).collect();
        let part = |id: &str, kind: &str, body: &str| {
            format!("--{boundary}\r\nContent-Type: {kind}\r\nContent-ID: <{id}>\r\n\r\n{body}\r\n")
        };
        let body = [
            part("soap", "text/xml; charset=utf-8", &self.envelope(notice, address, &expiry)),
            part("content", "text/plain; charset=utf-8", &text::lines(notice).join("\r\n")),
            format!("--{boundary}--\r\n"),
        ]
        .concat()
        .into_bytes();
        let mut headers = vec![
            (
                "Content-Type",
                format!("multipart/related; boundary=\"{boundary}\"; type=\"text/xml\"; start=\"<soap>\""),
            ),
            ("SOAPAction", "\"\"".to_owned()),
        ];
        headers.extend(self.authorization().map(|value| ("Authorization", value)));
        Ok(Delivery::Http(Request { url: self.url.clone(), headers, body, named_by: NamedBy::Operator }))
    }

    /// What the MMSC says, and where it says nothing, what HTTP does: a fault comes with the status 500 (SOAP 1.1 section 6.2).
    fn judge(&self, answer: &Answer) -> Outcome {
        let code = match answer {
            Answer::Http { body, .. } => code(body),
            _ => None,
        };
        let retry_after = match answer {
            Answer::Http { retry_after, .. } => *retry_after,
            _ => None,
        };
        match code {
            Some(1000..=1999) => Outcome::Accepted,
            // Not an address, not found.
            Some(2002 | 2003) => Outcome::Dead,
            // The server, and a service that is not there now.
            Some(3000..=3999 | 4006) => Outcome::Later { after: retry_after },
            Some(_) => Outcome::Failed,
            None => http::judge(answer),
        }
    }
}

impl Mms {
    /// HTTP Basic (RFC 7617).
    fn authorization(&self) -> Option<String> {
        let user = self.user.as_ref()?;
        let whole = Zeroizing::new([user.as_bytes(), b":", self.password.expose()].concat());
        Some(format!("Basic {}", STANDARD.encode(&whole)))
    }

    fn envelope(&self, notice: &Notice, address: &str, expiry: &str) -> String {
        let schema = format!("{SCHEMAS}{}", self.schema);
        let transaction = transaction(notice, address);
        let recipient = match address.strip_prefix('+') {
            Some(digits) => element("Number", digits),
            None => element("RFC2822Address", address),
        };
        let priority = if notice.urgent { "High" } else { "Normal" };
        let identification = [element("VASPID", &self.vaspid), element("VASID", &self.vasid)].concat();
        // In the order of the schema.
        let request = [
            element("MM7Version", &self.version),
            format!("<SenderIdentification>{identification}</SenderIdentification>"),
            format!("<Recipients><To>{recipient}</To></Recipients>"),
            element("MessageClass", "Informational"),
            element("ExpiryDate", expiry),
            element("Priority", priority),
            element("Subject", &text::line(&self.subject)),
            "<Content allowAdaptations=\"false\" href=\"cid:content\"/>".to_owned(),
        ]
        .concat();
        let (mut head, mut body) = ("<TransactionID".to_owned(), "<SubmitReq".to_owned());
        xml::attribute("xmlns", &schema, &mut head);
        xml::attribute("xmlns", &schema, &mut body);
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
             <soap-env:Envelope xmlns:soap-env=\"http://schemas.xmlsoap.org/soap/envelope/\">\
             <soap-env:Header>{head} soap-env:mustUnderstand=\"1\">{transaction}</TransactionID></soap-env:Header>\
             <soap-env:Body>{body}>{request}</SubmitReq></soap-env:Body></soap-env:Envelope>"
        )
    }
}

fn element(name: &str, text: &str) -> String {
    let clean: String = text.chars().filter(|&character| xml::is_allowed(character)).collect();
    format!("<{name}>{}</{name}>", xml::escaped(&clean))
}

/// What the same notice to the same address is called, and no other: a hash of these, each behind its length.
fn transaction(notice: &Notice, address: &str) -> String {
    let (seq, at) = (notice.seq.to_be_bytes(), notice.at.as_nanos().to_be_bytes());
    let parts = [notice.account.as_bytes(), address.as_bytes(), &seq, &at];
    let whole: Vec<u8> =
        parts.iter().flat_map(|part| [&(part.len() as u64).to_be_bytes()[..], part].concat()).collect();
    digest(&SHA256, &whole).as_ref()[..HASH].iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The first StatusCode in an answer, whatever stands around it: with a prefix or without, in a SubmitRsp or a fault.
fn code(body: &[u8]) -> Option<u16> {
    const NAME: &[u8] = b"StatusCode";
    let begins = |at: &usize| at.checked_sub(1).is_some_and(|before| b"<:".contains(&body[before]));
    let at = memchr::memmem::find_iter(body, NAME).find(begins)?;
    let (_, text) = cut(&body[at + NAME.len()..], b'>')?;
    let (digits, _) = cut(text, b'<')?;
    let digits = str::from_utf8(digits.trim_ascii()).ok()?;
    Some(digits).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?.parse().ok()
}

/// What stands before this octet, and behind it.
fn cut(octets: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(at, octets)?;
    Some((&octets[..end], &octets[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outband::channels::{
        http::tests::{LATER, status},
        tests::{GIVEN, notice},
    };

    const NUMBER: &str = "+447700900123";

    fn mms() -> Mms {
        Mms {
            url: "https://mmsc.example.net/mm7".to_owned(),
            user: Some("mem".to_owned()),
            password: Secret::new(b"hunter2".to_vec()),
            vaspid: "mem".to_owned(),
            vasid: "emn".to_owned(),
            version: "6.8.0".to_owned(),
            schema: "REL-6-MM7-1-4".to_owned(),
            subject: "New mail".to_owned(),
            validity: Duration::from_secs(3600),
            private: false,
        }
    }

    fn request(channel: &Mms, notice: &Notice, address: &str) -> (Request, String) {
        match channel.write(notice, address, &GIVEN) {
            Ok(Delivery::Http(request)) => {
                let body = String::from_utf8(request.body.clone()).unwrap();
                (request, body)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_message_is_submitted_as_in_the_example() {
        let (request, body) = request(&mms(), &notice().wakeup(), NUMBER);
        // The example of the digest (section 3), on one line, and with what is optional.
        let envelope = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
            <soap-env:Envelope xmlns:soap-env=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap-env:Header>\
            <TransactionID xmlns=\"http://www.3gpp.org/ftp/Specs/archive/23_series/23.140/schema/REL-6-MM7-1-4\" \
            soap-env:mustUnderstand=\"1\">TRANSACTION</TransactionID></soap-env:Header><soap-env:Body>\
            <SubmitReq xmlns=\"http://www.3gpp.org/ftp/Specs/archive/23_series/23.140/schema/REL-6-MM7-1-4\">\
            <MM7Version>6.8.0</MM7Version>\
            <SenderIdentification><VASPID>mem</VASPID><VASID>emn</VASID></SenderIdentification>\
            <Recipients><To><Number>447700900123</Number></To></Recipients><MessageClass>Informational</MessageClass>\
            <ExpiryDate>2021-02-25T16:02:10Z</ExpiryDate><Priority>Normal</Priority><Subject>New mail</Subject>\
            <Content allowAdaptations=\"false\" href=\"cid:content\"/></SubmitReq></soap-env:Body></soap-env:Envelope>";
        let boundary = "07".repeat(16);
        let expected = format!(
            "--{boundary}\r\nContent-Type: text/xml; charset=utf-8\r\nContent-ID: <soap>\r\n\r\n{envelope}\r\n\
             --{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-ID: <content>\r\n\r\nMail for joe@foo.com\r\n\
             --{boundary}--\r\n"
        );
        assert_eq!(body, expected.replace("TRANSACTION", &transaction(&notice(), NUMBER)));
        let headers: Vec<_> = request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            headers,
            [
                &*format!(
                    "Content-Type: multipart/related; boundary=\"{boundary}\"; type=\"text/xml\"; start=\"<soap>\""
                ),
                "SOAPAction: \"\"",
                "Authorization: Basic bWVtOmh1bnRlcjI=",
            ]
        );
        assert_eq!((request.url.as_str(), request.named_by), ("https://mmsc.example.net/mm7", NamedBy::Operator));
        assert_eq!((mms().kind(), mms().is_private(NUMBER)), (Kind::Mms, false));
        assert!(Mms { private: true, ..mms() }.is_private(NUMBER));
    }

    #[test]
    fn what_there_is_and_for_whom_is_text() {
        let urgent = Notice { urgent: true, ..notice() };
        let channel = Mms { vasid: "<&>".to_owned(), user: None, ..mms() };
        let (request, body) = request(&channel, &urgent, "joe&x@example.org");
        let text =
            "\r\n\r\nJuliet <juliet@example.org> wrote: Contact me immediately!\r\nRomeo, where are you?\r\n--0707";
        for part in [
            "<RFC2822Address>joe&amp;x@example.org</RFC2822Address>",
            "<VASID>&lt;&amp;&gt;</VASID>",
            "<Priority>High<",
            text,
        ] {
            assert!(body.contains(part), "{part} in {body}");
        }
        assert!(request.headers.iter().all(|(name, _)| *name != "Authorization"));
        assert_eq!(mms().write(&notice(), "447700900123", &GIVEN), Err(Undeliverable::Address));
        assert!(!format!("{:?} {:?}", mms(), mms().write(&notice(), NUMBER, &GIVEN)).contains("hunter2"));
    }

    #[test]
    fn the_same_notice_is_the_same_transaction() {
        let first = transaction(&notice(), NUMBER);
        assert_eq!((transaction(&notice().wakeup(), NUMBER), first.len()), (first.clone(), 32));
        let others = [
            transaction(&Notice { seq: 8, ..notice() }, NUMBER),
            transaction(&Notice { account: "jo@foo.com".into(), ..notice() }, NUMBER),
            transaction(&notice(), "+447700900124"),
        ];
        assert!(!others.contains(&first));
    }

    #[test]
    fn what_an_mmsc_says_is_understood() {
        let said = |status: u16, code: &str| Answer::Http {
            status,
            retry_after: Some(Duration::from_secs(30)),
            body: format!(
                "<env:Envelope><env:Body><mm7:SubmitRsp><mm7:Status><mm7:StatusCode>{code}</mm7:StatusCode>\
                 <mm7:StatusText>\u{fc}</mm7:StatusText></mm7:Status></mm7:SubmitRsp></env:Body></env:Envelope>"
            )
            .into_bytes(),
        };
        for (answer, outcome) in [
            (said(200, "1000"), Outcome::Accepted),
            (said(200, " 1100\n"), Outcome::Accepted),
            (said(500, "2002"), Outcome::Dead),
            (said(200, "2003"), Outcome::Dead),
            (said(500, "2000"), Outcome::Failed),
            (said(500, "3000"), LATER),
            (said(200, "3002"), LATER),
            (said(500, "4000"), Outcome::Failed),
            (said(500, "4006"), LATER),
            (said(500, "9999"), Outcome::Failed),
            // Nothing that can be read: HTTP has the word.
            (said(200, "+1000"), Outcome::Accepted),
            (said(200, "100000"), Outcome::Accepted),
            (said(500, ""), LATER),
            (status(503), LATER),
            (status(401), Outcome::Failed),
            (Answer::Silence, Outcome::Later { after: None }),
        ] {
            assert_eq!(mms().judge(&answer), outcome, "{answer:?}");
        }
        // An answer that is long is cut, perhaps within a character.
        assert_eq!(code(b"<StatusCode>1000</StatusCode><StatusText>\xc3"), Some(1000));
        for body in [
            &b"StatusCode>1000<"[..],
            b"<StatusCode",
            b"<StatusCode>1000",
            b"<StatusCode>1 000<",
            b"<StatusCode>\xff</StatusCode>",
            b"",
        ] {
            assert_eq!(code(body), None);
        }
    }
}
