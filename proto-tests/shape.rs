//! The promises of the house (architecture section 2), kept by reading the files: who may use whom, what is listed where.
//!
//! Each failure names file and line.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the tests stand in the repository")
}

/// A source file and its lines, with their numbers.
struct Source {
    /// Below the root.
    name: String,
    text: String,
}

impl Source {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// Lines that are code: comments may speak of anything.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The line at which the unit tests begin: they may use whom they need, and take a moment to begin at.
    fn tests(&self) -> usize {
        self.lines().find(|(_, line)| *line == "#[cfg(test)]").map_or(usize::MAX, |(number, _)| number)
    }

    /// `ext` of `src/ext/unselect.rs`.
    fn directory(&self) -> &str {
        self.name.split('/').nth(1).unwrap_or_default()
    }
}

/// Every Rust file below these directories.
fn sources(directories: &[&str]) -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    for directory in directories {
        collect(&root.join(directory), &root, &mut found);
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!found.is_empty(), "no source in {directories:?}");
    found
}

fn collect(directory: &Path, root: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, root, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            found.push(Source { name, text: read(&path) });
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Fails with all that is wrong, a line each.
fn none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Whether the line names this word: `crate::io`, but not `crate::iota`.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let inside = |character: Option<char>| character.is_some_and(|it| it.is_alphanumeric() || it == '_');
        !inside(line[..at].chars().next_back()) && !inside(line[at + word.len()..].chars().next())
    })
}

/// The modules of our own that a line names: of `use crate::{imap::frame, io}` it is `imap` and `io`.
fn modules_named(line: &str) -> Vec<&str> {
    const MODULES: [&str; 11] =
        ["account", "config", "ext", "imap", "io", "mailbox", "outband", "session", "store", "units", "watch"];
    MODULES.into_iter().filter(|module| names(line, &format!("crate::{module}"))).collect()
}

/// The `use` declarations and paths of a file, each as one line, with the number of its first.
fn paths(source: &Source) -> Vec<(usize, String)> {
    let mut paths: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (number, line) in source.code() {
        let line = line.trim();
        if open {
            if let Some((_, path)) = paths.last_mut() {
                path.push_str(line);
            }
        } else {
            paths.push((number, line.to_owned()));
        }
        let begins = line.starts_with("use ") || line.starts_with("pub use ") || line.starts_with("pub(super) use ");
        open = (open || begins) && !line.ends_with(';');
    }
    paths.into_iter().map(|(number, path)| (number, flat(&path))).collect()
}

/// `use crate::{imap::frame, io}` with the prefix repeated: `crate::imap::frame, crate::io`.
fn flat(path: &str) -> String {
    let Some(inner) = path.split_once("crate::{").map(|(_, inner)| inner) else { return path.to_owned() };
    let mut depth = 0;
    let mut flat = String::from("crate::");
    for character in inner.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if character != ' ' {
            flat.push(character);
        }
        if character == ',' && depth == 0 {
            flat.push_str("crate::");
        }
    }
    flat
}

#[test]
fn each_directory_uses_only_what_stands_below_it() {
    // Who uses whom (architecture section 2): `io` drives them all, nobody but the program uses `io`.
    let forbidden: &[(&str, &[&str])] = &[
        ("imap", &["outband", "watch", "store", "mailbox", "account", "session", "ext", "io", "config"]),
        ("store", &["outband", "watch", "mailbox", "account", "session", "ext", "io", "config"]),
        ("mailbox", &["outband", "watch", "account", "session", "ext", "io", "config"]),
        ("account", &["outband", "watch", "session", "ext", "io", "config"]),
        ("outband", &["watch", "session", "ext", "io", "config"]),
        ("session", &["outband", "watch", "ext", "io", "config"]),
        ("watch", &["outband", "ext", "io", "config"]),
        ("ext", &["outband", "watch", "io", "config"]),
    ];
    let mut wrong = Vec::new();
    for source in sources(&["src"]) {
        let Some((_, others)) = forbidden.iter().find(|(directory, _)| *directory == source.directory()) else {
            continue;
        };
        for (number, path) in paths(&source).into_iter().filter(|(number, _)| *number < source.tests()) {
            for module in modules_named(&path).into_iter().filter(|module| others.contains(module)) {
                wrong.push(format!("{}:{number}: {} uses {module}", source.name, source.directory()));
            }
        }
    }
    none(wrong);
}

