//! From the greeting to the choice of a backend: what a client says before it is logged in (RFC 3501 sections 6.1 and 6.2).
//!
//!     S: * OK [CAPABILITY IMAP4rev1 LITERAL+ ID SASL-IR STARTTLS AUTH=PLAIN] lemonade-proxy ready
//!     C: a AUTHENTICATE PLAIN
//!     S: +
//!     C: AHRpbQB0YW5zdGFhZnRhbnN0YWFm
//!     ...                             the backend is dialled, and join.rs speaks with it
//!
//! All of this is dropped at login: a session at rest pays nothing for it (architecture 13.7). Requirement A6.

use std::{sync::Arc, time::Instant};

use imap_codec::imap_types::{auth::AuthMechanism, command::CommandBody};

use super::{
    again::Again,
    effect::{Binding, Dial, DialError, Dialled, Effect, Effects, End, Fault, Input, Side, Upgrade},
    front::Front,
    gate::Tag,
    join::{Credentials, Join, Outcome},
    layer::Refusal,
    open::Open,
};
use crate::{
    imap::{
        Secret,
        command::{self, Head},
        frame::{self, Bounds, CommandFramer, Cut, FrameError, Literal, Skip},
        id::Fields,
        sasl::{self, Mechanism, Plain},
    },
    store::{DeviceName, Source},
};

/// A client that is not logged in.
#[derive(Debug)]
pub(super) struct Login {
    front: Arc<Front>,
    framer: CommandFramer,
    state: State,
    /// TLS runs towards the client.
    secure: bool,
    /// What the client said of itself.
    id: Fields,
    /// Bad commands so far: who talks nonsense for long is no mail program.
    nonsense: u8,
    /// With what our own tags begin.
    prefix: Tag,
    since: Instant,
    heard: Instant,
    /// Something happened that the client's untaken octets may have waited for.
    pub(super) resume: bool,
    draining: bool,
}

#[derive(Debug)]
enum State {
    AwaitCommand,
    /// The rest of a refused command.
    Refused,
    /// The octets of a literal in it.
    Discarding,
    /// A line of a SASL exchange that is ours.
    AwaitMessage(Exchange),
    /// TLS begins.
    AwaitTls,
    /// The shell looks for the backend.
    AwaitBackend(Box<Attempt>),
    /// The backend is asked.
    Joining(Box<Join>),
}

/// A SASL exchange, as far as we lead it ourselves.
#[derive(Debug)]
struct Exchange {
    tag: Tag,
    mechanism: Mechanism,
    /// The first answer to LOGIN's two questions.
    user: Option<String>,
}

/// A login that wants a backend.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) tag: Tag,
    pub(super) user: Option<Arc<str>>,
    pub(super) credentials: Credentials,
    /// The device that the login name says.
    pub(super) device: Option<Binding>,
    /// The client was logged in so before, and has no part in it now.
    pub(super) again: bool,
}

/// What comes next.
pub(super) enum Next {
    /// So many octets are done with.
    Took(usize),
    /// The client is logged in.
    Open(usize, Box<Open>),
}

impl Login {
    /// More bad commands than this end the connection.
    const MOST_NONSENSE: u8 = 20;

    pub(super) fn new(front: Arc<Front>, secure: bool, prefix: Tag, now: Instant) -> Self {
        Self {
            front,
            framer: CommandFramer::default(),
            state: State::AwaitCommand,
            secure,
            id: Fields::default(),
            nonsense: 0,
            prefix,
            since: now,
            heard: now,
            resume: false,
            draining: false,
        }
    }

