//! One client's connection: octets and moments in, effects out (architecture sections 1 and 8).
//!
//!     let mut session = Session::new(front, secure, seed, now);
//!     session.handle(Input::Opened, now, &mut effects);          // the greeting
//!     session.handle(Input::Octets(Client, b"a LOGIN ...\r\n"), now, &mut effects);
//!
//! It has no socket, no clock and no thread, so that a test has none either.

use std::{sync::Arc, time::Instant};

use super::{
    effect::{Effect, Effects, Input, Side},
    front::Front,
    gate::Tag,
    idle::Listener,
    login::{Login, Next},
    open::Open,
    plan::Plan,
    profile::Look,
};

/// A session, from the greeting to the end.
#[derive(Debug)]
pub struct Session {
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Login(Box<Login>),
    Open(Box<Open>),
    Ended,
}

/// How a mailbox stands with a client that has selected it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown<'a> {
    /// Its name, as it is on the wire.
    pub mailbox: &'a [u8],
    /// Its UIDVALIDITY.
    pub uidvalidity: Option<u32>,
    /// All messages below this UID were told of.
    pub uidnext: u32,
}

/// From which side more octets are of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appetite {
    /// From the client.
    pub client: bool,
    /// From the backend.
    pub backend: bool,
}

impl Session {
    /// A new connection. `secure`: TLS runs already. `seed` makes the tags of our own commands unguessable.
    pub fn new(front: Arc<Front>, secure: bool, seed: u64, now: Instant) -> Self {
        let prefix: Tag = format!("L{:07X}-", seed & 0xfff_ffff).bytes().collect();
        Self { phase: Phase::Login(Box::new(Login::new(front, secure, prefix, now))) }
    }

    /// Something happened. The answer says how many of the octets are done with; the rest is to be given again.
    pub fn handle(&mut self, input: Input<'_>, now: Instant, out: &mut Effects) -> usize {
        let (took, end) = match &mut self.phase {
            Phase::Login(login) => match login.handle(input, now, out) {
                Ok(Next::Took(took)) => (took, None),
                Ok(Next::Open(took, open)) => {
                    self.phase = Phase::Open(open);
                    (took, None)
                }
                Err(why) => (0, Some(Effect::End { why, clean: true })),
            },
            Phase::Open(open) => match open.handle(input, now, out) {
                Ok(took) => (took, None),
                Err(why) => {
                    open.leave_backend(why, out);
                    open.end_inquiry(out);
                    (0, Some(open.end(why)))
                }
            },
            Phase::Ended => match input {
                Input::Octets(_, octets) => (octets.len(), None),
                _ => (0, None),
            },
        };
        if let Some(end) = end {
            self.phase = Phase::Ended;
            out.push(end);
        }
        took
    }

    /// The moment at which [`Input::Wake`] is due, at the latest; too early does no harm.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Login(login) => Some(login.deadline()),
            Phase::Open(open) => open.deadline(),
            Phase::Ended => None,
        }
    }

    /// From which side more octets are of use.
    pub fn appetite(&self) -> Appetite {
        let wants = |side| match &self.phase {
            Phase::Login(login) => login.wants(side),
            Phase::Open(open) => open.wants(side),
            Phase::Ended => false,
        };
        Appetite { client: wants(Side::Client), backend: wants(Side::Backend) }
    }

    /// Whether the client's untaken octets are worth being given again: true once after each change that may matter.
    pub fn resume(&mut self) -> bool {
        match &mut self.phase {
            Phase::Open(open) => std::mem::take(&mut open.resume),
            Phase::Login(login) => std::mem::take(&mut login.resume),
            Phase::Ended => false,
        }
    }

    /// Octets of a literal of this side were carried: the peer lives.
    pub fn heard(&mut self, side: Side, now: Instant) {
        if let Phase::Open(open) = &mut self.phase {
            open.heard(side, now);
        }
    }

    /// Whether the client is in IDLE.
    pub fn is_idle(&self) -> bool {
        matches!(&self.phase, Phase::Open(open) if open.client.is_idle())
    }

    /// Whether the client hears of news without asking, by what it has said so, and how they come.
    pub fn listens(&self) -> Option<(Listener, Look)> {
        let Phase::Open(open) = &self.phase else { return None };
        open.listener().map(|listener| (listener, open.news.mode()))
    }

    /// The mailbox that is selected, and how far its client was told of messages.
    pub fn shown(&self) -> Option<Shown<'_>> {
        match &self.phase {
            Phase::Open(open) => open.shown(),
            Phase::Login(_) | Phase::Ended => None,
        }
    }

    /// The plan of a session that is logged in.
    pub fn plan(&self) -> Option<&Arc<Plan>> {
        match &self.phase {
            Phase::Open(open) => Some(&open.plan),
            Phase::Login(_) | Phase::Ended => None,
        }
    }
}
