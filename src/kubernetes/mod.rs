//! Access to Kubernetes objects, live or in files. Each kind has a type with only the fields that somebody reads; serde
//! skips the rest.

mod causes;
pub mod client;
mod endpoint_slice;
mod ingress;
pub mod key;
mod layer;
pub mod manifests;
mod metadata;
pub(crate) mod name;
mod namespace;
mod node;
pub(crate) mod request;
mod secret;
mod service;
mod watch;
pub(crate) mod well_known;

pub(crate) use causes::with_causes;
pub use endpoint_slice::{Address, EndpointSlice, Slice, SlicePort};
pub use ingress::{Ingress, IngressClass, IngressSpec, IngressTLS};
pub use metadata::{Created, MetadataOf, Uid};
pub use namespace::Namespace;
pub use node::{Node, NodeAddresses};
pub use secret::Secret;
pub use service::{Service, ServicePort, ServiceType, WireService};
