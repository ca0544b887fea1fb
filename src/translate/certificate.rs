//! The Secrets of an Ingress's `spec.tls` to certificates (Traefik's `getCertificates`).

use std::sync::Arc;

use crate::kubernetes::IngressTLS;
use crate::kubernetes::key::SecretKey;
use crate::translate::fragment::CertificateFragment;
use crate::translate::lookup::{Lookup, SecretFault, SecretState};
use crate::translate::problem::{Category, Problem, Subject};
use crate::translate::size;

/// The certificates of an Ingress in the order of its spec, each Secret once. What can't be used is a problem and
/// costs no other.
pub fn certificates<L: Lookup + ?Sized>(
    namespace: &Arc<str>,
    entries: &[IngressTLS],
    lookup: &L,
    subject: &dyn Fn() -> Subject,
    problems: &mut Vec<Problem>,
) -> Vec<CertificateFragment> {
    let mut certificates: Vec<CertificateFragment> = Vec::new();
    for (position, entry) in entries.iter().enumerate() {
        let Some(name) = entry.secret_name.as_deref().filter(|name| !name.is_empty()) else {
            continue;
        };
        if entries[..position].iter().any(|earlier| earlier.secret_name.as_deref() == Some(name)) {
            continue;
        }
        let secret = SecretKey::new(Arc::clone(namespace), name);
        let state = lookup.secret(&secret);
        let too_large = match &state {
            SecretState::Certificate(known) | SecretState::Unavailable(Some(known)) => {
                size::certificate(known)
            }
            _ => None,
        };
        let fault = match (state, too_large) {
            (_, Some(bytes)) => {
                let remedy = format!(
                    "certificate and key of Secret {secret} are {}; leave out of tls.crt what is not of its chain",
                    size::said(bytes)
                );
                (Category::EntryTooLarge, remedy)
            }
            (SecretState::Certificate(certificate), None) => {
                certificates.push(CertificateFragment { secret, certificate });
                continue;
            }
            (SecretState::Missing, _) => {
                let remedy = format!("there is no Secret {secret}; create it, or name one that is there");
                (Category::SecretNotFound, remedy)
            }
            (SecretState::Invalid { key, fault }, _) => {
                (Category::InvalidSecret, invalid(&secret, key, fault))
            }
            (SecretState::Unavailable(known), _) => {
                let kept =
                    if known.is_some() { "its last content stays in use" } else { "it will be tried again" };
                if let Some(certificate) = known {
                    certificates.push(CertificateFragment { secret: secret.clone(), certificate });
                }
                let remedy = format!("Secret {secret} could not be read for now; {kept}");
                (Category::SecretUnavailable, remedy)
            }
        };
        problems.push(Problem {
            category: fault.0,
            subject: subject(),
            field: format!("spec.tls[{position}].secretName"),
            value: Problem::shown(name),
            remedy: fault.1,
        });
    }
    certificates
}

fn invalid(secret: &SecretKey, key: &str, fault: SecretFault) -> String {
    let what = match fault {
        SecretFault::Missing => "is missing",
        SecretFault::Empty => "is empty",
        SecretFault::NoBlock if key == "tls.crt" => "holds no certificate",
        SecretFault::NoBlock => "holds no private key",
    };
    format!(
        "{key} of Secret {secret} {what}; it has to hold tls.crt with a PEM block CERTIFICATE and tls.key with a PEM block PRIVATE KEY"
    )
}
