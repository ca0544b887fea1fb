//! What is published: the form that outputs have in a cluster (docs/published.md).
