//! SPECIAL-USE: which mailbox holds drafts, sent mail, trash (RFC 6154). CREATE-SPECIAL-USE: a client says so.
//!
//! Below: LIST-EXTENDED and CREATE.   Above: LIST (SPECIAL-USE), LIST RETURN (SPECIAL-USE), CREATE with USE.
//!
//!     C: a LIST "" % RETURN (SPECIAL-USE)
//!     >  p1 LIST "" (%)          what the client asked, without uses
//!     >  p2 LIST "" (*)          all names: whose use it is does not depend on the pattern
//!     S: * LIST (\Sent) "/" "Sent Items"
//!
//! Whose use it is: whoever the user gave it to (`/private/specialuse` in our store), else those of whom the backend says so in
//! LIST, else the first of the names that the operator set, else the first by what it is called. A plain LIST passes as it came:
//! uses are said to those who ask for them. A client cannot assign \All and \Flagged (`account/special_use.rs`).
//!
//! Held are two answers of LIST, at most 2 MiB each. Where all names are more than that, the client's own list has to do.
//! Requirement A4.

use std::collections::HashMap;

use crate::{
    account::special_use::{self, Configured, Use},
    imap::{
        command::SyntaxError,
        list::{self, List, Listed, Names, Return, Selection},
        response::Status,
        token::{self, Cursor},
        verb::{self, Verb},
    },
    session::{
        effect::{Annotated, Notice},
        layer::{Extension, Refusal},
        script::{self, Ending, Given, Server},
    },
    store::{Change, Entry, Key, Query},
};

/// RFC 6154.
pub const SPECIAL_USE: Extension = Extension {
    name: "SPECIAL-USE",
    spec: "RFC 6154",
    gives: &["SPECIAL-USE"],
    along: &["CREATE-SPECIAL-USE"],
    needs: &["LIST-EXTENDED"],
    hears: &["LIST", "CREATE"],
    concerns: |verb, arguments| match verb.name {
        "LIST" => List::parse(arguments).is_ok_and(|list| asks(&list)),
        _ => Create::is_one(arguments),
    },
    finishes: true,
    build: || script::layer(|given, server| Box::pin(special_use(given, server))),
    ..Extension::NONE
};

const LIST: &Verb = verb::row_of("LIST");
const CREATE: &Verb = verb::row_of("CREATE");

async fn special_use(given: Given, server: Server) -> Result<Ending, Refusal> {
    match given.verb.name {
        "LIST" => list_uses(given, server).await,
        _ => create(given, server).await,
    }
}

fn asks(list: &List) -> bool {
    list.selection.contains(&Selection::SpecialUse) || list.returns.contains(&Return::SpecialUse)
}

async fn list_uses(given: Given, server: Server) -> Result<Ending, Refusal> {
    let list = List::parse(&given.arguments).map_err(|error| Refusal::bad(error.to_string()))?;
    let asked = Asked::new(&list);
    // Without the user's word a list is better than none: a store that is down does not keep anybody from the mail.
    let said = server.entries(Query::Entries).await.map(|(entries, _)| special_use::said(&entries)).unwrap_or_default();
    let answers = server.ask(LIST, asked.below(list).write()).await?.ok()?;
    let lines: Vec<Option<Listed>> = answers.parts.iter().map(|line| Listed::parse(line)).collect();
    let all = match asked.covers {
        true => None,
        false => server.ask(LIST, asked.all()).await.ok().filter(|answers| answers.status == Status::Ok),
    };
    let all: Option<Vec<Listed>> = all.map(|all| all.parts.iter().filter_map(|line| Listed::parse(line)).collect());
    let known: Vec<&Listed> = match &all {
        Some(all) => all.iter().collect(),
        None => lines.iter().flatten().collect(),
    };
    let uses = assigned(&said, &known, &server.plan().account.special_use);
    let used = known.iter().map(|listed| (listed, listed.key()));
    let used: Vec<_> = used.filter(|(listed, key)| asked.meets(listed, uses.get(key))).map(|(_, key)| key).collect();
    let told: Names = lines.iter().flatten().map(Listed::key).collect();
    let untold: Names = used.iter().filter(|key| !told.contains(key)).cloned().collect();
    let used: Names = used.into_iter().collect();
    // What is no name belongs to the name before it: STATUS, where the backend has LIST-STATUS.
    let mut told = !asked.selects;
    for (line, listed) in answers.parts.into_iter().zip(lines) {
        match listed {
            Some(listed) => {
                let line = asked.line(line, listed, &uses, &used, &untold);
                told = line.is_some() || !asked.selects;
                line.into_iter().for_each(|line| server.answer(line));
            }
            None if told => server.answer(line),
            None => {}
        }
    }
    Ok(Ending::Done(answers.text))
}

