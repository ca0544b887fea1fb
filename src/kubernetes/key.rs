//! Names of namespaced objects, one type per kind, so that a Service's key can't be taken for a Secret's.

use std::fmt;
use std::sync::Arc;

/// Namespace and name of an object of any kind. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    namespace: Arc<str>,
    name: Arc<str>,
}

impl ObjectKey {
    /// The key of `namespace/name`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The namespace as a shared value.
    pub fn shared_namespace(&self) -> Arc<str> {
        Arc::clone(&self.namespace)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub ObjectKey);

        impl $name {
            /// The key of `namespace/name`.
            pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
                Self(ObjectKey::new(namespace, name))
            }
        }

        impl std::ops::Deref for $name {
            type Target = ObjectKey;
            fn deref(&self) -> &ObjectKey {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

keys! {
    /// An Ingress.
    IngressKey,
    /// A Service.
    ServiceKey,
    /// A Secret.
    SecretKey,
    /// An output: the namespace and the name of an index (docs/published.md).
    OutputKey,
}
