//! `check --online`: what each host of each backend says of itself, and what would come of it.
//!
//!     backend main: imaps://mail.example.org
//!       TLS: TLSv1_3 TLS13_AES_256_GCM_SHA384, certificate verified
//!       greeting: * OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready
//!       capabilities before login: IMAP4rev1 AUTH=PLAIN NAMESPACE
//!       mechanisms: PLAIN
//!       UNSELECT: added, because the backend lacks it
//!       NAMESPACE: not added, because the backend has it
//!
//! Nothing waits longer than the backend's own `connect_timeout` and the patience of a probe. Some backends say more once a
//! user has logged in; then less is added than is said here.

use super::{
    Config,
    finding::{self, Finding},
    origin::{self, Origins},
};
use crate::{
    ext,
    imap::{capability::Capabilities, sasl::Mechanism},
    io::{
        backends::Backend,
        dialer::Dialer,
        listener::Listener,
        probe::{self, Probe},
    },
    session::{plan::Plan, profile::Profile},
};

/// What was found out.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// For a person, some lines a host.
    pub(super) text: String,
    /// Hosts that cannot be used.
    pub(super) findings: Vec<Finding>,
}

/// Asks all hosts of all backends.
pub(super) async fn ask(config: &Config, origins: &Origins) -> Answers {
    let mut answers = Answers::default();
    let mut roots = None;
    for (name, backend) in &config.backends {
        let path = origin::key(&origin::key("backends", name), "urls");
        match Dialer::new(name, backend, &config.tcp, &mut roots) {
            Ok(dialer) => answers.ask_hosts(config, origins, &path, &dialer).await,
            Err(error) => answers.findings.push(Finding::error(origins.place(&path), format!("{path}: {error}"))),
        }
    }
    answers
}

impl Answers {
    /// A host that does not answer is an error if no other of its backend does.
    async fn ask_hosts(&mut self, config: &Config, origins: &Origins, path: &str, dialer: &Dialer) {
        let mut silent = Vec::new();
        for (index, host) in dialer.hosts().iter().enumerate() {
            match probe::probe_host(dialer, host).await {
                Ok(probe) => self.text += &described(&dialer.name, &probe, config),
                Err(error) => silent.push((origin::element(path, index), error)),
            }
        }
        let say = if silent.len() < dialer.hosts().len() { Finding::warning } else { Finding::error };
        let findings = silent.iter().map(|(path, error)| say(origins.place(path), format!("{path}: {error}")));
        self.findings.extend(findings);
    }
}

fn described(backend: &str, probe: &Probe, config: &Config) -> String {
    let tls = probe.tls.as_ref().map_or("none".to_owned(), |tls| format!("{tls}, certificate verified"));
    let named = config.backends.get(backend).and_then(Backend::named_profile);
    let profile = named.unwrap_or_else(|| probe.profile());
    let mut lines = vec![
        format!("backend {backend}: {}", probe.url),
        format!("  TLS: {tls}"),
        format!("  greeting: {}", probe.greeting),
        format!("  profile: {}: {}", profile.name, profile.peculiarities),
        format!("  capabilities before login: {}", probe.capabilities.text()),
        format!("  mechanisms: {}", mechanisms(&probe.capabilities)),
    ];
    lines.extend(
        additions(profile, &probe.capabilities, config).into_iter().map(|(name, reason)| format!("  {name}: {reason}")),
    );
    lines.iter().map(|line| format!("{}\n", finding::on_one_line(line))).collect()
}

/// The ways to log in that we can handle, of those that the backend offers.
fn mechanisms(capabilities: &Capabilities) -> String {
    let known = capabilities.values("AUTH=").filter_map(Mechanism::find).map(Mechanism::name);
    let command = (!capabilities.has("LOGINDISABLED")).then_some("the LOGIN command");
    let all = known.chain(command).collect::<Vec<_>>();
    if all.is_empty() { "none that the proxy can handle".to_owned() } else { all.join(", ") }
}

/// Each extension that we have, and whether it would be added to what this backend can do.
fn additions(profile: &Profile, capabilities: &Capabilities, config: &Config) -> Vec<(String, String)> {
    let plan = Plan::new(&ext::ALL, profile, capabilities.clone(), &config.offer(&Listener::default()), true);
    let said = |ours| if ours { "added" } else { "not added" };
    plan.reasons
        .iter()
        .map(|reason| (reason.name.to_owned(), format!("{}, because {}", said(reason.ours), reason.why)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_described_with_what_is_added_and_why() {
        let probe = Probe {
            url: "imap://h".to_owned(),
            greeting: "* OK \u{1b}[2J ready".to_owned(),
            capabilities: Capabilities::parse(b"IMAP4rev1 NAMESPACE AUTH=PLAIN AUTH=SCRAM-SHA-1-PLUS LOGINDISABLED"),
            tls: None,
        };
        let text = described("main", &probe, &Config::default());
        let start = concat!(
            "backend main: imap://h\n",
            "  TLS: none\n",
            "  greeting: * OK \u{fffd}[2J ready\n",
            "  profile: unknown: nothing known: held to the RFCs\n",
            "  capabilities before login: IMAP4rev1 NAMESPACE AUTH=PLAIN AUTH=SCRAM-SHA-1-PLUS LOGINDISABLED\n",
            "  mechanisms: PLAIN\n",
        );
        assert!(text.starts_with(start), "{text}");
        assert!(text.contains("\n  UNSELECT: added, because the backend lacks it\n"), "{text}");
        assert!(text.contains("\n  NAMESPACE: not added, because the backend has it\n"), "{text}");
    }
}
