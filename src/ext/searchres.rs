//! SEARCHRES: `$` stands for what the last search has found (RFC 5182).
//!
//! Below: SEARCH RETURN.   Above: SEARCH RETURN (SAVE), and `$` wherever messages are named.
//!
//!     C: a SEARCH RETURN (SAVE) FLAGGED      what is found is kept, by UID
//!     C: b FETCH $ (FLAGS)
//!     >  b UID FETCH 14,100 (FLAGS)
//!
//! A message that is expunged meanwhile is in no set of the backend's any more, so nothing has to be taken out of `$`.
//! Requirement A4.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::esearch;
use crate::{
    imap::{
        command,
        response::Status,
        search::{self, Part, Program, What},
        uid_set::UidSet,
        verb::{self, Numbers, Verb},
    },
    session::{
        layer::{Ask, Command, Extension, Layer, Out, Refusal, Reply},
        script::{Ending, Given, Script, Server},
    },
};

/// RFC 5182.
pub const SEARCHRES: Extension = Extension {
    name: "SEARCHRES",
    spec: "RFC 5182",
    gives: &["SEARCHRES"],
    needs: &["ESEARCH"],
    hears: &[
        "COPY",
        "FETCH",
        "MOVE",
        "SEARCH",
        "SORT",
        "STORE",
        "THREAD",
        "UID COPY",
        "UID EXPUNGE",
        "UID FETCH",
        "UID MOVE",
        "UID SEARCH",
        "UID SORT",
        "UID STORE",
        "UID THREAD",
    ],
    concerns: |verb, arguments| match has_criteria(verb) {
        true => saves(arguments) || (search::mentions("$", arguments) && names_it(verb, arguments)),
        false => command::first_argument(arguments) == b"$",
    },
    touches: true,
    build: || Box::<SearchRes>::default(),
    ..Extension::NONE
};

/// A UID that no message has: what is empty has to be named where a set must stand.
const NOBODY: &str = "4294967295";

/// Octets of a set: more does not stand in a line that every server reads (RFC 7162 section 4).
const LONGEST: usize = 8000;

/// What was found, in the mailbox of which epoch: in another one it is nothing (section 2.1).
#[derive(Debug, Default)]
struct Saved {
    epoch: u32,
    uids: UidSet,
}

type Shared = Arc<Mutex<Saved>>;

#[derive(Default)]
struct SearchRes {
    saved: Shared,
    script: Option<Script>,
}

impl Layer for SearchRes {
    fn command(&mut self, command: Command<'_>, out: &mut Out<'_>) {
        let saved = Arc::clone(&self.saved);
        self.script = Script::begin(command, out, |given, server| Box::pin(run(given, server, saved)));
    }

    fn reply(&mut self, ask: Ask, reply: Reply<'_>, out: &mut Out<'_>) {
        Script::hear(&mut self.script, ask, reply, out);
    }
}

fn has_criteria(verb: &Verb) -> bool {
    verb.numbers == Numbers::Criteria
}

fn saves(arguments: &[u8]) -> bool {
    search::mentions("SAVE", arguments) && esearch::options(arguments).is_ok_and(|(wanted, _)| wanted.save)
}

fn names_it(verb: &Verb, arguments: &[u8]) -> bool {
    let is_it = |part: &Part| &arguments[part.at.clone()] == b"$";
    Program::of(verb, arguments).is_ok_and(|program| program.parts.iter().any(is_it))
}

/// What `$` stands for in this mailbox.
fn of(saved: &Shared, epoch: u32) -> MutexGuard<'_, Saved> {
    let mut saved = saved.lock().unwrap_or_else(PoisonError::into_inner);
    if saved.epoch != epoch {
        *saved = Saved { epoch, uids: UidSet::default() };
    }
    saved
}

async fn run(given: Given, server: Server, saved: Shared) -> Result<Ending, Refusal> {
    if !has_criteria(given.verb) {
        let uids = of(&saved, given.epoch).uids.clone();
        return messages(&given, &uids, &server).await;
    }
    let arguments = criteria(&given, &of(&saved, given.epoch).uids)?;
    match saves(&arguments) {
        true => save(&given, &arguments, &server, &saved).await,
        false => Ok(Ending::ForwardAs(arguments)),
    }
}

/// A command whose messages are `$`.
///
/// More than stands in one line is said in several, where each of them can be done without the others. COPY is done as a whole
/// (RFC 3501 6.4.7), and a conditional STORE says at its end of all messages what became of them (RFC 7162 3.1.3).
async fn messages(given: &Given, saved: &UidSet, server: &Server) -> Result<Ending, Refusal> {
    let mut sets = saved.chunks(LONGEST);
    let Some(last) = sets.pop() else { return Ending::done("nothing was found") };
    let by_uid = match given.verb.name {
        "FETCH" => verb::row_of("UID FETCH"),
        "STORE" => verb::row_of("UID STORE"),
        "COPY" => verb::row_of("UID COPY"),
        "MOVE" => verb::row_of("UID MOVE"),
        _ => given.verb,
    };
    let rest = given.arguments.get(1..).unwrap_or_default();
    let apart = ["FETCH", "STORE", "UID EXPUNGE", "UID FETCH", "UID STORE"].contains(&given.verb.name);
    if !sets.is_empty() && (!apart || search::mentions("UNCHANGEDSINCE", rest)) {
        return Err(too_many());
    }
    for set in sets {
        server.follow_as(by_uid, [set.as_bytes(), rest].concat()).await?.passed_on()?;
    }
    Ok(Ending::ForwardTo(by_uid, [last.as_bytes(), rest].concat()))
}

/// The criteria, with what was found in the place of `$`.
fn criteria(given: &Given, saved: &UidSet) -> Result<Vec<u8>, Refusal> {
    let program = Program::of(given.verb, &given.arguments).map_err(|error| Refusal::bad(error.to_string()))?;
    let set = if saved.is_empty() { NOBODY.to_owned() } else { written(saved)? };
    Ok(program.rewritten(&given.arguments, |part| match part.what {
        _ if &given.arguments[part.at.clone()] != b"$" => None,
        What::Uids => Some(set.clone().into_bytes()),
        _ => Some(format!("UID {set}").into_bytes()),
    }))
}

fn written(saved: &UidSet) -> Result<String, Refusal> {
    let set = saved.to_string();
    match set.len() > LONGEST {
        true => Err(too_many()),
        false => Ok(set),
    }
}

fn too_many() -> Refusal {
    Refusal::no("LIMIT", "too many messages were found to name them all")
}

/// RFC 5182 2.1: what was not found leaves nothing; 2.4: who asks for the ends alone gets the ends alone.
async fn save(given: &Given, arguments: &[u8], server: &Server, saved: &Shared) -> Result<Ending, Refusal> {
    let (wanted, keys) = esearch::options(arguments)?;
    let found = esearch::search(server, &wanted, &arguments[keys..]).await.inspect_err(|why| {
        if why.status == Status::No {
            of(saved, given.epoch).uids = UidSet::default();
        }
    })?;
    if wanted.tells() {
        server.answer(wanted.tell(given.tag(), &found).write());
    }
    of(saved, given.epoch).uids = if wanted.is_narrow() { wanted.ends(&found.uids) } else { found.uids };
    Ending::done("SEARCH completed, result saved")
}
