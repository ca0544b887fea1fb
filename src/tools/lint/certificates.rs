//! Checks the certificates of TLS Secrets: validity, chain, key, and hosts that no certificate covers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::error::X509Error;
use x509_parser::pem::Pem;
use x509_parser::prelude::X509Certificate;

use super::regions::{HostRegion, LintedRoute};
use super::{LintFinding, LintInput, LintSettings, Severity};
use crate::kubernetes::key::{IngressKey, SecretKey};
use crate::routing::Routing;
use crate::table::Output;
use crate::traefik::certificate::{CertificateFacts, common_name, is_key_of, wildcard};
use crate::traefik::dynamic::Certificate;
use crate::translate::fragment::Fragment;

const DAY: i64 = 24 * 60 * 60;

/// Code, field and text of a fault of a certificate.
type Fault = (&'static str, &'static str, String);

/// Checks the certificates that Ingresses use.
pub fn findings(routing: &Routing, settings: LintSettings<'_>) -> Vec<LintFinding> {
    let all = routing.table().fragments().flat_map(|fragment| &fragment.certificates);
    let secrets: BTreeMap<&SecretKey, &Arc<Certificate>> =
        all.map(|one| (&one.secret, &one.certificate)).collect();
    // Copies of a Secret in many namespaces are parsed once.
    let mut known: HashMap<(&str, &str), Vec<Fault>> = HashMap::new();
    let mut found = Vec::new();
    for (secret, certificate) in secrets {
        let content = (&*certificate.cert_file, &*certificate.key_file);
        let faults = known.entry(content).or_insert_with(|| faults(content.0, content.1, settings));
        found.extend(faults.iter().map(|(code, field, text)| {
            let (object, field) = (format!("Secret {secret}"), (*field).to_owned());
            LintFinding::new(code, object, field, text.clone())
        }));
    }
    found
}

/// Certificates that Traefik does not serve, since another Secret has one for the same names.
pub fn shadowed(output: &Output) -> impl Iterator<Item = LintFinding> {
    output.shadowed_secrets().map(|(secret, served)| {
        let text =
            format!("Secret {served} has another certificate for the same names, and that one is served");
        LintFinding::new("CertificateShadowed", format!("Secret {secret}"), "data[tls.crt]", text)
    })
}

/// The same for Secrets that no Ingress uses but something else may use: as notes.
pub fn unused(input: &LintInput, settings: LintSettings<'_>) -> Vec<LintFinding> {
    let of = |(secret, certificate): &(SecretKey, Certificate)| {
        let faults = faults(&certificate.cert_file, &certificate.key_file, settings);
        let object = format!("Secret {secret}");
        faults.into_iter().map(move |(code, field, text)| LintFinding {
            severity: Severity::Note,
            ..LintFinding::new(
                code,
                object.clone(),
                field.to_owned(),
                format!("{text}; no Ingress of the input uses it"),
            )
        })
    };
    input.unused.iter().flat_map(of).collect()
}

fn faults(chain: &str, key: &str, settings: LintSettings<'_>) -> Vec<Fault> {
    const CHAIN: &str = "data[tls.crt]";
    const KEY: &str = "data[tls.key]";
    let blocks: Result<Vec<Pem>, _> = Pem::iter_from_buffer(chain.as_bytes()).collect();
    let blocks = match blocks {
        Ok(blocks) => blocks,
        Err(error) => {
            return vec![("CertificateUnreadable", CHAIN, format!("tls.crt can't be read: {error}"))];
        }
    };
    let mut certificates: Vec<X509Certificate<'_>> = Vec::new();
    for (at, block) in blocks.iter().enumerate() {
        match block.parse_x509() {
            Ok(certificate) => certificates.push(certificate),
            Err(error) => {
                let text = format!("certificate {} of tls.crt can't be read: {error}", at + 1);
                return vec![("CertificateUnreadable", CHAIN, text)];
            }
        }
    }
    let mut found = Vec::new();
    for (at, certificate) in certificates.iter().enumerate() {
        found.extend(out_of_time(at, certificate, settings).map(|(code, text)| (code, CHAIN, text)));
    }
    let broken = certificates.windows(2).enumerate().find_map(|(at, pair)| not_signed(at, pair));
    found.extend(broken.map(|text| ("CertificateChainBroken", CHAIN, text)));
    let Some(own) = certificates.first() else { return found };
    if let Err(why) = common_name(own) {
        found.push(("CertificateUnreadable", CHAIN, format!("Traefik can't load the certificate: {why}")));
    }
    match PrivateKeyDer::from_pem_slice(key.as_bytes()) {
        Err(_) => {
            let text =
                "tls.key has no key that Traefik can read (a key with a password cannot be read)".to_owned();
            found.push(("CertificateUnreadable", KEY, text));
        }
        Ok(key) if is_key_of(&key, own) == Some(false) => {
            let text = format!("tls.key is not the key of the certificate for {}", own.subject());
            found.push(("CertificateKeyMismatch", KEY, text));
        }
        Ok(_) => {}
    }
    found
}

