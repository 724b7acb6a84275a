//! ESEARCH: what a search has found, in one line (RFC 4731).
//!
//! Below: SEARCH.   Above: SEARCH RETURN (MIN MAX ALL COUNT).
//!
//!     C: b SEARCH RETURN (COUNT) FROM joe
//!     >  p1 UID SEARCH FROM joe
//!     S: * ESEARCH (TAG "b") COUNT 2
//!
//! Answers are told by UID; the client edge makes numbers of them for a client that did not say UID. Requirement A4.

use crate::{
    imap::{
        esearch::{Found, Return},
        fetch::Fetched,
        uid_set::UidSet,
        verb::{self, Verb},
    },
    session::{
        layer::{Extension, Refusal},
        script::{self, Ending, Given, Server},
    },
};

/// RFC 4731.
pub const ESEARCH: Extension = Extension {
    name: "ESEARCH",
    spec: "RFC 4731",
    gives: &["ESEARCH"],
    hears: &["SEARCH", "UID SEARCH"],
    concerns: |_, arguments| !matches!(Return::parse(arguments), Ok(None)),
    touches: true,
    build: || script::layer(|given, server| Box::pin(esearch(given, server))),
    ..Extension::NONE
};

const UID_FETCH: &Verb = verb::row_of("UID FETCH");

async fn esearch(given: Given, server: Server) -> Result<Ending, Refusal> {
    let (wanted, keys) = options(&given.arguments)?;
    if wanted.save {
        return Err(Refusal::bad("SAVE is not offered"));
    }
    let found = search(&server, &wanted, &given.arguments[keys..]).await?;
    server.answer(wanted.tell(given.tag(), &found).write());
    Ending::done("SEARCH completed")
}

/// What is asked for, and where the criteria begin.
pub(super) fn options(arguments: &[u8]) -> Result<(Return, usize), Refusal> {
    let options = Return::parse(arguments).map_err(|error| Refusal::bad(error.to_string()))?;
    options.ok_or_else(|| Refusal::bad("RETURN is missing"))
}

/// What the criteria find, with the mod-sequence of what is told of it (RFC 4731 3.2).
pub(super) async fn search(server: &Server, wanted: &Return, keys: &[u8]) -> Result<Found, Refusal> {
    let mut found = server.search(keys).await?;
    let ends = wanted.ends(&found.uids);
    if found.modseq.is_some() && wanted.is_narrow() && !ends.is_empty() {
        found.modseq = modseq(server, &ends).await?;
    }
    Ok(found)
}

async fn modseq(server: &Server, uids: &UidSet) -> Result<Option<u64>, Refusal> {
    let answers = server.ask(UID_FETCH, format!("{uids} (MODSEQ)")).await?.passed_on()?;
    let modseq = |line: &Vec<u8>| {
        let value = Fetched::parse(line)?.value("MODSEQ")?;
        let digits = value.strip_prefix(b"(")?.strip_suffix(b")")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    };
    Ok(answers.parts.iter().filter_map(modseq).max())
}
