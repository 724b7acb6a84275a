//! What was sent to an address is written back: so the address is the user's own (`account/enrolment.rs`).
//!
//!     C: a SETMETADATA "" (/private/vendor/lemonade/notify/outband/confirm "49001731")
//!     S: a OK ...                            on the disk; and what has come is told there now
//!     S: a NO [NOPERM] ...                   it is another one; five of these, and it counts no more
//!     S: a NO [CANNOT] ...                   nobody was asked, or too long ago
//!
//! Each answer is counted before anybody hears what it was, and sessions that answer at the same time are counted one by one. The same is
//! done for a subscription of COI, under its own name. Requirements N12, N20, N21.

use super::{edit::over_quota, names::load};
use crate::{
    account::{
        annotation::{self, Role},
        enrolment,
        registration::{self, Subscription},
    },
    imap::entry::EntryName,
    session::{
        effect::{Annotated, Notice},
        layer::Refusal,
        script::{Ending, Given, Server},
    },
    store::{Change, Owner, Quota},
};

/// How often an answer is judged while others answer in between.
const AGAIN: usize = 8;

/// Whether an entry is written to answer.
pub(super) fn is_answer(name: &EntryName, on_server: bool) -> bool {
    matches!(annotation::role(name, on_server), Role::Confirmation | Role::Validation(_))
}

/// Judges an answer.
pub(super) async fn answer(given: &Given, server: &Server, name: &EntryName, value: &[u8]) -> Result<Ending, Refusal> {
    let id = registration::validated_id(name);
    let device = id.map_or_else(|| given.device.device.clone(), registration::subscriber);
    for _ in 0..AGAIN {
        let (entries, now) = load(server, b"").await?;
        let verdict = enrolment::judge(&entries, &device, value, now).ok_or_else(|| {
            Refusal::no("CANNOT", "nothing was sent that could be written back: set the address again")
        })?;
        let valid = id.filter(|_| verdict.is_right).and_then(|id| Subscription::validated(&entries, id));
        let edits = [verdict.edit].into_iter().chain(valid).collect();
        let change = Box::new(Change::Entries { edits, quota: Quota::NONE });
        let counted = server.save(Change::Once { mark: verdict.mark, change }).await?.map_err(over_quota)?;
        match (counted.entries, verdict.is_right) {
            (0, _) => {}
            (_, false) => return Err(Refusal::no("NOPERM", "this is not what was sent to the address")),
            (_, true) => {
                let (mailbox, owner, entries) = (Box::default(), Owner::Device(device), vec![name.clone()]);
                server.publish(Notice::Annotated(Annotated { mailbox, owner, entries }));
                return Ending::done("SETMETADATA done");
            }
        }
    }
    Err(Refusal::no("INUSE", "others answer at the same time"))
}
