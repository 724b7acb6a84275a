//! One of the mailboxes that a client of NOTIFY watches and has not selected is listened to, so that its news come at once (RFC 2177).
//!
//!     >  A1 EXAMINE INBOX                        on an auxiliary connection, for all sessions of the account
//!     >  A2 IDLE
//!     <  * 24 EXISTS
//!     >  DONE
//!     >  p5 STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY)     on the session's own; the others hear of this look
//!     S: * STATUS INBOX (UIDNEXT 103 MESSAGES 24)
//!     >  A3 EXAMINE INBOX, IDLE
//!
//! It is INBOX where that is watched, else the mailbox that had news last. All of them are asked for by STATUS as well: where nobody
//! can listen, or another session of the account does, that is what there is. In a mailbox that is never at rest the errands come
//! as `backends.NAME.pace` has it, and what happens between two of them the next one finds by counting. Requirement N2.

use std::time::{Duration, Instant};

use crate::{
    imap::response::Status,
    mailbox::watch::Watch,
    session::{
        aside::{Errand, Task},
        layer::{Ask, Out, Reply},
    },
};

/// Where somebody listens, and when next.
#[derive(Debug, Default)]
pub(super) struct Ear {
    standing: Option<Standing>,
    /// Not before.
    next: Option<Instant>,
    /// From one errand to the next, as it was the last time.
    every: Duration,
}

/// An errand that is under way.
#[derive(Debug)]
struct Standing {
    ask: Ask,
    mailbox: Box<[u8]>,
    since: Instant,
}

/// A mailbox is listened to for so long before another one is: moving costs the backend two commands. And so often a session whose
/// account has an ear asks for it.
const LEAST: Duration = Duration::from_secs(60);

/// Where it fails again and again, this is the longest distance between two attempts.
const LONGEST: Duration = Duration::from_secs(16 * 60);

impl Ear {
    /// Listens where it is worth most, if anywhere. When there may be more to do.
    pub(super) fn listen(&mut self, watch: Option<&Watch>, out: &mut Out<'_>) -> Option<Instant> {
        let now = out.now();
        let foremost = watch.filter(|_| out.hears_aside()).and_then(Watch::foremost);
        if let Some(standing) = &self.standing {
            let until = standing.since + LEAST;
            match foremost {
                Some((mailbox, _)) if *mailbox == *standing.mailbox => return None,
                Some(_) if now < until => return Some(until),
                _ => out.recall(standing.ask),
            }
            self.standing = None;
        }
        let (mailbox, watched) = foremost?;
        if let Some(next) = self.next.filter(|next| now < *next) {
            return Some(next);
        }
        // How it stands may have to be asked first.
        let count = watched.status.as_ref().filter(|_| watched.due.is_some())?.messages;
        let errand =
            Errand { mailbox: mailbox.into(), uidvalidity: None, task: Task::Listen { count, also: Vec::new() } };
        self.next = Some(now + out.spread(out.pace().shortest.0));
        self.standing = Some(Standing { ask: out.aside(errand), mailbox: mailbox.into(), since: now });
        None
    }

    /// What has come of the errand, if it is this: in which mailbox something has happened.
    pub(super) fn hear(&mut self, ask: Ask, reply: &Reply<'_>, out: &mut Out<'_>) -> Option<Box<[u8]>> {
        let Standing { mailbox, since, .. } = self.standing.take_if(|standing| standing.ask == ask)?;
        let (now, pace) = (out.now(), out.pace());
        out.wake_at(now);
        match reply {
            Reply::Done(Status::Ok, _) => {
                let rested = now >= since + LEAST;
                let every = if rested { Duration::ZERO } else { self.every * 3 / 2 };
                self.every = every.max(pace.shortest.0).min(pace.longest.0);
                self.next = Some(since + out.spread(self.every));
                Some(mailbox)
            }
            Reply::Unavailable => {
                self.next = Some(now + out.spread(LEAST));
                None
            }
            _ => {
                self.every = (self.every * 2).clamp(LEAST, LONGEST);
                self.next = Some(now + out.spread(self.every));
                None
            }
        }
    }
}
