//! Listeners: where clients come in, and what happens to them before a session begins.
//!
//!     accept -> PROXY header (from configured networks) -> admission -> TLS (on an implicit listener) -> session
//!
//! Nothing here can stop the listener: without file descriptors it pauses, and a client that is slow or wrong has a task of
//! its own and a deadline.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    time::Instant,
};

use super::{
    admission::{Admitted, Refusal},
    dialer::Dialer,
    metrics::{Outcome, Peer, Refused},
    network::Network,
    probe::Probe,
    proxy_header::{self, Ends},
    registry::Seat,
    session_task,
    shell::Shell,
    transport::Transport,
};
use crate::{
    config::Config,
    ext,
    imap::{capability::Capabilities, sasl::Mechanism},
    session::{
        front::Front,
        plan::{NonSync, Offer, Plan, Plans},
    },
};

/// One of `[[listeners]]`: an address where clients come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// Where to listen.
    pub address: SocketAddr,
    /// When TLS begins: at once, by STARTTLS, or never.
    pub tls: Security,
    /// Whether passwords may be sent without TLS. Default: only if the address is loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plaintext_login: Option<bool>,
    /// Networks of load balancers: their connections begin with a PROXY header that names the client, and only theirs.
    pub proxy_protocol_from: Vec<Network>,
    /// The backends that users of this listener may be routed to. Default: all.
    pub backends: Vec<String>,
    /// Which of the two literal extensions is offered (RFC 7888: never both).
    pub literal: NonSync,
    /// Whether COMPRESS=DEFLATE is offered (RFC 4978). A session that uses it holds up to 360 KiB more, in IDLE 45: the windows
    /// of DEFLATE, and what finds repetitions in them.
    pub compress: bool,
}

/// When TLS begins on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// When the client asks for it (RFC 3501 6.2.1).
    Starttls,
    /// With the first octet (RFC 8314 3.2).
    Implicit,
    /// Never; something in front of us does it.
    None,
}

impl Listener {
    /// A listener on this address, all else being default.
    pub fn at(address: SocketAddr, tls: Security) -> Self {
        Self {
            address,
            tls,
            plaintext_login: None,
            proxy_protocol_from: Vec::new(),
            backends: Vec::new(),
            literal: NonSync::Plus,
            compress: false,
        }
    }

    /// Whether a password may be sent without TLS here.
    pub fn allows_plaintext_login(&self) -> bool {
        self.plaintext_login.unwrap_or(self.address.ip().to_canonical().is_loopback())
    }
}

impl Default for Listener {
    fn default() -> Self {
        Self::at(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1143), Security::Starttls)
    }
}

/// A listener at work. A reload puts another one in its place; sessions keep the one they began with.
#[derive(Debug)]
pub struct Listening {
    /// Its address, as it stands in lists.
    pub name: Arc<str>,
    /// What the operator says of it.
    pub settings: Listener,
    /// The backends that its users may be routed to.
    pub dialers: Vec<Arc<Dialer>>,
    /// What its sessions know beforehand; another one when a backend says something else than before.
    pub front: ArcSwap<Front>,
}

/// A client that was let in. Dropping it makes room for another one.
pub struct Client {
    /// Where it comes from, and where it came to: its own word for it, if it came through a load balancer of ours.
    pub ends: Ends,
    /// Its place in the registry.
    pub seat: Seat,
    _admitted: Admitted,
}

impl Listening {
    /// A listener with those of the backends that are its own.
    pub fn new<'a>(settings: &Listener, dialers: impl Iterator<Item = &'a Arc<Dialer>>, config: &Config) -> Self {
        let ours = |name: &str| settings.backends.is_empty() || settings.backends.iter().any(|ours| ours == name);
        let dialers: Vec<_> = dialers.filter(|dialer| ours(&dialer.name)).cloned().collect();
        let front = ArcSwap::from_pointee(front(settings, &dialers, config));
        Self { name: settings.address.to_string().into(), settings: settings.clone(), dialers, front }
    }

    /// Looks again at what the backends say.
    pub fn refresh(&self, config: &Config) {
        let new = front(&self.settings, &self.dialers, config);
        let old = self.front.load();
        if (&old.mechanisms, &old.shared) != (&new.mechanisms, &new.shared) {
            self.front.store(Arc::new(new));
        }
    }
}

