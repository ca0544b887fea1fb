//! From the bytes of a file to objects, faults and counts.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::DynamicObject;
use serde::Deserialize;
use serde::de::DeserializeSeed;
use serde_json::Value;
use serde_saphyr::Spanned;

use super::super::{EndpointSlice, Ingress, IngressClass, Namespace, Node, Secret, WireService};
use super::document::{Document, documents};
use super::visit::{ObjectSeed, OfList, TypeMeta};
use super::{Fault, Manifests, Place};

/// What a document should be.
const REMEDY: &str = "write one Kubernetes object, or a list of them, as YAML or JSON";
/// What an object of a kind that is read should be.
const FIELD_REMEDY: &str =
    "`kubectl explain` names the fields and types of its kind; quote text that looks like a number";
/// Levels of mappings and lists within each other that are followed; no Kubernetes object has half of them.
const DEPTH_LIMIT: usize = 64;
/// Bytes of a message that are shown.
const MESSAGE_LIMIT: usize = 400;

/// An object of a kind that is read.
#[derive(Debug)]
pub enum Object {
    Ingress(Box<Ingress>),
    IngressClass(Box<IngressClass>),
    Service(Box<WireService>),
    EndpointSlice(Box<EndpointSlice>),
    Secret(Box<Secret>),
    Node(Box<Node>),
    Namespace(Box<Namespace>),
    ConfigMap(Box<ConfigMap>),
    Parameters(Box<DynamicObject>),
}

/// A kind that is not read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SkippedKind {
    /// Its kind.
    pub kind: String,
    /// Its `apiVersion`.
    pub api_version: String,
    /// The version in which a kind of this name is read.
    pub wanted: Option<&'static str>,
}

impl fmt::Display for SkippedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names come from the input and must not break the line.
        write!(f, "{} ({}", self.kind.escape_debug(), self.api_version.escape_debug())?;
        match self.wanted {
            Some(wanted) => write!(f, "; only {wanted} is read: write it so)"),
            None => f.write_str(")"),
        }
    }
}

/// An object and the item of its list.
#[derive(Debug)]
pub struct Found {
    pub object: Object,
    pub item: Option<usize>,
}

/// What a document holds, and how far its parser has come.
#[derive(Debug, Default)]
pub struct Sink {
    pub found: Vec<Found>,
    pub skipped: Vec<SkippedKind>,
    /// Items that can't be told before the kind of their list is known.
    pub untyped: Vec<(usize, Value)>,
    /// The item of a list that is being parsed, from 1.
    pub item: Option<usize>,
    /// The kind of object that is being parsed.
    pub kind: Option<String>,
}

/// Parses a file: its documents one by one, each a stream of JSON values when it begins like one, else YAML.
pub fn parse_file(manifests: &mut Manifests, file: &Arc<str>, bytes: &[u8]) {
    let mut number = 0;
    for document in documents(bytes) {
        number += 1;
        let line = Some(document.first_line());
        let place = Place { file: Arc::clone(file), document: number, item: None, line };
        let json = document.bytes.trim_ascii_start().starts_with(b"{");
        let values = if json { parse_json(manifests, &place, document) } else { None };
        match values {
            Some(values) => number += values - 1,
            None => parse_yaml(manifests, place, document),
        }
    }
}

/// An error in a document: what, and on which line of the file.
struct Failure {
    message: String,
    line: Option<usize>,
}

fn parse_yaml(manifests: &mut Manifests, place: Place, document: Document<'_>) {
    let text = match std::str::from_utf8(document.bytes) {
        Ok(text) => text,
        Err(error) => {
            let before = document.bytes.get(..error.valid_up_to()).unwrap_or_default();
            let lines = before.iter().filter(|byte| **byte == b'\n').count();
            let place = Place { line: Some(document.line + lines), ..place };
            let message = "this is not UTF-8 text".to_owned();
            manifests.faults.push(Fault { place, message, remedy: "save the file as UTF-8".to_owned() });
            return;
        }
    };
    let read = |booleans| {
        let mut sink = Sink::default();
        let seed = ObjectSeed { sink: &mut sink, of_list: OfList::Nothing, depth: 0 };
        let options = yaml_options(text, booleans);
        let result = serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| {
            seed.deserialize(yaml)
        });
        (sink, result)
    };
    let mut booleans = Booleans::Yaml11;
    let (mut sink, mut result) = read(booleans);
    if result.as_ref().is_err_and(is_word_in_mixed_case) {
        booleans = Booleans::Yaml12;
        (sink, result) = read(booleans);
    }
    let Err(error) = result else { return take(manifests, &place, sink) };
    let failure = yaml_failure(&error, document.line);
    // One bad item of a list: the others may be good, so they are looked at one by one.
    let list =
        sink.item.and_then(|_| serde_saphyr::from_str_with_options(text, yaml_options(text, booleans)).ok());
    match list {
        Some(YamlList { api_version, kind, items }) => {
            let line = |spanned: &Spanned<Value>| file_line(document.line, spanned.referenced.line());
            let items = items.into_iter().map(|spanned| (line(&spanned), spanned.value));
            parse_items(
                manifests,
                &place,
                &TypeMeta { api_version, kind },
                items,
                Some((sink.item, failure)),
            );
        }
        None => fault(manifests, Place { item: sink.item, ..place }, sink.kind, failure, text.as_bytes()),
    }
}

