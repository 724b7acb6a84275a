//! Work of several steps, written as a straight line (architecture section 5).
//!
//!     async fn namespace(server: Server) -> Result<Ending, Refusal> {
//!         let root = server.ask(LIST, r#""" """#).await?.ok()?;
//!         ...
//!
//! A script is an `async fn` that speaks only with the server below and the store. It is polled by hand when what it waits for
//! has come, with a waker that does nothing: no runtime, no thread, the same result every time. One question at a time, or
//! several of one kind together. Requirement A4.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::{
    aside::Errand,
    effect::{Binding, Keeping, Kept, Notice, OverQuota},
    idle::Listening,
    layer::{Ask, Command, Layer, Out, Refusal, Reply},
    plan::Plan,
};
use crate::{
    imap::{
        capability::Capabilities,
        esearch,
        list::Listed,
        response::Status,
        token,
        verb::{self, Verb},
    },
    store::{Change, Changed, Entry, Found, Query},
};

const LIST: &Verb = verb::row_of("LIST");
const UID_SEARCH: &Verb = verb::row_of("UID SEARCH");

/// How a script ends well.
#[derive(Debug)]
pub enum Ending {
    /// The command is done: what stands behind `OK `.
    Done(Vec<u8>),
    /// The command goes to the server below as it came.
    Forward,
    /// The command goes to the server below with these arguments.
    ForwardAs(Vec<u8>),
    /// It goes to the server below as this one.
    ForwardTo(&'static Verb, Vec<u8>),
    /// It is IDLE, and runs: what the client wants to hear, if not everything.
    Idle(Option<Listening>),
}

impl Ending {
    /// The command is done.
    pub fn done(text: &str) -> Result<Self, Refusal> {
        Ok(Self::Done(text.into()))
    }
}

/// A script under way.
pub type Work = Pin<Box<dyn Future<Output = Result<Ending, Refusal>> + Send>>;

/// The command that a script is about.
#[derive(Clone, Debug)]
pub struct Given {
    /// Its row.
    pub verb: &'static Verb,
    /// The octets behind the verb, without the line's end.
    pub arguments: Vec<u8>,
    /// To which device the session belongs.
    pub device: Binding,
    /// A mailbox is selected.
    pub selected: bool,
    /// Its name, as it is on the wire.
    pub mailbox: Option<Box<[u8]>>,
    /// It is not to be changed.
    pub read_only: bool,
    /// Which one it is, counted from the beginning of the session.
    pub epoch: u32,
    tag: Vec<u8>,
    octets: Vec<u8>,
}

impl Given {
    /// The command that visits a layer.
    pub fn new(command: Command<'_>, out: &Out<'_>) -> Self {
        Self {
            verb: command.verb,
            arguments: command.arguments.to_vec(),
            device: out.device(),
            selected: out.is_selected(),
            mailbox: out.mailbox().map(Into::into),
            read_only: out.is_read_only(),
            epoch: out.epoch(),
            tag: command.tag.to_vec(),
            octets: command.octets.to_vec(),
        }
    }

    /// What it is called.
    pub fn tag(&self) -> &[u8] {
        &self.tag
    }

    fn command(&self) -> Command<'_> {
        Command { tag: &self.tag, verb: self.verb, octets: &self.octets, arguments: &self.arguments }
    }
}

/// A layer all of whose commands are scripts.
pub fn layer(run: fn(Given, Server) -> Work) -> Box<dyn Layer> {
    Box::new(Scripted { run, script: None })
}

struct Scripted {
    run: fn(Given, Server) -> Work,
    script: Option<Script>,
}

impl Layer for Scripted {
    fn command(&mut self, command: Command<'_>, out: &mut Out<'_>) {
        self.script = Script::begin(command, out, self.run);
    }

    fn reply(&mut self, ask: Ask, reply: Reply<'_>, out: &mut Out<'_>) {
        Script::hear(&mut self.script, ask, reply, out);
    }
}

/// A script and what it waits for.
pub struct Script {
    given: Given,
    work: Work,
    server: Server,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("verb", &self.given.verb.name).finish()
    }
}

