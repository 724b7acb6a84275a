//! A layer makes the server below look like a server that has one more extension.
//!
//! It is called for the verbs that its [`Extension`] hears, and says what to do in [`Out`]; only the edges write. What it
//! asks the server below comes back in parts, then with a word that ends it:
//!
//!     command(NAMESPACE)         ask(LIST "" "")
//!     reply(* LIST () "." "")    ...
//!     reply(Done)                answer(* NAMESPACE (("" ".")) NIL NIL), done(OK)
//!
//! Architecture sections 3 and 5. Facts come to layers when the first layer needs one.

use super::effect::Origin;
use crate::imap::{capability::Capabilities, response::Status, verb::Verb};

/// One entry of the list in `ext/mod.rs`.
#[derive(Debug)]
pub struct Extension {
    /// Its name, as operators write it in `[extensions]`: `UNSELECT`.
    pub name: &'static str,
    /// Where it is written down: `RFC 3691`.
    pub spec: &'static str,
    /// The capability words that the client above will be told.
    pub gives: &'static [&'static str],
    /// What the server below must be able to do.
    pub needs: &'static [&'static str],
    /// The verbs that visit it.
    pub hears: &'static [&'static str],
    /// Makes the layer; called when it is first reached.
    pub build: fn() -> Box<dyn Layer>,
}

/// One concern of a session. Called only for what its extension hears (architecture 4.6).
pub trait Layer: Send {
    /// A command on its way down. It runs alone until it is forwarded and ends, or is done.
    fn command(&mut self, command: Command<'_>, out: &mut Out<'_>);

    /// What this layer asked for.
    fn reply(&mut self, _ask: Ask, _reply: Reply<'_>, _out: &mut Out<'_>) {}
}

/// A command, whole, with its small literals.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    /// What the client calls it.
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
    /// An untagged line that answers it, its end cut off.
    Part(&'a [u8]),
    /// The server below has ended it; the text behind the status.
    Done(Status, &'a [u8]),
    /// No answer will come: too much, too late, or nobody there.
    Lost,
}

/// A normal NO or BAD: the answer to a command (architecture section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// NO or BAD.
    pub status: Status,
    /// The response code without its brackets; empty for none.
    pub code: &'static str,
    /// Text for people.
    pub text: &'static str,
}

impl Refusal {
    /// A command that is not understood, or not here.
    pub const fn bad(text: &'static str) -> Self {
        Self { status: Status::Bad, code: "", text }
    }

    /// A command that is understood and not done, with the reason as a code (RFC 5530).
    pub const fn no(code: &'static str, text: &'static str) -> Self {
        Self { status: Status::No, code, text }
    }

    /// The backend's refusal of a question of ours, in our own words: its text may name a command that the client never gave.
    pub const fn of_backend(status: Status) -> Self {
        match status {
            Status::Bad => Self::bad("the backend did not understand"),
            Status::Ok | Status::No => Self::no("", "the backend refused"),
        }
    }

    /// Writes it as the end of a command.
    pub fn write(&self, tag: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(tag);
        out.extend_from_slice(if self.status == Status::Bad { b" BAD " } else { b" NO " });
        if !self.code.is_empty() {
            out.extend_from_slice(format!("[{}] ", self.code).as_bytes());
        }
        out.extend_from_slice(self.text.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// What a layer wants done, in order.
#[derive(Debug)]
pub(super) enum Act {
    /// The command in hand goes to the server below, as these octets; `None`: as it came.
    Forward(Option<Vec<u8>>),
    /// An untagged line for the client.
    Answer(Vec<u8>),
    /// The end of the client's command.
    Done { tag: Vec<u8>, text: &'static str },
    /// A refusal of the client's command.
    Refuse { tag: Vec<u8>, why: Refusal },
    /// A question to the server below.
    Ask { ask: Ask, verb: &'static Verb, arguments: Vec<u8> },
}

/// All that a layer can do.
#[derive(Debug)]
pub struct Out<'a> {
    pub(super) acts: Vec<Act>,
    pub(super) asks: &'a mut u32,
    pub(super) below: &'a Capabilities,
    pub(super) origin: Option<&'a Origin>,
    pub(super) selected: bool,
}

impl Out<'_> {
    /// The command goes to the server below as it came.
    pub fn forward(&mut self) {
        self.acts.push(Act::Forward(None));
    }

    /// The command goes to the server below as these octets: the same tag, other arguments.
    pub fn forward_as(&mut self, octets: Vec<u8>) {
        self.acts.push(Act::Forward(Some(octets)));
    }

    /// Tells the client an untagged line, given without its end.
    pub fn answer(&mut self, mut line: Vec<u8>) {
        line.extend_from_slice(b"\r\n");
        self.acts.push(Act::Answer(line));
    }

    /// Ends the client's command well.
    pub fn done(&mut self, tag: &[u8], text: &'static str) {
        self.acts.push(Act::Done { tag: tag.to_vec(), text });
    }

    /// Refuses the client's command.
    pub fn refuse(&mut self, tag: &[u8], why: Refusal) {
        self.acts.push(Act::Refuse { tag: tag.to_vec(), why });
    }

    /// Asks the server below. `arguments` have no literals.
    pub fn ask(&mut self, verb: &'static Verb, arguments: impl Into<Vec<u8>>) -> Ask {
        *self.asks += 1;
        let ask = Ask(*self.asks);
        self.acts.push(Act::Ask { ask, verb, arguments: arguments.into() });
        ask
    }

    /// What the server below can do.
    pub fn below(&self) -> &Capabilities {
        self.below
    }

    /// Whether a mailbox is selected.
    pub fn is_selected(&self) -> bool {
        self.selected
    }

    /// Where the client comes from, if the backend is trusted with it.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin
    }
}
