//! A template: how a device wants to be told in plain text, as it stands behind the address of a webhook.
//!
//!     https://ntfy.example.org/joe|{sender}:%20{subject}%0A{unseen}%20unread
//!
//!     Juliet: Contact me immediately!
//!     299 unread
//!
//! It is percent-encoded, as everything in a URL is: `%7B` is a brace that begins nothing. Requirement N13.

use std::str::FromStr;

use super::channel::ChannelError;

/// Text with fields in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

/// What stands for something of the notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The account.
    Account,
    /// What happened, by its name in RFC 5423.
    Event,
    /// The mailbox, as people read it.
    Mailbox,
    /// The name of who sent the message, or else the address.
    Sender,
    /// The beginning of the message.
    Snippet,
    /// Its subject.
    Subject,
    /// How many messages are unread.
    Unseen,
}

impl Field {
    const NAMES: [(Self, &str); 7] = [
        (Self::Account, "account"),
        (Self::Event, "event"),
        (Self::Mailbox, "mailbox"),
        (Self::Sender, "sender"),
        (Self::Snippet, "snippet"),
        (Self::Subject, "subject"),
        (Self::Unseen, "unseen"),
    ];
}

const UNKNOWN: ChannelError = ChannelError(
    "{account}, {event}, {mailbox}, {sender}, {snippet}, {subject} or {unseen}; a brace itself is %7B or %7D",
);
const ENCODING: ChannelError = ChannelError("a template in UTF-8, percent-encoded");

impl FromStr for Template {
    type Err = ChannelError;

    fn from_str(text: &str) -> Result<Self, ChannelError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            parts.push(Part::Text(decoded(before)?));
            let (name, behind) = behind.split_once('}').ok_or(UNKNOWN)?;
            let field = Field::NAMES.iter().find(|(_, known)| *known == name).ok_or(UNKNOWN)?;
            parts.push(Part::Field(field.0));
            rest = behind;
        }
        parts.push(Part::Text(decoded(rest)?));
        Ok(Self(parts))
    }
}

impl Template {
    /// The text, with what each field stands for.
    pub fn fill(&self, value: impl Fn(Field) -> String) -> String {
        let written = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(field) => value(*field),
        });
        written.collect()
    }
}

/// The text that is percent-encoded here (RFC 3986 section 2.1).
fn decoded(text: &str) -> Result<String, ChannelError> {
    if text.contains('}') {
        return Err(UNKNOWN);
    }
    let mut pieces = text.split('%');
    let mut octets = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, behind) = piece.split_at_checked(2).ok_or(ENCODING)?;
        // A sign is a digit to from_str_radix.
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        octets.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex).ok_or(ENCODING)?);
        octets.extend_from_slice(behind.as_bytes());
    }
    String::from_utf8(octets).map_err(|_| ENCODING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> String {
        text.parse::<Template>().unwrap().fill(|field| format!("<{field:?}>"))
    }

    #[test]
    fn fields_are_filled_and_the_rest_is_decoded() {
        assert_eq!(filled("{sender}:%20{subject}"), "<Sender>: <Subject>");
        assert_eq!(filled("{account}{event}{mailbox}{snippet}{unseen}"), "<Account><Event><Mailbox><Snippet><Unseen>");
        assert_eq!(filled("Gr%C3%BC%C3%9Fe%0a%7Bsubject%7D"), "Grüße\n{subject}");
        assert_eq!(filled(""), "");
    }

    #[test]
    fn what_nobody_knows_is_refused() {
        for text in ["{body}", "{}", "{subject", "subject}", "{subject}}", "{{subject}}", "{Subject}"] {
            assert_eq!(text.parse::<Template>(), Err(UNKNOWN), "{text}");
        }
        for text in ["%", "%4", "%zz", "%+1", "%ff", "%C3{subject}"] {
            assert_eq!(text.parse::<Template>(), Err(ENCODING), "{text}");
        }
    }
}
