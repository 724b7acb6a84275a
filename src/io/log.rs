//! `[log]`: one line per event, as text or JSON, on standard error.
//!
//! Messages are constants, what varies stands in fields, so a line can be searched for and counted:
//!
//!     2026-11-02T09:14:03.120941Z  INFO session{session=k3v9x2m7qd4hnt user=joe backend=main}: authenticated
//!     2026-11-02T09:14:05.700312Z  WARN login failed address=192.0.2.7 user=joe mechanism=plain session=p0c4wj8s6yzb1f
//!
//! The span of a session is made when there is something to say and dropped behind it: one that is held around the task
//! costs an idle session memory for nothing (architecture 13.8).
//!
//! For fail2ban the second line is a promise: the message is constant, the address follows it at once, and nothing that
//! a client wrote stands before it. `deploy/fail2ban` holds the filter, and no user name can be written that makes it match
//! another address, because [`Clean`] leaves neither blanks nor line ends in a name.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    EnvFilter, Registry, filter, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::io::metrics::Mechanism;

/// `[log]`: what is said on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `text` for eyes and for fail2ban, `json` for collectors.
    pub format: Format,
    /// `error`, `warn`, `info`, `debug` or `trace`; or a list of directives such as `info,lemonade_proxy::session=debug`.
    pub level: String,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Time, level, message, fields.
    #[default]
    Text,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: Format::Text, level: "info".to_owned() }
    }
}

impl Log {
    /// The level as a filter, or what is wrong with it.
    pub fn filter(&self) -> Result<EnvFilter, filter::ParseError> {
        EnvFilter::builder().parse(&self.level)
    }
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level does not parse.
    #[error("log level \"{level}\": {source}")]
    Level {
        /// What was written.
        level: String,
        /// What is wrong with it.
        source: filter::ParseError,
    },
    /// Another subscriber was installed before.
    #[error("the log is already set up")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// The running log, whose level a reload can change. (The format stays until the next start.)
#[derive(Clone, Debug)]
pub struct Running {
    filter: reload::Handle<EnvFilter, Registry>,
}

/// Begins to log, for the whole process.
pub fn start(log: &Log) -> Result<Running, LogError> {
    let (filter, handle) = reload::Layer::new(parse(log)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    match log.format {
        Format::Json => registry.with(lines.json().flatten_event(true).with_span_list(false)).try_init()?,
        Format::Text => registry.with(lines).try_init()?,
    }
    Ok(Running { filter: handle })
}

impl Running {
    /// Takes over the level of a new configuration.
    pub fn reload(&self, log: &Log) -> Result<(), LogError> {
        let filter = parse(log)?;
        // The only failure is a subscriber that is gone, and then there is nobody to log to either.
        let _ = self.filter.reload(filter);
        Ok(())
    }
}

fn parse(log: &Log) -> Result<EnvFilter, LogError> {
    log.filter().map_err(|source| LogError::Level { level: log.level.clone(), source })
}

/// Says that a login failed: the line for fail2ban, once per refused login and never for a backend that is down.
///
/// `client` is the true address: the one of a PROXY header, where the listener takes one.
pub fn login_failed(client: IpAddr, user: &str, mechanism: Mechanism, session: &str) {
    // An IPv4 client on a dual-stack socket must be banned as the IPv4 address it is.
    let address = client.to_canonical();
    tracing::warn!(%address, user = %Clean(user), mechanism = %mechanism.name(), session = %session, "login failed");
}

/// The span in which lines about one session are written; made for the line, not held.
///
///     log::session(id, Some(user), Some(backend)).in_scope(|| info!("authenticated"));
pub fn session(session: &str, user: Option<&str>, backend: Option<&str>) -> tracing::Span {
    let user = user.map(|user| tracing::field::display(Clean(user)));
    let backend = backend.map(tracing::field::display);
    // At the highest level, so that it is there whatever the level of the log is.
    tracing::error_span!("session", session = %session, user, backend)
}

/// Text from a peer, made fit for a line: no blank, no line end, nothing invisible, bounded length.
///
/// What is left as it is: visible ASCII but `"` and `\`, and letters and digits of any script.
#[derive(Clone, Copy)]
pub struct Clean<'a>(pub &'a str);

/// Longer names are cut: an address of 254 octets, the longest in mail, stays whole.
const LONGEST: usize = 256;

impl fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;

