//! Every option once. Reading, checking, `--help` and docs/options.md all go by this table.

/// What an option's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`; a flag alone is `true`.
    Boolean,
    /// One text; the word is what stands for it in `--help`.
    Text(&'static str),
    /// A text that is never shown.
    Secret,
    /// A list of texts; the word stands for one of them.
    List(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
}

impl Kind {
    /// What the tables of the documentation call it.
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

/// What an option is without anyone's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// This text, read like a user's.
    Text(&'static str),
    /// No value, which is not the same as an empty one; what that means.
    Unset(&'static str),
}

/// The heading that an option stands under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// How to reach the API server.
    Connection,
    /// Which objects count.
    Selection,
    /// What becomes of them.
    Routing,
    /// Addresses in the statuses of Ingresses.
    Status,
    /// Where and how often is published.
    Publishing,
    /// Running several replicas.
    LeaderElection,
    /// Metrics and log.
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
            Self::Selection => "Which objects count",
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
    /// Which one.
    pub id: Id,
    /// Its key, as a file spells it.
    pub key: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// What it is without anyone's word.
    pub default: Default,
    /// The heading that it stands under.
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
    /// A key of a YAML or TOML file.
    File,
    /// An argument of the command line.
    Flag,
    /// An environment variable.
    Variable,
}

impl Form {
    /// How this form spells a key of a file.
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
    /// The option's line of the table.
    pub fn entry(self) -> &'static Entry {
        // The macro that makes both puts them in one order, and a test holds it to that.
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
    Endpoint "providers.kubernetesIngress.endpoint", Kind::Text("URL"), NONE, Connection,
        "URL of the API server. In a cluster it takes the place of the address that the environment gives; outside, \
         without `KUBECONFIG`, it is required; beside `KUBECONFIG` it is ignored with a warning.";
    Token "providers.kubernetesIngress.token", Kind::Secret, NONE, Connection,
        "Bearer token, or the path of a file that holds it and is read again as it rotates. It counts only outside a \
         cluster without `KUBECONFIG`.";
    CertAuthFilePath "providers.kubernetesIngress.certAuthFilePath", Kind::Text("path"), NONE, Connection,
        "File with the certificates of the authorities that the API server's certificate may come from. It counts \
         where the token does.";

    Namespaces "providers.kubernetesIngress.namespaces", Kind::List("namespace"), NONE, Selection,
        "Namespaces to watch; none named means all. Each is watched by itself, so that a Role in each is enough.";
    LabelSelector "providers.kubernetesIngress.labelSelector", Kind::Text("selector"), NONE, Selection,
        "Label selector that Ingresses must match. Services, EndpointSlices and Secrets are not filtered.";
    IngressClass "providers.kubernetesIngress.ingressClass", Kind::Text("name"), NONE, Selection,
        "Only Ingresses of the IngressClass of this name count, or with this value of the annotation \
         `kubernetes.io/ingress.class`. When it is empty, so do those of every class of our controller, and those \
         without a class whose annotation is missing, empty or `traefik`.";
    DisableIngressClassLookup "providers.kubernetesIngress.disableIngressClassLookup", Kind::Boolean, OFF, Selection,
        "IngressClasses are not read. An Ingress that names one is then never ours; the annotation still counts.";
    DisableClusterScopeResources "providers.kubernetesIngress.disableClusterScopeResources", Kind::Boolean, OFF, Selection,
        "Neither IngressClasses nor Nodes are read, so that Roles alone are enough. Services then can't be reached by \
         the ports of nodes.";
    ControllerName "operator.controllerName", Kind::Text("name"), Default::Text("traefik.io/ingress-controller"), Selection,
        "IngressClasses whose `spec.controller` has this value are ours.";

    AllowEmptyServices "providers.kubernetesIngress.allowEmptyServices", Kind::Boolean, OFF, Routing,
        "A Service without ready endpoints keeps its routes, which then answer 503.";
    AllowCrossNamespace "providers.kubernetesIngress.allowCrossNamespace", Kind::Boolean, OFF, Routing,
        "An Ingress or a Service may name middlewares, TLS options and transports of other namespaces.";
    AllowExternalNameServices "providers.kubernetesIngress.allowExternalNameServices", Kind::Boolean, OFF, Routing,
        "An Ingress may lead to Services of type ExternalName.";
    CrossProviderNamespaces "providers.kubernetesIngress.crossProviderNamespaces", Kind::List("namespace"),
        Default::Unset("no restriction"), Routing,
        "The only namespaces whose Ingresses and Services may name middlewares, TLS options and transports. An empty \
         list means none may.";
    NativeLbByDefault "providers.kubernetesIngress.nativeLBByDefault", Kind::Boolean, OFF, Routing,
        "Requests go to a Service's cluster IP instead of its endpoints, unless an annotation of the Service says \
         otherwise.";
    StrictPrefixMatching "providers.kubernetesIngress.strictPrefixMatching", Kind::Boolean, OFF, Routing,
        "A path of type `Prefix` matches whole path elements: `/foo` matches `/foo/bar` and not `/foobar`.";
    DefaultRuleSyntax "core.defaultRuleSyntax", Kind::Choice(&["v3", "v2"]), Default::Text("v3"), Routing,
        "Syntax of the rules of Ingresses without an annotation that chooses one.";
    Precedence "operator.routing.precedence", Kind::Choice(&["traefik", "spec"]), Default::Text("traefik"), Routing,
        "Which of several matching paths gets a request: `traefik`, the one with the longest rule; `spec`, the one that \
         the Ingress API says.";
    BrokenBackends "operator.routing.brokenBackends", Kind::Choice(&["drop", "answer503"]), Default::Text("drop"), Routing,
        "What becomes of a path whose backend can't be used: `drop`, it vanishes and a less specific one gets its \
         requests; `answer503`, it stays and answers 503.";

    EndpointHostname "providers.kubernetesIngress.ingressEndpoint.hostname", Kind::Text("hostname"), NONE, Status,
        "Host name that every Ingress's status gets.";
    EndpointIp "providers.kubernetesIngress.ingressEndpoint.ip", Kind::Text("address"), NONE, Status,
        "IPv4 or IPv6 address that every Ingress's status gets.";
    PublishedService "providers.kubernetesIngress.ingressEndpoint.publishedService", Kind::Text("namespace/name"), NONE, Status,
        "Service whose addresses every Ingress's status gets. It goes before `hostname` and `ip`.";
    ReportNodeInternalIps "providers.kubernetesIngress.reportNodeInternalIPs", Kind::Boolean, OFF, Status,
        "Every Ingress's status gets the internal addresses of all nodes. Neither `ingressEndpoint` nor \
         `disableClusterScopeResources` can stand beside it.";
    Status "operator.status", Kind::Choice(&["on", "off"]), Default::Text("on"), Status,
        "`off` leaves every status to another controller, for instance while waybill runs beside Traefik's own provider.";
    StatusRate "operator.statusRate", Kind::Text("number"), Default::Text("200"), Status,
        "Statuses written in a second at most.";
    StatusDelay "operator.statusDelay", Kind::Text("duration"), Default::Text("10s"), Status,
        "The longest that an Ingress waits for its address until every `waybill agent` of its output has reported that its \
         Traefik has loaded the routing. Without agents it does not wait.";

    ProvidersThrottleDuration "providers.providersThrottleDuration", Kind::Text("duration"), Default::Text("2s"), Publishing,
        "Least time between two published configurations. The newest one wins, and none is lost.";
    ThrottleDuration "providers.kubernetesIngress.throttleDuration", Kind::Text("duration"), Default::Text("0s"), Publishing,
        "Least time between two events of the cluster that lead to a new configuration.";
    Namespace "operator.namespace", Kind::Text("name"),
        Default::Unset("`POD_NAMESPACE`, else the service account's, else `waybill`"), Publishing,
        "Namespace of the published objects and of the Lease.";
    OutputName "operator.output.name", Kind::Text("name"), Default::Text("waybill"), Publishing,
        "Name of the output that the proxies read.";
    PublishBytesPerSecond "operator.publishBytesPerSecond", Kind::Text("size"), Default::Text("1Mi"), Publishing,
        "Bytes written in a second, on average. Above it the throttle stretches, and a metric shows it.";
    MaxWithdrawal "operator.maxWithdrawal", Kind::Text("percent"), Default::Text("0"), Publishing,
        "A configuration that removes more than this share of an output's routers is held until the index carries the \
         annotation `waybill.dev/confirm-withdrawal`. 0 holds nothing.";

    LeaderElectionEnabled "operator.leaderElection.enabled", Kind::Boolean, Default::Text("true"), LeaderElection,
        "Replicas elect one of them, and only that one writes. Without it there must never be a second replica.";
    LeaseName "operator.leaderElection.leaseName", Kind::Text("name"), Default::Text("waybill"), LeaderElection,
        "Name of the Lease.";
    LeaseDuration "operator.leaderElection.leaseDuration", Kind::Text("duration"), Default::Text("15s"), LeaderElection,
        "How long the others wait for a leader that no longer renews. Whole seconds.";
    RenewDeadline "operator.leaderElection.renewDeadline", Kind::Text("duration"), Default::Text("10s"), LeaderElection,
        "How long a leader that can't renew goes on. Shorter than `leaseDuration`.";
    RetryPeriod "operator.leaderElection.retryPeriod", Kind::Text("duration"), Default::Text("2s"), LeaderElection,
        "Time between two tries to get or renew the Lease. 1.2 times it must be shorter than `renewDeadline`.";

    MetricsAddress "operator.metricsAddress", Kind::Text("address"), Default::Text(":8080"), Observation,
        "Where `/metrics`, `/livez` and `/readyz` are served.";
    LogLevel "operator.logLevel", Kind::Choice(&["error", "warn", "info", "debug", "trace"]), Default::Text("info"), Observation,
        "The least important lines that are logged.";
    LogFormat "operator.logFormat", Kind::Choice(&["text", "json"]), Default::Text("text"), Observation,
        "How lines are logged.";
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
