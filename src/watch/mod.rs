//! What is known of the cluster, and how it gets to know it.

mod apply;
pub mod changes;
pub mod collection;
pub mod deleted_secrets;
pub mod namespaces;
pub mod nodes;
pub mod pem;
pub mod secrets;
pub mod slices;
pub mod stores;
