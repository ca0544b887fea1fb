//! Turns the bytes of a file into objects, faults and counts.
//!
//! A file is cut into its documents, a document becomes a JSON value, and each object in it is decoded from there. What
//! can't be read costs only itself: a document that is no YAML, or one object of a list.

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use super::document::{YamlDocument, documents};
use super::locate::{self, ValuePath};
use super::yaml::{Booleans, yaml_options};
use super::{ManifestFault, ManifestPlace, Manifests, TraefikObject, UnreadFields, quoted};
use crate::kubernetes::well_known::{CLASSES_PART, PART_LABEL};
use crate::redact::{printable, shown};

/// The remedy for a document that is no object.
const REMEDY: &str = "write one Kubernetes object, or a list of them, as YAML or JSON";
/// The remedy for YAML with a tab.
const TAB_REMEDY: &str = "indent with spaces, not with tabs";
/// The remedy for an object of a known kind.
const FIELD_REMEDY: &str =
    "`kubectl explain` names the fields and types of its kind; quote text that looks like a number";
const SECRET_REMEDY: &str =
    "values of `data` are base64, those of `stringData` text, and all keys and values are strings";
/// Maximum depth of lists in lists.
const LIST_LIMIT: usize = 8;
/// Maximum size of an `apiVersion` or a `kind`. Items inherit those of their list, so a long one would be paid for each
/// item.
const TYPE_LIMIT: usize = 320;
/// Maximum size of a message.
const MESSAGE_LIMIT: usize = 400;

/// A kind that is not read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SkippedKind {
    pub kind: String,
    pub api_version: String,
    /// The version in which a kind of this name is read.
    pub wanted: Option<&'static str>,
}

impl fmt::Display for SkippedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names come from the input and must not break the line.
        write!(f, "{} ({}", self.kind.escape_debug(), self.api_version.escape_debug())?;
        match self.wanted {
            Some(wanted) => write!(f, "; only {wanted} is read: convert it)"),
            None => f.write_str(")"),
        }
    }
}

/// Parses a file: its documents one by one, each a stream of JSON values when it begins like one, else YAML.
pub fn parse_file(manifests: &mut Manifests, file: &Arc<str>, bytes: &[u8]) {
    let mut number = 0;
    for document in documents(bytes) {
        number += 1;
        let line = Some(document.first_line());
        let place = ManifestPlace { file: Arc::clone(file), document: number, item: None, line };
        let json = document.bytes.trim_ascii_start().starts_with(b"{");
        let values = if json { parse_json(manifests, &place, document) } else { None };
        match values {
            Some(values) => number += values - 1,
            None => parse_yaml(manifests, place, document),
        }
    }
}

fn parse_yaml(manifests: &mut Manifests, place: ManifestPlace, document: YamlDocument<'_>) {
    let text = match std::str::from_utf8(document.bytes) {
        Ok(text) => text,
        Err(error) => {
            let before = document.bytes.get(..error.valid_up_to()).unwrap_or_default();
            let place = ManifestPlace { line: Some(document.line + line_breaks(before)), ..place };
            let message = "this is not UTF-8 text".to_owned();
            manifests.faults.push(ManifestFault {
                place,
                message,
                remedy: "save the file as UTF-8".to_owned(),
            });
            return;
        }
    };
    match serde_saphyr::from_str_with_options(text, yaml_options(text, Booleans::Yaml11)) {
        Ok(value) => DocumentText::new(text, document.line, place).read(manifests, value),
        Err(error) => {
            let line = error.location().and_then(|at| file_line(document.line, at.line()));
            let message = without_place(error.without_snippet().to_string());
            fault(manifests, ManifestPlace { line: line.or(place.line), ..place }, None, &message, text);
        }
    }
}

/// Reads a stream of JSON values. Returns their number, or `None` if it does not even begin as JSON, so it may be YAML.
fn parse_json(manifests: &mut Manifests, first: &ManifestPlace, document: YamlDocument<'_>) -> Option<usize> {
    let text = std::str::from_utf8(document.bytes).ok()?;
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut number = 0;
    let (mut line, mut counted) = (document.line, 0);
    loop {
        let rest = text.get(values.byte_offset()..).unwrap_or_default().trim_ascii_start();
        let start = text.len() - rest.len();
        line += line_breaks(&document.bytes[counted..start]);
        counted = start;
        let place = ManifestPlace { document: first.document + number, line: Some(line), ..first.clone() };
        match values.next() {
            None => return Some(number),
            Some(Ok(value)) => {
                let text = text.get(start..values.byte_offset()).unwrap_or_default();
                DocumentText::new(text, line, place).read(manifests, value);
            }
            Some(Err(_)) if number == 0 && !first.file.ends_with(".json") => return None,
            Some(Err(error)) => {
                let line = file_line(document.line, error.line() as u64);
                let message = without_place(error.to_string());
                fault(manifests, ManifestPlace { line: line.or(place.line), ..place }, None, &message, text);
                return Some(number + 1);
            }
        }
        number += 1;
    }
}

