//! Who follows what happens in the message store, and what waits for them.
//!
//!     publish    {"event":"MailboxCreate","user":"joe","mailbox":"Work",...}     to each who follows joe, or everybody
//!     too slow   {"dropped":17}                                                  in place of what did not fit
//!
//! Sessions publish, followers listen. A session never waits for a follower: each has a queue of its own with a bound. While
//! nobody follows, no event is made: one number says so, and is all that a session looks at. Where some are followed, the
//! sessions of the others do nothing for it. Requirement P1.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime},
};

use axum::body::Bytes;

use super::shell::Shell;
use crate::{
    mailbox::{
        event::{Event, Kind, Report},
        news::News,
    },
    store::AccountName,
};

/// All who follow.
#[derive(Default)]
pub struct Events {
    count: AtomicUsize,
    followers: Mutex<Followers>,
}

#[derive(Default)]
struct Followers {
    queues: Vec<Arc<Queue>>,
    /// How many there have ever been.
    last: u64,
    /// The proxy ends.
    closed: bool,
}

/// Followers at a time: each event is copied for each of them, and each holds a connection of the admin port's 32.
pub const MOST_FOLLOWERS: usize = 16;

/// Octets that wait for one follower: some thousand events, which a reader makes up for in a moment.
const LONGEST_QUEUE: usize = 1 << 20;

/// How long the end of the program waits for followers to read what was published last.
const PATIENCE: Duration = Duration::from_secs(1);

impl Events {
    /// Whether anybody follows.
    pub fn is_followed(&self) -> bool {
        self.count.load(Relaxed) > 0
    }

    /// Who follows this user.
    pub fn following(&self, user: Option<&str>) -> Following {
        match self.is_followed() {
            true => Following(lock(&self.followers).of(user).map(|queue| queue.number).collect()),
            false => Following::default(),
        }
    }

    /// From now on this one hears what happens, to this user or to all; none if too many follow already, or the proxy ends.
    pub fn follow(self: &Arc<Self>, user: Option<String>) -> Option<Follower> {
        let mut followers = lock(&self.followers);
        if followers.closed || followers.queues.len() >= MOST_FOLLOWERS {
            return None;
        }
        followers.last += 1;
        let queue = Arc::new(Queue { number: followers.last, user, waiting: Mutex::default() });
        followers.queues.push(queue.clone());
        self.count.store(followers.queues.len(), Relaxed);
        Some(Follower { queue, events: self.clone() })
    }

    /// Tells those who follow this user. The line is made only if there is one.
    pub fn publish(&self, user: Option<&str>, line: impl FnOnce() -> String) {
        if !self.is_followed() {
            return;
        }
        let queues: Vec<_> = lock(&self.followers).of(user).cloned().collect();
        if queues.is_empty() {
            return;
        }
        let line = Bytes::from(line());
        queues.iter().for_each(|queue| queue.push(line.clone()));
    }

    /// The proxy ends: whoever follows hears what waits, and that this was all.
    pub async fn close(&self) {
        let queues = {
            let mut followers = lock(&self.followers);
            followers.closed = true;
            followers.queues.clone()
        };
        queues.iter().for_each(|queue| queue.close());
        let began = Instant::now();
        while self.is_followed() && began.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("followers", &self.count).finish_non_exhaustive()
    }
}

impl Followers {
    /// Those who follow this user.
    fn of(&self, user: Option<&str>) -> impl Iterator<Item = &Arc<Queue>> {
        self.queues.iter().filter(move |queue| queue.user.is_none() || queue.user.as_deref() == user)
    }
}

/// Who follows a user, as numbers that are never given twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Following(Box<[u64]>);

impl Following {
    /// Whether somebody does.
    pub fn is_some(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether one of them did before: what was seen then is a measure for what is new now.
    pub fn goes_on(&self, before: &Self) -> bool {
        self.0.iter().any(|number| before.0.contains(number))
    }
}

impl FromIterator<u64> for Following {
    fn from_iter<T: IntoIterator<Item = u64>>(numbers: T) -> Self {
        Self(numbers.into_iter().collect())
    }
}

/// Somebody who follows, until it is dropped.
pub struct Follower {
    queue: Arc<Queue>,
    events: Arc<Events>,
}

/// What a follower hears.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A line, its end included.
    Line(Bytes),
    /// So many lines are missing here.
    Dropped(u64),
}

