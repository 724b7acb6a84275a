//! `config show`: every value there is, and where it came from.
//!
//!     listeners[0].address = "127.0.0.1:1143"  # default
//!     limits.line = "128 KiB"                  # proxy.toml:7
//!
//! Secrets stand in files of their own, so there are none to show; what only looks like one is struck out all the same.

use toml::{Table, Value};

use super::{
    Config,
    origin::{self, Origins},
};

/// Wider lines do not push the origins of all others to the right.
const WIDEST: usize = 64;

/// The effective configuration, one value a line.
pub(super) fn show(config: &Config, origins: &Origins) -> Result<String, toml::ser::Error> {
    let mut lines = Vec::new();
    flatten_table(&Table::try_from(config)?, "", &mut |path, value| {
        lines.push((format!("{path} = {}", masked(path, value)), origins.describe(path)));
    });
    let width = lines.iter().map(|(line, _)| line.chars().count()).filter(|width| *width <= WIDEST).max().unwrap_or(0);
    Ok(lines.iter().map(|(line, origin)| format!("{line:width$}  # {origin}\n")).collect())
}

fn flatten_table(table: &Table, path: &str, each: &mut impl FnMut(&str, &Value)) {
    for (key, value) in table {
        flatten(value, &origin::key(path, key), each);
    }
}

/// Tables, and arrays of them, are spread out; whatever else there is, an empty array too, is a value.
fn flatten(value: &Value, path: &str, each: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Table(table) => flatten_table(table, path, each),
        Value::Array(array) if array.iter().any(Value::is_table) => {
            for (index, value) in array.iter().enumerate() {
                flatten(value, &origin::element(path, index), each);
            }
        }
        _ => each(path, value),
    }
}

/// The value without what may be a secret: under a key that says so, or inside a URL.
fn masked(path: &str, value: &Value) -> String {
    let is_secret = ["password", "secret", "token"].iter().any(|word| path.ends_with(word));
    match value {
        Value::String(_) if is_secret => "\"***\"".to_owned(),
        Value::String(text) => Value::String(masked_url(text)).to_string(),
        _ => value.to_string(),
    }
}

/// A URL without its user and the values of its query; any other text as it is.
fn masked_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, _)| (rest, "?***"));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority = authority.rsplit_once('@').map_or(authority.to_owned(), |(_, host)| format!("***@{host}"));
    format!("{scheme}://{authority}{path}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_struck_out() {
        for (text, expected) in [
            ("http://127.0.0.1:8080/route", "http://127.0.0.1:8080/route"),
            ("https://joe:pass@h/route?token=abc", "https://***@h/route?***"),
            ("https://joe:p@ss@h", "https://***@h"),
            ("/etc/lemonade/token", "/etc/lemonade/token"),
        ] {
            assert_eq!(masked_url(text), expected);
        }
        let secret = Value::String("abc".to_owned());
        assert_eq!(masked("admin.token", &secret), "\"***\"");
        assert_eq!(masked("admin.token_file", &secret), "\"abc\"");
    }
}
