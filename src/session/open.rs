//! A session after login: two edges, the stack between them, and what they share.
//!
//!     client edge   commands in, one after the other; what may start now is decided by the gate
//!     layers        what somebody hears visits them; the rest passes as spans
//!     backend edge  responses in; facts to the client, answers to their owner
//!
//! This file holds the state and what concerns both sides: ends, timeouts, the boundary between two responses. The two
//! directions are in `client_edge.rs` and `backend_edge.rs`, the layers in `stack.rs`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    backend_edge::{BackendEdge, Up},
    client_edge::ClientEdge,
    effect::{Binding, Effect, Effects, End, Fault, Input, Origin, Side},
    front::Front,
    gate::Gate,
    numbering::Numbering,
    plan::Plan,
    stack::Stack,
    witness::Witness,
};
use crate::imap::response::Status;

/// A session after login.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) front: Arc<Front>,
    pub(super) plan: Arc<Plan>,
    pub(super) gate: Gate,
    pub(super) numbering: Numbering,
    /// While another mailbox is being opened: the numbering of this one, should the backend not even understand.
    pub(super) before: Option<Box<Numbering>>,
    /// A mailbox is selected.
    pub(super) selected: bool,
    pub(super) stack: Stack,
    pub(super) client: ClientEdge,
    pub(super) backend: BackendEdge,
    /// Something ended that a held command may have waited for.
    pub(super) resume: bool,
    /// Where the client comes from, if the backend is trusted with it.
    pub(super) origin: Option<Box<Origin>>,
    /// To which device the session belongs; nothing was said of one yet.
    pub(super) device: Option<Box<Binding>>,
    /// What somebody who follows events is to be told of.
    pub(super) witness: Option<Box<Witness>>,
    draining: bool,
    /// Since when the backend owes us an answer.
    owed_since: Option<Instant>,
    /// The client went away in the middle of something that has to be finished.
    left: Option<Instant>,
}

/// How long what a client has begun goes on without it: a RENAME is followed by what is kept under the name.
const FINISH: Duration = Duration::from_secs(30);

impl Open {
    /// `prefix` begins the tags of our own commands.
    pub(super) fn new(front: Arc<Front>, plan: Arc<Plan>, prefix: &[u8], origin: Option<Origin>, now: Instant) -> Self {
        Self {
            origin: origin.map(Box::new),
            device: None,
            witness: None,
            stack: Stack::default(),
            client: ClientEdge::new(now),
            backend: BackendEdge::new(prefix, now),
            gate: Gate::default(),
            numbering: Numbering::default(),
            before: None,
            selected: false,
            // The client may have said more behind its login.
            resume: true,
            draining: false,
            owed_since: None,
            left: None,
            front,
            plan,
        }
    }

    pub(super) fn handle(&mut self, input: Input<'_>, now: Instant, out: &mut Effects) -> Result<usize, End> {
        let took = match input {
            Input::Octets(Side::Client, octets) => {
                self.client.heard = now;
                self.hear_client(octets, out)?
            }
            Input::Octets(Side::Backend, octets) => {
                self.backend.heard = now;
                self.hear_backend(octets, out)?
            }
            Input::Carried(Side::Client) => self.client_carried(),
            Input::Carried(Side::Backend) => self.backend_carried(),
            Input::Kept(answer) => {
                self.kept(&answer, out);
                0
            }
            Input::Annotated(what) => {
                self.annotated(what, out);
                0
            }
            Input::Gone(Side::Client) if self.gate.is_followed() => {
                self.left = Some(now);
                0
            }
            Input::Gone(Side::Client) => return Err(End::ClientGone),
            Input::Gone(Side::Backend) => return Err(self.backend_gone(out)),
            Input::Drain => {
                self.draining = true;
                0
            }
            Input::Wake => self.wake(now, out)?,
            Input::Opened | Input::Dialled(_) | Input::Upgraded(_) => {
                return Err(End::Fault(Fault::Ours("unexpected input")));
            }
        };
        self.advance(now, out);
        self.owed_since = if self.gate.is_owed() { self.owed_since.or(Some(now)) } else { None };
        if self.left.is_some() && !self.gate.is_followed() {
            return Err(End::ClientGone);
        }
        match self.draining && self.is_at_rest() {
            true => Err(self.bye("proxy shutting down", End::Drained, out)),
            false => Ok(took),
        }
    }

    /// What may have become possible: questions that waited, IDLE, things to be told.
    fn advance(&mut self, now: Instant, out: &mut Effects) {
        if self.stack.has_waiting() {
            self.ask_waiting(out);
        }
        self.idle_on(now, out);
        self.at_boundary(out);
    }

    /// Between two responses to the client: only here is there room for words of ours (architecture 4.10).
    pub(super) fn is_boundary(&self) -> bool {
        matches!(self.backend.up, Up::Boundary)
    }

    /// A command is half written to the backend: nothing else may be written there.
    pub(super) fn is_mid_command(&self) -> bool {
        self.backend.owed.is_some() || self.client.is_mid_command()
    }

