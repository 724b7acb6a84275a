//! SMS by way of an SMSC, the network's own door (SMPP 3.4).
//!
//!     SMS=WAKEUP      0605040b8423f0 010606...           a WAP push, in up to four messages (`outband::wap`)
//!     SMS=EXTENDED    Juliet: Contact me immediately!    text, for people; where the operator wants that
//!     SMS=EXTENDED    06050400 8f0000 4d454d31...        XEMN under the key of a mail program, at port 143
//!     a code          49001731 confirms this address...  text
//!
//! Text is one message, and is cut to it: 160 characters that ASCII and the network's alphabet have at the same place, or else 70 of UCS-2.
//! Networks read along. Whether that is good enough for what a text says is for the operator to know, so that this channel is private where he
//! has said that it carries text. Requirements N9, N10, N20.

use crate::{
    account::channel::{Kind, Telephone},
    outband::{
        channel::{Answer, Channel, Coding, Delivery, Given, Outcome, ShortMessages, Undeliverable},
        notice::{Message, Notice},
        smpp::status,
        wap,
    },
};

/// The channel. Who we are to the SMSC its carrier knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Smpp {
    /// EXTENDED goes as text.
    pub text: bool,
}

impl Channel for Smpp {
    fn kind(&self) -> Kind {
        Kind::Sms
    }

    fn is_private(&self, address: &str) -> bool {
        self.text || Telephone::parse(address).is_some_and(|to| to.key.is_some())
    }

    fn write(&self, notice: &Notice, address: &str, given: &Given) -> Result<Delivery, Undeliverable> {
        let telephone = Telephone::parse(address).ok_or(Undeliverable::Address)?;
        let to = telephone.number.to_owned();
        let extended = notice.message.as_ref().filter(|_| self.text && telephone.key.is_none()).map(text);
        Ok(Delivery::ShortMessages(match super::text::question(notice).or(extended) {
            Some(text) => {
                let (coding, octets) = written(&text);
                ShortMessages { to, parts: vec![octets], have_header: false, coding }
            }
            None => {
                let (header, content) = wap::content(notice, &telephone, given)?;
                let parts = wap::parts(header, &content, given.chance[0]);
                ShortMessages { to, parts, have_header: true, coding: Coding::Octets }
            }
        }))
    }

    fn judge(&self, answer: &Answer) -> Outcome {
        match answer {
            Answer::Smpp { status } => status::judge(*status),
            Answer::Acknowledged => Outcome::Delivered,
            Answer::Sent => Outcome::Accepted,
            Answer::Forbidden => Outcome::Dead,
            _ => Outcome::Later { after: None },
        }
    }
}

