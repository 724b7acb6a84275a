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
//! those to itself is not found out, because all messages would have to be looked at for it; its operator may name a profile. DONE
//! is answered at once: a question under way is answered to us, and the client's next command waits for that.
//! Requirements N2 and N4.

use std::{
    collections::HashMap,
    hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    effect::{Effect, Effects, End, Fault, Looked, Notice, Reconnect, Side},
    gate::{Owner, Running},
    open::Open,
    profile::Look,
    witness::stored_into,
};
use crate::{
    imap::{
        code,
        command::Head,
        fetch::Fetched,
        list,
        response::{self, Kind, Status},
        token::{self, Cursor},
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
    /// The backend does not tell the UIDs of this mailbox: news go without.
    pub(super) lacks_uids: bool,
}

/// A look of several steps.
#[derive(Debug, Default)]
struct Glance {
    /// What STATUS said.
    status: Option<Vec<u8>>,
    /// How many messages it has, selected again.
    count: Option<u32>,
    /// Under which UIDs mean what they mean there, and which comes next.
    uidvalidity: Option<u32>,
    uidnext: Option<u32>,
    /// When all messages began to be looked at.
    began: Option<Instant>,
}

/// What a backend has told of the messages there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    count: u32,
    uidnext: Option<u32>,
}

/// A backend was seen to keep something to itself.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// What was known then. When more is known, it has told something after all.
    known: Known,
    /// It was just now.
    fresh: bool,
}

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The STATUS of the mailbox, its items as they came.
    status: Vec<u8>,
    /// The client has said something since: its flags may be others.
    stale: bool,
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

impl News {
    /// Whether a backend that nothing is known of keeps things from us is looked after this often,
    const PROBE: Duration = Duration::from_secs(300);
    /// or soon again, where there is doubt.
    const DOUBT: Duration = Duration::from_secs(30);
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
const NOOP: &Verb = verb::row_of("NOOP");
const STATUS: &Verb = verb::row_of("STATUS");

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
        self.news.next = None;
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

    /// When the backend's IDLE is to be ended, at the latest: to begin anew, or to see whether it keeps things from us.
    pub(super) fn idle_until(&self) -> Option<Instant> {
        let renewal = self.news.idle.since()? + self.front.timeouts.idle_renewal.0;
        let probe = self.news.probed.filter(|_| self.is_probed()).map(|probed| probed + self.news.until_probe());
        Some(probe.map_or(renewal, |probe| probe.min(renewal)))
    }

    /// Whether nobody knows how this backend tells its news, but from what it says of itself.
    fn is_probed(&self) -> bool {
        self.selected && self.mailbox.is_some() && self.profile.look.is_none() && self.news.look != Look::Reselect
    }

    /// Whether there is room for a question of ours: else it comes when what is under way has ended.
    pub(super) fn may_look(&self) -> bool {
        self.selected && !self.is_mid_command() && self.gate.is_only_idle()
    }

    /// It is time to look.
    pub(super) fn look(&mut self, now: Instant, out: &mut Effects) {
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
    fn known(&self) -> Known {
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

    /// The backend says something while we look. Whether it is for the client.
    pub(super) fn glimpse(&mut self, kind: Kind, number: u32, line: &[u8]) -> bool {
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
    pub(super) fn glimpse_message(&mut self, fetched: &Fetched<'_>, out: &mut Effects) {
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
    pub(super) fn looked(&mut self, verb: &'static Verb, status: Status, out: &mut Effects) -> Result<(), End> {
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

    pub(super) fn reselect(&mut self, out: &mut Effects) {
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
    pub(super) fn looked_over(&mut self, out: &mut Effects) {
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
    pub(super) fn heed(&mut self, looked: &Looked) {
        let selected = self.mailbox.as_ref().map(|mailbox| list::canonical(&mailbox.name));
        if selected.as_ref() != Some(&looked.mailbox) || self.listener().is_none() {
            return;
        }
        let messages = looked.status.as_ref().and_then(|status| status.messages);
        let other = messages.is_some_and(|messages| messages != self.numbering.count());
        let now = self.now;
        let News { every, pace, looked: before, next, owes, seen, .. } = &mut self.news;
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
    fn schedule(&mut self, now: Instant) {
        self.news.next = Some(now + self.backend.spread(self.news.every));
    }

    /// The mailbox is gone, or another one has its name: the client has to begin anew.
    pub(super) fn mailbox_lost(&mut self, out: &mut Effects) -> End {
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
