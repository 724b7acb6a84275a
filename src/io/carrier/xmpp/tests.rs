//! A small XMPP server in the test: it says what it is told to, when it has heard what it waits for.

use std::path::Path;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    io::dialer::tests::localhost,
    outband::xmpp::message::{Condition as Error, Refusal},
};

const OPENED: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='3BF96D32'>";

/// The server's end of a connection, and what it heard and did not wait for.
struct Peer<S>(S, String);

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// Hears all up to the end of this.
    async fn hears(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.1.find(text) {
                return self.1.drain(..at + text.len()).collect();
            }
            let mut octets = [0; 1024];
            let count = self.0.read(&mut octets).await.unwrap();
            assert!(count > 0, "the end, and no {text} in {}", self.1);
            self.1.push_str(std::str::from_utf8(&octets[..count]).unwrap());
        }
    }

    async fn says(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Hears a message and the ping behind it, and answers that.
    async fn takes(&mut self) -> String {
        let message = self.hears("</message>").await;
        let ping = self.hears("</iq>").await;
        let id = ping.split("id=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        self.says(&format!("<iq type='result' id='{id}'/>")).await;
        message
    }

    /// Whether the other side closes.
    async fn ends(mut self) -> bool {
        self.0.read_to_end(&mut Vec::new()).await.is_ok()
    }
}

/// A place for a server, and settings for it.
async fn place(directory: &Path, jid: &str) -> (TcpListener, Settings) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Some(listener.local_addr().unwrap().to_string().parse().unwrap());
    let file = directory.join("password");
    std::fs::write(&file, "secret\n").unwrap();
    (listener, Settings { server, jid: jid.to_owned(), password_file: Some(file), ..Settings::default() })
}

/// A component that the server knows.
async fn component(settings: &Settings, listener: &TcpListener) -> (Xmpp, Peer<TcpStream>) {
    let carrier = Xmpp::begin(settings).unwrap().unwrap();
    let peer = shakes_hands(listener).await;
    until(&carrier, Condition::Bound).await;
    (carrier, peer)
}

async fn shakes_hands(listener: &TcpListener) -> Peer<TcpStream> {
    let mut peer = Peer(listener.accept().await.unwrap().0, String::new());
    peer.hears("to=\"notify.example.com\">").await;
    peer.says(OPENED).await;
    let handshake = peer.hears("</handshake>").await;
    assert_eq!(handshake, "<handshake>b09ea9b3b7f586be8a08d0a3dd7466f110aeb136</handshake>");
    peer.says("<handshake/>").await;
    peer
}

async fn until(carrier: &Xmpp, condition: Condition) {
    carrier.condition.clone().wait_for(|now| *now == condition).await.unwrap();
    assert_eq!(carrier.condition(), condition);
}

