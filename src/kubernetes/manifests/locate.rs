//! Finds the line of a value in YAML text by its path. Used only for values with a problem.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::ManifestPlace;
use super::document::{YamlDocument, documents};
use super::yaml::{Booleans, yaml_options};

/// The path to a value: keys of mappings, and list indices from 0.
pub type ValuePath = Vec<String>;

/// For each path, the line (from 1) of its last existing step, and the number of existing steps.
pub fn lines(text: &str, options: serde_saphyr::Options, paths: &[ValuePath]) -> Vec<(usize, Option<usize>)> {
    let mut wanted = WantedLines::default();
    for path in paths {
        let mut at = &mut wanted;
        for step in path {
            at = at.below.entry(step.clone()).or_default();
        }
    }
    // What is found before an error is used.
    let _ = serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
        Walk(&mut wanted).deserialize(yaml)
    });
    let found = |path: &ValuePath| {
        let (mut at, mut line) = (&wanted, wanted.line);
        for (steps, step) in path.iter().enumerate() {
            match at.below.get(step) {
                Some(next) if next.line.is_some() => (at, line) = (next, next.line),
                _ => return (steps, line),
            }
        }
        (path.len(), line)
    };
    let line = |line: Option<u64>| line.and_then(|line| usize::try_from(line).ok()).filter(|line| *line > 0);
    paths.iter().map(found).map(|(steps, at)| (steps, line(at))).collect()
}

/// The values whose lines are wanted, below a value.
#[derive(Default)]
struct WantedLines {
    line: Option<u64>,
    below: BTreeMap<String, WantedLines>,
}

impl WantedLines {
    /// A wanted key or item. Of several with the same name, only the line of the last one is used.
    fn found(&mut self, step: &str, line: Option<u64>) -> Option<&mut Self> {
        let below = self.below.get_mut(step)?;
        below.line = line.or(below.line);
        Some(below)
    }
}

/// Visits a value and the wanted values below it.
struct Walk<'w>(&'w mut WantedLines);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value on the way")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let line = key.referenced.line();
            // A mapping begins at its first key.
            self.0.line.get_or_insert(line);
            match self.0.found(&key.value, Some(line)) {
                Some(below) if !below.below.is_empty() => map.next_value_seed(Walk(below))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for at in 0_usize.. {
            let more = match self.0.found(&at.to_string(), None) {
                Some(below) if !below.below.is_empty() => items.next_element_seed(Walk(below))?.is_some(),
                Some(below) => {
                    let item = items.next_element::<Spanned<IgnoredAny>>()?;
                    below.line = item.as_ref().map(|item| item.referenced.line());
                    item.is_some()
                }
                None => items.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The bytes of files, to find lines in them.
#[derive(Debug, Default)]
pub struct ManifestTexts(HashMap<Arc<str>, Vec<u8>>);

impl ManifestTexts {
    /// Stores the bytes of a file.
    pub fn keep(&mut self, file: &Arc<str>, bytes: Vec<u8>) {
        self.0.insert(Arc::clone(file), bytes);
    }

    /// The line, from 1, of each field of an object, or of its last existing parent. Fields are written as in problems:
    /// `spec.rules[0].host`, `metadata.annotations[waybill.dev/paused]`.
    pub fn lines(&self, fields: &[(&ManifestPlace, &str)]) -> Vec<Option<usize>> {
        let mut lines: Vec<Option<usize>> = fields.iter().map(|(place, _)| place.line).collect();
        let mut by_document: BTreeMap<(&Arc<str>, usize), Vec<usize>> = BTreeMap::new();
        for (at, (place, _)) in fields.iter().enumerate() {
            if let Some(line) = place.line {
                by_document.entry((&place.file, line)).or_default().push(at);
            }
        }
        let mut rests: HashMap<&Arc<str>, Vec<&[u8]>> = HashMap::new();
        for ((file, line), members) in by_document {
            let Some(bytes) = self.0.get(file) else { continue };
            let rests = rests.entry(file).or_insert_with(|| rests_of_documents(bytes));
            let Some(text) = rests.get(line - 1).and_then(|rest| first_value(rest)) else { continue };
            let paths: Vec<ValuePath> =
                members.iter().flat_map(|at| paths(fields[*at].0, fields[*at].1)).collect();
            let found = lines_of(text, &paths);
            for (at, two) in members.iter().zip(found.chunks_exact(2)) {
                let (_, found) = if two[1].0 > two[0].0 { two[1] } else { two[0] };
                lines[*at] = found.map(|found| line + found - 1).or(lines[*at]);
            }
        }
        lines
    }
}

/// For each line of a file, the rest of its document.
fn rests_of_documents(file: &[u8]) -> Vec<&[u8]> {
    let mut rests: Vec<&[u8]> = Vec::new();
    for YamlDocument { mut bytes, line } in documents(file) {
        // The line of a border belongs to the document after it.
        rests.resize(line - 1, b"");
        rests.push(bytes);
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            bytes = &bytes[end + 1..];
            rests.push(bytes);
        }
    }
    rests
}

/// A document, or the first of several JSON values.
fn first_value(rest: &[u8]) -> Option<&str> {
    if !rest.trim_ascii_start().starts_with(b"{") {
        return std::str::from_utf8(rest).ok();
    }
    let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
    let value = match values.next() {
        Some(Ok(_)) => &rest[..values.byte_offset()],
        _ => rest,
    };
    std::str::from_utf8(value).ok()
}

fn lines_of(text: &str, paths: &[ValuePath]) -> Vec<(usize, Option<usize>)> {
    lines(text, yaml_options(text, Booleans::Yaml11), paths)
}

/// The possible paths to a field of an object: as it is written, and for the data of a Secret as it may be written
/// instead.
fn paths(place: &ManifestPlace, field: &str) -> [ValuePath; 2] {
    let items = place.item.into_iter().flat_map(|item| ["items".to_owned(), (item - 1).to_string()]);
    let mut path: ValuePath = items.collect();
    let start = path.len();
    let mut rest = field;
    while !rest.is_empty() {
        let (step, end) = match rest.strip_prefix('[') {
            // The key of an annotation may contain anything, but nothing follows it.
            Some(inner) => {
                let end = inner.find("].").unwrap_or(inner.strip_suffix(']').unwrap_or(inner).len());
                (&inner[..end], end + 2)
            }
            None => {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                (&rest[..end], end)
            }
        };
        path.push(step.to_owned());
        rest = rest.get(end..).unwrap_or_default();
        rest = rest.strip_prefix('.').unwrap_or(rest);
    }
    let mut other = path.clone();
    if let Some(data) = other.get_mut(start).filter(|step| *step == "data") {
        *data = "stringData".to_owned();
    }
    [path, other]
}
