//! Names of mailboxes as people write them, and as they stand on the wire: in modified UTF-7 (RFC 3501 section 5.1.3).
//!
//!     Entwürfe   Entw&APw-rfe        Tom & Jerry   Tom &- Jerry
//!
//! Names that come over the wire are octets, and are never decoded: old servers have names in whatever is on their disks.

use base64::{
    Engine, alphabet,
    engine::{GeneralPurpose, general_purpose::NO_PAD},
};

const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::IMAP_MUTF7, NO_PAD);

/// A name as it stands on the wire.
pub fn on_the_wire(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| is_direct(c) != is_direct(first)).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        rest = behind;
        if is_direct(first) {
            out.extend_from_slice(run.replace('&', "&-").as_bytes());
        } else {
            let units: Vec<u8> = run.encode_utf16().flat_map(u16::to_be_bytes).collect();
            out.extend_from_slice(format!("&{}-", BASE64.encode(units)).as_bytes());
        }
    }
    out
}

fn is_direct(character: char) -> bool {
    matches!(character, ' '..='~')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_in_modified_utf_7() {
        let table = [
            ("", ""),
            ("INBOX", "INBOX"),
            ("Tom & Jerry", "Tom &- Jerry"),
            ("Entwürfe", "Entw&APw-rfe"),
            // RFC 3501 5.1.3.
            ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
            ("\u{1f600}", "&2D3eAA-"),
        ];
        for (name, expected) in table {
            assert_eq!(String::from_utf8_lossy(&on_the_wire(name)), expected, "{name}");
        }
    }
}
