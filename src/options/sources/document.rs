//! Parses YAML and TOML into one tree that knows the line of each value.

use std::fmt;

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use toml::de::{DeTable, DeValue};

/// The maximum depth of a file. Traefik's own options need about ten levels. Each level takes tens of kilobytes of the
/// parser's stack in a build without optimization.
const DEPTH: usize = 24;

/// Part of a file.
pub(crate) struct DocumentNode {
    /// Where it begins, counted from 1.
    pub line: usize,
    pub content: DocumentContent,
}

/// What a part of a file is.
pub(crate) enum DocumentContent {
    Null,
    /// A text, a number or a boolean, as the written text.
    Scalar(String),
    List(Vec<DocumentNode>),
    Map(Vec<(Key, DocumentNode)>),
}

/// A key of a map.
pub(crate) struct Key {
    pub line: usize,
    pub text: String,
}

/// Why a text is no document: the line and the parser's message, without anything from the text.
pub(crate) struct DocumentError {
    pub line: usize,
    pub wrong: String,
}

/// Parses YAML: one document.
pub(crate) fn yaml(text: &str) -> Result<DocumentNode, DocumentError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH },
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Option<Spanned<Parsed>>>(text, options) {
        Ok(Some(parsed)) => Ok(node(parsed, text)),
        Ok(None) => Ok(DocumentNode { line: 1, content: DocumentContent::Null }),
        Err(error) => {
            let line = error.location().map_or(0, |location| location.line() as usize);
            let written = line.checked_sub(1).and_then(|at| text.lines().nth(at)).unwrap_or_default();
            let tab = written.trim_start_matches(' ').starts_with('\t');
            let wrong = wrong(error.without_snippet(), line);
            Err(DocumentError {
                line,
                wrong: if tab { "a tab in the indentation".to_owned() } else { wrong },
            })
        }
    }
}

/// Why YAML does not parse. The parser's message is left out if it may quote the file, which may contain a token.
fn wrong(error: &serde_saphyr::Error, line: usize) -> String {
    match error {
        serde_saphyr::Error::DuplicateMappingKey { .. } => "a key appears twice".to_owned(),
        serde_saphyr::Error::Eof { .. } => "the file ends too early".to_owned(),
        serde_saphyr::Error::MultipleDocuments { .. } => "more than one document".to_owned(),
        serde_saphyr::Error::Budget { .. } => "nested too deeply, or too large".to_owned(),
        _ if line == 0 => "not YAML".to_owned(),
        _ => "not YAML from here on".to_owned(),
    }
}

/// The values from serde. It turns texts into numbers and booleans, so their spelling is read from the file again.
enum Parsed {
    Null,
    Text(String),
    Other(String),
    List(Vec<Spanned<Parsed>>),
    Map(Vec<(Spanned<String>, Spanned<Parsed>)>),
}

impl<'de> Deserialize<'de> for Parsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParsedVisitor)
    }
}

struct ParsedVisitor;

macro_rules! visit_others {
    ($($visit:ident: $type:ty),+) => {$(
        fn $visit<E>(self, value: $type) -> Result<Parsed, E> {
            Ok(Parsed::Other(value.to_string()))
        }
    )+};
}

