//! Asking a backend how it is, and what it can do before login.
//!
//!     S: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready
//!     C: p1 STARTTLS                            where the URL asks for it
//!     C: p2 CAPABILITY
//!     S: * CAPABILITY IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2
//!     C: p3 LOGOUT
//!
//! The words after TLS count: many backends say less in clear. Listeners offer the mechanisms that all their backends share.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{
    backends::Scheme,
    dialer::{ConnectError, Dialer, Host},
    transport::Transport,
};
use crate::{
    imap::capability::Capabilities,
    session::profile::{self, Profile},
};

/// What a backend said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The host that was asked.
    pub url: String,
    /// Its greeting, without the end of the line.
    pub greeting: String,
    /// What it can do before login, over TLS where the URL has it.
    pub capabilities: Capabilities,
    /// The version of TLS and the cipher suite, if TLS ran.
    pub tls: Option<String>,
}

impl Probe {
    /// What server this is, as far as it tells.
    pub fn profile(&self) -> &'static Profile {
        profile::recognise(self.greeting.as_bytes()).or_told_by(&self.capabilities)
    }
}

/// What is known of a backend.
#[derive(Clone, Debug)]
pub struct Condition {
    /// What it said when it was last up.
    pub probe: Option<Probe>,
    /// Why it is down; `None` while it is up, or was not asked yet.
    pub error: Option<Arc<str>>,
    /// Since when it is up or down.
    pub since: SystemTime,
}

/// Why a backend is not one that we could use.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// It could not be reached.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// It did not answer in time.
    #[error("{0}: no answer within {1:?}")]
    Timeout(String, Duration),
    /// It greets with BYE.
    #[error("{0}: it says goodbye at once: {1}")]
    Bye(String, String),
    /// It greets in another language.
    #[error("{0}: not an IMAP server: it greets with \"{1}\"")]
    NotImap(String, String),
    /// It refuses a command that every server knows.
    #[error("{0}: it refuses {1}: {2}")]
    Refused(String, &'static str, String),
    /// It says more than anybody would.
    #[error("{0}: it says more than {LONGEST} octets")]
    TooLong(String),
    /// STARTTLS was agreed on and TLS did not come about.
    #[error("{0}: TLS: {1}")]
    Tls(String, io::Error),
    /// The connection broke.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// No host is configured.
    #[error("no host to ask")]
    Nobody,
}

/// All that a backend may say in one probe.
const LONGEST: usize = 64 << 10;
/// How long a backend has for all of it, once connected.
const PATIENCE: Duration = Duration::from_secs(10);

impl Condition {
    /// Whether sessions may be sent there, as far as we know.
    pub fn is_up(&self) -> bool {
        self.error.is_none()
    }

    /// What is known after another probe.
    pub fn after(&self, result: Result<Probe, ProbeError>, now: SystemTime) -> Self {
        let error = result.as_ref().err().map(|error| error.to_string().into());
        let stays = self.error.is_none() == error.is_none() && (self.probe.is_some() || self.error.is_some());
        Self { probe: result.ok().or_else(|| self.probe.clone()), error, since: if stays { self.since } else { now } }
    }
}

impl Default for Condition {
    fn default() -> Self {
        Self { probe: None, error: None, since: SystemTime::UNIX_EPOCH }
    }
}

/// Asks the hosts in turn; the first that answers speaks for the backend, else the last one's error is told.
pub async fn probe(dialer: &Dialer) -> Result<Probe, ProbeError> {
    let mut result = Err(ProbeError::Nobody);
    for host in dialer.hosts() {
        result = probe_host(dialer, host).await;
        if result.is_ok() {
            break;
        }
    }
    result
}

/// Asks one host.
pub async fn probe_host(dialer: &Dialer, host: &Host) -> Result<Probe, ProbeError> {
    let transport = dialer.connect_to(host, None).await?;
    let deadline = Instant::now() + PATIENCE;
    let url = host.url.to_string();
    let talk = Talk { transport, url: url.clone(), heard: Vec::new(), taken: 0 };
    let asked = tokio::time::timeout_at(deadline, talk.ask(dialer, host, deadline)).await;
    let (probe, transport) = asked.unwrap_or(Err(ProbeError::Timeout(url, PATIENCE)))?;
    // It has said all we want; whether it says BYE nicely is its own affair.
    tokio::spawn(transport.close(Duration::from_secs(1)));
    Ok(probe)
}

