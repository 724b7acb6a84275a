//! Webhook: an event of RFC 5423 as a CloudEvent, or a line of plain text, to a place of the user's.
//!
//!     POST /mail HTTP/1.1                        the address: https://example.org/mail, or https://ntfy.example.org/joe|{sender}:%20{subject}
//!     ce-specversion: 1.0                        CloudEvents 1.0, HTTP binding 3.1: what the event is stands in the header
//!     ce-type: org.rfc5423.MessageNew
//!     ce-source: imap://imap.example.org/
//!     ce-subject: Entw%C3%BCrfe                  the mailbox
//!     ce-id: msg_p5jXN8AQM9LWM0D4loKWxJek        the same as webhook-id
//!     webhook-timestamp: 1614265330              Standard Webhooks: whoever knows the secret sees that it is ours, and when it was sent
//!     webhook-signature: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=
//!
//!     {"event":"MessageNew","timestamp":"2004-02-20T06:40:00Z","user":"joe@foo.com","mailbox":"Entwürfe","uidset":"18",...}
//!
//! A notice that is sent again has the id that it had, so that a receiver knows it. Each account has a secret of its own for each place, made
//! from the operator's: whoever knows one can forge nothing to others. With a template the body is `text/plain`, as ntfy shows it.
//! Requirements N10, N13, N17, N20, N21.

use std::{fmt, str::FromStr};

use aws_lc_rs::hmac;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde::Serialize;

use super::http;
use crate::{
    account::{
        channel::Kind,
        template::{Field, Template},
    },
    imap::{mailbox_name, secret::Secret},
    outband::{
        channel::{Answer, Channel, Delivery, Given, NamedBy, Outcome, Request, Undeliverable},
        emn::timestamp,
        notice::{Counts, Notice, cut},
    },
};

/// The longest body, in octets: receivers take 20 kB (Standard Webhooks, "Payload size").
pub const LONGEST: usize = 20_000;
/// The longest plain text, in octets: ntfy makes a file of more.
pub const LONGEST_TEXT: usize = 4096;

/// The longest sender and subject, in octets.
const HEADING: usize = 200;
/// The longest beginning of a message, in octets.
const SNIPPET: usize = 2000;
/// The longest name of a mailbox, in octets: a part of one names another.
const NAME: usize = 1000;

/// The channel.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The operator's secret.
    pub secret: SigningSecret,
    /// Who we are: `imap://imap.example.org/`.
    pub source: String,
}

/// What signs: 24 to 64 octets. It does not print.
#[derive(Clone, Debug)]
pub struct SigningSecret(Secret);

/// What is wrong with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected whsec_ and 24 to 64 octets in base64")]
pub struct SecretError;

impl SigningSecret {
    /// That of an account for a place, which may be told to the account.
    pub fn of(&self, account: &str, url: &str) -> Self {
        Self(Secret::new(self.hash(&[b"endpoint", account.as_bytes(), url.as_bytes()]).as_ref().to_vec()))
    }

    /// As it is told: `whsec_` and base64.
    pub fn told(&self) -> Secret {
        Secret::new(format!("{PREFIX}{}", STANDARD.encode(self.0.expose())).into_bytes())
    }

    /// `v1,` and the signature of this body, under this id, at this second since 1970.
    pub(in crate::outband) fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
        format!("v1,{}", STANDARD.encode(hmac::sign(&self.key(), &signed)))
    }

    /// An id that is the same for the same notice, and tells nothing.
    fn id(&self, notice: &Notice) -> String {
        self.id_of(&[b"id", &notice.seq.to_be_bytes(), &notice.at.as_nanos().to_be_bytes()])
    }

    /// An id that is the same for the same parts, of which only the last may have any length, and tells nothing.
    pub(in crate::outband) fn id_of(&self, parts: &[&[u8]]) -> String {
        format!("msg_{}", URL_SAFE_NO_PAD.encode(&self.hash(parts).as_ref()[..18]))
    }

    /// Over parts that have no NUL in them, or a length that is fixed.
    fn hash(&self, parts: &[&[u8]]) -> hmac::Tag {
        hmac::sign(&self.key(), &parts.join(&0))
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.0.expose())
    }
}

const PREFIX: &str = "whsec_";

