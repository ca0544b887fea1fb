//! Tools that explain routing to people, such as which router serves a request and why. Pure: routing in, answers out.
//!
//! | file | what |
//! | --- | --- |
//! | `pattern.rs` | Go's regular expressions, by the `regex` crate |
//! | `rule.rs` | the text of a rule to a tree |
//! | `web_request.rs` | a URL to what Traefik routes by |
//! | `matching.rs` | does a rule match a request, and if not, why |
//! | `output_route.rs` | each router of an output with what it comes from |
//! | `fields.rs` | which field of an Ingress a rule comes from |
//! | `tls_options.rs` | TLS options that Traefik does not apply |
//! | `asked_host.rs` | what Ingresses say about the host of a request |
//! | `explain.rs`, `explained.rs` | the candidates for a request in Traefik's order; as text |
//! | `graph.rs`, `graph_svg.rs`, `graph_text.rs` | host, path, Service, endpoints; as a picture; as DOT and Mermaid |
//! | `compared_route.rs`, `changed_field.rs` | a route without the names of routers and services; what of it differs |
//! | `raw_data.rs` | what a Traefik's API says of its routes |
//! | `diff.rs`, `diff_text.rs` | routes gained, lost and changed; as text |
//! | `deliberate.rs`, `certificate_difference.rs` | which differences from Traefik's provider are deliberate: of routes; of certificates |
//! | `invalid.rs`, `problems.rs` | what an API server refuses; what is wrong with a routing that is not live |
//! | `lint/` | what is wrong, and what is legal and still wrong |

mod asked_host;
pub mod certificate_difference;
mod changed_field;
pub mod compared_route;
mod deliberate;
pub mod diff;
pub mod diff_text;
pub mod explain;
pub mod explained;
mod fields;
pub mod graph;
pub mod graph_svg;
pub mod graph_text;
pub mod invalid;
pub mod lint;
pub mod matching;
mod output_route;
mod pattern;
pub mod problems;
pub mod raw_data;
pub mod rule;
mod tls_options;
pub mod web_request;
