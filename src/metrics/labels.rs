//! The values that labels can have. Every label is one of these enums, so no series can grow with the
//! cluster or with what its users write.

use crate::translate::problem::Category;

/// A label whose values are all known when the program is built.
pub trait Label: Copy + 'static {
    /// The values, in the order of [`Label::index`].
    const ALL: &'static [Self];

    /// Position in [`Label::ALL`].
    fn index(self) -> usize;

    /// The value as Prometheus sees it.
    fn as_str(self) -> &'static str;
}

impl Label for Category {
    const ALL: &'static [Self] = Category::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn as_str(self) -> &'static str {
        Category::as_str(self)
    }
}

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
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
    };
}

labels! {
    /// The two controllers.
    Controller {
        /// Reconciles Ingresses.
        Ingress = "ingress",
        /// Reconciles IngressClasses.
        IngressClass = "ingressclass",
    }
}

labels! {
    /// How a reconciliation ended; controller-runtime's words.
    ReconcileResult {
        /// Nothing is left to do.
        Success = "success",
        /// It failed and comes again after a backoff.
        Error = "error",
        /// It comes again after a set time.
        RequeueAfter = "requeue_after",
    }
}

labels! {
    /// What waits to be worked on.
    Queue {
        /// Ingresses to be reconciled.
        Ingress = "ingress",
        /// IngressClasses to be reconciled.
        IngressClass = "ingressclass",
        /// Statuses to be written.
        Status = "status",
        /// Events to be written.
        Event = "event",
    }
}

labels! {
    /// A method of HTTP.
    Method {
        /// Reads and watches.
        Get = "GET",
        /// Creations.
        Post = "POST",
        /// Replacements.
        Put = "PUT",
        /// Applies and patches.
        Patch = "PATCH",
        /// Deletions.
        Delete = "DELETE",
        /// Anything else.
        Other = "other",
    }
}

labels! {
    /// The answer to an API request.
    Code {
        /// 200.
        Ok = "200",
        /// 201.
        Created = "201",
        /// 202.
        Accepted = "202",
        /// 204.
        NoContent = "204",
        /// 400.
        BadRequest = "400",
        /// 401.
        Unauthorized = "401",
        /// 403.
        Forbidden = "403",
        /// 404.
        NotFound = "404",
        /// 405.
        MethodNotAllowed = "405",
        /// 409.
        Conflict = "409",
        /// 410.
        Gone = "410",
        /// 413.
        TooLarge = "413",
        /// 415.
        UnsupportedMediaType = "415",
        /// 422.
        Invalid = "422",
        /// 429.
        TooManyRequests = "429",
        /// 500.
        InternalError = "500",
        /// 502.
        BadGateway = "502",
        /// 503.
        Unavailable = "503",
        /// 504.
        GatewayTimeout = "504",
        /// Another code.
        Other = "other",
        /// No answer; controller-runtime's word.
        NoAnswer = "<error>",
    }
}

impl Code {
    /// The value for a status code.
    pub fn of(status: u16) -> Self {
        let text = status.to_string();
        Self::ALL.iter().copied().find(|code| code.as_str() == text).unwrap_or(Self::Other)
    }
}

labels! {
    /// What is watched.
    WatchKind {
        /// Ingresses.
        Ingress = "ingresses",
        /// IngressClasses.
        IngressClass = "ingressclasses",
        /// Services.
        Service = "services",
        /// EndpointSlices.
        EndpointSlice = "endpointslices",
        /// Secrets of type `kubernetes.io/tls`, whole.
        TlsSecret = "tls_secrets",
        /// All other Secrets, metadata only.
        SecretMetadata = "secret_metadata",
        /// Nodes.
        Node = "nodes",
        /// Namespaces, metadata only.
        Namespace = "namespaces",
        /// IngressClassParameters.
        Parameters = "ingressclassparameters",
        /// The remembered settings of classes.
        ClassMemory = "class_memory",
        /// Published ConfigMaps, metadata only.
        OwnConfigMap = "own_configmaps",
        /// Published Secrets, metadata only.
        OwnSecret = "own_secrets",
        /// The Lease.
        Lease = "leases",
    }
}

