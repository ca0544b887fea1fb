//! The differences between Traefik's answers and waybill's that are there on purpose, one by one. `beside.rs` shows each
//! by itself; docs/migration.md tells users of each, and a test of the documents compares the two.

use std::collections::BTreeMap;

macro_rules! differences {
    ($($(#[doc = $reason:literal])+ $name:ident = $subject:literal),+ $(,)?) => {
        /// A difference that is on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Difference {
            $($(#[doc = $reason])+ $name,)+
        }

        impl Difference {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// What it is about: the first cell of its row in docs/migration.md.
            #[allow(dead_code, reason = "tests/documents.rs compares it")]
            pub fn subject(self) -> &'static str {
                match self {
                    $(Self::$name => $subject,)+
                }
            }

            /// Why it is.
            pub fn reason(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($reason),+),)+
                }
            }
        }
    };
}

differences! {
    /// Two Ingresses' routers normalise to one key: Traefik keeps the one that it read last, waybill keeps both.
    RouterNameCollision = "routers of two Ingresses whose names normalise to one",
    /// Two Services normalise to one key: with Traefik the requests of one go to the pods of the other.
    ServiceNameCollision = "Services whose names normalise to one",
    /// Two Secrets' names join to one key: Traefik reads the first of them only.
    SecretNameCollision = "Secrets whose namespace and name join to one",
    /// Neither host nor path: Traefik writes an empty rule, which its own router refuses; waybill writes the rule of
    /// every request.
    EmptyRule = "a path entry with neither host nor path",
    /// Endpoints that serve but terminate: Traefik fences them, which a file can't say; waybill writes them only while
    /// there is no other.
    TerminatingEndpoint = "endpoints that terminate but still serve",
    /// Traefik takes any text of a Secret for a certificate, even the path of a file; waybill takes PEM.
    NotPem = "a TLS Secret that is not PEM",
    /// Text or a private key around a certificate: Traefik hands it on, waybill takes the PEM blocks alone.
    KeyInCertificate = "text or a private key around a certificate",
    /// A router, service or certificate of over 256 KiB as text: waybill leaves it out, so that no object that is
    /// published can be larger than the API server takes.
    EntryTooLarge = "an entry of over 256 KiB",
    /// The scheme of a Service's servers begins their URLs: with any text there, a proxy could be sent anywhere.
    ServersScheme = "a `service.serversscheme` other than `http`, `https` or `h2c`",
    /// An empty item in a list: Traefik keeps it, and the router does not load; waybill blocks the path.
    EmptyListItem = "an empty list item",
    /// An item that Traefik's file provider would make two of, so waybill refuses the annotation.
    ListSeparator = "a list item with the character U+2551",
    /// A reference into another namespace while `allowCrossNamespace` is off, which Traefik's provider does not have.
    CrossNamespaceReference = "a reference to a CRD object of another namespace",
    /// An ExternalName that could be a Service of another namespace to the proxy's resolver, while `allowCrossNamespace` is off.
    CrossNamespaceExternalName = "an ExternalName of another namespace's Service",
    /// `crossProviderNamespaces: []` means nowhere, as documented; Traefik takes it for unset.
    CrossProviderNowhere = "`crossProviderNamespaces: []`",
    /// A Secret that can't be used: Traefik skips the Ingress's further Secrets, waybill reads on.
    OneMissingSecret = "a missing or bad Secret in `spec.tls`",
    /// A path whose matcher is bad: Traefik leaves the service behind, which no router uses.
    UnusedService = "a service that no router uses",
    /// Several Ingresses want to be the default backend: Traefik takes one at random, waybill the oldest that works.
    DefaultBackendOrder = "two default backends",
    /// `service.nodeportlb` and several nodes: Traefik takes them in a random order, waybill by name.
    NodeOrder = "nodes of `service.nodeportlb`",
    /// A status that is right but for its ports: Traefik leaves it, waybill writes the ports.
    StatusPorts = "a status that is right but for its ports",
    /// `core.defaultRuleSyntax: v2`: waybill writes it on every router, since the proxy's own default may differ.
    RuleSyntaxSpelledOut = "`core.defaultRuleSyntax: v2`",
}

/// How often each difference explained something.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    counts: BTreeMap<Difference, usize>,
}

impl Tally {
    pub fn note(&mut self, difference: Difference) {
        *self.counts.entry(difference).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (difference, count) in &other.counts {
            *self.counts.entry(*difference).or_default() += count;
        }
    }

    /// Differences that explained something.
    pub fn noted(&self) -> Vec<Difference> {
        self.counts.keys().copied().collect()
    }

    /// Differences that explained nothing.
    pub fn never(&self) -> Vec<Difference> {
        Difference::ALL.iter().copied().filter(|difference| !self.counts.contains_key(difference)).collect()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for difference in Difference::ALL {
            let count = self.counts.get(difference).copied().unwrap_or_default();
            writeln!(f, "  {count:>7}  {difference:?}:{}", difference.reason())?;
        }
        Ok(())
    }
}
