//! Problems with what users write, with their remedies.

use std::collections::HashSet;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use crate::kubernetes::Ingress;
use crate::kubernetes::key::{ObjectKey, ServiceKey};
use crate::redact::hide_keys;

/// The kind of an object that a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Kind {
    Ingress,
    IngressClass,
    Service,
    Secret,
    ConfigMap,
    IngressClassParameters,
}

impl Kind {
    /// The kind as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::Service => "Service",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::IngressClassParameters => "IngressClassParameters",
        }
    }
}

macro_rules! categories {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// The category of a problem. The name is the metric label, the Event reason and the first word of the printed
        /// line, so it never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Category {
            $($(#[$doc])* $name,)+
        }

        impl Category {
            /// Every category.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The category's name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

categories! {
    UnknownAnnotation,
    InvalidAnnotation,
    EmptyListItem,
    /// A switch whose value is neither `true` nor `false`; it is off.
    UnclearSwitch,
    IgnoredAnnotation,
    InvalidPathMatcher,
    UnsupportedBackend,
    ServiceNotFound,
    /// A backend's Service has annotations that can't be used; the Service has a problem of its own with the reason.
    ServiceUnusable,
    ServicePortNotFound,
    ExternalNameNotAllowed,
    InvalidAddress,
    /// `service.nodeportlb` although nodes are not read, or no node has an InternalIP.
    NodesUnavailable,
    NoClusterIP,
    NoEndpoints,
    SecretNotFound,
    InvalidSecret,
    SecretUnavailable,
    EntryTooLarge,
    IngressTooLarge,
    CrossNamespaceNotAllowed,
    /// A reference to another provider's object from a namespace that may not have any.
    CrossProviderNotAllowed,
    DefaultBackendIgnored,
    DefaultBackendTaken,
    NamespaceNotAdmitted,
    /// The class's parameters were never accepted, so it has no routing.
    ClassNotAccepted,
    InvalidParameters,
    /// Namespace labels can't be read, so a selector can't be applied.
    NamespacesUnavailable,
    PublishedServiceNotFound,
    PublishedServiceUnusable,
    StatusContested,
    /// An object with a name that waybill needs belongs to someone else.
    OutputNameTaken,
    PublishRefused,
    WithdrawalHeld,
    Paused,
    /// The routing is becoming too large for its ConfigMap with the text form.
    TextTooLarge,
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The object that a problem is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Subject {
    pub kind: Kind,
    /// Its namespace; empty for a cluster-scoped object.
    pub namespace: String,
    pub name: String,
}

impl Subject {
    /// An Ingress.
    pub fn ingress(ingress: &Ingress) -> Self {
        Self::new(Kind::Ingress, &ingress.metadata)
    }

    /// An object without a namespace.
    pub fn cluster_scoped(kind: Kind, name: &str) -> Self {
        Self { kind, namespace: String::new(), name: name.to_owned() }
    }

    /// An object of `kind` with this metadata.
    pub fn new(kind: Kind, metadata: &ObjectMeta) -> Self {
        Self {
            kind,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}

impl From<(Kind, &ObjectKey)> for Subject {
    fn from((kind, key): (Kind, &ObjectKey)) -> Self {
        Self { kind, namespace: key.namespace().to_owned(), name: key.name().to_owned() }
    }
}

impl From<&ServiceKey> for Subject {
    fn from(key: &ServiceKey) -> Self {
        Self::from((Kind::Service, &key.0))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        f.write_str(" ")?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// A part of a user's object that can't be used, or not completely.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Problem {
    pub category: Category,
    /// The object to edit.
    pub subject: Subject,
    /// Path of the field within the object, in the form of `kubectl explain`.
    pub field: String,
    /// The current value, cut to [`Problem::VALUE_LIMIT`] bytes.
    pub value: String,
    /// The remedy.
    pub remedy: String,
}

impl Problem {
    /// Number of bytes of a value that are shown; a tenant's annotation may have 256 KiB.
    pub const VALUE_LIMIT: usize = 256;

    /// Cuts a value to the part that is shown.
    pub fn shown(value: &str) -> String {
        if value.len() <= Self::VALUE_LIMIT {
            return value.to_owned();
        }
        format!("{}…", &value[..value.floor_char_boundary(Self::VALUE_LIMIT)])
    }
}

/// The problems of one Ingress, in the order in which they were found. Beyond [`Problems::LIMIT`], which nobody would
/// read and which would take more memory than the Ingress, they are only counted.
#[derive(Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// The number of stored problems.
    pub const LIMIT: usize = 1_000;

    /// Adds a problem, which is only built if there is room for it.
    pub fn add(&mut self, problem: impl FnOnce() -> Problem) {
        if self.list.len() < Self::LIMIT { self.list.push(problem()) } else { self.more += 1 }
    }

    /// Puts a problem before all others.
    pub fn put_first(&mut self, problem: Problem) {
        if self.list.len() == Self::LIMIT {
            self.list.pop();
            self.more += 1;
        }
        self.list.insert(0, problem);
    }

    /// All problems without duplicates; the last one gives the number of those only counted.
    pub fn into_vec(mut self) -> Vec<Problem> {
        if self.list.len() > 1 {
            let mut seen = HashSet::new();
            let first: Vec<bool> = self.list.iter().map(|problem| seen.insert(problem)).collect();
            let mut first = first.into_iter();
            self.list.retain(|_| first.next().unwrap_or(true));
        }
        if self.more > 0
            && let Some(last) = self.list.last_mut()
        {
            last.remedy = format!("{}; {} more problems are not reported", last.remedy, self.more);
        }
        self.list.shrink_to_fit();
        self.list
    }
}

impl Extend<Problem> for Problems {
    fn extend<T: IntoIterator<Item = Problem>>(&mut self, problems: T) {
        problems.into_iter().for_each(|problem| self.add(|| problem));
    }
}

impl fmt::Display for Problem {
    /// One line, if names and field are valid for an API server; the value is quoted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { category, subject, field, value, remedy } = self;
        f.write_str(&hide_keys(&format!("{category}: {subject}: {field}: {value:?}: {remedy}")))
    }
}
