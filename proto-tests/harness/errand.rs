//! An auxiliary connection of the proxy to the model: what `lemonade_proxy::io::auxiliary` does with sockets, done at once.
//!
//! ```text
//! > (aside) A0000001-e1 EXAMINE Work
//! ```

use std::time::Instant;

use lemonade_proxy::session::{
    aside::{Aside, Outcome, Sent, Told},
    effect::{Dialled, Effects},
    layer::Ask,
};

use crate::model::{Backend, Connection};

/// An errand under way, on a connection of its own.
pub struct Errand {
    /// Who has it: a layer, by its level in the stack, and its question.
    pub from: (u8, Ask),
    listens: bool,
    aside: Aside,
    outcome: Option<Outcome>,
    effects: Effects,
    connection: Connection,
    heard: Vec<u8>,
}

impl Errand {
    /// It begins, with a greeting that was not read yet.
    pub fn new(backend: &Backend, sent: Sent, dialled: Dialled) -> Self {
        let Sent { from, key, errand } = sent;
        let mut effects = Effects::default();
        let mut aside = Aside::new(&key, dialled, 1, Instant::now());
        let listens = errand.listens();
        let outcome = aside.run(errand, &mut effects);
        let mut connection = backend.connect();
        let heard = connection.greeting();
        Self { from, listens, aside, outcome, effects, connection, heard }
    }

    /// Goes on until it waits for news: what came of it, if that is known, and what the backend was told meanwhile.
    pub fn go_on(&mut self) -> (Option<Told>, Vec<String>) {
        let mut said = Vec::new();
        self.heard.extend(self.connection.poll());
        while self.outcome.is_none() {
            let (took, outcome) = self.aside.hear(&self.heard, &mut self.effects);
            self.heard.drain(..took);
            let text = std::mem::take(&mut self.effects.text);
            self.effects.clear();
            said.extend(String::from_utf8_lossy(&text).lines().map(|line| format!("> (aside) {line}")));
            self.heard.extend(self.connection.feed(&text));
            self.outcome = outcome;
            let stuck = text.is_empty() && took == 0;
            if stuck && self.listens && !self.connection.is_closed() {
                break;
            }
            if self.outcome.is_none() && (stuck || text.is_empty() && self.connection.is_closed()) {
                self.outcome = Some(Outcome::Lost);
            }
        }
        (self.outcome.take().map(|outcome| Told { to: self.from, outcome }), said)
    }
}
