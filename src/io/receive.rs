//! `lemonade-proxy receive`: a device for demonstrations and tests, which says what it is told by UDP.
//!
//!     $ lemonade-proxy receive --udp 127.0.0.1:4000 --key-file phone.key
//!     listening port=4000
//!     notice port=4000 from=127.0.0.1:51234 form=XEMN key=a1b2c3d4 sequence=1077259200000000005 mailbox="mailat:joe@foo.com"
//!       timestamp=2004-02-20T06:40:00Z event="MessageNew" view="INBOX" seq=7 uid=18 ...
//!     dropped port=4000 from=127.0.0.1:51235 octets=66 reason="not written by who has the key"
//!
//! A notice is one line. With keys it listens to MEM1 alone, and acknowledges; without, to EMN and XEMN in clear, which nobody can
//! acknowledge. What it cannot authenticate it never answers. What is quoted is escaped: a sender does not write to the terminal. After a
//! new start it takes what it heard within the last five minutes for new. Requirements N9, N10, N21.

use std::{
    fs::File,
    io::{self, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::{
    net::UdpSocket,
    runtime,
    signal::unix::{SignalKind, signal},
};
use zeroize::Zeroizing;

use crate::outband::{
    emn::{self, Payload, Xemn},
    mem1::{Key, KeyError, Kind, Receiver, Type},
};

/// The longest file of keys, in octets: room for sixty.
const LONGEST_FILE: u64 = 4096;

/// Why nothing can be received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The file of keys cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A line of it is no key.
    #[error("{}, line {line}: {error}", path.display())]
    Key {
        /// In which file.
        path: PathBuf,
        /// In which line, counted from 1.
        line: usize,
        /// What it should be.
        error: KeyError,
    },
    /// It has no key.
    #[error("{}: there is no key in it", path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
    },
    /// The socket, or a signal.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Listens at this address and tells a line at a time, until so many notices have come, or SIGINT or SIGTERM.
pub fn run(
    address: SocketAddr,
    key_file: Option<&Path>,
    count: Option<u64>,
    tell: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), ReceiveError> {
    let receiver = key_file.map(keys).transpose()?.map(Receiver::new);
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let device = Device { socket: UdpSocket::bind(address).await?, receiver };
        tokio::select! {
            ended = device.listen(count, tell) => Ok(ended?),
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    })
}

/// The keys in a file, a line each.
fn keys(path: &Path) -> Result<Vec<Key>, ReceiveError> {
    let path = path.to_owned();
    let mut text = Zeroizing::new(String::new());
    let read = File::open(&path).and_then(|file| file.take(LONGEST_FILE).read_to_string(&mut text));
    if let Err(error) = read {
        return Err(ReceiveError::File { path, error });
    }
    let mut keys = Vec::new();
    for (line, key) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        match key.trim().parse() {
            Ok(key) => keys.push(key),
            Err(error) => return Err(ReceiveError::Key { path, line, error }),
        }
    }
    if keys.is_empty() { Err(ReceiveError::NoKey { path }) } else { Ok(keys) }
}

/// A device that listens.
struct Device {
    socket: UdpSocket,
    /// None: it has no keys.
    receiver: Option<Receiver>,
}

/// What is to be done about a datagram.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    /// The first word of the line.
    word: &'static str,
    /// The end of the line.
    rest: String,
    /// What is answered.
    answer: Option<Vec<u8>>,
}

const NOTICE: &str = "notice";

impl Device {
    async fn listen(mut self, count: Option<u64>, mut tell: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let port = self.socket.local_addr()?.port();
        let mut tell = |line: String| tell(line.as_bytes());
        let mut open = tell(format!("listening port={port}\n"));
        // One more than is read, so that one that is too long is seen to be.
        let mut octets = vec![0; emn::LONGEST + 1];
        let mut heard = 0;
        // Whoever stopped listening to us does not want to hear the rest.
        while open.is_ok() && count.is_none_or(|count| heard < count) {
            let (len, from) = self.socket.recv_from(&mut octets).await?;
            let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            let Said { word, rest, answer } = hear(self.receiver.as_mut(), &octets[..len], now);
            open = tell(format!("{word} port={port} from={from} {rest}\n"));
            if let Some(answer) = answer
                && let Err(error) = self.socket.send_to(&answer, from).await
            {
                open = tell(format!("unanswered port={port} from={from} reason={:?}\n", error.to_string()));
            }
            heard += u64::from(word == NOTICE);
        }
        Ok(())
    }
}

