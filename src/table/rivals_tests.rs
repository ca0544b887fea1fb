//! Several Secrets with certificates for the same names.

use std::sync::{Arc, LazyLock};

use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use super::tests::{certificate, default_output, fragment};
use super::*;
use crate::kubernetes::key::SecretKey;
use crate::traefik::document::Keys;
use crate::traefik::dynamic::Certificate;
use crate::translate::fragment::{CertificateFragment, Created};

/// A certificate for these names; each is another one.
fn made(names: &[&str]) -> Certificate {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    Certificate { cert_file: certificate.pem().into(), key_file: key.serialize_pem().into() }
}

/// A certificate without names: it has neither a common name nor alternative ones.
fn nameless() -> Certificate {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    let certificate = params.self_signed(&key).unwrap();
    Certificate { cert_file: certificate.pem().into(), key_file: key.serialize_pem().into() }
}

fn of(namespace: &str, created: i64, certificate: &Certificate) -> CertificateFragment {
    let certificate = Arc::new(certificate.clone());
    CertificateFragment { secret: SecretKey::new(namespace, "tls"), created: Created(created), certificate }
}

static SECRETS: LazyLock<Vec<CertificateFragment>> = LazyLock::new(|| {
    let (shop, other, blog) = (made(&["b.x", "a.x"]), made(&["a.x", "b.x"]), made(&["a.x"]));
    let broken = Certificate { key_file: blog.key_file.clone(), ..made(&["a.x", "b.x"]) };
    vec![
        of("old", 1, &broken),
        of("young", 3, &shop),
        of("copy", 3, &shop),
        of("other", 2, &other),
        of("blog", 2, &blog),
        certificate("text", "s"),
        CertificateFragment { secret: SecretKey::new("twin", "s"), ..certificate("text", "s") },
        of("bare", 1, &nameless()),
        of("also-bare", 2, &nameless()),
    ]
});

/// Secrets whose certificates are for the same names, or not.
pub(super) fn secrets() -> Vec<CertificateFragment> {
    SECRETS.clone()
}

fn ingress(name: &str, certificates: &[&CertificateFragment]) -> Fragment {
    let certificates = certificates.iter().map(|one| (*one).clone()).collect();
    Fragment { certificates, ..fragment("a", name, 1, Vec::new()) }
}

/// The namespaces of the Secrets whose certificates are published.
fn served(table: &Table) -> Vec<String> {
    let output = table.output(&default_output()).unwrap();
    let published = output.certificates_by_secret();
    published.into_iter().map(|(secret, _)| secret.namespace().to_owned()).collect()
}

#[test]
fn the_oldest_secret_is_served_whatever_is_in_it() {
    let first = of("z", 1, &made(&["shop.example"]));
    let mut taker = made(&["shop.example"]);
    let mut table = Table::new();
    assert_eq!(table.set(ingress("one", &[&first])).outputs.len(), 1);
    // A blank line alters the text and not the names.
    for _ in 0..8 {
        let later = of("a", 2, &taker);
        assert_eq!(table.set(ingress("two", &[&later])).outputs, []);
        assert_eq!(served(&table), ["z"]);
        taker.cert_file = taker.cert_file.replacen('\n', "\n\n", 1).into();
    }
    // Renewed.
    let renewed = of("z", 1, &made(&["shop.example"]));
    assert_eq!(table.set(ingress("one", &[&renewed])).outputs.len(), 1);
    assert_eq!(served(&table), ["z"]);
    // Made anew, so that it is the youngest.
    table.set(ingress("one", &[&of("z", 3, &renewed.certificate)]));
    assert_eq!(served(&table), ["a"]);
    table.set(ingress("one", &[&first]));
    assert_eq!(served(&table), ["z"]);
    // Nobody names it any more.
    assert_eq!(table.set(ingress("one", &[])).outputs.len(), 1);
    assert_eq!(served(&table), ["a"]);
    table.remove(&IngressKey::new("a", "two"));
    assert_eq!(served(&table), Vec::<String>::new());
}

#[test]
fn copies_are_one_certificate_and_may_be_renewed_one_after_the_other() {
    let mut table = Table::new();
    let (before, after) = (made(&["*.example"]), made(&["*.example"]));
    let set = |table: &mut Table, at: i64, certificate: &Certificate| {
        let namespace = format!("team-{at}");
        table.set(ingress(&namespace, &[&of(&namespace, at, certificate)])).outputs.len()
    };
    let changes: usize = (0..50).map(|at| set(&mut table, at, &before)).sum();
    assert_eq!((changes, served(&table)), (1, vec!["team-0".to_owned()]));
    let changes: usize = (0..50).rev().map(|at| set(&mut table, at, &after)).sum();
    assert_eq!((changes, served(&table)), (1, vec!["team-0".to_owned()]));
    let text = table.output(&default_output()).unwrap().assembled(Keys::LeftOut);
    assert_eq!(text.matches("certFile").count(), 1);
}

/// Traefik takes the next one where it can't load the first.
#[test]
fn a_certificate_with_another_s_key_takes_no_host() {
    let good = made(&["shop.example"]);
    let broken = of("old", 1, &Certificate { key_file: made(&["x"]).key_file, ..made(&["shop.example"]) });
    let mut table = Table::new();
    table.set(ingress("one", &[&broken]));
    assert_eq!(served(&table), ["old"]);
    table.set(ingress("two", &[&of("young", 2, &good)]));
    assert_eq!(served(&table), ["young"]);
    table.set(ingress("two", &[]));
    assert_eq!(served(&table), ["old"]);
}

/// Traefik uses such a certificate for no host, so it is nobody's rival.
#[test]
fn certificates_without_names_hide_none() {
    let mut table = Table::new();
    table.set(ingress("one", &[&of("old", 1, &nameless())]));
    table.set(ingress("two", &[&of("young", 2, &nameless())]));
    assert_eq!(served(&table), ["old", "young"]);
}
