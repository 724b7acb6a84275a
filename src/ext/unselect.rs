//! UNSELECT: leave a mailbox without expunging it (RFC 3691), where CLOSE would expunge.
//!
//! Below: EXAMINE and CLOSE.   Above: UNSELECT.
//!
//!     C: a UNSELECT
//!     >  p1 EXAMINE "a name that nobody has"      a failing EXAMINE leaves no mailbox selected (RFC 3501 6.3.1)
//!     <  p1 NO no such mailbox
//!     S: a OK UNSELECT done
//!
//! Should somebody have a mailbox of that name, it is open for reading only, and CLOSE expunges nothing of it (6.4.2).

use crate::{
    imap::{response::Status, verb},
    session::layer::{Ask, Command, Extension, Layer, Out, Refusal, Reply},
};

/// RFC 3691.
pub const UNSELECT: Extension = Extension {
    name: "UNSELECT",
    spec: "RFC 3691",
    gives: &["UNSELECT"],
    needs: &[],
    hears: &["UNSELECT"],
    build: || Box::<Unselect>::default(),
};

/// A name that no mailbox has, made of letters that every server takes.
const NOBODYS: &str = "lemonade-unselect-2c9e51f0";

#[derive(Default)]
struct Unselect {
    tag: Vec<u8>,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    AwaitExamine,
    AwaitClose,
}

impl Layer for Unselect {
    fn command(&mut self, command: Command<'_>, out: &mut Out<'_>) {
        if !command.arguments.is_empty() {
            return out.refuse(command.tag, Refusal::bad("UNSELECT takes no arguments"));
        }
        if !out.is_selected() {
            return out.refuse(command.tag, Refusal::bad("no mailbox is selected"));
        }
        *self = Self { tag: command.tag.to_vec(), state: State::AwaitExamine };
        if let Some(verb) = verb::find(b"EXAMINE") {
            out.ask(verb, NOBODYS);
        }
    }

    fn reply(&mut self, _ask: Ask, reply: Reply<'_>, out: &mut Out<'_>) {
        match (&self.state, reply) {
            (_, Reply::Part(_)) => {}
            (State::AwaitExamine, Reply::Done(Status::Ok, _)) => {
                self.state = State::AwaitClose;
                if let Some(verb) = verb::find(b"CLOSE") {
                    out.ask(verb, "");
                }
            }
            (State::AwaitExamine, Reply::Done(Status::No, _)) | (State::AwaitClose, Reply::Done(Status::Ok, _)) => {
                out.done(&self.tag, "UNSELECT done");
            }
            (_, Reply::Done(status, _)) => out.refuse(&self.tag, Refusal::of_backend(status)),
            (_, Reply::Lost) => out.refuse(&self.tag, Refusal::no("UNAVAILABLE", "no answer from the backend")),
        }
    }
}
