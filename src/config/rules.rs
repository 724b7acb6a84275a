//! What must hold between the values of a configuration: names that are used are defined, no two things stand in one
//! place, no bound is too small to live with. And what is allowed but should be known: passwords in clear.
//!
//!     [routing]
//!     default = "mian"         # error: proxy.toml:2: routing.default: no backend `mian`, did you mean `main`?

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::{
    Config,
    finding::Finding,
    nearest::nearest,
    origin::{self, Origins},
};
use crate::{
    ext,
    io::{
        admin::Address,
        backends::{Backend, Scheme, Url},
        listener::{Listener, Security},
    },
    session::profile,
    units::{Size, Span},
};

/// A line shorter than this breaks honest clients (RFC 7162 section 4 asks for 8000 octets, RFC 2683 3.2.1.5 for 1000).
const SHORTEST_LINE: Size = Size::kib(1);
/// RFC 3501 5.4: an autologout timer must be at least this long.
const SHORTEST_IDLE: Span = Span::minutes(30);
/// RFC 2177: IDLE is renewed at least this often.
const LONGEST_RENEWAL: Span = Span::minutes(29);

/// All that breaks a rule. Where a value could not be read (`is_torn`), what is missing may be just that, and is not spoken of.
pub(super) fn judge(config: &Config, origins: &Origins, is_torn: bool) -> Vec<Finding> {
    let mut judge = Judge { config, origins, is_torn, findings: Vec::new() };
    judge.state();
    judge.listeners();
    judge.backends();
    judge.routing();
    judge.limits();
    judge.account();
    judge.timeouts();
    judge.log();
    judge.feed();
    judge.extensions();
    judge.findings
}

struct Judge<'a> {
    config: &'a Config,
    origins: &'a Origins,
    is_torn: bool,
    findings: Vec<Finding>,
}