    pub(super) fn handle(&mut self, input: Input<'_>, now: Instant, out: &mut Effects) -> Result<Next, End> {
        self.resume |= !matches!(input, Input::Octets(Side::Client, _) | Input::Wake);
        let next = match input {
            Input::Opened => {
                out.put(Side::Client, b"* OK [CAPABILITY ");
                out.put(Side::Client, self.front.capabilities(self.secure).text().as_bytes());
                out.put(Side::Client, b"] lemonade-proxy ready\r\n");
                Next::Took(0)
            }
            Input::Octets(Side::Client, octets) => {
                self.heard = now;
                Next::Took(self.hear_client(octets, out)?)
            }
            Input::Octets(Side::Backend, octets) => return self.hear_backend(octets, now, out),
            Input::Carried(Side::Client) => {
                self.state = State::Refused;
                Next::Took(0)
            }
            Input::Carried(Side::Backend) => return Err(End::Fault(Fault::Ours("unexpected input"))),
            Input::Dialled(dialled) => {
                self.dialled(dialled, now, out);
                Next::Took(0)
            }
            Input::Upgraded(Side::Client) => {
                (self.secure, self.state) = (true, State::AwaitCommand);
                Next::Took(0)
            }
            Input::Upgraded(Side::Backend) => {
                if let State::Joining(join) = &mut self.state {
                    join.upgraded(out);
                }
                Next::Took(0)
            }
            Input::Gone(Side::Client) => return Err(End::ClientGone),
            Input::Gone(Side::Backend) => {
                self.failed(DialError::Down, out);
                Next::Took(0)
            }
            Input::Drain => {
                self.draining = true;
                Next::Took(0)
            }
            Input::Wake => {
                self.wake(now, out)?;
                Next::Took(0)
            }
            // Nobody here has asked, and nobody is to be told.
            Input::Kept(_) | Input::Told(_) | Input::Noticed(_) => Next::Took(0),
        };
        match self.draining && matches!(self.state, State::AwaitCommand) {
            true => Err(bye("proxy shutting down", End::Drained, out)),
            false => Ok(next),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        let timeouts = &self.front.timeouts;
        match &self.state {
            State::Joining(join) if !join.wants_message() => join.since + timeouts.backend_login.0,
            _ => (self.since + timeouts.login.0).min(self.heard + timeouts.idle_before_login.0),
        }
    }

    fn wake(&mut self, now: Instant, out: &mut Effects) -> Result<(), End> {
        match (&self.state, now >= self.deadline()) {
            (_, false) => {}
            (State::Joining(join), true) if !join.wants_message() => self.failed(DialError::Down, out),
            (_, true) => return Err(bye("no login in time", End::NoLogin, out)),
        }
        Ok(())
    }

    pub(super) fn wants(&self, side: Side) -> bool {
        match (&self.state, side) {
            (State::AwaitCommand | State::Refused | State::AwaitMessage(_), Side::Client) => true,
            (State::Joining(join), Side::Client) => join.wants_message(),
            (State::Discarding | State::AwaitTls | State::AwaitBackend(_), Side::Client) => false,
            (_, Side::Backend) => true,
        }
    }

    fn hear_client(&mut self, octets: &[u8], out: &mut Effects) -> Result<usize, End> {
        let mut at = 0;
        while at < octets.len() && self.wants(Side::Client) {
            let rest = &octets[at..];
            let took = match self.state {
                State::AwaitCommand => self.command(rest, out)?,
                State::Refused => self.refused(rest, out)?,
                State::AwaitMessage(_) | State::Joining(_) => self.message(rest, out)?,
                State::Discarding | State::AwaitTls | State::AwaitBackend(_) => None,
            };
            let Some(len) = took else { break };
            at += len;
            // RFC 3501 6.2.1: what was sent in clear behind STARTTLS may be somebody else's.
            if matches!(self.state, State::AwaitTls) && at < octets.len() {
                return Err(End::Fault(Fault::Client("octets behind STARTTLS")));
            }
        }
        Ok(at)
    }

    fn command(&mut self, rest: &[u8], out: &mut Effects) -> Result<Option<usize>, End> {
        let limits = &self.front.limits;
        let literals = limits.literals_before_login.0;
        let bounds = Bounds { line: limits.sasl_line.0 as usize, literal: literals, literals, row: |_| 0 };
        match self.framer.cut(rest, &bounds) {
            Ok(Cut::Partial) => Ok(None),
            Ok(Cut::Prompt) => {
                out.put(Side::Client, b"+ go ahead\r\n");
                Ok(Some(0))
            }
            Ok(Cut::Whole { len }) => {
                self.whole(&rest[..len], out)?;
                Ok(Some(len))
            }
            Ok(Cut::Open { len, literal }) => {
                self.bad(command::tag(rest).unwrap_or(b"*"), "literal too large before login", out)?;
                self.discard(&literal, out)?;
                Ok(Some(len))
            }
            Err(FrameError::TooLong) => Err(bye("line too long", End::Fault(Fault::Client("line too long")), out)),
            Err(_) => {
                self.bad(command::tag(rest).unwrap_or(b"*"), "malformed command", out)?;
                self.state = State::Refused;
                Ok(Some(0))
            }
        }
    }

    /// What follows a refused `{n+}`, up to a bound, is read and dropped; beyond it the connection ends.
    fn discard(&mut self, literal: &Literal, out: &mut Effects) -> Result<(), End> {
        match literal.synchronising {
            true => self.state = State::AwaitCommand,
            false if literal.len > self.front.limits.append.0 => {
                return Err(bye("literal too large", End::Fault(Fault::Client("literal too large")), out));
            }
            false => {
                out.push(Effect::Discard { from: Side::Client, len: literal.len });
                self.state = State::Discarding;
            }
        }
        Ok(())
    }

    fn refused(&mut self, rest: &[u8], out: &mut Effects) -> Result<Option<usize>, End> {
        match frame::skip(rest) {
            Skip::More(0) => Ok(None),
            Skip::More(len) => Ok(Some(len)),
            Skip::End(len) => {
                self.state = State::AwaitCommand;
                Ok(Some(len))
            }
            Skip::Literal(took, len) => {
                self.discard(&Literal { len, synchronising: false, binary: false, mark: 0 }, out)?;
                Ok(Some(took))
            }
        }
    }

    fn whole(&mut self, octets: &[u8], out: &mut Effects) -> Result<(), End> {
        let Ok(head) = command::head(octets) else {
            return self.bad(command::tag(octets).unwrap_or(b"*"), "a tag and a command are needed", out);
        };
        let long =
            octets.len() as u64 > self.front.limits.line_before_login.0 + self.front.limits.literals_before_login.0;
        if long && head.verb.name != "AUTHENTICATE" {
            return self.bad(head.tag, "line too long before login", out);
        }
        let bare = matches!(head.verb.name, "CAPABILITY" | "NOOP" | "LOGOUT" | "STARTTLS");
        if bare && head.arguments != b"\r\n" {
            return self.bad(head.tag, "this command takes no arguments", out);
        }
        match head.verb.name {
            "CAPABILITY" => {
                let words = self.front.capabilities(self.secure).text();
                out.put(Side::Client, format!("* CAPABILITY {words}\r\n").as_bytes());
                done(head.tag, "CAPABILITY done", out);
                Ok(())
            }
            "NOOP" => {
                done(head.tag, "NOOP done", out);
                Ok(())
            }
            "LOGOUT" => {
                out.put(Side::Client, b"* BYE bye\r\n");
                done(head.tag, "LOGOUT done", out);
                Err(End::Logout)
            }
            "ID" => self.identify(&head, octets, out),
            "STARTTLS" => self.starttls(&head, out),
            "LOGIN" => self.login(&head, octets, out),
            "AUTHENTICATE" => self.authenticate(&head, octets, out),
            _ => self.bad(head.tag, "log in first", out),
        }
    }

    fn identify(&mut self, head: &Head<'_>, octets: &[u8], out: &mut Effects) -> Result<(), End> {
        let Ok(fields) = Fields::parse(octets) else {
            return self.bad(head.tag, "ID takes NIL or a list of at most 30 fields with values", out);
        };
        self.id = fields;
        out.put(Side::Client, format!("* ID {}\r\n", Fields::ours().write()).as_bytes());
        done(head.tag, "ID done", out);
        Ok(())
    }

    fn starttls(&mut self, head: &Head<'_>, out: &mut Effects) -> Result<(), End> {
        if self.secure || !self.front.starttls {
            return self.bad(head.tag, "STARTTLS is not offered", out);
        }
        // RFC 3501 6.2.1: what was learnt in clear is forgotten.
        self.id = Fields::default();
        self.state = State::AwaitTls;
        done(head.tag, "begin TLS negotiation now", out);
        out.push(Effect::Upgrade(Side::Client, Upgrade::Tls));
        Ok(())
    }

    /// RFC 3501 11.1, RFC 5530: a password in clear is refused before it is looked at.
    fn refuses_clear(&self, head: &Head<'_>, out: &mut Effects) -> bool {
        let refuses = !self.secure && !self.front.plaintext_login;
        if refuses {
            refuse(head.tag, &Refusal::no("PRIVACYREQUIRED", "TLS is required before login"), out);
        }
        refuses
    }

    fn login(&mut self, head: &Head<'_>, octets: &[u8], out: &mut Effects) -> Result<(), End> {
        if self.refuses_clear(head, out) {
            return Ok(());
        }
        let Ok(CommandBody::Login { username, password }) = command::decode(octets) else {
            return self.bad(head.tag, "LOGIN takes a user name and a password", out);
        };
        let Some(user) = sasl::text(username.as_ref()) else {
            return self.bad(head.tag, "the user name is no text", out);
        };
        let password = Secret::new(password.declassify().as_ref().to_vec());
        self.dial(head.tag, None, Some(user), Credentials::Password { authzid: String::new(), password }, out);
        Ok(())
    }

    fn authenticate(&mut self, head: &Head<'_>, octets: &[u8], out: &mut Effects) -> Result<(), End> {
        let Ok(CommandBody::Authenticate { mechanism, initial_response }) = command::decode(octets) else {
            return self.bad(head.tag, "AUTHENTICATE takes a mechanism and, perhaps, its first message", out);
        };
        if self.refuses_clear(head, out) {
            return Ok(());
        }
        let mechanism = match self.offered(&mechanism) {
            Some(mechanism) => mechanism,
            None => {
                refuse(head.tag, &Refusal::no("CANNOT", "this mechanism is not offered"), out);
                return Ok(());
            }
        };
        let exchange = Exchange { tag: Tag::from_slice(head.tag), mechanism, user: None };
        match (mechanism, initial_response) {
            (Mechanism::CramMd5, Some(_)) => self.bad(head.tag, "CRAM-MD5 has no first message of the client", out),
            (Mechanism::CramMd5, None) => {
                self.dial(head.tag, Some(mechanism), None, Credentials::Relayed { mechanism, first: None }, out);
                Ok(())
            }
            (_, Some(first)) => self.first(exchange, Secret::new(first.declassify().to_vec()), out),
            (_, None) => {
                out.put(Side::Client, if mechanism == Mechanism::Login { b"+ VXNlcm5hbWU6\r\n" } else { b"+ \r\n" });
                self.state = State::AwaitMessage(exchange);
                Ok(())
            }
        }
    }

    fn offered(&self, mechanism: &AuthMechanism<'_>) -> Option<Mechanism> {
        let mechanism = Mechanism::find(mechanism.as_ref())?;
        self.front.mechanisms.contains(&mechanism).then_some(mechanism)
    }

    /// A line of a SASL exchange: for us, or for the backend.
    fn message(&mut self, rest: &[u8], out: &mut Effects) -> Result<Option<usize>, End> {
        let bound = self.front.limits.sasl_line.0 as usize;
        let Some(end) = memchr::memchr(b'\n', rest) else {
            return match rest.len() > bound {
                true => Err(bye("line too long", End::Fault(Fault::Client("line too long")), out)),
                false => Ok(None),
            };
        };
        let line =
            rest[..end].strip_suffix(b"\r").filter(|line| line.len() <= bound && line.iter().all(u8::is_ascii_graphic));
        match std::mem::replace(&mut self.state, State::AwaitCommand) {
            State::Joining(mut join) => {
                // What is no line of base64 is as good as a cancellation; the backend will say so.
                join.message(line.unwrap_or(b"*"), out);
                self.state = State::Joining(join);
            }
            State::AwaitMessage(exchange) => match line.filter(|line| *line != b"*").and_then(sasl::decode) {
                Some(message) => self.first(exchange, message, out)?,
                None => self.bad(&exchange.tag, "authentication cancelled", out)?,
            },
            other => self.state = other,
        }
        Ok(Some(end + 1))
    }

    /// The client's first message, or the second of LOGIN.
    fn first(&mut self, mut exchange: Exchange, message: Secret, out: &mut Effects) -> Result<(), End> {
        let tag = exchange.tag.clone();
        let mechanism = exchange.mechanism;
        if let (Mechanism::Login, Some(user)) = (mechanism, exchange.user.take()) {
            let credentials = Credentials::Password { authzid: String::new(), password: message };
            self.dial(&tag, Some(mechanism), Some(user), credentials, out);
            return Ok(());
        }
        let Some(user) = mechanism.user(message.expose()) else {
            return self.bad(&tag, "this message names no user", out);
        };
        match (mechanism, Plain::parse(message.expose())) {
            (Mechanism::Login, _) => {
                out.put(Side::Client, b"+ UGFzc3dvcmQ6\r\n");
                self.state = State::AwaitMessage(Exchange { user: Some(user), ..exchange });
            }
            (Mechanism::Plain, Some(Plain { authzid, user: own, password })) => {
                // In one's own name is in nobody else's (RFC 4616 section 2), however the login name is rewritten.
                let authzid = if authzid == own { String::new() } else { authzid };
                self.dial(&tag, Some(mechanism), Some(user), Credentials::Password { authzid, password }, out);
            }
            _ => self.dial(
                &tag,
                Some(mechanism),
                Some(user),
                Credentials::Relayed { mechanism, first: Some(message) },
                out,
            ),
        }
        Ok(())
    }

    fn dial(
        &mut self,
        tag: &[u8],
        mechanism: Option<Mechanism>,
        user: Option<String>,
        credentials: Credentials,
        out: &mut Effects,
    ) {
        let separator = self.front.offer.account.device_separator;
        // A name that stands inside a signature cannot be changed.
        let separator = separator.filter(|_| mechanism.is_none_or(Mechanism::names_its_user));
        let (user, device) = match user {
            Some(user) => split_device(user, separator),
            None => (None, None),
        };
        let attempt = Attempt { tag: Tag::from_slice(tag), user: user.clone(), credentials, device, again: false };
        self.state = State::AwaitBackend(Box::new(attempt));
        out.push(Effect::Dial(Box::new(Dial { user, mechanism, again: false })));
    }

    fn dialled(&mut self, dialled: Result<Box<Dialled>, DialError>, now: Instant, out: &mut Effects) {
        let State::AwaitBackend(attempt) = std::mem::replace(&mut self.state, State::AwaitCommand) else { return };
        match dialled {
            Ok(dialled) => {
                self.state = State::Joining(Box::new(Join::new(*attempt, *dialled, self.id.clone(), &self.prefix, now)))
            }
            Err(error) => refuse(&attempt.tag, &dial_refusal(error), out),
        }
    }

    /// The backend is gone, or of no use.
    fn failed(&mut self, error: DialError, out: &mut Effects) {
        if let State::Joining(join) = std::mem::replace(&mut self.state, State::AwaitCommand) {
            out.push(Effect::HangUp);
            refuse(join.tag(), &dial_refusal(error), out);
        }
    }

    fn hear_backend(&mut self, octets: &[u8], now: Instant, out: &mut Effects) -> Result<Next, End> {
        let State::Joining(join) = &mut self.state else { return Ok(Next::Took(octets.len())) };
        let (took, outcome) = join.hear_backend(octets, out);
        match outcome {
            None => {}
            Some(Outcome::Joined { backend, text }) => {
                let key = join.key();
                let server = join.server(&backend);
                let opens = key.clone().filter(|_| server.auxiliary);
                let (aside, offer) = (opens.is_some(), &self.front.offer);
                let plan = self.front.plans.find(self.front.extensions, server.profile, backend, offer, aside);
                let line = [join.tag(), b" OK [CAPABILITY ", plan.told.text().as_bytes(), b"] ", &text, b"\r\n"];
                line.iter().for_each(|piece| out.put(Side::Client, piece));
                let (user, acting) = (join.user().cloned(), join.acting());
                out.push(Effect::Authenticated { user, acting, key: key.clone() });
                let device = join.device().or_else(|| Binding::said_by(&self.id));
                let mut open = Open::new(Arc::clone(&self.front), plan, &self.prefix, server, now);
                open.key = opens;
                open.again = key.map(|key| Box::new(Again::new(key, now)));
                device.into_iter().for_each(|device| open.bind(device, out));
                return Ok(Next::Open(took, Box::new(open)));
            }
            Some(Outcome::Refused { line, trouble }) => {
                let (tag, user) = (Tag::from_slice(join.tag()), join.user().cloned());
                self.state = State::AwaitCommand;
                out.push(Effect::HangUp);
                if !trouble {
                    out.push(Effect::Refused { user });
                }
                out.put(Side::Client, &[&tag, line.as_slice()].concat());
                // The refused client may try again, as long as the shell lets it dial.
                self.heard = now;
            }
            Some(Outcome::Useless) => self.failed(DialError::Down, out),
        }
        Ok(Next::Took(took))
    }

    /// Refuses a command that makes no sense here, and counts.
    fn bad(&mut self, tag: &[u8], text: &'static str, out: &mut Effects) -> Result<(), End> {
        refuse(tag, &Refusal::bad(text), out);
        self.nonsense += 1;
        match self.nonsense > Self::MOST_NONSENSE {
            true => Err(bye("too many bad commands", End::NoLogin, out)),
            false => Ok(()),
        }
    }
}

/// `joe#phone` is the device `phone` of `joe`. What cannot be the name of a device belongs to the user's.
fn split_device(user: String, separator: Option<char>) -> (Option<Arc<str>>, Option<Binding>) {
    let parts = separator.and_then(|separator| user.rsplit_once(separator));
    let named = parts.and_then(|(user, device)| Some((user, DeviceName::parse(device.as_bytes()).ok()?)));
    match named.filter(|(user, _)| !user.is_empty()) {
        Some((user, device)) => (Some(user.into()), Some(Binding { device, source: Source::Suffix })),
        None => (Some(user.into()), None),
    }
}

fn dial_refusal(error: DialError) -> Refusal {
    match error {
        DialError::Unknown => Refusal::no("AUTHENTICATIONFAILED", "authentication failed"),
        DialError::Down => Refusal::no("UNAVAILABLE", "the mail server is not available; try again later"),
        DialError::TooManyFailures => Refusal::no("AUTHENTICATIONFAILED", "too many failed logins; try again later"),
        DialError::TooManySessions => Refusal::no("LIMIT", "too many sessions of this user"),
        DialError::Busy => Refusal::no("UNAVAILABLE", "too many logins under way; try again later"),
    }
}

fn refuse(tag: &[u8], why: &Refusal, out: &mut Effects) {
    let start = out.text.len();
    why.write(tag, &mut out.text);
    out.put_from(Side::Client, start);
}

fn done(tag: &[u8], text: &str, out: &mut Effects) {
    out.put(Side::Client, &[tag, b" OK ", text.as_bytes(), b"\r\n"].concat());
}

fn bye(text: &str, why: End, out: &mut Effects) -> End {
    out.put(Side::Client, format!("* BYE {text}\r\n").as_bytes());
    why
}
