//! Sessions cut at every octet: a peer goes or falls silent, the backend says BYE, the operator drains, the store is full.
//! Architecture section 10, point 4.
//!
//! What the client got is whole responses, and a BYE if there was room for one; or the connection was cut without a word.
//! Half a message is never stored. What is done in several steps is done, or can be done again: no message is lost, and behind
//! a client that goes nothing is left half done.

use std::time::Duration;

use lemonade_proxy::{session::effect::Side, units::Size};
use proto_tests::{
    cast::{Between, Disk, End},
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
    /// It says nothing more, and time passes.
    BackendIsSilent,
    Drain,
    StoreIsFull,
}

impl Cut {
    const ALL: [Self; 6] = [
        Self::ClientGoes,
        Self::BackendGoes,
        Self::BackendSaysBye,
        Self::BackendIsSilent,
        Self::Drain,
        Self::StoreIsFull,
    ];
}

/// What happens in a session.
enum Step {
    /// The client says this, and hears a line that begins so.
    Say(&'static str, &'static str),
    /// The backend goes, a message comes meanwhile, and the client hears this of it.
    Lose(&'static str),
}

use Step::{Lose, Say};

/// A session.
struct Script {
    name: &'static str,
    capabilities: &'static str,
    steps: &'static [Step],
    /// Messages of INBOX and of Work when nothing was cut.
    messages: (usize, usize),
}

const SCRIPTS: [Script; 4] = [
    Script {
        name: "all kinds of literals",
        capabilities: "IMAP4rev1 IDLE",
        steps: &[
            Say("a LOGIN joe secret\r\n", "a "),
            Say("b SELECT INBOX\r\n", "b "),
            Say("c FETCH 1:2 (UID BODY.PEEK[] FLAGS)\r\n", "c "),
            Say("d APPEND Work {20+}\r\nz9 CREATE smuggled\r\n\r\n", "d "),
            Say("e APPEND Work {100}\r\n", "+ "),
            Say(CONTENT, "e "),
            Say("f NAMESPACE\r\n", "f "),
            Say("g IDLE\r\n", "+ "),
            Say("DONE\r\n", "g "),
            Say("h UNSELECT\r\n", "h "),
            Say("i LOGOUT\r\n", "i "),
        ],
        messages: (2, 2),
    },
    Script {
        name: "annotations",
        capabilities: "IMAP4rev1 LITERAL+",
        steps: &[
            Say("a LOGIN joe secret\r\n", "a "),
            Say("b SETMETADATA Work (/private/comment {5+}\r\nfirst)\r\n", "b "),
            Say("c SETMETADATA Work (/private/comment \"second\" /private/other {5}\r\n", "+ "),
            Say("value)\r\n", "c "),
            Say("d GETMETADATA Work (/private/comment /private/other)\r\n", "d "),
            Say("e RENAME Work Play\r\n", "e "),
            Say("f RENAME Play Work\r\n", "f "),
            Say("g LOGOUT\r\n", "g "),
        ],
        messages: (2, 0),
    },
    Script {
        name: "messages move in three steps",
        capabilities: "IMAP4rev1 UIDPLUS",
        steps: &[
            Say("a LOGIN joe secret\r\n", "a "),
            Say("b SELECT INBOX\r\n", "b "),
            Say("c MOVE 1 Work\r\n", "c "),
            Say("d UID MOVE 2 Work\r\n", "d "),
            Say("e LOGOUT\r\n", "e "),
        ],
        messages: (0, 2),
    },
    Script {
        name: "a connection is made again",
        capabilities: "IMAP4rev1 IDLE",
        steps: &[
            Say("a LOGIN joe secret\r\n", "a "),
            Say("b SELECT INBOX\r\n", "b "),
            Say("c IDLE\r\n", "+ "),
            Lose("* 3 EXISTS"),
            Say("DONE\r\n", "c "),
            Say("d LOGOUT\r\n", "d "),
        ],
        messages: (3, 0),
    },
];

/// 100 octets and the end of the command: above the bound for small literals set below.
const CONTENT: &str = "Subject: whole\r\n\r\n\
    ................................................................................\r\n\r\n";

/// What the messages of INBOX hold: lines that would do harm, were they taken for responses.
const HARM: &[u8] = b"Subject: a\r\n\r\na OK not the end\r\n* BYE\r\n";

/// The session has gone on long enough after the cut for whatever ends by itself.
const ROUNDS: usize = 5_000;

/// A session that is delivered octet by octet.
struct Play {
    proxy: Proxy,
    backend: Backend,
    connection: Option<Connection>,
    from_backend: Vec<u8>,
    heard: Vec<u8>,
    /// Octets that were delivered.
    delivered: usize,
    /// The octet at which it is cut, and how.
    cut: Option<(usize, Cut)>,
    /// It was.
    is_cut: bool,
    is_silent: bool,
}

impl Play {
    fn new(script: &Script, cut: Option<(usize, Cut)>) -> Self {
        let settings = Settings { announces: true, ..Settings::with(script.capabilities) };
        let mut setup = Setup::before(&settings);
        setup.limits.small_literal = Size(64);
        let backend = Backend::new(settings);
        for uid in 1..=2 {
            backend.store().mailbox_or_new("INBOX").append(Some(uid), Vec::new(), HARM.to_vec());
        }
        backend.store().mailbox_or_new("Work");
        Self {
            proxy: Proxy::new(setup, 3),
            backend,
            connection: None,
            from_backend: Vec::new(),
            heard: Vec::new(),
            delivered: 0,
            cut,
            is_cut: false,
            is_silent: false,
        }
    }