    /// Nothing is under way but, perhaps, an IDLE.
    fn is_at_rest(&self) -> bool {
        self.is_boundary() && self.client.is_between_commands() && (self.client.is_idle() || !self.gate.client_waits())
    }

    /// Words of ours for the client: now, or at the next boundary.
    pub(super) fn tell(&mut self, octets: &[u8], out: &mut Effects) {
        match self.is_boundary() && self.client.pending.is_empty() {
            true => out.put(Side::Client, octets),
            false => self.client.pending.extend_from_slice(octets),
        }
    }

    /// What waited for a boundary, if this is one.
    pub(super) fn at_boundary(&mut self, out: &mut Effects) {
        if !self.is_boundary() {
            return;
        }
        if !self.client.pending.is_empty() {
            out.put(Side::Client, &std::mem::take(&mut self.client.pending));
            self.resume = true;
        }
        if !self.numbering.is_plain() && self.may_tell_expunge() {
            let start = out.text.len();
            self.numbering.tell(&mut out.text);
            out.put_from(Side::Client, start);
        }
    }

    /// SELECT or EXAMINE has ended. NO leaves no mailbox selected (RFC 3501 6.3.1), BAD leaves all as it was.
    pub(super) fn opened(&mut self, status: Status) {
        match (status, self.before.take()) {
            (Status::Ok, _) => self.selected = true,
            (Status::No, _) => self.closed(),
            (Status::Bad, before) => self.numbering = before.map(|before| *before).unwrap_or_default(),
        }
    }

    /// No mailbox is selected any more.
    pub(super) fn closed(&mut self) {
        self.selected = false;
        self.numbering = Numbering::default();
    }

    /// RFC 3501 7.4.1, and no command that is received and not yet written uses numbers (architecture 4.2).
    pub(super) fn may_tell_expunge(&self) -> bool {
        !self.client.holds_numbers && self.gate.allows_expunge()
    }

    fn backend_gone(&mut self, out: &mut Effects) -> End {
        match self.is_boundary() && !self.backend.said_bye {
            true => self.bye("[UNAVAILABLE] backend connection lost", End::BackendGone, out),
            false => End::BackendGone,
        }
    }

    fn bye(&mut self, text: &str, why: End, out: &mut Effects) -> End {
        self.at_boundary(out);
        out.put(Side::Client, format!("* BYE {text}\r\n").as_bytes());
        why
    }

    /// When to be woken, at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let timeouts = &self.front.timeouts;
        let silent = (!self.client.is_idle()).then(|| self.client.heard + timeouts.idle.0);
        let left = self.left.map(|left| left + FINISH);
        let renewal = self.backend.idle.since().map(|since| since + timeouts.idle_renewal.0);
        let still_here = timeouts.still_here.filter(|_| self.client.is_idle()).map(|every| self.client.told + every.0);
        [silent, self.owed(), left, renewal, still_here].into_iter().flatten().min()
    }

    /// When the backend has kept silent for too long about what it owes us.
    fn owed(&self) -> Option<Instant> {
        let since = self.owed_since.filter(|_| !self.client.is_idle() && self.is_boundary())?;
        Some(since.max(self.backend.heard) + self.front.timeouts.backend.0)
    }

    fn wake(&mut self, now: Instant, out: &mut Effects) -> Result<usize, End> {
        let timeouts = &self.front.timeouts;
        let still_here = timeouts.still_here.is_some_and(|every| now >= self.client.told + every.0);
        let silent = now >= self.client.heard + timeouts.idle.0;
        let owed = self.owed().is_some_and(|owed| now >= owed);
        if self.left.is_some_and(|left| now >= left + FINISH) {
            return Err(End::ClientGone);
        }
        if self.client.is_idle() {
            if still_here && self.is_boundary() {
                self.client.told = now;
                out.put(Side::Client, b"* OK Still here\r\n");
            }
            self.renew_idle(now, out);
            return Ok(0);
        }
        match () {
            () if owed => Err(self.bye("[UNAVAILABLE] backend does not answer", End::Idle, out)),
            () if silent && self.is_boundary() => Err(self.bye("silent for too long", End::Idle, out)),
            () if silent => Err(End::Idle),
            () => Ok(0),
        }
    }

    /// The shell has carried octets of this side without asking: the peer lives.
    pub(super) fn heard(&mut self, side: Side, now: Instant) {
        match side {
            Side::Client => self.client.heard = now,
            Side::Backend => self.backend.heard = now,
        }
    }

    /// Whether more octets of this side are of use.
    pub(super) fn wants(&self, side: Side) -> bool {
        match side {
            Side::Client => self.client.wants(),
            Side::Backend => true,
        }
    }

    /// The effect with which the session ends.
    pub(super) fn end(&self, why: End) -> Effect {
        Effect::End { why, clean: self.is_boundary() }
    }

    /// A fault of the client's that leaves nothing to rely on.
    pub(super) fn client_fault(&mut self, what: &'static str, out: &mut Effects) -> End {
        let why = End::Fault(Fault::Client(what));
        match self.is_boundary() {
            true => self.bye(what, why, out),
            false => why,
        }
    }
}