fn line_breaks(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

fn file_line(document: usize, line: u64) -> Option<usize> {
    usize::try_from(line).ok().filter(|line| *line > 0).map(|line| document + line - 1)
}

/// Whether a text contains a word that only this parser treats as a boolean. kubectl prints such a text without quotes.
fn has_boolean_in_mixed_case(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphabetic()).any(|word| {
        let (lower, upper) = (word.to_ascii_lowercase(), word.to_ascii_uppercase());
        let boolean = ["true", "false", "yes", "no", "on", "off"].contains(&&*lower);
        // yes, YES and Yes are booleans for kubectl too.
        boolean && word != lower && word != upper && (word[..1] != upper[..1] || word[1..] != lower[1..])
    })
}

/// A parser's message without the position, which is reported separately, and without advice for programmers.
fn without_place(mut message: String) -> String {
    for end in [" at line ", ", set DuplicateKeyPolicy"] {
        if let Some(end) = message.rfind(end) {
            message.truncate(end);
        }
    }
    message
}

/// An `apiVersion` and a `kind`.
#[derive(Clone, Default)]
struct TypeMeta {
    api_version: String,
    kind: String,
}

/// Errors of objects.
struct Failure {
    message: String,
    /// The path from the object to the fault.
    path: ValuePath,
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { message, path: Vec::new() }
    }
}

/// The text that a value comes from.
struct DocumentText<'t> {
    text: &'t str,
    /// The line of the file on which it begins.
    line: usize,
    place: ManifestPlace,
    /// Its faults, as indices of [`Manifests::faults`], with the paths to their causes. All lines are found together,
    /// since this takes a pass over the text.
    faults: Vec<(usize, ValuePath)>,
    /// The value with the booleans of YAML 1.2, if that makes a difference; parsed when it is first needed.
    with_fewer_booleans: OnceCell<Option<Value>>,
}

impl<'t> DocumentText<'t> {
    fn new(text: &'t str, line: usize, place: ManifestPlace) -> Self {
        Self { text, line, place, faults: Vec::new(), with_fewer_booleans: OnceCell::new() }
    }

    fn read(mut self, manifests: &mut Manifests, value: Value) {
        self.object(manifests, value, &TypeMeta::default(), &mut Vec::new());
        if self.faults.is_empty() {
            return;
        }
        let (faults, paths): (Vec<usize>, Vec<ValuePath>) = self.faults.into_iter().unzip();
        let found = locate::lines(self.text, yaml_options(self.text, Booleans::Yaml11), &paths);
        for (fault, (_, line)) in faults.into_iter().zip(found) {
            if let (Some(fault), Some(line)) = (manifests.faults.get_mut(fault), line) {
                fault.place.line = Some(self.line + line - 1);
            }
        }
    }

    /// Reads an object, or the objects of a list. `items` are the indices in the lists that lead to it, and `of_list`
    /// is the type of items that the innermost list declares.
    fn object(
        &mut self,
        manifests: &mut Manifests,
        value: Value,
        of_list: &TypeMeta,
        items: &mut Vec<usize>,
    ) {
        let Err((kind, failure)) = self.try_object(manifests, value, of_list, items) else { return };
        self.faults.push((manifests.faults.len(), path_of(items).chain(failure.path).collect()));
        let place = ManifestPlace { item: items.first().map(|item| item + 1), ..self.place.clone() };
        fault(manifests, place, Some(&kind).filter(|kind| !kind.is_empty()), &failure.message, "");
    }

