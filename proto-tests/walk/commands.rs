//! What the client of a walk says, and what must come of it.

use std::collections::BTreeSet;

use proto_tests::random::Random;

use crate::client::Client;

/// A command under way.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) tag: String,
    pub(crate) line: String,
    /// Its last octet has been sent.
    pub(crate) complete: bool,
    /// How many octets it is.
    pub(crate) len: usize,
    /// RFC 3501 7.4.1: FETCH, STORE or SEARCH by number, during which no EXPUNGE may be told.
    pub(crate) uses_numbers: bool,
    /// RFC 3501 5.5: a command by number must not follow before this one has ended.
    pub(crate) may_expunge: bool,
    /// The client waits for its end before it says anything else.
    pub(crate) alone: bool,
    pub(crate) intent: Intent,
}

/// What must come of a command.
#[derive(Debug)]
pub(crate) enum Intent {
    /// Nothing in particular.
    Nothing,
    /// A message with just this content.
    Append {
        mailbox: String,
        content: Vec<u8>,
    },
    /// Copies of these messages, and of no others; what there was before.
    Copy {
        uids: Meant,
        before: Vec<Vec<u8>>,
    },
    /// A response for each of these that is still there.
    Fetch {
        uids: BTreeSet<u32>,
        seen: BTreeSet<u32>,
    },
    Idle,
    /// Messages are found, and nobody can say which.
    SearchAny,
    /// No mailbox is selected.
    Leave,
    /// Nothing else is found, and of those that the client knew all that are still there.
    Search {
        wanted: BTreeSet<u32>,
        known: BTreeSet<u32>,
        found: BTreeSet<u32>,
        by_uid: bool,
    },
    Select(String),
    /// These messages, and no others, have this keyword.
    Store {
        uids: Meant,
        keyword: String,
    },
}

/// The messages that a set means. With `*` also those behind the last one that the client had heard of when it spoke.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meant {
    pub(crate) uids: BTreeSet<u32>,
    pub(crate) beyond: Option<u32>,
}

impl Meant {
    /// Whether this message may be meant.
    pub(crate) fn may_be(&self, uid: u32) -> bool {
        self.uids.contains(&uid) || self.beyond.is_some_and(|last| uid > last)
    }
}

/// A command to be sent: its pieces, between which the server is waited for.
pub(crate) struct Saying {
    pub(crate) pieces: Vec<Vec<u8>>,
    pub(crate) sent: Sent,
}

/// Content that would do harm if it were executed.
pub(crate) const HARM: &str = "z9 CREATE smuggled\r\n";

/// Writes commands with tags and keywords that nobody had before.
#[derive(Debug)]
pub(crate) struct Speaker {
    pub(crate) random: Random,
    counter: u32,
}

impl Speaker {
    pub(crate) fn new(random: Random) -> Self {
        Self { random, counter: 0 }
    }

    fn say(&mut self, line: &str, uses_numbers: bool, may_expunge: bool, intent: Intent) -> Saying {
        self.counter += 1;
        let tag = format!("c{}", self.counter);
        let octets = format!("{tag} {line}\r\n").into_bytes();
        let len = octets.len();
        let sent =
            Sent { tag, line: line.to_owned(), complete: false, len, uses_numbers, may_expunge, alone: false, intent };
        Saying { pieces: vec![octets], sent }
    }

    /// A set of some of the client's messages: as it is written, and the UIDs it means.
    fn set(&mut self, client: &Client) -> (String, BTreeSet<u32>) {
        let count = client.messages.len();
        let uid = |number: usize| client.messages[number - 1].uid;
        if self.random.one_in(12) {
            // Whoever arrives before it is executed is the last one then.
            return ("*".to_owned(), BTreeSet::new());
        }
        let (one, other) = (self.random.within(1..count + 1), self.random.within(1..count + 1));
        let (first, last) = (one.min(other), one.max(other));
        match self.random.below(4) {
            0 => (format!("{last}:{first}"), (first..=last).filter_map(uid).collect()),
            1 => (format!("{first}:*"), (first..=count).filter_map(uid).collect()),
            2 if first != last => (format!("{first},{last}"), [first, last].into_iter().filter_map(uid).collect()),
            _ => (format!("{first}"), uid(first).into_iter().collect()),
        }
    }

