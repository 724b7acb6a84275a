//! A reader that does not read. Architecture section 10, point 5, and 4.12: bytes bounded, timers fire, nobody locked for ever.

use std::time::Duration;

use lemonade_proxy::{session::effect::Side, units::Span};
use proto_tests::{
    cast::Between,
    model::Settings,
    proxy::{Proxy, Setup},
};

/// More than this is never held for one session: a read, what is unsent, and a line.
const MOST_HELD: usize = 256 << 10;

/// A gibibyte.
const MUCH: u64 = 1 << 30;

/// What the backend has.
const CAPABILITIES: &str = "IMAP4rev1 LITERAL+ IDLE";

/// A session that is logged in and has a mailbox open.
fn open() -> Proxy {
    open_with(Setup::before(&Settings::with(CAPABILITIES)))
}

/// The same before a proxy of these settings.
fn open_with(setup: Setup) -> Proxy {
    let mut proxy = Proxy::new(setup, 11);
    proxy.hear(Side::Client, b"a LOGIN joe secret\r\n");
    assert!(proxy.wants_backend());
    proxy.connected();
    proxy.hear(Side::Backend, format!("* OK [CAPABILITY {CAPABILITIES}] ready\r\n").as_bytes());
    let said = String::from_utf8(proxy.take_sent(Side::Backend)).expect("text");
    let tag = said.split(' ').next().expect("a tag").to_owned();
    proxy.hear(Side::Backend, format!("{tag} OK [CAPABILITY {CAPABILITIES}] in\r\n").as_bytes());
    proxy.hear(Side::Client, b"b SELECT INBOX\r\n");
    proxy.hear(Side::Backend, b"* 3 EXISTS\r\nb OK [READ-WRITE] done\r\n");
    let said = String::from_utf8(proxy.take_sent(Side::Client)).expect("text");
    assert!(said.ends_with("b OK [READ-WRITE] done\r\n"), "{said}");
    proxy.take_sent(Side::Backend);
    proxy
}

#[test]
fn a_stranger_makes_us_hold_little() {
    // Sixteen kilobytes a connection before login, whatever is sent, and the piece that has just come.
    const MOST: usize = (16 << 10) + PIECE;
    const PIECE: usize = 1000;
    let floods: [(&str, Vec<u8>); 8] = [
        ("a line without end", vec![b'x'; 200_000]),
        ("parentheses", [b"a SEARCH ".to_vec(), vec![b'('; 200_000]].concat()),
        ("a SASL line without end", [b"a AUTHENTICATE XOAUTH2\r\n".to_vec(), vec![b'A'; 200_000]].concat()),
        ("an initial response", [b"a AUTHENTICATE PLAIN ".to_vec(), vec![b'A'; 200_000]].concat()),
        (
            "literals in LOGIN",
            [b"a LOGIN {4000+}\r\n".to_vec(), vec![b'x'; 4000], b" {4000+}\r\n".to_vec()].concat().repeat(20),
        ),
        (
            "literals in ID",
            [b"a ID (".to_vec(), b"{900+}\r\n".to_vec(), vec![b'x'; 900], b" ".to_vec()].concat().repeat(99),
        ),
        ("commands", b"a LOGIN joe secret\r\n".repeat(10_000)),
        ("empty lines", b"\r\n".repeat(100_000)),
    ];
    for (name, flood) in floods {
        let mut proxy = Proxy::new(Setup::before(&Settings::with("IMAP4rev1 AUTH=XOAUTH2")), 5);
        for piece in flood.chunks(PIECE) {
            proxy.hear(Side::Client, piece);
            proxy.take_sent(Side::Client);
            assert!(proxy.held() <= MOST, "{name}: {} octets are held", proxy.held());
        }
    }
}

#[test]
fn lines_for_a_client_that_does_not_read_are_bounded() {
    let mut proxy = open();
    proxy.hear(Side::Client, b"c FETCH 1:3 FLAGS\r\n");
    let line = b"* 2 FETCH (FLAGS (\\Seen))\r\n";
    let sent = 200_000;
    for chunk in line.repeat(sent).chunks(50_000) {
        proxy.hear(Side::Backend, chunk);
        assert!(proxy.held() <= MOST_HELD, "{} octets are held", proxy.held());
    }
    proxy.hear(Side::Backend, b"c OK done\r\n");
    let mut got = Vec::new();
    loop {
        let piece = proxy.take_sent(Side::Client);
        if piece.is_empty() {
            break;
        }
        got.extend(piece);
    }
    assert_eq!(got.len(), line.len() * sent + "c OK done\r\n".len(), "nothing is lost once it reads");
}

