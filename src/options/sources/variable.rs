//! Reads options from environment variables.

use std::collections::{BTreeMap, BTreeSet};

use super::{Form, FoundOptions};
use crate::options::fault::Source;
use crate::options::names::{self, Name};

/// The prefix of variables that must be ours.
const PREFIXES: &[&str] = &["TRAEFIK_PROVIDERS_KUBERNETESINGRESS_", "WAYBILL_OPERATOR_"];

/// Finds the options among `variables`. Other `TRAEFIK_…` variables are Traefik's.
pub(crate) fn read(variables: &BTreeMap<String, String>) -> FoundOptions {
    let mut findings = FoundOptions::default();
    let mut seen = BTreeSet::new();
    for (written, value) in variables {
        let ours = PREFIXES.iter().any(|prefix| written.starts_with(prefix));
        let source = Source::variable(written);
        let Some(name) = dotted(written) else { continue };
        match names::resolve(&name) {
            Name::Option(entry) => {
                if seen.insert(entry.id) {
                    findings.add_text(entry.id, value, source)
                } else {
                    findings.twice(entry.key, source)
                }
            }
            Name::ConfigFile if value.is_empty() => {}
            Name::ConfigFile => findings.config_file = Some((value.clone(), source)),
            Name::Switch => findings.check_switch(value, source),
            Name::Section(section) if ours => findings.section_has_no_value(section, source, Form::Variable),
            Name::Unknown if ours && !is_injected(written, value, variables) => {
                findings.unknown(written, &name, source, Form::Variable);
            }
            Name::Traefik if name.eq_ignore_ascii_case(names::SLIP) => findings.slip = Some(source),
            Name::Section(_) | Name::Unknown | Name::Traefik => {}
        }
    }
    findings
}

/// The dotted name for a variable, in lower case; `None` if it can be neither ours nor Traefik's.
fn dotted(variable: &str) -> Option<String> {
    let (name, operator) = match variable.strip_prefix("TRAEFIK_") {
        Some(name) => (name, false),
        None => (variable.strip_prefix("WAYBILL_")?, true),
    };
    let name = name.to_ascii_lowercase().replace('_', ".");
    // `WAYBILL_` is only used before `operator`, and `TRAEFIK_` never is.
    ((name.split('.').next() == Some("operator")) == operator).then_some(name)
}

/// Whether Kubernetes created a variable of this name for a Service: `X_SERVICE_HOST`, `X_SERVICE_PORT`,
/// `X_SERVICE_PORT_NAME`, `X_PORT`, `X_PORT_80_TCP`, `X_PORT_80_TCP_PROTO`, `…_PORT`, `…_ADDR`. A Service called
/// `waybill-operator-metrics` creates all of them, with our prefix.
fn is_injected(name: &str, value: &str, variables: &BTreeMap<String, String>) -> bool {
    // A user's misspelt name could also end in `_PORT`, so the name must contain a part that only Kubernetes writes, or
    // the companion variable must exist.
    let short =
        |service: &str| value.contains("://") || variables.contains_key(&format!("{service}_SERVICE_HOST"));
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.strip_suffix("_PORT").is_some_and(short)
        || name.match_indices("_PORT_").any(|(at, separator)| is_port(&name[at + separator.len()..]))
}

/// `80_TCP`, `80_TCP_PROTO`, `80_TCP_PORT`, `80_TCP_ADDR`.
fn is_port(text: &str) -> bool {
    let mut parts = text.split('_');
    let mut next = || parts.next();
    next().is_some_and(|number| number.parse::<u16>().is_ok())
        && next().is_some_and(|protocol| matches!(protocol, "TCP" | "UDP" | "SCTP"))
        && next().is_none_or(|what| matches!(what, "PROTO" | "PORT" | "ADDR"))
        && next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::table::TABLE;

    #[test]
    fn no_option_can_be_mistaken_for_an_injected_variable() {
        for entry in TABLE {
            assert!(!is_injected(&entry.variable(), "tcp://10.0.0.1:80", &BTreeMap::new()), "{}", entry.key);
        }
    }

    #[test]
    fn injected_variables_are_told_from_slips() {
        let mut variables = BTreeMap::new();
        for (name, value) in [
            ("WAYBILL_OPERATOR_METRICS_SERVICE_HOST", "10.0.0.1"),
            ("WAYBILL_OPERATOR_METRICS_SERVICE_PORT", "8080"),
            ("WAYBILL_OPERATOR_METRICS_SERVICE_PORT_HTTP", "8080"),
            ("WAYBILL_OPERATOR_METRICS_PORT", "tcp://10.0.0.1:8080"),
            ("WAYBILL_OPERATOR_METRICS_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("WAYBILL_OPERATOR_METRICS_PORT_8080_TCP_PROTO", "tcp"),
            ("WAYBILL_OPERATOR_METRICS_PORT_8080_TCP_PORT", "8080"),
            ("WAYBILL_OPERATOR_METRICS_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("WAYBILL_OPERATOR_SERVICE_HOST", "10.0.0.2"),
            ("WAYBILL_OPERATOR_PORT", "tcp://10.0.0.2:80"),
            ("TRAEFIK_PROVIDERS_KUBERNETESINGRESS_SERVICE_PORT", "80"),
            ("TRAEFIK_PROVIDERS_KUBERNETESINGRESS_PORT_80_UDP", "udp://10.0.0.3:80"),
            ("TRAEFIK_SERVICE_HOST", "10.0.0.4"),
            ("TRAEFIK_ENTRYPOINTS_WEB_ADDRESS", ":80"),
            ("TRAEFIK_OPERATOR_X", "1"),
            ("WAYBILL_SERVICE_HOST", "10.0.0.5"),
            ("WAYBILL_OPERATOR", "1"),
            ("TRAEFIK_PROVIDERS", "1"),
        ] {
            variables.insert(name.to_owned(), value.to_owned());
        }
        let faults: Vec<_> = read(&variables).faults.iter().map(ToString::to_string).collect();
        assert_eq!(faults, Vec::<String>::new());

        let slips = [
            "WAYBILL_OPERATOR_METRICS_PORT",
            "WAYBILL_OPERATOR_PORT_X_TCP",
            "WAYBILL_OPERATOR_PORT_80_TCP_X",
        ];
        let variables: BTreeMap<_, _> =
            slips.iter().map(|name| ((*name).to_owned(), "8080".to_owned())).collect();
        assert_eq!(read(&variables).faults.len(), slips.len());
    }
}
