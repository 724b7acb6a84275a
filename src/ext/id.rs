//! ID: who talks to whom (RFC 2971). Answered by us; a backend that the operator trusts is told, with the client's address.
//!
//! Below: nothing, or ID.   Above: ID.
//!
//!     C: a ID ("name" "K-9 Mail" "device-id" "pixel")
//!     >  p1 ID ("name" "K-9 Mail" "x-originating-ip" "192.0.2.7" ...)     only to a trusted backend
//!     S: * ID ("name" "lemonade-proxy" ...)
//!     S: a OK ID done
//!
//! The field `device-id` says which device this is (architecture section 12); a name that is none is as good as none. Before
//! login the same words are handled in `session/login.rs`. Requirements A6, N14.

use crate::{
    imap::{
        id::Fields,
        verb::{self, Verb},
    },
    session::{
        effect::Binding,
        layer::{Ask, Command, Extension, Layer, Out, Refusal, Reply},
    },
};

/// RFC 2971.
pub const ID: Extension = Extension {
    name: "ID",
    spec: "RFC 2971",
    gives: &["ID"],
    hears: &["ID"],
    build: || Box::new(Id),
    ..Extension::NONE
};

const VERB: &Verb = verb::row_of("ID");

/// Answers when the backend has heard it, so that an ID and what follows it reach the backend in this order.
struct Id;

impl Layer for Id {
    fn command(&mut self, command: Command<'_>, out: &mut Out<'_>) {
        let Ok(fields) = Fields::parse(command.octets) else {
            return out.refuse(Refusal::bad("ID takes NIL or a list of at most 30 fields with values"));
        };
        if let Some(device) = Binding::said_by(&fields).filter(|device| device.replaces(&out.device())) {
            out.bind(device);
        }
        match out.origin().filter(|_| out.backend().has("ID")) {
            Some(origin) => {
                let fields = origin.extend(fields).write();
                out.ask(VERB, fields);
            }
            None => answer(out),
        }
    }

    fn reply(&mut self, _ask: Ask, reply: Reply<'_>, out: &mut Out<'_>) {
        if !matches!(reply, Reply::Part(_) | Reply::TooLong) {
            answer(out);
        }
    }
}

fn answer(out: &mut Out<'_>) {
    out.answer(format!("* ID {}", Fields::ours().write()));
    out.done("ID done");
}
