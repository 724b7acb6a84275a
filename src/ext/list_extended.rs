//! LIST-EXTENDED: which mailboxes to list, and what to say of them (RFC 5258), found out by LIST and LSUB.
//!
//! Below: LIST and LSUB.   Above: LIST (SUBSCRIBED RECURSIVEMATCH) with several patterns, RETURN (SUBSCRIBED CHILDREN).
//!
//!     C: a LIST (SUBSCRIBED RECURSIVEMATCH) "" "%"
//!     >  p1 LIST "" "*"        the pattern itself, or, where what is below counts, all that begins so
//!     <  * LIST () "/" Foo
//!     <  * LIST () "/" Foo/Baz
//!     >  p2 LSUB "" "*"        never with `%`: then LSUB also names parents of what is subscribed to (RFC 3501 6.3.9)
//!     <  * LSUB () "/" Foo/Baz
//!     S: * LIST () "/" Foo ("CHILDINFO" ("SUBSCRIBED"))
//!
//! A backend has no mailboxes of other servers, so REMOTE adds none. That LSUB calls a name \NoSelect is not said of the
//! mailbox, and where LSUB also names something below it, it is not subscribed to. Bounds: `MOST_NAMES` and `MOST_OCTETS` of names, `MOST_WORK` comparing them with patterns; beyond them
//! it is `NO [LIMIT]`. Requirements A4, N1.

use std::collections::HashMap;

use crate::{
    imap::{
        list::{self, List, Listed, Names, Return, Selection},
        token,
        verb::{self, Verb},
    },
    session::{
        layer::{Extension, Refusal},
        script::{self, Ending, Given, Server},
    },
};

/// RFC 5258.
pub const LIST_EXTENDED: Extension = Extension {
    name: "LIST-EXTENDED",
    spec: "RFC 5258",
    gives: &["LIST-EXTENDED"],
    hears: &["LIST"],
    concerns: |_, arguments| List::is_extended(arguments),
    build: || script::layer(|given, server| Box::pin(extended(given, server))),
    ..Extension::NONE
};

const LIST: &Verb = verb::row_of("LIST");
const LSUB: &Verb = verb::row_of("LSUB");

/// Names that one command handles, those of parents included.
const MOST_NAMES: usize = 50_000;

/// Octets of these names, of all questions together.
const MOST_OCTETS: usize = 4 << 20;

/// Octets of names times octets of patterns: a quarter of a second. A long pattern may be compared with a long list only once.
const MOST_WORK: usize = 1 << 28;

/// Names of which is asked, one by one, whether they are mailboxes; further ones stay \Noselect.
const MOST_DOUBTS: usize = 32;

async fn extended(given: Given, server: Server) -> Result<Ending, Refusal> {
    let list = List::parse(&given.arguments).map_err(|error| Refusal::bad(error.to_string()))?;
    let asked = Asked::new(&list, &server)?;
    let mut tree = Tree::default();
    asked.existing(&server, &mut tree).await?;
    if asked.subscribed || asked.says_subscribed {
        asked.subscriptions(&server, &mut tree).await?;
    }
    if !asked.wide {
        asked.placeholders(&server, &mut tree).await?;
    }
    for line in asked.judge(tree)? {
        server.answer(line);
    }
    Ending::done("LIST done")
}

/// What a LIST asks for.
struct Asked {
    reference: Box<[u8]>,
    /// As they were written; empty ones are ignored (section 3).
    patterns: Vec<Box<[u8]>>,
    /// What names are compared with.
    joined: Vec<Vec<u8>>,
    subscribed: bool,
    special_use: bool,
    recursive: bool,
    says_subscribed: bool,
    says_children: bool,
    /// What is below the names that match counts too.
    wide: bool,
}

/// A name, and what is known of it.
struct Node {
    listed: Listed,
    key: Box<[u8]>,
    /// It is a mailbox, or a name that cannot be selected; no placeholder, and no subscription to nothing.
    exists: bool,
    subscribed: bool,
    /// It matches a pattern.
    matches: bool,
    /// The backend listed it for what is below it.
    placeholder: bool,
}

/// The names that are known, in the order in which they were told.
#[derive(Default)]
struct Tree {
    nodes: Vec<Node>,
    places: HashMap<Box<[u8]>, usize>,
    octets: usize,
}

