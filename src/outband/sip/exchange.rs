//! A message on its way: what is sent first, and what after an answer that is not the last word (RFC 3261 sections 8.1.3 and 22).
//!
//!     C: MESSAGE sip:romeo@example.com             branch ...1, CSeq 1
//!     S: 407, Proxy-Authenticate: Digest ...
//!     C: MESSAGE sip:romeo@example.com             branch ...2, CSeq 2, Proxy-Authorization: Digest ...
//!     S: 302, Contact: <sip:romeo@192.0.2.4>
//!     C: MESSAGE sip:romeo@192.0.2.4               branch ...3, CSeq 3, To and Call-ID and the tag as they were
//!     S: 200
//!
//! A challenge is answered once for each realm, and once more where the server says that only its nonce was too old. What was answered stays
//! on all that is sent later, for a proxy and the server behind it may both ask. One redirection is followed, from SIPS to SIPS alone; the
//! credentials follow where the account allows it (see [`Account::new`]).

use super::{
    digest::{self, Account, Challenge},
    hex,
    message::{Head, LONGEST, Message},
    response::Response,
    uri::{Transport, Uri},
};
use crate::outband::channel::Answer;

/// A message that is being sent.
#[derive(Debug)]
pub struct Exchange<'a> {
    message: &'a Message,
    account: Option<&'a Account>,
    target: Uri,
    is_redirected: bool,
    cseq: u32,
    answered: Vec<Answered>,
}

/// A challenge, and how often its nonce was used.
#[derive(Debug)]
struct Answered {
    challenge: Challenge,
    uses: u32,
    /// It has come in the place of one that was too old.
    is_renewed: bool,
}

/// A request as it leaves.
#[derive(Debug)]
pub struct Sent {
    /// The whole of it.
    pub octets: Vec<u8>,
    branch: String,
}

/// What comes after an answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The next request.
    Again,
    /// Nothing: this has become of it.
    Done(Answer),
}

/// RFC 3261 section 21.5.7: what a server says of a request that is too long. We say it ourselves.
pub const TOO_LARGE: Answer = Answer::Sip { status: 513, retry_after: None };

impl<'a> Exchange<'a> {
    /// Nothing is sent yet. Without an account, no challenge is answered.
    pub fn new(message: &'a Message, account: Option<&'a Account>) -> Self {
        let target = message.to.clone();
        Self { message, account, target, is_redirected: false, cseq: 1, answered: Vec::new() }
    }

    /// To whom the next request goes.
    pub fn target(&self) -> &Uri {
        &self.target
    }

    /// The next request, over this transport, from this place of ours (`host:port`). None: it is too long. Each is a transaction of its own.
    pub fn request(&mut self, transport: Transport, local: &str) -> Option<Sent> {
        self.answered.iter_mut().for_each(|answered| answered.uses += 1);
        let (octets, branch) = (self.octets(transport, local), self.branch());
        self.cseq += 1;
        (octets.len() <= LONGEST).then_some(Sent { octets, branch })
    }

    pub(super) fn octets(&self, transport: Transport, local: &str) -> Vec<u8> {
        let Self { message, account, target, cseq, .. } = self;
        let [call_id, tag, cnonce] = [0..16, 16..24, 40..48].map(|part| hex(&message.chance[part]));
        let credentials = self.answered.iter().filter_map(|Answered { challenge, uses, .. }| {
            let account = account.filter(|account| account.is_for(&challenge.realm, target))?;
            Some((challenge.asker.field(), challenge.answer(account, target, &cnonce, *uses)))
        });
        let credentials: Vec<_> = credentials.collect();
        let (branch, cseq) = (self.branch(), *cseq);
        let (branch, tag, call_id, credentials) = (branch.as_str(), &*tag, &*call_id, &*credentials);
        message.write(&Head { target, transport, local, branch, tag, call_id, cseq, credentials })
    }

    /// It begins with the cookie of section 8.1.1.7.
    fn branch(&self) -> String {
        format!("z9hG4bK{}{}", hex(&self.message.chance[24..40]), self.cseq)
    }

    /// What comes after this answer.
    pub fn hear(&mut self, response: &Response) -> Next {
        let goes_on = match response.status {
            401 | 407 => self.answer(response),
            300..=399 => self.redirect(response),
            _ => false,
        };
        match goes_on {
            true => Next::Again,
            false => Next::Done(Answer::Sip { status: response.status, retry_after: response.retry_after() }),
        }
    }

