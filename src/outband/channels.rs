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

    use super::super::{
        channel::Given,
        notice::{Counts, Message, Notice},
    };
    use crate::mailbox::event;

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
        }
    }
}
