//! NOTIFY: the client is told what happens without asking, also while no command is in progress (RFC 5465).
//!
//! Below: IDLE, or NOOP, or just STATUS.   Above: NOTIFY SET, NOTIFY NONE.
//!
//!     C: a NOTIFY SET (selected (MessageNew (UID FLAGS) MessageExpunge FlagChange))
//!     >  p1 NOOP                             SET implies one: what was held back is told
//!     S: a OK NOTIFY done
//!     S: * 24 EXISTS                         some time later
//!     S: * 24 FETCH (UID 1017 FLAGS ())
//!
//! What is told of the selected mailbox, and when, is a matter of `session/idle.rs`: `selected` hears of removals at any time,
//! `selected-delayed` when a command allows it, and who names neither hears nothing of it. What it does not hear is held in the
//! numbering, so that numbers go on to mean what they meant. Other mailboxes are not watched: `NO [NOTIFICATIONOVERFLOW]`.
//! Requirements N2 and A4.

use super::idle::LARGEST;
use crate::{
    imap::{
        fetch::FetchItems,
        notify::{EVENTS, Event, Group, Notify, NotifyError, Which},
        verb::{self, Verb},
    },
    session::{
        idle::Listening,
        layer::{Extension, Refusal},
        script::{self, Ending, Given, Server},
    },
};

/// RFC 5465.
pub const NOTIFY: Extension = Extension {
    name: "NOTIFY",
    spec: "RFC 5465",
    gives: &["NOTIFY"],
    hears: &["NOTIFY"],
    build: || script::layer(|given, server| Box::pin(notify(given, server))),
    ..Extension::NONE
};

const NOOP: &Verb = verb::row_of("NOOP");

async fn notify(given: Given, server: Server) -> Result<Ending, Refusal> {
    match Notify::parse(&given.arguments).map_err(refused)? {
        Notify::None => server.listen(Some(Listening::NOTHING)),
        Notify::Set { groups, .. } => {
            if groups.iter().any(|group| !group.which.is_selected() && !group.events.is_empty()) {
                return Err(overflow());
            }
            let listening = selected(&groups)?;
            // As if it had never said NOTIFY: all that was held back comes, and what the backend has to say.
            server.listen(None);
            server.ask(NOOP, "").await?.ok()?;
            server.listen(Some(listening));
        }
    }
    Ending::done("NOTIFY done")
}

/// What the client wants to hear of the selected mailbox. Nobody names it: nothing (section 3.1).
fn selected(groups: &[Group]) -> Result<Listening, Refusal> {
    let Some(group) = groups.iter().find(|group| group.which.is_selected()) else { return Ok(Listening::NOTHING) };
    let has = |event| group.events.contains(&event);
    let items = group.items.as_deref().map(FetchItems::parse).transpose();
    let items = items.map_err(|error| Refusal::bad(format!("MessageNew: {error}")))?;
    Ok(Listening {
        arrivals: has(Event::MessageNew),
        format: items.map(|items| items.bounded(LARGEST).into()),
        removals: has(Event::MessageExpunge),
        at_once: has(Event::MessageExpunge) && group.which == Which::Selected,
        flags: has(Event::FlagChange),
    })
}

fn refused(error: NotifyError) -> Refusal {
    match error {
        NotifyError::Bad(text) => Refusal::bad(text),
        NotifyError::Event => {
            let names = EVENTS.map(|(name, _)| name).join(" ");
            Refusal::no(format!("BADEVENT ({names})"), "there is no such event here")
        }
    }
}

fn overflow() -> Refusal {
    Refusal::no("NOTIFICATIONOVERFLOW", "these mailboxes are more than can be watched")
}
