//! Something to say about a configuration: how bad it is, where it stands, what it is.
//!
//!     error: proxy.toml:7: unknown key `adress`, did you mean `address`?

use std::{fmt, path::PathBuf};

/// One remark about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where it stands.
    pub place: Place,
    /// What it is, in one line.
    pub text: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It runs, but a person should look.
    Warning,
    /// It cannot run.
    Error,
}

/// Where a finding stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In no particular place.
    Nowhere,
    /// In the file as a whole.
    File(PathBuf),
    /// In this line of the file, counted from one.
    Line(PathBuf, usize),
    /// In this flag of the command line.
    Flag(&'static str),
    /// In this variable of the environment.
    Variable(&'static str),
}

impl Finding {
    /// Something that keeps the proxy from running.
    pub fn error(place: Place, text: impl Into<String>) -> Self {
        Self { severity: Severity::Error, place, text: text.into() }
    }

    /// Something a person should look at.
    pub fn warning(place: Place, text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, place, text: text.into() }
    }

    /// The finding without its severity, for a line that has one of its own.
    pub fn remark(&self) -> String {
        format!("{}{}", self.place, on_one_line(&self.text))
    }
}

/// The worst of these, if there is any.
pub fn worst(findings: &[Finding]) -> Option<Severity> {
    findings.iter().map(|finding| finding.severity).max()
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => Ok(()),
            Self::File(file) => write!(f, "{}: ", file.display()),
            Self::Line(file, line) => write!(f, "{}:{line}: ", file.display()),
            Self::Flag(name) => write!(f, "{name}: "),
            Self::Variable(name) => write!(f, "${name}: "),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.remark())
    }
}

/// The text as a terminal may see it: what a peer or a file says moves no cursor and begins no line.
pub(super) fn on_one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}
