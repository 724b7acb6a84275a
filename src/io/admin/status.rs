//! `/statusz` and `/readyz`: how the proxy is, without naming anybody.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// What the shell knows of itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// How long the proxy has been running.
    pub uptime_seconds: u64,
    /// The proxy is shutting down.
    pub draining: bool,
    /// The configuration in force.
    pub config: Configured,
    /// Where clients connect, those that are open.
    pub listeners: Vec<Listening>,
    /// Where mail is.
    pub backends: Vec<BackendStatus>,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Configured {
    /// How many configurations have come into force since the start.
    pub revision: u64,
    /// Seconds since 1970.
    pub loaded_at: u64,
    /// Why the last reload was refused, if it was.
    pub refused: Option<String>,
}

/// One open listener.
#[derive(Clone, Debug, Serialize)]
pub struct Listening {
    /// Its address.
    pub address: String,
    /// `starttls`, `implicit` or `none`.
    pub tls: String,
}

/// One backend.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BackendStatus {
    /// Its name in the configuration.
    pub name: String,
    /// Whether a host accepts connections, or has not been tried yet.
    pub up: bool,
    /// Its hosts, in the order in which they are tried.
    pub hosts: Vec<HostStatus>,
    /// Logins under way.
    pub logins_in_flight: usize,
    /// Its profile, once it is known.
    pub profile: Option<String>,
    /// What it said it can do, at the last login.
    pub capabilities: Vec<String>,
    /// What the proxy adds, top to bottom.
    pub plan: Vec<String>,
}

/// One host of a backend.
#[derive(Clone, Debug, Serialize)]
pub struct HostStatus {
    /// Its URL.
    pub url: String,
    /// Whether it accepts connections, or has not been tried yet.
    pub up: bool,
}

impl Status {
    /// Why no client should be sent here now; `None` means ready.
    pub fn unready(&self) -> Option<&'static str> {
        if self.draining {
            Some("draining")
        } else if self.listeners.is_empty() {
            Some("no listener is open")
        } else if !self.backends.iter().any(|backend| backend.up) {
            Some("no backend is up")
        } else {
            None
        }
    }
}

/// All that `/statusz` says.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The version of the program.
    pub version: &'static str,
    /// Whether `/readyz` says yes.
    pub ready: bool,
    /// What the shell knows of itself.
    #[serde(flatten)]
    pub status: Status,
    /// How many sessions are in which state.
    pub sessions: BTreeMap<&'static str, usize>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = &self.status;
        let ready = status.unready().unwrap_or("ready");
        let mut line = |key: &str, value: &str| writeln!(f, "{key:<16}{value}");
        line("lemonade-proxy", &format!("{}, up {} s, {ready}", self.version, status.uptime_seconds))?;
        line("configuration", &format!("revision {}, loaded at {}", status.config.revision, status.config.loaded_at))?;
        if let Some(refused) = &status.config.refused {
            line("  refused", refused)?;
        }
        let sessions: Vec<_> = self.sessions.iter().map(|(state, count)| format!("{state} {count}")).collect();
        line("sessions", &sessions.join(", "))?;
        for listener in &status.listeners {
            line("listener", &format!("{} {}", listener.address, listener.tls))?;
        }
        for backend in &status.backends {
            line("backend", &format!("{} {}", backend.name, up(backend.up)))?;
            for host in &backend.hosts {
                line("  host", &format!("{} {}", host.url, up(host.up)))?;
            }
            line("  logins", &format!("{} under way", backend.logins_in_flight))?;
            line("  profile", backend.profile.as_deref().unwrap_or("-"))?;
            line("  capabilities", &words(&backend.capabilities))?;
            line("  plan", &words(&backend.plan))?;
        }
        Ok(())
    }
}

fn up(is: bool) -> &'static str {
    if is { "up" } else { "down" }
}

fn words(list: &[String]) -> String {
    if list.is_empty() { "-".to_owned() } else { list.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Status {
        Status {
            listeners: vec![Listening { address: "127.0.0.1:1143".to_owned(), tls: "starttls".to_owned() }],
            backends: vec![
                BackendStatus { name: "old".to_owned(), ..BackendStatus::default() },
                BackendStatus {
                    name: "main".to_owned(),
                    up: true,
                    hosts: vec![HostStatus { url: "imap://10.0.0.5".to_owned(), up: true }],
                    capabilities: vec!["IMAP4rev1".to_owned(), "IDLE".to_owned()],
                    ..BackendStatus::default()
                },
            ],
            ..Status::default()
        }
    }

    #[test]
    fn ready_means_listening_with_a_backend_and_staying() {
        assert_eq!(ready().unready(), None);
        let mut draining = ready();
        draining.draining = true;
        let mut deaf = ready();
        deaf.listeners.clear();
        let mut alone = ready();
        alone.backends[1].up = false;
        for (status, why) in [(draining, "draining"), (deaf, "no listener is open"), (alone, "no backend is up")] {
            assert_eq!(status.unready(), Some(why));
        }
    }

    #[test]
    fn the_text_has_a_line_for_each_thing() {
        let report = Report {
            version: "1",
            ready: true,
            status: ready(),
            sessions: BTreeMap::from([("idle", 3), ("login", 0)]),
        };
        assert_eq!(
            report.to_string(),
            "lemonade-proxy  1, up 0 s, ready\n\
             configuration   revision 0, loaded at 0\n\
             sessions        idle 3, login 0\n\
             listener        127.0.0.1:1143 starttls\n\
             backend         old down\n\
             \x20 logins        0 under way\n\
             \x20 profile       -\n\
             \x20 capabilities  -\n\
             \x20 plan          -\n\
             backend         main up\n\
             \x20 host          imap://10.0.0.5 up\n\
             \x20 logins        0 under way\n\
             \x20 profile       -\n\
             \x20 capabilities  IMAP4rev1 IDLE\n\
             \x20 plan          -\n"
        );
    }
}
