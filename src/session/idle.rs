//! How a client hears of news while it idles, whatever the backend can do (RFC 2177; architecture 4.11).
//!
//!     C: a IDLE            "this client may be told things now"
//!     S: + idling
//!     >  p1 IDLE           a backend that tells by itself, or
//!     >  p1 NOOP           one that tells when it is asked: every 2 s after news, up to 30 s in silence, or
//!     >  p1 STATUS INBOX (MESSAGES UIDNEXT UNSEEN)
//!     >  p2 SELECT INBOX   one that tells nothing of a selected mailbox: selected again, and compared by UID
//!     >  p3 UID FETCH 1:* (UID FLAGS)
//!
//! Which of these it is says the server's profile, or its capabilities; a backend that keeps new messages to itself is found out,
//! by a STATUS behind its IDLE or NOOP every five minutes. Flags are in no STATUS: a backend that nobody knows and that keeps only
//! those to itself is not found out, because all messages would have to be looked at for it; its operator may name a profile. One that
//! has died unseen is found out when others have found news that it does not tell: it is asked, and owes an answer. DONE
//! is answered at once: a question under way is answered to us, and the client's next command waits for that.
//! Requirements N2 and N4.

mod look;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use self::look::{Doubt, Glance, Known, Seen};
use super::{
    effect::{Effects, Side},
    gate::{Owner, Running},
    open::Open,
    profile::Look,
    witness::stored_into,
};
use crate::{
    imap::{
        command::Head,
        list,
        verb::{self, Verb},
    },
    units::Span,
};

/// How often a backend is asked for news that does not tell them by itself, for each client that idles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pace {
    /// After news: more may follow.
    pub shortest: Span,
    /// In silence.
    pub longest: Span,
}

impl Default for Pace {
    fn default() -> Self {
        Self { shortest: Span::seconds(2), longest: Span::seconds(30) }
    }
}

/// Up to an eighth of a distance between two looks is taken off, so that sessions that have begun together, as when a backend comes
/// back, do not go on to ask together. `number`: of the look, so that two that fall together do so once.
pub(super) fn spread(every: Duration, whose: &[u8], number: u32) -> Duration {
    let mut hasher = DefaultHasher::new();
    (whose, number).hash(&mut hasher);
    every - (every / 8).mul_f64(hasher.finish() as f64 / u64::MAX as f64)
}

/// What a client wants to hear of its mailbox without asking: in IDLE, and under NOTIFY at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Messages that come.
    pub arrivals: bool,
    /// What is shown of each of them, unasked: a list of fetch-att.
    pub format: Option<Box<str>>,
    /// Messages that go.
    pub removals: bool,
    /// Of those it hears even while no command allows it: it names messages by UID only (RFC 5465 5.3).
    pub at_once: bool,
    /// Flags that others change.
    pub flags: bool,
}

impl Listening {
    /// Everything that happens, and nothing shown: RFC 2177.
    pub const ALL: Self = Self { arrivals: true, format: None, removals: true, at_once: false, flags: true };
    /// Nothing.
    pub const NOTHING: Self = Self { arrivals: false, format: None, removals: false, at_once: false, flags: false };
}

/// By what a client has said that it wants to hear of its mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// IDLE.
    Idle,
    /// NOTIFY, for as long as it holds: its commands do not end it.
    Notify,
}

/// IDLE towards the backend.
#[derive(Clone, Copy, Debug)]
pub(super) enum BackendIdle {
    /// None.
    Off,
    /// Asked for; `ending`: DONE is to follow as soon as it runs.
    Starting { since: Instant, ending: bool },
    /// It runs.
    On { since: Instant },
    /// DONE is sent, its tagged OK is not there.
    Ending,
    /// The backend refused it in this state; tried again after the next command.
    Refused,
}

impl BackendIdle {
    /// An IDLE shorter than this that the backend ends by itself is as good as none, and is not asked for again and again.
    const SHORTEST: Duration = Duration::from_secs(10);

