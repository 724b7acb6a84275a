//! Backend capabilities become a stack: which layers stand in it, and what the client is told (architecture section 6).
//!
//!     backend: IMAP4rev1 IDLE UIDPLUS      client: IMAP4rev1 UIDPLUS IDLE UNSELECT NAMESPACE ENABLE ID LITERAL+ ...
//!
//! One fold over the list of extensions, bottom to top, once per kind of backend; the result is shared by all its sessions,
//! and carries its reasons.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{layer::Extension, profile::Profile};
use crate::{
    account,
    imap::{
        capability::{self, Capabilities, Class},
        verb::{self, Verb},
    },
    units::Size,
};

/// An operator's word on an extension.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The backend's own if it has it, else ours.
    #[default]
    Auto,
    /// Ours, because the backend's own is broken.
    Always,
    /// Neither.
    Never,
}

/// `[extensions]`: names of extensions and the operator's word on each.
pub type Modes = BTreeMap<String, Mode>;

/// How non-synchronising literals are offered to clients (RFC 7888); never both words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NonSync {
    /// LITERAL+: of any size.
    #[default]
    Plus,
    /// LITERAL-: up to 4096 octets.
    Minus,
}

impl NonSync {
    /// Its capability word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Plus => "LITERAL+",
            Self::Minus => "LITERAL-",
        }
    }
}

/// The capability word of COMPRESS (RFC 4978). A matter between the client and us, whatever the backend says.
pub(super) const DEFLATE: &str = "COMPRESS=DEFLATE";

/// Why an extension stands in the stack, or does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The extension.
    pub name: &'static str,
    /// Whether its layer stands in the stack.
    pub ours: bool,
    /// In words.
    pub why: String,
}

/// What all sessions of one kind have in common.
#[derive(Debug)]
pub struct Plan {
    /// What the client is told.
    pub told: Capabilities,
    /// What the backend said.
    pub backend: Capabilities,
    /// What of this it does itself: no layer does it in its place.
    pub native: Capabilities,
    /// The backend can IDLE, and is to.
    pub idle: bool,
    /// The layers, top to bottom.
    pub layers: Vec<&'static Extension>,
    /// Why each extension is in or out.
    pub reasons: Vec<Reason>,
    /// What the operator says of accounts.
    pub account: Arc<account::Settings>,
    /// For each layer: what the server below it can do.
    below: Vec<Capabilities>,
    /// For each row of the table of verbs: which levels hear it. The lowest bit is the top.
    hears: Vec<u32>,
    /// For each row: whether its capability is told, or it needs none.
    offered: Vec<bool>,
}

/// What a plan depends on, beside the backend.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The operator's words.
    pub modes: Modes,
    /// How non-synchronising literals are offered.
    pub literals: NonSync,
    /// COMPRESS=DEFLATE is offered.
    pub compress: bool,
    /// The largest literal a client may send.
    pub append: Size,
    /// What the operator says of accounts.
    pub account: Arc<account::Settings>,
}

