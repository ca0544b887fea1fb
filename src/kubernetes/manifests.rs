//! The offline reader: manifests from files, directories and standard input, as the objects that an API server
//! would hand out.
//!
//! A document is parsed once, straight into the type that its `kind` asks for. One that does not parse costs
//! only itself, and so does one item of a list.

mod document;
mod files;
mod parse;
mod visit;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DynamicObject;

use super::{EndpointSlice, Ingress, IngressClass, Namespace, Node, Secret, WireService};

pub use files::{ReadError, Source};
pub use parse::SkippedKind;

/// Where something stands in the input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was given or found, `standard input` for `-`.
    pub file: Arc<str>,
    /// The document in it, from 1; documents without content don't count.
    pub document: usize,
    /// The item of a list, from 1.
    pub item: Option<usize>,
    /// The line in the file, from 1.
    pub line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {}", self.file, self.document)?;
        if let Some(item) = self.item {
            write!(f, ", item {item}")?;
        }
        self.line.map_or(Ok(()), |line| write!(f, ", line {line}"))
    }
}

/// A document, or an item of a list, that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Where it stands.
    pub place: Place,
    /// What is wrong, on one line.
    pub message: String,
    /// What would be right.
    pub remedy: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.message, self.remedy)
    }
}

/// An object that is in the input more than once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repeated {
    /// `Kind namespace/name`.
    pub object: String,
    /// Where it stood before.
    pub before: Place,
    /// Where it stands again; this is the one that counts.
    pub again: Place,
}

impl fmt::Display for Repeated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, before, again } = self;
        write!(f, "{again}: {object} is already in {before}: the later one counts, remove one of them")
    }
}

/// An Ingress without a name. No API server has one, but examples and drafts do, and its routing does not depend on
/// what it will be called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unnamed {
    /// Where it stands.
    pub place: Place,
    /// `namespace/name` that it is read as; the name may be empty.
    pub read_as: String,
}

impl fmt::Display for Unnamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, read_as } = self;
        write!(
            f,
            "{place}: metadata.name of this Ingress is missing: an API server refuses it, give it a name; it is read as {read_as:?}"
        )
    }
}

/// What the input holds.
#[derive(Debug, Default)]
pub struct Manifests {
    /// Ingresses.
    pub ingresses: Vec<Ingress>,
    /// IngressClasses.
    pub classes: Vec<IngressClass>,
    /// Services.
    pub services: Vec<WireService>,
    /// EndpointSlices.
    pub slices: Vec<EndpointSlice>,
    /// Secrets.
    pub secrets: Vec<Secret>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// Namespaces.
    pub namespaces: Vec<Namespace>,
    /// ConfigMaps that remember accepted parameters ([`CLASSES_PART`]).
    pub class_memory: Vec<ConfigMap>,
    /// IngressClassParameters.
    pub parameters: Vec<DynamicObject>,
    /// What can't be read, in the order of the input.
    pub faults: Vec<Fault>,
    /// What is in the input more than once, in its order.
    pub repeated: Vec<Repeated>,
    /// Ingresses without a name, in the order of the input.
    pub unnamed: Vec<Unnamed>,
    /// How many objects of which other kinds there are.
    pub skipped: BTreeMap<SkippedKind, usize>,
    /// Where each object stands, to notice one that comes again.
    seen: HashMap<String, Seen>,
}

#[derive(Clone, Debug)]
struct Seen {
    index: usize,
    place: Place,
}

impl Manifests {
    /// Reads sources in their order; `-` is `stdin`, and a directory is read with all below it, sorted by path.
    ///
    /// # Errors
    /// A source that can't be read at all. What is in it never is an error, but a [`Fault`].
    pub fn read(sources: &[Source], stdin: impl Read) -> Result<Self, ReadError> {
        let mut manifests = Self::default();
        files::read_all(sources, stdin, |file, bytes| manifests.add(file, &bytes))?;
        Ok(manifests)
    }

    /// Reads the paths of a command line.
    ///
    /// # Errors
    /// As [`Manifests::read`].
    pub fn read_paths(paths: &[PathBuf], stdin: impl Read) -> Result<Self, ReadError> {
        let sources: Vec<Source> = paths.iter().cloned().map(Source::from).collect();
        Self::read(&sources, stdin)
    }

    /// Adds the documents of one file.
    pub fn add(&mut self, file: &Arc<str>, bytes: &[u8]) {
        parse::parse_file(self, file, bytes);
    }

