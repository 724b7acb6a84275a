//! Tests of the tests: a proxy with a flaw must be caught. Architecture section 10, point 9, as far as it goes without views.

use std::time::Duration;

use lemonade_proxy::session::effect::{Looked, Notice, Side};
use proto_tests::{
    cast::{Between, Direct, End},
    model::Mischief,
    proxy::Proxy,
    random::Random,
};

use crate::{
    commands::Offers,
    world::{Plan, World},
};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// Some EXPUNGE never reaches the client.
    DropsExpunge,
    /// Some change of flags is taken for an answer and swallowed.
    SwallowsFlags,
    /// Each tagged line is taken for the end of the oldest command.
    FirstInFirstOut,
    /// An EXPUNGE is told one line late, behind numbers that count without it.
    TellsLate,
    /// A new message is announced twice.
    CountsTwice,
    /// A number becomes the UID that has it when a message before it has gone.
    BindsLate,
    /// In the list of all UIDs one is another one.
    MisreadsLoad,
    /// Flags that were held while the client idled are never told.
    DropsHeldFlags,
    /// What another session has found is taken for nothing.
    DisbelievesOthers,
    /// Some VANISHED never reaches the client.
    DropsVanished,
    /// What has vanished before a mailbox was selected, the client is not told.
    DropsEarlier,
    /// Removals are told at once to a client that wants to hear of them with its next command.
    TellsRemovalsAtOnce,
    /// Flags are told to a client that has not asked for them.
    TellsFlagsUnasked,
    /// The STATUS of another mailbox does not always reach the client.
    DropsStatus,
}

/// A proxy with a flaw.
struct Flawed {
    inner: Proxy,
    flaw: Flaw,
    random: Random,
    line: Vec<u8>,
    late: Vec<u8>,
    /// Commands that name messages by number.
    numbered: Vec<String>,
    /// A list of all UIDs is asked for.
    loading: bool,
    /// The client has stopped idling, and has not ended a NOOP since.
    behind_idle: bool,
    tags: Vec<String>,
}

impl Flawed {
    /// What becomes of a line for the client.
    fn spoil(&mut self, line: Vec<u8>) -> Vec<u8> {
        let text = String::from_utf8_lossy(&line).into_owned();
        let is_expunge = text.ends_with(" EXPUNGE\r\n");
        match self.flaw {
            Flaw::DropsExpunge if is_expunge && self.random.one_in(5) => Vec::new(),
            Flaw::DropsEarlier if text.starts_with("* VANISHED (EARLIER)") => Vec::new(),
            Flaw::DropsVanished if text.starts_with("* VANISHED ") && self.random.one_in(2) => Vec::new(),
            Flaw::DropsStatus if text.starts_with("* STATUS Lists") && self.random.one_in(2) => Vec::new(),
            Flaw::SwallowsFlags
                if text.contains(" FETCH (FLAGS (") && !text.contains("UID") && self.random.one_in(2) =>
            {
                Vec::new()
            }
            Flaw::DropsHeldFlags if self.behind_idle && text.contains(" FETCH (FLAGS (") => Vec::new(),
            Flaw::DropsHeldFlags if text.contains(" OK NOOP ") => {
                self.behind_idle = false;
                line
            }
            Flaw::TellsLate if is_expunge => {
                self.late.extend(line);
                Vec::new()
            }
            Flaw::TellsLate => [line, std::mem::take(&mut self.late)].concat(),
            Flaw::CountsTwice if text.ends_with(" EXISTS\r\n") && self.random.one_in(5) => {
                let count: usize = text.split(' ').nth(1).and_then(|count| count.parse().ok()).unwrap_or(0);
                format!("* {} EXISTS\r\n", count + 1).into_bytes()
            }
            Flaw::FirstInFirstOut => match text.split_once(' ') {
                Some((tag, rest)) if self.tags.iter().any(|known| known == tag) => {
                    format!("{} {rest}", self.tags.remove(0)).into_bytes()
                }
                _ => line,
            },
            _ => line,
        }
    }
}

