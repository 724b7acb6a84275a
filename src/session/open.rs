//! A session after login: two edges, the stack between them, and what they share.
//!
//!     client edge   commands in, one after the other; what may start now is decided by the gate
//!     layers        what somebody hears visits them; the rest passes as spans
//!     backend edge  responses in; facts to the client, answers to their owner
//!
//! This file holds the state and what concerns both sides: ends, timeouts, the boundary between two responses. The two
//! directions are in `client_edge.rs` and `backend_edge.rs`, the layers in `stack.rs`.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    again::Again,
    backend_edge::{BackendEdge, Up},
    client_edge::ClientEdge,
    effect::{Binding, Effect, Effects, End, Fault, Input, Origin, Side, Upgrade},
    front::Front,
    gate::{Gate, Tag},
    idle::{News, Pace},
    inquiry::Inquiry,
    key::Key,
    mapping::Load,
    numbering::Numbering,
    plan::{DEFLATE, Plan},
    profile::{Look, Profile},
    session::Shown,
    sight::Watch,
    stack::Stack,
    witness::Witness,
};
use crate::{
    imap::{
        capability::Capabilities,
        code,
        command::Head,
        response::{self, Kind, Status},
        token::Cursor,
    },
    mailbox::status,
};

/// A session after login.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) front: Arc<Front>,
    pub(super) plan: Arc<Plan>,
    pub(super) gate: Gate,
    pub(super) numbering: Numbering,
    /// UIDs are on their way.
    pub(super) loading: Option<Box<Load>>,
    /// A backend that is silent about removals has counted fewer messages.
    pub(super) shrunk: Option<u32>,
    /// The end of a command that waits until it is known which: its tag, and the line.
    pub(super) withheld: Option<Box<(Tag, Vec<u8>)>>,
    /// While another mailbox is being opened: the numbering of this one, should the backend not even understand.
    pub(super) before: Option<Box<Numbering>>,
    /// Until the backend's answer to that begins: the client was not told of all that has gone from this one, or come, so its numbers
    /// are not the backend's.
    pub(super) leaving: bool,
    /// A mailbox is selected.
    pub(super) selected: bool,
    /// Which one.
    pub(super) mailbox: Option<Box<Mailbox>>,
    /// Which one is being opened.
    pub(super) opening: Option<Box<Mailbox>>,
    /// How its news come.
    pub(super) news: News,
    /// What the backend is like.
    pub(super) profile: &'static Profile,
    /// How many were, before and with it.
    pub(super) epoch: u32,
    pub(super) stack: Stack,
    pub(super) client: ClientEdge,
    pub(super) backend: BackendEdge,
    /// Something ended that a held command may have waited for.
    pub(super) resume: bool,
    /// Where the client comes from, if the backend is trusted with it.
    pub(super) origin: Option<Box<Origin>>,
    /// To which device the session belongs; nothing was said of one yet.
    pub(super) device: Option<Box<Binding>>,
    /// How the backend is logged in to once more, if that can be done without the client.
    pub(super) again: Option<Box<Again>>,
    /// How other connections are logged in to in the client's name, if they may be.
    pub(super) key: Option<Arc<Key>>,
    /// What somebody who follows events is to be told of.
    pub(super) witness: Option<Box<Witness>>,
    /// What is asked for their sake.
    pub(super) inquiry: Option<Box<Inquiry>>,
    /// What is seen of messages for their sake.
    pub(super) watch: Option<Box<Watch>>,
    /// Somebody follows, and is told of messages.
    pub(super) followed: bool,
    draining: bool,
    /// The moment of the last input.
    pub(super) now: Instant,
    /// Since when the backend owes us an answer.
    owed_since: Option<Instant>,
    /// The client went away in the middle of something that has to be finished.
    left: Option<Instant>,
}

/// A mailbox that is selected.
#[derive(Debug)]
pub(super) struct Mailbox {
    /// Its name, as it is on the wire.
    pub(super) name: Box<[u8]>,
    /// It is not to be changed: EXAMINE, or `[READ-ONLY]`.
    pub(super) examined: bool,
    /// Under which UIDs mean what they mean (RFC 3501 2.3.1.1).
    pub(super) uidvalidity: Option<u32>,
    /// A message that comes has this UID or a larger one: UIDNEXT as it was told, and one more for each that has come.
    pub(super) uidnext: Option<u32>,
    /// The client knows its messages from before, and their flags (RFC 7162 section 3.2.5).
    pub(super) resynced: bool,
}