    fn try_object(
        &mut self,
        manifests: &mut Manifests,
        value: Value,
        of_list: &TypeMeta,
        items: &mut Vec<usize>,
    ) -> Result<(), (String, Failure)> {
        let mut object = match value {
            Value::Null => return Ok(()),
            Value::Object(object) => object,
            other => {
                let message = format!(
                    "invalid type: {}, expected an object with `apiVersion` and `kind`",
                    type_of(&other)
                );
                return Err((of_list.kind.clone(), message.into()));
            }
        };
        let meta = type_meta(&object, of_list).map_err(|failure| (of_list.kind.clone(), failure))?;
        let Some(kind_of_items) = meta.kind.strip_suffix("List") else {
            return self.single(manifests, object, &meta, items).map_err(|failure| (meta.kind, failure));
        };
        let failed = |message: String| (String::new(), Failure { message, path: vec!["items".to_owned()] });
        if items.len() >= LIST_LIMIT {
            return Err(failed(format!("more than {LIST_LIMIT} lists within each other")));
        }
        let of_list = TypeMeta { kind: kind_of_items.to_owned(), ..meta };
        match object.remove("items") {
            None | Some(Value::Null) => {}
            Some(Value::Array(values)) => {
                for (index, value) in values.into_iter().enumerate() {
                    items.push(index);
                    self.object(manifests, value, &of_list, items);
                    items.pop();
                }
            }
            Some(other) => {
                return Err(failed(format!(
                    "invalid type: {}, expected a list of objects at `items`",
                    type_of(&other)
                )));
            }
        }
        Ok(())
    }

    /// Adds an object of a known kind, or counts it otherwise.
    fn single(
        &self,
        manifests: &mut Manifests,
        mut object: Map<String, Value>,
        meta: &TypeMeta,
        items: &[usize],
    ) -> Result<(), Failure> {
        let TypeMeta { api_version, kind } = meta;
        let wanted = match kind.as_str() {
            "Ingress" | "IngressClass" => "networking.k8s.io/v1",
            "EndpointSlice" => "discovery.k8s.io/v1",
            "IngressClassParameters" => "waybill.dev/v1alpha1",
            "Service" | "Secret" | "Node" | "Namespace" => "v1",
            "ConfigMap" if is_class_memory(&object) => "v1",
            _ => "",
        };
        if wanted.is_empty() || wanted != api_version {
            manifests.traefik_objects.extend(traefik_object(meta, &object).into_iter().flatten());
            let wanted = is_relative(api_version, wanted).then_some(wanted);
            let skipped = SkippedKind { kind: kind.clone(), api_version: api_version.clone(), wanted };
            *manifests.skipped.entry(skipped).or_default() += 1;
            return Ok(());
        }
        let place = ManifestPlace { item: items.first().map(|item| item + 1), ..self.place.clone() };
        manifests.quoted.extend(quoted::unquote(&place, kind, &mut object));
        let unread = UnreadFields::of(kind, &object);
        let value = Value::Object(object);
        match kind.as_str() {
            "Ingress" => manifests.put_ingress(self.typed(value, items)?, place),
            "IngressClass" => manifests.put(|all| &mut all.classes, kind, self.typed(value, items)?, place),
            "Service" => manifests.put(|all| &mut all.services, kind, self.typed(value, items)?, place),
            "EndpointSlice" => manifests.put(|all| &mut all.slices, kind, self.typed(value, items)?, place),
            "Secret" => manifests.put(|all| &mut all.secrets, kind, self.typed(value, items)?, place),
            "Node" => manifests.put(|all| &mut all.nodes, kind, self.typed(value, items)?, place),
            "Namespace" => manifests.put(|all| &mut all.namespaces, kind, self.typed(value, items)?, place),
            "ConfigMap" => manifests.put(|all| &mut all.class_memory, kind, self.typed(value, items)?, place),
            _ => manifests.put(|all| &mut all.parameters, kind, self.typed(value, items)?, place),
        }
        manifests.unread.extend(unread);
        Ok(())
    }

    /// Decodes an object.
    fn typed<K: DeserializeOwned>(&self, value: Value, items: &[usize]) -> Result<K, Failure> {
        let error = match serde_path_to_error::deserialize(value) {
            Ok(object) => return Ok(object),
            Err(error) => error,
        };
        let document = self.with_fewer_booleans.get_or_init(|| {
            let options = yaml_options(self.text, Booleans::Yaml12);
            let differs = has_boolean_in_mixed_case(self.text);
            differs.then(|| serde_saphyr::from_str_with_options(self.text, options).ok()).flatten()
        });
        if let Some(document) = document
            && let Some(value) = items.iter().try_fold(document, |list, item| list.get("items")?.get(*item))
            && let Ok(object) = K::deserialize(value)
        {
            return Ok(object);
        }
        let steps = error.path().iter().map_while(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { .. } | Segment::Unknown => None,
        });
        let path: ValuePath = steps.collect();
        let message = if path.is_empty() { error.inner().to_string() } else { error.to_string() };
        Err(Failure { message, path })
    }
}