    /// Its tagged response has come.
    fn ended(self, now: Instant) -> Self {
        match self {
            Self::Starting { ending: false, .. } => Self::Refused,
            Self::On { since } if now < since + Self::SHORTEST => Self::Refused,
            _ => Self::Off,
        }
    }

    /// Since when it runs.
    pub(super) fn since(self) -> Option<Instant> {
        match self {
            Self::On { since } => Some(since),
            _ => None,
        }
    }
}

/// How news of the selected mailbox come to this session.
#[derive(Debug)]
pub(super) struct News {
    /// What the backend has to be asked.
    look: Look,
    pace: Pace,
    /// Of a backend that tells by itself.
    pub(super) idle: BackendIdle,
    /// The present distance between two looks.
    every: Duration,
    /// When to look next; nothing while a look is under way, or nobody idles.
    next: Option<Instant>,
    /// Something came since the last look.
    stirred: bool,
    /// Something came, or was done, that the other sessions of the account were not told of.
    unpublished: bool,
    /// There is something that only a look of its own shows: what another session finds does not stand for that.
    owes: bool,
    /// When it was last looked.
    looked: Option<Instant>,
    /// Messages that the client was told of, the last ones, and that are to be shown to it.
    unshown: u32,
    /// What a look is about that takes several steps.
    under_way: Option<Box<Glance>>,
    /// What was seen when a mailbox was selected again, or its STATUS asked for, the last time.
    seen: Option<Box<Seen>>,
    /// What the backend had told when it was last looked whether it keeps things from us, just before.
    told: Known,
    /// There was something that it had not told: the first time that may have been on its way.
    doubt: Option<Doubt>,
    /// How far UIDNEXT was from what arrivals made of it: messages may come and go between two words of the backend.
    skipped: u32,
    /// When it was last looked whether it keeps things from us.
    probed: Option<Instant>,
    /// Others have found what the backend, in IDLE, has not told: when it is asked, if it says nothing until then.
    overdue: Option<Instant>,
    /// The backend does not tell the UIDs of this mailbox: news go without.
    pub(super) lacks_uids: bool,
}

impl News {
    /// Whether a backend that nothing is known of keeps things from us is looked after this often,
    const PROBE: Duration = Duration::from_secs(300);
    /// or soon again, where there is doubt.
    const DOUBT: Duration = Duration::from_secs(30);
    /// What others have found a backend in IDLE tells well within this time, if it is alive.
    const LATE: Duration = Duration::from_secs(5);
    /// A client that has kept silent for so long does not use its connection: IDLE around each of its commands would double
    /// their cost.
    const SILENCE: Duration = Duration::from_secs(3);
    /// Messages that are shown at once, the last that came: who has missed more looks for itself. With 64 KiB of each it is a few
    /// megabytes.
    const MOST_SHOWN: u32 = 50;

    fn until_probe(&self) -> Duration {
        if self.doubt.is_some_and(|doubt| doubt.fresh) { Self::DOUBT } else { Self::PROBE }
    }

    pub(super) fn new(look: Look, pace: Pace) -> Self {
        Self {
            look,
            pace,
            idle: BackendIdle::Off,
            every: pace.shortest.0,
            next: None,
            stirred: false,
            unpublished: false,
            owes: false,
            looked: None,
            unshown: 0,
            under_way: None,
            seen: None,
            told: Known::default(),
            doubt: None,
            skipped: 0,
            probed: None,
            overdue: None,
            lacks_uids: false,
        }
    }

    /// Something happened in the mailbox.
    pub(super) fn stir(&mut self) {
        (self.stirred, self.unpublished) = (true, true);
    }

    /// When to look next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// How often the backend may be asked.
    pub(super) fn pace(&self) -> Pace {
        self.pace
    }

    /// Whether the backend idles, or is about to.
    pub(super) fn is_idling(&self) -> bool {
        matches!(self.idle, BackendIdle::On { .. } | BackendIdle::Starting { .. })
    }

    /// Whether nothing of ours runs for its sake.
    pub(super) fn is_resting(&self) -> bool {
        matches!(self.idle, BackendIdle::Off | BackendIdle::Refused) && self.under_way.is_none()
    }

