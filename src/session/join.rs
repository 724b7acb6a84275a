//! Logging in at the backend in the client's name: from the backend's greeting to its tagged OK.
//!
//!     <  * OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready
//!     >  p1 AUTHENTICATE PLAIN AHRpbQB0YW5zdGFhZnRhbnN0YWFm
//!     <  p1 OK [CAPABILITY IMAP4rev1 IDLE UIDPLUS] Logged in
//!
//! A password is said again in the best way the backend has; the messages of other mechanisms are relayed step by step. Where
//! the backend did not announce its capabilities, CAPABILITY goes out in the same write as LOGIN (architecture 13.10).

use std::{sync::Arc, time::Instant};

use super::{
    effect::{Binding, Dialled, Effect, Effects, Side, Upgrade},
    gate::Tag,
    key::Key,
    login::Attempt,
    open::Server,
    profile::{self, Profile},
};
use crate::imap::{
    Secret,
    capability::Capabilities,
    code, frame,
    id::Fields,
    response::{self, Kind, Line, Status},
    sasl::{self, Mechanism, Plain},
    token,
};

/// With what a client logs in.
#[derive(Clone, Debug)]
pub(super) enum Credentials {
    /// It has told us its password.
    Password { authzid: String, password: Secret },
    /// It speaks with the backend.
    Relayed { mechanism: Mechanism, first: Option<Secret> },
}

/// How it ended.
pub(super) enum Outcome {
    /// The backend says this of itself; the text for the client.
    Joined { backend: Capabilities, text: Vec<u8> },
    /// The backend's refusal, without the tag. `trouble`: nothing was wrong with the secret.
    Refused { line: Vec<u8>, trouble: bool },
    /// It cannot be spoken with.
    Useless,
}

/// A login under way at a backend.
#[derive(Debug)]
pub(super) struct Join {
    attempt: Attempt,
    /// In whose name the client logs in, if not in its own.
    acting: Option<Arc<str>>,
    dialled: Dialled,
    id: Fields,
    prefix: Tag,
    tags: u32,
    state: State,
    /// What the backend has said of itself before login.
    capabilities: Capabilities,
    /// The pieces that follow the next `+`.
    pieces: Vec<Secret>,
    /// CAPABILITY was sent together with the login.
    asked: bool,
    /// Since when we speak with the backend.
    pub(super) since: Instant,
    /// What the backend is like.
    profile: &'static Profile,
    /// The text of the tagged OK, kept until the capabilities are there.
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    AwaitGreeting,
    AwaitStarttls,
    AwaitTls,
    /// Capabilities that have to be known before we log in.
    AwaitCapabilities,
    AwaitTagged,
    /// The same, while a message of the client is due.
    AwaitMessage,
    /// Capabilities after login.
    AwaitMore,
}

impl Join {
    /// No line of a greeting or a login is longer.
    const LONGEST_LINE: usize = 32 << 10;

    pub(super) fn new(attempt: Attempt, dialled: Dialled, id: Fields, prefix: &Tag, since: Instant) -> Self {
        let acting = match &attempt.credentials {
            Credentials::Password { authzid, .. } => Some(authzid.clone()).filter(|authzid| !authzid.is_empty()),
            Credentials::Relayed { mechanism, first } => {
                first.as_ref().and_then(|first| mechanism.acting(first.expose()))
            }
        };
        Self {
            attempt,
            acting: acting.map(Into::into),
            id,
            prefix: prefix.clone(),
            tags: 0,
            state: State::AwaitGreeting,
            capabilities: Capabilities::default(),
            pieces: Vec::new(),
            asked: false,
            since,
            profile: dialled.profile.unwrap_or(&profile::UNKNOWN),
            text: Vec::new(),
            dialled,
        }
    }

    pub(super) fn tag(&self) -> &[u8] {
        &self.attempt.tag
    }

