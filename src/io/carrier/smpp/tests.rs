//! A small SMSC in the test, written with `rusmpp-core`: it says what it heard, and answers as it is told.

use std::path::Path;

use rusmpp_core::{
    CommandStatus,
    command::owned::Command,
    encode::{Encode as _, Length as _},
    pdus::owned::{BindTransceiverResp, DeliverSm, Pdu, SubmitSmResp},
    tlvs::owned::MessageDeliveryRequestTlvValue,
    values::{EsmClass, MessageState},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{io::dialer::tests::localhost, outband::channel::Coding, outband::smpp::pdu::command};

/// A PDU that the SMSC heard.
#[derive(Debug, PartialEq, Eq)]
struct Heard {
    command: u32,
    sequence: u32,
    body: Vec<u8>,
}

/// The SMSC's end of a connection.
struct Smsc<S>(S);

impl<S: AsyncRead + AsyncWrite + Unpin> Smsc<S> {
    async fn hears(&mut self) -> Option<Heard> {
        let mut head = [0; 16];
        self.0.read_exact(&mut head).await.ok()?;
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        let mut body = vec![0; word(0) as usize - 16];
        self.0.read_exact(&mut body).await.ok()?;
        Some(Heard { command: word(4), sequence: word(12), body })
    }

    async fn says(&mut self, status: u32, sequence: u32, pdu: impl Into<Pdu>) {
        let command = Command::new(CommandStatus::from(status), sequence, pdu);
        let mut octets = vec![0; 4 + command.length()];
        let length = octets.len() as u32;
        octets[..4].copy_from_slice(&length.to_be_bytes());
        command.encode(&mut octets[4..]);
        self.0.write_all(&octets).await.unwrap();
    }

    /// Hears a bind, and answers it.
    async fn binds(&mut self, status: u32) -> Heard {
        let bind = self.hears().await.unwrap();
        assert_eq!(bind.command, command::BIND);
        self.says(status, bind.sequence, BindTransceiverResp::builder().build()).await;
        bind
    }

    /// Hears a message, and answers it.
    async fn takes(&mut self, status: u32, id: &str) -> Heard {
        let submit = self.hears().await.unwrap();
        assert_eq!(submit.command, command::SUBMIT);
        self.says(status, submit.sequence, SubmitSmResp::new(id.parse().unwrap(), Vec::new())).await;
        submit
    }

    /// Says what has become of a message, and hears that it was heard.
    async fn reports(&mut self, id: &str, state: MessageState) {
        let mut receipt = DeliverSm::default();
        receipt.source_addr = "447700900123".parse().unwrap();
        receipt.esm_class = EsmClass::from(4);
        receipt.push_tlv(MessageDeliveryRequestTlvValue::ReceiptedMessageId(id.parse().unwrap()));
        receipt.push_tlv(MessageDeliveryRequestTlvValue::MessageState(state));
        self.says(0, 77, receipt).await;
        assert_eq!(self.hears().await, Some(Heard { command: 0x8000_0005, sequence: 77, body: vec![0] }));
    }
}

/// A place for an SMSC, and settings for it.
async fn place() -> (TcpListener, Settings) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Some(listener.local_addr().unwrap().to_string().parse().unwrap());
    let settings = Settings { server, system_id: "mem".to_owned(), rate: 1000, ..Settings::default() };
    (listener, settings)
}

/// A carrier that is bound, and its SMSC.
async fn bound(settings: Settings, listener: &TcpListener) -> (Smpp, Smsc<TcpStream>) {
    let carrier = Smpp::begin(&settings).unwrap().unwrap();
    let mut smsc = Smsc(listener.accept().await.unwrap().0);
    smsc.binds(0).await;
    until(&carrier, Condition::Bound).await;
    (carrier, smsc)
}

async fn until(carrier: &Smpp, condition: Condition) {
    carrier.state.clone().wait_for(|state| state.condition == condition).await.unwrap();
}