impl Script {
    /// Begins one for the command in hand; `None`: it is over already.
    pub fn begin(command: Command<'_>, out: &mut Out<'_>, run: impl FnOnce(Given, Server) -> Work) -> Option<Self> {
        let given = Given::new(command, out);
        let time_of_day = out.time_of_day();
        let server = Server { desk: Arc::default(), plan: Arc::clone(out.plan()), level: out.level(), time_of_day };
        let work = run(given.clone(), server.clone());
        let mut script = Self { given, work, server };
        (!script.go_on(out)).then_some(script)
    }

    /// Gives an answer to the script that runs here; when it is over, nothing is left of it.
    pub fn hear(script: &mut Option<Self>, ask: Ask, reply: Reply<'_>, out: &mut Out<'_>) {
        if let Some(running) = script
            && running.server.desk().takes(ask, reply)
            && running.go_on(out)
        {
            *script = None;
        }
    }

    /// Lets it go on until it waits again. The answer is whether it is over.
    fn go_on(&mut self, out: &mut Out<'_>) -> bool {
        let poll = self.work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let mut desk = self.server.desk();
        for want in std::mem::take(&mut desk.wants) {
            match want {
                Want::Answer(line) => out.answer(line),
                Want::Ask(verb, arguments) => desk.waits_for(out.ask(verb, arguments)),
                Want::Follow(None) => desk.waits_for(out.follow()),
                Want::Follow(Some((verb, arguments))) => {
                    desk.waits_for(out.follow_as(&self.given.command(), verb, &arguments));
                }
                Want::Aside(errand) => desk.waits_for(out.aside(errand)),
                Want::Keep(Keeping::Save(change)) => desk.waits_for(out.save(change)),
                Want::Keep(Keeping::Load(query)) => desk.waits_for(out.load(query)),
                Want::Publish(what) => out.publish(what),
                Want::Bind(device) => out.bind(device),
                Want::Listen(listening) => out.listen(listening),
            }
        }
        match poll {
            Poll::Pending => return false,
            Poll::Ready(Ok(Ending::Done(text))) => out.done(text),
            Poll::Ready(Ok(Ending::Forward)) => out.forward(),
            Poll::Ready(Ok(Ending::Idle(listening))) => out.idle(listening),
            Poll::Ready(Ok(Ending::ForwardAs(arguments))) => {
                out.forward_as(&self.given.command(), self.given.verb, &arguments);
            }
            Poll::Ready(Ok(Ending::ForwardTo(verb, arguments))) => {
                out.forward_as(&self.given.command(), verb, &arguments);
            }
            Poll::Ready(Err(why)) => out.refuse(why),
        }
        true
    }
}

/// The server below, and the store, as a script speaks with them.
#[derive(Clone, Debug)]
pub struct Server {
    desk: Arc<Mutex<Desk>>,
    plan: Arc<Plan>,
    level: usize,
    time_of_day: fn() -> i64,
}

/// What the server below says to a question.
#[derive(Debug)]
pub struct Answers {
    /// The untagged responses that answer it, with their literals, without their ends.
    pub parts: Vec<Vec<u8>>,
    /// What a UID SEARCH found.
    pub found: esearch::Found,
    /// How it ended.
    pub status: Status,
    /// What stands behind the status.
    pub text: Vec<u8>,
}

impl Answers {
    /// A refusal of the server below becomes ours.
    pub fn ok(self) -> Result<Self, Refusal> {
        if self.status == Status::Ok { Ok(self) } else { Err(Refusal::of_backend(self.status)) }
    }

    /// The backend's word on what the client wanted: as it came.
    pub fn passed_on(self) -> Result<Self, Refusal> {
        match self.status {
            Status::Ok => Ok(self),
            status => {
                let text = String::from_utf8_lossy(&self.text).into_owned().into();
                Err(Refusal { status, code: "".into(), text })
            }
        }
    }
}

/// What a script and its layer have to say to each other.
#[derive(Debug, Default)]
struct Desk {
    wants: Vec<Want>,
    /// The questions that wait, and how those of them ended that have.
    asks: Vec<(Ask, Option<Outcome>)>,
    parts: Vec<Vec<u8>>,
    found: esearch::Found,
    /// Octets of these parts.
    held: usize,
}

