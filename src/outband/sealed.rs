//! A notice in an envelope of MEM1, for channels that carry octets and hide nothing: datagrams, and short messages to a mail program.
//!
//!     with a message       ->   01 03 ...   a notice, XEMN
//!     without one          ->   01 02 ...   a notice, EMN as WBXML
//!     whose address is it  ->   02 00 ...   a probe, which the device answers by itself
//!
//! The sequence of an envelope is the hour in nanoseconds: it ascends over all that is written under a key, whatever number a notice has on
//! its route, survives a restart, and is never the same for two envelopes; a notice that is written again is a new envelope (`outband/mem1.rs`).
//! Requirements N10, N21.

use super::{
    channel::{Given, Undeliverable},
    emn::{Emn, Xemn},
    mem1::{self, ADDED, Content, Key, LONGEST, Type},
    notice::Notice,
};

/// The notice in an envelope of at most [`LONGEST`] octets.
pub fn envelope(notice: &Notice, key: &Key, given: &Given) -> Result<Vec<u8>, Undeliverable> {
    const HOUR: Undeliverable = Undeliverable::Ours("the clock of this machine is wrong");
    let (what, kind, payload) = match (&notice.code, &notice.message) {
        (Some(_), _) => (Type::Probe, mem1::Kind::None, Vec::new()),
        (None, Some(_)) => (Type::Notice, mem1::Kind::Xemn, Xemn::of(notice).xml(LONGEST - ADDED).into_bytes()),
        (None, None) => (Type::Notice, mem1::Kind::EmnWbxml, Emn::of(notice).wbxml()),
    };
    let sequence = u64::try_from(given.now.as_nanos()).map_err(|_| HOUR)?;
    let time = u32::try_from(given.now.as_secs()).map_err(|_| HOUR)?;
    key.seal(&Content { what, kind, sequence, time, payload }).ok_or(Undeliverable::TooLarge)
}
