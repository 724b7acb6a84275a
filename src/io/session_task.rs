//! Drives one session: reads, writes, sleeps, in the order its effects say (architecture 4.12, 13).
//!
//! One task, one loop, one timer armed lazily. No write is ever awaited: what the peer's window does not take waits, and while
//! it waits the other side is not read. A literal is carried from one socket to the other without asking the session.
//!
//!     readable   ->  handle(Octets)  ->  Pass: written from the very buffer it was read into
//!     idle       ->  no buffer, no task but this one, no channel

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::time::Sleep;

use super::{
    auxiliary::Errands,
    keeper::Questions,
    listener::{Client, Listening},
    login::Connected,
    peer::{Peer, Read},
    shell::Shell,
    transport::Transport,
    visit::Visit,
};
use crate::session::{
    Session,
    effect::{DialError, Effect, Effects, End, Input, Side, Upgrade},
};

/// How long a client may take to read our last words.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is kept of a client that is not logged in: a SASL line of 12 KiB and literals of 4 KiB, and one octet too many.
const MOST_BEFORE_LOGIN: usize = (16 << 10) + 1;

thread_local! {
    /// One list of effects serves all sessions of a thread: each is emptied before the next is asked.
    static EFFECTS: RefCell<Effects> = RefCell::default();
}

/// Drives the session of this client to its end.
pub async fn run(shell: Arc<Shell>, listening: Arc<Listening>, client: Client, transport: Transport) {
    let visit = Visit::new(shell, listening, client);
    let session = Session::new(visit.front(), transport.is_tls(), visit.seed(), Instant::now());
    let mut task = Task {
        session,
        client: Peer::new(transport),
        backend: Peer::default(),
        visit,
        job: None,
        questions: None,
        errands: None,
        upgrade: None,
        timer: None,
        end: None,
        opened: false,
    };
    let (why, clean) = std::future::poll_fn(|cx| task.poll(cx)).await;
    let flushed = tokio::time::timeout(PATIENCE, std::future::poll_fn(|cx| task.poll_last_words(cx))).await;
    task.visit.ended(why, task.client.failure);
    drop((task.backend, task.errands));
    match (task.client.transport.take(), clean && flushed.is_ok()) {
        (Some(transport), true) => transport.close(PATIENCE).await,
        (Some(transport), false) => transport.abort(),
        (None, _) => {}
    }
}

/// A session and what it needs of the world.
struct Task {
    session: Session,
    client: Peer,
    backend: Peer,
    visit: Visit,
    /// Something that takes its time: dialling, a TLS handshake.
    job: Option<Pin<Box<dyn Future<Output = Done> + Send>>>,
    /// What the store is asked.
    questions: Option<Box<Questions>>,
    /// What is asked on auxiliary connections.
    errands: Option<Box<Errands>>,
    /// TLS is to begin on this side as soon as it has been told everything.
    upgrade: Option<Side>,
    timer: Option<Pin<Box<Sleep>>>,
    end: Option<(End, bool)>,
    opened: bool,
}

/// A job is done.
enum Done {
    Dialled(Result<Connected, DialError>),
    Upgraded(Side, io::Result<Transport>),
}

/// What the session wants that is not a matter of octets.
enum Wish {
    Effect(Effect),
    /// A peer could not be written to.
    Lost(Side),
}

