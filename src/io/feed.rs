//! The feed (`[feed]` of the configuration): what those who follow are told, written down, and brought in its order to another server.
//!
//!     sessions  -- events -->  writer  -- one wait for the disk -->  log  -- batch -->  sender  -- POST -->  the server
//!                                  ^ it grows meanwhile                                    ^ 1 s, 2, 4 ... 5 min, where it does not answer
//!
//! What has come while the disk was busy is written at once. An event is safe when it is written, some milliseconds behind the moment in which
//! it happened; a kill in between loses it, a power failure too. Where the disk takes nothing, 2 MiB wait in memory, and what is beyond is
//! counted: its numbers are given, and the server hears that they are lost. What is to be sent is decided in [`feed`].
//! Requirements N17, N18, N19.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use reqwest::Url;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{
    carrier::{self, http::Http},
    events::{Events, Follower, Heard},
    metrics::{Fed, Meters, Outcome},
};
use crate::{
    outband::{
        channel::Answer,
        channels::webhook::{SecretError, SigningSecret},
        feed::{self, Batch, Limits, Settled},
    },
    store::{
        self,
        feed::{Feed as Log, Keep, Logged, Tail},
    },
    units::{Size, Span},
};

/// `[feed]`: the server that is told of all events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where it is: `https://`, or `http://` on this host.
    pub url: String,
    /// A file with the secret that signs: `whsec_` and base64.
    pub secret_file: PathBuf,
    /// Who we are: `imap1.example.org`.
    pub source: String,
    /// `http://` to anywhere. The names of users are in clear then, and of mailboxes.
    #[serde(default)]
    pub allow_clear: bool,
    /// How long an event waits.
    #[serde(default = "week")]
    pub retention: Span,
    /// How many wait.
    #[serde(default = "million")]
    pub events: u64,
    /// How many octets of them.
    #[serde(default = "gibibyte")]
    pub octets: Size,
    /// How much goes at once.
    #[serde(default)]
    pub batch: BatchSettings,
}

/// `[feed.batch]`: the bounds of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchSettings {
    /// Events.
    pub events: u32,
    /// Octets of the body.
    pub octets: Size,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self { events: MOST.events, octets: Size(MOST.octets) }
    }
}

/// No server gets more at once: an answer that names each event still fits [`LONGEST_ANSWER`].
const MOST: Limits = Limits { events: 500, octets: 256 << 10 };
/// How much of an answer is read, in octets: a word on each event of a batch.
const LONGEST_ANSWER: usize = 64 << 10;
/// How long a server may take for a batch.
const ANSWER: Duration = Duration::from_secs(30);
/// What is written at once, in octets: as much as waits for a follower.
const LONGEST_WRITE: usize = 1 << 20;
/// How long the log is not looked at for what is too old, where nothing happens.
const SILENCE: Duration = Duration::from_secs(60);
/// How long the end of the program waits for the last events to be written and sent. What is not sent by then is sent behind the next start.
const PATIENCE: Duration = Duration::from_secs(5);
/// From one attempt to use a store that is not available to the next: the first time, and at most.
const STORE_PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

fn week() -> Span {
    Span::minutes(7 * 24 * 60)
}

fn million() -> u64 {
    1_000_000
}

fn gibibyte() -> Size {
    Size::mib(1024)
}

/// Why there is no feed.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The file with the secret.
    #[error("feed.secret_file: {}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What stands in it.
    #[error("feed.secret_file: {0}")]
    Secret(#[from] SecretError),
    /// HTTP.
    #[error("feed: {0}")]
    Http(#[from] reqwest::Error),
}

impl Settings {
    /// What cannot be obeyed: the key below `feed`, and why not.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let (batch, least) = (&self.batch, Size::kib(1));
        let table = [
            ("url", self.place_fault()),
            ("source", self.source.is_empty().then(|| "who are we to that server?".to_owned())),
            ("retention", self.retention.0.is_zero().then(|| "no time at all".to_owned())),
            ("events", (self.events == 0).then(|| "nothing could wait".to_owned())),
            ("octets", (self.octets < least).then(|| format!("{} is less than {least}", self.octets))),
            (
                "batch.events",
                (!(1..=MOST.events).contains(&batch.events)).then(|| format!("from 1 to {}", MOST.events)),
            ),
            (
                "batch.octets",
                (!(least.0..=MOST.octets).contains(&batch.octets.0))
                    .then(|| format!("from {least} to {}", Size(MOST.octets))),
            ),
        ];
        table.into_iter().filter_map(|(key, fault)| Some((key, fault?))).collect()
    }

    fn place_fault(&self) -> Option<String> {
        let url = Url::parse(&self.url).ok().filter(Url::has_host);
        let is_near = |url: &Url| {
            let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        };
        match url.as_ref().map(|url| (url.scheme(), is_near(url) || self.allow_clear)) {
            Some(("https", _) | ("http", true)) => None,
            Some(("http", false)) => {
                Some("the names of users would be in clear: https://, or feed.allow_clear = true".to_owned())
            }
            _ => Some("does not begin with https:// and a host".to_owned()),
        }
    }

    fn secret(&self) -> Result<SigningSecret, FeedError> {
        let read = |source| FeedError::Read { file: self.secret_file.clone(), source };
        Ok(fs::read_to_string(Path::new(&self.secret_file)).map_err(read)?.trim().parse()?)
    }

    fn limits(&self) -> Limits {
        Limits { events: self.batch.events, octets: self.batch.octets.0 }
    }
}

