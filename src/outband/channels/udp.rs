//! UDP: a datagram to the device itself (source document 001 section 11.2).
//!
//!     UDP=WAKEUP     phone.example.org:143                     EMN as WBXML, in clear, and nobody says that it came
//!     UDP=EXTENDED   phone.example.org:4000|a1b2c3d4:AAEC...   XEMN in an envelope of MEM1, acknowledged
//!
//! The key stands behind the address, as those of Web Push do: whoever gives the device a key changes its address, and a new key counts
//! from then on. A notice that is written again is a new envelope, while the carrier sends one envelope several times. Without a key, or where
//! the device does not answer, a device that is not at its address is not told from one that is.
//!
//! A device with a key proves that it is at its address by answering a probe; one without is sent a code, in an XEMN in clear. Requirements N9,
//! N10, N20, N21.

use crate::{
    account::channel::Kind,
    outband::{
        channel::{Answer, Channel, Datagram, Delivery, Given, Outcome, Undeliverable},
        emn::{Emn, Xemn},
        mem1::{Key, LONGEST},
        notice::Notice,
        sealed,
    },
};

/// The channel. All that it needs to know of a device is in the address.
#[derive(Clone, Copy, Debug)]
pub struct Udp;

impl Channel for Udp {
    fn kind(&self) -> Kind {
        Kind::Udp
    }

    fn is_private(&self, address: &str) -> bool {
        matches!(parts(address), Ok((_, Some(_))))
    }

    fn is_proof(&self, address: &str) -> bool {
        self.is_private(address)
    }

    fn write(&self, notice: &Notice, address: &str, given: &Given) -> Result<Delivery, Undeliverable> {
        let (to, key) = parts(address)?;
        let octets = match (&key, &notice.code) {
            (Some(key), _) => sealed::envelope(notice, key, given)?,
            (None, None) => Emn::of(notice).wbxml(),
            (None, Some(_)) => Xemn::of(notice).xml(LONGEST).into_bytes(),
        };
        if octets.len() > LONGEST {
            return Err(Undeliverable::TooLarge);
        }
        Ok(Delivery::Datagram(Datagram { to: to.to_owned(), octets, acknowledged_by: key }))
    }

    fn judge(&self, answer: &Answer) -> Outcome {
        match answer {
            Answer::Acknowledged => Outcome::Delivered,
            Answer::Sent => Outcome::Accepted,
            Answer::Forbidden => Outcome::Dead,
            _ => Outcome::Later { after: None },
        }
    }
}

