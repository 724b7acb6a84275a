//! Sees what becomes of the messages of the selected mailbox, while somebody follows: what RFC 5423 sections 4.1 and 4.2 tell of.
//!
//!     C: a SELECT INBOX
//!     C: b FETCH 1:* FLAGS                     waits
//!     >  p1 UID FETCH 1:* (UID FLAGS)          once: so it is
//!     <  * 3 EXISTS
//!     >  p2 UID FETCH 15:* (UID FLAGS)         somebody has to say which message that is
//!     <  * 3 FETCH (UID 15 FLAGS (\Recent))    so it has changed
//!
//! A session reports what it sees, and keeps nothing of it: who knows how the mailbox was before, and what was told already by
//! another session of the account, makes events of it. While nobody follows, nothing is asked and nothing seen. Requirements E1
//! and E3.

use std::time::Instant;

use super::{
    effect::{Effect, Effects},
    gate::Tag,
    open::Open,
};
use crate::{
    imap::{
        code,
        command::{self, Head, SyntaxError},
        fetch::Fetched,
        list,
        response::{self, Status},
        sequence_set,
        token::Cursor,
        uid_set::UidSet,
    },
    mailbox::shadow::{Change, Shadow, Sight, Sighting, Storing},
};

/// What a session sees of its mailbox.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The whole was reported: what is seen now is a change.
    whole: bool,
    /// It could not be had, because what is said and what is counted do not fit: not before this it is tried again.
    missed: Option<Instant>,
    /// The client may have asked for flags already: it is told those that we ask for too, since some servers tell each change
    /// once.
    late: bool,
    /// The whole, while it is on its way.
    shadow: Option<Shadow>,
    /// What was not reported yet, and whether the client has done it.
    changes: Vec<Change>,
    own: bool,
    /// The message that a FETCH tells of, of which a literal has begun.
    fetching: Option<u32>,
    /// What STORE commands do that are not answered by flags.
    stores: Vec<(Tag, Change)>,
}

impl Watch {
    /// Changes that are reported together: those of one command, if they are not more.
    const MOST_CHANGES: usize = 1000;
    /// A mailbox with more messages is not looked over for those who follow once its client has begun to work with it.
    const MOST_TOLD: u32 = 1000;
    /// One with more is not looked over at all: a line of the backend for each message is too much to ask for their sake.
    const MOST_SEEN: u32 = 100_000;

    /// What was reported is not all there is: it is looked at again.
    fn doubt(&mut self) {
        (self.whole, self.late) = (false, true);
    }
}

impl Open {
    /// Somebody follows, or nobody does any more.
    pub(super) fn watch(&mut self, out: &Effects) {
        self.followed = out.followed && self.plan.account.events.tell_messages();
        match self.followed && self.selected && self.uidvalidity().is_some() {
            true if self.watch.is_none() => self.watch = Some(Box::new(Watch { late: true, ..Watch::default() })),
            true => {}
            false => self.watch = None,
        }
    }

    /// Another mailbox is selected, or none.
    pub(super) fn watch_anew(&mut self) {
        let late = self.mailbox.as_ref().is_some_and(|mailbox| mailbox.resynced);
        self.watch = self.followed.then(|| Box::new(Watch { late, ..Watch::default() }));
    }

    /// The client does something, or the backend was asked for news: what could not be had may be had now.
    pub(super) fn watch_on(&mut self) {
        self.watch.iter_mut().for_each(|watch| watch.missed = None);
    }

    /// The backend is gone: what it does until it is back is not seen.
    pub(super) fn watch_lost(&mut self) {
        self.watch = self.watch.take().map(|_| Box::new(Watch { late: true, ..Watch::default() }));
    }

    fn uidvalidity(&self) -> Option<u32> {
        self.mailbox.as_ref().and_then(|mailbox| mailbox.uidvalidity)
    }

    /// Whether the mailbox is to be looked over now.
    pub(super) fn wants_whole(&self) -> bool {
        self.whole_from().is_some_and(|from| self.now >= from)
    }

    /// From when on the mailbox is to be looked over.
    fn whole_from(&self) -> Option<Instant> {
        let may = !self.news.lacks_uids && self.before.is_none() && !self.is_settling();
        let watch = self.watch.as_ref().filter(|watch| may && !watch.whole)?;
        let most = if watch.late { Watch::MOST_TOLD } else { Watch::MOST_SEEN };
        (self.numbering.count() <= most).then(|| watch.missed.unwrap_or(self.now))
    }

    /// Whether what happens to messages is reported.
    pub(super) fn sees(&self) -> bool {
        self.before.is_none() && self.watch.as_ref().is_some_and(|watch| watch.whole)
    }

    /// All messages are about to be looked at.
    pub(super) fn see_all(&mut self) {
        if let (Some(uidvalidity), Some(watch)) = (self.uidvalidity(), &mut self.watch) {
            watch.shadow = Some(Shadow::new(uidvalidity));
        }
    }

