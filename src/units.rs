//! Quantities as an operator writes them: `"64 KiB"`, `"29m"`.
//!
//! A bare number is refused in both: a limit without its unit is a limit misread one day.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A number of octets: `"0 B"`, `"8 KiB"`, `"64 MiB"`, `"2 GiB"`; `kB` and `MB` are powers of ten.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A length of time: `"250ms"`, `"60s"`, `"30m"`, `"9h"`, `"14d"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// What was wrong with a quantity.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// The text does not begin with a whole number.
    #[error("\"{0}\" does not begin with a whole number")]
    Number(String),
    /// The unit is missing or not one of ours.
    #[error("\"{text}\" needs a unit: one of {units}")]
    Unit {
        /// What was written.
        text: String,
        /// The units there are.
        units: String,
    },
    /// The product does not fit.
    #[error("\"{0}\" is too large")]
    Large(String),
}

/// Units of size, largest first: a value is printed in the largest that divides it.
const SIZES: [(&str, u64); 6] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("MB", 1_000_000), ("kB", 1_000), ("B", 1)];

/// Units of time in milliseconds, largest first.
const SPANS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

fn parse(text: &str, units: &[(&str, u64)]) -> Result<u64, UnitError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(UnitError::Number(text.to_owned()));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit.trim()) else {
        let units = units.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        return Err(UnitError::Unit { text: text.to_owned(), units });
    };
    let number: u64 = number.parse().map_err(|_| UnitError::Large(text.to_owned()))?;
    number.checked_mul(*factor).ok_or_else(|| UnitError::Large(text.to_owned()))
}

fn largest_unit<'a>(value: u64, units: &[(&'a str, u64)], smallest: &'a str) -> (u64, &'a str) {
    units
        .iter()
        .find(|(_, factor)| value != 0 && value.is_multiple_of(*factor))
        .map_or((value, smallest), |(name, factor)| (value / factor, name))
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &SIZES).map(Self)
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &SPANS).map(|millis| Self(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = largest_unit(self.0, &SIZES, "B");
        write!(f, "{number} {unit}")
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        let (number, unit) = largest_unit(millis, &SPANS, "s");
        write!(f, "{number}{unit}")
    }
}

/// Both quantities travel through TOML as their text.
macro_rules! textual {
    ($quantity:ty) => {
        impl fmt::Debug for $quantity {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $quantity {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $quantity {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

textual!(Size);
textual!(Span);

impl Size {
    /// This many binary kilobytes.
    pub const fn kib(number: u64) -> Self {
        Self(number << 10)
    }

    /// This many binary megabytes.
    pub const fn mib(number: u64) -> Self {
        Self(number << 20)
    }
}

impl Span {
    /// This many seconds.
    pub const fn seconds(number: u64) -> Self {
        Self(Duration::from_secs(number))
    }

    /// This many minutes.
    pub const fn minutes(number: u64) -> Self {
        Self(Duration::from_secs(60 * number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_printed_as_it_would_be_written() {
        for text in ["0 B", "1 B", "8 KiB", "64 MiB", "3 GiB", "5 kB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["0s", "250ms", "60ms", "29m", "9h", "14d", "90s"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        assert_eq!("60s".parse::<Span>().unwrap().to_string(), "1m");
    }

    #[test]
    fn a_quantity_without_number_or_unit_is_refused() {
        for text in
            ["", "KiB", "-1 KiB", "12", "12 parsecs", "1.5 MiB", "99999999999999999999 B", "18446744073709551615 KiB"]
        {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert!("30".parse::<Span>().is_err());
    }
}