impl Plan {
    /// Folds the list, which is given top to bottom. `aside`: other connections can be logged in to in the client's name.
    pub fn new(
        extensions: &[&'static Extension],
        profile: &Profile,
        backend: Capabilities,
        offer: &Offer,
        aside: bool,
    ) -> Self {
        let mut below: Capabilities = ["IMAP4rev1"]
            .into_iter()
            .chain(backend.iter().filter(|word| capability::class(word) == Class::Relayed))
            .collect();
        let mut layers = Vec::new();
        let mut seen = Vec::new();
        let mut reasons = Vec::new();
        for extension in extensions.iter().rev() {
            let mode = offer.modes.get(extension.name).copied().unwrap_or_default();
            let verdict = judge(extension, mode, &below, &backend, profile, offer, aside);
            if mode != Mode::Auto || profile.unkept.contains(&extension.name) {
                extension.gives.iter().chain(extension.along).for_each(|word| below.remove(word));
            }
            if verdict.is_ok() {
                seen.insert(0, below.clone());
                extension.hides.iter().for_each(|word| below.remove(word));
                extension.gives.iter().chain(extension.along).for_each(|word| below.add(word));
                layers.insert(0, *extension);
            }
            let ours = verdict.is_ok();
            reasons.insert(0, Reason { name: extension.name, ours, why: verdict.unwrap_or_else(|why| why) });
        }
        let idle = backend.has("IDLE") && offer.modes.get("IDLE") != Some(&Mode::Always);
        below.add(offer.literals.word());
        if offer.compress {
            below.add(DEFLATE);
        }
        below.add(&format!("APPENDLIMIT={}", append_limit(offer.append, &backend)));
        let level = |verb: &Verb| {
            let hear = |extension: &&Extension| extension.hears.contains(&verb.name);
            layers.iter().enumerate().filter(|(_, layer)| hear(layer)).map(|(level, _)| 1u32 << level).sum()
        };
        let hears = verb::TABLE.iter().map(level).collect();
        let offered = verb::TABLE.iter().map(|verb| is_offered(verb, &below)).collect();
        let replaced = |word: &str| {
            let does = |extension: &&Extension| {
                !extension.joins
                    && extension.gives.iter().chain(extension.along).any(|own| own.eq_ignore_ascii_case(word))
            };
            layers.iter().any(does)
        };
        let native = backend.iter().filter(|word| !replaced(word)).collect();
        let account = Arc::clone(&offer.account);
        Self { told: below, backend, native, idle, layers, reasons, account, below: seen, hears, offered }
    }

    /// The first level, from `level` downwards, that hears this command.
    pub fn hears(&self, verb: &Verb, arguments: &[u8], level: usize) -> Option<usize> {
        let levels = self.hears[verb.index()?];
        let arguments = arguments.strip_suffix(b"\r\n").unwrap_or(arguments);
        let hears = |level: &usize| levels >> level & 1 == 1 && (self.layers[*level].concerns)(verb, arguments);
        if levels >> level == 0 { None } else { (level..self.layers.len()).find(hears) }
    }

    /// Whether the layer of this level speaks of messages by UID.
    pub fn touches(&self, level: usize) -> bool {
        self.layers.get(level).is_some_and(|layer| layer.touches)
    }

    /// Whether the layer of this level takes a command whose literal is still on the wire.
    pub fn streams(&self, level: usize) -> bool {
        self.layers.get(level).is_some_and(|layer| layer.streams)
    }

    /// What the server below the layer of this level can do: the layers there, and what is relayed of the backend.
    pub fn below(&self, level: usize) -> &Capabilities {
        self.below.get(level).unwrap_or(&self.told)
    }

    /// Whether the client was told of this verb. One that stands in no row passes (M2 of the digest's machinery).
    pub fn offers(&self, verb: &Verb) -> bool {
        verb.index().is_none_or(|row| self.offered[row])
    }

    /// Whether `{n+}` may be written to the backend, in this command, for a literal of this size.
    ///
    /// Only where the backend said that it reads it, and in a command that it knows to have strings: servers run the
    /// content of a literal as commands when they do not expect one.
    pub fn may_push(&self, verb: &Verb, len: u64, binary: bool) -> bool {
        let reads = self.backend.has("LITERAL+") || (self.backend.has("LITERAL-") && len <= 4096);
        reads && verb.strings && (!binary || self.backend.has("BINARY")) && self.backend_knows(verb)
    }

    fn backend_knows(&self, verb: &Verb) -> bool {
        verb.capability.is_empty() || self.backend.has(verb.capability)
    }
}

/// Whether a layer is to stand in the stack, and why, or why not.
fn judge(
    extension: &Extension,
    mode: Mode,
    below: &Capabilities,
    backend: &Capabilities,
    profile: &Profile,
    offer: &Offer,
    aside: bool,
) -> Result<String, String> {
    let has = extension.gives.iter().all(|word| backend.has(word));
    let lacking = extension.needs.iter().find(|word| !below.has(word));
    let native = !extension.gives.is_empty() && extension.gives.iter().all(|word| below.has(word));
    match (mode, lacking) {
        (Mode::Never, _) => Err("switched off by the configuration".to_owned()),
        _ if !(extension.when)(&offer.account) => Err("nothing here does what it promises".to_owned()),
        (_, Some(word)) => Err(format!("the backend lacks {word}")),
        (Mode::Auto, None) if !native && profile.unfit.contains(&extension.name) => {
            Err(format!("it cannot be had honestly of {}", profile.name))
        }
        (Mode::Auto, None) if native && profile.unkept.contains(&extension.name) => {
            Ok(format!("{} offers it and does not keep it", profile.name))
        }
        (Mode::Auto, None) if native && extension.joins => Ok("adds to what the backend has".to_owned()),
        (Mode::Auto, None) if native => Err("the backend has it".to_owned()),
        _ if extension.aside && !aside => Err("it takes another connection, which nobody could log in".to_owned()),
        (Mode::Auto, None) if has => Ok("a matter between the client and us".to_owned()),
        (Mode::Auto, None) => Ok("the backend lacks it".to_owned()),
        (Mode::Always, None) => Ok("ours by the configuration".to_owned()),
    }
}

/// RFC 7889: the smaller one of ours and the backend's.
fn append_limit(ours: Size, backend: &Capabilities) -> u64 {
    let theirs = backend.values("APPENDLIMIT=").filter_map(|limit| limit.parse().ok());
    theirs.fold(ours.0, u64::min)
}

/// METADATA-SERVER brings the commands of METADATA too (RFC 5464 section 1).
fn is_offered(verb: &Verb, told: &Capabilities) -> bool {
    verb.capability.is_empty()
        || told.has(verb.capability)
        || (verb.capability == "METADATA" && told.has("METADATA-SERVER"))
}

/// Plans that exist already.
#[derive(Debug, Default)]
pub struct Plans(Mutex<HashMap<Kind, Arc<Plan>>>);

/// The server's profile, what it says, and whether other connections can be logged in to.
type Kind = (&'static str, Capabilities, bool);

impl Plans {
    /// Backends of one operator are of a few kinds; one that says something new each time must not fill the memory.
    const MOST: usize = 64;

    /// The plan for a backend that says this.
    pub fn find(
        &self,
        extensions: &[&'static Extension],
        profile: &'static Profile,
        backend: Capabilities,
        offer: &Offer,
        aside: bool,
    ) -> Arc<Plan> {
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = (profile.name, backend, aside);
        if let Some(plan) = plans.get(&kind) {
            return Arc::clone(plan);
        }
        let plan = Arc::new(Plan::new(extensions, profile, kind.1.clone(), offer, aside));
        if plans.len() < Self::MOST {
            plans.insert(kind, Arc::clone(&plan));
        }
        plan
    }
}
