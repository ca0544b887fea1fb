//! Names as the Kubernetes API checks them.

use super::{Checked, Wrong};
use crate::kubernetes::key::ServiceKey;
use crate::kubernetes::name::{is_label, is_service_name, is_subdomain};

/// A name that must be a DNS label.
pub fn label(text: &str) -> Checked<String> {
    if is_label(text) {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new("not a DNS label", "write 1 to 63 of a-z, 0-9 and -, with no - at either end"))
    }
}

/// Name of a Service with its namespace, `namespace/name`; empty means none.
pub fn service(text: &str) -> Checked<Option<ServiceKey>> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.split_once('/') {
        Some((namespace, name)) if is_label(namespace) && is_service_name(name) => {
            Ok(Some(ServiceKey::new(namespace, name)))
        }
        _ => Err(Wrong::new("not the name of a Service", "write namespace/name, two DNS labels")),
    }
}

/// A host name for a status, as the API server checks `status.loadBalancer.ingress[].hostname`; empty means none.
pub fn hostname(text: &str) -> Checked<Option<String>> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Err(Wrong::new("an address, not a host name", "give it as ingressEndpoint.ip"));
    }
    if is_subdomain(text) {
        Ok(Some(text.to_owned()))
    } else {
        Err(Wrong::new("not a host name", "write a DNS name in lower case, such as lb.example.com"))
    }
}

/// A controller's name as the API server checks `spec.controller` of an IngressClass.
pub fn controller(text: &str) -> Checked<String> {
    let good = text.len() <= 250
        && text.split_once('/').is_some_and(|(domain, path)| {
            is_subdomain(domain)
                && !path.is_empty()
                && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b))
        });
    if good {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new(
            "not a controller's name",
            "write a domain and a path, such as traefik.io/ingress-controller, at most 250 bytes",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_hosts_and_controllers() {
        assert_eq!(service("edge/public").unwrap(), Some(ServiceKey::new("edge", "public")));
        assert_eq!(service("").unwrap(), None);
        for bad in ["public", "a/b/c", "a/", "/b", "A/b", "a/0b"] {
            assert!(service(bad).is_err(), "{bad}");
        }
        assert_eq!(hostname("lb.example.com").unwrap().as_deref(), Some("lb.example.com"));
        for bad in ["10.0.0.1", "::1", "*.x", "LB"] {
            assert!(hostname(bad).is_err(), "{bad}");
        }
        for good in ["traefik.io/ingress-controller", "a/b/c", "a.b/x:y"] {
            assert_eq!(controller(good).unwrap(), good);
        }
        for bad in ["", "traefik.io", "traefik.io/", "/x", "A/b", "a/ä", &format!("a/{}", "x".repeat(249))] {
            assert!(controller(bad).is_err(), "{bad}");
        }
    }
}
