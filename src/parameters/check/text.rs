//! Checks the texts of a spec, by the same rules as the regular expressions of the schema.

use std::net::IpAddr;

use crate::kubernetes::name;
use crate::parameters::resource::{MAX_LABEL_KEY, MAX_REFERENCE, MAX_SERVICE};
use crate::traefik::dynamic::LIST_SEPARATOR;

/// The meaning of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextRule {
    DnsLabel,
    Reference,
    Ip,
    Hostname,
    Service,
    LabelKey,
    LabelValue,
}

impl TextRule {
    /// Whether the text is valid; otherwise the remedy.
    pub fn check(self, text: &str) -> Result<(), String> {
        let (most, right, remedy) = match self {
            Self::DnsLabel => (
                name::MAX_LABEL,
                name::is_label(text),
                "write a DNS label: a-z, 0-9 and -, with no - at either end",
            ),
            Self::Reference => (
                MAX_REFERENCE,
                !text.is_empty() && !text.contains(['\t', '\n', '\x0c', '\r', ' ', ',', LIST_SEPARATOR]),
                "write one name per entry, without spaces, commas or the character U+2551",
            ),
            Self::Ip => (64, is_ip(text), "write one IPv4 or IPv6 address"),
            Self::Hostname => (
                name::MAX_SUBDOMAIN,
                name::is_subdomain(text) && !is_ip(text),
                "write a DNS name in lower case, such as lb.example.com; an address goes into ip",
            ),
            Self::Service => (MAX_SERVICE, is_service(text), "write namespace/name of a Service"),
            Self::LabelKey => (
                MAX_LABEL_KEY,
                name::is_label_key(text),
                "write a label's key, such as team or example.com/team",
            ),
            Self::LabelValue => (
                name::MAX_LABEL,
                name::is_label_value(text),
                "write a label's value: A-Z, a-z, 0-9, -, _ and ., with a letter or digit at either end",
            ),
        };
        if text.chars().count() > most {
            return Err(format!("keep it to {most} characters"));
        }
        if right { Ok(()) } else { Err(remedy.to_owned()) }
    }
}

/// In the form that Kubernetes accepts: no zone, and no IPv4 address in IPv6 notation.
fn is_ip(text: &str) -> bool {
    match text.parse() {
        Ok(IpAddr::V4(_)) => true,
        Ok(IpAddr::V6(address)) => address.to_ipv4_mapped().is_none(),
        Err(_) => false,
    }
}

fn is_service(text: &str) -> bool {
    let service = |(namespace, name)| name::is_label(namespace) && name::is_service_name(name);
    text.split_once('/').is_some_and(service)
}
