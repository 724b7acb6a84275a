//! The backend edge: commands become octets, with literals as the backend reads them; its lines become facts and answers.
//!
//!     C: a LOGIN-like {3+}      the client pushes                S: * 5 EXPUNGE     a fact: told, or kept untold
//!     >  a LOGIN-like {3}       the backend cannot: it is asked  S: * LIST ...      an answer: whose?
//!     <  + go on                                                 S: a OK done       the end of a command
//!
//! `{n+}` is written only where the backend said that it reads it, in commands that it knows (architecture 4.5): servers run
//! the content of a literal as commands when they did not expect one.

use std::time::{Duration, Instant};

use memchr::memchr;

use super::{
    client_edge::Down,
    effect::{Effect, Effects, End, Fault, Notice, Side},
    gate::{Owner, Running, Tag},
    idle::{self, BackendIdle},
    layer::{Ask, Reply},
    mapping::Load,
    open::Open,
};
use crate::imap::{
    esearch::{Esearch, Reader},
    fetch::Fetched,
    frame::{self, Literal},
    response::{self, Kind, Line, Status},
    uid_set::UidSet,
    verb::Verb,
};

/// Where in a response the backend's next octets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Up {
    /// Between two responses.
    Boundary,
    /// In a line too long to be held: its rest.
    Line(Flow),
    /// In a literal.
    Literal(Flow),
    /// In the words behind a literal.
    Words(Flow),
}

/// What becomes of a response: its head decides, the rest follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// On to the client.
    Pass,
    /// Not for the client.
    Drop,
    /// What a search of ours found: read number by number, never held.
    Found,
}

/// A command that waits for a `+` before it may go on.
#[derive(Debug)]
pub(super) struct Owed {
    tag: Tag,
    /// The command as the backend reads it.
    octets: Vec<u8>,
    /// Where it has to stop and wait, ascending; the first one is where it stands now.
    stops: Vec<usize>,
    /// The literal behind it that the client still has.
    open: Option<Literal>,
}

/// The state of the backend's side.
#[derive(Debug)]
pub(super) struct BackendEdge {
    pub(super) up: Up,
    pub(super) owed: Option<Box<Owed>>,
    /// With what our own tags begin.
    pub(super) prefix: Tag,
    tags: u32,
    pub(super) said_bye: bool,
    /// What a search of ours has found so far.
    finding: Option<Box<Reader>>,
    /// The message that the client is told of last.
    fetching: u32,
    /// When it was last heard.
    pub(super) heard: Instant,
}

impl BackendEdge {
    /// A longer line is passed on piece by piece, if it may pass at all.
    const HELD_LINE: usize = 8 << 10;
    /// A line that we have to read whole, an answer to a question of ours, is not longer than this.
    const LONGEST_LINE: usize = 32 << 10;
    /// What stays behind of a piece: a literal may be announced there.
    const ANNOUNCEMENT: usize = 32;

    pub(super) fn new(prefix: &[u8], now: Instant) -> Self {
        Self {
            up: Up::Boundary,
            owed: None,
            prefix: Tag::from_slice(prefix),
            tags: 0,
            said_bye: false,
            finding: None,
            fetching: 0,
            heard: now,
        }
    }

    /// A distance between two looks, as it is to be this time: no two sessions have the same.
    pub(super) fn spread(&self, every: Duration) -> Duration {
        idle::spread(every, &self.prefix, self.tags)
    }

    /// A tag of ours: nobody else's begins so.
    pub(super) fn next_tag(&mut self) -> Tag {
        self.tags += 1;
        let mut tag = self.prefix.clone();
        tag.extend_from_slice(self.tags.to_string().as_bytes());
        tag
    }
}

