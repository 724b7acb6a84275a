//! UIDPLUS: chosen messages are expunged, and a copy says what it is called (RFC 4315), as far as that can be known for sure.
//!
//! Below: UID SEARCH, UID FETCH, EXPUNGE, STATUS.   Above: UID EXPUNGE, APPENDUID, and COPYUID where one message is copied.
//!
//!     C: a UID EXPUNGE 3000:3002
//!     >  p1 UID SEARCH DELETED               none but these: EXPUNGE removes no other
//!     >  p2 EXPUNGE
//!     C: b UID COPY 12 Archive
//!     >  p3 UID FETCH 12 (UID RFC822.SIZE)
//!     >  p4 STATUS Archive (MESSAGES UIDNEXT UIDVALIDITY)
//!     >  p5 UID COPY 12 Archive
//!     >  p6 STATUS Archive (MESSAGES UIDNEXT UIDVALIDITY)      one more, and the next UID is the next:
//!     >  p7 UID FETCH 12 (UID RFC822.SIZE)                     it is ours, because 12 was there all the time
//!     S: b OK [COPYUID 38505 12 3956] done
//!     C: c APPEND Archive (\Seen) {310}       between two STATUS likewise: the literal passes by unread
//!     S: c OK [APPENDUID 38505 3957] done
//!
//! Where other messages are marked as deleted too, UID EXPUNGE is refused: to unmark them meanwhile would show others what is not
//! so. What somebody marks between the search and EXPUNGE goes with it, as it does for every client of such a server. A copy of a
//! UID that is gone is OK too, and copies nothing: what came meanwhile would be a stranger's message. Codes are left out where they
//! would be a guess, or cost those who do not look at them: of several messages at once, of COPY by number, and of what goes into
//! the selected mailbox. Requirement A4.

use crate::{
    imap::{
        fetch::Fetched,
        list, sequence_set,
        token::{self, Cursor},
        verb::{self, Verb},
    },
    mailbox::status::Status,
    session::{
        layer::{Extension, Refusal},
        script::{self, Ending, Given, Server},
    },
};

/// RFC 4315.
pub const UIDPLUS: Extension = Extension {
    name: "UIDPLUS",
    spec: "RFC 4315",
    gives: &["UIDPLUS"],
    hears: &["APPEND", "UID COPY", "UID EXPUNGE"],
    concerns: |verb, arguments| match verb.name {
        "APPEND" => appended(arguments).is_some(),
        "UID COPY" => copied(arguments).is_some(),
        _ => true,
    },
    streams: true,
    build: || script::layer(|given, server| Box::pin(uidplus(given, server))),
    ..Extension::NONE
};

const COPY: &Verb = verb::row_of("UID COPY");
const EXPUNGE: &Verb = verb::row_of("EXPUNGE");
const FETCH: &Verb = verb::row_of("UID FETCH");
const STATUS: &Verb = verb::row_of("STATUS");

async fn uidplus(given: Given, server: Server) -> Result<Ending, Refusal> {
    match given.verb.name {
        "APPEND" => append(&given, &server).await,
        "UID EXPUNGE" => expunge(&given, &server).await,
        _ => copy(&given, &server).await,
    }
}

async fn expunge(given: &Given, server: &Server) -> Result<Ending, Refusal> {
    if sequence_set::parse(&given.arguments).is_none() {
        return Err(Refusal::bad("expected a set of UIDs"));
    }
    let deleted = server.search(b"DELETED").await?.uids;
    let chosen = server.search(&[b"DELETED UID ", given.arguments.as_slice()].concat()).await?.uids;
    if deleted.without(&chosen).next().is_some() {
        return Err(Refusal::no("CANNOT", "other messages are marked as deleted, and this server removes all or none"));
    }
    if !chosen.is_empty() {
        server.ask(EXPUNGE, "").await?.passed_on()?;
    }
    Ending::done("UID EXPUNGE completed")
}

/// RFC 4315 section 3: the code of a copy, if it is sure which message it is.
async fn copy(given: &Given, server: &Server) -> Result<Ending, Refusal> {
    let selected = given.mailbox.as_ref().map(|selected| list::canonical(selected));
    let copied = copied(&given.arguments).filter(|(_, mailbox)| selected != Some(list::canonical(mailbox)));
    let Some((source, mailbox)) = copied else { return Ok(Ending::Forward) };
    let Some(size) = size(server, source).await? else { return Ok(Ending::Forward) };
    let before = status(server, &mailbox).await?;
    let copied = server.ask(COPY, given.arguments.clone()).await?.passed_on()?;
    let after = status(server, &mailbox).await?;
    let stayed = self::size(server, source).await? == Some(size);
    let named = before.zip(after).filter(|_| stayed).and_then(|(before, after)| named(source, size, &before, &after));
    let code = named.unwrap_or_default();
    Ok(Ending::Done([code.as_bytes(), &copied.text].concat()))
}

/// RFC 4315 section 3: the code of a message that is stored, if it is sure which one it is.
async fn append(given: &Given, server: &Server) -> Result<Ending, Refusal> {
    let selected = given.mailbox.as_ref().map(|selected| list::canonical(selected));
    let mailbox = appended(&given.arguments).filter(|mailbox| selected != Some(list::canonical(mailbox)));
    let Some(mailbox) = mailbox else { return Ok(Ending::Forward) };
    // Where it cannot be asked, APPEND says why.
    let Some(before) = status(server, &mailbox).await? else { return Ok(Ending::Forward) };
    let stored = server.follow().await?.passed_on()?;
    let after = status(server, &mailbox).await?;
    let code = after.and_then(|after| next(&before, &after)).map(|(uidvalidity, uid)| {
        let plain = !stored.text.starts_with(b"[");
        if plain { format!("[APPENDUID {uidvalidity} {uid}] ") } else { String::new() }
    });
    Ok(Ending::Done([code.unwrap_or_default().as_bytes(), &stored.text].concat()))
}

