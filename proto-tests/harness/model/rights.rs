//! What the user may do with a mailbox. RFC 4314, as far as others build on it.
//!
//!     C: A003 MYRIGHTS INBOX
//!     S: * MYRIGHTS INBOX lrswipkxtea

use super::{Connection, changes::say, connection::End, store::Store, syntax::Cursor};

impl Connection {
    pub(super) fn my_rights(&self, mut cursor: Cursor<'_>, out: &mut Vec<u8>) -> Result<End, End> {
        self.needs("ACL")?;
        self.authenticated()?;
        let name = cursor.text()?;
        cursor.done()?;
        let mut store = self.backend.store();
        if store.mailbox(&name).is_none() || store.rights(&name).is_empty() {
            return Err(End::No(format!("[NONEXISTENT] Mailbox doesn't exist: {name}")));
        }
        say(out, &format!("* MYRIGHTS {} {}", store.settings.name(&name), store.rights(&name)));
        Ok(End::Ok("Myrights complete".to_owned()))
    }
}

impl Store {
    /// RFC 4314 section 4: SELECT, EXAMINE and STATUS ask for `r`.
    pub(super) fn may_read(&self, name: &str) -> Result<(), End> {
        if self.allows(name, 'r') { Ok(()) } else { Err(End::No("[NOPERM] Permission denied".to_owned())) }
    }
}
