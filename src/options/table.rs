//! The table of all options. Reading, checking, `--help` and docs/options.md all use it.

/// The form of an option's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    /// `true` or `false`; a flag alone is `true`.
    Boolean,
    /// One text; the word represents it in `--help`.
    Text(&'static str),
    Secret,
    /// A list of texts; the word represents one of them.
    List(&'static str),
    Choice(&'static [&'static str]),
}

impl ValueKind {
    /// Its name in the tables of the documentation.
    pub fn name(self) -> String {
        match self {
            Self::Boolean => "boolean".to_owned(),
            Self::Text(word) => word.to_owned(),
            Self::Secret => "token or path".to_owned(),
            Self::List(word) => format!("list of {word}s"),
            Self::Choice(words) => {
                let quoted: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
                super::check::either(&quoted.iter().map(String::as_str).collect::<Vec<_>>())
            }
        }
    }
}

/// The value of an option that is not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// This text, read like a user's.
    Text(&'static str),
    /// No value, which is not the same as an empty one, and its meaning.
    Unset(&'static str),
}

/// The heading of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Connection,
    Selection,
    Routing,
    Status,
    Publishing,
    LeaderElection,
    Observation,
}

impl Group {
    /// Every group, in the order of the documentation.
    pub const ALL: &[Self] = &[
        Self::Connection,
        Self::Selection,
        Self::Routing,
        Self::Status,
        Self::Publishing,
        Self::LeaderElection,
        Self::Observation,
    ];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Connection => "Connection to the API server",
            Self::Selection => "Selection of objects",
            Self::Routing => "Routing",
            Self::Status => "Status of Ingresses",
            Self::Publishing => "Publishing",
            Self::LeaderElection => "Leader election",
            Self::Observation => "Metrics and log",
        }
    }
}

/// One option.
#[derive(Debug, PartialEq)]
pub struct Entry {
    pub id: Id,
    pub key: &'static str,
    pub kind: ValueKind,
    pub default: Default,
    pub group: Group,
    /// What it does, in Markdown.
    pub meaning: &'static str,
}

impl Entry {
    /// The flag, in the case that the documentation uses.
    pub fn flag(&self) -> String {
        Form::Flag.name(self.key)
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        Form::Variable.name(self.key)
    }
}

/// The three forms of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    File,
    Flag,
    Variable,
}

impl Form {
    /// A key of a file in this form.
    pub fn name(self, key: &str) -> String {
        match self {
            Self::File => key.to_owned(),
            Self::Flag => format!("--{}", key.to_ascii_lowercase()),
            Self::Variable => {
                let prefix = if key.split('.').next() == Some("operator") { "WAYBILL_" } else { "TRAEFIK_" };
                format!("{prefix}{}", key.to_ascii_uppercase().replace('.', "_"))
            }
        }
    }
}

macro_rules! options {
    ($($id:ident $key:literal, $kind:expr, $default:expr, $group:ident, $meaning:literal;)+) => {
        /// Names an option.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Id {
            $(#[doc = concat!("`", $key, "`.")] $id,)+
        }

        /// Every option, by group.
        pub static TABLE: &[Entry] = &[
            $(Entry {
                id: Id::$id,
                key: $key,
                kind: $kind,
                default: $default,
                group: Group::$group,
                meaning: $meaning,
            },)+
        ];
    };
}

impl Id {
    /// The option's row of the table.
    pub fn entry(self) -> &'static Entry {
        // The macro that creates both keeps them in one order, and a test checks this.
        &TABLE[self as usize]
    }

    /// The option's key.
    pub fn key(self) -> &'static str {
        self.entry().key
    }
}

const OFF: Default = Default::Text("false");
const NONE: Default = Default::Text("");