fn path_of(items: &[usize]) -> impl Iterator<Item = String> {
    items.iter().flat_map(|item| ["items".to_owned(), item.to_string()])
}

/// The type of an object, from the object itself or from its list.
fn type_meta(object: &Map<String, Value>, of_list: &TypeMeta) -> Result<TypeMeta, Failure> {
    let text = |key: &str, of_list: &str| match object.get(key) {
        Some(Value::String(text)) if text.len() <= TYPE_LIMIT => Ok(Some(text.clone())),
        Some(Value::String(_)) => Err(Failure {
            message: format!("`{key}` is longer than {TYPE_LIMIT} bytes"),
            path: vec![key.to_owned()],
        }),
        None if !of_list.is_empty() => Ok(Some(of_list.to_owned())),
        None | Some(Value::Null) => Ok(None),
        Some(other) => Err(Failure {
            message: format!("`{key}`: invalid type: {}, expected a string", type_of(other)),
            path: vec![key.to_owned()],
        }),
    };
    let of_items = if of_list.kind.is_empty() { &TypeMeta::default() } else { of_list };
    match (text("apiVersion", &of_items.api_version)?, text("kind", &of_items.kind)?) {
        (Some(api_version), Some(kind)) => Ok(TypeMeta { api_version, kind }),
        (Some(_), None) => Err("`kind` is missing".to_owned().into()),
        (None, Some(_)) => Err("`apiVersion` is missing".to_owned().into()),
        (None, None) => Err("`apiVersion` and `kind` are missing".to_owned().into()),
    }
}

/// The type of a value. Its content may be a private key.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn is_class_memory(map: &Map<String, Value>) -> bool {
    let labels = map.get("metadata").and_then(|metadata| metadata.get("labels"));
    labels.and_then(|labels| labels.get(PART_LABEL)).is_some_and(|part| part == CLASSES_PART)
}

/// The object under both names that references may use, if references to it are possible.
fn traefik_object(meta: &TypeMeta, object: &Map<String, Value>) -> Option<[TraefikObject; 2]> {
    let kind = *["Middleware", "ServersTransport", "TLSOption"].iter().find(|kind| **kind == meta.kind)?;
    meta.api_version
        .strip_prefix("traefik.io/")
        .or_else(|| meta.api_version.strip_prefix("traefik.containo.us/"))?;
    let metadata = object.get("metadata")?;
    let text = |key: &str| metadata.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (namespace, name) = (text("namespace").unwrap_or("default"), text("name")?);
    Some(["-", "_"].map(|separator| TraefikObject { kind, name: format!("{namespace}{separator}{name}") }))
}

/// Whether an apiVersion is an older or newer one of a known kind.
fn is_relative(api_version: &str, wanted: &str) -> bool {
    let Some((group, _)) = wanted.split_once('/') else { return false };
    api_version.split_once('/').is_some_and(|(other, _)| other == group || other == "extensions")
}

/// Records an unreadable document or item. A parser's message about a Secret may show a key, so only its position is
/// reported.
fn fault(manifests: &mut Manifests, place: ManifestPlace, kind: Option<&String>, message: &str, text: &str) {
    let shows_secret = |text: &str| text.contains("Secret") || text.contains("PRIVATE KEY");
    let (message, remedy) = match kind {
        Some(kind) if kind == "Secret" => ("this Secret can't be read".to_owned(), SECRET_REMEDY),
        None if shows_secret(text) => ("this Secret can't be read".to_owned(), SECRET_REMEDY),
        _ if has_tab(text) => (one_line(message), TAB_REMEDY),
        Some(kind) => (format!("this {kind} can't be read: {}", one_line(message)), FIELD_REMEDY),
        None => (one_line(message), REMEDY),
    };
    manifests.faults.push(ManifestFault { place, message, remedy: remedy.to_owned() });
}

/// Whether a line of a text is indented with a tab.
fn has_tab(text: &str) -> bool {
    let blank = |line: &str| line.len() - line.trim_start().len();
    text.lines().any(|line| line[..blank(line)].contains('\t'))
}

/// A parser's message on one line, with limited length and without characters that a terminal would interpret.
fn one_line(message: &str) -> String {
    let words: Vec<&str> = message.split_whitespace().collect();
    shown(&printable(&words.join(" ")), MESSAGE_LIMIT)
}
