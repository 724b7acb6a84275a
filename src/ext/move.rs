//! MOVE: messages change the mailbox in one command (RFC 6851).
//!
//! Below: UID COPY, UID STORE, UID EXPUNGE.   Above: MOVE and UID MOVE.
//!
//!     C: a MOVE 2:3 Archive
//!     >  p1 UID COPY 14:15 Archive                        all or nothing
//!     >  p2 UID STORE 14:15 +FLAGS.SILENT (\Deleted)
//!     >  p3 UID EXPUNGE 14:15                             no other message
//!     S: * OK [COPYUID 432432 14:15 300:301] moved
//!     S: * 3 EXPUNGE
//!
//! What cannot be removed is not left marked as deleted, and the client is told that it is in both places; from a mailbox that is
//! read-only nothing is copied at all. A client that goes away does not stop it. Requirement A4.

use crate::{
    imap::{
        code,
        response::Status,
        token::Cursor,
        verb::{self, Verb},
    },
    session::{
        layer::{Extension, Refusal},
        script::{self, Ending, Given, Server},
    },
};

/// RFC 6851.
pub const MOVE: Extension = Extension {
    name: "MOVE",
    spec: "RFC 6851",
    gives: &["MOVE"],
    needs: &["UIDPLUS"],
    hears: &["MOVE", "UID MOVE"],
    touches: true,
    finishes: true,
    build: || script::layer(|given, server| Box::pin(r#move(given, server))),
    ..Extension::NONE
};

const COPY: &Verb = verb::row_of("UID COPY");
const STORE: &Verb = verb::row_of("UID STORE");
const EXPUNGE: &Verb = verb::row_of("UID EXPUNGE");

async fn r#move(given: Given, server: Server) -> Result<Ending, Refusal> {
    let mut cursor = Cursor::new(&given.arguments);
    let set = cursor.run(|octet| octet.is_ascii_digit() || b":,*".contains(&octet), "a set of messages");
    let set = set.map_err(|error| Refusal::bad(error.to_string()))?;
    cursor.space().map_err(|error| Refusal::bad(error.to_string()))?;
    cursor.astring().and_then(|_| cursor.end()).map_err(|error| Refusal::bad(error.to_string()))?;
    if given.read_only {
        return Err(Refusal::no("", "the mailbox is read-only"));
    }
    let copied = server.ask(COPY, given.arguments.clone()).await?.passed_on()?;
    if code::parse(&copied.text).is("COPYUID") {
        // RFC 6851 4.3: before anything is expunged, so that the client knows where it went.
        server.answer([b"* OK ", copied.text.as_slice()].concat());
    }
    let marked = server.ask(STORE, [set, b" +FLAGS.SILENT (\\Deleted)"].concat()).await?;
    let removed = match marked.status {
        Status::Ok => server.ask(EXPUNGE, set).await?,
        _ => return Err(in_both()),
    };
    if removed.status != Status::Ok {
        server.ask(STORE, [set, b" -FLAGS.SILENT (\\Deleted)"].concat()).await?;
        return Err(in_both());
    }
    Ending::done("moved")
}

fn in_both() -> Refusal {
    Refusal::no("", "copied, but the backend does not let it be removed here")
}
