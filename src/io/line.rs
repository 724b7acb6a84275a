//! A connection of ours to a backend, logged in for an account, on which one errand is done after the other.
//!
//!     Key, Errand   ->  greeting, STARTTLS, login, EXAMINE, what is asked   ->  Outcome
//!
//! What is said there is decided by [`Aside`]; here it is carried, with a bound for each silence. Issues 4 and 5.

use std::{
    fmt,
    future::poll_fn,
    io,
    sync::Arc,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use super::{
    login::{Connected, Login},
    metrics::{BackendMeters, Held},
    transport::Transport,
};
use crate::session::{
    aside::{Aside, Errand, Examined, Outcome},
    effect::{Effect, Effects, Side, Upgrade},
    key::Key,
};

/// How long a backend may keep silent over an errand, if `timeouts.backend` is no less. Its answers come a line for each message, so even
/// a large mailbox is heard of sooner.
const PATIENCE: Duration = Duration::from_secs(60);

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Line").field(&self.aside).finish()
    }
}

/// A connection, and what is said on it.
pub struct Line {
    transport: Option<Transport>,
    aside: Aside,
    heard: Vec<u8>,
    /// Until the backend has let us in.
    login: Option<Login>,
    patience: Duration,
    meters: Arc<BackendMeters>,
    _counted: Held,
}

impl Line {
    /// A connection that was just made, to log in there with this key. `counted` says that it is there; `timeout` is `timeouts.backend`.
    pub fn new(
        connected: Connected,
        key: &Key,
        counted: Held,
        timeout: Duration,
        meters: Arc<BackendMeters>,
    ) -> Option<Self> {
        let Connected { transport, dialled, login } = connected;
        let mut seed = [0; 8];
        aws_lc_rs::rand::fill(&mut seed).ok()?;
        let aside = Aside::new(key, *dialled, u64::from_le_bytes(seed), Instant::now());
        Some(Self {
            transport: Some(transport),
            aside,
            heard: Vec::new(),
            login: Some(login),
            patience: timeout.min(PATIENCE),
            meters,
            _counted: counted,
        })
    }

    /// A connection that a client has left behind, logged in; the same of it.
    pub fn left(
        transport: Transport,
        idling: bool,
        told: bool,
        counted: Held,
        timeout: Duration,
        meters: Arc<BackendMeters>,
    ) -> Option<Self> {
        let mut seed = [0; 8];
        aws_lc_rs::rand::fill(&mut seed).ok()?;
        let aside = Aside::left(u64::from_le_bytes(seed), idling, told);
        let (transport, heard, patience) = (Some(transport), Vec::new(), timeout.min(PATIENCE));
        Some(Self { transport, aside, heard, login: None, patience, meters, _counted: counted })
    }

    /// Whether the backend has let us in.
    pub fn is_in(&self) -> bool {
        self.login.is_none()
    }

    /// Whether it may have another errand.
    pub fn is_free(&self) -> bool {
        self.aside.is_free()
    }

    /// Whether the backend tells its news in IDLE, as far as anybody knows.
    pub fn idles(&self) -> bool {
        self.aside.idles()
    }

    /// Whether who listens hears of other mailboxes too, as far as anybody knows.
    pub fn notifies(&self) -> bool {
        self.aside.notifies()
    }

    /// What the mailbox of the last errand has said of itself.
    pub fn examined(&self) -> Examined {
        self.aside.examined()
    }

    /// Does one errand, and says what came of it. Who listens hears nothing any more when this time is over, or when it is `enough`.
    pub async fn converse(
        &mut self,
        errand: Errand,
        longest: Duration,
        enough: impl Future<Output = ()>,
    ) -> io::Result<Outcome> {
        let until = tokio::time::Instant::now() + longest;
        let mut enough = std::pin::pin!(enough);
        let mut effects = Effects::default();
        let mut outcome = self.aside.run(errand, &mut effects);
        loop {
            self.apply(&mut effects).await?;
            if self.aside.is_in() {
                drop(self.login.take().map(|login| login.authenticated(None)));
            }
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
            if self.aside.is_idling() {
                tokio::select! {
                    read = self.read() => read?,
                    () = &mut enough => self.aside.stop(&mut effects),
                    // RFC 2177 section 3: before 30 minutes are over.
                    () = tokio::time::sleep_until(until) => self.aside.stop(&mut effects),
                }
            } else {
                tokio::time::timeout(self.patience, self.read()).await??;
            }
            let (took, told) = self.aside.hear(&self.heard, &mut effects);
            self.heard.drain(..took);
            if self.heard.is_empty() {
                self.heard = Vec::new();
            }
            outcome = told;
        }
    }

    /// Says what is to be said.
    async fn apply(&mut self, effects: &mut Effects) -> io::Result<()> {
        self.meters.looks.increment(std::mem::take(&mut effects.looks));
        while !effects.list.is_empty() {
            let (list, text) = (std::mem::take(&mut effects.list), std::mem::take(&mut effects.text));
            for effect in list {
                match effect {
                    Effect::Put(Side::Backend, range) => self.write(&text[range]).await?,
                    Effect::Upgrade(Side::Backend, Upgrade::Tls) => {
                        let login = self.login.as_ref().ok_or(io::ErrorKind::NotConnected)?;
                        let transport = self.transport.take().ok_or(io::ErrorKind::NotConnected)?;
                        // Rarely, and large: who waits shall not have room for it.
                        self.transport = Some(Box::pin(login.upgrade(transport)).await?);
                        self.heard.clear();
                        self.aside.upgraded(effects);
                    }
                    // What a login says to its client (an alert) is said by the session's own.
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn transport(&mut self) -> io::Result<&mut Transport> {
        self.transport.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        let patience = self.patience;
        let transport = self.transport()?;
        let mut left = octets;
        let written = async {
            while !left.is_empty() {
                let written = poll_fn(|cx| transport.poll_write(cx, left)).await?;
                left = &left[written..];
            }
            poll_fn(|cx| transport.poll_flush(cx)).await
        };
        tokio::time::timeout(patience, written).await?
    }

    async fn read(&mut self) -> io::Result<()> {
        let Self { transport, heard, .. } = self;
        let transport = transport.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        poll_fn(|cx| {
            // Not kept while nothing comes: there is such a connection for each account that is looked after.
            let mut buffer = [0; 8 << 10];
            let read = ready!(transport.poll_read(cx, &mut buffer))?;
            heard.extend_from_slice(&buffer[..read]);
            Poll::Ready(if read > 0 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) })
        })
        .await
    }

    /// Nobody has anything more to ask.
    pub async fn close(mut self) {
        if self.write(b"A LOGOUT\r\n").await.is_ok()
            && let Some(transport) = self.transport.take()
        {
            transport.close(Duration::from_secs(1)).await;
        }
    }
}
