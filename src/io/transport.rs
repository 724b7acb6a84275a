//! One octet stream to a peer: TCP, TLS over it, DEFLATE over either. It can be upgraded in mid-stream (STARTTLS, COMPRESS).
//!
//! It holds no buffer of its own; what TLS must hold, rustls holds, and what DEFLATE must, `deflate.rs`. The caller polls, so a read or a write never blocks
//! anything else (architecture 4.12), and what it reads into may be shared by all sessions of a thread (13.2).
//!
//! The ends of a stream are told apart: [`Transport::poll_shutdown`] says `close_notify`, dropping a transport does not, so
//! that over TLS half a response never passes for a whole one (architecture 4.10).

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::deflate::Deflated;
use crate::units::Span;

/// A connection to a peer.
#[derive(Debug)]
pub enum Transport {
    /// In clear.
    Tcp(TcpStream),
    /// TLS, and we are the server.
    Server(Box<server::TlsStream<TcpStream>>),
    /// TLS, and we are the client.
    Client(Box<client::TlsStream<TcpStream>>),
    /// DEFLATE over one of these.
    Deflated(Box<Deflated>),
}

/// `[tcp]`: how soon the kernel finds out that a peer is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tcp {
    /// Silence after which the kernel asks whether the peer is still there. Nine minutes come before the ten after which
    /// many firewalls forget a connection, and wake a phone's radio seldom enough.
    pub keepalive: Span,
    /// How long sent octets, or that question, may stay unacknowledged before the connection is given up.
    pub user_timeout: Span,
}

impl Default for Tcp {
    fn default() -> Self {
        Self { keepalive: Span::minutes(9), user_timeout: Span::minutes(2) }
    }
}

impl Tcp {
    /// Sets the options of a socket. Linux hands those of a listening socket down to what it accepts.
    ///
    /// Small writes go out at once, because a command that waits for the acknowledgement of the one before waits 40 ms.
    pub fn apply<'a>(&self, socket: impl Into<SockRef<'a>>) -> io::Result<()> {
        let socket = socket.into();
        // With a user timeout the kernel gives up at the second question, so the second one comes that much later.
        let keepalive = TcpKeepalive::new().with_time(self.keepalive.0).with_interval(self.user_timeout.0);
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(Some(self.user_timeout.0))
    }
}

/// The same call on whichever stream it is.
macro_rules! each {
    ($transport:expr, $stream:ident => $call:expr) => {
        match $transport {
            Transport::Tcp($stream) => $call,
            Transport::Server($stream) => $call,
            Transport::Client($stream) => $call,
            Transport::Deflated($stream) => $call,
        }
    };
}

impl Transport {
    /// Reads what is there, at most as much as fits; 0 is the end of the stream.
    pub fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut into = ReadBuf::new(into);
        ready!(each!(self, stream => Pin::new(stream).poll_read(cx, &mut into)))?;
        Poll::Ready(Ok(into.filled().len()))
    }

    /// Writes what the peer's window takes. Where it [`Self::buffers`], some of it may wait until [`Self::poll_flush`].
    pub fn poll_write(&mut self, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, octets))
    }

    /// The same from several places in one system call.
    pub fn poll_write_vectored(&mut self, cx: &mut Context<'_>, octets: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, octets))
    }

    /// Sends what TLS and DEFLATE still hold; nothing to do in clear.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    /// Ends our direction at a response boundary: over TLS with `close_notify`, under DEFLATE with a final block.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    /// The connection is given up when what is written stays unacknowledged for so long, if it was not to be given up sooner. How long it
    /// may be now.
    ///
    /// The kernel measures it from the first octet that the peer has not acknowledged, or that its window does not take, and ends the
    /// connection with `ETIMEDOUT`, or with what routers say of the peer.
    pub fn give_up_after(&self, limit: Duration) -> io::Result<Duration> {
        let socket = SockRef::from(self.socket());
        // None at all would be the system's own.
        let limit = limit.max(Duration::from_millis(1));
        let timeout = socket.tcp_user_timeout()?.map_or(limit, |timeout| timeout.min(limit));
        socket.set_tcp_user_timeout(Some(timeout)).map(|()| timeout)
    }

    /// What is written from now on goes out together with the end of the stream, in as few segments as can be.
    pub fn cork(&self) {
        // Where it cannot be done, one more segment goes out.
        let _ = SockRef::from(self.socket()).set_tcp_cork(true);
    }

    /// Closes in good order: what is unsent goes out, then `close_notify`, then we wait for the peer to close too.
    ///
    /// Closing a socket with unread octets in it makes the kernel reset the connection, and the peer may never read our
    /// last words; so what still comes is read and dropped, for as long as `patience` lasts.
    pub async fn close(mut self, patience: Duration) {
        let end = async {
            poll_fn(|cx| self.poll_shutdown(cx)).await?;
            poll_fn(|cx| {
                let mut dropped = [0; 1024];
                while ready!(self.poll_read(cx, &mut dropped))? > 0 {}
                Poll::Ready(io::Result::Ok(()))
            })
            .await
        };
        // Whatever goes wrong here ends in the same way: the socket is closed.
        let _ = tokio::time::timeout(patience, end).await;
    }

    /// Closes at once, inside a response: over TLS without `close_notify`, under DEFLATE without a final block.
    pub fn abort(self) {
        drop(self);
    }

    /// Whether TLS runs.
    pub const fn is_tls(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Server(_) | Self::Client(_) => true,
            Self::Deflated(stream) => stream.below().is_tls(),
        }
    }

    /// Whether what is written may wait for a flush.
    pub const fn buffers(&self) -> bool {
        !matches!(self, Self::Tcp(_))
    }

    /// The version of TLS and the cipher suite, if TLS runs.
    pub fn tls_version(&self) -> Option<String> {
        let session: &rustls::CommonState = match self {
            Self::Tcp(_) => return None,
            Self::Server(stream) => stream.get_ref().1,
            Self::Client(stream) => stream.get_ref().1,
            Self::Deflated(stream) => return stream.below().tls_version(),
        };
        Some(format!("{:?} {:?}", session.protocol_version()?, session.negotiated_cipher_suite()?.suite()))
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Server(stream) => stream.get_ref().0,
            Self::Client(stream) => stream.get_ref().0,
            Self::Deflated(stream) => stream.below().socket(),
        }
    }

    /// The address of the other end of the socket.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket().peer_addr()
    }

    /// Begins TLS with a client. The handshake is over by the deadline, or failed.
    pub async fn accept_tls(self, config: Arc<ServerConfig>, deadline: Instant) -> io::Result<Self> {
        let stream = TlsAcceptor::from(config).accept(self.in_clear()?);
        Ok(Self::Server(Box::new(in_time(deadline, stream).await?)))
    }

    /// Begins TLS with a backend, which must prove that it is `name`.
    pub async fn connect_tls(
        self,
        name: ServerName<'static>,
        config: Arc<ClientConfig>,
        deadline: Instant,
    ) -> io::Result<Self> {
        let stream = TlsConnector::from(config).connect(name, self.in_clear()?);
        Ok(Self::Client(Box::new(in_time(deadline, stream).await?)))
    }

    fn in_clear(self) -> io::Result<TcpStream> {
        match self {
            Self::Tcp(stream) => Ok(stream),
            _ => Err(io::Error::other("TLS runs already")),
        }
    }

    /// Begins DEFLATE: the peer is told `unsent` as it is, and everything behind it compressed.
    pub fn deflate(self, unsent: Vec<u8>) -> Self {
        Self::Deflated(Box::new(Deflated::new(self, unsent)))
    }

    /// Octets that were read before DEFLATE began, and are part of it.
    pub fn put_back(&mut self, heard: &[u8]) {
        if let Self::Deflated(stream) = self {
            stream.put_back(heard);
        }
    }

    /// For a while there may be nothing to say: what only serves to say it well is given back.
    pub fn rest(&mut self) {
        if let Self::Deflated(stream) = self {
            stream.rest();
        }
    }
}

