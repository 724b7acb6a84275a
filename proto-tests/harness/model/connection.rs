//! One connection to a model backend: octets in, octets out. RFC 3501 sections 3, 5.5 and 7.5.
//!
//!     in:  a APPEND INBOX {3}        out: + Ready for literal data
//!     in:  abc                       out: a OK APPEND completed
//!
//! Commands are executed in order, unless the backend `reorders`; then those that have come complete and cannot be
//! told from outside in which order they ran, may run and end in another one.

use super::{
    Backend, Settings,
    annotations::Listening,
    changes::Selected,
    condstore::Syncing,
    login::Login,
    store::Store,
    syntax::{Cursor, Malformed, text},
};
use crate::random::Random;

/// A connection and where it stands.
#[derive(Debug)]
pub struct Connection {
    pub(super) backend: Backend,
    pub(super) state: State,
    /// TLS runs; the harness has no real one.
    pub(super) tls: bool,
    pub(super) random: Random,
    /// What it is told of the annotations that others change.
    pub(super) listening: Listening,
    /// What it has switched on (RFC 7162).
    pub(super) syncing: Syncing,
    /// What ends a line or literal that has not come yet.
    input: Vec<u8>,
    /// The command so far: lines and literals.
    command: Vec<u8>,
    /// Octets of a literal that are still to come.
    literal: usize,
    /// The command has been answered before its end; the rest of it is read and dropped.
    answered: bool,
    /// The connection has been closed by the backend.
    closed: bool,
}

/// RFC 3501 section 3.
#[derive(Debug)]
pub(super) enum State {
    NotAuthenticated,
    Authenticating { tag: String, login: Login },
    Authenticated,
    Selected(Selected),
    Idle { tag: String, selected: Option<Selected> },
    Logout,
}

/// How a command ends.
pub(super) enum End {
    Ok(String),
    No(String),
    Bad(String),
    /// Another line will say so.
    Later,
}

impl From<Malformed> for End {
    fn from(Malformed: Malformed) -> Self {
        Self::Bad("Error in command arguments".to_owned())
    }
}

/// What a literal's announcement means.
enum Announced {
    Nothing,
    Literal { len: usize, synchronising: bool },
}

/// A command line longer than this ends the connection.
const LONGEST_LINE: usize = 1 << 20;

impl Connection {
    pub(super) fn new(backend: Backend, number: u32) -> Self {
        let seed = backend.store().settings.seed.wrapping_add(number.into());
        Self {
            backend,
            state: State::NotAuthenticated,
            tls: false,
            random: Random::new(seed),
            listening: Listening::to_nothing(number),
            syncing: Syncing::default(),
            input: Vec::new(),
            command: Vec::new(),
            literal: 0,
            answered: false,
            closed: false,
        }
    }

    /// What the backend says first.
    pub fn greeting(&mut self) -> Vec<u8> {
        let store = self.backend.store();
        let code = if store.settings.announces {
            format!("[CAPABILITY {}] ", self.capabilities(&store.settings))
        } else {
            String::new()
        };
        format!("* OK {code}{}\r\n", store.settings.greeting).into_bytes()
    }

    /// Whether the backend has closed this connection.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether TLS has been agreed on.
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// TLS was there before the first octet.
    pub fn begin_with_tls(&mut self) {
        self.tls = true;
    }

    /// Takes what the peer sent, and says what the backend answers.
    pub fn feed(&mut self, octets: &[u8]) -> Vec<u8> {
        self.input.extend_from_slice(octets);
        let mut out = Vec::new();
        let mut waiting: Vec<Vec<u8>> = Vec::new();
        while !self.closed {
            let Some(step) = self.next_step() else { break };
            let line = match step {
                Step::Line(line) => line,
                Step::Ready(answer) => {
                    self.run_all(&mut waiting, &mut out);
                    out.extend(answer);
                    continue;
                }
            };
            if self.manners().reorders && !self.expects_a_raw_line() && may_run_beside(&line, &waiting) {
                waiting.push(line);
                continue;
            }
            self.run_all(&mut waiting, &mut out);
            self.run(&line, &mut out);
        }
        self.run_all(&mut waiting, &mut out);
        if self.manners().chatty && !matches!(self.state, State::Idle { .. }) && !out.is_empty() {
            self.tell(false, &mut out);
        }
        out
    }

    /// What the backend says unasked: news to a session in IDLE.
    pub fn poll(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if matches!(self.state, State::Idle { .. }) && self.manners().tells_in_idle() {
            self.tell(true, &mut out);
        }
        out
    }

