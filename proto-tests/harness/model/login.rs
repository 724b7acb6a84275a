//! From greeting to authenticated: STARTTLS, LOGIN, AUTHENTICATE. RFC 3501 6.2, RFC 4959 (SASL-IR).
//!
//!     C: a AUTHENTICATE PLAIN
//!     S: +
//!     C: AGpvZQBzZWNyZXQ=
//!     S: a OK AUTHENTICATE completed
//!
//! PLAIN, LOGIN, XOAUTH2 and OAUTHBEARER are checked against the users. Of SCRAM and CRAM-MD5 the backend knows one
//! exchange each by heart, the one printed in its RFC: a relay is right when every octet of it arrives.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use super::{
    Connection,
    connection::{End, State},
    store::Store,
    syntax::{Cursor, Malformed, text},
};

/// Where a SASL exchange stands.
#[derive(Debug)]
pub(super) struct Login {
    mechanism: String,
    /// What the client has said so far, decoded.
    said: Vec<Vec<u8>>,
    /// The backend has refused already, and said why in a challenge (RFC 7628 3.2.3).
    refused: bool,
}

/// What comes next in an exchange.
enum Next {
    Challenge(String),
    Refusal(String),
    Yes,
    No,
}

/// Challenges of the backend and what they must be answered with, in turn. An empty challenge comes first where the
/// client speaks first.
type Recorded = (&'static str, &'static [(&'static str, &'static str)]);