fn messages(parts: usize) -> ShortMessages {
    let parts = (0..parts).map(|part| vec![part as u8; 20]).collect();
    ShortMessages { to: "+447700900123".to_owned(), parts, have_header: true, coding: Coding::Octets }
}

async fn carries(carrier: &Smpp, parts: usize, receipt: oneshot::Sender<Receipt>) -> Answer {
    carrier.carry(&messages(parts), receipt).await
}

/// Carries, and nobody waits for a receipt.
async fn sends(carrier: &Smpp, parts: usize) -> Answer {
    carries(carrier, parts, oneshot::channel().0).await
}

const fn answer(status: u32) -> Answer {
    Answer::Smpp { status }
}

#[tokio::test]
async fn messages_are_submitted_and_receipts_told() {
    let (listener, settings) = place().await;
    let (carrier, mut smsc) = bound(settings, &listener).await;
    let two = messages(2);
    for (states, told) in [
        ([MessageState::Delivered, MessageState::Delivered], Receipt::Delivered),
        ([MessageState::Delivered, MessageState::Expired], Receipt::Failed),
        ([MessageState::Undeliverable, MessageState::Delivered], Receipt::Failed),
    ] {
        let (receipt, mut hears) = oneshot::channel();
        let (said, submits) = tokio::join!(carrier.carry(&two, receipt), async {
            [smsc.takes(0, "1A").await, smsc.takes(0, "1B").await]
        });
        assert_eq!(said, answer(0));
        assert!(submits[0].body.ends_with(&[0; 20]) && submits[1].body.ends_with(&[1; 20]));
        // In the SMSC's own way: 1A is 26, and not yet final before.
        smsc.reports("26", MessageState::Enroute).await;
        smsc.reports("0026", states[0]).await;
        if told == Receipt::Delivered {
            assert!(hears.try_recv().is_err(), "one of two is missing");
        }
        smsc.reports("1b", states[1]).await;
        assert_eq!(hears.await, Ok(told));
    }
}

#[tokio::test]
async fn the_first_refusal_is_the_answer_and_no_receipt_comes() {
    let (listener, settings) = place().await;
    let (carrier, mut smsc) = bound(settings, &listener).await;
    let (receipt, hears) = oneshot::channel();
    let (said, ()) = tokio::join!(carries(&carrier, 3, receipt), async {
        smsc.takes(0, "m1").await;
        smsc.takes(0x0b, "").await;
        smsc.takes(0x0a, "").await;
    });
    assert_eq!(said, answer(0x0b));
    // One of three was taken: there is no receipt of the whole.
    smsc.reports("m1", MessageState::Delivered).await;
    assert!(hears.await.is_err());
    let nowhere = ShortMessages { to: "nobody".to_owned(), ..messages(1) };
    assert_eq!(carrier.carry(&nowhere, oneshot::channel().0).await, answer(0x0b));
}

#[tokio::test]
async fn without_receipts_nobody_waits_for_one() {
    let (listener, settings) = place().await;
    let (carrier, mut smsc) = bound(Settings { receipts: false, ..settings }, &listener).await;
    let (receipt, hears) = oneshot::channel();
    let (said, _) = tokio::join!(carries(&carrier, 1, receipt), smsc.takes(0, "m1"));
    assert_eq!(said, answer(0));
    assert!(hears.await.is_err());
}