/// Checks the validity period of a certificate.
fn out_of_time(
    at: usize,
    certificate: &X509Certificate<'_>,
    settings: LintSettings<'_>,
) -> Option<(&'static str, String)> {
    let validity = certificate.validity();
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let shown =
        |time: i64| jiff::Timestamp::from_second(time).map_or_else(|_| time.to_string(), |at| at.to_string());
    let name = match at {
        0 => "the certificate".to_owned(),
        at => format!("certificate {} of the chain", at + 1),
    };
    let left = until.saturating_sub(settings.now);
    if from > settings.now {
        Some(("CertificateExpired", format!("{name} is not valid before {}", shown(from))))
    } else if left < 0 {
        Some(("CertificateExpired", format!("{name} expired on {}", shown(until))))
    } else if left < settings.expires_within.saturating_mul(DAY) {
        Some(("CertificateExpiring", format!("{name} expires on {}", shown(until))))
    } else {
        None
    }
}

/// Why the first of two certificates is not signed by the second, if it is not. For unknown kinds of signatures, only
/// the names are compared.
fn not_signed(at: usize, pair: &[X509Certificate<'_>]) -> Option<String> {
    let [one, issuer] = pair else { return None };
    let (number, next) = (at + 1, at + 2);
    if one.issuer().as_raw() != issuer.subject().as_raw() {
        let (by, is) = (one.issuer(), issuer.subject());
        return Some(format!(
            "certificate {number} names {by} as its issuer, but certificate {next} is {is}"
        ));
    }
    match one.verify_signature(Some(issuer.public_key())) {
        Err(X509Error::SignatureVerificationError) => Some(format!(
            "certificate {number} is not signed by the key of certificate {next}, although it names {} as its issuer",
            issuer.subject()
        )),
        _ => None,
    }
}

/// The names that the certificates of an output cover.
#[derive(Debug)]
pub struct ServedNames<'a> {
    /// By the text of the certificate; `None` if it can't be parsed.
    facts: HashMap<&'a str, Option<CertificateFacts>>,
    names: HashSet<String>,
}

impl<'a> ServedNames<'a> {
    /// Reads the certificates of all Ingresses with a route.
    pub fn new(routes: &[LintedRoute<'a>]) -> Self {
        let mut fragments: HashMap<&IngressKey, &Fragment> = HashMap::new();
        for route in routes {
            fragments.insert(&route.fragment.ingress, route.fragment);
        }
        let (mut facts, mut names) = (HashMap::new(), HashSet::new());
        for one in fragments.values().flat_map(|fragment| &fragment.certificates) {
            let pem = &*one.certificate.cert_file;
            facts.entry(pem).or_insert_with(|| {
                let known = CertificateFacts::parse(pem).ok();
                for name in known.iter().flat_map(|facts| &facts.names) {
                    names.insert(name.trim_end_matches('.').to_owned());
                    names.insert(name.clone());
                }
                known
            });
        }
        Self { facts, names }
    }

    /// Whether Traefik has a certificate for a host, which may begin with `*.`.
    pub fn cover(&self, host: &str) -> bool {
        self.names.contains(host) || wildcard(host).is_some_and(|name| self.names.contains(&name))
    }

    /// Whether an Ingress names Secrets, and all of them exist and can be read.
    pub fn are_all_of(&self, fragment: &Fragment, routing: &Routing) -> bool {
        let certificates = &fragment.certificates;
        let spec = routing.stores().ingresses().get(&fragment.ingress).and_then(|one| one.spec.as_ref());
        let entries = spec.iter().flat_map(|spec| spec.tls.iter().flatten());
        let wanted: HashSet<&str> = entries.filter_map(|entry| entry.secret_name.as_deref()).collect();
        let is_readable = |pem: &str| self.facts.get(pem).is_some_and(Option::is_some);
        !certificates.is_empty()
            && wanted.len() <= certificates.len()
            && certificates.iter().all(|one| is_readable(&one.certificate.cert_file))
    }
}

/// The finding that no certificate covers a host of an Ingress.
pub fn missing(host: &str, fragment: &Fragment) -> String {
    let shown: Vec<String> = fragment.certificates.iter().take(3).map(|one| one.secret.to_string()).collect();
    let shown = shown.join(", ");
    format!("no certificate covers {host}, neither in Secret {shown} nor in any other Secret in use")
}

/// Positions of the routes whose host no certificate of the output covers, although all Secrets of the Ingress exist,
/// with that host; each host of an Ingress once.
pub fn uncovered(
    routing: &Routing,
    routes: &[LintedRoute<'_>],
    served: &ServedNames<'_>,
) -> Vec<(usize, String)> {
    let mut told: HashSet<(&IngressKey, &HostRegion)> = HashSet::new();
    let mut found = Vec::new();
    for (at, route) in routes.iter().enumerate() {
        let Some(host) = route.region.as_ref().map(|region| &region.host) else { continue };
        let Some(name) = host.name() else { continue };
        let resolved = route.ranked.router.tls.as_ref().is_some_and(|tls| !tls.cert_resolver.is_empty());
        if !route.fragment.certificates.is_empty()
            && !resolved
            && !served.cover(&name)
            && told.insert((&route.fragment.ingress, host))
            && served.are_all_of(route.fragment, routing)
        {
            found.push((at, name));
        }
    }
    found
}
