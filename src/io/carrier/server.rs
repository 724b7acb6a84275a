//! A server that the operator has named, and the way to it: an SMSC, a submission server.
//!
//!     smsc.example.net:3550, TLS     a name, its addresses one after the other, a certificate for that name
//!
//! It may be anywhere. With TLS it has to prove who it is; there is no switch for that. Requirement N20.

use std::{fmt, future::poll_fn, io, path::Path, str::FromStr, sync::Arc, time::Duration};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use tokio::time::Instant;

use crate::{
    imap::secret::Secret,
    io::{
        reach::reach,
        transport::{Tcp, Transport},
    },
};

/// The longest file with a password, in octets.
const LONGEST_PASSWORD: usize = 4096;

/// Where a server is: `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What is no place of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected host:port")]
pub struct ServerError;

impl FromStr for Server {
    type Err = ServerError;

    fn from_str(text: &str) -> Result<Self, ServerError> {
        let (host, port) = text.rsplit_once(':').ok_or(ServerError)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        if (host.contains(':') && bracketed.is_none()) || !port.bytes().all(|octet| octet.is_ascii_digit()) {
            return Err(ServerError);
        }
        ServerName::try_from(host).map_err(|_| ServerError)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(ServerError)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Serialize for Server {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Server {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Server {
    /// A connection without TLS.
    pub async fn connect(&self, deadline: Instant) -> io::Result<Transport> {
        let stream = reach(&self.host, self.port, deadline).await?;
        Tcp::default().apply(&stream)?;
        Ok(Transport::from(stream))
    }

    /// The same connection with TLS, with whom these roots know as this server.
    pub async fn prove(
        &self,
        transport: Transport,
        trust: Arc<ClientConfig>,
        deadline: Instant,
    ) -> io::Result<Transport> {
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        transport.connect_tls(name, trust, deadline).await
    }
}

/// Writes all of it, and waits for its way out.
pub(super) async fn say(transport: &mut Transport, mut octets: &[u8]) -> io::Result<()> {
    while !octets.is_empty() {
        match poll_fn(|cx| transport.poll_write(cx, octets)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => octets = &octets[written..],
        }
    }
    poll_fn(|cx| transport.poll_flush(cx)).await
}

/// Reads what is there; 0 is the end.
pub(super) async fn hear(transport: &mut Transport, into: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| transport.poll_read(cx, into)).await
}

/// How long a peer may take to close with us.
pub(super) const LEAVING: Duration = Duration::from_secs(2);

/// The password in a file, without the end of its line.
pub(super) fn password(file: &Path) -> io::Result<Secret> {
    let mut octets = std::fs::read(file)?;
    while octets.last().is_some_and(|octet| b"\r\n".contains(octet)) {
        octets.pop();
    }
    match octets.len() {
        1..=LONGEST_PASSWORD => Ok(Secret::new(octets)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "there is no password in it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for text in ["smsc.example.net:2775", "127.0.0.1:1", "[2001:db8::1]:65535"] {
            assert_eq!(text.parse::<Server>().unwrap().to_string(), text);
        }
        for text in
            ["", "smsc.example.net", "smsc:0", "smsc:+80", "smsc:65536", ":25", "a b:25", "2001:db8::1:25", "smsc:"]
        {
            assert_eq!(text.parse::<Server>(), Err(ServerError), "{text}");
        }
    }

    #[test]
    fn a_password_is_what_stands_in_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        let read = |octets: &[u8]| {
            std::fs::write(&file, octets).unwrap();
            password(&file).map(|password| password.expose().to_vec()).ok()
        };
        assert_eq!(read(b"secret\r\n"), Some(b"secret".to_vec()));
        assert_eq!(read(b" two words "), Some(b" two words ".to_vec()));
        assert_eq!((read(b"\n"), read(&[b'x'; 4097])), (None, None));
        assert!(password(&directory.path().join("none")).is_err());
    }
}
