//! The carrier of mails: a submission server of the operator's (RFC 6409).
//!
//!     S: 220 mail.foo.com ESMTP                   C: EHLO foo.com
//!     S: 250-STARTTLS ... 250 AUTH PLAIN          C: STARTTLS       and EHLO again, over TLS
//!     S: 235 2.7.0 Accepted                       C: AUTH PLAIN ... before
//!     S: 250 2.1.0 Ok                             C: MAIL FROM:<>
//!     S: 550 5.1.1 No such user                   C: RCPT TO:<joe@phone.example>     ->  Smtp { 550, 5.1.1 }
//!     S: 354 Go ahead                             C: DATA, the message, "."
//!     S: 250 2.0.0 Ok                             C: QUIT           ->  Smtp { 250, 2.0.0 }
//!
//! A connection for each mail: there are few. When it is lost before the end of the message, nothing was submitted: Unreachable. Behind it the
//! server may have taken it, and a notification is not submitted twice (RFC 5436 section 2.7): Sent.
//!
//! The dialogue is written here, and not by `lettre`: its client reads a line of any length into memory, goes on over TLS with what came in clear
//! behind the answer to STARTTLS, so that somebody between can write answers (RFC 3207 section 6), tells an enhanced status only within a
//! sentence, and does not say whether a mail was lost before its end or behind it. Requirement N20.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use zeroize::Zeroizing;

use super::server::{LEAVING, Server, hear, password, say};
use crate::{
    imap::secret::Secret,
    io::{
        tls::{self, TlsError},
        transport::Transport,
    },
    outband::channel::{Answer, Mail},
    units::Span,
};

/// The longest reply that is read, in octets: EHLO tells some dozens of lines.
const LONGEST_REPLY: usize = 16 << 10;
/// Connections at a time.
const CONNECTIONS: usize = 4;

/// `[outband.mail]`: how mails leave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The submission server: `"mail.example.net:465"`. None: no mails are sent.
    pub server: Option<Server>,
    /// When TLS begins.
    pub tls: Begins,
    /// A file with the certificates that the server's has to come from; none: those of the system.
    pub ca: Option<PathBuf>,
    /// Our user at the server; none: it takes our mails by our address.
    pub user: Option<String>,
    /// A file with the user's password.
    pub password_file: Option<PathBuf>,
    /// Whom mails are from: an address of yours, `mem@example.net`. Its host is also what we call ourselves.
    pub from: String,
    /// EXTENDED goes by mail too. It says that you take mail for private enough.
    pub private: bool,
    /// How long a mail may take.
    pub timeout: Span,
}

/// When TLS begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Begins {
    /// With the connection (RFC 8314), mostly on port 465.
    #[default]
    Implicit,
    /// By STARTTLS (RFC 3207), which the server has to offer; mostly on port 587.
    Starttls,
    /// Never, and then no password is told: for a server on this machine.
    Never,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: None,
            tls: Begins::default(),
            ca: None,
            user: None,
            password_file: None,
            from: String::new(),
            private: false,
            timeout: Span::seconds(60),
        }
    }
}

