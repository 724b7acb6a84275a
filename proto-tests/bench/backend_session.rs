//! One session of the bench's backend: RFC 3501, as much of it as the load generator and the proxies ask for.
//!
//!     C: a SELECT 1m
//!     S: * 1000000 EXISTS
//!     C: b FETCH 7 (BODY.PEEK[])
//!     S: * 7 FETCH (UID 7 BODY[] {1048576}
//!     S| ...)
//!
//! Answers gather in one buffer and leave in large writes; a message's octets go from the shared block to the socket.

use std::{
    io::{self, IoSlice, Write},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use crate::{
    growing::{self, Growing},
    pattern,
};

/// Messages in each mailbox that does not grow.
const EXISTS: u64 = 1_000_000;
/// A command longer than this, literals aside, ends the session.
const COMMAND_LIMIT: u64 = 64 << 10;
/// Octets of a message in a mailbox that grows.
const SMALL: u64 = 64;
/// Answers leave when this much has gathered.
const WRITE_SIZE: usize = 64 << 10;
/// An APPEND is read in pieces of this size.
const READ_SIZE: usize = 256 << 10;
/// What a message is like when nobody asks for its body; behind it stands the parenthesis of the FETCH.
const ENVELOPE: &str = "ENVELOPE (\"Mon, 7 Feb 1994 21:52:25 -0800 (PST)\" \"afternoon meeting, second attempt\" \
     ((\"Fred Foobar\" NIL \"foobar\" \"Blurdybloop.example\")) ((\"Fred Foobar\" NIL \"foobar\" \"Blurdybloop.example\")) \
     ((\"Fred Foobar\" NIL \"foobar\" \"Blurdybloop.example\")) ((NIL NIL \"mooch\" \"owatagu.example\")) NIL NIL NIL \
     \"<B27397-0100000@Blurdybloop.example>\")";

/// Speaks with one peer until it leaves.
pub async fn serve(stream: TcpStream, capability: &'static str, growing: Arc<Growing>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (input, output) = stream.into_split();
    let mut session = Session {
        input: BufReader::with_capacity(4096, input),
        output,
        unsent: Vec::new(),
        capability,
        growing,
        user: String::new(),
        message_size: 0,
        open: None,
    };
    session.say(format_args!("* OK [CAPABILITY {capability}] bench ready\r\n"));
    while let Some(command) = session.command().await? {
        if let Next::Leave = session.obey(&command).await? {
            break;
        }
    }
    session.flush().await
}

enum Next {
    Stay,
    Leave,
}

struct Session {
    input: BufReader<OwnedReadHalf>,
    output: OwnedWriteHalf,
    unsent: Vec<u8>,
    capability: &'static str,
    growing: Arc<Growing>,
    user: String,
    message_size: u64,
    /// The mailbox that is open, if it is one that grows.
    open: Option<Open>,
}

/// How many messages there are, and how many were told of.
struct Open {
    count: watch::Receiver<u64>,
    told: u64,
}

impl Session {
    /// The next command without its CRLF; small literals stand in it as they came, an APPEND ends at its literal's head.
    async fn command(&mut self) -> io::Result<Option<String>> {
        let mut command = Vec::new();
        while self.line(&mut command).await? {
            let Some((len, waits)) = pattern::literal(&command).filter(|_| verb_of(&command) != "APPEND") else {
                return String::from_utf8(command).map(Some).map_err(io::Error::other);
            };
            if waits {
                self.say(format_args!("+ go on\r\n"));
                self.flush().await?;
            }
            let copied = (&mut self.input).take(len.min(COMMAND_LIMIT)).read_to_end(&mut command).await?;
            if copied as u64 != len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(None)
    }

    /// Appends a line without its CRLF; false when the peer has left.
    async fn line(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        if self.input.buffer().is_empty() {
            self.flush().await?;
        }
        (&mut self.input).take(COMMAND_LIMIT).read_until(b'\n', line).await?;
        let complete = line.ends_with(b"\r\n");
        line.truncate(line.len() - if complete { 2 } else { 0 });
        Ok(complete)
    }

    async fn obey(&mut self, command: &str) -> io::Result<Next> {
        let mut words = command.splitn(3, ' ');
        let (tag, verb, rest) = (words.next().unwrap_or("*"), words.next().unwrap_or(""), words.next().unwrap_or(""));
        let verb = verb.to_ascii_uppercase();
        match verb.as_str() {
            "APPEND" => return self.append(tag, rest).await,
            "AUTHENTICATE" => self.authenticate(rest).await?,
            "LOGIN" => self.user = rest.split(' ').next().unwrap_or_default().trim_matches('"').to_owned(),
            "FETCH" => self.fetch(rest).await?,
            "NOOP" => self.tell_news(),
            "IDLE" => self.idle().await?,
            "SELECT" | "EXAMINE" => self.select(rest),
            "UID" => return Box::pin(self.obey(&format!("{tag} {rest}"))).await,
            _ => {}
        }
        let capability = self.capability;
        match verb.as_str() {
            "CAPABILITY" => self.say(format_args!("* CAPABILITY {capability}\r\n")),
            "STORE" => {
                for number in numbers(rest, self.exists()) {
                    self.say(format_args!("* {number} FETCH (FLAGS (\\Seen \\Flagged))\r\n"));
                }
            }
            verb => match untagged(verb) {
                Some(text) => self.say(format_args!("{text}")),
                None => {
                    self.say(format_args!("{tag} BAD unknown command\r\n"));
                    return Ok(Next::Stay);
                }
            },
        }
        match verb.as_str() {
            "LOGIN" | "AUTHENTICATE" => self.say(format_args!("{tag} OK [CAPABILITY {capability}] welcome\r\n")),
            "SELECT" => self.say(format_args!("{tag} OK [READ-WRITE] SELECT completed\r\n")),
            verb => self.say(format_args!("{tag} OK {verb} completed\r\n")),
        }
        Ok(if verb == "LOGOUT" { Next::Leave } else { Next::Stay })
    }

    /// RFC 4616, with and without the initial response of RFC 4959. Whoever it is may come in, also in the name of somebody else.
    async fn authenticate(&mut self, rest: &str) -> io::Result<()> {
        let mut response = rest.split_once(' ').map(|(_, response)| response.as_bytes().to_vec()).unwrap_or_default();
        if response.is_empty() {
            self.say(format_args!("+ \r\n"));
            self.flush().await?;
            self.line(&mut response).await?;
        }
        let plain = STANDARD.decode(response).unwrap_or_default();
        let mut names = plain.split(|octet| *octet == 0);
        let [authorized, authenticated] = [names.next(), names.next()].map(Option::unwrap_or_default);
        let user = if authorized.is_empty() { authenticated } else { authorized };
        self.user = String::from_utf8_lossy(user).into_owned();
        Ok(())
    }

    fn select(&mut self, rest: &str) {
        let mailbox = rest.trim_matches('"');
        let growing = growing::name(&self.user, mailbox).map(|name| self.growing.count(&name).subscribe());
        self.open = growing.map(|count| Open { count, told: u64::MAX });
        if self.open.is_some() {
            let next = self.exists() + 1;
            self.say(format_args!(
                "* FLAGS (\\Seen)\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 1] fine\r\n* OK [UIDNEXT {next}] fine\r\n"
            ));
            self.message_size = SMALL;
            return self.tell_news();
        }
        self.message_size = size(mailbox);
        let uid_next = EXISTS + 1;
        self.say(format_args!(
            "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n\
             * OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)] limited\r\n\
             * {EXISTS} EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 1] fine\r\n* OK [UIDNEXT {uid_next}] fine\r\n"
        ));
    }

    async fn fetch(&mut self, rest: &str) -> io::Result<()> {
        let (set, items) = rest.split_once(' ').unwrap_or((rest, ""));
        let whole = items.contains("BODY");
        for number in numbers(set, self.exists()) {
            if whole {
                self.message(number, if items.contains("<0.") { "<0>" } else { "" }).await?;
            } else if self.open.is_some() {
                self.say(format_args!("* {number} FETCH (FLAGS () UID {number})\r\n"));
            } else {
                self.say(format_args!("* {number} FETCH (FLAGS (\\Seen) UID {number} {ENVELOPE})\r\n"));
            }
            if self.unsent.len() >= WRITE_SIZE {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// A message: a small one joins what is unsent, a large one leaves in one write with its head.
    async fn message(&mut self, number: u64, part: &str) -> io::Result<()> {
        let size = self.message_size;
        self.say(format_args!("* {number} FETCH (UID {number} BODY[]{part} {{{size}}}\r\n"));
        if size <= WRITE_SIZE as u64 {
            self.unsent.extend_from_slice(pattern::at(0, size));
        } else {
            self.large(size).await?;
        }
        self.say(format_args!(")\r\n"));
        Ok(())
    }

    async fn large(&mut self, size: u64) -> io::Result<()> {
        let mut sent = 0;
        while sent < size {
            let body = pattern::at(sent, size - sent);
            let wrote = self.output.write_vectored(&[IoSlice::new(&self.unsent), IoSlice::new(body)]).await?;
            let of_head = wrote.min(self.unsent.len());
            self.unsent.drain(..of_head);
            sent += (wrote - of_head) as u64;
        }
        Ok(())
    }

    /// Reads a message and compares it: a proxy that changes an octet is told so.
    async fn append(&mut self, tag: &str, rest: &str) -> io::Result<Next> {
        let Some((len, waits)) = pattern::literal(rest.as_bytes()) else {
            self.say(format_args!("{tag} BAD no literal\r\n"));
            return Ok(Next::Stay);
        };
        if waits {
            self.say(format_args!("+ go on\r\n"));
        }
        self.flush().await?;
        let stalls = rest.contains("stall");
        let mut piece = vec![0; READ_SIZE];
        let (mut offset, mut whole) = (0, true);
        while offset < len {
            let most = (len - offset).min(READ_SIZE as u64) as usize;
            let read = self.input.read(&mut piece[..most]).await?;
            if read == 0 {
                return Ok(Next::Leave);
            }
            whole &= pattern::matches(offset, &piece[..read]);
            if stalls && offset == 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            offset += read as u64;
        }
        let mut end = Vec::new();
        whole &= self.line(&mut end).await? && end.is_empty();
        if !whole {
            self.say(format_args!("{tag} NO octets were changed\r\n"));
            return Ok(Next::Stay);
        }
        let mailbox = rest.split(' ').next().unwrap_or_default().trim_matches('"');
        let name = growing::name(&self.user, mailbox);
        let uid = name.map_or(Ok(EXISTS + 1), |name| self.growing.add(&name))?;
        self.say(format_args!("{tag} OK [APPENDUID 1 {uid}] APPEND completed\r\n"));
        Ok(Next::Stay)
    }

    /// How many messages there are in the mailbox that is open.
    fn exists(&self) -> u64 {
        self.open.as_ref().map_or(EXISTS, |open| *open.count.borrow())
    }

    /// Tells that, if it grows and was not told so far.
    fn tell_news(&mut self) {
        let count = self.exists();
        if let Some(open) = self.open.as_mut().filter(|open| open.told != count) {
            open.told = count;
            self.say(format_args!("* {count} EXISTS\r\n"));
        }
    }

    /// RFC 2177, with one arrival told at once; in a mailbox that grows, with each when it comes.
    async fn idle(&mut self) -> io::Result<()> {
        let Some(mut coming) = self.open.as_ref().map(|open| open.count.clone()) else {
            self.say(format_args!("+ idling\r\n* {EXISTS} EXISTS\r\n"));
            return self.line(&mut Vec::new()).await.map(drop);
        };
        self.say(format_args!("+ idling\r\n"));
        let mut line = Vec::new();
        loop {
            coming.mark_unchanged();
            self.tell_news();
            self.flush().await?;
            tokio::select! {
                done = self.line(&mut line) => return done.map(drop),
                _ = coming.changed() => {}
            }
        }
    }

    fn say(&mut self, text: std::fmt::Arguments<'_>) {
        self.unsent.write_fmt(text).expect("a vector takes all");
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.output.write_all(&self.unsent).await?;
            self.unsent.clear();
        }
        Ok(())
    }
}

/// What a command is answered besides its tagged OK; `None` for a command that is not known.
fn untagged(verb: &str) -> Option<&'static str> {
    Some(match verb {
        "APPEND" | "AUTHENTICATE" | "CHECK" | "CLOSE" | "COPY" | "CREATE" | "DELETE" | "EXAMINE" | "EXPUNGE"
        | "FETCH" | "IDLE" | "LOGIN" | "NOOP" | "SELECT" | "SUBSCRIBE" | "UNSELECT" => "",
        "ENABLE" => "* ENABLED\r\n",
        "ID" => "* ID (\"name\" \"bench\")\r\n",
        "LIST" => "* LIST (\\HasNoChildren) \"/\" INBOX\r\n* LIST (\\HasNoChildren) \"/\" Sent\r\n",
        "LOGOUT" => "* BYE see you\r\n",
        "LSUB" => "* LSUB () \"/\" INBOX\r\n",
        "NAMESPACE" => "* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n",
        "SEARCH" => "* SEARCH 2 84 882 1001 1002 1003 1004 2000 2001 2010 2011 2012 2013 4096 5000 5001 5002 9000\r\n",
        "STATUS" => "* STATUS INBOX (MESSAGES 1000000 UIDNEXT 1000001 UNSEEN 18)\r\n",
        _ => return None,
    })
}

fn verb_of(command: &[u8]) -> String {
    let word = command.split(|octet| *octet == b' ').nth(1).unwrap_or_default();
    String::from_utf8_lossy(word).to_ascii_uppercase()
}

/// `n` or `n:m` at the beginning of what follows the verb, where there are so many messages; `*` is the last one, and stands at the end.
fn numbers(rest: &str, exists: u64) -> std::ops::RangeInclusive<u64> {
    let set = rest.split(' ').next().unwrap_or("");
    let (first, last) = set.split_once(':').unwrap_or((set, set));
    let last = last.parse().unwrap_or(exists).min(exists);
    let first = first.parse().unwrap_or(exists);
    let first = if set.ends_with('*') { first.min(exists) } else { first };
    first.max(1)..=last
}

/// `64m` is 64 MiB, `8k` is 8 KiB; every other mailbox holds messages of 8 KiB.
fn size(mailbox: &str) -> u64 {
    let unit = match mailbox.as_bytes().last() {
        Some(b'k') => 10,
        Some(b'm') => 20,
        _ => 0,
    };
    mailbox.trim_end_matches(['k', 'm']).parse::<u64>().map_or(8 << 10, |number| number << unit)
}
