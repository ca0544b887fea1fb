//! A translation that panics.

use crate::kubernetes::key::IngressKey;

/// Why an Ingress could not be updated.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("the translation of Ingress {key} panicked: {message}; it stays as it was")]
    Panicked { key: IngressKey, message: String },
}

/// Nothing that a user writes may affect more than its own Ingress. The translation only reads, so a panic leaves
/// nothing half done.
pub(super) fn caught<T>(key: &IngressKey, translate: impl FnOnce() -> T) -> Result<T, ReconcileError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(translate)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        ReconcileError::Panicked { key: key.clone(), message: text.to_owned() }
    })
}
