//! Finds values in an Ingress that an API server would refuse. Offline, nothing has checked them yet, and Traefik would
//! route them.

use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, IngressBackend};

use crate::kubernetes::Ingress;
use crate::kubernetes::name::{is_port_name, is_service_name, is_subdomain};
use crate::kubernetes::well_known::CLASS_ANNOTATION;

use crate::translate::problem::{Problem, Subject};

/// A field that an API server refuses.
pub struct InvalidField {
    pub subject: Subject,
    pub field: String,
    pub value: String,
    pub remedy: String,
}

impl fmt::Display for InvalidField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, field, value, remedy } = self;
        write!(f, "{subject}: {field}: {value:?}: an API server refuses it; {remedy}")
    }
}

/// Finds everything in it that an API server refuses.
pub fn fields(ingress: &Ingress) -> Vec<InvalidField> {
    let mut checker = InvalidFields { subject: Subject::ingress(ingress), found: Vec::new() };
    checker.ingress(ingress);
    checker.found
}

struct InvalidFields {
    subject: Subject,
    found: Vec<InvalidField>,
}

impl InvalidFields {
    fn add(&mut self, field: &str, value: &str, remedy: &str) {
        self.found.push(InvalidField {
            subject: self.subject.clone(),
            field: field.to_owned(),
            value: Problem::shown(value),
            remedy: remedy.to_owned(),
        });
    }

    fn ingress(&mut self, ingress: &Ingress) {
        let name = ingress.metadata.name.as_deref().unwrap_or_default();
        // A missing name is reported where it is found, with its position in the input.
        if !name.is_empty() && !is_subdomain(name) {
            self.add("metadata.name", name, "write a DNS name in lower case");
        }
        let spec = ingress.spec.clone().unwrap_or_default();
        let rules = spec.rules.unwrap_or_default();
        if rules.is_empty() && spec.default_backend.is_none() {
            self.add("spec.rules", "", "give rules or a defaultBackend");
        }
        if let Some(class) = &spec.ingress_class_name {
            if !is_subdomain(class) {
                self.add("spec.ingressClassName", class, "write the name of an IngressClass");
            }
            let annotation = ingress.metadata.annotations.as_ref().and_then(|all| all.get(CLASS_ANNOTATION));
            if let Some(value) = annotation {
                let field = format!("metadata.annotations[{CLASS_ANNOTATION}]");
                self.add(&field, value, "remove it: spec.ingressClassName already names a class");
            }
        }
        if let Some(backend) = &spec.default_backend {
            self.backend("spec.defaultBackend", backend);
        }
        for (at, rule) in rules.iter().enumerate() {
            let field = format!("spec.rules[{at}]");
            self.host(&format!("{field}.host"), rule.host.as_deref().unwrap_or_default());
            let Some(http) = &rule.http else { continue };
            if http.paths.is_empty() {
                self.add(&format!("{field}.http.paths"), "", "give at least one path");
            }
            for (at, path) in http.paths.iter().enumerate() {
                self.path(&format!("{field}.http.paths[{at}]"), path);
            }
        }
    }

    fn host(&mut self, field: &str, host: &str) {
        if host.is_empty() {
            return;
        }
        if host.parse::<IpAddr>().is_ok() {
            self.add(field, host, "write a DNS name, not an address");
        } else if !is_subdomain(host.strip_prefix("*.").unwrap_or(host)) {
            let remedy = "write a DNS name in lower case, such as shop.example or *.shop.example";
            self.add(field, host, remedy);
        }
    }

    fn path(&mut self, field: &str, path: &HTTPIngressPath) {
        let text = path.path.as_deref().unwrap_or_default();
        let exact = match path.path_type.as_str() {
            "Exact" | "Prefix" => true,
            "ImplementationSpecific" => false,
            other => {
                let remedy = "write Exact, Prefix or ImplementationSpecific";
                self.add(&format!("{field}.pathType"), other, remedy);
                return self.backend(&format!("{field}.backend"), &path.backend);
            }
        };
        let at = format!("{field}.path");
        if !text.starts_with('/') && (exact || !text.is_empty()) {
            self.add(&at, text, "begin it with /");
        }
        let refused = ["//", "/./", "/../", "%2f", "%2F"].iter().any(|part| text.contains(part))
            || text.ends_with("/..")
            || text.ends_with("/.");
        if exact && refused {
            self.add(
                &at,
                text,
                "leave out //, /./, /../ and %2f, or use the path type ImplementationSpecific",
            );
        }
        self.backend(&format!("{field}.backend"), &path.backend);
    }

    fn backend(&mut self, field: &str, backend: &IngressBackend) {
        let service = match (&backend.service, &backend.resource) {
            (Some(service), None) => service,
            (None, Some(_)) => return,
            (Some(_), Some(_)) => return self.add(field, "", "give either service or resource"),
            (None, None) => return self.add(field, "", "give a service"),
        };
        if !is_service_name(&service.name) {
            self.add(&format!("{field}.service.name"), &service.name, "write the name of a Service");
        }
        let port = service.port.clone().unwrap_or_default();
        let name = port.name.unwrap_or_default();
        let number = port.number.unwrap_or_default();
        let field = format!("{field}.service.port");
        match (name.as_str(), number) {
            ("", 0) => self.add(&field, "", "give its name or its number"),
            ("", number) if !(1..=65535).contains(&number) => {
                self.add(&format!("{field}.number"), &number.to_string(), "write a number from 1 to 65535");
            }
            ("", _) => {}
            (name, 0) if !is_port_name(name) => {
                let remedy = "write at most 15 of a-z, 0-9 and -, with a letter among them";
                self.add(&format!("{field}.name"), name, remedy);
            }
            (_, 0) => {}
            (name, _) => self.add(&field, name, "give either its name or its number"),
        }
    }
}
