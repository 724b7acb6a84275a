//! A mail to somewhere else (RFC 5436, as far as a notice is one that Sieve would send).
//!
//!     MAIL FROM:<>                                              nobody answers it
//!     RCPT TO:<joe@phone.example>
//!
//!     Auto-Submitted: auto-notified; owner-token=5f3c...        no mail system notifies of it (RFC 3834)
//!     From: <mem@foo.com>
//!     To: <joe@phone.example>
//!     Subject: New mail for joe@foo.com                         or, EXTENDED, the subject of the message itself
//!     Date: Thu, 25 Feb 2021 15:02:10 +0000
//!     Message-ID: <7.9c41...@foo.com>                           the same for the same notice: who gets it twice knows
//!
//! No loop begins here: the envelope has no sender, which section 2.7 asks for where the message had none, and nobody here knows; and the
//! account itself is no address of its own. Messages with an Auto-Submitted of their own are to be left out where notices are made, which sees
//! them. What was submitted is not submitted again (section 2.7): an answer that was lost behind the message counts for one. Text of others
//! goes into a header by RFC 2047, or as it is where it is one line of ASCII; so it adds no header. Mail is read by those who carry it: this
//! channel is private where an operator says so. The token of the owner is made of the account: who has to find him makes it of each account
//! that there is. Requirements N10, N20.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::DateTime;

use super::text;
use crate::{
    account::channel::Kind,
    imap::mailbox_name,
    outband::{
        channel::{Answer, Channel, Delivery, Given, Mail, Outcome, Undeliverable},
        notice::{Notice, cut},
    },
};

/// The longest subject and name, in octets before they are encoded.
const HEADING: usize = 200;
/// The longest beginning of a text, in octets.
const SNIPPET: usize = 1000;
/// The longest address (RFC 5321 section 4.5.3.1.3), in octets.
const ADDRESS: usize = 254;
/// Octets of the hashes in a header.
const HASH: usize = 16;

/// The channel.
#[derive(Clone, Debug)]
pub struct Mailto {
    /// From whom mails are: an address of the operator's.
    pub from: String,
    /// The operator says that mail is private enough for EXTENDED.
    pub private: bool,
}

impl Channel for Mailto {
    fn kind(&self) -> Kind {
        Kind::Mailto
    }

    fn is_private(&self, _: &str) -> bool {
        self.private
    }

    fn write(&self, notice: &Notice, address: &str, given: &Given) -> Result<Delivery, Undeliverable> {
        Kind::Mailto.check(address).map_err(|_| Undeliverable::Address)?;
        let to = address.strip_prefix("mailto:").unwrap_or(address);
        if !is_plain(to) || to.eq_ignore_ascii_case(&notice.account) {
            return Err(Undeliverable::Address);
        }
        if !is_plain(&self.from) {
            return Err(Undeliverable::Ours("the sender of notifications by mail has to be a plain address"));
        }
        let message =
            self.message(notice, to, given.now).ok_or(Undeliverable::Ours("the clock of this machine is wrong"))?;
        Ok(Delivery::Mail(Mail { to: to.to_owned(), message }))
    }

    fn judge(&self, answer: &Answer) -> Outcome {
        match answer {
            // RFC 3463 sections 3.2 and 3.3: no such mailbox, no such system, no such address, moved without a word, disabled; RFC 7505.
            Answer::Smtp { code: 500.., status: Some((5, 1, 1 | 2 | 3 | 6 | 10) | (5, 2, 1)) } => Outcome::Dead,
            // The mailbox is full, and may be emptied.
            Answer::Smtp { code: 500.., status: Some((5, 2, 2)) } => Outcome::Later { after: None },
            // RFC 3463 sections 3.3 and 3.4: too long for the mailbox, too big for the system.
            Answer::Smtp { code: 552, .. } | Answer::Smtp { code: 500.., status: Some((5, 2, 3) | (5, 3, 4)) } => {
                Outcome::TooLarge
            }
            Answer::Smtp { code: 200..=299, .. } | Answer::Sent => Outcome::Accepted,
            // A refusal that does not say of the address that it is none may be about us: whoever sends, from where, how much.
            Answer::Smtp { code: 500.., .. } => Outcome::Failed,
            Answer::Acknowledged => Outcome::Delivered,
            Answer::Forbidden => Outcome::Dead,
            _ => Outcome::Later { after: None },
        }
    }
}