impl Task {
    /// Goes on until nothing moves any more. The answer is why the session ended, and whether at a response boundary.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(End, bool)> {
        if !std::mem::replace(&mut self.opened, true) {
            self.give(Input::Opened, cx);
        }
        loop {
            self.poll_sides(cx);
            if let Some(end) = self.end.take() {
                return Poll::Ready(end);
            }
            if !(self.poll_job(cx)
                | self.poll_store(cx)
                | self.poll_errands(cx)
                | self.poll_notices(cx)
                | self.poll_timer(cx))
            {
                return Poll::Pending;
            }
        }
    }

    fn poll_job(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(job) = &mut self.job else { return false };
        let Poll::Ready(done) = job.as_mut().poll(cx) else { return false };
        self.job = None;
        match done {
            Done::Dialled(Ok(Connected { transport, dialled, login })) => {
                self.backend = Peer::new(transport);
                self.visit.dialled(login);
                self.give(Input::Dialled(Ok(dialled)), cx);
            }
            Done::Dialled(Err(error)) => {
                self.visit.not_dialled(error);
                self.give(Input::Dialled(Err(error)), cx);
            }
            Done::Upgraded(side, Ok(transport)) => {
                self.visit.upgraded(side, None);
                self.peer(side).transport = Some(transport);
                self.give(Input::Upgraded(side), cx);
            }
            Done::Upgraded(side, Err(error)) => {
                self.visit.upgraded(side, Some(&error));
                self.give(Input::Gone(side), cx);
            }
        }
        true
    }

    /// Looks at both sides until neither has anything more. A side that waits is left alone when only the other has moved.
    fn poll_sides(&mut self, cx: &mut Context<'_>) {
        let (mut backend, mut client) = (true, true);
        while self.end.is_none() && (backend || client) {
            backend = backend && self.poll_side(Side::Backend, cx);
            client = (client || backend && self.client.is_due()) && self.poll_side(Side::Client, cx);
            backend |= client && self.backend.is_due();
        }
    }

    /// One write of what is left, one read of what is new.
    fn poll_side(&mut self, side: Side, cx: &mut Context<'_>) -> bool {
        let before = self.peer(side).unsent();
        match self.peer(side).flush(cx) {
            Ok(true) if self.upgrade == Some(side) => self.begin_tls(side),
            Ok(true) if side == Side::Client && self.session.is_idle() => self.client.rest(),
            Ok(_) => {}
            Err(_) => return self.lose(side, cx),
        }
        // What has gone out makes room: the other side, looked at before, may have been left unread because of it.
        let drained = self.peer(side).unsent() < before;
        if drained && side == Side::Client {
            let more = self.resume(cx);
            self.grant(more, cx);
        }
        if !self.wants(side) {
            self.peer(side).waits = false;
            return drained;
        }
        let mut wishes = Vec::new();
        let Self { session, client, backend, visit, .. } = self;
        let (me, other) = match side {
            Side::Client => (client, backend),
            Side::Backend => (backend, client),
        };
        let most = if session.plan().is_some() { usize::MAX } else { MOST_BEFORE_LOGIN };
        let read = me.read(cx, most, |me, cx, octets, new| {
            visit.read(side, &octets[octets.len() - new..]);
            let mut turn = Turn { session, other, visit, side, now: Instant::now(), wishes: &mut wishes };
            turn.feed(me, cx, octets)
        });
        match read {
            Read::Nothing => drained,
            Read::End => self.lose(side, cx),
            Read::Octets => {
                self.grant(wishes, cx);
                self.visit.note(&self.session, self.client.transport.as_ref());
                true
            }
        }
    }

    /// Whether this side is to be read: somebody has use for it, and what came before has found its way.
    fn wants(&self, side: Side) -> bool {
        let (me, other) = match side {
            Side::Client => (&self.client, &self.backend),
            Side::Backend => (&self.backend, &self.client),
        };
        let appetite = self.session.appetite();
        let wanted = if side == Side::Client { appetite.client } else { appetite.backend };
        // A literal waits for a slow reader in the kernel: here it would be copied once more.
        let most = if me.carry > 0 { 1 } else { self.visit.most_unsent() };
        // Much of what a client says is answered here: who does not read the answers is not asked for more.
        let reads = side == Side::Backend || me.carry > 0 || me.unsent() < most;
        (me.carry > 0 || wanted) && me.transport.is_some() && other.unsent() < most && reads
    }

    fn poll_notices(&mut self, cx: &mut Context<'_>) -> bool {
        let full = self.client.unsent() >= self.visit.most_unsent();
        let Some(news) = self.visit.poll_notice(full, self.client.transport.as_ref(), cx) else { return false };
        self.give(news.input(), cx);
        true
    }

    fn poll_store(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(questions) = &mut self.questions else { return false };
        let Poll::Ready(answer) = self.visit.poll_answer(questions, cx) else { return false };
        if questions.is_empty() {
            self.questions = None;
        }
        self.give(Input::Kept(Box::new(answer)), cx);
        true
    }

    fn poll_errands(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(errands) = &mut self.errands else { return false };
        let Poll::Ready(told) = errands.poll(cx) else { return false };
        if errands.is_empty() {
            self.errands = None;
        }
        self.give(Input::Told(Box::new(told)), cx);
        true
    }

    /// The timer is moved only when it fires too early, or would fire too late.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.session.deadline().map(Into::into) else { return false };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        if timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        match deadline <= tokio::time::Instant::now() {
            true => {
                self.timer = None;
                self.give(Input::Wake, cx);
            }
            false => timer.as_mut().reset(deadline),
        }
        true
    }

    /// Tells the session something that is not octets.
    fn give(&mut self, input: Input<'_>, cx: &mut Context<'_>) {
        let mut wishes = Vec::new();
        let Self { session, client, backend, visit, .. } = self;
        let mut turn =
            Turn { session, other: backend, visit, side: Side::Client, now: Instant::now(), wishes: &mut wishes };
        turn.handle(client, cx, input, &[]);
        self.grant(wishes, cx);
    }

    /// Octets of the client's that were not taken may be of use now.
    fn resume(&mut self, cx: &mut Context<'_>) -> Vec<Wish> {
        let mut wishes = Vec::new();
        while self.client.unsent() < self.visit.most_unsent() && self.session.resume() && self.client.has_left_over() {
            let Self { session, client, backend, visit, .. } = self;
            client.again(|client, octets| {
                let now = Instant::now();
                let mut turn = Turn { session, other: backend, visit, side: Side::Client, now, wishes: &mut wishes };
                turn.feed(client, cx, octets)
            });
        }
        wishes
    }

    fn lose(&mut self, side: Side, cx: &mut Context<'_>) -> bool {
        match side {
            Side::Backend => self.backend = Peer::default(),
            Side::Client => self.client.transport = None,
        }
        self.give(Input::Gone(side), cx);
        true
    }

    /// Does what the session wants of the world.
    fn grant(&mut self, wishes: Vec<Wish>, cx: &mut Context<'_>) {
        for wish in wishes {
            match wish {
                Wish::Lost(side) => _ = self.lose(side, cx),
                Wish::Effect(Effect::Dial(dial)) => {
                    let dial = self.visit.dial(*dial);
                    self.job = Some(Box::pin(async move { Done::Dialled(dial.await) }));
                }
                Wish::Effect(Effect::Upgrade(side, Upgrade::Tls)) => {
                    self.upgrade = Some(side);
                    if let Ok(true) = self.peer(side).flush(cx) {
                        self.begin_tls(side);
                    }
                }
                Wish::Effect(Effect::Upgrade(side, Upgrade::Deflate)) => {
                    self.peer(side).inflate();
                    self.give(Input::Upgraded(side), cx);
                }
                Wish::Effect(Effect::Authenticated { user, acting, key }) => {
                    self.visit.authenticated(user, acting, key, &self.session);
                }
                Wish::Effect(Effect::Refused { user }) => self.visit.refused(user),
                Wish::Effect(Effect::Keep(request)) => self.questions.get_or_insert_default().add(*request),
                Wish::Effect(Effect::Aside(sent)) => {
                    let (from, errand) = (sent.from, self.visit.send_aside(*sent));
                    self.errands.get_or_insert_default().add(from, errand);
                }
                Wish::Effect(Effect::Recall(from)) => self.errands.iter_mut().for_each(|errands| errands.recall(from)),
                Wish::Effect(Effect::Event(event)) => self.visit.happened(*event),
                Wish::Effect(Effect::Seen(sighting)) => self.visit.seen(*sighting),
                Wish::Effect(Effect::Found(finding)) => self.visit.found(*finding),
                Wish::Effect(Effect::Shown(mailbox, status)) => self.visit.shown(mailbox, &status),
                Wish::Effect(Effect::Bind(binding)) => self.visit.bound(&binding),
                Wish::Effect(Effect::Learned(look)) => self.visit.learned(look),
                Wish::Effect(Effect::Reconnect(what)) => self.visit.reconnects(what, &self.session),
                Wish::Effect(Effect::HangUp) => {
                    self.backend = Peer::default();
                    self.visit.hung_up();
                }
                Wish::Effect(Effect::Leave { idling, told }) => {
                    if let Some(transport) = std::mem::take(&mut self.backend).leave() {
                        self.visit.leave(transport, idling, told);
                    }
                }
                Wish::Effect(Effect::End { why, clean }) => self.end = Some((why, clean)),
                Wish::Effect(_) => {}
            }
        }
        let more = self.resume(cx);
        if !more.is_empty() {
            self.grant(more, cx);
        }
    }

    fn begin_tls(&mut self, side: Side) {
        self.upgrade = None;
        let Some(transport) = self.peer(side).transport.take() else { return };
        let upgrade = self.visit.upgrade(side, transport);
        self.job = Some(Box::pin(async move { Done::Upgraded(side, upgrade.await) }));
    }

    fn peer(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::Client => &mut self.client,
            Side::Backend => &mut self.backend,
        }
    }

    /// What the client has not been told yet, until it is or cannot be: nobody waits for one that is gone.
    fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.client.flush(cx) {
            Ok(false) if self.client.transport.is_some() => Poll::Pending,
            Ok(_) | Err(_) => Poll::Ready(()),
        }
    }
}

