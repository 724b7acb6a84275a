//! The field list of ID (RFC 2971 section 3): read from clients, written to backends and to clients.
//!
//!     C: a ID ("name" "K-9 Mail" "version" "6.8")
//!     S: * ID ("name" "lemonade-proxy" "version" "0.1.0")

use imap_codec::imap_types::{command::CommandBody, core::NString};

use super::command::{self, SyntaxError};

/// Fields and their values, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(Box<str>, Box<str>)>);

impl Fields {
    /// RFC 2971 section 3.3: not more than 30 pairs, fields of 30 octets, values of 1024 octets.
    const MOST: (usize, usize, usize) = (30, 30, 1024);

    /// Reads the command. Fields without a value, and those that are no printable ASCII, are left out.
    pub fn parse(octets: &[u8]) -> Result<Self, SyntaxError> {
        let CommandBody::Id { parameters } = command::decode(octets)? else {
            return Err(SyntaxError { expected: "ID", at: 0 });
        };
        let parameters = parameters.unwrap_or_default();
        let (most, field_octets, value_octets) = Self::MOST;
        if parameters.len() > most {
            return Err(SyntaxError { expected: "at most 30 fields", at: 0 });
        }
        let mut fields = Self::default();
        for (field, value) in &parameters {
            if let NString(Some(value)) = value
                && field.as_ref().len() <= field_octets
                && value.as_ref().len() <= value_octets
            {
                fields.add(field.as_ref(), value.as_ref());
            }
        }
        Ok(fields)
    }

    /// Adds a field, if it can be written as quoted strings.
    pub fn add(&mut self, field: &[u8], value: &[u8]) {
        let printable = |octets: &[u8]| octets.iter().all(|octet| (b' '..=b'~').contains(octet));
        if let (Ok(field), Ok(value)) = (std::str::from_utf8(field), std::str::from_utf8(value))
            && printable(field.as_bytes())
            && printable(value.as_bytes())
        {
            self.0.push((field.into(), value.into()));
        }
    }

    /// Takes out the fields whose names begin so: a client does not say for itself where it comes from.
    pub fn remove(&mut self, prefix: &str) {
        self.0.retain(|(field, _)| !field.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)));
    }

    /// The value of a field, its name in any case.
    pub fn value(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(field)).map(|(_, value)| &**value)
    }

    /// The list as it stands in a command or a response.
    pub fn write(&self) -> String {
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let pairs: Vec<_> =
            self.0.iter().map(|(field, value)| format!("{} {}", quoted(field), quoted(value))).collect();
        match pairs.is_empty() {
            true => "NIL".to_owned(),
            false => format!("({})", pairs.join(" ")),
        }
    }

    /// Who we are.
    pub fn ours() -> Self {
        let mut fields = Self::default();
        fields.add(b"name", env!("CARGO_PKG_NAME").as_bytes());
        fields.add(b"version", env!("CARGO_PKG_VERSION").as_bytes());
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_written() {
        let fields = Fields::parse(b"a ID (\"name\" \"K\\\"9\" \"os\" NIL {7}\r\nversion \"6\")\r\n").unwrap();
        assert_eq!(fields.write(), r#"("name" "K\"9" "version" "6")"#);
        assert_eq!(fields.value("VERSION"), Some("6"));
        assert_eq!(Fields::parse(b"a ID NIL\r\n").unwrap().write(), "NIL");
        assert!(Fields::parse(b"a ID name\r\n").is_err());
    }

    #[test]
    fn a_client_does_not_say_where_it_comes_from() {
        let mut fields = Fields::parse(b"a ID (\"X-Originating-IP\" \"10.0.0.1\" \"name\" \"x\")\r\n").unwrap();
        fields.remove("x-originating-");
        assert_eq!(fields.write(), r#"("name" "x")"#);
    }
}
