//! The watch of an account: looks after its mailboxes while somebody who wants to hear of them is away.
//!
//!     >  A1 EXAMINE INBOX
//!     <  * 24 EXISTS, UIDVALIDITY 7
//!     >  A2 UID FETCH 18:* (UID FLAGS)            from where the last look ended
//!     <  * 23 FETCH (UID 18 FLAGS ())
//!     >  A4 UID SEARCH UID 18 FROM "juliet"       a filter of somebody's, if there is one
//!     >  A6 UID FETCH 18 (BODY.PEEK[]<0.16384>)   where somebody is to be told what it says
//!          INBOX: 18 is new, and the next look begins at 19
//!     >  A8 IDLE                                  in INBOX, or where there are news most likely; the others are looked at every minute, or told by
//!                                                 NOTIFY where the backend can
//!
//! It is a state machine: what it says next is an errand ([`crate::session::aside`]), and what came of it makes the next one. Which messages are
//! new only UIDs tell, so every message is found once, whatever is lost and had again; what was counted may fall meanwhile. A mailbox
//! that was made anew has another UIDVALIDITY: nothing in it is known, and that is said. A backend that refuses IDLE is asked instead.
//! Where a filter cannot be asked, the headers are looked at instead, and what they do not tell lets a message pass: too much is told rather
//! than too little. A question over which connections are lost is not asked again and again.
//!
//! Times are since 1970. Requirements N3, N11, A6.

pub mod cursor;

use std::{collections::BTreeMap, time::Duration};

use self::cursor::Cursor;
use crate::{
    imap::{fetch::Fetched, response::Status, token, uid_set::UidSet, verb},
    mailbox::{
        membership::{Candidate, matches},
        news::News,
    },
    session::aside::{Errand, Examined, Outcome, Task},
};

/// How many octets of a message are looked into: its header, and more text than is shown anywhere.
pub const HEAD: u32 = 16 << 10;

/// Messages that one look finds at most: the next look finds the rest.
const MOST: usize = 100_000;

/// Messages whose headers are asked for where the backend cannot search: of more at once, all pass.
const MOST_JUDGED: u32 = 100;

/// Octets of a search program by which headers are judged: so many of them as that have room in it take a moment only, and others wait.
const LONGEST_JUDGED: usize = 1 << 10;

/// Connections that a question may cost: then it is not asked, and its mailbox comes behind the others.
const MOST_LOST: u32 = 3;

/// How often mailboxes are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From one look at a mailbox to the next where nothing tells of news.
    pub every: Duration,
    /// An IDLE is ended, and the mailbox looked at, before it has lasted so long (RFC 2177: 29 minutes). There are backends that keep news to
    /// themselves.
    pub idle: Duration,
}

/// The watch of an account.
#[derive(Debug)]
pub struct Watch {
    pace: Pace,
    places: BTreeMap<Box<[u8]>, Place>,
    doing: Option<Doing>,
    /// The backend does not let us idle.
    deaf: bool,
    /// In IDLE, it tells of all mailboxes.
    notifies: bool,
    /// The mailbox that was looked at last.
    last: Option<Box<[u8]>>,
}

/// What is wanted of a mailbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Search programs: which of the messages that come match each.
    pub programs: Vec<Box<[u8]>>,
    /// Somebody is to be told what messages say.
    pub heads: bool,
}

/// A mailbox that is looked after.
#[derive(Debug)]
struct Place {
    wish: Wish,
    cursor: Option<Cursor>,
    due: Duration,
    /// How many messages it had when it was looked at last.
    count: Option<u32>,
    /// A message that is to be looked into again, under this UIDVALIDITY.
    head: Option<(u32, u32)>,
    /// Connections that were lost over it since all was known of it.
    losses: u32,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Next {
    /// This errand.
    Run(Errand),
    /// This one, which listens; until then at most.
    Listen(Errand, Duration),
    /// Nothing, until then; none: until something is wanted.
    Rest(Option<Duration>),
}

#[derive(Debug)]
enum Doing {
    /// Looking for what is new.
    Look(Box<[u8]>),
    /// Asking which of it match the first of these programs.
    Match(Box<News>, Vec<Box<[u8]>>),
    /// Looking at their headers, because the backend cannot be asked that.
    Judge(Box<News>, Vec<Box<[u8]>>),
    /// Looking into this one.
    Head(Box<News>, u32),
    Listen(Box<[u8]>),
}

impl Doing {
    /// Where.
    fn mailbox(&self) -> &[u8] {
        match self {
            Self::Look(mailbox) | Self::Listen(mailbox) => mailbox,
            Self::Match(news, _) | Self::Judge(news, _) | Self::Head(news, _) => &news.mailbox,
        }
    }
}

impl Watch {
    /// Nothing is looked after yet.
    pub fn new(pace: Pace) -> Self {
        Self { pace, places: BTreeMap::new(), doing: None, deaf: false, notifies: false, last: None }
    }