impl Between for Flawed {
    fn hear(&mut self, from: Side, octets: &[u8]) {
        if from == Side::Client && self.flaw == Flaw::FirstInFirstOut {
            let text = String::from_utf8_lossy(octets).into_owned();
            let tags = text.lines().filter_map(|line| line.split(' ').next()).filter(|tag| tag.starts_with('c'));
            self.tags.extend(tags.map(str::to_owned));
        }
        if from == Side::Client {
            self.behind_idle |= octets.starts_with(b"DONE");
            let text = String::from_utf8_lossy(octets).into_owned();
            let words = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            let numbered = words.filter(|words| matches!(words.get(1), Some(&("STORE" | "FETCH" | "COPY"))));
            self.numbered.extend(numbered.map(|words| words[0].to_owned()));
        }
        match (from, self.flaw) {
            (Side::Backend, Flaw::MisreadsLoad) if self.loading => self.inner.hear(from, &misread(octets)),
            (Side::Client, Flaw::TellsRemovalsAtOnce) => {
                self.inner.hear(from, &misheard(octets, "selected-delayed", "selected"))
            }
            (Side::Client, Flaw::TellsFlagsUnasked) => {
                self.inner.hear(from, &misheard(octets, "MessageExpunge))", "MessageExpunge FlagChange))"));
            }
            _ => self.inner.hear(from, octets),
        }
    }

    fn take_sent(&mut self, to: Side) -> Vec<u8> {
        let sent = self.inner.take_sent(to);
        if to == Side::Backend {
            self.loading = sent.ends_with(b" UID SEARCH ALL\r\n") || (self.loading && sent.is_empty());
            return if self.flaw == Flaw::BindsLate { bound_late(&sent, &self.numbered) } else { sent };
        }
        let mut spoilt = Vec::new();
        for octet in sent {
            self.line.push(octet);
            if octet == b'\n' {
                let line = std::mem::take(&mut self.line);
                spoilt.extend(self.spoil(line));
            }
        }
        spoilt
    }

    fn gone(&mut self, side: Side) {
        self.inner.gone(side);
    }

    fn pass_time(&mut self, time: Duration) {
        self.inner.pass_time(time);
    }

    fn until_due(&self) -> Option<Duration> {
        self.inner.until_due()
    }

    fn drain(&mut self) {
        self.inner.drain();
    }

    fn noticed(&mut self, notice: &Notice) {
        match notice {
            Notice::Looked(looked) if self.flaw == Flaw::DisbelievesOthers => {
                self.inner.noticed(&Notice::Looked(Looked { stirred: false, ..looked.clone() }));
            }
            _ => self.inner.noticed(notice),
        }
    }

    fn take_published(&mut self) -> Option<Vec<Notice>> {
        self.inner.take_published()
    }

    fn wants_backend(&self) -> bool {
        self.inner.wants_backend()
    }

    fn connected(&mut self) {
        self.inner.connected();
    }

    fn end(&self, side: Side) -> Option<End> {
        self.inner.end(side)
    }

    fn upgrades(&self, side: Side) -> usize {
        self.inner.upgrades(side)
    }
}

/// What the client has said, with one word for another.
fn misheard(octets: &[u8], word: &str, other: &str) -> Vec<u8> {
    String::from_utf8_lossy(octets).replace(word, other).into_bytes()
}

/// `c5 UID STORE 3 ...`, where the client has said a number, with the next UID.
fn bound_late(sent: &[u8], numbered: &[String]) -> Vec<u8> {
    let late = |line: &str| {
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        let [tag, "UID", verb, set, rest] = words[..] else { return line.to_owned() };
        let uid = set.parse::<u32>().ok().filter(|_| numbered.iter().any(|known| known == tag));
        uid.map_or(line.to_owned(), |uid| format!("{tag} UID {verb} {} {rest}", uid + 1))
    };
    String::from_utf8_lossy(sent).split_inclusive('\n').map(late).collect::<String>().into_bytes()
}

/// `* SEARCH 2 4 5` with 1 in the place of 2: as many as there are, and ascending.
fn misread(octets: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(octets).into_owned();
    let found = text.split_once("* SEARCH ").and_then(|(before, rest)| Some((before, rest.split_once(' ')?)));
    let Some((before, (first, behind))) = found else { return octets.to_vec() };
    let uid: u32 = first.parse().unwrap_or(1);
    format!("{before}* SEARCH {} {behind}", uid.saturating_sub(1).max(1)).into_bytes()
}

/// Steps within which a flaw has to be found.
const STEPS: usize = 10_000;

/// Walks until something is noticed, and says what.
fn caught(mut session: impl FnMut(Random) -> World) -> Option<String> {
    let mut random = Random::new(4711);
    let mut left = STEPS;
    while left > 0 {
        let length = 250.min(left);
        left -= length;
        if let Err(noticed) = session(Random::new(random.bits())).walk(length) {
            return Some(noticed);
        }
    }
    None
}

