//! The published form of an output (docs/published.md): what `run` writes and what `show`, `render` and agents read.

pub mod agents;
pub mod desired_output;
pub mod index;
pub mod objects;
pub mod read;
pub mod salt;

#[cfg(test)]
pub mod tests;
