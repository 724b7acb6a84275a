//! What a line may look like: `* 3 EXISTS`, `a OK ...`, `* OK [UIDVALIDITY $validity] ...`.

use std::collections::HashMap;

use super::meaning::{self, Fact};

/// Variables and what they were found to be.
pub(super) type Variables = HashMap<String, Vec<u8>>;

/// A line with gaps.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    text: String,
    parts: Vec<Part>,
    /// It was written with `|`: another spelling will not do.
    to_the_octet: bool,
}

#[derive(Clone, Debug)]
enum Part {
    Exactly(Vec<u8>),
    Anything,
    Variable(String),
}

impl Pattern {
    /// `...` and `$name` are gaps.
    pub(super) fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(behind) = rest.strip_prefix("...") {
                parts.push(Part::Anything);
                rest = behind;
            } else if let Some(name) = variable(rest) {
                parts.push(Part::Variable(name.to_owned()));
                rest = &rest[1 + name.len()..];
            } else {
                let len = rest
                    .char_indices()
                    .skip(1)
                    .find(|(at, _)| rest[*at..].starts_with("...") || variable(&rest[*at..]).is_some())
                    .map_or(rest.len(), |(at, _)| at);
                parts.push(Part::Exactly(rest.as_bytes()[..len].to_vec()));
                rest = &rest[len..];
            }
        }
        Self { text: text.to_owned(), parts, to_the_octet: false }
    }

    /// The text as it stands.
    pub(super) fn exactly(text: &str) -> Self {
        Self { text: text.to_owned(), parts: vec![Part::Exactly(text.as_bytes().to_vec())], to_the_octet: true }
    }

    /// What it says, if it stands for what lines mean and has no gaps.
    pub(super) fn facts(&self) -> Option<Vec<Fact>> {
        match self.parts.as_slice() {
            [Part::Exactly(text)] if !self.to_the_octet => meaning::facts(text),
            _ => None,
        }
    }

    /// Whether it only says that something comes.
    pub(super) fn is_untagged(&self) -> bool {
        self.text.starts_with("* ")
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the line is like this; then new variables keep what they stood for.
    pub(super) fn matches(&self, line: &[u8], variables: &mut Variables) -> bool {
        let mut found = variables.clone();
        let fits = fits(&self.parts, line, &mut found);
        if fits {
            *variables = found;
        }
        fits
    }
}

/// The name of the variable that begins here. Keywords such as `$MDNSent` are none: variables are in lower case.
fn variable(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let len = name.bytes().take_while(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit()).count();
    (len > 0 && !name.as_bytes()[0].is_ascii_digit()).then(|| &name[..len])
}

fn fits(parts: &[Part], line: &[u8], variables: &mut Variables) -> bool {
    let Some((part, rest)) = parts.split_first() else { return line.is_empty() };
    match part {
        Part::Exactly(text) => line.strip_prefix(text.as_slice()).is_some_and(|line| fits(rest, line, variables)),
        Part::Anything => (0..=line.len()).any(|taken| fits(rest, &line[taken..], variables)),
        Part::Variable(name) => {
            if let Some(value) = variables.get(name).cloned() {
                return line.strip_prefix(value.as_slice()).is_some_and(|line| fits(rest, line, variables));
            }
            let longest = line.iter().take_while(|octet| !b" ()[]\"\r\n".contains(octet)).count();
            (1..=longest).rev().any(|taken| {
                let mut found = variables.clone();
                found.insert(name.clone(), line[..taken].to_vec());
                let fits = fits(rest, &line[taken..], &mut found);
                if fits {
                    *variables = found;
                }
                fits
            })
        }
    }
}

/// The text with its variables filled in.
pub(super) fn fill(text: &str, variables: &Variables) -> Result<Vec<u8>, String> {
    let mut filled = Vec::new();
    for part in Pattern::new(text).parts {
        match part {
            Part::Exactly(text) => filled.extend(text),
            Part::Anything => filled.extend_from_slice(b"..."),
            Part::Variable(name) => {
                filled.extend(variables.get(&name).ok_or_else(|| format!("${name} has no value yet"))?);
            }
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_match_anything_and_variables_stay() {
        let mut variables = Variables::new();
        assert!(Pattern::new("* OK [UIDVALIDITY $v] ...").matches(b"* OK [UIDVALIDITY 17] fine", &mut variables));
        assert_eq!(variables["v"], b"17");
        assert!(Pattern::new("* STATUS x (UIDVALIDITY $v)").matches(b"* STATUS x (UIDVALIDITY 17)", &mut variables));
        assert!(!Pattern::new("* STATUS x (UIDVALIDITY $v)").matches(b"* STATUS x (UIDVALIDITY 18)", &mut variables));
        assert!(!Pattern::new("a OK").matches(b"a OK done", &mut variables));
        assert!(Pattern::new("a OK...").matches(b"a OK", &mut variables));
        assert_eq!(fill("UID $v $Forwarded", &variables).unwrap(), b"UID 17 $Forwarded");
    }
}
