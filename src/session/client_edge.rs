//! The client edge: octets of a client become commands, one after the other (RFC 3501 section 2.2.1). Owns IDLE.
//!
//!     C: a UID FETCH 1:* FLAGS     nobody hears it: it passes as a span
//!     C: b IDLE                    ours: "this client may be told things now" (architecture 4.11)
//!     C: c APPEND INBOX {310}      the head goes down, then the body is carried (4.5)
//!     C: d COMPRESS DEFLATE        ours: what follows is compressed, and the shell inflates it (4.10, RFC 4978)
//!
//! A command that may not start yet is not taken: it stays with the shell, and so does everything behind it. Requirement N2.

use std::time::Instant;

use super::{
    effect::{Effect, Effects, End, Fault, Side},
    gate::{Owner, Running, Tag},
    idle::Listening,
    layer::Refusal,
    numbering::names_numbers,
    open::Open,
    plan::NonSync,
};
use crate::imap::{
    command::{self, Head},
    esearch::Return,
    frame::{self, Bounds, CommandFramer, Cut, FrameError, Literal, Skip},
    search::{Part, Program, What},
    verb::{Numbers, Verb},
    words,
};

/// What the client's next octets are.
#[derive(Debug)]
pub(super) enum Down {
    /// A command.
    Command,
    /// The octets of a literal whose `+` the backend has not said.
    AwaitContinuation,
    /// The octets of a literal of this command, on their way.
    Carrying(Tag),
    /// What follows a literal inside this command.
    Words(Tag),
    /// The rest of a command that was refused.
    Refused,
    /// The octets of a literal in it.
    Discarding,
    /// Whatever the backend asked for with a `+` that we know nothing about.
    Raw,
    /// What a layer decides: DONE, as soon as it has let IDLE run; the octets of a literal, as soon as the command goes down.
    AwaitLayer,
    /// DONE.
    Idle,
    /// Nothing: COMPRESS is answered at the next boundary.
    AwaitBoundary(Tag),
    /// Nothing, before DEFLATE runs.
    AwaitUpgrade,
}

/// The state of the client's side.
#[derive(Debug)]
pub(super) struct ClientEdge {
    framer: CommandFramer,
    pub(super) down: Down,
    /// Words of ours that wait for a boundary.
    pub(super) pending: Vec<u8>,
    /// A command has been received and waits for the gate: its octets, and the big literal behind them.
    held: Option<(usize, Option<Literal>)>,
    /// It names messages by number.
    pub(super) holds_numbers: bool,
    /// It waits until the UIDs of all messages are known.
    pub(super) waits_for_uids: bool,
    /// The backend did not tell them.
    pub(super) lacks_uids: bool,
    /// The IDLE that runs.
    idle: Option<Tag>,
    /// What it wants to hear without asking, if not everything: in IDLE, and from there to its next command.
    pub(super) listening: Option<Box<Listening>>,
    /// The same by NOTIFY: at any time, and instead of all else.
    pub(super) notify: Option<Box<Listening>>,
    /// A command of its stores messages in the mailbox that it has selected.
    pub(super) stores: bool,
    /// It has said that it knows mod-sequences (RFC 7162 3.1).
    pub(super) modseq: bool,
    /// It is told by UID which messages have gone (RFC 7162 3.2.3).
    pub(super) by_uid: bool,
    /// DEFLATE runs.
    compressed: bool,
    /// It has said LOGOUT, and has been answered.
    pub(super) has_left: bool,
    /// When it was last heard.
    pub(super) heard: Instant,
    /// When it was last told that we are still here.
    pub(super) told: Instant,
}

/// What became of the octets at hand.
enum Step {
    /// So many are done with.
    Took(usize),
    /// None, for now.
    Wait,
}

impl ClientEdge {
    /// Refusals that wait while a long literal goes to a client that goes on sending nonsense.
    const MOST_PENDING: usize = 4 << 10;

    pub(super) fn new(now: Instant) -> Self {
        Self {
            framer: CommandFramer::default(),
            down: Down::Command,
            pending: Vec::new(),
            held: None,
            holds_numbers: false,
            waits_for_uids: false,
            lacks_uids: false,
            idle: None,
            listening: None,
            notify: None,
            stores: false,
            modseq: false,
            by_uid: false,
            compressed: false,
            has_left: false,
            heard: now,
            told: now,
        }
    }