#[test]
fn the_core_has_no_socket_clock_or_thread() {
    const WORLD: &[&str] = &[
        "tokio",
        "std::net",
        "std::fs",
        "std::thread",
        "TcpStream",
        "UdpSocket",
        "SystemTime::now",
        "Instant::now",
        "rustls",
        "socket2",
    ];
    let mut wrong = Vec::new();
    for source in sources(&["src/imap", "src/mailbox", "src/outband", "src/session", "src/ext"]) {
        let code = paths(&source);
        for (number, line) in code.into_iter().filter(|(number, _)| *number < source.tests()) {
            for word in WORLD.iter().filter(|word| names(&line, word)) {
                wrong.push(format!("{}:{number}: names {word}", source.name));
            }
        }
    }
    none(wrong);
}

#[test]
fn only_the_shell_names_the_runtime() {
    let mut wrong = Vec::new();
    for source in sources(&["src"]) {
        let shell = ["io", "config"].contains(&source.directory())
            || ["src/main.rs", "src/config.rs", "src/store/sqlite.rs", "src/store/suite.rs"]
                .contains(&source.name.as_str());
        for (number, line) in paths(&source).into_iter().filter(|_| !shell) {
            if names(&line, "tokio") || names(&line, "socket2") {
                wrong.push(format!("{}:{number}: names the runtime", source.name));
            }
        }
    }
    none(wrong);
}

#[test]
fn every_file_begins_with_a_header() {
    let files = sources(&["src", "proto-tests"]);
    let bare = files.iter().filter(|source| !source.text.starts_with("//! "));
    none(bare.map(|source| format!("{}:1: no `//!` header", source.name)).collect());
}