async fn in_time<T>(deadline: Instant, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout_at(deadline, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

impl From<TcpStream> for Transport {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::io::tls::{self, Tls};

    /// A client and a server that speak TLS with each other.
    async fn pair() -> (Transport, Transport) {
        let state = tempfile::tempdir().unwrap();
        let config = Tls::default().load(state.path()).unwrap().config;
        let believer = tls::believe(Some(&state.path().join("tls/self-signed.pem"))).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Transport::from(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let server = Transport::from(listener.accept().await.unwrap().0);
        let deadline = Instant::now() + Duration::from_secs(30);
        let name = ServerName::try_from("localhost").unwrap();
        let (client, server) =
            tokio::join!(client.connect_tls(name, believer, deadline), server.accept_tls(config, deadline));
        (client.unwrap(), server.unwrap())
    }

    async fn say(transport: &mut Transport, octets: &[u8]) {
        assert_eq!(poll_fn(|cx| transport.poll_write(cx, octets)).await.unwrap(), octets.len());
        poll_fn(|cx| transport.poll_flush(cx)).await.unwrap();
    }

    async fn hear(transport: &mut Transport) -> io::Result<Vec<u8>> {
        let mut octets = [0; 64];
        let len = poll_fn(|cx| transport.poll_read(cx, &mut octets)).await?;
        Ok(octets[..len].to_vec())
    }

    #[tokio::test]
    async fn a_stream_that_is_cut_is_told_from_one_that_ends() {
        let (mut client, mut server) = pair().await;
        say(&mut server, b"* BYE\r\n").await;
        let ended = tokio::spawn(server.close(Duration::from_secs(30)));
        assert_eq!(hear(&mut client).await.unwrap(), b"* BYE\r\n");
        assert_eq!(hear(&mut client).await.unwrap(), b"");
        drop(client);
        ended.await.unwrap();

        let (mut client, mut server) = pair().await;
        say(&mut server, b"* 1 FETCH (BODY[] {100}\r\nFrom:").await;
        server.abort();
        assert!(hear(&mut client).await.is_ok());
        assert_eq!(hear(&mut client).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_peer_whose_window_takes_nothing_any_more_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _reads_nothing = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut server = Transport::from(listener.accept().await.unwrap().0);
        let [short, long] = [Duration::from_millis(50), Duration::from_secs(60)];
        assert_eq!(server.give_up_after(short).unwrap(), short);
        assert_eq!(server.give_up_after(long).unwrap(), short, "never later");
        assert!(server.give_up_after(Duration::ZERO).unwrap() > Duration::ZERO, "that would be never");
        let octets = vec![b'x'; 64 << 10];
        poll_fn(|cx| {
            while server.poll_write(cx, &octets).is_ready() {}
            Poll::Ready(())
        })
        .await;
        let heard = tokio::time::timeout(Duration::from_secs(30), hear(&mut server)).await;
        assert_eq!(heard.expect("it is given up").unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn tls_does_not_begin_twice() {
        let (client, _server) = pair().await;
        let name = ServerName::try_from("localhost").unwrap();
        let state = tempfile::tempdir().unwrap();
        Tls::default().load(state.path()).unwrap();
        let believer = tls::believe(Some(&state.path().join("tls/self-signed.pem"))).unwrap();
        assert!(client.connect_tls(name, believer, Instant::now()).await.is_err());
    }
}