    pub(super) fn wants(&self) -> bool {
        let waits = matches!(
            self.down,
            Down::AwaitContinuation | Down::AwaitBoundary(_) | Down::AwaitLayer | Down::AwaitUpgrade
        );
        self.held.is_none() && !waits && self.has_room() && !self.has_left
    }

    /// Whether more words of ours may wait for a boundary.
    pub(super) fn has_room(&self) -> bool {
        self.pending.len() < Self::MOST_PENDING
    }

    pub(super) fn is_idle(&self) -> bool {
        self.idle.is_some()
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.compressed
    }

    /// Whose OK is to be said now, at a boundary, with DEFLATE behind it.
    pub(super) fn begin_upgrade(&mut self) -> Option<Tag> {
        let Down::AwaitBoundary(tag) = &mut self.down else { return None };
        let tag = std::mem::take(tag);
        self.down = Down::AwaitUpgrade;
        Some(tag)
    }

    pub(super) fn is_mid_command(&self) -> bool {
        matches!(self.down, Down::AwaitContinuation | Down::Carrying(_) | Down::Words(_))
    }

    pub(super) fn is_between_commands(&self) -> bool {
        matches!(self.down, Down::Command | Down::Idle) && self.held.is_none()
    }
}

impl Open {
    /// Takes what can be taken now.
    pub(super) fn hear_client(&mut self, octets: &[u8], out: &mut Effects) -> Result<usize, End> {
        let mut at = 0;
        if !self.client.is_idle() {
            // The backend may idle for the sake of NOTIFY: the client comes first.
            self.idle_off(out);
        }
        self.client.holds_numbers = false;
        self.client.waits_for_uids = false;
        if let Some((len, open)) = self.client.held.take()
            && let Step::Took(len) = self.begin(&octets[..len], open, 0, out)
        {
            at = len;
        }
        while at < octets.len() && self.client.wants() {
            let rest = &octets[at..];
            let step = match self.client.down {
                Down::Command => self.command(rest, at, out)?,
                Down::Words(_) => self.words(rest, at, out)?,
                Down::Refused => self.refused(rest, out),
                Down::Raw => self.raw(rest, at, out)?,
                Down::Idle => self.done(rest, out)?,
                Down::AwaitContinuation
                | Down::AwaitLayer
                | Down::Carrying(_)
                | Down::Discarding
                | Down::AwaitBoundary(_)
                | Down::AwaitUpgrade => Step::Wait,
            };
            match step {
                Step::Took(len) => at += len,
                Step::Wait => break,
            }
        }
        Ok(at)
    }

    fn bounds(&self) -> Bounds {
        let limits = &self.front.limits;
        let (literal, literals) = (limits.small_literal.0, limits.line.0);
        Bounds { line: limits.line.0 as usize, literal, literals, row: command::longest_literal }
    }

    fn command(&mut self, rest: &[u8], at: usize, out: &mut Effects) -> Result<Step, End> {
        match self.client.framer.cut(rest, &self.bounds()) {
            Ok(Cut::Partial) => Ok(Step::Wait),
            Ok(Cut::Prompt) => {
                self.tell(b"+ go ahead\r\n", out);
                Ok(Step::Took(0))
            }
            Ok(Cut::Whole { len }) => Ok(self.begin(&rest[..len], None, at, out)),
            Ok(Cut::Open { len, literal }) => match self.is_impossible(&literal) {
                true => Err(self.client_fault("literal too large", out)),
                false => Ok(self.begin(&rest[..len], Some(literal), at, out)),
            },
            Err(FrameError::TooLong) => Err(self.client_fault("line too long", out)),
            Err(error) => {
                self.refuse(command::tag(rest).unwrap_or(b"*"), &Refusal::bad(framing_text(error)), out);
                self.client.down = Down::Refused;
                Ok(Step::Took(0))
            }
        }
    }

    /// A literal that is sent without asking and that nobody would read to its end.
    fn is_impossible(&self, literal: &Literal) -> bool {
        !literal.synchronising && literal.len > self.front.limits.append.0
    }