    /// These mailboxes are to be looked after, and no others. `known`: how far one was looked at before this process began.
    pub fn look_after(&mut self, wishes: BTreeMap<Box<[u8]>, Wish>, known: &BTreeMap<Box<[u8]>, Cursor>) {
        let mut before = std::mem::take(&mut self.places);
        for (mailbox, wish) in wishes {
            let cursor = known.get(&mailbox).copied();
            let place = match before.remove(&mailbox) {
                Some(place) => Place { wish, ..place },
                None => Place { wish, cursor, due: Duration::ZERO, count: None, head: None, losses: 0 },
            };
            self.places.insert(mailbox, place);
        }
    }

    /// How far this mailbox was looked at.
    pub fn cursor(&self, mailbox: &[u8]) -> Option<Cursor> {
        self.places.get(mailbox)?.cursor
    }

    /// Somebody who wants to hear of this mailbox was shown all below this: where nobody has looked yet, the first look begins there, and
    /// nothing that came meanwhile is taken for old.
    pub fn begin_at(&mut self, mailbox: &[u8], cursor: Cursor) {
        let is_looking = matches!(&self.doing, Some(Doing::Look(looking)) if **looking == *mailbox);
        if let Some(place) = self.places.get_mut(mailbox).filter(|_| !is_looking) {
            place.cursor.get_or_insert(cursor);
        }
    }

    /// Whether it is known of every mailbox what is new in it.
    pub fn is_settled(&self) -> bool {
        self.places.values().all(|place| place.cursor.is_some())
    }

    /// Whether the backend tells news in IDLE, as far as anybody knows; and those of other mailboxes too.
    pub fn may_listen(&mut self, may: bool, notifies: bool) {
        self.deaf |= !may;
        self.notifies = notifies;
    }

    /// A session sees all messages of a mailbox below this UID. Where nobody else can look, what is new among them is found so: which of them match
    /// what, and what they say, nobody knows, and a UID may be larger than it was taken for.
    pub fn seen(&mut self, mailbox: &[u8], seen: Cursor) -> Option<News> {
        let place = self.places.get_mut(mailbox)?;
        let known = place.cursor.filter(|known| known.uidvalidity == seen.uidvalidity);
        if known.is_some_and(|known| known.next >= seen.next) {
            return None;
        }
        place.cursor = Some(seen);
        let most = u32::try_from(MOST).unwrap_or(u32::MAX);
        let arrived: UidSet = (known?.next.max(seen.next.saturating_sub(most))..seen.next).collect();
        let matched = place.wish.programs.iter().map(|program| (program.clone(), arrived.clone())).collect();
        Some(News { arrived, matched, ..News::of(mailbox.into(), seen.uidvalidity, seen.next) })
    }

    /// What this message of a mailbox says is wanted once more: who knew it is no more.
    pub fn fetch(&mut self, mailbox: &[u8], uidvalidity: u32, uid: u32) {
        if let Some(place) = self.places.get_mut(mailbox) {
            place.head = Some((uidvalidity, uid));
        }
    }

    /// Whether that is still to be found out of one.
    pub fn fetches(&self) -> bool {
        self.places.values().any(|place| place.head.is_some())
    }

    /// Something may have happened there: it is looked at next. Whether anybody looks after it.
    pub fn stir(&mut self, mailbox: &[u8]) -> bool {
        let place = self.places.get_mut(mailbox);
        place.map(|place| place.due = Duration::ZERO).is_some()
    }

    /// The same of all that are looked after.
    pub fn stir_all(&mut self) {
        self.places.values_mut().for_each(|place| place.due = Duration::ZERO);
    }

    /// The connection was lost: on the next one all is looked at, from where it was. A mailbox over which that happens again and again takes
    /// nothing from the others. `was_in`: the backend has let us in, so that it was not the login over which it was lost.
    pub fn lost(&mut self, was_in: bool, now: Duration) {
        let asked = self.doing.take().filter(|doing| was_in && !matches!(doing, Doing::Listen(_)));
        if let Some(place) = asked.and_then(|doing| self.places.get_mut(doing.mailbox())) {
            place.losses += 1;
        }
        self.last = None;
        for place in self.places.values_mut() {
            let later = || now.saturating_add(self.pace.every * place.losses.min(5));
            place.due = if place.losses < MOST_LOST { Duration::ZERO } else { later() };
            place.count = None;
        }
    }

