//! A MESSAGE request as octets (RFC 3428 section 4, RFC 3261 section 8.1.1).
//!
//!     MESSAGE sip:romeo@127.0.0.1:25060 SIP/2.0
//!     Via: SIP/2.0/UDP 127.0.0.1:25061;branch=z9hG4bK776sgdkse2;rport      new with each transaction
//!     Max-Forwards: 70
//!     From: <sip:notifier@example.com>;tag=32328
//!     To: <sip:romeo@example.com>
//!     Call-ID: asd88asd77a@127.0.0.1                                       the same however often it is sent
//!     CSeq: 2 MESSAGE                                                      one more each time
//!     Authorization: Digest ...                                            after a challenge
//!     Priority: urgent                                                     from here on the channel's
//!     Content-Type: text/plain;charset=UTF-8
//!     Content-Length: 51
//!
//!     <juliet@example.org> wrote: Contact me immediately!
//!
//! There is no Contact: a MESSAGE stands alone. The whole has at most 1300 octets, whatever carries it: that our own hop is TCP says nothing
//! of the next (RFC 3428 section 8).

use std::fmt;

use super::{
    exchange::Exchange,
    uri::{Transport, Uri},
};

/// The method. Its case counts (RFC 3261 section 7.1).
pub const METHOD: &str = "MESSAGE";
/// The longest request, in octets (RFC 3428 section 8).
pub const LONGEST: usize = 1300;

/// What is kept free for credentials, in octets, beside the Request-URI in them: 230 are always there, and realms, nonces and user names
/// of 200 together are usual. What comes out longer is not sent.
const CREDENTIALS: usize = 430;
/// The longest place that `Via` names.
const LONGEST_LOCAL: &str = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";

/// What is to be said to somebody, as far as it does not depend on the way.
#[derive(PartialEq, Eq)]
pub struct Message {
    /// To whom.
    pub to: Uri,
    /// Who says it.
    pub from: Uri,
    /// Beside those that SIP itself needs.
    pub headers: Vec<(&'static str, String)>,
    /// What is said.
    pub body: Vec<u8>,
    /// Octets that nobody can guess, and that are used for one message: its Call-ID, its branches and the like are made of them.
    pub chance: [u8; 64],
}

/// What of a request is new each time.
pub(super) struct Head<'a> {
    pub(super) target: &'a Uri,
    pub(super) transport: Transport,
    pub(super) local: &'a str,
    pub(super) branch: &'a str,
    pub(super) tag: &'a str,
    pub(super) call_id: &'a str,
    pub(super) cseq: u32,
    /// Fields and their values.
    pub(super) credentials: &'a [(&'static str, String)],
}

impl Message {
    /// How many octets its body may have, whatever the way adds, and room for credentials where challenges are answered.
    pub fn room(&self, answers: bool) -> usize {
        // The length of a body has up to four digits, and one may be there already.
        const DIGITS: usize = 3;
        let head = Exchange::new(self, None).octets(Transport::Udp, LONGEST_LOCAL).len() - self.body.len();
        let credentials = if answers { CREDENTIALS + self.to.to_string().len() } else { 0 };
        LONGEST.saturating_sub(head + DIGITS + credentials)
    }

    /// The request.
    pub(super) fn write(&self, head: &Head<'_>) -> Vec<u8> {
        let Head { target, transport, local, branch, tag, call_id, cseq, credentials } = head;
        // RFC 3581: the answer comes back to where the request came from.
        let rport = if transport.is_reliable() { "" } else { ";rport" };
        let mut out = format!(
            "{METHOD} {target} SIP/2.0\r\n\
             Via: SIP/2.0/{} {local};branch={branch}{rport}\r\n\
             Max-Forwards: 70\r\n\
             From: <{}>;tag={tag}\r\n\
             To: <{}>\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: {cseq} {METHOD}\r\n",
            transport.name(),
            self.from.identity(),
            self.to.identity(),
        );
        for (name, value) in credentials.iter().chain(&self.headers) {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        out.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        [out.as_bytes(), &self.body].concat()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({} octets)", self.body.len())
    }
}
