//! An errand on an auxiliary connection: another mailbox of the account is looked into, and the session's own stays where it is.
//!
//!     >  p1 LOGIN joe secret              once: the connection serves one errand after the other
//!     >  p2 EXAMINE Work                  nothing in it changes, \Recent neither
//!     <  * OK [UIDVALIDITY 38505] UIDs    another one than is meant, and nobody is asked
//!     >  p3 FETCH 1:* (RFC822.SIZE)
//!     <  * 1 FETCH (RFC822.SIZE 310)      what answers the command is kept, a response at a time
//!     <  p3 OK done
//!
//! Who has the errand is told of the answers all together, when the last one is there: a slow client must not hold a connection
//! that others wait for (architecture 4.12). An errand may also stand: to hear at once when something happens there (RFC 2177).
//!
//!     >  p4 EXAMINE INBOX
//!     <  * 23 EXISTS                      more or fewer than are known of: that is news, and there is no need to wait
//!     >  p5 IDLE
//!     <  * 24 EXISTS
//!     >  DONE
//!
//! And where the backend can, in other mailboxes (RFC 5465):
//!
//!     >  p6 NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge FlagChange)) (MAILBOXES (Work Lists) (MessageNew MessageExpunge))
//!     <  * STATUS Work (MESSAGES 8 UIDNEXT 19)
//!
//! The secret is the session's ([`Key`]); one that is refused is not said again. At most two such connections stand for an account
//! (architecture section 12), which is a matter of the shell. Issue 4.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use super::{
    effect::{Dialled, Effects, Side},
    gate::Tag,
    join::{self, Join},
    key::Key,
    layer::Ask,
    profile::Look,
};
use crate::{
    imap::{
        code, frame,
        response::{self, Kind, Line, Status},
        token,
        verb::{self, Verb},
    },
    mailbox::status,
};

/// What somebody wants done in another mailbox.
#[derive(Clone, Debug)]
pub struct Errand {
    /// Its name, as it is on the wire.
    pub mailbox: Box<[u8]>,
    /// Under which its UIDs must mean what they mean, if that matters.
    pub uidvalidity: Option<u32>,
    /// What is to be done there.
    pub task: Task,
}

/// What is to be done in a mailbox.
#[derive(Clone, Debug)]
pub enum Task {
    /// To ask this; it changes nothing.
    Ask {
        /// What is asked.
        verb: &'static Verb,
        /// Behind the verb.
        arguments: Vec<u8>,
        /// What is kept of a response that answers it.
        keep: Keep,
    },
    /// To idle until something happens.
    Listen {
        /// How many messages are known of: where there are more or fewer, something has happened already.
        count: Option<u32>,
        /// Other mailboxes of which the backend is to tell too, if it can (RFC 5465).
        also: Vec<Box<[u8]>>,
    },
}

/// Puts a response, given without its end, to what is kept of those before.
pub type Keep = fn(&mut Vec<Vec<u8>>, &[u8]);

/// Somebody's errand, and what it takes to do it.
#[derive(Debug)]
pub struct Sent {
    /// The layer, by its level in the stack, and its question.
    pub from: (u8, Ask),
    /// How to get in.
    pub key: Arc<Key>,
    /// What to do there.
    pub errand: Errand,
}

/// What came of an errand, on its way to who had it.
#[derive(Debug)]
pub struct Told {
    /// Who had it.
    pub to: (u8, Ask),
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an errand.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend has ended the command, or has not let us into the mailbox: what was kept, and the text behind the status. Who
    /// has listened is told so of news, or that it may be time to look; and kept are names of other mailboxes in which something has happened.
    Done(Vec<Vec<u8>>, Status, Vec<u8>),
    /// No answer will come.
    Lost,
    /// The backend does not take the password or token any more: the session has no more errands.
    Refused,
    /// Another session of the account listens, or nobody may.
    Busy,
}

/// What a mailbox has said of itself when it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// How many messages there are.
    pub messages: Option<u32>,
    /// Under which UIDs are true.
    pub uidvalidity: Option<u32>,
    /// The UID that the next message will have.
    pub uidnext: Option<u32>,
    /// Messages have come behind that, and were perhaps not seen by what was asked.
    pub has_grown: bool,
}