fn front(settings: &Listener, dialers: &[Arc<Dialer>], config: &Config) -> Front {
    let offer = config.offer(settings);
    Front {
        limits: config.limits.clone(),
        timeouts: config.timeouts.clone(),
        starttls: settings.tls == Security::Starttls,
        plaintext_login: settings.allows_plaintext_login(),
        mechanisms: mechanisms(dialers),
        shared: shared(dialers, &offer),
        offer,
        extensions: &ext::ALL,
        time_of_day: super::keeper::now,
        plans: Plans::default(),
        told: Default::default(),
    }
}

/// What sessions are told at all of them, as far as the backends say it before login already.
fn shared(dialers: &[Arc<Dialer>], offer: &Offer) -> Capabilities {
    let told = |dialer: &Arc<Dialer>| {
        let probe = dialer.condition.load().probe.clone();
        let profile = |probe: &Probe| dialer.settings.named_profile().unwrap_or_else(|| probe.profile());
        let plan = |probe: Probe| Plan::new(&ext::ALL, profile(&probe), probe.capabilities, offer, false);
        probe.map(|probe| plan(probe).told).unwrap_or_default()
    };
    let told: Vec<_> = dialers.iter().map(told).collect();
    let everywhere = |word: &&str| told.iter().all(|told| told.has(word));
    told.first().map(|first| first.iter().filter(everywhere).collect()).unwrap_or_default()
}

/// The mechanisms that all of them share.
///
/// In CRAM-MD5 the backend speaks first, before we know the user: it must be the only one.
fn mechanisms(dialers: &[Arc<Dialer>]) -> Vec<Mechanism> {
    let shared = |mechanism: &Mechanism| dialers.iter().all(|dialer| offers(dialer, *mechanism));
    let possible = |mechanism: &Mechanism| *mechanism != Mechanism::CramMd5 || dialers.len() == 1;
    Mechanism::ALL.into_iter().map(|(_, mechanism)| mechanism).filter(possible).filter(shared).collect()
}

/// A backend that nobody has asked yet is taken to know what nearly all know.
fn offers(dialer: &Dialer, mechanism: Mechanism) -> bool {
    match &dialer.condition.load().probe {
        Some(probe) => probe.capabilities.values("AUTH=").any(|name| Mechanism::find(name) == Some(mechanism)),
        None => mechanism.is_read(),
    }
}

/// How long to wait for a file descriptor.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections for as long as it is let.
pub async fn accept(shell: Arc<Shell>, listening: Arc<ArcSwap<Listening>>, listener: Arc<TcpListener>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(serve(shell.clone(), listening.load_full(), stream, peer, Instant::now()));
            }
            Err(error) if is_exhaustion(&error) => {
                tracing::error!(error = %error, "no connection can be accepted for now");
                tokio::time::sleep(PAUSE).await;
            }
            // The client has gone away between its SYN and now.
            Err(error) => tracing::debug!(error = %error, "accept failed"),
        }
    }
}

/// Whether the process or the system has run out of something (EMFILE, ENFILE, ENOBUFS, ENOMEM).
fn is_exhaustion(error: &io::Error) -> bool {
    const EXHAUSTED: [i32; 4] = [24, 23, 105, 12];
    error.raw_os_error().is_some_and(|code| EXHAUSTED.contains(&code))
}