/// Octets of one side on their way through the session.
struct Turn<'a> {
    session: &'a mut Session,
    other: &'a mut Peer,
    visit: &'a mut Visit,
    side: Side,
    now: Instant,
    wishes: &'a mut Vec<Wish>,
}

impl Turn<'_> {
    /// Gives octets to the session, and carries what it does not want to see. The answer is how many are done with.
    fn feed(&mut self, me: &mut Peer, cx: &mut Context<'_>, octets: &[u8]) -> usize {
        let mut at = 0;
        loop {
            let rest = &octets[at..];
            if me.carry > 0 {
                let len = usize::try_from(me.carry).map_or(rest.len(), |carry| carry.min(rest.len()));
                if !me.discards {
                    self.send(cx, self.side.other(), me, &rest[..len], false);
                }
                self.session.heard(self.side, self.now);
                me.carry -= len as u64;
                at += len;
                if me.carry > 0 {
                    return at;
                }
                self.handle(me, cx, Input::Carried(self.side), &[]);
                continue;
            }
            if rest.is_empty() {
                return at;
            }
            let took = self.handle(me, cx, Input::Octets(self.side, rest), rest);
            at += took;
            if took == 0 && me.carry == 0 {
                return at;
            }
        }
    }

    /// Tells the session something, and does what it says as far as octets go.
    fn handle(&mut self, me: &mut Peer, cx: &mut Context<'_>, input: Input<'_>, octets: &[u8]) -> usize {
        let mut effects = EFFECTS.take();
        effects.followed = self.visit.is_followed();
        (effects.attended, effects.kept) = (self.visit.is_attended(), self.visit.is_kept());
        let took = self.session.handle(input, self.now, &mut effects);
        let last = |to: Side| effects.list.iter().rposition(|effect| destination(effect) == Some(to));
        let (last_client, last_backend) = (last(Side::Client), last(Side::Backend));
        let Effects { list, text, commands, looks, .. } = &mut effects;
        if let (Some(Effect::End { clean: true, .. }), Some(client)) =
            (list.last(), &self.peer(Side::Client, me).transport)
        {
            client.cork();
        }
        self.visit.commands(std::mem::take(commands));
        self.visit.looks(std::mem::take(looks));
        for (at, effect) in list.drain(..).enumerate() {
            let more = destination(&effect).is_some() && Some(at) != last_client && Some(at) != last_backend;
            match effect {
                Effect::Pass { from, start, len } => self.send(cx, from.other(), me, &octets[start..start + len], more),
                Effect::Put(to, range) => self.send(cx, to, me, &text[range], more),
                Effect::Connect { from, len } => self.carry(me, from, len, false),
                Effect::Discard { from, len } => self.carry(me, from, len, true),
                // Before our own client is: what it does then, elsewhere, comes behind the change.
                Effect::Publish(what) => self.visit.publish(*what),
                other => {
                    // What is said behind it is said in this very turn; what was heard behind it waits until the turn ends.
                    if let Effect::Upgrade(side, Upgrade::Deflate) = other {
                        self.peer(side, me).deflate();
                    }
                    self.wishes.push(Wish::Effect(other));
                }
            }
        }
        effects.clear();
        EFFECTS.set(effects);
        took
    }

    fn send(&mut self, cx: &mut Context<'_>, to: Side, me: &mut Peer, octets: &[u8], more: bool) {
        self.visit.wrote(to, octets);
        let peer = self.peer(to, me);
        if peer.send(cx, octets, more).is_err() {
            self.wishes.push(Wish::Lost(to));
        }
    }

    fn peer<'b>(&'b mut self, side: Side, me: &'b mut Peer) -> &'b mut Peer {
        if side == self.side { me } else { self.other }
    }

    fn carry(&mut self, me: &mut Peer, from: Side, len: u64, discards: bool) {
        let peer = self.peer(from, me);
        (peer.carry, peer.discards) = (len, discards);
        self.visit.carries(from, discards);
    }
}

/// To whom octets go.
fn destination(effect: &Effect) -> Option<Side> {
    match effect {
        Effect::Pass { from, .. } => Some(from.other()),
        Effect::Put(to, _) => Some(*to),
        _ => None,
    }
}
