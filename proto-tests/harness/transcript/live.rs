//! A transcript at a real server: the same file, by meaning.
//!
//! A server has words, an order and a clock of its own. So what is compared is what responses say: the items of FETCH, STATUS
//! and ESEARCH in any order; of tagged lines and `* OK` the word and the code; which messages EXPUNGE takes away. `\Recent`
//! and RECENT are a server's to give. Time passes by itself: `T:` waits for nothing, an expected response is waited for.
//! `O:` is a session of its own at the server, past the proxy if there is one.
//!
//! What a server does otherwise stands in the transcript: `deviates: cyrus, REASON` in the header, and the lines that are its
//! own, or not its own. Without such lines the whole transcript must fail there.
//!
//! ```text
//! deviates: cyrus, it finds nothing in nothing
//!
//! C: c SEARCH RETURN () DRAFT
//! @!cyrus S: * ESEARCH (TAG "c")
//! @cyrus S: * SEARCH
//! S: c OK ...
//! ```

mod expected;
mod others;
mod prepare;
mod talk;

use std::{io, time::Duration};

use self::{expected::Exchange, talk::Talk};
use super::{Action, Before, Failure, Pattern, Step, Transcript, pattern::Variables};

/// Where a transcript is played.
pub struct Place<'a> {
    /// What `deviates:` calls the server.
    pub server: &'a str,
    /// A user whose mailboxes nobody has used.
    pub user: &'a str,
    /// The password.
    pub password: &'a str,
    /// The time of day, in seconds since 1970.
    pub now: i64,
    /// A connection of the client; it waits so long for octets.
    pub client: &'a dyn Fn(Duration) -> io::Result<Box<dyn Stream>>,
    /// A connection of somebody else, to the server itself.
    pub behind: &'a dyn Fn(Duration) -> io::Result<Box<dyn Stream>>,
}

impl Place<'_> {
    /// What the client is offered when it has logged in.
    pub fn offers(&self) -> Result<Vec<String>, String> {
        let said = others::session(self, self.client)?.ok("CAPABILITY")?.concat();
        Ok(String::from_utf8_lossy(&said).split_whitespace().map(str::to_uppercase).collect())
    }

    /// What stands between the levels of names.
    fn separator(&self) -> Result<char, String> {
        let said = others::session(self, self.behind)?.ok("LIST \"\" \"\"")?.concat();
        let text = String::from_utf8_lossy(&said).into_owned();
        text.split('"').nth(1).and_then(|quoted| quoted.chars().next()).ok_or(format!("no separator in {text}"))
    }
}

/// A connection.
pub trait Stream: io::Read + io::Write {}

impl<T: io::Read + io::Write> Stream for T {}

/// What became of it.
#[derive(Debug)]
pub enum Outcome {
    /// Everything was as expected.
    Passed,
    /// It was not played, for this reason.
    Skipped(String),
    /// It failed, as its header says it does at this server.
    Deviates(String),
}

/// How long an expected response is waited for: a proxy may look for news every 30 seconds.
const PATIENCE: Duration = Duration::from_secs(45);

/// The same where nothing is expected to come, as the server is known not to say it.
const IMPATIENCE: Duration = Duration::from_secs(8);

impl Transcript {
    /// Plays it at a server, or says why that cannot be.
    pub fn play_live(&self, place: &Place<'_>) -> Result<Outcome, Failure> {
        if let Some(reason) = self.unplayable() {
            return Ok(Outcome::Skipped(reason));
        }
        let separator = place.separator().map_err(|why| self.not_begun(place, why))?;
        if separator != self.header.settings.separator {
            return self.separated_by(separator).play_live(place);
        }
        let of_it = |step: &&(Servers, Step)| step.0.include(place.server);
        let steps: Vec<Step> = self.everywhere.iter().filter(of_it).map(|(_, step)| step.clone()).collect();
        let deviation = self.header.deviations.iter().find(|(server, _)| server == place.server);
        let wholly = deviation.filter(|_| !self.everywhere.iter().any(|(servers, _)| servers.name(place.server)));
        let patience = if wholly.is_some() { IMPATIENCE } else { PATIENCE };
        let mut play = Live {
            transcript: self,
            place,
            client: None,
            patience,
            variables: Variables::new(),
            heard: Vec::new(),
            count: None,
            line: 0,
        };
        if let Err(Unprepared(reason)) = play.prepare() {
            return Ok(Outcome::Skipped(reason));
        }
        match (play.prologue().and_then(|()| play.steps(&steps)), wholly) {
            (Ok(()), None) => Ok(Outcome::Passed),
            (Ok(()), Some((_, reason))) => Err(play.failure((format!("a deviation: {reason}"), "none".to_owned()))),
            (Err(wrong), Some((_, reason))) => {
                Ok(Outcome::Deviates(format!("{reason} (line {}: {}, not {})", play.line, wrong.1, wrong.0)))
            }
            (Err(wrong), None) => Err(play.failure(wrong)),
        }
    }