labels! {
    /// What is written.
    WriteKind {
        /// The index, the commit point.
        Index = "index",
        /// A routing shard.
        RoutingShard = "routing_shard",
        /// A key shard.
        KeyShard = "key_shard",
        /// The routing as text.
        Text = "text",
        /// The last accepted settings of the classes.
        Classes = "classes",
        /// An Ingress's status.
        IngressStatus = "ingress_status",
        /// The status of an IngressClassParameters.
        ParametersStatus = "parameters_status",
        /// An Event.
        Event = "event",
        /// The Lease.
        Lease = "lease",
    }
}

labels! {
    /// How a write ended. It is the category of a publishing error as well.
    WriteResult {
        /// Done.
        Success = "success",
        /// It was there as wanted already.
        Unchanged = "unchanged",
        /// Someone else wrote in between (409).
        Conflict = "conflict",
        /// The object or its namespace is gone (404).
        NotFound = "not_found",
        /// RBAC, admission or a quota refused it (403).
        Forbidden = "forbidden",
        /// A ResourceQuota refused it (403).
        QuotaExceeded = "quota_exceeded",
        /// The API server takes nothing of that size (413).
        TooLarge = "too_large",
        /// The API server found it invalid (400, 422).
        Invalid = "invalid",
        /// The API server asks for patience (429).
        Throttled = "throttled",
        /// No answer in time, or the API server dropped it (504).
        Timeout = "timeout",
        /// The API server failed (other 5xx).
        ServerError = "server_error",
        /// No connection to the API server.
        Unreachable = "unreachable",
        /// The lease ran out before it could be started.
        NotLeader = "not_leader",
        /// The term ended while it was under way. It may have been done.
        Abandoned = "abandoned",
        /// An object of that name belongs to someone else.
        NameTaken = "name_taken",
        /// What is there was written by a newer release.
        NewerFormat = "newer_format",
        /// Anything else.
        Other = "other",
    }
}

impl WriteResult {
    /// What an error of the client means for the write that met it.
    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                400 | 422 => Self::Invalid,
                403 => Self::Forbidden,
                404 => Self::NotFound,
                409 => Self::Conflict,
                413 => Self::TooLarge,
                429 => Self::Throttled,
                504 => Self::Timeout,
                500..=599 => Self::ServerError,
                _ => Self::Other,
            },
            kube::Error::HyperError(_) | kube::Error::Service(_) => Self::Unreachable,
            _ => Self::Other,
        }
    }
}

labels! {
    /// What is published.
    Entry {
        /// Routers.
        Router = "routers",
        /// Services.
        Service = "services",
        /// Certificates.
        Certificate = "certificates",
    }
}

labels! {
    /// The kinds of shards.
    ShardKind {
        /// ConfigMaps.
        Routing = "routing",
        /// Secrets.
        Keys = "keys",
    }
}

labels! {
    /// What made an Ingress be translated.
    Trigger {
        /// Itself.
        Ingress = "ingress",
        /// Its class, or the class's settings.
        IngressClass = "ingressclass",
        /// A Service that it uses.
        Service = "service",
        /// An EndpointSlice of such a Service.
        EndpointSlice = "endpointslice",
        /// A Secret that it names.
        Secret = "secret",
        /// A node.
        Node = "node",
        /// A namespace that came or went.
        Namespace = "namespace",
        /// A full pass.
        Resync = "resync",
    }
}

labels! {
    /// Which settings an IngressClass of ours runs on.
    ClassStatus {
        /// Those that it names now.
        Current = "current",
        /// The last accepted ones, since what it names now can't be used.
        LastAccepted = "last_accepted",
        /// None were ever accepted.
        NotAccepted = "not_accepted",
    }
}

labels! {
    /// What became of an Event.
    EventResult {
        /// Written for the first time.
        Created = "created",
        /// Written again because what it says still holds, or is over.
        Refreshed = "refreshed",
        /// Left out because there were too many.
        Suppressed = "suppressed",
        /// Refused or lost.
        Failed = "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_order<L: Label + PartialEq + std::fmt::Debug>() {
        for (position, value) in L::ALL.iter().enumerate() {
            assert_eq!(value.index(), position, "{value:?}");
        }
    }

    #[test]
    fn index_is_the_position() {
        in_order::<Category>();
        in_order::<Code>();
        in_order::<WriteResult>();
    }

    #[test]
    fn a_code_that_nobody_expects_gets_no_series_of_its_own() {
        assert_eq!(Code::of(409), Code::Conflict);
        assert_eq!(Code::of(418), Code::Other);
        assert_eq!(Code::of(65535), Code::Other);
    }
}