// Down: commands.
impl Open {
    /// Writes a command, or more words of one. `at` is where it stands in the client's octets, if nothing of it was changed.
    pub(super) fn write(
        &mut self,
        octets: &[u8],
        at: Option<usize>,
        tag: &[u8],
        verb: &'static Verb,
        open: Option<Literal>,
        out: &mut Effects,
    ) {
        let (text, stops) = match octets.ends_with(b"}\r\n") || memchr(b'\n', octets) != Some(octets.len() - 1) {
            true => self.reframe(octets, verb, open.as_ref()),
            false => (None, Vec::new()),
        };
        if let Some(stop) = stops.first() {
            let octets = text.unwrap_or_else(|| octets.to_vec());
            out.put(Side::Backend, &octets[..*stop]);
            if open.is_some() {
                self.client.down = Down::AwaitContinuation;
            }
            self.backend.owed = Some(Box::new(Owed { tag: Tag::from_slice(tag), octets, stops, open }));
            return;
        }
        match (text, at) {
            (Some(text), _) => out.put(Side::Backend, &text),
            (None, Some(at)) => out.pass(Side::Client, at, octets.len()),
            (None, None) => out.put(Side::Backend, octets),
        }
        if let Some(literal) = open {
            self.carry(tag, literal, out);
        }
    }

    /// The command with its literals announced as the backend reads them (`None`: as they are), and where it has to wait.
    fn reframe(&self, octets: &[u8], verb: &'static Verb, open: Option<&Literal>) -> (Option<Vec<u8>>, Vec<usize>) {
        let mut text = Vec::with_capacity(octets.len());
        let mut stops = Vec::new();
        let (mut from, mut changed) = (0, false);
        for (end, literal) in frame::literals(octets) {
            // A client that waits for the backend's word on a big literal is to hear it before it sends an octet.
            let asks = end == octets.len() && open.is_some() && literal.synchronising;
            let push = !asks && self.plan.may_push(verb, literal.len, literal.binary);
            text.extend_from_slice(&octets[from..end - literal.mark]);
            literal.announce(!push, &mut text);
            changed |= literal.synchronising == push;
            from = end;
            if !push {
                stops.push(text.len());
            }
        }
        text.extend_from_slice(&octets[from..]);
        (changed.then_some(text), stops)
    }

    /// The client's literal goes to the backend.
    fn carry(&mut self, tag: &[u8], literal: Literal, out: &mut Effects) {
        out.push(Effect::Connect { from: Side::Client, len: literal.len });
        self.client.down = Down::Carrying(Tag::from_slice(tag));
    }

    /// The backend wants the next octets of somebody.
    fn continuation(&mut self, at: usize, len: usize, out: &mut Effects) {
        if let Some(owed) = self.backend.owed.take() {
            return self.go_on(*owed, at, len, out);
        }
        match self.news.idle {
            BackendIdle::Starting { since, ending } => {
                self.news.idle = BackendIdle::On { since };
                if ending || !self.is_listening() {
                    self.idle_off(out);
                }
            }
            _ if matches!(self.client.down, Down::Command) && self.gate.client_waits() => {
                out.pass(Side::Backend, at, len);
                self.client.down = Down::Raw;
                self.resume = true;
            }
            // Nobody waits for it: an IDLE that says `+` twice, or a server that says "go ahead" to nothing.
            _ => {}
        }
    }

    /// The next piece of a command that waited.
    fn go_on(&mut self, mut owed: Owed, at: usize, len: usize, out: &mut Effects) {
        let from = owed.stops.remove(0);
        let to = owed.stops.first().copied().unwrap_or(owed.octets.len());
        out.put(Side::Backend, &owed.octets[from..to]);
        if !owed.stops.is_empty() {
            self.backend.owed = Some(Box::new(owed));
            return;
        }
        self.resume = true;
        if let Some(literal) = owed.open {
            if literal.synchronising {
                out.pass(Side::Backend, at, len);
            }
            self.carry(&owed.tag, literal, out);
        }
    }
}

