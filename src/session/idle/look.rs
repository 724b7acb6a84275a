//! A look at the selected mailbox: what is asked of a backend that does not tell by itself, and what the answers change.
//!
//!     >  p1 STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)
//!     <  * STATUS INBOX (MESSAGES 3 UIDNEXT 17 UIDVALIDITY 1 UNSEEN 1)     as it was, and that is all; or other than it was:
//!     >  p2 SELECT INBOX
//!     >  p3 UID FETCH 1:* (UID FLAGS)                                     what differs by UID is told
//!
//! By the same STATUS a backend is found out that keeps to itself what it should tell. Requirements N2 and N4.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use super::{
    super::{
        effect::{Effect, Effects, End, Fault, Looked, Notice, Reconnect},
        gate::Owner,
        open::Open,
        profile::Look,
    },
    BackendIdle, FETCH, News,
};
use crate::imap::{
    code,
    fetch::Fetched,
    list,
    response::{self, Kind, Status},
    token::{self, Cursor},
    verb::{self, Verb},
};

const NOOP: &Verb = verb::row_of("NOOP");
const STATUS: &Verb = verb::row_of("STATUS");

/// A look of several steps.
#[derive(Debug, Default)]
pub(super) struct Glance {
    /// What STATUS said.
    status: Option<Vec<u8>>,
    /// How many messages it has, selected again.
    count: Option<u32>,
    /// Under which UIDs mean what they mean there, and which comes next.
    uidvalidity: Option<u32>,
    uidnext: Option<u32>,
    /// When all messages began to be looked at.
    pub(super) began: Option<Instant>,
}

/// What a backend has told of the messages there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    count: u32,
    uidnext: Option<u32>,
}

/// A backend was seen to keep something to itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    /// What was known then. When more is known, it has told something after all.
    known: Known,
    /// It was just now.
    pub(super) fresh: bool,
}

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The STATUS of the mailbox, its items as they came.
    status: Vec<u8>,
    /// The client has said something since: its flags may be others.
    pub(super) stale: bool,
    /// The flags of each message, by UID.
    flags: HashMap<u32, u64>,
    /// When all messages are to be looked at again, although STATUS says nothing new: most flags are not in it.
    again: Option<Instant>,
    keys: RandomState,
}

impl Seen {
    /// A look at all messages that took so long is made again when twenty times as long has passed: it is to be a small part
    /// of what the backend does.
    const SHARE: u32 = 20;

    /// Whether the flags of this message are others than they were.
    fn differ(&mut self, uid: u32, flags: &[u8]) -> bool {
        let mut flags: Vec<&[u8]> =
            flags.split(|octet| b"() ".contains(octet)).filter(|flag| !flag.is_empty()).collect();
        // \Recent is a matter of sessions (RFC 3501 2.3.2), and the order of none.
        flags.retain(|flag| !flag.eq_ignore_ascii_case(b"\\Recent"));
        flags.sort_unstable();
        let now = self.keys.hash_one(&flags);
        self.flags.insert(uid, now).is_some_and(|before| before != now)
    }
}

impl Open {
    /// Whether there is room for a question of ours: else it comes when what is under way has ended.
    pub(in crate::session) fn may_look(&self) -> bool {
        self.selected && !self.is_mid_command() && self.gate.is_only_idle()
    }

    /// It is time to look.
    pub(in crate::session) fn look(&mut self, now: Instant, out: &mut Effects) {
        let due = self.news.next.is_some_and(|next| now >= next);
        if !due || !self.may_look() {
            return;
        }
        self.news.next = None;
        (self.news.stirred, self.news.owes) = (false, false);
        self.news.looked = Some(now);
        match (self.news.look, self.mailbox.is_some()) {
            (Look::Reselect, true) => match &mut self.news.seen {
                Some(seen) if !seen.stale && seen.again.is_some_and(|again| now >= again) => {
                    // Whatever STATUS says, all is looked at: it need not be asked.
                    seen.status.clear();
                    self.reselect(out);
                }
                Some(seen) if !seen.stale => self.ask_status(out),
                _ => self.survey(out),
            },
            _ => self.say(NOOP, b"", out),
        }
    }

    /// Whether it is time to see whether the backend, having said what there is to say, keeps things to itself.
    fn is_probe_due(&self) -> bool {
        let since = self.news.probed.map(|probed| probed + self.news.until_probe());
        self.is_listening() && self.is_probed() && since.is_none_or(|due| self.backend.heard >= due)
    }

    fn probe(&mut self, out: &mut Effects) {
        self.news.probed = Some(self.backend.heard);
        self.ask_status(out);
    }

