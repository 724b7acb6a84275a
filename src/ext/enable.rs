//! ENABLE (RFC 5161): passed on for what the client was told of, and answered by us where the backend lacks it.
//!
//! Below: nothing, or ENABLE.   Above: ENABLE.
//!
//!     C: a ENABLE CONDSTORE X-GOOD-IDEA
//!     >  a ENABLE CONDSTORE
//!     S: * ENABLED CONDSTORE
//!     S: a OK ...
//!
//! A word that we do not relay must not be enabled behind our back: UTF8=ACCEPT would change how names are read, IMAP4rev2
//! how everything is. Unknown words are ignored, as section 3.1 has it. Requirement A4.

use crate::{
    imap::capability::{self, Class},
    session::layer::{Command, Extension, Layer, Out, Refusal},
};

/// RFC 5161.
pub const ENABLE: Extension = Extension {
    name: "ENABLE",
    spec: "RFC 5161",
    gives: &["ENABLE"],
    hears: &["ENABLE"],
    build: || Box::new(Enable),
    ..Extension::NONE
};

struct Enable;

impl Layer for Enable {
    fn command(&mut self, command: Command<'_>, out: &mut Out<'_>) {
        let words = std::str::from_utf8(command.arguments).unwrap_or_default();
        if words.is_empty() || words.split(' ').any(str::is_empty) {
            return out.refuse(Refusal::bad("ENABLE takes the names of capabilities"));
        }
        let relayed = |word: &&str| capability::class(word) == Class::Relayed && out.backend().has(word);
        let known: Vec<_> = words.split(' ').filter(relayed).collect();
        match (known.is_empty() || !out.backend().has("ENABLE"), known.len() == words.split(' ').count()) {
            (true, _) => {
                out.answer(*b"* ENABLED");
                out.done("ENABLE done");
            }
            (false, true) => out.forward(),
            (false, false) => out.forward_as(&command, command.verb, known.join(" ").as_bytes()),
        }
    }
}
