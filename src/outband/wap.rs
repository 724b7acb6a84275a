//! WAP push: an EMN on its way to a telephone as a short message (3GPP TS 23.040 9.2.3.24, WAP-230-WSP).
//!
//!     header   06 05 04 0B84 23F0      to port 2948, from 9200
//!     WSP      01 06 06                transaction 1, Push, six octets of headers
//!              03 02 03 0A             application/vnd.wap.emn+wbxml, by its number
//!              AF 89                   X-Wap-Application-Id: emn.ua, which has to stand directly behind the type
//!     EMN      03 0D 6A 00 85 ... 01
//!
//! Header and push together are the user data of the message, at most 140 octets; what is longer is cut into parts by whoever sends.
//! Requirements N9, N20.

use super::{emn::Emn, notice::Notice};

/// The user data header: which application the message is for.
pub const HEADER: [u8; 7] = [0x06, 0x05, 0x04, 0x0b, 0x84, 0x23, 0xf0];

/// The longest push, in octets: two parts of 128. An account of 200 octets fits.
pub const LONGEST: usize = 256;

/// The push that wakes a telephone. Nothing of a message is in it.
pub fn push(notice: &Notice) -> Vec<u8> {
    const WSP: [u8; 9] = [0x01, 0x06, 0x06, 0x03, 0x02, 0x03, 0x0a, 0xaf, 0x89];
    [&WSP, Emn::of(notice).wbxml().as_slice()].concat()
}