    /// The first command of all.
    pub(crate) fn login(&mut self) -> Saying {
        self.say("LOGIN joe secret", false, false, Intent::Nothing)
    }

    /// A command by number.
    pub(crate) fn by_number(&mut self, client: &Client, copies: &[Vec<u8>]) -> Saying {
        let (set, uids) = self.set(client);
        let last = client.messages.last().and_then(|message| message.uid);
        let alone = u32::from(set == "*");
        let meant = Meant { uids: uids.clone(), beyond: last.filter(|_| set.contains('*')).map(|last| last - alone) };
        match self.random.below(8) {
            0 | 1 => self.store("STORE", &set, meant),
            2 if client.selected.as_deref() == Some("INBOX") => self.say(
                &format!("COPY {set} Work"),
                false,
                true,
                Intent::Copy { uids: meant, before: copies.to_vec() },
            ),
            3 => self.search(client),
            4 => {
                let what = "(UID FLAGS BODY.PEEK[])";
                self.say(&format!("FETCH {set} {what}"), true, false, Intent::Fetch { uids, seen: BTreeSet::new() })
            }
            _ => {
                let what = if self.random.one_in(2) { "(FLAGS UID)" } else { "UID" };
                self.say(&format!("FETCH {set} {what}"), true, false, Intent::Fetch { uids, seen: BTreeSet::new() })
            }
        }
    }

    fn store(&mut self, verb: &str, set: &str, uids: Meant) -> Saying {
        let keyword = format!("k{}", self.counter + 1);
        let deleted = if self.random.one_in(4) { " \\Deleted" } else { "" };
        let by_uid = verb.starts_with("UID");
        let line = format!("{verb} {set} +FLAGS ({keyword}{deleted})");
        self.say(&line, !by_uid, by_uid, Intent::Store { uids, keyword })
    }

    /// Criteria without numbers, answered with numbers.
    fn search(&mut self, client: &Client) -> Saying {
        let known: Vec<u32> = client.messages.iter().filter_map(|message| message.uid).collect();
        let (from, to) = (*self.random.pick(&known), *self.random.pick(&known));
        let wanted: BTreeSet<u32> = (from.min(to)..=from.max(to)).collect();
        let known = known.into_iter().collect();
        let intent = Intent::Search { wanted, known, found: BTreeSet::new(), by_uid: false };
        self.say(&format!("SEARCH UID {from}:{to}"), true, false, intent)
    }

    /// A command that names no number.
    pub(crate) fn without_numbers(&mut self, client: &Client) -> Saying {
        let known: Vec<u32> = client.messages.iter().filter_map(|message| message.uid).collect();
        let uid = if known.is_empty() { 1 } else { *self.random.pick(&known) };
        let uids: BTreeSet<u32> = known.iter().copied().filter(|known| *known == uid).collect();
        match self.random.below(9) {
            0 => self.say("CHECK", false, true, Intent::Nothing),
            1 if !known.is_empty() => self.store("UID STORE", &uid.to_string(), Meant { uids, beyond: None }),
            2 => {
                let intent = Intent::Fetch { uids, seen: BTreeSet::new() };
                self.say(&format!("UID FETCH {uid} (FLAGS)"), false, true, intent)
            }
            3 => {
                let wanted = BTreeSet::from([uid]);
                let intent = Intent::Search { wanted, known: uids, found: BTreeSet::new(), by_uid: true };
                self.say(&format!("UID SEARCH UID {uid}"), false, true, intent)
            }
            4 => self.say("EXPUNGE", false, true, Intent::Nothing),
            5 => self.say("STATUS Work (MESSAGES)", false, true, Intent::Nothing),
            6 => self.say("UID FETCH 1:* (UID FLAGS)", false, true, Intent::Nothing),
            _ => self.say("NOOP", false, true, Intent::Nothing),
        }
    }

