//! The offline reader: manifests from files, directories and standard input, as the objects that an API server
//! would hand out.
//!
//! A document that can't be read costs only itself, and so does one item of a list.

mod document;
mod files;
mod locate;
mod parse;
mod quoted;
mod unread;
mod yaml;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DynamicObject;

use super::{EndpointSlice, Ingress, IngressClass, Namespace, Node, Secret, WireService};

pub use files::{ManifestError, is_manifest};
pub use locate::ManifestTexts;
pub use parse::SkippedKind;
pub use quoted::QuotedNumber;
pub use unread::UnreadFields;

/// A position in the input.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ManifestPlace {
    /// The file as it was given or found, `standard input` for `-`.
    pub file: Arc<str>,
    /// The document in the file, from 1; empty documents don't count.
    pub document: usize,
    /// The item of a list, from 1.
    pub item: Option<usize>,
    /// The line in the file, from 1.
    pub line: Option<usize>,
}

impl fmt::Display for ManifestPlace {
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
pub struct ManifestFault {
    pub place: ManifestPlace,
    pub message: String,
    pub remedy: String,
}

impl fmt::Display for ManifestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.message, self.remedy)
    }
}

/// An object that is in the input more than once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repeated {
    /// `Kind namespace/name`.
    pub object: String,
    pub before: ManifestPlace,
    /// The position of the repeated object, which is the one that is used.
    pub again: ManifestPlace,
}

impl fmt::Display for Repeated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, before, again } = self;
        write!(f, "{again}: {object} is already in {before}: the later one is used, remove one of them")
    }
}

/// An Ingress without a name. An API server has no such Ingress, but examples and drafts do, and its routing does not
/// depend on its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unnamed {
    pub place: ManifestPlace,
    /// The `namespace/name` under which it is read; the name may be empty.
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

/// An object of Traefik's CRD provider to which Ingresses and Services can refer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TraefikObject {
    pub kind: &'static str,
    /// As in references: `NAMESPACE-NAME`, or `NAMESPACE_NAME` with `safeNaming`.
    pub name: String,
}

/// The content of the input.
#[derive(Debug, Default)]
pub struct Manifests {
    pub ingresses: Vec<Ingress>,
    pub classes: Vec<IngressClass>,
    pub services: Vec<WireService>,
    pub slices: Vec<EndpointSlice>,
    pub secrets: Vec<Secret>,
    pub nodes: Vec<Node>,
    pub namespaces: Vec<Namespace>,
    /// ConfigMaps with stored parameters (`CLASSES_PART`).
    pub class_memory: Vec<ConfigMap>,
    pub parameters: Vec<DynamicObject>,
    pub traefik_objects: BTreeSet<TraefikObject>,
    /// This and the next three are in the order of the input.
    pub faults: Vec<ManifestFault>,
    pub repeated: Vec<Repeated>,
    pub unnamed: Vec<Unnamed>,
    pub quoted: Vec<QuotedNumber>,
    /// The number of objects of each other kind.
    pub skipped: BTreeMap<SkippedKind, usize>,
    /// By `Kind namespace/name`.
    pub unread: HashMap<String, UnreadFields>,
    /// The position of each object, to notice repeated ones.
    seen: HashMap<String, Earlier>,
    /// The last number given to an Ingress without a name, by namespace and the beginning of its name.
    numbers: HashMap<String, usize>,
}

#[derive(Clone, Debug)]
struct Earlier {
    index: usize,
    place: ManifestPlace,
}

impl Manifests {
    /// Reads the paths of a command line in their order. `-` is `stdin`, and directories are read recursively, sorted
    /// by path.
    ///
    /// # Errors
    /// A path that can't be read at all. Faults in its content are never errors, but a [`ManifestFault`].
    pub fn read(paths: &[PathBuf], stdin: impl Read) -> Result<Self, ManifestError> {
        let mut manifests = Self::default();
        files::read_all(paths, stdin, |file, bytes| manifests.add(file, &bytes))?;
        Ok(manifests)
    }

    /// The same, with the texts, to find lines in them.
    ///
    /// # Errors
    /// As [`Manifests::read`].
    pub fn read_with_texts(
        paths: &[PathBuf],
        stdin: impl Read,
    ) -> Result<(Self, ManifestTexts), ManifestError> {
        let (mut manifests, mut texts) = (Self::default(), ManifestTexts::default());
        files::read_all(paths, stdin, |file, bytes| {
            manifests.add(file, &bytes);
            texts.keep(file, bytes);
        })?;
        Ok((manifests, texts))
    }

