//! Settings for an IngressClass: the custom resource, its resolution, and the stored last accepted settings.
//!
//! | file | theme |
//! | --- | --- |
//! | `resource.rs` | the custom resource and its schema |
//! | `crd.rs` | the CustomResourceDefinition as YAML |
//! | `check.rs` | the schema's rules once more, for objects that no API server of ours has checked |
//! | `resolve.rs` | an IngressClass and its parameters to settings |
//! | `classes.rs` | all classes, kept up to date from the stores |
//! | `memory.rs` | the last accepted parameters of every class, in a ConfigMap |
//! | `status.rs` | the status of a parameters object, and when it is due |
//!
//! All of it is pure; `publish::statuses` does the writing.

pub mod check;
pub mod classes;
mod crd;
pub mod memory;
pub mod resolve;
pub mod resource;
pub mod status;

pub use classes::Classes;
pub use crd::{crd, crd_yaml};
pub use memory::Memory;
pub use resolve::{Resolution, resolve};
pub use resource::{IngressClassParameters, IngressClassParametersSpec, IngressClassParametersStatus};
