//! IDLE: the client is told at once what happens in its mailbox (RFC 2177), as far as its device wants to hear it.
//!
//! Below: IDLE, or NOOP, or just STATUS.   Above: IDLE, with the preferences of source document 001 section 11.3.
//!
//!     C: a SETMETADATA INBOX /notify/event (filter.priv "NEW")
//!     C: b IDLE
//!     S: + idling
//!     S: * 24 EXISTS                 told; what others change or remove waits for the next command
//!
//! | `filter.priv` | told while the client idles |
//! |---|---|
//! | `ALL` | everything; so it is where nobody says anything |
//! | `NEW` | messages that come |
//! | `NONE` | nothing |
//!
//! Nothing is dropped: what is held back is told with the client's next command (RFC 3501 7). With `push.priv "push"` each new
//! message is shown too, in the format of `msgformat.priv`, of which no part of a body is longer than [`LARGEST`]; headers come whole.
//! Where more than fifty come at once, the last fifty are shown.
//! What a client waits for is a matter between it and us; `session/idle.rs` does the work. Requirements N2 and N13.

use crate::{
    account::preference::{Preference, Preferences},
    imap::fetch::FetchItems,
    session::{
        idle::Listening,
        layer::{Extension, Refusal},
        script::{self, Ending, Given, Server},
    },
    store::{Entry, Query},
};

/// RFC 2177.
pub const IDLE: Extension = Extension {
    name: "IDLE",
    spec: "RFC 2177",
    gives: &["IDLE"],
    hears: &["IDLE"],
    build: || script::layer(|given, server| Box::pin(idle(given, server))),
    ..Extension::NONE
};

/// Octets of one part of a body that are pushed: what a phone shows at a glance. The rest it may fetch.
pub const LARGEST: u32 = 64 << 10;

async fn idle(given: Given, server: Server) -> Result<Ending, Refusal> {
    let Some(mailbox) = &given.mailbox else { return Ok(Ending::Idle(None)) };
    // Where nothing is kept, or cannot be read, nobody has said anything.
    let mut entries: Vec<Entry> = Vec::new();
    for place in [mailbox.clone(), Box::default()] {
        entries.extend(server.entries(Query::Mailbox(place)).await.map(|(entries, _)| entries).unwrap_or_default());
    }
    let preferences = Preferences::resolve(&entries, &given.device.device, mailbox);
    Ok(Ending::Idle(Some(listening(&preferences)).filter(|listening| *listening != Listening::ALL)))
}

fn listening(preferences: &Preferences) -> Listening {
    let value = |preference| preferences.value(preference).0;
    let (all, new) = match value(Preference::Filter) {
        "NONE" => (false, false),
        "NEW" => (false, true),
        _ => (true, true),
    };
    let items = FetchItems::parse(value(Preference::MessageFormat).as_bytes()).ok();
    let format = items.filter(|_| new && value(Preference::Push) == "push").map(|items| items.bounded(LARGEST));
    Listening { arrivals: new, format: format.map(Into::into), removals: all, flags: all, ..Listening::NOTHING }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{DeviceName, Key, Owner};

    #[test]
    fn what_a_device_wants_to_hear_is_what_it_has_said() {
        let device = DeviceName::default();
        let entry = |preference: Preference, value: &str| Entry {
            key: Key {
                mailbox: b"INBOX".as_slice().into(),
                owner: Owner::Device(device.clone()),
                name: crate::imap::entry::EntryName::parse(preference.entry().as_bytes()).unwrap(),
            },
            value: value.as_bytes().into(),
        };
        let say = |entries: &[Entry]| listening(&Preferences::resolve(entries, &device, b"INBOX"));
        assert_eq!(say(&[]), Listening::ALL);
        let new = Listening { removals: false, flags: false, ..Listening::ALL };
        assert_eq!(say(&[entry(Preference::Filter, "NEW")]), new);
        assert_eq!(say(&[entry(Preference::Filter, "NONE")]), Listening { arrivals: false, ..new });
        let pushed = [
            entry(Preference::Push, "push"),
            entry(Preference::MessageFormat, "(FLAGS BODY.PEEK[] BODY.PEEK[1]<0.10>)"),
        ];
        let format = Some("(FLAGS BODY.PEEK[]<0.65536> BODY.PEEK[1]<0.10>)".into());
        assert_eq!(say(&pushed), Listening { format, ..Listening::ALL });
    }
}