// Up: responses.
impl Open {
    /// Takes what can be taken: whole lines, literals, and pieces of lines that are too long.
    pub(super) fn hear_backend(&mut self, octets: &[u8], out: &mut Effects) -> Result<usize, End> {
        let mut at = 0;
        while at < octets.len() {
            let rest = &octets[at..];
            let len = match memchr(b'\n', rest) {
                Some(end) => self.line(rest, end + 1, at, out)?,
                None => self.piece(rest, at, out)?,
            };
            if self.is_away() {
                return Ok(octets.len());
            }
            match len {
                0 => break,
                len => at += len,
            }
        }
        Ok(at)
    }

    /// A line that is there to its end, and as much of a literal behind it as is there too. Nothing is taken of a response
    /// that is to be read as a whole and is not all there.
    fn line(&mut self, rest: &[u8], end: usize, at: usize, out: &mut Effects) -> Result<usize, End> {
        let line = &rest[..end];
        if self.backend.up == Up::Boundary && self.is_glimpsed(line) {
            match whole(rest, end) {
                Extent::Whole(end) if !self.glimpse(Kind::Status, 0, &rest[..end]) => return Ok(end),
                Extent::Partial => return Ok(0),
                Extent::Whole(_) | Extent::TooLong => {}
            }
        }
        if self.backend.up == Up::Boundary && self.is_inquired(line) {
            match whole(rest, end) {
                Extent::Whole(end) if self.inquired(&rest[..end]) => return Ok(end),
                Extent::Partial => return Ok(0),
                Extent::Whole(_) | Extent::TooLong => {}
            }
        }
        if let (Up::Boundary, Some((level, ask))) = (self.backend.up, self.asked(line)) {
            match whole(rest, end) {
                Extent::Whole(end) => {
                    self.at_boundary(out);
                    let response = &rest[..end];
                    // What a message's flags are is a fact too, whoever has asked (architecture 4.3).
                    self.see_fetch(response, out);
                    let tells =
                        |fetched: Fetched<'_>| fetched.value("FLAGS").is_some() && !self.is_unknown(fetched.number);
                    if Fetched::parse(response).is_some_and(tells) && !self.waits_behind(response)? {
                        self.tell_fetch(response, at, out);
                    }
                    self.reply(level, ask, Reply::Part(response::text(response, 0)), out);
                    return Ok(end);
                }
                Extent::Partial => return Ok(0),
                Extent::TooLong => {}
            }
        }
        let (flow, text) = match self.backend.up {
            Up::Boundary => self.head(line, at, out)?,
            Up::Words(flow) | Up::Literal(flow) | Up::Line(flow) => {
                self.see_rest(line, out);
                if flow == Flow::Pass && self.numbering.has_untold_flags() {
                    self.outdate_flags(&Fetched::next_line(self.backend.fetching, line));
                }
                (self.follow(flow, line, at, out), false)
            }
        };
        self.backend.up = Up::Boundary;
        match frame::backend_literal(line).filter(|_| !text) {
            Some(len) => Ok(end + self.literal(&rest[end..], at + end, len, flow, out)),
            None => Ok(end),
        }
    }

    /// The rest of a response goes where its head went.
    fn follow(&mut self, flow: Flow, octets: &[u8], at: usize, out: &mut Effects) -> Flow {
        match flow {
            Flow::Pass => out.pass(Side::Backend, at, octets.len()),
            Flow::Found => self.backend.finding.get_or_insert_default().read(octets),
            Flow::Drop => {}
        }
        flow
    }

    /// A literal begins: what is here of it follows its head, the rest is carried without us.
    fn literal(&mut self, rest: &[u8], at: usize, len: u64, flow: Flow, out: &mut Effects) -> usize {
        let here = usize::try_from(len).map_or(rest.len(), |len| len.min(rest.len()));
        self.follow(flow, &rest[..here], at, out);
        let len = len - here as u64;
        self.backend.up = match len {
            0 => Up::Words(flow),
            _ => {
                out.push(match flow {
                    Flow::Pass => Effect::Connect { from: Side::Backend, len },
                    Flow::Drop | Flow::Found => Effect::Discard { from: Side::Backend, len },
                });
                Up::Literal(flow)
            }
        };
        here
    }

