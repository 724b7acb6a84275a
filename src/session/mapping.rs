//! `Same` becomes `Mapped`: the UIDs of the selected mailbox are learnt when somebody first needs them (architecture 4.1, 4.8).
//!
//!     C: b SEARCH RETURN (COUNT) UNSEEN      a layer wants UIDs: the command waits
//!     >  p1 UID SEARCH ALL
//!     <  * SEARCH 14 11 12                   consumed number by number, however many
//!     <  * 2 EXPUNGE                         behind the line: applied to it
//!     <  p1 OK                               as many as there are messages: the command goes on
//!
//! An EXPUNGE in front of the line, or a count that does not fit, and `FETCH 1:* (UID)` is asked instead, during which no
//! EXPUNGE is allowed. Where a backend does not say which messages EXPUNGE has removed, all are looked at again before its OK is
//! passed on. Messages that come later are learnt by `UID FETCH last+1:* (UID)`, when somebody needs them.

use super::{
    effect::{Effects, End, Fault},
    gate::{Owner, Running},
    open::Open,
    sight,
};
use crate::{
    imap::{
        command::Head,
        fetch::Fetched,
        response::{Kind, Status},
        uid_set::UidSet,
        verb::{self, Numbers, Verb},
    },
    mailbox::shadow::Change,
};

/// UIDs on their way.
#[derive(Debug)]
pub(super) struct Load {
    stage: Stage,
    found: UidSet,
    /// A removal came of which nobody can say whether it is in `found`.
    doubtful: bool,
    /// Messages that came, for those who follow.
    new: Vec<Change>,
    /// How often the backend has counted otherwise than it listed.
    misfits: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// UID SEARCH ALL; whether its answer has come.
    Search { answered: bool },
    /// FETCH 1:* (UID)
    Fetch,
    /// UID FETCH last+1:* (UID), and FLAGS for those who follow.
    Tail,
    /// UID FETCH 1:* (UID FLAGS), for those who follow: the flags are no news.
    Whole,
    /// UID FETCH 1:* (UID FLAGS), of a mailbox that has so many messages: what has changed is told.
    All { count: u32 },
}

impl Load {
    /// Counts and lists that do not fit: other clients may be quick, but not so often.
    const MOST_MISFITS: u8 = 3;

    fn new(stage: Stage, misfits: u8) -> Self {
        Self { stage, found: UidSet::default(), doubtful: false, new: Vec::new(), misfits }
    }

    /// UIDs that a search found.
    pub(super) fn found(&mut self, uids: UidSet) {
        self.found = uids;
        self.stage = Stage::Search { answered: true };
    }

    /// The backend counts otherwise than before.
    pub(super) fn counts_anew(&self) -> bool {
        matches!(self.stage, Stage::All { .. })
    }

    /// Flags were told of a message, and not of which: those that have come with its UID may be older.
    pub(super) fn overtaken(&mut self) {
        self.doubtful |= matches!(self.stage, Stage::Tail | Stage::Whole);
    }

    /// These are gone.
    pub(super) fn vanished(&mut self, uids: &UidSet) {
        match self.stage {
            Stage::Search { answered: true } => uids.iter().for_each(|uid| _ = self.found.remove(uid)),
            Stage::Search { answered: false } | Stage::Fetch | Stage::Tail | Stage::Whole => self.doubtful = true,
            Stage::All { .. } => {}
        }
    }

    /// All messages are looked at, and meanwhile there are others, or fewer: they have to be looked at again.
    fn recounted(&mut self, kind: Kind, number: u32) {
        if let Stage::All { count } = &mut self.stage {
            *count = if kind == Kind::Exists { number } else { count.saturating_sub(u32::from(kind == Kind::Expunge)) };
        }
        self.doubtful |= kind != Kind::Exists;
    }

    /// The message at this place is gone.
    pub(super) fn expunged(&mut self, place: u32) {
        match self.stage {
            Stage::Search { answered: true } => match self.found.at(place) {
                Some(uid) => _ = self.found.remove(uid),
                None => self.doubtful = true,
            },
            Stage::Search { answered: false } | Stage::Fetch | Stage::Tail | Stage::Whole | Stage::All { .. } => {
                self.doubtful = true;
            }
        }
    }
}

impl Open {
    /// Whether this command has to wait until the UID of each message is known.
    pub(super) fn wants_uids(&self, head: &Head<'_>, level: Option<usize>) -> bool {
        let touched = || level.is_some_and(|level| self.plan.touches(level));
        let named = self.selected && names_messages(head);
        // Where UIDs are not to be had, it is as silent as without us.
        let silent = self.profile.silent_expunge && !self.news.lacks_uids;
        let removes = self.selected && silent && removes(head.verb);
        let mapped = || self.numbering.is_mapped() || !self.numbering.is_bound();
        // Behind VANISHED only UIDs tell which number a message has.
        let shifted = || self.client.by_uid && head.verb.numbers != Numbers::None;
        let needed = removes || (named && (mapped() || touched() || shifted() || self.wants_whole()));
        needed && (!self.numbering.is_complete() || self.wants_whole())
    }