/// The feed of a running program.
#[derive(Debug)]
pub struct Feed(JoinHandle<()>);

impl Feed {
    /// Begins to follow, to write and to send. Whoever comes to the proxy behind this is heard from the first word on.
    pub fn begin(
        settings: &Settings,
        log: Arc<dyn Log>,
        events: &Arc<Events>,
        meters: Arc<Meters>,
    ) -> Result<Self, FeedError> {
        let (secret, carrying) = (settings.secret()?, carrier::http::Settings::default());
        let http = Http::new(carrier::http::Settings { timeout: ANSWER, longest_answer: LONGEST_ANSWER, ..carrying })?;
        let (settings, follower) = (settings.clone(), events.follow(None));
        Ok(Self(tokio::spawn(async move {
            // None: the program ends before it has begun.
            let Some(follower) = follower else { return };
            let stream = name();
            let position = answered(|| log.begin(&stream)).await;
            let (grown, grows) = watch::channel(position.next);
            let feed = feed::Feed::new(&position, settings.limits());
            let writer = Writer {
                log: log.clone(),
                follower,
                next: position.next,
                settings: settings.clone(),
                meters: meters.clone(),
                grown,
            };
            let sender = Sender { log, http, secret, settings, feed, grows, meters, is_well: true };
            tokio::join!(writer.run(), sender.run());
        })))
    }

    /// The program ends, and nobody does anything any more: what has happened is written, and sent if that can be done in a moment.
    pub async fn close(mut self) {
        if timeout(PATIENCE, &mut self.0).await.is_err() {
            self.0.abort();
        }
    }
}

/// A name for a stream that nobody has.
fn name() -> Box<str> {
    let mut octets = [0; 8];
    // The system's random numbers do not end.
    let _ = aws_lc_rs::rand::fill(&mut octets);
    format!("{:016x}", u64::from_be_bytes(octets)).into()
}

/// Asks the store until it answers: without it nothing can be promised.
async fn answered<'a, T>(mut ask: impl FnMut() -> store::Answer<'a, T>) -> T {
    let mut pause = STORE_PAUSES.0;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) if pause == STORE_PAUSES.0 => tracing::error!(error = %error, "the feed waits for its log"),
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(STORE_PAUSES.1);
    }
}

/// Writes down what is heard.
struct Writer {
    log: Arc<dyn Log>,
    follower: Follower,
    /// The number of the next event.
    next: u64,
    settings: Settings,
    meters: Arc<Meters>,
    /// The same for the sender, once it is on the disk. Gone: there will be no more.
    grown: watch::Sender<u64>,
}

impl Writer {
    /// Until the program ends.
    async fn run(mut self) {
        loop {
            let heard = timeout(SILENCE, self.follower.hear()).await;
            let is_over = matches!(heard, Ok(None));
            let mut gathered = Vec::new();
            let mut octets = self.note(heard.ok().flatten(), &mut gathered);
            while octets < LONGEST_WRITE
                && let Some(heard) = self.follower.heard()
            {
                octets += self.note(Some(heard), &mut gathered);
            }
            self.write(&gathered).await;
            if is_over {
                return;
            }
        }
    }