    /// The backend ends the connection on its own.
    pub fn say_bye(&mut self, reason: &str) -> Vec<u8> {
        self.closed = true;
        format!("* BYE {reason}\r\n").into_bytes()
    }

    pub(super) fn manners(&self) -> super::Mischief {
        self.backend.store().settings.mischief.clone()
    }

    pub(super) fn capabilities(&self, settings: &Settings) -> String {
        let hidden = |word: &&String| self.tls && matches!(word.as_str(), "STARTTLS" | "LOGINDISABLED");
        settings.capabilities.iter().filter(|word| !hidden(word)).cloned().collect::<Vec<_>>().join(" ")
    }

    /// What came in clear behind STARTTLS.
    pub(super) fn forget_input(&mut self) {
        self.input.clear();
    }

    fn expects_a_raw_line(&self) -> bool {
        matches!(self.state, State::Authenticating { .. } | State::Idle { .. })
    }

    /// Cuts one line or literal off the input.
    fn next_step(&mut self) -> Option<Step> {
        loop {
            let taken = self.literal.min(self.input.len());
            if taken > 0 {
                self.command.extend(self.input.drain(..taken));
                self.literal -= taken;
            }
            let end = self.input.iter().position(|&octet| octet == b'\n')?;
            if end > LONGEST_LINE {
                return Some(Step::Ready(self.say_bye("line too long")));
            }
            let line = self.command.len();
            self.command.extend(self.input.drain(..=end));
            match self.announced(line) {
                Announced::Nothing => return Some(self.complete()),
                Announced::Literal { len, synchronising } => {
                    if let Some(refusal) = self.refusal_of_literal(synchronising, len) {
                        return Some(Step::Ready(refusal));
                    }
                    self.literal = len;
                    if synchronising && !self.answered {
                        return Some(Step::Ready(b"+ Ready for additional command text\r\n".to_vec()));
                    }
                }
            }
        }
    }

    fn complete(&mut self) -> Step {
        let mut line = std::mem::take(&mut self.command);
        if std::mem::take(&mut self.answered) {
            return Step::Ready(Vec::new());
        }
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Step::Line(line)
    }

    /// Whether the command's last line, which begins here, announces a literal that this server believes.
    fn announced(&self, line: usize) -> Announced {
        if self.expects_a_raw_line() {
            return Announced::Nothing;
        }
        let line = &self.command[line..];
        let line = line.strip_suffix(b"\r\n").or_else(|| line.strip_suffix(b"\n"));
        let Some(line) = line.and_then(|line| line.strip_suffix(b"}")) else { return Announced::Nothing };
        let Some(open) = line.iter().rposition(|&octet| octet == b'{') else { return Announced::Nothing };
        let digits = text(&line[open + 1..]);
        let (digits, synchronising) = digits.strip_suffix('+').map_or((digits.as_str(), true), |rest| (rest, false));
        let Ok(len) = digits.parse::<usize>() else { return Announced::Nothing };
        let store = self.backend.store();
        let settings = &store.settings;
        let verb = self.verb();
        // RFC 5464 5: a value may be a literal8 whatever the server does with messages.
        let binary = settings.has("BINARY") || (verb == "SETMETADATA" && settings.has_metadata());
        let literal8 = open > 0 && line[open - 1] == b'~';
        let known = synchronising || settings.has("LITERAL+") || (settings.has("LITERAL-") && len <= 4096);
        let lazy = settings.mischief.lazy_literals && !settings.takes_literals(&verb);
        // RFC 7888 4: without the capability `{5+}` is a word like any other, and what follows is the next command.
        if !known || lazy || (literal8 && !binary) {
            return Announced::Nothing;
        }
        Announced::Literal { len, synchronising }
    }

    fn verb(&self) -> String {
        text(&self.command).split_whitespace().nth(1).unwrap_or_default().to_uppercase()
    }

