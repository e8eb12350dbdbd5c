//! JSON as osquery reads it: with comments, commas before a closing bracket, and lines that a
//! backslash continues inside strings. Every value knows its line.

/// Deeper documents are refused; osquery itself reads 32.
const DEPTH_MAX: usize = 64;

/// A value and the line it begins on, from 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Line.
    pub line: usize,
    /// Value.
    pub value: Value,
}

/// A JSON value whose parts know their lines.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, a boolean, a number or text.
    Plain(serde_json::Value),
    /// A list.
    List(Vec<Node>),
    /// Members in their order, with the line of the key.
    Object(Vec<(String, usize, Node)>),
}

impl Node {
    /// A member of an object; of two with one key the last.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.members().iter().rfind(|(name, _, _)| name == key).map(|(_, _, node)| node)
    }

    /// The members of an object, in their order; none when it is no object.
    #[must_use]
    pub fn members(&self) -> &[(String, usize, Self)] {
        match &self.value {
            Value::Object(members) => members,
            _ => &[],
        }
    }

    /// Text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Plain(serde_json::Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The plain value, without lines; of two members with one key the last stays.
    #[must_use]
    pub fn plain(&self) -> serde_json::Value {
        match &self.value {
            Value::Plain(value) => value.clone(),
            Value::List(items) => items.iter().map(Self::plain).collect(),
            Value::Object(members) => {
                members.iter().map(|(key, _, node)| (key.clone(), node.plain())).collect()
            }
        }
    }
}