/// An auxiliary connection.
#[derive(Debug)]
pub struct Aside {
    prefix: Tag,
    tags: u32,
    state: State,
    errand: Option<Errand>,
    /// What was kept of the answers, and its octets.
    kept: Vec<Vec<u8>>,
    held: usize,
    /// The mailbox is another one than is meant.
    differs: bool,
    /// What it has said of itself; and how many messages it has meanwhile.
    examined: Examined,
    /// The backend tells its news in IDLE, as far as anybody knows.
    idles: bool,
    /// It tells of other mailboxes too, if it is asked to; of which it was; and in which of those something has happened.
    notifies: bool,
    asked: Vec<Box<[u8]>>,
    rung: BTreeSet<Box<[u8]>>,
    /// Something has happened there.
    stirred: bool,
    /// A response whose end has not come, and how many octets of its literal are to come.
    response: Vec<u8>,
    literal: u64,
}

#[derive(Debug)]
enum State {
    Joining(Box<Join>),
    /// Logged in by somebody else, who has left it in IDLE.
    Left,
    /// The end of that.
    AwaitEnd,
    /// Logged in, with nothing to do.
    AwaitErrand,
    AwaitExamined,
    /// NOTIFY is said.
    AwaitNotified,
    /// IDLE is said.
    AwaitContinuation,
    Idling,
    AwaitAnswers,
    /// It cannot be spoken with any more.
    Useless,
}

const EXAMINE: &Verb = verb::row_of("EXAMINE");
const IDLE: &Verb = verb::row_of("IDLE");
const NOTIFY: &Verb = verb::row_of("NOTIFY");

/// A response is not longer: no client could be told a longer one whole.
const LONGEST: usize = 192 << 10;

/// Octets that may be kept of one errand, as of a question on the session's own connection.
const MOST: usize = 2 << 20;

impl Errand {
    /// Whether it takes until something happens.
    pub fn listens(&self) -> bool {
        matches!(self.task, Task::Listen { .. })
    }

    /// To keep responses as they are.
    pub fn whole(kept: &mut Vec<Vec<u8>>, response: &[u8]) {
        kept.push(response.to_vec());
    }
}

impl Aside {
    /// A connection whose greeting has not been read. `seed` makes its tags unguessable.
    pub fn new(key: &Key, dialled: Dialled, seed: u64, now: Instant) -> Self {
        let prefix = prefix(seed);
        let state = match key.fits(&dialled) {
            true => State::Joining(Box::new(key.join(dialled, &prefix, now))),
            // The account has moved: it is not this session's mail.
            false => State::Useless,
        };
        Self::begin(prefix, state)
    }

    /// A connection on which a client has logged in that has gone: it may have left it in IDLE, and the backend may tell its news there.
    pub fn left(seed: u64, idling: bool, told: bool) -> Self {
        let state = if idling { State::Left } else { State::AwaitErrand };
        Self { idles: told, ..Self::begin(prefix(seed), state) }
    }

    fn begin(prefix: Tag, state: State) -> Self {
        Self {
            prefix,
            tags: 0,
            state,
            errand: None,
            kept: Vec::new(),
            held: 0,
            differs: false,
            examined: Examined::default(),
            idles: false,
            notifies: false,
            asked: Vec::new(),
            rung: BTreeSet::new(),
            stirred: false,
            response: Vec::new(),
            literal: 0,
        }
    }

    /// The next errand, when the one before is done. It begins when the backend has let us in.
    pub fn run(&mut self, errand: Errand, out: &mut Effects) -> Option<Outcome> {
        self.errand = Some(errand);
        match self.state {
            State::Joining(_) => None,
            State::Useless => Some(Outcome::Lost),
            State::Left => {
                out.put(Side::Backend, b"DONE\r\n");
                self.state = State::AwaitEnd;
                None
            }
            _ => {
                self.examine(out);
                None
            }
        }
    }

    /// TLS runs.
    pub fn upgraded(&mut self, out: &mut Effects) {
        if let State::Joining(join) = &mut self.state {
            join.upgraded(out);
        }
    }

