//! The whole configuration as one struct: the file, the flags over it, and where each value came from.
//!
//!     [limits]
//!     line = "64 KiB"          # unknown keys, wrong values and dangling names are refused with FILE:LINE
//!
//! Each section is defined beside the code that obeys it, with a default for every field; here they only stand together.
//! An empty file is a good one, and so is none at all, as long as a flag names a backend.

pub mod check;
pub mod finding;
pub mod flags;
pub mod origin;
pub mod state_dir;

mod document;
mod files;
mod nearest;
mod online;
mod rules;
mod show;

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fmt, fs,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use clap::Args;
use serde::{Deserialize, Serialize};

use self::{
    finding::{Finding, Place, Severity},
    flags::Flags,
    origin::Origins,
};
use crate::{
    account,
    io::{
        admin::Admin,
        admission::Admission,
        backends::Backend,
        drain::Drain,
        feed,
        listener::{Listener, Security},
        log::Log,
        routing::Routing,
        senders::Outband,
        tls::Tls,
        transport::Tcp,
    },
    session::{
        plan::{Modes, Offer},
        settings::{Limits, Timeouts},
    },
};

/// Everything an operator may set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directory of what outlives the process. Once loaded it is never empty, and absolute.
    pub state: PathBuf,
    /// Worker threads; one means that everything runs on a single thread.
    pub threads: NonZeroUsize,
    /// Where clients come in.
    pub listeners: Vec<Listener>,
    /// What we show to clients.
    pub tls: Tls,
    /// The mail stores behind us, by name.
    pub backends: BTreeMap<String, Backend>,
    /// Which backend is responsible for a user.
    pub routing: Routing,
    /// How much one address or one user may have of us.
    pub admission: Admission,
    /// What a peer may make us hold.
    pub limits: Limits,
    /// How long a peer may keep silent.
    pub timeouts: Timeouts,
    /// How soon the kernel finds out that a peer is gone.
    pub tcp: Tcp,
    /// What is said on standard error.
    pub log: Log,
    /// Metrics, health, and what an operator may do to a running proxy.
    pub admin: Admin,
    /// What SIGTERM does to the sessions there are.
    pub drain: Drain,
    /// Extensions that are not left to the proxy's own judgement, by name.
    pub extensions: Modes,
    /// What a user may keep, and how devices are told apart.
    pub account: Arc<account::Settings>,
    /// How devices that are away are told.
    pub outband: Outband,
    /// The server that is told of all events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feed: Option<feed::Settings>,
}

/// What a configuration is made of; a reload reads it again.
#[derive(Args, Clone, Debug, Default)]
pub struct Source {
    /// Configuration file (TOML)
    #[arg(long = "config", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What stands over the file.
    #[command(flatten)]
    pub flags: Flags,
}

/// A configuration that one can run.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// All values.
    pub config: Config,
    /// What a person should look at.
    pub warnings: Vec<Finding>,
    /// How to load it again.
    pub source: Source,
}

/// Why a configuration cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<Finding>);

/// A configuration as far as it could be read, and what is to be said about it.
struct Draft {
    config: Config,
    origins: Origins,
    findings: Vec<Finding>,
}

impl Config {
    /// What sessions offer that come in by this listener.
    pub fn offer(&self, listener: &Listener) -> Offer {
        let Self { extensions, limits, account, .. } = self;
        Offer {
            modes: extensions.clone(),
            literals: listener.literal,
            compress: listener.compress,
            append: limits.append,
            account: Arc::clone(account),
        }
    }
}

impl Source {
    /// Reads the configuration; nothing comes of one that has an error.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let Draft { config, findings, .. } = self.draft(|name| env::var_os(name));
        let (errors, warnings): (Vec<_>, _) =
            findings.into_iter().partition(|finding| finding.severity == Severity::Error);
        match errors.is_empty() {
            true => Ok(Loaded { config, warnings, source: self.clone() }),
            false => Err(ConfigError(errors)),
        }
    }

    /// The state directory, even of a configuration that cannot run: one that was good when the proxy began may not be now.
    pub fn state(&self) -> PathBuf {
        self.draft(|name| env::var_os(name)).config.state
    }

    /// Reads as much of the configuration as can be read. Only this looks at the environment, through `variable`.
    fn draft(&self, variable: impl Fn(&str) -> Option<OsString>) -> Draft {
        let (mut config, mut origins, mut findings) = match &self.file {
            Some(file) => read(file),
            None => (Config::default(), Origins::default(), Vec::new()),
        };
        // Nothing is to be said about the values of a file that is no TOML at all.
        let is_read = findings.is_empty() || !origins.is_empty();
        if let Some(directory) = self.file.as_deref().and_then(Path::parent) {
            config.files_mut().into_iter().for_each(|(_, file)| *file = directory.join(&*file));
        }
        self.flags.apply(&mut config, &mut origins);
        if config.state.as_os_str().is_empty()
            && let Some((directory, origin)) = state_dir::find(variable)
        {
            config.state = directory;
            origin.into_iter().for_each(|origin| origins.note("state", origin));
        }
        if is_read {
            findings.extend(rules::judge(&config, &origins, !findings.is_empty()));
        }
        Draft { config, origins, findings }
    }
}

