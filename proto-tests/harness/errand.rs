//! An auxiliary connection of the proxy to the model: what `lemonade_proxy::io::auxiliary` does with sockets, done at once.
//!
//! ```text
//! > (aside) A0000001-e1 EXAMINE Work
//! ```

use std::time::Instant;

use lemonade_proxy::session::{
    aside::{Aside, Outcome, Sent, Told},
    effect::{Dialled, Effects},
};

use crate::model::Backend;

/// Does the errand, and says what came of it; with what the backend was told meanwhile.
pub fn run(backend: &Backend, sent: Sent, dialled: Dialled) -> (Told, Vec<String>) {
    let Sent { from: to, key, errand } = sent;
    let (mut effects, mut said) = (Effects::default(), Vec::new());
    let mut aside = Aside::new(&key, dialled, 1, Instant::now());
    let mut outcome = aside.run(errand, &mut effects);
    let mut connection = backend.connect();
    let mut heard = connection.greeting();
    while outcome.is_none() {
        let (took, told) = aside.hear(&heard, &mut effects);
        heard.drain(..took);
        let text = std::mem::take(&mut effects.text);
        effects.clear();
        said.extend(String::from_utf8_lossy(&text).lines().map(|line| format!("> (aside) {line}")));
        heard.extend(connection.feed(&text));
        outcome = told;
        if outcome.is_none() && text.is_empty() && (took == 0 || connection.is_closed()) {
            outcome = Some(Outcome::Lost);
        }
    }
    (Told { to, outcome: outcome.unwrap_or(Outcome::Lost) }, said)
}
