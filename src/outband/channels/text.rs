//! What a person reads of a notice, where the channel has room for it.
//!
//!     Mail for joe@foo.com                                             WAKEUP
//!     Juliet <juliet@example.org> wrote: Contact me immediately!       EXTENDED
//!     Romeo, where are you?
//!
//!     49001731 confirms this address for joe@foo.com. Not yours? Do nothing.                 a code
//!
//! A line stays one, whatever a subject has in it. Requirements N9, N10.

use crate::outband::notice::{Notice, cut};

/// The longest sender and subject, in octets.
const HEADING: usize = 200;
/// The longest beginning of a text, in octets.
const SNIPPET: usize = 1000;

/// What somebody is asked who may be the owner of an address. The code stands first: whatever is cut, it is not.
pub(super) fn question(notice: &Notice) -> Option<String> {
    let code = notice.code.as_ref()?;
    Some(line(&format!("{code} confirms this address for {}. Not yours? Do nothing.", cut(&notice.account, HEADING))))
}

/// The lines, without their ends.
pub(super) fn lines(notice: &Notice) -> Vec<String> {
    if let Some(question) = question(notice) {
        return vec![question];
    }
    let Some(message) = &notice.message else { return vec![line(&format!("Mail for {}", notice.account))] };
    let address = message.from.as_ref().map(|address| format!("<{address}>"));
    let sender: Vec<&str> = [message.name.as_deref(), address.as_deref()].into_iter().flatten().collect();
    let sender = if sender.is_empty() { "Somebody".to_owned() } else { cut(&sender.join(" "), HEADING) };
    let heading = match &message.subject {
        Some(subject) => format!("{sender} wrote: {}", cut(subject, HEADING)),
        None => format!("{sender} wrote"),
    };
    let snippet = message.snippet.as_deref().map(|snippet| cut(snippet, SNIPPET));
    let lines = [Some(heading), snippet].into_iter().flatten();
    lines.map(|text| line(&text)).filter(|line| !line.is_empty()).collect()
}

/// The text on one line.
pub(super) fn line(text: &str) -> String {
    text.replace(char::is_control, " ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outband::{channels::tests::notice, notice::Message};

    #[test]
    fn a_notice_is_told_in_a_line_or_two() {
        assert_eq!(lines(&notice().wakeup()), ["Mail for joe@foo.com"]);
        assert_eq!(
            lines(&notice()),
            ["Juliet <juliet@example.org> wrote: Contact me immediately!", "Romeo, where are you?"]
        );
        let code = Some("49001731".into());
        let question = "49001731 confirms this address for joe@foo.com. Not yours? Do nothing.";
        assert_eq!(lines(&Notice { code, ..notice() }), [question]);
        let told = |message| lines(&Notice { message: Some(message), ..notice() });
        assert_eq!(told(Message::default()), ["Somebody wrote"]);
        let message =
            Message { subject: Some("a\r\n\tb\u{0}".into()), snippet: Some(" \n".into()), ..Message::default() };
        assert_eq!(told(message), ["Somebody wrote: a   b"]);
        let message = Message {
            name: Some("x".repeat(300).into()),
            subject: Some("ü".repeat(300).into()),
            snippet: Some("x".repeat(5000).into()),
            ..Message::default()
        };
        let lengths: Vec<usize> = told(message).iter().map(String::len).collect();
        assert_eq!(lengths, [200 + " wrote: ".len() + 199, 1000]);
    }
}