    pub(super) fn user(&self) -> Option<&Arc<str>> {
        self.attempt.user.as_ref()
    }

    /// In whose name the client has logged in, if not in its own.
    pub(super) fn acting(&self) -> Option<Arc<str>> {
        self.acting.clone().filter(|acting| Some(acting) != self.user())
    }

    pub(super) fn device(&mut self) -> Option<Binding> {
        self.attempt.device.take()
    }

    /// What has been found out of the backend.
    pub(super) fn server(&mut self, backend: &Capabilities) -> Server {
        let Dialled { look, pace, origin, auxiliary, .. } = &mut self.dialled;
        let (profile, origin) = (self.profile.or_told_by(backend), origin.take());
        Server { profile, look: *look, pace: *pace, origin, auxiliary: *auxiliary }
    }

    /// What it takes to do this once more, if the client has told us all of it: a password, or a token.
    pub(super) fn key(&self) -> Option<Arc<Key>> {
        use Mechanism::{OauthBearer, Xoauth2};
        let told = match &self.attempt.credentials {
            Credentials::Password { .. } => true,
            Credentials::Relayed { mechanism, first } => matches!(mechanism, OauthBearer | Xoauth2) && first.is_some(),
        };
        told.then(|| Arc::new(Key::new(&self.attempt, &self.dialled, self.id.clone())))
    }

    pub(super) fn wants_message(&self) -> bool {
        self.state == State::AwaitMessage
    }

    /// Takes whole lines. What follows the last one of the login belongs to the session.
    pub(super) fn hear_backend(&mut self, octets: &[u8], out: &mut Effects) -> (usize, Option<Outcome>) {
        let mut at = 0;
        while let Some(end) = memchr::memchr(b'\n', &octets[at..]) {
            let line = &octets[at..=at + end];
            at += end + 1;
            let outcome = self.line(line, out);
            if outcome.is_some() {
                return (at, outcome);
            }
            // RFC 3501 6.2.1, the other way round: what came in clear behind its OK is not the backend's word.
            if self.state == State::AwaitTls && at < octets.len() {
                return (at, Some(Outcome::Useless));
            }
        }
        match octets.len() - at > Self::LONGEST_LINE {
            true => (at, Some(Outcome::Useless)),
            false => (at, None),
        }
    }

    fn line(&mut self, line: &[u8], out: &mut Effects) -> Option<Outcome> {
        let head = response::line(line);
        if !head.is_text() && frame::backend_literal(line).is_some() {
            return Some(Outcome::Useless);
        }
        match head {
            Line::Untagged { kind, .. } => self.untagged(kind, line, out),
            Line::Continuation => {
                self.continuation(line, out);
                None
            }
            Line::Tagged { tag, status } => {
                let current = self.prefix.len() < tag.len() && tag.starts_with(&self.prefix);
                current.then(|| self.tagged(tag, status, line, out))?
            }
        }
    }

    fn untagged(&mut self, kind: Kind, line: &[u8], out: &mut Effects) -> Option<Outcome> {
        let text = code::parse(response::text(line, 2));
        match kind {
            Kind::Capability => self.capabilities = Capabilities::parse(response::text(line, 2)),
            Kind::Ok if text.is("CAPABILITY") => self.capabilities = Capabilities::parse(text.arguments),
            Kind::Bye | Kind::Preauth => return Some(Outcome::Useless),
            Kind::Ok | Kind::No if text.is("ALERT") => out.put(Side::Client, line),
            _ => {}
        }
        if self.state == State::AwaitGreeting {
            match kind {
                Kind::Ok => {
                    self.profile = self.dialled.profile.unwrap_or_else(|| profile::recognise(text.words));
                    self.greeted(out);
                }
                _ => return Some(Outcome::Useless),
            }
        }
        None
    }

    fn greeted(&mut self, out: &mut Effects) {
        match self.dialled.starttls {
            true => {
                self.say("STARTTLS", out);
                self.state = State::AwaitStarttls;
            }
            false => self.authenticate(out),
        }
    }

