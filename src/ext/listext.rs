//! LISTEXT: what LIST-EXTENDED was called when the notification drafts were written; clients of theirs look for this word.
//!
//! Below: LIST-EXTENDED.   Above: LISTEXT, the same commands.
//!
//!     S: * CAPABILITY IMAP4rev1 ... LIST-EXTENDED LISTEXT ...
//!
//! Requirement N1.

use crate::session::layer::Extension;

/// draft-ietf-imapext-list-extensions, by the name of that time.
pub const LISTEXT: Extension = Extension {
    name: "LISTEXT",
    spec: "draft-ietf-imapext-list-extensions",
    gives: &["LISTEXT"],
    needs: &["LIST-EXTENDED"],
    ..Extension::NONE
};
