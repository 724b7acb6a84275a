//! What the README promises in tables is what the program has: each bound with its default, each metric with its labels.
//!
//!     | `limits.line` | 64 KiB | a command line of a user; long UID sets fit, floods do not |

use std::collections::BTreeMap;

use lemonade_proxy::{
    account,
    config::Config,
    io::{backends::Backend, feed, metrics, routing::Lookup},
};
use serde::Serialize;
use toml::Value;

const README: &str = include_str!("../README.md");

/// Sections of the configuration that hold nothing but bounds.
const BOUNDS: [&str; 5] = ["limits", "timeouts", "tcp", "admission", "drain"];

/// Bounds that stand among other settings, and what holds their defaults.
const OTHERS: [(&str, &[&str]); 9] = [
    ("account", &["entries", "octets"]),
    ("account.events", &["messages", "longest"]),
    ("account.notify", &["mailboxes", "every", "round", "names"]),
    ("backends.NAME", &["auxiliary", "connect_timeout", "logins_in_flight", "login_wait"]),
    ("backends.NAME.pace", &["shortest", "longest"]),
    ("feed", &["retention", "events", "octets"]),
    ("feed.batch", &["events", "octets"]),
    ("outband.quota", &["devices", "notices", "destinations"]),
    ("routing.lookup", &["cache", "timeout"]),
];

#[test]
fn the_readme_lists_every_bound_with_its_default() {
    let written = bounds_of_the_readme();
    let mut built = BTreeMap::new();
    let config = table(&Config::default());
    for section in BOUNDS {
        let defaults = config[section].as_table().expect("a section");
        built.extend(defaults.iter().map(|(key, value)| (format!("{section}.{key}"), text(value))));
    }
    let account = account::Settings::default();
    let feed: feed::Settings =
        toml::from_str("url = \"https://h/\"\nsecret_file = \"s\"\nsource = \"x\"").expect("what has no default");
    let feed = table(&feed);
    for ((path, keys), defaults) in OTHERS.iter().zip([
        table(&account),
        table(&account.events),
        table(&account.notify),
        table(&Backend::default()),
        table(&Backend::default().pace),
        feed.clone(),
        feed["batch"].as_table().expect("a section").clone(),
        table(&Config::default().outband.quota),
        table(&Lookup::default()),
    ]) {
        built.extend(keys.iter().map(|key| (format!("{path}.{key}"), text(&defaults[*key]))));
    }
    for (key, default) in &built {
        assert_eq!(written.get(key), Some(default), "the README's row of {key}");
    }
    for (key, default) in &written {
        // A default of nothing at all is not in a table of TOML.
        assert!(built.contains_key(key) || default == "off", "{key} stands in the README and is no bound");
    }
}

#[test]
fn the_readme_lists_every_metric() {
    let table = metrics::markdown();
    assert!(README.contains(&table), "the README should say:\n\n{table}");
}

fn bounds_of_the_readme() -> BTreeMap<String, String> {
    let section = README.split("\n## ").find(|section| section.starts_with("Bounds\n")).expect("a section on bounds");
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| {
            let (key, rest) = row.split_once("` | ")?;
            let (default, _) = rest.split_once(" | ")?;
            Some((key.to_owned(), default.to_owned()))
        })
        .collect()
}

fn table(defaults: &impl Serialize) -> toml::Table {
    toml::Table::try_from(defaults).expect("settings can be written as TOML")
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