impl Mailto {
    /// The message; none where the hour is no date.
    fn message(&self, notice: &Notice, to: &str, now: Duration) -> Option<String> {
        let host = self.from.rsplit_once('@').map_or("localhost", |(_, host)| host);
        let token = hash(&[b"owner", host.as_bytes(), notice.account.as_bytes()]);
        let (seq, at) = (notice.seq.to_be_bytes(), notice.at.as_nanos().to_be_bytes());
        let id = hash(&[b"notice", notice.account.as_bytes(), to.as_bytes(), &seq, &at]);
        let message = notice.message.as_ref();
        let subject = match (&notice.code, message) {
            (Some(code), _) => format!("Confirm this address: {code}"),
            (None, Some(message)) => message.subject.as_deref().unwrap_or_default().to_owned(),
            (None, None) => format!("New mail for {}", notice.account),
        };
        let mut headers = vec![
            ("Auto-Submitted", format!("auto-notified; owner-token={token}")),
            ("From", format!("<{}>", self.from)),
            ("To", format!("<{to}>")),
            ("Subject", unstructured(&cut(&subject, HEADING))),
            ("Date", date(now)?),
            ("Message-ID", format!("<{}.{id}@{host}>", notice.seq)),
        ];
        headers.extend(
            message
                .and_then(|message| message.id.as_deref())
                .filter(|id| is_id(id))
                .map(|id| ("References", id.to_owned())),
        );
        headers.extend([
            ("MIME-Version", "1.0".to_owned()),
            ("Content-Type", "text/plain; charset=utf-8".to_owned()),
            ("Content-Transfer-Encoding", "base64".to_owned()),
        ]);
        let head: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        Some(format!("{head}\r\n{}", body(&content(notice))))
    }
}

/// What a person reads.
fn content(notice: &Notice) -> String {
    if let Some(question) = text::question(notice) {
        return question + "\r\n";
    }
    let mailbox = mailbox_name::as_people_read(&notice.mailbox);
    let mut lines = vec![format!("{}: {:?} in {}", notice.account, notice.event, mailbox)];
    if let Some(message) = &notice.message {
        let from = match (message.name.as_deref(), message.from.as_deref()) {
            (Some(name), Some(from)) => format!("{} <{from}>", cut(name, HEADING)),
            (name, from) => name.or(from).unwrap_or_default().to_owned(),
        };
        lines.push(format!("From: {from}"));
        lines.push(format!("Subject: {}", cut(message.subject.as_deref().unwrap_or_default(), HEADING)));
        lines.push(cut(message.snippet.as_deref().unwrap_or_default(), SNIPPET));
    }
    if let Some(unseen) = notice.counts.unseen {
        lines.push(format!("Unseen: {unseen}"));
    }
    lines.iter().map(|line| line.replace(char::is_control, " ") + "\r\n").collect()
}

/// Text in lines of 76 characters (RFC 2045 section 6.8).
fn body(text: &str) -> String {
    let encoded = STANDARD.encode(text);
    encoded.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line) + "\r\n").collect()
}