    /// The mailboxes that are looked after.
    pub fn mailboxes(&self) -> impl Iterator<Item = &[u8]> {
        self.places.keys().map(|mailbox| &**mailbox)
    }

    /// What is to be done now. What came of an errand is told before the next one is asked for.
    pub fn next(&mut self, now: Duration) -> Next {
        // Who listens may have something better to do.
        self.doing = self.doing.take().filter(|doing| !matches!(doing, Doing::Listen(_)));
        if let Some(doing) = &self.doing {
            return Next::Run(self.errand(doing));
        }
        let head =
            self.places.iter_mut().find_map(|(name, place)| Some((name.clone(), place.head.take()?, place.cursor?)));
        if let Some((mailbox, (uidvalidity, uid), cursor)) = head
            && cursor.uidvalidity == uidvalidity
        {
            return Next::Run(
                self.begin(Doing::Head(Box::new(News::of(mailbox, cursor.uidvalidity, cursor.next)), uid)),
            );
        }
        // A clock that was set back delays nothing.
        let latest = now.saturating_add(self.pace.idle);
        self.places.values_mut().for_each(|place| place.due = place.due.min(latest));
        let first = self.places.iter().min_by_key(|(_, place)| place.due);
        let Some((mailbox, due)) = first.map(|(mailbox, place)| (mailbox.clone(), place.due)) else {
            return Next::Rest(None);
        };
        if due <= now {
            return Next::Run(self.begin(Doing::Look(mailbox)));
        }
        match self.foremost() {
            Some(mailbox) => {
                let others = self.places.iter().filter(|(name, _)| **name != mailbox).map(|(_, place)| place.due).min();
                let until = others.unwrap_or(Duration::MAX).min(now.saturating_add(self.pace.idle));
                Next::Listen(self.begin(Doing::Listen(mailbox)), until)
            }
            None => Next::Rest(Some(due)),
        }
    }

    /// What came of the errand, and what the mailbox has said of itself. What was found, when all is known of it: until then nothing was
    /// found, and a connection that is lost meanwhile begins where the last look ended.
    pub fn told(&mut self, outcome: Outcome, examined: Examined, now: Duration) -> Option<News> {
        let doing = self.doing.take()?;
        let (kept, done, refused) = match outcome {
            Outcome::Done(kept, status, _) => (kept, status == Status::Ok, status != Status::Ok),
            // An IDLE that ends by itself, more than can be held.
            Outcome::Lost | Outcome::Refused | Outcome::Busy => (Vec::new(), false, false),
        };
        if let Doing::Match(news, _) | Doing::Judge(news, _) | Doing::Head(news, _) = &doing
            && let Some(place) = self.places.get_mut(&news.mailbox)
            && (examined.has_grown || examined.messages.zip(place.count).is_some_and(|(now, known)| now > known))
        {
            place.due = now;
        }
        match doing {
            Doing::Listen(mailbox) => {
                self.deaf |= !done;
                self.stir(&mailbox);
                kept.iter().for_each(|mailbox| _ = self.stir(mailbox));
                None
            }
            Doing::Look(mailbox) => {
                let news = self.looked(mailbox, &kept, done, examined, now)?;
                let programs = self.places.get(&news.mailbox)?.wish.programs.clone();
                self.further(news, programs)
            }
            Doing::Match(news, programs) if refused && may_judge(&news, &programs[0]) => {
                self.doing = Some(Doing::Judge(news, programs));
                None
            }
            Doing::Match(mut news, mut programs) => {
                // Who cannot be asked is not to decide that nobody hears of it.
                let mut matched = news.arrived.clone();
                if done {
                    matched.narrow(&found(&kept));
                }
                news.matched.push((programs.remove(0), matched));
                self.further(news, programs)
            }
            Doing::Judge(mut news, mut programs) => {
                let program = programs.remove(0);
                let others = judged(&kept).into_iter().filter(|other| matches(&program, other) == Some(false));
                let others: UidSet = others.map(|other| other.uid).collect();
                news.matched.push((program, news.arrived.without(&others).collect()));
                self.further(news, programs)
            }
            Doing::Head(mut news, uid) => {
                news.head = kept.iter().find_map(|response| body(response)).map(|body| (uid, body));
                Some(self.finished(*news))
            }
        }
    }