    /// Adds the documents of one file.
    pub fn add(&mut self, file: &Arc<str>, bytes: &[u8]) {
        parse::parse_file(self, file, bytes);
    }

    /// One line with the number of skipped objects.
    pub fn skipped_line(&self) -> Option<String> {
        let kinds: Vec<String> = self.skipped.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        (!kinds.is_empty()).then(|| format!("skipped objects of other kinds: {}", kinds.join(", ")))
    }

    /// The position of each object, by `Kind namespace/name`. Nothing can be added any more.
    pub fn take_places(&mut self) -> HashMap<String, ManifestPlace> {
        std::mem::take(&mut self.seen).into_iter().map(|(object, earlier)| (object, earlier.place)).collect()
    }

    /// The number of objects.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether there are no objects.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Adds an object. It replaces an earlier one of the same name.
    fn put<K: Resource>(
        &mut self,
        of_kind: impl FnOnce(&mut Self) -> &mut Vec<K>,
        kind: &str,
        mut object: K,
        place: ManifestPlace,
    ) {
        let meta = object.meta_mut();
        if meta.name.as_deref().is_none_or(|name| name.is_empty() && kind != INGRESS) {
            let generated = meta.generate_name.as_ref().map_or("", |_| "; a generateName is not a name yet");
            let message = format!("metadata.name of this {kind} is missing{generated}");
            self.faults.push(ManifestFault { place, message, remedy: "give it a name".to_owned() });
            return;
        }
        let name = meta.name.as_deref().unwrap_or_default();
        let title = if CLUSTER_SCOPED.contains(&kind) {
            let title = format!("{kind} {name}");
            meta.namespace = None;
            title
        } else {
            let title = format!("{kind} {}/{name}", namespace_of(meta));
            meta.namespace = Some(namespace_of(meta).to_owned());
            title
        };
        match self.seen.get_mut(&title) {
            Some(Earlier { index, place: earlier }) => {
                let index = *index;
                let before = std::mem::replace(earlier, place.clone());
                self.repeated.push(Repeated { object: title, before, again: place });
                if let Some(old) = of_kind(self).get_mut(index) {
                    *old = object;
                }
            }
            None => {
                let objects = of_kind(self);
                let index = objects.len();
                objects.push(object);
                self.seen.insert(title, Earlier { index, place });
            }
        }
    }

    /// Adds an Ingress. If it lacks a name, it gets a unique one: its generateName or an empty name, from the second on
    /// with a number.
    fn put_ingress(&mut self, mut ingress: Ingress, place: ManifestPlace) {
        let meta = &mut ingress.metadata;
        if meta.name.as_deref().unwrap_or_default().is_empty() {
            let namespace = namespace_of(meta);
            let base = meta.generate_name.as_deref().unwrap_or_default().trim_end_matches('-');
            let separator = if base.is_empty() { "" } else { "-" };
            // All numbers before the last one are used.
            let number = self.numbers.entry(format!("{namespace}/{base}")).or_insert(1);
            let name = loop {
                let name = match *number {
                    1 => base.to_owned(),
                    number => format!("{base}{separator}{number}"),
                };
                if !self.seen.contains_key(&format!("{INGRESS} {namespace}/{name}")) {
                    break name;
                }
                *number += 1;
            };
            self.unnamed.push(Unnamed { place: place.clone(), read_as: format!("{namespace}/{name}") });
            meta.name = Some(name);
        }
        self.put(|all| &mut all.ingresses, INGRESS, ingress, place);
    }
}

const INGRESS: &str = "Ingress";
const CLUSTER_SCOPED: [&str; 4] = ["IngressClass", "IngressClassParameters", "Namespace", "Node"];

fn namespace_of(meta: &ObjectMeta) -> &str {
    namespace_or_default(meta.namespace.as_deref())
}

fn namespace_or_default(namespace: Option<&str>) -> &str {
    namespace.filter(|namespace| !namespace.is_empty()).unwrap_or("default")
}

#[cfg(test)]
#[path = "manifests/cost_tests.rs"]
mod cost_tests;
#[cfg(test)]
#[path = "manifests/tests.rs"]
mod tests;
