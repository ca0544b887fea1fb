//! From what was written to [`Options`]: the nearest source wins, every value is checked, all faults are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tracing::Level;

use super::check::{self, Checked, Wrong, duration::duration, duration::spelled, name};
use super::fault::{Fault, Source};
use super::selector::LabelSelector;
use super::sources::{Findings, Given, Raw};
use super::table::{Default, Id, Kind};
use super::typed::{LeaderElection, LogFormat, Options};
use crate::kubernetes::client::{Access, Token};
use crate::kubernetes::key::OutputKey;
use crate::translate::settings::{
    BrokenBackends, ClassOptions, NamespacePolicy, Precedence, RuleSyntax, Settings, StatusSource,
};

/// Makes options of what the sources hold.
pub(super) struct Builder<'a> {
    /// Nearest first: flags, variables, file.
    sources: [&'a Findings; 3],
    /// The value of `operator.namespace` when nobody gives it, and where it comes from.
    namespace: (String, Source),
    pub faults: Vec<Fault>,
    pub warnings: Vec<String>,
    pub origins: BTreeMap<Id, Source>,
}

impl<'a> Builder<'a> {
    /// A builder over what the sources say, strongest source first.
    pub fn new(sources: [&'a Findings; 3], namespace: (String, Source)) -> Self {
        Self { sources, namespace, faults: Vec::new(), warnings: Vec::new(), origins: BTreeMap::new() }
    }

    /// Every value of an option, the deciding one first. A default is read like a user's value.
    fn values(&self, id: Id) -> Vec<(Raw, Source)> {
        let given = |findings: &&Findings| -> Option<(Raw, Source)> {
            let Given { value, source, .. } = findings.given.iter().find(|given| given.id == id)?;
            Some((value.clone(), source.clone()))
        };
        let mut values: Vec<_> = self.sources.iter().filter_map(given).collect();
        if values.is_empty() {
            match (id, id.entry().default) {
                (Id::Namespace, _) => {
                    values.push((Raw::Text(self.namespace.0.clone()), self.namespace.1.clone()))
                }
                (_, Default::Text("")) if matches!(id.entry().kind, Kind::List(_)) => {
                    values.push((Raw::List(Vec::new()), Source::Default));
                }
                (_, Default::Text(text)) => values.push((Raw::Text(text.to_owned()), Source::Default)),
                (_, Default::Unset(_)) => {}
            }
        }
        values
    }

    fn wrong(&mut self, id: Id, source: &Source, value: &str, wrong: Wrong) {
        let fault = Fault::new(id.key(), source.clone(), wrong.wrong, wrong.remedy);
        self.faults.push(if id.entry().kind == Kind::Secret { fault } else { fault.value(value) });
    }

    /// The value of an option, if it is right. Those that it overrides are checked too: they are someone's mistake.
    fn get<T>(&mut self, id: Id, check: impl Fn(&str) -> Checked<T>) -> Option<T> {
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
        decided
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

    fn boolean(&mut self, id: Id) -> Option<bool> {
        self.get(id, check::boolean)
    }

    fn origin(&self, id: Id) -> Source {
        self.origins.get(&id).cloned().unwrap_or(Source::Default)
    }

    /// The options; `None` when a value is wrong, which is then among the faults.
    pub fn options(&mut self) -> Option<Options> {
        let access = self.access();
        let namespaces = self.namespaces(Id::Namespaces);
        let label_selector = self.get(Id::LabelSelector, |text| {
            LabelSelector::parse(text).map_err(|wrong| {
                Wrong::new(
                    format!("not a label selector: {wrong}"),
                    "write requirements such as app=web,tier in (a, b),!internal",
                )
            })
        });
        let class = self.class();
        let namespace = self.get(Id::Namespace, name::label);
        let status = self.get(Id::Status, check::on_off);
        let settings = self.settings(namespace.as_deref(), status);
        let status_rate = self.get(Id::StatusRate, |text| check::number(1, 100_000, text));
        let status_delay = self.get(Id::StatusDelay, duration);
        let providers_throttle_duration = self.get(Id::ProvidersThrottleDuration, duration);
        let throttle_duration = self.get(Id::ThrottleDuration, duration);
        let publish_bytes_per_second = self.get(Id::PublishBytesPerSecond, check::size);
        let max_withdrawal = self.get(Id::MaxWithdrawal, check::percent);
        let leader_election = self.leader_election();
        let metrics_address = self.get(Id::MetricsAddress, check::listen);
        let log_level = self.get(Id::LogLevel, |text| {
            let levels = [
                ("error", Level::ERROR),
                ("warn", Level::WARN),
                ("info", Level::INFO),
                ("debug", Level::DEBUG),
                ("trace", Level::TRACE),
            ];
            check::choice(&levels, text)
        });
        let log_format = self.get(Id::LogFormat, |text| {
            check::choice(&[("text", LogFormat::Text), ("json", LogFormat::Json)], text)
        });
        self.namespaces_slip();
        Some(Options {
            access: access?,
            namespaces: namespaces?,
            label_selector: label_selector?,
            class: class?,
            settings: settings?,
            namespace: namespace?,
            status: status?,
            status_rate: status_rate?,
            status_delay: status_delay?,
            providers_throttle_duration: providers_throttle_duration?,
            throttle_duration: throttle_duration?,
            publish_bytes_per_second: publish_bytes_per_second?,
            max_withdrawal: Some(max_withdrawal?).filter(|percent| *percent > 0),
            leader_election: leader_election?,
            metrics_address: metrics_address?,
            log_level: log_level?,
            log_format: log_format?,
        })
    }

    fn access(&mut self) -> Option<Access> {
        let endpoint = self.get(Id::Endpoint, check::url);
        let token = self.get(Id::Token, |text| Ok(check::token(text)?.map(Token::new)));
        let cert_auth_file_path = self.get(Id::CertAuthFilePath, check::path);
        Some(Access { endpoint: endpoint?, token: token?, cert_auth_file_path: cert_auth_file_path? })
    }

    fn class(&mut self) -> Option<ClassOptions> {
        let controller_name = self.get(Id::ControllerName, name::controller);
        let ingress_class = self.get(Id::IngressClass, check::text);
        let lookup = self.boolean(Id::DisableIngressClassLookup);
        let scope = self.get(Id::DisableClusterScopeResources, check::boolean);
        Some(ClassOptions {
            controller_name: controller_name?,
            ingress_class: ingress_class?,
            lookup_disabled: lookup? || scope?,
        })
    }

    fn settings(&mut self, namespace: Option<&str>, status: Option<bool>) -> Option<Settings> {
        let output = self.get(Id::OutputName, name::label);
        let allow_empty_services = self.boolean(Id::AllowEmptyServices);
        let allow_cross_namespace = self.boolean(Id::AllowCrossNamespace);
        let allow_external_name_services = self.boolean(Id::AllowExternalNameServices);
        let native_lb_by_default = self.boolean(Id::NativeLbByDefault);
        let strict_prefix_matching = self.boolean(Id::StrictPrefixMatching);
        let cross_provider_namespaces = self.namespaces(Id::CrossProviderNamespaces);
        // The class's half has reported what is wrong with it.
        let disable_cluster_scope_resources = self.peek_boolean(Id::DisableClusterScopeResources);
        let default_rule_syntax = self.get(Id::DefaultRuleSyntax, |text| {
            check::choice(&[("v3", RuleSyntax::V3), ("v2", RuleSyntax::V2)], text)
        });
        let precedence = self.get(Id::Precedence, |text| {
            check::choice(&[("traefik", Precedence::Traefik), ("spec", Precedence::Spec)], text)
        });
        let broken_backends = self.get(Id::BrokenBackends, |text| {
            check::choice(&[("drop", BrokenBackends::Drop), ("answer503", BrokenBackends::Answer503)], text)
        });
        let source = self.status_source(disable_cluster_scope_resources);
        Some(Settings {
            output: OutputKey::new(namespace?, output?),
            allow_empty_services: allow_empty_services?,
            allow_cross_namespace: allow_cross_namespace?,
            allow_external_name_services: allow_external_name_services?,
            native_lb_by_default: native_lb_by_default?,
            strict_prefix_matching: strict_prefix_matching?,
            disable_cluster_scope_resources: disable_cluster_scope_resources?,
            cross_provider_namespaces,
            default_rule_syntax: default_rule_syntax?,
            precedence: precedence?,
            broken_backends: broken_backends?,
            default_entry_points: Vec::new(),
            default_middlewares: Vec::new(),
            status: if status? { source? } else { StatusSource::None },
            namespaces: NamespacePolicy::All,
            service_variant: 0,
        })
    }

    /// A boolean that has been asked for before, without reporting its faults again.
    fn peek_boolean(&self, id: Id) -> Option<bool> {
        match self.values(id).into_iter().next() {
            Some((Raw::Text(text), _)) => check::boolean(&text).ok(),
            _ => None,
        }
    }

    fn status_source(&mut self, cluster_scope_disabled: Option<bool>) -> Option<StatusSource> {
        let before = self.faults.len();
        let hostname = self.get(Id::EndpointHostname, name::hostname);
        let ip = self.get(Id::EndpointIp, check::ip);
        let service = self.get(Id::PublishedService, name::service);
        let nodes = self.boolean(Id::ReportNodeInternalIps);
        let endpoint = [Id::PublishedService, Id::EndpointHostname, Id::EndpointIp];
        if self.faults.len() > before {
            return None;
        }
        let (hostname, ip, service, nodes) = (hostname?, ip?, service?, nodes?);
        let given: Vec<_> = endpoint
            .into_iter()
            .map(|id| (id, self.origin(id)))
            .filter(|(_, at)| *at != Source::Default)
            .collect();
        let nothing = hostname.is_none() && ip.is_none() && service.is_none();
        let empty = self.sources.iter().find_map(|findings| findings.empty_endpoint.clone());
        if let Some(source) = given.first().map(|(_, at)| at.clone()).or(empty).filter(|_| nothing) {
            self.faults.push(Fault::new(
                "providers.kubernetesIngress.ingressEndpoint",
                source,
                "without any address",
                "give hostname, ip or publishedService, or leave it out",
            ));
        }
        if nodes && !nothing {
            self.excluded("ingressEndpoint");
        }
        if nodes && cluster_scope_disabled == Some(true) {
            self.excluded("disableClusterScopeResources");
        }
        Some(match (service, nodes) {
            (Some(service), _) => {
                if hostname.is_some() || ip.is_some() {
                    self.warnings.push(format!(
                        "{}: {}: goes before ingressEndpoint.hostname and ip, which are not used; leave them out",
                        Id::PublishedService.key(),
                        self.origin(Id::PublishedService),
                    ));
                }
                StatusSource::PublishedService(service)
            }
            (None, true) => StatusSource::NodeInternalIPs,
            (None, false) if nothing => StatusSource::None,
            (None, false) => StatusSource::Fixed { ip, hostname },
        })
    }

    fn excluded(&mut self, other: &str) {
        let id = Id::ReportNodeInternalIps;
        self.faults.push(Fault::new(
            id.key(),
            self.origin(id),
            format!("can't stand beside {other}"),
            "leave one of the two out",
        ));
    }

    fn leader_election(&mut self) -> Option<LeaderElection> {
        let enabled = self.boolean(Id::LeaderElectionEnabled);
        let lease_name = self.get(Id::LeaseName, name::label);
        let lease = self.get(Id::LeaseDuration, |text| {
            let lease = duration(text)?;
            match lease.subsec_nanos() == 0 && lease >= Duration::from_secs(1) {
                true => Ok(lease),
                false => Err(Wrong::new("not a whole number of seconds from 1", "write one, such as 15s")),
            }
        });
        let positive = |text: &str| {
            duration(text).and_then(|time| match time >= Duration::from_millis(1) {
                true => Ok(time),
                false => Err(Wrong::new("too short", "write at least 1ms")),
            })
        };
        let renew = self.get(Id::RenewDeadline, positive);
        let retry = self.get(Id::RetryPeriod, positive);
        let (lease_duration, renew_deadline) = (lease?, renew?);
        if renew_deadline >= lease_duration {
            self.too_long(Id::RenewDeadline, renew_deadline, "leaseDuration", lease_duration);
        }
        let retry_period = retry?;
        if retry_period * 6 / 5 >= renew_deadline {
            self.too_long(Id::RetryPeriod, retry_period, "renewDeadline, even times 1.2", renew_deadline);
        }
        Some(LeaderElection {
            enabled: enabled?,
            lease_name: lease_name?,
            lease_duration,
            renew_deadline,
            retry_period,
        })
    }

    fn too_long(&mut self, id: Id, value: Duration, than: &str, limit: Duration) {
        // The one that was written is the one to mend; the default of the other is not the user's.
        let fault = Fault::new(
            id.key(),
            self.origin(id),
            "too long".to_owned(),
            format!("it must be shorter than {than} ({})", spelled(limit)),
        );
        self.faults.push(fault.value(&spelled(value)));
    }

    /// Warns of the namespaces of another provider, which the documentation of Traefik's Ingress provider names where
    /// it means ours.
    fn namespaces_slip(&mut self) {
        let slip = self.sources.iter().find_map(|findings| findings.slip.clone());
        if let Some(source) = slip.filter(|_| self.origin(Id::Namespaces) == Source::Default) {
            self.warnings.push(format!(
                "{}: {source}: steers Traefik's CRD provider and is not used; to choose the namespaces that are watched, \
                 write {}",
                super::names::SLIP,
                Id::Namespaces.key(),
            ));
        }
    }
}
