//! Auxiliary connections: what the sessions of an account want to know of mailboxes that they have not selected is asked there
//! (architecture section 12).
//!
//!     session -> errand -> the account's desk: at most 32 wait -> one of at most two clerks -> connection -> answer
//!
//! A clerk connects when there is something to do, with the secret of the session whose errand it is, and stays for half a minute
//! after the last: a backend counts connections, and the next question often comes soon.
//!
//!     session -> "tell me when something happens in INBOX" -> a clerk idles there -> news -> session
//!
//! One session of an account at a time may have a clerk listen, until something happens, it has enough of it or its time for an IDLE
//! is over; and only where one clerk is left for the errands of others. Issue 4.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::Duration,
};

use dashmap::DashMap;
use tokio::sync::{Notify, oneshot};

use super::{line::Line, listener::Listening, metrics::Held, proxy_header::Ends, shell::Shell};
use crate::{
    session::{
        aside::{Outcome, Sent, Told},
        layer::Ask,
    },
    store::AccountName,
};

/// The desks of all accounts that have something to do.
#[derive(Debug, Default)]
pub struct Auxiliary {
    desks: DashMap<Arc<AccountName>, Arc<Desk>>,
}

/// From where an errand comes: what the backend is told of the client.
#[derive(Clone, Debug)]
pub struct Sender {
    /// The listener it has come in by.
    pub listening: Arc<Listening>,
    /// Its connection.
    pub ends: Ends,
    /// The session's name in the logs.
    pub session: Box<str>,
}

/// Errands of one session that are under way. An answer comes of each, unless it is recalled.
#[derive(Debug, Default)]
pub struct Errands {
    running: Vec<((u8, Ask), Running)>,
}

/// An errand that is under way. Who drops it does not want it any more.
#[derive(Debug)]
pub struct Running {
    /// Closed: nothing came of it.
    outcome: oneshot::Receiver<Outcome>,
    /// Of one that listens: while it is held, no other one may.
    _ear: Option<Arc<Ear>>,
}

/// The right to have a clerk of an account listen.
#[derive(Debug, Default)]
struct Ear;

/// Where the errands of an account wait.
#[derive(Debug, Default)]
struct Desk {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    clerks: u32,
    /// Clerks with nothing to do.
    resting: usize,
    /// Held by who has a clerk listen.
    ear: Weak<Ear>,
}

#[derive(Debug)]
struct Job {
    sent: Sent,
    sender: Sender,
    done: oneshot::Sender<Outcome>,
}

/// Errands of one account that wait, as many as the questions of a session.
const MOST_WAITING: usize = 32;

/// How long a connection with nothing to do stays.
const REST: Duration = Duration::from_secs(30);

impl Auxiliary {
    /// Somebody has an errand.
    pub fn send(&self, shell: &Arc<Shell>, account: &Arc<AccountName>, sent: Sent, sender: Sender) -> Running {
        let (done, outcome) = oneshot::channel();
        let most = shell.setup.load().dialers.get(&account.backend).map_or(0, |dialer| dialer.settings.auxiliary);
        let ear = sent.errand.listens().then(Arc::<Ear>::default);
        let running = Running { outcome, _ear: ear.clone() };
        if ear.is_some() && most < 2 {
            return Running::busy();
        }
        let desk = Arc::clone(&self.desks.entry(Arc::clone(account)).or_default());
        let hires = {
            let mut waiting = desk.waiting();
            if waiting.jobs.len() >= MOST_WAITING {
                return running;
            }
            if let Some(ear) = &ear {
                if waiting.ear.strong_count() > 0 {
                    return Running::busy();
                }
                waiting.ear = Arc::downgrade(ear);
            }
            waiting.jobs.push_back(Job { sent, sender, done });
            let hires = waiting.jobs.len() > waiting.resting && waiting.clerks < most;
            waiting.clerks += u32::from(hires);
            hires
        };
        match hires {
            true => _ = tokio::spawn(serve(Arc::clone(shell), Arc::clone(account), desk)),
            false => desk.news.notify_one(),
        }
        running
    }

    /// The last clerk has left: nothing is kept of an account that wants nothing.
    fn forget(&self, account: &AccountName) {
        self.desks.remove_if(account, |_, desk| {
            let waiting = desk.waiting();
            waiting.clerks == 0 && waiting.jobs.is_empty()
        });
    }
}

impl Running {
    /// One that is not done: somebody listens already, or nobody may.
    fn busy() -> Self {
        let (done, outcome) = oneshot::channel();
        // The receiver is there.
        let _ = done.send(Outcome::Busy);
        Self { outcome, _ear: None }
    }
}