impl Asked {
    fn new(list: &List, server: &Server) -> Result<Self, Refusal> {
        let selects = |option| list.selection.contains(&option);
        let says = |option| list.returns.contains(&option);
        let special_use = selects(Selection::SpecialUse);
        if (special_use || says(Return::SpecialUse)) && !server.below().has("SPECIAL-USE") {
            return Err(Refusal::bad("SPECIAL-USE is not offered"));
        }
        if list.returns.iter().any(|option| matches!(option, Return::Status(_))) {
            return Err(Refusal::bad("STATUS is not offered"));
        }
        let patterns: Vec<_> = list.patterns.iter().filter(|pattern| !pattern.is_empty()).cloned().collect();
        let joined = patterns.iter().map(|pattern| list::joined(&list.reference, pattern)).collect();
        let (subscribed, recursive) = (selects(Selection::Subscribed), selects(Selection::RecursiveMatch));
        let says_children = says(Return::Children);
        let has = |pattern: &[u8], octet| pattern.contains(&octet);
        // A placeholder is not listed where what it stands for is: that is seen only from above.
        let mixed = |pattern: &[u8]| has(pattern, b'*') && has(pattern, b'%');
        let many = patterns.len() > 1 && patterns.iter().any(|pattern| has(pattern, b'%'));
        let children = says_children && (subscribed || !server.below().has("CHILDREN"));
        let wide = recursive || children || many || patterns.iter().any(|pattern| mixed(pattern));
        Ok(Self {
            reference: list.reference.clone(),
            patterns,
            joined,
            subscribed,
            special_use,
            recursive,
            // RFC 5258 3.1: the selection option implies the return option.
            says_subscribed: subscribed || says(Return::Subscribed),
            says_children,
            wide,
        })
    }

    /// What the backend lists.
    async fn existing(&self, server: &Server, tree: &mut Tree) -> Result<(), Refusal> {
        let questions = if self.wide { self.widened() } else { self.patterns.clone() };
        for pattern in questions {
            for listed in self.ask(server, LIST, &pattern).await? {
                let known = tree.add(listed)?;
                known.exists = true;
                known.matches |= !self.wide;
            }
        }
        Ok(())
    }

    /// What is subscribed to.
    async fn subscriptions(&self, server: &Server, tree: &mut Tree) -> Result<(), Refusal> {
        for pattern in self.widened() {
            let told = self.ask(server, LSUB, &pattern).await?;
            let names: Names = told.iter().map(Listed::key).collect();
            // RFC 3501 6.3.9: a name that cannot be selected may stand for those below it; Courier names such for `*` too.
            let stands_for_others = |one: &Listed| one.has(b"\\Noselect") && names.has_below(&one.key(), one.delimiter);
            for mut listed in told.into_iter().filter(|listed| !stands_for_others(listed)) {
                listed.attributes.clear();
                tree.add(listed)?.subscribed = true;
            }
        }
        Ok(())
    }

    /// Names that the backend lists for what is below them, where it says so by listing them only for a pattern with `%`.
    async fn placeholders(&self, server: &Server, tree: &mut Tree) -> Result<(), Refusal> {
        if !self.patterns.iter().any(|pattern| pattern.contains(&b'%')) {
            return Ok(());
        }
        let doubtful = |node: &&mut Node| node.listed.has(b"\\Noselect") && (node.subscribed || !self.subscribed);
        for node in tree.nodes.iter_mut().filter(doubtful).take(MOST_DOUBTS) {
            // A name with a wildcard in it may find others as well.
            node.exists = server.list(&node.listed.name).await?.iter().any(|other| other.key() == node.key);
            node.placeholder = !node.exists;
        }
        Ok(())
    }

    async fn ask(&self, server: &Server, verb: &'static Verb, pattern: &[u8]) -> Result<Vec<Listed>, Refusal> {
        let mut arguments = Vec::new();
        token::write_astring(&self.reference, &mut arguments);
        arguments.push(b' ');
        token::write_astring(pattern, &mut arguments);
        let answers = server.ask(verb, arguments).await?.ok()?;
        Ok(answers.parts.iter().filter_map(|line| Listed::parse(line)).collect())
    }

    /// Patterns for what matches and all that is below it: `*` behind what stands in front of the last wildcards. One of
    /// them may do for all.
    fn widened(&self) -> Vec<Box<[u8]>> {
        let wide = |pattern: &[u8]| {
            let end = pattern.iter().rposition(|octet| !matches!(octet, b'*' | b'%')).map_or(0, |at| at + 1);
            [&pattern[..end], b"*"].concat().into_boxed_slice()
        };
        let mut patterns: Vec<_> = self.patterns.iter().map(|pattern| wide(pattern)).collect();
        patterns.sort_unstable();
        patterns.dedup();
        match patterns.iter().find(|pattern| &***pattern == b"*") {
            Some(all) => vec![all.clone()],
            None => patterns,
        }
    }

    /// Section 3.1: whether it meets the selection criteria.
    fn selects(&self, node: &Node) -> bool {
        let there = if self.subscribed { node.subscribed } else { node.exists };
        there && (!self.special_use || node.listed.has_use())
    }