/// What a LIST asks for, as far as it is about uses.
struct Asked {
    /// Only what has a use.
    selects: bool,
    /// And only what is subscribed to, where that is for us to judge.
    subscribed: bool,
    /// And parents of such.
    recursive: bool,
    /// What it asks below names everything there is.
    covers: bool,
}

impl Asked {
    fn new(list: &List) -> Self {
        let has = |option| list.selection.contains(&option);
        let selects = has(Selection::SpecialUse);
        let recursive = selects && has(Selection::RecursiveMatch);
        let everything = list.reference.is_empty() && list.patterns.iter().any(|pattern| **pattern == *b"*");
        let covers = everything && (recursive || !has(Selection::Subscribed));
        Self { selects, subscribed: recursive && has(Selection::Subscribed), recursive, covers }
    }

    /// What is asked below: without uses. With RECURSIVEMATCH parents depend on uses, so that the whole selection is ours.
    fn below(&self, mut list: List) -> List {
        list.selection
            .retain(|option| *option != Selection::SpecialUse && (!self.recursive || *option == Selection::Remote));
        list.returns.retain(|option| *option != Return::SpecialUse);
        if self.subscribed && !list.returns.contains(&Return::Subscribed) {
            list.returns.push(Return::Subscribed);
        }
        list
    }

    /// All names.
    fn all(&self) -> Vec<u8> {
        let returns = if self.subscribed { vec![Return::Subscribed] } else { Vec::new() };
        let patterns = vec![Box::from(&b"*"[..])];
        List { selection: Vec::new(), reference: Box::default(), patterns, returns, extended: true }.write()
    }

    fn meets(&self, listed: &Listed, uses: Option<&Vec<Use>>) -> bool {
        uses.is_some_and(|uses| !uses.is_empty()) && (!self.subscribed || listed.has(b"\\Subscribed"))
    }

    /// A line as it is to be told, if it is.
    fn line(
        &self,
        mut line: Vec<u8>,
        mut listed: Listed,
        uses: &HashMap<Box<[u8]>, Vec<Use>>,
        used: &Names,
        untold: &Names,
    ) -> Option<Vec<u8>> {
        let key = listed.key();
        let own = uses.get(&key);
        let meets = self.meets(&listed, own);
        if self.selects && !meets && !(self.recursive && untold.has_below(&key, listed.delimiter)) {
            return None;
        }
        let own = own.map_or(&[][..], Vec::as_slice);
        let child_info = self.recursive && used.has_below(&key, listed.delimiter);
        if !child_info && !listed.has_use() {
            own.iter().for_each(|use_| Listed::insert(&mut line, use_.attribute().as_bytes()));
            return Some(line);
        }
        Use::ALL
            .into_iter()
            .filter(|use_| !own.contains(use_))
            .for_each(|use_| listed.remove(use_.attribute().as_bytes()));
        own.iter().for_each(|use_| listed.add(use_.attribute().as_bytes()));
        if child_info {
            let subscribed = if self.subscribed { "\"SUBSCRIBED\" " } else { "" };
            listed.extended = format!("(\"CHILDINFO\" ({subscribed}\"SPECIAL-USE\"))").into_bytes().into();
        }
        line.clear();
        listed.write(&mut line);
        Some(line)
    }
}

/// Who is used for what. What the user said of a mailbox that is no more counts for nothing.
fn assigned(
    said: &[(Box<[u8]>, Vec<Use>)],
    known: &[&Listed],
    configured: &Configured,
) -> HashMap<Box<[u8]>, Vec<Use>> {
    let is_mailbox = |listed: &&&Listed| !listed.has(b"\\Noselect") && !listed.has(b"\\NonExistent");
    let mailboxes: Vec<(Box<[u8]>, &Listed)> =
        known.iter().filter(is_mailbox).map(|listed| (listed.key(), *listed)).collect();
    let names: Names = mailboxes.iter().map(|(key, _)| key.clone()).collect();
    let mut uses: HashMap<Box<[u8]>, Vec<Use>> =
        said.iter().filter(|(key, _)| names.contains(key)).map(|(key, uses)| (key.clone(), uses.clone())).collect();
    let taken: Vec<Use> = uses.values().flatten().copied().collect();
    let others: Vec<_> = mailboxes.iter().filter(|(key, _)| !uses.contains_key(key)).collect();
    for use_ in Use::ALL.into_iter().filter(|use_| !taken.contains(use_)) {
        let native = others.iter().filter(|(_, listed)| listed.has(use_.attribute().as_bytes()));
        let mut found: Vec<_> = native.map(|(key, _)| key).collect();
        if found.is_empty() {
            let rank = |listed: &Listed| configured.rank(use_, &listed.name, listed.delimiter);
            let ranked = others.iter().filter_map(|(key, listed)| Some((rank(listed)?, key)));
            found.extend(ranked.min().map(|(_, key)| key));
        }
        for key in found {
            uses.entry(key.clone()).or_default().push(use_);
        }
    }
    uses
}