/// The examples of RFC 2195 section 2, RFC 5802 section 5 and RFC 7677 section 3.
const RECORDED: &[Recorded] = &[
    ("CRAM-MD5", &[("<1896.697170952@postoffice.reston.mci.net>", "tim b913a602c7eda7a495b4e6e7334d3890")]),
    (
        "SCRAM-SHA-1",
        &[
            ("", "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"),
            (
                "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
                "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            ),
            ("v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", ""),
        ],
    ),
    (
        "SCRAM-SHA-256",
        &[
            ("", "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"),
            (
                "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                 p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            ),
            ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", ""),
        ],
    ),
];

impl Connection {
    fn before_login(&self) -> Result<(), End> {
        match self.state {
            State::NotAuthenticated => Ok(()),
            _ => Err(End::Bad("Already authenticated".to_owned())),
        }
    }

    pub(super) fn starttls(&mut self) -> Result<End, End> {
        self.needs("STARTTLS")?;
        self.before_login()?;
        if self.tls {
            return Err(End::Bad("TLS is running".to_owned()));
        }
        self.tls = true;
        if !self.manners().runs_injected {
            self.forget_input();
        }
        Ok(End::Ok("Begin TLS negotiation now".to_owned()))
    }

    pub(super) fn login(&mut self, mut cursor: Cursor<'_>) -> Result<End, End> {
        self.before_login()?;
        if !self.tls && self.backend.store().settings.has("LOGINDISABLED") {
            return Err(End::No("[PRIVACYREQUIRED] LOGIN disabled".to_owned()));
        }
        let user = cursor.text()?;
        cursor.space()?;
        let password = cursor.text()?;
        cursor.done()?;
        let known = knows(&self.backend.store(), &user, &password);
        Ok(self.end_of_login("LOGIN", known))
    }

    pub(super) fn authenticate(&mut self, tag: &str, mut cursor: Cursor<'_>, out: &mut Vec<u8>) -> Result<End, End> {
        self.before_login()?;
        let mechanism = cursor.word()?.to_uppercase();
        if !self.backend.store().settings.has(&format!("AUTH={mechanism}")) {
            return Err(End::No("No such mechanism".to_owned()));
        }
        let mut login = Login { mechanism, said: Vec::new(), refused: false };
        if cursor.eat(b" ") {
            self.needs("SASL-IR")?;
            let initial = cursor.word()?;
            cursor.done()?;
            // RFC 4959 3: a single "=" is an initial response of no octets.
            let initial = if initial == "=" { String::new() } else { initial };
            login.said.push(BASE64.decode(initial).map_err(|_| Malformed)?);
        } else if login.client_speaks_first() {
            out.extend_from_slice(b"+ \r\n");
            self.state = State::Authenticating { tag: tag.to_owned(), login };
            return Ok(End::Later);
        }
        Ok(self.next_in_login(tag, login, out))
    }

    pub(super) fn go_on_with_login(&mut self, tag: String, mut login: Login, line: &[u8], out: &mut Vec<u8>) {
        let end = match BASE64.decode(line) {
            _ if line == b"*" => End::Bad("AUTHENTICATE cancelled".to_owned()),
            Err(_) => End::Bad("Not base64".to_owned()),
            Ok(said) => {
                login.said.push(said);
                self.next_in_login(&tag, login, out)
            }
        };
        let said = match &end {
            End::Ok(said) => format!("{tag} OK {said}\r\n"),
            End::No(said) => format!("{tag} NO {said}\r\n"),
            End::Bad(said) => format!("{tag} BAD {said}\r\n"),
            End::Later => return,
        };
        out.extend(said.into_bytes());
    }

    fn next_in_login(&mut self, tag: &str, mut login: Login, out: &mut Vec<u8>) -> End {
        let next = login.next(&self.backend.store());
        let challenge = match next {
            Next::Yes => return self.end_of_login("AUTHENTICATE", true),
            Next::No => return self.end_of_login("AUTHENTICATE", false),
            Next::Challenge(challenge) => challenge,
            Next::Refusal(challenge) => {
                login.refused = true;
                challenge
            }
        };
        out.extend(format!("+ {}\r\n", BASE64.encode(challenge)).into_bytes());
        self.state = State::Authenticating { tag: tag.to_owned(), login };
        End::Later
    }

    fn end_of_login(&mut self, verb: &str, known: bool) -> End {
        if !known {
            self.state = State::NotAuthenticated;
            return End::No("[AUTHENTICATIONFAILED] Authentication failed".to_owned());
        }
        self.state = State::Authenticated;
        let store = self.backend.store();
        let code = if store.settings.announces {
            format!("[CAPABILITY {}] ", self.capabilities(&store.settings))
        } else {
            String::new()
        };
        End::Ok(format!("{code}{verb} completed"))
    }
}

impl Login {
    fn client_speaks_first(&self) -> bool {
        self.mechanism != "LOGIN" && self.mechanism != "CRAM-MD5"
    }

    fn next(&self, store: &Store) -> Next {
        if self.refused {
            return Next::No;
        }
        match self.mechanism.as_str() {
            "PLAIN" => {
                let fields: Vec<String> = self.said[0].split(|&octet| octet == 0).map(text).collect();
                verdict(fields.len() == 3 && knows(store, &fields[1], &fields[2]))
            }
            "LOGIN" => match self.said.as_slice() {
                [] => Next::Challenge("Username:".to_owned()),
                [_] => Next::Challenge("Password:".to_owned()),
                [user, password, ..] => verdict(knows(store, &text(user), &text(password))),
            },
            "XOAUTH2" => self.bearer(store, "user=", '\u{1}'),
            "OAUTHBEARER" => self.bearer(store, "a=", ','),
            "EXTERNAL" => Next::Yes,
            _ => self.recorded(),
        }
    }

    /// RFC 7628: a token that is not good is answered with a challenge that says so, and only then with NO.
    fn bearer(&self, store: &Store, before: &str, behind: char) -> Next {
        let message = text(&self.said[0]);
        let user = message.split_once(before).and_then(|(_, rest)| rest.split(behind).next()).unwrap_or_default();
        let token = message.split_once("auth=Bearer ").and_then(|(_, rest)| rest.split('\u{1}').next());
        if token.is_some_and(|token| knows(store, user, token)) {
            return Next::Yes;
        }
        Next::Refusal(r#"{"status":"invalid_token"}"#.to_owned())
    }

    fn recorded(&self) -> Next {
        let Some((_, exchange)) = RECORDED.iter().find(|(name, _)| *name == self.mechanism) else { return Next::No };
        let skipped = usize::from(self.client_speaks_first() && self.said.is_empty());
        let right = self.said.iter().zip(*exchange).all(|(said, (_, expected))| said == expected.as_bytes());
        match exchange.get(self.said.len() + skipped) {
            _ if !right => Next::No,
            None => Next::Yes,
            Some((challenge, _)) => Next::Challenge((*challenge).to_owned()),
        }
    }
}

fn verdict(known: bool) -> Next {
    if known { Next::Yes } else { Next::No }
}

fn knows(store: &Store, user: &str, password: &str) -> bool {
    store.settings.users.iter().any(|(name, secret)| name == user && secret == password)
}
