//! What the desk of an account is told of a session: that it is there, and what its client has seen.
//!
//!     S: * 24 EXISTS            told up to UID 102: perhaps it arrives
//!     C: DONE                   soon behind it: perhaps it was said before
//!     C: b UID FETCH 101:*      it has arrived
//!
//! What was written to a client may be lost on its way: that it has seen it shows when it speaks again, later than a message takes,
//! or for the second time. Until then it would be told outband.
//!
//! Whether what was written is acknowledged is the kernel's to know: the socket is given up when it is not for so long that the session does
//! not count any more. So nobody looks at it, no timer runs, and the end of the session says how long that was. Requirement N3.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use crate::{
    account::presence::{self, Sign},
    outband::subscription::MOST_MAILBOXES,
    session::{
        Shown,
        effect::{End, Fault},
    },
};

/// A mailbox, its UIDVALIDITY, and the UID below which all was told.
pub(super) type Seen = (Box<[u8]>, Option<u32>, u32);

/// What the desk knows of a session.
#[derive(Debug)]
pub(super) struct Attendance {
    idles: bool,
    spoke_at: Instant,
    /// What it was told last of each mailbox, selected or by STATUS.
    told: Vec<Told>,
    /// So long something may be unacknowledged before the connection is given up; none: nobody knows.
    patience: Option<Duration>,
}

#[derive(Debug)]
struct Told {
    seen: Seen,
    at: Instant,
    /// How often the client has to speak until it has seen it; 0: it has.
    left: u32,
}

/// Mailboxes of which is remembered what a client was told: as many as a device may want to be told of. Of others it is told again outband.
const MOST: usize = MOST_MAILBOXES;

/// That a client speaks is said once in this time: well below the half hour for which it counts.
const EVERY: Duration = Duration::from_secs(60);

/// Longer than what a client says is on its way.
const LATER: Duration = Duration::from_secs(1);

impl Attendance {
    pub(super) fn new(idles: bool, patience: Option<Duration>) -> Self {
        Self { idles, spoke_at: Instant::now(), told: Vec::new(), patience }
    }

    /// Whether the desk is to hear that the client speaks.
    pub(super) fn speaks(&mut self, now: Instant) -> bool {
        let is_due = now.duration_since(self.spoke_at) >= EVERY;
        if is_due {
            self.spoke_at = now;
        }
        is_due
    }

    /// The client is in IDLE, or is not; whether that is new.
    pub(super) fn idles(&mut self, idles: bool) -> Option<bool> {
        (std::mem::replace(&mut self.idles, idles) != idles).then_some(idles)
    }

    /// The client was told this of the mailbox that is selected, perhaps just now. That, if it is new.
    pub(super) fn saw(&mut self, shown: Option<Shown<'_>>) -> Option<Seen> {
        let Shown { mailbox, uidvalidity, uidnext } = shown?;
        let seen = || (mailbox.into(), uidvalidity, uidnext);
        let is_it = |told: &Told| *told.seen.0 == *mailbox && (told.seen.1, told.seen.2) == (uidvalidity, uidnext);
        let is_new = !self.told.iter().any(is_it);
        is_new.then(|| {
            self.tell(seen());
            seen()
        })
    }

    /// It was told this, by STATUS.
    pub(super) fn tell(&mut self, seen: Seen) {
        let known = self.told.iter().position(|told| told.seen.0 == seen.0);
        if known.is_some_and(|at| self.told[at].seen == seen) {
            return;
        }
        let done = || self.told.iter().position(|told| told.left == 0);
        match known.or_else(|| done().filter(|_| self.told.len() == MOST)) {
            Some(at) => _ = self.told.remove(at),
            None if self.told.len() == MOST => return,
            None => {}
        }
        self.told.push(Told { seen, at: Instant::now(), left: 2 });
    }

    /// The client says something: what it has seen by now, as far as that is new.
    pub(super) fn confirmed(&mut self, now: Instant) -> Vec<Seen> {
        let waits = self.told.iter_mut().filter(|told| told.left > 0);
        let confirmed = waits.filter_map(|told| {
            let is_late = now.duration_since(told.at) >= LATER;
            told.left = if is_late { 0 } else { told.left - 1 };
            (told.left == 0).then(|| told.seen.clone())
        });
        confirmed.collect()
    }