/// `CREATE name (USE (\Drafts))`
struct Create<'a> {
    name: Box<[u8]>,
    /// The list, without its parentheses.
    uses: &'a [u8],
}

impl<'a> Create<'a> {
    /// Other parameters of CREATE (RFC 4466) are the backend's affair.
    fn is_one(arguments: &[u8]) -> bool {
        arguments.ends_with(b")") && arguments.windows(5).any(|octets| octets.eq_ignore_ascii_case(b"(USE "))
    }

    fn parse(arguments: &'a [u8]) -> Result<Self, SyntaxError> {
        let mut cursor = Cursor::new(arguments);
        let name = cursor.astring()?.into();
        cursor.space()?;
        cursor.open()?;
        let wrong = cursor.expected("USE");
        if !cursor.accept(b"USE ") {
            return Err(wrong);
        }
        let uses = cursor.list_as_written()?;
        cursor.close()?;
        cursor.end()?;
        Ok(Self { name, uses: &uses[1..uses.len() - 1] })
    }
}

/// The user's word is kept first, then the mailbox is created: with a use that cannot be kept none may be (RFC 6154 section 3).
/// What the backend refuses is taken back. Should that fail too, or the proxy end in between, a word is left of a mailbox that
/// is not there; it counts for nothing until somebody creates one of that name. A client that goes away does not stop it.
async fn create(given: Given, server: Server) -> Result<Ending, Refusal> {
    let Create { name, uses } = Create::parse(&given.arguments).map_err(|error| Refusal::bad(error.to_string()))?;
    let uses = special_use::read(uses).map_err(|error| Refusal::no("USEATTR", error.to_string()))?;
    let mut arguments = Vec::new();
    token::write_astring(&name, &mut arguments);
    if uses.is_empty() {
        return Ok(Ending::ForwardAs(arguments));
    }
    let name = created(&server, &name).await?;
    if exists(&server, name).await? {
        return Err(Refusal::no("ALREADYEXISTS", "there is such a mailbox"));
    }
    let (entries, _) = server.entries(Query::Entries).await?;
    let edits = special_use::assign(&entries, name, &uses);
    let before = edits.iter().map(|(key, _)| (key.clone(), value(&entries, key))).collect();
    let changed: Vec<Key> = edits.iter().map(|(key, _)| key.clone()).collect();
    save(&server, edits).await?;
    let answers = match server.ask(CREATE, arguments).await {
        Ok(answers) if answers.status == Status::Ok => answers,
        failed => {
            save(&server, before).await?;
            let answers = failed?;
            // It is the refusal of what the client asked for, and names it: its own words, its own code.
            let text = String::from_utf8_lossy(&answers.text).into_owned();
            return Err(Refusal { status: answers.status, code: "".into(), text: text.into() });
        }
    };
    for key in changed {
        let what = Annotated { mailbox: key.mailbox, owner: key.owner, entries: vec![key.name] };
        server.publish(Notice::Annotated(what));
    }
    Ok(Ending::Done(answers.text))
}

/// What the mailbox will be called: a delimiter at the end of the name only says that others will stand below (RFC 3501 6.3.3).
async fn created<'a>(server: &Server, name: &'a [u8]) -> Result<&'a [u8], Refusal> {
    match name.split_last() {
        Some((last, before)) if !last.is_ascii_alphanumeric() && !before.is_empty() => {
            let delimiter = server.list(b"").await?.iter().find_map(|root| root.delimiter);
            Ok(if delimiter == Some(*last) { before } else { name })
        }
        _ => Ok(name),
    }
}

/// Whether there is such a mailbox already: no word of it is to change. A placeholder can become one.
async fn exists(server: &Server, name: &[u8]) -> Result<bool, Refusal> {
    let mut arguments = b"\"\" ".to_vec();
    token::write_astring(name, &mut arguments);
    let answers = server.ask(LIST, arguments).await?;
    let key = list::canonical(name);
    Ok(answers
        .parts
        .iter()
        .filter_map(|line| Listed::parse(line))
        .any(|listed| listed.key() == key && !listed.has(b"\\Noselect")))
}

fn value(entries: &[Entry], key: &Key) -> Option<Box<[u8]>> {
    entries.iter().find(|entry| entry.key == *key).map(|entry| entry.value.clone())
}

async fn save(server: &Server, edits: Vec<(Key, Option<Box<[u8]>>)>) -> Result<(), Refusal> {
    let quota = server.plan().account.quota();
    match server.save(Change::Entries { edits, quota }).await? {
        Ok(_) => Ok(()),
        Err(_) => Err(Refusal::no("OVERQUOTA", "too many annotations")),
    }
}
