//! What the client of a walk says, and what must come of it.

use std::collections::BTreeSet;

use proto_tests::random::Random;

use crate::client::{Client, Lists, Results, Told, Wish};
use crate::mail::age;

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
    /// What it means depends on when it is read.
    pub(crate) names_numbers: bool,
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
    /// These messages are in the other mailbox then, and no others go; what there was before.
    Move {
        uids: Meant,
        before: Vec<Vec<u8>>,
    },
    /// Nothing else is found, and of those that the client knew all that are still there.
    Search {
        wanted: BTreeSet<u32>,
        known: BTreeSet<u32>,
        found: BTreeSet<u32>,
        by_uid: bool,
        /// What is to be told in one line (RFC 4731); none: everything, in a SEARCH.
        returns: Option<Returns>,
        results: Option<Results>,
    },
    Select(String),
    /// VANISHED is said from now on.
    Sync,
    /// The client wants to hear this at any time.
    Notify(Told),
    /// The device wants to hear this while it idles.
    Wish(Wish),
    /// These messages, and no others, have this keyword.
    Store {
        uids: Meant,
        keyword: String,
    },
}

impl Intent {
    /// It may come to nothing.
    pub(crate) fn doubt(&mut self) {
        match self {
            Self::Copy { uids, .. } | Self::Move { uids, .. } | Self::Store { uids, .. } => {
                uids.others.append(&mut uids.uids);
            }
            Self::Fetch { uids, .. } | Self::Search { known: uids, .. } => uids.clear(),
            _ => {}
        }
    }
}

/// What a search is to tell, and whether `$` will stand for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Returns {
    pub(crate) min: bool,
    pub(crate) max: bool,
    pub(crate) all: bool,
    pub(crate) count: bool,
    pub(crate) save: bool,
}

impl Returns {
    fn any(random: &mut Random) -> Self {
        let [min, max, all, count, save] = std::array::from_fn(|_| random.one_in(3));
        Self { min, max, all, count, save }
    }

    /// RFC 5182 2.4: `$` is the ends only.
    pub(crate) fn is_narrow(self) -> bool {
        (self.min || self.max) && !(self.all || self.count)
    }

    /// Whether all that is found is told.
    pub(crate) fn tells_all(self) -> bool {
        self.all || self == Self::default()
    }

    fn written(self) -> String {
        let options =
            [(self.min, "MIN"), (self.max, "MAX"), (self.all, "ALL"), (self.count, "COUNT"), (self.save, "SAVE")];
        let words: Vec<&str> = options.into_iter().filter(|(wanted, _)| *wanted).map(|(_, word)| word).collect();
        format!("RETURN ({})", words.join(" "))
    }
}

/// What the server offers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Offers {
    /// ESEARCH, SEARCHRES and WITHIN.
    pub(crate) searches: bool,
    /// MOVE.
    pub(crate) moves: bool,
    /// Messages are copied into the other mailbox.
    pub(crate) copies: bool,
    /// Another mailbox than INBOX is selected, too.
    pub(crate) roams: bool,
    /// What a device wants to hear may be said.
    pub(crate) wishes: bool,
    /// NOTIFY.
    pub(crate) notify: bool,
    /// CONDSTORE and QRESYNC.
    pub(crate) syncs: bool,
}

/// The messages that a set means. With `*` also those behind the last one that the client had heard of when it spoke.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meant {
    pub(crate) uids: BTreeSet<u32>,
    /// These too, perhaps.
    pub(crate) others: BTreeSet<u32>,
    pub(crate) beyond: Option<u32>,
}

impl Meant {
    /// Whether this message may be meant.
    pub(crate) fn may_be(&self, uid: u32) -> bool {
        self.uids.contains(&uid) || self.others.contains(&uid) || self.beyond.is_some_and(|last| uid > last)
    }
}

/// A command to be sent: its pieces, between which the server is waited for.
pub(crate) struct Saying {
    pub(crate) pieces: Vec<Vec<u8>>,
    pub(crate) sent: Sent,
}

/// With this, what a client appends begins.
pub(crate) const APPENDED: &[u8] = b"Subject: appended";

