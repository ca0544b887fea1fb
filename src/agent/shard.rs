//! A shard, checked and cut into entries.
//!
//! Each document is read with the types that waybill writes, which know every field that Traefik knows of them and
//! refuse all others, and its entries are written anew. So whatever a shard holds, what comes out is text that
//! Traefik's template engine and its parser take for what it is.

use std::sync::Arc;

use super::error::NotHandedOn;
use crate::traefik::document::{self, Keys};
use crate::traefik::dynamic::{Certificate, Configuration, HttpService, Router};

/// Traefik refuses a key of 1,024 bytes; waybill writes none above 512.
const KEY_LIMIT: usize = 1_023;

/// The kind of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    Router,
    Service,
    Certificate,
}

/// The identity of an entry: its kind and its key in the document, or for a certificate its whole line.
pub type EntryKey = (EntryKind, Arc<str>);

/// A router, service or certificate as a line of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingEntry {
    pub key: EntryKey,
    pub line: Arc<str>,
}

/// The entries of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardEntries(pub Vec<RoutingEntry>);

impl ShardEntries {
    /// Reads and checks the document of `object`.
    pub fn parse(object: &str, text: &str) -> Result<Self, NotHandedOn> {
        let invalid =
            |field: String, reason: String| NotHandedOn::Invalid { object: object.to_owned(), field, reason };
        let document: Configuration = serde_json::from_str(text).map_err(|error| {
            // serde_json's messages may quote a value, which may be a private key.
            let at = format!("line {}, column {}", error.line(), error.column());
            invalid(at, "it contains something that waybill does not write".to_owned())
        })?;
        let mut entries = Vec::new();
        let http = document.http.unwrap_or_default();
        for (key, router) in &http.routers {
            check_key(key)
                .and_then(|()| check_router(router))
                .map_err(|reason| invalid(format!("http.routers.{}", shortened(key)), reason.to_owned()))?;
            entries.push(entry(EntryKind::Router, key, document::router_line(key, router)));
        }
        for (key, service) in &http.services {
            check_key(key)
                .and_then(|()| check_service(service))
                .map_err(|reason| invalid(format!("http.services.{}", shortened(key)), reason.to_owned()))?;
            entries.push(entry(EntryKind::Service, key, document::service_line(key, service)));
        }
        for (at, certificate) in document.tls.unwrap_or_default().certificates.iter().enumerate() {
            check_certificate(certificate)
                .map_err(|reason| invalid(format!("tls.certificates[{at}]"), reason.to_owned()))?;
            let line: Arc<str> = document::certificate_line(certificate, Keys::Shown).into();
            entries.push(RoutingEntry { key: (EntryKind::Certificate, Arc::clone(&line)), line });
        }
        Ok(Self(entries))
    }
}

fn entry(kind: EntryKind, key: &str, line: String) -> RoutingEntry {
    RoutingEntry { key: (kind, key.into()), line: line.into() }
}

/// A key for a message, shortened because it may be very long.
fn shortened(key: &str) -> String {
    key.chars().take(100).collect()
}

type Validity = Result<(), &'static str>;

fn check_key(key: &str) -> Validity {
    match key.len() {
        0 => Err("the key is empty"),
        1..=KEY_LIMIT => Ok(()),
        _ => Err("the key has 1,024 bytes or more"),
    }
}

/// Empty sections make Traefik's decoder fail.
fn check_router(router: &Router) -> Validity {
    if router.rule.is_empty() {
        return Err("the rule is empty");
    }
    if router.observability.as_ref().is_some_and(|observability| *observability == Default::default()) {
        Err("observability is an empty section")
    } else {
        Ok(())
    }
}

fn check_service(service: &HttpService) -> Validity {
    if service.load_balancer == Default::default() {
        return Err("loadBalancer is an empty section");
    }
    if service.load_balancer.servers.iter().any(|server| server.url.is_empty()) {
        Err("a server has no url")
    } else {
        Ok(())
    }
}

fn check_certificate(certificate: &Certificate) -> Validity {
    if certificate.cert_file.is_empty() || certificate.key_file.is_empty() {
        Err("the certificate or its private key is missing")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_traefik_would_refuse_is_refused_before_it() {
        let long = "k".repeat(1_024);
        for (text, field) in [
            (
                r#"{"http":{"routers":{"a":{"rule":"Path(`/`)","service":"s","colour":1}}}}"#.to_owned(),
                "line 1",
            ),
            (r#"{"http":{"routers":{"a":{"rule":"","service":"s"}}}}"#.to_owned(), "http.routers.a"),
            (
                r#"{"http":{"routers":{"a":{"rule":"x","service":"s","observability":{}}}}}"#.to_owned(),
                "http.routers.a",
            ),
            (r#"{"http":{"services":{"s":{"loadBalancer":{}}}}}"#.to_owned(), "http.services.s"),
            (
                format!(r#"{{"http":{{"routers":{{"{long}":{{"rule":"x","service":"s"}}}}}}}}"#),
                "http.routers.kkk",
            ),
            (r#"{"tls":{"certificates":[{"certFile":"c"}]}}"#.to_owned(), "tls.certificates[0]"),
            ("{{ env }}".to_owned(), "line 1"),
        ] {
            let refusal = ShardEntries::parse("waybill.r-x", &text).unwrap_err();
            assert_eq!(refusal.reason(), "invalid");
            let said = refusal.to_string();
            assert!(said.contains("waybill.r-x") && said.contains(field), "{said}");
        }
    }

    /// One entry that is refused costs everybody the generation, so nothing may be that the translation makes.
    #[test]
    fn whatever_is_published_is_taken() {
        let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let mut entries = 0;
        for case in std::fs::read_dir(golden).unwrap() {
            let file = case.unwrap().path().join("expected.json");
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
            for document in expected["outputs"].as_object().into_iter().flat_map(|outputs| outputs.values()) {
                // Certificates have no keys in these, and some priorities are placeholders.
                let Some(http) = document.get("http") else { continue };
                let mut http = http.clone();
                for router in http["routers"].as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
                    router.as_object_mut().unwrap().remove("priority");
                }
                let text = serde_json::json!({"http": http}).to_string();
                match ShardEntries::parse("golden", &text) {
                    Ok(shard) => entries += shard.0.len(),
                    Err(refusal) => panic!("{}: {refusal}", file.display()),
                }
            }
        }
        assert!(entries > 500, "{entries}");
    }

    #[test]
    fn a_refusal_shows_no_private_key() {
        let text = r#"{"tls":{"certificates":[{"certFile":"c","keyFile":"k","SECRET":"SECRET"}]}}"#;
        let said = ShardEntries::parse("waybill.k-x", text).unwrap_err().to_string();
        assert!(!said.contains("SECRET"), "{said}");
    }

    /// Templates that come in unescaped leave escaped.
    #[test]
    fn entries_are_written_anew() {
        let text = r#"{"http":{"routers":{"{{a":{"rule":"Path(`{{ env }}`)","service":"s"}}}}"#;
        let shard = ShardEntries::parse("x", text).unwrap();
        assert_eq!(
            &*shard.0[0].line,
            r#""\u007b\u007ba":{"service":"s","rule":"Path(`\u007b\u007b env }}`)"}"#
        );
    }
}