    /// Whether a look is under way.
    pub(super) fn is_looking(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether what comes is the mailbox as a look at all of it finds it: judged by what it changes.
    pub(super) fn is_comparing(&self) -> bool {
        self.under_way.as_ref().is_some_and(|glance| glance.began.is_some())
    }

    /// The backend is gone, and with it what was asked.
    pub(super) fn lose(&mut self) {
        (self.idle, self.under_way, self.next) = (BackendIdle::Off, None, None);
    }

    /// The client does something itself. What it changes need not come back to this session (`+FLAGS.SILENT`), and is news to
    /// the others.
    pub(super) fn act(&mut self, verb: &Verb) {
        const CHANGES: [&str; 6] = ["EXPUNGE", "MOVE", "STORE", "UID EXPUNGE", "UID MOVE", "UID STORE"];
        self.unpublished |= CHANGES.contains(&verb.name);
        self.seen.iter_mut().for_each(|seen| seen.stale = true);
    }

    /// The mailbox is another one now. What this session has found in it by opening it, the others need not know.
    pub(super) fn forget(&mut self) {
        self.unpublished = true;
        self.seen = None;
        (self.doubt, self.skipped) = (None, 0);
        self.lacks_uids = false;
        self.unshown = 0;
    }

    /// Whether UIDs are to be learnt for the sake of news: those of a mailbox that is selected again come with them.
    pub(super) fn learns_uids(&self) -> bool {
        !self.lacks_uids && self.look != Look::Reselect
    }

    /// Whether there are messages that the client is to be shown.
    pub(super) fn has_unshown(&self) -> bool {
        self.unshown > 0
    }

    /// The backend is asked, because it does not tell by itself, or not in this state.
    fn asks(&self) -> bool {
        self.look != Look::Idle || matches!(self.idle, BackendIdle::Refused)
    }

    /// Whether the mailbox is compared with what it was.
    pub(super) fn is_surveyed(&self) -> bool {
        self.seen.is_some()
    }

    /// How news come, in this state.
    pub(super) fn mode(&self) -> Look {
        if self.asks() { self.look.max(Look::Noop) } else { self.look }
    }
}

const FETCH: &Verb = verb::row_of("FETCH");
const IDLE: &Verb = verb::row_of("IDLE");

impl Open {
    /// Whether the client hears of news without asking now: it idles, or it has said so with NOTIFY and no command of its is in
    /// progress.
    pub(super) fn is_listening(&self) -> bool {
        let notified = || {
            self.selected
                && self.client.notify.as_ref().is_some_and(|told| told.arrivals)
                && self.client.is_between_commands()
                && !self.gate.client_waits()
        };
        self.client.is_idle() || notified()
    }

    /// Whether the client listens to what happens in the mailbox that is selected, its own commands disregarded.
    pub(super) fn listener(&self) -> Option<Listener> {
        let notified =
            || self.selected && self.client.notify.as_deref().is_some_and(|told| *told != Listening::NOTHING);
        match self.client.is_idle() {
            true => Some(Listener::Idle),
            false => notified().then_some(Listener::Notify),
        }
    }

    /// From when on the backend idles too. A client that does not idle itself may be about to say more (architecture 4.11).
    pub(super) fn idle_from(&self) -> Option<Instant> {
        let may = self.is_listening()
            && !self.is_mid_command()
            && !self.news.asks()
            && matches!(self.news.idle, BackendIdle::Off)
            && self.gate.is_only_idle()
            && !self.stack.has_waiting()
            && !self.lacks_uids_to_tell();
        may.then(|| self.client.heard + if self.client.is_idle() { Duration::ZERO } else { News::SILENCE })
    }

