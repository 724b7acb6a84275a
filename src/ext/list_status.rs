//! LIST-STATUS: LIST that brings the STATUS of each mailbox (RFC 5819).
//!
//! Below: LIST-EXTENDED, and STATUS.   Above: LIST RETURN (STATUS (...)).
//!
//!     C: a LIST "" % RETURN (STATUS (MESSAGES))
//!     >  p1 LIST "" (%)                     without STATUS, in the extended syntax still
//!     >  p2 STATUS INBOX (MESSAGES)         one for each that can be selected, sixteen at a time
//!     S: * LIST () "/" INBOX
//!     S: * STATUS INBOX (MESSAGES 17)
//!
//! A mailbox whose STATUS is refused is told as \NoSelect (section 2), unless it just cannot be had at this moment. Held is what LIST answers, at most 2 MiB; there are
//! no more questions than names in it, and a line goes out when the sixteen around it are known. Requirement A4.

use crate::{
    imap::{
        code,
        list::{List, Listed, Return, Selection},
        response::Status,
        token,
        verb::{self, Verb},
    },
    mailbox::status,
    session::{
        layer::{Extension, Refusal},
        script::{self, Ending, Given, Server},
    },
};

/// RFC 5819.
pub const LIST_STATUS: Extension = Extension {
    name: "LIST-STATUS",
    spec: "RFC 5819",
    gives: &["LIST-STATUS"],
    needs: &["LIST-EXTENDED"],
    hears: &["LIST"],
    concerns: |_, arguments| List::parse(arguments).is_ok_and(|list| items(&list).is_some()),
    build: || script::layer(|given, server| Box::pin(list_status(given, server))),
    ..Extension::NONE
};

const LIST: &Verb = verb::row_of("LIST");
const STATUS: &Verb = verb::row_of("STATUS");

/// `(MESSAGES UNSEEN)`
fn items(list: &List) -> Option<&[u8]> {
    list.returns.iter().find_map(|option| match option {
        Return::Status(items) => Some(&**items),
        _ => None,
    })
}

async fn list_status(given: Given, server: Server) -> Result<Ending, Refusal> {
    let mut list = List::parse(&given.arguments).map_err(|error| Refusal::bad(error.to_string()))?;
    let items = items(&list).unwrap_or_default().to_vec();
    list.returns.retain(|option| !matches!(option, Return::Status(_)));
    let answers = server.ask(LIST, list.write()).await?.ok()?;
    for lines in answers.parts.chunks(Server::TOGETHER) {
        tell(lines, &list, &items, &server).await?;
    }
    Ok(Ending::Done(answers.text))
}

/// Tells some of the lines, each with its STATUS behind it.
async fn tell(lines: &[Vec<u8>], list: &List, items: &[u8], server: &Server) -> Result<(), Refusal> {
    let asked = |line: &Vec<u8>| Listed::parse(line).filter(|listed| has_status(listed, list));
    let asked: Vec<Option<Listed>> = lines.iter().map(asked).collect();
    let question = |listed: &Listed| {
        let mut arguments = Vec::new();
        token::write_astring(&listed.name, &mut arguments);
        arguments.push(b' ');
        arguments.extend_from_slice(items);
        arguments
    };
    let questions = asked.iter().flatten().map(question).collect();
    let (mut said, ends) = server.ask_all(STATUS, questions).await?;
    // The items are wrong, which the backend says of every mailbox.
    if ends.iter().any(|(status, _)| *status == Status::Bad) {
        return Err(Refusal::of_backend(Status::Bad));
    }
    let mut ends = ends.into_iter();
    for (line, listed) in lines.iter().zip(asked) {
        let mut line = line.clone();
        match listed.as_ref().and_then(|_| ends.next()) {
            Some((Status::Ok, _)) | None => server.answer(line),
            // Section 2: where there is unexpected trouble the STATUS is left out, and that is all.
            Some((_, text)) if code::parse(&text).is("UNAVAILABLE") => server.answer(line),
            Some(_) => {
                Listed::insert(&mut line, b"\\NoSelect");
                server.answer(line);
            }
        }
        let Some(key) = listed.map(|listed| listed.key()) else { continue };
        let of_this = |line: &mut Vec<u8>| status::Status::parse(line).is_some_and(|(name, _)| name == key);
        said.extract_if(.., of_this).for_each(|line| server.answer(line));
    }
    // What the backend has called otherwise is told all the same, behind the names.
    said.into_iter().for_each(|line| server.answer(line));
    Ok(())
}

/// Whether it can be selected, and meets the selection criteria itself: a parent that is listed for its children does not
/// (section 3).
fn has_status(listed: &Listed, list: &List) -> bool {
    let selectable = !listed.has(b"\\Noselect") && !listed.has(b"\\NonExistent");
    let selects = |option| list.selection.contains(&option);
    let met = !selects(Selection::RecursiveMatch)
        || ((!selects(Selection::Subscribed) || listed.has(b"\\Subscribed"))
            && (!selects(Selection::SpecialUse) || listed.has_use()));
    selectable && met
}