/// What the login has found out of the backend.
#[derive(Debug)]
pub(super) struct Server {
    /// What it is like.
    pub(super) profile: &'static Profile,
    /// How it tells its news, if earlier sessions have found out.
    pub(super) look: Option<Look>,
    /// How often it may be asked for them.
    pub(super) pace: Pace,
    /// What it is told of the client, if it is trusted with it.
    pub(super) origin: Option<Origin>,
    /// Other connections may be opened there in the client's name.
    pub(super) auxiliary: bool,
}

impl Server {
    fn look(&self, plan: &Plan) -> Look {
        let said = if plan.idle { Look::Idle } else { Look::Noop };
        let look = self.look.or(self.profile.look).unwrap_or(said);
        if plan.idle { look } else { look.max(Look::Noop) }
    }
}

/// How long what a client has begun goes on without it: a RENAME is followed by what is kept under the name.
const FINISH: Duration = Duration::from_secs(30);

impl Open {
    /// `prefix` begins the tags of our own commands.
    pub(super) fn new(front: Arc<Front>, plan: Arc<Plan>, prefix: &[u8], server: Server, now: Instant) -> Self {
        let look = server.look(&plan);
        Self {
            origin: server.origin.map(Box::new),
            device: None,
            again: None,
            key: None,
            witness: None,
            inquiry: None,
            watch: None,
            followed: false,
            stack: Stack::default(),
            client: ClientEdge::new(now),
            backend: BackendEdge::new(prefix, now),
            gate: Gate::default(),
            numbering: Numbering::default(),
            loading: None,
            shrunk: None,
            withheld: None,
            before: None,
            leaving: false,
            selected: false,
            mailbox: None,
            opening: None,
            news: News::new(look, server.pace),
            profile: server.profile,
            epoch: 0,
            // The client may have said more behind its login.
            resume: true,
            draining: false,
            now,
            owed_since: None,
            left: None,
            front,
            plan,
        }
    }

