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

use imap_codec::{
    ResponseCodec,
    decode::Decoder,
    imap_types::{
        mailbox::Mailbox,
        response::{Data, Response},
    },
};

use crate::{
    imap::verb::{self, Verb},
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

const LIST: &Verb = verb::row_of("LIST");

async fn namespace(given: Given, server: Server) -> Result<Ending, Refusal> {
    if !given.arguments.is_empty() {
        return Err(Refusal::bad("NAMESPACE takes no arguments"));
    }
    let delimiter = list(&server, "").await?.into_iter().filter_map(|(delimiter, _)| delimiter).next_back();
    let Some(delimiter) = delimiter.map(escape) else {
        server.answer(b"* NAMESPACE ((\"\" NIL)) NIL NIL".to_vec());
        return Ending::done("NAMESPACE done");
    };
    let beside = |found: Vec<(Option<char>, bool)>| found.iter().any(|(_, is_inbox)| !is_inbox);
    let below_inbox = format!("INBOX{delimiter}");
    let all_below_inbox =
        !beside(list(&server, "%").await?) && beside(list(&server, &format!("{below_inbox}%")).await?);
    let prefix = if all_below_inbox { &below_inbox } else { "" };
    server.answer(format!("* NAMESPACE ((\"{prefix}\" \"{delimiter}\")) NIL NIL").into_bytes());
    Ending::done("NAMESPACE done")
}

/// The delimiter of each name that matches, and whether it is INBOX.
async fn list(server: &Server, pattern: &str) -> Result<Vec<(Option<char>, bool)>, Refusal> {
    let answers = server.ask(LIST, format!("\"\" \"{pattern}\"")).await?.ok()?;
    Ok(answers.parts.iter().filter_map(|line| listed(line)).collect())
}

fn listed(line: &[u8]) -> Option<(Option<char>, bool)> {
    let line = [line, b"\r\n"].concat();
    let (_, Response::Data(Data::List { delimiter, mailbox, .. })) = ResponseCodec::default().decode(&line).ok()?
    else {
        return None;
    };
    Some((delimiter.map(|delimiter| delimiter.inner()), mailbox == Mailbox::Inbox))
}

/// A delimiter as it stands inside a quoted string.
fn escape(delimiter: char) -> String {
    match delimiter {
        '"' | '\\' => format!("\\{delimiter}"),
        _ => delimiter.to_string(),
    }
}