async fn serve(shell: Arc<Shell>, listening: Arc<Listening>, stream: TcpStream, peer: SocketAddr, accepted: Instant) {
    match receive(&shell, &listening, stream, peer, accepted).await {
        Ok((client, transport)) => session_task::run(shell, listening, client, transport).await,
        Err((reason, error)) => {
            shell.meters.refused[reason].increment(1);
            tracing::debug!(peer = %peer, error = %error, "connection refused");
        }
    }
}

/// All that comes before a session. The deadline counts from accept.
async fn receive(
    shell: &Arc<Shell>,
    listening: &Listening,
    mut stream: TcpStream,
    peer: SocketAddr,
    accepted: Instant,
) -> Result<(Client, Transport), (Refused, Box<dyn std::error::Error + Send + Sync>)> {
    let deadline = accepted + listening.front.load().timeouts.handshake.0;
    let ends = ends(listening, &mut stream, peer, deadline).await.map_err(|error| (Refused::ProxyHeader, error))?;
    let admitted = match shell.door.admit(ends.client.ip()) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            say_goodbye(listening, &stream);
            return Err((reason(refusal), refusal.into()));
        }
    };
    let seat = shell.registry.enter(ends.client, listening.name.clone());
    let mut transport = Transport::from(stream);
    if listening.settings.tls == Security::Implicit {
        // A handshake needs much room, and a session at rest shall not keep it.
        let begun = Box::pin(shell.begin_tls(transport, deadline)).await;
        transport = begun.map_err(|error| (Refused::Handshake, error.into()))?;
    }
    shell.meters.connections.increment(1);
    Ok((Client { ends, seat, _admitted: admitted }, transport))
}

/// Where the client comes from: what the socket says, or the load balancer.
async fn ends(
    listening: &Listening,
    stream: &mut TcpStream,
    peer: SocketAddr,
    deadline: Instant,
) -> Result<Ends, Box<dyn std::error::Error + Send + Sync>> {
    let ends = Ends { client: peer, connected: stream.local_addr()? };
    if !listening.settings.proxy_protocol_from.iter().any(|network| network.contains(peer.ip())) {
        return Ok(ends);
    }
    let said = Box::pin(tokio::time::timeout_at(deadline, proxy_header::read(stream))).await??;
    Ok(said.unwrap_or(ends))
}

/// A mail program shows this to its user; over TLS it would cost the handshake that we do not want to give.
fn say_goodbye(listening: &Listening, stream: &TcpStream) {
    if listening.settings.tls != Security::Implicit {
        let _ = stream.try_write(b"* BYE [UNAVAILABLE] Too many connections\r\n");
    }
}

fn reason(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::Total => Refused::Total,
        Refusal::Address => Refused::Address,
        Refusal::Network => Refused::Network,
    }
}

impl Shell {
    /// Begins TLS with a client, on an implicit listener or after STARTTLS. Only so many at a time: each costs a signature.
    pub fn begin_tls(
        self: &Arc<Self>,
        transport: Transport,
        deadline: Instant,
    ) -> impl Future<Output = io::Result<Transport>> + Send + use<> {
        let shell = self.clone();
        async move {
            let config = shell.setup.load().tls.clone().ok_or_else(|| io::Error::other("no certificate is loaded"))?;
            let turn = tokio::time::timeout_at(deadline, shell.handshakes.acquire());
            let _turn = turn.await.map_err(|_| io::ErrorKind::TimedOut)?.map_err(io::Error::other)?;
            let result = transport.accept_tls(config, deadline).await;
            shell.meters.handshakes[(Peer::Client, Outcome::of(&result))].increment(1);
            result
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        task::{Poll, ready},
    };

    use rustls::{ClientConfig, RootCertStore};
    use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};

    use super::*;
    use crate::{
        imap::capability::Capabilities,
        io::{
            backends::Backend,
            peer::{Peer, Read},
            probe::{Condition, Probe},
            shell::tests::shell,
            tls::{self, Certificate},
        },
        units::Span,
    };