fn read(file: &Path) -> (Config, Origins, Vec<Finding>) {
    match fs::read_to_string(file) {
        Ok(text) => document::read(file, &text),
        Err(error) => {
            let finding = Finding::error(Place::File(file.to_owned()), format!("cannot be read: {error}"));
            (Config::default(), Origins::new(Some(file.to_owned())), vec![finding])
        }
    }
}

impl Config {
    /// Every file that is named, with the path of the value that names it.
    fn files_mut(&mut self) -> Vec<(String, &mut PathBuf)> {
        let mut files = Vec::new();
        for (index, certificate) in self.tls.certificates.iter_mut().enumerate() {
            let path = origin::element("tls.certificates", index);
            files.push((origin::key(&path, "chain"), &mut certificate.chain));
            files.push((origin::key(&path, "key"), &mut certificate.key));
        }
        for (name, backend) in &mut self.backends {
            let path = origin::key(&origin::key("backends", name), "ca");
            files.extend(backend.ca.as_mut().map(|ca| (path, ca)));
        }
        files.extend(self.routing.table.as_mut().map(|table| ("routing.table".to_owned(), table)));
        files.extend(self.admin.token_file.as_mut().map(|token| ("admin.token_file".to_owned(), token)));
        files.extend(self.outband.files_mut().into_iter().map(|(path, _, file)| (path.to_owned(), file)));
        files.extend(self.feed.as_mut().map(|feed| ("feed.secret_file".to_owned(), &mut feed.secret_file)));
        files
    }
}

impl Default for Config {
    fn default() -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            state: PathBuf::new(),
            threads: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            listeners: vec![
                Listener::at(local(1143), Security::Starttls),
                Listener::at(local(1993), Security::Implicit),
            ],
            tls: Tls::default(),
            backends: BTreeMap::new(),
            routing: Routing::default(),
            admission: Admission::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            tcp: Tcp::default(),
            log: Log::default(),
            admin: Admin::default(),
            drain: Drain::default(),
            extensions: Modes::new(),
            account: Arc::default(),
            outband: Outband::default(),
            feed: None,
        }
    }
}

