//! Numbers in quotes. They are read as numbers, since tests' input often has them; an API server refuses them.

use std::fmt;

use serde_json::{Map, Value};

use super::ManifestPlace;

/// Fields of Ingresses, Services and EndpointSlices that are always numbers.
const NUMBERS: [&str; 3] = ["number", "port", "nodePort"];

/// Maximum length of the path to such a field; each one found stores its own.
const PATH_LIMIT: usize = 128;

/// A number that is written as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotedNumber {
    pub place: ManifestPlace,
    pub field: String,
    pub value: String,
}

impl fmt::Display for QuotedNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, field, value } = self;
        write!(f, "{place}: {field}: {value:?}: an API server refuses it; write the number without quotes")
    }
}

/// Removes the quotes from the numbers of an object, and returns where they were.
pub fn unquote(place: &ManifestPlace, kind: &str, object: &mut Map<String, Value>) -> Vec<QuotedNumber> {
    let mut found = Vec::new();
    let part = match kind {
        "Ingress" | "Service" => "spec",
        "EndpointSlice" => "ports",
        _ => return found,
    };
    if let Some(value) = object.get_mut(part) {
        fields(place, &mut part.to_owned(), part, value, &mut found);
    }
    found
}

fn fields(
    place: &ManifestPlace,
    path: &mut String,
    key: &str,
    value: &mut Value,
    found: &mut Vec<QuotedNumber>,
) {
    let above = path.len();
    match value {
        _ if above > PATH_LIMIT => {}
        Value::Object(map) => {
            for (key, value) in map {
                path.push('.');
                path.push_str(key);
                fields(place, path, key, value, found);
                path.truncate(above);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter_mut().enumerate() {
                path.push_str(&format!("[{at}]"));
                fields(place, path, key, value, found);
                path.truncate(above);
            }
        }
        Value::String(text) if NUMBERS.contains(&key) => {
            if let Ok(number) = text.parse::<u32>() {
                let (field, text) = (path.clone(), std::mem::take(text));
                found.push(QuotedNumber { place: place.clone(), field, value: text });
                *value = number.into();
            }
        }
        _ => {}
    }
}
