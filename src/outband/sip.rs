//! SIP, as far as one sends a MESSAGE (RFC 3428) by it: a client without a socket or a clock.
//!
//! | module | question |
//! |---|---|
//! | [`uri`] | who is meant, and by which transport? |
//! | [`message`] | what does the request look like? |
//! | [`exchange`] | what is sent, and what again after the answer: with credentials, to another place, or not at all? |
//! | [`digest`] | how do we prove who we are? |
//! | [`transaction`] | when is a request repeated, and when is it given up? |
//! | [`response`] | what was answered? |
//!
//! Only what a notifier needs: no dialog, no registration, no server. Requirements N20, S1 to S4.

pub mod digest;
pub mod exchange;
pub mod message;
pub mod response;
pub mod transaction;
pub mod uri;

/// The octets in hexadecimal digits.
fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Where the quotation mark is that ends it.
fn end_of_quoted(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|octet| {
        let ends = octet == b'"' && !is_escaped;
        is_escaped = octet == b'\\' && !is_escaped;
        ends
    })
}
