//! From a name to a connection: its addresses, one after the other.
//!
//!     imap.example.net     192.0.2.1 is silent, 192.0.2.2 accepts; 10 s are left
//!       192.0.2.1          nothing for 5 s: half of them
//!       192.0.2.2          the connection; it had the other half
//!
//! Each address has an even share of the time that is left, so that a silent one leaves some for the others. It is for places of an operator's:
//! where users send us, each address is looked at before (`carrier`). Below: the system's resolver and sockets. Above: [`super::dialer`] and
//! [`super::carrier::server`]. Requirements A1, N20.

use std::{io, net::SocketAddr};

use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout, timeout_at},
};

/// Addresses of one name that are tried.
const ADDRESSES: usize = 4;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    /// The name leads to no address.
    #[error("the name cannot be resolved: {0}")]
    Name(io::Error),
    /// No address accepts a connection: the last of them, and why it does not.
    #[error("{0}: {1}")]
    Connect(SocketAddr, io::Error),
}

impl From<Unreached> for io::Error {
    fn from(unreached: Unreached) -> Self {
        match unreached {
            Unreached::Name(error) | Unreached::Connect(_, error) => error,
        }
    }
}

/// A connection to one of the addresses of this host, at this port, before the deadline.
pub(super) async fn reach(host: &str, port: u16, deadline: Instant) -> Result<TcpStream, Unreached> {
    let found = timeout_at(deadline, lookup_host((host, port))).await;
    let found = found.map_err(io::Error::from).flatten().map_err(Unreached::Name)?;
    one_of(&found.take(ADDRESSES).collect::<Vec<_>>(), deadline).await
}

async fn one_of(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, Unreached> {
    let mut failure = Unreached::Name(io::ErrorKind::NotFound.into());
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - index).unwrap_or(1);
        match timeout(share, TcpStream::connect(address)).await.map_err(io::Error::from).flatten() {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Unreached::Connect(*address, error),
        }
    }
    Err(failure)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// A listener at this address that lets connections wait: who comes now hears nothing.
    pub(in crate::io) async fn silent(address: SocketAddr) -> (TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) = timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
            waiting.push(stream);
        }
        (listener, waiting)
    }

    #[tokio::test]
    async fn a_silent_address_leaves_time_for_the_next() {
        let (quiet, _waiting) = silent(([127, 0, 0, 1], 0).into()).await;
        let alive = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addresses = [&quiet, &alive].map(|listener| listener.local_addr().unwrap());
        let deadline = Instant::now() + Duration::from_secs(2);
        let stream = one_of(&addresses, deadline).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), addresses[1]);
        assert!(Instant::now() < deadline);
    }

    #[tokio::test]
    async fn what_is_not_reached_says_why() {
        let (quiet, _waiting) = silent(([127, 0, 0, 1], 0).into()).await;
        let soon = || Instant::now() + Duration::from_millis(100);
        let silent = one_of(&[quiet.local_addr().unwrap()], soon()).await.unwrap_err();
        assert_eq!(io::Error::from(silent).kind(), io::ErrorKind::TimedOut);
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let refused = one_of(&[gone], soon()).await.unwrap_err();
        assert!(refused.to_string().starts_with(&format!("{gone}: ")), "{refused}");
        assert!(matches!(one_of(&[], soon()).await, Err(Unreached::Name(_))));
        assert!(matches!(reach("no.such.host.invalid", 1, soon()).await, Err(Unreached::Name(_))));
    }
}
