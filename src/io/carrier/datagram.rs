//! The carrier of datagrams, to devices themselves.
//!
//!     Datagram to phone.example.org:4000, acknowledged by its key
//!       its name resolves to 203.0.113.9                       one place outside, or none
//!       sent; after 1 s again; after 3 s more a third time     until the device says that it has it
//!       an answer under the key      ->  Acknowledged
//!       none for 9 s more            ->  Silence
//!
//! Without a key nobody answers: it is sent once, and that is all that is known (digest of notifications, section 6). Whatever else comes
//! back is not heard. Requirements N20, N21.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, SystemTime},
};

use tokio::{net::UdpSocket, sync::Semaphore};

use super::Places;
use crate::outband::channel::{Answer, Datagram};

/// How long is waited behind each of three sends.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(9)];

/// The longest answer that is looked at: an acknowledgement is shorter than what it acknowledges.
const LONGEST: usize = 512;

/// How many datagrams are under way. Each has a socket, of a device that is silent for 13 s; the open files are there for sessions.
const AT_ONCE: usize = 256;

/// So long a datagram that is to be acknowledged waits for its turn: its time was written before, and a device compares it with its own.
const WAIT: Duration = Duration::from_secs(8);

/// The carrier.
#[derive(Debug)]
pub struct Datagrams {
    places: Places,
    pauses: [Duration; 3],
    at_once: Semaphore,
}

impl Datagrams {
    /// To these places.
    pub fn new(places: Places) -> Self {
        Self { places, pauses: PAUSES, at_once: Semaphore::new(AT_ONCE) }
    }

    /// Carries a datagram, and says what came back.
    pub async fn carry(&self, datagram: &Datagram) -> Answer {
        let Ok(addresses) = self.places.find(datagram.to.clone()).await else { return Answer::Unreachable };
        let Some(to) = addresses.iter().copied().find(|address| self.places.permit(address.ip())) else {
            return if addresses.is_empty() { Answer::Unreachable } else { Answer::Forbidden };
        };
        let _turn = match datagram.acknowledged_by {
            None => None,
            Some(_) => match tokio::time::timeout(WAIT, self.at_once.acquire()).await {
                Ok(Ok(turn)) => Some(turn),
                _ => return Answer::Unreachable,
            },
        };
        exchange(to, datagram, self.pauses).await.unwrap_or(Answer::Unreachable)
    }
}

async fn exchange(to: SocketAddr, datagram: &Datagram, pauses: [Duration; 3]) -> std::io::Result<Answer> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(to).await?;
    if datagram.acknowledged_by.is_none() {
        socket.send(&datagram.octets).await?;
        return Ok(Answer::Sent);
    }
    for pause in pauses {
        socket.send(&datagram.octets).await?;
        if tokio::time::timeout(pause, acknowledgement(&socket, datagram)).await.is_ok() {
            return Ok(Answer::Acknowledged);
        }
    }
    Ok(Answer::Silence)
}

