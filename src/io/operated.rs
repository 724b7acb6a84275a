//! The running proxy as an operator sees it through the admin interface: how it is, and that it shall read its
//! configuration again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Instant, SystemTime},
};

use arc_swap::ArcSwapOption;
use tokio::sync::{mpsc, oneshot};

use super::{
    accounts::{self, Managing, Whom},
    admin::{
        Operated, Queueing, Reloading,
        status::{BackendStatus, Configured, HostStatus, Listening, Status},
    },
    dialer::Dialer,
    listener::Security,
    metrics::Outcome,
    shell::Shell,
};

/// The running proxy.
#[derive(Debug)]
pub struct Running {
    shell: Arc<Shell>,
    since: Instant,
    draining: AtomicBool,
    refused: ArcSwapOption<String>,
    orders: mpsc::Sender<Order>,
}

/// The order to read the configuration again, and where the answer goes.
pub type Order = oneshot::Sender<Result<String, String>>;

impl Running {
    /// Orders that wait for their turn; whoever gives one more waits itself.
    const ORDERS: usize = 4;

    /// The proxy runs from now on; its orders are to be obeyed by the caller.
    pub fn new(shell: Arc<Shell>) -> (Arc<Self>, mpsc::Receiver<Order>) {
        let (orders, given) = mpsc::channel(Self::ORDERS);
        let (draining, refused) = (AtomicBool::new(false), ArcSwapOption::empty());
        (Arc::new(Self { shell, since: Instant::now(), draining, refused, orders }), given)
    }

    /// The configuration was read again: counts it, logs it, and says so.
    pub fn reloaded(&self, result: Result<(), String>) -> Result<String, String> {
        self.shell.meters.reloads[Outcome::of(&result)].increment(1);
        let revision = self.shell.setup.load().revision;
        match &result {
            Ok(()) => tracing::info!(revision, "configuration reloaded"),
            Err(error) => tracing::error!(error = %error, "configuration refused, the old one stays"),
        }
        self.refused.store(result.as_ref().err().cloned().map(Arc::new));
        result.map(|()| format!("revision {revision}"))
    }

    /// The doors are closing.
    pub fn close(&self) {
        self.draining.store(true, Relaxed);
    }
}

impl Operated for Running {
    fn measure(&self) {
        self.shell.meters.notices_oldest.set(self.shell.desks.oldest().unwrap_or_default() as f64);
    }

    fn status(&self) -> Status {
        let setup = self.shell.setup.load();
        let listening = |listening: &Arc<super::listener::Listening>| Listening {
            address: listening.name.to_string(),
            tls: word(listening.settings.tls).to_owned(),
        };
        Status {
            uptime_seconds: self.since.elapsed().as_secs(),
            draining: self.draining.load(Relaxed),
            config: Configured {
                revision: setup.revision,
                loaded_at: setup.loaded.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
                refused: self.refused.load().as_deref().cloned(),
            },
            listeners: setup.listenings.iter().map(listening).collect(),
            backends: setup.dialers.values().map(|dialer| backend(dialer)).collect(),
        }
    }

    fn manage<'a>(&'a self, whom: &'a Whom, order: accounts::Order) -> Managing<'a> {
        Box::pin(self.shell.manage(whom, order))
    }

    fn queue(&self) -> Queueing<'_> {
        Box::pin(self.shell.queue())
    }

    fn reload(&self) -> Reloading<'_> {
        Box::pin(async move {
            let ends = || "the proxy is shutting down".to_owned();
            let (order, answer) = oneshot::channel();
            self.orders.send(order).await.map_err(|_| ends())?;
            answer.await.map_err(|_| ends())?
        })
    }
}

fn word(security: Security) -> &'static str {
    match security {
        Security::Starttls => "starttls",
        Security::Implicit => "implicit",
        Security::None => "none",
    }
}

fn backend(dialer: &Dialer) -> BackendStatus {
    let condition = dialer.condition.load();
    let plan = dialer.plan.load();
    let probed = condition.probe.as_ref().map(|probe| &probe.capabilities);
    let said = plan.as_ref().map(|plan| &plan.backend).or(probed);
    let words = |words: &crate::imap::capability::Capabilities| words.iter().map(str::to_owned).collect();
    let now = Instant::now();
    let host = |host: &Arc<super::dialer::Host>| HostStatus { url: host.url.to_string(), up: !host.rests(now) };
    BackendStatus {
        name: dialer.name.to_string(),
        up: condition.is_up(),
        hosts: dialer.hosts().iter().map(host).collect(),
        logins_in_flight: dialer.logins_in_flight(),
        profile: dialer.settings.profile.clone(),
        capabilities: said.map(words).unwrap_or_default(),
        plan: plan.iter().flat_map(|plan| &plan.layers).map(|layer| layer.name.to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::shell::tests::shell;

    #[tokio::test]
    async fn an_order_is_answered_and_remembered() {
        let (_state, shell) = shell(|_| ());
        let (running, mut orders) = Running::new(shell);
        let other = running.clone();
        let server = tokio::spawn(async move {
            for result in [Err("no such file".to_owned()), Ok(())] {
                let order = orders.recv().await.unwrap();
                order.send(other.reloaded(result)).unwrap();
            }
        });
        assert_eq!(running.reload().await, Err("no such file".to_owned()));
        assert_eq!(running.status().config.refused.as_deref(), Some("no such file"));
        assert_eq!(running.reload().await, Ok("revision 1".to_owned()));
        assert_eq!(running.status().config.refused, None);
        server.await.unwrap();
        assert_eq!(running.reload().await, Err("the proxy is shutting down".to_owned()));
    }

    #[test]
    fn the_status_tells_listeners_and_backends() {
        let (_state, shell) = shell(|config| {
            let backend = crate::io::backends::Backend {
                urls: vec!["imap://localhost:1".parse().unwrap()],
                ..Default::default()
            };
            config.backends.insert("main".to_owned(), backend);
        });
        let (running, _orders) = Running::new(shell);
        let status = running.status();
        let listeners: Vec<_> = status.listeners.iter().map(|it| format!("{} {}", it.address, it.tls)).collect();
        assert_eq!(listeners, ["127.0.0.1:1143 starttls", "127.0.0.1:1993 implicit"]);
        assert_eq!(status.backends[0].hosts[0].url, "imap://localhost:1");
        assert_eq!(status.unready(), None);
        running.close();
        assert_eq!(running.status().unready(), Some("draining"));
    }
}
