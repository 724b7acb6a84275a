//! Carriers: they bring a [`Delivery`](crate::outband::channel::Delivery) to where it goes. Here: where that may be.
//!
//!     https://push.example.net/x    203.0.113.9 is the push service        it may be asked
//!     https://evil.example/         169.254.169.254 is no place outside    no connection is made
//!
//! Users name places, and we stand where they do not: behind firewalls, beside databases and the metadata of clouds. What counts is the
//! address to which a connection is made, not the name: a name may have another address the next time. An operator allows networks that
//! are inside all the same, for a push service of the house. Names whose servers are silent cost the other lookups of this machine nothing:
//! only so many are looked up at a time.

pub mod datagram;
pub mod http;
pub mod server;
pub mod sip;
pub mod smpp;
pub mod smtp;
mod turns;
pub mod xmpp;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::lookup_host, sync::Semaphore, time::timeout};

use super::network::Network;

/// How many names of users' are looked up at a time. Each takes a thread of the pool of 512 in which the names of backends are looked up, too,
/// and one whose servers are silent keeps it for half a minute.
const LOOKUPS: usize = 64;
/// How long a lookup is waited for, its turn included: the system's resolver asks again after 5 s.
const LOOKUP: Duration = Duration::from_secs(6);

/// Where users may send us. Clones share the bound of the lookups.
#[derive(Clone, Debug)]
pub struct Places {
    allowed: Vec<Network>,
    lookups: Arc<Semaphore>,
}

impl Default for Places {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Places {
    /// All places outside, and those in these networks.
    pub fn new(allowed: Vec<Network>) -> Self {
        Self { allowed, lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }

    /// The addresses of a place that a user has named, `host:port`; whether we may go there is another question.
    async fn find(&self, place: String) -> io::Result<Vec<SocketAddr>> {
        match place.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => self.look_up(async { lookup_host(place).await.map(Iterator::collect) }).await,
        }
    }

    /// Waits for the turn of this lookup, and for what it finds. A lookup that has begun ends in its own time, and keeps its turn until then,
    /// also where nobody waits for it any more.
    async fn look_up<T: Send + 'static>(
        &self,
        lookup: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        let turn = self.lookups.clone().acquire_owned();
        let found = async {
            let turn = turn.await.map_err(io::Error::other)?;
            let begun = tokio::spawn(async move {
                let found = lookup.await;
                drop(turn);
                found
            });
            begun.await.map_err(io::Error::other)?
        };
        timeout(LOOKUP, found).await?
    }

    /// Whether users may send us there.
    pub fn permit(&self, address: IpAddr) -> bool {
        self.allow(address) || is_outside(address)
    }

    /// Whether the operator has said so.
    pub fn allow(&self, address: IpAddr) -> bool {
        self.allowed.iter().any(|network| network.contains(address))
    }
}

/// Networks of IPv4 that are not anybody's in the Internet (IANA special-purpose address registry), and two where clouds have their
/// metadata.
const INSIDE: [(Ipv4Addr, u32); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    // Carriers' own; 100.100.100.200 is a metadata service.
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Azure's, which looks like anybody's.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    // Link-local; 169.254.169.254 is a metadata service.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    // Reserved, and the broadcast address.
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    // AS112, which answers for what is private.
    (Ipv4Addr::new(192, 31, 196, 0), 24),
];

/// Networks below 2000::/3 that are not anybody's either. Whatever is not below it is not anybody's at all (RFC 4291 section 2.4).
const INSIDE_6: [(Ipv6Addr, u32); 4] = [
    // Teredo, benchmarks, ORCHID and other protocols.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4: an address of IPv4 stands in it.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether this is somebody's address in the Internet.
fn is_outside(address: IpAddr) -> bool {
    const GLOBAL: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
    // RFC 6052 section 2.1: the network translates it into the address of IPv4 at its end.
    const TRANSLATED: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
    let within = |address: Ipv6Addr, (network, prefix): (Ipv6Addr, u32)| {
        (address.to_bits() ^ network.to_bits()).leading_zeros() >= prefix
    };
    match address.to_canonical() {
        IpAddr::V4(address) => {
            !INSIDE.iter().any(|(network, prefix)| (address.to_bits() ^ network.to_bits()).leading_zeros() >= *prefix)
        }
        IpAddr::V6(address) if within(address, TRANSLATED) => {
            let [.., high, low] = address.segments();
            is_outside(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)).into())
        }
        IpAddr::V6(address) => within(address, GLOBAL) && !INSIDE_6.iter().any(|network| within(address, *network)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permitted(allowed: &[&str], address: &str) -> bool {
        let allowed = allowed.iter().map(|network| network.parse().unwrap()).collect();
        Places::new(allowed).permit(address.parse().unwrap())
    }

    #[test]
    fn users_name_places_outside() {
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "128.0.0.0",
            "168.63.129.17",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.20.0.0",
            "223.255.255.255",
            "2a00:1450:4001::1",
            "2606:4700:4700::1111",
            "2001:200::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
        ] {
            assert!(permitted(&[], address), "{address}");
        }
    }

    #[test]
    fn users_name_no_place_inside() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.251",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            // Addresses of IPv4 in four kinds of clothes: mapped, compatible, translated, 6to4.
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "2001:db8::1",
            "3fff::1",
            "4000::1",
        ] {
            assert!(!permitted(&[], address), "{address}");
        }
    }

    #[tokio::test]
    async fn a_lookup_keeps_its_turn_until_it_ends_whoever_waits() {
        let places = Places { lookups: Arc::new(Semaphore::new(1)), ..Places::default() };
        let (answer, asked) = tokio::sync::oneshot::channel::<()>();
        let silent = tokio::spawn({
            let places = places.clone();
            async move { places.look_up(async { asked.await.map_err(io::Error::other) }).await }
        });
        while places.lookups.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        silent.abort();
        assert!(silent.await.unwrap_err().is_cancelled());
        let mut next = std::pin::pin!(places.find("localhost:1".to_owned()));
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(next.as_mut().poll(cx))).await;
        assert!(polled.is_pending(), "it waits for its turn");
        assert_eq!(places.find("192.0.2.1:80".to_owned()).await.unwrap(), ["192.0.2.1:80".parse().unwrap()]);
        answer.send(()).unwrap();
        assert!(next.await.is_ok_and(|found| found.iter().all(|address| address.ip().is_loopback())));
    }

    #[test]
    fn an_operator_allows_places_inside() {
        let allowed = ["10.1.0.0/16", "fd00::/8", "127.0.0.2"];
        for address in ["10.1.2.3", "::ffff:10.1.2.3", "fd00::1", "127.0.0.2", "1.1.1.1"] {
            assert!(permitted(&allowed, address), "{address}");
        }
        for address in ["10.2.0.1", "127.0.0.1", "fe80::1", "64:ff9b::a01:203"] {
            assert!(!permitted(&allowed, address), "{address}");
        }
    }
}
