//! SIP MESSAGE: what telephones of the house, and some of networks, show as a short message (RFC 3428, RFC 6468).
//!
//!     MESSAGE sip:romeo@example.com SIP/2.0                     the address: sip:romeo@example.com;method=MESSAGE
//!     Priority: normal                                          urgent news: urgent
//!     Date: Sat, 13 Nov 2010 23:29:00 GMT
//!     Expires: 3600                                             who stores it lets it die then
//!     Content-Type: text/plain;charset=UTF-8
//!
//!     <juliet@example.com> wrote: Contact me immediately!       EXTENDED: sender and subject, and nothing of the text (RFC 6468 section 2.5)
//!     Mail for romeo@example.com                                WAKEUP
//!
//! What a person reads is the default: text/plain is the one thing that all have to take (RFC 3428 section 7), and hardly any telephone knows
//! an EMN. Where the operator knows better, WAKEUP is an EMN in its binary form and EXTENDED an XEMN. Text gives way to the 1300 octets of a
//! request. There is no Subject: few show it, and the text says it. A SIPS address is private, every hop is TLS; any other is where the
//! operator says that nobody listens. Requirements N9, N10, N20, S1, S3.

use std::time::Duration;

use chrono::DateTime;
use serde::{Deserialize, Serialize};

use crate::{
    account::channel::Kind,
    outband::{
        channel::{Answer, Channel, Delivery, Given, Outcome, Undeliverable},
        emn::{Emn, Xemn},
        notice::{Notice, cut},
        sip::{message::Message, uri::Uri},
    },
};

/// The longest sender, in octets.
const SENDER: usize = 100;
/// A text that has to be cut to less says nothing, in octets.
const SHORTEST: usize = 16;

/// The channel.
#[derive(Clone, Debug)]
pub struct Sip {
    /// Who we are.
    pub from: Uri,
    /// What stands in a message.
    pub body: Body,
    /// Whether nobody listens on the way, whatever the address.
    pub private: bool,
    /// Whether challenges are answered, for which there has to be room in a request.
    pub answers: bool,
    /// How long a message that is stored on the way is worth something.
    pub lifetime: Duration,
}

/// What stands in a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Body {
    /// Text for a person.
    #[default]
    Text,
    /// EMN and XEMN for a program.
    Emn,
}

impl Channel for Sip {
    fn kind(&self) -> Kind {
        Kind::Sip
    }

    fn is_private(&self, address: &str) -> bool {
        self.private || address.parse().is_ok_and(|uri: Uri| uri.is_secure())
    }

    fn write(&self, notice: &Notice, address: &str, given: &Given) -> Result<Delivery, Undeliverable> {
        Kind::Sip.check(address).map_err(|_| Undeliverable::Address)?;
        let to = address.parse().map_err(|_| Undeliverable::Address)?;
        let says = notice.message.is_some() || notice.code.is_some();
        let content = match (self.body, says) {
            (Body::Text, _) => "text/plain;charset=UTF-8",
            (Body::Emn, false) => "application/vnd.wap.emn+wbxml",
            (Body::Emn, true) => "application/vnd.lemonade.xemn+xml",
        };
        let headers = vec![
            // RFC 6468 section 2.4; nothing is an emergency.
            ("Priority", if notice.urgent { "urgent" } else { "normal" }.to_owned()),
            ("Date", date(given.now).ok_or(Undeliverable::Ours("the clock of this machine is wrong"))?),
            ("Expires", self.lifetime.as_secs().to_string()),
            ("Content-Type", content.to_owned()),
        ];
        let mut message = Message { to, from: self.from.clone(), headers, body: Vec::new(), chance: given.chance };
        let room = message.room(self.answers);
        message.body = match (self.body, says) {
            (Body::Text, _) => text(notice, room)?,
            (Body::Emn, false) => Emn::of(notice).wbxml(),
            (Body::Emn, true) => Xemn::of(notice).xml(room).into_bytes(),
        };
        if message.body.len() <= room { Ok(Delivery::Sip(message)) } else { Err(Undeliverable::TooLarge) }
    }

    /// The table of the digest of notifications, 4.2.
    fn judge(&self, answer: &Answer) -> Outcome {
        match answer {
            Answer::Sip { status, retry_after } => match status {
                // RFC 3428 section 7: others have only taken it in.
                200 => Outcome::Delivered,
                201..=299 => Outcome::Accepted,
                // Not found, gone, does not exist anywhere.
                404 | 410 | 604 => Outcome::Dead,
                // Timeout, not there, busy here and everywhere, and what is wrong with the server.
                408 | 480 | 486 | 500 | 502..=504 | 600 => Outcome::Later { after: *retry_after },
                // Too large, not this type, not this; 513 is ours, too.
                413 | 415 | 488 | 513 => Outcome::TooLarge,
                _ => Outcome::Failed,
            },
            Answer::Silence | Answer::Unreachable => Outcome::Later { after: None },
            Answer::Sent => Outcome::Accepted,
            Answer::Acknowledged => Outcome::Delivered,
            Answer::Forbidden => Outcome::Dead,
            _ => Outcome::Failed,
        }
    }
}

