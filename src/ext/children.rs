//! CHILDREN: whether a mailbox has others below it, in every LIST (RFC 3348).
//!
//! Below: LIST.   Above: LIST with \HasChildren and \HasNoChildren.
//!
//!     C: a LIST "" %
//!     >  p1 LIST "" %          as it came
//!     <  * LIST () "/" Work
//!     >  p2 LIST "" %/%        one level below; not asked where the pattern ends with `*`, and so lists all of it
//!     <  * LIST () "/" Work/Old
//!     S: * LIST (\HasChildren) "/" Work
//!
//! The lines of the backend pass as they came, but for one word. What the backend refuses, or what is too long to be held
//! (a script's bound, 2 MiB of lines), it is given as the client said it, and answers without our word: that is allowed
//! (section 3). Requirements A4, N1.

use crate::{
    imap::{
        list::{List, Listed, Names},
        response::Status,
        token,
        verb::{self, Verb},
    },
    session::{
        layer::{Extension, Refusal},
        script::{self, Answers, Ending, Given, Server},
    },
};

/// RFC 3348.
pub const CHILDREN: Extension = Extension {
    name: "CHILDREN",
    spec: "RFC 3348",
    gives: &["CHILDREN"],
    hears: &["LIST"],
    concerns: |_, arguments| plain(arguments).is_some(),
    build: || script::layer(|given, server| Box::pin(children(given, server))),
    ..Extension::NONE
};

const LIST: &Verb = verb::row_of("LIST");

/// Delimiters of one answer: each namespace may have its own, and each costs a question.
const MOST_DELIMITERS: usize = 4;

/// A LIST of names; with an empty pattern it asks for the delimiter (RFC 3501 6.3.8).
fn plain(arguments: &[u8]) -> Option<List> {
    List::parse(arguments).ok().filter(|list| !list.extended && list.patterns.iter().all(|pattern| !pattern.is_empty()))
}

async fn children(given: Given, server: Server) -> Result<Ending, Refusal> {
    let Some(list) = plain(&given.arguments) else { return Ok(Ending::Forward) };
    let Some(answers) = ask(&server, given.arguments).await else { return Ok(Ending::Forward) };
    let lines = answers.parts;
    let listed: Vec<Option<Listed>> = lines.iter().map(|line| Listed::parse(line)).collect();
    let all = || listed.iter().flatten().map(Listed::key);
    let below = match list.patterns.iter().all(|pattern| pattern.ends_with(b"*")) {
        true => Some(all().collect()),
        false => one_below(&server, &list, delimiters(&listed)).await,
    };
    for (mut line, listed) in lines.into_iter().zip(listed) {
        if let (Some(listed), Some(below)) = (listed, &below)
            && is_unsaid(&listed)
        {
            Listed::insert(&mut line, word(&listed, below));
        }
        server.answer(line);
    }
    Ok(Ending::Done(answers.text))
}

/// The names one level below those that match, placeholders for deeper ones among them; nothing if they are not told.
async fn one_below(server: &Server, list: &List, delimiters: Vec<u8>) -> Option<Names> {
    let mut names = Vec::new();
    for delimiter in delimiters {
        for pattern in &list.patterns {
            let mut arguments = Vec::new();
            token::write_astring(&list.reference, &mut arguments);
            arguments.push(b' ');
            token::write_astring(&[pattern, [delimiter, b'%'].as_slice()].concat(), &mut arguments);
            let answers = ask(server, arguments).await?;
            names.extend(answers.parts.iter().filter_map(|line| Listed::parse(line)).map(|listed| listed.key()));
        }
    }
    Some(names.into_iter().collect())
}

/// An answer that is OK and not too long.
async fn ask(server: &Server, arguments: Vec<u8>) -> Option<Answers> {
    server.ask(LIST, arguments).await.ok().filter(|answers| answers.status == Status::Ok)
}

/// What stands between the levels of the names of which something is to be found out.
fn delimiters(listed: &[Option<Listed>]) -> Vec<u8> {
    let mut found = Vec::new();
    for delimiter in listed.iter().flatten().filter(|listed| is_unsaid(listed)).filter_map(|listed| listed.delimiter) {
        if !found.contains(&delimiter) && found.len() < MOST_DELIMITERS {
            found.push(delimiter);
        }
    }
    found
}

/// Whether the backend has said nothing of its children.
fn is_unsaid(listed: &Listed) -> bool {
    !listed.has(b"\\HasChildren") && !listed.has(b"\\HasNoChildren") && !listed.has(b"\\Noinferiors")
}

fn word(listed: &Listed, below: &Names) -> &'static [u8] {
    if below.has_below(&listed.key(), listed.delimiter) { b"\\HasChildren" } else { b"\\HasNoChildren" }
}
