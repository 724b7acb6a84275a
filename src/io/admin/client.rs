//! The other end of the socket: what `lemonade-proxy sessions` and its kin speak to a running proxy with.
//!
//!     > POST /reload HTTP/1.0
//!     < HTTP/1.0 200 OK
//!
//! HTTP/1.0 by hand, because a local request of one line needs no client library.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::socket;

/// A reload reads files and checks them; nothing else takes long.
const PATIENCE: Duration = Duration::from_secs(60);

/// More than the list of a million sessions is no answer of ours.
const LONGEST: u64 = 512 << 20;

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
    let at = socket::path(state);
    let mut stream = UnixStream::connect(&at).map_err(|source| ClientError::Absent { path: at, source })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let kind = "Content-Type: application/json";
    write!(stream, "{method} {path} HTTP/1.0\r\n{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer)?;
    let answer = String::from_utf8(answer).map_err(|_| ClientError::Strange)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(ClientError::Strange)?;
    match status(head) {
        Some(200..=299) => Ok(body.to_owned()),
        Some(status) => Err(ClientError::Refused { status, text: body.trim_end().to_owned() }),
        None => Err(ClientError::Strange),
    }
}

/// A user's name, or any text, as one segment of a path.
pub fn segment(text: &str) -> String {
    let plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._~@+".contains(octet);
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
