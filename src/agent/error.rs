//! Why a generation does not reach the proxy.

use std::path::PathBuf;

use thiserror::Error;

use crate::published::read::ReadError;

/// A generation, or a file of the user's, that is not handed to Traefik. What was handed on before stays.
#[derive(Debug, Error)]
pub enum NotHandedOn {
    /// An object of the output is broken.
    #[error(transparent)]
    Published(#[from] ReadError),
    /// Traefik would refuse the document, and every other one with it.
    #[error("{object}: {field}: {reason}; Traefik would refuse its whole configuration")]
    Invalid { object: String, field: String, reason: String },
    /// The shards are not what the index says.
    #[error("generation {generation}: the index promises {promised}, and its shards hold {found}")]
    Counts { generation: u64, promised: String, found: String },
    /// The folder can't be written.
    #[error("{}: {action} failed: {source}", .path.display())]
    Folder { path: PathBuf, action: &'static str, source: std::io::Error },
}

impl NotHandedOn {
    /// The value of the metric's label `reason`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Published(_) => "unreadable",
            Self::Invalid { .. } => "invalid",
            Self::Counts { .. } => "counts",
            Self::Folder { .. } => "folder",
        }
    }

    /// All values of that label.
    pub const REASONS: [&str; 4] = ["unreadable", "invalid", "counts", "folder"];
}