fn message() -> Message {
    Message { to: "romeo@example.com".to_owned(), id: "7".to_owned(), content: "<body>x</body>".to_owned() }
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

const RECEIVED: &str =
    "<message from='romeo@example.com/phone' id='r'><received xmlns='urn:xmpp:receipts' id='7'/></message>";
const ERROR: &str = "<message type='error' from='romeo@example.com' id='7'><error type='cancel'>\
    <item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>";

#[tokio::test]
async fn a_message_is_accepted_and_its_receipt_told() {
    let directory = directory();
    let (listener, settings) = place(directory.path(), "notify.example.com").await;
    let (carrier, mut peer) = component(&settings, &listener).await;
    let (say, hear) = oneshot::channel();
    let message = message();
    let (answer, heard) = tokio::join!(carrier.carry(&message, say), peer.takes());
    assert_eq!(answer, Answer::Xmpp { refusal: None });
    assert_eq!(heard, message.stanza(Some("notify.example.com")));
    peer.says(RECEIVED).await;
    assert_eq!(hear.await, Ok(Receipt::Delivered));
    drop(carrier);
    peer.hears("</stream:stream>").await;
    assert!(peer.ends().await);
}

#[tokio::test]
async fn an_error_is_the_answer_and_so_is_a_receipt() {
    let directory = directory();
    let (listener, settings) = place(directory.path(), "notify.example.com").await;
    let (carrier, mut peer) = component(&settings, &listener).await;
    let refusal = Some(Refusal { is_temporary: false, condition: Error::ItemNotFound });
    for (says, expected) in [(ERROR, Answer::Xmpp { refusal }), (RECEIVED, Answer::Acknowledged)] {
        let (message, (say, hear)) = (message(), oneshot::channel());
        let takes = async {
            peer.takes().await;
            peer.says(says).await;
        };
        let (answer, ()) = tokio::join!(carrier.carry(&message, say), takes);
        assert_eq!(answer, expected);
        assert!(hear.await.is_err(), "nothing more is heard of it");
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_is_made_again() {
    let directory = directory();
    let (listener, settings) = place(directory.path(), "notify.example.com").await;
    let (carrier, mut peer) = component(&settings, &listener).await;
    let message = message();
    let cut = async {
        peer.hears("</message>").await;
        drop(peer);
    };
    let (answer, ()) = tokio::join!(carrier.carry(&message, oneshot::channel().0), cut);
    assert_eq!(answer, Answer::Silence);
    until(&carrier, Condition::Resting).await;
    assert_eq!(carrier.carry(&message, oneshot::channel().0).await, Answer::Unreachable);
    let mut peer = shakes_hands(&listener).await;
    until(&carrier, Condition::Bound).await;
    let (answer, _) = tokio::join!(carrier.carry(&message, oneshot::channel().0), peer.takes());
    assert_eq!(answer, Answer::Xmpp { refusal: None });
}

#[tokio::test]
async fn a_client_begins_tls_with_whom_its_domain_says() {
    let directory = directory();
    let (listener, settings) = place(directory.path(), "mem@localhost").await;
    let (certificate, config) = localhost(directory.path());
    let (acceptor, ca) = (TlsAcceptor::from(config), certificate.chain);
    let carrier = Xmpp::begin(&Settings { ca: Some(ca.clone()), ..settings.clone() }).unwrap().unwrap();
    let mut peer = Peer(listener.accept().await.unwrap().0, String::new());
    peer.hears("to=\"localhost\" version=\"1.0\">").await;
    peer.says(OPENED).await;
    peer.says("<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>").await;
    peer.hears("<starttls xmlns=\"urn:ietf:params:xml:ns:xmpp-tls\"/>").await;
    peer.says("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
    let mut peer = Peer(acceptor.accept(peer.0).await.unwrap(), String::new());
    peer.hears("version=\"1.0\">").await;
    peer.says(OPENED).await;
    peer.says("<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms></stream:features>").await;
    assert!(peer.hears("</auth>").await.contains(">AG1lbQBzZWNyZXQ=<"));
    peer.says("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").await;
    peer.hears("version=\"1.0\">").await;
    peer.says(OPENED).await;
    peer.says("<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>").await;
    peer.hears("</iq>").await;
    peer.says("<iq type='result' id='bind'/>").await;
    until(&carrier, Condition::Bound).await;
    let message = message();
    let (answer, heard) = tokio::join!(carrier.carry(&message, oneshot::channel().0), peer.takes());
    assert_eq!((answer, heard), (Answer::Xmpp { refusal: None }, message.stanza(None)));

    // The same certificate, and another domain.
    let elsewhere =
        Settings { jid: "mem@example.com".to_owned(), tls: Some(Begins::Implicit), ca: Some(ca), ..settings };
    let carrier = Xmpp::begin(&elsewhere).unwrap().unwrap();
    assert!(acceptor.accept(listener.accept().await.unwrap().0).await.is_err());
    until(&carrier, Condition::Resting).await;
}

#[tokio::test]
async fn settings_that_cannot_be_are_told() {
    let directory = directory();
    let (_, component) = place(directory.path(), "notify.example.com").await;
    let client = Settings { jid: "mem@example.com".to_owned(), ..component.clone() };
    let of = |settings: &Settings| Xmpp::begin(settings).map(|carrier| carrier.is_some()).map_err(|it| it.to_string());
    assert_eq!(of(&Settings::default()), Ok(false));
    for (settings, expected) in [
        (Settings { jid: "@".to_owned(), ..component.clone() }, "outband.xmpp.jid: "),
        (Settings { tls: Some(Begins::Never), ..client.clone() }, "outband.xmpp.tls: "),
        (Settings { tls: Some(Begins::Starttls), ..component.clone() }, "outband.xmpp.tls: "),
        (Settings { password_file: None, ..component.clone() }, "outband.xmpp needs "),
        (
            Settings { password_file: Some("/nowhere".into()), ..component.clone() },
            "outband.xmpp.password_file: /nowhere",
        ),
        (Settings { ca: Some("/nowhere".into()), ..client }, "outband.xmpp.ca: /nowhere"),
    ] {
        let error = of(&settings).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    }
}
