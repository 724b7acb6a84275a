//! The text of a file becomes a value, with the line of each key and with everything that is wrong.
//!
//! Serde stops at the first error. So what was wrong is said and taken out of the document, and the rest is read again:
//! an operator sees all mistakes at once, and what stands is checked further.

use std::{cmp::Reverse, collections::BTreeSet, mem, ops::Range, path::Path};

use serde::de::DeserializeOwned;
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer, Error},
};

use super::{
    finding::{Finding, Place},
    nearest::nearest,
    origin::{self, Origin, Origins},
};

/// Reads a whole file, as far as it can be read.
///
/// What is wrong takes its default, or is missing, and there is a finding for it.
pub(super) fn read<T: DeserializeOwned + Default>(file: &Path, text: &str) -> (T, Origins, Vec<Finding>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut document = Document { file, text, entries: Vec::new() };
    let mut origins = Origins::new(Some(file.to_owned()));
    if !errors.is_empty() {
        let findings = errors.iter().map(|error| document.finding(error.span(), error.message())).collect();
        return (T::default(), origins, findings);
    }
    document.list_table(root.get_ref(), "");
    for entry in &document.entries {
        origins.note(entry.path.as_str(), Origin::Line(document.line(entry.start())));
    }
    let (value, findings) = document.value(root);
    (value, origins, findings)
}

/// A file that is TOML.
struct Document<'a> {
    file: &'a Path,
    text: &'a str,
    entries: Vec<Entry>,
}

/// One key, or one element of an array.
struct Entry {
    path: String,
    /// Path of the table or array it stands in.
    outer: String,
    key: Option<Range<usize>>,
    /// The value; that of a `[table]` is its header only.
    value: Range<usize>,
}

impl Document<'_> {
    fn list_table(&mut self, table: &DeTable<'_>, outer: &str) {
        for (key, value) in table {
            self.list(origin::key(outer, key.get_ref()), outer, Some(key.span()), value);
        }
    }

    fn list(&mut self, path: String, outer: &str, key: Option<Range<usize>>, value: &Spanned<DeValue<'_>>) {
        self.entries.push(Entry { path: path.clone(), outer: outer.to_owned(), key, value: value.span() });
        match value.get_ref() {
            DeValue::Table(table) => self.list_table(table, &path),
            DeValue::Array(array) => {
                for (index, value) in array.iter().enumerate() {
                    self.list(origin::element(&path, index), &path, None, value);
                }
            }
            _ => {}
        }
    }

    /// Reads the document over and over, each time without what was wrong the last time.
    fn value<T: DeserializeOwned + Default>(&self, mut root: Spanned<DeTable<'_>>) -> (T, Vec<Finding>) {
        let mut findings = Vec::new();
        let (mut taken, mut torn) = (BTreeSet::new(), BTreeSet::new());
        loop {
            let error = match T::deserialize(Deserializer::from(root.clone())) {
                Ok(value) => return (value, findings),
                Err(error) => error,
            };
            let entry = error.span().and_then(|span| self.innermost(&span));
            // A field that is missing because we took it out has been spoken of.
            let is_echo = error.message().starts_with("missing field") && entry.is_some_and(|e| torn.contains(&e.path));
            if !is_echo {
                findings.push(self.finding(error.span(), explain(&error, entry)));
            }
            let Some(entry) = entry.filter(|entry| taken.insert(&entry.path)) else {
                return (T::default(), findings);
            };
            *root.get_mut() = without(mem::take(root.get_mut()), entry);
            torn.insert(&entry.outer);
        }
    }

    /// The smallest thing around this span.
    fn innermost(&self, span: &Range<usize>) -> Option<&Entry> {
        let around = |outer: &Range<usize>| outer.start <= span.start && span.end <= outer.end;
        self.entries
            .iter()
            .flat_map(|entry| entry.key.iter().chain([&entry.value]).map(move |span| (span, entry)))
            .filter(|(outer, _)| around(outer))
            .min_by_key(|(outer, entry)| (outer.len(), Reverse(entry.path.len())))
            .map(|(_, entry)| entry)
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|octet| *octet == b'\n').count()
    }

    fn finding(&self, span: Option<Range<usize>>, text: impl Into<String>) -> Finding {
        let file = self.file.to_owned();
        let place = match span {
            Some(span) => Place::Line(file, self.line(span.start)),
            None => Place::File(file),
        };
        Finding::error(place, text)
    }
}

