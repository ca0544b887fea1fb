//! The differences between Traefik's answers and waybill's that are there on purpose, one by one.

use std::collections::BTreeMap;

macro_rules! differences {
    ($($(#[doc = $reason:literal])+ $name:ident),+ $(,)?) => {
        /// A difference that is on purpose.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Difference {
            $($(#[doc = $reason])+ $name,)+
        }

        impl Difference {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

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
    RouterNameCollision,
    /// Two Services normalise to one key: with Traefik the requests of one go to the pods of the other.
    ServiceNameCollision,
    /// Two Secrets' names join to one key: Traefik reads the first of them only.
    SecretNameCollision,
    /// Neither host nor path: Traefik writes an empty rule, which its own router refuses; waybill writes the rule of
    /// every request.
    EmptyRule,
    /// Endpoints that serve but terminate: Traefik fences them, which a file can't say; waybill writes them only while
    /// there is no other.
    TerminatingEndpoint,
    /// Traefik takes any text of a Secret for a certificate, even the path of a file; waybill takes PEM.
    NotPem,
    /// An empty item in a list: Traefik keeps it, and the router does not load.
    EmptyListItem,
    /// A reference into another namespace while `allowCrossNamespace` is off, which Traefik's provider does not have.
    CrossNamespaceReference,
    /// An ExternalName that names a Service of another namespace while `allowCrossNamespace` is off.
    CrossNamespaceExternalName,
    /// `crossProviderNamespaces: []` means nowhere, as documented; Traefik takes it for unset.
    CrossProviderNowhere,
    /// A Secret that can't be used: Traefik skips the Ingress's further Secrets, waybill reads on.
    OneMissingSecret,
    /// A path whose matcher is bad: Traefik leaves the service behind, which no router uses.
    UnusedService,
    /// Several Ingresses want to be the default backend: Traefik takes one at random, waybill the oldest that works.
    DefaultBackendOrder,
    /// `service.nodeportlb` and several nodes: Traefik takes them in a random order, waybill by name.
    NodeOrder,
    /// A status that is right but for its ports: Traefik leaves it, waybill writes the ports.
    StatusPorts,
    /// `core.defaultRuleSyntax: v2`: waybill writes it on every router, since the proxy's own default may differ.
    RuleSyntaxSpelledOut,
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