    /// Asks for the UIDs that somebody waits for, as soon as nothing else runs.
    pub(super) fn load(&mut self, out: &mut Effects) {
        let needed = self.client.waits_for_uids || self.lacks_uids_to_tell();
        if !needed || !self.gate.is_only_idle() || !self.news.is_resting() || self.is_mid_command() {
            return;
        }
        self.client.waits_for_uids = false;
        match self.numbering.is_mapped() {
            _ if self.wants_whole() => self.ask_uids(Stage::Whole, 0, out),
            // It was told to wait while they were on their way.
            _ if self.numbering.is_complete() => self.resume = true,
            true => self.ask_uids(Stage::Tail, 0, out),
            false => self.ask_uids(Stage::Search { answered: false }, 0, out),
        }
    }

    /// Whether a client that listens for flags is to be told the UID with them (RFC 5465 5.1), or shown a message whose number only
    /// UIDs tell, or those who follow are told of it, and not all are known.
    pub(super) fn lacks_uids_to_tell(&self) -> bool {
        let told = self.client.notify.as_ref().is_some_and(|told| told.flags);
        let told = told && self.is_listening() && self.news.learns_uids();
        let shown = self.news.has_unshown() && !self.numbering.is_bound() && self.is_listening();
        // What it does not hear of is told by UID, and the numbers of what it does hear of go on.
        let hears_all = self.client.notify.is_none() && self.client.listening.is_none();
        let held = self.selected && self.client.by_uid && !hears_all;
        let wanted = told || ((shown || held || self.sees()) && !self.news.lacks_uids);
        self.wants_whole() || (wanted && !self.numbering.is_complete())
    }

    /// Asks for the UIDs and flags of a mailbox that has so many messages.
    pub(super) fn ask_all(&mut self, count: u32, out: &mut Effects) {
        self.ask_uids(Stage::All { count }, 0, out);
    }

    fn ask_uids(&mut self, stage: Stage, misfits: u8, out: &mut Effects) {
        const SEARCH: &Verb = verb::row_of("UID SEARCH");
        const FETCH: &Verb = verb::row_of("FETCH");
        const UID_FETCH: &Verb = verb::row_of("UID FETCH");
        let count = if let Stage::All { count } = stage { count } else { self.numbering.count() };
        if matches!(stage, Stage::Whole | Stage::All { .. }) {
            self.see_all();
        }
        if count == 0 {
            self.loading = Some(Box::new(Load::new(stage, misfits)));
            // Nothing is asked of an empty mailbox, where some servers know no UIDs.
            let _ = self.loaded(Status::Ok, out);
            return;
        }
        let last = self.numbering.uids().and_then(UidSet::last).unwrap_or(0);
        let items = if self.sees() { "(UID FLAGS)" } else { "(UID)" };
        let (verb, arguments) = match stage {
            Stage::Search { .. } => (SEARCH, "ALL".to_owned()),
            Stage::Fetch => (FETCH, "1:* (UID)".to_owned()),
            Stage::Tail => (UID_FETCH, format!("{}:* {items}", last.saturating_add(1))),
            Stage::Whole | Stage::All { .. } => (UID_FETCH, "1:* (UID FLAGS)".to_owned()),
        };
        let tag = self.backend.next_tag();
        let octets = [&tag, b" ".as_slice(), verb.name.as_bytes(), b" ", arguments.as_bytes(), b"\r\n"].concat();
        self.write(&octets, None, &tag, verb, None, out);
        if self.listener().is_some() {
            self.count_look(out);
        }
        self.gate.start(Running::ours(tag, verb, Owner::Numbering));
        self.loading = Some(Box::new(Load::new(stage, misfits)));
    }

    /// A FETCH came while UIDs are on their way. Whether the client has use for it.
    pub(super) fn learn(&mut self, fetched: &Fetched<'_>, out: &mut Effects) -> bool {
        let Some(load) = &mut self.loading else { return true };
        let Some(uid) = fetched.uid() else {
            return load.stage != Stage::Whole || self.hears_of(fetched);
        };
        match load.stage {
            Stage::Tail => {
                load.found.insert(uid);
                load.new.extend(sight::flags(fetched).map(|flags| Change::Seen { uid, flags }));
            }
            Stage::Fetch => _ = load.found.insert(uid),
            Stage::Search { .. } => return true,
            Stage::Whole => {
                load.found.insert(uid);
                return self.see_one(uid, fetched);
            }
            Stage::All { .. } => {
                load.found.insert(uid);
                self.see_one(uid, fetched);
                self.glimpse_message(fetched, out);
                return false;
            }
        }
        fetched.names().any(|name| !name.eq_ignore_ascii_case(b"UID"))
    }

