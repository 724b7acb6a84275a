//! Annotations go where their mailbox goes: RENAME, DELETE, and what happens to mailboxes without us (RFC 5464 section 4.1).
//!
//!     C: a RENAME Work Play
//!     >  p1 STATUS "Work" (UIDVALIDITY)
//!     >  a RENAME Work Play              what is to follow is on the disk by now
//!     S: a OK ...                        and here it has followed
//!
//! Where entries are concerned, what is to follow is written down first (`account/moving.rs`); where that cannot be, the command is
//! refused. Whatever ends the proxy or the store behind it, the next who asks for annotations makes up for it. While the store
//! cannot even be read, names change without us, as mail goes on: what stays behind is found to have no mailbox.
//!
//! Once in a session, at its first command, again each hour and behind names that it has changed, all mailboxes that entries are
//! kept of are looked for: the entries of one that is not found wait a day for it. An account without entries asks nothing.
//! Requirement N14.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    account::{
        annotation,
        moving::{Moving, Seen, Verdict},
    },
    imap::{
        list::{self, Listed},
        response::Status,
        token,
        verb::{self, Verb},
    },
    mailbox::status,
    session::{
        layer::Refusal,
        script::{Ending, Given, Server},
    },
    store::{Change, Edit, Entry, Query, Quota},
};

const STATUS: &Verb = verb::row_of("STATUS");

/// Mailboxes that one look asks for by name, as they stand in no list: each is a command to the backend.
const MOST_DOUBTS: usize = 32;

/// Notes that one look goes into: there is one for each change that was cut off, and each is some commands to the backend.
const MOST_NOTES: usize = 16;

/// Annotations go with their mailbox.
pub(super) async fn delete(given: Given, server: Server) -> Result<Ending, Refusal> {
    let name = token::Cursor::new(&given.arguments).astring().map(|name| list::canonical(&name));
    let Ok(mailbox) = name else { return follow(&server, None).await };
    let Ok((mut entries, now)) = server.entries(Query::Mailbox(mailbox.clone())).await else {
        return follow(&server, None).await;
    };
    if settle(&server, &entries, now).await? {
        entries = server.entries(Query::Mailbox(mailbox.clone())).await?.0;
    }
    // A note is nothing that could follow.
    entries.retain(|entry| Moving::of(entry).is_none());
    if entries.is_empty() {
        return follow(&server, None).await;
    }
    let uidvalidity = uidvalidity(&server, &mailbox).await?;
    follow(&server, Some(Moving { mailbox, from: None, delimiter: None, uidvalidity, since: now })).await
}

/// Annotations follow their mailbox, and what stands below it; INBOX keeps its own (RFC 3501 section 6.3.5).
pub(super) async fn rename(given: Given, server: Server) -> Result<Ending, Refusal> {
    let names = || {
        let mut cursor = token::Cursor::new(&given.arguments);
        let from = cursor.astring().ok()?.into_owned();
        cursor.space().ok()?;
        let to = cursor.astring().ok()?.into_owned();
        Some((list::canonical(&from), list::canonical(&to)))
    };
    let Some((from, to)) = names() else { return follow(&server, None).await };
    let Ok((mut entries, now)) = server.entries(Query::Entries).await else { return follow(&server, None).await };
    if settle(&server, &entries, now).await? {
        entries = server.entries(Query::Entries).await?.0;
    }
    entries.retain(|entry| Moving::of(entry).is_none());
    let below = |name: &[u8]| {
        entries.iter().any(|entry| entry.key.mailbox.len() > name.len() && entry.key.mailbox.starts_with(name))
    };
    let at = |name: &[u8]| entries.iter().any(|entry| *entry.key.mailbox == *name);
    let is_inbox = *from == *b"INBOX";
    // What stands under the new name is left over from another mailbox.
    let mut concerned = at(&from) || at(&to) || (!is_inbox && below(&from));
    if is_inbox && at(&to) {
        // Or it is that of one that is there, and the backend will refuse; INBOX does not go, by which the two could be told apart.
        concerned = find(&server, &to).await?.is_none();
    }
    if !concerned {
        return follow(&server, None).await;
    }
    // Only names below the old one make it worth asking what separates names.
    let listed = if !is_inbox && below(&from) { server.list(&from).await.unwrap_or_default() } else { Vec::new() };
    let delimiter = listed.iter().find_map(|listed| listed.delimiter);
    let uidvalidity = uidvalidity(&server, &from).await?;
    follow(&server, Some(Moving { mailbox: to, from: Some(from), delimiter, uidvalidity, since: now })).await
}

/// Asks the backend for it, and has entries follow its OK.
async fn follow(server: &Server, moving: Option<Moving>) -> Result<Ending, Refusal> {
    if let Some(note) = moving.as_ref().and_then(Moving::note) {
        keep(server, vec![(note.key, Some(note.value))]).await?;
    }
    let answers = server.follow().await?;
    if let Some(moving) = moving {
        let verdict = if answers.status == Status::Ok { Verdict::Done } else { Verdict::Undone };
        // The mailbox has its new name, or none, whatever becomes of this: the note stays then.
        let _ = carry_out(server, &moving, verdict).await;
    }
    Ok(Ending::Done(answers.passed_on()?.text))
}

