//! The custom resource `IngressClassParameters`. Doc comments here are what `kubectl explain` shows.
//!
//! Every rule in here has its twin in [`super::check`], since manifests and other API servers' objects come
//! without having passed it; a test on a real API server compares the two.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::kubernetes::name::{MAX_LABEL, MAX_SUBDOMAIN};
use crate::translate::settings::{BrokenBackends, Precedence, RuleSyntax};

/// The API group.
pub const GROUP: &str = "waybill.dev";
/// The version.
pub const VERSION: &str = "v1alpha1";
/// The kind.
pub const KIND: &str = "IngressClassParameters";
/// Entries that any list may have.
pub const MAX_ENTRIES: usize = 256;
/// Requirements that a selector may have, in each of its two forms.
pub const MAX_REQUIREMENTS: usize = 32;
/// Characters of `namespace/name`.
pub const MAX_SERVICE: usize = 2 * MAX_LABEL + 1;
/// Characters of the name of an entry point or a middleware.
pub const MAX_REFERENCE: usize = 512;
/// How a selector compares a label.
pub const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];
/// Characters of a label's key: a prefix of 253, a slash, a name of 63.
pub const MAX_LABEL_KEY: usize = 317;

/// Settings of the IngressClasses whose spec.parameters names this object.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "waybill.dev",
    version = "v1alpha1",
    kind = "IngressClassParameters",
    plural = "ingressclassparameters",
    singular = "ingressclassparameters",
    shortname = "icp",
    category = "waybill",
    status = "IngressClassParametersStatus",
    derive = "PartialEq",
    doc = "Settings for the IngressClasses of waybill that name this object in spec.parameters. A class that \
           names none uses the operator's own options.",
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].status", "description": "Whether the settings are usable"}"#,
    printcolumn = r#"{"name": "Published", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Published\")].status", "description": "Whether the current routing is published"}"#,
    printcolumn = r#"{"name": "Ingresses", "type": "integer", "jsonPath": ".status.ingresses", "description": "Ingresses of these classes"}"#,
    printcolumn = r#"{"name": "Problems", "type": "integer", "jsonPath": ".status.problems", "description": "Problems of these Ingresses"}"#,
    printcolumn = r#"{"name": "Agents", "type": "integer", "jsonPath": ".status.agents", "description": "Live agents of the output"}"#,
    printcolumn = r#"{"name": "Up-To-Date", "type": "integer", "jsonPath": ".status.updatedAgents", "description": "Agents whose proxies have the newest generation"}"#,
    printcolumn = r#"{"name": "Classes", "type": "string", "jsonPath": ".status.ingressClasses", "description": "IngressClasses that name this object", "priority": 1}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].reason", "description": "Why the settings are accepted or not", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[x_kube(validation = (
    "!(has(self.ingressEndpoint) && has(self.reportNodeInternalIPs) && self.reportNodeInternalIPs)",
    "reportNodeInternalIPs and ingressEndpoint exclude each other"
))]
#[serde(rename_all = "camelCase")]
pub struct IngressClassParametersSpec {
    /// Where the routing of the classes is published, for the proxies that serve them. Several classes may share
    /// an output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<ClassOutput>,
    /// The addresses that are written into the status of the classes' Ingresses. Left out: the operator's option
    /// of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_endpoint: Option<IngressEndpoint>,
    /// Writes the InternalIP of every node into the status of the classes' Ingresses. Not together with
    /// ingressEndpoint. Left out: the operator's option of the same name.
    #[serde(default, rename = "reportNodeInternalIPs", skip_serializing_if = "Option::is_none")]
    pub report_node_internal_ips: Option<bool>,
    /// Keeps routers whose Service has no ready endpoint; the proxy then answers 503. Left out: the operator's
    /// option of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_empty_services: Option<bool>,
    /// Allows Services of type ExternalName as backends. Left out: the operator's option of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_external_name_services: Option<bool>,
    /// Allows annotations that refer to another namespace's objects. Left out: the operator's option of the same
    /// name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_cross_namespace: Option<bool>,
    /// The only namespaces whose annotations may refer to objects of other Traefik providers; an empty list means
    /// none. Left out: the operator's option of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "dns_labels")]
    pub cross_provider_namespaces: Option<Vec<String>>,
    /// Sends requests to a Service's cluster IP and not to its endpoints, unless the Service's annotation says
    /// otherwise. Left out: the operator's option of the same name.
    #[serde(default, rename = "nativeLBByDefault", skip_serializing_if = "Option::is_none")]
    pub native_lb_by_default: Option<bool>,
    /// Makes a path of type Prefix match whole path elements only: /foo matches /foo/bar and not /foobar. Left
    /// out: the operator's option of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict_prefix_matching: Option<bool>,
    /// The rule syntax of Ingresses without an annotation for it. Left out: the operator's option
    /// core.defaultRuleSyntax.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "rule_syntax")]
    pub default_rule_syntax: Option<RuleSyntax>,
    /// Which of several matching paths takes a request. Traefik: the one with the longest rule. Spec: the order
    /// that the Ingress API promises, and Prefix then matches whole path elements. Left out: the operator's
    /// option operator.routing.precedence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "precedence")]
    pub precedence: Option<Precedence>,
    /// What becomes of a path whose backend cannot be used. Drop: it vanishes, and a less specific path may take
    /// its requests. Answer503: it stays and answers 503. Left out: the operator's option
    /// operator.routing.brokenBackends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "broken_backends")]
    pub broken_backends: Option<BrokenBackends>,
    /// Entry points of Ingresses whose annotations name none. Left out: the proxy's default entry points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "references")]
    pub default_entry_points: Option<Vec<String>>,
    /// Middlewares of Ingresses whose annotations name none, in this order. Left out: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "references")]
    pub default_middlewares: Option<Vec<String>>,
    /// The namespaces whose Ingresses may use the classes. An Ingress elsewhere gets a problem and no routing.
    /// Left out: all namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Namespaces>,
}