    /// Takes the challenges up that are to be answered, the first of each realm; whether there was one.
    fn answer(&mut self, response: &Response) -> bool {
        let Some(account) = self.account else { return false };
        let asked = |challenge: &Challenge| (challenge.asker, challenge.realm.clone());
        let mut seen = Vec::new();
        let mut is_new = false;
        for challenge in digest::challenges(response) {
            if seen.contains(&asked(&challenge)) || !account.is_for(&challenge.realm, &self.target) {
                continue;
            }
            seen.push(asked(&challenge));
            let before = self.answered.iter().position(|answered| asked(&answered.challenge) == asked(&challenge));
            match before.map(|at| &mut self.answered[at]) {
                None => self.answered.push(Answered { challenge, uses: 0, is_renewed: false }),
                Some(before) if challenge.is_stale && !before.is_renewed => {
                    *before = Answered { challenge, uses: 0, is_renewed: true };
                }
                // The credentials are wrong.
                Some(_) => return false,
            }
            is_new = true;
        }
        is_new
    }

    /// Goes to another place; whether there is one.
    fn redirect(&mut self, response: &Response) -> bool {
        let contact = response.contact().filter(|contact| contact.is_secure() || !self.target.is_secure());
        let Some(contact) = contact.filter(|contact| !self.is_redirected && *contact != self.target) else {
            return false;
        };
        self.target = contact;
        self.is_redirected = true;
        true
    }
}

