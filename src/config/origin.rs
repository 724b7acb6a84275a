//! Where each value of the configuration came from, by its path.
//!
//!     listeners[0].address          proxy.toml:3
//!     routing.domains."example.org" proxy.toml:12
//!     backends.default.urls         --backend
//!
//! What stands in no row is a default.

use std::{collections::BTreeMap, path::PathBuf};

use super::finding::Place;

/// Where one value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This line of the file, counted from one.
    Line(usize),
    /// A flag of the command line.
    Flag(&'static str),
    /// A variable of the environment.
    Variable(&'static str),
}

/// Where all values came from.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// The file, where there is one.
    pub file: Option<PathBuf>,
    of: BTreeMap<String, Origin>,
}

impl Origins {
    /// Nothing but defaults so far, and perhaps a file.
    pub fn new(file: Option<PathBuf>) -> Self {
        Self { file, of: BTreeMap::new() }
    }

    /// Notes where the value at `path` came from, in place of what was known.
    pub fn note(&mut self, path: impl Into<String>, origin: Origin) {
        self.of.insert(path.into(), origin);
    }

    /// Whether everything is a default.
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    /// Forgets the value at `path` and all below it.
    pub fn forget(&mut self, path: &str) {
        self.of.retain(|other, _| !is_within(other, path));
    }

    /// Where the value at exactly this path came from; nothing if it is a default.
    pub fn of(&self, path: &str) -> Option<&Origin> {
        self.of.get(path)
    }

    /// Where a person should look for the value at `path`: its own place, or that of the table around it.
    pub fn place(&self, path: &str) -> Place {
        let mut path = path;
        loop {
            if let Some(origin) = self.of.get(path) {
                return self.place_of(origin);
            }
            let Some(end) = path.rfind(['.', '[']) else {
                return self.file.clone().map_or(Place::Nowhere, Place::File);
            };
            path = &path[..end];
        }
    }

    fn place_of(&self, origin: &Origin) -> Place {
        match origin {
            Origin::Line(line) => Place::Line(self.file.clone().unwrap_or_default(), *line),
            Origin::Flag(name) => Place::Flag(name),
            Origin::Variable(name) => Place::Variable(name),
        }
    }

    /// The origin of the value at `path` as `config show` prints it.
    pub fn describe(&self, path: &str) -> String {
        match self.of(path) {
            None => "default".to_owned(),
            Some(origin) => self.place_of(origin).to_string().trim_end_matches(": ").to_owned(),
        }
    }
}

/// The path of a key in the table at `path`.
pub fn key(path: &str, key: &str) -> String {
    let is_bare = !key.is_empty() && key.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet));
    let key = if is_bare { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The path of an element in the array at `path`.
pub fn element(path: &str, index: usize) -> String {
    format!("{path}[{index}]")
}

/// Whether `path` is `outer` or stands below it.
fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_nearest_that_is_known() {
        let mut origins = Origins::new(Some(PathBuf::from("f")));
        origins.note("backends.main", Origin::Line(4));
        origins.note("backends.main.urls", Origin::Line(5));
        origins.note("admin.address", Origin::Flag("--admin"));
        for (path, place) in [
            ("backends.main.urls[1]", "f:5: "),
            ("backends.main.ca", "f:4: "),
            ("backends.mainly", "f: "),
            ("admin.address", "--admin: "),
            ("admin", "f: "),
        ] {
            assert_eq!(origins.place(path).to_string(), place, "{path}");
        }
        assert_eq!(origins.describe("backends.main.ca"), "default");
        origins.forget("backends");
        assert_eq!(origins.place("backends.main.urls").to_string(), "f: ");
    }

    #[test]
    fn a_key_that_is_not_bare_is_quoted() {
        assert_eq!(key("routing.domains", "example.org"), "routing.domains.\"example.org\"");
        assert_eq!(key("", "tls"), "tls");
        assert_eq!(element(&key("tls", "certificates"), 1), "tls.certificates[1]");
    }
}