impl fmt::Display for ConfigError {
    /// On one line, for a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(index, finding)| {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}{}", finding.place, finding::on_one_line(&finding.text))
        })
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// The findings on this file, without severity and directory.
    fn complaints(text: &str, flags: Flags) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        fs::write(&file, text).unwrap();
        let draft = Source { file: Some(file.clone()), flags }.draft(|_| Some("/s".into()));
        let said = draft.findings.iter().map(ToString::to_string);
        said.map(|text| text.replace(&format!("{}/", directory.path().display()), "")).collect()
    }

    #[test]
    fn a_rule_that_is_broken_is_reported_with_its_line() {
        let backend = "backends.main.urls = [\"imap://127.0.0.1\"]\n";
        for (text, expected) in [
            ("", "error: f: backends: there is none: give --backend URL, or `[backends.NAME]` with `urls`"),
            ("[backends.main]\nulrs = []", "error: f:2: unknown key `ulrs`, did you mean `urls`?"),
            ("[backends.main]", "error: f:1: backends.main.urls: there is none"),
            ("state = \"var\"", "error: f:2: state: \"var\" is not absolute"),
            ("routing.default = \"mian\"", "error: f:2: routing.default: no backend `mian`, did you mean `main`?"),
            ("routing.domains.\"a.b\" = \"x\"", "error: f:2: routing.domains.\"a.b\": no backend `x`"),
            ("[[listeners]]\nbackends = [\n\"other\"]", "error: f:4: listeners[0].backends[0]: no backend `other`"),
            ("listeners = []", "error: f:2: listeners: there is none"),
            (
                "[[listeners]]\n[[listeners]]\naddress = \"0.0.0.0:1143\"\ntls = \"implicit\"",
                "error: f:4: listeners[1].address: 0.0.0.0:1143 is taken by listeners[0].address",
            ),
            ("limits.line = \"512 B\"", "error: f:2: limits.line: 512 B is less than 1 KiB"),
            ("timeouts.login = \"0s\"", "error: f:2: timeouts.login: no time at all"),
            ("timeouts.idle = \"10m\"", "warning: f:2: timeouts.idle: 10m is less than 30m (RFC 3501 5.4)"),
            ("admission.sessions_per_user = 0", "error: f:2: admission.sessions_per_user: nobody could do anything"),
            ("log.level = \"loud,=\"", "error: f:2: log.level: invalid filter directive"),
            (
                "extensions.unselect = \"never\"",
                "error: f:2: extensions.unselect: no extension `unselect`, did you mean `UNSELECT`?",
            ),
            (
                "admin.address = \"127.0.0.1:1993\"",
                "error: f:2: admin.address: 127.0.0.1:1993 is taken by listeners[1].address",
            ),
            (
                "admin.address = \"0.0.0.0:9\"",
                "warning: f:2: admin.address: 0.0.0.0:9 is not loopback, and there is no token_file",
            ),
            ("drain.limit = \"5s\"", "error: f:2: drain.limit: 5s is less than drain.spread, 10s"),
            (
                "[feed]\nurl = \"http://10.0.0.1/\"\nsecret_file = \"s\"\nsource = \"x\"",
                "error: f:3: feed.url: the names of users would be in clear: https://, or feed.allow_clear = true",
            ),
            (
                "[feed]\nurl = \"https://h/\"\nsecret_file = \"s\"\nsource = \"x\"\nbatch.events = 501",
                "error: f:6: feed.batch.events: from 1 to 500",
            ),
            (
                "[feed]\nurl = \"https://h/\"\nsecret_file = \"s\"\nsource = \"x\"\nretenton = \"1d\"",
                "error: f:6: unknown key `retenton`, did you mean `retention`?",
            ),
            ("[routing.lookup]", "error: f:2: routing.lookup.url: does not begin with http:// or https://"),
            (
                "backends.b.urls = [\"imap://localhost\"]",
                "error: f: routing: there are several backends, and nothing chooses between them",
            ),
            (
                "backends.b.urls = [\"imap://10.0.0.1\"]\nrouting.default = \"b\"",
                "warning: f:2: backends.b.urls[0]: passwords are sent in clear to 10.0.0.1: no TLS on the way to imap://10.0.0.1",
            ),
            (
                "[[listeners]]\naddress = \"10.0.0.1:143\"\nplaintext_login = true",
                "warning: f:4: listeners[0].plaintext_login: passwords may be sent in clear to 10.0.0.1:143",
            ),
        ] {
            let is_whole = text.is_empty() || text.starts_with("[backends.main]");
            let text = if is_whole { text.to_owned() } else { format!("{backend}{text}\n") };
            assert_eq!(complaints(&text, Flags::default()), [expected], "{text}");
        }
    }

    #[test]
    fn flags_stand_over_the_file_and_the_file_over_the_defaults() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("f");
        fs::write(&file, "[[listeners]]\n[[tls.certificates]]\nchain = \"c.pem\"\nkey = \"/k\"\n").unwrap();
        let flags = Flags {
            listen_tls: vec!["127.0.0.1:9".parse().unwrap()],
            backend: vec!["imap://localhost:1".parse().unwrap()],
            ..Flags::default()
        };
        let draft = Source { file: Some(file), flags }.draft(|name| (name == "STATE_DIRECTORY").then(|| "/s".into()));
        assert_eq!(draft.findings, []);
        let Draft { config, origins, .. } = draft;
        assert_eq!(config.listeners, [Listener::at("127.0.0.1:9".parse().unwrap(), Security::Implicit)]);
        assert_eq!(config.tls.certificates[0].chain, directory.path().join("c.pem"));
        assert_eq!(config.tls.certificates[0].key, Path::new("/k"));
        assert_eq!(config.state, Path::new("/s"));
        let line = |line| format!("{}:{line}", directory.path().join("f").display());
        for (path, origin) in [
            ("listeners[0].address", "--listen-tls"),
            ("listeners[0].literal", "default"),
            ("backends.default.urls", "--backend"),
            ("routing.default", "--backend"),
            ("tls.certificates[0].key", line(4).as_str()),
            ("state", "$STATE_DIRECTORY"),
            ("limits.line", "default"),
        ] {
            assert_eq!(origins.describe(path), origin, "{path}");
        }
    }

    #[test]
    fn one_flag_is_enough_to_run() {
        let flags = Flags { backend: vec!["imap://localhost".parse().unwrap()], ..Flags::default() };
        let loaded = Source { file: None, flags }.load().unwrap();
        assert_eq!(loaded.config.listeners.len(), 2);
        assert!(loaded.config.state.is_absolute());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_the_only_complaint() {
        let source = Source { file: Some("/nowhere/f".into()), flags: Flags::default() };
        let error = source.load().unwrap_err().to_string();
        assert_eq!(error, "/nowhere/f: cannot be read: No such file or directory (os error 2)");
    }

    #[test]
    fn the_examples_are_good() {
        let examples = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/examples")).unwrap();
        for example in
            examples.map(|entry| entry.unwrap().path()).filter(|file| file.extension().is_some_and(|e| e == "toml"))
        {
            let source = Source { file: Some(example), flags: Flags::default() };
            assert_eq!(source.draft(|_| Some("/s".into())).findings, []);
        }
    }
}