/// Text as the value of a Subject: as it is where it is a short line of ASCII, else in encoded-words, a line each.
fn unstructured(text: &str) -> String {
    /// Octets of UTF-8 in a word. A line with one has at most 76 characters (RFC 2047 section 2): `Subject: ` takes 9, `=?UTF-8?B?` and `?=` 12,
    /// these 52 in base64.
    const WORD: usize = 39;
    let is_plain = text.len() <= 60 && text.bytes().all(|octet| (b' '..=b'~').contains(&octet));
    if is_plain && !text.contains("=?") && text.trim() == text {
        return text.to_owned();
    }
    let (mut rest, mut words) = (text, Vec::new());
    while !rest.is_empty() {
        let (word, behind) = rest.split_at(rest.floor_char_boundary(WORD));
        words.push(format!("=?UTF-8?B?{}?=", STANDARD.encode(word)));
        rest = behind;
    }
    words.join("\r\n ")
}

/// RFC 5322 section 3.3, in UTC.
fn date(now: Duration) -> Option<String> {
    let seconds = i64::try_from(now.as_secs()).ok()?;
    // Years of four digits.
    let moment = DateTime::from_timestamp(seconds, 0).filter(|_| seconds < 253_402_300_800)?;
    Some(moment.format("%a, %d %b %Y %H:%M:%S +0000").to_string())
}

/// A dot-atom and a name of a host (RFC 5322 section 3.2.3): nothing that means something in a header or in SMTP.
fn is_plain(address: &str) -> bool {
    let is_atom = |text: &str| {
        let is_part = |part: &str| !part.is_empty() && part.bytes().all(is_atext);
        text.split('.').all(is_part)
    };
    let parts = address.rsplit_once('@');
    address.len() <= ADDRESS && parts.is_some_and(|(local, host)| local.len() <= 64 && is_atom(local) && is_atom(host))
}

fn is_atext(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&octet)
}

/// Whether a Message-ID of somebody else's may stand in our header.
fn is_id(id: &str) -> bool {
    let inside = id.strip_prefix('<').and_then(|id| id.strip_suffix('>'));
    inside.is_some_and(|inside| inside.len() <= 250 && is_plain_id(inside))
}

fn is_plain_id(inside: &str) -> bool {
    inside.contains('@') && inside.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'<' && octet != b'>')
}

