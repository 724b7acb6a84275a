//! Commands about whole mailboxes: SELECT, CREATE, STATUS, APPEND, CLOSE and their kin. RFC 3501 6.3 and 6.4.

use super::{
    Connection,
    changes::{Selected, say},
    connection::{End, State},
    store::{Mailbox, canonical},
    syntax::{Cursor, Malformed},
};

/// The system flags that a client may set.
const FLAGS: &str = "\\Answered \\Flagged \\Deleted \\Seen \\Draft";

/// What STATUS knows.
pub(super) const ITEMS: [&str; 7] = ["HIGHESTMODSEQ", "MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "SIZE"];

impl Mailbox {
    /// The items of a STATUS response.
    pub(super) fn status(&self, wanted: &[String]) -> String {
        let messages = &self.messages;
        let value = |item| match item {
            "HIGHESTMODSEQ" => self.highest_modseq() as usize,
            "MESSAGES" => messages.len(),
            "RECENT" => messages.iter().filter(|message| message.recent).count(),
            "UIDNEXT" => self.uidnext as usize,
            "UIDVALIDITY" => self.uidvalidity as usize,
            "SIZE" => messages.iter().map(|message| message.octets.len()).sum(),
            _ => messages.iter().filter(|message| !message.has("\\Seen")).count(),
        };
        let said = ITEMS.into_iter().filter(|item| wanted.iter().any(|word| word == item));
        said.map(|item| format!("{item} {}", value(item))).collect::<Vec<_>>().join(" ")
    }
}

impl Connection {
    pub(super) fn select(&mut self, mut cursor: Cursor<'_>, read_only: bool, out: &mut Vec<u8>) -> Result<End, End> {
        self.authenticated()?;
        let name = canonical(&cursor.text()?);
        let resync = self.resync(&mut cursor)?;
        cursor.done()?;
        // RFC 3501 6.3.1: also a SELECT that fails closes the mailbox.
        self.state = State::Authenticated;
        let backend = self.backend.clone();
        let mut store = backend.store();
        let (twice, snapshot) = (store.settings.mischief.exists_twice, store.settings.mischief.snapshot);
        let counts = store.settings.has("CONDSTORE");
        store.may_read(&name)?;
        let Some(mailbox) = store.mailbox(&name).filter(|mailbox| !mailbox.noselect) else {
            return Err(End::No(format!("[NONEXISTENT] Mailbox doesn't exist: {name}")));
        };
        mailbox.take_down();
        let selected = Selected::new(&name, read_only, snapshot, self.syncing, mailbox);
        say(out, &format!("* {} EXISTS", selected.known.len()));
        say(out, &format!("* {} RECENT", selected.recent.len()));
        if let Some(at) = mailbox.messages.iter().position(|message| !message.has("\\Seen")) {
            say(out, &format!("* OK [UNSEEN {0}] Message {0} is first unseen", at + 1));
        }
        say(out, &format!("* OK [UIDVALIDITY {}] UIDs valid", mailbox.uidvalidity));
        say(out, &format!("* OK [UIDNEXT {}] Predicted next UID", mailbox.uidnext));
        if counts {
            say(out, &format!("* OK [HIGHESTMODSEQ {}] Highest", mailbox.highest_modseq()));
        }
        say(out, &format!("* FLAGS ({FLAGS})"));
        if read_only {
            say(out, "* OK [PERMANENTFLAGS ()] No permanent flags permitted");
        } else {
            say(out, &format!("* OK [PERMANENTFLAGS ({FLAGS} \\*)] Limited"));
        }
        if twice {
            say(out, &format!("* {} EXISTS", selected.known.len()));
        }
        selected.tell_missed(&resync, mailbox, out);
        self.state = State::Selected(selected);
        let (code, verb) = if read_only { ("READ-ONLY", "EXAMINE") } else { ("READ-WRITE", "SELECT") };
        Ok(End::Ok(format!("[{code}] {verb} completed")))
    }

    pub(super) fn create(&self, mut cursor: Cursor<'_>) -> Result<End, End> {
        self.authenticated()?;
        let name = cursor.text()?;
        let uses = self.uses_asked_for(&mut cursor)?;
        cursor.done()?;
        let mut store = self.backend.store();
        // RFC 3501 6.3.3: a separator at the end only declares that there will be children.
        let name = canonical(name.trim_end_matches(store.settings.separator));
        if store.mailbox(&name).is_some_and(|mailbox| !mailbox.noselect) || name.is_empty() {
            return Err(End::No("[ALREADYEXISTS] Mailbox already exists".to_owned()));
        }
        let uidvalidity = 3_857_529_045 + store.mailboxes.len() as u32;
        store.mailboxes.insert(name.clone(), Mailbox { uidvalidity, ..Mailbox::new() });
        store.assign(&name, &uses);
        Ok(End::Ok("CREATE completed".to_owned()))
    }

    pub(super) fn delete(&self, mut cursor: Cursor<'_>) -> Result<End, End> {
        self.authenticated()?;
        let name = canonical(&cursor.text()?);
        cursor.done()?;
        let mut store = self.backend.store();
        let parent = store.has_children(&name);
        match store.mailbox(&name) {
            Some(mailbox) if mailbox.noselect && parent => {
                Err(End::No(format!("Name \"{name}\" has inferior hierarchical names")))
            }
            Some(_) if name != "INBOX" => {
                store.mailboxes.remove(&name);
                Ok(End::Ok("DELETE completed".to_owned()))
            }
            _ => Err(End::No(format!("[NONEXISTENT] Mailbox doesn't exist: {name}"))),
        }
    }

    pub(super) fn rename(&self, mut cursor: Cursor<'_>) -> Result<End, End> {
        self.authenticated()?;
        let from = canonical(&cursor.text()?);
        cursor.space()?;
        let to = canonical(&cursor.text()?);
        cursor.done()?;
        let mut store = self.backend.store();
        if store.mailbox(&to).is_some() {
            return Err(End::No("[ALREADYEXISTS] Mailbox already exists".to_owned()));
        }
        let Some(mailbox) = store.mailboxes.remove(&from) else {
            return Err(End::No(format!("[NONEXISTENT] Mailbox doesn't exist: {from}")));
        };
        store.mailboxes.insert(to.clone(), mailbox);
        if from == "INBOX" {
            // RFC 3501 6.3.5: the messages move, INBOX stays, and so do its children. RFC 5464 4.1: annotations are copied.
            let annotations = store.mailboxes[&to].annotations.clone();
            store.mailboxes.insert(from, Mailbox { annotations, ..Mailbox::new() });
            return Ok(End::Ok("RENAME completed".to_owned()));
        }
        let prefix = format!("{from}{}", store.settings.separator);
        let children: Vec<String> = store.mailboxes.keys().filter(|name| name.starts_with(&prefix)).cloned().collect();
        for child in children {
            if let Some(mailbox) = store.mailboxes.remove(&child) {
                store.mailboxes.insert(format!("{to}{}", &child[from.len()..]), mailbox);
            }
        }
        Ok(End::Ok("RENAME completed".to_owned()))
    }

    pub(super) fn status(&self, mut cursor: Cursor<'_>, out: &mut Vec<u8>) -> Result<End, End> {
        self.authenticated()?;
        let name = cursor.text()?;
        cursor.space()?;
        let wanted: Vec<String> = cursor.words()?.iter().map(|word| word.to_uppercase()).collect();
        cursor.done()?;
        let mut store = self.backend.store();
        let has = |word: &String| match word.as_str() {
            "HIGHESTMODSEQ" => store.settings.has("CONDSTORE"),
            "SIZE" => store.settings.has("STATUS=SIZE"),
            _ => true,
        };
        if !wanted.iter().all(|word| ITEMS.contains(&word.as_str()) && has(word)) {
            return Err(Malformed.into());
        }
        store.may_read(&name)?;
        let written = store.settings.name(&name);
        let Some(mailbox) = store.mailbox(&name).filter(|mailbox| !mailbox.noselect) else {
            return Err(End::No(format!("[NONEXISTENT] Mailbox doesn't exist: {name}")));
        };
        mailbox.take_down();
        say(out, &format!("* STATUS {written} ({})", mailbox.status(&wanted)));
        Ok(End::Ok("STATUS completed".to_owned()))
    }

    /// RFC 9208 4.3: there is one quota, for all mailboxes.
    pub(super) fn quota_root(&self, mut cursor: Cursor<'_>, out: &mut Vec<u8>) -> Result<End, End> {
        self.needs("QUOTA")?;
        self.authenticated()?;
        let name = cursor.text()?;
        cursor.done()?;
        let store = self.backend.store();
        say(out, &format!("* QUOTAROOT {} \"\"", store.settings.name(&name)));
        say(out, &format!("* QUOTA \"\" {}", store.quota.as_deref().unwrap_or("()")));
        Ok(End::Ok("GETQUOTAROOT completed".to_owned()))
    }

    pub(super) fn append(&self, mut cursor: Cursor<'_>) -> Result<End, End> {
        self.authenticated()?;
        let name = cursor.text()?;
        cursor.space()?;
        let mut flags = Vec::new();
        if cursor.peek() == Some(b'(') {
            flags = cursor.words()?;
            cursor.space()?;
        }
        let mut date = None;
        if cursor.peek() == Some(b'"') {
            date = Some(cursor.text()?);
            cursor.space()?;
        }
        if !cursor.is_literal() {
            return Err(Malformed.into());
        }
        let octets = cursor.astring()?;
        cursor.done()?;
        let mut store = self.backend.store();
        let uidplus = store.settings.has("UIDPLUS");
        let Some(mailbox) = store.mailbox(&name).filter(|mailbox| !mailbox.noselect) else {
            return Err(End::No(format!("[TRYCREATE] Mailbox doesn't exist: {name}")));
        };
        let uidvalidity = mailbox.uidvalidity;
        let message = mailbox.append(None, flags, octets);
        if let Some(date) = date {
            message.date = date;
        }
        let code = if uidplus { format!("[APPENDUID {uidvalidity} {}] ", message.uid) } else { String::new() };
        Ok(End::Ok(format!("{code}APPEND completed")))
    }

    pub(super) fn check(&mut self) -> Result<End, End> {
        self.selected()?;
        Ok(End::Ok("CHECK Completed".to_owned()))
    }

    /// RFC 3501 6.4.2: removes what is `\Deleted` without a word, then leaves.
    pub(super) fn close(&mut self, expunges: bool) -> Result<End, End> {
        let selected = self.selected()?;
        let (name, read_only) = (selected.name.clone(), selected.read_only);
        if let Some(mailbox) = self.backend.store().mailbox(&name).filter(|_| expunges && !read_only) {
            let deleted: Vec<_> = mailbox.messages.iter().filter(|m| m.has("\\Deleted")).map(|m| m.uid).collect();
            mailbox.expunge(&deleted);
        }
        self.state = State::Authenticated;
        Ok(End::Ok("CLOSE completed".to_owned()))
    }

    pub(super) fn unselect(&mut self) -> Result<End, End> {
        self.needs("UNSELECT")?;
        self.close(false)?;
        Ok(End::Ok("Unselect completed".to_owned()))
    }
}