#[derive(Debug)]
enum Want {
    Answer(Vec<u8>),
    Ask(&'static Verb, Vec<u8>),
    Follow(Option<(&'static Verb, Vec<u8>)>),
    Aside(Errand),
    Keep(Keeping),
    Publish(Notice),
    Bind(Binding),
    Listen(Option<Listening>),
}

#[derive(Debug)]
enum Outcome {
    Done(Status, Vec<u8>),
    Kept(Kept, i64),
    Unavailable,
    TooMuch,
    Lost,
}

impl Outcome {
    /// The end of a question to the server below.
    fn done(self) -> Result<(Status, Vec<u8>), Refusal> {
        match self {
            Self::Done(status, text) => Ok((status, text)),
            Self::TooMuch => Err(Refusal::no("LIMIT", "the backend has more to say than we can hold")),
            Self::Kept(..) | Self::Unavailable | Self::Lost => Err(Refusal::unanswered()),
        }
    }
}

impl Desk {
    /// Octets that one question, or several together, may make us hold (architecture 4.12).
    const MOST: usize = 2 << 20;

    fn waits_for(&mut self, ask: Ask) {
        self.asks.push((ask, None));
    }

    /// How the questions ended, in their order, when all of them have.
    fn outcomes(&mut self) -> Option<Vec<Outcome>> {
        if self.asks.is_empty() || !self.has_ended() {
            return None;
        }
        let outcomes: Vec<_> = std::mem::take(&mut self.asks).into_iter().filter_map(|(_, outcome)| outcome).collect();
        self.held = 0;
        if !outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done(..))) {
            self.parts = Vec::new();
        }
        Some(outcomes)
    }

    fn has_ended(&self) -> bool {
        self.asks.iter().all(|(_, outcome)| outcome.is_some())
    }

    /// Takes an answer. Whether the script can go on.
    fn takes(&mut self, ask: Ask, reply: Reply<'_>) -> bool {
        let Some(at) = self.asks.iter().position(|(waits, outcome)| *waits == ask && outcome.is_none()) else {
            return false;
        };
        let outcome = match reply {
            Reply::Part(line) => {
                self.held += line.len();
                if self.held <= Self::MOST {
                    self.parts.push(line.to_vec());
                }
                return false;
            }
            Reply::Found(found) => {
                self.found = found.clone();
                return false;
            }
            Reply::TooLong => {
                self.held = Self::MOST + 1;
                return false;
            }
            Reply::Done(..) if self.held > Self::MOST => Outcome::TooMuch,
            Reply::Done(status, text) => Outcome::Done(status, text.to_vec()),
            Reply::Kept(kept, at) => Outcome::Kept(kept.clone(), at),
            Reply::Unavailable => Outcome::Unavailable,
            Reply::Lost => Outcome::Lost,
        };
        self.asks[at].1 = Some(outcome);
        self.has_ended()
    }
}

impl Server {
    /// Questions that are asked together: half of what may be open in a session (architecture section 3).
    pub const TOGETHER: usize = 16;

    /// A script that panicked is over, and nobody else has a desk of it.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server below can do.
    pub fn below(&self) -> &Capabilities {
        self.plan.below(self.level)
    }

    /// What stands in the stack, and what the client was told.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Tells whoever gave the command an untagged line, given without its end.
    pub fn answer(&self, line: Vec<u8>) {
        self.desk().wants.push(Want::Answer(line));
    }

    /// Tells the other sessions of the account.
    pub fn publish(&self, notice: Notice) {
        self.desk().wants.push(Want::Publish(notice));
    }

    /// The session belongs to this device from now on.
    pub fn bind(&self, device: Binding) {
        self.desk().wants.push(Want::Bind(device));
    }

    /// The client has said NOTIFY, and wants to hear this of the selected mailbox at any time.
    pub fn listen(&self, listening: Option<Listening>) {
        self.desk().wants.push(Want::Listen(listening));
    }

    /// Asks the server below. Literals stand in the arguments as a client would write them.
    pub async fn ask(&self, verb: &'static Verb, arguments: impl Into<Vec<u8>>) -> Result<Answers, Refusal> {
        self.answers(Want::Ask(verb, arguments.into())).await
    }

