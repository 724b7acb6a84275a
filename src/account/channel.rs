//! Channels over which a device that is away is told, and how one is named in preferences (source document 001 section 11).
//!
//!     NONE    SMS=WAKEUP    SIP=EXTENDED    WEBPUSH=WAKEUP
//!
//! The draft's five and those that phones use today. What an address of each looks like is said here; who sends over it is
//! not. Requirements N12, N13, N20.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use super::template::Template;

/// A way to reach a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    /// Short messages: a telephone number, perhaps with a port and a key ([`Telephone`]).
    Sms,
    /// Multimedia messages: a telephone number or a mail address.
    Mms,
    /// SIP MESSAGE: a SIP URI.
    Sip,
    /// XMPP: a JID.
    Xmpp,
    /// A datagram: `host:port`, or `host:port|key`.
    Udp,
    /// Web Push (RFC 8030): `endpoint|p256dh|auth`.
    WebPush,
    /// An HTTP request: a URL, or `url|template`.
    Webhook,
    /// A mail: an address.
    Mailto,
    /// The notifier of Delta Chat: a token.
    DeltaChat,
}

/// How much a notification says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Format {
    /// That there is something.
    Wakeup,
    /// What there is.
    Extended,
}

/// What a device prefers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Channel {
    /// Not to be told while it is away.
    #[default]
    None,
    /// To be told in this way.
    Over(Kind, Format),
}

/// What is wrong with a channel or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct ChannelError(pub &'static str);

impl Kind {
    const NAMES: [(Self, &str); 9] = [
        (Self::Sms, "SMS"),
        (Self::Mms, "MMS"),
        (Self::Sip, "SIP"),
        (Self::Xmpp, "XMPP"),
        (Self::Udp, "UDP"),
        (Self::WebPush, "WEBPUSH"),
        (Self::Webhook, "WEBHOOK"),
        (Self::Mailto, "MAILTO"),
        (Self::DeltaChat, "DELTACHAT"),
    ];

    /// The longest address over any channel: a token that is sealed with OpenPGP has some hundred octets, and how it is sealed may
    /// change.
    pub const LONGEST: usize = 4096;

    /// Its name in preferences and in the configuration.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// Whether a device can be reached there over this channel, as far as the address says.
    pub fn check(self, address: &str) -> Result<(), ChannelError> {
        let plain = address.len() <= self.longest() && address.bytes().all(|octet| octet.is_ascii_graphic());
        let (place, template) = address.split_once('|').unzip();
        if let (Self::Webhook, Some(template)) = (self, template) {
            template.parse::<Template>()?;
        }
        let (fits, expected) = match self {
            Self::Sms => (
                Telephone::parse(address).is_some(),
                "a telephone number: + and 7 to 15 digits, perhaps with ;port=143 and a key behind it",
            ),
            Self::Mms => (is_number(address) || is_mail(address), "a telephone number or a mail address"),
            Self::Sip => (is_sip(address), "a SIP URI: sip:user@host or sips:user@host"),
            Self::Xmpp => (is_jid(address), "a JID: user@host, perhaps with a resource"),
            Self::Udp => (is_udp(address), "host:port, perhaps with a key behind it: host:port|a1b2c3d4:AAEC..."),
            Self::WebPush => (is_subscription(address), "endpoint|p256dh|auth of a push subscription"),
            Self::Webhook => (is_https(place.unwrap_or(address)), "a URL that begins with https://"),
            Self::Mailto => (is_mail(address.strip_prefix("mailto:").unwrap_or(address)), "a mail address"),
            Self::DeltaChat => (!address.is_empty(), "a token"),
        };
        if plain && fits { Ok(()) } else { Err(ChannelError(expected)) }
    }

    /// The longest address over this channel, in octets.
    fn longest(self) -> usize {
        if self == Self::DeltaChat { Self::LONGEST } else { 2048 }
    }

    /// The first channel over which a device can be reached there, as far as the address says: what fits no other is a token.
    pub fn of(address: &str) -> Option<Self> {
        Self::NAMES.iter().map(|(kind, _)| *kind).find(|kind| kind.check(address).is_ok())
    }

    /// The address as it may be shown: what gives the power to send is cut, which is all but the host of a URL, most of a token, and a key.
    pub fn shown(self, address: &str) -> String {
        match self {
            Self::WebPush | Self::Webhook => {
                let rest = address.strip_prefix("https://").unwrap_or(address);
                let authority = rest.split(['/', '?', '#', '|']).next().unwrap_or_default();
                format!("https://{authority}...")
            }
            Self::DeltaChat => format!("{}...", address.chars().take(12).collect::<String>()),
            _ => address.split_once('|').map_or(address.to_owned(), |(place, _)| format!("{place}|...")),
        }
    }
}