    /// What the desk hears of the end of the session. `failure`: what went wrong with the connection; `now`: the time of day.
    pub(super) fn ends(
        &self,
        why: End,
        failure: Option<ErrorKind>,
        now: Duration,
    ) -> impl Iterator<Item = Sign> + use<> {
        let end = match (why, failure) {
            (End::Logout, _) => presence::End::Logout,
            (End::Fault(Fault::Client(_)), _) => presence::End::Broken,
            // Clients that close a connection do not always tell TLS.
            (_, None | Some(ErrorKind::UnexpectedEof)) => presence::End::Closed,
            (_, Some(_)) => presence::End::Broken,
        };
        let since =
            self.patience.filter(|_| failure.is_some_and(is_silence)).map(|patience| now.saturating_sub(patience));
        since.map(|since| Sign::Unacknowledged(Some(since))).into_iter().chain([Sign::Goes(end)])
    }
}

/// Whether it means that nobody has acknowledged anything: what a router has said of the peer meanwhile stands for the timeout.
const fn is_silence(failure: ErrorKind) -> bool {
    matches!(failure, ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(uidnext: u32) -> Option<Shown<'static>> {
        Some(Shown { mailbox: b"INBOX", uidvalidity: Some(7), uidnext })
    }

    #[test]
    fn what_a_client_was_told_it_has_seen_when_it_speaks_later_or_twice() {
        let now = Instant::now();
        let mut session = Attendance::new(false, None);
        session.saw(shown(18));
        assert_eq!(session.confirmed(now), [], "it may have said so before");
        let seen = |uidnext| [(Box::from(*b"INBOX"), Some(7), uidnext)];
        assert_eq!(session.confirmed(now), seen(18));
        session.saw(shown(18));
        assert_eq!(session.confirmed(now), [], "that is known");
        session.saw(shown(19));
        session.saw(None);
        assert_eq!(session.confirmed(now + 2 * LATER), seen(19));
    }

    #[test]
    fn what_status_tells_is_seen_too_of_so_many_mailboxes() {
        let now = Instant::now();
        let mut session = Attendance::new(false, None);
        let work = |uidnext| (Box::from(*b"Work"), None, uidnext);
        session.saw(shown(18));
        session.tell(work(5));
        session.tell(work(6));
        session.confirmed(now);
        assert_eq!(session.confirmed(now), [(Box::from(*b"INBOX"), Some(7), 18), work(6)]);
        session.tell(work(6));
        assert_eq!(session.confirmed(now + LATER), [], "that is known");
        (0..2 * MOST).for_each(|number| session.tell((number.to_string().as_bytes().into(), None, 1)));
        assert_eq!(session.confirmed(now + 2 * LATER).len(), MOST);
    }

    #[test]
    fn more_that_it_is_told_begins_anew() {
        let mut session = Attendance::new(false, None);
        session.saw(shown(18));
        session.confirmed(Instant::now());
        session.saw(shown(19));
        assert_eq!(session.confirmed(Instant::now()), []);
    }

    #[test]
    fn what_is_said_often_is_told_seldom() {
        let mut session = Attendance::new(true, None);
        let now = Instant::now();
        assert!(!session.speaks(now) && session.speaks(now + EVERY) && !session.speaks(now + EVERY));
        assert_eq!([session.idles(true), session.idles(false)], [None, Some(false)]);
    }

    #[test]
    fn how_a_session_ends_is_told_from_what_went_wrong() {
        let now = Duration::from_secs(1000);
        let session = Attendance::new(true, Some(Duration::from_secs(120)));
        let ends = |why, failure| session.ends(why, failure, now).collect::<Vec<_>>();
        let deaf = Sign::Unacknowledged(Some(Duration::from_secs(880)));
        let goes = |end| vec![Sign::Goes(end)];
        assert_eq!(ends(End::ClientGone, None), goes(presence::End::Closed));
        assert_eq!(
            ends(End::ClientGone, Some(ErrorKind::UnexpectedEof)),
            goes(presence::End::Closed),
            "no close_notify"
        );
        for reset in [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe, ErrorKind::InvalidData] {
            assert_eq!(ends(End::ClientGone, Some(reset)), goes(presence::End::Broken), "{reset}");
        }
        for silent in [ErrorKind::TimedOut, ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable] {
            assert_eq!(ends(End::ClientGone, Some(silent)), [deaf, Sign::Goes(presence::End::Broken)], "{silent}");
        }
        assert_eq!(ends(End::Logout, Some(ErrorKind::ConnectionReset)), goes(presence::End::Logout), "it was done");
        assert_eq!(ends(End::Fault(Fault::Client("a line too long")), None), goes(presence::End::Broken));
        let unknown = Attendance::new(true, None).ends(End::ClientGone, Some(ErrorKind::TimedOut), now);
        assert_eq!(unknown.collect::<Vec<_>>(), goes(presence::End::Broken), "nobody knows for how long");
    }
}
