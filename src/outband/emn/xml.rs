//! As much of XML 1.0 as a payload needs: one element with attributes, and with text or without.
//!
//!     <xemn uid="18" subject="Tom &amp; Jerry">Romeo, where are you?</xemn>
//!
//! A declaration, a DOCTYPE and comments may stand before it, and are passed over: nothing is declared, nothing is fetched.

use super::EmnError;

/// An element.
pub(super) struct Element {
    /// Its name.
    pub(super) name: String,
    /// Where it begins.
    pub(super) at: usize,
    /// Each name once.
    pub(super) attributes: Vec<Attribute>,
    /// What it contains.
    pub(super) text: String,
}

/// An attribute, its references resolved.
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) value: String,
    /// Where its value begins.
    pub(super) at: usize,
}

/// The element that these octets are.
pub(super) fn read(octets: &[u8]) -> Result<Element, EmnError> {
    let utf8 = |error: std::str::Utf8Error| EmnError { expected: "UTF-8", at: error.valid_up_to() };
    let mut reader = Reader { text: std::str::from_utf8(octets).map_err(utf8)?, at: 0 };
    reader.take("\u{feff}");
    reader.prolog()?;
    let element = reader.element()?;
    reader.blank();
    if reader.rest().is_empty() { Ok(element) } else { Err(reader.expected("the end")) }
}

/// Adds an attribute.
pub(super) fn attribute(name: &str, value: &str, out: &mut String) {
    out.push_str(&format!(" {name}=\""));
    for character in value.chars() {
        match character {
            // Unescaped, each of them would be read as a space (XML 1.0 3.3.3).
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '"' => out.push_str("&quot;"),
            _ => escape(character, out),
        }
    }
    out.push('"');
}

/// Text as it stands in an element.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::new();
    text.chars().for_each(|character| escape(character, &mut out));
    out
}

fn escape(character: char, out: &mut String) {
    match character {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        // Unescaped, it would be read as the end of a line (XML 1.0 2.11).
        '\r' => out.push_str("&#13;"),
        _ => out.push(character),
    }
}

/// XML 1.0 2.2: Char. Others cannot be said, not even by their numbers.
pub(super) fn is_allowed(character: char) -> bool {
    !matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

struct Reader<'a> {
    text: &'a str,
    /// How far it is read: between two characters.
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn expected(&self, expected: &'static str) -> EmnError {
        EmnError { expected, at: self.at }
    }

    fn take(&mut self, word: &str) -> bool {
        let taken = self.rest().starts_with(word);
        self.at += if taken { word.len() } else { 0 };
        taken
    }

    fn need(&mut self, word: &'static str) -> Result<(), EmnError> {
        if self.take(word) { Ok(()) } else { Err(self.expected(word)) }
    }

    fn blank(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    /// Passes over all up to this word, and the word.
    fn pass(&mut self, word: &'static str) -> Result<(), EmnError> {
        self.at += self.rest().find(word).ok_or(self.expected(word))? + word.len();
        Ok(())
    }

    fn prolog(&mut self) -> Result<(), EmnError> {
        loop {
            self.blank();
            if self.take("<?") {
                self.pass("?>")?;
            } else if self.take("<!--") {
                self.pass("-->")?;
            } else if self.take("<!DOCTYPE") {
                let end = self.rest().find(['>', '[']).unwrap_or(self.rest().len());
                self.at += end;
                if !self.take(">") {
                    return Err(self.expected("a DOCTYPE without declarations"));
                }
            } else {
                return Ok(());
            }
        }
    }

    fn element(&mut self) -> Result<Element, EmnError> {
        if !self.take("<") {
            return Err(self.expected("an element"));
        }
        let at = self.at;
        let name = self.name()?;
        let mut attributes: Vec<Attribute> = Vec::new();
        loop {
            self.blank();
            if self.take("/>") {
                return Ok(Element { name, at, attributes, text: String::new() });
            }
            if self.take(">") {
                break;
            }
            let begin = self.at;
            let attribute = self.attribute()?;
            if attributes.iter().any(|other| other.name == attribute.name) {
                return Err(EmnError { expected: "each attribute once", at: begin });
            }
            attributes.push(attribute);
        }
        let text = self.characters('<', '\n')?;
        self.need("</")?;
        if !self.take(&name) {
            return Err(self.expected("the name of the element"));
        }
        self.blank();
        self.need(">")?;
        Ok(Element { name, at, attributes, text })
    }

    fn name(&mut self) -> Result<String, EmnError> {
        let end = self.rest().find([' ', '\t', '\r', '\n', '=', '/', '<', '>', '&', '"', '\'']);
        let name = &self.rest()[..end.unwrap_or(self.rest().len())];
        if name.is_empty() {
            return Err(self.expected("a name"));
        }
        self.at += name.len();
        Ok(name.to_owned())
    }

    fn attribute(&mut self) -> Result<Attribute, EmnError> {
        let name = self.name()?;
        self.blank();
        self.need("=")?;
        self.blank();
        let quote = self.rest().chars().next().filter(|quote| ['"', '\''].contains(quote));
        let quote = quote.ok_or(self.expected("a quoted value"))?;
        self.at += 1;
        let at = self.at;
        let value = self.characters(quote, ' ')?;
        if !self.rest().starts_with(quote) {
            return Err(self.expected("the end of a value"));
        }
        self.at += 1;
        Ok(Attribute { name, value, at })
    }

    /// Characters up to the end of the value or the text, which is not taken. What ends a line, and in a value a tab, becomes this.
    fn characters(&mut self, end: char, line: char) -> Result<String, EmnError> {
        let mut out = String::new();
        while let Some(character) = self.rest().chars().next().filter(|character| ![end, '<'].contains(character)) {
            match character {
                '&' => out.push(self.reference()?),
                '\r' | '\n' => {
                    out.push(line);
                    self.at += if self.rest().starts_with("\r\n") { 2 } else { 1 };
                }
                '\t' if line == ' ' => {
                    out.push(line);
                    self.at += 1;
                }
                _ if is_allowed(character) => {
                    out.push(character);
                    self.at += character.len_utf8();
                }
                _ => return Err(self.expected("a character that XML allows")),
            }
        }
        Ok(out)
    }

    fn reference(&mut self) -> Result<char, EmnError> {
        let error = self.expected("a reference that XML knows");
        let (name, _) = self.rest()[1..].split_once(';').ok_or(error)?;
        let character = match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let code = name.strip_prefix('#').ok_or(error)?;
                let (digits, radix) = code.strip_prefix('x').map_or((code, 10), |digits| (digits, 16));
                let code = u32::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'));
                code.and_then(char::from_u32).filter(|&character| is_allowed(character)).ok_or(error)?
            }
        };
        self.at += name.len() + 2;
        Ok(character)
    }
}