/// Does what a note announces, or takes it back: once, whoever comes first. Whether anything was to be done.
async fn carry_out(server: &Server, moving: &Moving, verdict: Verdict) -> Result<bool, Refusal> {
    let nothing = Change::Entries { edits: Vec::new(), quota: Quota::NONE };
    let change = match verdict {
        Verdict::Done => moving.change(server.plan().account.quota()),
        Verdict::Undone => nothing.clone(),
        Verdict::Open => return Ok(false),
    };
    let Some(mark) = moving.note() else { return Ok(false) };
    let once = |change| Change::Once { mark: mark.clone(), change: Box::new(change) };
    // A copy of INBOX that the user has no room for is none.
    if server.save(once(change)).await?.is_err() {
        let _ = server.save(once(nothing)).await?;
    }
    Ok(true)
}

/// Makes up for what was cut off. Whether anything was.
async fn settle(server: &Server, entries: &[Entry], now: i64) -> Result<bool, Refusal> {
    let mut settled = false;
    for moving in entries.iter().filter_map(Moving::of).take(MOST_NOTES) {
        let verdict = moving.judge(see(server, &moving).await?, now);
        settled |= carry_out(server, &moving, verdict).await?;
    }
    Ok(settled)
}

/// What can be seen of it. The new name first: where it is there and the old one is not, a rename between the two is seen as well.
async fn see(server: &Server, moving: &Moving) -> Result<Seen, Refusal> {
    let new = moving.from.is_some() && find(server, &moving.mailbox).await?.is_some();
    let old = find(server, moving.old()).await?;
    // Of a mailbox that was deleted its name may stay, for those below it; one that is renamed takes them along.
    let old = old.filter(|listed| moving.from.is_some() || !listed.has(b"\\Noselect"));
    let uidvalidity = match (&old, moving.uidvalidity) {
        (Some(_), Some(_)) => uidvalidity(server, moving.old()).await?,
        _ => None,
    };
    Ok(Seen { new, old: old.is_some(), uidvalidity })
}

/// What the backend lists of this name, if there is such a mailbox.
pub(super) async fn find(server: &Server, mailbox: &[u8]) -> Result<Option<Listed>, Refusal> {
    let names = server.list(mailbox).await?;
    Ok(names.into_iter().find(|listed| *listed.key() == *mailbox && !listed.has(b"\\NonExistent")))
}

/// Of a name that cannot be selected there is none.
async fn uidvalidity(server: &Server, mailbox: &[u8]) -> Result<Option<u32>, Refusal> {
    let mut arguments = Vec::new();
    token::write_string(mailbox, &mut arguments);
    arguments.extend_from_slice(b" (UIDVALIDITY)");
    let answers = server.ask(STATUS, arguments).await?;
    let said = answers.parts.iter().filter_map(|line| status::Status::parse(line));
    Ok(said.filter(|(key, _)| **key == *mailbox).find_map(|(_, status)| status.uidvalidity))
}

/// Looks for all mailboxes that entries are kept of.
pub(super) async fn sweep(server: &Server) -> Result<(), Refusal> {
    let (mut entries, now) = server.entries(Query::Entries).await?;
    if settle(server, &entries, now).await? {
        entries = server.entries(Query::Entries).await?.0;
    }
    let kept: BTreeSet<_> = entries.iter().map(|entry| &entry.key.mailbox).filter(|name| !name.is_empty()).collect();
    if kept.is_empty() {
        return Ok(());
    }
    // A list may be too long to be held, and need not show the mailboxes of others: what is not in it is asked for by name.
    let listed = server.list(b"*").await.unwrap_or_default();
    let listed: BTreeSet<_> = listed.iter().filter(|it| !it.has(b"\\NonExistent")).map(Listed::key).collect();
    let (there, doubtful): (Vec<_>, Vec<_>) = kept.into_iter().partition(|name| listed.contains(*name));
    let mut looked: BTreeMap<Box<[u8]>, bool> = there.into_iter().map(|name| (name.clone(), true)).collect();
    for name in doubtful.into_iter().take(MOST_DOUBTS) {
        looked.insert(name.clone(), find(server, name).await?.is_some());
    }
    keep(server, annotation::swept(&entries, &looked, now)).await
}

/// A mailbox is not there.
pub(super) async fn lose(server: &Server, mailbox: &[u8]) -> Result<(), Refusal> {
    let (entries, now) = server.entries(Query::Mailbox(mailbox.into())).await?;
    keep(server, annotation::swept(&entries, &BTreeMap::from([(mailbox.into(), false)]), now)).await
}

/// The entries of a mailbox that is there, or of the server, and the time of day.
pub(super) async fn load(server: &Server, mailbox: &[u8]) -> Result<(Vec<Entry>, i64), Refusal> {
    let (mut entries, now) = server.entries(Query::Mailbox(mailbox.into())).await?;
    if settle(server, &entries, now).await? {
        entries = server.entries(Query::Mailbox(mailbox.into())).await?.0;
    }
    let edits = annotation::swept(&entries, &BTreeMap::from([(mailbox.into(), true)]), now);
    entries.retain(|entry| edits.iter().all(|(key, _)| *key != entry.key));
    keep(server, edits).await?;
    Ok((entries, now))
}

/// Keeps what is ours, which counts against nobody's quota.
async fn keep(server: &Server, edits: Vec<Edit>) -> Result<(), Refusal> {
    match edits.is_empty() {
        true => Ok(()),
        false => server.save(Change::Entries { edits, quota: Quota::NONE }).await.map(|_| ()),
    }
}