    /// What the backend has told.
    pub(super) fn known(&self) -> Known {
        let uidnext = self.mailbox.as_ref().and_then(|mailbox| mailbox.uidnext);
        Known { count: self.numbering.count(), uidnext: uidnext.map(|next| next.wrapping_add(self.news.skipped)) }
    }

    /// What the mailbox looks like before anything has changed: its UIDs and flags.
    fn survey(&mut self, out: &mut Effects) {
        let status = self.news.seen.take().map(|seen| seen.status).unwrap_or_default();
        self.news.seen = Some(Box::new(Seen { status, ..Seen::default() }));
        self.news.under_way = Some(Box::new(Glance { began: Some(self.now), ..Glance::default() }));
        self.ask_all(self.numbering.count(), out);
    }

    fn ask_status(&mut self, out: &mut Effects) {
        let mut arguments = self.mailbox_name();
        arguments.extend_from_slice(b" (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)");
        self.news.under_way = Some(Box::default());
        self.say(STATUS, &arguments, out);
    }

    fn mailbox_name(&self) -> Vec<u8> {
        let mut name = Vec::new();
        token::write_astring(self.mailbox.as_ref().map_or(b"", |mailbox| &mailbox.name), &mut name);
        name
    }

    /// The backend says something while we look. Whether it is for the client.
    pub(in crate::session) fn glimpse(&mut self, kind: Kind, number: u32, line: &[u8]) -> bool {
        let Some(verb) = self.gate.verb_of(Owner::Idle) else { return true };
        let selected = self.mailbox.as_ref().map_or(b"" as &[u8], |mailbox| &mailbox.name);
        let Some(glance) = &mut self.news.under_way else { return true };
        match (verb.name, kind) {
            ("STATUS", Kind::Status) => {
                // That of another mailbox is the backend's own idea (RFC 5465 5.2), and for the client.
                let Some(mut said) = items(line, selected) else { return true };
                if self.profile.moves_uidnext {
                    remove(&mut said, b"UIDNEXT");
                }
                glance.status = Some(said);
                false
            }
            ("SELECT" | "EXAMINE", Kind::Exists) => {
                glance.count = Some(number);
                false
            }
            ("SELECT" | "EXAMINE", Kind::Ok) => {
                let text = code::parse(response::text(line, 2));
                if text.is("UIDVALIDITY") {
                    glance.uidvalidity = text.number();
                } else if text.is("UIDNEXT") {
                    glance.uidnext = text.number();
                }
                false
            }
            ("SELECT" | "EXAMINE", Kind::Flags | Kind::Recent) => false,
            _ => true,
        }
    }

    /// A message as it is now, while all are looked at. Its flags are told if they are others than the client knows.
    pub(in crate::session) fn glimpse_message(&mut self, fetched: &Fetched<'_>, out: &mut Effects) {
        let (Some(uid), Some(flags)) = (fetched.uid(), fetched.value("FLAGS")) else { return };
        let settling = self.is_settling();
        let differ = self.news.seen.as_mut().map_or(settling, |seen| seen.differ(uid, flags));
        if differ {
            self.news.stir();
        }
        if differ && let Some(place) = self.numbering.uids().and_then(|uids| uids.place(uid)) {
            let rest = [format!(" FETCH (UID {uid} FLAGS ").as_bytes(), flags, b")\r\n"].concat();
            if self.may_tell().flags || !self.numbering.hold_flags(place, &rest) {
                let line = [format!("* {}", self.numbering.up(place)).as_bytes(), rest.as_slice()].concat();
                self.tell(&line, out);
            }
        }
    }

    /// A command of ours about news has ended.
    pub(in crate::session) fn looked(
        &mut self,
        verb: &'static Verb,
        status: Status,
        out: &mut Effects,
    ) -> Result<(), End> {
        match verb.name {
            "IDLE" => {
                let probe = matches!(self.news.idle, BackendIdle::Ending) && self.is_probe_due();
                self.news.idle = self.news.idle.ended(self.backend.heard);
                if probe {
                    self.probe(out);
                }
            }
            "NOOP" if self.is_probe_due() => {
                self.news.told = self.known();
                self.probe(out);
            }
            "STATUS" => self.compare(status, out),
            "FETCH" if self.is_settling() && status != Status::Ok => return Err(self.mailbox_lost(out)),
            "FETCH" => self.looked_over(out),
            "SELECT" | "EXAMINE" => {
                let seen = self.news.under_way.as_deref().map(|glance| (glance.count, glance.uidnext));
                let (Some((Some(count), uidnext)), Status::Ok) = (seen, status) else {
                    return Err(self.mailbox_lost(out));
                };
                if self.is_another() || (self.is_settling() && !self.is_comparable(count, uidnext)) {
                    return Err(self.mailbox_lost(out));
                }
                match self.is_settling() && !self.numbering.is_complete() {
                    true => self.ask_flags(count, out),
                    false => self.ask_all(count, out),
                }
                self.mailbox.iter_mut().for_each(|mailbox| mailbox.uidnext = uidnext.or(mailbox.uidnext));
                self.news.skipped = 0;
            }
            _ => self.rest(out),
        }
        Ok(())
    }

