//! The values that labels can have. Every label of a metric is one of these enums, so the number of series depends
//! neither on the cluster nor on what its users write.

/// A label whose values are all known when the program is built.
pub trait Label: Copy + 'static {
    /// The values, in the order of [`Label::index`].
    const ALL: &'static [Self];

    /// Position in [`Label::ALL`].
    fn index(self) -> usize;

    /// The value as Prometheus sees it.
    fn as_str(self) -> &'static str;
}

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn index(self) -> usize {
                self as usize
            }

            fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    )+};
}

labels! {
    /// A kube-runtime Controller, by the kind that it reconciles.
    Controller {
        Ingress = "ingress",
        IngressClass = "ingressclass",
    }

    /// The result of a reconciliation, in controller-runtime's words.
    ReconcileResult {
        Success = "success",
        Error = "error",
    }

    /// The content of a queue.
    Queue {
        Ingress = "ingress",
        IngressClass = "ingressclass",
        Status = "status",
        Event = "event",
    }

    /// A method of HTTP.
    Method {
        Get = "GET",
        Post = "POST",
        Put = "PUT",
        Patch = "PATCH",
        Delete = "DELETE",
        Other = "other",
    }

    /// The status code of an answer.
    Code {
        Ok = "200",
        Created = "201",
        Accepted = "202",
        NoContent = "204",
        BadRequest = "400",
        Unauthorized = "401",
        Forbidden = "403",
        NotFound = "404",
        MethodNotAllowed = "405",
        Conflict = "409",
        Gone = "410",
        TooLarge = "413",
        UnsupportedMediaType = "415",
        Invalid = "422",
        TooManyRequests = "429",
        InternalError = "500",
        BadGateway = "502",
        Unavailable = "503",
        GatewayTimeout = "504",
        Other = "other",
        /// In controller-runtime's words.
        NoAnswer = "<error>",
    }

    /// The kinds of watches.
    WatchKind {
        Ingress = "ingresses",
        IngressClass = "ingressclasses",
        Service = "services",
        EndpointSlice = "endpointslices",
        /// Secrets of type `kubernetes.io/tls`, with their data.
        TlsSecret = "tls_secrets",
        /// All other Secrets, metadata only.
        SecretMetadata = "secret_metadata",
        Node = "nodes",
        /// Metadata only.
        Namespace = "namespaces",
        Parameters = "ingressclassparameters",
        /// The last accepted settings of the classes.
        ClassMemory = "class_memory",
        /// What waybill has published, only metadata.
        OwnConfigMap = "own_configmaps",
        /// What waybill has published, only metadata.
        OwnSecret = "own_secrets",
        Lease = "leases",
        /// The reports of agents.
        AgentLease = "agent_leases",
    }

    /// Why an agent's report is ignored.
    IgnoredReport {
        Unreadable = "unreadable",
        /// There are too many in its namespace.
        TooMany = "too_many",
    }

    /// The kinds of written objects.
    WriteKind {
        /// The commit.
        Index = "index",
        RoutingShard = "routing_shard",
        KeyShard = "key_shard",
        /// The routing as text.
        Text = "text",
        /// The last accepted settings of the classes.
        Classes = "classes",
        IngressStatus = "ingress_status",
        ParametersStatus = "parameters_status",
        Event = "event",
        Lease = "lease",
    }

    /// Why a write or a whole commit failed.
    WriteFailure {
        /// Someone else changed the object (409).
        Conflict = "conflict",
        /// The object or its namespace does not exist (404).
        NotFound = "not_found",
        /// RBAC or an admission plugin (401, 403).
        Forbidden = "forbidden",
        /// A ResourceQuota (403).
        QuotaExceeded = "quota_exceeded",
        /// 413.
        TooLarge = "too_large",
        /// 400 or 422.
        Invalid = "invalid",
        /// 429.
        Throttled = "throttled",
        /// No answer in time, or 504. The write may have been executed.
        Timeout = "timeout",
        /// Another 5xx.
        ServerError = "server_error",
        /// No connection, or it broke. The write may have been executed.
        Unreachable = "unreachable",
        /// The lease expired before the write could start.
        NotLeader = "not_leader",
        /// An object of that name belongs to someone else.
        NameTaken = "name_taken",
        /// A newer release wrote the index.
        NewerFormat = "newer_format",
        Other = "other",
    }

    /// The kinds of published entries.
    PublishedKind {
        Router = "routers",
        Service = "services",
        Certificate = "certificates",
    }

    /// ConfigMaps with routing, Secrets with keys.
    ShardKind {
        Routing = "routing",
        Keys = "keys",
    }

    /// The kind of object whose change caused the translation of an Ingress.
    Trigger {
        Ingress = "ingress",
        /// Or the settings of the class.
        IngressClass = "ingressclass",
        Service = "service",
        EndpointSlice = "endpointslice",
        Secret = "secret",
        Node = "node",
        Namespace = "namespace",
        /// All Ingresses were translated.
        Resync = "resync",
    }

    /// The settings that apply to an IngressClass.
    ClassStatus {
        /// The ones that it names now.
        Current = "current",
        /// The last accepted ones, because the current ones cannot be used.
        LastAccepted = "last_accepted",
        /// None: no settings were ever accepted.
        NotAccepted = "not_accepted",
    }

    /// The result of a span.
    SpanResult {
        Sent = "sent",
        /// The collector did not accept it, or too many were queued.
        Dropped = "dropped",
    }

    /// How soon a certificate expires. Each value includes the ones before it.
    EndsWithin {
        Expired = "expired",
        Week = "7d",
        Month = "30d",
    }

    /// The API server's answer about a bearer token.
    ReviewResult {
        Allowed = "allowed",
        Unauthenticated = "unauthenticated",
        Forbidden = "forbidden",
        /// Not asked, because there were too many unknown ones.
        Throttled = "throttled",
        /// It did not answer.
        Failed = "failed",
    }

    /// The result of an Event.
    EventResult {
        Created = "created",
        /// Its problem still exists, or is resolved.
        Refreshed = "refreshed",
        /// Left out: its object has too many.
        Suppressed = "suppressed",
        /// Refused or lost.
        Failed = "failed",
    }
}