    /// Asks the server below several questions of one kind, whose answers name what they answer, together: what it says to all of
    /// them, and how each ended. Where a layer below hears one they are asked one after the other: it has one in hand.
    pub async fn ask_all(
        &self,
        verb: &'static Verb,
        questions: Vec<Vec<u8>>,
    ) -> Result<(Vec<Vec<u8>>, Vec<(Status, Vec<u8>)>), Refusal> {
        let heard = |arguments: &Vec<u8>| self.plan.hears(verb, arguments, self.level + 1).is_some();
        let together = if !verb.named || questions.iter().any(heard) { 1 } else { Self::TOGETHER };
        let (mut parts, mut ends) = (Vec::new(), Vec::new());
        for some in questions.chunks(together) {
            let wants = some.iter().map(|arguments| Want::Ask(verb, arguments.clone()));
            for outcome in self.outcomes(wants.collect()).await {
                ends.push(outcome.done()?);
            }
            parts.append(&mut self.desk().parts);
        }
        Ok((parts, ends))
    }

    /// Asks the server below for the names that match (RFC 3501 6.3.8). What is none was not asked for, and goes to whoever gave
    /// the command: a server may tell its news at any time.
    pub async fn list(&self, pattern: &[u8]) -> Result<Vec<Listed>, Refusal> {
        let mut arguments = b"\"\" ".to_vec();
        token::write_string(pattern, &mut arguments);
        let answers = self.ask(LIST, arguments).await?.ok()?;
        let mut names = Vec::new();
        for line in answers.parts {
            match Listed::parse(&line) {
                Some(listed) => names.push(listed),
                None => self.answer(line),
            }
        }
        Ok(names)
    }

    /// Asks the server below which messages meet these criteria, told by UID.
    pub async fn search(&self, criteria: &[u8]) -> Result<esearch::Found, Refusal> {
        Ok(self.ask(UID_SEARCH, criteria).await?.passed_on()?.found)
    }

    /// The time of day, in seconds since 1970.
    pub fn time_of_day(&self) -> i64 {
        (self.time_of_day)()
    }

    /// Sends the command down as it came, and waits for its end: what answers it goes to the client, but for the last word.
    pub async fn follow(&self) -> Result<Answers, Refusal> {
        self.answers(Want::Follow(None)).await
    }

    /// The same, as this one with these arguments.
    pub async fn follow_as(&self, verb: &'static Verb, arguments: Vec<u8>) -> Result<Answers, Refusal> {
        self.answers(Want::Follow(Some((verb, arguments)))).await
    }

    /// Asks in another mailbox, on a connection of its own.
    pub async fn aside(&self, errand: Errand) -> Result<Answers, Refusal> {
        self.answers(Want::Aside(errand)).await
    }

    async fn answers(&self, want: Want) -> Result<Answers, Refusal> {
        let (status, text) = self.outcome(want).await.done()?;
        let mut desk = self.desk();
        let (parts, found) = (std::mem::take(&mut desk.parts), std::mem::take(&mut desk.found));
        Ok(Answers { parts, found, status, text })
    }

    /// Asks the store to keep this; when it has said so, it is on the disk.
    pub async fn save(&self, change: Change) -> Result<Result<Changed, OverQuota>, Refusal> {
        match self.keep(Keeping::Save(change)).await? {
            (Kept::Saved(changed), _) => Ok(Ok(changed)),
            (Kept::OverQuota(over), _) => Ok(Err(over)),
            (Kept::Found(_), _) => Err(unavailable()),
        }
    }

    /// Asks the store for entries; the time of day in seconds since 1970 comes with them.
    pub async fn entries(&self, query: Query) -> Result<(Vec<Entry>, i64), Refusal> {
        match self.keep(Keeping::Load(query)).await? {
            (Kept::Found(Found::Entries(entries)), at) => Ok((entries, at)),
            _ => Err(unavailable()),
        }
    }

    async fn keep(&self, keeping: Keeping) -> Result<(Kept, i64), Refusal> {
        match self.outcome(Want::Keep(keeping)).await {
            Outcome::Kept(kept, at) => Ok((kept, at)),
            _ => Err(unavailable()),
        }
    }

    async fn outcome(&self, want: Want) -> Outcome {
        self.outcomes(vec![want]).await.pop().unwrap_or(Outcome::Lost)
    }

    async fn outcomes(&self, wants: Vec<Want>) -> Vec<Outcome> {
        self.desk().wants.extend(wants);
        poll_fn(|_| self.desk().outcomes().map_or(Poll::Pending, Poll::Ready)).await
    }
}

fn unavailable() -> Refusal {
    Refusal::no("UNAVAILABLE", "the proxy's store is not available; try again later")
}
