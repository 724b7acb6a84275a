//! Who stands where: a client's octets go through somebody to a model backend, and the answers come back.
//!
//!     client  <-- to_client --  Between  <-- answers --  model backend
//!             --- octets -->             -- to_backend ->
//!
//! [`Between`] is the proxy, or nobody at all ([`Direct`]): the same scene then shows that the model does what the
//! transcript says, before the proxy is asked to do the same.

use std::time::Duration;

use lemonade_proxy::{
    mailbox::shadow::Shadow,
    session::{
        aside::{Sent, Told},
        effect::{Dialled, Notice, Side},
        layer::Ask,
    },
};

use crate::{
    errand::Errand,
    model::{Backend, Connection, Settings},
    random::Random,
};

/// The time of day, in seconds since 1970, at which every scene begins: 21-Sep-2026 14:13:20 UTC.
pub const NOON: i64 = 1_790_000_000;

/// Whoever carries octets between the two sides.
pub trait Between {
    /// This side sent these octets.
    fn hear(&mut self, from: Side, octets: &[u8]);
    /// This side closed its connection.
    fn gone(&mut self, side: Side);
    /// So much time goes by.
    fn pass_time(&mut self, time: Duration);
    /// How long it will be until it does something on its own.
    fn until_due(&self) -> Option<Duration> {
        None
    }
    /// The operator wants an end.
    fn drain(&mut self);
    /// It is killed, and another one begins with what it has kept.
    fn kill(&mut self) {}
    /// What is kept can be read and written, only read, or neither.
    fn store_becomes(&mut self, _store: Disk) {}
    /// Another session of the account has something to say: only a proxy hears it.
    fn noticed(&mut self, _notice: &Notice) {}
    /// What those who follow events have heard; none where nobody tells any.
    fn take_events(&mut self) -> Option<Vec<String>> {
        None
    }
    /// What the other sessions of the account were told; none where nobody tells them anything.
    fn take_published(&mut self) -> Option<Vec<Notice>> {
        None
    }
    /// What is known of the mailbox that is selected, for those who follow; none where nobody does.
    fn seen(&self) -> Option<(&[u8], &Shadow)> {
        None
    }
    /// What is to be sent to this side.
    fn take_sent(&mut self, to: Side) -> Vec<u8>;
    /// Whether it waits for a connection to the backend.
    fn wants_backend(&self) -> bool;
    /// The connection it waits for is there.
    fn connected(&mut self);
    /// What it wants to have asked on a connection of its own, and how that one stands; only a proxy does.
    fn take_errand(&mut self) -> Option<(Sent, Dialled)> {
        None
    }
    /// Whether it still wants to hear what comes of this one.
    fn waits_for(&self, _errand: (u8, Ask)) -> bool {
        false
    }
    /// What came of it.
    fn told(&mut self, _told: Told) {}
    /// How it ended the connection to this side, if it did.
    fn end(&self, side: Side) -> Option<End>;
    /// Octets that it keeps: what it has not taken, and what a peer has not read.
    fn held(&self) -> usize {
        0
    }
    /// Octets of the client that it has been given and has not taken.
    fn backlog(&self) -> usize {
        0
    }
    /// How often this side went over to TLS or DEFLATE: what was sent in clear behind that is lost.
    fn upgrades(&self, side: Side) -> usize;
}

/// What the disk under the store is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disk {
    /// It can be read and written.
    #[default]
    Well,
    /// It can only be read.
    Full,
    /// It can be neither read nor written.
    Gone,
}

impl Disk {
    /// `well`, `full` or `gone`.
    pub fn parse(word: &str) -> Result<Self, String> {
        match word {
            "well" => Ok(Self::Well),
            "full" => Ok(Self::Full),
            "gone" => Ok(Self::Gone),
            _ => Err("a store that is well, full or gone".to_owned()),
        }
    }
}

/// How a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At a response boundary.
    Clean,
    /// Inside a response: on TLS there is no close_notify.
    Cut,
}

/// How the octets of one side are cut into pieces.
#[derive(Clone, Debug)]
pub enum Cut {
    /// Not at all.
    Whole,
    /// Behind every octet.
    Octets,
    /// Anywhere.
    Random(Random),
}

/// Nobody in between: the client speaks to the backend.
#[derive(Debug, Default)]
pub struct Direct {
    to: [Vec<u8>; 2],
    ends: [Option<End>; 2],
    connected: bool,
}

/// A client, somebody in between, a model backend.
pub struct Scene {
    /// The store behind it all.
    pub backend: Backend,
    /// Everything that was said, as a transcript.
    pub trace: Vec<String>,
    between: Box<dyn Between>,
    connection: Option<Connection>,
    errands: Vec<Errand>,
    cut: Cut,
    to_backend: Vec<u8>,
    to_client: Vec<u8>,
}

