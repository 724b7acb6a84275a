//! Carries commands down and answers up, through the layers that hear them (architecture sections 1 and 4.6).
//!
//!     client:   a LIST "" "*" RETURN (STATUS (UNSEEN))      LIST-STATUS has it in hand
//!     layer 0:    LIST "" "*" RETURN ()                     its question: LIST-EXTENDED has it in hand
//!     layer 1:      LIST "" "*"                             its question: nobody hears it, the backend is asked
//!
//! A layer is made when it is first reached, and asked for nothing it does not hear. What it wants done is written down in
//! an [`Out`] and carried out here, in order, when it has returned. A question visits the layers below as a command of the
//! client's does, and what they answer goes to the layer that asked.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use super::{
    aside::{Errand, Outcome, Sent, Told},
    client_edge::Down,
    effect::{Answer, Binding, Effect, Effects, Keeping, Notice, Request},
    gate::{Owner, Running, Tag},
    layer::{Act, Ask, Command, Layer, Out, Refusal, Reply},
    open::Open,
    plan::Plan,
    profile::Look,
};
use crate::{
    imap::{
        command::{self, Head},
        esearch::Esearch,
        frame::Literal,
        response::Status,
        verb::Verb,
    },
    mailbox::event::Event,
};

/// The layers of one session, and the questions that wait.
#[derive(Default)]
pub(super) struct Stack {
    /// By level; empty until the first one is reached.
    layers: Vec<Option<Box<dyn Layer>>>,
    asks: u32,
    waiting: VecDeque<Waiting>,
    /// The command that a layer has in hand, by level: its verbs run alone, so there is one at each. Empty at rest.
    in_hand: Vec<Option<InHand>>,
    /// When layers want to be woken, by level: one moment each.
    wakes: Vec<(usize, Instant)>,
}

/// A command that a layer has in hand.
struct InHand {
    /// Who gave it.
    from: Owner,
    tag: Tag,
    verb: &'static Verb,
    /// As it came.
    octets: Vec<u8>,
    /// The literal behind it, which the client has not sent yet, or we have not taken.
    open: Option<Literal>,
}

/// A question that may not be asked yet.
struct Waiting {
    from: Owner,
    verb: &'static Verb,
    tag: Tag,
    octets: Vec<u8>,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stack").field("layers", &self.layers.len()).field("waiting", &self.waiting.len()).finish()
    }
}

impl Stack {
    /// Questions that are open at the same time (architecture section 3).
    const MOST_ASKS: usize = 32;

    /// Whether a question waits.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether a layer has something in hand that another layer has asked.
    pub(super) fn is_asked(&self) -> bool {
        self.in_hand.iter().flatten().any(|command| matches!(command.from, Owner::Layer(..)))
    }

    /// When the first layer wants to be woken.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.wakes.iter().map(|(_, when)| *when).min()
    }

    /// Who wants to be woken at all is woken now: another mailbox is selected.
    pub(super) fn rouse(&mut self, now: Instant) {
        self.wakes.iter_mut().for_each(|(_, when)| *when = now);
    }

    /// Whether a layer has something in hand that is not to be left half done.
    pub(super) fn finishes(&self, plan: &Plan) -> bool {
        let finishes = |level: usize| plan.layers.get(level).is_some_and(|layer| layer.finishes);
        self.in_hand.iter().enumerate().any(|(level, command)| command.is_some() && finishes(level))
    }

    fn take_in_hand(&mut self, level: usize) -> Option<InHand> {
        let taken = self.in_hand.get_mut(level).and_then(Option::take);
        if self.in_hand.iter().all(Option::is_none) {
            self.in_hand = Vec::new();
        }
        taken
    }
}

impl Open {
    /// A command of the client's, or a question of a layer above, visits a layer.
    pub(super) fn visit(
        &mut self,
        level: usize,
        head: &Head<'_>,
        octets: &[u8],
        from: Owner,
        open: Option<Literal>,
        out: &mut Effects,
    ) {
        if open.is_some() {
            self.client.down = Down::AwaitLayer;
        }
        let in_hand = &mut self.stack.in_hand;
        in_hand.resize_with(in_hand.len().max(level + 1), || None);
        in_hand[level] =
            Some(InHand { from, tag: Tag::from_slice(head.tag), verb: head.verb, octets: octets.to_vec(), open });
        let arguments = head.arguments.strip_suffix(b"\r\n").unwrap_or(head.arguments);
        let command = Command { tag: head.tag, verb: head.verb, octets, arguments };
        self.call(level, out, |layer, out| layer.command(command, out));
    }