/// Why mails cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// They have no sender.
    #[error("from: expected an address: user@host")]
    From,
    /// A password in clear, or half of what it needs.
    #[error("user: expected password_file beside it, and TLS")]
    User,
    /// The password.
    #[error("{}: {error}", file.display())]
    Password {
        /// In which file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The carrier.
pub struct Smtp {
    server: Server,
    begins: Begins,
    trust: Option<Arc<ClientConfig>>,
    login: Option<(String, Secret)>,
    /// What we call ourselves.
    host: String,
    timeout: Duration,
    turns: Semaphore,
}

impl Smtp {
    /// With these settings, of which files are read here; none where no server is named.
    pub fn new(settings: &Settings) -> Result<Option<Self>, SettingsError> {
        let Some(server) = settings.server.clone() else { return Ok(None) };
        let host = settings.from.rsplit_once('@').map(|(_, host)| host).unwrap_or_default();
        if host.is_empty() || !host.bytes().all(|octet| octet.is_ascii_alphanumeric() || b".-".contains(&octet)) {
            return Err(SettingsError::From);
        }
        let login = match (&settings.user, &settings.password_file) {
            (None, None) => None,
            (Some(user), Some(file)) if settings.tls != Begins::Never => {
                let password = password(file).map_err(|error| SettingsError::Password { file: file.clone(), error })?;
                Some((user.clone(), password))
            }
            _ => return Err(SettingsError::User),
        };
        let trust = if settings.tls == Begins::Never { None } else { Some(tls::believe(settings.ca.as_deref())?) };
        Ok(Some(Self {
            server,
            begins: settings.tls,
            trust,
            login,
            host: host.to_owned(),
            timeout: settings.timeout.0,
            turns: Semaphore::new(CONNECTIONS),
        }))
    }

    /// Submits the mail, and says what the server says.
    pub async fn carry(&self, mail: &Mail) -> Answer {
        let deadline = Instant::now() + self.timeout;
        let mut is_submitted = false;
        let answer = match timeout_at(deadline, self.submit(mail, deadline, &mut is_submitted)).await {
            Ok(Ok(reply) | Err(Stop::Refused(reply))) => Answer::Smtp { code: reply.code, status: reply.status },
            _ if is_submitted => Answer::Sent,
            _ => Answer::Unreachable,
        };
        match &answer {
            Answer::Smtp { code, status } => tracing::debug!(code, ?status, "mail answered"),
            _ => tracing::debug!(is_submitted, "mail not answered"),
        }
        answer
    }

    async fn submit(&self, mail: &Mail, deadline: Instant, is_submitted: &mut bool) -> Result<Reply, Stop> {
        let _turn = self.turns.acquire().await.map_err(io::Error::other)?;
        let mut dialogue = self.begin(deadline).await?;
        let reply = dialogue.submit(mail, is_submitted).await;
        // How the server takes its leave is nobody's business any more.
        tokio::spawn(dialogue.leave());
        reply
    }

    /// A dialogue in which mails may be submitted.
    async fn begin(&self, deadline: Instant) -> Result<Dialogue, Stop> {
        let mut transport = self.server.connect(deadline).await?;
        if let (Begins::Implicit, Some(trust)) = (self.begins, &self.trust) {
            transport = self.server.prove(transport, trust.clone(), deadline).await?;
        }
        let mut dialogue = Dialogue { transport, heard: Vec::new() };
        dialogue.reply(2).await?;
        let hello = format!("EHLO {}", self.host);
        let mut offers = dialogue.command(&hello, 2).await?;
        if let (Begins::Starttls, Some(trust)) = (self.begins, &self.trust) {
            if !offers.offer("STARTTLS") {
                return Err(without("the mail server does not offer STARTTLS"));
            }
            dialogue.command("STARTTLS", 2).await?;
            if !dialogue.heard.is_empty() {
                return Err(without("something came in clear behind the answer to STARTTLS"));
            }
            dialogue.transport = self.server.prove(dialogue.transport, trust.clone(), deadline).await?;
            offers = dialogue.command(&hello, 2).await?;
        }
        if let Some((user, password)) = &self.login {
            if !offers.offer("AUTH PLAIN") {
                return Err(without("the mail server does not offer AUTH PLAIN"));
            }
            let secret = Zeroizing::new([b"\0", user.as_bytes(), b"\0", password.expose()].concat());
            let line = Zeroizing::new(format!("AUTH PLAIN {}", STANDARD.encode(&*secret)));
            dialogue.command(&line, 2).await?;
        }
        Ok(dialogue)
    }
}

/// Why it goes no further.
#[derive(Debug)]
enum Stop {
    /// The server does not want it.
    Refused(Reply),
    /// Nobody is there, or nobody who speaks SMTP.
    Lost,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        tracing::debug!(%error, "mail server lost");
        Self::Lost
    }
}

/// What somebody has to mend.
fn without(what: &'static str) -> Stop {
    tracing::warn!(what, "no mail is sent");
    Stop::Lost
}

/// A reply of the server's (RFC 5321 section 4.2).
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    code: u16,
    status: Option<(u8, u16, u16)>,
    /// The text of its lines, in capitals.
    lines: Vec<String>,
}

