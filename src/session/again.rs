//! A backend connection that is lost under a client that listens is made again, and the client is told what has changed.
//!
//!     C: a IDLE
//!     S: + idling
//!     <.                                the backend has gone: it is dialled again, at once, then with growing pauses
//!     >  p1 LOGIN joe secret            as the client has logged in; a secret that is refused is never said again
//!     >  p1 SELECT INBOX                as it was selected (EXAMINE stays EXAMINE): another UIDVALIDITY is BYE
//!     >  p2 UID FETCH 1:* (UID FLAGS)   where the UIDs were known: what has gone is told as EXPUNGE
//!     >  p2 FETCH 1:3 (UID FLAGS)       where they were not: only if no message can have gone
//!     S: * 4 EXISTS
//!
//! Without UIDs a message may have gone and another come. None has gone if as many came as UIDs were given out: the count has
//! grown by as much as UIDNEXT (RFC 3501 2.3.1.1: UIDs are never given twice). Everything else is BYE with a reason, as it is
//! where the secret was never ours (relayed SCRAM), and where the backend has kept something for the client that a new
//! connection does not have (ENABLE, a native NOTIFY, a saved search). Meanwhile DONE is answered at once; a command behind it
//! waits unread. Issue 4; architecture section 12, "secrets in memory".

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    backend_edge::BackendEdge,
    effect::{Dial, DialError, Dialled, Effect, Effects, End, Input, Reconnect},
    gate::Owner,
    join::{Join, Outcome},
    key::Key,
    layer::{Ask, Reply},
    open::Open,
};
use crate::imap::{capability::Capabilities, command::Head};

/// How far it is to the backend, which can be logged in to once more.
#[derive(Debug)]
pub(super) struct Again {
    key: Arc<Key>,
    state: State,
    /// When the present trouble began.
    lost: Instant,
    /// How long the last pause between two attempts was.
    pause: Duration,
    /// When it was last back.
    back: Option<Instant>,
}

#[derive(Debug)]
enum State {
    /// The backend is there.
    Here,
    /// It is dialled at this moment.
    AwaitMoment(Instant),
    /// The shell connects to it.
    AwaitBackend,
    /// It is asked to let the client in.
    Joining(Box<Join>),
    /// It is there, and the mailbox is compared with what the client knows.
    Settling,
}

/// How long the backend is looked for: longer than a mail server takes to restart, shorter than a person waits for mail.
const MOST: Duration = Duration::from_secs(300);

/// The pause behind the second attempt; each is twice as long as the one before.
const SHORTEST: Duration = Duration::from_secs(1);

/// No pause is longer. A connection that is lost again within this time is the same trouble still.
const LONGEST: Duration = Duration::from_secs(60);

impl Again {
    /// A client that has logged in so, now.
    pub(super) fn new(key: Arc<Key>, now: Instant) -> Self {
        Self { key, state: State::Here, lost: now, pause: Duration::ZERO, back: None }
    }

    fn is_away(&self) -> bool {
        matches!(self.state, State::AwaitMoment(_) | State::AwaitBackend | State::Joining(_))
    }

    /// Half of the next pause is chance, so that the sessions of a backend do not all come back in the same moment.
    fn next_pause(&mut self, prefix: &[u8]) -> Duration {
        self.pause = (self.pause * 2).clamp(SHORTEST, LONGEST);
        let mut hasher = DefaultHasher::new();
        (prefix, self.pause).hash(&mut hasher);
        self.pause / 2 + (self.pause / 2).mul_f64(hasher.finish() as f64 / u64::MAX as f64)
    }
}

// The backend goes.
impl Open {
    /// Whether there is no backend to speak with, for the time being.
    pub(super) fn is_away(&self) -> bool {
        self.again.as_ref().is_some_and(|again| again.is_away())
    }

    /// Whether the backend is back, and the mailbox not yet what the client believes.
    pub(super) fn is_settling(&self) -> bool {
        self.again.as_ref().is_some_and(|again| matches!(again.state, State::Settling))
    }

    /// Whether the client need not notice that the backend is gone.
    pub(super) fn may_return(&self) -> bool {
        let comparable = match &self.mailbox {
            None => !self.selected,
            Some(mailbox) => {
                mailbox.uidvalidity.is_some() && (self.numbering.is_complete() || mailbox.uidnext.is_some())
            }
        };
        self.again.is_some() && comparable && self.is_listening() && self.is_at_rest()
    }