/// Where the message of an APPEND goes, if it is one: what stands behind the first literal may be another (RFC 3502), and what
/// has no literal is put together elsewhere (RFC 4469).
fn appended(arguments: &[u8]) -> Option<Vec<u8>> {
    let mut cursor = Cursor::new(arguments);
    let mailbox = cursor.astring().ok()?.into_owned();
    cursor.space().ok()?;
    if cursor.peek() == Some(b'(') {
        cursor.list_as_written().ok()?;
        cursor.space().ok()?;
    }
    if cursor.peek() == Some(b'"') {
        cursor.string().ok()?;
        cursor.space().ok()?;
    }
    cursor.accept(b"~");
    let announced = cursor.rest();
    // A small one stands here with its octets.
    let whole = announced.starts_with(b"{") && (cursor.string().is_err() || cursor.end().is_ok());
    whole.then_some(mailbox)
}

/// The one message that is copied, and whereto.
fn copied(arguments: &[u8]) -> Option<(u32, Vec<u8>)> {
    let mut cursor = Cursor::new(arguments);
    let uid = cursor.number().ok()?;
    cursor.space().ok()?;
    let mailbox = cursor.astring().ok()?.into_owned();
    cursor.end().ok().map(|()| (uid, mailbox))
}

/// How large the message is, if it is there.
async fn size(server: &Server, uid: u32) -> Result<Option<u64>, Refusal> {
    let answers = server.ask(FETCH, format!("{uid} (UID RFC822.SIZE)")).await?;
    let size = |line: &Vec<u8>| {
        let fetched = Fetched::parse(line).filter(|fetched| fetched.uid() == Some(uid))?;
        std::str::from_utf8(fetched.value("RFC822.SIZE")?).ok()?.parse().ok()
    };
    Ok(answers.parts.iter().find_map(size))
}

/// How the mailbox stands; none: it cannot be asked, which is for COPY to say.
async fn status(server: &Server, mailbox: &[u8]) -> Result<Option<Status>, Refusal> {
    let mut arguments = Vec::new();
    token::write_astring(mailbox, &mut arguments);
    arguments.push(b' ');
    let items = match server.plan().native.has("STATUS=SIZE") {
        true => "(MESSAGES UIDNEXT UIDVALIDITY SIZE)",
        false => Status::items(false, false),
    };
    arguments.extend_from_slice(items.as_bytes());
    let answers = server.ask(STATUS, arguments).await?;
    Ok(answers.parts.iter().find_map(|line| Status::parse(line)).map(|(_, status)| status))
}

/// The code of a copy. Where the server says how large its mailboxes are (RFC 8438), this one has grown by the message.
fn named(source: u32, size: u64, before: &Status, after: &Status) -> Option<String> {
    let grown = before.size.zip(after.size).is_none_or(|(before, after)| after.checked_sub(size) == Some(before));
    let (uidvalidity, uid) = next(before, after).filter(|_| grown)?;
    Some(format!("[COPYUID {uidvalidity} {source} {uid}] "))
}

/// One message came, and it took the UID that was the next: no other can have come.
fn next(before: &Status, after: &Status) -> Option<(u32, u32)> {
    let (uid, uidvalidity) = (before.uidnext?, before.uidvalidity?);
    let one = after.messages? == before.messages?.checked_add(1)? && after.uidnext? == uid.checked_add(1)?;
    (one && after.uidvalidity == before.uidvalidity).then_some((uidvalidity, uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_that_is_stored_is_told_from_others() {
        let table: [(&[u8], Option<&[u8]>); 9] = [
            (b"Work {310}", Some(b"Work")),
            (b"\"a b\" (\\Seen) \"17-Jul-1996 02:44:25 -0700\" ~{310+}", Some(b"a b")),
            (b"{4}\r\nWork {310+}", Some(b"Work")),
            (b"Work {3+}\r\nabc", Some(b"Work")),
            (b"Work {3+}\r\nabc (\\Seen) {3+}\r\nabc", None),
            (b"Work {3+}\r\nabc {310}", None),
            (b"Work CATENATE (URL \"/INBOX/;UID=1\")", None),
            (b"Work \"quoted\"", None),
            (b"Work", None),
        ];
        for (arguments, expected) in table {
            assert_eq!(appended(arguments).as_deref(), expected, "{}", arguments.escape_ascii());
        }
    }

    #[test]
    fn a_copy_is_named_only_where_that_is_sure() {
        let status = |messages, uidnext, uidvalidity| Status {
            messages: Some(messages),
            uidnext: Some(uidnext),
            uidvalidity: Some(uidvalidity),
            ..Status::default()
        };
        let before = status(3, 10, 7);
        assert_eq!(named(12, 50, &before, &status(4, 11, 7)).as_deref(), Some("[COPYUID 7 12 10] "));
        for after in [status(5, 12, 7), status(4, 12, 7), status(3, 11, 7), status(4, 11, 8), Status::default()] {
            assert_eq!(named(12, 50, &before, &after), None);
        }
        let sized = |size, status: Status| Status { size: Some(size), ..status };
        let grown = |octets: u64| named(12, 50, &sized(1000, before.clone()), &sized(1000 + octets, status(4, 11, 7)));
        assert!(grown(50).is_some() && grown(51).is_none() && grown(0).is_none());
    }
}