#[test]
fn a_gibibyte_to_a_client_that_does_not_read_is_bounded() {
    let mut proxy = open();
    proxy.hear(Side::Client, b"c FETCH 1 BODY[]\r\n");
    proxy.hear(Side::Backend, format!("* 1 FETCH (BODY[] {{{MUCH}}}\r\n").as_bytes());
    let chunk = vec![b'x'; 64 << 10];
    for _ in 0..20 {
        proxy.hear(Side::Backend, &chunk);
        assert!(proxy.held() <= MOST_HELD, "{} octets are held", proxy.held());
    }
    while !proxy.take_sent(Side::Client).is_empty() {}
    let left = proxy.carrying(Side::Backend);
    assert_eq!(left, MUCH - 20 * chunk.len() as u64);
    proxy.carry_unseen(Side::Backend, left);
    proxy.hear(Side::Backend, b")\r\nc OK done\r\n");
    assert_eq!(proxy.take_sent(Side::Client), b")\r\nc OK done\r\n");
    assert!(proxy.ended().is_none());
}

#[test]
fn a_gibibyte_to_a_backend_that_does_not_read_is_bounded() {
    let mut proxy = open();
    let len = 200 << 20;
    proxy.hear(Side::Client, format!("c APPEND INBOX {{{len}+}}\r\n").as_bytes());
    let chunk = vec![b'x'; 64 << 10];
    for _ in 0..20 {
        proxy.hear(Side::Client, &chunk);
        assert!(proxy.held() <= MOST_HELD, "{} octets are held", proxy.held());
    }
    while !proxy.take_sent(Side::Backend).is_empty() {}
    let left = proxy.carrying(Side::Client);
    assert_eq!(left, len - 20 * chunk.len() as u64);
    proxy.carry_unseen(Side::Client, left);
    proxy.hear(Side::Client, b"\r\nd NOOP\r\n");
    proxy.hear(Side::Backend, b"c OK done\r\n");
    assert_eq!(proxy.take_sent(Side::Client), b"c OK done\r\n");
    assert!(proxy.ended().is_none());
}

#[test]
fn commands_for_a_backend_that_does_not_answer_are_bounded() {
    let mut proxy = open();
    for number in 0..20_000 {
        proxy.hear(Side::Client, format!("n{number} NOOP\r\n").as_bytes());
        assert!(proxy.held() <= MOST_HELD, "{} octets are held", proxy.held());
    }
    let written = proxy.take_sent(Side::Backend).iter().filter(|&&octet| octet == b'\n').count();
    assert!(written <= 64, "{written} commands are in progress");
}

#[test]
fn nonsense_during_a_long_literal_is_bounded() {
    let mut proxy = open();
    proxy.hear(Side::Client, b"c FETCH 1 BODY[]\r\n");
    proxy.hear(Side::Backend, format!("* 1 FETCH (BODY[] {{{MUCH}}}\r\n").as_bytes());
    for number in 0..50_000 {
        proxy.hear(Side::Client, format!("n{number} STARTTLS\r\n").as_bytes());
        assert!(proxy.held() <= MOST_HELD, "{} octets are held", proxy.held());
    }
}

#[test]
fn timers_fire_for_a_client_that_does_not_read() {
    let mut proxy = open();
    proxy.stall(Side::Client, true);
    proxy.pass_time(Duration::from_secs(31 * 60));
    assert!(proxy.ended().is_some(), "silent for half an hour");
}

#[test]
fn a_bye_is_seen_while_the_client_does_not_read() {
    let mut proxy = open();
    proxy.stall(Side::Client, true);
    proxy.hear(Side::Backend, b"* BYE enough\r\n");
    proxy.gone(Side::Backend);
    assert!(proxy.ended().is_some());
    proxy.stall(Side::Client, false);
    assert!(proxy.take_sent(Side::Client).starts_with(b"* BYE enough\r\n"));
}

#[test]
fn a_client_that_idles_in_a_response_is_not_woken_for_nothing() {
    let mut setup = Setup::before(&Settings::with(CAPABILITIES));
    setup.timeouts.still_here = Some(Span::minutes(2));
    let mut proxy = open_with(setup);
    proxy.hear(Side::Client, b"c IDLE\r\n");
    let said = String::from_utf8(proxy.take_sent(Side::Backend)).expect("text");
    assert!(said.ends_with(" IDLE\r\n"), "{said}");
    proxy.hear(Side::Backend, b"+ idling\r\n* 3 FETCH (BODY[] {1000}\r\nhalf of it");
    // The paper shell complains of a deadline in the past that does not move.
    proxy.pass_time(Duration::from_secs(300));
    proxy.take_sent(Side::Client);
    let left = proxy.carrying(Side::Backend);
    proxy.carry_unseen(Side::Backend, left);
    proxy.hear(Side::Backend, b")\r\n");
    proxy.pass_time(Duration::from_secs(1));
    assert_eq!(proxy.take_sent(Side::Client), b")\r\n* OK Still here\r\n");
}