    /// The backend idles while the client listens, if it can; else it will be asked.
    pub(super) fn idle_on(&mut self, now: Instant, out: &mut Effects) {
        if !self.is_listening() || self.is_mid_command() {
            return;
        }
        self.client.stores = false;
        if self.show_arrivals(out) {
            return;
        }
        if self.lacks_uids_to_tell() && self.news.is_idling() {
            return self.idle_off(out);
        }
        if self.news.asks() {
            if self.news.next.is_none() && self.selected && self.news.under_way.is_none() && !self.gate.has(Owner::Idle)
            {
                self.news.every = self.news.pace.shortest.0;
                // What others have found before, this session was not told.
                self.news.owes = true;
                self.news.probed.get_or_insert(now);
                self.schedule(now);
            }
        } else if self.idle_from().is_some_and(|from| now >= from) {
            self.say(IDLE, b"", out);
            if self.news.probed.is_none_or(|probed| now >= probed + self.news.until_probe()) {
                self.news.probed = Some(now);
            }
            self.news.idle = BackendIdle::Starting { since: now, ending: false };
        }
    }

    /// The client has stopped, or the backend would soon end it by itself.
    pub(super) fn idle_off(&mut self, out: &mut Effects) {
        (self.news.next, self.news.overdue) = (None, None);
        self.news.idle = match self.news.idle {
            BackendIdle::On { .. } => {
                self.news.told = self.known();
                out.put(Side::Backend, b"DONE\r\n");
                BackendIdle::Ending
            }
            BackendIdle::Starting { since, .. } => BackendIdle::Starting { since, ending: true },
            BackendIdle::Ending => BackendIdle::Ending,
            BackendIdle::Off | BackendIdle::Refused => BackendIdle::Off,
        };
    }

    /// RFC 2177 section 3: a client of ours need not, but towards the backend we re-issue before 30 minutes are over.
    pub(super) fn renew_idle(&mut self, now: Instant, out: &mut Effects) {
        if self.idle_until().is_some_and(|until| now >= until) {
            self.idle_off(out);
        }
    }

    /// Shows what has come, as far as the client wants to see it. Whether it is about to.
    ///
    /// Behind a removal by UID that the client has not heard of, nobody knows its numbers until UIDs are learnt; where they are not
    /// to be had, nothing is shown.
    fn show_arrivals(&mut self, out: &mut Effects) -> bool {
        let Some(format) = self.may_tell().format.clone().filter(|_| self.news.unshown > 0) else { return false };
        let bound = self.numbering.is_bound();
        if !bound && !self.lacks_uids_to_tell() {
            self.news.unshown = 0;
            return false;
        }
        match self.news.idle {
            BackendIdle::On { .. } => self.idle_off(out),
            BackendIdle::Off | BackendIdle::Refused if bound && self.gate.is_only_idle() => {
                let last = self.numbering.count();
                let first = last.saturating_sub(std::mem::take(&mut self.news.unshown).min(News::MOST_SHOWN)) + 1;
                if first > last {
                    // All of them are gone again.
                    return false;
                }
                // The client is told the UID, whatever else it wants to see.
                let items = format.trim_start_matches('(');
                let items = items.strip_prefix("UID").filter(|rest| rest.starts_with([' ', ')'])).unwrap_or(items);
                let space = if items.starts_with([' ', ')']) { "" } else { " " };
                self.say(FETCH, format!("{first}:{last} (UID{space}{items}").as_bytes(), out);
            }
            _ => {}
        }
        true
    }

    /// What the client may be told of the selected mailbox now, without a command that asks. What it has said with NOTIFY holds
    /// at any time, also in IDLE (RFC 5465 4).
    pub(super) fn may_tell(&self) -> &Listening {
        let told = self.client.notify.as_deref().or(self.client.listening.as_deref());
        // What a mailbox is like that is being opened is an answer, and no news.
        told.filter(|_| self.before.is_none()).unwrap_or(&Listening::ALL)
    }

    /// The client has said NOTIFY: this it wants to hear, at any time. None: it is as if it never had.
    pub(super) fn listen(&mut self, listening: Option<Listening>, out: &mut Effects) {
        self.client.notify = listening.map(Box::new);
        self.news.unshown = 0;
        self.at_boundary(out);
    }

