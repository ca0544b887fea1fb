//! Label selectors as the API server parses them, so that a bad one is found before the first connection and
//! manifests in files are filtered as the API server would.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::kubernetes::name;

/// A checked label selector. The empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    text: String,
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Missing,
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Above(i64),
    Below(i64),
}

impl LabelSelector {
    /// Parses a selector.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with the value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let tokens = lex(text);
        let mut parser = Parser { tokens: &tokens, at: 0 };
        Ok(Self { text: text.to_owned(), requirements: parser.requirements()? })
    }

    /// The selector as it was written, for the `labelSelector` of a request.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it selects everything.
    pub fn selects_all(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.test {
                Test::Exists => value.is_some(),
                Test::Missing => value.is_none(),
                Test::In(values) => value.is_some_and(|value| values.contains(value)),
                Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Test::Above(bound) => number(value).is_some_and(|value| value > *bound),
                Test::Below(bound) => number(value).is_some_and(|value| value < *bound),
            }
        })
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn number(value: Option<&String>) -> Option<i64> {
    value.and_then(|value| value.parse().ok())
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Not,
    Equal,
    NotEqual,
    Above,
    Below,
    Open,
    Close,
    Comma,
}

impl Token {
    fn shown(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Not => "!",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Above => ">",
            Self::Below => "<",
            Self::Open => "(",
            Self::Close => ")",
            Self::Comma => ",",
        }
    }
}

fn lex(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        tokens.push(match c {
            ' ' | '\t' | '\r' | '\n' => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            ',' => Token::Comma,
            '>' => Token::Above,
            '<' => Token::Below,
            '=' => {
                characters.next_if_eq(&'=');
                Token::Equal
            }
            '!' => match characters.next_if_eq(&'=') {
                Some(_) => Token::NotEqual,
                None => Token::Not,
            },
            first => {
                let mut word = first.to_string();
                while let Some(next) = characters.next_if(|c| !" \t\r\n(),<>=!".contains(*c)) {
                    word.push(next);
                }
                Token::Word(word)
            }
        });
    }
    tokens
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        if self.tokens.is_empty() {
            return Ok(requirements);
        }
        loop {
            requirements.push(self.requirement()?);
            match self.next() {
                None => return Ok(requirements),
                Some(Token::Comma) => {}
                Some(token) => return Err(format!("`{}` stands where `,` or the end should", token.shown())),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.peek() == Some(&Token::Not);
        if negated {
            self.at += 1;
        }
        let key = match self.next() {
            Some(Token::Word(word)) => label_key(word)?,
            Some(token) => return Err(format!("`{}` stands where a label should", token.shown())),
            None => return Err("a label is missing at the end".to_owned()),
        };
        if negated {
            return Ok(Requirement { key, test: Test::Missing });
        }
        let test = match self.peek() {
            None | Some(Token::Comma) => Test::Exists,
            Some(operator) => {
                let operator = operator.clone();
                self.at += 1;
                self.test(&operator)?
            }
        };
        Ok(Requirement { key, test })
    }

    fn test(&mut self, operator: &Token) -> Result<Test, String> {
        Ok(match operator {
            Token::Equal => Test::In(BTreeSet::from([self.value()?])),
            Token::NotEqual => Test::NotIn(BTreeSet::from([self.value()?])),
            Token::Above => Test::Above(self.integer()?),
            Token::Below => Test::Below(self.integer()?),
            Token::Word(word) if word == "in" => Test::In(self.values()?),
            Token::Word(word) if word == "notin" => Test::NotIn(self.values()?),
            other => return Err(format!("`{}` is no operator (=, ==, !=, in, notin, <, >)", other.shown())),
        })
    }

    /// One value; it may be empty.
    fn value(&mut self) -> Result<String, String> {
        match self.peek() {
            Some(Token::Word(word)) => {
                let word = word.clone();
                self.at += 1;
                label_value(word)
            }
            None | Some(Token::Comma) => Ok(String::new()),
            Some(token) => Err(format!("`{}` stands where a value should", token.shown())),
        }
    }

    fn integer(&mut self) -> Result<i64, String> {
        let value = self.value()?;
        value.parse().map_err(|_| format!("`{value}` after < or > is no whole number"))
    }

    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        if self.next() != Some(Token::Open) {
            return Err("`in` and `notin` need a list in parentheses".to_owned());
        }
        if self.peek() == Some(&Token::Close) {
            return Err("the list in parentheses is empty".to_owned());
        }
        let mut values = BTreeSet::new();
        let mut word = None;
        loop {
            match self.next() {
                Some(Token::Word(next)) if word.is_none() => word = Some(label_value(next)?),
                Some(Token::Comma) => {
                    values.insert(word.take().unwrap_or_default());
                }
                Some(Token::Close) => {
                    values.insert(word.unwrap_or_default());
                    return Ok(values);
                }
                Some(token) => return Err(format!("`{}` stands where `,` or `)` should", token.shown())),
                None => return Err("a `)` is missing".to_owned()),
            }
        }
    }
}

fn label_key(key: String) -> Result<String, String> {
    if name::is_label_key(&key) { Ok(key) } else { Err(format!("`{key}` is no label")) }
}

fn label_value(value: String) -> Result<String, String> {
    if name::is_label_value(&value) { Ok(value) } else { Err(format!("`{value}` is no value of a label")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        LabelSelector::parse(selector).unwrap().matches(&labels)
    }

    #[test]
    fn every_operator_selects_as_the_api_server_does() {
        let labels = [("app", "web"), ("example.com/tier", ""), ("n", "7")];
        for selector in [
            "",
            " ",
            "app",
            "!other",
            "app=web",
            "app==web",
            "app!=api",
            "other!=x",
            "app in (web, api)",
            "app in(web)",
            "app notin (api)",
            "other notin (x)",
            "example.com/tier=",
            "example.com/tier in (,x)",
            "n>6",
            "n < 8",
            "app=web,n,!other",
            "in!=x",
            "app!=notin",
        ] {
            assert!(selects(selector, &labels), "{selector}");
        }
        for selector in [
            "!app",
            "other",
            "app!=web",
            "app in (api)",
            "app notin (web)",
            "n>7",
            "app>1",
            "other=",
            "other<1",
        ] {
            assert!(!selects(selector, &labels), "{selector}");
        }
    }

    #[test]
    fn what_the_api_server_refuses_is_refused_with_a_reason() {
        for (selector, reason) in [
            (",", "`,` stands where a label should"),
            ("a,", "a label is missing at the end"),
            ("a=b c", "`c` stands where `,` or the end should"),
            ("a b", "`b` is no operator (=, ==, !=, in, notin, <, >)"),
            ("a in b", "`in` and `notin` need a list in parentheses"),
            ("a in ()", "the list in parentheses is empty"),
            ("a in (b", "a `)` is missing"),
            ("a in (b c)", "`c` stands where `,` or `)` should"),
            ("a>b", "`b` after < or > is no whole number"),
            ("a=(", "`(` stands where a value should"),
            ("!a=b", "`=` stands where `,` or the end should"),
            ("-a", "`-a` is no label"),
            ("UPPER.example/x", "`UPPER.example/x` is no label"),
            ("a/b/c", "`a/b/c` is no label"),
            ("a=b/c", "`b/c` is no value of a label"),
        ] {
            assert_eq!(LabelSelector::parse(selector).unwrap_err(), reason, "{selector}");
        }
        assert!(LabelSelector::parse(&format!("a={}", "x".repeat(64))).is_err());
    }
}
