//! Words that promise notifications to devices that are away: told while somebody sends, and never else.
//!
//! Below: METADATA.   Above: LNOTIFICATION (source document 001 section 5), XDELTAPUSH (Delta Chat), WEBPUSH (COI).
//!
//!     S: a OK [CAPABILITY ... METADATA LNOTIFICATION XDELTAPUSH WEBPUSH] logged in
//!
//! What they stand for are annotations, and those are METADATA's business. Requirement N1.

use crate::{
    account::{Settings, channel::Kind},
    session::layer::Extension,
};

/// Source document 001 section 5.
pub const LNOTIFICATION: Extension = Extension {
    name: "LNOTIFICATION",
    spec: "draft-ietf-lemonade-notifications",
    gives: &["LNOTIFICATION"],
    needs: &["METADATA"],
    when: |account| !account.outband.running.is_empty(),
    ..Extension::NONE
};

/// What Delta Chat looks for before it writes its token.
pub const XDELTAPUSH: Extension = Extension {
    name: "XDELTAPUSH",
    spec: "Delta Chat",
    gives: &["XDELTAPUSH"],
    needs: &["METADATA"],
    when: |account| runs(account, Kind::DeltaChat),
    ..Extension::NONE
};

/// What COI clients look for before they subscribe.
pub const WEBPUSH: Extension = Extension {
    name: "WEBPUSH",
    spec: "COI IMAP WebPush 1.0",
    gives: &["WEBPUSH"],
    needs: &["METADATA"],
    when: |account| runs(account, Kind::WebPush),
    ..Extension::NONE
};

fn runs(account: &Settings, kind: Kind) -> bool {
    account.outband.running.contains(&kind)
}