    /// The literal is through.
    pub(super) fn backend_carried(&mut self) -> usize {
        if let Up::Literal(flow) = self.backend.up {
            self.backend.up = Up::Words(flow);
        }
        0
    }

    /// A line whose end has not come.
    fn piece(&mut self, rest: &[u8], at: usize, out: &mut Effects) -> Result<usize, End> {
        if rest.len() <= BackendEdge::HELD_LINE {
            return Ok(0);
        }
        let flow = match self.backend.up {
            Up::Boundary if self.finds(response::line(rest)) => Flow::Found,
            Up::Boundary if self.is_read(response::line(rest)) => {
                return match rest.len() > BackendEdge::LONGEST_LINE {
                    true => Err(End::Fault(Fault::Backend("line too long"))),
                    false => Ok(0),
                };
            }
            Up::Boundary => {
                self.at_boundary(out);
                Flow::Pass
            }
            Up::Words(flow) | Up::Literal(flow) | Up::Line(flow) => flow,
        };
        let len = rest.len() - BackendEdge::ANNOUNCEMENT;
        self.follow(flow, &rest[..len], at, out);
        self.backend.up = Up::Line(flow);
        Ok(len)
    }

    /// Whether this line has to be read to its end before anything can be done with it.
    fn is_read(&self, head: Line<'_>) -> bool {
        let Line::Untagged { kind, .. } = head else { return true };
        let shifts = !self.numbering.is_plain()
            && matches!(kind, Kind::Esearch | Kind::Fetch | Kind::Search | Kind::Sort | Kind::Thread);
        let asked = !kind.is_fact() && matches!(self.gate.claimant(kind), Some(Owner::Layer(..) | Owner::Witness));
        let counts = matches!(kind, Kind::Capability | Kind::Vanished | Kind::Exists | Kind::Expunge);
        shifts || asked || counts || head.is_text()
    }

    /// Whether this line says what a search of ours has found.
    fn finds(&self, head: Line<'_>) -> bool {
        let Line::Untagged { kind: Kind::Search, .. } = head else { return false };
        matches!(self.gate.claimant(Kind::Search), Some(Owner::Layer(..) | Owner::Numbering))
    }

    /// The UIDs on their way, with those that a search has found so far.
    fn load_as_found(&mut self) -> Option<&mut Load> {
        let load = self.loading.as_deref_mut()?;
        if let Some(finding) = self.backend.finding.take() {
            load.found(finding.finish().uids);
        }
        Some(load)
    }

    /// Whether this may be the STATUS that we have asked for to hear of news: the mailbox's name may be a literal in it.
    fn is_glimpsed(&self, line: &[u8]) -> bool {
        let asked = self.gate.verb_of(Owner::Idle).is_some_and(|verb| verb.claims.has(Kind::Status));
        asked && matches!(response::line(line), Line::Untagged { kind: Kind::Status, .. })
    }

    /// Which layer has asked for this answer, if it is one.
    fn asked(&self, line: &[u8]) -> Option<(u8, Ask)> {
        if !self.gate.has_questions() {
            return None;
        }
        let Line::Untagged { kind, .. } = response::line(line) else { return None };
        let answers = kind == Kind::Fetch || !(kind.is_fact() || kind == Kind::Search);
        match self.gate.claimant(kind).filter(|_| answers)? {
            Owner::Layer(level, ask) => Some((level, Ask(ask))),
            Owner::Client | Owner::Idle | Owner::Numbering | Owner::Witness => None,
        }
    }

