//! What Traefik reads: its dynamic configuration, how text becomes safe in it, and its limits.

pub mod dynamic;