    /// What STATUS says, beside what was known.
    fn compare(&mut self, status: Status, out: &mut Effects) {
        let said = self.news.under_way.take().and_then(|glance| glance.status).filter(|_| status == Status::Ok);
        let Some(said) = said else { return self.rest(out) };
        let fits = number_of(&said, b"MESSAGES").is_none_or(|messages| messages == self.numbering.count());
        match self.news.look {
            Look::Idle | Look::Noop => {
                self.judge(&said, out);
                self.rest(out);
            }
            Look::Reselect => {
                let same = |seen: &Seen| seen.status == said || (seen.status.is_empty() && fits);
                let same = self.news.seen.as_deref().is_some_and(same);
                if let Some(seen) = &mut self.news.seen {
                    seen.status = said;
                }
                match same {
                    true => self.rest(out),
                    false => self.reselect(out),
                }
            }
        }
    }

    /// Whether the backend has kept to itself what STATUS says. News may have been on their way; twice, and not a word between, is
    /// no coincidence, however much happens in the mailbox.
    fn judge(&mut self, said: &[u8], out: &mut Effects) {
        let (told, mode) = (self.news.told, self.news.mode());
        let (messages, uidnext) = (number_of(said, b"MESSAGES"), number_of(said, b"UIDNEXT"));
        let counts = messages.is_none_or(|messages| messages == told.count);
        // One has come and one has gone: in IDLE that is told, between two NOOPs there may be nothing left to tell.
        let gives = mode != Look::Idle || uidnext.zip(told.uidnext).is_none_or(|(next, told)| next == told);
        let known = self.known();
        if let (true, Some(next), Some(before)) = (messages == Some(known.count), uidnext, known.uidnext) {
            self.news.skipped = self.news.skipped.wrapping_add(next.wrapping_sub(before));
        }
        let doubt = self.news.doubt.take().filter(|doubt| doubt.known == told);
        self.news.doubt = match (counts && gives, doubt) {
            (true, doubt) => doubt.map(|doubt| Doubt { fresh: false, ..doubt }),
            (false, None) => Some(Doubt { known: self.known(), fresh: true }),
            (false, Some(_)) => {
                self.news.look = mode.next();
                // What others have found by asking, this session has not.
                self.news.owes = true;
                self.news.probed = Some(self.backend.heard);
                out.push(Effect::Learned(self.news.look));
                None
            }
        };
    }

    /// Whether the name of the mailbox means another one than it did. Behind a loss, not to be told is as bad.
    fn is_another(&self) -> bool {
        let known = self.mailbox.as_ref().and_then(|mailbox| mailbox.uidvalidity);
        let said = self.news.under_way.as_ref().and_then(|glance| glance.uidvalidity);
        match known.zip(said) {
            Some((known, said)) => known != said,
            None => self.is_settling(),
        }
    }

    /// No message has gone, and so many are there now: what the client knows keeps its number, and may have other flags.
    fn ask_flags(&mut self, count: u32, out: &mut Effects) {
        let known = self.numbering.announced();
        if count > self.numbering.count() {
            self.counted(count, out);
        }
        match known {
            0 => self.looked_over(out),
            _ => self.say(FETCH, format!("1:{known} (UID FLAGS)").as_bytes(), out),
        }
    }

    pub(in crate::session) fn reselect(&mut self, out: &mut Effects) {
        let verb = match &self.mailbox {
            Some(mailbox) if mailbox.examined => verb::row_of("EXAMINE"),
            _ => verb::row_of("SELECT"),
        };
        self.news.under_way = Some(Box::new(Glance { began: Some(self.now), ..Glance::default() }));
        self.news.stirred = false;
        let name = self.mailbox_name();
        self.say(verb, &name, out);
    }

