//! Errors that keep a generation from the proxy.

use std::path::PathBuf;

use thiserror::Error;

use crate::published::read::ReadError;
use crate::table::Counts;

/// An error of a generation or a user's file, which is not handed to Traefik. The previous content stays.
#[derive(Debug, Error)]
pub enum NotHandedOn {
    /// An object of the output is broken.
    #[error(transparent)]
    Published(#[from] ReadError),
    /// Traefik would refuse the document, and with it every other one.
    #[error("{object}: {field}: {reason}; Traefik would refuse its whole configuration")]
    Invalid { object: String, field: String, reason: String },
    /// The shards do not match the index.
    #[error("generation {generation}: the index lists {promised}, but its shards contain {found}")]
    Counts { generation: u64, promised: Counts, found: Counts },
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