    /// How far the client was told of messages: of some that have come, perhaps, it was told that there are more.
    pub(super) fn shown(&self) -> Option<Shown<'_>> {
        // Where UIDNEXT runs ahead, it does not tell which messages there are.
        let is_told =
            self.selected && self.before.is_none() && !self.profile.moves_uidnext && !self.numbering.has_unannounced();
        let mailbox = self.mailbox.as_ref().filter(|_| is_told)?;
        Some(Shown { mailbox: &mailbox.name, uidvalidity: mailbox.uidvalidity, uidnext: mailbox.uidnext? })
    }

    /// The client is told this, which may be how a mailbox stands.
    pub(super) fn show_status(&self, line: &[u8], out: &mut Effects) {
        if !out.attended || self.profile.moves_uidnext {
            return;
        }
        if let Some((mailbox, status)) = status::Status::parse(line.trim_ascii_end()) {
            out.push(Effect::Shown(mailbox, Box::new(status)));
        }
    }

    pub(super) fn handle(&mut self, input: Input<'_>, now: Instant, out: &mut Effects) -> Result<usize, End> {
        self.now = now;
        let took = match input {
            Input::Octets(Side::Backend, _)
            | Input::Gone(Side::Backend)
            | Input::Upgraded(Side::Backend)
            | Input::Dialled(_)
                if self.is_away() =>
            {
                self.come_back(input, out)?
            }
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
            Input::Told(told) => {
                self.told_aside(&told, out);
                0
            }
            Input::Noticed(notice) => {
                self.noticed(notice, out);
                0
            }
            Input::Gone(Side::Client) if self.is_to_be_finished(out) => {
                self.left = Some(now);
                0
            }
            Input::Gone(Side::Client) => return Err(End::ClientGone),
            Input::Gone(Side::Backend) if self.may_return() => {
                self.leave(out);
                0
            }
            Input::Gone(Side::Backend) => return Err(self.backend_gone(out)),
            Input::Drain => {
                self.draining = true;
                0
            }
            Input::Wake => self.wake(now, out)?,
            Input::Upgraded(Side::Client) => self.upgraded()?,
            Input::Opened | Input::Dialled(_) | Input::Upgraded(Side::Backend) => {
                return Err(End::Fault(Fault::Ours("unexpected input")));
            }
        };
        match self.client.has_left || (self.left.is_some() && !self.has_to_finish()) {
            // Nothing more is begun: the connection is for somebody else.
            true => self.at_boundary(out),
            false => self.advance(now, out),
        }
        self.owed_since =
            if self.gate.is_owed() && self.news.idle.since().is_none() { self.owed_since.or(Some(now)) } else { None };
        if self.left.is_some() && !self.is_to_be_finished(out) {
            return Err(End::ClientGone);
        }
        if self.client.has_left {
            return Err(End::Logout);
        }
        match self.draining && (self.is_at_rest() || self.is_away()) {
            true => Err(self.bye("proxy shutting down", End::Drained, out)),
            false => Ok(took),
        }
    }

    /// What may have become possible: questions that waited, IDLE, things to be told.
    fn advance(&mut self, now: Instant, out: &mut Effects) {
        if self.stack.has_waiting() {
            self.ask_waiting(out);
        }
        self.wake_layers(now, out);
        self.watch(out);
        self.load(out);
        self.inquire(out);
        self.idle_on(now, out);
        self.at_boundary(out);
        if self.is_at_rest() {
            self.report(out);
        }
    }

    /// Something is under way that does not stop when the client goes.
    fn has_to_finish(&self) -> bool {
        self.gate.is_followed() || self.stack.finishes(&self.plan)
    }

    /// The same, or the connection is wanted when the backend has answered.
    fn is_to_be_finished(&self, out: &Effects) -> bool {
        self.has_to_finish() || (out.kept && !self.is_mid_command() && !self.is_backend_free())
    }

    /// Between two responses to the client: only here is there room for words of ours (architecture 4.10).
    pub(super) fn is_boundary(&self) -> bool {
        matches!(self.backend.up, Up::Boundary)
    }

    /// A command is half written to the backend, or there is none: nothing else may be written there.
    pub(super) fn is_mid_command(&self) -> bool {
        self.backend.owed.is_some() || self.client.is_mid_command() || self.is_away()
    }

    /// Nothing is under way but, perhaps, an IDLE.
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_boundary() && self.client.is_between_commands() && (self.client.is_idle() || !self.gate.client_waits())
    }

    /// Whether the backend waits for nothing, and we wait for nothing of it but news.
    pub(super) fn is_backend_free(&self) -> bool {
        let idling = self.news.idle.since().is_some();
        self.is_boundary() && !self.is_mid_command() && (idling || !self.gate.is_owed())
    }

    /// The client has gone: who wants the backend's connection has it, if it can be spoken on.
    pub(super) fn leave_backend(&self, why: End, out: &mut Effects) {
        // A LOGOUT that the backend has heard ends the connection.
        let has_gone = self.client.has_left || matches!(why, End::ClientGone | End::Idle);
        if out.kept && has_gone && self.is_backend_free() {
            let told = self.plan.idle && self.news.mode() == Look::Idle;
            out.push(Effect::Leave { idling: self.news.idle.since().is_some(), told });
        }
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
            let flags = self.may_tell().flags;
            self.numbering.tell(flags, &mut out.text);
            out.put_from(Side::Client, start);
        }
        self.tell_held(out);
        if let Some(tag) = self.client.begin_upgrade() {
            out.put(Side::Client, &[&tag, b" OK DEFLATE active\r\n".as_slice()].concat());
            out.push(Effect::Upgrade(Side::Client, Upgrade::Deflate));
        }
    }

    /// What the client is told that we can do. DEFLATE is no more to be had where it is active.
    pub(super) fn told(&self) -> Cow<'_, str> {
        let told = &self.plan.told;
        match self.client.is_compressed() {
            true => told.iter().filter(|word| *word != DEFLATE).collect::<Capabilities>().text().to_owned().into(),
            false => told.text().into(),
        }
    }

    /// SELECT or EXAMINE has ended, with this text. NO leaves no mailbox selected (RFC 3501 6.3.1), BAD leaves all as it was.
    pub(super) fn opened(&mut self, status: Status, text: &[u8]) {
        self.leaving = false;
        match (status, self.before.take()) {
            (Status::Ok, _) => {
                self.selected = true;
                self.epoch += 1;
                self.mailbox = self.opening.take();
                let read_only = code::parse(text).is("READ-ONLY");
                self.mailbox.iter_mut().for_each(|mailbox| mailbox.examined |= read_only);
                self.stack.rouse(self.now);
                self.news.forget();
                self.watch_anew();
            }
            (Status::No, _) => self.closed(),
            (Status::Bad, before) => self.numbering = before.map(|before| *before).unwrap_or_default(),
        }
    }

    /// A mailbox is being opened; a name that cannot be read is not remembered.
    pub(super) fn open(&mut self, head: &Head<'_>, out: &mut Effects) {
        self.at_boundary(out);
        self.leaving = !self.numbering.is_plain() || self.numbering.has_unannounced();
        self.before = Some(Box::new(std::mem::take(&mut self.numbering)));
        let name = Cursor::new(head.arguments).astring().ok();
        let examined = head.verb.name == "EXAMINE";
        let resynced = memchr::memmem::find(&head.arguments.to_ascii_uppercase(), b"(QRESYNC").is_some();
        let (uidvalidity, uidnext) = (None, None);
        self.opening =
            name.map(|name| Box::new(Mailbox { name: (*name).into(), examined, uidvalidity, uidnext, resynced }));
    }

    /// Whether this is still said of the mailbox that the client has left, by numbers that it does not have. Which flags there are it
    /// asks when it comes again.
    pub(super) fn is_left(&mut self, kind: Kind, line: &[u8]) -> bool {
        if !self.leaving {
            return false;
        }
        let code = || kind == Kind::Ok && !code::parse(response::text(line, 2)).name.is_empty();
        self.leaving = kind != Kind::Flags && !code();
        let earlier = || response::text(line, 2).starts_with(b"(");
        self.leaving && (matches!(kind, Kind::Expunge | Kind::Fetch) || (kind == Kind::Vanished && !earlier()))
    }

    /// What UIDs mean in the mailbox that is being opened, and which comes next.
    pub(super) fn note_uids(&mut self, line: &[u8]) {
        let Some(opening) = &mut self.opening else { return };
        let text = code::parse(response::text(line, 2));
        if text.is("UIDVALIDITY") {
            opening.uidvalidity = text.number();
        } else if text.is("UIDNEXT") {
            opening.uidnext = text.number();
        }
    }

    /// No mailbox is selected any more.
    pub(super) fn closed(&mut self) {
        self.selected = false;
        self.mailbox = None;
        self.watch = None;
        self.stack.rouse(self.now);
        self.news.forget();
        self.numbering = Numbering::default();
    }

    /// RFC 3501 7.4.1, and no command that is received and not yet written uses numbers (architecture 4.2).
    pub(super) fn may_tell_expunge(&self) -> bool {
        let told = self.may_tell();
        let wanted = told.removals || self.gate.has_asked(Kind::Expunge);
        wanted && !self.client.holds_numbers && self.gate.allows_expunge(self.numbering.is_mapped(), told.at_once)
    }

    fn backend_gone(&mut self, out: &mut Effects) -> End {
        match self.is_boundary() && !self.backend.said_bye {
            true => self.bye("[UNAVAILABLE] backend connection lost", End::BackendGone, out),
            false => End::BackendGone,
        }
    }

    pub(super) fn bye(&mut self, text: &str, why: End, out: &mut Effects) -> End {
        self.at_boundary(out);
        out.put(Side::Client, format!("* BYE {text}\r\n").as_bytes());
        why
    }

    /// When to be woken, at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let timeouts = &self.front.timeouts;
        let silent = (!self.client.is_idle()).then(|| self.client.heard + timeouts.idle.0);
        let left = self.left.map(|left| left + FINISH);
        let renewal = self.idle_until();
        let look = self.news.next().filter(|_| self.is_listening() && self.may_look());
        let idle = self.idle_from();
        let layers = self.wakes_at();
        // Inside a response there is no room for it: what ends the response wakes the session too.
        let room = self.client.is_idle() && self.is_boundary();
        let still_here = timeouts.still_here.filter(|_| room).map(|every| self.client.told + every.0);
        let back = self.returns_at();
        let inquiry = self.inquires_at();
        let watch = self.watches_at();
        let moments = [silent, self.owed(), left, renewal, look, idle, layers, still_here, back, inquiry, watch];
        moments.into_iter().flatten().min()
    }

    /// When the backend has kept silent for too long about what it owes us.
    fn owed(&self) -> Option<Instant> {
        let since = self.owed_since.filter(|_| self.is_boundary())?;
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
        if self.client.is_idle() && still_here && self.is_boundary() {
            self.client.told = now;
            out.put(Side::Client, b"* OK Still here\r\n");
        }
        self.wake_away(now, out)?;
        if self.is_listening() {
            self.renew_idle(now, out);
            self.look(now, out);
        }
        match () {
            () if owed && self.may_return() => {
                self.leave(out);
                Ok(0)
            }
            () if owed => Err(self.bye("[UNAVAILABLE] backend does not answer", End::Idle, out)),
            () if self.client.is_idle() => Ok(0),
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