/// A telephone, and which of its programs a short message is for (digest of notifications, section 2.1).
///
///     +447700900123                                the agent of WAP push, at port 2948
///     +447700900123;port=143                       a mail program that takes notices as they are
///     +447700900123;port=143|a1b2c3d4:AAECAw...    the same, and only it can read them
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Telephone<'a> {
    /// `+` and digits.
    pub number: &'a str,
    /// Notices go to the mail program, without WAP push.
    pub direct: bool,
    /// Under this key of MEM1.
    pub key: Option<&'a str>,
}

impl<'a> Telephone<'a> {
    /// Reads an address of [`Kind::Sms`].
    pub fn parse(address: &'a str) -> Option<Self> {
        let (place, key) = address.split_once('|').map_or((address, None), |(place, key)| (place, Some(key)));
        let (number, port) = place.split_once(";port=").map_or((place, "2948"), |(number, port)| (number, port));
        let direct = match port {
            "2948" => false,
            "143" => true,
            _ => return None,
        };
        let fits = is_number(number) && key.is_none_or(|key| direct && is_key(key));
        fits.then_some(Self { number, direct, key })
    }
}

impl Channel {
    /// Over which, if over any.
    pub fn kind(self) -> Option<Kind> {
        match self {
            Self::None => None,
            Self::Over(kind, _) => Some(kind),
        }
    }
}

impl FromStr for Kind {
    type Err = ChannelError;

    fn from_str(text: &str) -> Result<Self, ChannelError> {
        let known = Self::NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
        known
            .map(|(kind, _)| *kind)
            .ok_or(ChannelError("SMS, MMS, SIP, XMPP, UDP, WEBPUSH, WEBHOOK, MAILTO or DELTACHAT"))
    }
}

impl FromStr for Format {
    type Err = ChannelError;

    fn from_str(text: &str) -> Result<Self, ChannelError> {
        match text.to_ascii_uppercase().as_str() {
            "WAKEUP" => Ok(Self::Wakeup),
            "EXTENDED" => Ok(Self::Extended),
            _ => Err(ChannelError("WAKEUP or EXTENDED")),
        }
    }
}

impl FromStr for Channel {
    type Err = ChannelError;

    fn from_str(text: &str) -> Result<Self, ChannelError> {
        if text.eq_ignore_ascii_case("NONE") {
            return Ok(Self::None);
        }
        let (kind, format) = text.split_once('=').ok_or(ChannelError("NONE, or a channel and a format: SMS=WAKEUP"))?;
        Ok(Self::Over(kind.parse()?, format.parse()?))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Wakeup { "WAKEUP" } else { "EXTENDED" })
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("NONE"),
            Self::Over(kind, format) => write!(f, "{kind}={format}"),
        }
    }
}

/// E.164.
fn is_number(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len())
            && digits.bytes().all(|octet| octet.is_ascii_digit())
            && !digits.starts_with('0')
    })
}

fn is_host(text: &str) -> bool {
    let name = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-.".contains(&octet));
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    name || bracketed.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Digits alone: `+80` is none.
fn is_port(text: &str) -> bool {
    text.bytes().all(|octet| octet.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn without_port(text: &str) -> &str {
    text.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(text, |(host, _)| host)
}

fn is_mail(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(local, host)| !local.is_empty() && !local.contains('@') && is_host(host))
}

/// RFC 3261 19.1, as far as one can be called by it.
fn is_sip(text: &str) -> bool {
    let rest = text.split_once(':').filter(|(scheme, _)| ["sip", "sips"].contains(scheme)).map(|(_, rest)| rest);
    let address = rest.map(|rest| rest.split([';', '?']).next().unwrap_or_default());
    address
        .and_then(|address| address.rsplit_once('@'))
        .is_some_and(|(user, host)| !user.is_empty() && is_host(without_port(host)))
}

/// A JID, or a URI of one (RFC 5122), of which what stands behind the JID is nobody's.
fn is_jid(text: &str) -> bool {
    let uri = text.strip_prefix("xmpp:").map(|uri| uri.split(['?', '#']).next().unwrap_or_default());
    let text = uri.unwrap_or(text);
    is_mail(text.split('/').next().unwrap_or_default())
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port))
}

/// A host and a port; and a key of MEM1, where the device has one: its id and 32 octets.
fn is_udp(text: &str) -> bool {
    let Some((place, key)) = text.split_once('|') else { return is_host_and_port(text) };
    is_host_and_port(place) && is_key(key)
}

fn is_key(text: &str) -> bool {
    text.split_once(':').is_some_and(|(id, psk)| {
        let is_id = id.len() == 8 && id.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_id && URL_SAFE_NO_PAD.decode(psk.trim_end_matches('=')).is_ok_and(|psk| psk.len() == 32)
    })
}

fn is_https(text: &str) -> bool {
    let rest = text.strip_prefix("https://");
    rest.and_then(|rest| rest.split('/').next()).is_some_and(|authority| is_host(without_port(authority)))
}