impl FromStr for SigningSecret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let decoded = text.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
        let octets = decoded.filter(|octets| (24..=64).contains(&octets.len())).ok_or(SecretError)?;
        Ok(Self(Secret::new(octets)))
    }
}

impl Channel for Webhook {
    fn kind(&self) -> Kind {
        Kind::Webhook
    }

    /// The way is TLS.
    fn is_private(&self, address: &str) -> bool {
        Kind::Webhook.check(address).is_ok()
    }

    fn write(&self, notice: &Notice, address: &str, given: &Given) -> Result<Delivery, Undeliverable> {
        Kind::Webhook.check(address).map_err(|_| Undeliverable::Address)?;
        let (url, template) = match address.split_once('|') {
            Some((url, template)) => (url, Some(template.parse().map_err(|_| Undeliverable::Address)?)),
            None => (address, None),
        };
        let (content, body) = match (&template, super::text::question(notice)) {
            (Some(_), Some(question)) => ("text/plain; charset=utf-8", question.into_bytes()),
            (Some(template), None) => ("text/plain; charset=utf-8", text(notice, template).into_bytes()),
            (None, _) => ("application/json", json(notice)),
        };
        if body.len() > LONGEST {
            return Err(Undeliverable::TooLarge);
        }
        let secret = self.secret.of(&notice.account, url);
        let (id, seconds) = (secret.id(notice), given.now.as_secs());
        let mut headers = vec![
            ("Content-Type", content.to_owned()),
            ("ce-specversion", "1.0".to_owned()),
            ("ce-type", kind(notice)),
            ("ce-source", self.source.clone()),
            ("ce-id", id.clone()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", secret.sign(&id, seconds, &body)),
            ("webhook-id", id),
        ];
        headers.extend(name(notice).map(|name| ("ce-subject", Encoded(&name).to_string())));
        headers.extend(timestamp(notice.at).map(|at| ("ce-time", at)));
        Ok(Delivery::Http(Request { url: url.to_owned(), headers, body, named_by: NamedBy::User }))
    }

    fn judge(&self, answer: &Answer) -> Outcome {
        match answer {
            // Standard Webhooks, "Deliverability and reliability": the receiver wants no more.
            Answer::Http { status: 410, .. } => Outcome::Dead,
            answer => http::judge(answer),
        }
    }
}

/// What it is, as a type of CloudEvents: a name of ours is one already.
fn kind(notice: &Notice) -> String {
    let prefix = if notice.code.is_some() { "" } else { "org.rfc5423." };
    prefix.to_owned() + &notice.event_name()
}

/// The mailbox, as people read it.
fn name(notice: &Notice) -> Option<String> {
    let name = mailbox_name::as_people_read(&notice.mailbox);
    (1..=NAME).contains(&name.len()).then(|| name.into_owned())
}

/// The template, filled.
fn text(notice: &Notice, template: &Template) -> String {
    let message = notice.message.as_ref();
    let heading = |text: Option<&Box<str>>| text.map(|text| cut(text, HEADING)).unwrap_or_default();
    let filled = template.fill(|field| match field {
        Field::Account => cut(&notice.account, HEADING),
        Field::Event => format!("{:?}", notice.event),
        Field::Mailbox => cut(&mailbox_name::as_people_read(&notice.mailbox), HEADING),
        Field::Sender => heading(message.and_then(|message| message.name.as_ref().or(message.from.as_ref()))),
        Field::Snippet => cut(message.and_then(|message| message.snippet.as_deref()).unwrap_or_default(), SNIPPET),
        Field::Subject => heading(message.and_then(|message| message.subject.as_ref())),
        Field::Unseen => notice.counts.unseen.map(|unseen| unseen.to_string()).unwrap_or_default(),
    });
    cut(&filled, LONGEST_TEXT)
}

/// CloudEvents HTTP binding 3.1.3.2: `%` for what may not stand in a header as it is.
struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;

        self.0.bytes().try_for_each(|octet| match octet.is_ascii_graphic() && !b"\"%".contains(&octet) {
            true => f.write_char(char::from(octet)),
            false => write!(f, "%{octet:02X}"),
        })
    }
}

/// The event with its parameters (RFC 5423 section 5). What that has no name for has the word of the RFC it comes from.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    user: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mailbox: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uidvalidity: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uidset: Option<String>,
    #[serde(flatten)]
    counts: Counts,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope: Option<Envelope>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snippet: Option<String>,
}

