//! Parses the text of a rule into a tree. Traefik parses rules as Go expressions of calls with strings, `&&`, `||`, `!`
//! and parentheses.

use std::fmt;

/// Maximum depth of expressions. Our own rules have two levels.
const DEPTH_LIMIT: usize = 100;

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleTree {
    /// Two or more, so that a long chain is not a deep tree.
    And(Vec<RuleTree>),
    /// Two or more.
    Or(Vec<RuleTree>),
    Call(RuleCall),
}

/// A matcher with its arguments, such as `Host("shop.example")`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleCall {
    pub negated: bool,
    pub name: String,
    pub arguments: Vec<String>,
}

impl fmt::Display for RuleCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { negated, name, arguments } = self;
        let arguments: Vec<String> = arguments.iter().map(|argument| format!("{argument:?}")).collect();
        write!(f, "{}{name}({})", if *negated { "!" } else { "" }, arguments.join(", "))
    }
}

/// A rule that Traefik refuses. It has no router for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("{wanted} is missing at {rest:?}")]
    Syntax { wanted: &'static str, rest: String },
    #[error("more than {DEPTH_LIMIT} expressions within each other")]
    TooDeep,
    #[error("there is no matcher {name} in syntax {syntax}")]
    UnknownMatcher { name: String, syntax: &'static str },
    #[error("{call}: {message}")]
    Argument { call: String, message: String },
}

impl RuleTree {
    /// Parses a rule.
    ///
    /// # Errors
    /// If Go's parser would refuse it.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let mut parser = RuleParser { text, at: 0, depth: 0 };
        let tree = parser.either()?;
        if parser.rest().is_empty() { Ok(tree) } else { Err(parser.missing("&& or ||")) }
    }

    fn inverted(self) -> Self {
        let inverted = |parts: Vec<Self>| parts.into_iter().map(Self::inverted).collect();
        match self {
            Self::And(parts) => Self::Or(inverted(parts)),
            Self::Or(parts) => Self::And(inverted(parts)),
            Self::Call(call) => Self::Call(RuleCall { negated: !call.negated, ..call }),
        }
    }
}

/// One part alone is joined with nothing.
fn joined(mut parts: Vec<RuleTree>, by: fn(Vec<RuleTree>) -> RuleTree) -> RuleTree {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            by(parts)
        }
    }
}