    /// The first line of a response. The answer says what becomes of the rest, and whether the line is text.
    fn head(&mut self, line: &[u8], at: usize, out: &mut Effects) -> Result<(Flow, bool), End> {
        let head = response::line(line);
        let text = head.is_text();
        if matches!(head, Line::Untagged { kind: Kind::Expunge | Kind::Vanished | Kind::Fetch, .. })
            && !self.news.is_comparing()
        {
            self.news.stir();
        }
        match head {
            Line::Untagged { kind: Kind::Fetch, .. } if self.passes_fetches() => {
                out.pass(Side::Backend, at, line.len());
                Ok((Flow::Pass, false))
            }
            Line::Untagged { kind, number } => {
                self.see_next();
                self.at_boundary(out);
                Ok((self.untagged(kind, number, line, at, out)?, text))
            }
            Line::Tagged { tag, status } => {
                self.at_boundary(out);
                self.tagged(tag, status, line, at, out)?;
                Ok((Flow::Drop, text))
            }
            Line::Continuation => {
                self.continuation(at, line.len(), out);
                Ok((Flow::Drop, text))
            }
        }
    }

    fn untagged(&mut self, kind: Kind, number: u32, line: &[u8], at: usize, out: &mut Effects) -> Result<Flow, End> {
        self.witness_untagged(kind, line, out);
        if self.is_left(kind, line) {
            return Ok(Flow::Drop);
        }
        if !self.glimpse(kind, number, line) {
            return Ok(Flow::Drop);
        }
        match kind {
            Kind::Exists | Kind::Expunge | Kind::Fetch if self.recounts(kind, number, line) => return Ok(Flow::Drop),
            Kind::Exists if self.shrinks(number) => return Ok(Flow::Drop),
            // What GNU mailutils says in the place of EXPUNGE, with numbers that nobody can rely on.
            Kind::Other if self.profile.silent_expunge && response::text(line, 2) == b"EXPUNGED" => {
                return Ok(Flow::Drop);
            }
            Kind::Exists => {
                self.counted(number, out);
                return Ok(Flow::Drop);
            }
            // It says nothing that a client has to know, and of messages that it may not know yet.
            Kind::Recent if self.numbering.has_unannounced() || !self.may_tell().arrivals => return Ok(Flow::Drop),
            Kind::Expunge => return Ok(self.expunge(number, line, at, out)),
            Kind::Vanished => return self.vanished(line, at, out),
            Kind::Fetch => {
                self.see_fetch(line, out);
                let fetched = Fetched::parse(line).filter(|_| self.loading.is_some());
                if fetched.is_some_and(|fetched| !self.learn(&fetched, out)) {
                    return Ok(Flow::Drop);
                }
                if self.waits_behind(line)? || self.holds_fetch(number, line) {
                    return Ok(Flow::Drop);
                }
                if self.is_unknown(number) && !self.reveal(out) {
                    return Ok(Flow::Drop);
                }
                self.told_flags();
                if let Some(line) = self.with_uid(number, line) {
                    return Ok(replace(out, &line));
                }
                self.tell_fetch(line, at, out);
                return Ok(Flow::Pass);
            }
            Kind::Search if self.finds(response::line(line)) => {
                return Ok(self.follow(Flow::Found, &line[2..], at, out));
            }
            Kind::Search | Kind::Sort | Kind::Thread if !self.numbering.is_plain() && self.gate.answers_numbers() => {
                let start = out.text.len();
                self.numbering.up_all(line, &mut out.text);
                out.put_from(Side::Client, start);
                return Ok(Flow::Drop);
            }
            Kind::Esearch if !self.numbering.is_plain() && self.gate.answers_numbers() => {
                let said =
                    Esearch::parse(line.trim_ascii_end()).ok_or(End::Fault(Fault::Backend("unknown ESEARCH")))?;
                if !said.uid {
                    return Ok(replace(out, &[&self.numbering.raised(said).write(), b"\r\n".as_slice()].concat()));
                }
            }
            Kind::Capability | Kind::Preauth => return Ok(Flow::Drop),
            Kind::Ok | Kind::No | Kind::Bad => {
                self.note_uids(line);
                if let Some(line) = self.own_code(None, line) {
                    return Ok(replace(out, &line));
                }
            }
            Kind::Bye if self.may_return() => {
                self.leave(out);
                return Ok(Flow::Drop);
            }
            Kind::Bye => self.backend.said_bye = true,
            _ => {
                // A layer has asked for it, and it is too long to be held.
                if let Some((level, ask)) = self.asked(line) {
                    self.reply(level, ask, Reply::TooLong, out);
                    return Ok(Flow::Drop);
                }
                if kind == Kind::Status {
                    self.show_status(line, out);
                }
            }
        }
        out.pass(Side::Backend, at, line.len());
        Ok(Flow::Pass)
    }