    /// The backend is gone, or of no use any more: it is looked for again.
    pub(super) fn leave(&mut self, out: &mut Effects) {
        let now = self.now;
        let Some(again) = &mut self.again else { return };
        out.push(Effect::HangUp);
        out.push(Effect::Reconnect(Reconnect::Lost));
        match again.back.is_none_or(|back| now >= back + LONGEST) {
            true => {
                (again.lost, again.pause) = (now, Duration::ZERO);
                self.dial_again(out);
            }
            false => self.pause(out),
        }
        self.forget_questions(out);
    }

    /// What was asked of the backend that is gone, it will not answer.
    fn forget_questions(&mut self, out: &mut Effects) {
        self.watch_lost();
        let prefix = self.backend.prefix.clone();
        self.backend = BackendEdge::new(&prefix, self.now);
        self.news.lose();
        self.loading = None;
        self.shrunk = None;
        for owner in self.gate.abandon() {
            match owner {
                Owner::Layer(level, ask) => self.reply(level, Ask(ask), Reply::Lost, out),
                Owner::Witness => self.inquiry_ended(None, out),
                Owner::Client | Owner::Idle | Owner::Numbering => {}
            }
        }
    }

    /// This command goes to the backend. One of which the backend remembers something makes the connection irreplaceable.
    ///
    /// A word in a string may look like one of these: then a loss is shown that could have been hidden.
    pub(super) fn note_lasting(&mut self, head: &Head<'_>) {
        /// Commands whose effect lasts as long as the connection.
        const COMMANDS: [&str; 6] = ["", "COMPARATOR", "ENABLE", "LANGUAGE", "NOTIFY", "UNAUTHENTICATE"];
        /// The same in arguments: RFC 7162 3.1 (what switches CONDSTORE on), RFC 5182 (SAVE), RFC 5267 (UPDATE).
        const WORDS: [&str; 8] =
            ["CHANGEDSINCE", "CONDSTORE", "HIGHESTMODSEQ", "MODSEQ", "QRESYNC", "SAVE", "UNCHANGEDSINCE", "UPDATE"];
        if self.again.is_none() || head.verb.name == "APPEND" {
            return;
        }
        let mut words = head.arguments.split(|octet| !octet.is_ascii_alphabetic());
        let lasting = |word: &[u8]| WORDS.iter().any(|lasting| word.eq_ignore_ascii_case(lasting.as_bytes()));
        if COMMANDS.contains(&head.verb.name) || words.any(lasting) {
            self.again = None;
        }
    }
}

// It comes back.
impl Open {
    /// Something happened on the way back to the backend. The answer says how many octets are done with.
    pub(super) fn come_back(&mut self, input: Input<'_>, out: &mut Effects) -> Result<usize, End> {
        match (input, self.again.as_mut().map(|again| &mut again.state)) {
            (Input::Octets(_, octets), Some(State::Joining(join))) => {
                let (took, outcome) = join.hear_backend(octets, out);
                outcome.map_or(Ok(()), |outcome| self.answered(outcome, out))?;
                return Ok(took);
            }
            // What the backend that was given up has still said.
            (Input::Octets(_, octets), _) => return Ok(octets.len()),
            (Input::Dialled(dialled), Some(State::AwaitBackend)) => self.dialled(dialled, out)?,
            (Input::Upgraded(_), Some(State::Joining(join))) => join.upgraded(out),
            (Input::Gone(_), Some(State::Joining(_))) => self.pause(out),
            _ => {}
        }
        Ok(0)
    }

    /// When something is due on the way back.
    pub(super) fn returns_at(&self) -> Option<Instant> {
        let again = self.again.as_ref().filter(|again| again.is_away())?;
        let due = match &again.state {
            State::AwaitMoment(when) => *when,
            State::Joining(join) => join.since + self.front.timeouts.backend_login.0,
            State::AwaitBackend | State::Here | State::Settling => again.lost + MOST,
        };
        Some(due.min(again.lost + MOST))
    }

    /// It is due.
    pub(super) fn wake_away(&mut self, now: Instant, out: &mut Effects) -> Result<(), End> {
        if self.returns_at().is_none_or(|due| now < due) {
            return Ok(());
        }
        match self.again.as_ref().map(|again| (&again.state, now >= again.lost + MOST)) {
            Some((_, true)) => Err(self.give_up(Reconnect::GivenUp, "backend connection lost", out)),
            Some((State::Joining(_), _)) => {
                self.pause(out);
                Ok(())
            }
            _ => {
                self.dial_again(out);
                Ok(())
            }
        }
    }