    /// One of them. Whether the client is to hear of it.
    pub(super) fn see_one(&mut self, uid: u32, fetched: &Fetched<'_>) -> bool {
        let Some(watch) = &mut self.watch else { return false };
        if let (Some(shadow), Some(flags)) = (&mut watch.shadow, flags(fetched)) {
            shadow.see(uid, flags.iter().map(|flag| &**flag));
        }
        watch.late
    }

    /// A FETCH that does not say of which message: whether the client is to hear of it while all are looked at. As long as it
    /// has heard of no flags, it hears of none.
    pub(super) fn hears_of(&self, fetched: &Fetched<'_>) -> bool {
        let ours = |name: &[u8]| [&b"FLAGS"[..], b"MODSEQ"].iter().any(|item| name.eq_ignore_ascii_case(item));
        self.watch.as_ref().is_none_or(|watch| watch.late) || !fetched.names().all(ours)
    }

    /// The client hears of flags.
    pub(super) fn told_flags(&mut self) {
        self.watch.iter_mut().for_each(|watch| watch.late |= !watch.whole);
    }

    /// When that is tried again while the backend idles, which nothing else would end for it.
    pub(super) fn watches_at(&self) -> Option<Instant> {
        self.whole_from().filter(|from| *from > self.now && self.news.is_idling())
    }

    /// They could not be.
    pub(super) fn missed_all(&mut self) {
        let again = self.now + self.news.pace().longest.0;
        self.watch.iter_mut().for_each(|watch| watch.missed = Some(again));
        self.resume = true;
    }

    /// Those that came are known by their UIDs now; none: that could not be found out, and all have to be looked at again.
    pub(super) fn see_new(&mut self, new: Option<Vec<Change>>, out: &mut Effects) {
        match new {
            Some(new) if self.sees() => new.into_iter().for_each(|change| self.see(change, false, out)),
            Some(_) => {}
            None => self.watch.iter_mut().for_each(|watch| watch.doubt()),
        }
    }

    /// All were looked at.
    pub(super) fn seen_all(&mut self, out: &mut Effects) {
        self.report(out);
        let uidnext = self.mailbox.as_ref().and_then(|mailbox| mailbox.uidnext);
        let Some(watch) = &mut self.watch else { return };
        if let Some(mut shadow) = watch.shadow.take() {
            uidnext.into_iter().for_each(|uidnext| shadow.expect(uidnext));
            watch.whole = true;
            self.tell_sight(Sight::Whole(shadow), false, out);
        }
    }

    /// A FETCH, from whomever it was asked: flags are facts (architecture 4.3). Of a message whose UID is on its way, they come
    /// with that.
    pub(super) fn see_fetch(&mut self, line: &[u8], out: &mut Effects) {
        if self.watch.is_none() || self.before.is_some() {
            return;
        }
        if let Some(fetched) = Fetched::parse(line).or_else(|| Fetched::first_line(line)) {
            self.watch.iter_mut().for_each(|watch| watch.fetching = Some(fetched.number));
            self.see_flags(&fetched, out);
        }
    }

    /// Another response begins.
    pub(super) fn see_next(&mut self) {
        self.watch.iter_mut().for_each(|watch| watch.fetching = None);
    }

    /// The line behind a literal.
    pub(super) fn see_rest(&mut self, line: &[u8], out: &mut Effects) {
        if let Some(number) = self.watch.as_ref().and_then(|watch| watch.fetching).filter(|_| self.before.is_none()) {
            self.see_flags(&Fetched::next_line(number, line), out);
        }
    }

    fn see_flags(&mut self, fetched: &Fetched<'_>, out: &mut Effects) {
        let Some(flags) = flags(fetched) else { return };
        let anew = self.loading.as_ref().is_some_and(|load| load.counts_anew());
        if let Some(watch) = self.watch.as_mut().filter(|watch| watch.shadow.is_some()) {
            match fetched.uid() {
                // It comes with the others.
                Some(_) => return,
                // By numbers that are not those of before: all have to be looked at again.
                None if anew => watch.shadow = None,
                None => {}
            }
        }
        let Some(uid) = self.numbering.uids().and_then(|uids| uids.at(fetched.number)) else {
            return self.see_unknown(fetched);
        };
        let (sees, own) = (self.sees(), self.gate.runs(&["STORE", "UID STORE"]));
        match self.watch.as_mut().and_then(|watch| watch.shadow.as_mut()) {
            Some(shadow) => shadow.see(uid, flags.iter().map(|flag| &**flag)),
            None if sees => self.see(Change::Seen { uid, flags }, own, out),
            None => {}
        }
    }

    /// A message of which only the backend's number is known.
    fn see_unknown(&mut self, fetched: &Fetched<'_>) {
        let load = self.loading.as_mut().filter(|_| fetched.uid().is_none());
        load.into_iter().for_each(|load| load.overtaken());
    }

    /// The message at this place goes.
    pub(super) fn see_expunge(&mut self, place: u32, out: &mut Effects) {
        let uid = self.numbering.uids().filter(|_| self.sees()).and_then(|uids| uids.at(place));
        uid.into_iter().for_each(|uid| self.see_gone([uid].into_iter().collect(), out));
    }

