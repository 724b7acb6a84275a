//! IMAP URLs: a server, a mailbox of it, a message in that (RFC 5092).
//!
//!     imap://joe@192.0.2.10:1143/Entw%C3%BCrfe;UIDVALIDITY=385759045/;UID=17
//!
//! Names of mailboxes are UTF-8 there, with `%` for what may not stand as it is.

use std::fmt;

use super::mailbox_name;

/// What a URL names. Without a mailbox it is the server; a message is in a mailbox.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImapUrl<'a> {
    /// Who would ask.
    pub user: Option<&'a str>,
    /// A name, or an address.
    pub host: &'a str,
    /// 143 is not said.
    pub port: u16,
    /// As it stands on the wire.
    pub mailbox: Option<&'a [u8]>,
    /// The mailbox's.
    pub uidvalidity: Option<u32>,
    /// The message.
    pub uid: Option<u32>,
}

impl fmt::Display for ImapUrl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("imap://")?;
        if let Some(user) = self.user {
            write!(f, "{}@", Encoded(user.as_bytes(), ""))?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(self.host)?,
        }
        if self.port != 143 {
            write!(f, ":{}", self.port)?;
        }
        f.write_str("/")?;
        if let Some(name) = self.mailbox {
            let text = mailbox_name::decoded(name);
            write!(f, "{}", Encoded(text.as_deref().map_or(name, str::as_bytes), ":@/"))?;
        }
        if let Some(uidvalidity) = self.uidvalidity {
            write!(f, ";UIDVALIDITY={uidvalidity}")?;
        }
        match self.uid {
            Some(uid) => write!(f, "/;UID={uid}"),
            None => Ok(()),
        }
    }
}

/// Octets with `%` for all that is no achar (RFC 5092 section 11), nor one of these.
struct Encoded<'a>(&'a [u8], &'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;

        self.0.iter().try_for_each(|octet| {
            let stands = octet.is_ascii_alphanumeric() || b"-._~!$'()*+,&=".contains(octet);
            match stands || self.1.as_bytes().contains(octet) {
                true => f.write_char(char::from(*octet)),
                false => write!(f, "%{octet:02X}"),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_server_a_mailbox_or_a_message() {
        let server = ImapUrl { user: Some("joe@example.org"), host: "192.0.2.10", port: 143, ..ImapUrl::default() };
        let mailbox = ImapUrl { mailbox: Some(b"Work/Entw&APw-rfe; x"), ..server };
        let table = [
            (server, "imap://joe%40example.org@192.0.2.10/"),
            (ImapUrl { user: None, host: "2001:db8::1", port: 993, ..server }, "imap://[2001:db8::1]:993/"),
            (mailbox, "imap://joe%40example.org@192.0.2.10/Work/Entw%C3%BCrfe%3B%20x"),
            (ImapUrl { mailbox: Some(b"&"), ..server }, "imap://joe%40example.org@192.0.2.10/&"),
            (ImapUrl { mailbox: Some(b"B\xfcro"), ..server }, "imap://joe%40example.org@192.0.2.10/B%FCro"),
            (
                ImapUrl { mailbox: Some(b"A"), uidvalidity: Some(7), uid: Some(17), ..server },
                "imap://joe%40example.org@192.0.2.10/A;UIDVALIDITY=7/;UID=17",
            ),
        ];
        for (url, written) in table {
            assert_eq!(url.to_string(), written);
        }
    }
}
