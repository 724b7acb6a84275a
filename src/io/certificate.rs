//! When a certificate ends (X.509, RFC 5280 4.1).
//!
//!     Certificate ::= SEQUENCE { tbsCertificate SEQUENCE { [0] version, serialNumber, signature, issuer,
//!                                                          validity SEQUENCE { notBefore, notAfter }, ... }, ... }
//!
//! The TLS library checks the moment but does not tell it, and an operator wants to hear of it before it comes.

use std::time::{Duration, SystemTime};

/// The moment at which this certificate (DER) ends.
pub fn expiry(certificate: &[u8]) -> Option<SystemTime> {
    let (tbs, _) = enter(certificate, SEQUENCE)?;
    let (mut fields, _) = enter(tbs, SEQUENCE)?;
    if let Some((_, rest)) = enter(fields, VERSION) {
        fields = rest;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, fields) = enter(fields, tag)?;
    }
    let (validity, _) = enter(fields, SEQUENCE)?;
    let (_, _, not_after) = element(validity)?;
    let (tag, text, _) = element(not_after)?;
    match tag {
        UTC_TIME => moment(&century(text)?),
        GENERALIZED_TIME => moment(text),
        _ => None,
    }
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// The content of the first element, if it has this tag, and what follows it.
fn enter(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

/// The first element: tag, content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, der) = der.split_first()?;
    let (&first, der) = der.split_first()?;
    let (len, der) = match first {
        0..=0x7f => (usize::from(first), der),
        // No certificate has more than 2^24 octets.
        0x81..=0x83 => {
            let (octets, der) = der.split_at_checked(usize::from(first & 0x7f))?;
            (octets.iter().fold(0, |len, octet| len << 8 | usize::from(*octet)), der)
        }
        _ => return None,
    };
    let (content, rest) = der.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// RFC 5280 4.1.2.5.1: two digits below 50 are years of 2000.
fn century(text: &[u8]) -> Option<Vec<u8>> {
    let century: &[u8] = if *text.first()? < b'5' { b"20" } else { b"19" };
    Some([century, text].concat())
}

/// `YYYYMMDDHHMMSSZ`, the only form there is (RFC 5280 4.1.2.5.2).
fn moment(text: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let seconds = number(8, 10)? * 3600 + number(10, 12)? * 60 + number(12, 14)?;
    let days = days_since_1970(year, month, day)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(days * 86_400 + seconds))
}

/// Days in the Gregorian calendar, counted from March so that the leap day comes last.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moment_is_read_in_both_forms() {
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        for (year, month, day, seconds) in [(2030, 2, 28, 1_898_467_200), (2072, 3, 1, 3_224_016_000)] {
            params.not_after = rcgen::date_time_ymd(year, month, day);
            let certificate = params.self_signed(&key).unwrap();
            let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(expiry(certificate.der()), Some(expected), "{year}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let der = made.cert.der();
        for len in 0..der.len() {
            assert_eq!(expiry(&der[..len]), None);
        }
    }
}
