//! Whole sessions: a client that says anything, before a model backend or one that says anything too.

use std::time::Duration;

use lemonade_proxy::session::effect::Side;
use proto_tests::{
    cast::Between,
    model::{Backend, Mischief, Settings},
    proxy::{Proxy, Setup},
    random::Random,
};

use crate::{COMMANDS, RESPONSES, fuzz, mutated};

/// More than this is never held for one session.
const MOST_HELD: usize = 512 << 10;

/// Before login a stranger makes us hold no more than this (its line, its literals, what it is told).
const MOST_HELD_BEFORE_LOGIN: usize = 32 << 10;

/// Gives the octets in pieces.
fn say(proxy: &mut Proxy, side: Side, octets: &[u8], random: &mut Random) {
    let mut rest = octets;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(random.within(1..200).min(rest.len()));
        proxy.hear(side, piece);
        rest = behind;
    }
}

/// A mailbox that a literal's content would make.
fn is_smuggled(backend: &Backend) -> bool {
    backend.store().mailboxes.contains_key("smuggled")
}

/// Whether all literals are as they were in the corpus: then what looks like a command in them is none. Elsewhere the
/// mutation may have made it one, of the client's own.
fn has_only_intact_literals(octets: &[u8]) -> bool {
    const INTACT: &[u8] = b"{20+}\r\nz9 CREATE smuggled\r\n\r\n";
    const HARM: &[u8] = b"CREATE smuggled";
    let count = |wanted: &[u8]| octets.windows(wanted.len()).filter(|window| *window == wanted).count();
    let intact = count(INTACT);
    intact > 0 && count(b"{") == intact && count(HARM) == intact
}

#[test]
fn a_stranger() {
    fuzz("stranger", COMMANDS, |octets, random| {
        let mut proxy = Proxy::new(Setup::before(&Settings::with("IMAP4rev1 AUTH=SCRAM-SHA-256 AUTH=XOAUTH2")), 1);
        proxy.take_sent(Side::Client);
        let mut rest = octets;
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(random.within(1..200).min(rest.len()));
            proxy.hear(Side::Client, piece);
            proxy.take_sent(Side::Client);
            assert!(proxy.held() <= MOST_HELD_BEFORE_LOGIN, "{} octets are held", proxy.held());
            rest = behind;
        }
        proxy.gone(Side::Client);
        assert!(proxy.ended().is_some());
    });
}

#[test]
fn a_client_before_a_model() {
    fuzz("client", COMMANDS, |octets, random| {
        let capabilities = *random.pick(&["IMAP4rev1", "IMAP4rev1 IDLE LITERAL+", "IMAP4rev1 LITERAL- UIDPLUS IDLE"]);
        let mischief = Mischief { lazy_literals: random.one_in(2), no_to_unknown: true, ..Mischief::default() };
        let backend = Backend::new(Settings { mischief, ..Settings::with(capabilities) });
        let setup = Setup { compress: random.one_in(2), ..Setup::before(&Settings::with(capabilities)) };
        let mut proxy = Proxy::new(setup, 1);
        let mut connection = backend.connect();
        proxy.hear(Side::Client, b"z LOGIN joe secret\r\n");
        proxy.connected();
        let greeting = connection.greeting();
        proxy.hear(Side::Backend, &greeting);
        for piece in [&b""[..], octets] {
            say(&mut proxy, Side::Client, piece, random);
            for _ in 0..20 {
                let heard = proxy.take_sent(Side::Backend);
                let answer = connection.feed(&heard);
                say(&mut proxy, Side::Backend, &answer, random);
                proxy.take_sent(Side::Client);
                assert!(proxy.held() <= MOST_HELD, "{} octets are held", proxy.held());
            }
        }
        // What stands in one piece with COMPRESS is lost, also the line that would have made a literal of what follows.
        let is_whole = proxy.upgrades(Side::Client) == 0;
        let is_content = is_whole && has_only_intact_literals(octets);
        assert!(!is_content || !is_smuggled(&backend), "content was executed");
        proxy.gone(Side::Client);
        // A RENAME on its way is finished without the client, but not for ever.
        proxy.pass_time(Duration::from_secs(60));
        assert!(proxy.ended().is_some());
    });
}

#[test]
fn a_backend_that_says_anything() {
    fuzz("backend", RESPONSES, |octets, random| {
        let mut proxy = Proxy::new(Setup::before(&Settings::with("IMAP4rev1 IDLE")), 1);
        proxy.hear(Side::Client, b"z LOGIN joe secret\r\n");
        proxy.connected();
        // Half of them are good enough to log in.
        if random.one_in(2) {
            proxy.hear(Side::Backend, b"* OK [CAPABILITY IMAP4rev1 IDLE] hello\r\n");
            let said = String::from_utf8_lossy(&proxy.take_sent(Side::Backend)).into_owned();
            let tag = said.split(' ').next().unwrap_or("a").to_owned();
            proxy.hear(Side::Backend, format!("{tag} OK [CAPABILITY IMAP4rev1 IDLE] in\r\n").as_bytes());
        }
        let commands = mutated(COMMANDS, random);
        say(&mut proxy, Side::Client, &commands, random);
        say(&mut proxy, Side::Backend, octets, random);
        assert!(proxy.held() <= MOST_HELD, "{} octets are held", proxy.held());
        proxy.take_sent(Side::Client);
        proxy.gone(if random.one_in(2) { Side::Backend } else { Side::Client });
    });
}