/// What is known of the message's envelope.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Envelope {
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
}

fn json(notice: &Notice) -> Vec<u8> {
    let message = notice.message.as_ref();
    let heading = |text: &Option<Box<str>>| text.as_deref().map(|text| cut(text, HEADING));
    let told = Told {
        event: notice.event_name(),
        code: notice.code.as_deref(),
        timestamp: timestamp(notice.at),
        user: &notice.account,
        mailbox: name(notice),
        uidvalidity: notice.uidvalidity,
        uidset: message.map(|message| message.uid.to_string()),
        counts: notice.counts,
        seq: notice.seq,
        envelope: message.map(|message| Envelope {
            date: message.sent.and_then(timestamp),
            subject: heading(&message.subject),
            from: heading(&message.from),
            from_name: heading(&message.name),
            message_id: message.id.as_deref().filter(|id| id.len() <= NAME).map(str::to_owned),
        }),
        snippet: message.and_then(|message| message.snippet.as_deref()).map(|text| cut(text, SNIPPET)),
    };
    // Nothing in it can fail: its keys are text.
    serde_json::to_vec(&told).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::outband::channels::{
        http::tests::{LATER, status},
        tests::{GIVEN, notice},
    };

    const URL: &str = "https://example.org/mail?to=joe";
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn webhook() -> Webhook {
        Webhook { secret: SECRET.parse().unwrap(), source: "imap://imap.example.org/".to_owned() }
    }

    fn request(notice: &Notice, address: &str, given: &Given) -> Request {
        match webhook().write(notice, address, given) {
            Ok(Delivery::Http(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn header<'a>(request: &'a Request, name: &str) -> &'a str {
        request.headers.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    #[test]
    fn the_vector_of_standard_webhooks_is_signed_as_there() {
        let secret: SigningSecret = SECRET.parse().unwrap();
        assert_eq!(
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(secret.told().expose(), SECRET.as_bytes());
        assert_eq!(format!("{secret:?}"), "SigningSecret(Secret)");
    }

    #[test]
    fn a_secret_has_24_to_64_octets() {
        let of = |octets: usize| format!("whsec_{}", STANDARD.encode(vec![1; octets])).parse::<SigningSecret>().is_ok();
        assert_eq!([23, 24, 64, 65].map(of), [false, true, true, false]);
        for text in ["", "whsec_", "whsec_*", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert!(text.parse::<SigningSecret>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_event_is_a_cloudevent_with_a_signature_over_its_body() {
        let sent = request(&notice(), URL, &GIVEN);
        assert_eq!((sent.url.as_str(), sent.named_by), (URL, NamedBy::User));
        for (name, value) in [
            ("Content-Type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-type", "org.rfc5423.MessageNew"),
            ("ce-source", "imap://imap.example.org/"),
            ("ce-subject", "Entw%C3%BCrfe"),
            ("ce-time", "2004-02-20T06:40:00Z"),
            ("webhook-timestamp", "1614265330"),
        ] {
            assert_eq!(header(&sent, name), value, "{name}");
        }
        let id = header(&sent, "webhook-id");
        assert_eq!((header(&sent, "ce-id"), id.len()), (id, 28));
        let told: SigningSecret =
            str::from_utf8(webhook().secret.of("joe@foo.com", URL).told().expose()).unwrap().parse().unwrap();
        assert_eq!(header(&sent, "webhook-signature"), told.sign(id, 1_614_265_330, &sent.body));
        assert_eq!(
            serde_json::from_slice::<Value>(&sent.body).unwrap(),
            json!({
                "event": "MessageNew", "timestamp": "2004-02-20T06:40:00Z", "user": "joe@foo.com", "mailbox": "Entwürfe",
                "uidvalidity": 385_759_045, "uidset": "18", "messages": 1503, "unseen": 299, "uidnext": 19,
                "modseq": "9223372036854775807", "seq": 7,
                "envelope": {"date": "2004-02-20T06:39:57Z", "subject": "Contact me immediately!",
                             "from": "juliet@example.org", "from-name": "Juliet", "message-id": "<a@b>"},
                "snippet": "Romeo, where are you?",
            })
        );
        let small: Value = serde_json::from_slice(&request(&notice().wakeup(), URL, &GIVEN).body).unwrap();
        assert_eq!([small.get("uidset"), small.get("envelope"), small.get("snippet")], [None; 3]);
    }

    #[test]
    fn a_notice_that_is_sent_again_keeps_its_id_and_no_other_has_it() {
        let id = |notice: &Notice, url| header(&request(notice, url, &GIVEN), "webhook-id").to_owned();
        let later = Given { now: GIVEN.now * 2, ..GIVEN };
        let (first, again) = (request(&notice(), URL, &GIVEN), request(&notice(), URL, &later));
        assert_eq!(header(&first, "webhook-id"), header(&again, "webhook-id"));
        assert_ne!(header(&first, "webhook-signature"), header(&again, "webhook-signature"));
        let others = [
            id(&Notice { seq: 8, ..notice() }, URL),
            id(&Notice { at: GIVEN.now, ..notice() }, URL),
            id(&Notice { account: "jim@foo.com".into(), ..notice() }, URL),
            id(&notice(), "https://example.org/"),
        ];
        assert!(!others.iter().any(|other| other == header(&first, "webhook-id")));
    }

    #[test]
    fn a_secret_is_good_for_one_account_and_one_place() {
        let of = |account, url| webhook().secret.of(account, url).told().expose().to_vec();
        let first = of("joe", "https://a/");
        assert_eq!(first, of("joe", "https://a/"));
        assert!(first != of("jim", "https://a/") && first != of("joe", "https://b/"));
    }

    #[test]
    fn a_template_is_told_in_plain_text() {
        let address =
            "https://ntfy.example.org/joe|{sender}:%20{subject}%0A{mailbox},%20{unseen}%20unread:%20{snippet}";
        let sent = request(&notice(), address, &GIVEN);
        assert_eq!(sent.url, "https://ntfy.example.org/joe");
        assert_eq!(header(&sent, "Content-Type"), "text/plain; charset=utf-8");
        let text = "Juliet: Contact me immediately!\nEntwürfe, 299 unread: Romeo, where are you?";
        assert_eq!(str::from_utf8(&sent.body), Ok(text));
        let woken = request(&notice().wakeup(), "https://x.org/|{event}%20{account}{subject}{sender}{snippet}", &GIVEN);
        assert_eq!(str::from_utf8(&woken.body), Ok("MessageNew joe@foo.com"));
        let long = request(&notice(), &format!("https://x.org/|{}", "{subject}".repeat(220)), &GIVEN);
        assert_eq!(long.body.len(), LONGEST_TEXT);
        let unknown = webhook().write(&notice(), "https://x.org/|{body}", &GIVEN);
        assert_eq!(unknown, Err(Undeliverable::Address));
    }

    #[test]
    fn long_text_is_cut_and_a_long_account_is_too_large() {
        let mut large = notice();
        large.mailbox = b"x".repeat(NAME + 1).into();
        large.message.as_mut().unwrap().snippet = Some("\u{1}".repeat(100_000).into());
        let sent = request(&large, URL, &GIVEN);
        assert_eq!((header(&sent, "ce-subject"), sent.body.len() < LONGEST), ("", true));
        large.account = "x".repeat(LONGEST).into();
        assert_eq!(webhook().write(&large, URL, &GIVEN), Err(Undeliverable::TooLarge));
    }

    #[test]
    fn a_header_stays_a_header_whatever_a_mailbox_is_called() {
        let strange = Notice { mailbox: b"a\r\nX: b \"c\" 50%\0".as_slice().into(), ..notice() };
        assert_eq!(header(&request(&strange, URL, &GIVEN), "ce-subject"), "a%0D%0AX:%20b%20%22c%22%2050%25%00");
    }

    #[test]
    fn the_answer_says_what_has_become_of_it() {
        for (answer, outcome) in [
            (status(204), Outcome::Accepted),
            (status(302), Outcome::Failed),
            (status(404), Outcome::Failed),
            (status(410), Outcome::Dead),
            (status(429), LATER),
            (status(502), LATER),
            (status(504), LATER),
            (Answer::Forbidden, Outcome::Dead),
        ] {
            assert_eq!(webhook().judge(&answer), outcome, "{answer:?}");
        }
        assert!(webhook().is_private(URL) && !webhook().is_private("http://example.org/"));
        assert_eq!(webhook().kind(), Kind::Webhook);
    }
}
