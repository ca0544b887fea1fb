//! Numbers in quotes. The parser takes them, since a routing test's input often has them; an API server does not.

use std::fmt;

use serde_json::Value;

use super::Place;

/// Fields of Ingresses, Services and EndpointSlices that hold a number and nothing else.
const NUMBERS: [&str; 3] = ["number", "port", "nodePort"];

/// A number that is written as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotedNumber {
    pub place: Place,
    pub field: String,
    pub value: String,
}

impl fmt::Display for QuotedNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, field, value } = self;
        write!(f, "{place}: {field}: {value:?}: an API server refuses it; write the number without quotes")
    }
}

/// Whether a text can hold one: cheap, and true for next to no document.
pub fn may_hold(text: &str) -> bool {
    ["umber", "ort"].iter().any(|end| {
        text.match_indices(end).any(|(at, _)| {
            let rest = text[at + end.len()..].trim_start_matches(['"', '\'']).strip_prefix(':');
            let value = rest.and_then(|rest| rest.trim_start().strip_prefix(['"', '\'']));
            value.is_some_and(|value| value.starts_with(|first: char| first.is_ascii_digit()))
        })
    })
}

/// The quoted numbers of a document.
pub fn find(place: &Place, document: &Value) -> Vec<QuotedNumber> {
    let mut found = Vec::new();
    match document.get("items").and_then(Value::as_array) {
        Some(items) => {
            for (at, item) in items.iter().enumerate() {
                object(&Place { item: Some(at + 1), ..place.clone() }, item, &mut found);
            }
        }
        None => object(place, document, &mut found),
    }
    found
}

fn object(place: &Place, object: &Value, found: &mut Vec<QuotedNumber>) {
    let kind = object.get("kind").and_then(Value::as_str);
    if matches!(kind, Some("Ingress" | "Service" | "EndpointSlice")) {
        for part in ["spec", "ports"] {
            fields(place, part, part, object.get(part).unwrap_or(&Value::Null), found);
        }
    }
}

fn fields(place: &Place, path: &str, key: &str, value: &Value, found: &mut Vec<QuotedNumber>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                fields(place, &format!("{path}.{key}"), key, value, found);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                fields(place, &format!("{path}[{at}]"), key, value, found);
            }
        }
        Value::String(text) if NUMBERS.contains(&key) && text.parse::<u32>().is_ok() => {
            found.push(QuotedNumber { place: place.clone(), field: path.to_owned(), value: text.clone() });
        }
        _ => {}
    }
}
