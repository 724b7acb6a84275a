//! `O:` at a real server: a session of its own for each deed.

use super::{Live, PATIENCE, Place, Stream, talk::Talk};
use crate::{
    model::Message,
    transcript::{flags_of, read::numbered},
};

impl Live<'_> {
    /// Somebody else changes something.
    pub(super) fn other(&mut self, what: &str) -> Result<(), String> {
        let place = self.place;
        let words: Vec<&str> = what.split_whitespace().collect();
        // Annotations may be the proxy's.
        let by_the_proxy = matches!(words[..], ["annotated" | "metadata", ..]);
        let mut talk = session(place, if by_the_proxy { place.client } else { place.behind })?;
        match words.as_slice() {
            ["append", mailbox, messages @ ..] => {
                for word in messages {
                    let (uid, flags) = numbered(word)?;
                    append(&mut talk, mailbox, &flags, None, &Message::plain(uid))?;
                    talk.is_there(mailbox, uid)?;
                }
            }
            ["expunge", mailbox, uids @ ..] => {
                let uids = uids.join(",");
                talk.ok(&format!("SELECT \"{mailbox}\""))?;
                talk.ok(&format!("UID STORE {uids} +FLAGS.SILENT (\\Deleted)"))?;
                talk.ok(&format!("UID EXPUNGE {uids}"))?;
            }
            ["flags", mailbox, uid, flags @ ..] => {
                talk.ok(&format!("SELECT \"{mailbox}\""))?;
                talk.ok(&format!("UID STORE {uid} FLAGS.SILENT ({})", flags.join(" ")))?;
            }
            [verb @ ("create" | "delete" | "subscribe" | "unsubscribe"), mailbox] => {
                talk.ok(&format!("{verb} \"{mailbox}\""))?;
            }
            ["rename", from, to] => drop(talk.ok(&format!("RENAME \"{from}\" \"{to}\""))?),
            ["annotated", mailbox, entry] => {
                talk.ok(&format!("SETMETADATA \"{}\" ({entry} \"changed\")", mailbox.trim_matches('"')))?;
            }
            ["metadata", mailbox, entry, value @ ..] => {
                let value = value.join(" ");
                let value = if value == "NIL" { value } else { format!("\"{}\"", value.trim_matches('"')) };
                talk.ok(&format!("SETMETADATA \"{}\" ({entry} {value})", mailbox.trim_matches('"')))?;
            }
            _ => return Err("something that one can do at a server".to_owned()),
        }
        talk.ok("LOGOUT").map(drop)
    }
}

/// A session that has logged in.
pub(super) fn session(place: &Place<'_>, connect: Connect<'_>) -> Result<Talk, String> {
    let mut talk = Talk::new(connect(PATIENCE).map_err(|error| error.to_string())?);
    talk.greeting()?;
    talk.ok(&format!("LOGIN {} {}", place.user, place.password))?;
    Ok(talk)
}

type Connect<'a> = &'a dyn Fn(std::time::Duration) -> std::io::Result<Box<dyn Stream>>;

/// Stores a message.
pub(super) fn append(
    talk: &mut Talk,
    mailbox: &str,
    flags: &str,
    date: Option<&str>,
    octets: &[u8],
) -> Result<(), String> {
    let date = date.map(|date| format!(" \"{date}\"")).unwrap_or_default();
    talk.ok_with(&format!("APPEND \"{mailbox}\" ({}){date}", flags_of(flags).join(" ")), octets).map(drop)
}

impl Talk {
    /// Whether a mailbox has given this UID away last.
    pub(super) fn is_there(&mut self, mailbox: &str, uid: u32) -> Result<(), String> {
        match self.uidnext(mailbox)? {
            next if next == uid + 1 => Ok(()),
            next => Err(format!("UIDNEXT of {mailbox} is {next} and not {}", uid + 1)),
        }
    }

    /// The UID that the next message of a mailbox will have.
    pub(super) fn uidnext(&mut self, mailbox: &str) -> Result<u32, String> {
        let said = self.ok(&format!("STATUS \"{mailbox}\" (UIDNEXT)"))?;
        let text = String::from_utf8_lossy(&said.concat()).into_owned();
        let digits = text.rsplit_once("UIDNEXT ").map(|(_, behind)| behind.trim_end_matches(')').to_owned());
        digits.and_then(|digits| digits.parse().ok()).ok_or(format!("no UIDNEXT in {text}"))
    }
}
