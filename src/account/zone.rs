//! Where the day of a device begins: its limits count a day, and the user's day is not that of UTC.
//!
//!     C: a SETMETADATA "" /notify/default (zone.priv "+02:00")
//!
//! An entry of the device, on the server. It is an offset as RFC 3339 section 4.2 writes it, and knows no summer: a client says it anew when
//! it changes. Requirement N13.

use crate::store::{DeviceName, Entry, Owner};

/// The entry.
pub const ENTRY: &str = "/private/vendor/lemonade/notify/default/zone";

/// No clock on earth is further ahead or behind, in minutes.
const MOST: i32 = 14 * 60;

/// Seconds by which a clock is ahead of UTC; none: the value is no offset.
pub fn parse(value: &[u8]) -> Option<i32> {
    let [sign @ (b'+' | b'-'), hour @ .., b':', ten, one] = value else { return None };
    let number = |digits: &[u8]| match digits {
        [ten @ b'0'..=b'9', one @ b'0'..=b'9'] => Some(i32::from(ten - b'0') * 10 + i32::from(one - b'0')),
        _ => None,
    };
    let minute = number(&[*ten, *one]).filter(|minute| *minute < 60)?;
    let minutes = number(hour)? * 60 + minute;
    let ahead = if *sign == b'-' { -60 } else { 60 };
    (minutes <= MOST).then_some(minutes * ahead)
}

/// Seconds by which the clock of a device is ahead; where it says nothing, it is that of UTC.
pub fn of(entries: &[Entry], device: &DeviceName) -> i32 {
    let own = entries.iter().filter(|entry| entry.key.owner == Owner::Device(device.clone()));
    own.filter(|entry| entry.key.name.as_str() == ENTRY).find_map(|entry| parse(&entry.value)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_hours_and_minutes() {
        for (value, seconds) in [
            ("+02:00", Some(7200)),
            ("-03:30", Some(-12_600)),
            ("+00:00", Some(0)),
            ("-00:00", Some(0)),
            ("+14:00", Some(50_400)),
            ("+14:01", None),
            ("+02:60", None),
            ("02:00", None),
            ("+2:00", None),
            ("+02:0", None),
            ("+0200", None),
            ("++2:00", None),
            ("+002:00", None),
            ("", None),
        ] {
            assert_eq!(parse(value.as_bytes()), seconds, "{value}");
        }
    }
}