    /// The backend says something: how many octets are done with, and what came of the errand, if that is known now.
    pub fn hear(&mut self, octets: &[u8], out: &mut Effects) -> (usize, Option<Outcome>) {
        let mut took = 0;
        if let State::Joining(join) = &mut self.state {
            let (len, outcome) = join.hear_backend(octets, out);
            took = len;
            match outcome {
                None => return (took, None),
                Some(join::Outcome::Joined { backend, .. }) => {
                    let server = join.server(&backend);
                    let look = server.look.or(server.profile.look).unwrap_or(Look::Idle);
                    self.idles = backend.has("IDLE") && look == Look::Idle;
                    self.notifies = self.idles && backend.has("NOTIFY");
                    self.examine(out);
                }
                Some(join::Outcome::Refused { trouble: false, .. }) => return (took, Some(self.end(Outcome::Refused))),
                Some(_) => return (took, Some(self.end(Outcome::Lost))),
            }
        }
        while took < octets.len() {
            let (len, outcome) = self.take(&octets[took..], out);
            took += len;
            if len == 0 || outcome.is_some() {
                return (took, outcome);
            }
        }
        (took, None)
    }

    /// There is no more time to listen, or nobody to tell: the errand ends as if something had happened.
    pub fn stop(&mut self, out: &mut Effects) {
        if self.is_idling() {
            out.put(Side::Backend, b"DONE\r\n");
            self.state = State::AwaitAnswers;
        }
    }

    /// Whether the backend owes us nothing, and tells what happens.
    pub fn is_idling(&self) -> bool {
        matches!(self.state, State::Idling)
    }

    /// Whether it may have another errand.
    pub fn is_free(&self) -> bool {
        matches!(self.state, State::AwaitErrand | State::Left)
    }

    /// Whether the backend has let us in.
    pub fn is_in(&self) -> bool {
        !matches!(self.state, State::Joining(_) | State::Useless)
    }

    /// Whether the backend tells its news in IDLE, as far as anybody knows: some that offer it do not.
    pub fn idles(&self) -> bool {
        self.idles
    }

    /// Whether who listens hears of other mailboxes too: the backend was asked to, and has said OK.
    pub fn notifies(&self) -> bool {
        !self.asked.is_empty()
    }

    /// What the mailbox of the last errand has said of itself.
    pub fn examined(&self) -> Examined {
        self.examined
    }

    /// Takes a line, or octets of a literal.
    fn take(&mut self, octets: &[u8], out: &mut Effects) -> (usize, Option<Outcome>) {
        let len = match (self.literal, memchr::memchr(b'\n', octets)) {
            (0, None) if octets.len() > LONGEST => return (0, Some(self.end(Outcome::Lost))),
            (0, None) => return (0, None),
            (0, Some(end)) => end + 1,
            (left, _) => octets.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
        };
        if self.response.len() + len > LONGEST {
            return (len, Some(self.end(Outcome::Lost)));
        }
        self.response.extend_from_slice(&octets[..len]);
        if self.literal > 0 {
            self.literal -= len as u64;
            return (len, None);
        }
        if !response::line(&self.response).is_text()
            && let Some(literal) = frame::backend_literal(&octets[..len])
        {
            self.literal = literal;
            return (len, None);
        }
        let response = std::mem::take(&mut self.response);
        (len, self.response(&response, out))
    }

