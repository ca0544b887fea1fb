//! The known state of the cluster, and the events that change it.
//!
//! | file | what |
//! | --- | --- |
//! | `stores.rs` | all objects, and the events that change them |
//! | `apply.rs` | one event of any kind |
//! | `changes.rs` | what an event touched |
//! | `collection.rs` | the objects of one kind, over relists |
//! | `slices.rs`, `nodes.rs`, `namespaces.rs` | look-ups that one kind needs beside its objects |
//! | `secrets.rs`, `deleted_secrets.rs`, `pem.rs` | what is known of a Secret, how long, and what is taken out of it |

mod apply;
mod changes;
mod collection;
mod deleted_secrets;
mod namespaces;
mod nodes;
mod pem;
mod secrets;
mod slices;
mod stores;

pub use changes::Touched;
pub use collection::Scope;
pub use deleted_secrets::STAYS;
pub use namespaces::{ANY_NAMESPACE, longer_namespaces};
pub use secrets::{Asked, SecretFault, SecretSource, SecretState};
pub use stores::{Parameters, Stores, Watched};
