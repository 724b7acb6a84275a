//! NAMESPACE: where a user's own mailboxes begin (RFC 2342), found out by LIST.
//!
//! Below: LIST.   Above: NAMESPACE.
//!
//!     C: a NAMESPACE
//!     >  p1 LIST "" ""            the hierarchy delimiter (RFC 3501 6.3.8)
//!     >  p2 LIST "" "%"           only INBOX?
//!     >  p3 LIST "" "INBOX.%"     and something below it? Then all the user has begins with "INBOX."
//!     S: * NAMESPACE (("INBOX." ".")) NIL NIL
//!
//! Requirement A4.

use imap_codec::{
    ResponseCodec,
    decode::Decoder,
    imap_types::{
        mailbox::Mailbox,
        response::{Data, Response},
    },
};

use crate::{
    imap::{response::Status, verb},
    session::layer::{Ask, Command, Extension, Layer, Out, Refusal, Reply},
};

/// RFC 2342.
pub const NAMESPACE: Extension = Extension {
    name: "NAMESPACE",
    spec: "RFC 2342",
    gives: &["NAMESPACE"],
    needs: &[],
    hears: &["NAMESPACE"],
    build: || Box::<Namespace>::default(),
};

#[derive(Default)]
struct Namespace {
    tag: Vec<u8>,
    delimiter: Option<char>,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    AwaitDelimiter,
    /// `others`: there is a mailbox beside INBOX at the top.
    AwaitTop { others: bool },
    /// `some`: there is one below INBOX.
    AwaitBelowInbox { some: bool },
}

impl Layer for Namespace {
    fn command(&mut self, command: Command<'_>, out: &mut Out<'_>) {
        if !command.arguments.is_empty() {
            return out.refuse(command.tag, Refusal::bad("NAMESPACE takes no arguments"));
        }
        *self = Self { tag: command.tag.to_vec(), ..Self::default() };
        list("", out);
    }

    fn reply(&mut self, _ask: Ask, reply: Reply<'_>, out: &mut Out<'_>) {
        match reply {
            Reply::Part(line) => self.hear(line),
            Reply::Done(Status::Ok, _) => self.next(out),
            Reply::Done(status, _) => out.refuse(&self.tag, Refusal::of_backend(status)),
            Reply::Lost => out.refuse(&self.tag, Refusal::no("UNAVAILABLE", "no answer from the backend")),
        }
    }
}

impl Namespace {
    fn hear(&mut self, line: &[u8]) {
        let line = [line, b"\r\n"].concat();
        let Ok((_, Response::Data(Data::List { delimiter, mailbox, .. }))) = ResponseCodec::default().decode(&line)
        else {
            return;
        };
        match &mut self.state {
            State::AwaitDelimiter => self.delimiter = delimiter.map(|delimiter| delimiter.inner()),
            State::AwaitTop { others } => *others |= mailbox != Mailbox::Inbox,
            State::AwaitBelowInbox { some } => *some |= mailbox != Mailbox::Inbox,
        }
    }

    fn next(&mut self, out: &mut Out<'_>) {
        match (&self.state, self.delimiter) {
            (State::AwaitDelimiter, Some(_)) => {
                self.state = State::AwaitTop { others: false };
                list("%", out);
            }
            (State::AwaitTop { others: false }, Some(delimiter)) => {
                self.state = State::AwaitBelowInbox { some: false };
                list(&format!("INBOX{}%", escape(delimiter)), out);
            }
            (State::AwaitBelowInbox { some: true }, Some(delimiter)) => self.answer("INBOX", out, delimiter),
            (_, Some(delimiter)) => self.answer("", out, delimiter),
            (_, None) => {
                out.answer(b"* NAMESPACE ((\"\" NIL)) NIL NIL".to_vec());
                out.done(&self.tag, "NAMESPACE done");
            }
        }
    }

    fn answer(&self, inbox: &str, out: &mut Out<'_>, delimiter: char) {
        let delimiter = escape(delimiter);
        let prefix = if inbox.is_empty() { String::new() } else { format!("{inbox}{delimiter}") };
        out.answer(format!("* NAMESPACE ((\"{prefix}\" \"{delimiter}\")) NIL NIL").into_bytes());
        out.done(&self.tag, "NAMESPACE done");
    }
}

fn list(pattern: &str, out: &mut Out<'_>) {
    if let Some(verb) = verb::find(b"LIST") {
        out.ask(verb, format!("\"\" \"{pattern}\""));
    }
}

/// A delimiter as it stands inside a quoted string.
fn escape(delimiter: char) -> String {
    match delimiter {
        '"' | '\\' => format!("\\{delimiter}"),
        _ => delimiter.to_string(),
    }
}