    /// A command of the client's stores messages in the mailbox that it has selected: they need not be shown to it (RFC 5465 5.2).
    pub(super) fn note_stored(&mut self, head: &Head<'_>) {
        let selected = self.mailbox.as_ref().filter(|_| self.client.notify.is_some());
        self.client.stores |=
            selected.is_some_and(|selected| stored_into(head) == Some(list::canonical(&selected.name)));
    }

    /// The backend has counted its messages.
    pub(super) fn counted(&mut self, count: u32, out: &mut Effects) {
        if let Some(mailbox) = self.mailbox.as_mut().filter(|_| self.before.is_none()) {
            let came = count.saturating_sub(self.numbering.count());
            mailbox.uidnext = mailbox.uidnext.map(|uidnext| uidnext.saturating_add(came));
        }
        if !self.may_tell().arrivals {
            if count > self.numbering.count() {
                self.news.stir();
            }
            return self.numbering.hold_exists(count);
        }
        let before = self.numbering.told();
        let told = self.numbering.exists(count);
        if told != before {
            self.news.stir();
        }
        self.tell(format!("* {told} EXISTS\r\n").as_bytes(), out);
        let shows = self.client.is_idle() || self.client.notify.is_some();
        let own = self.client.stores && self.news.unshown == 0;
        if shows && !own && self.may_tell().format.is_some() {
            self.news.unshown += told.saturating_sub(before);
        }
    }

    /// What was held back, if it may be told now: new messages, and flags.
    pub(super) fn tell_held(&mut self, out: &mut Effects) {
        if self.numbering.has_unannounced() && self.may_tell().arrivals {
            self.counted(self.numbering.count(), out);
        }
        if self.numbering.has_untold_flags() && self.may_tell().flags {
            let start = out.text.len();
            self.numbering.tell_flags(&mut out.text);
            out.put_from(Side::Client, start);
        }
    }

    /// When the backend's IDLE is to be ended, at the latest: to begin anew, or to see whether it keeps things from us, or is there at all.
    pub(super) fn idle_until(&self) -> Option<Instant> {
        let renewal = self.news.idle.since()? + self.front.timeouts.idle_renewal.0;
        let probe = self.news.probed.filter(|_| self.is_probed()).map(|probed| probed + self.news.until_probe());
        let overdue = self.news.overdue.filter(|overdue| self.backend.heard + News::LATE <= *overdue);
        [Some(renewal), probe, overdue].into_iter().flatten().min()
    }

    /// Whether nobody knows how this backend tells its news, but from what it says of itself.
    fn is_probed(&self) -> bool {
        self.selected && self.mailbox.is_some() && self.profile.look.is_none() && self.news.look != Look::Reselect
    }

    /// A command of ours, about news.
    fn say(&mut self, verb: &'static Verb, arguments: &[u8], out: &mut Effects) {
        let tag = self.backend.next_tag();
        let space: &[u8] = if arguments.is_empty() { b"" } else { b" " };
        let octets = [&tag, b" ".as_slice(), verb.name.as_bytes(), space, arguments, b"\r\n"].concat();
        self.write(&octets, None, &tag, verb, None, out);
        self.count_look(out);
        self.gate.start(Running::ours(tag, verb, Owner::Idle));
    }

    /// A command of ours goes to the backend: for the sake of news, unless a command of the client's wants it.
    pub(super) fn count_look(&self, out: &mut Effects) {
        out.looks += u64::from(self.client.is_idle() || !self.gate.client_waits());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_begin_together_do_not_ask_together() {
        let every = Duration::from_secs(30);
        let sessions = 1000_u32;
        let names: Vec<String> = (0..sessions).map(|session| format!("L{session:07X}-")).collect();
        let mut asked = [0; 60];
        for name in &names {
            let looks = (0..20).map(|number| spread(every, name.as_bytes(), number)).inspect(|distance| {
                assert!((every * 7 / 8..=every).contains(distance), "{distance:?}");
            });
            // The second of the minute in which the twentieth look comes.
            asked[looks.sum::<Duration>().as_secs() as usize % asked.len()] += 1;
        }
        let most = asked.into_iter().max().unwrap();
        assert!(most < sessions / 6, "{most} of {sessions} ask in one second");
    }
}