impl Reply {
    /// The first reply in these octets and its length, if it is all there.
    fn first(octets: &[u8]) -> io::Result<Option<(Self, usize)>> {
        let strange = || io::Error::new(io::ErrorKind::InvalidData, "no reply of SMTP");
        let (mut lines, mut used) = (Vec::new(), 0);
        for line in octets.split_inclusive(|octet| *octet == b'\n') {
            let Some(line) = line.strip_suffix(b"\n") else { break };
            used += line.len() + 1;
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
            let code =
                line.get(..3).filter(|code| code.bytes().all(|digit| digit.is_ascii_digit())).ok_or_else(strange)?;
            let code: u16 = code.parse().map_err(|_| strange())?;
            let (goes_on, text) = match line.as_bytes().get(3) {
                Some(b'-') => (true, &line[4..]),
                Some(b' ') => (false, &line[4..]),
                None => (false, ""),
                Some(_) => return Err(strange()),
            };
            lines.push(text.to_ascii_uppercase());
            if !goes_on {
                let status = enhanced(text, code);
                return Ok(Some((Self { code, status, lines }, used)));
            }
        }
        Ok(None)
    }

    /// Whether EHLO was answered with this: a keyword, or one and a parameter of it.
    fn offer(&self, wanted: &str) -> bool {
        let (keyword, parameter) = wanted.split_once(' ').unwrap_or((wanted, ""));
        self.lines.iter().skip(1).any(|line| {
            let mut words = line.split(' ');
            words.next() == Some(keyword) && (parameter.is_empty() || words.any(|word| word == parameter))
        })
    }
}

/// The enhanced status at the beginning of a text (RFC 2034 section 4), if its class is that of the code.
fn enhanced(text: &str, code: u16) -> Option<(u8, u16, u16)> {
    let mut parts = text.split(' ').next()?.split('.');
    let mut number = || parts.next().filter(|part| part.len() <= 3)?.parse::<u16>().ok();
    let (class, subject, detail) = (number()?, number()?, number()?);
    (parts.next().is_none() && class == code / 100).then_some((class as u8, subject, detail))
}

/// A dialogue with a mail server.
struct Dialogue {
    transport: Transport,
    /// What was heard and not yet read.
    heard: Vec<u8>,
}

impl Dialogue {
    async fn submit(&mut self, mail: &Mail, is_submitted: &mut bool) -> Result<Reply, Stop> {
        self.command("MAIL FROM:<>", 2).await?;
        self.command(&format!("RCPT TO:<{}>", mail.to), 2).await?;
        self.command("DATA", 3).await?;
        say(&mut self.transport, stuffed(&mail.message).as_bytes()).await?;
        *is_submitted = true;
        self.command(".", 2).await
    }

    /// Says a line, and hears a reply of this class.
    async fn command(&mut self, line: &str, class: u16) -> Result<Reply, Stop> {
        let line = Zeroizing::new(format!("{line}\r\n"));
        say(&mut self.transport, line.as_bytes()).await?;
        self.reply(class).await
    }

    /// A reply of this class. One of another class that is no refusal is none of SMTP.
    async fn reply(&mut self, class: u16) -> Result<Reply, Stop> {
        let reply = self.heard().await?;
        match reply.code / 100 {
            found if found == class => Ok(reply),
            4 | 5 => Err(Stop::Refused(reply)),
            _ => Err(Stop::Lost),
        }
    }

    async fn heard(&mut self) -> io::Result<Reply> {
        loop {
            if let Some((reply, used)) = Reply::first(&self.heard)? {
                self.heard.drain(..used);
                return Ok(reply);
            }
            if self.heard.len() > LONGEST_REPLY {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a reply without an end"));
            }
            let mut octets = [0; 1024];
            match hear(&mut self.transport, &mut octets).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.heard.extend_from_slice(&octets[..count]),
            }
        }
    }

    async fn leave(mut self) {
        // Whether it is heard makes no difference.
        let _ = tokio::time::timeout(LEAVING, say(&mut self.transport, b"QUIT\r\n")).await;
        self.transport.close(LEAVING).await;
    }
}

