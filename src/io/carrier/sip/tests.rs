//! The carrier before peers on loopback, which answer as they are told.

use std::fs;

use tokio::{
    net::TcpListener,
    sync::mpsc::{self, UnboundedReceiver},
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::io::tls::{self, Tls};

const CHALLENGE: &str = "401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"example.com\", nonce=\"n\", qop=\"auth\"";

/// Only places that are allowed, no proxy.
fn carrier(settings: Settings, allowed: &[&str]) -> Sip {
    let allowed = allowed.iter().map(|network| network.parse().unwrap()).collect();
    Sip::new(settings, Places::new(allowed), tls::believe(None).unwrap()).unwrap()
}

/// Everything goes to this port by this transport.
fn proxied(port: u16, transport: &str) -> Settings {
    let proxy = Some(format!("sip:127.0.0.1:{port};transport={transport}").parse().unwrap());
    Settings { proxy, ..Settings::default() }
}

fn message(to: &str) -> Message {
    Message {
        to: to.parse().unwrap(),
        from: "sip:notifier@example.com".parse().unwrap(),
        headers: vec![("Content-Type", "text/plain;charset=UTF-8".to_owned())],
        body: b"hello".to_vec(),
        chance: [7; 64],
    }
}

const ROMEO: &str = "sip:romeo@example.com";

fn sip(status: u16) -> Answer {
    Answer::Sip { status, retry_after: None }
}

/// A response to this request: a status line without the version, and fields.
fn response(request: &str, lines: &str) -> String {
    let fields = ["Via", "From", "To", "Call-ID", "CSeq"].map(|name| {
        let line = request.lines().find(|line| line.split(':').next() == Some(name));
        line.unwrap_or_default().to_owned()
    });
    format!("SIP/2.0 {lines}\r\n{}\r\nContent-Length: 0\r\n\r\n", fields.join("\r\n"))
}

fn field<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// What a peer sends: to the first request the first of these, and so on; to the rest nothing.
type Script = Vec<Vec<String>>;

/// Answers as [`response`] makes them.
fn script(answers: &[&[&str]]) -> Script {
    answers.iter().map(|lines| lines.iter().map(|line| (*line).to_owned()).collect()).collect()
}

/// A peer by UDP, and what it hears.
async fn by_udp(script: Script) -> (u16, UnboundedReceiver<String>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let (said, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut script = script.into_iter();
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            let request = String::from_utf8(buffer[..len].to_vec()).unwrap();
            for lines in script.next().unwrap_or_default() {
                socket.send_to(&answer(&request, &lines), from).await.unwrap();
            }
            let _ = said.send(request);
        }
    });
    (port, heard)
}

/// What a line of a script is on the wire: what has no status is sent as it is.
fn answer(request: &str, lines: &str) -> Vec<u8> {
    let is_status = lines.as_bytes().first().is_some_and(u8::is_ascii_digit);
    if is_status { response(request, lines).into_bytes() } else { lines.as_bytes().to_vec() }
}

/// A peer by TCP, which hangs up behind the last answer of each script; a connection for each. It tells of which connection a request is.
async fn by_tcp(scripts: Vec<Script>) -> (u16, UnboundedReceiver<(usize, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (said, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for (number, script) in scripts.into_iter().enumerate() {
            let (stream, _) = listener.accept().await.unwrap();
            talk(stream, script, |request| drop(said.send((number, request)))).await;
        }
    });
    (port, heard)
}