/// A list whose items are parsed one by one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct YamlList {
    #[serde(default)]
    api_version: String,
    kind: String,
    items: Vec<Spanned<Value>>,
}

/// Which words are booleans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Booleans {
    /// `yes`, `on` and the like too, as for kubectl; but here in any case, where for kubectl `tRUE` is a text.
    Yaml11,
    /// `true`, `True`, `TRUE` and their opposites alone.
    Yaml12,
}

/// Whether a text failed for a word that is a boolean in this parser's eyes alone. kubectl prints such a text without
/// quotes.
fn is_word_in_mixed_case(error: &serde_saphyr::Error) -> bool {
    let serde_saphyr::Error::QuotingRequired { value, .. } = error.without_snippet() else { return false };
    let Some((first, rest)) = value.split_at_checked(1) else { return false };
    let uniform = |text: &str| text == text.to_ascii_lowercase() || text == text.to_ascii_uppercase();
    let word = value.bytes().all(|byte| byte.is_ascii_alphabetic());
    // yes, YES and Yes are booleans for kubectl as well.
    let known = uniform(value) || first == first.to_ascii_uppercase() && rest == rest.to_ascii_lowercase();
    word && !known
}

/// Limits that follow from the size of a document: as long as it likes, but never many times longer by what its
/// aliases repeat.
fn yaml_options(text: &str, booleans: Booleans) -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_total_scalar_bytes: 2 * text.len() + (1 << 20),
            max_total_comment_bytes: usize::MAX,
            max_depth: DEPTH_LIMIT,
            flow_nesting_limit: DEPTH_LIMIT,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 200_000 },
        emit_comments: false,
        strict_booleans: booleans == Booleans::Yaml12,
        // As the API server: a number is no text. 1.10 would otherwise be another host than it looks.
        no_schema: true,
        // Messages stay on one line, and a snippet could show a private key.
        with_snippet: false,
    }
}

fn file_line(document: usize, line: u64) -> Option<usize> {
    usize::try_from(line).ok().filter(|line| *line > 0).map(|line| document + line - 1)
}

fn yaml_failure(error: &serde_saphyr::Error, document: usize) -> Failure {
    let line = error.location().and_then(|location| file_line(document, location.line()));
    Failure { message: without_place(error.without_snippet().to_string()), line }
}

/// A parser's message without the place, which is said in terms of the file, and without advice for programmers.
fn without_place(mut message: String) -> String {
    for end in [" at line ", ", set DuplicateKeyPolicy"] {
        if let Some(end) = message.rfind(end) {
            message.truncate(end);
        }
    }
    message
}

/// Reads a stream of JSON values; gives how many there were, or `None` when it does not even begin as one, so
/// that it may still be YAML.
fn parse_json(manifests: &mut Manifests, first: &Place, document: Document<'_>) -> Option<usize> {
    let mut json = serde_json::Deserializer::from_slice(document.bytes);
    let mut number = 0;
    while number == 0 || json.end().is_err() {
        let place = Place { document: first.document + number, ..first.clone() };
        number += 1;
        let mut sink = Sink::default();
        let seed = ObjectSeed { sink: &mut sink, of_list: OfList::Nothing, depth: 0 };
        let Err(error) = seed.deserialize(&mut json) else {
            take(manifests, &place, sink);
            continue;
        };
        let failure = json_failure(&error, document.line);
        if error.is_data() {
            return Some(parse_json_values(manifests, first, document, number, (sink.item, failure)));
        }
        if number == 1 && !first.file.ends_with(".json") {
            return None;
        }
        fault(manifests, Place { item: sink.item, ..place }, sink.kind, failure, document.bytes);
        break;
    }
    Some(number)
}

