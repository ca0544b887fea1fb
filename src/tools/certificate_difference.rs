//! Certificates that Traefik's own provider reads from TLS Secrets and waybill does not, or the other way round. Traefik's
//! API does not show certificates, so this follows from the Secrets and from what `getCertificates` of Traefik's
//! pkg/provider/kubernetes/ingress does.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use crate::kubernetes::Secret;
use crate::kubernetes::key::{OutputKey, SecretKey};
use crate::routing::Routing;
use crate::traefik::dynamic::Certificate;
use crate::translate::size;

/// Secrets that Traefik's provider and waybill read differently.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct CertificateDifference {
    /// `namespace/name`.
    pub secrets: Vec<String>,
    pub text: String,
    /// The subject in docs/migration.md.
    pub deliberate: &'static str,
}

/// The content of `tls.crt` and `tls.key` of Secrets, unchecked as in Traefik. `None` if one of them is missing or
/// empty.
#[derive(Debug, Default)]
pub struct TlsData(HashMap<SecretKey, Option<Certificate>>);

impl TlsData {
    /// Reads Secrets.
    pub fn new(secrets: &[Secret]) -> Self {
        let of = |secret: &Secret| {
            let text = |key: &str| {
                let bytes = &secret.data.as_ref()?.get(key)?.0;
                Some(String::from_utf8_lossy(bytes).into_owned()).filter(|text| !text.is_empty())
            };
            let certificate = text("tls.crt").zip(text("tls.key"));
            certificate.map(|(chain, key)| Certificate { cert_file: chain.into(), key_file: key.into() })
        };
        let key = |secret: &Secret| {
            let metadata = &secret.metadata;
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            SecretKey::new(text(&metadata.namespace), text(&metadata.name))
        };
        Self(secrets.iter().map(|secret| (key(secret), of(secret))).collect())
    }

    /// The differences in one output, or in all outputs if none is named.
    pub fn differences(&self, routing: &Routing, output: Option<&OutputKey>) -> Vec<CertificateDifference> {
        let mut ours: BTreeMap<&SecretKey, &Certificate> = BTreeMap::new();
        let mut theirs: BTreeSet<SecretKey> = BTreeSet::new();
        let fragments = routing.table().fragments();
        for fragment in fragments.filter(|one| output.is_none_or(|output| one.output() == output)) {
            ours.extend(fragment.certificates.iter().map(|one| (&one.secret, &*one.certificate)));
            let ingress = routing.stores().ingresses().get(&fragment.ingress);
            let spec = ingress.and_then(|ingress| ingress.spec.as_ref());
            let names = spec.iter().flat_map(|spec| spec.tls.iter().flatten());
            let names =
                names.filter_map(|entry| entry.secret_name.as_deref().filter(|name| !name.is_empty()));
            let secrets = names.map(|name| SecretKey::new(fragment.ingress.namespace(), name));
            // Traefik stops at the first Secret that it can't use.
            theirs.extend(secrets.take_while(|secret| self.0.get(secret).is_some_and(Option::is_some)));
        }
        let one = |secret: &SecretKey, text: &str, deliberate| CertificateDifference {
            secrets: vec![secret.to_string()],
            text: text.to_owned(),
            deliberate,
        };
        let mut found = Vec::new();
        for (secret, certificate) in &ours {
            match self.0.get(secret) {
                _ if !theirs.contains(*secret) => found.push(one(
                    secret,
                    "waybill serves it; Traefik's provider stops reading after a Secret that it can't use",
                    "a missing or bad Secret in `spec.tls`",
                )),
                Some(Some(raw)) if raw != *certificate => found.push(one(
                    secret,
                    "waybill publishes only the certificates and the private key",
                    "text or a private key around a certificate",
                )),
                _ => {}
            }
        }
        for secret in theirs.iter().filter(|secret| !ours.contains_key(secret)) {
            let raw = self.0.get(secret).and_then(Option::as_ref);
            found.push(match raw.and_then(size::certificate) {
                Some(_) => one(secret, "waybill leaves it out for its size", "an entry of over 256 KiB"),
                None => one(
                    secret,
                    "waybill leaves it out; Traefik's provider takes any text, even the path of a file",
                    "a TLS Secret that is not PEM",
                ),
            });
        }
        let mut joined: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for secret in theirs.iter().chain(ours.keys().copied()) {
            let name = format!("{}-{}", secret.namespace(), secret.name());
            joined.entry(name).or_default().insert(secret.to_string());
        }
        for secrets in joined.into_values().filter(|secrets| secrets.len() > 1) {
            found.push(CertificateDifference {
                secrets: secrets.into_iter().collect(),
                text: "waybill serves all of them, Traefik's provider the one that it reads first".to_owned(),
                deliberate: "Secrets whose namespace and name join to one",
            });
        }
        found.sort();
        found
    }
}
