//! The same session twice: before one twin's backend no UID is ever learnt, before the other's all are, at quiet moments, and are
//! forgotten again (`Same` and `Mapped`, architecture 4.1 and section 10, point 8).
//!
//!     C: c5 STORE 2 +FLAGS (k5)        C: c5 STORE 2 +FLAGS (k5)
//!     >  c5 STORE 2 +FLAGS (k5)        >  c5 UID STORE 12 +FLAGS (k5)
//!     S: * 2 FETCH (FLAGS (k5))        S: * 2 FETCH (FLAGS (k5) UID 12)
//!     S: c5 OK                         S: c5 OK
//!
//! Both clients hear the same, but for the order of untagged lines, the text that a person may read, UIDs that nobody has asked
//! for, and flags that are true. Where UIDs are learnt before a command, it is read a moment later: so nothing comes that it would
//! mean too (`*`, NOT), and the message that it copies does not go, between its being said and its being read.

use std::sync::Arc;

use lemonade_proxy::{mailbox::diff::Messages, session::effect::Side};
use proto_tests::{
    cast::Between,
    model::{Backend, Connection, Message, Settings},
    proxy::{Proxy, Setup},
    random::Random,
};

use crate::{client::response_len, steps};

/// One of the two.
struct Twin {
    proxy: Proxy,
    backend: Backend,
    connection: Option<Connection>,
}

/// What a client has heard.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    /// How its commands have ended, in their order.
    ends: Vec<String>,
    /// The other responses, in none.
    untagged: Vec<String>,
}

/// What somebody else does to the mailbox of both.
#[derive(Clone, Copy, Debug)]
enum Change {
    Append,
    Expunge(u32),
    Flag(u32, &'static str),
}

impl Twin {
    fn new(capabilities: &str, followed: bool) -> Self {
        let settings = Settings::with(capabilities);
        let mut setup = Setup::before(&settings);
        setup.followed = followed;
        Arc::make_mut(&mut setup.account).events.messages = Messages::Simple;
        let backend = Backend::new(settings);
        (1..=7).for_each(|_| append(&backend));
        backend.store().mailbox_or_new("Work");
        Self { proxy: Proxy::new(setup, 7), backend, connection: None }
    }

    /// Its client says this, and hears all that comes of it.
    fn hears(&mut self, line: &str) -> Heard {
        self.proxy.hear(Side::Client, line.as_bytes());
        self.goes_on()
    }

    fn goes_on(&mut self) -> Heard {
        let mut heard = Vec::new();
        loop {
            if self.proxy.wants_backend() {
                let mut connection = self.backend.connect();
                let greeting = connection.greeting();
                self.connection = Some(connection);
                self.proxy.connected();
                self.proxy.hear(Side::Backend, &greeting);
            }
            let said = self.proxy.take_sent(Side::Backend);
            let mut answer = Vec::new();
            if let Some(connection) = &mut self.connection {
                answer = connection.feed(&said);
                answer.extend(connection.poll());
            }
            self.proxy.hear(Side::Backend, &answer);
            let told = self.proxy.take_sent(Side::Client);
            heard.extend_from_slice(&told);
            if said.is_empty() && answer.is_empty() && told.is_empty() {
                return Heard::read(&heard);
            }
        }
    }

    fn happens(&self, change: Change) {
        let mut store = self.backend.store();
        let mailbox = store.mailbox_or_new("INBOX");
        match change {
            Change::Append => {
                drop(store);
                append(&self.backend);
            }
            Change::Expunge(uid) => mailbox.expunge(&[uid]),
            Change::Flag(uid, flag) => {
                let message = mailbox.message_mut(uid).into_iter();
                message.for_each(|message| if message.has(flag) { message.clear(flag) } else { message.set(flag) });
            }
        }
    }

    fn uids(&self) -> Vec<u32> {
        self.backend.store().mailbox_or_new("INBOX").uids()
    }

    /// Whether the proxy has asked for UIDs on its own account.
    fn has_learnt(&self) -> bool {
        let ours = |line: &Vec<u8>| line.starts_with(b"L0000007") && line.windows(4).any(|word| word == b"UID ");
        self.backend.executed().iter().any(ours)
    }
}

fn append(backend: &Backend) {
    let mut store = backend.store();
    let mailbox = store.mailbox_or_new("INBOX");
    let uid = mailbox.uidnext;
    mailbox.append(None, Vec::new(), Message::plain(uid));
}

impl Heard {
    fn read(mut octets: &[u8]) -> Self {
        let mut heard = Self::default();
        // Which message a number means depends on what has gone before it.
        let mut numbers: Vec<usize> = (1..1000).collect();
        while let Some(len) = response_len(octets) {
            let response = String::from_utf8_lossy(&octets[..len]).into_owned();
            octets = &octets[len..];
            let words: Vec<&str> = response.trim_end().split(' ').collect();
            match (words[0], words.get(2)) {
                ("*", Some(&"FETCH")) => heard.untagged.push(without_uid(&response)),
                ("*", Some(&"EXPUNGE")) => {
                    let number: usize = words[1].parse().unwrap_or(1);
                    heard.untagged.push(format!("{} has gone", numbers.remove(number - 1)));
                }
                ("*" | "+", _) => heard.untagged.push(response),
                (tag, _) => {
                    let code = response.split_once('[').and_then(|(_, code)| code.split_once(']'));
                    heard.ends.push(format!("{tag} {} {:?}", words[1], code.map(|(code, _)| code)));
                }
            }
        }
        heard
    }