/// An endpoint, the receiver's key (an uncompressed point of P-256) and its secret of 16 octets (RFC 8291 section 2).
fn is_subscription(text: &str) -> bool {
    let mut parts = text.split('|');
    let (Some(endpoint), Some(key), Some(secret), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).unwrap_or_default();
    let key = decode(key);
    endpoint.len() <= 512 && is_https(endpoint) && key.len() == 65 && key[0] == 4 && decode(secret).len() == 16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8291 section 5.
    const KEY: &str = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
    /// As `outband::mem1` writes it.
    const MEM1: &str = "a1b2c3d4:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    #[test]
    fn a_channel_is_read_and_written() {
        for text in ["NONE", "SMS=WAKEUP", "MMS=EXTENDED", "WEBPUSH=WAKEUP", "DELTACHAT=EXTENDED"] {
            assert_eq!(text.parse::<Channel>().unwrap().to_string(), text);
            assert_eq!(text.to_lowercase().parse::<Channel>().unwrap().to_string(), text);
        }
        for text in ["", "SMS", "SMS=", "SMS=LOUD", "PIGEON=WAKEUP", "SMS=WAKEUP MMS=WAKEUP"] {
            assert!(text.parse::<Channel>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_fits_its_channel() {
        let push = format!("https://push.example.org/x|{KEY}|BTBZMqHH6r4Tts7J_aSIgg");
        let udp = format!("phone.example.org:4000|{MEM1}");
        let sms = format!("+4915112345678;port=143|{MEM1}");
        let table = [
            (Kind::Sms, "+4915112345678", "015112345678"),
            (Kind::Sms, "+4915112345678;port=143", "+4915112345678;port=80"),
            (Kind::Sms, &sms, &format!("+4915112345678|{MEM1}")),
            (Kind::Mms, "joe@example.org", "joe"),
            (Kind::Sip, "sips:joe@example.org:5061;method=MESSAGE", "joe@example.org"),
            (Kind::Sip, "sip:+1555@[2001:db8::1]", "sip:@host"),
            (Kind::Xmpp, "joe@example.org/phone", "example.org/phone"),
            (Kind::Xmpp, "xmpp:joe@example.org?message;subject=x", "joe@example.org?message"),
            (Kind::Udp, "[2001:db8::1]:4000", "host:0"),
            (Kind::Udp, "phone.example.org:80", "phone.example.org:+80"),
            (Kind::Sip, "sip:joe@example.org:5060", "sip:joe@example.org:+80"),
            (Kind::Webhook, "https://example.org:80/", "https://example.org:+80/"),
            (Kind::Udp, "phone.example.org:4000", "phone.example.org"),
            (Kind::Udp, &udp, "phone.example.org:4000|a1b2c3d4:AAEC"),
            (Kind::Udp, &udp, "phone.example.org:4000|"),
            (Kind::WebPush, &push, "https://push.example.org/x|AAAA|BBBB"),
            (Kind::Webhook, "https://example.org:8443/x?y", "http://example.org/"),
            (Kind::Webhook, "https://example.org/|{sender}:%20{subject}", "https://example.org/|{body}"),
            (Kind::Webhook, "https://example.org/|", "|{subject}"),
            (Kind::Mailto, "mailto:joe@example.org", "joe@"),
            (Kind::DeltaChat, "openpgp:abc", "two words"),
        ];
        for (kind, good, bad) in table {
            assert_eq!(kind.check(good), Ok(()), "{kind}: {good}");
            assert!(kind.check(bad).is_err(), "{kind}: {bad}");
            assert!(kind.check("a\r\nb@c").is_err(), "{kind}");
        }
    }

    #[test]
    fn an_address_has_a_longest_length() {
        let of = |len| "x".repeat(len);
        assert!(Kind::DeltaChat.check(&of(4096)).is_ok() && Kind::DeltaChat.check(&of(4097)).is_err());
        let url = |len: usize| format!("https://example.org/{}", of(len - 20));
        assert!(Kind::Webhook.check(&url(2048)).is_ok() && Kind::Webhook.check(&url(2049)).is_err());
    }

    #[test]
    fn what_gives_the_power_to_send_is_not_shown() {
        let push = format!("https://push.example.org/x|{KEY}|BTBZMqHH6r4Tts7J_aSIgg");
        assert_eq!(Kind::WebPush.shown(&push), "https://push.example.org...");
        assert_eq!(Kind::DeltaChat.shown("fcm-chat.delta:abcdefgh"), "fcm-chat.del...");
        assert_eq!(Kind::Udp.shown(&format!("phone.example.org:4000|{MEM1}")), "phone.example.org:4000|...");
        assert_eq!(Kind::Udp.shown("phone.example.org:4000"), "phone.example.org:4000");
        assert_eq!(Kind::Sms.shown("+4915112345678"), "+4915112345678");
        assert_eq!(Kind::Sms.shown(&format!("+4915112345678;port=143|{MEM1}")), "+4915112345678;port=143|...");
        assert_eq!(
            Kind::Webhook.shown("https://example.org:8443/hooks/s3cret|{sender}"),
            "https://example.org:8443..."
        );
        assert_eq!(Kind::Webhook.shown("https://example.org?s3cret"), "https://example.org...");
    }
}
