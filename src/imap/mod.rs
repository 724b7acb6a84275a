//! The language of IMAP, with no opinion about sessions.