impl<'de> Visitor<'de> for ParsedVisitor {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    visit_others!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64);

    fn visit_str<E>(self, value: &str) -> Result<Parsed, E> {
        Ok(Parsed::Text(value.to_owned()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Parsed, E> {
        Ok(Parsed::Text(String::from_utf8_lossy(value).into_owned()))
    }

    fn visit_unit<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Null)
    }

    fn visit_none<E>(self) -> Result<Parsed, E> {
        Ok(Parsed::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parsed, D::Error> {
        Parsed::deserialize(deserializer)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parsed, D::Error> {
        Parsed::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<Parsed, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(access)).map(Parsed::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Parsed, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Parsed::Map(entries))
    }
}

fn node(parsed: Spanned<Parsed>, text: &str) -> DocumentNode {
    let span = parsed.defined.span();
    let content = match parsed.value {
        Parsed::Null => DocumentContent::Null,
        Parsed::Text(text) => DocumentContent::Scalar(text),
        Parsed::Other(value) => {
            let written = span.byte_offset().zip(span.byte_len()).and_then(|(from, length)| {
                let from = from as usize;
                text.get(from..from.checked_add(length as usize)?)
            });
            DocumentContent::Scalar(written.map_or(value, |written| written.trim().to_owned()))
        }
        Parsed::List(items) => {
            DocumentContent::List(items.into_iter().map(|item| node(item, text)).collect())
        }
        Parsed::Map(entries) => {
            let entry = |(key, value): (Spanned<String>, _)| {
                let line = key.referenced.line() as usize;
                (Key { line, text: key.value }, node(value, text))
            };
            DocumentContent::Map(entries.into_iter().map(entry).collect())
        }
    };
    DocumentNode { line: parsed.referenced.line() as usize, content }
}

/// Parses TOML.
pub(crate) fn toml(text: &str) -> Result<DocumentNode, DocumentError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match DeTable::parse(text) {
        Ok(table) => Ok(DocumentNode { line: 1, content: toml_table(table.get_ref(), text) }),
        Err(error) => {
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            Err(DocumentError { line, wrong: "not TOML from here on".to_owned() })
        }
    }
}

fn toml_table(table: &DeTable<'_>, text: &str) -> DocumentContent {
    // The parser sorts by key; faults are in the file's order.
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let entries = entries.into_iter().map(|(key, value)| {
        let key = Key { line: line_of(text, key.span().start), text: key.get_ref().to_string() };
        (key, toml_node(value, text))
    });
    DocumentContent::Map(entries.collect())
}

fn toml_node(value: &toml::Spanned<DeValue<'_>>, text: &str) -> DocumentNode {
    let content = match value.get_ref() {
        DeValue::String(value) => DocumentContent::Scalar(value.to_string()),
        DeValue::Integer(value) => {
            let number = i64::from_str_radix(value.as_str(), value.radix());
            DocumentContent::Scalar(
                number.map_or_else(|_| value.as_str().to_owned(), |number| number.to_string()),
            )
        }
        DeValue::Float(value) => DocumentContent::Scalar(value.as_str().to_owned()),
        DeValue::Boolean(value) => DocumentContent::Scalar(value.to_string()),
        DeValue::Datetime(value) => DocumentContent::Scalar(value.to_string()),
        DeValue::Array(items) => {
            DocumentContent::List(items.iter().map(|item| toml_node(item, text)).collect())
        }
        DeValue::Table(table) => toml_table(table, text),
    };
    DocumentNode { line: line_of(text, value.span().start), content }
}

fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|b| **b == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `path@line=text` for every scalar, with `key-line/value-line`.
    fn flat(node: &DocumentNode, path: &str, into: &mut Vec<String>) {
        match &node.content {
            DocumentContent::Null => into.push(format!("{path}@{}~", node.line)),
            DocumentContent::Scalar(text) => into.push(format!("{path}@{}={text}", node.line)),
            DocumentContent::List(items) => {
                items.iter().for_each(|item| flat(item, &format!("{path}[]"), into))
            }
            DocumentContent::Map(entries) => {
                for (key, value) in entries {
                    flat(value, &format!("{path}.{}@{}", key.text, key.line), into);
                }
            }
        }
    }

    fn lines(node: Result<DocumentNode, DocumentError>) -> Vec<String> {
        let mut into = Vec::new();
        match node {
            Ok(node) => flat(&node, "", &mut into),
            Err(broken) => into.push(format!("{}: {}", broken.line, broken.wrong)),
        }
        into
    }

    #[test]
    fn yaml_keeps_lines_and_spelling() {
        let text = "# head\na:\n  b: 1.50\n  c: off\n  d: 'x'\n  e: [0x10, ~,\n    \"z\"]\nf:\n8080: 1e3\ng: &g\n  h: 007\ni: *g\nj: {k: True}\n";
        assert_eq!(
            lines(yaml(text)),
            [
                ".a@2.b@3@3=1.50",
                ".a@2.c@4@4=off",
                ".a@2.d@5@5=x",
                ".a@2.e@6[]@6=0x10",
                ".a@2.e@6[]@6~",
                ".a@2.e@6[]@7=z",
                ".f@8@8~",
                ".8080@9@9=1e3",
                ".g@10.h@11@11=007",
                ".i@12.h@12@12=007",
                ".j@13.k@13@13=True",
            ]
        );
        assert_eq!(lines(yaml("\u{feff}ä: 1\nb: 2\n")), [".ä@1@1=1", ".b@2@2=2"]);
        for empty in ["", "# nothing\n", "---\n", "~"] {
            assert_eq!(lines(yaml(empty)), ["@1~"], "{empty:?}");
        }
    }

    #[test]
    fn toml_keeps_lines() {
        let text = "x = 1_000\n[a.b]\nc = \"d\"\ne = [\n  1,\n  true,\n]\nf.g = 0x10\nh = {i = 1.5}\n";
        assert_eq!(
            lines(toml(text)),
            [
                ".x@1@1=1000",
                ".a@2.b@2.c@3@3=d",
                ".a@2.b@2.e@4[]@5=1",
                ".a@2.b@2.e@4[]@6=true",
                ".a@2.b@2.f@8.g@8@8=16",
                ".a@2.b@2.h@9.i@9@9=1.5",
            ]
        );
        assert_eq!(lines(toml("")), Vec::<String>::new());
    }

    #[test]
    fn broken_files_name_the_line_and_quote_nothing() {
        assert_eq!(lines(yaml("a: 1\na: 2\n")), ["2: a key appears twice"]);
        assert_eq!(lines(yaml("a: 1\n---\nb: 2\n")), ["3: more than one document"]);
        assert_eq!(lines(yaml("a: [SECRET\n")), ["1: not YAML from here on"]);
        assert_eq!(lines(yaml("a:\n  - b\n c: SECRET\n")), ["3: not YAML from here on"]);
        assert_eq!(lines(yaml("a:\n\tb: SECRET\n")), ["2: a tab in the indentation"]);
        let nested = |depth| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(lines(yaml(&nested(20))), [format!("{}@1=1", "[]".repeat(20))]);
        assert_eq!(lines(yaml(&nested(100))), ["1: nested too deeply, or too large"]);
        for deep in [nested(100_000), "[".repeat(100_000), "- ".repeat(10_000)] {
            assert!(yaml(&deep).is_err());
        }
        assert!(toml(&format!("a = {}", nested(100_000))).is_err());
        assert_eq!(lines(toml("a = 1\nb = SECRET\n")), ["2: not TOML from here on"]);
        assert_eq!(lines(toml("a = 1\na = 2\n")), ["2: not TOML from here on"]);
    }
}