impl Judge<'_> {
    fn error(&mut self, path: &str, text: impl AsRef<str>) {
        if !self.is_torn || self.origins.of(path).is_some() {
            self.findings.push(Finding::error(self.origins.place(path), said(path, text.as_ref())));
        }
    }

    fn warning(&mut self, path: &str, text: impl AsRef<str>) {
        self.findings.push(Finding::warning(self.origins.place(path), said(path, text.as_ref())));
    }

    fn state(&mut self) {
        let state = &self.config.state;
        if state.as_os_str().is_empty() {
            self.error(
                "state",
                "no place for it: give --state DIR or `state`, or set $STATE_DIRECTORY, $XDG_STATE_HOME or $HOME",
            );
        } else if state.is_relative() {
            self.error("state", format!("\"{}\" is not absolute", state.display()));
        }
    }

    fn listeners(&mut self) {
        if self.config.listeners.is_empty() {
            self.error("listeners", "there is none");
        }
        let mut taken = Vec::<(String, SocketAddr)>::new();
        for (index, listener) in self.config.listeners.iter().enumerate() {
            let path = origin::element("listeners", index);
            let address = origin::key(&path, "address");
            if let Some((other, _)) = taken.iter().find(|(_, other)| collide(*other, listener.address)) {
                self.error(&address, format!("{} is taken by {other}", listener.address));
            }
            taken.push((address, listener.address));
            self.listener(&path, listener);
        }
        self.admin(&taken);
    }

    fn admin(&mut self, taken: &[(String, SocketAddr)]) {
        let admin = &self.config.admin;
        let Address::At(address) = admin.address else { return };
        if let Some((other, _)) = taken.iter().find(|(_, other)| collide(*other, address)) {
            self.error("admin.address", format!("{address} is taken by {other}"));
        }
        if !is_loopback(address.ip()) && admin.token_file.is_none() {
            self.warning("admin.address", format!("{address} is not loopback, and there is no token_file"));
        }
    }

    fn listener(&mut self, path: &str, listener: &Listener) {
        let is_local = is_loopback(listener.address.ip());
        let never = listener.tls == Security::None;
        if !is_local && listener.tls != Security::Implicit && listener.allows_plaintext_login() {
            let text = format!("passwords may be sent in clear to {}", listener.address);
            self.warning(&origin::key(path, "plaintext_login"), text);
        }
        if never && !listener.allows_plaintext_login() {
            let text = "no TLS, and no passwords without it: nobody can log in with one";
            self.warning(&origin::key(path, "tls"), text);
        }
        for (index, network) in listener.proxy_protocol_from.iter().enumerate() {
            if network.to_string().ends_with("/0") {
                let path = origin::element(&origin::key(path, "proxy_protocol_from"), index);
                self.warning(&path, "whoever connects may claim any address");
            }
        }
        for (index, name) in listener.backends.iter().enumerate() {
            self.backend_exists(&origin::element(&origin::key(path, "backends"), index), name);
        }
    }

    fn backends(&mut self) {
        if self.config.backends.is_empty() {
            self.error("backends", "there is none: give --backend URL, or `[backends.NAME]` with `urls`");
        }
        for (name, backend) in &self.config.backends {
            let path = origin::key("backends", name);
            let urls = origin::key(&path, "urls");
            if backend.urls.is_empty() {
                self.error(&urls, "there is none");
            }
            for (index, url) in backend.urls.iter().enumerate().filter(|(_, url)| is_bare(url)) {
                let text = format!("passwords are sent in clear to {}: no TLS on the way to {url}", url.host);
                self.warning(&origin::element(&urls, index), text);
            }
            self.backend(&path, backend);
        }
    }

    fn backend(&mut self, path: &str, backend: &Backend) {
        if let Some(name) = backend.profile.as_deref().filter(|name| profile::find(name).is_none()) {
            let names: Vec<_> = profile::names().collect();
            self.error(&origin::key(path, "profile"), format!("no profile `{name}`{}", hint(name, &names)));
        }
        if backend.logins_in_flight == 0 {
            self.error(&origin::key(path, "logins_in_flight"), "nobody could log in");
        }
        if backend.auxiliary > Backend::MOST_AUXILIARY {
            let text = format!("at most {} of an account: backends count connections", Backend::MOST_AUXILIARY);
            self.error(&origin::key(path, "auxiliary"), text);
        }
        if backend.trusted && backend.urls.iter().any(is_bare) {
            self.warning(&origin::key(path, "trusted"), "the addresses of clients are told without TLS");
        }
        if backend.pace.shortest.0.is_zero() || backend.pace.shortest.0 > backend.pace.longest.0 {
            self.error(&origin::key(path, "pace"), "`shortest` is at least some time, and at most `longest`");
        }
        for (key, span) in [("connect_timeout", backend.connect_timeout), ("login_wait", backend.login_wait)] {
            self.lasts(&origin::key(path, key), span);
        }
    }

    fn routing(&mut self) {
        let routing = &self.config.routing;
        if let Some(name) = &routing.default {
            self.backend_exists("routing.default", name);
        }
        for (domain, name) in &routing.domains {
            self.backend_exists(&origin::key("routing.domains", domain), name);
        }
        let is_silent = routing.default.is_none() && routing.domains.is_empty();
        if is_silent && routing.table.is_none() && routing.lookup.is_none() && self.config.backends.len() > 1 {
            self.error("routing", "there are several backends, and nothing chooses between them");
        }
        if let Some(lookup) = &routing.lookup {
            if !["http://", "https://"].iter().any(|scheme| lookup.url.starts_with(scheme)) {
                self.error("routing.lookup.url", "does not begin with http:// or https://");
            }
            self.lasts("routing.lookup.timeout", lookup.timeout);
        }
    }

    fn limits(&mut self) {
        let limits = &self.config.limits;
        for (path, size) in [
            ("limits.line_before_login", limits.line_before_login),
            ("limits.sasl_line", limits.sasl_line),
            ("limits.line", limits.line),
            ("limits.unsent", limits.unsent),
        ] {
            if size < SHORTEST_LINE {
                self.error(path, format!("{size} is less than {SHORTEST_LINE}"));
            }
        }
        for (path, number) in [
            ("limits.nesting", u32::from(limits.nesting)),
            ("limits.pipelined", u32::from(limits.pipelined)),
            ("admission.connections_per_address", self.config.admission.connections_per_address),
            ("admission.connections_per_64", self.config.admission.connections_per_64),
            ("admission.sessions_per_user", self.config.admission.sessions_per_user),
            ("admission.failures_per_address", self.config.admission.failures_per_address),
            ("admission.failures_per_user", self.config.admission.failures_per_user),
            ("admission.handshakes", self.config.admission.handshakes),
            ("account.entries", self.config.account.entries),
            ("account.notify.mailboxes", self.config.account.notify.mailboxes),
        ] {
            if number == 0 {
                self.error(path, "nobody could do anything");
            }
        }
    }

    fn timeouts(&mut self) {
        let Config { timeouts, tcp, drain, account, .. } = self.config;
        for (path, span) in [
            ("timeouts.handshake", timeouts.handshake),
            ("timeouts.login", timeouts.login),
            ("timeouts.idle_before_login", timeouts.idle_before_login),
            ("timeouts.idle", timeouts.idle),
            ("timeouts.backend", timeouts.backend),
            ("timeouts.idle_renewal", timeouts.idle_renewal),
            ("tcp.keepalive", tcp.keepalive),
            ("account.notify.every", account.notify.every),
            ("account.notify.round", account.notify.round),
            ("account.notify.names", account.notify.names),
            ("tcp.user_timeout", tcp.user_timeout),
        ] {
            self.lasts(path, span);
        }
        if timeouts.idle < SHORTEST_IDLE {
            self.warning("timeouts.idle", format!("{} is less than {SHORTEST_IDLE} (RFC 3501 5.4)", timeouts.idle));
        }
        if timeouts.idle_renewal > LONGEST_RENEWAL {
            let text = format!("{} is more than {LONGEST_RENEWAL} (RFC 2177)", timeouts.idle_renewal);
            self.warning("timeouts.idle_renewal", text);
        }
        if drain.limit < drain.spread {
            self.error("drain.limit", format!("{} is less than drain.spread, {}", drain.limit, drain.spread));
        }
    }

    fn log(&mut self) {
        if let Err(error) = self.config.log.filter() {
            self.error("log.level", error.to_string());
        }
    }

    fn feed(&mut self) {
        for (key, fault) in self.config.feed.iter().flat_map(|feed| feed.faults()) {
            self.error(&format!("feed.{key}"), fault);
        }
    }

    fn extensions(&mut self) {
        let known = ext::ALL.map(|extension| extension.name);
        for name in self.config.extensions.keys().filter(|name| !known.contains(&name.as_str())) {
            self.error(&origin::key("extensions", name), format!("no extension `{name}`{}", hint(name, &known)));
        }
    }

    fn account(&mut self) {
        let account = &self.config.account;
        let running = self.config.outband.running();
        for kind in account.outband.channels.keys().filter(|kind| !running.contains(kind)) {
            let text = "nobody sends over it; devices may ask for it, and no capability promises it";
            self.warning(&origin::key("account.outband.channels", kind.name()), text);
        }
        let separator = account.device_separator;
        if separator.is_some_and(|separator| separator.is_alphanumeric() || separator == '@' || separator.is_control())
        {
            self.error("account.device_separator", "it stands in names of users: take one that does not, as #");
        }
    }

    fn lasts(&mut self, path: &str, span: Span) {
        if span.0.is_zero() {
            self.error(path, "no time at all");
        }
    }

    fn backend_exists(&mut self, path: &str, name: &str) {
        if !self.config.backends.contains_key(name) {
            let names = names(&self.config.backends);
            self.error(path, format!("no backend `{name}`{}", hint(name, &names)));
        }
    }
}

fn names<T>(map: &BTreeMap<String, T>) -> Vec<&str> {
    map.keys().map(String::as_str).collect()
}

/// The nearest word, as the end of a sentence.
fn hint(word: &str, known: &[&str]) -> String {
    nearest(word, known).map(|word| format!(", did you mean `{word}`?")).unwrap_or_default()
}

fn said(path: &str, text: &str) -> String {
    format!("{path}: {text}")
}

/// Whether two sockets cannot listen on these at the same time. Port 0 is a new one each time.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let overlap = one.ip() == other.ip()
        || (one.is_ipv4() == other.is_ipv4() && (one.ip().is_unspecified() || other.ip().is_unspecified()));
    one.port() != 0 && one.port() == other.port() && overlap
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// Whether what is said to this backend can be read on the way.
fn is_bare(url: &Url) -> bool {
    let is_local = url.host == "localhost" || url.host.parse().is_ok_and(is_loopback);
    url.scheme == Scheme::Imap && !is_local
}