/// What a person reads: who, what about, and how it begins.
fn text(message: &Message) -> String {
    let who = message.name.as_deref().or(message.from.as_deref());
    let heading: Vec<_> = [who, message.subject.as_deref()].into_iter().flatten().collect();
    let heading = heading.join(": ");
    let lines: Vec<_> = [Some(heading.as_str()), message.snippet.as_deref()].into_iter().flatten().collect();
    let clean = |line: &&str| line.replace(char::is_control, " ").trim().to_owned();
    lines.iter().map(clean).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The text in the smaller of two alphabets that has all of it.
fn written(text: &str) -> (Coding, Vec<u8>) {
    if text.chars().all(is_shared) {
        return (Coding::Text, cut(text, 160, |_| 1, "...").into_bytes());
    }
    let cut = cut(text, 70, char::len_utf16, "\u{2026}");
    (Coding::Ucs2, cut.encode_utf16().flat_map(u16::to_be_bytes).collect())
}

/// Whether ASCII and the default alphabet (3GPP TS 23.038 section 6.2.1) have the character at the same place. `$`, `@` and `_` stand elsewhere,
/// and brackets behind an escape.
fn is_shared(character: char) -> bool {
    matches!(character, '\n' | ' '..='#' | '%'..='?' | 'A'..='Z' | 'a'..='z')
}

/// The text, cut so that it does not take more than this; where something is cut, it ends with the mark.
fn cut(text: &str, most: usize, takes: fn(char) -> usize, mark: &str) -> String {
    let length = |text: &str| text.chars().map(takes).sum::<usize>();
    if length(text) <= most {
        return text.to_owned();
    }
    let mut left = most - length(mark);
    let fits = |character: &char| {
        let rest = left.checked_sub(takes(*character));
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    text.chars().take_while(fits).chain(mark.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outband::channels::tests::{GIVEN, notice};

    const NUMBER: &str = "+447700900123";
    const SEALED: &str = "+447700900123;port=143|a1b2c3d4:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn sent(text: bool, notice: &Notice) -> ShortMessages {
        match (Smpp { text }).write(notice, NUMBER, &GIVEN) {
            Ok(Delivery::ShortMessages(messages)) => messages,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_telephone_is_woken_by_a_wap_push_in_one_message() {
        let messages = sent(false, &notice());
        // The example of the digest (2.1), with the whole host inline.
        let user_data = concat!(
            "0605040b8423f0",
            "01060603",
            "02030aaf89",
            "030d6a008507036a6f6540666f6f2e636f6d0005c30620040220064001"
        );
        let hex: Vec<String> =
            messages.parts.iter().map(|part| part.iter().map(|octet| format!("{octet:02x}")).collect()).collect();
        assert_eq!(hex, [user_data]);
        assert_eq!((messages.to.as_str(), messages.have_header, messages.coding), (NUMBER, true, Coding::Octets));
        assert_eq!(Delivery::ShortMessages(messages).octets(), 45);
        assert!(!Smpp::default().is_private(NUMBER) && Smpp { text: true }.is_private(NUMBER));
        assert!(Smpp::default().is_private(SEALED));
        assert_eq!(Smpp::default().kind(), Kind::Sms);
    }

    #[test]
    fn a_long_account_takes_several_and_a_longer_one_none() {
        let long = |len: usize| Notice { account: "x".repeat(len).into(), ..notice() };
        let messages = sent(false, &long(200));
        assert_eq!(messages.parts.len(), 2);
        // The number of what belongs together is chance.
        assert_eq!(messages.parts[0][..12], [0x0b, 5, 4, 0x0b, 0x84, 0x23, 0xf0, 0, 3, GIVEN.chance[0], 2, 1]);
        assert_eq!(Delivery::ShortMessages(messages).octets(), 200 + 27 + 2 * 12);
        assert_eq!(sent(false, &long(470)).parts.len(), 4);
        assert_eq!(Smpp::default().write(&long(500), NUMBER, &GIVEN), Err(Undeliverable::TooLarge));
        assert_eq!(Smpp::default().write(&notice(), "447700900123", &GIVEN), Err(Undeliverable::Address));
    }

    #[test]
    fn text_says_who_and_what_about() {
        let messages = sent(true, &notice());
        assert_eq!(messages.coding, Coding::Text);
        assert!(!messages.have_header);
        assert_eq!(messages.parts, [b"Juliet: Contact me immediately!\nRomeo, where are you?"]);
        // 53 septets.
        assert_eq!(Delivery::ShortMessages(messages).octets(), 47);
        // WAKEUP is for the program even so, and EXTENDED where nobody wants text.
        assert!(sent(true, &notice().wakeup()).have_header && sent(false, &notice()).have_header);
    }

    #[test]
    fn text_is_one_message_in_the_smaller_alphabet() {
        let written = |text: &str| {
            let (coding, octets) = written(text);
            (coding, octets.len())
        };
        let of = |text: &str, times: usize| text.repeat(times);
        for (text, expected) in [
            (of("a", 160), (Coding::Text, 160)),
            (of("a", 161), (Coding::Text, 160)),
            ("joe@foo.com".to_owned(), (Coding::Ucs2, 22)),
            (of("\u{fc}", 70), (Coding::Ucs2, 140)),
            (of("\u{fc}", 71), (Coding::Ucs2, 140)),
            // Two units each: none is cut in half.
            (of("\u{1f37b}", 35), (Coding::Ucs2, 140)),
            (of("\u{1f37b}", 36), (Coding::Ucs2, 138)),
            (String::new(), (Coding::Text, 0)),
        ] {
            assert_eq!(written(&text), expected, "{text}");
        }
        assert!(super::written(&of("a", 161)).1.ends_with(b"a..."));
        assert_eq!(super::written("\u{e4}b"), (Coding::Ucs2, vec![0, 0xe4, 0, b'b']));
    }

    #[test]
    fn characters_that_steer_are_not_passed_on() {
        let message = Message {
            name: Some("Ju\r\nliet".into()),
            subject: Some("\u{1b}[2J".into()),
            snippet: Some(" \u{0} ".into()),
            ..Message::default()
        };
        assert_eq!(text(&message), "Ju  liet:  [2J");
        assert_eq!(text(&Message::default()), "");
    }

    #[test]
    fn number_and_content_do_not_print() {
        let shown = format!("{:?}", sent(true, &notice()));
        assert_eq!(shown, "ShortMessages(1 of Text, 47 octets)");
    }

    #[test]
    fn without_an_answer_of_the_network_it_is_tried_again() {
        for answer in [Answer::Silence, Answer::Unreachable] {
            assert_eq!(Smpp::default().judge(&answer), Outcome::Later { after: None });
        }
        assert_eq!(Smpp::default().judge(&Answer::Smpp { status: 0 }), Outcome::Accepted);
    }
}