    /// These go.
    pub(super) fn see_gone(&mut self, uids: UidSet, out: &mut Effects) {
        let own = self.gate.runs(&["EXPUNGE", "UID EXPUNGE", "MOVE", "UID MOVE"]);
        self.see(Change::Gone(uids), own, out);
    }

    /// A command goes to the backend. What it changes may not be told.
    pub(super) fn see_command(&mut self, octets: &[u8]) {
        if !self.sees() {
            return;
        }
        let Ok(head) = command::head(octets) else { return };
        let change = match head.verb.name {
            "STORE" | "UID STORE" => self.stored_in_silence(&head).ok().flatten(),
            "CLOSE" if self.mailbox.as_ref().is_some_and(|mailbox| !mailbox.examined) => Some(Change::Purged),
            _ => None,
        };
        if let (Some(change), Some(watch)) = (change, &mut self.watch) {
            watch.stores.push((Tag::from_slice(head.tag), change));
        }
    }

    /// `2:4 (UNCHANGEDSINCE 9) +FLAGS.SILENT (\Seen)`, with the numbers that the backend knows.
    fn stored_in_silence(&self, head: &Head<'_>) -> Result<Option<Change>, SyntaxError> {
        let mut cursor = Cursor::new(head.arguments);
        let set = cursor.run(|octet| octet != b' ' && octet != b'\r', "messages")?;
        cursor.space()?;
        if cursor.peek() == Some(b'(') {
            cursor.list_as_written()?;
            cursor.space()?;
        }
        let how = match cursor.peek() {
            Some(b'+') => Storing::Add,
            Some(b'-') => Storing::Remove,
            _ => Storing::Replace,
        };
        if !cursor.atom()?.to_ascii_uppercase().ends_with(b"FLAGS.SILENT") {
            return Ok(None);
        }
        cursor.space()?;
        let flags = words(cursor.rest());
        let uids = self.meant(set, head.verb.name == "UID STORE");
        Ok(uids.map(|uids| Change::Stored { uids, how, flags }))
    }

    /// The messages of a set as the backend reads it; none where it is no set of numbers (RFC 5182, `$`).
    fn meant(&self, set: &[u8], by_uid: bool) -> Option<UidSet> {
        let known = self.numbering.uids()?;
        let last = if by_uid { known.last().unwrap_or(0) } else { known.len() };
        let ends = sequence_set::parse(set)?.into_iter().map(|(a, b)| (a.resolve(last), b.resolve(last)));
        let mut uids = UidSet::default();
        for (first, end) in ends.map(|(a, b)| (a.min(b).max(1), a.max(b))) {
            // The messages stand in the order of their UIDs.
            let places =
                if by_uid { known.below(first)..known.below(end.saturating_add(1)) } else { first - 1..end.min(last) };
            uids.extend(places.filter_map(|below| known.at(below + 1)));
        }
        Some(uids)
    }

    /// The backend has ended a command.
    pub(super) fn see_end(&mut self, tag: &[u8], status: Status, line: &[u8], out: &mut Effects) {
        let Some(watch) = &mut self.watch else { return };
        if let Some(at) = watch.stores.iter().position(|(store, _)| store.as_slice() == tag) {
            let (_, change) = watch.stores.swap_remove(at);
            // RFC 7162 section 3.1.3: some were left out.
            let in_part = code::parse(response::text(line, 2)).is("MODIFIED");
            match status {
                _ if in_part => watch.doubt(),
                Status::Ok => self.see(change, true, out),
                Status::No | Status::Bad => {}
            }
        }
        self.report(out);
    }

    fn see(&mut self, change: Change, own: bool, out: &mut Effects) {
        let other = |watch: &Watch| watch.own != own || watch.changes.len() >= Watch::MOST_CHANGES;
        if self.watch.as_deref().is_some_and(other) {
            self.report(out);
        }
        if let Some(watch) = &mut self.watch {
            watch.own = own;
            watch.changes.push(change);
        }
    }

    /// What was seen becomes known.
    pub(super) fn report(&mut self, out: &mut Effects) {
        let Some(watch) = self.watch.as_mut().filter(|watch| !watch.changes.is_empty()) else { return };
        let (changes, own) = (std::mem::take(&mut watch.changes), watch.own);
        self.tell_sight(Sight::Changes(changes), own, out);
    }

    fn tell_sight(&self, sight: Sight, own: bool, out: &mut Effects) {
        let Some(mailbox) = &self.mailbox else { return };
        let mailbox = list::canonical(&mailbox.name);
        out.push(Effect::Seen(Box::new(Sighting { mailbox, own, sight })));
    }
}

/// The flags that a FETCH tells, if it does.
pub(super) fn flags(fetched: &Fetched<'_>) -> Option<Vec<Box<str>>> {
    fetched.value("FLAGS").map(words)
}

/// The words of a list of flags, as many as a message may have.
fn words(list: &[u8]) -> Vec<Box<str>> {
    let words = list.split(|octet| b"() \r\n".contains(octet)).filter(|word| !word.is_empty());
    words.take(Shadow::MOST_FLAGS).map(|word| String::from_utf8_lossy(word).into()).collect()
}
