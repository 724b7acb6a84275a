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
    imap::{
        response::Status,
        verb::{self, Verb},
    },
    session::{
        layer::{Extension, Refusal},
        script::{self, Ending, Given, Server},
    },
};

/// RFC 3691.
pub const UNSELECT: Extension = Extension {
    name: "UNSELECT",
    spec: "RFC 3691",
    gives: &["UNSELECT"],
    hears: &["UNSELECT"],
    build: || script::layer(|given, server| Box::pin(unselect(given, server))),
    ..Extension::NONE
};

const EXAMINE: &Verb = verb::row_of("EXAMINE");
const CLOSE: &Verb = verb::row_of("CLOSE");

/// A name that no mailbox has, made of letters that every server takes.
const NOBODYS: &str = "lemonade-unselect-2c9e51f0";

async fn unselect(given: Given, server: Server) -> Result<Ending, Refusal> {
    if !given.arguments.is_empty() {
        return Err(Refusal::bad("UNSELECT takes no arguments"));
    }
    if !given.selected {
        return Err(Refusal::bad("no mailbox is selected"));
    }
    match server.ask(EXAMINE, NOBODYS).await?.status {
        Status::No => {}
        Status::Ok => _ = server.ask(CLOSE, "").await?.ok()?,
        Status::Bad => return Err(Refusal::of_backend(Status::Bad)),
    }
    Ending::done("UNSELECT done")
}