/// What a person reads, in so many octets.
fn text(notice: &Notice, room: usize) -> Result<Vec<u8>, Undeliverable> {
    let whole = match (super::text::question(notice), &notice.message) {
        (Some(question), _) => question,
        (None, None) => format!("Mail for {}", notice.account),
        (None, Some(message)) => {
            let address = message.from.as_ref().map(|address| format!("<{address}>"));
            let parts: Vec<&str> = [message.name.as_deref(), address.as_deref()].into_iter().flatten().collect();
            let sender = if parts.is_empty() { "Somebody".to_owned() } else { cut(&parts.join(" "), SENDER) };
            match &message.subject {
                Some(subject) => format!("{sender} wrote: {subject}"),
                None => format!("{sender} wrote"),
            }
        }
    };
    // A line stays one, whatever a subject has in it.
    let line = whole.replace(char::is_control, " ");
    if room < line.len().min(SHORTEST) { Err(Undeliverable::TooLarge) } else { Ok(cut(&line, room).into_bytes()) }
}

/// RFC 3261 section 20.17.
fn date(now: Duration) -> Option<String> {
    let date = DateTime::from_timestamp(i64::try_from(now.as_secs()).ok()?, 0)?;
    Some(date.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outband::{
        channels::tests::{GIVEN, notice},
        emn::{self, Payload},
        notice,
        sip::{exchange::Exchange, message::LONGEST, uri::Transport},
    };

    const ADDRESS: &str = "sip:romeo@example.com;method=MESSAGE";

    fn sip() -> Sip {
        Sip {
            from: "sip:notifier@example.com".parse().unwrap(),
            body: Body::Text,
            private: false,
            answers: true,
            lifetime: Duration::from_secs(3600),
        }
    }

    fn message(channel: &Sip, notice: &Notice, address: &str) -> Message {
        match channel.write(notice, address, &GIVEN) {
            Ok(Delivery::Sip(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    fn said(notice: &Notice) -> String {
        String::from_utf8(message(&sip(), notice, ADDRESS).body).unwrap()
    }

    /// The notice, with another message.
    fn with(message: notice::Message) -> Notice {
        Notice { message: Some(message), ..notice() }
    }

    #[test]
    fn rfc_6468_3_1() {
        let message = notice::Message {
            from: Some("juliet@example.com".into()),
            subject: Some("Contact me immediately!".into()),
            ..notice::Message::default()
        };
        let given = Given { now: Duration::from_secs(1_289_690_940), chance: [0xab; 64] };
        let Ok(Delivery::Sip(sent)) = sip().write(&with(message), ADDRESS, &given) else { panic!("a message") };
        let request = Exchange::new(&sent, None).request(Transport::Tcp, "192.0.2.1:5060").unwrap().octets;
        let expected = "MESSAGE sip:romeo@example.com SIP/2.0\r\n\
                        Via: SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bKabababababababababababababababab1\r\n\
                        Max-Forwards: 70\r\n\
                        From: <sip:notifier@example.com>;tag=abababababababab\r\n\
                        To: <sip:romeo@example.com>\r\n\
                        Call-ID: abababababababababababababababab\r\n\
                        CSeq: 1 MESSAGE\r\n\
                        Priority: normal\r\n\
                        Date: Sat, 13 Nov 2010 23:29:00 GMT\r\n\
                        Expires: 3600\r\n\
                        Content-Type: text/plain;charset=UTF-8\r\n\
                        Content-Length: 51\r\n\r\n\
                        <juliet@example.com> wrote: Contact me immediately!";
        assert_eq!(String::from_utf8(request).unwrap(), expected);
    }

    #[test]
    fn a_person_reads_who_wrote_what() {
        assert_eq!(said(&notice()), "Juliet <juliet@example.org> wrote: Contact me immediately!");
        assert_eq!(said(&notice().wakeup()), "Mail for joe@foo.com");
        let of = |from: Option<&str>, subject: Option<&str>| {
            said(&with(notice::Message {
                from: from.map(Box::from),
                subject: subject.map(Box::from),
                ..Default::default()
            }))
        };
        assert_eq!(of(None, None), "Somebody wrote");
        assert_eq!(of(Some("a@b"), None), "<a@b> wrote");
        assert_eq!(of(Some("a@b"), Some("x\r\n\u{1b}[31my")), "<a@b> wrote: x   [31my");
    }

    #[test]
    fn urgent_news_say_so() {
        let sent = message(&sip(), &Notice { urgent: true, ..notice() }, ADDRESS);
        assert_eq!(sent.headers[0], ("Priority", "urgent".to_owned()));
    }

    #[test]
    fn a_program_reads_emn_and_xemn() {
        let channel = Sip { body: Body::Emn, ..sip() };
        let woken = message(&channel, &notice().wakeup(), ADDRESS);
        assert_eq!(emn::read(&woken.body), Ok(Payload::Emn(Emn::of(&notice()))));
        assert_eq!(woken.headers[3], ("Content-Type", "application/vnd.wap.emn+wbxml".to_owned()));
        let told = message(&channel, &notice(), ADDRESS);
        assert_eq!(emn::read(&told.body), Ok(Payload::Xemn(Xemn::of(&notice()))));
        assert_eq!(told.headers[3], ("Content-Type", "application/vnd.lemonade.xemn+xml".to_owned()));
    }

    #[test]
    fn a_request_never_has_more_than_1300_octets() {
        let mut large = notice();
        let message = large.message.as_mut().unwrap();
        message.subject = Some("ü".repeat(5000).into());
        message.name = Some("n".repeat(5000).into());
        message.snippet = Some("s".repeat(5000).into());
        // The longest user who is told what there is, with the text or the XEMN cut as far as that goes.
        for (body, answers, longest) in
            [(Body::Text, true, 131), (Body::Text, false, 419), (Body::Emn, true, 6), (Body::Emn, false, 232)]
        {
            for len in 1..600 {
                let address = format!("sip:{}@example.com", "u".repeat(len));
                match (Sip { body, answers, ..sip() }).write(&large, &address, &GIVEN) {
                    Ok(Delivery::Sip(sent)) => {
                        let request = Exchange::new(&sent, None).request(Transport::Udp, "127.0.0.1:5060");
                        assert!(request.is_some_and(|sent| sent.octets.len() <= LONGEST));
                        assert!(sent.body.len() >= SHORTEST && len <= longest, "{body:?} {answers} {len}");
                    }
                    other => {
                        assert!(other == Err(Undeliverable::TooLarge) && len > longest, "{body:?} {answers} {len}")
                    }
                }
            }
        }
        let long = format!("sip:{}@example.com", "u".repeat(600));
        for notice in [large.wakeup(), large] {
            assert_eq!(sip().write(&notice, &long, &GIVEN), Err(Undeliverable::TooLarge));
        }
    }

    #[test]
    fn an_address_that_is_none_is_told() {
        for address in
            ["romeo@example.com", "sip:example.com", "sip:a@b;method=INVITE", "sip:a@b;maddr=127.0.0.1", "sip:a<b>@c"]
        {
            assert_eq!(sip().write(&notice(), address, &GIVEN), Err(Undeliverable::Address), "{address}");
        }
    }

    #[test]
    fn sips_is_private_and_what_the_operator_says() {
        let (open, house) = (sip(), Sip { private: true, ..sip() });
        assert!(open.is_private("sips:romeo@example.com") && !open.is_private(ADDRESS) && !open.is_private("sips:"));
        assert!(house.is_private(ADDRESS));
        assert_eq!(open.kind(), Kind::Sip);
    }

    #[test]
    fn the_answer_says_what_has_become_of_it() {
        let pause = Some(Duration::from_secs(30));
        let later = Outcome::Later { after: pause };
        for (statuses, outcome) in [
            (&[200][..], Outcome::Delivered),
            (&[202, 204], Outcome::Accepted),
            (&[404, 410, 604], Outcome::Dead),
            (&[408, 480, 486, 500, 502, 503, 504, 600], later),
            (&[413, 415, 488, 513], Outcome::TooLarge),
            (&[300, 302, 400, 401, 403, 405, 407, 420, 481, 501, 603, 606], Outcome::Failed),
        ] {
            for status in statuses {
                let answer = Answer::Sip { status: *status, retry_after: pause };
                assert_eq!(sip().judge(&answer), outcome, "{status}");
            }
        }
        for (answer, outcome) in [
            (Answer::Silence, Outcome::Later { after: None }),
            (Answer::Unreachable, Outcome::Later { after: None }),
            (Answer::Forbidden, Outcome::Dead),
        ] {
            assert_eq!(sip().judge(&answer), outcome, "{answer:?}");
        }
    }

    #[test]
    fn what_counts_is_what_is_said() {
        let sent = sip().write(&notice().wakeup(), ADDRESS, &GIVEN).unwrap();
        assert_eq!(sent.octets(), "Mail for joe@foo.com".len() as u32);
    }
}