impl Cut {
    /// The pieces of these octets.
    fn pieces<'a>(&mut self, octets: &'a [u8]) -> Vec<&'a [u8]> {
        match self {
            Self::Whole => vec![octets],
            Self::Octets => octets.chunks(1).collect(),
            Self::Random(random) => {
                let mut rest = octets;
                let mut pieces = Vec::new();
                while !rest.is_empty() {
                    let longest = if random.one_in(3) { 4 } else { 64 };
                    let (piece, behind) = rest.split_at(random.within(1..longest).min(rest.len()));
                    pieces.push(piece);
                    rest = behind;
                }
                pieces
            }
        }
    }

    /// Whether the other peers get their turn between two pieces.
    fn yields(&mut self) -> bool {
        match self {
            Self::Random(random) => random.one_in(4),
            Self::Whole | Self::Octets => false,
        }
    }
}

impl Scene {
    /// The curtain rises: nothing has been said.
    pub fn new(between: Box<dyn Between>, settings: Settings, cut: Cut) -> Self {
        Self {
            backend: Backend::new(settings),
            trace: Vec::new(),
            between,
            connection: None,
            errands: Vec::new(),
            cut,
            to_backend: Vec::new(),
            to_client: Vec::new(),
        }
    }

    /// The client sends this. With `alone` the backend is not heard before all of it is sent.
    pub fn client_sends(&mut self, octets: &[u8], alone: bool) {
        self.note('C', octets);
        let upgrades = self.between.upgrades(Side::Client);
        for piece in self.cut.pieces(octets) {
            self.between.hear(Side::Client, piece);
            self.collect();
            if self.between.upgrades(Side::Client) != upgrades {
                break;
            }
            if !alone && self.cut.yields() {
                self.run_backend();
            }
        }
    }

    /// The backend sends this, whatever the model thinks of it.
    pub fn backend_sends(&mut self, octets: &[u8]) {
        self.note('<', octets);
        for piece in self.cut.pieces(octets) {
            self.between.hear(Side::Backend, piece);
            self.collect();
        }
    }

    /// The model reads what was sent to it and answers, until nobody has anything to say.
    pub fn run_backend(&mut self) {
        loop {
            self.collect();
            self.connect_if_wanted();
            self.run_errands();
            let Some(connection) = self.connection.as_mut().filter(|connection| !connection.is_closed()) else {
                return;
            };
            let heard = std::mem::take(&mut self.to_backend);
            let mut answer = connection.feed(&heard);
            answer.extend(connection.poll());
            let closed = connection.is_closed();
            if !heard.is_empty() {
                self.note('>', &heard);
            }
            if !answer.is_empty() {
                self.backend_sends(&answer);
            }
            if closed {
                self.backend_closes();
            }
            if heard.is_empty() && answer.is_empty() {
                return;
            }
        }
    }

    /// Whoever waits for a connection to the backend gets one.
    fn connect_if_wanted(&mut self) {
        while self.between.wants_backend() {
            let mut connection = self.backend.connect();
            let greeting = connection.greeting();
            self.connection = Some(connection);
            self.to_backend.clear();
            self.between.connected();
            self.backend_sends(&greeting);
        }
    }

    /// What the proxy wants asked elsewhere is asked of the model.
    fn run_errands(&mut self) {
        let mut under_way = std::mem::take(&mut self.errands);
        while let Some(mut errand) = self.next_errand().or_else(|| under_way.pop()) {
            if !self.between.waits_for(errand.from) {
                continue;
            }
            let (told, said) = errand.go_on();
            self.trace.extend(said);
            match told {
                Some(told) => self.between.told(told),
                None => self.errands.push(errand),
            }
            self.collect();
        }
    }

    /// One that has just begun.
    fn next_errand(&mut self) -> Option<Errand> {
        let (sent, dialled) = self.between.take_errand()?;
        Some(Errand::new(&self.backend, sent, dialled))
    }

    /// Whether there is a connection to the backend.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Takes one line that was sent to the backend, before the model sees it.
    pub fn take_backend_line(&mut self) -> Option<Vec<u8>> {
        self.collect();
        self.connect_if_wanted();
        let line = take_line(&mut self.to_backend)?;
        self.note('>', &line);
        Some(line)
    }

    /// The model reads this line after all.
    pub fn model_reads(&mut self, line: &[u8]) {
        let Some(connection) = &mut self.connection else { return };
        let mut answer = connection.feed(line);
        answer.extend(connection.poll());
        if !answer.is_empty() {
            self.backend_sends(&answer);
        }
    }

