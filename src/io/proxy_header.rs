//! The PROXY protocol: who the client is, said by the load balancer in front of us, and by us to a backend.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, versions 1 and 2.
//!
//!     PROXY TCP4 192.0.2.7 203.0.113.1 40123 993\r\n      then what the client itself has to say
//!
//! A header is read only on connections from configured networks, and there it must stand: a client that could write its
//! own header could be anybody. Not one octet behind the header is taken from the socket.

use std::{io, net::SocketAddr};

use ppp::{v1, v2};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use super::backends::ProxyProtocol;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client's end.
    pub client: SocketAddr,
    /// The end it connected to.
    pub connected: SocketAddr,
}

/// Why a connection that should begin with a PROXY header cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// It begins with something else.
    #[error("no PROXY header")]
    Missing,
    /// The header is longer than any that makes sense.
    #[error("PROXY header too long")]
    TooLong,
    /// The header is not well-formed, or is not about TCP.
    #[error("malformed PROXY header: {0}")]
    Malformed(String),
    /// The connection ended or failed.
    #[error("PROXY header: {0}")]
    Io(#[from] io::Error),
}

/// `PROXY UNKNOWN\r\n`, the shortest header of all; one of version 2 has an octet more.
const SHORTEST: usize = 15;
/// The longest line of version 1, by the specification.
const LONGEST_LINE: usize = 107;
/// The fixed part of version 2: signature, version and command, family, length.
const FIXED: usize = 16;
/// What may follow it: addresses take 216 at most, the rest are notes of the balancer (TLS version, client certificate).
const LONGEST_REST: usize = 4096;
/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Reads the header. `None`: the balancer speaks for itself (`LOCAL`, `UNKNOWN`), so the socket's own ends are true.
pub async fn read(stream: &mut TcpStream) -> Result<Option<Ends>, HeaderError> {
    let mut header = vec![0; SHORTEST];
    stream.read_exact(&mut header).await?;
    match &header[..] {
        start if start.starts_with(SIGNATURE) => read_v2(stream, header).await,
        start if start.starts_with(b"PROXY ") => read_v1(stream, header).await,
        _ => Err(HeaderError::Missing),
    }
}

async fn read_v1(stream: &mut TcpStream, mut header: Vec<u8>) -> Result<Option<Ends>, HeaderError> {
    while !header.ends_with(b"\n") {
        let mut ahead = [0; LONGEST_LINE];
        let seen = stream.peek(&mut ahead[..LONGEST_LINE.saturating_sub(header.len())]).await?;
        let taken = memchr::memchr(b'\n', &ahead[..seen]).map_or(seen, |end| end + 1);
        match (taken, header.len()) {
            (0, LONGEST_LINE) => return Err(HeaderError::TooLong),
            (0, _) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            _ => stream.read_exact(&mut ahead[..taken]).await?,
        };
        header.extend_from_slice(&ahead[..taken]);
    }
    let parsed = v1::Header::try_from(&header[..]).map_err(|error| HeaderError::Malformed(error.to_string()))?;
    Ok(match parsed.addresses {
        v1::Addresses::Unknown => None,
        v1::Addresses::Tcp4(ip) => {
            Some(ends((ip.source_address, ip.source_port), (ip.destination_address, ip.destination_port)))
        }
        v1::Addresses::Tcp6(ip) => {
            Some(ends((ip.source_address, ip.source_port), (ip.destination_address, ip.destination_port)))
        }
    })
}