    /// RFC 3501 7.5: a server may refuse a command instead of asking for its literal.
    fn refusal_of_literal(&mut self, synchronising: bool, len: usize) -> Option<Vec<u8>> {
        if self.answered {
            // Nobody sends the octets of a literal that was not asked for.
            return synchronising.then(|| {
                self.command.clear();
                self.answered = false;
                Vec::new()
            });
        }
        let command = text(&self.command);
        let tag = command.split(' ').next().unwrap_or("*").to_owned();
        let verb = self.verb();
        let end = if self.manners().refuses_literals {
            End::No("[LIMIT] no literals today".to_owned())
        } else if len > u32::MAX as usize {
            End::Bad("Literal too large".to_owned())
        } else if !self.backend.store().settings.takes_literals(&verb) {
            End::Bad(format!("No such command as \"{verb}\""))
        } else if verb == "APPEND" {
            self.refusal_of_append()?
        } else {
            return None;
        };
        self.backend.store().executed.push(self.command.clone());
        self.answered = true;
        if synchronising {
            self.command.clear();
            self.answered = false;
        } else {
            self.literal = len;
        }
        Some(end.line(&tag))
    }

    fn refusal_of_append(&self) -> Option<End> {
        if matches!(self.state, State::NotAuthenticated | State::Authenticating { .. }) {
            return Some(End::Bad("Not authenticated".to_owned()));
        }
        let mut cursor = Cursor(&self.command);
        let name = (|| {
            cursor.word()?;
            cursor.space()?;
            cursor.word()?;
            cursor.space()?;
            if cursor.is_literal() { Err(Malformed) } else { cursor.text() }
        })()
        .ok()?;
        let missing = self.backend.store().mailbox(&name).is_none_or(|mailbox| mailbox.noselect);
        missing.then(|| End::No(format!("[TRYCREATE] Mailbox doesn't exist: {name}")))
    }

    /// Runs what may be run in any order, in any order.
    fn run_all(&mut self, waiting: &mut Vec<Vec<u8>>, out: &mut Vec<u8>) {
        let mut lines = std::mem::take(waiting);
        self.random.shuffle(&mut lines);
        let mut ends = Vec::new();
        for line in lines {
            let from = out.len();
            self.run(&line, out);
            // The tagged line may come later than the answers of the next command.
            if self.random.one_in(2) {
                let last = out[from..out.len().saturating_sub(2)].iter().rposition(|&octet| octet == b'\n');
                ends.extend(out.drain(last.map_or(from, |at| from + at + 1)..));
            }
        }
        out.extend(ends);
    }

    /// Runs one complete command, or one line of an exchange.
    fn run(&mut self, line: &[u8], out: &mut Vec<u8>) {
        match std::mem::replace(&mut self.state, State::NotAuthenticated) {
            State::Authenticating { tag, login } => return self.go_on_with_login(tag, login, line, out),
            State::Idle { tag, selected } => return self.end_idle(tag, selected, line, out),
            other => self.state = other,
        }
        self.backend.store().executed.push(line.to_vec());
        let mut cursor = Cursor(line);
        let Some((tag, verb)) = tag_and_verb(&mut cursor) else {
            out.extend_from_slice(b"* BAD Command without tag or verb\r\n");
            return;
        };
        let end = self.dispatch(&tag, &verb, cursor, out).unwrap_or_else(|end| end);
        out.extend(end.line(&tag));
        if matches!(self.state, State::Logout) {
            self.closed = true;
        }
    }

    fn end_idle(&mut self, tag: String, selected: Option<Selected>, line: &[u8], out: &mut Vec<u8>) {
        self.state = selected.map_or(State::Authenticated, State::Selected);
        let end = if line.eq_ignore_ascii_case(b"DONE") {
            if !self.manners().deaf_idle {
                self.tell(true, out);
            }
            End::Ok("IDLE terminated".to_owned())
        } else {
            End::Bad("Expected DONE".to_owned())
        };
        out.extend(end.line(&tag));
    }

