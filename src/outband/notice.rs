//! What a device is told, whatever the channel: nothing here belongs to one of them.
//!
//!     account  joe@example.com     seq 7     MessageNew in INBOX, UIDVALIDITY 385759045
//!     message  UID 18, from Juliet, "Contact me immediately!", "Romeo, where are you?"
//!     counts   299 unseen of 1503
//!
//! A notice is a hint: the client learns the truth when it synchronises (source document 001 section 14.7). It covers all that has
//! happened since the one before; the message is the last of those that came. Without a message it is WAKEUP, with one EXTENDED
//! (section 9.1). Requirements N10, N11.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::mailbox::event;

/// What a device is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The account as a mail address, for `mailat:`; where only a login name is known, that.
    pub account: Box<str>,
    /// The number of this notice on its route: it ascends, and what is sent again unchanged keeps it, so that a device knows a
    /// duplicate.
    pub seq: u64,
    /// When it happened, since 1970.
    pub at: Duration,
    /// What happened last.
    pub event: event::Kind,
    /// The mailbox, or the view, in which it did, as it is on the wire of IMAP (modified UTF-7).
    pub mailbox: Box<[u8]>,
    /// Under which UIDVALIDITY UIDs are true.
    pub uidvalidity: Option<u32>,
    /// How the mailbox stands.
    pub counts: Counts,
    /// The message that came last, where the device may be told of it: EXTENDED. None: WAKEUP.
    pub message: Option<Message>,
    /// Somebody should look at once.
    pub urgent: bool,
    /// No news: whoever reads this is to say that the address is his, by giving this back over IMAP.
    pub code: Option<Box<str>>,
}

/// What a question is called where events have names.
const CONFIRM: &str = "vnd.lemonade.Confirm";

/// How a mailbox stands, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Messages in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<u32>,
    /// Of them, those without \Seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen: Option<u32>,
    /// The UID that the next message will have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uidnext: Option<u32>,
    /// The mod-sequence (RFC 7162): an older notice is to be thrown away (RFC 5551 section 5.4). As text: it has 63 bits, and numbers of
    /// JSON have 53.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub modseq: Option<u64>,
}

/// A message, as it is shown before the device has synchronised. Text is decoded; how much of it is said is up to each
/// channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Its UID.
    pub uid: u32,
    /// The address of the sender: `juliet@example.org`.
    pub from: Option<Box<str>>,
    /// The sender's name.
    pub name: Option<Box<str>>,
    /// The subject.
    pub subject: Option<Box<str>>,
    /// When it was sent, since 1970.
    pub sent: Option<Duration>,
    /// The beginning of its text.
    pub snippet: Option<Box<str>>,
    /// Its Message-ID, with its angle brackets.
    pub id: Option<Box<str>>,
}

impl Notice {
    /// What has happened, by its name in RFC 5423 or ours.
    pub fn event_name(&self) -> String {
        if self.code.is_some() { CONFIRM.to_owned() } else { format!("{:?}", self.event) }
    }

    /// The same, and nothing of the message: WAKEUP.
    pub fn wakeup(&self) -> Self {
        Self { message: None, ..self.clone() }
    }
}

fn as_text<S: Serializer>(number: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    number.map(|number| number.to_string()).serialize(serializer)
}

/// The text, cut to so many octets of UTF-8 at the end of a character; where something is cut, it ends with `…`, within the bound.
pub fn cut(text: &str, octets: usize) -> String {
    const MARK: &str = "\u{2026}";
    if text.len() <= octets {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(octets.saturating_sub(MARK.len()));
    format!("{}{MARK}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_two_characters() {
        assert_eq!(cut("Grüße", 7), "Grüße");
        assert_eq!(cut("Grüße", 6), "Gr\u{2026}");
        assert_eq!(cut("Grüße an alle", 9), "Grüß\u{2026}");
        assert!((3..20).all(|octets| cut("Grüße an alle Nachbarn", octets).len() <= octets));
    }
}