    /// A client and our end of its connection.
    async fn connection() -> (TcpStream, TcpStream, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, peer) = listener.accept().await.unwrap();
        (client, ours, peer)
    }

    /// What becomes of a client that says this first.
    async fn receive_one(shell: &Arc<Shell>, says: &[u8]) -> (TcpStream, Result<(Client, Transport), Refused>) {
        let (mut client, ours, peer) = connection().await;
        client.write_all(says).await.unwrap();
        let listening = shell.setup.load().listenings[0].clone();
        let received = receive(shell, &listening, ours, peer, Instant::now()).await;
        (client, received.map_err(|(reason, _)| reason))
    }

    #[tokio::test]
    async fn a_header_is_believed_from_configured_networks() {
        let (_state, shell) = shell(|config| {
            config.listeners[0].proxy_protocol_from = vec!["127.0.0.0/8".parse().unwrap()];
        });
        let (_client, received) = receive_one(&shell, b"PROXY TCP4 192.0.2.7 203.0.113.1 40123 993\r\n").await;
        let (client, _) = received.unwrap();
        assert_eq!(client.ends.client, "192.0.2.7:40123".parse().unwrap());
        assert_eq!(client.ends.connected, "203.0.113.1:993".parse().unwrap());
        let (_client, received) = receive_one(&shell, b"a CAPABILITY\r\na NOOP\r\n").await;
        assert_eq!(received.err(), Some(Refused::ProxyHeader));
    }

    #[tokio::test]
    async fn a_header_from_elsewhere_is_what_the_client_says() {
        let (_state, shell) = shell(|_| ());
        let header = b"PROXY TCP4 192.0.2.7 203.0.113.1 40123 993\r\n";
        let (said, received) = receive_one(&shell, header).await;
        let (client, transport) = received.unwrap();
        assert_eq!(client.ends.client, said.local_addr().unwrap());
        let Transport::Tcp(mut stream) = transport else { panic!("no TLS was asked for") };
        let mut heard = vec![0; header.len()];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, header);
    }

    #[tokio::test]
    async fn a_balancer_that_says_nothing_is_not_waited_for() {
        let (_state, shell) = shell(|config| {
            config.listeners[0].proxy_protocol_from = vec!["127.0.0.0/8".parse().unwrap()];
            config.timeouts.handshake = Span(Duration::ZERO);
        });
        assert_eq!(receive_one(&shell, b"PROXY").await.1.err(), Some(Refused::ProxyHeader));
    }

    #[tokio::test]
    async fn one_too_many_hears_why_and_is_let_in_when_there_is_room() {
        let (_state, shell) = shell(|config| config.admission.connections_per_address = 1);
        let (_client, first) = receive_one(&shell, b"").await;
        let first = first.unwrap();
        let (mut client, second) = receive_one(&shell, b"").await;
        assert_eq!(second.err(), Some(Refused::Address));
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "* BYE [UNAVAILABLE] Too many connections\r\n");
        drop(first);
        assert!(receive_one(&shell, b"").await.1.is_ok());
        assert_eq!(shell.registry.len(), 0);
    }

    #[tokio::test]
    async fn what_is_no_handshake_is_refused_and_leaves_nothing_behind() {
        let (_state, shell) = shell(|config| config.listeners[0].tls = Security::Implicit);
        let (_client, received) = receive_one(&shell, b"a LOGIN joe secret\r\n").await;
        assert_eq!(received.err(), Some(Refused::Handshake));
        assert_eq!(shell.registry.len(), 0);
    }

    /// A certificate for this name, and its files.
    fn certificate(directory: &std::path::Path, name: &str) -> (Certificate, CertificateDer<'static>) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let file = |end| directory.join(format!("{name}.{end}"));
        let pair = Certificate { chain: file("pem"), key: file("key") };
        std::fs::write(&pair.chain, made.cert.pem()).unwrap();
        std::fs::write(&pair.key, made.signing_key.serialize_pem()).unwrap();
        (pair.clone(), CertificateDer::from_pem_file(&pair.chain).unwrap())
    }

    /// A client that believes these.
    fn believer(authorities: impl IntoIterator<Item = CertificateDer<'static>>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let believer = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(believer)
    }

    #[tokio::test]
    async fn a_client_sees_the_certificate_of_the_name_it_asks_for() {
        let directory = tempfile::tempdir().unwrap();
        let (first, a) = certificate(directory.path(), "a.example");
        let (second, b) = certificate(directory.path(), "b.example");
        let (_state, shell) = shell(|config| {
            config.listeners[0].tls = Security::Implicit;
            config.tls.certificates = vec![first, second];
        });
        let believer = believer([a.clone(), b.clone()]);
        for (name, expected) in [("a.example", &a), ("b.example", &b)] {
            let (client, ours, peer) = connection().await;
            let listening = shell.setup.load().listenings[0].clone();
            let name = ServerName::try_from(name).unwrap();
            let connector = tokio_rustls::TlsConnector::from(believer.clone());
            let received = receive(&shell, &listening, ours, peer, Instant::now());
            let (client, received) = tokio::join!(connector.connect(name, client), received);
            assert_eq!(client.unwrap().get_ref().1.peer_certificates().unwrap()[0], *expected);
            assert!(received.unwrap().1.is_tls());
        }
    }

    /// A backend for one session: it says OK to everything, takes what is stored and has a message of this content.
    async fn backend(message: Vec<u8>) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("imap://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let mut stream = BufStream::new(listener.accept().await.unwrap().0);
            stream.write_all(b"* OK [CAPABILITY IMAP4rev1 LITERAL+] ready\r\n").await.unwrap();
            let mut line = String::new();
            loop {
                stream.flush().await.unwrap();
                line.clear();
                if stream.read_line(&mut line).await.unwrap() == 0 {
                    return;
                }
                let tag = line.split(' ').next().unwrap();
                if let Some((_, len)) = line.trim_end().split_once('{') {
                    let mut stored = vec![0; len.trim_end_matches("+}").parse::<usize>().unwrap() + 2];
                    stream.read_exact(&mut stored).await.unwrap();
                    assert!(stored[..stored.len() - 2] == message);
                } else if line.contains("FETCH") {
                    stream.write_all(format!("* 1 FETCH (BODY[] {{{}}}\r\n", message.len()).as_bytes()).await.unwrap();
                    stream.write_all(&message).await.unwrap();
                    stream.write_all(b")\r\n").await.unwrap();
                }
                stream
                    .write_all(format!("{tag} OK [CAPABILITY IMAP4rev1 LITERAL+] done\r\n").as_bytes())
                    .await
                    .unwrap();
            }
        });
        Backend { urls: vec![url.parse().unwrap()], ..Backend::default() }
    }

    /// A listener of this kind that offers COMPRESS, and a client that has come in and asked for it, and said this behind it.
    async fn compressed(tls: Security, message: &[u8], early: &[u8]) -> (tempfile::TempDir, Arc<Shell>, Transport) {
        let main = backend(message.to_vec()).await;
        let (state, shell) = shell(|config| {
            (config.listeners[0].tls, config.listeners[0].compress) = (tls, true);
            config.backends = [("main".to_owned(), main)].into();
        });
        let (client, ours, peer) = connection().await;
        let listening = shell.setup.load().listenings[0].clone();
        tokio::spawn(serve(shell.clone(), listening, ours, peer, Instant::now()));
        let mut client = Transport::from(client);
        if tls == Security::Implicit {
            let believer = tls::believe(Some(&state.path().join("tls/self-signed.pem"))).unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            client = client.connect_tls(name, believer, Instant::now() + Duration::from_secs(30)).await.unwrap();
        }
        shell.traces.switch_on("joe").unwrap();
        ask(&mut client, b"a LOGIN joe secret\r\n", b"done\r\n").await;
        ask(&mut client, &[b"b COMPRESS DEFLATE\r\n", early].concat(), b"b OK DEFLATE active\r\n").await;
        (state, shell, client.deflate(Vec::new()))
    }

    /// Says this and hears what comes, up to these words and not an octet more.
    async fn ask(client: &mut Transport, says: &[u8], end: &[u8]) -> Vec<u8> {
        let (mut rest, mut heard, mut into) = (says, Vec::new(), [0]);
        poll_fn(|cx| {
            while !rest.is_empty() {
                match client.poll_write(cx, rest)? {
                    Poll::Ready(took) => rest = &rest[took..],
                    Poll::Pending => break,
                }
            }
            if rest.is_empty() {
                let _ = client.poll_flush(cx)?;
            }
            while !heard.ends_with(end) {
                let len = ready!(client.poll_read(cx, &mut into))?;
                assert!(len > 0, "the end behind {}", heard.escape_ascii());
                heard.extend_from_slice(&into[..len]);
            }
            Poll::Ready(io::Result::Ok(()))
        })
        .await
        .unwrap();
        heard
    }

    #[tokio::test]
    async fn a_client_compresses_in_clear_and_over_tls_and_large_literals_go_through() {
        let message = b"From: joe\r\n\r\nA line of a letter, \0 and all.\r\n".repeat(100_000);
        for tls in [Security::Starttls, Security::Implicit] {
            let (state, _shell, mut client) = compressed(tls, &message, b"").await;
            assert_eq!(ask(&mut client, b"c NOOP\r\n", b"done\r\n").await.get(..5), Some(&b"c OK "[..]));
            let heard = ask(&mut client, b"d FETCH 1 BODY[]\r\n", b"done\r\n").await;
            let start = heard.iter().position(|octet| *octet == b'\n').unwrap() + 1;
            assert!(heard[start..start + message.len()] == message);
            let append = [format!("e APPEND INBOX {{{}+}}\r\n", message.len()).as_bytes(), &message, b"\r\n"].concat();
            ask(&mut client, &append, b"done\r\n").await;
            ask(&mut client, b"f COMPRESS DEFLATE\r\n", b"f BAD [COMPRESSIONACTIVE] DEFLATE is active already\r\n")
                .await;
            ask(&mut client, b"g LOGOUT\r\n", b"done\r\n").await;
            // What is traced is what was meant, not what went over the wire.
            let trace = std::fs::read_dir(state.path().join("trace")).unwrap().next().unwrap().unwrap().path();
            while !std::fs::read_to_string(&trace).unwrap().contains("\nC: g LOGOUT\n") {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let trace = std::fs::read_to_string(&trace).unwrap();
            assert!(trace.contains("\nS: b OK DEFLATE active\nC: c NOOP\n"), "{trace}");
        }
    }

    #[tokio::test]
    async fn what_is_heard_behind_compress_is_inflated_and_what_is_no_deflate_ends_the_session() {
        // One stored block (RFC 1951 3.2.4), whose content stands for itself.
        let early = b"\x00\x08\x00\xf7\xffc NOOP\r\n";
        let (_state, shell, mut client) = compressed(Security::Starttls, b"", early).await;
        assert_eq!(ask(&mut client, b"", b"done\r\n").await.get(..5), Some(&b"c OK "[..]));
        client.socket().try_write(&[0b111; 100]).unwrap();
        let mut into = [0; 100];
        assert_eq!(poll_fn(|cx| client.poll_read(cx, &mut into)).await.ok(), Some(0));
        while !shell.registry.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn what_tls_does_not_let_through_is_told_from_an_end() {
        for (says, insecure) in [(&b"a NOOP\r\n"[..], true), (b"", false)] {
            let directory = tempfile::tempdir().unwrap();
            let (pair, authority) = certificate(directory.path(), "a.example");
            let (_state, shell) = shell(|config| {
                config.listeners[0].tls = Security::Implicit;
                config.tls.certificates = vec![pair];
            });
            let (client, ours, peer) = connection().await;
            let listening = shell.setup.load().listenings[0].clone();
            let connector = tokio_rustls::TlsConnector::from(believer([authority]));
            let name = ServerName::try_from("a.example").unwrap();
            let received = receive(&shell, &listening, ours, peer, Instant::now());
            let (client, received) = tokio::join!(connector.connect(name, client), received);
            // Behind the back of its TLS.
            let mut client = client.unwrap().into_inner().0;
            client.write_all(says).await.unwrap();
            drop(client);
            let mut peer = Peer::new(received.unwrap().1);
            let read = std::future::poll_fn(|cx| match peer.read(cx, usize::MAX, |_, _, octets, _| octets.len()) {
                Read::Nothing => std::task::Poll::Pending,
                read => std::task::Poll::Ready(read),
            });
            assert!(matches!(read.await, Read::End));
            assert_eq!(peer.failure == Some(io::ErrorKind::InvalidData), insecure);
        }
    }

    #[tokio::test]
    async fn who_does_not_read_the_answers_is_not_asked_for_more() {
        let (_state, shell) = shell(|_| ());
        let listening = Arc::new(ArcSwap::new(shell.setup.load().listenings[0].clone()));
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let accepting = tokio::spawn(accept(shell, listening, listener));
        let questions = b"a CAPABILITY\r\n".repeat(2 << 20);
        // All of it would be 28 MiB, and the answers to it ten times as much: they would have to be held.
        let said = tokio::time::timeout(Duration::from_secs(2), client.write_all(&questions)).await;
        accepting.abort();
        assert!(said.is_err(), "all of it was read");
    }

    #[tokio::test]
    async fn a_session_at_rest_is_small() {
        let (_state, shell) = shell(|_| ());
        let listening = shell.setup.load().listenings[0].clone();
        let (_client, ours, peer) = connection().await;
        let size = size_of_val(&serve(shell, listening, ours, peer, Instant::now()));
        // Architecture 13.6.
        assert!(size <= 2048, "{size}");
    }

    #[test]
    fn the_mechanisms_are_those_that_all_backends_share() {
        let (_state, shell) = shell(|config| {
            config.backends = ["a", "b"].map(|name| (name.to_owned(), Default::default())).into();
            config.listeners[1].backends = vec!["a".to_owned()];
        });
        let setup = shell.setup.load();
        let names = |index: usize| {
            setup.listenings.iter().for_each(|listening| listening.refresh(&setup.config));
            let front = setup.listenings[index].front.load();
            front.mechanisms.iter().map(|mechanism| mechanism.name()).collect::<Vec<_>>().join(" ")
        };
        let says = |name: &str, words: &[u8]| {
            let capabilities = Capabilities::parse(words);
            let probe = Probe { url: String::new(), greeting: String::new(), capabilities, tls: None };
            let condition = Condition::default().after(Ok(probe), std::time::SystemTime::now());
            setup.dialers[name].condition.store(Arc::new(condition));
        };
        assert_eq!((names(0), names(1)), ("PLAIN LOGIN".to_owned(), "PLAIN LOGIN".to_owned()));
        says("a", b"IMAP4rev1 AUTH=PLAIN AUTH=CRAM-MD5 AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-256-PLUS AUTH=GSSAPI");
        assert_eq!((names(0), names(1)), ("PLAIN".to_owned(), "PLAIN CRAM-MD5 SCRAM-SHA-256".to_owned()));
        says("b", b"IMAP4rev1 auth=scram-sha-256 AUTH=CRAM-MD5");
        assert_eq!((names(0), names(1)), ("SCRAM-SHA-256".to_owned(), "PLAIN CRAM-MD5 SCRAM-SHA-256".to_owned()));
    }
}