fn is_caught(flaw: Flaw) {
    is_caught_before("IMAP4rev1 IDLE LITERAL+", 1, flaw);
}

/// The same before a backend of these capabilities, with so many sessions of one account.
fn is_caught_before(capabilities: &str, sessions: usize, flaw: Flaw) {
    let noticed = caught(|random| {
        let manners = Mischief { reorders: true, ..Mischief::default() };
        let plan = Plan::before(random, true, manners, capabilities).with_sessions(sessions);
        World::through(plan, |inner, _| {
            Box::new(Flawed {
                inner,
                flaw,
                random: Random::new(17),
                line: Vec::new(),
                late: Vec::new(),
                numbered: Vec::new(),
                loading: false,
                behind_idle: false,
                tags: Vec::new(),
            })
        })
    });
    assert!(noticed.is_some(), "{flaw:?} was not noticed within {STEPS} steps");
}

#[test]
fn a_dropped_expunge_is_caught() {
    is_caught(Flaw::DropsExpunge);
}

#[test]
fn a_swallowed_flags_fact_is_caught() {
    is_caught(Flaw::SwallowsFlags);
}

#[test]
fn matching_tags_first_in_first_out_is_caught() {
    is_caught(Flaw::FirstInFirstOut);
}

#[test]
fn an_expunge_told_late_is_caught() {
    is_caught(Flaw::TellsLate);
}

#[test]
fn a_wrong_count_is_caught() {
    is_caught(Flaw::CountsTwice);
}

#[test]
fn numbers_bound_late_are_caught() {
    is_caught(Flaw::BindsLate);
}

#[test]
fn a_wrong_uid_in_a_load_is_caught() {
    is_caught(Flaw::MisreadsLoad);
}

#[test]
fn a_dropped_held_flag_is_caught() {
    is_caught(Flaw::DropsHeldFlags);
}

/// A client that speaks to the backend itself.
fn nobody_between(plan: Plan) -> World {
    let offers = Offers { copies: true, roams: true, ..Offers::default() };
    World::new(plan, vec![(Box::new(Direct::default()), offers)])
}

/// A backend that has to be asked.
const ASKED: &str = "IMAP4rev1 LITERAL+";

/// A backend that says what has vanished.
const SYNCS: &str = "IMAP4rev1 LITERAL+ UNSELECT ENABLE CONDSTORE QRESYNC";

#[test]
fn a_session_that_never_hears_what_another_has_found_is_caught() {
    is_caught_before(ASKED, 2, Flaw::DisbelievesOthers);
}

#[test]
fn a_dropped_vanished_is_caught() {
    is_caught_before(SYNCS, 1, Flaw::DropsVanished);
}

#[test]
fn what_has_vanished_before_and_is_not_told_is_caught() {
    is_caught_before(SYNCS, 1, Flaw::DropsEarlier);
}

#[test]
fn a_removal_told_too_early_is_caught() {
    is_caught_before(ASKED, 1, Flaw::TellsRemovalsAtOnce);
}

#[test]
fn flags_told_unasked_are_caught() {
    is_caught_before(ASKED, 1, Flaw::TellsFlagsUnasked);
}

#[test]
fn a_dropped_status_is_caught() {
    is_caught_before(ASKED, 1, Flaw::DropsStatus);
}

#[test]
fn numbers_bound_when_they_are_executed_are_caught() {
    // Nobody in between: the backend binds numbers when it comes to them.
    let noticed = caught(|random| {
        let plan =
            Plan::before(random, false, Mischief::default(), "IMAP4rev1 IDLE LITERAL+ UNSELECT NAMESPACE ENABLE ID");
        nobody_between(plan)
    });
    let noticed = noticed.expect("a wrong message was changed, and nobody noticed");
    assert!(noticed.contains("EXPUNGE while") || noticed.contains("UID"), "{noticed}");
}

#[test]
fn literals_pushed_to_a_backend_that_reads_none_are_caught() {
    let noticed = caught(|random| {
        let plan = Plan::before(random, true, Mischief::default(), "IMAP4rev1 UNSELECT NAMESPACE ENABLE ID");
        nobody_between(plan)
    });
    assert!(noticed.is_some(), "content was executed, and nobody noticed");
}

#[test]
fn a_proxy_without_a_flaw_is_not_caught() {
    let noticed = caught(|random| World::through_the_proxy(Plan::random(random, true, Mischief::default())));
    assert_eq!(noticed, None);
}