    /// One line per command: who runs it, and whether it may bring news of removed messages (RFC 3501 7.4.1).
    fn dispatch(&mut self, tag: &str, verb: &str, cursor: Cursor<'_>, out: &mut Vec<u8>) -> Result<End, End> {
        let mut cursor = cursor;
        let by_uid = verb == "UID";
        let verb = if by_uid { cursor.word()?.to_uppercase() } else { verb.to_owned() };
        let has_arguments = cursor.eat(b" ");
        let nothing = !has_arguments;
        let end = match (verb.as_str(), by_uid) {
            ("CAPABILITY", false) if nothing => self.capability(out),
            ("NOOP", false) if nothing => End::Ok("NOOP completed".to_owned()),
            ("LOGOUT", false) if nothing => self.logout(out),
            ("ID", false) => self.id(cursor, out)?,
            ("STARTTLS", false) if nothing => self.starttls()?,
            ("LOGIN", false) => self.login(cursor)?,
            ("AUTHENTICATE", false) => self.authenticate(tag, cursor, out)?,
            ("SELECT", false) => self.select(cursor, false, out)?,
            ("EXAMINE", false) => self.select(cursor, true, out)?,
            ("CREATE", false) => self.create(cursor)?,
            ("DELETE", false) => self.delete(cursor)?,
            ("RENAME", false) => self.rename(cursor)?,
            ("SUBSCRIBE", false) => self.subscribe(cursor, true)?,
            ("UNSUBSCRIBE", false) => self.subscribe(cursor, false)?,
            ("LIST", false) => self.list(cursor, out)?,
            ("LSUB", false) => self.lsub(cursor, out)?,
            ("STATUS", false) => self.status(cursor, out)?,
            ("APPEND", false) => self.append(cursor)?,
            ("NAMESPACE", false) if nothing => self.namespace(out)?,
            ("ENABLE", false) => self.enable(cursor, out)?,
            ("GETMETADATA", false) if has_arguments => self.get_metadata(cursor, out)?,
            ("SETMETADATA", false) if has_arguments => self.set_metadata(cursor, out)?,
            ("MYRIGHTS", false) if has_arguments => self.my_rights(cursor, out)?,
            ("GETQUOTAROOT", false) if has_arguments => self.quota_root(cursor, out)?,
            ("IDLE", false) if nothing => self.idle(tag, out)?,
            ("CHECK", false) if nothing => self.check()?,
            ("CLOSE", false) if nothing => self.close(true)?,
            ("UNSELECT", false) if nothing => self.unselect()?,
            ("EXPUNGE", _) => self.expunge(cursor, by_uid, out)?,
            ("SEARCH", _) => self.search(tag, cursor, by_uid, out)?,
            ("FETCH", _) => self.fetch(cursor, by_uid, out)?,
            ("STORE", _) => self.store(cursor, by_uid, out)?,
            ("COPY", _) => self.copy(cursor, by_uid, false, out)?,
            ("MOVE", _) => self.copy(cursor, by_uid, true, out)?,
            _ if nothing || !self.backend.store().settings.takes_literals(&verb) => return Err(self.unknown(&verb)),
            _ => return Err(Malformed.into()),
        };
        // RFC 3501 7.4.1: no EXPUNGE in answer to FETCH, STORE and SEARCH; UID commands are free to bring it.
        let may_expunge = by_uid || !matches!(verb.as_str(), "FETCH" | "STORE" | "SEARCH");
        if !matches!(end, End::Later) && !matches!(verb.as_str(), "SELECT" | "EXAMINE" | "LOGOUT") {
            self.tell(may_expunge, out);
        }
        Ok(end)
    }

    fn unknown(&self, verb: &str) -> End {
        let why = format!("No such command as \"{verb}\"");
        if self.manners().no_to_unknown { End::No(why) } else { End::Bad(why) }
    }

    fn capability(&self, out: &mut Vec<u8>) -> End {
        let line = format!("* CAPABILITY {}\r\n", self.capabilities(&self.backend.store().settings));
        out.extend(line.into_bytes());
        End::Ok("CAPABILITY completed".to_owned())
    }

    fn logout(&mut self, out: &mut Vec<u8>) -> End {
        self.state = State::Logout;
        out.extend_from_slice(b"* BYE IMAP4rev1 Server logging out\r\n");
        End::Ok("LOGOUT completed".to_owned())
    }

    fn id(&self, mut cursor: Cursor<'_>, out: &mut Vec<u8>) -> Result<End, End> {
        self.needs("ID")?;
        if !cursor.eat(b"NIL") {
            cursor.words()?;
        }
        cursor.done()?;
        out.extend(format!("* ID {}\r\n", self.backend.store().settings.id).into_bytes());
        Ok(End::Ok("ID completed".to_owned()))
    }

    fn enable(&mut self, mut cursor: Cursor<'_>, out: &mut Vec<u8>) -> Result<End, End> {
        self.needs("ENABLE")?;
        self.authenticated()?;
        let mut enabled = Vec::new();
        loop {
            let word = cursor.word()?.to_uppercase();
            if word != "ENABLE" && self.backend.store().settings.has(&word) {
                enabled.push(format!(" {word}"));
                self.listen(&word);
                self.sync(&word);
            }
            if !cursor.eat(b" ") {
                break;
            }
        }
        cursor.done()?;
        out.extend(format!("* ENABLED{}\r\n", enabled.concat()).into_bytes());
        Ok(End::Ok("ENABLE completed".to_owned()))
    }

