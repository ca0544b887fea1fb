//! What the translation of one Ingress finds beside its routing.

use super::problem::Problems;

/// Problems, and what the Ingress depends on beyond what its spec names.
#[derive(Debug, Default)]
pub(super) struct IngressFindings {
    pub problems: Problems,
    pub uses_nodes: bool,
    pub uses_namespaces: bool,
    /// How many addresses of endpoints were looked at.
    pub addresses: usize,
}
