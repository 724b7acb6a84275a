//! Names of mailboxes as people write them, and as they stand on the wire: in modified UTF-7 (RFC 3501 section 5.1.3).
//!
//!     Entwürfe   Entw&APw-rfe        Tom & Jerry   Tom &- Jerry
//!
//! Names that come over the wire stay octets: old servers have names in whatever is on their disks. They are decoded only to be
//! shown.

use std::borrow::Cow;

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

/// A name that came over the wire, as people read it. Where it is no modified UTF-7, its octets are shown as they are.
pub fn as_people_read(name: &[u8]) -> Cow<'_, str> {
    decoded(name).unwrap_or_else(|| String::from_utf8_lossy(name))
}

/// The text that a name is, if it is modified UTF-7, or UTF-8 without an ampersand (RFC 6855 section 3).
pub fn decoded(name: &[u8]) -> Option<Cow<'_, str>> {
    let text = str::from_utf8(name).ok()?;
    let Some((direct, mut rest)) = text.split_once('&') else { return Some(Cow::Borrowed(text)) };
    let mut out = direct.to_owned();
    loop {
        let (encoded, behind) = rest.split_once('-')?;
        match encoded {
            "" => out.push('&'),
            _ => out.push_str(&decoded_run(encoded)?),
        }
        let Some((direct, next)) = behind.split_once('&') else {
            out.push_str(behind);
            return Some(Cow::Owned(out));
        };
        out.push_str(direct);
        rest = next;
    }
}

fn decoded_run(encoded: &str) -> Option<String> {
    let octets = BASE64.decode(encoded).ok()?;
    let units = octets.chunks(2).map(|pair| Some(u16::from_be_bytes(pair.try_into().ok()?)));
    String::from_utf16(&units.collect::<Option<Vec<u16>>>()?).ok()
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
            assert_eq!(as_people_read(expected.as_bytes()), name);
        }
    }

    #[test]
    fn what_is_no_modified_utf_7_is_shown_as_it_is() {
        for name in ["a & b", "a&", "&A-", "&APw", "&2D0-", "&APw,-", "&é-"] {
            assert_eq!((decoded(name.as_bytes()), &*as_people_read(name.as_bytes())), (None, name));
        }
        assert_eq!(as_people_read("Büro".as_bytes()), "Büro");
        assert_eq!(as_people_read(b"B\xfcro"), "B\u{fffd}ro");
    }
}