/// Reads a stream of JSON values from the one on that failed, each as a whole before its parts are looked at.
/// Gives how many there are in all.
fn parse_json_values(
    manifests: &mut Manifests,
    first: &Place,
    document: Document<'_>,
    failed: usize,
    failure: (Option<usize>, Failure),
) -> usize {
    let mut failure = Some(failure);
    let mut number = 0;
    for value in serde_json::Deserializer::from_slice(document.bytes).into_iter::<Value>() {
        let place = Place { document: first.document + number, ..first.clone() };
        number += 1;
        if number < failed {
            continue;
        }
        let known = failure.take();
        match value.map(list_of) {
            Ok(Ok((meta, items))) => {
                let items = items.into_iter().map(|value| (None, value));
                parse_items(manifests, &place, &meta, items, known);
            }
            Ok(Err(value)) => {
                let items = std::iter::once((None, value));
                let single = TypeMeta { api_version: String::new(), kind: String::new() };
                parse_items(manifests, &place, &single, items, known);
            }
            Err(error) => {
                let failure =
                    known.map_or_else(|| json_failure(&error, document.line), |(_, failure)| failure);
                fault(manifests, place, None, failure, document.bytes);
                break;
            }
        }
    }
    number
}

/// The items of a list; anything else comes back as it was.
fn list_of(mut value: Value) -> Result<(TypeMeta, Vec<Value>), Value> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let meta = TypeMeta { api_version: text("apiVersion"), kind: text("kind") };
    match value.get_mut("items").map(Value::take) {
        Some(Value::Array(items)) if meta.kind.ends_with("List") => Ok((meta, items)),
        Some(other) => {
            if let Some(items) = value.get_mut("items") {
                *items = other;
            }
            Err(value)
        }
        None => Err(value),
    }
}

fn json_failure(error: &serde_json::Error, document: usize) -> Failure {
    let message = without_place(error.to_string());
    Failure { message, line: file_line(document, error.line() as u64) }
}

/// Parses the items of a list, or the one object that stands for itself when `list` has no kind. A failure that
/// is already known says best what is wrong with its item.
fn parse_items(
    manifests: &mut Manifests,
    place: &Place,
    list: &TypeMeta,
    items: impl Iterator<Item = (Option<usize>, Value)>,
    mut known: Option<(Option<usize>, Failure)>,
) {
    for (index, (line, value)) in items.enumerate() {
        let item = (!list.kind.is_empty()).then_some(index + 1);
        let mut sink = Sink { item, ..Sink::default() };
        let seed = ObjectSeed { sink: &mut sink, of_list: list.of_items(), depth: 0 };
        let shows_key = mentions_secret(&value);
        match seed.deserialize(value) {
            Ok(()) => take(manifests, &Place { line: line.or(place.line), ..place.clone() }, sink),
            Err(error) => {
                let failure = match known.take_if(|(known, _)| *known == item) {
                    Some((_, failure)) => failure,
                    None => Failure { message: error.to_string(), line },
                };
                let kind = if shows_key { Some("Secret".to_owned()) } else { sink.kind };
                fault(manifests, Place { item, ..place.clone() }, kind, failure, b"");
            }
        }
    }
}

fn mentions_secret(value: &Value) -> bool {
    value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("Secret"))
}

/// Takes over what a document holds.
fn take(manifests: &mut Manifests, place: &Place, sink: Sink) {
    for kind in sink.skipped {
        *manifests.skipped.entry(kind).or_default() += 1;
    }
    for Found { object, item } in sink.found {
        let place = Place { item, ..place.clone() };
        if let Err(message) = manifests.place(object, place.clone()) {
            manifests.faults.push(Fault { place, message, remedy: "give it a name".to_owned() });
        }
    }
}

/// Notes a document or an item that can't be read. What a parser says about a Secret may show a key, so of those
/// only the place is told.
fn fault(manifests: &mut Manifests, place: Place, kind: Option<String>, failure: Failure, text: &[u8]) {
    let place = Place { line: failure.line.or(place.line), ..place };
    let secret = kind.as_deref() == Some("Secret") || shows_secret(text);
    let (message, remedy) = match (secret, kind) {
        (true, _) => (
            "this Secret can't be read".to_owned(),
            "values of `data` are base64, those of `stringData` text, and all keys and values are strings",
        ),
        (false, Some(kind)) => {
            (format!("this {kind} can't be read: {}", one_line(&failure.message)), FIELD_REMEDY)
        }
        (false, None) => (one_line(&failure.message), REMEDY),
    };
    manifests.faults.push(Fault { place, message, remedy: remedy.to_owned() });
}

fn shows_secret(text: &[u8]) -> bool {
    let words: [&[u8]; 2] = [b"Secret", b"PRIVATE KEY"];
    words.iter().any(|word| text.windows(word.len()).any(|window| window == *word))
}

/// A parser's message on one line, bounded, with nothing in it that a terminal would act on.
fn one_line(message: &str) -> String {
    let mut line = String::new();
    for word in message.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(
            word.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }),
        );
        if line.len() > MESSAGE_LIMIT {
            line.truncate(line.floor_char_boundary(MESSAGE_LIMIT));
            line.push('…');
            break;
        }
    }
    line
}