    /// All was looked at.
    pub(in crate::session) fn looked_over(&mut self, out: &mut Effects) {
        self.release_withheld(out);
        if let (Some(seen), Some(uids)) = (&mut self.news.seen, self.numbering.uids()) {
            seen.flags.retain(|uid, _| uids.contains(*uid));
        }
        let Some(glance) = self.news.under_way.take() else { return };
        if let (Some(seen), Some(began)) = (&mut self.news.seen, glance.began) {
            let now = self.backend.heard;
            // In silence each look is one at all of them, also one that comes a little early.
            let soonest = self.news.pace.longest.0 * 7 / 8;
            seen.again = Some(now + soonest.max((now - began) * Seen::SHARE));
        }
        self.settled(out);
        self.rest(out);
    }

    /// Another session of the account has looked at a mailbox. If it is the one that is selected here, that look counts; if
    /// something was found, it is looked at once. STATUS alone shows no flags: that nothing was found by it says little.
    pub(in crate::session) fn heed(&mut self, looked: &Looked) {
        let selected = self.mailbox.as_ref().map(|mailbox| list::canonical(&mailbox.name));
        if selected.as_ref() != Some(&looked.mailbox) || self.listener().is_none() {
            return;
        }
        let messages = looked.status.as_ref().and_then(|status| status.messages);
        let other = messages.is_some_and(|messages| messages != self.numbering.count());
        let now = self.now;
        let News { every, pace, looked: before, next, owes, seen, idle, overdue, .. } = &mut self.news;
        if other && matches!(idle, BackendIdle::On { .. }) {
            *overdue = Some(now + News::LATE);
        }
        if looked.stirred || other {
            // A look that is under way may have come too early.
            *owes = true;
            seen.iter_mut().for_each(|seen| seen.again = Some(now));
            *next = next.map(|_| before.map_or(now, |before| now.max(before + pace.shortest.0)));
        } else if let (None, Some(due), false) = (&looked.status, &mut *next, *owes) {
            *every = (*every * 3 / 2).min(pace.longest.0);
            // A little later than the other, who so goes on to look for both; but not so late that news come too late if it goes.
            let late = (*every * 9 / 8).min(pace.longest.0 + Duration::from_secs(1));
            // Flags that are in no STATUS are looked for here too.
            let again = seen.as_ref().and_then(|seen| seen.again).unwrap_or(now + late);
            *due = (now + late).min(again.max(*due));
        }
    }

    /// Until the next look. The other sessions of the account hear of this one.
    fn rest(&mut self, out: &mut Effects) {
        self.watch_on();
        if let Some(mailbox) = &self.mailbox {
            let stirred = std::mem::take(&mut self.news.unpublished);
            let looked = Looked { mailbox: list::canonical(&mailbox.name), stirred, status: None };
            out.push(Effect::Publish(Box::new(Notice::Looked(looked))));
        }
        let News { every, pace, stirred, owes, .. } = &mut self.news;
        *every = if *stirred || *owes { pace.shortest.0 } else { (*every * 3 / 2).min(pace.longest.0) };
        if self.is_listening() && self.news.asks() {
            self.schedule(self.backend.heard);
        }
    }

    /// The next look comes when its time has come.
    pub(super) fn schedule(&mut self, now: Instant) {
        self.news.next = Some(now + self.backend.spread(self.news.every));
    }

    /// The mailbox is gone, or another one has its name: the client has to begin anew.
    pub(in crate::session) fn mailbox_lost(&mut self, out: &mut Effects) -> End {
        if self.is_settling() {
            out.push(Effect::Reconnect(Reconnect::Changed));
        }
        self.bye(
            "the mailbox is not what it was; please select it again",
            End::Fault(Fault::Backend("mailbox lost")),
            out,
        )
    }
}

/// The items of a STATUS response, as they came, if it is about this mailbox.
fn items(line: &[u8], mailbox: &[u8]) -> Option<Vec<u8>> {
    let mut cursor = Cursor::new(response::text(line, 2));
    let name = cursor.astring().ok()?;
    (list::canonical(&name) == list::canonical(mailbox)).then_some(())?;
    cursor.space().ok()?;
    cursor.list_as_written().ok().map(<[u8]>::to_ascii_uppercase)
}

/// Takes a word out, and the number behind it.
fn remove(items: &mut Vec<u8>, word: &[u8]) {
    let words: Vec<&[u8]> = items.split(|octet| b"() ".contains(octet)).filter(|word| !word.is_empty()).collect();
    let kept = words.chunks(2).filter(|pair| pair[0] != word).map(|pair| pair.join(&b' '));
    *items = kept.collect::<Vec<_>>().join(&b' ');
}

/// The number behind this word.
fn number_of(items: &[u8], word: &[u8]) -> Option<u32> {
    let mut words = items.split(|octet| b"() ".contains(octet)).skip_while(|other| *other != word);
    std::str::from_utf8(words.nth(1)?).ok()?.parse().ok()
}
