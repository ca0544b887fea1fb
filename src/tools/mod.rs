//! What helps people to read routing: which router serves a request, and why. Pure: routing in, answers out.
//!
//! | file | what |
//! | --- | --- |
//! | `pattern.rs` | Go's regular expressions, by the `regex` crate |
//! | `rule.rs` | the text of a rule to a tree |
//! | `web_request.rs` | a URL to what Traefik routes by |
//! | `matching.rs` | does a rule match a request, and if not, why |
//! | `certificate.rs` | which certificate a host is served with |
//! | `explain.rs`, `explained.rs` | the candidates for a request in Traefik's order; as text |

pub mod certificate;
pub mod explain;
pub mod explained;
pub mod matching;
mod pattern;
pub mod rule;
pub mod web_request;