        if self.0.is_empty() {
            return f.write_str("-");
        }
        for (count, char) in self.0.chars().enumerate() {
            match char {
                _ if count == LONGEST => return f.write_str("..."),
                '"' | '\\' => write!(f, "{}", char.escape_unicode())?,
                _ if char.is_ascii_graphic() || char.is_alphanumeric() => f.write_char(char)?,
                _ => write!(f, "{}", char.escape_unicode())?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Clean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    /// Log lines as they would reach standard error.
    pub(in crate::io) fn lines(say: impl FnOnce()) -> String {
        #[derive(Clone, Default)]
        struct Page(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Page {
            fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(octets);
                Ok(octets.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let page = Page::default();
        let writer = page.clone();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), say);
        String::from_utf8(page.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_name_is_one_word_whatever_is_in_it() {
        for (name, written) in [
            ("joe@example.org", "joe@example.org"),
            ("", "-"),
            ("jörg", "jörg"),
            ("joe login", r"joe\u{20}login"),
            ("joe\r\nWARN", r"joe\u{d}\u{a}WARN"),
            ("a\"b\\c", r"a\u{22}b\u{5c}c"),
            ("a\u{202e}b", r"a\u{202e}b"),
            ("a\u{2028}b\u{85}c\u{0}", r"a\u{2028}b\u{85}c\u{0}"),
            ("\u{1b}[31m", r"\u{1b}[31m"),
        ] {
            assert_eq!(Clean(name).to_string(), written);
        }
        let long = Clean(&"x".repeat(10_000)).to_string();
        assert_eq!(long.len(), LONGEST + 3);
    }

    #[test]
    fn a_failed_login_is_one_line_that_begins_as_promised() {
        let forger = "joe\n WARN login failed address=198.51.100.1 user=x";
        let said = lines(|| login_failed("192.0.2.7".parse().unwrap(), forger, Mechanism::Plain, "s1"));
        assert_eq!(said.lines().count(), 1);
        assert!(said.trim_start().starts_with("WARN login failed address=192.0.2.7 user=joe"), "{said}");
        assert!(!said[10..].contains("failed address=198"), "{said}");
    }

    #[test]
    fn the_filter_of_fail2ban_looks_for_the_line_that_is_written() {
        let filter = include_str!("../../deploy/fail2ban/lemonade-proxy.conf");
        let said = lines(|| login_failed("192.0.2.7".parse().unwrap(), "joe", Mechanism::Plain, "p0c4wj8s6yzb1f"));
        let sought = said.trim().split_once("192.0.2.7").map(|(before, _)| format!("{before}<ADDR> user=")).unwrap();
        let failregex = filter.lines().find(|line| line.starts_with("failregex = ^")).unwrap();
        assert!(failregex.ends_with(&format!("\\s*{sought}")), "{sought}");
        assert!(filter.contains(said.trim()), "the filter's example is another line than {said}");
    }

    #[test]
    fn a_mapped_address_is_written_as_the_ipv4_address_it_is() {
        let said = lines(|| login_failed("::ffff:192.0.2.7".parse().unwrap(), "joe", Mechanism::Login, "s1"));
        assert!(said.contains("address=192.0.2.7 "), "{said}");
    }

    #[test]
    fn the_span_of_a_session_is_written_before_the_message() {
        let said = lines(|| session("s1", Some("joe b"), None).in_scope(|| tracing::info!("authenticated")));
        assert_eq!(said.trim(), r"INFO session{session=s1 user=joe\u{20}b}: authenticated");
    }

    #[test]
    fn a_level_is_a_word_or_directives() {
        for (level, good) in [("info", true), ("warn,lemonade_proxy::io=debug", true), ("a=b=c", false)] {
            assert_eq!(Log { level: level.to_owned(), ..Log::default() }.filter().is_ok(), good, "{level}");
        }
    }
}