    /// A command is there, whole or up to a big literal.
    fn begin(&mut self, octets: &[u8], open: Option<Literal>, at: usize, out: &mut Effects) -> Step {
        let head = match command::head(octets) {
            Ok(head) => head,
            Err(_) => {
                let tag = command::tag(octets).unwrap_or(b"*");
                return self.reject(octets, tag, open, Refusal::bad("a tag and a command are needed"), out);
            }
        };
        if let Some(why) = self.objection(&head, open.as_ref(), octets) {
            return self.reject(octets, head.tag, open, why, out);
        }
        if head.verb.name == "CAPABILITY" {
            let text = format!("* CAPABILITY {}\r\n", self.told());
            self.tell(text.as_bytes(), out);
            self.tell_done(head.tag, b"CAPABILITY done", out);
            return Step::Took(octets.len());
        }
        let level = self.plan.hears(head.verb, head.arguments, 0);
        let lacks = self.wants_uids(&head, level);
        if std::mem::take(&mut self.client.lacks_uids) && lacks {
            let why = Refusal::no("UNAVAILABLE", "the backend does not tell which messages there are");
            return self.reject(octets, head.tag, open, why, out);
        }
        // What would be refused waits until nothing runs: by then client and backend may count alike again.
        let unexplained = self.unexplained(&head, open.as_ref());
        let alone = head.verb.alone
            || level.is_some()
            || unexplained.is_some()
            || (head.verb.numbers == Numbers::Criteria && !self.numbering.is_plain());
        let most = usize::from(self.front.limits.pipelined);
        // What a layer asks of itself, between two commands, is at some layer below it.
        let taken = self.gate.find(head.tag).is_some() || (self.stack.is_asked() && !self.gate.client_waits());
        if lacks || taken || self.is_mid_command() || !self.gate.admits(head.verb, Owner::Client, alone, most) {
            self.client.held = Some((octets.len(), open));
            self.client.holds_numbers = head.verb.numbers != Numbers::None;
            self.client.waits_for_uids = lacks;
            return Step::Wait;
        }
        if let Some(why) = unexplained {
            return self.reject(octets, head.tag, open, why, out);
        }
        let bound = match self.bind_numbers(&head, octets) {
            Ok(bound) => bound,
            Err(Shifting::Refuse(why)) => return self.reject(octets, head.tag, open, why, out),
            Err(Shifting::Nothing) => {
                self.tell_done(head.tag, NOTHING_LEFT, out);
                open.iter().for_each(|literal| self.discard(literal, out));
                return Step::Took(octets.len());
            }
        };
        out.commands += 1;
        self.start(&head, octets, bound.as_deref(), open, at, out);
        Step::Took(octets.len())
    }

    /// The command with UIDs in the place of numbers (architecture 4.2), where they are known; `None`: as it came.
    fn bind_numbers(&self, head: &Head<'_>, octets: &[u8]) -> Result<Option<Vec<u8>>, Shifting> {
        if !self.numbering.is_mapped() {
            return Ok(None);
        }
        let beyond = |_| Shifting::Refuse(Refusal::bad("no such message"));
        let issued = || Shifting::Refuse(Refusal::no("EXPUNGEISSUED", "messages are gone; NOOP tells which"));
        let start = octets.len() - head.arguments.len();
        let set = command::first_argument(head.arguments);
        let by_uid = head.verb.name.starts_with("UID ");
        let (uids, gone) = match head.verb.numbers {
            Numbers::Criteria => return self.bind_criteria(head, octets).map_err(Shifting::Refuse),
            Numbers::None if by_uid && set.contains(&b'*') => (self.numbering.bind_uids(set).map_err(beyond)?, false),
            Numbers::None => return Ok(None),
            // The `$` of RFC 5182 is for a layer, or for the backend.
            _ if set == b"$" => return Ok(None),
            _ if !self.numbering.is_bound() => return Err(issued()),
            _ => self.numbering.bind(set).map(|bound| (bound.set, bound.gone)).map_err(beyond)?,
        };
        match uids.is_empty() {
            _ if gone && head.verb.numbers == Numbers::Changes => return Err(issued()),
            true => return Err(Shifting::Nothing),
            false => {}
        }
        let verb: &[u8] = if by_uid { b"" } else { b"UID " };
        let words = &octets[head.tag.len() + 1..start];
        let rest = &head.arguments[set.len()..];
        Ok(Some([head.tag, b" ", verb, words, uids.as_bytes(), rest].concat()))
    }