impl Default for Running {
    /// One of which nothing will come.
    fn default() -> Self {
        Self { outcome: oneshot::channel().1, _ear: None }
    }
}

impl Errands {
    /// One more.
    pub fn add(&mut self, to: (u8, Ask), running: Running) {
        self.running.push((to, running));
    }

    /// This one is not wanted any more.
    pub fn recall(&mut self, from: (u8, Ask)) {
        self.running.retain(|(to, _)| *to != from);
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The next answer, or a promise to wake the task when there is one.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Told> {
        for at in 0..self.running.len() {
            let (to, running) = &mut self.running[at];
            if let Poll::Ready(outcome) = Pin::new(&mut running.outcome).poll(cx) {
                let told = Told { to: *to, outcome: outcome.unwrap_or(Outcome::Lost) };
                self.running.swap_remove(at);
                return Poll::Ready(told);
            }
        }
        Poll::Pending
    }
}

impl Desk {
    /// What this guards is whole after every statement, so a panic elsewhere spoils nothing.
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job; none: the clerk may leave.
    async fn next(&self) -> Option<Job> {
        let until = tokio::time::Instant::now() + REST;
        loop {
            let late = tokio::time::Instant::now() >= until;
            {
                let mut waiting = self.waiting();
                match waiting.jobs.pop_front() {
                    // Whose session is gone needs no answer.
                    Some(job) if job.done.is_closed() => continue,
                    Some(job) => return Some(job),
                    None if late => {
                        waiting.clerks -= 1;
                        return None;
                    }
                    None => waiting.resting += 1,
                }
            }
            let _ = tokio::time::timeout_at(until, self.news.notified()).await;
            self.waiting().resting -= 1;
        }
    }
}

/// A clerk: does one job after the other, on one connection.
async fn serve(shell: Arc<Shell>, account: Arc<AccountName>, desk: Arc<Desk>) {
    let mut line: Option<Line> = None;
    while let Some(mut job) = desk.next().await {
        let outcome = run(&shell, &account, &mut line, &mut job).await;
        // A session that has gone meanwhile misses nothing.
        let _ = job.done.send(outcome);
    }
    if let Some(line) = line {
        line.close().await;
    }
    shell.auxiliary.forget(&account);
}

/// A connection in the name of this session.
async fn open(shell: &Arc<Shell>, account: &AccountName, sent: &Sent, sender: &Sender) -> Option<Line> {
    let Sender { listening, ends, session } = sender.clone();
    let connected = Arc::clone(shell).dial(listening, ends, session, sent.key.user(), true).await.ok()?;
    let meters = shell.meters.backend(&account.backend);
    let timeout = shell.setup.load().config.timeouts.backend.0;
    Line::new(connected, &sent.key, Held::new(&meters.auxiliary), timeout, meters)
}

/// Does an errand. A connection that has rested may be dead without our knowing: then it is done on a new one.
async fn run(shell: &Arc<Shell>, account: &AccountName, line: &mut Option<Line>, job: &mut Job) -> Outcome {
    loop {
        let rested = line.is_some();
        if line.is_none() {
            *line = open(shell, account, &job.sent, &job.sender).await;
        }
        let Some(open) = line else { return Outcome::Lost };
        let renewal = job.sender.listening.front.load().timeouts.idle_renewal.0;
        let errand = job.sent.errand.clone();
        let outcome = open.converse(errand, renewal, job.done.closed()).await.unwrap_or(Outcome::Lost);
        let broken = !open.is_free();
        if broken {
            *line = None;
        }
        if !(broken && rested && outcome == Outcome::Lost) || job.done.is_closed() {
            return outcome;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        imap::verb,
        io::{backends::Backend, shell::tests::shell},
        session::{
            aside::{Errand, Task},
            key::tests::key,
        },
        units::Span,
    };

    fn account() -> Arc<AccountName> {
        Arc::new(AccountName { backend: "main".into(), user: "joe".into() })
    }

    /// Sends an errand, as a session does.
    fn give(shell: &Arc<Shell>, mailbox: &str, task: Task) -> Running {
        let ends = Ends { client: "192.0.2.7:40123".parse().unwrap(), connected: "[::1]:143".parse().unwrap() };
        let sender = Sender { listening: shell.setup.load().listenings[0].clone(), ends, session: "s1".into() };
        let errand = Errand { mailbox: mailbox.as_bytes().into(), uidvalidity: None, task };
        shell.auxiliary.send(shell, &account(), Sent { from: (0, Ask(1)), key: key(), errand }, sender)
    }

    /// A question.
    fn send(shell: &Arc<Shell>, mailbox: &str) -> oneshot::Receiver<Outcome> {
        let (verb, arguments) = (verb::row_of("FETCH"), b"1:* (UID)".to_vec());
        give(shell, mailbox, Task::Ask { verb, arguments, keep: Errand::whole }).outcome
    }

    /// To hear of news.
    fn listen(shell: &Arc<Shell>, mailbox: &str) -> Running {
        give(shell, mailbox, Task::Listen { count: None, also: Vec::new() })
    }

    /// A backend, and a shell before it.
    async fn world(auxiliary: u32) -> (tempfile::TempDir, Arc<Shell>, TcpListener) {
        world_where(auxiliary, Span::minutes(28)).await
    }

    /// The same, where an IDLE takes so long at most.
    async fn world_where(auxiliary: u32, renewal: Span) -> (tempfile::TempDir, Arc<Shell>, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("imap://{}", listener.local_addr().unwrap());
        let (state, shell) = shell(|config| {
            let backend = Backend { urls: vec![url.parse().unwrap()], auxiliary, ..Backend::default() };
            config.timeouts.idle_renewal = renewal;
            config.backends = [("main".to_owned(), backend)].into();
        });
        (state, shell, listener)
    }

    /// The next connection to the backend, with the login behind it.
    async fn accept(listener: &TcpListener, login: &str) -> BufReader<TcpStream> {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        stream.write_all(b"* OK [CAPABILITY IMAP4rev1] ready\r\n").await.unwrap();
        answer(&mut stream, "LOGIN \"joe\" \"secret\"", login).await;
        stream
    }

    /// Hears this command, and answers it with these lines, the last one behind its tag.
    async fn answer(stream: &mut BufReader<TcpStream>, command: &str, lines: &str) {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let (tag, rest) = line.trim_end().split_once(' ').unwrap();
        assert_eq!(rest, command);
        let (untagged, last) = lines.rsplit_once('\n').unwrap_or(("", lines));
        let lines = untagged.lines().map(|line| format!("{line}\r\n")).collect::<String>();
        stream.write_all(format!("{lines}{tag} {last}\r\n").as_bytes()).await.unwrap();
    }

    /// Until a clerk has nothing to do.
    async fn rest(shell: &Shell) {
        while shell.auxiliary.desks.get(&account()).is_none_or(|desk| desk.waiting().resting == 0) {
            tokio::task::yield_now().await;
        }
    }

    const IN: &str = "OK [CAPABILITY IMAP4rev1] in";

    async fn serve_errand(stream: &mut BufReader<TcpStream>, mailbox: &str) {
        answer(stream, &format!("EXAMINE {mailbox}"), "OK in").await;
        answer(stream, "FETCH 1:* (UID)", "* 1 FETCH (UID 7)\nOK done").await;
    }

    /// The clerk listens there. Its tag is what the IDLE ends with.
    async fn begin_idle(stream: &mut BufReader<TcpStream>, mailbox: &str) -> String {
        answer(stream, &format!("EXAMINE {mailbox}"), "* 1 EXISTS\nOK in").await;
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let (tag, rest) = line.trim_end().split_once(' ').unwrap();
        assert_eq!(rest, "IDLE");
        stream.write_all(b"+ idling\r\n").await.unwrap();
        tag.to_owned()
    }

    async fn end_idle(stream: &mut BufReader<TcpStream>, tag: &str) {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        assert_eq!(line, "DONE\r\n");
        stream.write_all(format!("{tag} OK done\r\n").as_bytes()).await.unwrap();
    }

    fn news() -> Outcome {
        Outcome::Done(Vec::new(), crate::imap::response::Status::Ok, b"done".to_vec())
    }

    fn found() -> Outcome {
        let kept = vec![b"* 1 FETCH (UID 7)".to_vec()];
        Outcome::Done(kept, crate::imap::response::Status::Ok, b"done".to_vec())
    }

    #[tokio::test]
    async fn a_connection_serves_one_errand_after_the_other_and_is_counted() {
        let (_state, shell, listener) = world(2).await;
        let outcome = send(&shell, "A");
        let mut stream = accept(&listener, IN).await;
        serve_errand(&mut stream, "A").await;
        assert_eq!(outcome.await.unwrap(), found());
        let counted = "lemonade_backend_auxiliary_connections{backend=\"main\"} 1\n";
        assert!(shell.meters.render().contains(counted), "{}", shell.meters.render());
        let outcome = send(&shell, "B");
        serve_errand(&mut stream, "B").await;
        assert_eq!(outcome.await.unwrap(), found());
        // It has died meanwhile, as we find out.
        drop(stream);
        let outcome = send(&shell, "C");
        let mut stream = accept(&listener, IN).await;
        serve_errand(&mut stream, "C").await;
        assert_eq!(outcome.await.unwrap(), found());
    }

    #[tokio::test]
    async fn of_an_account_two_stand_at_most_and_few_errands_wait() {
        let (_state, shell, listener) = world(2).await;
        let mut outcomes: Vec<_> = (0..40).map(|_| send(&shell, "A")).collect();
        let mut streams = [accept(&listener, IN).await, accept(&listener, IN).await];
        let closed = Err(oneshot::error::TryRecvError::Closed);
        let lost = outcomes.iter_mut().map(oneshot::Receiver::try_recv).filter(|outcome| *outcome == closed).count();
        assert_eq!(lost, 8, "thirty-two wait");
        for stream in &mut streams {
            serve_errand(stream, "A").await;
        }
        assert!(tokio::time::timeout(Duration::ZERO, listener.accept()).await.is_err(), "nobody else connects");
    }

    #[tokio::test]
    async fn a_clerk_listens_and_another_one_is_left_for_questions() {
        let (_state, shell, listener) = world(2).await;
        let running = listen(&shell, "INBOX");
        let mut ear = accept(&listener, IN).await;
        let tag = begin_idle(&mut ear, "INBOX").await;
        assert_eq!(listen(&shell, "Work").outcome.await.unwrap(), Outcome::Busy, "one of an account");
        let outcome = send(&shell, "A");
        let mut stream = accept(&listener, IN).await;
        serve_errand(&mut stream, "A").await;
        assert_eq!(outcome.await.unwrap(), found());
        ear.write_all(b"* 2 EXISTS\r\n").await.unwrap();
        end_idle(&mut ear, &tag).await;
        assert_eq!(running.outcome.await.unwrap(), news());
        let counted = "lemonade_listening_commands_total{backend=\"main\"} 2\n";
        assert!(shell.meters.render().contains(counted), "{}", shell.meters.render());
    }

    #[tokio::test]
    async fn nobody_listens_where_no_clerk_would_be_left() {
        let (_state, shell, _listener) = world(1).await;
        assert_eq!(listen(&shell, "INBOX").outcome.await.unwrap(), Outcome::Busy);
    }

    #[tokio::test]
    async fn a_clerk_stops_when_nobody_wants_to_hear_and_another_session_takes_over() {
        let (_state, shell, listener) = world(2).await;
        let mut errands = Errands::default();
        errands.add((0, Ask(1)), listen(&shell, "INBOX"));
        let mut stream = accept(&listener, IN).await;
        let tag = begin_idle(&mut stream, "INBOX").await;
        errands.recall((0, Ask(1)));
        assert!(errands.is_empty());
        end_idle(&mut stream, &tag).await;
        rest(&shell).await;
        let outcome = send(&shell, "A");
        serve_errand(&mut stream, "A").await;
        assert_eq!(outcome.await.unwrap(), found(), "its connection is free for others");
        rest(&shell).await;
        let running = listen(&shell, "Work");
        let tag = begin_idle(&mut stream, "Work").await;
        stream.write_all(b"* 1 EXPUNGE\r\n").await.unwrap();
        end_idle(&mut stream, &tag).await;
        assert_eq!(running.outcome.await.unwrap(), news());
    }

    #[tokio::test]
    async fn an_idle_is_over_before_the_backend_ends_it() {
        let (_state, shell, listener) = world_where(2, Span::seconds(0)).await;
        let running = listen(&shell, "INBOX");
        let mut stream = accept(&listener, IN).await;
        let tag = begin_idle(&mut stream, "INBOX").await;
        end_idle(&mut stream, &tag).await;
        assert_eq!(running.outcome.await.unwrap(), news());
    }

    #[tokio::test]
    async fn a_refused_secret_is_told_and_the_next_errand_connects_anew() {
        let (_state, shell, listener) = world(1).await;
        let outcome = send(&shell, "A");
        accept(&listener, "NO [AUTHENTICATIONFAILED] no").await;
        assert_eq!(outcome.await.unwrap(), Outcome::Refused);
        let outcome = send(&shell, "A");
        let mut stream = accept(&listener, IN).await;
        serve_errand(&mut stream, "A").await;
        assert_eq!(outcome.await.unwrap(), found());
    }
}
