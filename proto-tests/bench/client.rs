//! The client of the bench: speaks IMAP in plain or over TLS 1.3, and compares every octet of every message it is sent.
//!
//! One cipher suite, one key exchange and no resumption, so that every party does the same work in a handshake.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        client::Resumption,
        crypto::{
            CryptoProvider,
            aws_lc_rs::{cipher_suite::TLS13_AES_128_GCM_SHA256, default_provider, kx_group::X25519},
        },
        pki_types::{CertificateDer, ServerName, pem::PemObject},
        version::TLS13,
    },
};

use crate::pattern;

/// Octets asked of the socket at once.
const READ_SIZE: usize = 64 << 10;
/// An APPEND leaves in pieces of this size.
const WRITE_SIZE: u64 = 256 << 10;
/// A response line longer than this, literals aside, is a fault.
const LINE_LIMIT: u64 = 64 << 10;

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Where to connect, and how.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

impl Target {
    /// Plain, or TLS where a certificate to trust is given.
    pub fn new(address: SocketAddr, trusted: Option<&Path>) -> io::Result<Self> {
        let tls = trusted.map(connector).transpose().map_err(io::Error::other)?;
        Ok(Self { address, tls })
    }

    /// Connects and reads the greeting.
    pub async fn connect(&self) -> io::Result<Client> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let wire: Box<dyn Wire> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.connect(ServerName::from(self.address.ip()), stream).await?),
        };
        let mut client = Client { wire: BufReader::with_capacity(READ_SIZE, wire), line: Vec::new() };
        client.read_line().await?;
        match client.line.starts_with(b"* OK") {
            true => Ok(client),
            false => Err(client.unexpected("greeting")),
        }
    }

    /// Connects and logs in.
    pub async fn login(&self) -> io::Result<Client> {
        let mut client = self.connect().await?;
        client.command("LOGIN joe secret").await?;
        Ok(client)
    }

    /// Connects, logs in and selects.
    pub async fn select(&self, mailbox: &str) -> io::Result<Client> {
        let mut client = self.login().await?;
        client.command(&format!("SELECT {mailbox}")).await?;
        Ok(client)
    }
}

fn connector(trusted: &Path) -> Result<TlsConnector, Box<dyn std::error::Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusted)?)?;
    let provider =
        CryptoProvider { cipher_suites: vec![TLS13_AES_128_GCM_SHA256], kx_groups: vec![X25519], ..default_provider() };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What came before a tagged OK.
#[derive(Default)]
pub struct Answer {
    /// Responses.
    pub responses: u64,
    /// Octets of lines and literals, the tagged line included.
    pub octets: u64,
    /// Octets of literals.
    pub literals: u64,
}

/// One session.
pub struct Client {
    wire: BufReader<Box<dyn Wire>>,
    line: Vec<u8>,
}

impl Client {
    /// Sends a command and reads up to its OK.
    pub async fn command(&mut self, text: &str) -> io::Result<Answer> {
        self.send(text).await?;
        self.answer().await
    }

    /// Sends a command, the tag added.
    pub async fn send(&mut self, text: &str) -> io::Result<()> {
        self.write(format!("a {text}\r\n").as_bytes()).await
    }

    /// Sends octets as they are.
    pub async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.wire.write_all(octets).await?;
        self.wire.flush().await
    }

    /// Waits for the `+` of a continuation.
    pub async fn invited(&mut self) -> io::Result<()> {
        self.read_line().await?;
        match self.line.starts_with(b"+") {
            true => Ok(()),
            false => Err(self.unexpected("continuation")),
        }
    }

    /// Appends a message of `size` octets.
    pub async fn append(&mut self, mailbox: &str, size: u64, waits: bool) -> io::Result<Answer> {
        let sign = if waits { "" } else { "+" };
        self.send(&format!("APPEND {mailbox} (\\Seen) {{{size}{sign}}}")).await?;
        if waits {
            self.invited().await?;
        }
        let mut rest = size;
        while rest > WRITE_SIZE {
            let piece = pattern::at(size - rest, WRITE_SIZE);
            self.wire.write_all(piece).await?;
            rest -= piece.len() as u64;
        }
        // The end in one write: a small segment behind another would wait for Nagle's algorithm in some proxies.
        let end = [pattern::at(size - rest, rest), b"\r\n"].concat();
        self.write(&end).await?;
        self.answer().await
    }

    /// Reads up to the tagged OK, and every literal before it.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let mut answer = Answer::default();
        let mut begins = true;
        loop {
            answer.octets += self.read_line().await?;
            if self.line.starts_with(b"a ") && begins {
                let good = self.line.starts_with(b"a OK");
                return if good { Ok(answer) } else { Err(self.unexpected("tagged response")) };
            }
            answer.responses += u64::from(begins);
            let literal = pattern::literal(self.line.strip_suffix(b"\r\n").unwrap_or(&self.line));
            begins = literal.is_none();
            if let Some((len, _)) = literal {
                self.read_message(len).await?;
                answer.literals += len;
                answer.octets += len;
            }
        }
    }

    /// Waits until the other end has closed.
    pub async fn closed(mut self) -> io::Result<()> {
        match self.wire.read(&mut [0]).await {
            Ok(0) => Ok(()),
            // Several TLS stacks leave without a close_notify behind a BYE.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::other("octets behind the last response")),
        }
    }

    async fn read_line(&mut self) -> io::Result<u64> {
        self.line.clear();
        let read = read_line(&mut self.wire, &mut self.line).await?;
        match self.line.ends_with(b"\r\n") {
            true => Ok(read as u64),
            false => Err(self.unexpected("line")),
        }
    }

    async fn read_message(&mut self, len: u64) -> io::Result<()> {
        let mut offset = 0;
        while offset < len {
            let piece = self.wire.fill_buf().await?;
            let piece = &piece[..piece.len().min((len - offset) as usize)];
            if piece.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if !pattern::matches(offset, piece) {
                return Err(io::Error::other(format!("wrong octets behind octet {offset} of a message")));
            }
            let read = piece.len();
            offset += read as u64;
            self.wire.consume(read);
        }
        Ok(())
    }

    fn unexpected(&self, wanted: &str) -> io::Error {
        io::Error::other(format!("expected a {wanted}, got {:?}", String::from_utf8_lossy(&self.line)))
    }
}

async fn read_line(wire: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<usize> {
    wire.take(LINE_LIMIT).read_until(b'\n', line).await
}