    fn namespace(&self, out: &mut Vec<u8>) -> Result<End, End> {
        self.needs("NAMESPACE")?;
        self.authenticated()?;
        out.extend(format!("* NAMESPACE {}\r\n", self.backend.store().settings.namespace).into_bytes());
        Ok(End::Ok("NAMESPACE command completed".to_owned()))
    }

    fn idle(&mut self, tag: &str, out: &mut Vec<u8>) -> Result<End, End> {
        self.needs("IDLE")?;
        self.authenticated()?;
        out.extend_from_slice(b"+ idling\r\n");
        if self.manners().tells_in_idle() {
            self.tell(true, out);
        }
        let selected = match std::mem::replace(&mut self.state, State::Authenticated) {
            State::Selected(selected) => Some(selected),
            _ => None,
        };
        self.state = State::Idle { tag: tag.to_owned(), selected };
        Ok(End::Later)
    }

    /// Without its capability a command is unknown.
    pub(super) fn needs(&self, capability: &str) -> Result<(), End> {
        if self.backend.store().settings.has(capability) { Ok(()) } else { Err(self.unknown(capability)) }
    }

    pub(super) fn authenticated(&self) -> Result<(), End> {
        match self.state {
            State::Authenticated | State::Selected(_) => Ok(()),
            _ => Err(End::Bad("Not authenticated".to_owned())),
        }
    }

    pub(super) fn selected(&mut self) -> Result<&mut Selected, End> {
        match &mut self.state {
            State::Selected(selected) | State::Idle { selected: Some(selected), .. } => Ok(selected),
            _ => Err(End::Bad("No mailbox selected".to_owned())),
        }
    }

    /// Tells what has happened to annotations and in the selected mailbox since it was told last.
    pub(super) fn tell(&mut self, may_expunge: bool, out: &mut Vec<u8>) {
        self.tell_annotations(out);
        let backend = self.backend.clone();
        let mut store = backend.store();
        let (State::Selected(selected) | State::Idle { selected: Some(selected), .. }) = &mut self.state else {
            return;
        };
        selected.tell(&mut store, may_expunge, &mut self.random, out);
    }

    /// The session's selected mailbox and the store, together.
    pub(super) fn with_selected<T>(&mut self, run: impl FnOnce(&mut Selected, &mut Store, &mut Random) -> T) -> T {
        let backend = self.backend.clone();
        let mut store = backend.store();
        let (State::Selected(selected) | State::Idle { selected: Some(selected), .. }) = &mut self.state else {
            unreachable!("the caller has asked whether a mailbox is selected")
        };
        run(selected, &mut store, &mut self.random)
    }
}

/// What the next octets of the input are.
enum Step {
    /// A complete command.
    Line(Vec<u8>),
    /// Nothing to be executed, only this to be said.
    Ready(Vec<u8>),
}

impl End {
    fn line(&self, tag: &str) -> Vec<u8> {
        match self {
            Self::Ok(said) => format!("{tag} OK {said}\r\n"),
            // It may repeat what the client said, and is one line all the same.
            Self::No(said) => format!("{tag} NO {}\r\n", said.replace(char::is_control, "?")),
            Self::Bad(said) => format!("{tag} BAD {said}\r\n"),
            Self::Later => String::new(),
        }
        .into_bytes()
    }
}

fn tag_and_verb(cursor: &mut Cursor<'_>) -> Option<(String, String)> {
    let tag = cursor.word().ok().filter(|tag| !tag.contains('+'))?;
    cursor.space().ok()?;
    let verb = cursor.word().ok()?.to_uppercase();
    if verb == "UID" {
        cursor.space().ok()?;
    }
    Some((tag, verb))
}

/// Whether nobody can tell in which order these commands ran (RFC 3501 5.5): any number of FETCH, and one SEARCH. What is
/// saved, and what names it, comes in its order (RFC 5182 2.3).
fn may_run_beside(line: &[u8], others: &[Vec<u8>]) -> bool {
    let verb = |line: &[u8]| text(line).to_uppercase().split(' ').nth(1).unwrap_or_default().to_owned();
    let content = text(line).to_uppercase();
    match verb(line).as_str() {
        _ if content.contains('$') || content.contains("SAVE") => false,
        "FETCH" => !content.contains("BODY[") && !content.contains("RFC822"),
        "SEARCH" => others.iter().all(|other| verb(other) != "SEARCH"),
        _ => false,
    }
}