/// The message as it goes between DATA and the end (RFC 5321 section 4.5.2).
fn stuffed(message: &str) -> String {
    let dot = |line: &str| if line.starts_with('.') { format!(".{line}") } else { line.to_owned() };
    message.split_inclusive('\n').map(dot).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio::{
        io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
        net::TcpListener,
        task::JoinHandle,
    };

    use super::*;
    use crate::io::dialer::tests::localhost;

    fn mail() -> Mail {
        Mail { to: "joe@phone.example".to_owned(), message: "Subject: news\r\n\r\n.hidden\r\n".to_owned() }
    }

    const OK: Answer = Answer::Smtp { code: 250, status: Some((2, 0, 0)) };

    /// A server that says these lines, one to each line it hears from the first on, and then is gone. Gives what it heard.
    async fn says(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), lines: &[&str]) -> String {
        let mut heard = Vec::new();
        let mut in_data = false;
        for line in lines {
            stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
            in_data |= line.starts_with("354");
            let end: &[u8] = if in_data { b"\r\n.\r\n" } else { b"\r\n" };
            let begin = heard.len();
            while !heard[begin..].ends_with(end) {
                let mut octet = [0];
                match stream.read(&mut octet).await {
                    Ok(1) => heard.push(octet[0]),
                    _ => return String::from_utf8(heard).unwrap(),
                }
            }
            in_data &= !heard.ends_with(b"\r\n.\r\n");
        }
        String::from_utf8(heard).unwrap()
    }

    async fn server(lines: &'static [&'static str]) -> (Settings, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Some(listener.local_addr().unwrap().to_string().parse().unwrap());
        let heard = tokio::spawn(async move { says(&mut listener.accept().await.unwrap().0, lines).await });
        (Settings { server, tls: Begins::Never, from: "mem@foo.com".to_owned(), ..Settings::default() }, heard)
    }

    async fn carried(settings: &Settings) -> Answer {
        Smtp::new(settings).unwrap().unwrap().carry(&mail()).await
    }

    #[tokio::test]
    async fn a_mail_is_submitted_without_a_sender() {
        let (settings, heard) =
            server(&["220 foo", "250-foo\r\n250 SIZE 1000", "250 ok", "250 ok", "354 go", "250 2.0.0 taken"]).await;
        assert_eq!(carried(&settings).await, OK);
        assert_eq!(
            heard.await.unwrap(),
            "EHLO foo.com\r\nMAIL FROM:<>\r\nRCPT TO:<joe@phone.example>\r\nDATA\r\nSubject: news\r\n\r\n..hidden\r\n.\r\nQUIT\r\n"
        );
    }

    #[tokio::test]
    async fn a_refusal_is_told_wherever_it_comes() {
        for (lines, code, status) in [
            (&["421 4.3.2 later"][..], 421, Some((4, 3, 2))),
            (&["220 foo", "502 what"], 502, None),
            (&["220 foo", "250 foo", "550 5.7.1 no"], 550, Some((5, 7, 1))),
            (&["220 foo", "250 foo", "250 ok", "550-5.1.1 no\r\n550 5.1.1 such user"], 550, Some((5, 1, 1))),
            (&["220 foo", "250 foo", "250 ok", "250 ok", "451 4.3.0 oops"], 451, Some((4, 3, 0))),
            (&["220 foo", "250 foo", "250 ok", "250 ok", "354 go", "552 5.3.4 big"], 552, Some((5, 3, 4))),
            // An enhanced status of another class is none.
            (&["220 foo", "250 foo", "250 ok", "450 5.1.1 what"], 450, None),
        ] {
            let (settings, _heard) = server(Box::leak(lines.to_vec().into_boxed_slice())).await;
            assert_eq!(carried(&settings).await, Answer::Smtp { code, status }, "{lines:?}");
        }
    }

    #[tokio::test]
    async fn what_is_lost_before_the_end_was_not_submitted_and_behind_it_perhaps() {
        const GREETED: [&str; 4] = ["220 foo", "250 foo", "250 ok", "250 ok"];
        for (lines, answer) in [
            (vec![], Answer::Unreachable),
            (GREETED.to_vec(), Answer::Unreachable),
            // A success where none belongs is none.
            ([&GREETED[..], &["250 ok"]].concat(), Answer::Unreachable),
            (vec!["220 foo", "250 foo", "354 go"], Answer::Unreachable),
            (vec!["SSH-2.0-OpenSSH"], Answer::Unreachable),
            ([&GREETED[..], &["354 go"]].concat(), Answer::Sent),
            ([&GREETED[..], &["354 go", "what"]].concat(), Answer::Sent),
        ] {
            let (settings, _heard) = server(Box::leak(lines.clone().into_boxed_slice())).await;
            assert_eq!(carried(&settings).await, answer, "{lines:?}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = Some(listener.local_addr().unwrap().to_string().parse().unwrap());
        let settings =
            Settings { server: place, tls: Begins::Never, from: "mem@foo.com".to_owned(), ..Settings::default() };
        // Nobody answers any more, and the connection stays.
        let impatient = Settings { timeout: "500ms".parse().unwrap(), ..settings.clone() };
        let (answer, _open) = tokio::join!(carried(&impatient), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            says(&mut stream, &[&GREETED[..], &["354 go"]].concat()).await;
            stream
        });
        assert_eq!(answer, Answer::Sent);
        // Nobody greets.
        let impatient = Settings { timeout: "50ms".parse().unwrap(), ..settings.clone() };
        assert_eq!(carried(&impatient).await, Answer::Unreachable);
        drop(listener);
        assert_eq!(carried(&settings).await, Answer::Unreachable);
    }

    #[tokio::test]
    async fn a_reply_without_an_end_is_not_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = Some(listener.local_addr().unwrap().to_string().parse().unwrap());
        let settings =
            Settings { server: place, tls: Begins::Never, from: "mem@foo.com".to_owned(), ..Settings::default() };
        let flood = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut said = 0_usize;
            while stream.write_all(&[b'2'; 4096]).await.is_ok() {
                said += 4096;
            }
            said
        });
        assert_eq!(carried(&settings).await, Answer::Unreachable);
        // It ended, because nobody read on.
        assert!(flood.await.unwrap() < 64 << 20);
    }

    /// A server with TLS, perhaps behind what it says in clear and an answer to STARTTLS; and the password of its user.
    async fn with_tls(
        directory: &Path,
        tls: Begins,
        (clear, go): (&'static [&'static str], &'static str),
        over: &'static [&'static str],
    ) -> (Settings, JoinHandle<String>) {
        let (pair, config) = localhost(directory);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let file = directory.join("password");
        std::fs::write(&file, "hunter2\n").unwrap();
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let heard = says(&mut stream, clear).await;
            stream.write_all(go.as_bytes()).await.unwrap();
            match tokio_rustls::TlsAcceptor::from(config).accept(stream).await {
                Ok(mut stream) => heard + &says(&mut stream, over).await,
                Err(_) => heard,
            }
        });
        let settings = Settings {
            server: Some(Server { host: "localhost".to_owned(), port }),
            tls,
            ca: Some(pair.chain),
            user: Some("mem".to_owned()),
            password_file: Some(file),
            from: "mem@foo.com".to_owned(),
            ..Settings::default()
        };
        (settings, heard)
    }

    /// base64 of NUL, "mem", NUL, "hunter2".
    const LOGIN: &str = "AUTH PLAIN AG1lbQBodW50ZXIy\r\n";

    #[tokio::test]
    async fn a_password_is_told_over_tls() {
        let directory = tempfile::tempdir().unwrap();
        let lines =
            &["220 foo", "250-foo\r\n250 AUTH LOGIN PLAIN", "235 in", "250 ok", "250 ok", "354 go", "250 2.0.0 taken"];
        let (settings, heard) = with_tls(directory.path(), Begins::Implicit, (&[], ""), lines).await;
        assert_eq!(carried(&settings).await, OK);
        let heard = heard.await.unwrap();
        assert!(heard.starts_with(&format!("EHLO foo.com\r\n{LOGIN}MAIL FROM:<>\r\n")), "{heard}");
        // One that is not taken.
        let lines = &["220 foo", "250-foo\r\n250 AUTH PLAIN", "535 5.7.8 no"];
        let (settings, _heard) = with_tls(directory.path(), Begins::Implicit, (&[], ""), lines).await;
        assert_eq!(carried(&settings).await, Answer::Smtp { code: 535, status: Some((5, 7, 8)) });
        // A server that nobody vouches for, and one that has no use for passwords.
        let (settings, heard) = with_tls(directory.path(), Begins::Implicit, (&[], ""), lines).await;
        let (other, _) = localhost(&directory.path().join("other"));
        assert_eq!(carried(&Settings { ca: Some(other.chain), ..settings }).await, Answer::Unreachable);
        assert_eq!(heard.await.unwrap(), "");
        let (settings, heard) = with_tls(directory.path(), Begins::Implicit, (&[], ""), &["220 foo", "250 foo"]).await;
        assert_eq!(carried(&settings).await, Answer::Unreachable);
        assert_eq!(heard.await.unwrap(), "EHLO foo.com\r\n");
    }

    #[tokio::test]
    async fn tls_begins_in_between_and_nothing_that_was_said_before_counts() {
        let directory = tempfile::tempdir().unwrap();
        const CLEAR: &[&str] = &["220 foo", "250-foo\r\n250-AUTH PLAIN\r\n250 STARTTLS"];
        const OVER: &[&str] = &["250-foo\r\n250 AUTH PLAIN", "235 in", "250 ok", "250 ok", "354 go", "250 2.0.0 taken"];
        let (settings, heard) = with_tls(directory.path(), Begins::Starttls, (CLEAR, "220 go\r\n"), OVER).await;
        assert_eq!(carried(&settings).await, OK);
        let heard = heard.await.unwrap();
        assert!(heard.starts_with(&format!("EHLO foo.com\r\nSTARTTLS\r\nEHLO foo.com\r\n{LOGIN}")), "{heard}");
        // Somebody between says more; the server does not offer it; it cannot now.
        for (clear, go, answer) in [
            (CLEAR, "220 go\r\n250 AUTH PLAIN\r\n", Answer::Unreachable),
            (&["220 foo", "250-foo\r\n250 AUTH PLAIN"], "", Answer::Unreachable),
            (CLEAR, "454 4.7.0 not now\r\n", Answer::Smtp { code: 454, status: Some((4, 7, 0)) }),
        ] {
            let (settings, heard) = with_tls(directory.path(), Begins::Starttls, (clear, go), OVER).await;
            assert_eq!(carried(&settings).await, answer);
            assert!(!heard.await.unwrap().contains("AUTH"));
        }
    }

    #[test]
    fn replies_are_read_to_their_end() {
        let read = |text: &str| {
            Reply::first(text.as_bytes()).map(|reply| reply.map(|(reply, used)| (reply.code, reply.status, used)))
        };
        for (text, expected) in [
            ("250 ok\r\n", Some((250, None, 8))),
            ("250\r\n", Some((250, None, 5))),
            ("250-a\r\n250 2.1.5 b\r\n220 c\r\n", Some((250, Some((2, 1, 5)), 20))),
            ("250 ok\n", Some((250, None, 7))),
            ("250-a\r\n250", None),
            ("250 2.1 b\r\n", Some((250, None, 11))),
            ("250 2.1.5.7 b\r\n", Some((250, None, 15))),
            ("550 5.1.9999 b\r\n", Some((550, None, 16))),
            ("", None),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text:?}");
        }
        for text in ["25 ok\r\n", "\r\n", "abc ok\r\n", "+50 ok\r\n", "2500 ok\r\n", "\u{663}50 ok\r\n"] {
            assert!(read(text).is_err(), "{text:?}");
        }
        let (reply, _) = Reply::first(b"250-STARTTLS AUTH\r\n250-auth login plain\r\n250 SIZE 1\r\n").unwrap().unwrap();
        assert!(reply.offer("AUTH PLAIN") && reply.offer("SIZE"));
        // The first line is a name.
        assert!(!reply.offer("STARTTLS") && !reply.offer("AUTH XOAUTH2"));
    }

    #[test]
    fn settings_are_complete_or_refused() {
        let server = Some("mail.foo.com:465".parse().unwrap());
        let good = Settings { server, tls: Begins::Never, from: "mem@foo.com".to_owned(), ..Settings::default() };
        assert!(matches!(Smtp::new(&good), Ok(Some(_))));
        assert!(matches!(Smtp::new(&Settings::default()), Ok(None)));
        let refused =
            |settings: Settings| Smtp::new(&settings).err().map(|error| error.to_string()).unwrap_or_default();
        for from in ["", "mem", "mem@", "mem@foo.com\r\nRSET"] {
            assert!(refused(Settings { from: from.to_owned(), ..good.clone() }).starts_with("from:"), "{from}");
        }
        let (user, file) = (Some("mem".to_owned()), Some(PathBuf::from("/nowhere/password")));
        // In clear, or without its half.
        let clear = Settings { user: user.clone(), password_file: file.clone(), ..good.clone() };
        assert!(refused(clear.clone()).starts_with("user:"));
        assert!(refused(Settings { user, ..good.clone() }).starts_with("user:"));
        assert!(refused(Settings { tls: Begins::Implicit, ..clear }).starts_with("/nowhere/password:"));
        let text = "server = \"mail.foo.com:587\"\ntls = \"starttls\"\nfrom = \"mem@foo.com\"\n";
        assert_eq!(toml::from_str::<Settings>(text).unwrap().tls, Begins::Starttls);
        assert!(toml::from_str::<Settings>("sever = \"x:1\"").is_err());
    }
}