    /// Takes away what the other one has heard too. What is left is flags and UIDs alone.
    fn without(mut self, other: &Self) -> Result<Vec<String>, String> {
        for line in &other.untagged {
            match self.untagged.iter().position(|own| own == line) {
                Some(at) => _ = self.untagged.swap_remove(at),
                None => return Err(format!("{line:?} is missing in {:?}", self.untagged)),
            }
        }
        let more = |line: &&String| !line.contains(" FETCH (FLAGS (") || line.contains('{');
        match self.untagged.iter().find(more) {
            Some(line) => Err(format!("{line:?}, which the other client has not heard")),
            None => Ok(self.untagged),
        }
    }
}

/// A FETCH without the UID that it names.
fn without_uid(response: &str) -> String {
    let Some((before, rest)) = response.split_once("UID ") else { return response.to_owned() };
    let rest = rest.trim_start_matches(|octet: char| octet.is_ascii_digit());
    match before.strip_suffix(' ') {
        Some(before) => format!("{before}{rest}"),
        None => format!("{before}{}", rest.trim_start()),
    }
}

/// What a client says, and whether it may hear of removals by it (RFC 3501 7.4.1).
fn command(random: &mut Random, tag: usize, count: usize, uids: &[u32], extended: bool) -> (String, bool) {
    let number = |random: &mut Random| random.within(1..count + 1);
    let (one, other) = (number(random), number(random));
    let uid = uids.get(one - 1).copied().unwrap_or(1);
    let items = *random.pick(&["FLAGS", "(FLAGS UID)", "(BODY.PEEK[])", "(FLAGS BODY.PEEK[HEADER])", "BODY[]"]);
    let (words, removes) = match random.below(14) {
        0 => (format!("FETCH {one}:{other} {items}"), false),
        1 => (format!("FETCH {one}:* {items}"), false),
        2 => (format!("STORE {one} +FLAGS (k{tag})"), false),
        3 => (format!("STORE {one},{other} -FLAGS.SILENT (\\Seen)"), false),
        4 => (format!("SEARCH {one}:{other}"), false),
        5 => (format!("SEARCH NOT {one} UNSEEN"), false),
        6 => (format!("COPY {one} Work"), true),
        7 => (format!("UID FETCH {uid} (FLAGS)"), false),
        8 => (format!("UID STORE {uid} +FLAGS (\\Deleted)"), false),
        9 => ("EXPUNGE".to_owned(), true),
        // Where the backend has none, ours needs UIDs.
        10 if extended => (format!("SEARCH RETURN (MIN COUNT) {one}:{other}"), false),
        11 => ("CHECK".to_owned(), true),
        12 => ("SELECT INBOX".to_owned(), false),
        _ => ("NOOP".to_owned(), true),
    };
    (format!("c{tag} {words}\r\n"), removes)
}

fn walk_twice(random: &mut Random, length: usize) -> Result<(), String> {
    let capabilities = *random.pick(&["IMAP4rev1", "IMAP4rev1 IDLE UIDPLUS", "IMAP4rev1 ESEARCH LITERAL+"]);
    let mut twins = [Twin::new(capabilities, false), Twin::new(capabilities, false)];
    twins.iter_mut().for_each(|twin| _ = twin.hears("a LOGIN joe secret\r\nb SELECT INBOX\r\n"));
    let (mut spoken, mut count) = (Vec::new(), 7);
    for tag in 0..length {
        if count == 0 {
            break;
        }
        let (line, removes) = command(random, tag, count, &twins[0].uids(), capabilities.contains("ESEARCH"));
        // What goes by number behind a removal is written otherwise before it: not both at once.
        let removes = removes && (line.contains("EXPUNGE") || random.one_in(2));
        // A copy of a message that has just gone some servers make, and the proxy refuses it where it knows.
        let copied = line.split_once(" COPY ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<usize>().ok());
        let copied = copied.and_then(|number| twins[0].uids().get(number - 1).copied());
        // What comes before the command while the last UIDs are learnt for it, it means too.
        let open = line.contains('*') || line.contains("NOT");
        for _ in 0..random.below(3) {
            let uids = twins[0].uids();
            let uid = if uids.is_empty() { 1 } else { *random.pick(&uids) };
            let change = match random.below(3) {
                _ if removes && copied == Some(uid) => continue,
                _ if removes => Change::Expunge(uid),
                0 if !open => Change::Append,
                _ => Change::Flag(uid, random.pick::<&str>(&["\\Seen", "\\Flagged"])),
            };
            spoken.push(format!("{change:?}"));
            twins.iter().for_each(|twin| twin.happens(change));
        }
        spoken.push(line.clone());
        let [same, mut mapped] = twins.each_mut().map(|twin| twin.hears(&line));
        // A quiet moment.
        if random.one_in(6) {
            let follow = !twins[1].proxy.is_followed();
            twins[1].proxy.follow(follow);
            mapped.untagged.extend(twins[1].goes_on().untagged);
        }
        let from = spoken.len().saturating_sub(30);
        let told = |why: String| format!("{why}\n  {}", spoken[from..].join("\n  "));
        if same.ends != mapped.ends {
            return Err(told(format!("{:?} and {:?}", same.ends, mapped.ends)));
        }
        let both = format!("{same:?}\n{mapped:?}");
        mapped.without(&same).map_err(|why| told(format!("{why}\n{both}")))?;
        count = twins[0].uids().len();
    }
    assert!(!twins[0].has_learnt(), "the one that is to learn nothing has learnt UIDs");
    Ok(())
}

#[test]
fn a_client_cannot_tell_whether_uids_are_known() {
    let seed = Random::seed();
    println!("SEED={seed}");
    let mut random = Random::new(seed);
    let mut left = steps() / 4;
    while left > 0 {
        let session = random.bits();
        let length = random.within(20..200).min(left);
        left -= length;
        if let Err(failure) = walk_twice(&mut Random::new(session), length) {
            panic!("SEED={seed}, session {session}\n{failure}");
        }
    }
}