    /// The same for search criteria, whose answer is a matter of its own. What a client says of messages that are gone is
    /// true of none.
    fn bind_criteria(&self, head: &Head<'_>, octets: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        if !names_numbers(head.arguments) {
            return Ok(None);
        }
        if !self.numbering.is_bound() {
            return Err(Refusal::no("EXPUNGEISSUED", "messages are gone; NOOP tells which"));
        }
        let uids = |set: &[u8]| match self.numbering.bind(set) {
            Ok(bound) if bound.set.is_empty() => Ok(NONE.to_owned()),
            Ok(bound) => Ok(format!("UID {}", bound.set)),
            Err(_) => Err(Refusal::bad("no such message")),
        };
        rewrite_criteria(head, octets, uids).map(Some)
    }

    /// Why this command is not for the backend.
    fn objection(&mut self, head: &Head<'_>, open: Option<&Literal>, octets: &[u8]) -> Option<Refusal> {
        let small = self.front.offer.literals == NonSync::Minus;
        let pushed = open.is_some_and(|literal| !literal.synchronising && literal.len > 4096);
        match () {
            () if head.tag.starts_with(&self.backend.prefix) => Some(Refusal::bad("this tag is taken")),
            () if !self.plan.offers(head.verb) => Some(Refusal::bad("command not offered")),
            () if matches!(head.verb.name, "LOGIN" | "AUTHENTICATE") => Some(Refusal::bad("already logged in")),
            () if matches!(head.verb.name, "CAPABILITY" | "IDLE") && head.arguments != b"\r\n" => {
                Some(Refusal::bad("this command takes no arguments"))
            }
            () if head.verb.name == "COMPRESS" && self.client.compressed => {
                Some(Refusal { code: "COMPRESSIONACTIVE".into(), ..Refusal::bad("DEFLATE is active already") })
            }
            () if head.verb.name == "COMPRESS" && !head.arguments.eq_ignore_ascii_case(b"DEFLATE\r\n") => {
                Some(Refusal::bad("COMPRESS takes one argument, DEFLATE"))
            }
            () if open.is_some_and(|literal| literal.len > self.front.limits.append.0) => {
                Some(Refusal::no("TOOBIG", "literal too large"))
            }
            () if small && pushed => Some(Refusal::bad("LITERAL-: at most 4096 octets without asking")),
            () if open.is_some()
                && self.plan.hears(head.verb, head.arguments, 0).is_some_and(|level| !self.plan.streams(level)) =>
            {
                open.map(|literal| too_large(head.verb, literal))
            }
            () if command::depth(octets) > usize::from(self.front.limits.nesting) => {
                Some(Refusal::bad("nested too deeply"))
            }
            () => None,
        }
    }

    /// Refuses a command that was cut, with the literal that may still come.
    fn reject(&mut self, octets: &[u8], tag: &[u8], open: Option<Literal>, why: Refusal, out: &mut Effects) -> Step {
        self.refuse(tag, &why, out);
        if let Some(literal) = open {
            self.discard(&literal, out);
        }
        Step::Took(octets.len())
    }

    /// A literal that nobody takes: after `{n}` nothing comes, after `{n+}` its octets and the rest of the command.
    pub(super) fn discard(&mut self, literal: &Literal, out: &mut Effects) {
        self.client.down = match literal.synchronising {
            true => Down::Command,
            false => {
                out.push(Effect::Discard { from: Side::Client, len: literal.len });
                Down::Discarding
            }
        };
    }

    /// Writes a refusal as the end of a command.
    pub(super) fn refuse(&mut self, tag: &[u8], why: &Refusal, out: &mut Effects) {
        let mut line = Vec::new();
        why.write(tag, &mut line);
        self.tell(&line, out);
    }

    /// Writes the good end of a command that the backend knows nothing of.
    pub(super) fn tell_done(&mut self, tag: &[u8], text: &[u8], out: &mut Effects) {
        self.tell(&[tag, b" OK ", text, b"\r\n"].concat(), out);
    }

    /// The gate is open for it.
    fn start(
        &mut self,
        head: &Head<'_>,
        octets: &[u8],
        bound: Option<&[u8]>,
        open: Option<Literal>,
        at: usize,
        out: &mut Effects,
    ) {
        self.note_modseq(head);
        let level = self.plan.hears(head.verb, head.arguments, 0);
        let running = Running {
            tag: Tag::from_slice(head.tag),
            verb: head.verb,
            owner: Owner::Client,
            alone: head.verb.alone || level.is_some() || !self.numbering.is_plain(),
            written: level.is_none() && head.verb.name != "IDLE",
            complete: open.is_none(),
            tagged: false,
            bound: false,
            followed: None,
        };
        if head.verb.name == "LOGOUT" && out.kept && !self.gate.client_waits() && self.is_backend_free() {
            // The backend does not hear of it: its connection is wanted.
            self.tell(b"* BYE logging out\r\n", out);
            self.tell_done(head.tag, b"LOGOUT done", out);
            self.client.has_left = true;
            return;
        }
        if head.verb.name == "COMPRESS" {
            self.client.down = Down::AwaitBoundary(running.tag);
            return;
        }
        self.gate.start(running);
        match (head.verb.name, level) {
            ("IDLE", None) => return self.idle(head.tag, None, out),
            ("IDLE", Some(_)) => self.client.down = Down::AwaitLayer,
            _ => {
                self.client.listening = None;
                self.news.act(head.verb);
                self.watch_on();
            }
        }
        let bound = bound.and_then(|octets| Some((command::head(octets).ok()?, octets)));
        match (level, bound) {
            (Some(level), Some((head, octets))) => self.visit(level, &head, octets, Owner::Client, open, out),
            (Some(level), None) => self.visit(level, head, octets, Owner::Client, open, out),
            (None, Some((head, octets))) => self.send(&head, octets, open, None, out),
            (None, None) => self.send(head, octets, open, Some(at), out),
        }
    }

    /// From now on the client knows mod-sequences, where they can be had.
    fn note_modseq(&mut self, head: &Head<'_>) {
        let said = !self.client.modseq && words::knows_modseq(head.verb, head.arguments);
        self.client.modseq |= said && words::CONDSTORE.iter().any(|word| self.plan.told.has(word));
        self.client.by_uid |= words::enables_qresync(head.verb, head.arguments) && self.plan.told.has("QRESYNC");
    }

    /// The client idles. `listening`: what it wants to hear, if not everything.
    pub(super) fn idle(&mut self, tag: &[u8], listening: Option<Listening>, out: &mut Effects) {
        self.client.idle = Some(Tag::from_slice(tag));
        self.client.listening = listening.map(Box::new);
        self.client.down = Down::Idle;
        self.resume = true;
        self.tell(b"+ idling\r\n", out);
    }

    /// A command that has visited all layers that hear it goes to the backend.
    pub(super) fn write_visited(&mut self, head: &Head<'_>, octets: &[u8], open: Option<Literal>, out: &mut Effects) {
        if let Some(running) = self.gate.find(head.tag) {
            running.written = true;
        }
        self.resume = true;
        self.send(head, octets, open, None, out);
    }

    /// A running command goes to the backend, with the numbers that the backend knows. `at` is where it stands in the
    /// client's octets.
    fn send(&mut self, head: &Head<'_>, octets: &[u8], open: Option<Literal>, at: Option<usize>, out: &mut Effects) {
        let shifted = match self.shift(head, octets) {
            Ok(shifted) => shifted,
            Err(why) => {
                self.gate.end(head.tag);
                self.resume = true;
                open.iter().for_each(|literal| self.discard(literal, out));
                return match why {
                    Shifting::Refuse(why) => self.refuse(head.tag, &why, out),
                    Shifting::Nothing => self.tell_done(head.tag, NOTHING_LEFT, out),
                };
            }
        };
        if matches!(head.verb.name, "SELECT" | "EXAMINE") {
            self.open(head, out);
        }
        if let Some(running) = self.gate.find(head.tag) {
            running.bound = running.verb.numbers != Numbers::None && head.verb.name.starts_with("UID ");
        }
        self.note_stored(head);
        self.note_lasting(head);
        self.witness_command(head, out);
        self.see_command(shifted.as_deref().unwrap_or(octets));
        match shifted {
            Some(octets) => self.write(&octets, None, head.tag, head.verb, open, out),
            None => self.write(octets, at, head.tag, head.verb, open, out),
        }
    }

    /// The command as the backend has to read it, while the client was not told of some removals; `None`: as it came.
    fn shift(&self, head: &Head<'_>, octets: &[u8]) -> Result<Option<Vec<u8>>, Shifting> {
        if self.numbering.is_plain() || head.verb.numbers == Numbers::None {
            return Ok(None);
        }
        let issued = || Shifting::Refuse(Refusal::no("EXPUNGEISSUED", "messages are gone; NOOP tells which"));
        if head.verb.numbers == Numbers::Criteria && Return::parse(head.arguments).is_err() {
            // What answers it, we could not shift.
            return Err(issued());
        }
        if self.numbering.is_mapped() {
            // What it names is bound.
            return Ok(None);
        }
        let set = command::first_argument(head.arguments);
        match head.verb.numbers {
            _ if !self.numbering.is_bound() => Err(issued()),
            // A search is never refused: what a client has asked to be saved would be what was saved before (RFC 5182 2.1).
            Numbers::Criteria if names_numbers(head.arguments) => {
                let numbers = |set: &[u8]| match self.numbering.down(set) {
                    Some(shifted) if shifted.set.is_empty() => Ok(NONE.to_owned()),
                    Some(shifted) => Ok(shifted.set),
                    None => Err(Refusal::bad("no such message")),
                };
                rewrite_criteria(head, octets, numbers).map(Some).map_err(Shifting::Refuse)
            }
            Numbers::Criteria => Ok(None),
            numbers => match self.numbering.down(set) {
                None => Ok(None),
                Some(shifted) if shifted.gone && numbers == Numbers::Changes => Err(issued()),
                Some(shifted) if shifted.set.is_empty() => Err(Shifting::Nothing),
                Some(shifted) => {
                    let start = octets.len() - head.arguments.len();
                    let rest = &head.arguments[set.len()..];
                    Ok(Some([&octets[..start], shifted.set.as_bytes(), rest].concat()))
                }
            },
        }
    }

    /// What follows a literal: more words of the same command.
    fn words(&mut self, rest: &[u8], at: usize, out: &mut Effects) -> Result<Step, End> {
        let cut = match self.client.framer.cut(rest, &self.bounds()) {
            Ok(Cut::Partial) => return Ok(Step::Wait),
            Ok(Cut::Prompt) => {
                self.tell(b"+ go ahead\r\n", out);
                return Ok(Step::Took(0));
            }
            Ok(cut) => cut,
            Err(_) => return Err(self.client_fault("malformed command behind a literal", out)),
        };
        let Down::Words(tag) = std::mem::replace(&mut self.client.down, Down::Command) else {
            return Ok(Step::Wait);
        };
        let (len, open) = match cut {
            Cut::Open { len, literal } => (len, Some(literal)),
            Cut::Whole { len } => (len, None),
            Cut::Partial | Cut::Prompt => (0, None),
        };
        if open.is_some_and(|literal| self.is_impossible(&literal)) {
            return Err(self.client_fault("literal too large", out));
        }
        let Some(running) = self.gate.find(&tag) else { return Ok(Step::Took(len)) };
        let (verb, tagged) = (running.verb, running.tagged);
        running.complete = open.is_none();
        match open.filter(|_| tagged) {
            // The backend has refused the command and reads it to its end; the client's next literal is not for it.
            Some(literal) => {
                self.gate.end(&tag);
                out.pass(Side::Client, at, len - literal.mark);
                out.put(Side::Backend, b"\r\n");
                self.discard(&literal, out);
            }
            None => {
                self.write(&rest[..len], Some(at), &tag, verb, open, out);
                if tagged {
                    self.gate.end(&tag);
                }
            }
        }
        Ok(Step::Took(len))
    }

    /// The rest of a refused command: nothing in it is ever executed.
    fn refused(&mut self, rest: &[u8], out: &mut Effects) -> Step {
        match frame::skip(rest) {
            Skip::More(0) => Step::Wait,
            Skip::More(len) => Step::Took(len),
            Skip::End(len) => {
                self.client.down = Down::Command;
                Step::Took(len)
            }
            Skip::Literal(took, len) => {
                out.push(Effect::Discard { from: Side::Client, len });
                self.client.down = Down::Discarding;
                Step::Took(took)
            }
        }
    }

    /// A line that answers a `+` of the backend's that no literal of ours waited for.
    fn raw(&mut self, rest: &[u8], at: usize, out: &mut Effects) -> Result<Step, End> {
        let Some(end) = memchr::memmem::find(rest, b"\r\n").map(|end| end + 2) else {
            return match rest.len() as u64 > self.front.limits.line.0 {
                true => Err(self.client_fault("line too long", out)),
                false => Ok(Step::Wait),
            };
        };
        out.pass(Side::Client, at, end);
        self.client.down = Down::Command;
        Ok(Step::Took(end))
    }

    /// DONE, and nothing else, ends IDLE (RFC 2177 section 3).
    fn done(&mut self, rest: &[u8], out: &mut Effects) -> Result<Step, End> {
        let end = match self.client.framer.cut(rest, &self.bounds()) {
            Ok(Cut::Partial) => return Ok(Step::Wait),
            Ok(Cut::Whole { len }) if rest[..len].eq_ignore_ascii_case(b"DONE\r\n") => Some(len),
            Ok(_) | Err(_) => None,
        };
        let tag = self.client.idle.take().unwrap_or_default();
        self.client.down = Down::Command;
        self.at_boundary(out);
        self.gate.end(&tag);
        match end {
            Some(_) => self.tell_done(&tag, b"IDLE terminated", out),
            None => {
                self.refuse(&tag, &Refusal::bad("expected DONE"), out);
                self.client.down = Down::Refused;
            }
        }
        self.idle_off(out);
        Ok(Step::Took(end.unwrap_or(0)))
    }

    /// DEFLATE runs: what the client says from here on was inflated.
    pub(super) fn upgraded(&mut self) -> Result<usize, End> {
        match self.client.down {
            Down::AwaitUpgrade => {
                (self.client.down, self.client.compressed) = (Down::Command, true);
                Ok(0)
            }
            _ => Err(End::Fault(Fault::Ours("unexpected input"))),
        }
    }

    /// A literal of the client's is through.
    pub(super) fn client_carried(&mut self) -> usize {
        self.client.down = match std::mem::replace(&mut self.client.down, Down::Command) {
            Down::Carrying(tag) => Down::Words(tag),
            Down::Discarding => Down::Refused,
            other => other,
        };
        self.resume = true;
        0
    }
}

