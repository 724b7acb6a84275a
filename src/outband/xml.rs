//! As much of XML 1.0 as payloads and streams need: one element with attributes, and with text or without; or its tag, or its text.
//!
//!     <xemn uid="18" subject="Tom &amp; Jerry">Romeo, where are you?</xemn>
//!
//! A declaration, a DOCTYPE and comments may stand before it, and are passed over: nothing is declared, nothing is fetched.

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct XmlError {
    /// What should have been there.
    pub(super) expected: &'static str,
    /// Where, counted in octets from 0.
    pub(super) at: usize,
}

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

/// The tag with which an element begins.
pub(super) struct Tag {
    /// Its name.
    pub(super) name: String,
    /// Each name once.
    pub(super) attributes: Vec<Attribute>,
    /// Whether it is also its end.
    pub(super) is_empty: bool,
}

/// An attribute, its references resolved.
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) value: String,
    /// Where its value begins.
    pub(super) at: usize,
}

/// The element that these octets are.
pub(super) fn read(octets: &[u8]) -> Result<Element, XmlError> {
    let mut reader = Reader::over(octets)?;
    reader.take("\u{feff}");
    reader.prolog()?;
    let element = reader.element()?;
    reader.blank();
    if reader.rest().is_empty() { Ok(element) } else { Err(reader.expected("the end")) }
}

/// The tag that these octets are.
pub(super) fn tag(octets: &[u8]) -> Result<Tag, XmlError> {
    let mut reader = Reader::over(octets)?;
    let tag = reader.tag()?;
    if reader.rest().is_empty() { Ok(tag) } else { Err(reader.expected("the end of a tag")) }
}

/// The text that these octets are: there is no tag in it.
pub(super) fn text(octets: &[u8]) -> Result<String, XmlError> {
    let mut reader = Reader::over(octets)?;
    let text = reader.characters('<', '\n')?;
    if reader.rest().is_empty() { Ok(text) } else { Err(reader.expected("text")) }
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
    fn over(octets: &'a [u8]) -> Result<Self, XmlError> {
        let utf8 = |error: std::str::Utf8Error| XmlError { expected: "UTF-8", at: error.valid_up_to() };
        Ok(Self { text: std::str::from_utf8(octets).map_err(utf8)?, at: 0 })
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn expected(&self, expected: &'static str) -> XmlError {
        XmlError { expected, at: self.at }
    }

    fn take(&mut self, word: &str) -> bool {
        let taken = self.rest().starts_with(word);
        self.at += if taken { word.len() } else { 0 };
        taken
    }

    fn need(&mut self, word: &'static str) -> Result<(), XmlError> {
        if self.take(word) { Ok(()) } else { Err(self.expected(word)) }
    }

    fn blank(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    /// Passes over all up to this word, and the word.
    fn pass(&mut self, word: &'static str) -> Result<(), XmlError> {
        self.at += self.rest().find(word).ok_or(self.expected(word))? + word.len();
        Ok(())
    }

    fn prolog(&mut self) -> Result<(), XmlError> {
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

    fn element(&mut self) -> Result<Element, XmlError> {
        let at = self.at + "<".len();
        let Tag { name, attributes, is_empty } = self.tag()?;
        if is_empty {
            return Ok(Element { name, at, attributes, text: String::new() });
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

    fn tag(&mut self) -> Result<Tag, XmlError> {
        if !self.take("<") {
            return Err(self.expected("an element"));
        }
        let name = self.name()?;
        let mut attributes: Vec<Attribute> = Vec::new();
        loop {
            self.blank();
            let is_empty = self.take("/>");
            if is_empty || self.take(">") {
                return Ok(Tag { name, attributes, is_empty });
            }
            let begin = self.at;
            let attribute = self.attribute()?;
            if attributes.iter().any(|other| other.name == attribute.name) {
                return Err(XmlError { expected: "each attribute once", at: begin });
            }
            attributes.push(attribute);
        }
    }

    fn name(&mut self) -> Result<String, XmlError> {
        let end = self.rest().find([' ', '\t', '\r', '\n', '=', '/', '<', '>', '&', '"', '\'']);
        let name = &self.rest()[..end.unwrap_or(self.rest().len())];
        if name.is_empty() {
            return Err(self.expected("a name"));
        }
        self.at += name.len();
        Ok(name.to_owned())
    }

    fn attribute(&mut self) -> Result<Attribute, XmlError> {
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
    fn characters(&mut self, end: char, line: char) -> Result<String, XmlError> {
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

    fn reference(&mut self) -> Result<char, XmlError> {
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
