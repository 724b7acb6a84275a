//! Listening sockets: our own, and those that systemd opened for us (`sd_listen_fds(3)`).

use std::{
    io,
    net::{SocketAddr, TcpListener as Socket},
};

use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpSocket};

use super::transport::Tcp;

/// Sockets that were open when we were started, until somebody takes them.
#[derive(Debug, Default)]
pub struct Passed(Vec<(SocketAddr, Socket)>);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

impl Passed {
    /// What systemd passed; to be called once.
    pub fn from_env() -> Self {
        let mut passed = ListenFd::from_env();
        let sockets = (0..passed.len()).filter_map(|index| passed.take_tcp_listener(index).ok().flatten());
        Self(sockets.filter_map(|socket| Some((socket.local_addr().ok()?, socket))).collect())
    }

    /// A listening socket for this address: the one passed, or a new one. Needs a runtime.
    pub fn listen(&mut self, address: SocketAddr, tcp: &Tcp) -> Result<TcpListener, BindError> {
        let listener = match self.0.iter().position(|(passed, _)| *passed == address) {
            Some(index) => adopt(self.0.swap_remove(index).1),
            None => open(address),
        };
        let set = |listener: TcpListener| tcp.apply(&listener).map(|()| listener);
        listener.and_then(set).map_err(|source| BindError { address, source })
    }

    /// The addresses of sockets that nobody has taken.
    pub fn left_over(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|(address, _)| *address)
    }
}

/// Connections that the kernel completes before we accept them: after a restart all clients come back at once.
const BACKLOG: u32 = 4096;

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of the process before us may linger on this port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn adopt(socket: Socket) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;
    use tokio::net::TcpStream;

    use super::*;
    use crate::units::Span;

    #[tokio::test]
    async fn a_passed_socket_is_taken_by_its_address_and_once() {
        let socket = Socket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut passed = Passed(vec![(address, socket)]);
        let listener = passed.listen(address, &Tcp::default()).unwrap();
        assert_eq!(passed.left_over().count(), 0);
        assert!(TcpStream::connect(address).await.is_ok());
        let error = passed.listen(address, &Tcp::default()).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
        drop(listener);
    }

    #[tokio::test]
    async fn what_is_accepted_has_the_options_of_the_listener() {
        let tcp = Tcp { keepalive: Span::minutes(7), user_timeout: Span::minutes(3) };
        let listener = Passed::default().listen("127.0.0.1:0".parse().unwrap(), &tcp).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), tcp.keepalive.0);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(tcp.user_timeout.0));
    }
}
