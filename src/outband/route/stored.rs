//! How names and times are written into the row of a route.
//!
//!     {"mailboxes":{"Entw&APw-rfe":{..,"at":1793610843120,..}}}
//!
//! A name is octets and stands in JSON as text, each octet one character: mostly ASCII, and nothing is lost of what is not. A time is
//! whole milliseconds since 1970.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The name of a mailbox as it is on the wire.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub Box<[u8]>);

impl Name {
    /// How many octets it has.
    pub fn octets(&self) -> u64 {
        self.0.len() as u64
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A name says what somebody gets mail about.
        write!(f, "Name({} octets)", self.0.len())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.iter().map(|&octet| char::from(octet)).collect::<String>())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let octets: Result<Box<[u8]>, _> = text.chars().map(u8::try_from).collect();
        octets.map(Self).map_err(|_| D::Error::custom("expected a name, a character for each octet"))
    }
}

/// A time as whole milliseconds.
pub mod millis {
    use super::*;

    /// What is less than a millisecond is left out.
    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    /// The time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// A time as whole milliseconds, or none.
pub mod maybe {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Time(#[serde(with = "millis")] Duration);

    /// The time, or null.
    pub fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(Time).serialize(serializer)
    }

    /// The time, or none.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Time>::deserialize(deserializer)?.map(|time| time.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_any_octets_comes_back() {
        let name = Name((0..=255).collect());
        let text = serde_json::to_string(&name).unwrap();
        assert!(serde_json::from_str::<Name>(&text).unwrap() == name);
        assert_eq!(serde_json::to_string(&Name((*b"Entw&APw-rfe").into())).unwrap(), "\"Entw&APw-rfe\"");
        assert!(serde_json::from_str::<Name>("\"\u{20ac}\"").is_err(), "that is no octet");
    }
}