    /// TLS runs; what was said before is forgotten.
    pub(super) fn upgraded(&mut self, out: &mut Effects) {
        self.capabilities = Capabilities::default();
        self.authenticate(out);
    }

    /// A command of ours, under a tag of its own.
    fn say(&mut self, command: &str, out: &mut Effects) {
        self.say_secretly(&Secret::new(command.as_bytes().to_vec()), out);
    }

    fn say_secretly(&mut self, command: &Secret, out: &mut Effects) {
        self.tags += 1;
        out.put(Side::Backend, &self.prefix);
        out.put(Side::Backend, format!("{} ", self.tags).as_bytes());
        out.put(Side::Backend, command.expose());
        out.put(Side::Backend, b"\r\n");
    }

    /// Says who the client is, and logs in.
    fn authenticate(&mut self, out: &mut Effects) {
        if self.needs_capabilities() && self.capabilities.is_empty() {
            self.state = State::AwaitCapabilities;
            return self.say("CAPABILITY", out);
        }
        if self.capabilities.has("ID")
            && let Some(origin) = &self.dialled.origin
        {
            let fields = origin.extend(self.id.clone()).write();
            self.say(&format!("ID {fields}"), out);
        }
        let mut pieces = self.pieces();
        let first = pieces.remove(0);
        self.state = State::AwaitTagged;
        self.say_secretly(&first, out);
        self.pieces = pieces;
        let quiet = self.capabilities.is_empty() && self.profile.reads_behind_login;
        if quiet && self.pieces.is_empty() && self.is_read() {
            self.asked = true;
            let tags = self.tags;
            self.say("CAPABILITY", out);
            self.tags = tags;
        }
    }

    fn is_read(&self) -> bool {
        matches!(self.attempt.credentials, Credentials::Password { .. })
    }

    /// An authorisation identity can only be said with PLAIN, and a trusted backend is to hear of the client first.
    fn needs_capabilities(&self) -> bool {
        let identity =
            matches!(&self.attempt.credentials, Credentials::Password { authzid, .. } if !authzid.is_empty());
        identity || self.dialled.origin.is_some()
    }

    /// The login as the backend takes it: a command, and what follows each `+`.
    fn pieces(&self) -> Vec<Secret> {
        let initial = self.capabilities.has("SASL-IR");
        match &self.attempt.credentials {
            Credentials::Password { authzid, password } => {
                let user = self.dialled.user.to_string();
                let plain = Plain { authzid: authzid.clone(), user, password: password.clone() };
                let offered = self.capabilities.has("AUTH=PLAIN");
                let disabled = self.capabilities.has("LOGINDISABLED");
                match (offered && initial) || !plain.authzid.is_empty() || (disabled && offered) {
                    true => sasl_pieces(Mechanism::Plain, Some(plain.message()), initial),
                    false => login_pieces(&plain, self.capabilities.has("LITERAL+")),
                }
            }
            Credentials::Relayed { mechanism, first } => {
                let first = first.as_ref().map(|first| sasl::renamed(*mechanism, first, &self.dialled.user));
                sasl_pieces(*mechanism, first, initial)
            }
        }
    }

    fn continuation(&mut self, line: &[u8], out: &mut Effects) {
        if self.state != State::AwaitTagged {
            return;
        }
        if !self.pieces.is_empty() {
            out.put(Side::Backend, self.pieces.remove(0).expose());
            out.put(Side::Backend, b"\r\n");
        } else if !self.is_read() && !self.attempt.again {
            out.put(Side::Client, line);
            self.state = State::AwaitMessage;
        } else {
            // All is said that there was to say: whatever the backend still asks, the answer is no.
            out.put(Side::Backend, b"*\r\n");
        }
    }