struct RuleParser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> RuleParser<'a> {
    /// The rest without leading whitespace.
    fn rest(&mut self) -> &'a str {
        let rest = self.text[self.at..].trim_start_matches([' ', '\t', '\r', '\n']);
        self.at = self.text.len() - rest.len();
        rest
    }

    fn missing(&mut self, wanted: &'static str) -> RuleError {
        RuleError::Syntax { wanted, rest: self.rest().chars().take(20).collect() }
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn either(&mut self) -> Result<RuleTree, RuleError> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err(RuleError::TooDeep);
        }
        let mut parts = vec![self.both()?];
        while self.take("||") {
            parts.push(self.both()?);
        }
        self.depth -= 1;
        Ok(joined(parts, RuleTree::Or))
    }

    fn both(&mut self) -> Result<RuleTree, RuleError> {
        let mut parts = vec![self.single()?];
        while self.take("&&") {
            parts.push(self.single()?);
        }
        Ok(joined(parts, RuleTree::And))
    }

    fn single(&mut self) -> Result<RuleTree, RuleError> {
        let mut negated = false;
        while self.take("!") {
            negated = !negated;
        }
        let tree = if self.take("(") {
            let tree = self.either()?;
            if !self.take(")") {
                return Err(self.missing(")"));
            }
            tree
        } else {
            RuleTree::Call(self.call()?)
        };
        Ok(if negated { tree.inverted() } else { tree })
    }

    fn call(&mut self) -> Result<RuleCall, RuleError> {
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        self.at += end;
        let name = rest[..end].to_owned();
        if name.is_empty() || !self.take("(") {
            return Err(self.missing("a matcher such as Host(\"shop.example\")"));
        }
        let mut arguments = Vec::new();
        while !self.take(")") {
            arguments.push(self.argument()?);
            if !self.take(",") && !self.rest().starts_with(')') {
                return Err(self.missing(", or )"));
            }
        }
        Ok(RuleCall { negated: false, name, arguments })
    }

    fn argument(&mut self) -> Result<String, RuleError> {
        if self.take("`") {
            let rest = &self.text[self.at..];
            let Some(end) = rest.find('`') else { return Err(self.missing("the closing `")) };
            self.at += end + 1;
            return Ok(rest[..end].replace('\r', ""));
        }
        if !self.take("\"") {
            return Err(self.missing("a text in quotes"));
        }
        let mut bytes = Vec::new();
        loop {
            let Some(character) = self.text[self.at..].chars().next().filter(|c| *c != '\n') else {
                return Err(self.missing("the closing quote"));
            };
            self.at += character.len_utf8();
            match character {
                '"' => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                '\\' => self.escape(&mut bytes)?,
                other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    /// An escape of a Go string. `\x` and octal escapes are bytes, the others are characters.
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), RuleError> {
        let rest = &self.text[self.at..];
        let Some(kind) = rest.chars().next() else { return Err(self.missing("an escape")) };
        let (skip, digits, radix) = match kind {
            'x' => (1, 2, 16),
            'u' => (1, 4, 16),
            'U' => (1, 8, 16),
            '0'..='7' => (0, 3, 8),
            _ => (1, 0, 10),
        };
        self.at += skip * kind.len_utf8() + digits;
        if digits == 0 {
            let plain = ["a\u{7}", "b\u{8}", "f\u{c}", "n\n", "r\r", "t\t", "v\u{b}", "\\\\", "\"\""];
            let plain = plain.iter().find_map(|pair| pair.strip_prefix(kind));
            bytes.extend_from_slice(plain.ok_or_else(|| self.missing("an escape"))?.as_bytes());
            return Ok(());
        }
        let value = rest.get(skip..skip + digits).and_then(|text| u32::from_str_radix(text, radix).ok());
        let character = value.and_then(char::from_u32);
        let byte = value.and_then(|value| u8::try_from(value).ok());
        match (kind, character, byte) {
            ('u' | 'U', Some(character), _) => {
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            ('x' | '0'..='7', _, Some(byte)) => bytes.push(byte),
            _ => {
                self.at = self.text.len();
                return Err(self.missing("the digits of an escape"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tree: &RuleTree) -> String {
        match tree {
            RuleTree::Call(call) => call.to_string(),
            RuleTree::And(parts) => format!("({})", parts.iter().map(shown).collect::<Vec<_>>().join(" && ")),
            RuleTree::Or(parts) => format!("({})", parts.iter().map(shown).collect::<Vec<_>>().join(" || ")),
        }
    }

    #[test]
    fn and_binds_tighter_than_or_and_not_reaches_every_call() {
        for (text, tree) in [
            (r#"Host("a") && Path(`/x\y`)"#, r#"(Host("a") && Path("/x\\y"))"#),
            (r#"A("1") || B("2") && C("3")"#, r#"(A("1") || (B("2") && C("3")))"#),
            (r#"!(A("1") || !B("2")) && C("3","4",)"#, r#"((!A("1") && B("2")) && C("3", "4"))"#),
            (r#"Path("\x7f\u00a0\U0001F600\n\"\\\101")"#, r#"Path("\u{7f}\u{a0}😀\n\"\\A")"#),
        ] {
            assert_eq!(RuleTree::parse(text).as_ref().map(shown).as_deref(), Ok(tree));
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        let deep = "(".repeat(100_000);
        for text in [
            "",
            "Host",
            "Host(",
            "Host(a)",
            "Host(\"a)",
            "Host(\"a\") Path(\"/\")",
            "(Host(\"a\")",
            "Host(\"\\q\")",
            "Host(\"\\xZé\")",
            "&& Host(\"a\")",
            &deep,
        ] {
            assert!(RuleTree::parse(text).is_err(), "{text:?}");
        }
    }
}
