//! What Traefik reads: its dynamic configuration, written so that text stays text.

pub mod certificate;
pub mod document;
pub mod dynamic;
pub(crate) mod escape;
pub(crate) mod yaml;