    /// Plays until all is said, or nobody goes on.
    fn run(&mut self, script: &Script) {
        for step in script.steps {
            let begins = match *step {
                Say(said, begins) => {
                    for octet in said.as_bytes() {
                        self.deliver(Side::Client, *octet);
                        self.client_reads();
                    }
                    begins
                }
                Lose(begins) => {
                    self.connection = None;
                    self.from_backend.clear();
                    self.backend.store().mailbox_or_new("INBOX").append(None, Vec::new(), HARM.to_vec());
                    self.proxy.gone(Side::Backend);
                    begins
                }
            };
            if !self.goes_on_until(begins) {
                break;
            }
        }
        self.client_reads();
    }

    /// Whether the client hears a line that begins so.
    fn goes_on_until(&mut self, begins: &str) -> bool {
        let mut looked = usize::MAX;
        for _ in 0..ROUNDS {
            let moved = self.backend_moves();
            self.client_reads();
            if looked != self.heard.len() {
                looked = self.heard.len();
                let is_it = |line: &[u8]| line.starts_with(begins.as_bytes());
                if self.heard.ends_with(b"\n") && self.heard.split(|&octet| octet == b'\n').any(is_it) {
                    return true;
                }
            }
            if self.proxy.ended().is_some() {
                return false;
            }
            if !moved {
                let Some(due) = self.proxy.until_due() else { return false };
                self.proxy.pass_time(due);
            }
        }
        false
    }

    fn client_reads(&mut self) {
        self.heard.extend(self.proxy.take_sent(Side::Client));
    }

    /// The backend reads, and one octet of its answer is delivered. Whether anything moved.
    fn backend_moves(&mut self) -> bool {
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
        if self.from_backend.is_empty() || self.is_silent {
            return !heard.is_empty();
        }
        let octet = self.from_backend.remove(0);
        self.deliver(Side::Backend, octet);
        true
    }

    /// One octet goes in; it may be the one at which the session is cut.
    fn deliver(&mut self, side: Side, octet: u8) {
        self.proxy.hear(side, &[octet]);
        self.delivered += 1;
        if let Some((_, cut)) = self.cut.filter(|(at, _)| *at == self.delivered) {
            self.is_cut = true;
            self.client_reads();
            self.happens(cut);
        }
    }

    fn happens(&mut self, cut: Cut) {
        match cut {
            Cut::ClientGoes => self.proxy.gone(Side::Client),
            Cut::BackendGoes | Cut::BackendSaysBye => {
                // What the proxy has sent, the backend still executes.
                let heard = self.proxy.take_sent(Side::Backend);
                self.connection.take().into_iter().for_each(|mut connection| _ = connection.feed(&heard));
                self.from_backend.clear();
                if cut == Cut::BackendSaysBye {
                    self.proxy.hear(Side::Backend, b"* BYE enough\r\n");
                }
                self.proxy.gone(Side::Backend);
            }
            Cut::BackendIsSilent => self.is_silent = true,
            Cut::Drain => self.proxy.drain(),
            Cut::StoreIsFull => self.proxy.store_becomes(Disk::Full),
        }
    }

