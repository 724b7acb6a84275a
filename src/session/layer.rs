//! A layer makes the server below look like a server that has one more extension.
//!
//! It is called for the commands that its [`Extension`] hears, and says what to do in [`Out`]; only the edges write. What it
//! asks the server below, or the store, comes back in parts, then with a word that ends it:
//!
//!     command(NAMESPACE)         ask(LIST "" "")
//!     reply(* LIST () "." "")    ...
//!     reply(Done)                answer(* NAMESPACE (("" ".")) NIL NIL), done("NAMESPACE done")
//!
//! The server below is the next layer that hears the question, or the backend. Architecture sections 3 and 5. Facts of the
//! mailbox come to layers when the first layer needs one.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    aside::Errand,
    backend_edge::BackendEdge,
    effect::{Binding, Keeping, Kept, Notice, Origin},
    idle::{Listening, Pace},
    plan::Plan,
    profile::Profile,
};
use crate::{
    account,
    imap::{capability::Capabilities, esearch::Found, response::Status, verb::Verb},
    mailbox::{
        event::Event,
        overview::{self, Finding},
    },
    store::{Change, Query},
};

/// One entry of the list in `ext/mod.rs`.
#[derive(Debug)]
pub struct Extension {
    /// Its name, as operators write it in `[extensions]`: `UNSELECT`.
    pub name: &'static str,
    /// Where it is written down: `RFC 3691`.
    pub spec: &'static str,
    /// The capability words that the client above will be told.
    pub gives: &'static [&'static str],
    /// Words that the client is told with these, where the layer stands; a backend that lacks only them is left alone.
    pub along: &'static [&'static str],
    /// What the server below must be able to do.
    pub needs: &'static [&'static str],
    /// It looks into mailboxes on a connection of its own: it cannot be had where nobody could log in there.
    pub aside: bool,
    /// It adds to what the backend has of it, and so stands in the stack although the backend has it.
    pub joins: bool,
    /// Words of the server below that are not true of what the layer makes of it.
    pub hides: &'static [&'static str],
    /// Whether it is to be offered at all, by what the operator says of accounts.
    pub when: fn(&account::Settings) -> bool,
    /// The verbs that visit it.
    pub hears: &'static [&'static str],
    /// Of these verbs, the commands that concern it, told from their arguments: the others pass by and are pipelined.
    pub concerns: fn(&Verb, &[u8]) -> bool,
    /// It speaks of messages by UID: before it is reached, the UIDs of the selected mailbox are learnt (architecture 4.1).
    pub touches: bool,
    /// It takes commands whose last literal is still on the wire, and lets that pass by unread (architecture 4.5).
    pub streams: bool,
    /// What a client has begun with it goes on when the client goes away, for a while: half of it done is worse than none.
    pub finishes: bool,
    /// Makes the layer; called when it is first reached.
    pub build: fn() -> Box<dyn Layer>,
}

impl Extension {
    /// One that brings nothing and hears nothing: what the others are written on.
    pub const NONE: Self = Self {
        name: "",
        spec: "",
        gives: &[],
        along: &[],
        needs: &[],
        aside: false,
        joins: false,
        hides: &[],
        when: |_| true,
        hears: &[],
        concerns: |_, _| true,
        touches: false,
        streams: false,
        finishes: false,
        build: || Box::new(Deaf),
    };
}

/// The layer of an extension that hears nothing.
struct Deaf;

impl Layer for Deaf {
    fn command(&mut self, _command: Command<'_>, out: &mut Out<'_>) {
        out.forward();
    }
}

/// One concern of a session. Called only for what its extension hears (architecture 4.6).
pub trait Layer: Send {
    /// A command on its way down. It runs alone until it is forwarded and ends, or is done.
    fn command(&mut self, command: Command<'_>, out: &mut Out<'_>);

    /// What this layer asked for.
    fn reply(&mut self, _ask: Ask, _reply: Reply<'_>, _out: &mut Out<'_>) {}