    /// One line that counts what was skipped.
    pub fn skipped_line(&self) -> Option<String> {
        let kinds: Vec<String> = self.skipped.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        (!kinds.is_empty()).then(|| format!("skipped objects of other kinds: {}", kinds.join(", ")))
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    fn place(&mut self, object: parse::Object, place: Place) -> Result<(), String> {
        use parse::Object;
        let (seen, repeated) = (&mut self.seen, &mut self.repeated);
        match object {
            Object::Ingress(mut object) => {
                if let Some(read_as) = give_name(&mut object, seen) {
                    self.unnamed.push(Unnamed { place: place.clone(), read_as });
                }
                put(&mut self.ingresses, seen, repeated, *object, place, INGRESS, true)
            }
            Object::IngressClass(object) => {
                put(&mut self.classes, seen, repeated, *object, place, "IngressClass", false)
            }
            Object::Service(object) => {
                put(&mut self.services, seen, repeated, *object, place, "Service", true)
            }
            Object::EndpointSlice(object) => {
                put(&mut self.slices, seen, repeated, *object, place, "EndpointSlice", true)
            }
            Object::Secret(object) => put(&mut self.secrets, seen, repeated, *object, place, "Secret", true),
            Object::Node(object) => put(&mut self.nodes, seen, repeated, *object, place, "Node", false),
            Object::Namespace(object) => {
                put(&mut self.namespaces, seen, repeated, *object, place, "Namespace", false)
            }
            Object::ConfigMap(object) => {
                put(&mut self.class_memory, seen, repeated, *object, place, "ConfigMap", true)
            }
            Object::Parameters(object) => {
                put(&mut self.parameters, seen, repeated, *object, place, "IngressClassParameters", false)
            }
        }
    }
}

const INGRESS: &str = "Ingress";

fn fill_namespace(meta: &mut ObjectMeta) {
    if meta.namespace.as_deref().unwrap_or_default().is_empty() {
        meta.namespace = Some("default".to_owned());
    }
}

/// Gives an Ingress without a name one that no other has: what a name would be generated from, else the empty one,
/// from the second on with a number. Answers what it is read as.
fn give_name(ingress: &mut Ingress, seen: &HashMap<String, Seen>) -> Option<String> {
    let meta = &mut ingress.metadata;
    if meta.name.as_deref().is_some_and(|name| !name.is_empty()) {
        return None;
    }
    fill_namespace(meta);
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let base = meta.generate_name.as_deref().unwrap_or_default().trim_end_matches('-');
    let numbered = (2_usize..).map(|number| match base {
        "" => number.to_string(),
        base => format!("{base}-{number}"),
    });
    let name = std::iter::once(base.to_owned())
        .chain(numbered)
        .find(|name| !seen.contains_key(&format!("{INGRESS} {namespace}/{name}")))?;
    let read_as = format!("{namespace}/{name}");
    meta.name = Some(name);
    Some(read_as)
}

/// Puts an object with its like; a later one takes the place of an earlier one of the same name. An error says
/// why it can't be an object at all.
fn put<K: Resource>(
    objects: &mut Vec<K>,
    seen: &mut HashMap<String, Seen>,
    repeated: &mut Vec<Repeated>,
    mut object: K,
    place: Place,
    kind: &str,
    namespaced: bool,
) -> Result<(), String> {
    let meta = object.meta_mut();
    if meta.name.as_deref().is_none_or(|name| name.is_empty() && kind != INGRESS) {
        let generated = meta.generate_name.as_ref().map_or("", |_| "; a generateName is no name yet");
        return Err(format!("metadata.name of this {kind} is missing{generated}"));
    }
    if namespaced {
        fill_namespace(meta);
    } else {
        meta.namespace = None;
    }
    let name = meta.name.as_deref().unwrap_or_default();
    let name = match meta.namespace.as_deref() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    };
    match seen.entry(name) {
        std::collections::hash_map::Entry::Vacant(slot) => {
            slot.insert(Seen { index: objects.len(), place });
            objects.push(object);
        }
        std::collections::hash_map::Entry::Occupied(mut slot) => {
            let index = slot.get().index;
            let before = std::mem::replace(&mut slot.get_mut().place, place.clone());
            repeated.push(Repeated { object: slot.key().clone(), before, again: place });
            if let Some(old) = objects.get_mut(index) {
                *old = object;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "manifests/tests.rs"]
mod tests;
