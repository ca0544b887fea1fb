//! What is wanted against what is there, written by the leader alone, in the form that docs/published.md describes.

pub mod index;
pub mod lease;
pub mod objects;
pub mod read;
pub mod wanted;

#[cfg(test)]
mod tests;
