//! Label selectors as the API server parses them, so that a bad one is found before the first connection and
//! manifests in files are filtered as the API server would.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kube::core::{Expression, SelectorExt as _};

use crate::kubernetes::name;

/// A checked label selector. The empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    text: String,
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Expression(Expression),
    Above(String, i64),
    Below(String, i64),
}

impl LabelSelector {
    /// Parses a selector.
    ///
    /// # Errors
    /// The fault, as the end of a sentence that begins with the value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser(tokens(text));
        Ok(Self { text: text.to_owned(), requirements: parser.requirements()? })
    }

    /// The selector as it was written, for the `labelSelector` of a request.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let number = |key| labels.get(key).and_then(|value| value.parse::<i64>().ok());
        self.requirements.iter().all(|requirement| match requirement {
            Requirement::Expression(expression) => expression.matches(labels),
            Requirement::Above(key, bound) => number(key).is_some_and(|value| value > *bound),
            Requirement::Below(key, bound) => number(key).is_some_and(|value| value < *bound),
        })
    }
}

const BLANKS: [char; 4] = [' ', '\t', '\r', '\n'];
const OPERATORS: [char; 7] = ['(', ')', ',', '<', '>', '=', '!'];

/// The words and operators of a selector; `==` is returned as `=`.
fn tokens(text: &str) -> VecDeque<&str> {
    let mut tokens = VecDeque::new();
    let mut rest = text.trim_start_matches(BLANKS);
    while let Some(first) = rest.chars().next() {
        let (length, token) = match first {
            '=' if rest.starts_with("==") => (2, "="),
            '!' if rest.starts_with("!=") => (2, "!="),
            first if OPERATORS.contains(&first) => (1, &rest[..1]),
            _ => {
                let end = rest.find(|c| BLANKS.contains(&c) || OPERATORS.contains(&c)).unwrap_or(rest.len());
                (end, &rest[..end])
            }
        };
        tokens.push_back(token);
        rest = rest[length..].trim_start_matches(BLANKS);
    }
    tokens
}

fn is_word(token: &str) -> bool {
    !token.starts_with(OPERATORS)
}

struct Parser<'a>(VecDeque<&'a str>);

impl<'a> Parser<'a> {
    fn next_if(&mut self, is_wanted: impl FnOnce(&str) -> bool) -> Option<&'a str> {
        self.0.front().filter(|token| is_wanted(token))?;
        self.0.pop_front()
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        if self.0.is_empty() {
            return Ok(requirements);
        }
        loop {
            requirements.push(self.requirement()?);
            match self.0.pop_front() {
                None => return Ok(requirements),
                Some(",") => {}
                Some(token) => return Err(format!("`{token}` found where `,` or the end was expected")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let negated = self.next_if(|token| token == "!").is_some();
        let key = match self.0.pop_front() {
            Some(word) if name::is_label_key(word) => word.to_owned(),
            Some(word) if is_word(word) => return Err(format!("`{word}` is not a label")),
            Some(token) => return Err(format!("`{token}` found where a label was expected")),
            None => return Err("a label is missing at the end".to_owned()),
        };
        if negated {
            return Ok(Requirement::Expression(Expression::DoesNotExist(key)));
        }
        Ok(Requirement::Expression(match self.next_if(|token| token != ",") {
            None => Expression::Exists(key),
            Some("=") => Expression::Equal(key, self.value()?),
            Some("!=") => Expression::NotEqual(key, self.value()?),
            Some("in") => Expression::In(key, self.values()?),
            Some("notin") => Expression::NotIn(key, self.values()?),
            Some(">") => return Ok(Requirement::Above(key, self.integer()?)),
            Some("<") => return Ok(Requirement::Below(key, self.integer()?)),
            Some(other) => return Err(format!("`{other}` is not an operator (=, ==, !=, in, notin, <, >)")),
        }))
    }

    /// One value; it may be empty.
    fn value(&mut self) -> Result<String, String> {
        match self.next_if(|token| token != ",") {
            None => Ok(String::new()),
            Some(word) if is_word(word) => label_value(word),
            Some(token) => Err(format!("`{token}` found where a value was expected")),
        }
    }

    fn integer(&mut self) -> Result<i64, String> {
        let value = self.value()?;
        value.parse().map_err(|_| format!("`{value}` after < or > is not a whole number"))
    }

    fn values(&mut self) -> Result<BTreeSet<String>, String> {
        if self.0.pop_front() != Some("(") {
            return Err("`in` and `notin` need a list in parentheses".to_owned());
        }
        if self.0.front() == Some(&")") {
            return Err("the list in parentheses is empty".to_owned());
        }
        let mut values = BTreeSet::new();
        loop {
            values.insert(self.next_if(is_word).map_or_else(|| Ok(String::new()), label_value)?);
            match self.0.pop_front() {
                Some(",") => {}
                Some(")") => return Ok(values),
                Some(token) => return Err(format!("`{token}` found where `,` or `)` was expected")),
                None => return Err("a `)` is missing".to_owned()),
            }
        }
    }
}

fn label_value(value: &str) -> Result<String, String> {
    if name::is_label_value(value) {
        Ok(value.to_owned())
    } else {
        Err(format!("`{value}` is not a label value"))
    }
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
            (",", "`,` found where a label was expected"),
            ("a,", "a label is missing at the end"),
            ("a=b c", "`c` found where `,` or the end was expected"),
            ("a b", "`b` is not an operator (=, ==, !=, in, notin, <, >)"),
            ("a in b", "`in` and `notin` need a list in parentheses"),
            ("a in ()", "the list in parentheses is empty"),
            ("a in (b", "a `)` is missing"),
            ("a in (b c)", "`c` found where `,` or `)` was expected"),
            ("a>b", "`b` after < or > is not a whole number"),
            ("a=(", "`(` found where a value was expected"),
            ("!a=b", "`=` found where `,` or the end was expected"),
            ("-a", "`-a` is not a label"),
            ("UPPER.example/x", "`UPPER.example/x` is not a label"),
            ("a/b/c", "`a/b/c` is not a label"),
            ("a=b/c", "`b/c` is not a label value"),
        ] {
            assert_eq!(LabelSelector::parse(selector).unwrap_err(), reason, "{selector}");
        }
        assert!(LabelSelector::parse(&format!("a={}", "x".repeat(64))).is_err());
    }
}