/// What a datagram says.
fn hear(receiver: Option<&mut Receiver>, datagram: &[u8], now: Duration) -> Said {
    let dropped = |reason: &dyn std::fmt::Display| Said {
        word: "dropped",
        rest: format!("octets={} reason={:?}", datagram.len(), reason.to_string()),
        answer: None,
    };
    let Some(receiver) = receiver else {
        if datagram.starts_with(b"MEM1") {
            return dropped(&"there is no key");
        }
        return match emn::read(datagram) {
            Ok(payload) => Said { word: NOTICE, rest: shown(&payload, form(&payload, datagram)), answer: None },
            Err(error) => dropped(&error),
        };
    };
    let heard = match receiver.hear(datagram, now) {
        Ok(heard) => heard,
        Err(reason) => return dropped(&reason),
    };
    let envelope = format!("key={} sequence={}", heard.key, heard.content.sequence);
    let (word, rest) = match (heard.content.what, heard.content.kind) {
        _ if heard.is_repeated => ("repeated", envelope),
        (Type::Notice, Kind::Emn | Kind::EmnWbxml | Kind::Xemn) => match emn::read(&heard.content.payload) {
            Ok(payload) => {
                let form = form(&payload, &heard.content.payload);
                (NOTICE, shown(&payload, &format!("{form} {envelope}")))
            }
            Err(error) => ("unread", format!("{envelope} reason={:?}", error.to_string())),
        },
        (Type::Notice, kind) => ("unread", format!("{envelope} kind={}", kind as u8)),
        (_, _) => ("probe", envelope),
    };
    Said { word, rest, answer: Some(heard.answer) }
}

fn form(payload: &Payload, octets: &[u8]) -> &'static str {
    match (payload, octets.first()) {
        (Payload::Emn(_), Some(..=3)) => "EMN-WBXML",
        (Payload::Emn(_), _) => "EMN",
        (Payload::Xemn(_), _) => "XEMN",
    }
}