    /// The lines to be told.
    fn judge(&self, mut tree: Tree) -> Result<Vec<Vec<u8>>, Refusal> {
        let work = tree.octets.saturating_mul(self.joined.iter().map(Vec::len).sum());
        if work > MOST_WORK {
            return Err(limit());
        }
        let selected: Vec<_> =
            tree.nodes.iter().filter(|node| self.selects(node)).map(|node| node.key.clone()).collect();
        if self.wide {
            tree.add_parents(&selected)?;
        }
        for node in &mut tree.nodes {
            let matches = |pattern: &Vec<u8>| list::matches(pattern, &node.listed.name, node.listed.delimiter);
            node.matches = node.matches || self.joined.iter().any(matches);
        }
        let below = Below {
            existing: tree.keys(|node| node.exists),
            selected: tree.keys(|node| self.selects(node)),
            untold: tree.keys(|node| self.selects(node) && !node.matches),
        };
        Ok(tree.nodes.into_iter().filter(|node| node.matches).filter_map(|node| self.line(node, &below)).collect())
    }

    /// Sections 3.3 to 3.5.
    fn line(&self, node: Node, below: &Below) -> Option<Vec<u8>> {
        let is_above = |names: &Names| names.has_below(&node.key, node.listed.delimiter);
        let selected = self.selects(&node);
        let untold = node.placeholder || is_above(&below.untold);
        // Without RECURSIVEMATCH there is no CHILDINFO: a parent that is no mailbox stands for its children, unless they
        // are listed themselves.
        let stands = !node.exists && !self.subscribed && !self.special_use;
        if !selected && !(untold && (self.recursive || stands)) {
            return None;
        }
        let parent = node.placeholder || is_above(&below.existing);
        let child_info = self.recursive && is_above(&below.selected);
        let mut listed = node.listed;
        if !node.exists {
            listed.remove(b"\\Noselect");
            listed.add(b"\\NonExistent");
        }
        if self.says_subscribed && node.subscribed {
            listed.add(b"\\Subscribed");
        }
        let unsaid = !listed.has(b"\\HasChildren") && !listed.has(b"\\HasNoChildren");
        if unsaid && (self.says_children || (stands && !self.recursive)) {
            listed.add(if parent { b"\\HasChildren" } else { b"\\HasNoChildren" });
        }
        if child_info {
            listed.extended = self.child_info().into();
        }
        let mut line = Vec::new();
        listed.write(&mut line);
        Some(line)
    }

    fn child_info(&self) -> &'static [u8] {
        match (self.subscribed, self.special_use) {
            (true, true) => b"(\"CHILDINFO\" (\"SUBSCRIBED\" \"SPECIAL-USE\"))",
            (_, true) => b"(\"CHILDINFO\" (\"SPECIAL-USE\"))",
            _ => b"(\"CHILDINFO\" (\"SUBSCRIBED\"))",
        }
    }
}

/// What may be below a name.
struct Below {
    existing: Names,
    selected: Names,
    untold: Names,
}

impl Tree {
    /// A name: the one that is known, or a new one of which nothing is.
    fn add(&mut self, listed: Listed) -> Result<&mut Node, Refusal> {
        let key = listed.key();
        let at = match self.places.get(&key) {
            Some(at) => *at,
            None => {
                self.octets += key.len();
                if self.nodes.len() == MOST_NAMES || self.octets > MOST_OCTETS {
                    return Err(limit());
                }
                self.places.insert(key.clone(), self.nodes.len());
                self.nodes.push(Node {
                    listed,
                    key,
                    exists: false,
                    subscribed: false,
                    matches: false,
                    placeholder: false,
                });
                self.nodes.len() - 1
            }
        };
        Ok(&mut self.nodes[at])
    }

    /// What stands above these names and is no name yet.
    fn add_parents(&mut self, keys: &[Box<[u8]>]) -> Result<(), Refusal> {
        for key in keys {
            let Some(delimiter) = self.places.get(key).and_then(|at| self.nodes[*at].listed.delimiter) else {
                continue;
            };
            for at in memchr::memrchr_iter(delimiter, key) {
                if at == 0 || self.places.contains_key(&key[..at]) {
                    continue;
                }
                self.add(Listed {
                    attributes: Vec::new(),
                    delimiter: Some(delimiter),
                    name: key[..at].into(),
                    extended: Box::default(),
                })?;
            }
        }
        Ok(())
    }

    fn keys(&self, keep: impl Fn(&Node) -> bool) -> Names {
        self.nodes.iter().filter(|node| keep(node)).map(|node| node.key.clone()).collect()
    }
}

fn limit() -> Refusal {
    Refusal::no("LIMIT", "more mailboxes, or longer patterns, than can be compared")
}
