//! Kubernetes objects as JSON, and clusters of them.

use serde_json::Value;

/// A kind that the comparison deals with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    pub name: &'static str,
    /// The beginning of its URLs.
    pub api: &'static str,
    pub plural: &'static str,
    pub namespaced: bool,
}

impl Kind {
    /// Its `apiVersion`.
    pub fn version(&self) -> &'static str {
        self.api.strip_prefix("/apis/").or_else(|| self.api.strip_prefix("/api/")).unwrap_or(self.api)
    }
}

/// All of them, in the order in which they can be created.
pub const KINDS: &[Kind] = &[
    Kind { name: "Namespace", api: "/api/v1", plural: "namespaces", namespaced: false },
    Kind { name: "Node", api: "/api/v1", plural: "nodes", namespaced: false },
    Kind {
        name: "IngressClass",
        api: "/apis/networking.k8s.io/v1",
        plural: "ingressclasses",
        namespaced: false,
    },
    Kind { name: "Service", api: "/api/v1", plural: "services", namespaced: true },
    Kind {
        name: "EndpointSlice",
        api: "/apis/discovery.k8s.io/v1",
        plural: "endpointslices",
        namespaced: true,
    },
    Kind { name: "Secret", api: "/api/v1", plural: "secrets", namespaced: true },
    Kind { name: "Ingress", api: "/apis/networking.k8s.io/v1", plural: "ingresses", namespaced: true },
];

/// The kind of an object; `None` for one that the comparison does not know.
pub fn kind(object: &Value) -> Option<Kind> {
    let name = object["kind"].as_str()?;
    KINDS.iter().copied().find(|kind| kind.name == name)
}

pub fn is(object: &Value, kind: &str) -> bool {
    object["kind"] == kind
}

pub fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// `Kind namespace/name`.
pub fn title(object: &Value) -> String {
    format!("{} {}/{}", object["kind"].as_str().unwrap_or_default(), namespace(object), name(object))
}

/// The path of the collection that an object belongs to.
pub fn collection_path(kind: Kind, namespace: &str) -> String {
    if kind.namespaced {
        format!("{}/namespaces/{namespace}/{}", kind.api, kind.plural)
    } else {
        format!("{}/{}", kind.api, kind.plural)
    }
}

/// The path of an object.
pub fn path(object: &Value) -> String {
    let kind = kind(object).unwrap_or_else(|| panic!("no path for {}", title(object)));
    format!("{}/{}", collection_path(kind, namespace(object)), name(object))
}

/// A value of an object's list, and none where there is no list.
pub fn items<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Objects in namespaces of their own, which begin with its name and a dash. Many share one API server.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub name: String,
    pub namespaces: Vec<String>,
    /// Namespaced objects.
    pub objects: Vec<Value>,
}

impl Cluster {
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| is(object, kind))
    }

    pub fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.objects.iter().find(|object| {
            is(object, kind) && self::namespace(object) == namespace && self::name(object) == name
        })
    }
}

/// Objects as manifests; JSON is YAML as well.
pub fn manifests<'a>(objects: impl IntoIterator<Item = &'a Value>) -> String {
    let mut text = String::new();
    for object in objects {
        text.push_str("---\n");
        text.push_str(&serde_json::to_string_pretty(object).unwrap_or_default());
        text.push('\n');
    }
    text
}
