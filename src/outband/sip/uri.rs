//! SIP and SIPS URIs (RFC 3261 section 19.1), as far as a request goes to one.
//!
//!     sip:romeo@example.com:5070;user=phone;transport=tcp;method=MESSAGE?subject=SIEVE
//!
//!     Request-URI    sip:romeo@example.com:5070;user=phone;transport=tcp
//!     From, To       sip:romeo@example.com;user=phone                        19.1.1, table 1
//!
//! Parameters that nobody knows stay (RFC 6468 section 2.6). What would make another request of it, headers and a body, is left out. A URI
//! that sends the request elsewhere than to its host (`maddr`), by a transport that we have not or with another method is none of ours.
//! No octet of it can end a quoted string, a pair of angle brackets or a line.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::message::METHOD;

/// The longest host, in octets: that of a name of DNS.
const LONGEST_HOST: usize = 255;

/// How a request travels to the next hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// In datagrams, which may get lost.
    #[default]
    Udp,
    /// Over a connection.
    Tcp,
    /// Over a connection with TLS.
    Tls,
}

impl Transport {
    /// As `Via` names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// Whether nothing has to be sent twice.
    pub fn is_reliable(self) -> bool {
        self != Self::Udp
    }

    /// The port where none is named (section 19.1.2).
    fn port(self) -> u16 {
        if self == Self::Tls { 5061 } else { 5060 }
    }
}

/// A SIP or SIPS URI.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uri {
    secure: bool,
    /// With a password, if there is one.
    user: Option<Box<str>>,
    host: Box<str>,
    port: Option<u16>,
    transport: Option<Transport>,
    /// The others, each with its semicolon.
    parameters: String,
}

/// Not a URI by which we can reach somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a SIP URI: sip:user@host or sips:user@host, perhaps with a port and ;transport=udp, tcp or tls")]
pub struct UriError;

impl Uri {
    /// Whether every hop has to be TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// The host: a name, an address of IPv4, or one of IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// By which transport it is reached; by this one where it does not say.
    pub fn transport(&self, usual: Transport) -> Transport {
        if self.secure { Transport::Tls } else { self.transport.unwrap_or(usual) }
    }

    /// At which port, over this transport.
    pub fn port(&self, transport: Transport) -> u16 {
        self.port.unwrap_or(transport.port())
    }

    /// As it stands in From and To: who, and not where.
    pub fn identity(&self) -> Identity<'_> {
        Identity(self)
    }

    /// Whether its host is this domain, or below it.
    pub fn is_within(&self, domain: &str) -> bool {
        let rest = self.host.len().checked_sub(domain.len()).and_then(|at| self.host.split_at_checked(at));
        rest.is_some_and(|(above, end)| {
            end.eq_ignore_ascii_case(domain) && !domain.is_empty() && (above.is_empty() || above.ends_with('.'))
        })
    }
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let (scheme, rest) = text.split_once(':').ok_or(UriError)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "sip" => false,
            "sips" => true,
            _ => return Err(UriError),
        };
        // Neither a parameter nor a header has an @ in it.
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let rest = rest.split('?').next().unwrap_or_default();
        let (place, parameters) = rest.split_once(';').unwrap_or((rest, ""));
        let (host, port) = host_and_port(place)?;
        if user.is_some_and(|user| !is_of(user, b"&=+$,;?/:")) {
            return Err(UriError);
        }
        let user = user.map(Box::from);
        let mut uri = Self { secure, user, host: host.into(), port, transport: None, parameters: String::new() };
        parameters.split(';').filter(|parameter| !parameter.is_empty()).try_for_each(|it| uri.take(it))?;
        if uri.secure && uri.transport == Some(Transport::Udp) { Err(UriError) } else { Ok(uri) }
    }
}

impl Uri {
    /// Takes a parameter: `name` or `name=value`.
    fn take(&mut self, parameter: &str) -> Result<(), UriError> {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let known = |transport: &Transport| transport.name().eq_ignore_ascii_case(value);
        match name.to_ascii_lowercase().as_str() {
            "method" if value == METHOD => {}
            "method" | "maddr" | "ttl" => return Err(UriError),
            "transport" => {
                let all = [Transport::Udp, Transport::Tcp, Transport::Tls];
                self.transport = Some(all.into_iter().find(known).ok_or(UriError)?);
            }
            _ if is_of(parameter, b"[]/:&+$=") => {
                self.parameters.push(';');
                self.parameters.push_str(parameter);
            }
            _ => return Err(UriError),
        }
        Ok(())
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, is_request: bool) -> fmt::Result {
        f.write_str(if self.secure { "sips:" } else { "sip:" })?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        f.write_str(&self.host)?;
        if let (Some(port), true) = (self.port, is_request) {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.parameters)?;
        match self.transport {
            Some(transport) if is_request => write!(f, ";transport={}", transport.name().to_ascii_lowercase()),
            _ => Ok(()),
        }
    }
}

/// A URI as it stands in From and To.
#[derive(Clone, Copy)]
pub struct Identity<'a>(&'a Uri);

impl fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, false)
    }
}

/// As a Request-URI.
impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, true)
    }
}

/// It may be somebody's address.
impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Uri")
    }
}

impl TryFrom<String> for Uri {
    type Error = UriError;

    fn try_from(text: String) -> Result<Self, UriError> {
        text.parse()
    }
}

impl From<Uri> for String {
    fn from(uri: Uri) -> Self {
        uri.to_string()
    }
}