    /// Something has happened elsewhere in the account: in another of its sessions, or by an operator.
    fn noticed(&mut self, _notice: &Notice, _out: &mut Out<'_>) {}

    /// The client has changed something itself: a mailbox, what it is subscribed to, messages that it has stored. Told while it
    /// listens by NOTIFY.
    fn changed(&mut self, _event: &Event, _out: &mut Out<'_>) {}

    /// The moment this layer asked to be woken at has come, or another mailbox is selected. No command of the client's is in
    /// progress, and no question of any layer's.
    fn wake(&mut self, _now: Instant, _out: &mut Out<'_>) {}
}

/// A command with its small literals: whole, or, where the layer streams, up to a big one.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// What it is called: by the client, or, where a layer above asks, by us.
    pub tag: &'a [u8],
    /// Its row.
    pub verb: &'static Verb,
    /// All of it, as it came.
    pub octets: &'a [u8],
    /// The octets behind the verb, without the line's end.
    pub arguments: &'a [u8],
}

/// The number of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ask(pub u32);

/// What becomes of a question.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// An untagged response that answers it, with its literals, its end cut off.
    Part(&'a [u8]),
    /// What a UID SEARCH found, however much.
    Found(&'a Found),
    /// An untagged response that is too long to be held: the question is as good as lost.
    TooLong,
    /// The server below has ended it; the text behind the status.
    Done(Status, &'a [u8]),
    /// The store's answer, and the time of day at which it was given, in seconds since 1970.
    Kept(&'a Kept, i64),
    /// The store could not do it: nothing has changed. Of an errand that listens: another session of the account does that now.
    Unavailable,
    /// No answer will come: too much, too late, or nobody there.
    Lost,
}

/// A normal NO or BAD: the answer to a command (architecture section 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// NO or BAD.
    pub status: Status,
    /// The response code without its brackets; empty for none.
    pub code: Cow<'static, str>,
    /// Text for people, on one line.
    pub text: Cow<'static, str>,
}

impl Refusal {
    /// A command that is not understood, or not here.
    pub fn bad(text: impl Into<Cow<'static, str>>) -> Self {
        Self { status: Status::Bad, code: Cow::Borrowed(""), text: text.into() }
    }

    /// A command that is understood and not done, with the reason as a code (RFC 5530).
    pub fn no(code: impl Into<Cow<'static, str>>, text: impl Into<Cow<'static, str>>) -> Self {
        Self { status: Status::No, code: code.into(), text: text.into() }
    }

    /// The backend's refusal of a question of ours, in our own words: its text may name a command that the client never gave.
    pub fn of_backend(status: Status) -> Self {
        match status {
            Status::Bad => Self::bad("the backend did not understand"),
            Status::Ok | Status::No => Self::no("", "the backend refused"),
        }
    }

    /// No answer came.
    pub fn unanswered() -> Self {
        Self::no("UNAVAILABLE", "no answer from the backend")
    }

    /// Writes what stands behind the status: the code in brackets, and the text.
    ///
    /// The text may repeat what a client wrote: it stays on its line, and is not repeated for ever.
    pub fn words(&self) -> String {
        const LONGEST: usize = 400;
        let text: String = self.text.chars().filter(|octet| !octet.is_control()).take(LONGEST).collect();
        match self.code.is_empty() {
            true => text,
            false => format!("[{}] {text}", self.code),
        }
    }

    /// Writes it as the end of a command.
    pub fn write(&self, tag: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(tag);
        out.extend_from_slice(if self.status == Status::Bad { b" BAD " } else { b" NO " });
        out.extend_from_slice(self.words().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// What a layer wants done, in order.
#[derive(Debug)]
pub(super) enum Act {
    /// The command in hand goes to the server below, as these octets; `None`: as it came.
    Forward(Option<Vec<u8>>),
    /// The command in hand goes to the server below, as these octets or as it came, and its end comes back as a reply.
    Follow { ask: Ask, edited: Option<Vec<u8>> },
    /// An untagged line for whoever gave the command in hand, its end cut off.
    Answer(Vec<u8>),
    /// The good end of the command in hand: what stands behind `OK `.
    Done(Vec<u8>),
    /// A refusal of the command in hand.
    Refuse(Refusal),
    /// The command in hand is IDLE: it runs, and this is what the client wants to hear.
    Idle(Option<Listening>),
    /// A question to the server below.
    Ask { ask: Ask, verb: &'static Verb, arguments: Vec<u8> },
    /// Something to be asked in another mailbox.
    Aside { ask: Ask, errand: Errand },
    /// What was to be asked there is not wanted any more.
    Recall(Ask),
    /// A question to the store.
    Keep { ask: Ask, keeping: Keeping },
    /// The other sessions of the account are to hear this.
    Publish(Notice),
    /// The session belongs to this device from now on.
    Bind(Binding),
    /// The client has said NOTIFY, and this is what it wants to hear of the selected mailbox at any time.
    Listen(Option<Listening>),
    /// Those who follow events are to hear what of this is news.
    Found(Box<Finding>),
    /// This layer is to be woken then, and not at the moment it named before.
    WakeAt(Instant),
}

/// All that a layer can do.
#[derive(Debug)]
pub struct Out<'a> {
    pub(super) acts: Vec<Act>,
    pub(super) asks: &'a mut u32,
    pub(super) plan: &'a Arc<Plan>,
    pub(super) level: usize,
    pub(super) origin: Option<&'a Origin>,
    pub(super) device: Option<&'a Binding>,
    pub(super) selected: bool,
    pub(super) mailbox: Option<&'a [u8]>,
    pub(super) read_only: bool,
    pub(super) epoch: u32,
    pub(super) time_of_day: fn() -> i64,
    pub(super) notified: bool,
    pub(super) modseq: bool,
    pub(super) now: Instant,
    pub(super) pace: Pace,
    pub(super) backend: &'a BackendEdge,
    pub(super) profile: &'static Profile,
    pub(super) hears_aside: bool,
    pub(super) followed: bool,
}

impl Out<'_> {
    /// The command goes to the server below as it came.
    pub fn forward(&mut self) {
        self.acts.push(Act::Forward(None));
    }

    /// The command goes to the server below as this one, with these arguments.
    pub fn forward_as(&mut self, command: &Command<'_>, verb: &Verb, arguments: &[u8]) {
        self.acts.push(Act::Forward(Some(edited(command, verb, arguments))));
    }

    /// The command goes to the server below as it came, and stays in hand: how it ended comes as a reply, and the layer
    /// ends it then.
    pub fn follow(&mut self) -> Ask {
        let ask = self.next();
        self.acts.push(Act::Follow { ask, edited: None });
        ask
    }

    /// The same, as this one with these arguments; it may go down more than once.
    pub fn follow_as(&mut self, command: &Command<'_>, verb: &Verb, arguments: &[u8]) -> Ask {
        let ask = self.next();
        self.acts.push(Act::Follow { ask, edited: Some(edited(command, verb, arguments)) });
        ask
    }

    /// Tells whoever gave the command an untagged line, given without its end; the client, where no command is in hand.
    pub fn answer(&mut self, line: impl Into<Vec<u8>>) {
        self.acts.push(Act::Answer(line.into()));
    }

    /// Ends the command well.
    pub fn done(&mut self, text: impl Into<Vec<u8>>) {
        self.acts.push(Act::Done(text.into()));
    }

    /// The command is IDLE, and runs: what the client wants to hear, if not everything.
    pub fn idle(&mut self, listening: Option<Listening>) {
        self.acts.push(Act::Idle(listening));
    }

    /// Refuses the command.
    pub fn refuse(&mut self, why: Refusal) {
        self.acts.push(Act::Refuse(why));
    }

    /// Asks the server below. Literals stand in the arguments as a client would write them.
    pub fn ask(&mut self, verb: &'static Verb, arguments: impl Into<Vec<u8>>) -> Ask {
        let ask = self.next();
        self.acts.push(Act::Ask { ask, verb, arguments: arguments.into() });
        ask
    }

    /// Asks in another mailbox, on a connection of its own (architecture section 12). Answers come in the order in which they
    /// are known; a session that has no secret for it is told at once that there is none.
    pub fn aside(&mut self, errand: Errand) -> Ask {
        let ask = self.next();
        self.acts.push(Act::Aside { ask, errand });
        ask
    }

    /// Nobody waits any more for what comes of this errand, and no reply will come.
    pub fn recall(&mut self, ask: Ask) {
        self.acts.push(Act::Recall(ask));
    }

    /// Asks the store to keep this. The OK to a client is said in the reply.
    pub fn save(&mut self, change: Change) -> Ask {
        let ask = self.next();
        self.acts.push(Act::Keep { ask, keeping: Keeping::Save(change) });
        ask
    }

    /// Asks the store for this.
    pub fn load(&mut self, query: Query) -> Ask {
        let ask = self.next();
        self.acts.push(Act::Keep { ask, keeping: Keeping::Load(query) });
        ask
    }

    /// Tells the other sessions of the account.
    pub fn publish(&mut self, notice: Notice) {
        self.acts.push(Act::Publish(notice));
    }

    /// This is so in the account, as a question has shown that was asked then. Those who follow events hear what of it is news.
    pub fn found(&mut self, asked: Instant, found: overview::Found) {
        self.acts.push(Act::Found(Box::new(Finding { asked, own: false, found })));
    }

    /// The session belongs to this device from now on.
    pub fn bind(&mut self, device: Binding) {
        self.acts.push(Act::Bind(device));
    }

    /// The client has said NOTIFY: this it wants to hear of the selected mailbox, at any time. None: it is as if it never had,
    /// and what was held back is told.
    pub fn listen(&mut self, listening: Option<Listening>) {
        self.acts.push(Act::Listen(listening));
    }

    /// The layer is to be woken at this moment, or as soon after as no command of the client's is in progress.
    pub fn wake_at(&mut self, when: Instant) {
        self.acts.push(Act::WakeAt(when));
    }

    fn next(&mut self) -> Ask {
        *self.asks += 1;
        Ask(*self.asks)
    }

    /// What the server below can do: the next layers, and what is relayed of the backend.
    pub fn below(&self) -> &Capabilities {
        self.plan.below(self.level)
    }

    /// What the backend said of itself, of its own hop too.
    pub fn backend(&self) -> &Capabilities {
        &self.plan.backend
    }

    /// What all sessions of this kind have in common.
    pub fn plan(&self) -> &Arc<Plan> {
        self.plan
    }

    /// Where in the stack the layer stands.
    pub fn level(&self) -> usize {
        self.level
    }

    /// Whether a mailbox is selected.
    pub fn is_selected(&self) -> bool {
        self.selected
    }

    /// The name of the selected mailbox, as it is on the wire.
    pub fn mailbox(&self) -> Option<&[u8]> {
        self.mailbox
    }

    /// Whether it is not to be changed.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Which mailbox is selected, counted from the beginning of the session.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether the client has said with NOTIFY what it wants to hear: nothing else is told unasked (RFC 5465 3.1).
    pub fn is_notified(&self) -> bool {
        self.notified
    }

    /// Whether the client has said that it knows mod-sequences, and the backend has them (RFC 7162 3.1).
    pub fn knows_modseq(&self) -> bool {
        self.modseq
    }

    /// Whether somebody follows events: only then is it worth while to say what is found.
    pub fn is_followed(&self) -> bool {
        self.followed
    }

    /// This moment.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// How often the backend may be asked for news.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Whether the backend's UIDNEXT grows without a message having come.
    pub fn moves_uidnext(&self) -> bool {
        self.profile.moves_uidnext
    }

    /// Whether another connection may be opened in the client's name, and the backend tells there by itself what happens: it has
    /// IDLE, which is not known to keep things to itself.
    pub fn hears_aside(&self) -> bool {
        self.hears_aside
    }

    /// A distance between two looks, as it is to be this time: sessions that have begun together do not all ask together.
    pub fn spread(&self, every: Duration) -> Duration {
        self.backend.spread(every)
    }

    /// Says the time of day, in seconds since 1970.
    pub fn time_of_day(&self) -> fn() -> i64 {
        self.time_of_day
    }

    /// Where the client comes from, if the backend is trusted with it.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin
    }

    /// To which device the session belongs.
    pub fn device(&self) -> Binding {
        self.device.cloned().unwrap_or_default()
    }
}

/// A command as another one, with these arguments.
fn edited(command: &Command<'_>, verb: &Verb, arguments: &[u8]) -> Vec<u8> {
    [command.tag, b" ", verb.name.as_bytes(), b" ", arguments, b"\r\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_stays_on_its_line() {
        let mut line = Vec::new();
        Refusal::no("CANNOT", format!("\r\n* BYE {}", "x".repeat(1000))).write(b"a", &mut line);
        assert!(line.starts_with(b"a NO [CANNOT] * BYE xxx") && line.len() < 500, "{}", line.escape_ascii());
        assert_eq!(memchr::memchr(b'\n', &line), Some(line.len() - 1));
    }
}