    /// Whether a FETCH waits behind removals of which nobody knows the place: its number means nothing before them. One with a
    /// literal is not kept: the client has not asked for it.
    fn waits_behind(&mut self, line: &[u8]) -> Result<bool, End> {
        let Line::Untagged { number, .. } = response::line(line) else { return Ok(false) };
        let waits = !self.numbering.is_certain(number) && self.gate.claimant(Kind::Fetch) != Some(Owner::Client);
        let whole = memchr(b'\n', line) == Some(line.len() - 1) && frame::backend_literal(line).is_none();
        match waits && whole && !self.numbering.hold_behind(line) {
            true => Err(End::Fault(Fault::Backend("too many removals at the wrong time"))),
            false => Ok(waits),
        }
    }

    /// Whether FETCH responses pass as they come.
    fn passes_fetches(&self) -> bool {
        let tells_all = !self.leaving && self.client.listening.is_none() && self.client.notify.is_none();
        self.numbering.is_plain() && self.loading.is_none() && tells_all && self.watch.is_none()
    }

    /// Whether a FETCH is not for the client now: of flags that others have changed, or of a message that it does not know.
    fn holds_fetch(&mut self, number: u32, line: &[u8]) -> bool {
        let told = self.may_tell();
        // What answers a question about UIDs, the client has not asked for.
        let asked = self.loading.is_none() && !self.news.is_looking() && self.gate.has_asked(Kind::Fetch);
        if asked || (told.arrivals && told.flags) {
            return false;
        }
        let about_flags =
            |name: &[u8]| [&b"UID"[..], b"FLAGS", b"MODSEQ"].iter().any(|item| name.eq_ignore_ascii_case(item));
        let Some(fetched) = Fetched::parse(line).filter(|fetched| fetched.names().all(about_flags)) else {
            return false;
        };
        let known = number <= self.numbering.count() && fetched.value("FLAGS").is_some();
        let digits = line[2..].iter().take_while(|octet| octet.is_ascii_digit()).count();
        !told.flags && known && self.numbering.hold_flags(number, &line[2 + digits..])
    }

    /// Flags that others have changed, with the UID that a client of NOTIFY is to read there (RFC 5465 5.1); `None`: as it came.
    fn with_uid(&self, number: u32, line: &[u8]) -> Option<Vec<u8>> {
        if self.client.notify.is_none() || self.gate.has_asked(Kind::Fetch) {
            return None;
        }
        let fetched = Fetched::parse(line).filter(|fetched| fetched.uid().is_none())?;
        fetched.value("FLAGS")?;
        let uid = self.numbering.uids()?.at(number)?;
        let items = &line[memchr(b'(', line)? + 1..];
        let head = format!("* {} FETCH (UID {uid} ", self.numbering.up(number));
        Some([head.as_bytes(), items].concat())
    }

    /// Whether the client was not told of this message.
    fn is_unknown(&self, number: u32) -> bool {
        self.numbering.has_unannounced() && number > self.numbering.announced()
    }

