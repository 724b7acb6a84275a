//! Which commands may run side by side (RFC 3501 section 5.5), and what may be told meanwhile (section 7.4.1).
//!
//!     C: a FETCH 1:9 FLAGS
//!     C: b NOOP                 runs beside a, but what it brings waits until a has ended
//!     C: c STORE 3 ...          waits for b: an EXPUNGE of b would give its 3 another meaning
//!
//! One list of running commands, ours and the client's, and the columns of the table in `imap/verb.rs`. No verb is named here.

use smallvec::SmallVec;

use crate::imap::{
    response::Kind,
    verb::{Numbers, Verb},
};

/// A command's name. Most fit without an allocation.
pub type Tag = SmallVec<[u8; 16]>;

/// Who waits for the end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The client.
    Client,
    /// News for a client that idles.
    Idle,
    /// The numbering: the UIDs of the selected mailbox.
    Numbering,
    /// Those who follow events.
    Witness,
    /// A layer, by its level in the stack, and the number of its question.
    Layer(u8, u32),
}

/// A command that has begun and not ended.
#[derive(Debug)]
pub struct Running {
    /// What it is called on the wire.
    pub tag: Tag,
    /// What it is.
    pub verb: &'static Verb,
    /// Whose it is.
    pub owner: Owner,
    /// Nothing starts beside it: its verb says so, or a layer hears it (architecture 4.6).
    pub alone: bool,
    /// The backend knows of it; a layer may still have it in hand.
    pub written: bool,
    /// All of it has been received; before that it is not in progress (RFC 3501 7.4.1).
    pub complete: bool,
    /// Its end has come, before all its octets were sent.
    pub tagged: bool,
    /// The client has named messages by number, and the backend reads UIDs.
    pub bound: bool,
    /// A layer wants to hear of its end before the client does.
    pub followed: Option<(u8, u32)>,
}

impl Running {
    /// A command of ours that is written now.
    pub fn ours(tag: Tag, verb: &'static Verb, owner: Owner) -> Self {
        let alone = verb.alone || matches!(owner, Owner::Idle | Owner::Numbering);
        Self { tag, verb, owner, alone, written: true, complete: true, tagged: false, bound: false, followed: None }
    }

    /// Whether what answers this one may answer a command of that one too: it has one owner, or one layer that can tell its
    /// questions apart.
    fn shares(&self, verb: &Verb, owner: Owner) -> bool {
        match (self.owner, owner) {
            (Owner::Layer(one, _), Owner::Layer(other, _)) if one == other && self.verb.named && verb.named => true,
            (one, other) => one == other,
        }
    }
}

/// The commands in progress.
#[derive(Debug, Default)]
pub struct Gate {
    running: Vec<Running>,
}

impl Gate {
    /// Whether a command may start beside those that run.
    pub fn admits(&self, verb: &Verb, owner: Owner, alone: bool, most: usize) -> bool {
        if self.running.len() >= most {
            return false;
        }
        let asks = matches!(owner, Owner::Layer(..));
        self.running.iter().all(|running| {
            let serves = asks && !running.written;
            let apart = (alone && !asks) || (running.alone && !serves);
            let binding = verb.numbers != Numbers::None && running.written && running.verb.expunge;
            let contested = running.written && running.verb.claims.meets(verb.claims) && !running.shares(verb, owner);
            !apart && !binding && !contested
        })
    }

    /// Whether a removal may be told: some command of the client's is in progress, and each of them allows it. `mapped`: what a
    /// command names is bound to UIDs already. `at_once`: no command need be in progress.
    pub fn allows_expunge(&self, mapped: bool, at_once: bool) -> bool {
        let mut clients =
            self.running.iter().filter(|running| running.owner == Owner::Client && running.complete).peekable();
        // A command that a layer has in hand names messages by the numbers of now, not of when it will be written.
        let bound = |running: &Running| mapped || running.written || running.verb.numbers == Numbers::None;
        (at_once || clients.peek().is_some()) && clients.all(|running| running.verb.expunge && bound(running))
    }

    /// Whether a command runs whose answers are message numbers.
    pub fn answers_numbers(&self) -> bool {
        self.running.iter().any(|running| running.verb.numbers == Numbers::Criteria && !running.verb.expunge)
    }

    /// Whose answer this kind is: `None` if nobody, or more than one, claims it (architecture 4.3). Of several questions of a layer
    /// it is the first.
    pub fn claimant(&self, kind: Kind) -> Option<Owner> {
        let mut claims = self.running.iter().filter(|running| running.written && running.verb.claims.has(kind));
        let first = claims.next()?;
        claims.all(|running| first.shares(running.verb, running.owner)).then_some(first.owner)
    }

    /// A command begins.
    pub fn start(&mut self, running: Running) {
        self.running.push(running);
    }

    /// The command of this name, if it runs.
    pub fn find(&mut self, tag: &[u8]) -> Option<&mut Running> {
        self.running.iter_mut().find(|running| running.tag.as_slice() == tag)
    }

    /// A command has ended. The list's memory goes with the last one: a session at rest owns none.
    pub fn end(&mut self, tag: &[u8]) {
        self.running.retain(|running| running.tag.as_slice() != tag);
        if self.running.is_empty() {
            self.running = Vec::new();
        }
    }

    /// What is not the client's will never end: whose it was.
    pub fn abandon(&mut self) -> Vec<Owner> {
        let (clients, ours): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_iter().partition(|running| running.owner == Owner::Client);
        self.running = clients;
        ours.into_iter().map(|running| running.owner).collect()
    }

    /// Whether a command runs that is answered so.
    pub fn has_asked(&self, kind: Kind) -> bool {
        self.running.iter().any(|running| running.written && running.verb.claims.has(kind))
    }

