//! A fault in an option, as one line with the place, the value and the remedy.

use std::fmt;

use crate::redact::printable;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    /// On the command line: the flag as it was typed, without its value, and safe to show.
    Flag(String),
    /// In an environment variable of this name, safe to show.
    Variable(String),
    File {
        path: String,
        /// The line, counted from 1; 0 if the fault concerns the whole file.
        line: usize,
    },
}

impl Source {
    /// A flag as it was typed.
    pub fn flag(written: &str) -> Self {
        Self::Flag(plain(written))
    }

    /// A variable's name.
    pub fn variable(name: &str) -> Self {
        Self::Variable(plain(name))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::File { path, line: 0 } => f.write_str(&printable(path)),
            Self::File { path, line } => write!(f, "{}:{line}", printable(path)),
        }
    }
}

/// One fault. Printed as `key: source: value "…": wrong; remedy`, always in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionFault {
    /// The option's key as in a file, or the written name if no option is meant; safe to show.
    pub key: String,
    pub source: Source,
    /// The value, made safe to show; `None` if there is none or it must stay hidden.
    pub value: Option<String>,
    pub wrong: String,
    pub remedy: String,
}

impl OptionFault {
    /// A fault without a value to show.
    pub fn new(
        key: impl AsRef<str>,
        source: Source,
        wrong: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { key: plain(key.as_ref()), source, value: None, wrong: wrong.into(), remedy: remedy.into() }
    }

    /// The same with the wrong value.
    pub fn value(mut self, value: &str) -> Self {
        self.value = Some(shown(value));
        self
    }
}

impl fmt::Display for OptionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.key, self.source)?;
        if let Some(value) = &self.value {
            write!(f, "value {value:?}: ")?;
        }
        write!(f, "{}; {}", self.wrong, self.remedy)
    }
}

/// All faults together. Never empty. The program ends with exit code 2 and prints one line per fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct OptionFaults(pub Vec<OptionFault>);

fn lines(faults: &[OptionFault]) -> String {
    faults.iter().map(OptionFault::to_string).collect::<Vec<_>>().join("\n")
}

/// The number of bytes of a value that a fault shows.
pub const VALUE_LIMIT: usize = 96;

/// The part of a value that may be shown: the part before a user name and password in a URL or before the word `token`,
/// whichever comes first (a forgotten space or line break can put a token into a neighbour's value), with limited
/// length.
fn shown(value: &str) -> String {
    let lower = value.to_ascii_lowercase();
    let mut end = value.len();
    if let Some(at) = lower.find("token") {
        end = end.min(at);
    }
    if value.contains('@') {
        end = end.min(lower.find("://").map_or(0, |at| at + 3));
    }
    cut(value, end.min(VALUE_LIMIT))
}

/// A user's text outside quotes: shortened, and without anything that could break the line. The part after the name of
/// the token option is left out, since `…token:SECRET` for `…token=SECRET` is an easy slip.
pub fn plain(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut end = text.len().min(256);
    if let Some(at) = lower.find("token") {
        end = end.min(at + "token".len());
    }
    printable(&cut(text, end)).into_owned()
}

fn cut(text: &str, end: usize) -> String {
    if end >= text.len() { text.to_owned() } else { format!("{}…", &text[..text.floor_char_boundary(end)]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_with_key_source_value_and_remedy() {
        let fault = OptionFault::new("core.x", Source::Flag("--core.x".into()), "no number", "write one")
            .value("a\nb");
        assert_eq!(fault.to_string(), r#"core.x: flag --core.x: value "a\nb": no number; write one"#);
        let fault = OptionFault::new("a\nb", Source::File { path: "f\r".into(), line: 3 }, "w", "r");
        assert_eq!(fault.to_string(), r"a\nb: f\r:3: w; r");
        let fault = OptionFault::new("k", Source::File { path: "f".into(), line: 0 }, "w", "r");
        assert_eq!(fault.to_string(), "k: f: w; r");
    }

    #[test]
    fn what_may_be_a_secret_is_cut_off() {
        assert_eq!(shown("http://x token:SECRET"), "http://x …");
        assert_eq!(shown("https://user:SECRET@host"), "https://…");
        assert_eq!(plain("providers.kubernetesingress.token:SECRET"), "providers.kubernetesingress.token…");
        assert_eq!(shown(&"ä".repeat(80)).chars().count(), 49);
    }
}
