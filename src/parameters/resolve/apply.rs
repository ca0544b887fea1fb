//! Applies a spec on top of the operator's own settings.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};
use sha2::{Digest, Sha256};

use super::NamespaceLabels;
use crate::kubernetes::key::{OutputKey, ServiceKey};
use crate::parameters::resource::IngressClassParametersSpec;
use crate::translate::settings::{BrokenBackends, NamespacePolicy, Settings, StatusSource};

/// The selector of namespaces, if there is one.
pub(super) fn selector(spec: &IngressClassParametersSpec) -> Option<&LabelSelector> {
    spec.namespaces.as_ref()?.selector.as_ref()
}

/// The settings from a checked spec. `None`: it selects namespaces by label, and the labels are not known.
pub(super) fn settings(
    spec: &IngressClassParametersSpec,
    defaults: &Settings,
    namespaces: NamespaceLabels<'_>,
) -> Option<Settings> {
    let mut settings = Settings {
        output: output(spec, defaults),
        status: status(spec, defaults),
        namespaces: policy(spec, defaults, namespaces)?,
        ..defaults.clone()
    };
    overlay(&mut settings.allow_empty_services, &spec.allow_empty_services);
    overlay(&mut settings.allow_cross_namespace, &spec.allow_cross_namespace);
    overlay(&mut settings.allow_external_name_services, &spec.allow_external_name_services);
    overlay(&mut settings.native_lb_by_default, &spec.native_lb_by_default);
    overlay(&mut settings.strict_prefix_matching, &spec.strict_prefix_matching);
    overlay(&mut settings.default_rule_syntax, &spec.default_rule_syntax);
    overlay(&mut settings.precedence, &spec.precedence);
    overlay(&mut settings.broken_backends, &spec.broken_backends);
    overlay(&mut settings.default_entry_points, &spec.default_entry_points);
    overlay(&mut settings.default_middlewares, &spec.default_middlewares);
    if let Some(names) = &spec.cross_provider_namespaces {
        settings.cross_provider_namespaces = Some(names.iter().cloned().collect());
    }
    settings.service_variant = service_variant(&settings, defaults);
    Some(settings)
}

fn overlay<T: Clone>(setting: &mut T, value: &Option<T>) {
    if let Some(value) = value {
        setting.clone_from(value);
    }
}

/// The output that a spec names.
pub(in crate::parameters) fn output(spec: &IngressClassParametersSpec, defaults: &Settings) -> OutputKey {
    let Some(output) = &spec.output else { return defaults.output.clone() };
    OutputKey::new(
        output.namespace.as_deref().unwrap_or(defaults.output.namespace()),
        output.name.as_deref().unwrap_or(defaults.output.name()),
    )
}

fn status(spec: &IngressClassParametersSpec, defaults: &Settings) -> StatusSource {
    if let Some(endpoint) = &spec.ingress_endpoint {
        let published = endpoint.published_service.as_deref().and_then(|service| service.split_once('/'));
        return match published {
            Some((namespace, name)) => StatusSource::PublishedService(ServiceKey::new(namespace, name)),
            None => StatusSource::Fixed {
                ip: endpoint.ip.as_deref().and_then(|ip| ip.parse().ok()),
                hostname: endpoint.hostname.clone(),
            },
        };
    }
    match (spec.report_node_internal_ips, &defaults.status) {
        (Some(true), _) => StatusSource::NodeInternalIPs,
        (Some(false), StatusSource::NodeInternalIPs) => StatusSource::None,
        (_, status) => status.clone(),
    }
}

fn policy(
    spec: &IngressClassParametersSpec,
    defaults: &Settings,
    labels: NamespaceLabels<'_>,
) -> Option<NamespacePolicy> {
    let Some(namespaces) = &spec.namespaces else { return Some(defaults.namespaces.clone()) };
    if let Some(selector) = &namespaces.selector {
        let NamespaceLabels::Known(labels) = labels else { return None };
        // A checked selector is valid for kube; an unusable one selects nothing.
        let selector = Selector::try_from(selector.clone()).ok();
        let matches = |labels| selector.as_ref().is_some_and(|selector| selector.matches(labels));
        let selected = labels.filter(|(_, labels)| matches(*labels)).map(|(name, _)| name.to_owned());
        return Some(NamespacePolicy::Selected(selected.collect()));
    }
    Some(NamespacePolicy::List(namespaces.names.iter().flatten().cloned().collect()))
}

/// 0 if a Service is translated as with the operator's own settings. Otherwise a number that is the same in every
/// process for the same settings, and different for others.
fn service_variant(settings: &Settings, defaults: &Settings) -> u64 {
    let shape = |settings: &Settings| {
        serde_json::json!([
            settings.allow_empty_services,
            settings.allow_external_name_services,
            settings.allow_cross_namespace,
            settings.cross_provider_namespaces,
            settings.native_lb_by_default,
            settings.broken_backends == BrokenBackends::Answer503,
            settings.disable_cluster_scope_resources,
        ])
        .to_string()
    };
    let own = shape(settings);
    if own == shape(defaults) {
        return 0;
    }
    let hash = Sha256::digest(own.as_bytes());
    hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte)).max(1)
}
