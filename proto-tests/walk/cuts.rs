//! A session cut at every octet: a peer goes, the backend says BYE, the operator drains. Architecture section 10, point 4.
//!
//! What the client got is whole responses, and a BYE if there was room for one; or the connection was cut without a word.
//! Half a message is never stored.

use lemonade_proxy::{session::effect::Side, units::Size};
use proto_tests::{
    cast::{Between, End},
    model::{Backend, Connection, Settings},
    proxy::{Proxy, Setup},
};

use crate::client::response_len;

/// What happens at the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    ClientGoes,
    BackendGoes,
    BackendSaysBye,
    Drain,
}

/// The client's lines; `...` waits for a continuation, every other line for its end.
const SCRIPT: &[&str] = &[
    "a LOGIN joe secret\r\n",
    "b SELECT INBOX\r\n",
    "c FETCH 1:2 (UID BODY.PEEK[] FLAGS)\r\n",
    "d APPEND Work {20+}\r\nz9 CREATE smuggled\r\n\r\n",
    "e APPEND Work {100}\r\n",
    CONTENT,
    "f NAMESPACE\r\n",
    "g IDLE\r\n",
    "DONE\r\n",
    "h UNSELECT\r\n",
    "i LOGOUT\r\n",
];

/// 100 octets and the end of the command: above the bound for small literals set below.
const CONTENT: &str = "Subject: whole\r\n\r\n\
    ................................................................................\r\n\r\n";

/// A session that is delivered octet by octet.
struct Play {
    proxy: Proxy,
    backend: Backend,
    connection: Option<Connection>,
    from_backend: Vec<u8>,
    heard: Vec<u8>,
    /// Octets that were delivered.
    delivered: usize,
    gone: bool,
}

impl Play {
    fn new() -> Self {
        let settings = Settings::with("IMAP4rev1 IDLE");
        let mut setup = Setup::before(&settings);
        setup.limits.small_literal = Size(64);
        let backend = Backend::new(settings);
        for uid in 1..=2 {
            let content = b"Subject: a\r\n\r\na OK not the end\r\n* BYE\r\n".to_vec();
            backend.store().mailbox_or_new("INBOX").append(Some(uid), Vec::new(), content);
        }
        backend.store().mailbox_or_new("Work");
        let proxy = Proxy::new(setup, 3);
        Self {
            proxy,
            backend,
            connection: None,
            from_backend: Vec::new(),
            heard: Vec::new(),
            delivered: 0,
            gone: false,
        }
    }

    /// Plays until all is said or the cut has come; then lets everybody end.
    fn run(&mut self, at: Option<usize>, cut: Cut) {
        for line in SCRIPT {
            let waits_for_more = line.ends_with("{100}\r\n") || line.starts_with("g IDLE");
            let tag = if waits_for_more { "+ ".to_owned() } else { format!("{} ", &line[..1]) };
            for octet in line.as_bytes() {
                if self.deliver(Side::Client, &[*octet], at, cut) {
                    return;
                }
                self.proxy.take_sent(Side::Client).into_iter().for_each(|octet| self.heard.push(octet));
            }
            // The two lines without a tag belong to the command before.
            let tag = match *line {
                CONTENT => "e ".to_owned(),
                "DONE\r\n" => "g ".to_owned(),
                _ => tag,
            };
            for _ in 0..10_000 {
                if self.backend_moves(at, cut) {
                    return;
                }
                let text = String::from_utf8_lossy(&self.heard).into_owned();
                if text.lines().any(|line| line.starts_with(&tag)) && text.ends_with("\r\n") {
                    break;
                }
            }
        }
    }

    fn backend_moves(&mut self, at: Option<usize>, cut: Cut) -> bool {
        if self.proxy.wants_backend() {
            let mut connection = self.backend.connect();
            self.from_backend = connection.greeting();
            self.connection = Some(connection);
            self.proxy.connected();
        }
        let heard = self.proxy.take_sent(Side::Backend);
        if let Some(connection) = &mut self.connection {
            self.from_backend.extend(connection.feed(&heard));
        }
        if !self.from_backend.is_empty() {
            let octet = self.from_backend.remove(0);
            if self.deliver(Side::Backend, &[octet], at, cut) {
                return true;
            }
        }
        self.heard.extend(self.proxy.take_sent(Side::Client));
        false
    }

    /// One octet goes in; whether it was the last one.
    fn deliver(&mut self, side: Side, octet: &[u8], at: Option<usize>, cut: Cut) -> bool {
        self.proxy.hear(side, octet);
        self.delivered += 1;
        if at != Some(self.delivered) {
            return false;
        }
        self.heard.extend(self.proxy.take_sent(Side::Client));
        match cut {
            Cut::ClientGoes => self.proxy.gone(Side::Client),
            Cut::BackendGoes => self.proxy.gone(Side::Backend),
            Cut::BackendSaysBye => {
                self.proxy.hear(Side::Backend, b"* BYE enough\r\n");
                self.proxy.gone(Side::Backend);
            }
            Cut::Drain => {
                self.proxy.drain();
                // What runs may end; the client says nothing more.
                for _ in 0..5_000 {
                    if self.backend_moves(None, cut) {
                        break;
                    }
                }
            }
        }
        self.heard.extend(self.proxy.take_sent(Side::Client));
        // What the proxy still sends, the backend still executes.
        let heard = self.proxy.take_sent(Side::Backend);
        if let Some(connection) = &mut self.connection {
            connection.feed(&heard);
        }
        self.gone = true;
        true
    }

    /// Whole responses, or a connection that was cut; whole messages.
    fn check(&mut self, at: usize, cut: Cut) {
        let mut rest = self.heard.as_slice();
        while let Some(len) = response_len(rest) {
            rest = &rest[len..];
        }
        let end = self.proxy.end(Side::Client);
        let shown = self.heard.escape_ascii();
        if end == Some(End::Clean) && cut != Cut::ClientGoes && cut != Cut::BackendSaysBye {
            assert!(rest.is_empty(), "{cut:?} at {at}: closed cleanly inside a response: {shown}");
        }
        if end == Some(End::Cut) {
            let text = String::from_utf8_lossy(rest);
            assert!(!text.ends_with("]\r\n"), "{cut:?} at {at}: padded: {shown}");
        }
        let mut store = self.backend.store();
        assert!(!store.mailboxes.contains_key("smuggled"), "{cut:?} at {at}: executed");
        for message in &store.mailbox_or_new("Work").messages {
            let whole = [&b"z9 CREATE smuggled\r\n"[..], &CONTENT.as_bytes()[..100]];
            assert!(whole.contains(&message.octets.as_slice()), "{cut:?} at {at}: half a message");
        }
    }
}

#[test]
fn a_session_may_be_cut_at_every_octet() {
    let mut whole = Play::new();
    whole.run(None, Cut::Drain);
    let said = String::from_utf8_lossy(&whole.heard).into_owned();
    assert!(said.contains("i OK"), "the session is not what it should be: {said}");
    assert_eq!(whole.backend.store().mailbox_or_new("Work").messages.len(), 2, "{said}");
    let octets = whole.delivered;
    for cut in [Cut::ClientGoes, Cut::BackendGoes, Cut::BackendSaysBye, Cut::Drain] {
        for at in 1..=octets {
            let mut play = Play::new();
            play.run(Some(at), cut);
            play.check(at, cut);
        }
    }
}