    /// What the client has asked for is of a message that it was not told of: it is told first. Whether it has asked.
    fn reveal(&mut self, out: &mut Effects) -> bool {
        let asked = self.gate.claimant(Kind::Fetch) == Some(Owner::Client);
        if asked {
            let told = self.numbering.exists(self.numbering.count());
            self.tell(format!("* {told} EXISTS\r\n").as_bytes(), out);
        }
        asked
    }

    /// Flags that the client was not told of are old, if this tells newer ones.
    fn outdate_flags(&mut self, fetched: &Fetched<'_>) {
        if fetched.value("FLAGS").is_some() {
            self.numbering.outdate_flags(fetched.number, fetched.uid());
        }
    }

    /// A FETCH, or its first line, goes to the client under the number that the client knows.
    fn tell_fetch(&mut self, line: &[u8], at: usize, out: &mut Effects) {
        let Line::Untagged { number, .. } = response::line(line) else { return };
        self.backend.fetching = number;
        if self.numbering.has_untold_flags()
            && let Some(fetched) = Fetched::parse(line).or_else(|| Fetched::first_line(line))
        {
            self.outdate_flags(&fetched);
        }
        let digits = line[2..].iter().take_while(|octet| octet.is_ascii_digit()).count();
        out.put(Side::Client, format!("* {}", self.numbering.up(number)).as_bytes());
        out.pass(Side::Backend, at + 2 + digits, line.len() - 2 - digits);
    }

    /// A message is gone: told now, or kept until the client may hear it (RFC 3501 7.4.1).
    fn expunge(&mut self, number: u32, line: &[u8], at: usize, out: &mut Effects) -> Flow {
        if let Some(load) = self.load_as_found() {
            load.expunged(number);
        }
        self.see_expunge(number, out);
        if !self.may_tell_expunge() {
            // Of a message that is not there, nobody need hear.
            self.numbering.hold(number);
            return Flow::Drop;
        }
        match self.numbering.expunge(number) {
            None => Flow::Drop,
            Some(told) if told == number => self.follow(Flow::Pass, line, at, out),
            Some(told) => replace(out, format!("* {told} EXPUNGE\r\n").as_bytes()),
        }
    }

    /// The same by UID (RFC 7162 section 3.2.10); VANISHED (EARLIER) tells of the past and moves no number.
    fn vanished(&mut self, line: &[u8], at: usize, out: &mut Effects) -> Result<Flow, End> {
        let uids = response::text(line, 2);
        if uids.starts_with(b"(") {
            return Ok(self.follow(Flow::Pass, line, at, out));
        }
        if let (Some(load), Some(gone)) = (self.load_as_found(), UidSet::parse(uids)) {
            load.vanished(&gone);
        }
        if let (true, Some(gone)) = (self.sees(), UidSet::parse(uids)) {
            self.see_gone(gone, out);
        }
        match self.numbering.hold_vanished(line, uids) {
            true => {
                self.at_boundary(out);
                Ok(Flow::Drop)
            }
            false => Err(End::Fault(Fault::Backend("too many removals at the wrong time"))),
        }
    }

