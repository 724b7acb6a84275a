//! The client edge: octets of a client become commands, one after the other (RFC 3501 section 2.2.1). Owns IDLE.
//!
//!     C: a UID FETCH 1:* FLAGS     nobody hears it: it passes as a span
//!     C: b IDLE                    ours: "this client may be told things now" (architecture 4.11)
//!     C: c APPEND INBOX {310}      the head goes down, then the body is carried (4.5)
//!
//! A command that may not start yet is not taken: it stays with the shell, and so does everything behind it. Requirement N2.

use std::time::Instant;

use super::{
    effect::{Effect, Effects, End, Side},
    gate::{Owner, Running, Tag},
    layer::Refusal,
    numbering::names_numbers,
    open::Open,
    plan::NonSync,
};
use crate::imap::{
    command::{self, Head},
    frame::{self, Bounds, CommandFramer, Cut, FrameError, Literal, Skip},
    verb::Numbers,
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
    /// DONE.
    Idle,
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
    /// The IDLE that runs.
    idle: Option<Tag>,
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
            idle: None,
            heard: now,
            told: now,
        }
    }

    pub(super) fn wants(&self) -> bool {
        self.held.is_none() && !matches!(self.down, Down::AwaitContinuation) && self.has_room()
    }

    /// Whether more words of ours may wait for a boundary.
    pub(super) fn has_room(&self) -> bool {
        self.pending.len() < Self::MOST_PENDING
    }

    pub(super) fn is_idle(&self) -> bool {
        self.idle.is_some()
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
        self.client.holds_numbers = false;
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
                Down::AwaitContinuation | Down::Carrying(_) | Down::Discarding => Step::Wait,
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
            let text = format!("* CAPABILITY {}\r\n", self.plan.told.text());
            self.tell(text.as_bytes(), out);
            self.tell_done(head.tag, b"CAPABILITY done", out);
            return Step::Took(octets.len());
        }
        let level = self.plan.hears(head.verb, head.arguments, 0);
        let alone = head.verb.alone
            || level.is_some()
            || (head.verb.numbers == Numbers::Criteria && !self.numbering.is_plain());
        let most = usize::from(self.front.limits.pipelined);
        let taken = self.gate.find(head.tag).is_some();
        if taken || self.is_mid_command() || !self.gate.admits(head.verb, Owner::Client, alone, most) {
            self.client.held = Some((octets.len(), open));
            self.client.holds_numbers = head.verb.numbers != Numbers::None;
            return Step::Wait;
        }
        out.commands += 1;
        self.start(&head, octets, open, level, at, out);
        Step::Took(octets.len())
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
            () if open.is_some_and(|literal| literal.len > self.front.limits.append.0) => {
                Some(Refusal::no("TOOBIG", "literal too large"))
            }
            () if small && pushed => Some(Refusal::bad("LITERAL-: at most 4096 octets without asking")),
            () if open.is_some() && self.plan.hears(head.verb, head.arguments, 0).is_some() => {
                let too_large = "literal too large here";
                let row = head.verb.values.map(|(_, code)| Refusal::no(code, too_large));
                Some(row.unwrap_or_else(|| Refusal::bad(too_large)))
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
        open: Option<Literal>,
        level: Option<usize>,
        at: usize,
        out: &mut Effects,
    ) {
        let running = Running {
            tag: Tag::from_slice(head.tag),
            verb: head.verb,
            owner: Owner::Client,
            alone: head.verb.alone || level.is_some() || !self.numbering.is_plain(),
            written: level.is_none() && head.verb.name != "IDLE",
            complete: open.is_none(),
            tagged: false,
            followed: None,
        };
        if head.verb.name == "IDLE" {
            self.client.idle = Some(running.tag.clone());
            self.client.down = Down::Idle;
            self.gate.start(running);
            return self.tell(b"+ idling\r\n", out);
        }
        self.gate.start(running);
        match level {
            Some(level) => self.visit(level, head, octets, Owner::Client, out),
            None => self.send(head, octets, open, Some(at), out),
        }
    }

    /// A command that has visited all layers that hear it goes to the backend.
    pub(super) fn write_visited(&mut self, head: &Head<'_>, octets: &[u8], out: &mut Effects) {
        if let Some(running) = self.gate.find(head.tag) {
            running.written = true;
        }
        self.send(head, octets, None, None, out);
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
                    Shifting::Nothing => self.tell_done(head.tag, b"nothing is left of these messages", out),
                };
            }
        };
        if matches!(head.verb.name, "SELECT" | "EXAMINE") {
            self.before = Some(Box::new(std::mem::take(&mut self.numbering)));
        }
        self.witness_command(octets, out);
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
        let returns = head.arguments.get(..6).is_some_and(|word| word.eq_ignore_ascii_case(b"RETURN"));
        let set = command::first_argument(head.arguments);
        match head.verb.numbers {
            _ if !self.numbering.is_bound() => Err(issued()),
            Numbers::Criteria => match returns || names_numbers(head.arguments) {
                true => Err(issued()),
                false => Ok(None),
            },
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
