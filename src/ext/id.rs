//! ID: who talks to whom (RFC 2971). Answered by us; a backend that the operator trusts is told, with the client's address.
//!
//! Below: nothing, or ID.   Above: ID.
//!
//!     C: a ID ("name" "K-9 Mail")
//!     >  p1 ID ("name" "K-9 Mail" "x-originating-ip" "192.0.2.7" ...)     only to a trusted backend
//!     S: * ID ("name" "lemonade-proxy" ...)
//!     S: a OK ID done
//!
//! Before login the same words are handled in `session/login.rs`. Requirement A6.

use crate::{
    imap::{id::Fields, verb},
    session::layer::{Ask, Command, Extension, Layer, Out, Refusal, Reply},
};

/// RFC 2971.
pub const ID: Extension = Extension {
    name: "ID",
    spec: "RFC 2971",
    gives: &["ID"],
    needs: &[],
    hears: &["ID"],
    build: || Box::<Id>::default(),
};

/// Answers when the backend has heard it, so that an ID and what follows it reach the backend in this order.
#[derive(Default)]
struct Id {
    tag: Vec<u8>,
}

impl Layer for Id {
    fn command(&mut self, command: Command<'_>, out: &mut Out<'_>) {
        let Ok(fields) = Fields::parse(command.octets) else {
            return out.refuse(command.tag, Refusal::bad("ID takes NIL or a list of at most 30 fields with values"));
        };
        self.tag = command.tag.to_vec();
        match (out.origin().filter(|_| out.below().has("ID")), verb::find(b"ID")) {
            (Some(origin), Some(verb)) => {
                let fields = origin.extend(fields).write();
                out.ask(verb, fields);
            }
            _ => self.answer(out),
        }
    }

    fn reply(&mut self, _ask: Ask, reply: Reply<'_>, out: &mut Out<'_>) {
        if !matches!(reply, Reply::Part(_)) {
            self.answer(out);
        }
    }
}

impl Id {
    fn answer(&self, out: &mut Out<'_>) {
        out.answer(format!("* ID {}", Fields::ours().write()).into_bytes());
        out.done(&self.tag, "ID done");
    }
}
