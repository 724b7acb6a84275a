//! The channels, a file each.
//!
//! | module | way |
//! |---|---|
//! | [`deltachat`] | the notifier of Delta Chat |
//! | [`kannel`] | a short message, by way of Kannel |
//! | [`mailto`] | a mail (RFC 5436) |
//! | [`mms`] | a multimedia message, by way of an MMSC (MM7) |
//! | [`sip`] | a MESSAGE request of SIP (RFC 3428) |
//! | [`smpp`] | a short message, by way of an SMSC |
//! | [`udp`] | a datagram to the device itself |
//! | [`webhook`] | an HTTP request to a place of the user's |
//! | [`webpush`] | a push service (RFC 8030) |
//! | [`xmpp`] | a message of XMPP (RFC 5437) |
//!
//! `http` says what answers mean that all who speak HTTP may get, and `text` what a person reads.

pub mod deltachat;
mod http;
pub mod kannel;
pub mod mailto;
pub mod mms;
pub mod sip;
pub mod smpp;
mod text;
pub mod udp;
pub mod webhook;
pub mod webpush;
pub mod xmpp;

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use base64::{Engine as _, engine::general_purpose::STANDARD};

    use super::{
        super::{
            channel::{Channel, Delivery, Given, Undeliverable},
            mem1::{Key, Type},
            notice::{Counts, Message, Notice},
            vapid,
        },
        *,
    };
    use crate::{imap::Secret, mailbox::event};

    pub(in crate::outband) const GIVEN: Given = Given { now: Duration::from_secs(1_614_265_330), chance: [7; 64] };

    /// The example of source document 001.
    pub(in crate::outband) fn notice() -> Notice {
        let message = Message {
            uid: 18,
            from: Some("juliet@example.org".into()),
            name: Some("Juliet".into()),
            subject: Some("Contact me immediately!".into()),
            sent: Some(Duration::from_secs(1_077_259_197)),
            snippet: Some("Romeo, where are you?".into()),
            id: Some("<a@b>".into()),
        };
        Notice {
            account: "joe@foo.com".into(),
            seq: 7,
            at: Duration::from_secs(1_077_259_200),
            event: event::Kind::MessageNew,
            mailbox: b"Entw&APw-rfe".as_slice().into(),
            uidvalidity: Some(385_759_045),
            counts: Counts { messages: Some(1503), unseen: Some(299), uidnext: Some(19), modseq: Some(u64::MAX >> 1) },
            message: Some(message),
            urgent: false,
            code: None,
        }
    }

    const TEXT: &str = "49001731 confirms this address for joe@foo.com. Not yours? Do nothing.";
    const NUMBER: &str = "+447700900123";
    const VALIDITY: Duration = Duration::from_secs(3600);

    /// What goes to this address to ask whose it is: headers and text.
    fn asked(channel: &dyn Channel, address: &str) -> String {
        let question = Notice { code: Some("49001731".into()), mailbox: Box::default(), ..notice().wakeup() };
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        match channel.write(&question, address, &GIVEN) {
            Ok(Delivery::Http(request)) => {
                let headers: Vec<_> =
                    request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
                headers.concat() + &text(&request.body)
            }
            Ok(Delivery::Datagram(datagram)) => text(&datagram.octets),
            Ok(Delivery::Sip(message)) => format!("{:?}\n{}", message.headers, text(&message.body)),
            Ok(Delivery::ShortMessages(messages)) => {
                let units: Vec<_> =
                    messages.parts[0].chunks(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect();
                String::from_utf16(&units).unwrap()
            }
            Ok(Delivery::Mail(mail)) => {
                let (head, body) = mail.message.split_once("\r\n\r\n").unwrap();
                format!("{head}\n{}", text(&STANDARD.decode(body.replace("\r\n", "")).unwrap()))
            }
            Ok(Delivery::Xmpp(message)) => message.content,
            Err(why) => why.to_string(),
        }
    }

    fn password() -> Secret {
        Secret::new(b"hunter2".to_vec())
    }

    #[test]
    fn a_person_is_asked_in_words() {
        let kannel = kannel::Kannel {
            url: String::new(),
            user: "mem".to_owned(),
            password: password(),
            from: None,
            validity: VALIDITY,
        };
        let mms = mms::Mms {
            url: String::new(),
            user: None,
            password: password(),
            vaspid: String::new(),
            vasid: String::new(),
            version: String::new(),
            schema: String::new(),
            subject: "New mail".to_owned(),
            validity: VALIDITY,
            private: false,
        };
        let mailto = mailto::Mailto { from: "mem@foo.com".to_owned(), private: false };
        let xmpp = xmpp::Xmpp { subject: "New mail".to_owned(), private: false };
        assert_eq!(asked(&smpp::Smpp { text: false }, NUMBER), TEXT);
        let by_kannel = asked(&kannel, NUMBER);
        assert!(
            by_kannel
                .ends_with(&format!("X-Kannel-Coding: 0\nX-Kannel-Validity: 60\nContent-Type: text/plain\n{TEXT}"))
        );
        assert!(!by_kannel.contains("UDH"));
        assert!(asked(&mms, NUMBER).contains(&format!("\r\n\r\n{TEXT}\r\n--")));
        let mail = asked(&mailto, "joe@phone.example");
        assert!(
            mail.contains("\r\nSubject: Confirm this address: 49001731\r\n")
                && mail.ends_with(&format!("\n{TEXT}\r\n"))
        );
        assert!(asked(&xmpp, "romeo@im.example.com").contains(&format!("<body>{TEXT}</body>")));
        assert!(asked(&sip(sip::Body::Text), "sip:romeo@example.com").ends_with(&format!("\n{TEXT}")));
        assert!(asked(&webhook(), "https://ntfy.example.org/joe|{subject}").ends_with(&format!("\n{TEXT}")));
    }

    fn sip(body: sip::Body) -> sip::Sip {
        let from = "sip:notifier@example.com".parse().unwrap();
        sip::Sip { from, body, private: false, answers: true, lifetime: VALIDITY }
    }

    fn webhook() -> webhook::Webhook {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        webhook::Webhook { secret, source: "imap://imap.example.org/".to_owned() }
    }

    #[test]
    fn a_program_is_asked_by_a_name() {
        let xemn = "<xemn mailbox=\"mailat:joe@foo.com\" timestamp=\"2004-02-20T06:40:00Z\" event=\"vnd.lemonade.Confirm\" \
                    sequence-id=\"7\">49001731</xemn>";
        assert_eq!(asked(&udp::Udp, "192.0.2.7:5000"), xemn);
        let by_sip = asked(&sip(sip::Body::Emn), "sip:romeo@example.com");
        assert!(by_sip.contains("application/vnd.lemonade.xemn+xml") && by_sip.ends_with(&format!("\n{xemn}")));
        let by_webhook = asked(&webhook(), "https://example.org/");
        assert!(by_webhook.contains("ce-type: vnd.lemonade.Confirm\n"), "{by_webhook}");
        assert!(by_webhook.contains("{\"event\":\"vnd.lemonade.Confirm\",\"code\":\"49001731\",\"timestamp\":"));
        let push = concat!(
            "https://push.example.net/x|BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            "|BTBZMqHH6r4Tts7J_aSIgg"
        );
        let by_push = asked(&webpush::WebPush::new(vapid::tests::vapid(), VALIDITY), push);
        assert!(by_push.contains("\nWebPush-Validation: \n") && !by_push.contains("49001731"), "COI's, and sealed");
        let deltachat = deltachat::DeltaChat { notifier: String::new() };
        assert_eq!(asked(&deltachat, "token"), "a notifier of Delta Chat carries no code");
    }

    #[test]
    fn a_device_with_a_key_is_probed_and_the_channel_says_that_its_answer_is_a_proof() {
        let address = "192.0.2.7:5000|a1b2c3d4:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
        let question = Notice { code: Some(Box::default()), ..notice().wakeup() };
        let written: Result<Delivery, Undeliverable> = udp::Udp.write(&question, address, &GIVEN);
        let Ok(Delivery::Datagram(sent)) = written else { panic!("a datagram") };
        let key: Key = address.split_once('|').unwrap().1.parse().unwrap();
        let content = key.open(&sent.octets).unwrap();
        assert_eq!((content.what, content.payload.len(), sent.acknowledged_by), (Type::Probe, 0, Some(key)));
        assert!(udp::Udp.is_proof(address) && !udp::Udp.is_proof("192.0.2.7:5000"));
        assert!(!smpp::Smpp { text: true }.is_proof(NUMBER));
    }
}
