//! Dates as IMAP writes them (RFC 3501 section 9: date and date-time).
//!
//!     INTERNALDATE "17-Jul-1996 02:44:25 -0700"      a moment
//!     SINCE 17-Jul-1996                              a day, wherever the server is

use chrono::{DateTime, Days, FixedOffset, NaiveDate};

/// Seconds since 1970 of a date-time, with its quotes or without.
pub fn moment(text: &[u8]) -> Option<i64> {
    date_time(text).map(|moment| moment.timestamp())
}

/// The day of a date-time where it was written: what searches compare, "disregarding time and timezone" (RFC 3501 section 6.4.4).
pub fn written_day(text: &[u8]) -> Option<NaiveDate> {
    date_time(text).map(|moment| moment.date_naive())
}

fn date_time(text: &[u8]) -> Option<DateTime<FixedOffset>> {
    let text = std::str::from_utf8(text).ok()?.trim_matches('"').trim_start();
    DateTime::parse_from_str(text, "%e-%b-%Y %H:%M:%S %z").ok()
}

/// A day, as UTC has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day(NaiveDate);

impl Day {
    /// The day of a moment, given in seconds since 1970.
    pub fn of(moment: i64) -> Option<Self> {
        DateTime::from_timestamp(moment, 0).map(|moment| Self(moment.date_naive()))
    }

    /// So many days before.
    pub fn before(self, days: u64) -> Option<Self> {
        self.0.checked_sub_days(Days::new(days)).map(Self)
    }

    /// So many days after.
    pub fn after(self, days: u64) -> Option<Self> {
        self.0.checked_add_days(Days::new(days)).map(Self)
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.format("%-d-%b-%Y"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_days_are_read_and_written() {
        assert_eq!(moment(b"\"17-Jul-1996 02:44:25 -0700\""), Some(837_596_665));
        assert_eq!(moment(b"\" 1-Jan-1970 01:00:00 +0100\""), Some(0));
        assert_eq!(moment(b"NIL"), None);
        let day = Day::of(837_596_665).unwrap();
        assert_eq!(day.to_string(), "17-Jul-1996");
        assert_eq!(day.before(17).unwrap().to_string(), "30-Jun-1996");
        assert_eq!(day.after(15).unwrap().to_string(), "1-Aug-1996");
    }
}
