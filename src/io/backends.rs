//! Backends: the mail stores behind us.

use std::{fmt, path::PathBuf, str::FromStr};

use rustls_pki_types::ServerName;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::{
    session::{
        idle::Pace,
        profile::{self, Profile},
    },
    units::Span,
};

/// One of `[backends.NAME]`: a mail store, reachable at one or more addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backend {
    /// Where it is, tried in this order: `imap://`, `imaps://` or `imap+starttls://`, a host, and a port if it is not the
    /// usual one.
    pub urls: Vec<Url>,
    /// A file of root certificates (PEM) to believe instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The name its certificate is for, if it is not the host of the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_name: Option<String>,
    /// Whether it is told the client's address by ID.
    pub trusted: bool,
    /// The PROXY header that a connection to it begins with.
    pub proxy_protocol: ProxyProtocol,
    /// How the name a client gives becomes the name it knows.
    pub user: Rewriting,
    /// What it is like, by the name of a profile. Default: recognised from its greeting and ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// How often it is asked for news on behalf of a client that idles, if it does not tell them by itself.
    pub pace: Pace,
    /// Connections beside those of his clients that may be opened in a user's name, to look into other mailboxes; 0: none.
    pub auxiliary: u32,
    /// How long one of its addresses may take to accept a connection, TLS included.
    pub connect_timeout: Span,
    /// Logins under way at the same time.
    pub logins_in_flight: u32,
    /// How long a login waits for its turn.
    pub login_wait: Span,
}

/// A URL of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// When TLS begins.
    pub scheme: Scheme,
    /// A name or an address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// When TLS begins on the way to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Never: `imap://`.
    Imap,
    /// With the first octet: `imaps://`.
    Imaps,
    /// By STARTTLS, before anything secret is said: `imap+starttls://`.
    Starttls,
}

/// Which PROXY header a backend expects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// None.
    #[default]
    None,
    /// The line of text.
    V1,
    /// The binary one.
    V2,
}

/// How a user's name is rewritten for a backend; in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rewriting {
    /// ASCII letters become small ones.
    pub lower_case: bool,
    /// The last `@` and what follows it goes.
    pub strip_domain: bool,
    /// This domain is added to names that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_domain: Option<String>,
}

/// What was wrong with the URL of a backend.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// It begins with none of our schemes.
    #[error("\"{0}\" does not begin with imap://, imaps:// or imap+starttls://")]
    Scheme(String),
    /// What stands behind the scheme is not a host.
    #[error("\"{0}\" has no host that could be looked up")]
    Host(String),
    /// The port is not one.
    #[error("\"{0}\" has a port that is not a number from 1 to 65535")]
    Port(String),
    /// There is more behind host and port.
    #[error("\"{0}\" says more than a host and a port")]
    Rest(String),
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            ca: None,
            certificate_name: None,
            trusted: false,
            proxy_protocol: ProxyProtocol::None,
            user: Rewriting::default(),
            profile: None,
            pace: Pace::default(),
            auxiliary: Self::MOST_AUXILIARY,
            connect_timeout: Span::seconds(5),
            logins_in_flight: 64,
            login_wait: Span::seconds(10),
        }
    }
}

impl Backend {
    /// Auxiliary connections of an account (architecture section 12).
    pub const MOST_AUXILIARY: u32 = 2;

    /// The profile that the operator has named.
    pub fn named_profile(&self) -> Option<&'static Profile> {
        self.profile.as_deref().and_then(profile::find)
    }
}

impl Rewriting {
    /// The name this backend knows the user by.
    pub fn rewrite(&self, user: &str) -> String {
        let mut name = if self.lower_case { user.to_ascii_lowercase() } else { user.to_owned() };
        if self.strip_domain
            && let Some(at) = name.rfind('@')
        {
            name.truncate(at);
        }
        if let Some(domain) = &self.add_domain
            && !name.contains('@')
        {
            name.push('@');
            name.push_str(domain);
        }
        name
    }
}

impl Scheme {
    /// All there are.
    const ALL: [Self; 3] = [Self::Imap, Self::Imaps, Self::Starttls];

    /// How a URL begins, and the usual port.
    const fn row(self) -> (&'static str, u16) {
        match self {
            Self::Imap => ("imap://", 143),
            Self::Imaps => ("imaps://", 993),
            Self::Starttls => ("imap+starttls://", 143),
        }
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = Scheme::ALL
            .into_iter()
            .find_map(|scheme| Some((scheme, text.strip_prefix(scheme.row().0)?)))
            .ok_or_else(|| UrlError::Scheme(text.to_owned()))?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', ';']) {
            return Err(UrlError::Rest(text.to_owned()));
        }
        let (host, port) = split_port(authority);
        let port = match port {
            None => scheme.row().1,
            Some(port) => {
                port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(|| UrlError::Port(text.to_owned()))?
            }
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        ServerName::try_from(host).map_err(|_| UrlError::Host(text.to_owned()))?;
        Ok(Self { scheme, host: host.to_owned(), port })
    }
}

/// `host:port` or `[address]:port` in its two parts.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') && (!host.contains(':') || host.ends_with(']')) => (host, Some(port)),
        _ => (authority, None),
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, usual) = self.scheme.row();
        match self.host.contains(':') {
            true => write!(f, "{prefix}[{}]", self.host)?,
            false => write!(f, "{prefix}{}", self.host)?,
        }
        if self.port == usual { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Url {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_printed_as_it_would_be_written() {
        for text in [
            "imap://mail.example.org",
            "imap://10.0.0.5:1143",
            "imaps://mail.example.org",
            "imaps://[2001:db8::1]:1993",
            "imap+starttls://[::1]",
            "imap+starttls://localhost:1430",
        ] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), text);
        }
        assert_eq!("imap://a:143/".parse::<Url>().unwrap(), Url { scheme: Scheme::Imap, host: "a".into(), port: 143 });
    }

    #[test]
    fn a_wrong_url_is_refused() {
        for text in [
            "mail.example.org",
            "http://mail.example.org",
            "imap://",
            "imap://:143",
            "imap://a:0",
            "imap://a:65536",
            "imap://a:b",
            "imap://a/INBOX",
            "imap://joe@a",
            "imap://a b",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_rewritten_in_the_order_of_the_fields() {
        let add = |domain: &str| Some(domain.to_owned());
        let cases = [
            (Rewriting::default(), "Joe@Example.org", "Joe@Example.org"),
            (Rewriting { lower_case: true, ..Rewriting::default() }, "JOE@Example.org", "joe@example.org"),
            (Rewriting { strip_domain: true, ..Rewriting::default() }, "joe@a@b", "joe@a"),
            (Rewriting { add_domain: add("b"), ..Rewriting::default() }, "joe", "joe@b"),
            (Rewriting { add_domain: add("b"), ..Rewriting::default() }, "joe@a", "joe@a"),
            (Rewriting { lower_case: true, strip_domain: true, add_domain: add("b") }, "JOE@a", "joe@b"),
        ];
        for (rewriting, given, known) in cases {
            assert_eq!(rewriting.rewrite(given), known, "{rewriting:?}");
        }
    }
}