    fn not_begun(&self, place: &Place<'_>, got: String) -> Failure {
        Failure {
            place: self.path.display().to_string(),
            run: format!("live, {}", place.server),
            expected: "a server that answers".to_owned(),
            got,
            trace: Vec::new(),
        }
    }

    /// The same where another character separates the levels of names.
    fn separated_by(&self, separator: char) -> Self {
        let mut same = self.clone();
        let (was, is) = (self.header.settings.separator, separator);
        let change = |name: &mut String| *name = name.replace(was, &is.to_string());
        let header = &mut same.header;
        header.settings.separator = is;
        let lists = [&mut header.mailboxes, &mut header.subscribed, &mut header.noselect];
        lists.into_iter().flatten().for_each(change);
        header.messages.iter_mut().for_each(|stored| change(&mut stored.mailbox));
        let names = self.header.mailboxes.iter().chain(&self.header.subscribed).filter(|name| name.contains(was));
        let mut names: Vec<String> = names.cloned().collect();
        names.push(format!("\"{was}\""));
        let replaced = |text: &str| {
            names.iter().fold(text.to_owned(), |text, name| text.replace(name, &name.replace(was, &is.to_string())))
        };
        for (_, step) in &mut same.everywhere {
            match &mut step.action {
                Action::ClientLine(text) => *text = replaced(text),
                Action::Expect(pattern) => *pattern = Pattern::new(&replaced(pattern.text())),
                _ => {}
            }
        }
        same
    }

    /// Every capability that a server needs for it.
    pub fn needs(&self) -> impl Iterator<Item = &str> {
        self.header.settings.capabilities.iter().map(String::as_str).filter(|word| *word != "IMAP4rev1")
    }

    /// Why it is about something that a real server cannot be asked to do.
    fn unplayable(&self) -> Option<String> {
        let header = &self.header;
        let is_scripted = |(_, step): &(Servers, Step)| {
            matches!(
                step.action,
                Action::Backend { .. }
                    | Action::BackendEnd
                    | Action::BackendSends(_)
                    | Action::BackendLine(_)
                    | Action::BackendCloses
                    | Action::Drain
            )
        };
        let set_up = header.proxy.iter().find(|(name, _)| name != "events");
        header
            .not_live
            .clone()
            .or_else(|| self.everywhere.iter().any(is_scripted).then(|| "its backend is scripted".to_owned()))
            .or_else(|| set_up.map(|(name, _)| format!("the proxy is set up for it, `{name}:`")))
            .or_else(|| (!header.rights.is_empty()).then(|| "nobody takes rights from the owner".to_owned()))
            .or_else(|| header.is_bounded.then(|| "the bounds of annotations are the server's".to_owned()))
    }
}

/// At which servers a line is said; the model says those of all, and those that only some do not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Servers {
    /// At all.
    All,
    /// At these only: `@dovecot,cyrus`.
    Only(Vec<String>),
    /// At all but these: `@!cyrus`.
    AllBut(Vec<String>),
}

impl Servers {
    /// Reads the mark that a line begins with, if it has one.
    pub(super) fn read(line: &str) -> Result<(Self, &str), String> {
        let Some(marked) = line.strip_prefix('@') else { return Ok((Self::All, line)) };
        let (names, line) = marked.split_once(' ').ok_or("a line behind its server")?;
        let list = |names: &str| names.split(',').map(str::to_owned).collect();
        let servers =
            names.strip_prefix('!').map_or_else(|| Self::Only(list(names)), |names| Self::AllBut(list(names)));
        Ok((servers, line))
    }

    /// The servers that are named.
    pub(super) fn names(&self) -> &[String] {
        match self {
            Self::All => &[],
            Self::Only(names) | Self::AllBut(names) => names,
        }
    }

    fn name(&self, server: &str) -> bool {
        self.names().iter().any(|name| name == server)
    }

    fn include(&self, server: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(_) => self.name(server),
            Self::AllBut(_) => !self.name(server),
        }
    }
}

/// A transcript under way.
struct Live<'a> {
    transcript: &'a Transcript,
    place: &'a Place<'a>,
    client: Option<Talk>,
    patience: Duration,
    variables: Variables,
    /// Every response that came to the client.
    heard: Vec<Vec<u8>>,
    /// How many messages it knows.
    count: Option<u32>,
    line: usize,
}

/// Why a server could not be brought into the state of the header.
struct Unprepared(String);

/// How a step fails: expected, got.
type Wrong = (String, String);