/// A hash of these, of which none passes into the next.
fn hash(parts: &[&[u8]]) -> String {
    let whole: Vec<u8> =
        parts.iter().flat_map(|part| [&(part.len() as u64).to_be_bytes()[..], part].concat()).collect();
    digest(&SHA256, &whole).as_ref()[..HASH].iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outband::channels::tests::{GIVEN, notice};

    const ADDRESS: &str = "joe@phone.example";

    fn mailto() -> Mailto {
        Mailto { from: "mem@foo.com".to_owned(), private: false }
    }

    fn mail(notice: &Notice, address: &str) -> Mail {
        match mailto().write(notice, address, &GIVEN) {
            Ok(Delivery::Mail(mail)) => mail,
            other => panic!("{other:?}"),
        }
    }

    /// Headers, and the body decoded.
    fn read(message: &str) -> (Vec<&str>, String) {
        let (head, body) = message.split_once("\r\n\r\n").unwrap();
        let body = STANDARD.decode(body.replace("\r\n", "")).unwrap();
        (head.split("\r\n").collect(), String::from_utf8(body).unwrap())
    }

    #[test]
    fn a_wakeup_is_a_mail_that_says_for_whom_there_is_news() {
        let mail = mail(&notice().wakeup(), ADDRESS);
        assert_eq!(mail.to, ADDRESS);
        let (head, body) = read(&mail.message);
        assert_eq!(
            head,
            [
                // sha256 over "owner", "foo.com" and "joe@foo.com", each behind its length in 8 octets.
                "Auto-Submitted: auto-notified; owner-token=ea9b4794c1401d418db5c0de6a15e05e",
                "From: <mem@foo.com>",
                "To: <joe@phone.example>",
                "Subject: New mail for joe@foo.com",
                "Date: Thu, 25 Feb 2021 15:02:10 +0000",
                "Message-ID: <7.5bc95d78718ea34b22cb40710931b92d@foo.com>",
                "MIME-Version: 1.0",
                "Content-Type: text/plain; charset=utf-8",
                "Content-Transfer-Encoding: base64",
            ]
        );
        assert_eq!(body, "joe@foo.com: MessageNew in Entw\u{fc}rfe\r\nUnseen: 299\r\n");
        assert_eq!((mailto().kind(), mailto().is_private(ADDRESS)), (Kind::Mailto, false));
        assert!(Mailto { private: true, ..mailto() }.is_private(ADDRESS));
    }

    #[test]
    fn extended_says_what_the_message_is() {
        let mail = mail(&notice(), "mailto:joe@phone.example");
        let (head, body) = read(&mail.message);
        assert_eq!(mail.to, ADDRESS);
        assert_eq!((head[3], head[6]), ("Subject: Contact me immediately!", "References: <a@b>"));
        assert_eq!(
            body,
            "joe@foo.com: MessageNew in Entw\u{fc}rfe\r\nFrom: Juliet <juliet@example.org>\r\nSubject: Contact me immediately!\r\n\
             Romeo, where are you?\r\nUnseen: 299\r\n"
        );
    }

    #[test]
    fn the_same_notice_is_the_same_mail_and_another_is_not() {
        let id = |notice: &Notice, address: &str| {
            read(&mail(notice, address).message)
                .0
                .iter()
                .find(|line| line.starts_with("Message-ID"))
                .map(|line| line.to_string())
        };
        let same = id(&notice(), ADDRESS);
        assert_eq!(same, id(&notice(), ADDRESS));
        let other = Notice { seq: 8, ..notice() };
        let later = Notice { at: notice().at + Duration::from_secs(1), ..notice() };
        for another in [id(&other, ADDRESS), id(&later, ADDRESS), id(&notice(), "joe@other.example")] {
            assert_ne!(same, another);
        }
    }

    #[test]
    fn nothing_that_others_write_is_a_header_of_its_own() {
        let mut evil = notice();
        evil.account = "joe\r\nBcc: all@foo.com\r\n\r\nhello".into();
        evil.mailbox = b"IN\r\nBOX".as_slice().into();
        let message = evil.message.as_mut().unwrap();
        message.subject = Some("Hi\r\nBcc: all@foo.com\r\n\r\nhello".into());
        message.id = Some("<a@b>\r\nBcc: all@foo.com".into());
        message.name = Some("J\u{0}\r\n.\r\nQUIT".into());
        for notice in [evil.clone(), evil.wakeup()] {
            let mail = mail(&notice, ADDRESS);
            let (head, body) = read(&mail.message);
            assert!(head.len() >= 9 && !mail.message.to_ascii_lowercase().contains("bcc"), "{}", mail.message);
            assert!(body.lines().all(|line| line != "." && !line.starts_with("Bcc")));
            assert!(
                mail.message.split("\r\n").all(|line| !line.contains(['\r', '\n']) && line.len() <= 200 && line != ".")
            );
            assert!(mail.message.is_ascii());
        }
        let long = Notice { account: "x".repeat(10_000).into(), ..notice().wakeup() };
        assert!(mail(&long, ADDRESS).message.split("\r\n").all(|line| line.len() <= 200));
    }

    #[test]
    fn an_address_has_no_meaning_of_its_own() {
        for address in [
            "a>,<b@phone.example",
            "\"a b\"@phone.example",
            "a(b)@phone.example",
            "a:b@phone.example",
            "a..b@phone.example",
            ".a@phone.example",
            "joe@phone.example?cc=all",
            "joe@[192.0.2.1]",
            "joe",
            // The account itself: it would notify of its own notifications.
            "Joe@Foo.com",
            "mailto:joe@foo.com",
        ] {
            assert_eq!(mailto().write(&notice(), address, &GIVEN), Err(Undeliverable::Address), "{address}");
        }
        for address in ["joe+phone@phone.example", "o'neill=x@phone.example"] {
            assert_eq!(mail(&notice(), address).to, address);
        }
        let ours = Mailto { from: "Mail <mem@foo.com>".to_owned(), ..mailto() };
        assert!(matches!(ours.write(&notice(), ADDRESS, &GIVEN), Err(Undeliverable::Ours(_))));
        let long = format!("joe@{}.example", "x".repeat(250));
        assert_eq!(mailto().write(&notice(), &long, &GIVEN), Err(Undeliverable::Address));
    }

    #[test]
    fn a_subject_that_is_no_short_ascii_is_encoded() {
        for (text, header) in [
            ("Contact me", "Contact me"),
            ("", ""),
            // RFC 2047 section 2: a word that is plain and looks encoded would be decoded.
            ("=?x?", "=?UTF-8?B?PT94Pw==?="),
            ("Gr\u{fc}\u{df}e", "=?UTF-8?B?R3LDvMOfZQ==?="),
            (" a", "=?UTF-8?B?IGE=?="),
        ] {
            assert_eq!(unstructured(text), header);
        }
    }

    #[test]
    fn no_line_of_a_subject_is_longer_than_a_line_with_words_may_be() {
        let mut long = notice();
        long.message.as_mut().unwrap().subject = Some("\u{20ac}".repeat(60).into());
        let message = mail(&long, ADDRESS).message;
        let lines = message.split("\r\n").skip_while(|line| !line.starts_with("Subject: "));
        let lines: Vec<&str> = lines.take_while(|line| !line.starts_with("Date: ")).collect();
        // RFC 2047 section 2: 76 characters. The first has 13 characters of three octets in it, none of them cut; of one more it had 77.
        assert_eq!((lines[0].len(), lines[1].len(), lines.len()), (73, 65, 5));
        assert!(lines.iter().all(|line| line.contains("=?UTF-8?B?") && line.ends_with("?=")));
    }

    #[test]
    fn the_answers_of_a_mail_server_are_understood() {
        const LATER: Outcome = Outcome::Later { after: None };
        for (code, status, outcome) in [
            (250, Some((2, 0, 0)), Outcome::Accepted),
            (250, None, Outcome::Accepted),
            (421, None, LATER),
            (450, Some((4, 2, 1)), LATER),
            (451, Some((4, 7, 1)), LATER),
            (550, Some((5, 1, 1)), Outcome::Dead),
            (556, Some((5, 1, 10)), Outcome::Dead),
            (550, Some((5, 2, 1)), Outcome::Dead),
            // A sender, a policy, an account: ours.
            (550, Some((5, 1, 8)), Outcome::Failed),
            (550, Some((5, 7, 1)), Outcome::Failed),
            (550, None, Outcome::Failed),
            (535, Some((5, 7, 8)), Outcome::Failed),
            (554, None, Outcome::Failed),
            (552, Some((5, 3, 4)), Outcome::TooLarge),
            (552, None, Outcome::TooLarge),
            (552, Some((5, 2, 3)), Outcome::TooLarge),
            // RFC 3463 section 3.3: the mailbox is full, and may be emptied.
            (552, Some((5, 2, 2)), LATER),
            (550, Some((5, 2, 2)), LATER),
            // Something between: another code than its class says.
            (450, Some((5, 1, 1)), LATER),
            (354, None, LATER),
        ] {
            assert_eq!(mailto().judge(&Answer::Smtp { code, status }), outcome, "{code} {status:?}");
        }
        for (answer, outcome) in [
            (Answer::Unreachable, LATER),
            (Answer::Silence, LATER),
            // Behind the message: it may have been taken, and is not submitted again (RFC 5436 section 2.7).
            (Answer::Sent, Outcome::Accepted),
        ] {
            assert_eq!(mailto().judge(&answer), outcome);
        }
    }

    #[test]
    fn a_mail_does_not_print() {
        let shown = format!("{:?}", mail(&notice(), ADDRESS));
        assert!(!shown.contains("joe") && !shown.contains("Subject"), "{shown}");
    }
}