#[tokio::test]
async fn an_smsc_with_too_much_to_do_is_left_alone_for_a_while() {
    let (listener, settings) = place().await;
    let (carrier, mut smsc) = bound(settings, &listener).await;
    let (said, _) = tokio::join!(sends(&carrier, 1), smsc.takes(0x58, ""));
    assert_eq!(said, answer(0x58));
    let began = Instant::now();
    let (said, _) = tokio::join!(sends(&carrier, 1), smsc.takes(0, "m1"));
    assert_eq!(said, answer(0));
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_silent_smsc_leaves_messages_unanswered_and_is_left() {
    let (listener, settings) = place().await;
    let tenth = Duration::from_millis(100);
    let limits = Limits { response: tenth, idle: 2 * tenth, enquiry: tenth, ..settings.limits().unwrap() };
    let carrier = Smpp::within(&settings, limits).unwrap().unwrap();
    let mut smsc = Smsc(listener.accept().await.unwrap().0);
    smsc.binds(0).await;
    let (said, submit) = tokio::join!(sends(&carrier, 1), smsc.hears());
    assert_eq!((said, submit.unwrap().command), (Answer::Silence, command::SUBMIT));
    assert_eq!(carrier.state().condition, Condition::Bound);
    // It is asked, and does not say that it is there.
    assert_eq!(smsc.hears().await.unwrap().command, command::ENQUIRE);
    assert_eq!(smsc.hears().await, None);
    until(&carrier, Condition::Resting).await;
}

#[tokio::test]
async fn a_lost_connection_answers_for_what_was_outstanding_and_is_made_again() {
    let (listener, settings) = place().await;
    let (carrier, mut smsc) = bound(settings, &listener).await;
    let (said, ()) = tokio::join!(sends(&carrier, 1), async {
        smsc.hears().await.unwrap();
        drop(smsc);
    });
    assert_eq!(said, Answer::Silence);
    until(&carrier, Condition::Resting).await;
    assert_eq!(sends(&carrier, 1).await, Answer::Unreachable);
    // The same again, by the next connection.
    let mut smsc = Smsc(listener.accept().await.unwrap().0);
    smsc.binds(0).await;
    let (said, _) = tokio::join!(sends(&carrier, 1), smsc.takes(0, "m1"));
    assert_eq!((said, carrier.state().condition), (answer(0), Condition::Bound));
}

#[tokio::test]
async fn a_receipt_comes_by_another_connection_too() {
    let (listener, settings) = place().await;
    let (carrier, mut smsc) = bound(settings, &listener).await;
    let (receipt, hears) = oneshot::channel();
    let (said, _) = tokio::join!(carries(&carrier, 1, receipt), smsc.takes(0, "m1"));
    assert_eq!(said, answer(0));
    drop(smsc);
    let mut smsc = Smsc(listener.accept().await.unwrap().0);
    smsc.binds(0).await;
    smsc.reports("m1", MessageState::Delivered).await;
    assert_eq!(hears.await, Ok(Receipt::Delivered));
}

#[tokio::test]
async fn a_receipt_may_overtake_the_response() {
    let (listener, settings) = place().await;
    let (carrier, mut smsc) = bound(settings, &listener).await;
    let (receipt, hears) = oneshot::channel();
    let (said, ()) = tokio::join!(carries(&carrier, 1, receipt), async {
        let submit = smsc.hears().await.unwrap();
        smsc.reports("m1", MessageState::Delivered).await;
        smsc.says(0, submit.sequence, SubmitSmResp::new("m1".parse().unwrap(), Vec::new())).await;
    });
    assert_eq!((said, hears.await), (answer(0), Ok(Receipt::Delivered)));
}

#[tokio::test]
async fn an_smsc_that_refuses_us_is_not_called_again_at_once() {
    let (listener, settings) = place().await;
    let carrier = Smpp::begin(&settings).unwrap().unwrap();
    let mut smsc = Smsc(listener.accept().await.unwrap().0);
    let bind = smsc.binds(0x0e).await;
    assert!(bind.body.starts_with(b"mem\0"));
    until(&carrier, Condition::Resting).await;
    assert_eq!(sends(&carrier, 1).await, Answer::Unreachable);
    // What was lost is called after a second.
    assert!(timeout(Duration::from_millis(1500), listener.accept()).await.is_err());
    assert_eq!(carrier.state().condition, Condition::Resting);
}

#[tokio::test]
async fn a_place_where_nobody_listens_is_no_way() {
    let (listener, settings) = place().await;
    drop(listener);
    let carrier = Smpp::begin(&settings).unwrap().unwrap();
    until(&carrier, Condition::Resting).await;
    assert_eq!(sends(&carrier, 1).await, Answer::Unreachable);
}

#[tokio::test]
async fn a_window_is_kept_and_whoever_has_gone_is_not_sent() {
    let (listener, settings) = place().await;
    let (carrier, mut smsc) = bound(Settings { window: 1, ..settings }, &listener).await;
    let all = messages(2);
    let mut carrying = Box::pin(carrier.carry(&all, oneshot::channel().0));
    let first = tokio::select! {
        _ = &mut carrying => panic!("it is not answered"),
        first = smsc.hears() => first.unwrap(),
    };
    // The second waits for its turn, and then nobody for it.
    drop(carrying);
    smsc.says(0, first.sequence, SubmitSmResp::default()).await;
    let (said, next) = tokio::join!(sends(&carrier, 1), smsc.takes(0, "m2"));
    assert_eq!((said, next.sequence), (answer(0), first.sequence + 1));
}

#[tokio::test]
async fn who_drops_the_carrier_unbinds() {
    let (listener, settings) = place().await;
    let (carrier, mut smsc) = bound(settings, &listener).await;
    drop(carrier);
    let unbind = smsc.hears().await.unwrap();
    assert_eq!(unbind.command, command::UNBIND);
    smsc.says(0, unbind.sequence, Pdu::UnbindResp).await;
    assert_eq!(smsc.hears().await, None);
    // And nobody calls again.
    assert!(timeout(Duration::from_millis(1500), listener.accept()).await.is_err());
}

#[tokio::test]
async fn over_tls_an_smsc_proves_who_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (pair, config) = localhost(directory.path());
    let accept = async |listener: &TcpListener| {
        let (stream, _) = listener.accept().await.unwrap();
        tokio_rustls::TlsAcceptor::from(config.clone()).accept(stream).await
    };
    let (listener, settings) = place().await;
    let server = Some(Server { host: "localhost".to_owned(), ..settings.server.clone().unwrap() });
    let settings = Settings { server, tls: true, ca: Some(pair.chain), ..settings };
    let carrier = Smpp::begin(&settings).unwrap().unwrap();
    let mut smsc = Smsc(accept(&listener).await.unwrap());
    smsc.binds(0).await;
    let (said, _) = tokio::join!(sends(&carrier, 1), smsc.takes(0, "m1"));
    assert_eq!(said, answer(0));
    drop((carrier, smsc));
    let (other, _) = localhost(&directory.path().join("other"));
    let _carrier = Smpp::begin(&Settings { ca: Some(other.chain), ..settings }).unwrap().unwrap();
    assert!(accept(&listener).await.is_err());
}