    fn dial_again(&mut self, out: &mut Effects) {
        let Some(again) = &mut self.again else { return };
        again.state = State::AwaitBackend;
        out.push(Effect::Dial(Box::new(Dial { user: again.key.user(), mechanism: None, again: true })));
    }

    /// Not now; later, perhaps.
    fn pause(&mut self, out: &mut Effects) {
        let Some(again) = &mut self.again else { return };
        out.push(Effect::HangUp);
        again.state = State::AwaitMoment(self.now + again.next_pause(&self.backend.prefix));
    }

    fn dialled(&mut self, dialled: Result<Box<Dialled>, DialError>, out: &mut Effects) -> Result<(), End> {
        let Some(again) = &mut self.again else { return Ok(()) };
        match dialled {
            Ok(dialled) if again.key.fits(&dialled) => {
                let join = again.key.join(*dialled, &self.backend.prefix, self.now);
                again.state = State::Joining(Box::new(join));
            }
            // The account has moved.
            Ok(_) | Err(DialError::Unknown) => return Err(self.give_up(Reconnect::Changed, ANOTHER, out)),
            Err(_) => self.pause(out),
        }
        Ok(())
    }

    /// The backend has said whether it lets the client in.
    fn answered(&mut self, outcome: Outcome, out: &mut Effects) -> Result<(), End> {
        match outcome {
            Outcome::Joined { backend, .. } => self.joined(&backend, out),
            Outcome::Refused { trouble: false, .. } => Err(self.give_up(Reconnect::Refused, REFUSED, out)),
            Outcome::Refused { trouble: true, .. } | Outcome::Useless => {
                self.pause(out);
                Ok(())
            }
        }
    }

    fn joined(&mut self, backend: &Capabilities, out: &mut Effects) -> Result<(), End> {
        // The layers stand on what the backend could do.
        if *backend != self.plan.backend {
            return Err(self.give_up(Reconnect::Changed, ANOTHER, out));
        }
        if let Some(again) = &mut self.again {
            (again.state, again.back) = (State::Settling, Some(self.now));
        }
        self.backend.heard = self.now;
        self.resume = true;
        out.push(Effect::Reconnect(Reconnect::Joined));
        match self.selected {
            true => self.reselect(out),
            false => self.settled(out),
        }
        Ok(())
    }

    /// The mailbox is selected again. Whether what has become of it can be told: by UID, or because nothing has gone.
    pub(super) fn is_comparable(&self, count: u32, uidnext: Option<u32>) -> bool {
        let before = self.mailbox.as_ref().and_then(|mailbox| mailbox.uidnext);
        let came = count.checked_sub(self.numbering.count());
        let given = uidnext.zip(before).and_then(|(now, before)| now.checked_sub(before));
        self.numbering.is_complete() || (came.is_some() && came == given)
    }

    /// The client knows what there is to know.
    pub(super) fn settled(&mut self, out: &mut Effects) {
        if let Some(again) = self.again.as_mut().filter(|again| matches!(again.state, State::Settling)) {
            again.state = State::Here;
            out.push(Effect::Reconnect(Reconnect::Settled));
        }
    }

    /// The client has to begin anew.
    fn give_up(&mut self, what: Reconnect, text: &str, out: &mut Effects) -> End {
        out.push(Effect::Reconnect(what));
        self.bye(&format!("[UNAVAILABLE] {text}"), End::BackendGone, out)
    }
}

/// What a client is told whose account is not where it was, or its server not what it was.
const ANOTHER: &str = "the mail server is not what it was; please log in again";

/// What a client is told whose password or token the backend does not take any more.
const REFUSED: &str = "backend connection lost, and the login was refused; please log in again";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::key;

    #[test]
    fn pauses_grow_to_a_bound_and_half_of_each_is_chance() {
        let mut again = Again::new(key::tests::key(), Instant::now());
        for most in [1, 2, 4, 8, 16, 32, 60, 60].map(Duration::from_secs) {
            let pause = again.next_pause(b"p");
            assert!((most / 2..=most).contains(&pause), "{pause:?} of {most:?}");
        }
        assert!(!format!("{again:?}").contains("secret"));
    }
}