impl Heard {
    /// As a line, its end included.
    fn line(self) -> Bytes {
        match self {
            Self::Line(line) => line,
            Self::Dropped(dropped) => Bytes::from(format!("{{\"dropped\":{dropped}}}\n")),
        }
    }
}

impl Follower {
    /// The next line, its end included; none when the proxy ends. Or a promise to wake the task.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.poll_heard(context).map(|heard| heard.map(Heard::line))
    }

    /// What is next; none when the proxy ends.
    pub async fn hear(&mut self) -> Option<Heard> {
        std::future::poll_fn(|context| self.poll_heard(context)).await
    }

    /// What is next, if it has come already.
    pub fn heard(&mut self) -> Option<Heard> {
        lock(&self.queue.waiting).take()
    }

    fn poll_heard(&mut self, context: &mut Context<'_>) -> Poll<Option<Heard>> {
        let mut waiting = lock(&self.queue.waiting);
        match waiting.take() {
            None if !waiting.closed => {
                waiting.waker = Some(context.waker().clone());
                Poll::Pending
            }
            heard => Poll::Ready(heard),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut followers = lock(&self.events.followers);
        followers.queues.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
        self.events.count.store(followers.queues.len(), Relaxed);
    }
}

/// What waits for one follower.
struct Queue {
    number: u64,
    /// Whom it follows; none: everybody.
    user: Option<String>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    heard: VecDeque<Heard>,
    octets: usize,
    /// Lines that did not fit behind these.
    dropped: u64,
    closed: bool,
    waker: Option<Waker>,
}

impl Queue {
    fn push(&self, line: Bytes) {
        self.change(|waiting| waiting.add(line));
    }

