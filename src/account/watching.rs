//! What a device says of how its mailboxes are to be looked after while it is away, and what it is told of that.
//!
//!     /private/vendor/lemonade/notify/watch/mode     sealed                    its secret may be kept, sealed
//!     /private/vendor/lemonade/notify/watch/status   watched (sealed)          how it stands; only read
//!     /private/vendor/lemonade/notify/watch/status   asleep: sign in to be told
//!     /private/vendor/lemonade/notify/missed         [{"event":"MailboxRename",...}]   what leaves no trace in mailboxes; removed by who has read it
//!
//! All stand on the server. Where the operator keeps no secrets, nobody's is kept. Requirement N16.

use super::preference::Wrong;
use crate::store::{Entry, Owner};

/// How a device wants its mailboxes looked after.
pub const MODE: &str = "/private/vendor/lemonade/notify/watch/mode";

/// How it stands.
pub const STATUS: &str = "/private/vendor/lemonade/notify/watch/status";

/// What the device has missed and will not find by itself, as JSON: it stands there until the device removes it.
pub const MISSED: &str = "/private/vendor/lemonade/notify/missed";

/// Checks the value of [`MODE`]. `sealed`: the operator keeps secrets.
pub fn check(value: &[u8], sealed: bool) -> Result<(), Wrong> {
    match () {
        () if value.eq_ignore_ascii_case(b"linger") => Ok(()),
        () if !value.eq_ignore_ascii_case(b"sealed") => Err(Wrong::Syntax("expected linger or sealed".to_owned())),
        () if sealed => Ok(()),
        () => Err(Wrong::Impossible("no secrets are kept here".to_owned())),
    }
}

/// Whether a device of the account wants its secret kept.
pub fn wants_sealed(entries: &[Entry]) -> bool {
    let is_it = |entry: &Entry| matches!(entry.key.owner, Owner::Device(_)) && entry.key.name.as_str() == MODE;
    entries.iter().any(|entry| is_it(entry) && entry.value.eq_ignore_ascii_case(b"sealed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_kept_where_both_want_it() {
        assert_eq!(check(b"Sealed", true), Ok(()));
        assert_eq!(check(b"linger", false), Ok(()));
        assert!(matches!(check(b"sealed", false), Err(Wrong::Impossible(_))));
        assert!(matches!(check(b"master", true), Err(Wrong::Syntax(_))));
    }
}