/// What a payload says, as one line: what is not said is left out.
fn shown(payload: &Payload, form: &str) -> String {
    let said = match payload {
        Payload::Emn(emn) => &Xemn { mailbox: emn.mailbox.clone(), timestamp: emn.timestamp, ..Xemn::default() },
        Payload::Xemn(xemn) => xemn,
    };
    let quoted = |text: Option<&String>| text.map(|text| format!("{text:?}"));
    let values = [
        ("mailbox", quoted(Some(&said.mailbox))),
        ("timestamp", said.timestamp.and_then(emn::timestamp)),
        ("event", quoted(said.event.as_ref())),
        ("view", quoted(said.view.as_ref())),
        ("seq", said.sequence_id.map(|id| id.to_string())),
        ("uid", said.uid.map(|uid| uid.to_string())),
        ("sender", quoted(said.sender.as_ref())),
        ("datetime", said.datetime.and_then(emn::timestamp)),
        ("subject", quoted(said.subject.as_ref())),
        ("text", quoted(Some(&said.text).filter(|text| !text.is_empty()))),
    ];
    let words = values.into_iter().filter_map(|(name, value)| Some(format!(" {name}={}", value?)));
    format!("form={form}{}", words.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::outband::{emn::Emn, mem1::Content};

    const KEY: &str = "a1b2c3d4:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    const AT: Duration = Duration::from_secs(1_077_259_200);

    fn emn() -> Emn {
        Emn { mailbox: "mailat:joe@foo.com".to_owned(), timestamp: Some(AT) }
    }

    fn sealed(sequence: u64, kind: Kind, now: Duration, payload: &[u8]) -> Vec<u8> {
        let time = now.as_secs() as u32;
        let what = if kind == Kind::None { Type::Probe } else { Type::Notice };
        KEY.parse::<Key>().unwrap().seal(&Content { what, kind, sequence, time, payload: payload.to_vec() }).unwrap()
    }

    fn device() -> Receiver {
        Receiver::new(vec![KEY.parse().unwrap()])
    }

    #[test]
    fn all_that_is_clear_is_shown_and_not_answered() {
        let known = "mailbox=\"mailat:joe@foo.com\" timestamp=2004-02-20T06:40:00Z";
        for (octets, form) in [
            (emn().wbxml(), "EMN-WBXML"),
            (emn().xml().into_bytes(), "EMN"),
            (b"<xemn mailbox='mailat:joe@foo.com' timestamp='2004-02-20T06:40:00Z'/>".to_vec(), "XEMN"),
        ] {
            let said = hear(None, &octets, AT);
            assert_eq!(said, Said { word: NOTICE, rest: format!("form={form} {known}"), answer: None });
        }
        let said = hear(None, b"hello", AT);
        assert_eq!(said.rest, "octets=5 reason=\"expected an element at octet 0\"");
        assert_eq!(hear(None, &sealed(1, Kind::Emn, AT, b""), AT).rest, "octets=40 reason=\"there is no key\"");
    }

    #[test]
    fn a_sender_does_not_write_to_the_terminal() {
        let said = hear(None, b"<xemn mailbox='a&#10;notice b' subject='\xc2\x9b31m\xe2\x80\xae\"'>x&#13;y</xemn>", AT);
        assert_eq!(said.rest, r#"form=XEMN mailbox="a\nnotice b" subject="\u{9b}31m\u{202e}\"" text="x\ry""#);
    }

    #[test]
    fn with_a_key_only_what_is_sealed_counts() {
        let mut device = device();
        let mut said = |octets: &[u8]| {
            let said = hear(Some(&mut device), octets, AT);
            (said.word, said.rest, said.answer.map(|answer| (answer.len(), answer[4])))
        };
        let dropped = |octets, reason: &str| ("dropped", format!("octets={octets} reason=\"{reason}\""), None);
        assert_eq!(said(&emn().wbxml()), dropped(29, "no MEM1"));
        let mut forged = sealed(7, Kind::EmnWbxml, AT, &emn().wbxml());
        forged[30] ^= 1;
        assert_eq!(said(&forged), dropped(69, "not written by who has the key"));
        let late = sealed(7, Kind::EmnWbxml, AT + Duration::from_secs(301), &emn().wbxml());
        assert_eq!(said(&late), dropped(69, "more than 300 s from now"));
        let first = sealed(7, Kind::EmnWbxml, AT, &emn().wbxml());
        let rest =
            "form=EMN-WBXML key=a1b2c3d4 sequence=7 mailbox=\"mailat:joe@foo.com\" timestamp=2004-02-20T06:40:00Z";
        assert_eq!(said(&first), ("notice", rest.to_owned(), Some((40, 0x81))));
        assert_eq!(said(&first), ("repeated", "key=a1b2c3d4 sequence=7".to_owned(), Some((40, 0x81))));
        let probe = sealed(8, Kind::None, AT, b"");
        assert_eq!(said(&probe), ("probe", "key=a1b2c3d4 sequence=8".to_owned(), Some((40, 0x82))));
        let json = sealed(9, Kind::Json, AT, b"{}");
        assert_eq!(said(&json), ("unread", "key=a1b2c3d4 sequence=9 kind=4".to_owned(), Some((40, 0x81))));
        let broken = sealed(10, Kind::Xemn, AT, b"<xemn/>");
        let reason = "key=a1b2c3d4 sequence=10 reason=\"expected the attribute mailbox at octet 1\"";
        assert_eq!(said(&broken), ("unread", reason.to_owned(), Some((40, 0x81))));
    }

    #[tokio::test]
    async fn it_acknowledges_over_a_socket_and_ends_after_so_many_notices() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let told = lines.clone();
        let tell = move |line: &[u8]| {
            let line = String::from_utf8_lossy(line).into_owned();
            told.lock().unwrap().push(line.split(' ').next().unwrap_or_default().to_owned());
            Ok(())
        };
        let device = tokio::spawn(Device { socket, receiver: Some(device()) }.listen(Some(2), tell));
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let key: Key = KEY.parse().unwrap();
        let mut answer = [0; 64];
        server.send_to(b"hello", address).await.unwrap();
        for sequence in [1, 1, 2] {
            let sent = sealed(sequence, Kind::EmnWbxml, now, &emn().wbxml());
            server.send_to(&sent, address).await.unwrap();
            // What comes first is the answer to this one: nothing answers "hello".
            let (len, from) = server.recv_from(&mut answer).await.unwrap();
            assert!(from == address && key.acknowledges(&sent, &answer[..len], now));
        }
        device.await.unwrap().unwrap();
        assert_eq!(*lines.lock().unwrap(), ["listening", "dropped", "notice", "repeated", "notice"]);
    }

    #[test]
    fn keys_come_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("phone.key");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            keys(&path).map_err(|error| error.to_string().replace(&*path.display().to_string(), "FILE"))
        };
        assert_eq!(read(&format!("{KEY}\n\n{}\n", KEY.replace("a1", "a2"))).map(|keys| keys.len()), Ok(2));
        assert_eq!(read("\n"), Err("FILE: there is no key in it".to_owned()));
        let wrong = read("\nsecret\n").unwrap_err();
        assert!(wrong.starts_with("FILE, line 2: expected a key") && !wrong.contains("secret"), "{wrong}");
        assert!(matches!(keys(&folder.path().join("none")), Err(ReceiveError::File { .. })));
    }
}
