//! What a SEARCH tells of what it has found, and keeps of it. RFC 4731 (ESEARCH), RFC 5182 (SEARCHRES).
//!
//!     C: A285 UID SEARCH RETURN (MIN MAX SAVE) 1:5000
//!     S: * ESEARCH (TAG "A285") UID MIN 7 MAX 3800        and `$` is these two

use super::{
    settings::Settings,
    syntax::{Cursor, Malformed, runs, string},
};

/// The options behind RETURN; none without it.
#[derive(Debug)]
pub(super) struct Return(Option<Vec<String>>);

impl Return {
    /// Reads `RETURN (MIN COUNT) `, if it is there.
    pub(super) fn read(cursor: &mut Cursor<'_>, settings: &Settings) -> Result<Self, Malformed> {
        if !settings.has("ESEARCH") || !cursor.eat(b"RETURN ") {
            return Ok(Self(None));
        }
        let options: Vec<String> = cursor.words()?.iter().map(|option| option.to_uppercase()).collect();
        cursor.space()?;
        let known = |option: &String| match option.as_str() {
            "MIN" | "MAX" | "ALL" | "COUNT" => true,
            "SAVE" => settings.has("SEARCHRES"),
            _ => false,
        };
        if options.iter().all(known) { Ok(Self(Some(options))) } else { Err(Malformed) }
    }

    fn has(&self, option: &str) -> bool {
        self.0.as_ref().is_some_and(|options| options.iter().any(|word| word == option))
    }

    /// It is answered by SEARCH.
    pub(super) fn is_plain(&self) -> bool {
        self.0.is_none()
    }

    /// `$` will be what it finds.
    pub(super) fn saves(&self) -> bool {
        self.has("SAVE")
    }

    /// What `$` will be. RFC 5182 2.4: who asks for the ends alone gets the ends alone.
    pub(super) fn kept<'a, T>(&self, found: &'a [T]) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let narrow = (self.has("MIN") || self.has("MAX")) && !self.has("ALL") && !self.has("COUNT");
        let (min, max, count) = (self.has("MIN"), self.has("MAX"), found.len());
        let kept = move |at: usize| !narrow || (min && at == 0) || (max && at + 1 == count);
        found.iter().enumerate().filter(move |(at, _)| kept(*at)).map(|(_, one)| one)
    }

    /// The line that answers, if there is one. What is found ascends, but where it is plain.
    pub(super) fn tell(&self, tag: &str, by_uid: bool, found: &[u32]) -> Option<String> {
        let Some(options) = &self.0 else {
            let said: String = found.iter().map(|number| format!(" {number}")).collect();
            return Some(format!("* SEARCH{said}"));
        };
        if options.len() == 1 && self.saves() {
            return None;
        }
        let all = self.has("ALL") || options.is_empty();
        let items = [
            found.first().filter(|_| self.has("MIN")).map(|number| format!(" MIN {number}")),
            found.last().filter(|_| self.has("MAX")).map(|number| format!(" MAX {number}")),
            (all && !found.is_empty()).then(|| format!(" ALL {}", runs(found))),
            self.has("COUNT").then(|| format!(" COUNT {}", found.len())),
        ];
        let uid = if by_uid { " UID" } else { "" };
        let said: String = items.into_iter().flatten().collect();
        Some(format!("* ESEARCH (TAG {}){uid}{said}", string(tag.as_bytes())))
    }
}
