//! SMS by way of Kannel, a gateway to the networks of telephones (Kannel 1.4 user's guide, "Using HTTP to send SMS").
//!
//!     POST /cgi-bin/sendsms HTTP/1.1
//!     X-Kannel-Username: mem
//!     X-Kannel-Password: ...
//!     X-Kannel-To: +447700900123
//!     X-Kannel-UDH: 0605040b8423f0            to the port of WAP push
//!     X-Kannel-Coding: 1                      octets, not text
//!     X-Kannel-Validity: 60                   minutes: what wakes late wakes in vain
//!     Content-Type: application/octet-stream
//!
//!     01 06 06 03 02 03 0A AF 89 03 0D ...    the push of `outband::wap`         202 "0: Accepted for delivery"
//!
//! A code goes as text, in ASCII, and without the header. Posted rather than asked for, so that the password stands in no URL. Kannel cuts what is
//! longer than a message by itself. Networks read along, so that a telephone is only woken, unless its mail program has a key. Requirements N9,
//! N20.

use std::time::Duration;

use super::{http, text};
use crate::{
    account::channel::{Kind, Telephone},
    imap::secret::Secret,
    outband::{
        channel::{Answer, Channel, Delivery, Given, NamedBy, Outcome, Request, Undeliverable},
        notice::Notice,
        wap,
    },
};

/// The channel: a group `sendsms-user` of Kannel's.
#[derive(Clone, Debug)]
pub struct Kannel {
    /// `http://localhost:13013/cgi-bin/sendsms`, on this host or over TLS.
    pub url: String,
    /// Its user.
    pub user: String,
    /// The user's password.
    pub password: Secret,
    /// Whom the message is from, where Kannel does not know that: a number, a short code or 11 letters.
    pub from: Option<String>,
    /// For how long the network may try.
    pub validity: Duration,
}

impl Channel for Kannel {
    fn kind(&self) -> Kind {
        Kind::Sms
    }

    fn is_private(&self, address: &str) -> bool {
        Telephone::parse(address).is_some_and(|to| to.key.is_some())
    }

    fn write(&self, notice: &Notice, address: &str, given: &Given) -> Result<Delivery, Undeliverable> {
        let telephone = Telephone::parse(address).ok_or(Undeliverable::Address)?;
        let password = str::from_utf8(self.password.expose()).map_err(|_| HEADER)?;
        let hex = |header: wap::Header| header.iter().map(|octet| format!("{octet:02x}")).collect();
        let (content, coding, header, body): (_, _, Option<String>, _) = match text::question(notice) {
            Some(text) => ("text/plain", "0", None, text.replace(|it: char| !it.is_ascii(), "?").into_bytes()),
            None => {
                let (header, body) = wap::content(notice, &telephone, given)?;
                ("application/octet-stream", "1", Some(hex(header)), body)
            }
        };
        let minutes = self.validity.as_secs().div_ceil(60);
        let mut headers = vec![
            ("X-Kannel-Username", self.user.clone()),
            ("X-Kannel-Password", password.to_owned()),
            ("X-Kannel-To", telephone.number.to_owned()),
        ];
        headers.extend(header.map(|header| ("X-Kannel-UDH", header)));
        headers.extend([
            ("X-Kannel-Coding", coding.to_owned()),
            ("X-Kannel-Validity", minutes.to_string()),
            ("Content-Type", content.to_owned()),
        ]);
        headers.extend(self.from.clone().map(|from| ("X-Kannel-From", from)));
        if headers.iter().any(|(_, value)| !value.bytes().all(|octet| (b' '..=b'~').contains(&octet))) {
            return Err(HEADER);
        }
        let (url, named_by) = (self.url.clone(), NamedBy::Operator);
        Ok(Delivery::Http(Request { url, headers, body, named_by }))
    }

    fn judge(&self, answer: &Answer) -> Outcome {
        http::judge(answer)
    }
}

const HEADER: Undeliverable = Undeliverable::Ours("user, password and sender of Kannel have to be printable ASCII");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outband::channels::{
        http::tests::{LATER, status},
        tests::{GIVEN, notice},
    };

    fn kannel() -> Kannel {
        Kannel {
            url: "http://localhost:13013/cgi-bin/sendsms".to_owned(),
            user: "mem".to_owned(),
            password: Secret::new(b"hunter2".to_vec()),
            from: Some("Mail".to_owned()),
            validity: Duration::from_secs(3599),
        }
    }

    #[test]
    fn a_telephone_is_woken_by_a_wap_push() {
        let Ok(Delivery::Http(sent)) = kannel().write(&notice(), "+447700900123", &GIVEN) else { panic!("a request") };
        // The example of the digest (2.1), with the whole host inline: 42 octets of user data there, 45 here.
        let push = concat!("01060603", "02030aaf89", "030d6a008507036a6f6540666f6f2e636f6d0005c30620040220064001");
        assert_eq!(sent.body.iter().map(|octet| format!("{octet:02x}")).collect::<String>(), push);
        let headers: Vec<_> = sent.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            headers,
            [
                "X-Kannel-Username: mem",
                "X-Kannel-Password: hunter2",
                "X-Kannel-To: +447700900123",
                "X-Kannel-UDH: 0605040b8423f0",
                "X-Kannel-Coding: 1",
                "X-Kannel-Validity: 60",
                "Content-Type: application/octet-stream",
                "X-Kannel-From: Mail",
            ]
        );
        assert_eq!(sent.named_by, NamedBy::Operator);
        assert_eq!((kannel().kind(), kannel().is_private("+447700900123")), (Kind::Sms, false));
    }

    #[test]
    fn the_password_does_not_print() {
        let sent = kannel().write(&notice(), "+447700900123", &GIVEN);
        assert!(!format!("{:?} {sent:?}", kannel()).contains("hunter2"));
    }

    #[test]
    fn what_does_not_fit_or_is_no_number_is_told() {
        let long = |len: usize| Notice { account: "x".repeat(len).into(), ..notice() };
        assert!(kannel().write(&long(470), "+447700900123", &GIVEN).is_ok());
        assert_eq!(kannel().write(&long(500), "+447700900123", &GIVEN), Err(Undeliverable::TooLarge));
        assert_eq!(kannel().write(&notice(), "447700900123", &GIVEN), Err(Undeliverable::Address));
        let split = Kannel { user: "mem\r\nX-Kannel-Account: a".to_owned(), ..kannel() };
        assert_eq!(split.write(&notice(), "+447700900123", &GIVEN), Err(HEADER));
    }

    #[test]
    fn the_answers_of_kannel_are_understood() {
        for (answer, outcome) in [
            // "0: Accepted for delivery", "3: Queued for later delivery"
            (status(202), Outcome::Accepted),
            // "Authorization failed for sendsms", "Missing receiver number, rejected"
            (status(403), Outcome::Failed),
            (status(400), Outcome::Failed),
            (status(404), Outcome::Failed),
            (status(503), LATER),
            (Answer::Unreachable, Outcome::Later { after: None }),
        ] {
            assert_eq!(kannel().judge(&answer), outcome, "{answer:?}");
        }
    }
}
