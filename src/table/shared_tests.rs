//! Services and Secrets that several Ingresses share.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::tests::{certificate, default_output, fragment, parsed, router, service, service_of};
use super::*;
use crate::traefik::document::Keys;
use crate::traefik::dynamic::Certificate;
use crate::translate::fragment::ServiceFragment;

#[test]
fn the_last_content_of_a_shared_service_wins() {
    let mut table = Table::new();
    let shared = service_of(1, "a", "s", "80", 0);
    let newer = Arc::new(ServiceFragment { service: service("http://new"), ..(*shared).clone() });
    table.set(fragment("a", "one", 1, vec![router("a-one", "r", shared.clone())]));
    table.set(fragment("a", "two", 1, vec![router("a-two", "r", newer)]));
    let services = |table: &Table| {
        parsed(table.output(&default_output()).expect("it is there")).http.map(|http| http.services)
    };
    let wanted = Some(BTreeMap::from([("a-s-80".to_owned(), service("http://new"))]));
    assert_eq!(services(&table), wanted);
    table.remove(&IngressKey::new("a", "two"));
    assert_eq!(services(&table), wanted);
    table.remove(&IngressKey::new("a", "one"));
    assert_eq!(services(&table), None);
    assert!(table.forget(&default_output()));
    assert!(table.output(&default_output()).is_none());
}

/// The Ingress that is reconciled last has read the Service last, also where its fragment is the same as before.
#[test]
fn an_older_content_of_a_shared_service_that_is_back_wins() {
    let mut table = Table::new();
    let older = service_of(1, "a", "s", "80", 0);
    let newer = Arc::new(ServiceFragment { service: service("http://new"), ..(*older).clone() });
    let with = |name: &str, service: &Arc<ServiceFragment>| {
        fragment("a", name, 1, vec![router(name, "r", Arc::new((**service).clone()))])
    };
    let services = |table: &Table| {
        parsed(table.output(&default_output()).expect("it is there")).http.map(|http| http.services)
    };
    table.set(with("one", &older));
    table.set(with("two", &older));
    let wanted = services(&table);
    table.set(with("one", &newer));
    table.remove(&IngressKey::new("a", "one"));
    let change = table.set(with("two", &older));
    assert_eq!(change, Change { outputs: vec![default_output()], ..Change::default() });
    assert_eq!(services(&table), wanted);
    assert_eq!(table.set(with("two", &older)), Change::default());
}

/// However many Ingresses lead to a Service, its endpoints are held once.
#[test]
fn ingresses_share_what_they_lead_to() {
    let mut table = Table::new();
    let held = |table: &Table, name: &str| {
        Arc::clone(&table.fragment(&IngressKey::new("a", name)).expect("it is there").routers[0].service)
    };
    let set = |table: &mut Table, name: &str, url: &str| {
        let mut shared = Arc::unwrap_or_clone(service_of(1, "a", "s", "80", 0));
        shared.service = service(url);
        table.set(fragment("a", name, 1, vec![router(name, "r", shared.into())]));
    };
    for url in ["http://one", "http://two"] {
        for name in ["x", "y", "z"] {
            set(&mut table, name, url);
        }
        assert!(["y", "z"].iter().all(|name| Arc::ptr_eq(&held(&table, "x"), &held(&table, name))), "{url}");
    }
}

/// The Ingress that is reconciled last has read the Secret last.
#[test]
fn the_last_content_of_a_secret_wins() {
    let with = |name: &str, content: &str| {
        let mut certificate = certificate("a", "tls");
        certificate.certificate = Arc::new(Certificate {
            cert_file: format!("-----BEGIN {content}").into(),
            ..(*certificate.certificate).clone()
        });
        Fragment { certificates: vec![certificate], ..fragment("a", name, 1, Vec::new()) }
    };
    let mut table = Table::new();
    table.set(with("one", "v1"));
    table.set(with("two", "v1"));
    table.set(with("one", "v2"));
    table.remove(&IngressKey::new("a", "one"));
    // It is the same as before, and what it shares is not.
    let change = table.set(with("two", "v1"));
    assert_eq!(change, Change { outputs: vec![default_output()], ..Change::default() });
    let mut anew = Table::new();
    anew.set(with("two", "v1"));
    let text = |table: &Table| table.output(&default_output()).map(|output| output.assembled(Keys::Shown));
    assert_eq!(text(&table), text(&anew));
}
