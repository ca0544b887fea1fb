//! Traefik's dynamic configuration, cut down to the fields that waybill writes.
//!
//! Field names and meanings are those of Traefik's `pkg/config/dynamic`; Traefik's file and HTTP providers
//! refuse every field that they don't know, so nothing else may ever be added here. Fields that hold their
//! default are left out.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A complete dynamic configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Routers and services; absent when there are none, since Traefik refuses an empty section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// The `http` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub routers: BTreeMap<String, Router>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, HttpService>,
}

/// The `tls` section.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificates, sorted by the namespace and name of their Secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
}

/// The separator that Traefik's file and HTTP providers put between the items of a list before they split it again. An
/// item that contains it becomes several (`file/raw_node.go` and `parser/element_fill.go` of paerser).
pub const LIST_SEPARATOR: char = '║';

/// A router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Router {
    /// Entry points; empty means all of Traefik's defaults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entry_points: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub middlewares: Vec<String>,
    #[serde(default)]
    pub service: String,
    /// The rule, never empty.
    pub rule: String,
    /// `v2`, `v3`, `default`, or any text from an annotation; empty leaves it to Traefik.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule_syntax: String,
    /// 0 leaves it to Traefik: the longer rule comes first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i64,
    /// If present (even empty), TLS is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RouterTls>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observability: Option<Observability>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// TLS of a router.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouterTls {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub options: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cert_resolver: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<Domain>,
}

/// A domain of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub main: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sans: Vec<String>,
}

/// Observability of a router; never written empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Observability {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_logs: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<bool>,
    /// `minimal` or `detailed`. Left out, it is `minimal`. An empty value means the entry point's, so it has to be
    /// written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_verbosity: Option<String>,
}

/// A service, always a load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpService {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub middlewares: Vec<String>,
    pub load_balancer: LoadBalancer,
}

/// A load balancer; never written empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadBalancer {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Left out if it is Traefik's default (true), unless nothing else would be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pass_host_header: Option<bool>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub servers_transport: String,
}

/// A server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// `scheme://host:port`.
    pub url: String,
}

/// Stickiness of a load balancer; without a cookie it has no effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sticky {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Cookie>,
}

fn root() -> String {
    "/".to_owned()
}

impl Default for Cookie {
    fn default() -> Self {
        Self {
            name: String::new(),
            secure: false,
            http_only: false,
            same_site: String::new(),
            max_age: 0,
            path: root(),
            domain: String::new(),
        }
    }
}

/// A sticky cookie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cookie {
    /// Name; empty leaves it to Traefik.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secure: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub http_only: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub same_site: String,
    /// Max-Age in seconds; may be negative; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_age: i64,
    /// The Path attribute. Written even if it is Traefik's default, so that a reader need not know the default.
    #[serde(default = "root")]
    pub path: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
}

/// A certificate with its key, as PEM text.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Certificate {
    pub cert_file: Arc<str>,
    /// The private key; left out if keys must not be shown.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub key_file: Arc<str>,
}

impl std::fmt::Debug for Certificate {
    /// Never shows the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("cert_file", &self.cert_file).finish_non_exhaustive()
    }
}