    /// Commands that go alone: literals of all kinds, layers of ours, what nobody knows.
    pub(crate) fn alone(&mut self) -> Saying {
        let mut saying = self.seldom();
        saying.sent.alone = true;
        saying
    }

    fn seldom(&mut self) -> Saying {
        match self.random.below(12) {
            0 => self.say("NAMESPACE", false, true, Intent::Nothing),
            1 => self.say("ENABLE X-NONE", false, true, Intent::Nothing),
            2 => self.say("ID NIL", false, true, Intent::Nothing),
            3 => self.say("CAPABILITY", false, true, Intent::Nothing),
            4 => self.say("LIST \"\" *", false, true, Intent::Nothing),
            5 => self.say("XYZZY (a b)", false, true, Intent::Nothing),
            6 => {
                let verb = *self.random.pick(&["XYZZY", "NOOP", "CHECK", "UID XYZZY", "STORE", "UID EXPUNGE"]);
                self.with_literal(verb, "", Intent::Nothing, HARM.repeat(3).into_bytes())
            }
            7 => self.with_literal("STATUS", " (MESSAGES)", Intent::Nothing, b"Work".to_vec()),
            _ => {
                let content = self.content();
                let mailbox = if self.random.one_in(9) { "nowhere" } else { "Work" }.to_owned();
                let intent = Intent::Append { mailbox: mailbox.clone(), content: content.clone() };
                self.with_literal(&format!("APPEND {mailbox}"), "", intent, content)
            }
        }
    }

    /// Octets that nobody else appended, and that would do harm as commands.
    fn content(&mut self) -> Vec<u8> {
        let mut content = format!("Subject: appended {}\r\n\r\n", self.counter).into_bytes();
        let len = *self.random.pick(&[content.len(), 200, 4095, 4096, 4097, 9000, 70_000]);
        while content.len() + HARM.len() <= len {
            content.extend_from_slice(HARM.as_bytes());
        }
        content.resize(len.max(content.len()), b'.');
        content
    }

    fn with_literal(&mut self, before: &str, behind: &str, intent: Intent, content: Vec<u8>) -> Saying {
        let waits = self.random.one_in(2);
        let mark = if waits { "" } else { "+" };
        let mut saying = self.say(&format!("{before} {{{}{mark}}}", content.len()), false, true, intent);
        let mut rest = content;
        rest.extend_from_slice(format!("{behind}\r\n").as_bytes());
        if waits {
            saying.pieces.push(rest);
        } else {
            saying.pieces[0].extend(rest);
        }
        saying
    }

    /// SELECT, or leaving.
    pub(crate) fn select(&mut self, client: &Client) -> Saying {
        let mut saying = if client.selected.is_some() && self.random.one_in(3) {
            let verb = *self.random.pick(&["UNSELECT", "CLOSE"]);
            self.say(verb, false, true, Intent::Leave)
        } else {
            let mailbox = if self.random.one_in(4) { "Work" } else { "INBOX" };
            self.say(&format!("SELECT {mailbox}"), false, true, Intent::Select(mailbox.to_owned()))
        };
        saying.sent.alone = true;
        saying
    }

    pub(crate) fn idle(&mut self) -> Saying {
        self.say("IDLE", false, true, Intent::Idle)
    }

    pub(crate) fn noop(&mut self) -> Saying {
        self.say("NOOP", false, true, Intent::Nothing)
    }

    pub(crate) fn fetch_all(&mut self) -> Saying {
        let intent = Intent::Fetch { uids: BTreeSet::new(), seen: BTreeSet::new() };
        self.say("FETCH 1:* (UID FLAGS)", true, false, intent)
    }
}
