//! NAMESPACE: where a user's own mailboxes begin (RFC 2342), found out by LIST.
//!
//! Below: LIST.   Above: NAMESPACE.
//!
//!     C: a NAMESPACE
//!     >  p1 LIST "" ""            the hierarchy delimiter (RFC 3501 6.3.8)
//!     >  p2 LIST "" "%"           only INBOX?
//!     >  p3 LIST "" "INBOX.%"     and something below it? Then all the user has begins with "INBOX."
//!     S: * NAMESPACE (("INBOX." ".")) NIL NIL
//!
//! Requirement A4.

use crate::{
    imap::{list::Listed, token},
    session::{
        layer::{Extension, Refusal},
        script::{self, Ending, Given, Server},
    },
};

/// RFC 2342.
pub const NAMESPACE: Extension = Extension {
    name: "NAMESPACE",
    spec: "RFC 2342",
    gives: &["NAMESPACE"],
    hears: &["NAMESPACE"],
    build: || script::layer(|given, server| Box::pin(namespace(given, server))),
    ..Extension::NONE
};

async fn namespace(given: Given, server: Server) -> Result<Ending, Refusal> {
    if !given.arguments.is_empty() {
        return Err(Refusal::bad("NAMESPACE takes no arguments"));
    }
    let delimiter = server.list(b"").await?.into_iter().filter_map(|listed| listed.delimiter).next_back();
    let Some(delimiter) = delimiter else {
        server.answer(b"* NAMESPACE ((\"\" NIL)) NIL NIL".to_vec());
        return Ending::done("NAMESPACE done");
    };
    let beside = |found: Vec<Listed>| found.iter().any(|listed| *listed.name != *b"INBOX");
    let below_inbox = [b"INBOX".as_slice(), &[delimiter]].concat();
    let all = [below_inbox.as_slice(), b"%"].concat();
    let all_below_inbox = !beside(server.list(b"%").await?) && beside(server.list(&all).await?);
    let mut line = b"* NAMESPACE ((".to_vec();
    token::write_quoted(if all_below_inbox { &below_inbox } else { b"" }, &mut line);
    line.push(b' ');
    token::write_quoted(&[delimiter], &mut line);
    line.extend_from_slice(b")) NIL NIL");
    server.answer(line);
    Ending::done("NAMESPACE done")
}
