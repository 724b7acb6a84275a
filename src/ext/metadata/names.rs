//! Annotations go where their mailbox goes: RENAME, DELETE, and what happens to a mailbox without us (RFC 5464 section 4.1).
//!
//!     C: a RENAME Work Play
//!     >  a RENAME Work Play
//!     S: a OK ...                 its entries have their new place
//!
//! Requirement N14.

use crate::{
    account::annotation::{self, Loss},
    imap::{list, token},
    session::{
        layer::Refusal,
        script::{Ending, Given, Server},
    },
    store::{Change, Entry, Query, Quota},
};

/// A mailbox is not there. Its entries wait a day for it: a list that lacks it may be a server's bad hour.
pub(super) async fn lose(server: &Server, mailbox: &[u8]) -> Result<(), Refusal> {
    let (entries, now) = server.entries(Query::Mailbox(mailbox.into())).await?;
    let quota = Quota::NONE;
    let change = match annotation::lost(mailbox, &entries, now) {
        Loss::Nothing => return Ok(()),
        Loss::Mark(mark) => Change::Entries { edits: vec![mark], quota },
        Loss::Forget => Change::Deleted(mailbox.into()),
    };
    server.save(change).await.map(|_| ())
}

/// The entries of a mailbox that is there, or of the server, and the time of day.
pub(super) async fn load(server: &Server, mailbox: &[u8]) -> Result<(Vec<Entry>, i64), Refusal> {
    let (mut entries, now) = server.entries(Query::Mailbox(mailbox.into())).await?;
    if let Some(edit) = annotation::found(mailbox, &entries) {
        entries.retain(|entry| entry.key != edit.0);
        let _ = server.save(Change::Entries { edits: vec![edit], quota: Quota::NONE }).await?;
    }
    Ok((entries, now))
}

/// Annotations go with their mailbox (RFC 5464 section 4).
pub(super) async fn delete(given: Given, server: Server) -> Result<Ending, Refusal> {
    let name = token::Cursor::new(&given.arguments).astring().map(|name| list::canonical(&name));
    let answers = server.follow().await?.passed_on()?;
    if let Ok(name) = name {
        // The mailbox is gone in any case; entries that stay behind are found to have no mailbox.
        let _ = server.save(Change::Deleted(name)).await;
    }
    Ok(Ending::Done(answers.text))
}

/// Annotations follow their mailbox, and what stands below it; INBOX keeps its own (RFC 5464 section 4, RFC 3501 6.3.5).
pub(super) async fn rename(given: Given, server: Server) -> Result<Ending, Refusal> {
    let names = || {
        let mut cursor = token::Cursor::new(&given.arguments);
        let from = cursor.astring().ok()?.into_owned();
        cursor.space().ok()?;
        let to = cursor.astring().ok()?.into_owned();
        Some((list::canonical(&from), list::canonical(&to)))
    };
    let names = names();
    let answers = server.follow().await?.passed_on()?;
    if let Some((from, to)) = names {
        // The mailbox has its new name, whatever becomes of this.
        let _ = follow_name(&server, from, to).await;
    }
    Ok(Ending::Done(answers.text))
}

/// Moves what is kept, if anything is. Only names below the old one make it worth asking what separates names.
async fn follow_name(server: &Server, from: Box<[u8]>, to: Box<[u8]>) -> Result<(), Refusal> {
    let (entries, _) = server.entries(Query::Entries).await?;
    let below = |name: &[u8]| {
        entries.iter().any(|entry| entry.key.mailbox.len() > name.len() && entry.key.mailbox.starts_with(name))
    };
    let at = |name: &[u8]| entries.iter().any(|entry| *entry.key.mailbox == *name);
    // What stands under the new name is left over from another mailbox.
    if !(at(&from) || below(&from) || at(&to)) {
        return Ok(());
    }
    let change = match *from == *b"INBOX" {
        true => Change::Copied { from, to, quota: server.plan().account.quota() },
        false => {
            let listed = if below(&from) { server.list(&to).await.unwrap_or_default() } else { Vec::new() };
            let delimiter = listed.iter().filter_map(|listed| listed.delimiter).next();
            Change::Renamed { from, to, delimiter }
        }
    };
    server.save(change).await.map(|_| ())
}
