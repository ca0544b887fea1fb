//! How YAML is parsed: as kubectl does, within limits.

/// Maximum depth of mappings and lists; no Kubernetes object has half of it.
const DEPTH_LIMIT: usize = 64;

/// The words that are booleans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Booleans {
    /// Also `yes`, `on` and so on, as for kubectl, but here in any case. For kubectl `tRUE` is a text.
    Yaml11,
    /// Only `true`, `True`, `TRUE` and their opposites.
    Yaml12,
}

/// Limits that follow from the size of a document: as long as it likes, but never many times longer by what its
/// aliases repeat.
pub fn yaml_options(text: &str, booleans: Booleans) -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_total_scalar_bytes: 2 * text.len() + (1 << 20),
            max_total_comment_bytes: usize::MAX,
            max_depth: DEPTH_LIMIT,
            flow_nesting_limit: DEPTH_LIMIT,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 200_000 },
        emit_comments: false,
        strict_booleans: booleans == Booleans::Yaml12,
        // Messages stay on one line. A snippet could show a private key.
        with_snippet: false,
    }
}