    /// The messages of a mailbox from where the last look ended, as the backend has told them.
    fn looked(
        &mut self,
        mailbox: Box<[u8]>,
        kept: &[Vec<u8>],
        done: bool,
        examined: Examined,
        now: Duration,
    ) -> Option<Box<News>> {
        let hears = self.notifies && !self.deaf;
        let every = if hears { self.pace.idle } else { self.pace.every };
        let place = self.places.get_mut(&mailbox)?;
        // What has come behind the look it may not have seen.
        place.due = if examined.has_grown { now } else { now.saturating_add(every) };
        place.count = examined.messages;
        // An empty mailbox has no `*`, and some backends say so by NO or BAD.
        if !done && examined.messages != Some(0) {
            return None;
        }
        self.last = Some(mailbox.clone());
        let told = told(kept);
        let last = told.last().map(|(uid, _)| *uid);
        let behind = Cursor::behind(examined, last);
        let mut news = News { messages: examined.messages, ..News::of(mailbox, behind.uidvalidity, behind.next) };
        match place.cursor {
            None => {}
            Some(cursor) if cursor.holds(examined) => {
                let new = || told.iter().filter(|(uid, _)| *uid >= cursor.next);
                news.arrived = new().map(|(uid, _)| *uid).collect();
                news.read = new().filter(|(_, read)| *read).map(|(uid, _)| *uid).collect();
                news.next = cursor.next.max(behind.next);
            }
            // Wherever it begins, `n:*` has the last message in it: behind that, all is new.
            Some(_) => news.renewed = Some(examined.messages.unwrap_or_default()),
        }
        Some(Box::new(news))
    }

    /// What is still to be asked of what was found; all of it, when there is nothing.
    fn further(&mut self, mut news: Box<News>, mut programs: Vec<Box<[u8]>>) -> Option<News> {
        let place = self.places.get(&news.mailbox);
        let may_ask = !news.arrived.is_empty() && place.is_some_and(|place| place.losses < MOST_LOST);
        let heads = place.is_some_and(|place| place.wish.heads);
        while let Some(program) = programs.first() {
            let ask: Option<fn(_, _) -> _> = match () {
                () if !may_ask => None,
                // It has a literal: there are backends that wait for it, and others that do not.
                () if program.contains(&b'\n') => may_judge(&news, program).then_some(Doing::Judge),
                () => Some(Doing::Match),
            };
            if let Some(ask) = ask {
                self.doing = Some(ask(news, programs));
                return None;
            }
            // Who cannot be asked is not to decide that nobody hears of it.
            let matched = news.arrived.clone();
            news.matched.push((programs.remove(0), matched));
        }
        match news.arrived.last().filter(|_| may_ask && heads) {
            Some(last) => self.doing = Some(Doing::Head(news, last)),
            None => return Some(self.finished(*news)),
        }
        None
    }

    /// All is known of what was found: the next look begins behind it.
    fn finished(&mut self, news: News) -> News {
        if let Some(place) = self.places.get_mut(&news.mailbox) {
            place.cursor = Some(Cursor { uidvalidity: news.uidvalidity, next: news.next });
            place.losses = 0;
        }
        news
    }

    /// Where news are most likely: INBOX, else the mailbox that was looked at last.
    fn foremost(&self) -> Option<Box<[u8]>> {
        let is_sound = |(_, place): &(_, &Place)| place.losses < MOST_LOST;
        let named = |name: &[u8]| self.places.get_key_value(name).filter(is_sound).map(|(name, _)| name.clone());
        let last = || named(self.last.as_ref()?);
        named(b"INBOX").or_else(last).filter(|_| !self.deaf)
    }

    fn begin(&mut self, doing: Doing) -> Errand {
        let errand = self.errand(&doing);
        self.doing = Some(doing);
        errand
    }