impl Code {
    /// The value for a status code.
    pub fn new(status: u16) -> Self {
        let text = status.to_string();
        Self::ALL.iter().copied().find(|code| code.as_str() == text).unwrap_or(Self::Other)
    }
}

/// The result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteResult {
    Success,
    /// Not needed, because the object existed already.
    Unchanged,
    /// The term ended during the write. It may have been executed.
    Abandoned,
    Failed(WriteFailure),
}

impl Label for WriteResult {
    const ALL: &'static [Self] = &[
        Self::Success,
        Self::Unchanged,
        Self::Abandoned,
        Self::Failed(WriteFailure::Conflict),
        Self::Failed(WriteFailure::NotFound),
        Self::Failed(WriteFailure::Forbidden),
        Self::Failed(WriteFailure::QuotaExceeded),
        Self::Failed(WriteFailure::TooLarge),
        Self::Failed(WriteFailure::Invalid),
        Self::Failed(WriteFailure::Throttled),
        Self::Failed(WriteFailure::Timeout),
        Self::Failed(WriteFailure::ServerError),
        Self::Failed(WriteFailure::Unreachable),
        Self::Failed(WriteFailure::NotLeader),
        Self::Failed(WriteFailure::Other),
    ];

    fn index(self) -> usize {
        Self::ALL.iter().position(|one| *one == self).unwrap_or(Self::ALL.len())
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Unchanged => "unchanged",
            Self::Abandoned => "abandoned",
            Self::Failed(failure) => failure.as_str(),
        }
    }
}

impl From<WatchKind> for Trigger {
    fn from(kind: WatchKind) -> Self {
        match kind {
            WatchKind::Ingress => Self::Ingress,
            WatchKind::IngressClass | WatchKind::Parameters => Self::IngressClass,
            WatchKind::Service => Self::Service,
            WatchKind::EndpointSlice => Self::EndpointSlice,
            WatchKind::TlsSecret | WatchKind::SecretMetadata => Self::Secret,
            WatchKind::Node => Self::Node,
            WatchKind::Namespace => Self::Namespace,
            WatchKind::ClassMemory
            | WatchKind::OwnConfigMap
            | WatchKind::OwnSecret
            | WatchKind::Lease
            | WatchKind::AgentLease => Self::Resync,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_nobody_expects_gets_no_series_of_its_own() {
        assert_eq!(Code::new(409), Code::Conflict);
        assert_eq!(Code::new(418), Code::Other);
        assert_eq!(Code::new(65535), Code::Other);
    }
}