/// Where routing is published.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClassOutput {
    /// Name of the output, a DNS label. Left out: the operator's option operator.output.name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "dns_label")]
    pub name: Option<String>,
    /// Namespace of the output, which keeps its private keys from the readers of other outputs. waybill needs a
    /// Role there. Left out: the operator's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "dns_label")]
    pub namespace: Option<String>,
}

/// The addresses in the status of Ingresses.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = (
    "has(self.ip) || has(self.hostname) || has(self.publishedService)",
    "give ip, hostname or publishedService"
))]
#[x_kube(validation = (
    "!has(self.publishedService) || !(has(self.ip) || has(self.hostname))",
    "publishedService excludes ip and hostname"
))]
#[serde(rename_all = "camelCase")]
pub struct IngressEndpoint {
    /// One IPv4 or IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "ip")]
    pub ip: Option<String>,
    /// One host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "hostname")]
    pub hostname: Option<String>,
    /// A Service, as namespace/name, whose addresses are copied. Not together with ip or hostname.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "service")]
    pub published_service: Option<String>,
}

/// Namespaces, by name or by label.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(validation = ("has(self.names) != has(self.selector)", "give either names or selector"))]
#[serde(rename_all = "camelCase")]
pub struct Namespaces {
    /// Names of namespaces. An empty list admits none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "dns_labels")]
    pub names: Option<Vec<String>>,
    /// Labels that a namespace must carry. An empty selector admits every namespace. waybill needs the right to
    /// watch Namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "label_selector")]
    pub selector: Option<LabelSelector>,
}

/// What `defaultRuleSyntax` may be.
pub(super) const RULE_SYNTAXES: &[(&str, RuleSyntax)] = &[("v2", RuleSyntax::V2), ("v3", RuleSyntax::V3)];
/// What `precedence` may be.
pub(super) const PRECEDENCES: &[(&str, Precedence)] =
    &[("Traefik", Precedence::Traefik), ("Spec", Precedence::Spec)];
/// What `brokenBackends` may be.
pub(super) const BROKEN_BACKENDS: &[(&str, BrokenBackends)] =
    &[("Drop", BrokenBackends::Drop), ("Answer503", BrokenBackends::Answer503)];

/// Whether waybill uses the settings, and for what. Conditions are written at once, counts at most every 30 seconds.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IngressClassParametersStatus {
    /// The metadata.generation that the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "integer")]
    pub observed_generation: Option<i64>,
    /// Accepted: the settings are usable. Published: the last commit contains the current routing. Ready: both, or the
    /// only unpublished changes are later than these settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"])
    )]
    pub conditions: Vec<Condition>,
    /// IngressClasses of waybill that name this object, sorted, at most 256.
    #[serde(default)]
    #[schemars(schema_with = "class_names")]
    pub ingress_classes: Vec<String>,
    #[serde(flatten)]
    pub counts: ClassCounts,
}

/// What the classes that name one object have.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
pub struct ClassCounts {
    /// Ingresses of these classes that have routing.
    #[schemars(schema_with = "integer")]
    pub ingresses: u64,
    /// Routers of these Ingresses.
    #[schemars(schema_with = "integer")]
    pub routers: u64,
    /// Services of these Ingresses.
    #[schemars(schema_with = "integer")]
    pub services: u64,
    /// Certificates of these Ingresses.
    #[schemars(schema_with = "integer")]
    pub certificates: u64,
    /// Problems of these Ingresses and their Services.
    #[schemars(schema_with = "integer")]
    pub problems: u64,
    /// Shards of the output that holds the routing.
    #[schemars(schema_with = "integer")]
    pub shards: u64,
    /// Agents of the output that are alive.
    #[serde(default)]
    #[schemars(schema_with = "integer")]
    pub agents: u64,
    /// Of these, the ones whose proxies have loaded the newest generation, or one that was the newest 30 seconds ago.
    #[serde(default)]
    #[schemars(schema_with = "integer")]
    pub updated_agents: u64,
}