/// Content that would do harm if it were executed.
pub(crate) const HARM: &str = "z9 CREATE smuggled\r\n";

/// Writes commands with tags and keywords that nobody had before.
#[derive(Debug)]
pub(crate) struct Speaker {
    pub(crate) random: Random,
    pub(crate) offers: Offers,
    /// With this its tags begin.
    letter: char,
    counter: u32,
}

impl Speaker {
    /// The one of this session.
    pub(crate) fn new(random: Random, offers: Offers, at: usize) -> Self {
        let letter = char::from(b'c' + at as u8);
        Self { random, offers, letter, counter: 0 }
    }

    fn say(&mut self, line: &str, uses_numbers: bool, may_expunge: bool, intent: Intent) -> Saying {
        self.counter += 1;
        let tag = format!("{}{}", self.letter, self.counter);
        let octets = format!("{tag} {line}\r\n").into_bytes();
        let len = octets.len();
        let sent = Sent {
            tag,
            line: line.to_owned(),
            complete: false,
            len,
            uses_numbers,
            names_numbers: !line.starts_with("UID ") && !line.contains('$'),
            may_expunge,
            alone: false,
            intent,
        };
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
        let beyond = last.filter(|_| set.contains('*')).map(|last| last - alone);
        let meant = Meant { uids: uids.clone(), others: BTreeSet::new(), beyond };
        if self.offers.moves && client.selected.as_deref() == Some("INBOX") && self.random.one_in(9) {
            return self.moves("MOVE", &set, meant, copies);
        }
        match self.random.below(8) {
            0 | 1 => self.store("STORE", &set, meant),
            2 if self.offers.copies && client.selected.as_deref() == Some("INBOX") => {
                self.copies("COPY", &set, meant, copies)
            }
            3 if self.offers.searches && self.random.one_in(2) => self.search_by_number(&set, &meant),
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
        let keyword = format!("k{}{}", self.letter, self.counter + 1);
        let deleted = if self.random.one_in(4) { " \\Deleted" } else { "" };
        let by_uid = verb.starts_with("UID");
        let line = format!("{verb} {set} +FLAGS ({keyword}{deleted})");
        // What is behind others and names no number may be told of their removals.
        self.say(&line, !by_uid && set != "$", by_uid, Intent::Store { uids, keyword })
    }

    /// Criteria without numbers, answered with numbers.
    fn search(&mut self, client: &Client) -> Saying {
        let known: Vec<u32> = client.messages.iter().filter_map(|message| message.uid).collect();
        let (from, to) = (*self.random.pick(&known), *self.random.pick(&known));
        let wanted: BTreeSet<u32> = (from.min(to)..=from.max(to)).collect();
        let known = known.into_iter().collect();
        self.find("SEARCH", &format!("UID {from}:{to}"), wanted, known)
    }

    /// Criteria that are numbers.
    fn search_by_number(&mut self, set: &str, meant: &Meant) -> Saying {
        let wanted = match meant.beyond {
            Some(last) => meant.uids.iter().copied().chain(last + 1..last + 200).collect(),
            None => meant.uids.clone(),
        };
        self.find("SEARCH", set, wanted, meant.uids.clone())
    }

    /// A search, told in one way or the other.
    fn find(&mut self, verb: &str, criteria: &str, wanted: BTreeSet<u32>, known: BTreeSet<u32>) -> Saying {
        let extended = self.offers.searches && self.random.one_in(2);
        let returns = extended.then(|| Returns::any(&mut self.random));
        let options = returns.map(|returns| returns.written() + " ").unwrap_or_default();
        let by_uid = verb.starts_with("UID");
        let intent = Intent::Search { wanted, known, found: BTreeSet::new(), by_uid, returns, results: None };
        self.say(&format!("{verb} {options}{criteria}"), !by_uid, by_uid, intent)
    }

    /// Messages of some age (RFC 5032).
    fn search_by_age(&mut self, client: &Client) -> Saying {
        /// Behind the messages that the client knows others may have come.
        const AHEAD: u32 = 200;
        let known: BTreeSet<u32> = client.messages.iter().filter_map(|message| message.uid).collect();
        let seconds = self.random.within(1..60_000) as u32;
        let (key, younger) = *self.random.pick(&[("YOUNGER", true), ("OLDER", false), ("NOT OLDER", true)]);
        let meets = |uid: &u32| if younger { age(*uid) <= seconds } else { age(*uid) >= seconds };
        // Of a message that is just so old, only one of the two is true of NOT OLDER.
        let exactly = |uid: &u32| key == "NOT OLDER" && age(*uid) == seconds;
        let last = known.last().copied().unwrap_or(0);
        let wanted = (1..last + AHEAD).filter(|uid| meets(uid) && !exactly(uid)).collect();
        self.find(
            "UID SEARCH",
            &format!("{key} {seconds}"),
            wanted,
            known.into_iter().filter(|uid| meets(uid) && !exactly(uid)).collect(),
        )
    }

    /// A command about what `$` stands for.
    fn about_saved(&mut self, client: &Client, saved: &Meant, copies: &[Vec<u8>]) -> Saying {
        let in_inbox = client.selected.as_deref() == Some("INBOX");
        let uid = *self.random.pick(&["", "UID "]);
        match self.random.below(6) {
            0 => self.store(&format!("{uid}STORE"), "$", saved.clone()),
            1 if in_inbox && self.offers.copies => self.copies(&format!("{uid}COPY"), "$", saved.clone(), copies),
            2 if in_inbox && self.offers.moves => self.moves(&format!("{uid}MOVE"), "$", saved.clone(), copies),
            3 => {
                let wanted = saved.uids.union(&saved.others).copied().collect();
                let criteria = *self.random.pick(&["$", "UID $", "(ALL $)"]);
                self.find("UID SEARCH", criteria, wanted, saved.uids.clone())
            }
            _ => {
                let intent = Intent::Fetch { uids: saved.uids.clone(), seen: BTreeSet::new() };
                self.say(&format!("{uid}FETCH $ (FLAGS UID)"), false, !uid.is_empty(), intent)
            }
        }
    }

    fn copies(&mut self, verb: &str, set: &str, uids: Meant, copies: &[Vec<u8>]) -> Saying {
        self.say(&format!("{verb} {set} Work"), false, true, Intent::Copy { uids, before: copies.to_vec() })
    }

    fn moves(&mut self, verb: &str, set: &str, uids: Meant, copies: &[Vec<u8>]) -> Saying {
        self.say(&format!("{verb} {set} Work"), false, true, Intent::Move { uids, before: copies.to_vec() })
    }

    /// A command that names no number.
    pub(crate) fn without_numbers(&mut self, client: &Client, copies: &[Vec<u8>]) -> Saying {
        let in_inbox = client.selected.as_deref() == Some("INBOX");
        if let Some(saved) = client.saved.as_ref().filter(|_| self.offers.searches && client.selected.is_some())
            && self.random.one_in(5)
        {
            return self.about_saved(client, saved, copies);
        }
        if self.offers.searches && in_inbox && self.random.one_in(12) {
            return self.search_by_age(client);
        }
        if self.offers.syncs && self.random.one_in(9) {
            let vanished = if client.syncs { " VANISHED" } else { "" };
            let line = format!("UID FETCH 1:* (UID FLAGS) (CHANGEDSINCE 1{vanished})");
            return self.say(&line, false, true, Intent::Nothing);
        }
        let known: Vec<u32> = client.messages.iter().filter_map(|message| message.uid).collect();
        let uid = if known.is_empty() { 1 } else { *self.random.pick(&known) };
        let uids: BTreeSet<u32> = known.iter().copied().filter(|known| *known == uid).collect();
        match self.random.below(9) {
            0 if self.offers.moves && in_inbox && !known.is_empty() && self.random.one_in(2) => {
                self.moves("UID MOVE", &uid.to_string(), Meant { uids, ..Meant::default() }, copies)
            }
            0 => self.say("CHECK", false, true, Intent::Nothing),
            1 if !known.is_empty() => self.store("UID STORE", &uid.to_string(), Meant { uids, ..Meant::default() }),
            2 => {
                let intent = Intent::Fetch { uids, seen: BTreeSet::new() };
                self.say(&format!("UID FETCH {uid} (FLAGS)"), false, true, intent)
            }
            3 => self.find("UID SEARCH", &format!("UID {uid}"), BTreeSet::from([uid]), uids),
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
        if self.offers.wishes && self.random.one_in(6) {
            return self.wish();
        }
        if self.offers.notify && self.random.one_in(8) {
            return self.notify();
        }
        // QRESYNC is for the state in which no mailbox is selected (RFC 5161 section 3.1).
        if self.offers.syncs && self.random.one_in(12) {
            return self.say("ENABLE CONDSTORE", false, true, Intent::Nothing);
        }
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

    /// What the device wants to hear while it idles.
    fn wish(&mut self) -> Saying {
        let wish = *self.random.pick(&[Wish::All, Wish::New, Wish::Push, Wish::Nothing]);
        let (filter, push) = match wish {
            Wish::All => ("ALL", "pull"),
            Wish::New => ("NEW", "pull"),
            Wish::Push => ("NEW", "push"),
            Wish::Nothing => ("NONE", "pull"),
        };
        let line = format!(
            "SETMETADATA \"\" (/private/vendor/lemonade/notify/default/filter \"{filter}\" \
             /private/vendor/lemonade/notify/default/push \"{push}\")"
        );
        self.say(&line, false, true, Intent::Wish(wish))
    }

    /// VANISHED in the place of EXPUNGE.
    pub(crate) fn enable_qresync(&mut self) -> Saying {
        self.say("ENABLE QRESYNC", false, true, Intent::Sync)
    }

    /// What the client wants to hear at any time.
    pub(crate) fn notify(&mut self) -> Saying {
        let [messages, shown, at_once, flags, of_lists, read] = std::array::from_fn(|_| self.random.one_in(2));
        let lists = of_lists.then_some(Lists { flags: read });
        let told = match messages {
            true => Told { messages, shown, at_once, flags, lists },
            false => Told { lists, ..Told::default() },
        };
        self.notify_of(told)
    }

    /// It wants to hear everything.
    pub(crate) fn notify_all(&mut self, lists: Option<Lists>) -> Saying {
        self.notify_of(Told { messages: true, at_once: true, flags: true, lists, ..Told::default() })
    }

    fn notify_of(&mut self, told: Told) -> Saying {
        let mut groups = String::new();
        if told.messages {
            let which = if told.at_once { "selected" } else { "selected-delayed" };
            let shown = if told.shown { " (UID FLAGS)" } else { "" };
            let flags = if told.flags { " FlagChange" } else { "" };
            groups += &format!(" ({which} (MessageNew{shown} MessageExpunge{flags}))");
        }
        if let Some(lists) = told.lists {
            let which = *self.random.pick(&["mailboxes Lists", "subtree Lists"]);
            let flags = if lists.flags { " FlagChange" } else { "" };
            groups += &format!(" ({which} (MessageNew MessageExpunge{flags}))");
        }
        let line = match groups.is_empty() {
            true => "NOTIFY NONE".to_owned(),
            // Without STATUS, what was known before is not told anew.
            false => format!("NOTIFY SET STATUS{groups}"),
        };
        self.say(&line, false, true, Intent::Notify(told))
    }

    /// Octets that nobody else appended, and that would do harm as commands.
    fn content(&mut self) -> Vec<u8> {
        let mut content = format!("Subject: appended {}{}\r\n\r\n", self.letter, self.counter).into_bytes();
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
            let mailbox = if self.offers.roams && self.random.one_in(4) { "Work" } else { "INBOX" };
            let resync = match &client.left {
                Some((modseq, _)) if mailbox == "INBOX" => format!(" (QRESYNC (3857529045 {modseq}))"),
                _ => String::new(),
            };
            self.say(&format!("SELECT {mailbox}{resync}"), false, true, Intent::Select(mailbox.to_owned()))
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