/// A host, and a port other than 0.
fn host_and_port(place: &str) -> Result<(&str, Option<u16>), UriError> {
    // The colons of IPv6 stand in brackets.
    let (host, port) = match place.rfind([':', ']']) {
        Some(at) if place[at..].starts_with(':') => (&place[..at], Some(&place[at + 1..])),
        _ => (place, None),
    };
    let port = match port {
        Some(digits) if digits.bytes().all(|octet| octet.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port > 0).ok_or(UriError)?)
        }
        Some(_) => return Err(UriError),
        None => None,
    };
    if is_host(host) { Ok((host, port)) } else { Err(UriError) }
}

fn is_host(text: &str) -> bool {
    let only = |text: &str, others: &[u8], kind: fn(&u8) -> bool| {
        !text.is_empty() && text.bytes().all(|octet| kind(&octet) || others.contains(&octet))
    };
    let fits = match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(address) => only(address, b":.", u8::is_ascii_hexdigit),
        None => only(text, b"-.", u8::is_ascii_alphanumeric),
    };
    fits && text.len() <= LONGEST_HOST
}

/// Whether the text is not empty, and of unreserved characters, escaped ones, and these (section 25.1).
fn is_of(text: &str, others: &[u8]) -> bool {
    let digit = |octet: Option<&u8>| octet.is_some_and(u8::is_ascii_hexdigit);
    let octets = text.as_bytes();
    !octets.is_empty()
        && octets.iter().enumerate().all(|(at, octet)| match octet {
            b'%' => digit(octets.get(at + 1)) && digit(octets.get(at + 2)),
            _ => octet.is_ascii_alphanumeric() || b"-_.!~*'()".contains(octet) || others.contains(octet),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Uri {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    #[test]
    fn a_request_uri_says_where_and_an_identity_who() {
        for (text, request, identity) in [
            ("sip:romeo@example.com;method=MESSAGE", "sip:romeo@example.com", "sip:romeo@example.com"),
            (
                "sip:romeo@example.com:5070;user=phone;transport=TCP;method=MESSAGE?subject=SIEVE&body=x",
                "sip:romeo@example.com:5070;user=phone;transport=tcp",
                "sip:romeo@example.com;user=phone",
            ),
            (
                "SIPS:+1555;ext=7@[2001:db8::1]:5061",
                "sips:+1555;ext=7@[2001:db8::1]:5061",
                "sips:+1555;ext=7@[2001:db8::1]",
            ),
            ("sip:proxy.example.com;lr", "sip:proxy.example.com;lr", "sip:proxy.example.com;lr"),
            ("sip:a%20b:pw@h;x-y=%5b[z]", "sip:a%20b:pw@h;x-y=%5b[z]", "sip:a%20b:pw@h;x-y=%5b[z]"),
        ] {
            let uri = read(text);
            assert_eq!((uri.to_string().as_str(), uri.identity().to_string().as_str()), (request, identity));
            assert_eq!(read(&uri.to_string()), uri);
        }
    }

    #[test]
    fn what_cannot_be_reached_or_could_break_a_header_is_none() {
        for text in [
            "",
            "sip",
            "sip:",
            "mailto:joe@example.org",
            "sip:@host",
            "sip:joe@",
            "sip:joe@host:0",
            "sip:joe@host:65536",
            "sip:joe@host:",
            "sip:joe@host:+80",
            "sip:joe@ho_st",
            "sip:joe@[::1",
            "sip:joe@[::g]",
            "sip:j<oe@host",
            "sip:j\"oe@host",
            "sip:j\\oe@host",
            "sip:j oe@host",
            "sip:j%0@host",
            "sip:joe@host;x=>",
            "sip:joe@host;x=\"y\"",
            "sip:joe@host\r\nX: y",
            "sip:jöe@host",
            "sip:joe@host;method=INVITE",
            "sip:joe@host;maddr=10.0.0.1",
            "sip:joe@host;ttl=1",
            "sip:joe@host;transport=sctp",
            "sips:joe@host;transport=udp",
        ] {
            assert_eq!(text.parse::<Uri>(), Err(UriError), "{text}");
        }
        let long = "h".repeat(LONGEST_HOST);
        assert!(format!("sip:joe@{long}").parse::<Uri>().is_ok() && format!("sip:joe@{long}h").parse::<Uri>().is_err());
    }

    #[test]
    fn scheme_and_parameter_say_the_transport_and_it_the_port() {
        use Transport::*;
        for (text, usual, transport, port) in [
            ("sip:joe@h", Udp, Udp, 5060),
            ("sip:joe@h", Tls, Tls, 5061),
            ("sip:joe@h;transport=tcp", Udp, Tcp, 5060),
            ("sip:joe@h:5080;transport=tls", Udp, Tls, 5080),
            ("sips:joe@h", Udp, Tls, 5061),
            ("sips:joe@h;transport=tcp", Udp, Tls, 5061),
        ] {
            let uri = read(text);
            assert_eq!((uri.transport(usual), uri.port(transport)), (transport, port), "{text}");
        }
    }

    #[test]
    fn a_host_is_within_its_domain() {
        let uri = read("sip:joe@ims.Example.com");
        assert!(uri.is_within("example.com") && uri.is_within("ims.example.com"));
        assert!(["ample.com", "x.ims.example.com", "", "com.", "example.org"].iter().all(|it| !uri.is_within(it)));
    }

    #[test]
    fn an_address_does_not_print() {
        assert_eq!(format!("{:?}", read("sip:romeo@example.com")), "Uri");
    }
}
