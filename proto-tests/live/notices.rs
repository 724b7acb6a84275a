//! Notices as they go to devices, for decoders that others have written.
//!
//!     live-notices
//!     out: emn-wbxml 030d6a0085...01 mailat:joe@foo.com 2004-02-20T06:40:00Z
//!     out: xemn 3c78656d6e...3e mailat:joe@foo.com 2004-02-20T06:40:00Z 7 18 ...
//!
//! A line each: the form, its octets in hexadecimal, and what has to be read from it, with tabs between. `emn.py` calls it.

#![forbid(unsafe_code)]

use std::time::Duration;

use lemonade_proxy::{
    mailbox::event::Kind,
    outband::{
        emn::{Emn, LONGEST, Xemn, timestamp},
        mem1::{self, Content, Key, Type},
        notice::{Counts, Message, Notice},
    },
};

/// Accounts, and when something happened there.
const TOLD: &[(&str, u64)] = &[
    // 2004-02-20T06:40:00Z, the example of source document 001.
    ("joe@foo.com", 1_077_259_200),
    // Midnight, a full hour, a full minute, and a second: four to seven octets.
    ("joe@example.org", 1_795_305_600),
    ("joe@example.net", 1_795_370_400),
    ("a&b<c>\"d'@example.edu", 1_795_370_700),
    ("jürgen@bücher.example", 1_795_370_759),
    // The first moment, and the last that four digits write.
    ("joe", 0),
    ("joe@example.org", 253_402_300_799),
];

fn main() {
    let key = Key::new([0xa1, 0xb2, 0xc3, 0xd4], &std::array::from_fn(|at| at as u8));
    for (sequence, (account, at)) in (1u64..).zip(TOLD) {
        let notice = notice(account, sequence, Duration::from_secs(*at));
        let (small, large) = (Emn::of(&notice), Xemn::of(&notice));
        let moment = small.timestamp.and_then(timestamp).unwrap_or_default();
        let read = [small.mailbox.as_str(), &moment];
        line("emn-wbxml", &small.wbxml(), &read);
        line("emn", small.xml().as_bytes(), &read);
        line("emn", small.element().as_bytes(), &read);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (number, uid) = (sequence.to_string(), u32::MAX.to_string());
        let (view, subject) = (text(&large.view), text(&large.subject));
        let read = [read[0], read[1], &number, &uid, &view, &subject, &large.text];
        line("xemn", large.xml(LONGEST).as_bytes(), &read);
        let time = u32::try_from(*at).unwrap_or(u32::MAX);
        let content =
            Content { what: Type::Notice, kind: mem1::Kind::EmnWbxml, sequence, time, payload: small.wbxml() };
        line("mem1", &key.seal(&content).expect("it is short"), &[&hexadecimal(&small.wbxml())]);
    }
}

fn notice(account: &str, seq: u64, at: Duration) -> Notice {
    let message = Message {
        uid: u32::MAX,
        from: Some("juliet@example.org".into()),
        name: Some("Juliet \"J\" <&>".into()),
        subject: Some("1 < 2 && \"3\" > 2: Grüße".into()),
        sent: Some(at),
        snippet: Some("Romeo, where are you? <br/> ]]> & more".into()),
        id: None,
    };
    Notice {
        account: account.into(),
        seq,
        at,
        event: Kind::MessageNew,
        mailbox: b"Entw&APw-rfe".as_slice().into(),
        uidvalidity: None,
        counts: Counts::default(),
        message: Some(message),
        urgent: false,
        code: None,
    }
}

fn line(form: &str, octets: &[u8], read: &[&str]) {
    println!("{form}\t{}\t{}", hexadecimal(octets), read.join("\t"));
}

fn hexadecimal(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}
