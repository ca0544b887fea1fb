//! Parses certificates, and finds the one that Traefik uses for a host.

use std::net::IpAddr;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::asn1_rs::Tag;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_X509_COMMON_NAME;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, SubjectPublicKeyInfo};

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
        let common = common_name(&certificate)?;
        let mut names: Vec<String> = Vec::new();
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
                _ => {}
            }
        }
        names.retain(|name| *name != common);
        names.extend(Some(common).filter(|common| !common.is_empty()));
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

/// The common name of a certificate's subject, or an empty text.
///
/// # Errors
/// One line, if Go can't read a text of the subject or of the issuer. Then Traefik can't load the certificate.
pub fn common_name(certificate: &X509Certificate<'_>) -> Result<String, String> {
    let read = |attribute: &AttributeTypeAndValue<'_>| {
        let header = &attribute.attr_value().header;
        let tag = Some(header.tag()).filter(|_| header.is_universal() && header.is_primitive());
        let text = tag.and_then(|tag| text(tag, attribute.as_slice()));
        text.ok_or("a text of its subject or its issuer is not encoded as its type demands")
    };
    for attribute in certificate.issuer().iter_attributes() {
        read(attribute)?;
    }
    let mut common = String::new();
    for attribute in certificate.subject().iter_attributes() {
        let text = read(attribute)?;
        if *attribute.attr_type() == OID_X509_COMMON_NAME {
            common = text;
        }
    }
    Ok(common)
}

/// A text of a certificate, as Go's `parseASN1String` (crypto/x509) reads it.
fn text(tag: Tag, bytes: &[u8]) -> Option<String> {
    let of = |allowed: fn(u8) -> bool| {
        let valid = bytes.iter().all(|byte| allowed(*byte));
        valid.then(|| bytes.iter().copied().map(char::from).collect())
    };
    match tag {
        // Go takes T.61 for Latin-1.
        Tag::TeletexString => of(|_| true),
        Tag::BmpString => basic_plane(bytes),
        Tag::Utf8String => str::from_utf8(bytes).ok().map(str::to_owned),
        Tag::PrintableString => of(|byte| byte.is_ascii_alphanumeric() || b" '()+,-./:=?*&".contains(&byte)),
        Tag::Ia5String => of(|byte| byte.is_ascii()),
        Tag::NumericString => of(|byte| byte.is_ascii_digit() || byte == b' '),
        _ => None,
    }
}

/// A text of two bytes for each character, perhaps with a zero at its end.
fn basic_plane(bytes: &[u8]) -> Option<String> {
    let (units, []) = bytes.as_chunks::<2>() else { return None };
    let units = units.strip_suffix(&[[0, 0]]).unwrap_or(units);
    let character = |unit: &[u8; 2]| match u16::from_be_bytes(*unit) {
        0xfdd0..=0xfdef | 0xfffe..=0xffff => None,
        unit => char::from_u32(unit.into()),
    };
    units.iter().map(character).collect()
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
    use rcgen::string::{BmpString, UniversalString};
    use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, Issuer, KeyPair};

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

    /// The names of a certificate without alternative names whose common name is `common`; `None` if it can't be read.
    fn common(common: DnValue) -> Option<Vec<String>> {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common);
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        CertificateFacts::parse(&certificate.pem()).ok().map(|facts| facts.names)
    }

    /// The names of a certificate without any whose issuer has a common name.
    fn common_of_issuer(name: &str) -> Option<Vec<String>> {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        let mut issuer = params.clone();
        issuer.distinguished_name.push(DnType::CommonName, name);
        let issuer = Issuer::new(issuer, KeyPair::generate().unwrap());
        let certificate = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        CertificateFacts::parse(&certificate.pem()).ok().map(|facts| facts.names)
    }

    #[test]
    fn common_names_are_read_as_go_reads_them() {
        let bmp = |units: &[u16]| {
            let bytes = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
            common(DnValue::BmpString(BmpString::from_utf16be(bytes).unwrap()))
        };
        let one = |name: &str| Some(vec![name.to_owned()]);
        assert_eq!(common(DnValue::Utf8String("Shop.example".to_owned())), one("shop.example"));
        assert_eq!(common(DnValue::TeletexString("Shop.example".try_into().unwrap())), one("shop.example"));
        assert_eq!(common(DnValue::BmpString("Sh\u{d6}p.x".try_into().unwrap())), one("sh\u{f6}p.x"));
        assert_eq!(common(DnValue::Ia5String("shop_1.example".try_into().unwrap())), one("shop_1.example"));
        assert_eq!(bmp(&[0x61, 0x2e, 0x78, 0]), one("a.x"));
        assert_eq!(bmp(&[0x61, 0xfffe]), None);
        assert_eq!(common_of_issuer("issuer.example"), Some(Vec::new()));
        let wide = UniversalString::try_from("shop.example").unwrap();
        assert_eq!(common(DnValue::UniversalString(wide)), None);
    }

    #[test]
    fn texts_are_read_as_go_reads_them() {
        let read = |tag: Tag, bytes: &[u8]| text(tag, bytes);
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(read(Tag::T61String, b"sh\xd6p"), is("sh\u{d6}p"));
        assert_eq!(read(Tag::PrintableString, b"*.a-b.x & '(1)'"), is("*.a-b.x & '(1)'"));
        assert_eq!(read(Tag::PrintableString, b"a_b"), None);
        assert_eq!(read(Tag::NumericString, b"12 3"), is("12 3"));
        assert_eq!(read(Tag::NumericString, b"12a"), None);
        assert_eq!(read(Tag::Ia5String, b"\x80"), None);
        assert_eq!(read(Tag::Utf8String, b"\xff"), None);
        assert_eq!(read(Tag::BmpString, b"\0a\0"), None);
        assert_eq!(read(Tag::BmpString, b"\xd8\x00"), None);
        assert_eq!(read(Tag::BmpString, b"\0a\0\0"), is("a"));
        assert_eq!(read(Tag::BmpString, b"\0\0\0a"), is("\0a"));
    }
}
