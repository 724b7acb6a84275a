//! Routing: which backend is responsible for a user.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::units::Span;

/// `[routing]`: which backend is responsible for a user; asked in the order table, domain, lookup, default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Routing {
    /// The backend of users whom nothing else routes. Default: the only backend there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Backends by the domain of the user's name.
    pub domains: BTreeMap<String, String>,
    /// A file with a line `user backend [user at the backend]` for each user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<PathBuf>,
    /// A service to ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup: Option<Lookup>,
}

/// `[routing.lookup]`: `GET URL?user=joe` answers `{"backend": "main", "user": "joe@example.org"}`, or 404.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lookup {
    /// The address of the service, `http://` or `https://`.
    pub url: String,
    /// How long an answer is believed.
    pub cache: Span,
    /// How long to wait for one.
    pub timeout: Span,
}

impl Default for Lookup {
    fn default() -> Self {
        Self { url: String::new(), cache: Span::seconds(60), timeout: Span::seconds(3) }
    }
}
