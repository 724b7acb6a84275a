//! The mailboxes of the bench's backend that grow: `news`, which is everybody's, and INBOX, which each user has for himself.
//!
//!     APPEND INBOX {66}  ->  one message more, and who has it open hears of it
//!     --keep FILE            has a line for each, the mailbox: who is killed and started again has what he has said OK to
//!
//! The n-th message of a mailbox has UID n; none is ever removed.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::Path,
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;

/// All of them.
#[derive(Default)]
pub struct Growing {
    counts: Mutex<HashMap<String, watch::Sender<u64>>>,
    kept: Option<File>,
}

impl Growing {
    /// With what an earlier process has kept in this file, if there is to be one.
    pub fn open(keep: Option<&Path>) -> io::Result<Self> {
        let Some(keep) = keep else { return Ok(Self::default()) };
        let kept = OpenOptions::new().create(true).append(true).open(keep)?;
        let growing = Self { kept: Some(kept), ..Self::default() };
        for name in fs::read_to_string(keep)?.lines() {
            growing.count(name).send_modify(|count| *count += 1);
        }
        Ok(growing)
    }

    /// How many messages there are in the mailbox of this name.
    pub fn count(&self, name: &str) -> watch::Sender<u64> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.entry(name.to_owned()).or_default().clone()
    }

    /// One more: its UID.
    pub fn add(&self, name: &str) -> io::Result<u64> {
        if let Some(mut kept) = self.kept.as_ref() {
            kept.write_all(format!("{name}\n").as_bytes())?;
        }
        let count = self.count(name);
        count.send_modify(|count| *count += 1);
        Ok(*count.borrow())
    }
}

/// What the mailbox is called among all of them, if it is one that grows: no user has a name with a slash.
pub fn name(user: &str, mailbox: &str) -> Option<String> {
    match mailbox {
        "news" => Some("news".to_owned()),
        mailbox if mailbox.eq_ignore_ascii_case("INBOX") => Some(format!("{user}/INBOX")),
        _ => None,
    }
}
