//! Delta Chat: the operator's notifier wakes the device of a token (digest of notifications 7.3).
//!
//!     POST /notify HTTP/1.1                 200: it will be woken      410: there is no such device any more
//!
//!     openpgp:wU4DhYgCqVCSNt4SAQdA...       the token as the client wrote it, and nothing else
//!
//! The notifier knows Google's and Apple's services and the client's token, and learns nothing of the account or the message; a token that
//! is sealed is opened there. An operator chooses it: without a choice nothing is sent. Whatever else it answers is a reason to ask
//! again. Requirement N20.

use super::http;
use crate::{
    account::channel::Kind,
    outband::{
        channel::{Answer, Channel, Delivery, Given, NamedBy, Outcome, Request, Undeliverable},
        notice::Notice,
    },
};

/// The channel.
#[derive(Clone, Debug)]
pub struct DeltaChat {
    /// The notifier's URL: `https://notifications.delta.chat/notify`.
    pub notifier: String,
}

impl Channel for DeltaChat {
    fn kind(&self) -> Kind {
        Kind::DeltaChat
    }

    /// No word of the notice goes there, so that it does not matter.
    fn is_private(&self, _: &str) -> bool {
        false
    }

    fn write(&self, notice: &Notice, address: &str, _: &Given) -> Result<Delivery, Undeliverable> {
        Kind::DeltaChat.check(address).map_err(|_| Undeliverable::Address)?;
        if notice.code.is_some() {
            return Err(Undeliverable::Ours("a notifier of Delta Chat carries no code"));
        }
        Ok(Delivery::Http(Request {
            url: self.notifier.clone(),
            headers: Vec::new(),
            body: address.as_bytes().to_vec(),
            named_by: NamedBy::Operator,
        }))
    }

    fn judge(&self, answer: &Answer) -> Outcome {
        match answer {
            Answer::Http { status: 410, .. } => Outcome::Dead,
            Answer::Http { status: 200..=299, .. } => Outcome::Accepted,
            Answer::Http { retry_after, .. } => Outcome::Later { after: *retry_after },
            answer => http::judge(answer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outband::channels::{
        http::tests::{LATER, status},
        tests::{GIVEN, notice},
    };

    #[test]
    fn the_notifier_gets_the_token_and_nothing_else() {
        let channel = DeltaChat { notifier: "https://notifications.delta.chat/notify".to_owned() };
        let sent = channel.write(&notice(), "openpgp:hF4Dp3+/aZ==", &GIVEN);
        let expected = Request {
            url: "https://notifications.delta.chat/notify".to_owned(),
            headers: Vec::new(),
            body: b"openpgp:hF4Dp3+/aZ==".to_vec(),
            named_by: NamedBy::Operator,
        };
        assert_eq!(sent, Ok(Delivery::Http(expected)));
        assert_eq!(channel.write(&notice(), "two tokens", &GIVEN), Err(Undeliverable::Address));
        assert_eq!((channel.kind(), channel.is_private("x")), (Kind::DeltaChat, false));
    }

    #[test]
    fn a_token_dies_by_410_and_by_nothing_else() {
        let channel = DeltaChat { notifier: String::new() };
        for (answer, outcome) in [
            (status(200), Outcome::Accepted),
            (status(410), Outcome::Dead),
            (status(400), LATER),
            (status(404), LATER),
            (status(500), LATER),
            (Answer::Unreachable, Outcome::Later { after: None }),
        ] {
            assert_eq!(channel.judge(&answer), outcome, "{answer:?}");
        }
    }
}
