//! What a device hears: payloads and envelopes that anybody may have written, and notices of any text that come back as they were.

use std::time::Duration;

use lemonade_proxy::{
    mailbox::event::Kind,
    outband::{
        emn::{self, Emn, LONGEST, Payload, Xemn},
        mem1::{self, Content, Key, Receiver, Type},
        notice::{Counts, Message, Notice},
    },
};
use proto_tests::random::Random;

use crate::fuzz;

const PAYLOADS: &[&[u8]] = &[
    b"\x03\x0d\x6a\x00\x85\x07\x03joe@foo.com\x00\x05\xc3\x06\x20\x04\x02\x20\x06\x40\x01",
    b"\x03\x0d\x6a\x00\x85\x09\x03joe@mail.foo\x00\x85\x03/INBOX\x00\x05\xc3\x04\x20\x26\x11\x22\x01",
    b"\x01\x0d\x03\x0ex\x00joe@foo.com\x00\xc5\x04\x00\x03y\x00\x07\x83\x02\x02\x40\x01\x03 \x00\x01",
    b"<?xml version=\"1.0\"?>\n<!DOCTYPE emn PUBLIC \"a\" \"b\">\n<emn mailbox=\"mailat:joe&#64;foo.com\"/>",
    b"<xemn mailbox='pop://joe@foo.com' timestamp='2004-02-20T06:40:00Z' event='New Message' sequence-id='7' uid='18'/>",
    b"<xemn mailbox=\"a\" sender=\"&lt;\xc3\xa9&gt;\" datetime=\"2004-02-20T06:39:57Z\">Romeo, &amp;\r\n where?</xemn >",
];

#[test]
fn payloads() {
    fuzz("payloads", PAYLOADS, |octets, _| match emn::read(octets) {
        Ok(Payload::Emn(emn)) => {
            assert_eq!(emn::read(emn.element().as_bytes()), Ok(Payload::Emn(emn.clone())));
            assert_eq!(emn::read(&emn.wbxml()), Ok(Payload::Emn(emn)));
        }
        Ok(Payload::Xemn(xemn)) => {
            let written = xemn.xml(usize::MAX);
            if written.len() <= LONGEST {
                assert_eq!(emn::read(written.as_bytes()), Ok(Payload::Xemn(xemn)));
            }
        }
        Err(error) => assert!(error.at <= octets.len(), "{error}"),
    });
}

#[test]
fn a_notice_comes_back_as_it_was() {
    // What is mutated here is not the input: its random numbers make the notice.
    fuzz("notices", PAYLOADS, |_, random| {
        let notice = notice(random);
        let (small, large) = (Emn::of(&notice), Xemn::of(&notice));
        for written in [small.wbxml(), small.xml().into_bytes(), small.element().into_bytes()] {
            assert_eq!(emn::read(&written), Ok(Payload::Emn(small.clone())), "{}", written.escape_ascii());
        }
        let written = large.xml(LONGEST);
        assert_eq!(emn::read(written.as_bytes()), Ok(Payload::Xemn(large.clone())), "{written}");
        // What has to be short loses text, and nothing else.
        let bare = Xemn { text: String::new(), ..large.clone() };
        let room = random.below(written.len() + 1);
        let short = large.xml(room);
        assert!(short.len() <= room.max(bare.xml(0).len()), "{room}: {short}");
        let Ok(Payload::Xemn(read)) = emn::read(short.as_bytes()) else { panic!("{short}") };
        let begin = read.text.strip_suffix('\u{2026}').unwrap_or(&read.text);
        assert!(large.text.starts_with(begin), "{short}");
        assert_eq!(Xemn { text: String::new(), ..read }, bare);
    });
}

#[test]
fn envelopes() {
    const NOW: Duration = Duration::from_secs(1_077_259_200);
    let key = Key::new(*b"id 1", &[7; 32]);
    let sealed: Vec<Vec<u8>> = (1..5)
        .map(|sequence| Content {
            what: if sequence == 3 { Type::Probe } else { Type::Notice },
            kind: mem1::Kind::EmnWbxml,
            sequence,
            time: NOW.as_secs() as u32,
            payload: PAYLOADS[0].to_vec(),
        })
        .filter_map(|content| key.seal(&content))
        .collect();
    let corpus: Vec<&[u8]> = sealed.iter().map(Vec::as_slice).collect();
    let mut device = Receiver::new(vec![key.clone()]);
    fuzz("envelopes", &corpus, |octets, _| {
        assert!(!key.acknowledges(&sealed[0], octets, NOW));
        // Nobody but the server has written these, and only these.
        let heard = device.hear(octets, NOW);
        assert_eq!(heard.is_ok(), sealed.iter().any(|sealed| sealed == octets));
        if let Ok(heard) = heard {
            assert!(heard.answer.len() <= octets.len() && key.acknowledges(octets, &heard.answer, NOW));
        }
    });
}

fn notice(random: &mut Random) -> Notice {
    let message = Message {
        uid: random.bits() as u32,
        from: some(random, 60),
        name: some(random, 60),
        subject: some(random, 200),
        sent: (!random.one_in(4)).then(|| Duration::from_millis(random.bits() >> random.below(64))),
        snippet: some(random, 300),
        id: None,
    };
    Notice {
        account: text(random, 40),
        seq: random.bits() >> random.below(64),
        at: Duration::from_millis(random.bits() >> random.within(17..64)),
        event: *random.pick(&[Kind::MessageNew, Kind::FlagsSet, Kind::MailboxUnSubscribe]),
        mailbox: text(random, 80).as_bytes().into(),
        uidvalidity: None,
        counts: Counts::default(),
        message: (!random.one_in(4)).then_some(message),
        urgent: false,
        code: None,
    }
}

fn some(random: &mut Random, most: usize) -> Option<Box<str>> {
    (!random.one_in(4)).then(|| text(random, most))
}

/// Text of what XML and UTF-8 find hard.
fn text(random: &mut Random, most: usize) -> Box<str> {
    const HARD: &str = "a <>&\"';#x\t\r\n\0\u{1b}\u{85}é€\u{1f600}\u{fffe}\u{feff}]]>.com&amp;&AOQ-";
    let hard: Vec<char> = HARD.chars().collect();
    (0..random.below(most)).map(|_| *random.pick(&hard)).collect::<String>().into()
}