    fn response(&mut self, response: &[u8], out: &mut Effects) -> Option<Outcome> {
        let errand = self.errand.as_ref()?;
        if !self.asked.is_empty()
            && let Some((mailbox, _)) = status::Status::parse(response.trim_ascii_end())
            && self.asked.contains(&mailbox)
        {
            self.rung.insert(mailbox);
            if matches!(errand.task, Task::Listen { .. }) {
                self.stirred = true;
                self.stop(out);
            }
            return None;
        }
        match response::line(response) {
            Line::Untagged { kind: Kind::Bye, .. } => Some(self.end(Outcome::Lost)),
            Line::Tagged { .. } if matches!(self.state, State::AwaitEnd) => {
                self.examine(out);
                None
            }
            Line::Untagged { .. } if matches!(self.state, State::AwaitEnd) => None,
            Line::Untagged { kind: Kind::Ok, .. } if matches!(self.state, State::AwaitExamined) => {
                let code = code::parse(response::text(response, 2));
                match code.number() {
                    Some(known) if code.is("UIDVALIDITY") => {
                        self.examined.uidvalidity = Some(known);
                        self.differs |= errand.uidvalidity.is_some_and(|meant| meant != known);
                    }
                    Some(next) if code.is("UIDNEXT") => self.examined.uidnext = Some(next),
                    _ => {}
                }
                None
            }
            Line::Untagged { kind: Kind::Exists, number } if matches!(self.state, State::AwaitExamined) => {
                self.examined.messages = Some(number);
                None
            }
            Line::Untagged { kind: Kind::Exists, number } if matches!(errand.task, Task::Ask { .. }) => {
                self.examined.has_grown |= self.examined.messages.is_some_and(|known| number > known);
                None
            }
            Line::Untagged { kind, number } => match &errand.task {
                Task::Ask { verb, keep, .. } if matches!(self.state, State::AwaitAnswers) => {
                    if verb.claims.has(kind) {
                        let (end, before) = (if response.ends_with(b"\r\n") { 2 } else { 1 }, self.kept.len());
                        keep(&mut self.kept, &response[..response.len() - end]);
                        self.held += self.kept[before.min(self.kept.len())..].iter().map(Vec::len).sum::<usize>();
                    }
                    (self.held > MOST).then(|| self.end(Outcome::Lost))
                }
                Task::Ask { .. } => None,
                Task::Listen { .. } => {
                    self.listen(kind, number, out);
                    None
                }
            },
            Line::Tagged { tag, status } if self.is_last(tag) => self.tagged(status, response, out),
            Line::Continuation if matches!(self.state, State::AwaitContinuation) => {
                self.state = State::Idling;
                if self.stirred {
                    self.stop(out);
                }
                None
            }
            // Nothing of ours waits for a `+`.
            Line::Continuation => Some(self.end(Outcome::Lost)),
            Line::Tagged { .. } => None,
        }
    }

    /// The backend tells something of the mailbox that is listened to. It may count again what it has counted before.
    fn listen(&mut self, kind: Kind, number: u32, out: &mut Effects) {
        let news = match kind {
            Kind::Exists => self.examined.messages.replace(number) != Some(number),
            _ => matches!(kind, Kind::Expunge | Kind::Fetch | Kind::Vanished),
        };
        if news && !matches!(self.state, State::AwaitExamined) {
            self.stirred = true;
            self.stop(out);
        }
    }

    fn tagged(&mut self, status: Status, response: &[u8], out: &mut Effects) -> Option<Outcome> {
        let text = response::text(response, 2).trim_ascii_end().to_vec();
        let done = |kept| Outcome::Done(kept, status, text);
        match (&self.state, status) {
            (State::AwaitExamined, Status::Ok) if self.differs => self.free(Outcome::Lost),
            (State::AwaitExamined, Status::Ok) => match self.errand.as_ref()?.task.clone() {
                Task::Ask { verb, arguments, .. } => {
                    self.state = State::AwaitAnswers;
                    self.say(verb, &arguments, out);
                    None
                }
                Task::Listen { count, .. }
                    if !self.rung.is_empty()
                        || count.zip(self.examined.messages).is_some_and(|(known, now)| known != now) =>
                {
                    let rung = self.take_rung();
                    self.free(done(rung))
                }
                Task::Listen { also, .. } if self.notifies && self.asked != also => {
                    self.state = State::AwaitNotified;
                    self.asked = also;
                    let arguments = self.events();
                    self.say(NOTIFY, &arguments, out);
                    None
                }
                Task::Listen { .. } => self.idle(out),
            },
            (State::AwaitNotified, _) => {
                if status != Status::Ok {
                    (self.notifies, self.asked) = (false, Vec::new());
                }
                self.idle(out)
            }
            // By itself, and with nothing to tell.
            (State::AwaitContinuation, Status::Ok) | (State::Idling, _) => self.free(Outcome::Lost),
            (State::AwaitExamined | State::AwaitContinuation, _) => self.free(done(Vec::new())),
            (State::AwaitAnswers, _) => {
                let listens = self.errand.as_ref().is_some_and(Errand::listens);
                let kept = if listens { self.take_rung() } else { std::mem::take(&mut self.kept) };
                self.free(done(kept))
            }
            _ => None,
        }
    }

    fn idle(&mut self, out: &mut Effects) -> Option<Outcome> {
        self.state = State::AwaitContinuation;
        self.say(IDLE, b"", out);
        None
    }