async fn read_v2(stream: &mut TcpStream, mut header: Vec<u8>) -> Result<Option<Ends>, HeaderError> {
    header.push(stream.read_u8().await?);
    let rest = usize::from(u16::from_be_bytes([header[FIXED - 2], header[FIXED - 1]]));
    if rest > LONGEST_REST {
        return Err(HeaderError::TooLong);
    }
    header.resize(FIXED + rest, 0);
    stream.read_exact(&mut header[FIXED..]).await?;
    let parsed = v2::Header::try_from(&header[..]).map_err(|error| HeaderError::Malformed(error.to_string()))?;
    if parsed.protocol == v2::Protocol::Datagram {
        return Err(HeaderError::Malformed("it is about datagrams".to_owned()));
    }
    Ok(match (parsed.command, parsed.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => {
            Some(ends((ip.source_address, ip.source_port), (ip.destination_address, ip.destination_port)))
        }
        (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => {
            Some(ends((ip.source_address, ip.source_port), (ip.destination_address, ip.destination_port)))
        }
        _ => None,
    })
}

fn ends(client: impl Into<SocketAddr>, connected: impl Into<SocketAddr>) -> Ends {
    Ends { client: client.into(), connected: connected.into() }
}

/// The header of this version that tells a backend of the client; nothing for none.
pub fn write(version: ProxyProtocol, ends: &Ends) -> Vec<u8> {
    let addresses = one_family(ends);
    match version {
        ProxyProtocol::None => Vec::new(),
        ProxyProtocol::V1 => v1::Addresses::from(addresses).to_string().into_bytes(),
        ProxyProtocol::V2 => {
            v2::Builder::with_addresses(v2::Version::Two | v2::Command::Proxy, v2::Protocol::Stream, addresses)
                .build()
                .expect("a header with addresses alone is shorter than its length can say")
        }
    }
}

/// A header has both addresses of one family: IPv4 where both are, in whatever clothes, else IPv6.
fn one_family(ends: &Ends) -> (SocketAddr, SocketAddr) {
    let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    match (canonical(ends.client), canonical(ends.connected)) {
        (SocketAddr::V4(client), connected @ SocketAddr::V6(_)) => {
            ((client.ip().to_ipv6_mapped(), client.port()).into(), connected)
        }
        (client @ SocketAddr::V6(_), SocketAddr::V4(connected)) => {
            (client, (connected.ip().to_ipv6_mapped(), connected.port()).into())
        }
        same => same,
    }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt as _, net::TcpListener};

    use super::*;

    fn pair(client: &str, connected: &str) -> Ends {
        Ends { client: client.parse().unwrap(), connected: connected.parse().unwrap() }
    }

    /// What is read from a peer that says this, and what is left in the socket.
    async fn hear(said: &[u8]) -> (Result<Option<Ends>, HeaderError>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        peer.write_all(said).await.unwrap();
        peer.shutdown().await.unwrap();
        let heard = read(&mut stream).await;
        let mut left = Vec::new();
        stream.read_to_end(&mut left).await.unwrap();
        (heard, left)
    }

    #[tokio::test]
    async fn what_we_write_is_what_we_read_and_no_octet_more() {
        let cases = [
            (pair("192.0.2.7:40123", "203.0.113.1:993"), pair("192.0.2.7:40123", "203.0.113.1:993")),
            (pair("[2001:db8::7]:1", "[2001:db8::1]:993"), pair("[2001:db8::7]:1", "[2001:db8::1]:993")),
            (pair("[::ffff:192.0.2.7]:1", "203.0.113.1:993"), pair("192.0.2.7:1", "203.0.113.1:993")),
            (pair("192.0.2.7:1", "[2001:db8::1]:993"), pair("[::ffff:192.0.2.7]:1", "[2001:db8::1]:993")),
        ];
        for version in [ProxyProtocol::V1, ProxyProtocol::V2] {
            for (given, expected) in cases {
                let said = [&write(version, &given)[..], b"a NOOP\r\nb NOOP\r\n"].concat();
                let (heard, left) = hear(&said).await;
                assert_eq!(heard.unwrap(), Some(expected), "{version:?}");
                assert_eq!(left, b"a NOOP\r\nb NOOP\r\n");
            }
        }
    }

    #[tokio::test]
    async fn a_balancer_that_speaks_for_itself_names_nobody() {
        let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
        for said in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN what ever\r\n", local] {
            assert_eq!(hear(said).await.0.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let long_v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff";
        let datagram = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\x00\x0c\x01\x02\x03\x04\x01\x02\x03\x04\x00\x01\x00\x02";
        let cases: [(&[u8], &str); 8] = [
            (b"a CAPABILITY\r\nb NOOP\r\n", "no PROXY header"),
            (b"PROXY", "PROXY header: "),
            (b"PROXY TCP4 192.0.2.7 203.0.113.1", "PROXY header: "),
            (b"PROXY TCP4 192.0.2.7 203.0.113.1 1 70000\r\n", "malformed"),
            (b"PROXY TCP4 192.0.2.7 203.0.113.1 1 2\n", "malformed"),
            (&[b"PROXY TCP4 ".as_slice(), &[b'1'; 200], b"\r\n"].concat(), "too long"),
            (long_v2, "too long"),
            (datagram, "datagrams"),
        ];
        for (said, error) in cases {
            let heard = hear(said).await.0.unwrap_err().to_string();
            assert!(heard.contains(error), "{heard} {:?}", said.escape_ascii().to_string());
        }
    }
}
