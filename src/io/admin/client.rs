//! The other end of the socket: what `lemonade-proxy sessions` and its kin speak to a running proxy with.
//!
//!     > POST /reload HTTP/1.0
//!     < HTTP/1.0 200 OK
//!
//! HTTP/1.0 by hand, because a local request of one line needs no client library.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::socket;

/// A reload reads files and checks them; nothing else takes long.
const PATIENCE: Duration = Duration::from_secs(60);

/// More than the list of a million sessions is no answer of ours.
const LONGEST: u64 = 512 << 20;

/// A head of ours has a few lines.
const LONGEST_HEAD: u64 = 16 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error("no lemonade-proxy answers at {}: {source}", path.display())]
    Absent {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The connection broke, or nobody answered in time.
    #[error("the running lemonade-proxy does not answer: {0}")]
    Broken(#[from] io::Error),
    /// The answer is no HTTP.
    #[error("what answers is no lemonade-proxy")]
    Strange,
    /// The answer is no.
    #[error("{text}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What was said.
        text: String,
    },
}

/// Asks the proxy that runs with this state directory; the body, if there is one, is JSON. `path` may name a user by [`segment`].
pub fn request(state: &Path, method: &str, path: &str, body: &str) -> Result<String, ClientError> {
    text(ask(state, method, path, body)?)
}

/// Hears events line by line, until the proxy ends or `tell` cannot go on.
pub fn follow(state: &Path, path: &str, mut tell: impl FnMut(&[u8]) -> io::Result<()>) -> Result<(), ClientError> {
    let mut answer = ask(state, "GET", path, "")?;
    // Between two events may lie a night; that nobody is there any more, the socket says.
    answer.get_ref().set_read_timeout(None)?;
    let mut line = Vec::new();
    while answer.read_until(b'\n', &mut line)? > 0 {
        // An empty line says that the proxy is still there.
        if line != b"\n" && tell(&line).is_err() {
            break;
        }
        line.clear();
    }
    Ok(())
}

/// The answer, if it is a good one, from its body on.
fn ask(state: &Path, method: &str, path: &str, body: &str) -> Result<BufReader<UnixStream>, ClientError> {
    let at = socket::path(state);
    let mut stream = UnixStream::connect(&at).map_err(|source| ClientError::Absent { path: at, source })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let kind = "Content-Type: application/json";
    write!(stream, "{method} {path} HTTP/1.0\r\n{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = BufReader::new(stream);
    match status(&head(&mut answer)?) {
        Some(200..=299) => Ok(answer),
        Some(status) => Err(ClientError::Refused { status, text: text(answer)?.trim_end().to_owned() }),
        None => Err(ClientError::Strange),
    }
}

fn head(answer: &mut BufReader<UnixStream>) -> Result<String, ClientError> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if answer.take(LONGEST_HEAD).read_until(b'\n', &mut head)? == 0 || head.len() as u64 >= LONGEST_HEAD {
            return Err(ClientError::Strange);
        }
    }
    String::from_utf8(head).map_err(|_| ClientError::Strange)
}

fn text(answer: BufReader<UnixStream>) -> Result<String, ClientError> {
    let mut text = Vec::new();
    answer.take(LONGEST).read_to_end(&mut text)?;
    String::from_utf8(text).map_err(|_| ClientError::Strange)
}

/// A user's name, or any text, as one segment of a path, or as a value of a query, where `+` would be a blank.
pub fn segment(text: &str) -> String {
    let plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._~@".contains(octet);
    let encode = |octet: u8| if plain(&octet) { char::from(octet).to_string() } else { format!("%{octet:02X}") };
    text.bytes().map(encode).collect()
}

fn status(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_holds_any_name() {
        for (name, written) in [("joe@example.org", "joe@example.org"), ("a/b c?", "a%2Fb%20c%3F"), ("ö", "%C3%B6")] {
            assert_eq!(segment(name), written);
        }
    }

    #[test]
    fn a_status_is_read_from_an_http_head_only() {
        assert_eq!(status("HTTP/1.0 200 OK\r\nx: y"), Some(200));
        assert_eq!(status("HTTP/1.1 403 Forbidden"), Some(403));
        assert_eq!(status("* OK IMAP4rev1"), None);
    }

    #[test]
    fn without_a_proxy_it_says_where_it_looked() {
        let state = tempfile::tempdir().unwrap();
        let error = request(state.path(), "GET", "/statusz", "").unwrap_err();
        assert!(error.to_string().contains("admin.sock"), "{error}");
    }
}