    /// A layer hears of what it asked.
    pub(super) fn reply(&mut self, level: u8, ask: Ask, reply: Reply<'_>, out: &mut Effects) {
        self.call(usize::from(level), out, |layer, out| layer.reply(ask, reply, out));
    }

    /// The store has answered.
    pub(super) fn kept(&mut self, answer: &Answer, out: &mut Effects) {
        let (level, ask) = answer.to;
        let reply = answer.kept.as_ref().map_or(Reply::Unavailable, |kept| Reply::Kept(kept, answer.at));
        self.reply(level, ask, reply, out);
    }

    /// Something has happened elsewhere in the account. A layer that was never reached has promised nobody to tell.
    pub(super) fn noticed(&mut self, notice: &Notice, out: &mut Effects) {
        match notice {
            Notice::Looked(looked) => self.heed(looked),
            Notice::Alert(device, text) if self.device.as_ref().is_none_or(|own| own.device == *device) => {
                return self.tell(format!("* OK [ALERT] {text}\r\n").as_bytes(), out);
            }
            _ => {}
        }
        if !self.client.has_room() {
            return;
        }
        for level in 0..self.stack.layers.len() {
            if self.stack.layers[level].is_some() {
                self.call(level, out, |layer, out| layer.noticed(notice, out));
            }
        }
    }

    /// The client has changed something itself.
    pub(super) fn changed(&mut self, event: &Event, out: &mut Effects) {
        for level in 0..self.stack.layers.len() {
            if self.stack.layers[level].is_some() {
                self.call(level, out, |layer, out| layer.changed(event, out));
            }
        }
    }