async fn talk(mut stream: impl Stream, script: Script, mut tell: impl FnMut(String)) {
    for answers in script {
        let mut heard = Vec::new();
        while !heard.ends_with(b"\r\n\r\nhello") {
            if stream.read_buf(&mut heard).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let request = String::from_utf8(heard).unwrap();
        let octets: Vec<u8> = answers.iter().flat_map(|lines| answer(&request, lines)).collect();
        tell(request);
        let _ = stream.write_all(&octets).await;
    }
}

#[tokio::test]
async fn a_message_is_carried_and_its_answer_told() {
    for (lines, expected) in [
        ("200 OK", sip(200)),
        ("202 Accepted", sip(202)),
        ("404 Not Found", sip(404)),
        (
            "503 Busy\r\nRetry-After: 30 (later)",
            Answer::Sip { status: 503, retry_after: Some(Duration::from_secs(30)) },
        ),
    ] {
        let (port, mut heard) = by_udp(script(&[&[lines]])).await;
        assert_eq!(carrier(proxied(port, "udp"), &[]).carry(&message(ROMEO)).await, expected);
        let request = heard.recv().await.unwrap();
        assert!(
            request.starts_with("MESSAGE sip:romeo@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:"),
            "{request}"
        );
        assert!(request.ends_with("\r\nContent-Length: 5\r\n\r\nhello"), "{request}");
    }
}

/// Credentials of example.com.
fn known(settings: Settings, folder: &tempfile::TempDir) -> Settings {
    let password = folder.path().join("password");
    fs::write(&password, "s3cret\n").unwrap();
    let user = Some("notifier".to_owned());
    Settings { user, password_file: Some(password), realms: vec!["example.com".to_owned()], ..settings }
}

#[tokio::test]
async fn a_challenge_is_answered_once() {
    let folder = tempfile::tempdir().unwrap();
    for (last, expected) in [("200 OK", 200), (CHALLENGE, 401)] {
        let (port, mut heard) = by_udp(script(&[&[CHALLENGE], &[last]])).await;
        let carrier = carrier(known(proxied(port, "udp"), &folder), &[]);
        assert_eq!(carrier.carry(&message(ROMEO)).await, sip(expected));
        let (first, second) = (heard.recv().await.unwrap(), heard.recv().await.unwrap());
        assert_eq!((field(&first, "CSeq"), field(&second, "CSeq")), (Some("1 MESSAGE"), Some("2 MESSAGE")));
        assert_eq!(field(&first, "Authorization"), None);
        let credentials = field(&second, "Authorization").unwrap();
        assert!(credentials.starts_with("Digest username=\"notifier\", realm=\"example.com\", nonce=\"n\""));
        assert_ne!(field(&first, "Via"), field(&second, "Via"));
        // Some answer to where the first request of a call came from.
        let place = |request| field(request, "Via").and_then(|via| via.split(';').next());
        assert_eq!(place(&first), place(&second));
        assert!(heard.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_place_that_a_user_named_does_not_hear_our_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let (port, mut heard) = by_udp(script(&[&[CHALLENGE]])).await;
    let carrier = carrier(known(Settings::default(), &folder), &["127.0.0.1"]);
    assert_eq!(carrier.carry(&message(&format!("sip:romeo@127.0.0.1:{port}"))).await, sip(401));
    assert!(heard.recv().await.is_some() && heard.try_recv().is_err());
}

#[tokio::test]
async fn what_is_provisional_or_not_for_us_is_no_answer() {
    let other = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK0\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n";
    let options = "OPTIONS sip:a@b SIP/2.0\r\nContent-Length: 0\r\n\r\n";
    let answers: &[&[&str]] = &[&["100 Trying", other, options, "\r\n\r\n", "486 Busy Here"]];
    let (port, _heard) = by_udp(script(answers)).await;
    assert_eq!(carrier(proxied(port, "udp"), &[]).carry(&message(ROMEO)).await, sip(486));
    let (port, _heard) = by_tcp(vec![script(answers)]).await;
    assert_eq!(carrier(proxied(port, "tcp"), &[]).carry(&message(ROMEO)).await, sip(486));
    let (port, _heard) = by_udp(script(&[&["nonsense"], &["200 OK"]])).await;
    assert_eq!(carrier(proxied(port, "udp"), &[]).carry(&message(ROMEO)).await, sip(200));
}

#[tokio::test]
async fn what_gets_lost_is_sent_again_as_it_was() {
    let (port, mut heard) = by_udp(script(&[&[], &[], &["200 OK"]])).await;
    let began = Instant::now();
    assert_eq!(carrier(proxied(port, "udp"), &[]).carry(&message(ROMEO)).await, sip(200));
    assert!(began.elapsed() >= Duration::from_millis(1500), "T1, and twice T1");
    let requests = [heard.recv().await, heard.recv().await, heard.recv().await];
    assert!(requests.iter().all(|request| *request == requests[0]) && heard.try_recv().is_err());
}

#[tokio::test]
async fn an_answer_that_is_repeated_is_passed_over() {
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let carrier = carrier(proxied(peer.local_addr().unwrap().port(), "udp"), &[]);
    let message = message(ROMEO);
    let mut buffer = [0; 2048];
    let answered = async {
        let (len, from) = peer.recv_from(&mut buffer).await.unwrap();
        let octets = response(str::from_utf8(&buffer[..len]).unwrap(), "200 OK");
        peer.connect(from).await.unwrap();
        peer.send(octets.as_bytes()).await.unwrap();
        octets
    };
    let (answer, octets) = tokio::join!(carrier.carry(&message), answered);
    assert_eq!(answer, sip(200));
    // Were nobody there, the second would fail for the first.
    assert!(peer.send(octets.as_bytes()).await.is_ok() && peer.send(octets.as_bytes()).await.is_ok());
}

#[tokio::test]
async fn where_nobody_listens_there_is_no_way() {
    let port = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    assert_eq!(carrier(proxied(port, "udp"), &[]).carry(&message(ROMEO)).await, Answer::Unreachable);
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for transport in ["tcp", "tls"] {
        assert_eq!(carrier(proxied(port, transport), &[]).carry(&message(ROMEO)).await, Answer::Unreachable);
    }
}

#[tokio::test]
async fn an_answer_without_an_end_is_not_read() {
    let (long, endless) = ("X: y\r\n".repeat(20_000), "SIP/2.0 200 OK\r\n\r\n".to_owned());
    let large = "SIP/2.0 200 OK\r\nContent-Length: 4097\r\n\r\n".to_owned();
    for octets in [format!("SIP/2.0 200 OK\r\n{long}"), endless, large] {
        let (port, _heard) = by_tcp(vec![vec![vec![octets], vec![]]]).await;
        assert_eq!(carrier(proxied(port, "tcp"), &[]).carry(&message(ROMEO)).await, Answer::Silence);
    }
}

#[tokio::test]
async fn a_connection_is_used_again_until_the_peer_ends_it() {
    let scripts = vec![script(&[&["200 OK"], &["202 Accepted"]]), script(&[&["200 OK"], &[]])];
    let (port, mut heard) = by_tcp(scripts).await;
    let carrier = carrier(proxied(port, "tcp"), &[]);
    for expected in [200, 202, 200] {
        assert_eq!(carrier.carry(&message(ROMEO)).await, sip(expected));
    }
    let connections = [heard.recv().await, heard.recv().await, heard.recv().await].map(|heard| heard.unwrap().0);
    assert_eq!(connections, [0, 0, 1]);
}

#[tokio::test]
async fn sips_goes_by_tls_to_whom_we_believe() {
    let folder = tempfile::tempdir().unwrap();
    let shown = Tls::default().load(folder.path()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (said, mut heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(shown.config);
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                talk(stream, script(&[&["200 OK"], &[]]), |request| drop(said.send(request))).await;
            }
        }
    });
    let romeo = message(&format!("sips:romeo@127.0.0.1:{port}"));
    let places = || Places::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let strict = Sip::new(Settings::default(), places(), tls::believe(None).unwrap()).unwrap();
    assert_eq!(strict.carry(&romeo).await, Answer::Unreachable);
    let roots = tls::believe(Some(&folder.path().join("tls/self-signed.pem"))).unwrap();
    let believing = Sip::new(Settings::default(), places(), roots).unwrap();
    assert_eq!(believing.carry(&romeo).await, sip(200));
    let request = heard.recv().await.unwrap();
    assert!(request.contains("\r\nVia: SIP/2.0/TLS 127.0.0.1:") && heard.try_recv().is_err(), "{request}");
}

#[tokio::test]
async fn a_user_names_no_place_inside() {
    let (port, mut heard) = by_udp(script(&[&["200 OK"]])).await;
    let romeo = message(&format!("sip:romeo@127.0.0.1:{port}"));
    for host in
        [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("[::1]:{port}"), "10.0.0.1".to_owned()]
    {
        let answer = carrier(Settings::default(), &[]).carry(&message(&format!("sip:romeo@{host}"))).await;
        assert_eq!(answer, Answer::Forbidden, "{host}");
    }
    assert!(heard.try_recv().is_err());
    assert_eq!(carrier(Settings::default(), &["127.0.0.1"]).carry(&romeo).await, sip(200));
}

#[tokio::test]
async fn a_redirection_is_followed_to_where_a_user_may_send_us() {
    let (there, mut reached) = by_udp(script(&[&["200 OK"]])).await;
    let contact = |host: &str| format!("302 Moved\r\nContact: <sip:romeo@{host}:{there}>");
    // The user has not named where a server sends us: that nobody goes there says nothing against the address.
    for (host, expected) in [("127.0.0.2", sip(302)), ("127.0.0.1", sip(200))] {
        let (port, _heard) = by_udp(script(&[&[&contact(host)]])).await;
        let carrier = carrier(Settings::default(), &["127.0.0.1"]);
        assert_eq!(carrier.carry(&message(&format!("sip:romeo@127.0.0.1:{port}"))).await, expected);
    }
    let request = reached.recv().await.unwrap();
    assert!(request.starts_with(&format!("MESSAGE sip:romeo@127.0.0.1:{there} SIP/2.0\r\n")), "{request}");
}

#[tokio::test]
async fn to_one_address_goes_one_message_at_a_time() {
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let carrier = carrier(proxied(peer.local_addr().unwrap().port(), "udp"), &[]);
    let [first, second] = [7, 8].map(|chance| Message { chance: [chance; 64], ..message(ROMEO) });
    let other = Message { chance: [9; 64], ..message("sip:a@b") };
    let mut buffer = [0; 2048];
    let answered = async {
        let mut hear = async || {
            let (len, from) = peer.recv_from(&mut buffer).await.unwrap();
            (from, str::from_utf8(&buffer[..len]).unwrap().to_owned())
        };
        let answer = async |(from, request): (SocketAddr, String)| {
            peer.send_to(response(&request, "200 OK").as_bytes(), from).await.unwrap();
            field(&request, "Call-ID").unwrap()[..2].to_owned()
        };
        let both = [hear().await, hear().await];
        assert!(peer.try_recv(&mut [0; 1]).is_err(), "the second waits for the first");
        let [one, two] = both;
        let mut calls = vec![answer(one).await, answer(two).await];
        calls.sort_unstable();
        calls.push(answer(hear().await).await);
        assert_eq!(calls, ["07", "09", "08"]);
    };
    let all = tokio::join!(carrier.carry(&first), carrier.carry(&second), carrier.carry(&other), answered);
    assert_eq!((all.0, all.1, all.2), (sip(200), sip(200), sip(200)));
}

#[tokio::test]
async fn who_waits_too_long_comes_later_and_who_has_begun_goes_on() {
    let (port, mut heard) = by_udp(script(&[&[], &["200 OK"]])).await;
    let carrier = carrier(Settings { timeout: Span(Duration::from_millis(100)), ..proxied(port, "udp") }, &[]);
    let [first, second] = [7, 8].map(|chance| Message { chance: [chance; 64], ..message(ROMEO) });
    // The first is answered at its second sending, which is later than the second message wants to wait.
    let both = tokio::join!(carrier.carry(&first), carrier.carry(&second));
    assert_eq!(both, (sip(200), Answer::Unreachable));
    for _ in 0..2 {
        assert!(field(&heard.recv().await.unwrap(), "Call-ID").unwrap().starts_with("07"));
    }
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
async fn behind_a_few_that_wait_nobody_waits() {
    let (port, mut heard) = by_udp(Vec::new()).await;
    let carrier = Arc::new(carrier(proxied(port, "udp"), &[]));
    let mut under_way = Vec::new();
    for _ in 0..=WAITING {
        let carrier = carrier.clone();
        under_way.push(tokio::spawn(async move { carrier.carry(&message(ROMEO)).await }));
    }
    heard.recv().await.unwrap();
    assert_eq!(carrier.carry(&message(ROMEO)).await, Answer::Unreachable);
    under_way.iter().for_each(|task| task.abort());
}

#[tokio::test]
async fn a_silent_host_takes_a_few_and_leaves_the_rest_to_others() {
    let (quiet, mut heard) = by_udp(Vec::new()).await;
    let (alive, _reached) = by_udp(script(&[&["200 OK"]])).await;
    let carrier = Arc::new(carrier(Settings::default(), &["127.0.0.1"]));
    let mut under_way = tokio::task::JoinSet::new();
    for number in 0..=PER_HOST {
        let carrier = carrier.clone();
        let message = message(&format!("sip:user{number}@127.0.0.1:{quiet}"));
        under_way.spawn(async move { carrier.carry(&message).await });
    }
    let mut told = std::collections::BTreeSet::new();
    while told.len() < PER_HOST {
        told.insert(field(&heard.recv().await.unwrap(), "To").unwrap().to_owned());
    }
    assert_eq!(carrier.carry(&message(&format!("sip:romeo@localhost:{alive}"))).await, sip(200));
    while let Ok(request) = heard.try_recv() {
        assert!(told.contains(field(&request, "To").unwrap()), "one more waits");
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_short_enough_is_not_sent() {
    let (port, mut heard) = by_udp(Vec::new()).await;
    let long = Message { body: vec![b'x'; 1300], ..message(ROMEO) };
    assert_eq!(carrier(proxied(port, "udp"), &[]).carry(&long).await, sip(513));
    assert!(heard.try_recv().is_err());
}

#[test]
fn settings_are_read_and_what_is_wrong_is_named() {
    assert_eq!(toml::from_str::<Settings>("").unwrap(), Settings::default());
    let text = "from = \"sip:notifier@example.com\"\nproxy = \"sip:10.0.0.1;transport=tcp\"\nuser = \"notifier\"\n\
                password_file = \"/none\"\nrealms = [\"example.com\"]\ntransport = \"tls\"\ntimeout = \"5s\"\n\
                lifetime = \"1h\"\nbody = \"emn\"\nprivate = true\n";
    let settings: Settings = toml::from_str(text).unwrap();
    assert_eq!(toml::from_str::<Settings>(&toml::to_string(&settings).unwrap()).unwrap(), settings);
    assert!(settings.channel().is_some() && Settings::default().channel().is_none());
    for wrong in ["from = \"notifier@example.com\"", "transport = \"sctp\"", "body = \"html\"", "password = \"s3cret\""]
    {
        assert!(toml::from_str::<Settings>(wrong).is_err(), "{wrong}");
    }
    let error = |settings: Settings| match Sip::new(settings, Places::default(), tls::believe(None).unwrap()) {
        Err(error) => error.to_string(),
        Ok(_) => String::new(),
    };
    assert!(error(settings.clone()).starts_with("outband.sip.password_file: /none: No such file"));
    let bare = Settings { password_file: None, ..settings.clone() };
    assert_eq!(error(bare), "outband.sip.user needs outband.sip.password_file");
    let strange = Settings { user: Some("a\"b".to_owned()), password_file: Some("/dev/null".into()), ..settings };
    assert!(error(strange).starts_with("outband.sip.user: a user name is printable"));
}

#[test]
fn neither_addresses_nor_the_password_print() {
    let folder = tempfile::tempdir().unwrap();
    let from = Some("sip:notifier@example.com".parse().unwrap());
    let shown = format!("{:?}", carrier(Settings { from, ..known(proxied(5060, "udp"), &folder) }, &[]));
    assert!(!shown.contains("s3cret") && !shown.contains("sip:"), "{shown}");
}