    /// What is to be told of the other mailboxes: that messages come, and go, which has to stand beside it (RFC 5465 section 5.2).
    fn events(&self) -> Vec<u8> {
        let mut mailboxes = Vec::new();
        for (at, mailbox) in self.asked.iter().enumerate() {
            mailboxes.extend_from_slice(if at == 0 { b"" } else { b" " });
            token::write_astring(mailbox, &mut mailboxes);
        }
        let selected = b"SET (SELECTED (MessageNew (UID) MessageExpunge FlagChange))".as_slice();
        match mailboxes.is_empty() {
            true => selected.to_vec(),
            false => [selected, b" (MAILBOXES (", &mailboxes, b") (MessageNew MessageExpunge))"].concat(),
        }
    }

    /// In which other mailboxes something has happened.
    fn take_rung(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.rung).into_iter().map(Into::into).collect()
    }

    fn examine(&mut self, out: &mut Effects) {
        let mut name = Vec::new();
        token::write_astring(self.errand.as_ref().map_or(b"", |errand| &errand.mailbox), &mut name);
        self.state = State::AwaitExamined;
        (self.differs, self.kept, self.held) = (false, Vec::new(), 0);
        (self.examined, self.stirred) = (Examined::default(), false);
        self.say(EXAMINE, &name, out);
    }

    fn say(&mut self, verb: &Verb, arguments: &[u8], out: &mut Effects) {
        self.tags += 1;
        let space: &[u8] = if arguments.is_empty() { b"" } else { b" " };
        let words = [&self.tag(), b" ".as_slice(), verb.name.as_bytes(), space, arguments, b"\r\n"];
        out.put(Side::Backend, &words.concat());
        out.looks += u64::from(self.errand.as_ref().is_some_and(Errand::listens));
    }

    /// The tag of the last command: behind those of the login, which began to count at the same prefix.
    fn tag(&self) -> Vec<u8> {
        [&self.prefix, format!("e{}", self.tags).as_bytes()].concat()
    }

    fn is_last(&self, tag: &[u8]) -> bool {
        *tag == *self.tag()
    }

    /// The errand is done, and the connection is free for another.
    fn free(&mut self, outcome: Outcome) -> Option<Outcome> {
        self.state = State::AwaitErrand;
        self.errand = None;
        Some(outcome)
    }

    /// The connection is of no more use.
    fn end(&mut self, outcome: Outcome) -> Outcome {
        self.state = State::Useless;
        (self.errand, self.kept, self.response) = (None, Vec::new(), Vec::new());
        outcome
    }
}