    /// Gives what was heard its number. The answer is its length.
    fn note(&mut self, heard: Option<Heard>, gathered: &mut Vec<Logged>) -> usize {
        match heard {
            Some(Heard::Line(line)) => {
                let Some(line) = feed::logged(&line) else { return 0 };
                let (seq, octets) = (self.next, line.len());
                gathered.push(Logged { seq, at: millis(time()), line });
                self.next += 1;
                octets
            }
            Some(Heard::Dropped(count)) => {
                tracing::warn!(count, "the feed has lost events that came faster than they could be written");
                self.meters.fed[Fed::Lost].increment(count);
                self.next += count;
                0
            }
            None => 0,
        }
    }

    async fn write(&mut self, gathered: &[Logged]) {
        let forgotten = answered(|| {
            let since = millis(time().saturating_sub(self.settings.retention.0));
            let keep = Keep { events: self.settings.events, octets: self.settings.octets.0, since };
            self.log.append(gathered, self.next, keep)
        })
        .await;
        if forgotten > 0 {
            tracing::warn!(count = forgotten, "the feed has forgotten events that nobody took for too long");
            self.meters.fed[Fed::Lost].increment(forgotten);
        }
        self.grown.send_if_modified(|next| std::mem::replace(next, self.next) != self.next || forgotten > 0);
    }
}

/// Sends what is written.
struct Sender {
    log: Arc<dyn Log>,
    http: Http,
    secret: SigningSecret,
    settings: Settings,
    feed: feed::Feed,
    grows: watch::Receiver<u64>,
    meters: Arc<Meters>,
    /// The server took what was last sent.
    is_well: bool,
}

impl Sender {
    /// Until there will be no more, and all is sent or nobody takes it.
    async fn run(mut self) {
        loop {
            let tail = self.read().await;
            match self.feed.batch(&self.settings.source, &tail) {
                Some(batch) => {
                    let pause = self.send(&batch).await;
                    if let Some(pause) = pause
                        && !self.rest(pause).await
                    {
                        return;
                    }
                }
                None if self.grows.changed().await.is_err() => return,
                None => {}
            }
        }
    }

    async fn read(&self) -> Tail {
        let (events, octets) = self.feed.appetite();
        let tail = answered(|| self.log.read(self.feed.acked(), events, octets)).await;
        let oldest = tail.events.first().map_or(0, |event| event.at);
        self.meters.feed_oldest.set(oldest as f64 / 1000.0);
        self.count(tail.next);
        tail
    }

    fn count(&self, next: u64) {
        self.meters.feed_waiting.set(next.saturating_sub(self.feed.acked() + 1) as f64);
    }

    /// Sends this, and writes down what has come of it; when the next may go.
    async fn send(&mut self, batch: &Batch) -> Option<Duration> {
        let answer = self.http.carry(&batch.request(&self.settings.url, &self.secret, time())).await;
        let before = self.feed.acked();
        let settled = self.feed.settle(batch, &answer);
        self.note(&answer, &settled);
        if settled.is_renewed {
            self.feed.rename(&name());
        }
        if settled.is_renewed || self.feed.acked() != before || !settled.dropped.is_empty() {
            let (stream, acked) = (self.feed.stream(), self.feed.acked());
            answered(|| self.log.settle(stream, acked, &settled.dropped)).await;
        }
        settled.pause
    }

    /// Counts, and says what has changed. What the events were is said nowhere.
    fn note(&mut self, answer: &Answer, settled: &Settled) {
        let is_well = settled.pause.is_none();
        self.meters.feed_requests[if is_well { Outcome::Ok } else { Outcome::Failed }].increment(1);
        self.meters.fed[Fed::Acknowledged].increment(settled.sent);
        self.meters.fed[Fed::Refused].increment(settled.refused.len() as u64);
        for refusal in &settled.refused {
            tracing::warn!(seq = refusal.seq, code = %refusal.code, "the feed's server refuses an event");
        }
        if settled.is_renewed {
            tracing::error!("the feed's server knows events that the log does not: its stream gets a new name");
        }
        let status = if let Answer::Http { status, .. } = answer { *status } else { 0 };
        match (std::mem::replace(&mut self.is_well, is_well), is_well) {
            (true, false) => tracing::warn!(status, "the feed's server does not take what it is sent"),
            (false, true) => tracing::info!("the feed goes on"),
            _ => {}
        }
    }

    /// Waits so long; whether there is something to wait for.
    async fn rest(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(until) => return true,
                grown = self.grows.changed() => match grown {
                    Ok(()) => self.count(*self.grows.borrow()),
                    Err(_) => return false,
                },
            }
        }
    }
}

/// The time of day.
fn time() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
