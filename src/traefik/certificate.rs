//! Parses certificates, and finds the one that Traefik uses for a host.

use std::net::IpAddr;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::dynamic::Certificate;

/// The content of the first certificate of a PEM text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The names that it covers, in lower case and sorted, as Traefik's `parseCertificate` has them (pkg/tls). Of
    /// certificates with the same names Traefik keeps the first.
    pub names: Vec<String>,
    pub issuer: String,
    /// Unix seconds.
    pub not_before: i64,
    /// Unix seconds.
    pub not_after: i64,
}

impl CertificateFacts {
    /// Reads the first certificate.
    ///
    /// # Errors
    /// One line with the fault.
    pub fn parse(pem: &str) -> Result<Self, String> {
        let first = Pem::iter_from_buffer(pem.as_bytes()).next();
        let first = first.ok_or("it holds no PEM block")?.map_err(|error| error.to_string())?;
        let certificate = first.parse_x509().map_err(|error| error.to_string())?;
        let common = certificate.subject().iter_common_name().last().and_then(|name| name.as_str().ok());
        let common = common.unwrap_or_default();
        let mut names: Vec<String> = Vec::new();
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
                _ => {}
            }
        }
        names.retain(|name| name != common);
        names.extend(Some(common.to_owned()).filter(|common| !common.is_empty()));
        let mut names: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
        names.sort_unstable();
        Ok(Self {
            names,
            issuer: certificate.issuer().to_string(),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }

    /// Whether Traefik uses it for a host: the host itself, or with its first label replaced by `*`.
    pub fn covers(&self, host: &str) -> bool {
        let wildcard = wildcard(host).unwrap_or_else(|| "*".to_owned());
        self.names.iter().any(|name| name == host || name.trim_end_matches('.') == wildcard)
    }
}

/// A host with `*` instead of its first label; `None` if it has only one label.
pub fn wildcard(host: &str) -> Option<String> {
    Some(format!("*{}", &host[host.find('.')?..]))
}

fn address(bytes: &[u8]) -> Option<String> {
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    Some(address.to_canonical().to_string())
}

/// Whether Traefik can load a certificate: it can be read, and the key is its own. A kind of key that is not known here
/// counts as its own.
pub fn is_loadable(certificate: &Certificate) -> bool {
    let Some(Ok(first)) = Pem::iter_from_buffer(certificate.cert_file.as_bytes()).next() else {
        return false;
    };
    let Ok(own) = first.parse_x509() else { return false };
    let key = PrivateKeyDer::from_pem_slice(certificate.key_file.as_bytes());
    key.is_ok_and(|key| is_key_of(&key, &own) != Some(false))
}

/// Whether a key is that of a certificate; `None` for kinds of keys that are not known here.
pub fn is_key_of(key: &PrivateKeyDer<'_>, certificate: &X509Certificate<'_>) -> Option<bool> {
    let signing = any_supported_type(key).ok()?;
    let public = signing.public_key()?;
    let (_, public) = SubjectPublicKeyInfo::from_der(public.as_ref()).ok()?;
    Some(public.subject_public_key == certificate.public_key().subject_public_key)
}

/// The position of the certificate that Traefik uses for a host: of those that cover it, the one whose names, joined by
/// commas, come last in byte order; of two with the same names, the first.
pub fn best<'a>(host: &str, certificates: impl IntoIterator<Item = &'a CertificateFacts>) -> Option<usize> {
    let covering = certificates.into_iter().enumerate().filter(|(_, facts)| facts.covers(host));
    let best = covering.max_by_key(|(at, facts)| (facts.names.join(","), std::cmp::Reverse(*at)));
    best.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(names: &[&str]) -> CertificateFacts {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        CertificateFacts { names, issuer: String::new(), not_before: 0, not_after: 0 }
    }

    #[test]
    fn the_certificate_of_a_host() {
        let all = [facts(&["*.b.c"]), facts(&["a.b.c"]), facts(&["a.b.c"]), facts(&["b.c"])];
        assert_eq!(best("a.b.c", &all), Some(1));
        assert_eq!(best("x.b.c", &all), Some(0));
        assert_eq!(best("x.y.b.c", &all), None);
        assert_eq!(best("b.c", &all), Some(3));
        assert!(CertificateFacts::parse("text").is_err());
    }
}