/// Ends when the device says that it has it. That its port was closed a moment ago says nothing of the next moment.
async fn acknowledgement(socket: &UdpSocket, datagram: &Datagram) {
    let mut heard = [0; LONGEST];
    loop {
        match socket.recv(&mut heard).await {
            Ok(len) => {
                let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
                if datagram.is_acknowledged(&heard[..len], now) {
                    return;
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outband::mem1::{Key, Receiver};

    const KEY: &str = "a1b2c3d4:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    fn allowed() -> Datagrams {
        Datagrams::new(Places::new(vec!["127.0.0.0/8".parse().unwrap()]))
    }

    fn datagram(to: SocketAddr, key: Option<Key>) -> Datagram {
        let octets = match &key {
            Some(_) => sealed(),
            None => b"hello".to_vec(),
        };
        Datagram { to: to.to_string(), octets, acknowledged_by: key }
    }

    fn sealed() -> Vec<u8> {
        use crate::outband::{
            channel::{Channel as _, Delivery, Given},
            channels::udp::Udp,
            notice::{Counts, Notice},
        };
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let notice = Notice {
            account: "joe@example.org".into(),
            seq: 1,
            at: now,
            event: crate::mailbox::event::Kind::MessageNew,
            mailbox: (*b"INBOX").into(),
            uidvalidity: None,
            counts: Counts::default(),
            message: None,
            urgent: false,
            code: None,
        };
        let address = format!("127.0.0.1:9|{KEY}");
        match Udp.write(&notice, &address, &Given { now, chance: [7; 64] }) {
            Ok(Delivery::Datagram(datagram)) => datagram.octets,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn without_a_key_it_is_sent_once() {
        let device = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let datagram = datagram(device.local_addr().unwrap(), None);
        assert_eq!(allowed().carry(&datagram).await, Answer::Sent);
        let mut heard = [0; 16];
        assert_eq!(device.recv(&mut heard).await.unwrap(), 5);
    }

    #[tokio::test]
    async fn behind_those_under_way_the_next_waits_for_its_turn() {
        let device = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = device.local_addr().unwrap();
        let keyed = datagram(to, Some(KEY.parse().unwrap()));
        let carrier = Datagrams { at_once: Semaphore::new(1), pauses: [Duration::ZERO; 3], ..allowed() };
        let under_way = carrier.at_once.acquire().await.unwrap();
        assert_eq!(carrier.carry(&datagram(to, None)).await, Answer::Sent, "nobody answers, and so nothing waits");
        device.recv(&mut [0; 16]).await.unwrap();
        let mut next = std::pin::pin!(carrier.carry(&keyed));
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(next.as_mut().poll(cx))).await;
        assert!(polled.is_pending() && device.try_recv(&mut [0; 16]).is_err());
        drop(under_way);
        assert_eq!(next.await, Answer::Silence);
        assert!(device.try_recv(&mut [0; LONGEST]).is_ok());
    }

    #[tokio::test]
    async fn a_place_inside_is_not_spoken_to() {
        let carrier = Datagrams::new(Places::default());
        let to = |to: &str| Datagram { to: to.to_owned(), octets: b"x".to_vec(), acknowledged_by: None };
        assert_eq!(carrier.carry(&to("127.0.0.1:9")).await, Answer::Forbidden);
        assert_eq!(carrier.carry(&to("nowhere")).await, Answer::Unreachable);
    }

    #[tokio::test]
    async fn a_device_that_answers_under_its_key_has_it_and_others_do_not() {
        let device = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let datagram = datagram(device.local_addr().unwrap(), Some(KEY.parse().unwrap()));
        let answers = async {
            let mut receiver = Receiver::new(vec![KEY.parse().unwrap()]);
            let mut heard = [0; LONGEST];
            // The first is lost on its way, and somebody else answers.
            let (_, from) = device.recv_from(&mut heard).await.unwrap();
            device.send_to(b"MEM1 something else", from).await.unwrap();
            let (len, from) = device.recv_from(&mut heard).await.unwrap();
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
            let answer = receiver.hear(&heard[..len], now).unwrap().answer;
            device.send_to(&answer, from).await.unwrap();
        };
        let carrier = allowed();
        let (answer, ()) = tokio::join!(carrier.carry(&datagram), answers);
        assert_eq!(answer, Answer::Acknowledged);
    }

    #[tokio::test]
    async fn a_device_that_says_nothing_is_told_three_times() {
        let device = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let datagram = datagram(device.local_addr().unwrap(), Some(KEY.parse().unwrap()));
        let carrier = Datagrams { pauses: [Duration::from_millis(5); 3], ..allowed() };
        assert_eq!(carrier.carry(&datagram).await, Answer::Silence);
        device.set_nonblocking(true).unwrap();
        let mut heard = [0; LONGEST];
        let count = std::iter::from_fn(|| device.recv(&mut heard).ok()).count();
        assert_eq!(count, 3);
    }
}