/// With what the tags of a connection begin.
fn prefix(seed: u64) -> Tag {
    format!("A{:07X}-", seed & 0xfff_ffff).bytes().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::key;

    /// A connection, and what was said there.
    struct Talk {
        aside: Aside,
        out: Effects,
    }

    impl Talk {
        /// As the backend has let it in.
        fn new() -> Self {
            let aside = Aside::new(&key::tests::key(), key::tests::dialled(), 7, Instant::now());
            let mut talk = Self { aside, out: Effects::default() };
            talk.hear(b"* OK [CAPABILITY IMAP4rev1] ready\r\n");
            assert_eq!(talk.said(), "A0000007-1 LOGIN \"joe\" \"secret\"\r\n");
            talk
        }

        fn run(&mut self, uidvalidity: Option<u32>) {
            let (verb, arguments) = (verb::row_of("FETCH"), b"1:* (RFC822.SIZE)".to_vec());
            let task = Task::Ask { verb, arguments, keep: Errand::whole };
            let errand = Errand { mailbox: (*b"A b").into(), uidvalidity, task };
            assert_eq!(self.aside.run(errand, &mut self.out), None);
        }

        /// Somebody wants to hear of INBOX, and of two other mailboxes.
        fn listen(&mut self) {
            let also = vec![(*b"Work").into(), (*b"A b").into()];
            let task = Task::Listen { count: Some(2), also };
            let errand = Errand { mailbox: (*b"INBOX").into(), uidvalidity: None, task };
            assert_eq!(self.aside.run(errand, &mut self.out), None);
        }

        /// Logged in, and about to idle in a mailbox that has two messages.
        fn listening(count: Option<u32>) -> Self {
            let mut talk = Self::new();
            let task = Task::Listen { count, also: Vec::new() };
            let errand = Errand { mailbox: (*b"INBOX").into(), uidvalidity: None, task };
            assert_eq!(talk.aside.run(errand, &mut talk.out), None);
            assert_eq!(talk.hear(b"A0000007-1 OK [CAPABILITY IMAP4rev1 IDLE] in\r\n"), None);
            assert_eq!((talk.out.looks, talk.said().as_str()), (1, "A0000007-e1 EXAMINE INBOX\r\n"));
            talk
        }

        fn hear(&mut self, octets: &[u8]) -> Option<Outcome> {
            // Cut anywhere, it means the same.
            let mut left = Vec::new();
            for octet in octets {
                left.push(*octet);
                let (took, outcome) = self.aside.hear(&left, &mut self.out);
                left.drain(..took);
                if outcome.is_some() {
                    return outcome;
                }
            }
            None
        }

        fn said(&mut self) -> String {
            let said = String::from_utf8_lossy(&self.out.text).into_owned();
            self.out.clear();
            said
        }
    }

    #[test]
    fn one_errand_after_the_other_is_done() {
        let mut talk = Talk::new();
        talk.run(Some(7));
        assert_eq!(talk.hear(b"A0000007-1 OK [CAPABILITY IMAP4rev1] in\r\n"), None);
        assert_eq!(talk.said(), "A0000007-e1 EXAMINE \"A b\"\r\n");
        assert_eq!(talk.hear(b"* 2 EXISTS\r\n* OK [UIDVALIDITY 7] UIDs\r\nA0000007-e1 OK [READ-ONLY] in\r\n"), None);
        assert_eq!(talk.said(), "A0000007-e2 FETCH 1:* (RFC822.SIZE)\r\n");
        assert!(!talk.aside.examined().has_grown);
        let answers = b"* 1 FETCH (RFC822.SIZE 3)\r\n* 3 EXISTS\r\n* 2 FETCH (X {4}\r\n\n)\r\n RFC822.SIZE 4)\r\nA0000007-e2 OK done\r\n";
        let kept = vec![b"* 1 FETCH (RFC822.SIZE 3)".to_vec(), b"* 2 FETCH (X {4}\r\n\n)\r\n RFC822.SIZE 4)".to_vec()];
        assert_eq!(talk.hear(answers), Some(Outcome::Done(kept, Status::Ok, b"done".to_vec())));
        assert!(talk.aside.is_free() && talk.aside.examined().has_grown);
        talk.run(None);
        assert_eq!(talk.said(), "A0000007-e3 EXAMINE \"A b\"\r\n");
        let refused = Outcome::Done(Vec::new(), Status::No, b"[NONEXISTENT] gone".to_vec());
        assert_eq!(talk.hear(b"A0000007-e3 NO [NONEXISTENT] gone\r\n"), Some(refused));
        assert!(talk.aside.is_free());
    }

    #[test]
    fn what_a_client_has_left_is_gone_on_with() {
        for idling in [true, false] {
            let mut talk = Talk { aside: Aside::left(7, idling, true), out: Effects::default() };
            assert!(talk.aside.is_free() && talk.aside.is_in() && talk.aside.idles());
            talk.run(None);
            if idling {
                assert_eq!(talk.said(), "DONE\r\n");
                assert_eq!(talk.hear(b"* 4 EXISTS\r\nL0000003-9 OK done\r\n"), None);
            }
            assert_eq!(talk.said(), "A0000007-e1 EXAMINE \"A b\"\r\n");
            talk.hear(b"A0000007-e1 OK in\r\n");
            assert_eq!(talk.said(), "A0000007-e2 FETCH 1:* (RFC822.SIZE)\r\n");
        }
    }

    #[test]
    fn another_mailbox_of_this_name_is_left_alone() {
        let mut talk = Talk::new();
        talk.run(Some(7));
        talk.hear(b"A0000007-1 OK [CAPABILITY IMAP4rev1] in\r\n");
        let outcome = talk.hear(b"* OK [UIDVALIDITY 8] UIDs\r\nA0000007-e1 OK in\r\n");
        assert_eq!((outcome, talk.aside.is_free()), (Some(Outcome::Lost), true));
    }

    #[test]
    fn a_secret_that_is_refused_is_told_from_trouble() {
        let table: [(&[u8], Outcome); 3] = [
            (b"A0000007-1 NO [AUTHENTICATIONFAILED] no\r\n", Outcome::Refused),
            (b"A0000007-1 NO [UNAVAILABLE] later\r\n", Outcome::Lost),
            (b"* BYE\r\n", Outcome::Lost),
        ];
        for (line, expected) in table {
            let mut talk = Talk::new();
            talk.run(None);
            assert_eq!(talk.hear(line), Some(expected));
            assert!(!talk.aside.is_free());
        }
    }

    const EXAMINED: &[u8] = b"* 2 EXISTS\r\n* 1 RECENT\r\nA0000007-e1 OK [READ-ONLY] in\r\n";

    #[test]
    fn who_listens_is_told_when_something_has_happened() {
        let told = [b"* 3 EXISTS\r\n".as_slice(), b"* 1 EXPUNGE\r\n", b"* 2 FETCH (FLAGS ())\r\n", b"* VANISHED 7\r\n"];
        for news in told {
            let mut talk = Talk::listening(Some(2));
            assert_eq!(talk.hear(EXAMINED), None);
            assert_eq!(talk.said(), "A0000007-e2 IDLE\r\n");
            assert_eq!(talk.hear(b"+ idling\r\n* OK Still here\r\n* 2 EXISTS\r\n* 2 RECENT\r\n"), None);
            assert_eq!((talk.aside.is_idling(), talk.said().as_str()), (true, ""), "none of that is news");
            assert_eq!(talk.hear(news), None);
            assert_eq!((talk.aside.is_idling(), talk.said().as_str()), (false, "DONE\r\n"));
            assert_eq!(talk.hear(b"* 9 EXISTS\r\n"), None);
            let done = Outcome::Done(Vec::new(), Status::Ok, b"done".to_vec());
            assert_eq!(talk.hear(b"A0000007-e2 OK done\r\n"), Some(done));
            assert_eq!((talk.aside.is_free(), talk.said().as_str()), (true, ""));
        }
    }

    #[test]
    fn what_has_happened_before_idle_runs_is_told_too() {
        let mut talk = Talk::listening(Some(1));
        assert_eq!(
            talk.hear(EXAMINED),
            Some(Outcome::Done(Vec::new(), Status::Ok, b"[READ-ONLY] in".to_vec())),
            "one was known of"
        );
        assert!(talk.aside.is_free());
        let mut talk = Talk::listening(None);
        talk.hear(EXAMINED);
        assert_eq!(talk.hear(b"* 3 EXISTS\r\n"), None);
        assert_eq!(talk.said(), "A0000007-e2 IDLE\r\n");
        assert_eq!(talk.hear(b"+ idling\r\n"), None);
        assert_eq!(talk.said(), "DONE\r\n");
    }

    const EVENTS: &str = "A0000007-e2 NOTIFY SET (SELECTED (MessageNew (UID) MessageExpunge FlagChange)) (MAILBOXES (Work \"A b\") (MessageNew MessageExpunge))\r\n";

    /// Where the backend can tell of other mailboxes, asked to.
    fn notified() -> Talk {
        let mut talk = Talk::new();
        talk.listen();
        talk.hear(b"A0000007-1 OK [CAPABILITY IMAP4rev1 IDLE NOTIFY] in\r\n");
        assert_eq!(talk.said(), "A0000007-e1 EXAMINE INBOX\r\n");
        talk.hear(EXAMINED);
        assert_eq!(talk.said(), EVENTS);
        talk
    }

    #[test]
    fn who_listens_hears_of_other_mailboxes_where_the_backend_can() {
        let mut talk = notified();
        talk.hear(b"* STATUS Lists (MESSAGES 9)\r\nA0000007-e2 OK done\r\n");
        assert_eq!(talk.said(), "A0000007-e3 IDLE\r\n");
        talk.hear(b"+ idling\r\n* STATUS Lists (MESSAGES 10)\r\n");
        assert_eq!(talk.said(), "", "nobody has asked for that");
        talk.hear(b"* STATUS \"A b\" (MESSAGES 4 UIDNEXT 9)\r\n");
        assert_eq!(talk.said(), "DONE\r\n");
        let rung = |text: &[u8]| Some(Outcome::Done(vec![b"A b".to_vec()], Status::Ok, text.to_vec()));
        assert_eq!(talk.hear(b"A0000007-e3 OK done\r\n"), rung(b"done"));

        talk.run(None);
        talk.hear(b"* STATUS \"A b\" (MESSAGES 5 UIDNEXT 10)\r\nA0000007-e4 OK in\r\nA0000007-e5 OK done\r\n");
        talk.said();
        talk.listen();
        assert_eq!(talk.said(), "A0000007-e6 EXAMINE INBOX\r\n");
        assert_eq!(talk.hear(b"* 2 EXISTS\r\nA0000007-e6 OK in\r\n"), rung(b"in"), "it has happened meanwhile");
        talk.listen();
        talk.hear(b"* 2 EXISTS\r\nA0000007-e7 OK in\r\n");
        assert_eq!(talk.said(), "A0000007-e7 EXAMINE INBOX\r\nA0000007-e8 IDLE\r\n", "it is asked once");
    }

    #[test]
    fn a_backend_that_does_not_want_to_tell_of_others_is_listened_to_all_the_same() {
        for refusal in ["A0000007-e2 NO [NOTIFICATIONOVERFLOW] too many\r\n", "A0000007-e2 BAD what\r\n"] {
            let mut talk = notified();
            talk.hear(refusal.as_bytes());
            assert_eq!((talk.said().as_str(), talk.aside.notifies()), ("A0000007-e3 IDLE\r\n", false));
        }
    }

    #[test]
    fn who_listens_may_stop() {
        let mut talk = Talk::listening(Some(2));
        talk.hear(EXAMINED);
        talk.said();
        talk.aside.stop(&mut talk.out);
        assert_eq!(talk.said(), "", "DONE before the backend has said + would be a command");
        talk.hear(b"+ idling\r\n");
        talk.aside.stop(&mut talk.out);
        assert_eq!(talk.said(), "DONE\r\n");
        assert!(matches!(talk.hear(b"A0000007-e2 OK done\r\n"), Some(Outcome::Done(_, Status::Ok, _))));
    }

    #[test]
    fn an_idle_that_is_refused_or_ends_by_itself_tells_nothing() {
        let mut talk = Talk::listening(Some(2));
        talk.hear(EXAMINED);
        let refused = Outcome::Done(Vec::new(), Status::Bad, b"what".to_vec());
        assert_eq!((talk.hear(b"A0000007-e2 BAD what\r\n"), talk.aside.is_free()), (Some(refused), true));
        let mut talk = Talk::listening(Some(2));
        talk.hear(EXAMINED);
        let outcome = talk.hear(b"+ idling\r\nA0000007-e2 OK done\r\n");
        assert_eq!((outcome, talk.aside.is_free()), (Some(Outcome::Lost), true));
    }

    #[test]
    fn commands_are_counted_of_who_listens() {
        let mut talk = Talk::listening(Some(2));
        talk.hear(EXAMINED);
        assert_eq!(talk.out.looks, 1, "IDLE, behind EXAMINE");
        let mut talk = Talk::new();
        talk.run(None);
        talk.hear(b"A0000007-1 OK [CAPABILITY IMAP4rev1] in\r\nA0000007-e1 OK in\r\n");
        assert_eq!(talk.out.looks, 0);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut talk = Talk::new();
        talk.run(None);
        talk.hear(b"A0000007-1 OK [CAPABILITY IMAP4rev1] in\r\n");
        talk.hear(b"A0000007-e1 OK in\r\n");
        let line = [b"* 1 FETCH (X {180000}\r\n".as_slice(), &[b'x'; 180_000], b")\r\n"].concat();
        let outcomes = (0..20).map(|_| talk.aside.hear(&line, &mut talk.out).1);
        let told: Vec<_> = outcomes.take_while(Option::is_none).collect();
        assert_eq!(told.len(), 11, "2 MiB, and the answer that was too much");
        let mut talk = Talk::new();
        talk.run(None);
        talk.hear(b"A0000007-1 OK [CAPABILITY IMAP4rev1] in\r\n");
        assert_eq!(talk.aside.hear(&[b'x'; LONGEST + 1], &mut talk.out).1, Some(Outcome::Lost));
    }
}
