//! THE TABLE of what known servers do that the RFCs do not say: how each is recognised, and what follows for us.
//!
//!     S: * OK [CAPABILITY IMAP4rev1 UIDPLUS ...] Courier-IMAP ready. Copyright ...
//!
//! An operator may name a profile; otherwise the greeting tells. A server that is in no row is held to the RFCs.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::imap::capability::Capabilities;

/// What a server is like.
#[derive(Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Words of its greeting, any of which tells it.
    greetings: &'static [&'static str],
    /// With these words its list of capabilities begins, in this order; empty for a server that its greeting tells.
    capabilities: &'static str,
    /// It reads on behind LOGIN in the same buffer, so that a command may be sent together with it. A server whose login
    /// is a program of its own may lose what that program has read.
    pub reads_behind_login: bool,
    /// How it tells what happens in the selected mailbox; none: as its capabilities say, until it is found out.
    pub look: Option<Look>,
    /// It tells nobody which messages EXPUNGE has removed, the client that said it included.
    pub silent_expunge: bool,
    /// Its UIDNEXT grows whenever somebody asks: that it has grown does not mean that a message has come.
    pub moves_uidnext: bool,
    /// Extensions that cannot be synthesised honestly on top of it.
    pub unfit: &'static [&'static str],
    /// Extensions that it offers and does not keep: ours are taken instead.
    pub unkept: &'static [&'static str],
    /// What else one has to know of it; for the operator.
    pub peculiarities: &'static str,
}

/// A server that is in no row.
pub static UNKNOWN: Profile = Profile {
    name: "unknown",
    greetings: &[],
    capabilities: "",
    reads_behind_login: true,
    look: None,
    silent_expunge: false,
    moves_uidnext: false,
    unfit: &[],
    unkept: &[],
    peculiarities: "nothing known: held to the RFCs",
};

/// How a backend tells what happens in the selected mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Look {
    /// By itself, in IDLE.
    Idle,
    /// When it is asked, by NOOP.
    Noop,
    /// Not at all: STATUS tells that something is new, and only who selects the mailbox again sees it.
    Reselect,
}

impl Look {
    /// What is left when it turns out that this one tells nothing.
    pub const fn next(self) -> Self {
        match self {
            Self::Idle => Self::Noop,
            Self::Noop | Self::Reselect => Self::Reselect,
        }
    }

    /// Its name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Noop => "noop",
            Self::Reselect => "reselect",
        }
    }
}

/// The rows.
static TABLE: [Profile; 6] = [
    Profile {
        name: "courier",
        greetings: &["Courier-IMAP"],
        capabilities: "",
        reads_behind_login: false,
        look: Some(Look::Noop),
        silent_expunge: false,
        moves_uidnext: false,
        unfit: &[],
        unkept: &[],
        peculiarities: "NO to unknown commands; prefix INBOX.; runs the content of {n+} as commands; IDLE looks once a minute",
    },
    Profile {
        name: "cyrus",
        greetings: &["Cyrus IMAP"],
        capabilities: "",
        reads_behind_login: true,
        look: Some(Look::Idle),
        silent_expunge: false,
        moves_uidnext: false,
        unfit: &[],
        unkept: &[],
        peculiarities: "announces nearly all it can before login",
    },
    Profile {
        name: "dovecot",
        greetings: &["Dovecot"],
        capabilities: "",
        reads_behind_login: true,
        look: Some(Look::Idle),
        silent_expunge: false,
        moves_uidnext: false,
        unfit: &[],
        unkept: &["NOTIFY"],
        peculiarities: "imap_capability hides words and switches nothing off; runs the content of {n+} behind unknown commands; NOTIFY \
                        that tells nothing of the selected mailbox",
    },
    Profile {
        name: "exchange",
        greetings: &["Microsoft Exchange"],
        capabilities: "",
        reads_behind_login: true,
        look: None,
        silent_expunge: false,
        moves_uidnext: false,
        unfit: &[],
        unkept: &[],
        peculiarities: "sizes are estimates",
    },
    Profile {
        name: "groupwise",
        greetings: &["GroupWise"],
        capabilities: "",
        reads_behind_login: true,
        look: Some(Look::Noop),
        silent_expunge: false,
        moves_uidnext: false,
        unfit: &[],
        unkept: &[],
        peculiarities: "IMAP4rev1 and STARTTLS, and nothing unasked",
    },
    Profile {
        name: "mailutils",
        greetings: &["IMAP4rev1 Debian", "GNU mailutils", "IMAP4D"],
        capabilities: "IMAP4rev1 NAMESPACE ID IDLE LITERAL+ UNSELECT",
        reads_behind_login: true,
        look: Some(Look::Reselect),
        silent_expunge: true,
        moves_uidnext: true,
        // Each STATUS moves UIDNEXT, and with it the UIDs that messages get in the end.
        unfit: &["UIDPLUS"],
        unkept: &[],
        peculiarities: "IDLE that never reports, NOOP that does not tell of new mail, EXPUNGE without EXPUNGE responses, STATUS that moves UIDNEXT",
    },
];

/// The profile of this name.
pub fn find(name: &str) -> Option<&'static Profile> {
    TABLE.iter().find(|profile| profile.name.eq_ignore_ascii_case(name))
}

/// The names there are.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|profile| profile.name)
}

/// Words of greetings, ready to be looked for: each login does it.
static TELLING: LazyLock<Vec<(Finder<'static>, &'static Profile)>> = LazyLock::new(|| {
    TABLE.iter().flat_map(|profile| profile.greetings.iter().map(move |word| (Finder::new(word), profile))).collect()
});

impl Profile {
    /// This one, or where it is not known: of the server that has these capabilities, if no other has them in this order.
    pub fn or_told_by(&'static self, capabilities: &Capabilities) -> &'static Self {
        let text = capabilities.text();
        let begins = |profile: &&Self| !profile.capabilities.is_empty() && text.starts_with(profile.capabilities);
        let told = || TABLE.iter().find(begins);
        if *self == UNKNOWN { told().unwrap_or(self) } else { self }
    }
}

/// The profile that the text of a greeting tells.
pub fn recognise(greeting: &[u8]) -> &'static Profile {
    let telling = TELLING.iter().find(|(word, _)| word.find(greeting).is_some());
    telling.map_or(&UNKNOWN, |(_, profile)| profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_tells_the_server() {
        let table = [
            ("* OK [CAPABILITY IMAP4rev1 UIDPLUS] Courier-IMAP ready. Copyright 1998-2022", "courier"),
            ("* OK [CAPABILITY IMAP4rev1 LITERAL+] Dovecot (Debian) ready.", "dovecot"),
            ("* OK [CAPABILITY IMAP4rev1] localhost Cyrus IMAP 3.6.1-Debian server ready", "cyrus"),
            ("* OK The Microsoft Exchange IMAP4 service is ready.", "exchange"),
            ("* OK ready", "unknown"),
        ];
        for (greeting, name) in table {
            assert_eq!(recognise(greeting.as_bytes()).name, name);
        }
        let told = |words: &str| UNKNOWN.or_told_by(&Capabilities::parse(words.as_bytes())).name;
        assert_eq!(told("IMAP4rev1 NAMESPACE ID IDLE LITERAL+ UNSELECT STARTTLS"), "mailutils");
        assert_eq!(told("IMAP4rev1 IDLE NAMESPACE"), "unknown");
        assert_eq!(find("Courier"), Some(&TABLE[0]));
        assert_eq!(names().count(), TABLE.len());
    }
}