/// `host:port`, and the key.
fn parts(address: &str) -> Result<(&str, Option<Key>), Undeliverable> {
    Kind::Udp.check(address).map_err(|_| Undeliverable::Address)?;
    match address.split_once('|') {
        Some((to, key)) => Ok((to, Some(key.parse().map_err(|_| Undeliverable::Address)?))),
        None => Ok((address, None)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        mailbox::event,
        outband::{
            emn::{self, Payload},
            mem1::{self, Receiver},
            notice::Message,
        },
    };

    const PLAIN: &str = "phone.example.org:143";
    const SEALED: &str = "[2001:db8::1]:4000|a1b2c3d4:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    const GIVEN: Given = Given { now: Duration::new(1_077_259_200, 5), chance: [0; 64] };

    fn notice() -> Notice {
        let snippet = Some("Romeo, where are you? ".repeat(10).into());
        Notice {
            account: "joe@foo.com".into(),
            seq: 7,
            at: GIVEN.now,
            event: event::Kind::MessageNew,
            mailbox: b"INBOX".as_slice().into(),
            uidvalidity: None,
            counts: Default::default(),
            message: Some(Message {
                uid: 18,
                name: Some("n".repeat(100).into()),
                subject: Some("s".repeat(100).into()),
                snippet,
                ..Message::default()
            }),
            urgent: false,
            code: None,
        }
    }

    fn datagram(notice: &Notice, address: &str) -> Datagram {
        match Udp.write(notice, address, &GIVEN) {
            Ok(Delivery::Datagram(datagram)) => datagram,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_a_key_a_device_is_only_woken() {
        assert!(!Udp.is_private(PLAIN));
        let sent = datagram(&notice(), PLAIN);
        assert!(!sent.is_acknowledged(b"MEM1", GIVEN.now));
        assert_eq!((sent.to.as_str(), sent.acknowledged_by), (PLAIN, None));
        assert_eq!(emn::read(&sent.octets), Ok(Payload::Emn(Emn::of(&notice()))));
        assert!(sent.octets.starts_with(&[3, 0x0d]));
    }

    #[test]
    fn with_a_key_it_is_told_what_there_is() {
        assert!(Udp.is_private(SEALED));
        let sent = datagram(&notice(), SEALED);
        let key = sent.acknowledged_by.clone().unwrap();
        let content = key.open(&sent.octets).unwrap();
        assert_eq!((content.kind, content.time), (mem1::Kind::Xemn, 1_077_259_200));
        assert_eq!(sent.to, "[2001:db8::1]:4000");
        // The text gives way to the bound.
        assert!(sent.octets.len() <= LONGEST && sent.octets.len() > LONGEST - 10, "{}", sent.octets.len());
        let Ok(Payload::Xemn(said)) = emn::read(&content.payload) else { panic!("an XEMN") };
        assert_eq!((said.uid, said.sequence_id, said.text.starts_with("Romeo")), (Some(18), Some(7), true));
        let heard = Receiver::new(vec![key.clone()]).hear(&sent.octets, GIVEN.now).unwrap();
        assert!(sent.is_acknowledged(&heard.answer, GIVEN.now) && !sent.is_acknowledged(&sent.octets, GIVEN.now));
        let woken = key.open(&datagram(&notice().wakeup(), SEALED).octets).unwrap();
        assert_eq!((woken.kind, woken.payload), (mem1::Kind::EmnWbxml, Emn::of(&notice()).wbxml()));
    }

    #[test]
    fn no_sequence_stands_on_two_envelopes() {
        let later = Given { now: GIVEN.now + Duration::from_nanos(1), ..GIVEN };
        let Ok(Delivery::Datagram(again)) = Udp.write(&notice(), SEALED, &later) else { panic!("a datagram") };
        let first = datagram(&notice(), SEALED);
        let sequence =
            |datagram: &Datagram| datagram.acknowledged_by.as_ref().unwrap().open(&datagram.octets).unwrap().sequence;
        assert_eq!((sequence(&first), sequence(&again)), (1_077_259_200_000_000_005, 1_077_259_200_000_000_006));
    }

    #[test]
    fn what_does_not_fit_is_too_large() {
        let mut notice = notice();
        notice.account = "joe".repeat(200).into();
        for address in [PLAIN, SEALED] {
            assert_eq!(Udp.write(&notice, address, &GIVEN), Err(Undeliverable::TooLarge));
        }
    }

    #[test]
    fn an_address_that_is_none_is_told() {
        for address in ["phone.example.org", "phone.example.org:4000|a1b2c3d4:AAEC", "phone.example.org:4000|"] {
            assert_eq!(Udp.write(&notice(), address, &GIVEN), Err(Undeliverable::Address), "{address}");
            assert!(!Udp.is_private(address));
        }
    }

    #[test]
    fn the_answer_says_what_has_become_of_it() {
        let later = Outcome::Later { after: None };
        for (answer, outcome) in [
            (Answer::Acknowledged, Outcome::Delivered),
            (Answer::Sent, Outcome::Accepted),
            (Answer::Silence, later),
            (Answer::Unreachable, later),
            (Answer::Forbidden, Outcome::Dead),
        ] {
            assert_eq!(Udp.judge(&answer), outcome);
        }
    }
}
