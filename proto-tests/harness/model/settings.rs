//! What a model backend advertises, and the manners it has.

use super::syntax::astring;

/// How one model backend differs from the next.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it says to CAPABILITY, in this order. A capability that stands here is one that it has.
    pub capabilities: Vec<String>,
    /// Whether greeting and the OK of a login carry a CAPABILITY code.
    pub announces: bool,
    /// What stands behind `* OK ` in the greeting.
    pub greeting: String,
    /// Name and password of each user.
    pub users: Vec<(String, String)>,
    /// The hierarchy separator.
    pub separator: char,
    /// What NAMESPACE answers.
    pub namespace: String,
    /// What ID answers.
    pub id: String,
    /// The octets of the largest value an annotation may have (RFC 5464 4.1: at least 1024).
    pub largest_value: usize,
    /// How many annotations a mailbox, or the server, may have (RFC 5464 4.1: at least 10).
    pub most_entries: usize,
    /// What a real server does although it should not, or would rather not.
    pub mischief: Mischief,
    /// Where its own choices begin.
    pub seed: u64,
}

/// Manners that a proxy must live with. All off: a polite server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mischief {
    /// Ends pipelined commands in any order that RFC 3501 5.5 permits (Dovecot).
    pub reorders: bool,
    /// Puts EXPUNGE before, between and behind the answers of UID commands.
    pub early_expunge: bool,
    /// Tells nothing while it idles, and everything between DONE and the tagged OK.
    pub lazy_idle: bool,
    /// Tells nothing in IDLE, and nothing at its end: the next command does.
    pub deaf_idle: bool,
    /// Tells nothing of what others do in the selected mailbox, nor shows it, until it is selected again (GNU mailutils).
    pub snapshot: bool,
    /// Writes `UID n` as the first item (Dovecot) instead of the last one, behind the literals.
    pub uid_first: bool,
    /// Never says EXPUNGE: messages just go (GNU mailutils).
    pub silent_expunge: bool,
    /// Never says EXISTS unasked, whatever arrives (GNU mailutils).
    pub silent_arrival: bool,
    /// SEARCH results in any order.
    pub unsorted_search: bool,
    /// Says EXISTS twice inside SELECT.
    pub exists_twice: bool,
    /// Reads no literal behind verbs that take none: runs the content of `{n+}` as commands (Dovecot behind NOOP).
    pub lazy_literals: bool,
    /// Refuses every literal before its octets.
    pub refuses_literals: bool,
    /// Says NO instead of BAD to a verb it does not know (Courier).
    pub no_to_unknown: bool,
    /// Runs what was sent in clear behind STARTTLS.
    pub runs_injected: bool,
    /// Tells news as soon as it can, not only at the end of a command.
    pub chatty: bool,
    /// Writes every mailbox name as a literal; real servers do so where a name has quotes or eight bits.
    pub literal_names: bool,
}

/// The verbs of every server that take arguments.
const WITH_ARGUMENTS: &[&str] = &[
    "APPEND",
    "COPY",
    "CREATE",
    "DELETE",
    "EXAMINE",
    "FETCH",
    "ID",
    "LIST",
    "LOGIN",
    "LSUB",
    "MOVE",
    "RENAME",
    "SEARCH",
    "SELECT",
    "STATUS",
    "STORE",
    "SUBSCRIBE",
    "UID",
    "UNSUBSCRIBE",
];

impl Default for Settings {
    fn default() -> Self {
        Self {
            capabilities: vec!["IMAP4rev1".into()],
            announces: false,
            greeting: "IMAP4rev1 Service Ready".into(),
            users: vec![("joe".into(), "secret".into())],
            separator: '/',
            namespace: r#"(("" "/")) NIL NIL"#.into(),
            id: "NIL".into(),
            largest_value: 64 << 10,
            most_entries: 100,
            mischief: Mischief::default(),
            seed: 0,
        }
    }
}

impl Settings {
    /// The default, with these capabilities.
    pub fn with(capabilities: &str) -> Self {
        Self { capabilities: capabilities.split_whitespace().map(str::to_owned).collect(), ..Self::default() }
    }

    /// Whether it has this capability.
    pub fn has(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|word| word.eq_ignore_ascii_case(capability))
    }

    /// Whether it knows GETMETADATA and SETMETADATA, if only for the server (RFC 5464 section 1).
    pub(super) fn has_metadata(&self) -> bool {
        self.has("METADATA") || self.has("METADATA-SERVER")
    }

    /// Whether this verb has arguments that may be literals; behind others a lazy server takes none for one.
    pub(super) fn takes_literals(&self, verb: &str) -> bool {
        match verb {
            "GETMETADATA" | "SETMETADATA" => self.has_metadata(),
            "MYRIGHTS" => self.has("ACL"),
            "GETQUOTAROOT" => self.has("QUOTA"),
            _ => WITH_ARGUMENTS.contains(&verb),
        }
    }

    /// A mailbox name as this server writes it.
    pub(super) fn name(&self, name: &str) -> String {
        if self.mischief.literal_names { format!("{{{}}}\r\n{name}", name.len()) } else { astring(name) }
    }
}

impl Mischief {
    /// Whether news are told while a client idles.
    pub(super) fn tells_in_idle(&self) -> bool {
        !self.lazy_idle && !self.deaf_idle
    }

    /// Switches one of them on by its name in a transcript, `uid-first`; `false` if there is none of that name.
    pub fn switch_on(&mut self, name: &str) -> bool {
        match self.all().into_iter().find(|(known, _)| *known == name) {
            Some((_, switch)) => *switch = true,
            None => return false,
        }
        true
    }

    /// All of them, by name.
    pub fn all(&mut self) -> [(&'static str, &mut bool); 16] {
        [
            ("reorders", &mut self.reorders),
            ("early-expunge", &mut self.early_expunge),
            ("lazy-idle", &mut self.lazy_idle),
            ("deaf-idle", &mut self.deaf_idle),
            ("snapshot", &mut self.snapshot),
            ("uid-first", &mut self.uid_first),
            ("silent-expunge", &mut self.silent_expunge),
            ("silent-arrival", &mut self.silent_arrival),
            ("unsorted-search", &mut self.unsorted_search),
            ("exists-twice", &mut self.exists_twice),
            ("lazy-literals", &mut self.lazy_literals),
            ("refuses-literals", &mut self.refuses_literals),
            ("no-to-unknown", &mut self.no_to_unknown),
            ("runs-injected", &mut self.runs_injected),
            ("chatty", &mut self.chatty),
            ("literal-names", &mut self.literal_names),
        ]
    }
}
