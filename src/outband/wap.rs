//! WAP push: an EMN on its way to a telephone as a short message (3GPP TS 23.040 9.2.3.24, WAP-230-WSP).
//!
//!     header   06 05 04 0B84 23F0      to port 2948, from 9200
//!     WSP      01 06 06                transaction 1, Push, six octets of headers
//!              03 02 03 0A             application/vnd.wap.emn+wbxml, by its number
//!              AF 89                   X-Wap-Application-Id: emn.ua, which has to stand directly behind the type
//!     EMN      03 0D 6A 00 85 ... 01
//!
//! Header and push together are the user data of the message, at most 140 octets. What is longer is cut, by Kannel or by [`parts`]; a
//! telephone puts it together by a second element of each header:
//!
//!     header   0B 05 04 0B84 23F0  00 03 RR 02 01      the first of two, of the message RR
//!
//! Requirements N9, N20.

use super::{emn::Emn, notice::Notice};

/// The user data header: which application the message is for.
pub const HEADER: [u8; 7] = [0x06, 0x05, 0x04, 0x0b, 0x84, 0x23, 0xf0];

/// The longest push, in octets: four parts. Telephones lose what comes in many, and the longest address of a mail needs three.
pub const LONGEST: usize = 4 * PART;

/// User data of a message, in octets.
const MESSAGE: usize = 140;
/// What is left of it beside the header of a part.
const PART: usize = MESSAGE - 12;

/// The push that wakes a telephone. Nothing of a message is in it.
pub fn push(notice: &Notice) -> Vec<u8> {
    const WSP: [u8; 9] = [0x01, 0x06, 0x06, 0x03, 0x02, 0x03, 0x0a, 0xaf, 0x89];
    [&WSP, Emn::of(notice).wbxml().as_slice()].concat()
}

/// The user data of the messages that bring a push of at most [`LONGEST`] octets. The number is the same in all parts of a push, and another for
/// the next one.
pub fn parts(push: &[u8], number: u8) -> Vec<Vec<u8>> {
    if HEADER.len() + push.len() <= MESSAGE {
        return vec![[&HEADER, push].concat()];
    }
    let total = push.len().div_ceil(PART) as u8;
    let part = |(index, part): (u8, &[u8])| {
        let belongs = [0x00, 0x03, number, total, index];
        [&[HEADER[0] + 5], &HEADER[1..], &belongs, part].concat()
    };
    (1..).zip(push.chunks(PART)).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    #[test]
    fn a_push_that_fits_is_one_message() {
        let whole = parts(&[0xaa; 133], 0x5c);
        assert_eq!((whole.len(), whole[0].len()), (1, 140));
        assert_eq!(hex(&whole[0][..9]), "0605040b8423f0aaaa");
    }

    #[test]
    fn a_longer_one_is_cut_and_each_part_says_which_it_is() {
        // Kannel, with a push of 235 octets: %0B%05%04%0B%84%23%F0%00%03%01%02%01 and %02%02 (digest 2.3).
        let cut = parts(&(0..235).map(|octet| octet as u8).collect::<Vec<_>>(), 1);
        assert_eq!(hex(&cut[0][..13]), "0b05040b8423f0000301020100");
        assert_eq!(hex(&cut[1][..13]), "0b05040b8423f0000301020280");
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [140, 12 + 107]);
        for (octets, messages) in [(133, 1), (134, 2), (256, 2), (257, 3), (LONGEST, 4)] {
            let cut = parts(&vec![7; octets], 9);
            assert_eq!(cut.len(), messages, "{octets}");
            assert!(cut.iter().all(|part| part.len() <= MESSAGE));
        }
    }
}
