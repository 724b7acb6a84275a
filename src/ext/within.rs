//! WITHIN: messages older or younger than so many seconds (RFC 5032).
//!
//! Below: SEARCH by days.   Above: SEARCH OLDER, YOUNGER.
//!
//!     C: a SEARCH UNSEEN YOUNGER 3600
//!     >  p1 UID SEARCH OR UID * (SINCE 16-Jul-1996 BEFORE 19-Jul-1996)      the days on which it is a matter of hours
//!     >  p2 UID FETCH 14:16,20 (INTERNALDATE)
//!     >  a SEARCH UNSEEN (OR SINCE 19-Jul-1996 UID 15:16) UID 1:20
//!
//! SEARCH compares days and disregards the time and the zone (RFC 3501 6.4.4), so a day on either side is looked at too.
//! Both ends are inclusive (section 3). Messages that come while we ask are not looked for: of those nobody has asked how old they
//! are, and under a NOT they would all be found. Requirement A4.

use crate::{
    imap::{
        date::{self, Day},
        fetch::Fetched,
        search::{self, Part, Program, What},
        sequence_set,
        uid_set::UidSet,
        verb::{self, Verb},
    },
    session::{
        layer::{Extension, Refusal},
        script::{self, Ending, Given, Server},
    },
};

/// RFC 5032.
pub const WITHIN: Extension = Extension {
    name: "WITHIN",
    spec: "RFC 5032",
    gives: &["WITHIN"],
    hears: &["SEARCH", "SORT", "THREAD", "UID SEARCH", "UID SORT", "UID THREAD"],
    concerns: |verb, arguments| {
        (search::mentions("OLDER", arguments) || search::mentions("YOUNGER", arguments))
            && Program::of(verb, arguments).is_ok_and(|program| program.parts.iter().any(|part| bound(part).is_some()))
    },
    build: || script::layer(|given, server| Box::pin(within(given, server))),
    ..Extension::NONE
};

const UID_FETCH: &Verb = verb::row_of("UID FETCH");

/// Messages of three days that are looked at one by one. More come to few mailboxes, and none of a phone's.
const MOST: u32 = 10_000;

/// Octets of a set: more does not stand in a line that every server reads (RFC 7162 section 4).
const LONGEST: usize = 8000;

/// No message.
const NONE: &str = " NOT ALL";

/// How long ago, and on which side.
fn bound(part: &Part) -> Option<(u32, bool)> {
    match part.what {
        What::Older(seconds) => Some((seconds, false)),
        What::Younger(seconds) => Some((seconds, true)),
        _ => None,
    }
}

async fn within(given: Given, server: Server) -> Result<Ending, Refusal> {
    let program = Program::of(given.verb, &given.arguments).map_err(|error| Refusal::bad(error.to_string()))?;
    let mut keys = Vec::new();
    let mut last = u32::MAX;
    for (seconds, younger) in program.parts.iter().filter_map(bound) {
        let (key, known) = key(&server, server.time_of_day() - i64::from(seconds), younger).await?;
        keys.push(key);
        last = last.min(known);
    }
    let mut keys = keys.into_iter();
    let say = |part: &Part| bound(part).and_then(|_| keys.next()).map(String::into_bytes);
    let mut arguments = program.rewritten(&given.arguments, say);
    let known = if last == 0 { NONE.to_owned() } else { format!(" UID 1:{last}") };
    arguments.extend_from_slice(known.as_bytes());
    Ok(Ending::ForwardAs(arguments))
}

/// The key that says which messages came at this moment or later, or at this moment or earlier; and the last message of which it
/// says so, 0 in an empty mailbox.
async fn key(server: &Server, moment: i64, younger: bool) -> Result<(String, u32), Refusal> {
    let days = Day::of(moment.max(0)).and_then(|day| Some((day.before(1)?, day.after(2)?)));
    let Some((first, behind)) = days else { return Err(Refusal::bad("no such time")) };
    let near = server.search(format!("OR UID * (SINCE {first} BEFORE {behind})").as_bytes()).await?.uids;
    if near.len() > MOST {
        return Err(Refusal::no("LIMIT", "too many messages came on these days"));
    }
    let mut met = UidSet::default();
    for set in near.chunks(LONGEST) {
        let answers = server.ask(UID_FETCH, format!("{set} (INTERNALDATE)")).await?.passed_on()?;
        for fetched in answers.parts.iter().filter_map(|line| Fetched::parse(line)) {
            let came = fetched.value("INTERNALDATE").and_then(date::moment);
            let meets = came.is_some_and(|came| if younger { came >= moment } else { came <= moment });
            met.extend(fetched.uid().filter(|_| meets));
        }
    }
    let mut key = if younger { format!("SINCE {behind}") } else { format!("BEFORE {first}") };
    if !met.is_empty() {
        let each = format!("UID {met}");
        // Of these days no message lies between them that was not looked at.
        let runs = || format!("(SINCE {first} BEFORE {behind} UID {})", sequence_set::write(met.runs_among(&near)));
        let told = if each.len() > LONGEST { runs() } else { each };
        if told.len() > LONGEST {
            return Err(Refusal::no("LIMIT", "too many messages came on these days, in no order"));
        }
        key = format!("(OR {key} {told})");
    }
    Ok((key, near.last().unwrap_or(0)))
}