#[tokio::test]
async fn settings_are_complete_or_refused() {
    let (_listener, good) = place().await;
    let refused = |settings: Settings| Smpp::begin(&settings).err().map(|error| error.to_string()).unwrap_or_default();
    let file = |name: &str| Some(Path::new("/nowhere").join(name));
    for (settings, starts) in [
        (Settings { window: 0, ..good.clone() }, "window:"),
        (Settings { window: 11, ..good.clone() }, "window:"),
        (Settings { rate: 0, ..good.clone() }, "rate:"),
        (Settings { data_coding: 0, ..good.clone() }, "data_coding:"),
        (Settings { validity: "32d".parse().unwrap(), ..good.clone() }, "validity:"),
        (Settings { from: "+".to_owned(), ..good.clone() }, "from:"),
        (Settings { system_id: "sixteen octets..".to_owned(), ..good.clone() }, "system_id:"),
        (Settings { password_file: file("password"), ..good.clone() }, "/nowhere/password:"),
        (Settings { tls: true, ca: file("ca"), ..good.clone() }, "/nowhere/ca:"),
    ] {
        assert!(refused(settings.clone()).starts_with(starts), "{settings:?}");
    }
    assert!(matches!(Smpp::begin(&Settings::default()), Ok(None)));
    let text = "server = \"smsc.example.net:2775\"\nsystem_id = \"mem\"\nfrom = \"80012\"\nvalidity = \"2h\"\n";
    assert_eq!(toml::from_str::<Settings>(text).unwrap().validity, Span::minutes(120));
    assert!(toml::from_str::<Settings>("sever = \"x:1\"").is_err());
}
