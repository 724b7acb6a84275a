//! A notice as the live programs send it to receivers that others have written: with quotes and letters that are not ASCII in it.
//!
//!     joe@foo.com, number 7: MessageNew in Entw&APw-rfe, UID 18, from Juliet "J", about Grüße; urgent
//!
//! Requirements N9, N10.

use std::time::Duration;

use lemonade_proxy::{
    mailbox::event::Kind,
    outband::{
        channel::Given,
        notice::{Counts, Message, Notice},
    },
};

/// The notice.
pub fn notice() -> Notice {
    let message = Message {
        uid: 18,
        from: Some("juliet@example.org".into()),
        name: Some("Juliet \"J\"".into()),
        subject: Some("Grüße".into()),
        sent: Some(Duration::from_secs(1_077_259_197)),
        snippet: Some("Romeo, where are you?".into()),
        id: Some("<a@b>".into()),
    };
    Notice {
        account: "joe@foo.com".into(),
        seq: 7,
        at: Duration::from_secs(1_077_259_200),
        event: Kind::MessageNew,
        mailbox: b"Entw&APw-rfe".as_slice().into(),
        uidvalidity: Some(385_759_045),
        counts: Counts { messages: Some(1503), unseen: Some(299), uidnext: Some(19), modseq: Some(7) },
        message: Some(message),
        urgent: true,
        code: None,
    }
}

/// The hour, since 1970, and chance that is another each hour, as far as a test needs it.
pub fn given(now: Duration) -> Given {
    let octets = now.as_nanos().to_be_bytes();
    Given { now, chance: std::array::from_fn(|at| octets[at % octets.len()] ^ at as u8) }
}
