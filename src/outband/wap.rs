//! A notice on its way to a telephone as a short message (3GPP TS 23.040 9.2.3.24): EMN by WAP push (WAP-230-WSP), or what source document 001
//! (appendix A) sends to port 143.
//!
//!     header   06 05 04 0B84 23F0      to port 2948, from 9200
//!     WSP      01 06 06                transaction 1, Push, six octets of headers
//!              03 02 03 0A             application/vnd.wap.emn+wbxml, by its number
//!              AF 89                   X-Wap-Application-Id: emn.ua, which has to stand directly behind the type
//!     EMN      03 0D 6A 00 85 ... 01
//!
//!     header   06 05 04 008F 0000      to port 143
//!     EMN      03 0D 6A 00 85 ... 01   or an envelope of MEM1
//!
//! Header and push together are the user data of the message, at most 140 octets. What is longer is cut, by Kannel or by [`parts`]; a
//! telephone puts it together by a second element of each header:
//!
//!     header   0B 05 04 0B84 23F0  00 03 RR 02 01      the first of two, of the message RR
//!
//! Requirements N9, N20.

use super::{
    channel::{Given, Undeliverable},
    emn::Emn,
    notice::Notice,
    sealed,
};
use crate::account::channel::Telephone;

/// The user data header: which application the message is for.
pub type Header = [u8; 7];

const PUSH: Header = [0x06, 0x05, 0x04, 0x0b, 0x84, 0x23, 0xf0];
const DIRECT: Header = [0x06, 0x05, 0x04, 0x00, 0x8f, 0x00, 0x00];

/// The longest content, in octets: four parts. Telephones lose what comes in many, and the longest address of a mail needs three.
pub const LONGEST: usize = 4 * PART;

/// User data of a message, in octets.
const MESSAGE: usize = 140;
/// What is left of it beside the header of a part.
const PART: usize = MESSAGE - 12;

/// What tells a telephone, at most [`LONGEST`] octets, and the header before it. Only what is under a key has something of a message in it.
pub fn content(notice: &Notice, to: &Telephone<'_>, given: &Given) -> Result<(Header, Vec<u8>), Undeliverable> {
    const WSP: [u8; 9] = [0x01, 0x06, 0x06, 0x03, 0x02, 0x03, 0x0a, 0xaf, 0x89];
    let (header, content) = match to.key {
        Some(key) => (DIRECT, sealed::envelope(notice, &key.parse().map_err(|_| Undeliverable::Address)?, given)?),
        None if to.direct => (DIRECT, Emn::of(notice).wbxml()),
        None => (PUSH, [&WSP, Emn::of(notice).wbxml().as_slice()].concat()),
    };
    if content.len() > LONGEST { Err(Undeliverable::TooLarge) } else { Ok((header, content)) }
}

/// The user data of the messages that bring this. The number is the same in all parts of it, and another for what comes next.
pub fn parts(header: Header, content: &[u8], number: u8) -> Vec<Vec<u8>> {
    if header.len() + content.len() <= MESSAGE {
        return vec![[&header, content].concat()];
    }
    let total = content.len().div_ceil(PART) as u8;
    let part = |(index, part): (u8, &[u8])| {
        let belongs = [0x00, 0x03, number, total, index];
        [&[header[0] + 5], &header[1..], &belongs, part].concat()
    };
    (1..).zip(content.chunks(PART)).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outband::{
        channels::tests::{GIVEN, notice},
        mem1,
    };

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    #[test]
    fn a_mail_program_is_told_at_its_port() {
        let told = |address: &str, notice: &Notice| {
            let (header, content) = content(notice, &Telephone::parse(address).unwrap(), &GIVEN).unwrap();
            parts(header, &content, 9)
        };
        // The example of the digest (2.1), with the whole host inline.
        let emn = "03 0d 6a 00 85 07 03 6a6f6540666f6f2e636f6d 00 05 c3 06 200402200640 01".replace(' ', "");
        assert_eq!(
            hex(&told("+447700900123;port=143", &notice().wakeup())[0]),
            format!("06050400 8f0000{emn}").replace(' ', "")
        );
        let key = "a1b2c3d4:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
        let sealed = told(&format!("+447700900123;port=143|{key}"), &notice());
        assert_eq!(hex(&sealed[0][..16]), "0b0504008f00000003090301 4d454d31".replace(' ', ""));
        let envelope = sealed.iter().flat_map(|part| part[12..].to_vec()).collect::<Vec<_>>();
        let opened = key.parse::<mem1::Key>().unwrap().open(&envelope).unwrap();
        assert!(String::from_utf8(opened.payload).unwrap().contains("Contact me immediately!"));
    }

    #[test]
    fn a_push_that_fits_is_one_message() {
        let whole = parts(PUSH, &[0xaa; 133], 0x5c);
        assert_eq!((whole.len(), whole[0].len()), (1, 140));
        assert_eq!(hex(&whole[0][..9]), "0605040b8423f0aaaa");
    }

    #[test]
    fn a_longer_one_is_cut_and_each_part_says_which_it_is() {
        // Kannel, with a push of 235 octets: %0B%05%04%0B%84%23%F0%00%03%01%02%01 and %02%02 (digest 2.3).
        let cut = parts(PUSH, &(0..235).map(|octet| octet as u8).collect::<Vec<_>>(), 1);
        assert_eq!(hex(&cut[0][..13]), "0b05040b8423f0000301020100");
        assert_eq!(hex(&cut[1][..13]), "0b05040b8423f0000301020280");
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [140, 12 + 107]);
        for (octets, messages) in [(133, 1), (134, 2), (256, 2), (257, 3), (LONGEST, 4)] {
            let cut = parts(PUSH, &vec![7; octets], 9);
            assert_eq!(cut.len(), messages, "{octets}");
            assert!(cut.iter().all(|part| part.len() <= MESSAGE));
        }
    }
}
