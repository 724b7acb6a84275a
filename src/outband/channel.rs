//! A channel: how a notice becomes octets on their way to a device, and what the answer on that way means.
//!
//!     Notice, address   ->  write  ->  Delivery     what a carrier brings, and where to
//!     Answer            ->  judge  ->  Outcome      accepted, delivered, later, or never
//!
//! A channel is pure: the hour and what has to be random are given to it, so that its octets can be compared with those that were
//! written by hand. Who carries is the shell, one carrier for each kind of [`Delivery`]; what a provider answers never reaches a user.
//! How often something is tried again is no channel's business. Requirements N18 to N20.

use std::{fmt, time::Duration};

use super::{mem1, notice::Notice, sip, xmpp};
use crate::account::channel::Kind;

/// A way to tell devices something.
pub trait Channel: Send + Sync {
    /// Which it is.
    fn kind(&self) -> Kind;

    /// Whether nobody between here and the device can read what goes to this address: the payload is encrypted, or the way is. Over any
    /// other, a device is never told more than WAKEUP (source document 001 section 15).
    fn is_private(&self, address: &str) -> bool;

    /// Whether only the device can say that it has what goes to this address: then a delivery proves that the address is its own.
    fn is_proof(&self, _address: &str) -> bool {
        false
    }

    /// What is to be brought to this address.
    fn write(&self, notice: &Notice, address: &str, given: &Given) -> Result<Delivery, Undeliverable>;

    /// What the answer means for the notice and for the address.
    fn judge(&self, answer: &Answer) -> Outcome;
}

/// What a channel cannot know by itself.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    /// The time of day, since 1970.
    pub now: Duration,
    /// Octets that nobody can guess, and that are used once: for keys, salts and names.
    pub chance: [u8; 64],
}

/// What is to be carried.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An HTTP request.
    Http(Request),
    /// A datagram.
    Datagram(Datagram),
    /// A MESSAGE request of SIP.
    Sip(sip::message::Message),
    /// Short messages that belong together.
    ShortMessages(ShortMessages),
    /// A mail.
    Mail(Mail),
    /// A message of XMPP.
    Xmpp(xmpp::message::Message),
}

/// An HTTP request: POST. Redirections are not followed, and of the answer's body at most 4 KiB are read. Its URL and headers may be a secret, and
/// are not shown.
#[derive(PartialEq, Eq)]
pub struct Request {
    /// To where.
    pub url: String,
    /// Beside those that HTTP itself needs.
    pub headers: Vec<(&'static str, String)>,
    /// What is sent.
    pub body: Vec<u8>,
    /// Who has named the place.
    pub named_by: NamedBy,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} octets, named by {:?})", self.body.len(), self.named_by)
    }
}

/// Who has named a place to which something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// A user: it must not be a place inside, whatever its name resolves to.
    User,
    /// The operator: it may be anywhere.
    Operator,
}

/// A datagram, perhaps sent several times.
#[derive(Debug, PartialEq, Eq)]
pub struct Datagram {
    /// To where: `host:port`, named by a user.
    pub to: String,
    /// What is sent.
    pub octets: Vec<u8>,
    /// The key under which the device says that it has it; none: it does not.
    pub acknowledged_by: Option<mem1::Key>,
}

impl Datagram {
    /// Whether a datagram that was heard, at this hour since 1970, says that the device has this one.
    pub fn is_acknowledged(&self, heard: &[u8], now: Duration) -> bool {
        self.acknowledged_by.as_ref().is_some_and(|key| key.acknowledges(&self.octets, heard, now))
    }
}

/// Short messages that a telephone puts together again. Number and content are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ShortMessages {
    /// To where: `+` and digits.
    pub to: String,
    /// The user data (TP-UD) of each, in order: at most 140 octets, or 160 characters of [`Coding::Text`].
    pub parts: Vec<Vec<u8>>,
    /// Whether each begins with a header (3GPP TS 23.040 section 9.2.3.24).
    pub have_header: bool,
    /// How they are to be read.
    pub coding: Coding,
}

