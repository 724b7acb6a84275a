//! Who may ask what: the rule, and the token.
//!
//! | | over the socket | over TCP, token configured | over TCP, none configured |
//! |---|---|---|---|
//! | health, metrics, status | yes | yes | yes |
//! | what names a user, or changes anything | yes | with the token | 403 |
//!
//! Loopback is no exception: every local process and every page in a local browser can reach it.

use std::{fmt, fs, io, path::Path};

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret as _, SecretString};

/// By which way a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The admin port.
    Network,
    /// The socket in the state directory, whose permissions let only the owner in.
    Socket,
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// There is no token that could open this door.
    Closed,
    /// The token is missing or wrong.
    Unknown,
}

impl Door {
    /// Whether a request with this `Authorization` may do what names a user.
    pub fn admits(self, token: Option<&Token>, authorization: Option<&[u8]>) -> Result<(), Denied> {
        if self == Self::Socket {
            return Ok(());
        }
        let token = token.ok_or(Denied::Closed)?;
        let given = authorization.and_then(bearer).ok_or(Denied::Unknown)?;
        if token.is(given) { Ok(()) } else { Err(Denied::Unknown) }
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        match self {
            Self::Closed => (StatusCode::FORBIDDEN, "set admin.token_file, or use the socket in the state directory\n")
                .into_response(),
            Self::Unknown => {
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                (StatusCode::UNAUTHORIZED, challenge, "the bearer token is missing or wrong\n").into_response()
            }
        }
    }
}

/// RFC 6750 2.1; the scheme's name is matched without regard to case (RFC 9110 11.1).
fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = authorization.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// The token that opens the admin port.
#[derive(Clone)]
pub struct Token(SecretString);

/// A token file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which file.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// It can be guessed.
    #[error("{path}: a token needs at least {SHORTEST} characters, all of them visible ASCII")]
    Weak {
        /// Which file.
        path: String,
    },
}

/// Shorter tokens could be tried out.
const SHORTEST: usize = 16;

impl Token {
    /// Reads the token: the whole file, without blanks and line ends around it.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let shown = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => Self::new(text.trim()).ok_or(TokenError::Weak { path: shown }),
            Err(source) => Err(TokenError::Read { path: shown, source }),
        }
    }

    /// This text as a token, if it is fit to be one.
    fn new(text: &str) -> Option<Self> {
        let fit = text.len() >= SHORTEST && text.bytes().all(|octet| octet.is_ascii_graphic());
        fit.then(|| Self(text.into()))
    }

    /// Takes as long for a wrong token as for the right one, whichever octet differs.
    fn is(&self, given: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.expose_secret().as_bytes(), given).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "0123456789abcdef";

    #[test]
    fn the_rule() {
        let token = Token::new(GOOD);
        let bearer = |token: &str| Some(format!("Bearer {token}"));
        for (door, token, authorization, expected) in [
            (Door::Socket, None, None, Ok(())),
            (Door::Socket, token.as_ref(), None, Ok(())),
            (Door::Network, None, None, Err(Denied::Closed)),
            (Door::Network, None, bearer(GOOD), Err(Denied::Closed)),
            (Door::Network, None, bearer(""), Err(Denied::Closed)),
            (Door::Network, token.as_ref(), None, Err(Denied::Unknown)),
            (Door::Network, token.as_ref(), bearer(""), Err(Denied::Unknown)),
            (Door::Network, token.as_ref(), bearer("0123456789abcdeF"), Err(Denied::Unknown)),
            (Door::Network, token.as_ref(), bearer("0123456789abcdef0"), Err(Denied::Unknown)),
            (Door::Network, token.as_ref(), bearer("0123456789abcde"), Err(Denied::Unknown)),
            (Door::Network, token.as_ref(), Some(GOOD.to_owned()), Err(Denied::Unknown)),
            (Door::Network, token.as_ref(), Some(format!("Basic {GOOD}")), Err(Denied::Unknown)),
            (Door::Network, token.as_ref(), Some("Bear".to_owned()), Err(Denied::Unknown)),
            (Door::Network, token.as_ref(), bearer(GOOD), Ok(())),
            (Door::Network, token.as_ref(), Some(format!("bearer  {GOOD} ")), Ok(())),
        ] {
            let given = authorization.as_ref().map(String::as_bytes);
            assert_eq!(door.admits(token, given), expected, "{door:?} {token:?} {authorization:?}");
        }
    }

    #[test]
    fn a_token_that_could_be_guessed_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for (text, good) in
            [("", false), ("\n", false), ("short\n", false), ("0123456789 abcdef", false), ("0123456789abcdef\n", true)]
        {
            fs::write(&path, text).unwrap();
            assert_eq!(Token::read(&path).is_ok(), good, "{text:?}");
        }
        assert!(matches!(Token::read(&directory.path().join("none")), Err(TokenError::Read { .. })));
    }

    #[test]
    fn a_token_does_not_print() {
        assert_eq!(format!("{:?}", Token::new(GOOD).unwrap()), "Token");
    }
}
