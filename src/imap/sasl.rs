//! SASL messages, as far as we have to read them: who is it that authenticates?
//!
//! PLAIN (RFC 4616) and LOGIN are read whole, because we log in ourselves. Of XOAUTH2, OAUTHBEARER (RFC 7628), SCRAM
//! (RFC 5802, 7677) and CRAM-MD5 (RFC 2195) only the name is read; their messages are relayed.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::Secret;

/// A mechanism that we can handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// RFC 4616: read by us.
    Plain,
    /// The obsolete two questions: read by us.
    Login,
    /// RFC 2195: relayed; the backend speaks first.
    CramMd5,
    /// RFC 5802: relayed.
    ScramSha1,
    /// RFC 7677: relayed.
    ScramSha256,
    /// RFC 7628: relayed.
    OauthBearer,
    /// Google's and Microsoft's form of it: relayed.
    Xoauth2,
}

impl Mechanism {
    /// All of them, with the names they have behind `AUTH=`. The -PLUS variants bind to one TLS connection, and ours are two.
    pub const ALL: [(&'static str, Self); 7] = [
        ("PLAIN", Self::Plain),
        ("LOGIN", Self::Login),
        ("CRAM-MD5", Self::CramMd5),
        ("SCRAM-SHA-1", Self::ScramSha1),
        ("SCRAM-SHA-256", Self::ScramSha256),
        ("OAUTHBEARER", Self::OauthBearer),
        ("XOAUTH2", Self::Xoauth2),
    ];

    /// The mechanism of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, mechanism)| *mechanism)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, mechanism)| *mechanism == self).map_or("", |(name, _)| name)
    }

    /// Whether the secret is ours to say again; otherwise the messages go to the backend as they come.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Plain | Self::Login)
    }

    /// Whether the backend can be told another name than the client's: in the others it stands inside a signature.
    pub fn names_its_user(self) -> bool {
        self.is_read() || matches!(self, Self::OauthBearer | Self::Xoauth2)
    }

    /// The name in the client's first message; `None` if it is not to be found there.
    pub fn user(self, message: &[u8]) -> Option<String> {
        match self {
            Self::Plain => Plain::parse(message).map(|plain| plain.user),
            Self::Login => text(message),
            Self::CramMd5 => text(&message[..message.iter().rposition(|octet| *octet == b' ')?]),
            Self::ScramSha1 | Self::ScramSha256 => scram_user(message),
            Self::OauthBearer => gs2_authzid(message),
            Self::Xoauth2 => text(message.split(|octet| *octet == 1).find_map(|part| part.strip_prefix(b"user="))?),
        }
    }

    /// In whose name, by the first message of a mechanism that is relayed and names both; `None` if it names one.
    pub fn acting(self, message: &[u8]) -> Option<String> {
        matches!(self, Self::ScramSha1 | Self::ScramSha256).then(|| gs2_authzid(message))?
    }
}

/// The client's first message with the name that the backend knows the user by, where the mechanism lets us change it:
/// OAuth messages are plain lists, but SCRAM and CRAM-MD5 sign the name.
pub fn renamed(mechanism: Mechanism, message: &Secret, user: &str) -> Secret {
    let octets = message.expose();
    let (start, name) = match mechanism {
        Mechanism::Xoauth2 => (b"user=".as_slice(), user.to_owned()),
        Mechanism::OauthBearer => (b"a=".as_slice(), user.replace('=', "=3D").replace(',', "=2C")),
        _ => return message.clone(),
    };
    let ends = |octet: &u8| *octet == if mechanism == Mechanism::Xoauth2 { 1 } else { b',' };
    let Some(from) = memchr::memmem::find(octets, start).map(|at| at + start.len()) else { return message.clone() };
    let to = octets[from..].iter().position(ends).map_or(octets.len(), |len| from + len);
    Secret::new([&octets[..from], name.as_bytes(), &octets[to..]].concat())
}

/// The message of PLAIN: authorisation identity, user, password, NUL between them.
#[derive(Debug)]
pub struct Plain {
    /// In whose name; empty for the user's own.
    pub authzid: String,
    /// Who.
    pub user: String,
    /// The password.
    pub password: Secret,
}

impl Plain {
    /// Takes the message apart.
    pub fn parse(message: &[u8]) -> Option<Self> {
        let mut parts = message.split(|octet| *octet == 0);
        let (authzid, user, password) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || user.is_empty() {
            return None;
        }
        let authzid = std::str::from_utf8(authzid).ok()?.to_owned();
        Some(Self { authzid, user: text(user)?, password: Secret::new(password.to_vec()) })
    }

