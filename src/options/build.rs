//! Turns the written values into [`Options`]: the source with precedence wins, every value is checked, and all faults
//! are collected.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracing::Level;

use super::check::{self, Checked, Wrong, duration::duration, duration::spelled, name};
use super::fault::{OptionFault, Source};
use super::selector::LabelSelector;
use super::sources::{FoundOptions, Given, Raw};
use super::table::{Default, Id, ValueKind};
use super::typed::{LeaderElection, LogFormat, Options};
use crate::kubernetes::client::{Access, Token};
use crate::kubernetes::key::OutputKey;
use crate::translate::settings::{
    BrokenBackends, ClassOptions, NamespacePolicy, Precedence, RuleSyntax, Settings, StatusSource,
};

/// Builds options from the sources.
pub(super) struct Builder<'a> {
    /// In order of precedence: flags, variables, file.
    sources: [&'a FoundOptions; 3],
    /// The default of `operator.namespace`, and where it comes from.
    namespace: (String, Source),
    pub faults: Vec<OptionFault>,
    pub warnings: Vec<String>,
    pub origins: BTreeMap<Id, Source>,
}

impl<'a> Builder<'a> {
    /// A builder from the sources, in order of precedence.
    pub fn new(sources: [&'a FoundOptions; 3], namespace: (String, Source)) -> Self {
        Self { sources, namespace, faults: Vec::new(), warnings: Vec::new(), origins: BTreeMap::new() }
    }

    /// Every value of an option, the effective one first. A default is parsed like a user's value.
    fn values(&self, id: Id) -> Vec<(Raw, Source)> {
        let given = |findings: &&FoundOptions| -> Option<(Raw, Source)> {
            let Given { value, source, .. } = findings.given.iter().find(|given| given.id == id)?;
            Some((value.clone(), source.clone()))
        };
        let mut values: Vec<_> = self.sources.iter().filter_map(given).collect();
        if values.is_empty() {
            match (id, id.entry().default) {
                (Id::Namespace, _) => {
                    values.push((Raw::Text(self.namespace.0.clone()), self.namespace.1.clone()))
                }
                (_, Default::Text("")) if matches!(id.entry().kind, ValueKind::List(_)) => {
                    values.push((Raw::List(Vec::new()), Source::Default));
                }
                (_, Default::Text(text)) => values.push((Raw::Text(text.to_owned()), Source::Default)),
                (_, Default::Unset(_)) => {}
            }
        }
        values
    }

    fn wrong(&mut self, id: Id, source: &Source, value: &str, wrong: Wrong) {
        let fault = OptionFault::new(id.key(), source.clone(), wrong.wrong, wrong.remedy);
        self.faults.push(if id.entry().kind == ValueKind::Secret { fault } else { fault.value(value) });
    }

    /// The value of an option; an arbitrary value if it is wrong and therefore among the faults. Overridden values are
    /// checked too, since they are somebody's mistake.
    fn get<T: std::default::Default>(&mut self, id: Id, check: impl Fn(&str) -> Checked<T>) -> T {
        let mut decided = None;
        for (at, (value, source)) in self.values(id).into_iter().enumerate() {
            if at == 0 {
                self.origins.insert(id, source.clone());
            }
            let Raw::Text(text) = value else { continue };
            match check(&text) {
                Ok(value) if at == 0 => decided = Some(value),
                Ok(_) => {}
                Err(wrong) => self.wrong(id, &source, &text, wrong),
            }
        }
        decided.unwrap_or_default()
    }

    /// One of the values for the words of the table, in their order.
    fn choice<T: Copy, const N: usize>(&mut self, id: Id, values: [T; N]) -> T {
        let ValueKind::Choice(words) = id.entry().kind else { return values[0] };
        values[self.get(id, |text| check::choice(words, text)).min(N - 1)]
    }

    /// The namespaces of a list; `None` when it is unset.
    fn namespaces(&mut self, id: Id) -> Option<BTreeSet<String>> {
        let mut decided = None;
        for (at, (value, source)) in self.values(id).into_iter().enumerate() {
            if at == 0 {
                self.origins.insert(id, source);
            }
            let Raw::List(items) = value else { continue };
            let mut set = BTreeSet::new();
            for (item, source) in items {
                match name::label(&item) {
                    Ok(name) => {
                        set.insert(name);
                    }
                    Err(_) if item.is_empty() => {
                        self.wrong(
                            id,
                            &source,
                            &item,
                            Wrong::new("an empty item in the list", "leave it out"),
                        );
                    }
                    Err(wrong) => self.wrong(id, &source, &item, wrong),
                }
            }
            if at == 0 {
                decided = Some(set);
            }
        }
        decided
    }

    fn boolean(&mut self, id: Id) -> bool {
        self.get(id, check::boolean)
    }

    fn origin(&self, id: Id) -> Source {
        self.origins.get(&id).cloned().unwrap_or(Source::Default)
    }

    /// The options. They must not be used if there are faults.
    pub fn options(&mut self) -> Options {
        let access = Access {
            endpoint: self.get(Id::Endpoint, check::url),
            token: self.get(Id::Token, |text| Ok(check::token(text)?.map(Token::new))),
            cert_auth_file_path: self.get(Id::CertAuthFilePath, check::path),
        };
        let namespaces = self.namespaces(Id::Namespaces).unwrap_or_default();
        let label_selector = self.get(Id::LabelSelector, |text| {
            LabelSelector::parse(text).map_err(|wrong| {
                Wrong::new(
                    format!("not a label selector: {wrong}"),
                    "write requirements such as app=web,tier in (a, b),!internal",
                )
            })
        });
        let mut class = ClassOptions {
            controller_name: self.get(Id::ControllerName, name::controller),
            ingress_class: self.get(Id::IngressClass, check::text),
            lookup_disabled: self.boolean(Id::DisableIngressClassLookup),
        };
        let cluster_scope_disabled = self.boolean(Id::DisableClusterScopeResources);
        class.lookup_disabled |= cluster_scope_disabled;
        let namespace = self.get(Id::Namespace, name::label);
        let status = self.get(Id::Status, check::on_off);
        let mut settings = self.settings(&namespace, cluster_scope_disabled);
        if !status {
            settings.status = StatusSource::None;
        }
        let options = Options {
            access,
            namespaces,
            label_selector,
            class,
            settings,
            namespace,
            status,
            status_rate: self.get(Id::StatusRate, |text| check::number(1, 100_000, text)),
            status_delay: self.get(Id::StatusDelay, duration),
            providers_throttle_duration: self.get(Id::ProvidersThrottleDuration, duration),
            throttle_duration: self.get(Id::ThrottleDuration, duration),
            publish_bytes_per_second: self.get(Id::PublishBytesPerSecond, check::size),
            max_withdrawal: Some(self.get(Id::MaxWithdrawal, check::percent)).filter(|percent| *percent > 0),
            leader_election: self.leader_election(),
            metrics_address: self.get(Id::MetricsAddress, check::listen),
            metrics_secure: self.boolean(Id::MetricsSecure),
            metrics_secure_address: self.get(Id::MetricsSecureAddress, check::listen),
            metrics_cert_file: self.get(Id::MetricsCertFile, check::path),
            metrics_key_file: self.get(Id::MetricsKeyFile, check::path),
            otlp_endpoint: self.get(Id::OtlpEndpoint, check::otlp),
            log_level: self
                .choice(Id::LogLevel, [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE]),
            log_format: self.choice(Id::LogFormat, [LogFormat::Text, LogFormat::Json]),
        };
        self.namespaces_slip();
        if options.metrics_secure {
            self.certificate_with_key(&options);
        }
        options
    }

    fn certificate_with_key(&mut self, options: &Options) {
        let given = [options.metrics_cert_file.is_some(), options.metrics_key_file.is_some()];
        let (id, other) = match given {
            [true, false] => (Id::MetricsCertFile, Id::MetricsKeyFile),
            [false, true] => (Id::MetricsKeyFile, Id::MetricsCertFile),
            _ => return,
        };
        let remedy = format!("give {} too, or neither for a self-signed certificate", other.key());
        self.faults.push(OptionFault::new(id.key(), self.origin(id), "half of a pair", remedy));
    }

    fn settings(&mut self, namespace: &str, cluster_scope_disabled: bool) -> Settings {
        Settings {
            output: OutputKey::new(namespace, self.get(Id::OutputName, name::label)),
            allow_empty_services: self.boolean(Id::AllowEmptyServices),
            allow_cross_namespace: self.boolean(Id::AllowCrossNamespace),
            allow_external_name_services: self.boolean(Id::AllowExternalNameServices),
            native_lb_by_default: self.boolean(Id::NativeLbByDefault),
            strict_prefix_matching: self.boolean(Id::StrictPrefixMatching),
            disable_cluster_scope_resources: cluster_scope_disabled,
            cross_provider_namespaces: self.namespaces(Id::CrossProviderNamespaces),
            default_rule_syntax: self.choice(Id::DefaultRuleSyntax, [RuleSyntax::V3, RuleSyntax::V2]),
            precedence: self.choice(Id::Precedence, [Precedence::Traefik, Precedence::Spec]),
            broken_backends: self
                .choice(Id::BrokenBackends, [BrokenBackends::Drop, BrokenBackends::Answer503]),
            default_entry_points: Vec::new(),
            default_middlewares: Vec::new(),
            status: self.status_source(cluster_scope_disabled),
            namespaces: NamespacePolicy::All,
            service_variant: 0,
        }
    }

    fn status_source(&mut self, cluster_scope_disabled: bool) -> StatusSource {
        let before = self.faults.len();
        let hostname = self.get(Id::EndpointHostname, name::hostname);
        let ip = self.get(Id::EndpointIp, check::ip);
        let service = self.get(Id::PublishedService, name::service);
        let nodes = self.boolean(Id::ReportNodeInternalIps);
        let endpoint = [Id::PublishedService, Id::EndpointHostname, Id::EndpointIp];
        if self.faults.len() > before {
            return StatusSource::None;
        }
        let given: Vec<_> = endpoint
            .into_iter()
            .map(|id| (id, self.origin(id)))
            .filter(|(_, at)| *at != Source::Default)
            .collect();
        let nothing = hostname.is_none() && ip.is_none() && service.is_none();
        let empty = self.sources.iter().find_map(|findings| findings.empty_endpoint.clone());
        if let Some(source) = given.first().map(|(_, at)| at.clone()).or(empty).filter(|_| nothing) {
            self.faults.push(OptionFault::new(
                "providers.kubernetesIngress.ingressEndpoint",
                source,
                "without any address",
                "give hostname, ip or publishedService, or leave it out",
            ));
        }
        if nodes && !nothing {
            self.excluded("ingressEndpoint");
        }
        if nodes && cluster_scope_disabled {
            self.excluded("disableClusterScopeResources");
        }
        match (service, nodes) {
            (Some(service), _) => {
                if hostname.is_some() || ip.is_some() {
                    self.warnings.push(format!(
                        "{}: {}: takes precedence over ingressEndpoint.hostname and ip, which are not used; \
                         leave them out",
                        Id::PublishedService.key(),
                        self.origin(Id::PublishedService),
                    ));
                }
                StatusSource::PublishedService(service)
            }
            (None, true) => StatusSource::NodeInternalIPs,
            (None, false) if nothing => StatusSource::None,
            (None, false) => StatusSource::Fixed { ip, hostname },
        }
    }

    fn excluded(&mut self, other: &str) {
        let id = Id::ReportNodeInternalIps;
        self.faults.push(OptionFault::new(
            id.key(),
            self.origin(id),
            format!("can't be combined with {other}"),
            "leave one of the two out",
        ));
    }

    fn leader_election(&mut self) -> LeaderElection {
        const WRITE: Duration = Duration::from_secs(1);
        let at_least = |milliseconds: u64| {
            move |text: &str| {
                duration(text).and_then(|time| {
                    if time >= Duration::from_millis(milliseconds) {
                        Ok(time)
                    } else {
                        Err(Wrong::new("too short", format!("write at least {milliseconds}ms")))
                    }
                })
            }
        };
        let election = LeaderElection {
            enabled: self.boolean(Id::LeaderElectionEnabled),
            lease_name: self.get(Id::LeaseName, name::label),
            lease_duration: self.get(Id::LeaseDuration, |text| {
                let lease = duration(text)?;
                if lease.subsec_nanos() == 0 && lease >= Duration::from_secs(2) {
                    Ok(lease)
                } else {
                    Err(Wrong::new("not a whole number of at least 2 seconds", "write for example 15s"))
                }
            }),
            renew_deadline: self.get(Id::RenewDeadline, at_least(1)),
            retry_period: self.get(Id::RetryPeriod, at_least(100)),
        };
        let LeaderElection { lease_duration: lease, renew_deadline: renew, retry_period: retry, .. } =
            election;
        // A value that is itself wrong is zero here, and not compared.
        if !lease.is_zero() && renew >= lease {
            self.too_long(Id::RenewDeadline, renew, "it must be shorter than leaseDuration", lease);
        }
        if !lease.is_zero() && !renew.is_zero() && retry * 6 / 5 >= renew {
            self.too_long(Id::RetryPeriod, retry, "1.2 times this must be shorter than renewDeadline", renew);
        // A write takes whole seconds, so none starts in the last one of a lease.
        } else if lease > WRITE && retry * 6 / 5 >= lease - WRITE {
            self.too_long(
                Id::RetryPeriod,
                retry,
                "1.2 times this must be shorter than leaseDuration minus 1s",
                lease - WRITE,
            );
        }
        election
    }

    fn too_long(&mut self, id: Id, value: Duration, remedy: &str, limit: Duration) {
        // The one that was written has to be corrected, not the default of the other.
        let fault = OptionFault::new(
            id.key(),
            self.origin(id),
            "too long".to_owned(),
            format!("{remedy} ({})", spelled(limit)),
        );
        self.faults.push(fault.value(&spelled(value)));
    }

    /// Warns about the namespaces of another provider, which the documentation of Traefik's Ingress provider names by
    /// mistake.
    fn namespaces_slip(&mut self) {
        let slip = self.sources.iter().find_map(|findings| findings.slip.clone());
        if let Some(source) = slip.filter(|_| self.origin(Id::Namespaces) == Source::Default) {
            self.warnings.push(format!(
                "{}: {source}: configures Traefik's CRD provider and is not used; to choose the namespaces \
                 that are watched, \
                 write {}",
                super::names::SLIP,
                Id::Namespaces.key(),
            ));
        }
    }
}