/// A search whose numbers are said otherwise.
fn rewrite_criteria(
    head: &Head<'_>,
    octets: &[u8],
    say: impl Fn(&[u8]) -> Result<String, Refusal>,
) -> Result<Vec<u8>, Refusal> {
    let arguments = head.arguments.strip_suffix(b"\r\n").unwrap_or(head.arguments);
    let program = Program::of(head.verb, arguments).map_err(|error| Refusal::bad(error.to_string()))?;
    let numbers = |part: &&Part| part.what == What::Numbers && &arguments[part.at.clone()] != b"$";
    let said: Result<Vec<String>, Refusal> =
        program.parts.iter().filter(numbers).map(|part| say(&arguments[part.at.clone()])).collect();
    let mut said = said?.into_iter();
    let rewritten =
        program.rewritten(arguments, |part| numbers(&part).then(|| said.next()).flatten().map(String::into_bytes));
    Ok([&octets[..octets.len() - head.arguments.len()], &rewritten, b"\r\n"].concat())
}

/// Why a layer does not take this literal: it is too large itself, or with those before it.
fn too_large(verb: &Verb, literal: &Literal) -> Refusal {
    let too_large = "literal too large here";
    match verb.values {
        Some((most, code)) if literal.len > most => Refusal::no(code, too_large),
        Some(_) => Refusal::no("LIMIT", "the values of one command are too large together"),
        None => Refusal::bad(too_large),
    }
}

/// How a command ends well that names only messages that are gone.
const NOTHING_LEFT: &[u8] = b"nothing is left of these messages";

/// Criteria that no message meets.
const NONE: &str = "NOT ALL";

/// Why a numbered command does not go down.
enum Shifting {
    /// It would change another message, or name one that is gone.
    Refuse(Refusal),
    /// All it reads is gone.
    Nothing,
}

fn framing_text(error: FrameError) -> &'static str {
    match error {
        FrameError::LineEnd => "a line ends with CRLF, and CR and LF stand nowhere else",
        FrameError::Nul => "NUL is not allowed here",
        FrameError::Literal => "misplaced or impossible literal",
        FrameError::TooLong => "line too long",
    }
}
