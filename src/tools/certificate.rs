//! Parses certificates, and finds the one that Traefik uses for a host.

use std::net::IpAddr;

use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

/// The content of the first certificate of a PEM text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The names that it covers, in lower case and sorted.
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
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        let mut names: Vec<String> = common.map(str::to_ascii_lowercase).collect();
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
                _ => {}
            }
        }
        names.retain(|name| !name.is_empty());
        names.sort_unstable();
        names.dedup();
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
    Some(address.to_string())
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
