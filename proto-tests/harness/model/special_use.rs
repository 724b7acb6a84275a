//! What mailboxes are for. RFC 6154 (SPECIAL-USE, CREATE-SPECIAL-USE).
//!
//!     C: t2 CREATE MySpecial (USE (\Drafts \Sent))
//!     S: t2 OK MySpecial created
//!     C: t3 CREATE Everything (USE (\All))
//!     S: t3 NO [USEATTR] \All not supported
//!
//! A use is kept as the annotation `/private/specialuse` (section 4), and stands on one mailbox at a time.

use super::{
    Connection,
    connection::End,
    store::{Mailbox, Store},
    syntax::{Cursor, text},
};

/// The annotation that holds a mailbox's uses.
pub(super) const ENTRY: &str = "/private/specialuse";

/// The uses that a client may assign.
const ASSIGNABLE: [&str; 5] = ["\\Archive", "\\Drafts", "\\Junk", "\\Sent", "\\Trash"];

impl Connection {
    /// `(USE (\Drafts))` behind the name in CREATE.
    pub(super) fn uses_asked_for(&self, cursor: &mut Cursor<'_>) -> Result<Vec<String>, End> {
        if !self.backend.store().settings.has("CREATE-SPECIAL-USE") || !cursor.eat(b" (USE ") {
            return Ok(Vec::new());
        }
        let uses = cursor.words()?;
        cursor.expect(b")")?;
        assignable(uses)
    }
}

/// These uses in their usual spelling, if all of them may be assigned.
pub(super) fn assignable(uses: Vec<String>) -> Result<Vec<String>, End> {
    let known = |asked: String| {
        let known = ASSIGNABLE.iter().find(|use_| use_.eq_ignore_ascii_case(&asked));
        known.map(|use_| (*use_).to_owned()).ok_or_else(|| End::No(format!("[USEATTR] {asked} not supported")))
    };
    uses.into_iter().map(known).collect()
}

impl Mailbox {
    /// Its uses: `\Drafts`, `\Sent`.
    pub(super) fn uses(&self) -> Vec<String> {
        let value = self.annotations.get(ENTRY).map(|value| text(value)).unwrap_or_default();
        value.split_whitespace().map(str::to_owned).collect()
    }

    fn set_uses(&mut self, uses: &[String]) {
        if uses.is_empty() {
            self.annotations.remove(ENTRY);
        } else {
            self.annotations.insert(ENTRY.to_owned(), uses.join(" ").into_bytes());
        }
    }
}

impl Store {
    /// Gives these uses to a mailbox, and takes them from others: whom they were taken from.
    pub fn assign(&mut self, name: &str, uses: &[String]) -> Vec<String> {
        let mut losers = Vec::new();
        for (other, mailbox) in self.mailboxes.iter_mut().filter(|(other, _)| *other != name) {
            let before = mailbox.uses();
            let left: Vec<String> = before.iter().filter(|use_| !uses.contains(use_)).cloned().collect();
            if left.len() < before.len() {
                mailbox.set_uses(&left);
                losers.push(other.clone());
            }
        }
        if let Some(mailbox) = self.mailbox(name) {
            mailbox.set_uses(uses);
        }
        losers
    }
}