    /// What ends by itself ends.
    fn end(&mut self) {
        for _ in 0..ROUNDS {
            let moved = self.backend_moves();
            self.client_reads();
            if self.proxy.ended().is_some() {
                // What it has sent, the backend still executes.
                let heard = self.proxy.take_sent(Side::Backend);
                self.connection.iter_mut().for_each(|connection| _ = connection.feed(&heard));
                return;
            }
            if !moved {
                self.proxy.pass_time(Duration::from_secs(60));
            }
        }
    }

    /// What was answered with OK is kept, and nothing else.
    fn check_annotations(&self, what: &str) {
        let heard = String::from_utf8_lossy(&self.heard);
        if let Some(told) = heard.lines().find(|line| line.starts_with("* METADATA ")) {
            let kept = KEPT.iter().find(|(end, _)| heard.lines().any(|line| line.starts_with(end)));
            let value = kept.map_or("NIL".to_owned(), |(_, value)| format!("\"{value}\""));
            assert!(told.contains(&value), "{what}: {heard}");
        }
    }

    /// Whole responses, or a connection that was cut; whole messages, and none lost.
    fn check(&mut self, script: &Script, at: usize, cut: Cut) {
        let mut rest = self.heard.as_slice();
        while let Some(len) = response_len(rest) {
            rest = &rest[len..];
        }
        let what = format!("{}: {cut:?} at {at}", script.name);
        let end = self.proxy.end(Side::Client);
        let shown = self.heard.escape_ascii();
        assert!(self.proxy.ended().is_some(), "{what}: no end: {shown}");
        if end == Some(End::Clean) && cut != Cut::ClientGoes && cut != Cut::BackendSaysBye {
            assert!(rest.is_empty(), "{what}: closed cleanly inside a response: {shown}");
        }
        if end == Some(End::Cut) {
            let text = String::from_utf8_lossy(rest);
            assert!(!text.ends_with("]\r\n"), "{what}: padded: {shown}");
        }
        self.check_annotations(&what);
        let mut store = self.backend.store();
        assert!(!store.mailboxes.contains_key("smuggled"), "{what}: executed");
        let inbox = store.mailbox_or_new("INBOX").messages.clone();
        let work = ["Work", "Play"].into_iter().filter_map(|name| store.mailboxes.get(name));
        let work: Vec<_> = work.flat_map(|mailbox| mailbox.messages.clone()).collect();
        for message in &work {
            let whole = [&b"z9 CREATE smuggled\r\n"[..], &CONTENT.as_bytes()[..100], HARM];
            assert!(whole.contains(&message.octets.as_slice()), "{what}: half a message");
        }
        let moved = work.iter().filter(|message| message.octets == HARM).count();
        assert!(inbox.len() + moved >= 2, "{what}: a message is lost: {shown}");
        if cut == Cut::ClientGoes && script.name.contains("move") {
            assert_eq!(inbox.len() + moved, 2, "{what}: a message is in both mailboxes: {shown}");
            assert!(inbox.iter().all(|message| !message.has("\\Deleted")), "{what}: left half done: {shown}");
        }
    }
}

/// What a store that is full has said OK to.
const KEPT: [(&str, &str); 2] = [("c OK", "second"), ("b OK", "first")];

fn is_cut_anywhere(script: &Script) {
    let mut whole = Play::new(script, None);
    whole.run(script);
    let said = String::from_utf8_lossy(&whole.heard).into_owned();
    let messages = |name| whole.backend.store().mailbox_or_new(name).messages.len();
    assert_eq!((messages("INBOX"), messages("Work")), script.messages, "{}: {said}", script.name);
    assert!(whole.proxy.ended().is_some(), "{}: {said}", script.name);
    for cut in Cut::ALL {
        for at in 1..whole.delivered {
            let mut play = Play::new(script, Some((at, cut)));
            play.run(script);
            assert!(play.is_cut, "{}: {cut:?} at {at} did not come", script.name);
            play.end();
            play.check(script, at, cut);
        }
    }
}

#[test]
fn a_session_may_be_cut_at_every_octet() {
    is_cut_anywhere(&SCRIPTS[0]);
}

#[test]
fn annotations_may_be_cut_at_every_octet() {
    is_cut_anywhere(&SCRIPTS[1]);
}

#[test]
fn a_move_may_be_cut_at_every_octet() {
    is_cut_anywhere(&SCRIPTS[2]);
}

#[test]
fn a_connection_that_is_made_again_may_be_cut_at_every_octet() {
    is_cut_anywhere(&SCRIPTS[3]);
}
