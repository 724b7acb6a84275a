//! XMPP, as far as one sends messages by it and hears what becomes of them: no roster, no presence, no socket, no clock.
//!
//!     component (XEP-0114)                         client (RFC 6120)
//!     <stream:stream to='notify.example.com'>      <stream:stream to='example.com'>
//!     <handshake>aaee83c2...</handshake>           STARTTLS, SASL PLAIN over TLS, a resource
//!                 <message to='romeo@example.com' id='9c41...'>...</message>
//!
//! | module | question |
//! |---|---|
//! | [`message`] | what is sent, and what does an error mean? |
//! | [`identity`] | who are we? |
//! | [`stream`] | what was heard? |
//! | [`link`] | what is said when, and what is waited for? |
//!
//! `io/carrier/xmpp.rs` drives it. Requirement N20.

pub mod identity;
pub mod link;
pub mod message;
pub mod stream;
