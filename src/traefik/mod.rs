//! What Traefik reads: its dynamic configuration, how text becomes safe in it, and its limits.

pub mod document;
pub mod dynamic;
pub mod escape;
pub mod yaml;