    /// A message of the client's, for the backend.
    pub(super) fn message(&mut self, line: &[u8], out: &mut Effects) {
        if let (Credentials::Relayed { mechanism, .. }, None) = (&self.attempt.credentials, &self.attempt.user)
            && let Some(message) = sasl::decode(line)
        {
            self.attempt.user = mechanism.user(message.expose()).map(Into::into);
            self.acting = mechanism.acting(message.expose()).map(Into::into);
        }
        out.put(Side::Backend, line);
        out.put(Side::Backend, b"\r\n");
        self.state = State::AwaitTagged;
    }

    fn tagged(&mut self, tag: &[u8], status: Status, line: &[u8], out: &mut Effects) -> Option<Outcome> {
        let number: u32 = std::str::from_utf8(&tag[self.prefix.len()..]).ok()?.parse().ok()?;
        let text = code::parse(response::text(line, 2));
        match (self.state, status) {
            (State::AwaitStarttls, Status::Ok) => {
                self.state = State::AwaitTls;
                out.push(Effect::Upgrade(Side::Backend, Upgrade::Tls));
                None
            }
            (State::AwaitStarttls, _) => Some(Outcome::Useless),
            (State::AwaitCapabilities, _) => {
                // A server that does not know CAPABILITY is no IMAP4rev1 server.
                if self.capabilities.is_empty() {
                    return Some(Outcome::Useless);
                }
                self.authenticate(out);
                None
            }
            (State::AwaitTagged | State::AwaitMessage, _) if number < self.tags => None,
            (State::AwaitTagged | State::AwaitMessage, Status::Ok) => self.accepted(text, out),
            (State::AwaitTagged | State::AwaitMessage, _) => Some(refused(status, text, response::text(line, 2))),
            (State::AwaitMore, _) => Some(self.joined()),
            (State::AwaitGreeting | State::AwaitTls, _) => None,
        }
    }

    fn accepted(&mut self, text: code::Text<'_>, out: &mut Effects) -> Option<Outcome> {
        let coded = text.is("CAPABILITY");
        self.text = text.words.to_vec();
        if coded {
            self.capabilities = Capabilities::parse(text.arguments);
        }
        match (coded, self.asked) {
            (true, false) => return Some(self.joined()),
            (_, true) => {}
            (false, false) => self.say("CAPABILITY", out),
        }
        self.state = State::AwaitMore;
        None
    }

    fn joined(&mut self) -> Outcome {
        Outcome::Joined { backend: std::mem::take(&mut self.capabilities), text: std::mem::take(&mut self.text) }
    }
}

/// LOGIN, its strings quoted where they can be, else as literals.
fn login_pieces(plain: &Plain, push: bool) -> Vec<Secret> {
    let mut pieces = Vec::new();
    let mut piece = b"LOGIN".to_vec();
    for octets in [plain.user.as_bytes(), plain.password.expose()] {
        piece.push(b' ');
        if octets.iter().all(|octet| (b' '..=b'~').contains(octet)) {
            token::write_quoted(octets, &mut piece);
        } else {
            let plus = if push { "+" } else { "" };
            piece.extend_from_slice(format!("{{{}{plus}}}", octets.len()).as_bytes());
            match push {
                true => piece.extend_from_slice(b"\r\n"),
                false => pieces.push(Secret::new(std::mem::take(&mut piece))),
            }
            piece.extend_from_slice(octets);
        }
    }
    pieces.push(Secret::new(piece));
    pieces
}

/// AUTHENTICATE, with the first message in the command where the backend takes it there (RFC 4959).
fn sasl_pieces(mechanism: Mechanism, first: Option<Secret>, initial: bool) -> Vec<Secret> {
    let command = format!("AUTHENTICATE {}", mechanism.name()).into_bytes();
    let Some(first) = first else { return vec![Secret::new(command)] };
    let encoded = match first.expose() {
        b"" if initial => Secret::new(b"=".to_vec()),
        _ => sasl::encode(&first),
    };
    match initial {
        true => vec![Secret::new([&command, b" ".as_slice(), encoded.expose()].concat())],
        false => vec![Secret::new(command), encoded],
    }
}