    /// The question is answered.
    pub(super) fn loaded(&mut self, status: Status, out: &mut Effects) -> Result<(), End> {
        let Some(load) = self.loading.take().map(|load| *load) else { return Ok(()) };
        if status != Status::Ok {
            return self.give_up_uids(out);
        }
        let count = if let Stage::All { count } = load.stage { count } else { self.numbering.count() };
        let fits = !load.doubtful && load.found.len() == count;
        match load.stage {
            Stage::Tail if !load.doubtful && self.numbering.learn(&load.found) => self.see_new(Some(load.new), out),
            Stage::Tail if self.sees() => self.see_new(None, out),
            Stage::Tail => self.ask_uids(Stage::Search { answered: false }, load.misfits, out),
            _ if fits => {
                self.resume = true;
                let untold = self.numbering.is_plain();
                if !self.numbering.map(load.found) {
                    return Err(End::Fault(Fault::Backend("UIDs do not ascend")));
                }
                if untold != self.numbering.is_plain() {
                    self.news.stir();
                }
                if matches!(load.stage, Stage::Whole | Stage::All { .. }) {
                    self.seen_all(out);
                }
                self.tell_held(out);
                self.looked_over(out);
            }
            Stage::Whole if load.misfits == Load::MOST_MISFITS => self.missed_all(),
            _ if load.misfits == Load::MOST_MISFITS => return self.give_up_uids(out),
            Stage::Whole | Stage::All { .. } => self.ask_uids(load.stage, load.misfits + 1, out),
            _ => self.ask_uids(Stage::Fetch, load.misfits + 1, out),
        }
        Ok(())
    }

    fn give_up_uids(&mut self, out: &mut Effects) -> Result<(), End> {
        if self.is_settling() {
            return Err(self.mailbox_lost(out));
        }
        self.client.lacks_uids = true;
        self.news.lacks_uids = true;
        self.looked_over(out);
        Ok(())
    }

    /// The backend is back, and counts or numbers messages while they are compared with what the client knows: these numbers
    /// are not the client's yet. Whether it is so.
    pub(super) fn recounts(&mut self, kind: Kind, number: u32, line: &[u8]) -> bool {
        let named = || kind == Kind::Fetch && Fetched::parse(line).is_some_and(|fetched| fetched.uid().is_some());
        let concerned = self.is_settling() && !named();
        self.loading.as_mut().filter(|_| concerned).map(|load| load.recounted(kind, number)).is_some()
    }
}

/// Whether it removes messages and has to say which.
fn removes(verb: &Verb) -> bool {
    matches!(verb.name, "EXPUNGE" | "UID EXPUNGE" | "MOVE" | "UID MOVE")
}

impl Open {
    /// A backend that is silent about removals counts fewer messages. Whether this is such a count: which are gone is found out
    /// when the command has ended.
    pub(super) fn shrinks(&mut self, count: u32) -> bool {
        let silent = self.profile.silent_expunge && count < self.numbering.count() && self.numbering.is_complete();
        if silent {
            self.shrunk = Some(count);
        }
        silent
    }

    /// A command of the client's has ended. Whether its end has to wait until it is known which messages are gone.
    pub(super) fn withhold(&mut self, tag: &[u8], line: &[u8], out: &mut Effects) -> bool {
        let Some(count) = self.shrunk.take() else {
            if self.profile.silent_expunge && self.gate.find(tag).is_some_and(|running| removes(running.verb)) {
                self.leave_uids();
            }
            return false;
        };
        if let Some(running) = self.gate.find(tag) {
            running.written = false;
        }
        self.withheld = Some(Box::new((tag.into(), line.to_vec())));
        self.ask_all(count, out);
        true
    }

    /// UIDs that were wanted for EXPUNGE alone: the client's next commands pass as they come. Who compares the mailbox with what
    /// it was goes on to need them.
    fn leave_uids(&mut self) {
        if !self.news.is_surveyed() && self.watch.is_none() {
            self.numbering.unmap();
        }
    }

    /// It is known: the removals are told, and the end of the command behind them.
    pub(super) fn release_withheld(&mut self, out: &mut Effects) {
        let Some((tag, line)) = self.withheld.take().map(|withheld| *withheld) else { return };
        self.at_boundary(out);
        self.leave_uids();
        self.tell(&line, out);
        self.gate.end(&tag);
        self.resume = true;
    }
}

/// Whether it names messages by what the client knows: by number, or with the `*` of the last one.
fn names_messages(head: &Head<'_>) -> bool {
    head.verb.numbers != Numbers::None || head.verb.name.starts_with("UID ")
}
