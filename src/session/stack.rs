//! Carries commands down and answers up, through the layers that hear them (architecture sections 1 and 4.6).
//!
//! A layer is made when it is first reached, and asked for nothing it does not hear. What it wants done is written down in
//! an [`Out`] and carried out here, in order, when it has returned.

use std::collections::VecDeque;

use super::{
    effect::{Effects, Side},
    gate::{Owner, Running, Tag},
    layer::{Act, Ask, Command, Layer, Out, Reply},
    open::Open,
};
use crate::imap::{
    command::{self, Head},
    verb::Verb,
};

/// The layers of one session, and the questions that wait.
#[derive(Default)]
pub(super) struct Stack {
    /// By level; empty until the first one is reached.
    layers: Vec<Option<Box<dyn Layer>>>,
    asks: u32,
    waiting: VecDeque<Waiting>,
    /// The command that a layer has in hand, as it came: a layer's verb runs alone, so there is one.
    in_hand: Option<Vec<u8>>,
}

/// A question that may not be asked yet.
struct Waiting {
    level: u8,
    ask: Ask,
    verb: &'static Verb,
    arguments: Vec<u8>,
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
}

impl Open {
    /// A command of the client's visits a layer.
    pub(super) fn visit(&mut self, level: usize, head: &Head<'_>, octets: &[u8], out: &mut Effects) {
        self.stack.in_hand = Some(octets.to_vec());
        let arguments = head.arguments.strip_suffix(b"\r\n").unwrap_or(head.arguments);
        let command = Command { tag: head.tag, verb: head.verb, octets, arguments };
        self.call(level, out, |layer, out| layer.command(command, out));
    }

    /// A layer hears of what it asked.
    pub(super) fn reply(&mut self, level: u8, ask: Ask, reply: Reply<'_>, out: &mut Effects) {
        self.call(usize::from(level), out, |layer, out| layer.reply(ask, reply, out));
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
            below: &self.plan.backend,
            origin: self.origin.as_deref(),
            selected: self.selected,
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
            Act::Answer(line) => self.tell(&line, out),
            Act::Done { tag, text } => {
                self.end_in_hand(&tag);
                self.tell_done(&tag, text, out);
            }
            Act::Refuse { tag, why } => {
                self.end_in_hand(&tag);
                self.refuse(&tag, why, out);
            }
            Act::Ask { ask, verb, arguments } => {
                self.stack.waiting.push_back(Waiting { level: level as u8, ask, verb, arguments });
                self.ask_waiting(out);
            }
        }
    }

    fn end_in_hand(&mut self, tag: &[u8]) {
        self.stack.in_hand = None;
        if self.gate.find(tag).is_some_and(|running| running.verb.name == "UNSELECT") {
            self.closed();
        }
        self.gate.end(tag);
        self.resume = true;
    }

    /// The command in hand goes on, to the next layer that hears it or to the backend.
    fn forward(&mut self, level: usize, edited: Option<Vec<u8>>, out: &mut Effects) {
        let Some(octets) = edited.or_else(|| self.stack.in_hand.clone()) else { return };
        let Ok(head) = command::head(&octets) else { return };
        match self.plan.hears(head.verb, level + 1) {
            Some(next) => self.visit(next, &head, &octets, out),
            None => {
                self.stack.in_hand = None;
                if let Some(running) = self.gate.find(head.tag) {
                    running.written = true;
                }
                self.write(&octets, None, head.tag, head.verb, None, out);
            }
        }
    }

    /// Asks the backend what may be asked now.
    pub(super) fn ask_waiting(&mut self, out: &mut Effects) {
        if self.stack.waiting.len() > Stack::MOST_ASKS
            && let Some(Waiting { level, ask, .. }) = self.stack.waiting.pop_back()
        {
            return self.reply(level, ask, Reply::Lost, out);
        }
        let most = usize::from(self.front.limits.pipelined) + Stack::MOST_ASKS;
        while let Some(next) = self.stack.waiting.front() {
            let owner = Owner::Layer(next.level, next.ask.0);
            if self.is_mid_command() || !self.gate.admits(next.verb, owner, next.verb.alone, most) {
                return;
            }
            let Some(Waiting { verb, arguments, .. }) = self.stack.waiting.pop_front() else { return };
            let tag: Tag = self.backend.next_tag();
            let mut octets = [&tag, b" ".as_slice(), verb.name.as_bytes()].concat();
            if !arguments.is_empty() {
                octets.push(b' ');
                octets.extend_from_slice(&arguments);
            }
            octets.extend_from_slice(b"\r\n");
            out.put(Side::Backend, &octets);
            self.gate.start(Running {
                tag,
                verb,
                owner,
                alone: verb.alone,
                written: true,
                complete: true,
                tagged: false,
            });
        }
    }
}