impl Entry {
    fn start(&self) -> usize {
        self.key.as_ref().unwrap_or(&self.value).start
    }

    fn is_at(&self, key: Option<Range<usize>>, value: Range<usize>) -> bool {
        self.key == key && self.value == value
    }
}

/// The table without this entry, wherever in it that is.
fn without<'a>(table: DeTable<'a>, entry: &Entry) -> DeTable<'a> {
    let others = table.into_iter().filter(|(key, value)| !entry.is_at(Some(key.span()), value.span()));
    others.map(|(key, value)| (key, without_in_value(value, entry))).collect()
}

fn without_in_value<'a>(value: Spanned<DeValue<'a>>, entry: &Entry) -> Spanned<DeValue<'a>> {
    let span = value.span();
    let value = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(without(table, entry)),
        DeValue::Array(array) => {
            let others = array.into_iter().filter(|value| !entry.is_at(None, value.span()));
            DeValue::Array(others.map(|value| without_in_value(value, entry)).collect())
        }
        simple => simple,
    };
    Spanned::new(span, value)
}

/// What serde says, in our words.
fn explain(error: &Error, entry: Option<&Entry>) -> String {
    let said = error.message();
    let mut words = said.split('`').skip(1).step_by(2);
    let word = words.next().unwrap_or_default();
    let known = words.collect::<Vec<_>>();
    let hint = match nearest(word, &known) {
        Some(word) => format!("did you mean `{word}`?"),
        None => format!("known are {}", known.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")),
    };
    let path = entry.map(|entry| format!("{}: ", entry.path)).unwrap_or_default();
    if said.starts_with("unknown field") {
        format!("unknown key `{word}`, {hint}")
    } else if said.starts_with("unknown variant") {
        format!("{path}unknown value `{word}`, {hint}")
    } else {
        format!("{path}{said}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn complaints(text: &str) -> Vec<String> {
        let (_, _, findings) = read::<Config>(Path::new("f"), text);
        findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_wrong_file_is_refused_with_line_and_nearest_key() {
        for (text, expected) in [
            ("lmits = 3", "error: f:1: unknown key `lmits`, did you mean `limits`?"),
            ("[timeouts]\nidel = \"30m\"", "error: f:2: unknown key `idel`, did you mean `idle`?"),
            ("[timeouts]\nidle = \"30\"", "error: f:2: timeouts.idle: \"30\" needs a unit: one of d, h, m, s, ms"),
            ("\n\nthreads = 0", "error: f:3: threads: invalid value: integer `0`, expected a nonzero usize"),
            ("extensions.IDLE = \"atuo\"", "error: f:1: extensions.IDLE: unknown value `atuo`, did you mean `auto`?"),
            ("extensions.\"X.Y\" = 1", "error: f:1: extensions.\"X.Y\": wanted string or table"),
        ] {
            assert_eq!(complaints(text), [expected], "{text}");
        }
    }

    #[test]
    fn all_mistakes_are_reported_and_the_rest_is_read() {
        let text = "[limits]\nline = 7\nlien = \"1 B\"\nnesting = 9\n[timeouts]\nlogin = \"x\"\n";
        let (config, origins, findings) = read::<Config>(Path::new("f"), text);
        assert_eq!(findings.len(), 3, "{findings:?}");
        assert_eq!(config.limits.nesting, 9);
        assert_eq!(origins.of("limits.nesting"), Some(&Origin::Line(4)));
    }

    #[test]
    fn what_is_not_toml_is_refused_as_a_whole() {
        assert!(complaints("a = \nb = [1\n").len() >= 2);
        assert!(complaints("threads = 1\nthreads = 2")[0].starts_with("error: f:2: duplicate key"));
    }
}