    fn errand(&self, doing: &Doing) -> Errand {
        let (mailbox, task) = match doing {
            Doing::Look(mailbox) => {
                let from = self.cursor(mailbox).map_or("*".to_owned(), |cursor| format!("{}:*", cursor.next));
                let arguments = format!("{from} (UID FLAGS)").into_bytes();
                (mailbox, Task::Ask { verb: FETCH, arguments, keep: keep_told })
            }
            Doing::Match(news, programs) => {
                let program: &[u8] = programs.first().map_or(b"ALL", |program| program);
                let charset = if program.is_ascii() { "" } else { "CHARSET UTF-8 " };
                let [first, last] = [news.arrived.first(), news.arrived.last()].map(Option::unwrap_or_default);
                let arguments = [format!("{charset}UID {first}:{last} ").as_bytes(), program].concat();
                (&news.mailbox, Task::Ask { verb: SEARCH, arguments, keep: Errand::whole })
            }
            Doing::Judge(news, _) => {
                let arguments = format!("{} (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER])", news.arrived);
                (&news.mailbox, Task::Ask { verb: FETCH, arguments: arguments.into_bytes(), keep: Errand::whole })
            }
            Doing::Head(news, uid) => {
                let arguments = format!("{uid} (UID BODY.PEEK[]<0.{HEAD}>)").into_bytes();
                (&news.mailbox, Task::Ask { verb: FETCH, arguments, keep: Errand::whole })
            }
            Doing::Listen(mailbox) => {
                let count = self.places.get(mailbox).and_then(|place| place.count);
                let also = self.places.keys().filter(|name| *name != mailbox).cloned().collect();
                (mailbox, Task::Listen { count, also })
            }
        };
        // What UIDs name must be what they have named.
        let uidvalidity = match doing {
            Doing::Match(news, _) | Doing::Judge(news, _) | Doing::Head(news, _) => {
                Some(news.uidvalidity).filter(|known| *known > 0)
            }
            Doing::Look(_) | Doing::Listen(_) => None,
        };
        Errand { mailbox: mailbox.clone(), uidvalidity, task }
    }
}

/// Whether these messages are judged by their headers.
fn may_judge(news: &News, program: &[u8]) -> bool {
    news.arrived.len() <= MOST_JUDGED && program.len() <= LONGEST_JUDGED
}

const FETCH: &verb::Verb = verb::row_of("UID FETCH");
const SEARCH: &verb::Verb = verb::row_of("UID SEARCH");

/// Keeps of a FETCH response which message it is, and whether somebody has read it: five octets, since there may be many.
fn keep_told(kept: &mut Vec<Vec<u8>>, response: &[u8]) {
    let Some(fetched) = Fetched::parse(response) else { return };
    let (Some(uid), Some(flags)) = (fetched.uid(), fetched.value("FLAGS")) else { return };
    let is_read = flags.windows(5).any(|octets| octets.eq_ignore_ascii_case(b"\\Seen"));
    if kept.is_empty() {
        kept.push(Vec::new());
    }
    if kept[0].len() < MOST * TOLD {
        kept[0].extend_from_slice(&uid.to_be_bytes());
        kept[0].push(u8::from(is_read));
    }
}

/// Octets of one message in what is kept.
const TOLD: usize = 5;

/// What was kept, by UID.
fn told(kept: &[Vec<u8>]) -> Vec<(u32, bool)> {
    let octets = kept.first().map_or(&[][..], Vec::as_slice);
    let mut told: Vec<_> = octets
        .chunks_exact(TOLD)
        .map(|one| (u32::from_be_bytes([one[0], one[1], one[2], one[3]]), one[4] > 0))
        .collect();
    told.sort_unstable();
    told
}

/// The UIDs of answers to a search.
fn found(kept: &[Vec<u8>]) -> UidSet {
    let numbers = |response: &Vec<u8>| {
        let words = response.strip_prefix(b"* SEARCH").unwrap_or_default().split(|octet| *octet == b' ');
        words.filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok()).collect::<Vec<u32>>()
    };
    kept.iter().flat_map(numbers).collect()
}

/// What is known of messages by their headers.
fn judged(kept: &[Vec<u8>]) -> Vec<Candidate<'_>> {
    fn candidate(response: &[u8]) -> Option<Candidate<'_>> {
        let fetched = Fetched::parse(response)?;
        let uid = fetched.uid()?;
        let flags = String::from_utf8_lossy(fetched.value("FLAGS")?.trim_ascii());
        let flags = flags.trim_matches(['(', ')']).split(' ').map(|flag| flag.to_owned().into()).collect();
        let size = fetched.value("RFC822.SIZE").and_then(|size| std::str::from_utf8(size).ok()?.parse().ok());
        let header = token::Cursor::new(fetched.value("BODY[HEADER]")?).string().ok()?.octets;
        Some(Candidate { uid, flags, arrived: fetched.value("INTERNALDATE").unwrap_or_default(), size, header })
    }
    kept.iter().filter_map(|response| candidate(response)).collect()
}

/// How a message begins.
fn body(response: &[u8]) -> Option<Vec<u8>> {
    let fetched = Fetched::parse(response)?;
    let value = fetched.value("BODY[]<0>")?;
    Some(token::Cursor::new(value).string().ok()?.octets.into_owned())
}

#[cfg(test)]
mod tests;