options! {
    Endpoint "providers.kubernetesIngress.endpoint", ValueKind::Text("URL"), NONE, Connection,
        "URL of the API server. Inside a cluster it overrides the address from the environment. Outside, it is required \
         unless `KUBECONFIG` is set; then it is ignored with a warning.";
    Token "providers.kubernetesIngress.token", ValueKind::Secret, NONE, Connection,
        "Bearer token, or the path of a file that contains it and is re-read when it rotates. Used only outside a cluster \
         and without `KUBECONFIG`.";
    CertAuthFilePath "providers.kubernetesIngress.certAuthFilePath", ValueKind::Text("path"), NONE, Connection,
        "File with the CA certificates for the API server. Used only where the token is used.";

    Namespaces "providers.kubernetesIngress.namespaces", ValueKind::List("namespace"), NONE, Selection,
        "Namespaces to watch; an empty list means all. Each has its own watches, so a Role in each is enough.";
    LabelSelector "providers.kubernetesIngress.labelSelector", ValueKind::Text("selector"), NONE, Selection,
        "Label selector that Ingresses must match. Services, EndpointSlices and Secrets are not filtered.";
    IngressClass "providers.kubernetesIngress.ingressClass", ValueKind::Text("name"), NONE, Selection,
        "Use only Ingresses of this IngressClass or with this value of the annotation `kubernetes.io/ingress.class`. When \
         empty, use the Ingresses of every class with the name in `operator.controllerName`, and those without a class whose annotation is \
         missing, empty or `traefik`.";
    DisableIngressClassLookup "providers.kubernetesIngress.disableIngressClassLookup", ValueKind::Boolean, OFF, Selection,
        "Do not read IngressClasses. Ingresses with `spec.ingressClassName` are then ignored; the annotation still works.";
    DisableClusterScopeResources "providers.kubernetesIngress.disableClusterScopeResources", ValueKind::Boolean, OFF, Selection,
        "Do not read IngressClasses and Nodes, so that Roles without a ClusterRole are enough. `service.nodeportlb` then \
         does not work.";
    ControllerName "operator.controllerName", ValueKind::Text("name"), Default::Text("traefik.io/ingress-controller"), Selection,
        "Controller name: waybill handles IngressClasses with this `spec.controller`.";

    AllowEmptyServices "providers.kubernetesIngress.allowEmptyServices", ValueKind::Boolean, OFF, Routing,
        "Keep the routes of a Service without ready endpoints; they answer 503.";
    AllowCrossNamespace "providers.kubernetesIngress.allowCrossNamespace", ValueKind::Boolean, OFF, Routing,
        "Allow Ingresses and Services to use middlewares, TLS options and transports from other namespaces. Not an option \
         of Traefik's Ingress provider.";
    AllowExternalNameServices "providers.kubernetesIngress.allowExternalNameServices", ValueKind::Boolean, OFF, Routing,
        "Allow Services of type ExternalName as backends.";
    CrossProviderNamespaces "providers.kubernetesIngress.crossProviderNamespaces", ValueKind::List("namespace"),
        Default::Unset("no restriction"), Routing,
        "The only namespaces whose Ingresses and Services may use middlewares, TLS options and transports. An empty list \
         means none.";
    NativeLbByDefault "providers.kubernetesIngress.nativeLBByDefault", ValueKind::Boolean, OFF, Routing,
        "Send requests to a Service's cluster IP instead of its endpoints, unless an annotation of the Service says \
         otherwise.";
    StrictPrefixMatching "providers.kubernetesIngress.strictPrefixMatching", ValueKind::Boolean, OFF, Routing,
        "A path of type `Prefix` matches whole path elements: `/foo` matches `/foo/bar` and not `/foobar`.";
    DefaultRuleSyntax "core.defaultRuleSyntax", ValueKind::Choice(&["v3", "v2"]), Default::Text("v3"), Routing,
        "Rule syntax for Ingresses without an annotation for it.";
    Precedence "operator.routing.precedence", ValueKind::Choice(&["traefik", "spec"]), Default::Text("traefik"), Routing,
        "Which of several matching paths gets a request. `traefik`: the one with the longest rule. `spec`: the one that the \
         Ingress API specifies; Ingresses then come before all other routers that have no priority.";
    BrokenBackends "operator.routing.brokenBackends", ValueKind::Choice(&["drop", "answer503"]), Default::Text("drop"), Routing,
        "What happens to a path whose backend can't be used. `drop`: the path is removed, and a less specific one gets its \
         requests. `answer503`: the path stays and answers 503.";

    EndpointHostname "providers.kubernetesIngress.ingressEndpoint.hostname", ValueKind::Text("hostname"), NONE, Status,
        "Host name to write into the status of every Ingress.";
    EndpointIp "providers.kubernetesIngress.ingressEndpoint.ip", ValueKind::Text("address"), NONE, Status,
        "IPv4 or IPv6 address to write into the status of every Ingress.";
    PublishedService "providers.kubernetesIngress.ingressEndpoint.publishedService", ValueKind::Text("namespace/name"), NONE, Status,
        "Service whose addresses are copied to the status of every Ingress. Takes precedence over `hostname` and `ip`.";
    ReportNodeInternalIps "providers.kubernetesIngress.reportNodeInternalIPs", ValueKind::Boolean, OFF, Status,
        "Write the internal addresses of all nodes into the status of every Ingress. Can't be combined with \
         `ingressEndpoint` or `disableClusterScopeResources`. Not an option of any Traefik release.";
    Status "operator.status", ValueKind::Choice(&["on", "off"]), Default::Text("on"), Status,
        "`off` leaves statuses to another controller, for example while waybill runs beside Traefik's own provider.";
    StatusRate "operator.statusRate", ValueKind::Text("number"), Default::Text("200"), Status,
        "Maximum number of statuses written per second.";
    StatusDelay "operator.statusDelay", ValueKind::Text("duration"), Default::Text("10s"), Status,
        "Maximum time that the address of an Ingress waits for every `waybill agent` of its output to report that its Traefik \
         has loaded the routing. Without agents there is no wait.";

    ProvidersThrottleDuration "providers.providersThrottleDuration", ValueKind::Text("duration"), Default::Text("2s"), Publishing,
        "Minimum time between two published configurations. The newest one is always published.";
    ThrottleDuration "providers.kubernetesIngress.throttleDuration", ValueKind::Text("duration"), Default::Text("0s"), Publishing,
        "Minimum time between two events of the cluster that lead to a new configuration.";
    Namespace "operator.namespace", ValueKind::Text("name"),
        Default::Unset("`POD_NAMESPACE`, else the service account's, else `waybill`"), Publishing,
        "Namespace of the published objects and of the Lease.";
    OutputName "operator.output.name", ValueKind::Text("name"), Default::Text("waybill"), Publishing,
        "Name of the output that the proxies read.";
    PublishBytesPerSecond "operator.publishBytesPerSecond", ValueKind::Text("size"), Default::Text("1Mi"), Publishing,
        "Limit on the average number of bytes written per second. If changes exceed it, configurations are published less \
         often, and a metric shows it.";
    MaxWithdrawal "operator.maxWithdrawal", ValueKind::Text("percent"), Default::Text("0"), Publishing,
        "A configuration that removes more than this percentage of an output's routers is held until the index has the \
         annotation `waybill.dev/confirm-withdrawal`. If several namespaces have routers, more than this percentage of \
         the namespaces must be affected too. 0 turns this off.";

    LeaderElectionEnabled "operator.leaderElection.enabled", ValueKind::Boolean, Default::Text("true"), LeaderElection,
        "Elect a leader among the replicas; only the leader writes. Turn it off only with a single replica.";
    LeaseName "operator.leaderElection.leaseName", ValueKind::Text("name"), Default::Text("waybill"), LeaderElection,
        "Name of the Lease.";
    LeaseDuration "operator.leaderElection.leaseDuration", ValueKind::Text("duration"), Default::Text("15s"), LeaderElection,
        "How long the other replicas wait for a leader that does not renew. Whole seconds, at least 2.";
    RenewDeadline "operator.leaderElection.renewDeadline", ValueKind::Text("duration"), Default::Text("10s"), LeaderElection,
        "How long a leader that can't renew keeps writing. Must be shorter than `leaseDuration`.";
    RetryPeriod "operator.leaderElection.retryPeriod", ValueKind::Text("duration"), Default::Text("2s"), LeaderElection,
        "Time between two attempts to get or renew the Lease. 1.2 times this must be shorter than `renewDeadline` and shorter than `leaseDuration` minus 1s.";

    MetricsAddress "operator.metricsAddress", ValueKind::Text("address"), Default::Text(":8080"), Observation,
        "Address to serve `/metrics`, `/livez` and `/readyz` on.";
    MetricsSecure "operator.metricsSecure", ValueKind::Boolean, OFF, Observation,
        "Serve `/metrics` at `metricsSecureAddress` over TLS, and no longer at `metricsAddress`. Only clients that may `get` the non-resource URL `/metrics` in the cluster get an answer.";
    MetricsSecureAddress "operator.metricsSecureAddress", ValueKind::Text("address"), Default::Text(":8443"), Observation,
        "Address to serve `/metrics` on with `metricsSecure`.";
    MetricsCertFile "operator.metricsCertFile", ValueKind::Text("path"), NONE, Observation,
        "File with the certificate and its chain for `metricsSecure`, in PEM. It is read again when it changes. When empty, a self-signed certificate is created at every start.";
    MetricsKeyFile "operator.metricsKeyFile", ValueKind::Text("path"), NONE, Observation,
        "File with the private key of `metricsCertFile`, in PEM.";
    OtlpEndpoint "operator.otlpEndpoint", ValueKind::Text("URL"), NONE, Observation,
        "URL of an OpenTelemetry collector that takes OTLP over HTTP, such as `http://otel-collector:4318`. The leader sends it \
         a trace of each change: its event, reconciliation and commit, and the loading by the proxies. `/v1/traces` is added to a URL without \
         a path. No traces when empty.";
    LogLevel "operator.logLevel", ValueKind::Choice(&["error", "warn", "info", "debug", "trace"]), Default::Text("info"), Observation,
        "Log level: lines below it are not logged.";
    LogFormat "operator.logFormat", ValueKind::Choice(&["text", "json"]), Default::Text("text"), Observation,
        "Log format.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_lead_to_their_own_line() {
        for (at, entry) in TABLE.iter().enumerate() {
            assert_eq!(entry.id as usize, at);
            assert_eq!(entry.id.key(), entry.key);
        }
    }

    #[test]
    fn keys_flags_and_variables_are_distinct() {
        let flags: BTreeSet<_> = TABLE.iter().map(Entry::flag).collect();
        let variables: BTreeSet<_> = TABLE.iter().map(Entry::variable).collect();
        assert_eq!((flags.len(), variables.len()), (TABLE.len(), TABLE.len()));
        assert_eq!(Id::LeaseName.entry().variable(), "WAYBILL_OPERATOR_LEADERELECTION_LEASENAME");
        assert_eq!(Id::DefaultRuleSyntax.entry().variable(), "TRAEFIK_CORE_DEFAULTRULESYNTAX");
        assert_eq!(Id::Endpoint.entry().flag(), "--providers.kubernetesingress.endpoint");
    }

    #[test]
    fn groups_come_in_their_order() {
        assert!(TABLE.is_sorted_by_key(|entry| entry.group));
        assert!(Group::ALL.is_sorted());
        assert!(Group::ALL.iter().all(|group| TABLE.iter().any(|entry| entry.group == *group)));
    }
}