    /// When the first layer is to be woken: not while the client has something to say, or another question is open.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        let free = self.is_at_rest()
            && self.client.has_room()
            && !self.stack.has_waiting()
            && !self.stack.is_asked()
            && !self.gate.has_questions();
        self.stack.wakes_at().filter(|_| free)
    }

    /// Wakes the layers whose moment has come, one at a time.
    pub(super) fn wake_layers(&mut self, now: Instant, out: &mut Effects) {
        while self.wakes_at().is_some_and(|when| now >= when) {
            let Some(at) = self.stack.wakes.iter().position(|(_, when)| now >= *when) else { return };
            let (level, _) = self.stack.wakes.swap_remove(at);
            self.call(level, out, |layer, out| layer.wake(now, out));
        }
    }

    /// Calls a layer, then does what it wants done.
    fn call(&mut self, level: usize, out: &mut Effects, visit: impl FnOnce(&mut dyn Layer, &mut Out<'_>)) {
        let Some(extension) = self.plan.layers.get(level) else { return };
        if self.stack.layers.is_empty() {
            self.stack.layers.resize_with(self.plan.layers.len(), || None);
        }
        let mut wanted = Out {
            acts: Vec::new(),
            asks: &mut self.stack.asks,
            plan: &self.plan,
            level,
            origin: self.origin.as_deref(),
            device: self.device.as_deref(),
            selected: self.selected,
            mailbox: self.mailbox.as_ref().map(|mailbox| &*mailbox.name),
            read_only: self.mailbox.as_ref().is_some_and(|mailbox| mailbox.examined),
            epoch: self.epoch,
            time_of_day: self.front.time_of_day,
            notified: self.client.notify.is_some(),
            modseq: self.client.modseq,
            now: self.now,
            pace: self.news.pace(),
            backend: &self.backend,
            profile: self.profile,
            hears_aside: self.key.is_some() && self.news.mode() == Look::Idle,
            followed: out.followed,
        };
        let layer = self.stack.layers[level].get_or_insert_with(extension.build);
        visit(layer.as_mut(), &mut wanted);
        for act in wanted.acts {
            self.act(level, act, out);
        }
    }

    fn act(&mut self, level: usize, act: Act, out: &mut Effects) {
        match act {
            Act::Forward(edited) => self.forward(level, edited, out),
            Act::Follow { ask, edited } => self.follow_up(level, ask, edited, out),
            Act::Answer(line) => self.answer(level, line, out),
            Act::Done(text) => self.end_in_hand(level, Ok(text), out),
            Act::Refuse(why) => self.end_in_hand(level, Err(why), out),
            Act::Idle(listening) => {
                if let Some(InHand { tag, .. }) = self.stack.take_in_hand(level) {
                    self.idle(&tag, listening, out);
                }
            }
            Act::Ask { ask, verb, arguments } => self.ask(level, ask, verb, &arguments, out),
            Act::Aside { ask, errand } => self.send_aside(level, ask, errand, out),
            Act::Recall(ask) => out.push(Effect::Recall((level as u8, ask))),
            Act::Keep { ask, keeping } => self.keep(level, ask, keeping, out),
            Act::Publish(what) => out.push(Effect::Publish(Box::new(what))),
            Act::Bind(device) => self.bind(device, out),
            Act::Listen(listening) => self.listen(listening, out),
            Act::Found(finding) => out.push(Effect::Found(finding)),
            Act::WakeAt(when) => {
                self.stack.wakes.retain(|(other, _)| *other != level);
                self.stack.wakes.push((level, when));
            }
        }
    }

    /// An errand goes out, if there is a way in.
    fn send_aside(&mut self, level: usize, ask: Ask, errand: Errand, out: &mut Effects) {
        match &self.key {
            Some(key) => {
                out.push(Effect::Aside(Box::new(Sent { from: (level as u8, ask), key: Arc::clone(key), errand })))
            }
            None => self.reply(level as u8, ask, Reply::Lost, out),
        }
    }

    /// What came of one.
    pub(super) fn told_aside(&mut self, told: &Told, out: &mut Effects) {
        let (level, ask) = told.to;
        match &told.outcome {
            Outcome::Done(kept, status, text) => {
                kept.iter().for_each(|part| self.reply(level, ask, Reply::Part(part), out));
                self.reply(level, ask, Reply::Done(*status, text), out);
            }
            Outcome::Busy => self.reply(level, ask, Reply::Unavailable, out),
            Outcome::Lost => self.reply(level, ask, Reply::Lost, out),
            Outcome::Refused => {
                self.key = None;
                self.reply(level, ask, Reply::Lost, out);
            }
        }
    }

    fn keep(&mut self, level: usize, ask: Ask, keeping: Keeping, out: &mut Effects) {
        out.push(Effect::Keep(Box::new(Request { from: (level as u8, ask), keeping })));
    }

    /// The session belongs to this device from now on.
    pub(super) fn bind(&mut self, device: Binding, out: &mut Effects) {
        out.push(Effect::Bind(Box::new(device.clone())));
        self.device = Some(Box::new(device));
    }

    fn answer(&mut self, level: usize, mut line: Vec<u8>, out: &mut Effects) {
        match self.stack.in_hand.get(level).and_then(Option::as_ref).map(|command| command.from) {
            Some(Owner::Layer(above, ask)) => self.reply(above, Ask(ask), Reply::Part(&line), out),
            _ => {
                self.number_answer(level, &mut line);
                self.show_status(&line, out);
                line.extend_from_slice(b"\r\n");
                self.tell(&line, out);
            }
        }
    }

    /// A search answers with UIDs. The client that has asked for numbers is told numbers.
    fn number_answer(&self, level: usize, line: &mut Vec<u8>) {
        let in_hand = self.stack.in_hand.get(level).and_then(Option::as_ref);
        if in_hand.is_some_and(|command| command.verb.name == "SEARCH")
            && let Some(said) = Esearch::parse(line).filter(|said| said.uid)
        {
            *line = self.numbering.numbered(said).write();
        }
    }

    fn end_in_hand(&mut self, level: usize, end: Result<Vec<u8>, Refusal>, out: &mut Effects) {
        let Some(InHand { from, tag, verb, open, .. }) = self.stack.take_in_hand(level) else { return };
        self.resume = true;
        if let Owner::Layer(above, ask) = from {
            let (status, text) = match end {
                Ok(text) => (Status::Ok, text),
                Err(why) => (why.status, why.words().into_bytes()),
            };
            return self.reply(above, Ask(ask), Reply::Done(status, &text), out);
        }
        if verb.name == "UNSELECT" && end.is_ok() {
            self.closed();
        }
        match self.gate.find(&tag) {
            // It has ended too early: the backend counts the octets of the literal all the same (architecture 4.12).
            Some(running) if open.is_none() && !running.complete => running.tagged = true,
            _ => self.gate.end(&tag),
        }
        if matches!(self.client.down, Down::AwaitLayer) {
            self.client.down = Down::Command;
        }
        open.iter().for_each(|literal| self.discard(literal, out));
        match end {
            Ok(text) => self.tell_done(&tag, &text, out),
            Err(why) => self.refuse(&tag, &why, out),
        }
    }

    /// The command in hand goes on, to the next layer that hears it or to the backend.
    fn forward(&mut self, level: usize, edited: Option<Vec<u8>>, out: &mut Effects) {
        let Some(InHand { from, tag, verb, octets, open }) = self.stack.take_in_hand(level) else { return };
        let octets = edited.unwrap_or(octets);
        let Ok(head) = command::head(&octets) else { return };
        let verb = if head.verb.index().is_some() { head.verb } else { verb };
        match (self.plan.hears(verb, head.arguments, level + 1), from) {
            (Some(next), _) => self.visit(next, &head, &octets, from, open, out),
            (None, Owner::Client | Owner::Idle | Owner::Numbering | Owner::Witness) => {
                // Its end is the client's, whoever has heard of earlier ones.
                self.gate.find(&tag).into_iter().for_each(|running| running.followed = None);
                self.write_visited(&head, &octets, open, out);
            }
            (None, Owner::Layer(..)) => {
                self.stack.waiting.push_back(Waiting { from, verb, tag, octets });
                self.ask_waiting(out);
            }
        }
    }

    /// The command in hand goes on, and the layer hears of its end. One that others hear, or that a layer has asked, goes on as
    /// a question: it has a name of its own there.
    fn follow_up(&mut self, level: usize, ask: Ask, edited: Option<Vec<u8>>, out: &mut Effects) {
        let Some(Some(InHand { from, verb, octets, open, .. })) = self.stack.in_hand.get_mut(level) else { return };
        let (from, verb, octets, open) = (*from, *verb, edited.unwrap_or_else(|| octets.clone()), open.take());
        let Ok(head) = command::head(&octets) else { return };
        let verb = if head.verb.index().is_some() { head.verb } else { verb };
        // A literal on the wire goes to the backend and nowhere else.
        let heard = open.is_none() && self.plan.hears(verb, head.arguments, level + 1).is_some();
        if from != Owner::Client || heard {
            let arguments = head.arguments.strip_suffix(b"\r\n").unwrap_or(head.arguments);
            return self.ask(level, ask, verb, arguments, out);
        }
        if let Some(running) = self.gate.find(head.tag) {
            running.followed = Some((level as u8, ask.0));
        }
        self.write_visited(&head, &octets, open, out);
    }

    /// A layer asks the server below: the next layer that hears it, or the backend.
    fn ask(&mut self, level: usize, ask: Ask, verb: &'static Verb, arguments: &[u8], out: &mut Effects) {
        let tag = self.backend.next_tag();
        let space: &[u8] = if arguments.is_empty() { b"" } else { b" " };
        let octets = [tag.as_slice(), b" ", verb.name.as_bytes(), space, arguments, b"\r\n"].concat();
        let Ok(head) = command::head(&octets) else { return };
        let from = Owner::Layer(level as u8, ask.0);
        match self.plan.hears(verb, head.arguments, level + 1) {
            Some(next) => self.visit(next, &head, &octets, from, None, out),
            None => {
                self.stack.waiting.push_back(Waiting { from, verb, tag, octets });
                self.ask_waiting(out);
            }
        }
    }

    /// Asks the backend what may be asked now. One that idles stops for it.
    pub(super) fn ask_waiting(&mut self, out: &mut Effects) {
        if self.stack.has_waiting() && self.news.is_idling() {
            self.idle_off(out);
        }
        if self.stack.waiting.len() > Stack::MOST_ASKS
            && let Some(Waiting { from: Owner::Layer(level, ask), .. }) = self.stack.waiting.pop_back()
        {
            return self.reply(level, Ask(ask), Reply::Lost, out);
        }
        let most = usize::from(self.front.limits.pipelined) + Stack::MOST_ASKS;
        while let Some(next) = self.stack.waiting.front() {
            if self.is_mid_command() || !self.gate.admits(next.verb, next.from, next.verb.alone, most) {
                return;
            }
            let Some(Waiting { from, verb, tag, octets }) = self.stack.waiting.pop_front() else { return };
            if let Ok(head) = command::head(&octets) {
                self.note_lasting(&head);
                self.witness_command(&head, out);
            }
            self.see_command(&octets);
            self.write(&octets, None, &tag, verb, None, out);
            self.count_look(out);
            self.gate.start(Running::ours(tag, verb, from));
        }
    }
}