/// One aspect of the state, in the form that all Kubernetes conditions have.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Accepted, Published or Ready.
    #[serde(rename = "type")]
    #[schemars(length(max = 316))]
    pub type_: String,
    /// True, False or Unknown.
    #[schemars(schema_with = "condition_status")]
    pub status: String,
    /// The metadata.generation that the condition is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "integer")]
    pub observed_generation: Option<i64>,
    /// When the status last changed from one value to another.
    pub last_transition_time: Time,
    /// Why, in one word for programs.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Why, for people.
    #[schemars(length(max = 32768))]
    pub message: String,
}

const DNS_LABEL: &str = "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')";
const DNS_LABEL_MESSAGE: &str = "write a DNS label: a-z, 0-9 and -, with no - at either end";

/// The schema of a text with a bound and one rule.
fn text(max: usize, rule: &str, message: &str) -> Schema {
    json_schema!({
        "type": "string",
        "maxLength": max,
        "x-kubernetes-validations": [{"rule": rule, "message": message}],
    })
}

/// The schema of a list that is replaced as a whole.
fn list(items: Schema) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": MAX_ENTRIES,
        "items": items,
        "x-kubernetes-list-type": "atomic",
    })
}

fn dns_label(_: &mut SchemaGenerator) -> Schema {
    text(MAX_LABEL, DNS_LABEL, DNS_LABEL_MESSAGE)
}

fn dns_labels(generator: &mut SchemaGenerator) -> Schema {
    list(dns_label(generator))
}

fn references(_: &mut SchemaGenerator) -> Schema {
    list(text(
        MAX_REFERENCE,
        r"self.matches('^[^\\s,║]+$')",
        "write one name per entry, without spaces, commas or the character U+2551",
    ))
}

fn ip(_: &mut SchemaGenerator) -> Schema {
    // An IPv6 address takes at most 39 characters; some more give a better message than the length would.
    text(64, "isIP(self)", "write one IPv4 or IPv6 address")
}

fn hostname(_: &mut SchemaGenerator) -> Schema {
    text(
        MAX_SUBDOMAIN,
        r"self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$') && !isIP(self)",
        "write a DNS name in lower case, such as lb.example.com; an address goes into ip",
    )
}

fn service(_: &mut SchemaGenerator) -> Schema {
    text(
        MAX_SERVICE,
        "self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?/[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')",
        "write namespace/name of a Service",
    )
}

fn label_key(_: &mut SchemaGenerator) -> Schema {
    text(
        MAX_LABEL_KEY,
        r"self.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$')",
        "write a label's key, such as team or example.com/team",
    )
}

fn label_value(_: &mut SchemaGenerator) -> Schema {
    text(
        MAX_LABEL,
        "self.matches('^([A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?)?$')",
        "write a label's value: A-Z, a-z, 0-9, -, _ and ., with a letter or digit at either end",
    )
}

/// The schema of a [`LabelSelector`], bounded and checked further than Kubernetes' own.
fn label_selector(generator: &mut SchemaGenerator) -> Schema {
    let mut values = list(label_value(generator));
    values.insert("description".into(), "The values to compare with, for In and NotIn.".into());
    let mut key = label_key(generator);
    key.insert("description".into(), "The label's key.".into());
    let requirement = json_schema!({
        "type": "object",
        "description": "A requirement on one label.",
        "required": ["key", "operator"],
        "properties": {
            "key": key,
            "operator": {
                "type": "string",
                "description": "How the label is compared: In, NotIn, Exists or DoesNotExist.",
                "enum": OPERATORS,
            },
            "values": values,
        },
        "x-kubernetes-validations": [{
            "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            "message": "In and NotIn need values, Exists and DoesNotExist take none",
        }],
    });
    json_schema!({
        "type": "object",
        "properties": {
            "matchLabels": label_map(generator),
            "matchExpressions": {
                "type": "array",
                "description": "Further requirements.",
                "maxItems": MAX_REQUIREMENTS,
                "items": requirement,
                "x-kubernetes-list-type": "atomic",
            },
        },
    })
}

fn label_map(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "description": "Labels with the value that each must have.",
        "maxProperties": MAX_REQUIREMENTS,
        "additionalProperties": label_value(generator),
        "x-kubernetes-map-type": "atomic",
        "x-kubernetes-validations": [{
            "rule": r"self.all(key, size(key) <= 317 && key.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$'))",
            "message": "every key must be a label's key, such as team or example.com/team",
        }],
    })
}

fn class_names(_: &mut SchemaGenerator) -> Schema {
    list(json_schema!({"type": "string", "maxLength": MAX_SUBDOMAIN}))
}

fn integer(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "format": "int64"})
}

/// The schema of one of several texts.
fn choice<T>(choices: &[(&str, T)]) -> Schema {
    let choices: Vec<&str> = choices.iter().map(|(text, _)| *text).collect();
    json_schema!({"type": "string", "enum": choices})
}

fn rule_syntax(_: &mut SchemaGenerator) -> Schema {
    choice(RULE_SYNTAXES)
}

fn precedence(_: &mut SchemaGenerator) -> Schema {
    choice(PRECEDENCES)
}

fn broken_backends(_: &mut SchemaGenerator) -> Schema {
    choice(BROKEN_BACKENDS)
}

fn condition_status(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["True", "False", "Unknown"]})
}