/// The backend's refusal: as it came where its code says why, else with the code that clients look for (RFC 5530).
fn refused(status: Status, text: code::Text<'_>, line: &[u8]) -> Outcome {
    let word: &[u8] = if status == Status::Bad { b" BAD " } else { b" NO " };
    let line = match text.explains_a_login() || status == Status::Bad {
        true => [word, line, b"\r\n"].concat(),
        false => [word, b"[AUTHENTICATIONFAILED] ", text.words, b"\r\n"].concat(),
    };
    Outcome::Refused { line, trouble: text.is_trouble() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(user: &str, password: &[u8]) -> Plain {
        Plain { authzid: String::new(), user: user.to_owned(), password: Secret::new(password.to_vec()) }
    }

    fn text(pieces: Vec<Secret>) -> Vec<Vec<u8>> {
        pieces.iter().map(|piece| piece.expose().to_vec()).collect()
    }

    #[test]
    fn login_quotes_what_can_be_quoted() {
        assert_eq!(text(login_pieces(&plain("joe", br#"a"b\c"#), false)), [br#"LOGIN "joe" "a\"b\\c""#.to_vec()]);
        let pieces = text(login_pieces(&plain("joe", "ä".as_bytes()), false));
        assert_eq!(pieces, [b"LOGIN \"joe\" {2}".to_vec(), "ä".as_bytes().to_vec()]);
        assert_eq!(text(login_pieces(&plain("joe", b"a\r\nb"), true)), [b"LOGIN \"joe\" {4+}\r\na\r\nb".to_vec()]);
    }

    #[test]
    fn an_administrator_logs_in_in_the_name_of_another() {
        let acting = |first: Option<&[u8]>, said: &[u8]| {
            let (mechanism, first) = (Mechanism::ScramSha256, first.map(|first| Secret::new(first.to_vec())));
            let user = first.as_ref().and_then(|first| mechanism.user(first.expose())).map(Into::into);
            let credentials = Credentials::Relayed { mechanism, first };
            let attempt = Attempt { tag: Tag::default(), user, credentials, device: None, again: false };
            let (backend, user) = ("main".into(), "admin".into());
            let (profile, look, pace) = (None, None, Default::default());
            let dialled =
                Dialled { backend, user, starttls: false, origin: None, profile, look, pace, auxiliary: true };
            let mut join = Join::new(attempt, dialled, Fields::default(), &Tag::default(), Instant::now());
            join.message(sasl::encode(&Secret::new(said.to_vec())).expose(), &mut Effects::default());
            join.acting()
        };
        let first = b"n,a=joe=2Cx,n=admin,r=fyko".as_slice();
        assert_eq!(acting(Some(first), b"c=biws,r=fyko").as_deref(), Some("joe,x"));
        assert_eq!(acting(None, first).as_deref(), Some("joe,x"));
        assert_eq!(acting(None, b"n,,n=admin,r=fyko"), None);
        assert_eq!(acting(None, b"n,a=admin,n=admin,r=fyko"), None, "that is nobody else");
    }

    #[test]
    fn the_first_message_travels_in_the_command_where_it_may() {
        let first = || Some(Secret::new(b"x".to_vec()));
        assert_eq!(text(sasl_pieces(Mechanism::Plain, first(), true)), [b"AUTHENTICATE PLAIN eA==".to_vec()]);
        assert_eq!(
            text(sasl_pieces(Mechanism::Plain, first(), false)),
            [b"AUTHENTICATE PLAIN".to_vec(), b"eA==".to_vec()]
        );
        assert_eq!(text(sasl_pieces(Mechanism::CramMd5, None, true)), [b"AUTHENTICATE CRAM-MD5".to_vec()]);
    }
}