    /// A command has ended.
    fn tagged(&mut self, tag: &[u8], status: Status, line: &[u8], at: usize, out: &mut Effects) -> Result<(), End> {
        let Some(&mut Running { owner, verb, complete, followed, .. }) = self.gate.find(tag) else { return Ok(()) };
        self.resume = true;
        let renamed = self.witness_end(tag, status, line, out);
        self.see_end(tag, status, line, out);
        if status == Status::Ok && matches!(verb.name, "CREATE" | "DELETE" | "RENAME" | "SUBSCRIBE" | "UNSUBSCRIBE") {
            out.push(Effect::Publish(Box::new(Notice::Names(renamed))));
        }
        if out.followed && matches!(verb.name, "CLOSE" | "DELETE" | "EXPUNGE" | "MOVE" | "UID EXPUNGE" | "UID MOVE") {
            self.stir_quotas();
        }
        if let Some((level, ask)) = followed {
            if self.backend.owed.as_ref().is_some_and(|owed| owed.tag.as_slice() == tag)
                && let Some(literal) = self.backend.owed.take().and_then(|owed| owed.open)
            {
                self.gate.find(tag).into_iter().for_each(|running| running.complete = true);
                self.discard(&literal, out);
            }
            // The layer has it in hand again, and may ask before it ends it.
            self.gate.find(tag).into_iter().for_each(|running| running.written = false);
            self.reply(level, Ask(ask), Reply::Done(status, response::text(line, 2)), out);
            return Ok(());
        }
        match owner {
            Owner::Client if self.withhold(tag, line, out) => {}
            Owner::Client => {
                match self.own_code(Some(tag), line) {
                    Some(line) => out.put(Side::Client, &line),
                    None => out.pass(Side::Backend, at, line.len()),
                }
                if complete {
                    self.gate.end(tag);
                }
                self.abandon(tag, out);
                match (verb.name, status) {
                    ("SELECT" | "EXAMINE", status) => self.opened(status, response::text(line, 2)),
                    ("CLOSE" | "UNSELECT", Status::Ok) => self.closed(),
                    ("LOGOUT", Status::Ok) => return Err(End::Logout),
                    _ => {}
                }
            }
            Owner::Idle => {
                self.gate.end(tag);
                self.looked(verb, status, out)?;
            }
            Owner::Numbering => {
                self.gate.end(tag);
                self.load_as_found();
                self.loaded(status, out)?;
            }
            Owner::Witness => {
                self.gate.end(tag);
                self.inquiry_ended(Some(status), out);
            }
            Owner::Layer(level, ask) => {
                self.gate.end(tag);
                self.abandon(tag, out);
                if let Some(finding) = self.backend.finding.take() {
                    let found = self.numbering.known(finding.finish());
                    self.reply(level, Ask(ask), Reply::Found(&found), out);
                }
                self.reply(level, Ask(ask), Reply::Done(status, response::text(line, 2)), out);
                if let Some(count) = self.shrunk.take() {
                    self.ask_all(count, out);
                }
            }
        }
        Ok(())
    }

    /// A command of the client's has ended while the backend owed it a `+`, or while its literal is on the way.
    fn abandon(&mut self, tag: &[u8], out: &mut Effects) {
        if self.backend.owed.as_ref().is_some_and(|owed| owed.tag.as_slice() == tag) {
            let open = self.backend.owed.take().and_then(|owed| owed.open);
            self.gate.end(tag);
            if let Some(literal) = open {
                self.discard(&literal, out);
            }
        } else if let Some(running) = self.gate.find(tag) {
            // An early NO has passed up; the backend counts the octets of the literal all the same (architecture 4.12).
            running.tagged = true;
        }
    }
}

/// How far a response reaches that has to be read as a whole.
enum Extent {
    /// To its end, with all its literals.
    Whole(usize),
    /// Beyond what is there.
    Partial,
    /// Beyond what we hold.
    TooLong,
}

/// The extent of the response at the front of these octets, whose first line ends at `end`.
fn whole(octets: &[u8], mut end: usize) -> Extent {
    /// Two values of the largest size that we ask for, and the names around them.
    const LONGEST: usize = 192 << 10;
    let mut start = 0;
    while let Some(len) = frame::backend_literal(&octets[start..end]) {
        start = usize::try_from(len).map_or(usize::MAX, |len| end.saturating_add(len));
        if start > LONGEST {
            return Extent::TooLong;
        }
        match octets.get(start..).and_then(|rest| memchr(b'\n', rest)) {
            Some(at) => end = start + at + 1,
            None => return Extent::Partial,
        }
    }
    Extent::Whole(end)
}

/// The response is this instead.
fn replace(out: &mut Effects, line: &[u8]) -> Flow {
    out.put(Side::Client, line);
    Flow::Drop
}
