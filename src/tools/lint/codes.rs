//! The table of all codes of `waybill lint`. `--list`, docs/lint.md, the severities and the rules of SARIF use it.

use std::fmt::Write as _;

use serde::Serialize;

/// The severity of a finding, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is not served, or not as specified.
    Error,
    /// Something is served, but probably not as intended.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// Its name, which is also SARIF's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// The description of a code.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LintCode {
    pub code: &'static str,
    pub severity: Severity,
    /// The fault, as a part of a sentence.
    pub meaning: &'static str,
    /// An example in YAML.
    pub example: &'static str,
    pub remedy: &'static str,
}

macro_rules! codes {
    ($($code:ident $severity:ident $meaning:literal $example:literal $remedy:literal;)+) => {
        /// Codes of what is valid but most likely wrong, then those of problems, which docs/operations.md explains further.
        pub const CODES: &[LintCode] = &[$(LintCode {
            code: stringify!($code),
            severity: Severity::$severity,
            meaning: $meaning,
            example: $example,
            remedy: $remedy,
        }),+];
    };
}

codes! {
    UnreachableRoute Error "another route takes every request of this one"
        "# Ingress a: path / with router.priority \"100\"; Ingress b, same host:\n- path: /cart\n  pathType: Prefix"
        "raise router.priority on this Ingress, or lower it on the other one";
    UnreachablePath Error "no request can have this path, because Traefik normalises paths"
        "- path: /a//b\n  pathType: ImplementationSpecific"
        "write the path in normalised form: without //, /./, /../ or a query, and with a space instead of %20";
    RefusedRule Error "Traefik refuses the rule of this path, so there is no route"
        "# router.pathmatcher: PathRegexp\n- path: /(a\n  pathType: ImplementationSpecific"
        "correct the pattern, or the priority";
    DuplicateRoute Error "the same host and path exist twice with the same priority"
        "# In Ingress a and in Ingress b:\n- host: shop.example\n  http:\n    paths: [{path: /, pathType: Prefix}]"
        "remove one of the two, or give the preferred one a router.priority";
    HostInTwoNamespaces Warning "Ingresses of two namespaces have routes on this host"
        "# Ingress team-a/web and Ingress team-b/api:\n- host: shop.example"
        "keep the routes of a host in one namespace, or silence this if teams share the host on purpose";
    MixedTls Warning "another Ingress has TLS on this host, but this one does not"
        "# Ingress a has spec.tls for it, Ingress b does not:\n- host: shop.example"
        "give both router.tls: \"true\" or spec.tls, or put the one without TLS on an entry point of its own";
    TlsOptionsConflict Error "Traefik applies its default TLS options instead of those that this Ingress names"
        "# Ingress a; Ingress b has the same host and router.tls: \"true\" without options:\nmetadata:\n  annotations:\n    \
        traefik.ingress.kubernetes.io/router.tls.options: shop-mtls@kubernetescrd"
        "give all Ingresses of the host the same router.tls.options";
    CertificateExpired Error "the certificate has expired or is not valid yet"
        "# a Secret whose tls.crt expired yesterday"
        "renew the certificate";
    CertificateExpiring Warning "the certificate expires soon (--expires-within)"
        "# a Secret whose tls.crt expires in 12 days"
        "renew the certificate";
    CertificateHostMissing Error "no certificate covers this host, so Traefik uses its default one"
        "spec:\n  tls:\n  - secretName: shop  # for shop.example only\n  rules:\n  - host: www.shop.example"
        "name a Secret whose certificate has this host among its names";
    TlsHostsMismatch Warning "the hosts of spec.tls differ from those of the rules"
        "spec:\n  tls:\n  - hosts: [wwww.shop.example]\n    secretName: shop\n  rules:\n  - host: www.shop.example"
        "write the hosts of the rules into spec.tls; cert-manager and similar tools make certificates for these hosts, and \
        Traefik ignores them";
    CertificateKeyMismatch Error "tls.key does not belong to tls.crt"
        "# a Secret with a renewed tls.crt and the old tls.key"
        "use the key that belongs to the certificate";
    CertificateShadowed Note "an older Secret has another certificate for the same names, which is served instead"
        "# two Secrets with a certificate for shop.example each, both named by Ingresses"
        "remove the Secret that is no longer needed, or put the same certificate into both";
    CertificateChainBroken Error "a certificate in tls.crt is not signed by the next one"
        "# a Secret whose tls.crt has the certificate, then a root that did not sign it"
        "write the certificate first, then the one that signed it, and so on; remove all others";
    CertificateUnreadable Error "tls.crt or tls.key has a PEM block that cannot be decoded"
        "data:\n  tls.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBPT0K…"
        "write the certificate and its key as PEM";
    UnusedSecret Note "no Ingress names this TLS Secret"
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata:\n  name: old-shop"
        "remove it if nothing else uses it";
    PrefixNotStrict Note "Traefik compares a Prefix as text, so /cart also matches /cartoons"
        "- path: /cart\n  pathType: Prefix"
        "end the path with /, or switch strictPrefixMatching on";
    PatternInPath Warning "the path looks like a pattern, but is compared literally"
        "- path: /api/.*\n  pathType: Prefix"
        "write the part before the pattern as a Prefix, or set router.pathmatcher: PathRegexp and the path type \
        ImplementationSpecific";
    UnanchoredPattern Note "PathRegexp looks for the pattern anywhere in the path"
        "# router.pathmatcher: PathRegexp\n- path: /api/[0-9]+\n  pathType: ImplementationSpecific"
        "write a pattern that matches nowhere else in a path; ^ is impossible, because a path must begin with /";
    ReferenceNotFound Warning "the input has no object of this name"
        "metadata:\n  namespace: shop\n  annotations:\n    traefik.ingress.kubernetes.io/router.middlewares: \
        shop-auth@kubernetescrd"
        "add the object to the input, or correct the name: NAMESPACE-NAME@kubernetescrd, or with safeNaming \
        NAMESPACE_NAME@kubernetescrd";
    RepeatedObject Warning "the object is in the input twice; the later one is used"
        "# twice in the same folder:\nkind: Ingress\nmetadata:\n  name: web"
        "remove one of them";
    UnknownLintCode Warning "waybill.dev/lint-ignore names an unknown code"
        "metadata:\n  annotations:\n    waybill.dev/lint-ignore: PrefixNotstrict"
        "use a code from `waybill lint --list`";
    InvalidObject Error "an API server refuses this"
        "- path: cart\n  pathType: Prefix"
        "write what the Ingress API accepts";
    ClassNotFound Warning "the IngressClass is not in the input, so the Ingress is not checked"
        "spec:\n  ingressClassName: pubic"
        "add the IngressClass to the input, correct its name, or silence this if another controller serves it";
    UnknownAnnotation Error "there is no such annotation"
        "traefik.ingress.kubernetes.io/router.entrypoint: websecure"
        "use an annotation from docs/annotations.md";
    InvalidAnnotation Error "the annotation has an invalid value"
        "traefik.ingress.kubernetes.io/router.priority: high"
        "write a value of its type";
    EmptyListItem Error "the list has an empty item"
        "traefik.ingress.kubernetes.io/router.middlewares: auth@file,,compress@file"
        "remove the comma, or add the missing item";
    UnclearSwitch Warning "the switch is neither true nor false, so it is off"
        "traefik.ingress.kubernetes.io/router.tls: \"yes\""
        "write true or false";
    IgnoredAnnotation Warning "the annotation has no effect here"
        "nginx.ingress.kubernetes.io/whitelist-source-range: 10.0.0.0/8"
        "use a middleware instead, or remove the annotation";
    InvalidPathMatcher Error "there is no such path matcher"
        "traefik.ingress.kubernetes.io/router.pathmatcher: PathRegex"
        "write Path, PathPrefix or PathRegexp";
    UnsupportedBackend Error "the backend is not a Service"
        "backend:\n  resource:\n    kind: StorageBucket\n    name: static"
        "name a Service";
    ServiceNotFound Error "the Service does not exist"
        "backend:\n  service:\n    name: wbe"
        "name a Service of the Ingress's namespace";
    ServiceUnusable Error "the Service has annotations that cannot be used"
        "# on a Service:\ntraefik.ingress.kubernetes.io/service.passhostheader: maybe"
        "correct the annotations of the Service";
    ServicePortNotFound Error "the Service has no such port"
        "backend:\n  service:\n    name: web\n    port:\n      number: 8080  # the pod's; the Service has 80"
        "write the port of the Service, not that of its pods";
    ExternalNameNotAllowed Error "the Service has an external name, which is not allowed"
        "kind: Service\nspec:\n  type: ExternalName"
        "set allowExternalNameServices if you trust the authors of Services";
    InvalidAddress Error "an address is not a host name or an IP address"
        "kind: Service\nspec:\n  externalName: not_a_name"
        "write a host name or an IP address";
    NodesUnavailable Error "no node has an InternalIP, or nodes are not read"
        "# on a Service:\ntraefik.ingress.kubernetes.io/service.nodeportlb: \"true\""
        "add the nodes to the input, or remove nodeportlb";
    NoClusterIP Error "service.nativelb is on for a Service without a cluster address"
        "kind: Service\nspec:\n  clusterIP: None"
        "switch service.nativelb off on this Service";
    NoEndpoints Warning "the Service has no serving endpoint"
        "kind: EndpointSlice\nendpoints: []"
        "check the pods and the selector of the Service";
    SecretNotFound Error "the Secret does not exist"
        "spec:\n  tls:\n  - secretName: shop-tsl"
        "name a Secret of the Ingress's namespace";
    InvalidSecret Error "the Secret has no certificate or no key"
        "kind: Secret\ndata:\n  tls.crt: \"\""
        "put tls.crt and tls.key into the Secret, as PEM";
    EntryTooLarge Error "a route, service or certificate is too large to be published"
        "# a tls.crt of 300 KiB"
        "shorten the annotations, or reduce the endpoints or the certificate";
    IngressTooLarge Error "the routing of the Ingress exceeds the limit"
        "# 10,000 paths, each with long middlewares"
        "spread the paths over several Ingresses";
    CrossNamespaceNotAllowed Error "the reference leads to an object of another namespace"
        "metadata:\n  namespace: shop\n  annotations:\n    traefik.ingress.kubernetes.io/router.middlewares: \
        edge-auth@kubernetescrd"
        "refer to an object of the same namespace, or set allowCrossNamespace";
    CrossProviderNotAllowed Error "the namespace may not refer to objects of other providers"
        "traefik.ingress.kubernetes.io/router.middlewares: auth@file"
        "add the namespace to crossProviderNamespaces";
    DefaultBackendIgnored Warning "spec.defaultBackend is not served, because the Ingress has rules"
        "spec:\n  defaultBackend: {service: {name: web, port: {number: 80}}}\n  rules: [{host: shop.example}]"
        "move it to an Ingress without rules";
    DefaultBackendTaken Warning "another Ingress is the default backend"
        "# in two Ingresses:\nspec:\n  defaultBackend: {}"
        "keep only one of them; the oldest is used";
    NamespaceNotAdmitted Error "the class does not admit this namespace"
        "kind: IngressClassParameters\nspec:\n  namespaces:\n    names: [shop]"
        "use another class, or add the namespace to the class";
    ClassNotAccepted Error "the class has no accepted parameters"
        "kind: IngressClass\nspec:\n  parameters:\n    kind: IngressClassParameters\n    name: missing"
        "correct the parameters of the class";
    InvalidParameters Error "the parameters of the class cannot be used"
        "kind: IngressClassParameters\nspec:\n  precedence: specification"
        "use the fields in docs/classes.md";
    Paused Note "an annotation pauses the class, so its output is not updated"
        "kind: IngressClass\nmetadata:\n  annotations:\n    waybill.dev/paused: \"true\""
        "remove the annotation to resume";
    NamespacesUnavailable Warning "a class selects namespaces by label, but the input has no Namespaces"
        "kind: IngressClassParameters\nspec:\n  namespaces:\n    selector: {}"
        "add the Namespaces to the input";
    PublishedServiceNotFound Warning "the Service that statuses are copied from does not exist"
        "ingressEndpoint:\n  publishedService: edge/traefik"
        "name an existing Service";
    PublishedServiceUnusable Warning "statuses cannot be copied from this Service"
        "ingressEndpoint:\n  publishedService: edge/traefik"
        "use a Service of type LoadBalancer, ClusterIP, NodePort or ExternalName";
}