    fn close(&self) {
        self.change(|waiting| waiting.closed = true);
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        let waker = {
            let mut waiting = lock(&self.waiting);
            change(&mut waiting);
            waiting.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Waiting {
    /// Puts a line in, behind the word on what is missing before it.
    fn add(&mut self, line: Bytes) {
        if self.octets + line.len() > LONGEST_QUEUE {
            self.dropped += 1;
            return;
        }
        let gap = self.gap();
        self.heard.extend(gap);
        self.octets += line.len();
        self.heard.push_back(Heard::Line(line));
    }

    fn take(&mut self) -> Option<Heard> {
        let Some(heard) = self.heard.pop_front() else { return self.gap() };
        if let Heard::Line(line) = &heard {
            self.octets -= line.len();
        }
        Some(heard)
    }

    /// How many lines are missing here, if some are.
    fn gap(&mut self) -> Option<Heard> {
        match mem::take(&mut self.dropped) {
            0 => None,
            dropped => Some(Heard::Dropped(dropped)),
        }
    }
}

/// What was found in a mailbox behind its owner's back is told too, where no session has an eye on the mailbox. `user`: so he calls himself; the
/// backend may call him otherwise.
pub fn tell_found(shell: &Shell, account: &Arc<AccountName>, user: &str, news: &News) {
    let config = &shell.setup.load().config;
    let settings = &config.account.events;
    let is_told = settings.tells(Kind::MessageNew) && settings.tell_messages();
    if news.arrived.is_empty() || !is_told || shell.shadows.is_seen(account, &news.mailbox) {
        return;
    }
    let event = Event {
        uidvalidity: Some(news.uidvalidity).filter(|uidvalidity| *uidvalidity > 0),
        uids: news.arrived.clone(),
        messages: news.messages,
        uidnext: Some(news.next),
        ..Event::of_mailbox(Kind::MessageNew, news.mailbox.clone())
    };
    shell.events.publish(Some(user), || {
        // Nobody is connected, and so it is where users come in.
        let address = config.listeners.first().map(|listener| listener.address);
        let (ip, port) = address.map_or_else(Default::default, |address| (address.ip().to_string(), address.port()));
        let host = config.feed.as_ref().map_or(&*ip, |feed| &feed.source);
        Report {
            event: &event,
            at: SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default(),
            user: Some(user),
            admin: None,
            client: None,
            server: (host, port),
            backend: Some(&account.backend),
            session: None,
            longest: settings.longest.0,
        }
        .line()
    });
}

/// What these locks guard is whole after every statement, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use arc_swap::ArcSwap;
    use serde_json::Value;
    use tokio::{
        io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        io::{backends::Backend, listener, shell::tests::shell},
        mailbox::{
            diff::Messages,
            shadow::{Shadow, Sight},
        },
    };

    /// What waits for this one.
    fn heard(follower: &mut Follower) -> Vec<String> {
        let mut context = Context::from_waker(Waker::noop());
        let next = || match follower.poll_next(&mut context) {
            Poll::Ready(line) => line.map(|line| String::from_utf8(line.to_vec()).unwrap()),
            Poll::Pending => None,
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn each_hears_what_it_follows_and_nothing_is_made_for_nobody() {
        let events = Arc::new(Events::default());
        events.publish(Some("joe"), || panic!("nobody follows"));
        let mut followers =
            [None, Some("joe"), Some("ann")].map(|user| events.follow(user.map(str::to_owned)).unwrap());
        events.publish(Some("joe"), || "1\n".to_owned());
        events.publish(None, || "2\n".to_owned());
        assert_eq!(followers.each_mut().map(heard), [vec!["1\n", "2\n"], vec!["1\n"], vec![]]);
        let [all, joe, ann] = followers;
        drop((all, joe));
        events.publish(Some("joe"), || panic!("nobody follows joe"));
        drop(ann);
        assert!(!events.is_followed());
    }

    #[test]
    fn a_session_works_for_those_who_follow_its_user() {
        let events = Arc::new(Events::default());
        let joe = events.follow(Some("joe".to_owned())).unwrap();
        let following = [Some("joe"), Some("ann"), None].map(|user| events.following(user));
        assert_eq!(following.each_ref().map(Following::is_some), [true, false, false]);
        let all = events.follow(None).unwrap();
        assert!(events.following(None).is_some());
        drop(joe);
        let [before, ..] = following;
        assert!(!events.following(Some("joe")).goes_on(&before), "who follows now came later");
        let both = events.following(Some("joe"));
        let _late = events.follow(Some("joe".to_owned())).unwrap();
        assert!(events.following(Some("joe")).goes_on(&both));
        drop(all);
        assert!(!events.following(Some("joe")).goes_on(&both));
    }

    #[test]
    fn who_does_not_read_is_told_what_is_missing_and_where() {
        let events = Arc::new(Events::default());
        let mut slow = events.follow(None).unwrap();
        let line = "x".repeat(LONGEST_QUEUE / 4 - 1) + "\n";
        (0..7).for_each(|_| events.publish(None, || line.clone()));
        assert!(lock(&slow.queue.waiting).octets <= LONGEST_QUEUE);
        let mut context = Context::from_waker(Waker::noop());
        assert!(slow.poll_next(&mut context).is_ready());
        events.publish(None, || "y\n".to_owned());
        assert_eq!(heard(&mut slow)[3..], ["{\"dropped\":3}\n", "y\n"]);
        (0..6).for_each(|_| events.publish(None, || line.clone()));
        assert_eq!(heard(&mut slow)[4..], ["{\"dropped\":2}\n"]);
        assert!(heard(&mut slow).is_empty());
        assert_eq!(lock(&slow.queue.waiting).octets, 0);
    }

    #[test]
    fn followers_are_bounded() {
        let events = Arc::new(Events::default());
        let mut all: Vec<_> = (0..MOST_FOLLOWERS).map(|_| events.follow(None).unwrap()).collect();
        assert!(events.follow(None).is_none());
        all.pop();
        assert!(events.follow(None).is_some());
    }

    #[tokio::test]
    async fn the_end_comes_behind_what_waits_and_does_not_wait_for_ever() {
        let events = Arc::new(Events::default());
        let mut follower = events.follow(None).unwrap();
        let silent = events.follow(None).unwrap();
        events.publish(None, || "1\n".to_owned());
        let reading = tokio::spawn(async move {
            let mut lines = Vec::new();
            while let Some(line) = std::future::poll_fn(|context| follower.poll_next(context)).await {
                lines.push(line);
            }
            lines
        });
        events.close().await;
        assert_eq!(reading.await.unwrap(), ["1\n"]);
        assert!(events.follow(None).is_none());
        drop(silent);
    }

    #[tokio::test]
    async fn what_is_found_behind_ones_back_is_told_where_no_session_sees_it() {
        let (_state, shell) = shell(|_| {});
        let account = Arc::new(AccountName { backend: "main".into(), user: "joe".into() });
        let (arrived, messages) = ([18].into_iter().collect(), Some(3));
        let news = News { arrived, messages, ..News::of((*b"INBOX").into(), 7, 19) };
        let mut follower = shell.events.follow(Some("joe".to_owned())).unwrap();
        tell_found(&shell, &account, "joe", &News { arrived: Default::default(), ..news.clone() });
        tell_found(&shell, &account, "joe", &news);
        let told: Vec<Value> = heard(&mut follower).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(told.len(), 1);
        assert_eq!((&told[0]["event"], &told[0]["uidset"]), (&"MessageNew".into(), &"18".into()));
        assert_eq!((&told[0]["messages"], &told[0]["uidnext"]), (&3.into(), &19.into()));
        assert_eq!(told[0]["uri"], "imap://joe@127.0.0.1:1143/INBOX;UIDVALIDITY=7/;UID=18");
        let session = shell.shadows.hold(&account, b"INBOX");
        session.see(Sight::Whole(Shadow::new(7)), Messages::Simple, &shell.events.following(Some("joe")));
        tell_found(&shell, &account, "joe", &news);
        assert_eq!(heard(&mut follower), [""; 0], "the session tells it");
    }

    /// A backend that does whatever it is told.
    async fn backend(listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"* OK [CAPABILITY IMAP4rev1 UIDPLUS] ready\r\n").await.unwrap();
            let mut lines = BufReader::new(stream).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let tag = line.split(' ').next().unwrap_or_default();
                let stream = lines.get_mut().get_mut();
                stream.write_all(format!("{tag} OK [CAPABILITY IMAP4rev1 UIDPLUS] done\r\n").as_bytes()).await.unwrap();
            }
        }
    }

    /// A client, its lines, and the next answer to it.
    async fn say(client: &mut BufReader<TcpStream>, line: &str) -> String {
        client.get_mut().write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_line(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn what_a_client_does_reaches_those_who_follow() {
        let served = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("imap://{}", served.local_addr().unwrap());
        let (_state, shell) = shell(|config| {
            let backend = Backend { urls: vec![url.parse().unwrap()], ..Backend::default() };
            config.backends = [("main".to_owned(), backend)].into();
        });
        let events = shell.events.clone();
        let listening = Arc::new(ArcSwap::new(shell.setup.load().listenings[0].clone()));
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let tasks = [tokio::spawn(backend(served)), tokio::spawn(listener::accept(shell, listening, listener))];
        let mut client = BufReader::new(TcpStream::connect(address).await.unwrap());
        client.read_line(&mut String::new()).await.unwrap();
        let mut follower = events.follow(Some("joe".to_owned())).unwrap();
        for line in ["a LOGIN joe secret", "b CREATE Entw&APw-rfe", "c LOGOUT"] {
            let answer = say(&mut client, line).await;
            assert!(answer.starts_with(&format!("{} OK", &line[..1])), "{line}: {answer}");
        }
        let mut told = Vec::new();
        while told.len() < 3 {
            let line = std::future::poll_fn(|context| follower.poll_next(context)).await.unwrap();
            told.push(serde_json::from_slice::<Value>(&line).unwrap());
        }
        let here = client.get_ref().local_addr().unwrap();
        for event in &told {
            assert_eq!((&event["user"], &event["clientIP"]), (&"joe".into(), &"127.0.0.1".into()));
            assert_eq!((&event["clientPort"], &event["backend"]), (&here.port().into(), &"main".into()));
        }
        assert_eq!((&told[0]["event"], &told[0]["mechanism"]), (&"Login".into(), &"login".into()));
        assert_eq!((&told[1]["event"], &told[1]["mailbox"]), (&"MailboxCreate".into(), &"Entwürfe".into()));
        let url = format!("imap://joe@127.0.0.1:{}/Entw%C3%BCrfe", address.port());
        assert_eq!(told[1]["uri"], url);
        assert_eq!((&told[2]["event"], &told[2]["disconnect"]), (&"Logout".into(), &"graceful".into()));
        assert!(told[2]["duration"].as_f64().is_some_and(|seconds| seconds < 60.0));
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