    /// Puts it together again.
    pub fn message(&self) -> Secret {
        let parts = [self.authzid.as_bytes(), self.user.as_bytes(), self.password.expose()];
        Secret::new(parts.join(&0))
    }
}

/// Decodes a line of a SASL exchange; `None` if it is no base64.
pub fn decode(line: &[u8]) -> Option<Secret> {
    STANDARD.decode(line).ok().map(Secret::new)
}

/// Encodes a message as a line of a SASL exchange.
pub fn encode(message: &Secret) -> Secret {
    Secret::new(STANDARD.encode(message.expose()).into_bytes())
}

/// A name that can stand in a log and in a table: UTF-8 without control characters, not empty.
pub fn text(octets: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(octets).ok()?;
    (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
}

/// `n,a=admin,n=user,r=...` (RFC 5802 section 7): the authorisation identity does not choose the backend, the user does.
fn scram_user(message: &[u8]) -> Option<String> {
    let bare = message.splitn(3, |octet| *octet == b',').nth(2)?;
    let name = bare.split(|octet| *octet == b',').find_map(|attribute| attribute.strip_prefix(b"n="))?;
    text(name).map(|name| name.replace("=2C", ",").replace("=3D", "="))
}

/// `n,a=user@example.com,` (RFC 5801 section 4). In OAUTHBEARER the user is the authorisation identity (RFC 7628 section 3.1).
fn gs2_authzid(message: &[u8]) -> Option<String> {
    let authzid = message.splitn(3, |octet| *octet == b',').nth(1)?.strip_prefix(b"a=")?;
    text(authzid).map(|name| name.replace("=2C", ",").replace("=3D", "="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_read_from_the_first_message() {
        let table: &[(Mechanism, &[u8], Option<&str>)] = &[
            (Mechanism::Plain, b"\0tim\0tanstaaftanstaaf", Some("tim")),
            (Mechanism::Plain, b"Ursel\0Kurt\0xipj3plmq", Some("Kurt")),
            (Mechanism::Plain, b"\0\0x", None),
            (Mechanism::Plain, b"\0a\0b\0c", None),
            (Mechanism::CramMd5, b"tim b913a602c7eda7a495b4e6e7334d3890", Some("tim")),
            (Mechanism::ScramSha1, b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL", Some("user")),
            (Mechanism::ScramSha256, b"n,a=admin,n=a=2Cb=3Dc,r=x", Some("a,b=c")),
            (Mechanism::ScramSha256, b"n,,r=x", None),
            (
                Mechanism::OauthBearer,
                b"n,a=user@example.com,\x01host=h\x01auth=Bearer vF9==\x01\x01",
                Some("user@example.com"),
            ),
            (
                Mechanism::Xoauth2,
                b"user=someuser@example.com\x01auth=Bearer ya29==\x01\x01",
                Some("someuser@example.com"),
            ),
            (Mechanism::Xoauth2, b"auth=Bearer x", None),
            (Mechanism::Xoauth2, b"user=a\nb\x01", None),
        ];
        for (mechanism, message, expected) in table {
            assert_eq!(mechanism.user(message).as_deref(), *expected, "{}", message.escape_ascii());
        }
    }

    #[test]
    fn a_name_is_changed_where_it_is_not_signed() {
        let table: &[(Mechanism, &[u8], &[u8])] = &[
            (Mechanism::Xoauth2, b"user=a@b\x01auth=Bearer x\x01\x01", b"user=joe,x\x01auth=Bearer x\x01\x01"),
            (Mechanism::OauthBearer, b"n,a=a@b,\x01auth=Bearer x\x01\x01", b"n,a=joe=2Cx,\x01auth=Bearer x\x01\x01"),
            (Mechanism::ScramSha256, b"n,,n=a,r=x", b"n,,n=a,r=x"),
        ];
        for (mechanism, message, expected) in table {
            assert_eq!(renamed(*mechanism, &Secret::new(message.to_vec()), "joe,x").expose(), *expected);
        }
    }

    #[test]
    fn plain_survives_the_round_trip() {
        let plain = Plain::parse(b"Ursel\0Kurt\0xipj3plmq").unwrap();
        assert_eq!(plain.authzid, "Ursel");
        assert_eq!(plain.message().expose(), b"Ursel\0Kurt\0xipj3plmq");
    }
}