/// Reads a document; line and problem when it is none.
///
/// # Errors
/// The line and what is wrong there.
pub fn parse(text: &str) -> Result<Node, (usize, String)> {
    let mut parser = Parser { text, at: 0, line: 1, depth: 0 };
    parser.skip_blank()?;
    let node = parser.value()?;
    parser.skip_blank()?;
    match parser.peek() {
        None => Ok(node),
        Some(c) => parser.fail(format!("unexpected {c:?} after the document")),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    depth: usize,
}

type Parsed<T> = Result<T, (usize, String)>;

impl Parser<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        self.line += usize::from(c == '\n');
        Some(c)
    }

    fn fail<T>(&self, problem: impl Into<String>) -> Parsed<T> {
        Err((self.line, problem.into()))
    }

    /// Blanks, `// …`, `# …` and `/* … */`, and a backslash at the end of a line.
    fn skip_blank(&mut self) -> Parsed<()> {
        loop {
            let rest = self.rest();
            if rest.starts_with("//") || rest.starts_with('#') {
                while self.peek().is_some_and(|c| c != '\n') {
                    self.next();
                }
            } else if rest.starts_with("/*") {
                let begun = self.line;
                let Some(length) = rest.find("*/") else {
                    return Err((begun, "a comment that does not end".to_owned()));
                };
                let end = self.at + length + 2;
                while self.at < end {
                    self.next();
                }
            } else if rest.starts_with("\\\n")
                || rest.starts_with(|c: char| c.is_whitespace())
                || (self.at == 0 && rest.starts_with('\u{feff}'))
            {
                self.next();
            } else {
                return Ok(());
            }
        }
    }

    fn value(&mut self) -> Parsed<Node> {
        let line = self.line;
        let value = match self.peek() {
            Some('{') => self.nested(Self::object)?,
            Some('[') => self.nested(Self::list)?,
            Some('"') => Value::Plain(self.string()?.into()),
            Some(_) => Value::Plain(self.word()?),
            None => return self.fail("the document ends here"),
        };
        Ok(Node { line, value })
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Parsed<Value>) -> Parsed<Value> {
        if self.depth == DEPTH_MAX {
            return self.fail(format!("nested more than {DEPTH_MAX} levels deep"));
        }
        self.depth += 1;
        self.next();
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Parsed<Value> {
        let mut members = Vec::new();
        loop {
            self.skip_blank()?;
            if self.peek() == Some('}') {
                self.next();
                return Ok(Value::Object(members));
            }
            let line = self.line;
            if self.peek() != Some('"') {
                return self.fail("expected a key in double quotes, or }");
            }
            let key = self.string()?;
            self.skip_blank()?;
            if self.next() != Some(':') {
                return Err((line, format!("expected a colon after the key {key:?}")));
            }
            self.skip_blank()?;
            members.push((key, line, self.value()?));
            self.skip_blank()?;
            self.comma('}')?;
        }
    }

    fn list(&mut self) -> Parsed<Value> {
        let mut items = Vec::new();
        loop {
            self.skip_blank()?;
            if self.peek() == Some(']') {
                self.next();
                return Ok(Value::List(items));
            }
            items.push(self.value()?);
            self.skip_blank()?;
            self.comma(']')?;
        }
    }

    /// A comma, or the bracket that closes (which stays).
    fn comma(&mut self, close: char) -> Parsed<()> {
        match self.peek() {
            Some(',') => {
                self.next();
                Ok(())
            }
            Some(c) if c == close => Ok(()),
            Some(c) => self.fail(format!("expected a comma or {close:?}, found {c:?}")),
            None => self.fail("the document ends here"),
        }
    }

    fn string(&mut self) -> Parsed<String> {
        let begun = self.line;
        let unended = || (begun, "text that does not end".to_owned());
        // Kept as JSON text, so that escapes are read by one who knows them.
        let mut json = String::new();
        json.extend(self.next());
        loop {
            match self.next().ok_or_else(unended)? {
                '"' => {
                    json.push('"');
                    let read: Result<String, _> = serde_json::from_str(&json);
                    return read.map_err(|error| (begun, format!("text with a fault: {error}")));
                }
                '\\' => match self.next().ok_or_else(unended)? {
                    // The line goes on.
                    '\n' => {}
                    '\r' if self.peek() == Some('\n') => drop(self.next()),
                    c => json.extend(['\\', c]),
                },
                // Strict JSON wants these escaped; osquery's reader takes them.
                '\n' => json.push_str("\\n"),
                '\r' => json.push_str("\\r"),
                '\t' => json.push_str("\\t"),
                c => json.push(c),
            }
        }
    }

    fn word(&mut self) -> Parsed<serde_json::Value> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        let length = self.rest().find(|c| !is_part(c)).unwrap_or_else(|| self.rest().len());
        let word = &self.rest()[..length];
        let Ok(value) = serde_json::from_str(word) else {
            let shown = if word.is_empty() { self.rest() } else { word };
            let shown: String = shown.chars().take(20).collect();
            return self.fail(format!("{shown:?} is no JSON value"));
        };
        self.at += length;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn comments_commas_and_continued_lines_are_read() {
        let text = "// a pack\n{\n  # old style\n  \"a\": [1, 2,], /* x\n */ \"b\": {\"c\": \"d // no\",},\n  \"q\": \"SELECT 1 \\\n    FROM t\",\n}\n";
        let node = parse(text).unwrap();
        let expected = json!({"a": [1, 2], "b": {"c": "d // no"}, "q": "SELECT 1     FROM t"});
        assert_eq!(node.plain(), expected);
        assert_eq!(node.get("q").unwrap().line, 6);
    }

    #[test]
    fn faults_are_named_with_their_line() {
        let cases = [
            ("{\n\"a\": 1\n\"b\": 2}", 3, "expected a comma"),
            ("{\n\"a\": nul}", 2, "\"nul\" is no JSON value"),
            ("{\"a\": \"b", 1, "does not end"),
            ("{} x", 1, "after the document"),
            ("\n/* x", 2, "comment"),
            ("{a: 1}", 1, "double quotes"),
            ("", 1, "ends here"),
        ];
        for (text, line, words) in cases {
            let (found, problem) = parse(text).unwrap_err();
            assert_eq!(found, line, "{text}: {problem}");
            assert!(problem.contains(words), "{text}: {problem}");
        }
        assert!(parse(&"[".repeat(100_000)).unwrap_err().1.contains("levels"));
    }

    proptest::proptest! {
        #[test]
        fn strict_json_is_read_as_serde_reads_it(text in r#"[\[\]{}",:0-9a-c\\ntrue ]{0,40}"#) {
            let strict: Result<serde_json::Value, _> = serde_json::from_str(&text);
            let ours = parse(&text);
            if let Ok(strict) = strict {
                proptest::prop_assert_eq!(ours.unwrap().plain(), strict);
            }
        }
    }
}