    /// What is on its way to the backend.
    pub fn unread_by_backend(&mut self) -> &mut Vec<u8> {
        self.collect();
        &mut self.to_backend
    }

    /// What has come to the client and was not looked at yet.
    pub fn client_inbox(&mut self) -> &mut Vec<u8> {
        self.collect();
        &mut self.to_client
    }

    /// The backend closes the connection.
    pub fn backend_closes(&mut self) {
        self.trace.push("<.".to_owned());
        self.between.gone(Side::Backend);
        self.connection = None;
        self.collect();
    }

    /// The client closes the connection.
    pub fn client_closes(&mut self) {
        self.trace.push("C.".to_owned());
        self.between.gone(Side::Client);
        self.collect();
    }

    /// So much time goes by.
    ///
    /// `answered`: what the proxy does in that time on its own, the backend answers at once.
    pub fn pass_time(&mut self, time: Duration, answered: bool) {
        self.trace.push(format!("T: {time:?}"));
        let mut left = time;
        while let Some(due) = self.between.until_due().filter(|due| answered && *due < left) {
            self.between.pass_time(due);
            self.collect();
            self.run_backend();
            left -= due;
        }
        self.between.pass_time(left);
        self.collect();
    }

    /// The proxy is killed, with its connections, and another one begins.
    pub fn kill(&mut self) {
        self.trace.push("P: kill".to_owned());
        self.between.kill();
        self.connection = None;
        self.to_backend.clear();
        self.to_client.clear();
    }

    /// What the disk under the store is good for from now on.
    pub fn store_becomes(&mut self, store: Disk) {
        self.trace.push(format!("O: store {store:?}").to_lowercase());
        self.between.store_becomes(store);
    }

    /// Another session of the account has something to say.
    pub fn noticed(&mut self, notice: &Notice) {
        self.trace.push(format!("O: {notice:?}"));
        self.between.noticed(notice);
        self.collect();
    }

    /// The operator wants an end.
    pub fn drain(&mut self) {
        self.trace.push("P: drain".to_owned());
        self.between.drain();
        self.collect();
    }

    /// What those who follow events have heard; none where nobody tells any.
    pub fn take_events(&mut self) -> Option<Vec<String>> {
        let events = self.between.take_events()?;
        self.trace.extend(events.iter().map(|event| format!("E: {event}")));
        Some(events)
    }

    /// What the other sessions of the account were told; none where nobody tells them anything.
    pub fn take_published(&mut self) -> Option<Vec<Notice>> {
        let published = self.between.take_published()?;
        self.trace.extend(published.iter().map(|notice| format!("P: {notice:?}")));
        Some(published)
    }

    /// How the connection to this side was ended.
    pub fn end(&self, side: Side) -> Option<End> {
        self.between.end(side)
    }

    fn collect(&mut self) {
        let sent = self.between.take_sent(Side::Client);
        self.note('S', &sent);
        self.to_client.extend(sent);
        self.to_backend.extend(self.between.take_sent(Side::Backend));
    }

    /// Writes down who said what.
    fn note(&mut self, who: char, octets: &[u8]) {
        for line in octets.split_inclusive(|&octet| octet == b'\n') {
            let shown: String = line.iter().take(200).flat_map(|octet| octet.escape_ascii()).map(char::from).collect();
            self.trace.push(format!("{who}: {}", shown.strip_suffix("\\r\\n").unwrap_or(&shown)));
        }
    }
}

/// Takes one line off the front, with its end.
pub fn take_line(from: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = from.iter().position(|&octet| octet == b'\n')?;
    Some(from.drain(..=end).collect())
}

impl Between for Direct {
    fn hear(&mut self, from: Side, octets: &[u8]) {
        self.to[index(from.other())].extend_from_slice(octets);
    }

    fn gone(&mut self, side: Side) {
        self.ends[index(side.other())] = Some(End::Clean);
    }

    fn pass_time(&mut self, _: Duration) {}

    fn drain(&mut self) {}

    fn take_sent(&mut self, to: Side) -> Vec<u8> {
        std::mem::take(&mut self.to[index(to)])
    }

    fn wants_backend(&self) -> bool {
        !self.connected
    }

    fn connected(&mut self) {
        self.connected = true;
    }

    fn end(&self, side: Side) -> Option<End> {
        self.ends[index(side)]
    }

    fn upgrades(&self, _: Side) -> usize {
        0
    }
}

/// Where this side stands in a pair.
pub(crate) const fn index(side: Side) -> usize {
    match side {
        Side::Client => 0,
        Side::Backend => 1,
    }
}