impl Sent {
    /// Whether this answers it.
    pub fn is_answered_by(&self, response: &Response) -> bool {
        response.is_to(&self.branch)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::outband::sip::digest::tests::{NONCE, TARGET, account, answer};

    const LOCAL: &str = "127.0.0.1:25061";

    fn message(to: &str) -> Message {
        Message {
            to: to.parse().unwrap(),
            from: "sip:notifier@example.com".parse().unwrap(),
            headers: vec![("Priority", "urgent".to_owned()), ("Content-Type", "text/plain;charset=UTF-8".to_owned())],
            body: b"<juliet@example.org> wrote: Contact me immediately!".to_vec(),
            chance: std::array::from_fn(|at| at as u8),
        }
    }

    fn response(status: u16, fields: &str) -> Response {
        Response::datagram(format!("SIP/2.0 {status} x\r\n{fields}\r\n\r\n").as_bytes()).unwrap()
    }

    fn challenge(field: &str, realm: &str, rest: &str) -> String {
        format!("{field}: Digest realm=\"{realm}\", nonce=\"{NONCE}\", qop=\"auth\"{rest}")
    }

    /// The next request.
    fn next(exchange: &mut Exchange<'_>) -> String {
        String::from_utf8(exchange.request(Transport::Udp, LOCAL).unwrap().octets).unwrap()
    }

    /// The values of a field.
    fn values<'a>(request: &'a str, field: &str) -> Vec<&'a str> {
        let head = request.split("\r\n\r\n").next().unwrap_or_default();
        head.lines().filter_map(|line| line.strip_prefix(field)?.strip_prefix(": ")).collect()
    }

    const DONE: fn(u16) -> Next = |status| Next::Done(Answer::Sip { status, retry_after: None });

    #[test]
    fn the_worked_example_of_the_digest_of_notifications() {
        for algorithm in ["SHA-256", "MD5"] {
            let example = format!(
                "MESSAGE {TARGET} SIP/2.0\r\n\
                 Via: SIP/2.0/UDP {LOCAL};branch=z9hG4bK776sgdkse2;rport\r\n\
                 Max-Forwards: 70\r\n\
                 From: <sip:notifier@example.com>;tag=32328\r\n\
                 To: <sip:romeo@example.com>\r\n\
                 Call-ID: asd88asd77a@127.0.0.1\r\n\
                 CSeq: 2 MESSAGE\r\n\
                 Authorization: {}\r\n\
                 Priority: urgent\r\n\
                 Content-Type: text/plain;charset=UTF-8\r\n\
                 Content-Length: 51\r\n\r\n\
                 <juliet@example.org> wrote: Contact me immediately!",
                answer(algorithm, "", 1)
            );
            let credentials = [("Authorization", answer(algorithm, "", 1))];
            let head = Head {
                target: &TARGET.parse().unwrap(),
                transport: Transport::Udp,
                local: LOCAL,
                branch: "z9hG4bK776sgdkse2",
                tag: "32328",
                call_id: "asd88asd77a@127.0.0.1",
                cseq: 2,
                credentials: &credentials,
            };
            let written = message("sip:romeo@example.com").write(&head);
            assert_eq!(String::from_utf8(written).unwrap(), example);
            // The digest counts 652: there the lines are as here.
            assert_eq!(example.len(), if algorithm == "MD5" { 616 } else { 652 });
        }
    }

    #[test]
    fn after_a_challenge_branch_and_cseq_are_new_and_the_rest_is_not() {
        let (message, account) = (message(TARGET), account(&["example.com"], true));
        let mut exchange = Exchange::new(&message, Some(&account));
        let first = next(&mut exchange);
        assert!(first.starts_with("MESSAGE sip:romeo@127.0.0.1:25060 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:25061;"));
        assert!(values(&first, "Authorization").is_empty() && values(&first, "Contact").is_empty());
        let asked = response(401, &challenge("WWW-Authenticate", "example.com", ", algorithm=SHA-256"));
        assert_eq!(exchange.hear(&asked), Next::Again);
        let again = next(&mut exchange);
        for (field, one, two) in [
            ("CSeq", "1 MESSAGE", "2 MESSAGE"),
            (
                "Via",
                "SIP/2.0/UDP 127.0.0.1:25061;branch=z9hG4bK18191a1b1c1d1e1f20212223242526271;rport",
                "SIP/2.0/UDP 127.0.0.1:25061;branch=z9hG4bK18191a1b1c1d1e1f20212223242526272;rport",
            ),
            ("Call-ID", "000102030405060708090a0b0c0d0e0f", "000102030405060708090a0b0c0d0e0f"),
            (
                "From",
                "<sip:notifier@example.com>;tag=1011121314151617",
                "<sip:notifier@example.com>;tag=1011121314151617",
            ),
            ("To", "<sip:romeo@127.0.0.1>", "<sip:romeo@127.0.0.1>"),
        ] {
            assert_eq!((values(&first, field), values(&again, field)), (vec![one], vec![two]));
        }
        let credentials = values(&again, "Authorization");
        assert!(credentials[0].contains("algorithm=SHA-256, cnonce=\"28292a2b2c2d2e2f\", qop=auth, nc=00000001"));
        assert_eq!(exchange.hear(&asked), DONE(401), "the password is wrong");
    }

    #[test]
    fn the_first_algorithm_that_we_know_is_taken() {
        let (message, account) = (message(TARGET), account(&["example.com"], true));
        let asked: Vec<_> = ["SHA-3", "SHA-512-256", "MD5"]
            .map(|name| challenge("WWW-Authenticate", "example.com", &format!(", algorithm={name}")))
            .into();
        let mut exchange = Exchange::new(&message, Some(&account));
        assert_eq!(exchange.hear(&response(401, &asked.join("\r\n"))), Next::Again);
        let request = next(&mut exchange);
        assert!(values(&request, "Authorization")[0].contains("algorithm=SHA-512-256,"), "{request}");
        assert_eq!(values(&request, "Authorization").len(), 1);
    }

    #[test]
    fn a_proxy_and_the_server_behind_it_may_both_ask() {
        let (message, account) = (message(TARGET), account(&["proxy", "server"], true));
        let mut exchange = Exchange::new(&message, Some(&account));
        assert_eq!(exchange.hear(&response(407, &challenge("Proxy-Authenticate", "proxy", ""))), Next::Again);
        next(&mut exchange);
        assert_eq!(exchange.hear(&response(401, &challenge("WWW-Authenticate", "server", ""))), Next::Again);
        let request = next(&mut exchange);
        assert!(values(&request, "Proxy-Authorization")[0].ends_with("nc=00000002"), "{request}");
        assert!(values(&request, "Authorization")[0].ends_with("nc=00000001"), "{request}");
        // Both at once, as a proxy that forks says it; what nobody knows is passed over.
        let mut exchange = Exchange::new(&message, Some(&account));
        let both = [challenge("WWW-Authenticate", "server", ""), challenge("Proxy-Authenticate", "other", "")];
        assert_eq!(exchange.hear(&response(401, &both.join("\r\n"))), Next::Again);
        assert!(values(&next(&mut exchange), "Proxy-Authorization").is_empty());
    }

    #[test]
    fn a_nonce_that_was_too_old_is_renewed_once() {
        let (message, account) = (message(TARGET), account(&["example.com"], true));
        let mut exchange = Exchange::new(&message, Some(&account));
        let asked = |rest: &str| response(401, &challenge("WWW-Authenticate", "example.com", rest));
        assert_eq!(exchange.hear(&asked("")), Next::Again);
        next(&mut exchange);
        assert_eq!(exchange.hear(&asked(", stale=true")), Next::Again);
        assert!(values(&next(&mut exchange), "Authorization")[0].ends_with("nc=00000001"));
        assert_eq!(exchange.hear(&asked(", stale=true")), DONE(401));
    }

    #[test]
    fn who_is_not_known_is_not_answered() {
        let message = message("sip:romeo@evil.example");
        let asked = response(401, &challenge("WWW-Authenticate", "example.com", ""));
        assert_eq!(Exchange::new(&message, None).hear(&asked), DONE(401));
        let account = account(&["example.com"], false);
        assert_eq!(Exchange::new(&message, Some(&account)).hear(&asked), DONE(401));
        let basic = response(401, "WWW-Authenticate: Basic realm=\"example.com\"");
        assert_eq!(Exchange::new(&message, Some(&account)).hear(&basic), DONE(401));
    }

    #[test]
    fn one_redirection_is_followed_and_none_out_of_tls() {
        let message = message("sip:romeo@example.com");
        let mut exchange = Exchange::new(&message, None);
        next(&mut exchange);
        let there = response(302, "Contact: <sip:romeo@192.0.2.4:5070>");
        assert_eq!(exchange.hear(&there), Next::Again);
        assert_eq!(exchange.target().to_string(), "sip:romeo@192.0.2.4:5070");
        let request = next(&mut exchange);
        assert!(request.starts_with("MESSAGE sip:romeo@192.0.2.4:5070 SIP/2.0\r\n"));
        assert_eq!(
            (values(&request, "To"), values(&request, "CSeq")),
            (vec!["<sip:romeo@example.com>"], vec!["2 MESSAGE"])
        );
        assert_eq!(exchange.hear(&response(302, "Contact: <sip:romeo@192.0.2.5>")), DONE(302));
        let mut exchange = Exchange::new(&message, None);
        assert_eq!(exchange.hear(&response(302, "Contact: <sip:romeo@example.com>")), DONE(302), "the same place");
        assert_eq!(exchange.hear(&response(300, "X: y")), DONE(300));
        let secure = self::message("sips:romeo@example.com");
        assert_eq!(Exchange::new(&secure, None).hear(&there), DONE(302));
        let there = response(302, "Contact: <sips:romeo@192.0.2.4>");
        assert_eq!(Exchange::new(&secure, None).hear(&there), Next::Again);
    }

    #[test]
    fn credentials_do_not_follow_a_redirection_out_of_their_domain() {
        let message = message("sip:romeo@ims.example.com");
        let account = account(&["example.com"], false);
        for (there, follows) in [("sip:romeo@example.com", true), ("sip:romeo@example.net", false)] {
            let mut exchange = Exchange::new(&message, Some(&account));
            let asked = response(401, &challenge("WWW-Authenticate", "example.com", ""));
            assert_eq!(exchange.hear(&asked), Next::Again);
            assert_eq!(values(&next(&mut exchange), "Authorization").len(), 1);
            assert_eq!(exchange.hear(&response(302, &format!("Contact: <{there}>"))), Next::Again);
            assert_eq!(!values(&next(&mut exchange), "Authorization").is_empty(), follows, "{there}");
        }
    }

    #[test]
    fn a_request_that_became_too_long_is_not_sent() {
        let mut message = message(TARGET);
        message.body = vec![b'x'; message.room(true)];
        let account = account(&["example.com"], true);
        let mut exchange = Exchange::new(&message, Some(&account));
        // The room is counted for the longest Via and for credentials of this length.
        let nonce = "n".repeat(181);
        let asked = |nonce: &str| {
            response(
                401,
                &format!("WWW-Authenticate: Digest realm=\"example.com\", nonce=\"{nonce}\", algorithm=SHA-512-256"),
            )
        };
        assert_eq!(exchange.hear(&asked(&nonce)), Next::Again);
        let len =
            exchange.request(Transport::Udp, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535").unwrap().octets.len();
        assert!((LONGEST - 20..=LONGEST).contains(&len), "{len}");
        let mut exchange = Exchange::new(&message, Some(&account));
        assert_eq!(exchange.hear(&asked(&nonce.repeat(2))), Next::Again);
        assert!(exchange.request(Transport::Udp, LOCAL).is_none());
    }

    #[test]
    fn the_last_word_is_handed_on() {
        let message = message(TARGET);
        for status in [200, 202, 404, 486, 603] {
            assert_eq!(Exchange::new(&message, None).hear(&response(status, "")), DONE(status));
        }
        let busy = Answer::Sip { status: 503, retry_after: Some(Duration::from_secs(30)) };
        assert_eq!(Exchange::new(&message, None).hear(&response(503, "Retry-After: 30")), Next::Done(busy));
    }

    #[test]
    fn neither_address_nor_text_prints() {
        let message = message(TARGET);
        let shown = format!("{message:?} {:?}", Exchange::new(&message, Some(&account(&[], true))));
        assert!(["romeo", "juliet", "s3cret"].iter().all(|secret| !shown.contains(secret)), "{shown}");
    }
}