impl Live<'_> {
    fn failure(&self, (expected, got): Wrong) -> Failure {
        Failure {
            place: format!("{}:{}", self.transcript.path.display(), self.line),
            run: format!("live, {}", self.place.server),
            expected,
            got,
            trace: self.client.as_ref().map(Talk::trace).unwrap_or_default(),
        }
    }

    fn client(&mut self) -> Result<&mut Talk, Wrong> {
        self.client.as_mut().ok_or_else(|| ("a connection".to_owned(), "none".to_owned()))
    }

    /// What the header says has happened before.
    fn prologue(&mut self) -> Result<(), Wrong> {
        let place = self.place;
        let stream = (place.client)(self.patience).map_err(|error| ("a connection".to_owned(), error.to_string()))?;
        let mut talk = Talk::new(stream);
        let mut run = || {
            talk.greeting()?;
            if matches!(self.transcript.header.state, Before::Authenticated | Before::Selected(_)) {
                talk.ok(&format!("LOGIN {} {}", place.user, place.password))?;
            }
            if let Before::Selected(mailbox) = &self.transcript.header.state {
                return talk.ok(&format!("SELECT \"{mailbox}\""));
            }
            Ok(Vec::new())
        };
        let begun: Result<Vec<Vec<u8>>, String> = run();
        self.client = Some(talk);
        let selected = begun.map_err(|got| ("the state of the header".to_owned(), got))?;
        selected.iter().for_each(|response| self.learn(response));
        Ok(())
    }

    fn steps(&mut self, steps: &[Step]) -> Result<(), Wrong> {
        // Events are told inside the proxy; time passes by itself.
        let of_the_wire = |step: &&Step| {
            !matches!(
                step.action,
                Action::Time(_) | Action::Event(_) | Action::NeverClient(_) | Action::NeverBackend(_)
            )
        };
        let said: Vec<&Step> = steps.iter().filter(of_the_wire).collect();
        let mut at = 0;
        while at < said.len() {
            self.line = said[at].line;
            at += self.step(&said[at..])?;
        }
        let never = steps.iter().filter_map(|step| match &step.action {
            Action::NeverClient(pattern) => Some((step.line, pattern)),
            _ => None,
        });
        for (line, pattern) in never {
            if let Some(came) = self.heard.iter().find(|came| pattern.matches(came, &mut Variables::new())) {
                self.line = line;
                return Err((format!("never {}", pattern.text()), talk::shown(came)));
            }
        }
        Ok(())
    }

    /// Does what stands at the front; how many steps that took.
    fn step(&mut self, steps: &[&Step]) -> Result<usize, Wrong> {
        match &steps[0].action {
            Action::Client(_) | Action::ClientLine(_) => {
                let taken = steps.iter().take_while(|step| says(&step.action).is_some()).count();
                let mut segment = Vec::new();
                for text in steps[..taken].iter().filter_map(|step| says(&step.action)) {
                    segment.extend(text.octets(&self.variables)?);
                }
                self.client()?.send(&segment).map_err(|error| ("a connection".to_owned(), error))?;
                Ok(taken)
            }
            Action::Other(what) => {
                self.other(what).map_err(|got| (format!("O: {what}"), got))?;
                Ok(1)
            }
            Action::ClientCloses => {
                self.client = None;
                Ok(1)
            }
            Action::ExpectEnd(_) => {
                while let Some(response) = self.client()?.response() {
                    self.heard.push(response);
                }
                Ok(1)
            }
            _ => self.expect(steps),
        }
    }

    /// Takes responses until all of those expected behind one another have come; how many steps that were.
    fn expect(&mut self, steps: &[&Step]) -> Result<usize, Wrong> {
        let (mut exchange, taken) = Exchange::expected(steps);
        while let Some((line, wanted)) = exchange.next() {
            self.line = line;
            let Some(response) = self.client()?.response() else { return Err((wanted, "nothing".to_owned())) };
            self.heard.push(response.clone());
            let taken = exchange.take(&response, self.count, &mut self.variables);
            self.learn(&response);
            taken.map_err(|wanted| (wanted, talk::shown(&response)))?;
        }
        Ok(taken)
    }

    /// Counts messages.
    fn learn(&mut self, response: &[u8]) {
        if let Some(count) = expected::numbered(response, "EXISTS") {
            self.count = Some(count);
        } else if expected::numbered(response, "EXPUNGE").is_some() {
            self.count = self.count.map(|count| count.saturating_sub(1));
        }
    }
}

/// What the client says in one line.
enum Text<'a> {
    Octets(&'a [u8]),
    Line(&'a str),
}

fn says(action: &Action) -> Option<Text<'_>> {
    match action {
        Action::Client(octets) => Some(Text::Octets(octets)),
        Action::ClientLine(text) => Some(Text::Line(text)),
        _ => None,
    }
}

impl Text<'_> {
    fn octets(&self, variables: &Variables) -> Result<Vec<u8>, Wrong> {
        match self {
            Self::Octets(octets) => Ok(octets.to_vec()),
            Self::Line(text) => {
                let filled = super::pattern::fill(text, variables);
                let mut line = filled.map_err(|why| ("a variable with a value".to_owned(), why))?;
                line.extend_from_slice(b"\r\n");
                Ok(line)
            }
        }
    }
}