/// How user data is to be read (3GPP TS 23.038 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// By a program.
    Octets,
    /// By a person: characters that ASCII and the network's alphabet have at the same place, an octet each. In the air it has seven bits.
    Text,
    /// By a person: UTF-16, the high octet first.
    Ucs2,
}

impl ShortMessages {
    fn octets(&self) -> usize {
        let octets = |part: &Vec<u8>| match self.coding {
            Coding::Text => (part.len() * 7).div_ceil(8),
            Coding::Octets | Coding::Ucs2 => part.len(),
        };
        self.parts.iter().map(octets).sum()
    }
}

impl fmt::Debug for ShortMessages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShortMessages({} of {:?}, {} octets)", self.parts.len(), self.coding, self.octets())
    }
}

/// A mail, for a submission server of the operator's (RFC 6409). Its envelope has no sender: nobody is told when it cannot be delivered, and no
/// loop begins. Address and content are not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Mail {
    /// To whom: `local@host`, of which no octet has a meaning of its own in SMTP.
    pub to: String,
    /// The message (RFC 5322): ASCII, lines of at most 998 octets, each with its CRLF.
    pub message: String,
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mail({} octets)", self.message.len())
    }
}

impl Delivery {
    /// Octets that are put on the channel, for the device's limit (source document 001 section 11.3): after encryption, and without what the
    /// way itself adds.
    pub fn octets(&self) -> u32 {
        let octets = match self {
            Self::Http(request) => request.body.len(),
            Self::Datagram(datagram) => datagram.octets.len(),
            Self::Sip(message) => message.body.len(),
            Self::ShortMessages(messages) => messages.octets(),
            Self::Mail(mail) => mail.message.len(),
            Self::Xmpp(message) => message.content.len(),
        };
        u32::try_from(octets).unwrap_or(u32::MAX)
    }
}

/// Why a notice cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undeliverable {
    /// It does not fit; WAKEUP may.
    #[error("too large for the channel")]
    TooLarge,
    /// The address is none.
    #[error("not an address of this channel")]
    Address,
    /// Something of ours, as a key, is not there.
    #[error("{0}")]
    Ours(&'static str),
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An HTTP response.
    Http {
        /// The status.
        status: u16,
        /// Not sooner than this, by `Retry-After`.
        retry_after: Option<Duration>,
        /// Its body, as far as it was read.
        body: Vec<u8>,
    },
    /// The last response of SIP.
    Sip {
        /// The status: 200 to 699.
        status: u16,
        /// Not sooner than this, by `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// What an SMSC says to a short message (SMPP 3.4 section 5.1.3); of several, the first that is no success.
    Smpp {
        /// The command_status; 0 is success.
        status: u32,
    },
    /// What a mail server says: to the mail, or to the first command that it refuses.
    Smtp {
        /// The code: three digits.
        code: u16,
        /// The enhanced one, where it has one (RFC 3463): class, subject, detail.
        status: Option<(u8, u16, u16)>,
    },
    /// What XMPP servers say to a message.
    Xmpp {
        /// Why it came back; none: it was taken.
        refusal: Option<xmpp::message::Refusal>,
    },
    /// The device has said that it has it.
    Acknowledged,
    /// It was sent, and the way tells nothing of what becomes of it.
    Sent,
    /// Nothing, for as long as was waited.
    Silence,
    /// There is no way there now.
    Unreachable,
    /// The place is inside, and a user has named it.
    Forbidden,
}

/// What has become of a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Who brings it further has it.
    Accepted,
    /// The device has it.
    Delivered,
    /// Not now. It counts against nobody: the same again, with the same number.
    Later {
        /// Not sooner than this.
        after: Option<Duration>,
    },
    /// It is too large; WAKEUP may fit.
    TooLarge,
    /// This notice will not go, and the next may: something of ours is wrong, and somebody has to be told.
    Failed,
    /// Nothing will ever go to this address.
    Dead,
}

/// What is heard later of what was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// The device has it.
    Delivered,
    /// It will not get it.
    Failed,
}