/// Finds the description of a code.
pub fn find(code: &str) -> Option<&'static LintCode> {
    CODES.iter().find(|one| one.code == code)
}

/// The codes in alphabetical order.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = CODES.iter().map(|one| one.code).collect();
    names.sort_unstable();
    names
}

/// All codes with examples, for `--list`.
pub fn list() -> String {
    let mut out = String::new();
    for one in CODES {
        let example = one.example.replace('\n', "\n      ");
        let _ = write!(
            out,
            "{} ({})\n  {}.\n\n      {example}\n\n  Remedy: {}.\n\n",
            one.code,
            one.severity.as_str(),
            sentence(one.meaning),
            one.remedy
        );
    }
    out
}

/// docs/lint.md.
pub fn markdown() -> String {
    let mut out = include_str!("introduction.md").to_owned();
    for one in CODES {
        let _ = write!(
            out,
            "\n### {}\n\n**{}**: {}.\n\n```yaml\n{}\n```\n\nRemedy: {}.\n",
            one.code,
            one.severity.as_str(),
            one.meaning,
            one.example,
            one.remedy
        );
    }
    out
}

/// A text with a capital at its beginning.
pub fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::problem::Category;

    /// Categories that only a running operator finds.
    const LIVE: &[Category] = &[
        Category::SecretUnavailable,
        Category::StatusContested,
        Category::OutputNameTaken,
        Category::PublishRefused,
        Category::WithdrawalHeld,
        Category::TextTooLarge,
    ];

    #[test]
    fn every_category_that_manifests_can_have_is_a_code() {
        for category in Category::ALL {
            assert_eq!(find(category.as_str()).is_none(), LIVE.contains(category), "{category}");
        }
        let mut names = names();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "a code is there twice");
    }

    #[test]
    fn the_page_in_docs_is_made_from_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/lint.md");
        let wanted = markdown();
        if std::env::var_os("WAYBILL_WRITE_DOCS").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap_or_default() == wanted,
            "docs/lint.md is stale; write it with make docs"
        );
    }
}
