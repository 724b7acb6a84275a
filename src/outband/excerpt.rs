//! What is said of a message: sender, subject and the beginning of its text, decoded (RFC 2045, 2047, 2822).
//!
//!     From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>     ->   name "Jürgen", from "j@example.org"
//!     Content-Type: text/html; quoted-printable          ->   its text, in one line
//!
//! Only the beginning of the message is there, and somebody who may mean harm has written it: whatever cannot be read is left out. How
//! much of it is said is up to each channel. Requirement N10.

use std::{borrow::Cow, time::Duration};

use mail_parser::{Address, MessageParser, MessagePart, PartType, decoders::html::html_to_text};

use super::notice::{self, Message};

/// Octets of text: more is shown nowhere.
const LONGEST: usize = 512;

/// What is said of a message that begins so.
pub fn message(uid: u32, head: &[u8]) -> Message {
    let unknown = Message { uid, ..Message::default() };
    let Some(parsed) = MessageParser::default().parse(head) else { return unknown };
    let sender = parsed.from().and_then(Address::first);
    let text = |text: &str| Some(line(text)).filter(|text| !text.is_empty()).map(String::into_boxed_str);
    Message {
        from: sender.and_then(|sender| text(sender.address()?)),
        name: sender.and_then(|sender| text(sender.name()?)),
        subject: parsed.subject().and_then(text),
        sent: parsed.date().and_then(|date| u64::try_from(date.to_timestamp()).ok()).map(Duration::from_secs),
        snippet: body(&parsed).and_then(|body| text(&body)),
        id: parsed.message_id().and_then(|id| text(&format!("<{id}>"))),
        ..unknown
    }
}

/// The text; of a part that does not end here, as far as it goes.
fn body<'a>(parsed: &'a mail_parser::Message<'_>) -> Option<Cow<'a, str>> {
    let read = |part: &'a MessagePart<'_>| match &part.body {
        PartType::Text(text) => Some(Cow::Borrowed(&**text)),
        PartType::Html(html) => Some(html_to_text(html).into()),
        _ => None,
    };
    parsed.body_text(0).or_else(|| parsed.parts.iter().find_map(read))
}

/// The text as one line of at most so many octets: no control character reaches a screen, and none a header.
fn line(text: &str) -> String {
    let blank = |character: char| character.is_whitespace() || character.is_control();
    // A text that is cut here has more than enough behind it.
    let end = text.floor_char_boundary(text.len().min(8 * LONGEST));
    let words: Vec<&str> = text[..end].split(blank).filter(|word| !word.is_empty()).collect();
    notice::cut(&words.join(" "), LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(head: &str) -> [Option<Box<str>>; 4] {
        let Message { from, name, subject, snippet, .. } = message(18, head.as_bytes());
        [from, name, subject, snippet]
    }

    fn some<const N: usize>(texts: [&str; N]) -> [Option<Box<str>>; N] {
        texts.map(|text| (!text.is_empty()).then(|| text.into()))
    }

    #[test]
    fn a_message_is_decoded() {
        let head = "From: =?utf-8?q?J=C3=BCrgen?= <j@example.org>\r\nSubject: =?iso-8859-1?Q?Gr=FC=DFe?=\r\n\
                    Date: Fri, 20 Feb 2004 06:39:57 +0000\r\nMessage-ID: <a@b>\r\nMIME-Version: 1.0\r\n\
                    Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
                    <p>Wo bist=\r\n du?</p>\r\n<p>Sch=C3=B6n</p>";
        assert_eq!(said(head), some(["j@example.org", "Jürgen", "Grüße", "Wo bist du? Schön"]));
        let message = message(18, head.as_bytes());
        assert_eq!((message.sent, message.id.as_deref()), (Some(Duration::from_secs(1_077_259_197)), Some("<a@b>")));
    }

    #[test]
    fn what_is_cut_off_or_missing_is_left_out() {
        assert_eq!(said(""), some(["", "", "", ""]));
        assert_eq!(said("Subject: hello\r\n"), some(["", "", "hello", ""]));
        let head = "From: <j@example.org>\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nRomeo, where";
        assert_eq!(said(head), some(["j@example.org", "", "", "Romeo, where"]));
    }

    #[test]
    fn a_line_is_a_line_and_has_an_end() {
        assert_eq!(line(" a\r\nBcc: x\t\u{7}b\u{2028}c "), "a Bcc: x b c");
        assert!(line(&"ü ".repeat(5000)).len() <= LONGEST);
    }

    #[test]
    fn any_octets_do_no_harm() {
        let mut state = 7u64;
        for length in 0..2000 {
            let octets: Vec<u8> = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    b"From: \r\n=?utf-8?q?;boundary=\"--\xff\0"[(state >> 33) as usize % 33]
                })
                .collect();
            message(1, &octets);
        }
    }
}