/// A conversation with a backend, line by line.
struct Talk {
    transport: Transport,
    url: String,
    heard: Vec<u8>,
    taken: usize,
}

impl Talk {
    async fn ask(mut self, dialer: &Dialer, host: &Host, deadline: Instant) -> Result<(Probe, Transport), ProbeError> {
        let greeting = self.line().await?;
        match greeting.split(' ').nth(1).unwrap_or_default().to_ascii_uppercase().as_str() {
            "OK" | "PREAUTH" => {}
            "BYE" => return Err(ProbeError::Bye(self.url.clone(), greeting)),
            _ => return Err(ProbeError::NotImap(self.url.clone(), greeting)),
        }
        if let (Scheme::Starttls, Some(trust)) = (host.url.scheme, &dialer.trust) {
            self.command("p1", "STARTTLS").await?;
            if self.taken < self.heard.len() {
                let error = io::Error::other("something in clear stands behind the answer to STARTTLS");
                return Err(ProbeError::Tls(self.url, error));
            }
            let begun = self.transport.connect_tls(host.name.clone(), trust.clone(), deadline).await;
            self.transport = begun.map_err(|error| ProbeError::Tls(self.url.clone(), error))?;
        }
        let lines = self.command("p2", "CAPABILITY").await?;
        let words = lines.iter().filter_map(|line| after(line, "* CAPABILITY "));
        let capabilities = words.flat_map(|words| words.split(' ')).collect();
        self.say("p3 LOGOUT\r\n").await?;
        let tls = self.transport.tls_version();
        Ok((Probe { url: self.url, greeting, capabilities, tls }, self.transport))
    }

    /// Says a command, and hears what is said until it is answered with OK.
    async fn command(&mut self, tag: &str, command: &'static str) -> Result<Vec<String>, ProbeError> {
        self.say(&format!("{tag} {command}\r\n")).await?;
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            match line.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                Some(status) if after(status, "OK").is_some() => return Ok(lines),
                Some(status) => return Err(ProbeError::Refused(self.url.clone(), command, status.to_owned())),
                None => lines.push(line),
            }
        }
    }

    async fn say(&mut self, text: &str) -> Result<(), ProbeError> {
        let mut left = text.as_bytes();
        while !left.is_empty() {
            let written = poll_fn(|cx| self.transport.poll_write(cx, left)).await.map_err(|error| self.lost(error))?;
            left = &left[written..];
        }
        poll_fn(|cx| self.transport.poll_flush(cx)).await.map_err(|error| self.lost(error))
    }

    async fn line(&mut self) -> Result<String, ProbeError> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.heard[self.taken..]) {
                let line = &self.heard[self.taken..self.taken + end];
                let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
                self.taken += end + 1;
                return Ok(text);
            }
            if self.heard.len() >= LONGEST {
                return Err(ProbeError::TooLong(self.url.clone()));
            }
            let mut octets = [0; 1024];
            let read = poll_fn(|cx| self.transport.poll_read(cx, &mut octets)).await;
            match read.map_err(|error| self.lost(error))? {
                0 => return Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                len => self.heard.extend_from_slice(&octets[..len]),
            }
        }
    }

    fn lost(&self, error: io::Error) -> ProbeError {
        ProbeError::Io(self.url.clone(), error)
    }
}

