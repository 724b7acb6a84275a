//! Untagged responses behind one another that come as they like, and are spelled as they like: `order: any`.

use super::{
    Action, Pattern, Step,
    meaning::{self, Fact},
    run::{Play, Wrong, shown},
};

/// What may come at any place among others.
enum Expected {
    /// One thing that a response says, and the line of the transcript.
    Said(Fact, String),
    /// A line like this; if a literal follows, its lines are expected in their turn.
    Spelled(Pattern),
}

/// Whether this expects untagged responses.
pub(super) fn begins(action: &Action) -> bool {
    Expected::of(action).is_some()
}

impl Play<'_> {
    /// Takes untagged responses until all of those expected behind one another have come; how many steps that were.
    pub(super) fn expect_in_any_order(&mut self, steps: &[Step]) -> Result<usize, Wrong> {
        let expected: Vec<_> = steps.iter().map_while(|step| Expected::of(&step.action)).collect();
        let count = expected.len();
        let mut left: Vec<Expected> = expected.into_iter().flatten().collect();
        while !left.is_empty() {
            let wanted = left.iter().map(Expected::text).collect::<Vec<_>>().join(" or ");
            let Some(line) = self.next_line() else { return Err((wanted, "nothing".to_owned())) };
            if self.take_off_spelled(&mut left, &line) {
                continue;
            }
            let response = self.whole_response(line);
            if !take_off_said(&mut left, &response) {
                return Err((wanted, shown(&response)));
            }
        }
        Ok(count)
    }

    fn take_off_spelled(&mut self, left: &mut Vec<Expected>, line: &[u8]) -> bool {
        let spelled = |expected: &Expected| match expected {
            Expected::Spelled(pattern) => pattern.matches(line, &mut self.variables),
            Expected::Said(..) => false,
        };
        let at = left.iter().position(spelled);
        at.map(|at| left.remove(at)).is_some()
    }

    /// A line, with its literals and what stands behind them.
    fn whole_response(&mut self, line: Vec<u8>) -> Vec<u8> {
        let mut response = line;
        let mut end = 0;
        while let Some(len) = meaning::announced(&response[end..]) {
            self.scene.run_backend();
            let inbox = self.scene.client_inbox();
            let literal: Vec<u8> = inbox.drain(..len.min(inbox.len())).collect();
            response.extend_from_slice(b"\r\n");
            response.extend(literal);
            end = response.len();
            response.extend(self.next_line().unwrap_or_default());
        }
        response
    }
}

impl Expected {
    /// What this step expects, if it is an untagged response.
    fn of(action: &Action) -> Option<Vec<Self>> {
        let (facts, text) = match action {
            Action::Expect(pattern) if pattern.is_untagged() => (pattern.facts(), pattern.text().to_owned()),
            Action::ExpectOctets(octets) => (Some(meaning::facts(octets.strip_suffix(b"\r\n")?)?), shown(octets)),
            _ => return None,
        };
        match (facts, action) {
            (Some(facts), _) => Some(facts.into_iter().map(|fact| Self::Said(fact, text.clone())).collect()),
            (None, Action::Expect(pattern)) => Some(vec![Self::Spelled(pattern.clone())]),
            (None, _) => None,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Said(_, text) => text,
            Self::Spelled(pattern) => pattern.text(),
        }
    }
}

/// Takes off what this response says; `false` if it says something that nobody expects.
fn take_off_said(left: &mut Vec<Expected>, response: &[u8]) -> bool {
    let said = meaning::facts(response).unwrap_or_default();
    let mut take_off = |fact| {
        let says = |expected: &Expected| matches!(expected, Expected::Said(wanted, _) if meaning::says(fact, wanted));
        let at = left.iter().position(says);
        at.map(|at| left.remove(at)).is_some()
    };
    !said.is_empty() && said.iter().all(&mut take_off)
}