    /// Whether the backend has one of these commands to do.
    pub fn runs(&self, names: &[&str]) -> bool {
        self.running.iter().any(|running| running.written && names.contains(&running.verb.name))
    }

    /// Whether something of this one runs.
    pub fn has(&self, owner: Owner) -> bool {
        self.verb_of(owner).is_some()
    }

    /// What runs of this one, first of all.
    pub fn verb_of(&self, owner: Owner) -> Option<&'static Verb> {
        self.running.iter().find(|running| running.owner == owner).map(|running| running.verb)
    }

    /// Whether nothing runs but, perhaps, the client's IDLE.
    pub fn is_only_idle(&self) -> bool {
        self.running.iter().all(|running| running.owner == Owner::Client && running.verb.name == "IDLE")
    }

    /// Whether nothing runs.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether the backend owes us an answer; what a layer has in hand it does not know of.
    pub fn is_owed(&self) -> bool {
        self.running.iter().any(|running| running.written)
    }

    /// Whether a layer waits for the end of a command that changes something, to do its part. One that the client has not
    /// finished changes nothing.
    pub fn is_followed(&self) -> bool {
        self.running.iter().any(|running| running.followed.is_some() && running.complete)
    }

    /// Whether a layer has asked something.
    pub fn has_questions(&self) -> bool {
        self.running.iter().any(|running| matches!(running.owner, Owner::Layer(..)))
    }

    /// Whether something of the client's runs.
    pub fn client_waits(&self) -> bool {
        self.running.iter().any(|running| running.owner == Owner::Client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::verb::find;

    fn running(name: &str, owner: Owner) -> Running {
        let verb = find(name.as_bytes()).unwrap();
        Running {
            tag: Tag::from_slice(name.as_bytes()),
            verb,
            owner,
            alone: verb.alone,
            written: true,
            complete: true,
            tagged: false,
            bound: false,
            followed: None,
        }
    }

    fn gate(names: &[&str]) -> Gate {
        let mut gate = Gate::default();
        names.iter().for_each(|name| gate.start(running(name, Owner::Client)));
        gate
    }

    fn admits(gate: &Gate, name: &str, owner: Owner) -> bool {
        let verb = find(name.as_bytes()).unwrap();
        gate.admits(verb, owner, verb.alone, 64)
    }

    #[test]
    fn a_number_waits_for_what_may_change_it() {
        // RFC 3501 5.5: FETCH + NOOP + STORE is an invalid sequence; its STORE must not reach another message.
        assert!(admits(&gate(&["FETCH"]), "NOOP", Owner::Client));
        assert!(!admits(&gate(&["FETCH", "NOOP"]), "STORE", Owner::Client));
        assert!(admits(&gate(&["FETCH", "SEARCH"]), "STORE", Owner::Client));
        assert!(admits(&gate(&["NOOP"]), "UID FETCH", Owner::Client));
        assert!(!admits(&gate(&["UID FETCH"]), "SEARCH", Owner::Client));
    }

    #[test]
    fn expunge_is_told_only_if_all_commands_in_progress_allow_it() {
        assert!(!gate(&[]).allows_expunge(false, false));
        assert!(gate(&["NOOP", "UID FETCH"]).allows_expunge(false, false));
        assert!(!gate(&["NOOP", "FETCH"]).allows_expunge(false, false));
        let mut upload = gate(&[]);
        upload.start(Running { complete: false, ..running("APPEND", Owner::Client) });
        assert!(!upload.allows_expunge(false, false), "not in progress until complete");
        let mut search = gate(&[]);
        search.start(Running { written: false, ..running("UID SEARCH", Owner::Client) });
        assert!(!search.allows_expunge(false, false), "its numbers are not bound before it is written");
    }

    #[test]
    fn select_stands_alone() {
        assert!(!admits(&gate(&["NOOP"]), "SELECT", Owner::Client));
        assert!(!admits(&gate(&["SELECT"]), "NOOP", Owner::Client));
    }

    #[test]
    fn the_same_answer_has_one_owner_at_a_time() {
        let layer = Owner::Layer(0, 1);
        assert!(!admits(&gate(&["LIST"]), "LIST", layer));
        assert!(admits(&gate(&["LIST"]), "LIST", Owner::Client));
        assert!(admits(&gate(&["STATUS"]), "LSUB", layer));
        assert_eq!(gate(&["LIST"]).claimant(Kind::List), Some(Owner::Client));
        assert_eq!(gate(&["NOOP"]).claimant(Kind::List), None);
    }

    #[test]
    fn a_layer_asks_side_by_side_what_names_its_answer() {
        let asked = |name| {
            let mut gate = Gate::default();
            gate.start(running(name, Owner::Layer(2, 1)));
            gate
        };
        assert!(admits(&asked("STATUS"), "STATUS", Owner::Layer(2, 2)));
        assert!(!admits(&asked("STATUS"), "STATUS", Owner::Layer(3, 2)));
        assert!(!admits(&asked("LIST"), "LIST", Owner::Layer(2, 2)));
        assert!(!admits(&asked("LIST"), "STATUS", Owner::Layer(2, 2)));
        let mut gate = asked("STATUS");
        gate.start(running("STATUS", Owner::Layer(2, 2)));
        assert_eq!(gate.claimant(Kind::Status), Some(Owner::Layer(2, 1)));
    }

    #[test]
    fn a_layer_asks_while_it_has_a_command_in_hand() {
        let mut gate = Gate::default();
        gate.start(Running { written: false, alone: true, ..running("NAMESPACE", Owner::Client) });
        assert!(admits(&gate, "LIST", Owner::Layer(0, 1)));
        assert!(!admits(&gate, "LIST", Owner::Client));
    }
}