/// What follows these words, however they are written.
fn after<'a>(line: &'a str, words: &str) -> Option<&'a str> {
    let (start, rest) = line.split_at_checked(words.len())?;
    start.eq_ignore_ascii_case(words).then_some(rest)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::io::dialer::tests::{dialer, localhost};

    /// A backend that says the first of these, and the others in turn after each line it hears; then it closes.
    async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin, says: &[&str]) {
        let mut stream = BufReader::new(stream);
        let mut heard = String::new();
        for text in says {
            if stream.write_all(text.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                return;
            }
            let _ = stream.read_line(&mut heard).await;
        }
    }

    /// What a probe makes of it.
    async fn probe_of(says: &'static [&'static str]) -> Result<Probe, ProbeError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("imap://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { speak(listener.accept().await.unwrap().0, says).await });
        probe(&dialer(&[url], |_| ())).await
    }

    #[tokio::test]
    async fn a_probe_tells_greeting_and_capabilities() {
        let probe = probe_of(&[
            "* OK [CAPABILITY IMAP4rev1] ready\r\n",
            "* 1 SURPRISE\r\n* capability IMAP4rev1 AUTH=PLAIN\r\n* CAPABILITY IDLE\r\np2 ok done\r\n",
            "* BYE\r\np3 OK\r\n",
        ])
        .await
        .unwrap();
        assert_eq!(probe.greeting, "* OK [CAPABILITY IMAP4rev1] ready");
        assert_eq!(probe.capabilities.text(), "IMAP4rev1 AUTH=PLAIN IDLE");
        assert_eq!(probe.tls, None);
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_with_the_words_of_the_backend() {
        let long: &'static str = "x".repeat(LONGEST + 1).leak();
        let cases: Vec<(&'static [&'static str], &str)> = vec![
            (&["* BYE too busy\r\n"], "it says goodbye at once: * BYE too busy"),
            (&["220 smtp.example.org ESMTP\r\n"], "it greets with \"220 smtp.example.org ESMTP\""),
            (&["* OK\r\n", "p2 BAD what?\r\n"], "it refuses CAPABILITY: BAD what?"),
            (&["* OK ready\r\n"], "unexpected end of file"),
            (&[], "unexpected end of file"),
            (vec![long].leak(), "more than 65536 octets"),
        ];
        for (says, reason) in cases {
            let error = probe_of(says).await.unwrap_err().to_string();
            assert!(error.starts_with("imap://127.0.0.1:") && error.contains(reason), "{error}");
        }
    }

    /// A backend with STARTTLS; `in_clear` is its answer to it.
    async fn starttls(in_clear: &'static str, after: &'static [&'static str]) -> Result<Probe, ProbeError> {
        let directory = tempfile::tempdir().unwrap();
        let (pair, config) = localhost(directory.path());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("imap+starttls://localhost:{}", listener.local_addr().unwrap().port());
        tokio::spawn(async move {
            let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
            speak(&mut stream, &["* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready\r\n"]).await;
            stream.write_all(in_clear.as_bytes()).await.unwrap();
            if let Ok(stream) = tokio_rustls::TlsAcceptor::from(config).accept(stream).await {
                speak(stream, after).await;
            }
        });
        probe(&dialer(&[url], |backend| backend.ca = Some(pair.chain))).await
    }

    #[tokio::test]
    async fn the_capabilities_after_starttls_count_and_nothing_said_before_it() {
        let after = &["", "* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\np2 OK\r\n", ""];
        let probe = starttls("p1 OK\r\n* CAPABILITY AUTH=CRAM-MD5\r\np2 OK\r\n", &after[1..]).await;
        assert!(probe.is_err_and(|error| error.to_string().contains("TLS:")));
        let probe = starttls("p1 OK begin\r\n", after).await.unwrap();
        assert_eq!(probe.capabilities.text(), "IMAP4rev1 AUTH=PLAIN");
        assert!(probe.tls.unwrap().starts_with("TLSv1_3"));
    }

    #[tokio::test]
    async fn a_backend_that_refuses_starttls_is_not_spoken_to_in_clear() {
        let error = starttls("p1 BAD no\r\n", &[]).await.unwrap_err().to_string();
        assert!(error.contains("it refuses STARTTLS: BAD no"), "{error}");
    }

    #[test]
    fn a_condition_keeps_what_was_known_and_since_when() {
        let moment = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let found = || Probe {
            url: String::new(),
            greeting: "* OK".to_owned(),
            capabilities: Capabilities::default(),
            tls: None,
        };
        let first = Condition::default().after(Ok(found()), moment(1));
        let second = first.after(Ok(found()), moment(2));
        assert_eq!((second.is_up(), second.since), (true, moment(1)));
        let down = second.after(Err(ProbeError::Nobody), moment(3));
        assert_eq!((down.is_up(), down.since, down.probe.is_some()), (false, moment(3), true));
        assert_eq!(down.after(Err(ProbeError::Nobody), moment(4)).since, moment(3));
        assert_eq!(down.after(Ok(found()), moment(5)).since, moment(5));
    }
}