#[test]
fn every_public_function_is_called() {
    // The compiler takes a public item of a library for used. Unit tests count: they are how a new floor begins.
    let sources = sources(&["src", "proto-tests"]);
    let used: Vec<&str> = sources
        .iter()
        .flat_map(Source::code)
        .flat_map(|(_, line)| line.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .collect();
    let mut wrong = Vec::new();
    for source in sources.iter().filter(|source| source.name.starts_with("src/")) {
        for (number, line) in source.code().filter(|(number, _)| *number < source.tests()) {
            let Some((_, name)) = line.trim_start().starts_with("pub").then(|| line.split_once(" fn ")).flatten()
            else {
                continue;
            };
            let name = name.split(['(', '<']).next().unwrap_or_default();
            if used.iter().filter(|word| **word == name).count() < 2 {
                wrong.push(format!("{}:{number}: nobody calls {name}", source.name));
            }
        }
    }
    none(wrong);
}

#[test]
fn there_is_no_unsafe_code_and_no_todo() {
    let mut wrong = Vec::new();
    for source in sources(&["src", "proto-tests"]).into_iter().filter(|source| source.name != "proto-tests/shape.rs") {
        for (number, line) in source.lines() {
            for word in ["TODO", "FIXME", "XXX"].into_iter().filter(|word| names(line, word)) {
                wrong.push(format!("{}:{number}: {word}", source.name));
            }
        }
        for (number, line) in source.code().filter(|(_, line)| names(line, "unsafe")) {
            wrong.push(format!("{}:{number}: {}", source.name, line.trim()));
        }
    }
    none(wrong);
}

#[test]
fn each_extension_is_documented_and_has_transcripts() {
    let readme = read(&root().join("README.md"));
    let mut wrong = Vec::new();
    // What stands in a directory belongs to the file of its name.
    let is_extension = |source: &Source| source.name.matches('/').count() == 2 && source.name != "src/ext/mod.rs";
    for source in sources(&["src/ext"]).into_iter().filter(is_extension) {
        let name = Path::new(&source.name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let capability = name.to_uppercase().replace('_', "-");
        // STATUS=SIZE stands in a file called status_size.rs.
        let spelled = [capability.clone(), capability.replace('-', "=")];
        if !readme.lines().any(|line| line.starts_with('|') && spelled.iter().any(|word| names(line, word))) {
            wrong.push(format!("{}: {capability} stands in no table of README.md", source.name));
        }
        let transcripts = root().join("proto-tests/transcripts").join(&name);
        let any = fs::read_dir(&transcripts).is_ok_and(|mut entries| entries.next().is_some());
        if !any {
            wrong.push(format!("{}: no transcripts in proto-tests/transcripts/{name}/", source.name));
        }
    }
    none(wrong);
}

/// Requirement ids in a text: `A4`, `CAP-3`, `ME-5`.
fn requirement_ids(text: &str) -> Vec<&str> {
    let word = |character: char| character.is_ascii_alphanumeric() || character == '-';
    text.split(|character| !word(character)).filter(|candidate| is_requirement_id(candidate)).collect()
}

/// A capital letter or a few, perhaps a hyphen, then digits; and nothing else.
fn is_requirement_id(word: &str) -> bool {
    let letters = word.trim_end_matches(|character: char| character.is_ascii_digit());
    let digits = &word[letters.len()..];
    let name = letters.strip_suffix('-').unwrap_or(letters);
    !digits.is_empty() && (1..=4).contains(&name.len()) && name.bytes().all(|octet| octet.is_ascii_uppercase())
}

#[test]
fn every_requirement_named_in_the_source_stands_in_the_table() {
    let table = read(&root().join("proto-tests/requirements.md"));
    let known: BTreeSet<&str> =
        table.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next()).flat_map(requirement_ids).collect();
    let mut wrong = Vec::new();
    for source in sources(&["src"]) {
        for (number, line) in source.lines() {
            // The word `Requirement` says that ids follow: `UTF8` or `AES256` elsewhere is none.
            let Some((_, named)) = line.split_once("Requirement") else { continue };
            for id in requirement_ids(named).into_iter().filter(|id| !known.contains(id)) {
                wrong.push(format!("{}:{number}: {id} stands in no row of proto-tests/requirements.md", source.name));
            }
        }
    }
    none(wrong);
}

#[test]
fn every_metric_stands_in_the_readme() {
    let readme = read(&root().join("README.md"));
    let Ok(metrics) = fs::read_to_string(root().join("src/io/metrics.rs")) else {
        panic!("src/io/metrics.rs: there is none")
    };
    let named: BTreeSet<&str> = metrics.split('"').filter(|text| is_metric(text)).collect();
    assert!(!named.is_empty(), "src/io/metrics.rs: no metric begins with lemonade_");
    let missing = named.into_iter().filter(|metric| !readme.contains(&format!("`{metric}`")));
    none(missing.map(|metric| format!("src/io/metrics.rs: {metric} stands in no table of README.md")).collect());
}

fn is_metric(text: &str) -> bool {
    text.strip_prefix("lemonade_")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|octet| octet.is_ascii_lowercase() || octet == b'_'))
}

#[test]
fn there_is_a_changelog_and_both_licences() {
    for name in ["CHANGELOG.md", "README.md", "LICENSE-MIT", "LICENSE-APACHE", "deny.toml"] {
        assert!(root().join(name).is_file(), "{name}: there is none");
    }
}

#[test]
fn every_transcript_says_what_it_shows() {
    let mut wrong = Vec::new();
    let mut pending = vec![root().join("proto-tests/transcripts")];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else if !read(&path).starts_with("# ") {
                wrong.push(format!("{}:1: no title", path.display()));
            }
        }
    }
    none(wrong);
}

#[test]
fn the_reader_of_paths_sees_through_braces() {
    let text = "use crate::{\n    imap::{frame, verb},\n    session::Session,\n};\nlet x = crate::io::now();\n";
    let source = Source { name: "src/imap/x.rs".to_owned(), text: text.to_owned() };
    let found: Vec<(usize, Vec<String>)> = paths(&source)
        .iter()
        .map(|(number, path)| (*number, modules_named(path).iter().map(|name| (*name).to_owned()).collect()))
        .collect();
    assert_eq!(found, [(1, vec!["imap".to_owned(), "session".to_owned()]), (5, vec!["io".to_owned()])]);
}
