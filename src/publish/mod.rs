//! What is published: the form that outputs have in a cluster (docs/published.md).

pub mod index;
pub mod objects;
pub mod read;
pub mod wanted;

#[cfg(test)]
mod tests;
