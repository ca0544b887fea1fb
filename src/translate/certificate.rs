//! Turns the Secrets of an Ingress's `spec.tls` into certificates (Traefik's `getCertificates`).

use std::collections::HashSet;
use std::sync::Arc;

use crate::kubernetes::IngressTLS;
use crate::kubernetes::key::SecretKey;
use crate::translate::fragment::CertificateFragment;
use crate::translate::problem::{Category, Problem, Problems, Subject};
use crate::translate::size;
use crate::watch::{SecretCertificate, SecretFault, SecretState, Stores};

/// The certificates of an Ingress in the order of its spec, without duplicates. An unusable one is a problem and does
/// not affect the others.
pub fn certificates(
    namespace: &Arc<str>,
    entries: &[IngressTLS],
    stores: &Stores,
    subject: &dyn Fn() -> Subject,
    problems: &mut Problems,
) -> Vec<CertificateFragment> {
    let mut certificates: Vec<CertificateFragment> = Vec::new();
    let mut seen = HashSet::new();
    for (position, entry) in entries.iter().enumerate() {
        let Some(name) = entry.secret_name.as_deref().filter(|name| !name.is_empty()) else {
            continue;
        };
        if entries.len() > 1 && !seen.insert(name) {
            continue;
        }
        let secret = SecretKey::new(Arc::clone(namespace), name);
        let state = stores.secrets().state(&secret);
        let known = match &state {
            SecretState::Certificate(known) | SecretState::Unavailable(Some(known)) => Some(known),
            _ => None,
        };
        let too_large = known.and_then(|known| size::certificate(&known.certificate));
        if let Some(SecretCertificate { certificate, created }) = known.filter(|_| too_large.is_none()) {
            let (secret, certificate) = (secret.clone(), Arc::clone(certificate));
            certificates.push(CertificateFragment { secret, created: *created, certificate });
        }
        if too_large.is_none() && matches!(state, SecretState::Certificate(_)) {
            continue;
        }
        problems.add(|| {
            let (category, remedy) = match (&state, too_large) {
                (_, Some(bytes)) => (
                    Category::EntryTooLarge,
                    format!(
                        "certificate and key of Secret {secret} are {}; remove from tls.crt what does not belong to \
                         the chain",
                        size::said(bytes)
                    ),
                ),
                (SecretState::Invalid { key, fault }, _) => {
                    (Category::InvalidSecret, invalid(&secret, key, *fault))
                }
                (SecretState::Unavailable(Some(_)), _) => (
                    Category::SecretUnavailable,
                    format!("Secret {secret} can't be read for now; its last content stays in use"),
                ),
                (SecretState::Unavailable(None), _) => (
                    Category::SecretUnavailable,
                    format!("Secret {secret} can't be read for now; it will be tried again"),
                ),
                (SecretState::Missing | SecretState::Certificate(_), _) => (
                    Category::SecretNotFound,
                    format!("there is no Secret {secret}; create it, or name one that exists"),
                ),
            };
            Problem {
                category,
                subject: subject(),
                field: format!("spec.tls[{position}].secretName"),
                value: Problem::shown(name),
                remedy,
            }
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
        "{key} of Secret {secret} {what}; the Secret must have tls.crt with a PEM block CERTIFICATE and \
         tls.key with a PEM block PRIVATE KEY"
    )
}
