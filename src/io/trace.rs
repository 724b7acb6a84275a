//! The wire trace of one user, on request: a transcript, with secrets struck out (architecture 10).
//!
//!     C: a LOGIN ***
//!     >  p1 LOGIN ***
//!     <  p1 OK Logged in
//!     S: a OK [CAPABILITY IMAP4rev1 ...] Logged in
//!     C: b FETCH 1 BODY[]
//!     S: * 1 FETCH (BODY[] {310512} ...
//!     S| )
//!
//! An operator switches it on for a user ([`Traces::switch_on`]); from then on each of that user's sessions writes a file of
//! its own, `STATE/trace/USER-SESSION.imap`, readable by the owner of the process only. The format is that of
//! `proto-tests/transcripts`, so what a user reports can become a test. What makes the lines is [`Transcript`], which is
//! pure; what is here keeps lists and writes files.
//!
//! A session never waits for the disk: what a writer has not written yet is bounded, and what does not fit is counted and
//! left out. Requirement A5.

use std::{
    fmt::Write as _,
    fs::{DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use dashmap::{DashMap, mapref::entry::Entry as Slot};
use tokio::{
    fs::File,
    io::AsyncWriteExt as _,
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
};
use tracing::warn;

pub use self::transcript::Transcript;
use crate::io::{
    log::Clean,
    metrics::{Meters, Way},
    registry::Entry,
};

mod transcript;

/// Users traced at a time: a diagnosis is of one or two, and each costs disk.
const USERS: usize = 16;

/// What the traces of one user may fill, until they are switched on again.
const ALLOWANCE: u64 = 64 << 20;

/// What a session takes of it at least, so that a client which reconnects for ever makes a bounded number of files.
const AT_LEAST: u64 = 64 << 10;

/// What one session may write.
const LONGEST: u64 = 16 << 20;

/// What may wait for the disk.
const HELD: usize = 256 << 10;

/// A silence this long gets a line of its own.
const SILENCE: Duration = Duration::from_secs(1);

/// Who is traced, and where to.
pub struct Traces {
    directory: PathBuf,
    users: DashMap<Arc<str>, Arc<AtomicU64>>,
    meters: Arc<Meters>,
}

/// Too many users are being traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{USERS} users are being traced already")]
pub struct TooMany;

impl Traces {
    /// Nobody is traced after a start.
    pub fn new(state: &Path, meters: Arc<Meters>) -> Arc<Self> {
        Arc::new(Self { directory: state.join("trace"), users: DashMap::new(), meters })
    }

    /// Where the files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The sessions of this user are traced from now on; whoever calls tells those that are open.
    pub fn switch_on(&self, user: &str) -> Result<(), TooMany> {
        let full = self.users.len() >= USERS;
        match self.users.entry(user.into()) {
            Slot::Occupied(renewed) => renewed.get().store(ALLOWANCE, Relaxed),
            Slot::Vacant(_) if full => return Err(TooMany),
            Slot::Vacant(slot) => _ = slot.insert(Arc::new(AtomicU64::new(ALLOWANCE))),
        }
        self.meters.traced_users.set(self.users.len() as f64);
        Ok(())
    }

    /// They are no longer; says whether they were.
    pub fn switch_off(&self, user: &str) -> bool {
        let was = self.users.remove(user).is_some();
        self.meters.traced_users.set(self.users.len() as f64);
        was
    }

    /// Who is traced, by name.
    pub fn users(&self) -> Vec<String> {
        let mut users: Vec<_> = self.users.iter().map(|user| user.key().to_string()).collect();
        users.sort_unstable();
        users
    }

    /// Whether a session of this user should begin a trace. Costs next to nothing while nobody is traced.
    pub fn wants(&self, user: &str) -> bool {
        !self.users.is_empty() && self.users.contains_key(user)
    }

    /// Begins the trace of a session, if its user is traced and the allowance lasts.
    ///
    /// Called when the user is known, before the login goes to the backend, or later in the session's life. Needs a runtime.
    pub fn begin(&self, session: &Entry, logged_in: bool) -> Option<Box<Trace>> {
        let user = session.user()?;
        let allowance = self.users.get(&user)?.clone();
        take(&allowance, AT_LEAST)?;
        let path = self.directory.join(file_name(&user, session.id.as_str()));
        let file = match create(&self.directory, &path) {
            Ok(file) => file,
            Err(error) => {
                warn!(path = %path.display(), %error, "trace cannot be written");
                return None;
            }
        };
        let (to, from) = mpsc::unbounded_channel();
        let held = Arc::new(AtomicUsize::new(0));
        tokio::spawn(write(File::from_std(file), from, held.clone()));
        let mut trace = Box::new(Trace {
            transcript: Transcript::new(logged_in),
            text: heading(session),
            last: Instant::now(),
            left: LONGEST,
            lost: 0,
            prepaid: AT_LEAST,
            allowance,
            held,
            to,
        });
        trace.send();
        Some(trace)
    }
}

/// The trace of one session.
pub struct Trace {
    transcript: Transcript,
    text: String,
    last: Instant,
    /// Octets this session may still write; at zero the trace has ended.
    left: u64,
    /// Octets that did not fit.
    lost: u64,
    /// Of the allowance, taken but not written yet.
    prepaid: u64,
    allowance: Arc<AtomicU64>,
    /// Octets in the channel.
    held: Arc<AtomicUsize>,
    /// Unbounded, because `held` is the bound.
    to: UnboundedSender<String>,
}

impl Trace {
    /// These octets went this way, literals included. In the order in which they were handled.
    pub fn feed(&mut self, way: Way, octets: &[u8]) {
        if self.left == 0 {
            return;
        }
        self.transcript.feed(way, octets, &mut self.text);
        if self.text.is_empty() {
            return;
        }
        let silence = self.last.elapsed();
        self.last += silence;
        if silence >= SILENCE {
            self.text.insert_str(0, &format!("; after {:.1} s\n", silence.as_secs_f64()));
        }
        self.send();
    }

    /// There is another connection to the backend.
    pub fn reconnected(&mut self) {
        if self.left > 0 {
            self.transcript.reconnected(&mut self.text);
            self.send();
        }
    }

    fn send(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        if self.held.load(Relaxed) + text.len() > HELD {
            self.lost += text.len() as u64;
            return;
        }
        if self.lost > 0 {
            text.insert_str(0, &format!("; {} octets of the trace were lost here\n", std::mem::take(&mut self.lost)));
        }
        let size = text.len() as u64;
        self.left = if self.pay(size) { self.left.saturating_sub(size) } else { 0 };
        if self.left == 0 {
            text = "; the trace is full\n".to_owned();
        }
        self.held.fetch_add(text.len(), Relaxed);
        // A writer that has given up has said so in the log.
        let _ = self.to.send(text);
    }

    /// Takes from what the user's traces may fill together.
    fn pay(&mut self, size: u64) -> bool {
        if size > self.prepaid && take(&self.allowance, size.max(AT_LEAST)).is_some() {
            self.prepaid += size.max(AT_LEAST);
        }
        let enough = size <= self.prepaid;
        self.prepaid = self.prepaid.saturating_sub(size);
        enough
    }
}

fn take(allowance: &AtomicU64, size: u64) -> Option<()> {
    allowance.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(size)).ok().map(|_| ())
}

/// Writes what comes, until the trace is dropped or the disk refuses.
async fn write(mut file: File, mut from: UnboundedReceiver<String>, held: Arc<AtomicUsize>) {
    while let Some(text) = from.recv().await {
        let written = async {
            file.write_all(text.as_bytes()).await?;
            file.flush().await
        };
        if let Err(error) = written.await {
            warn!(%error, "trace ended");
            return;
        }
        held.fetch_sub(text.len(), Relaxed);
    }
}

/// A comment that says whose trace this is; an empty line ends the heading of a transcript.
fn heading(session: &Entry) -> String {
    let user = session.user().unwrap_or_default();
    let backend = session.backend().unwrap_or_default();
    let mut text = format!("# session {} of {} from {}", session.id, Clean(&user), session.client);
    if !backend.is_empty() {
        let _ = write!(text, " at {}", Clean(&backend));
    }
    text.push_str("\n\n");
    text
}

fn create(directory: &Path, path: &Path) -> io::Result<std::fs::File> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // A session may be traced twice in its life: the second trace goes on behind the first.
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// The user's name as far as it can stand in a file's name, and the session's, which makes it unique.
fn file_name(user: &str, session: &str) -> String {
    const LONGEST_NAME: usize = 64;
    let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '@' | '.' | '_' | '+');
    let name: String = user.chars().take(LONGEST_NAME).map(|char| if plain(char) { char } else { '_' }).collect();
    format!("{}-{session}.imap", name.trim_start_matches('.'))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::io::registry::{Registry, Seat};

    struct Scene {
        directory: tempfile::TempDir,
        traces: Arc<Traces>,
        seat: Seat,
    }

    fn scene(user: &str) -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let meters = Arc::new(Meters::new());
        let seat = Registry::new(meters.clone()).enter("192.0.2.7:4711".parse().unwrap(), Arc::from("imap"));
        seat.named(Some(Arc::from(user)), Some(Arc::from("main")));
        Scene { traces: Traces::new(directory.path(), meters), directory, seat }
    }

    impl Scene {
        fn path(&self, user: &str) -> PathBuf {
            self.directory.path().join("trace").join(file_name(user, self.seat.id().as_str()))
        }
    }

    /// What the writer has written when it is done.
    async fn written(trace: Box<Trace>, path: &Path) -> String {
        let held = trace.held.clone();
        drop(trace);
        while held.load(Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        std::fs::read_to_string(path).unwrap()
    }

    #[tokio::test]
    async fn a_session_of_a_traced_user_writes_a_file_for_its_owner_only() {
        let scene = scene("joe");
        assert!(!scene.traces.wants("joe"));
        assert!(scene.traces.begin(scene.seat.entry(), false).is_none());
        scene.traces.switch_on("joe").unwrap();
        assert!(scene.traces.wants("joe") && !scene.traces.wants("ann"));
        let mut trace = scene.traces.begin(scene.seat.entry(), true).unwrap();
        trace.feed(Way::ClientSays, b"a NOOP\r\n");
        trace.feed(Way::ClientHears, b"a OK done\r\n");
        let path = scene.path("joe");
        let text = written(trace, &path).await;
        let id = scene.seat.id();
        assert_eq!(text, format!("# session {id} of joe from 192.0.2.7:4711 at main\n\nC: a NOOP\nS: a OK done\n"));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn a_trace_that_is_full_says_so_and_ends() {
        let scene = scene("joe");
        scene.traces.switch_on("joe").unwrap();
        let mut trace = scene.traces.begin(scene.seat.entry(), true).unwrap();
        trace.left = 100;
        for _ in 0..100 {
            trace.feed(Way::ClientSays, b"a NOOP\r\n");
        }
        let text = written(trace, &scene.path("joe")).await;
        assert!(text.ends_with("; the trace is full\n") && text.len() < 300, "{text}");
    }

    #[tokio::test]
    async fn the_traces_of_a_user_share_an_allowance_that_switching_on_renews() {
        let scene = scene("joe");
        scene.traces.switch_on("joe").unwrap();
        let count = || std::iter::from_fn(|| scene.traces.begin(scene.seat.entry(), true)).count() as u64;
        assert_eq!(count(), ALLOWANCE / AT_LEAST);
        scene.traces.switch_on("joe").unwrap();
        assert!(scene.traces.begin(scene.seat.entry(), true).is_some());
    }

    #[tokio::test]
    async fn what_the_disk_does_not_take_in_time_is_counted_and_left_out() {
        let scene = scene("joe");
        scene.traces.switch_on("joe").unwrap();
        let mut trace = scene.traces.begin(scene.seat.entry(), true).unwrap();
        trace.held.fetch_add(HELD, Relaxed);
        trace.feed(Way::ClientSays, b"a NOOP\r\n");
        trace.held.fetch_sub(HELD, Relaxed);
        trace.feed(Way::ClientSays, b"b NOOP\r\n");
        let text = written(trace, &scene.path("joe")).await;
        assert!(text.ends_with("; 10 octets of the trace were lost here\nC: b NOOP\n"), "{text}");
    }

    #[test]
    fn only_so_many_users_are_traced() {
        let traces = scene("joe").traces;
        let users: Vec<_> = (0..USERS).map(|number| format!("user{number}")).collect();
        users.iter().for_each(|user| traces.switch_on(user).unwrap());
        assert_eq!(traces.switch_on("one more"), Err(TooMany));
        assert_eq!(traces.switch_on("user0"), Ok(()));
        assert!(traces.switch_off("user0") && !traces.switch_off("user0"));
        assert_eq!(traces.switch_on("one more"), Ok(()));
    }

    #[test]
    fn a_user_cannot_choose_where_the_file_is() {
        for (user, name) in [
            ("joe@example.org", "joe@example.org-s.imap"),
            ("../../etc/passwd", "_.._etc_passwd-s.imap"),
            ("..", "-s.imap"),
            ("a/b\0c d", "a_b_c_d-s.imap"),
            ("jörg", "j_rg-s.imap"),
        ] {
            assert_eq!(file_name(user, "s"), name);
        }
        assert!(file_name(&"x".repeat(1000), "s").len() < 100);
    }
}
