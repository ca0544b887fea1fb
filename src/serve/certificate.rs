//! The certificate for metrics over TLS: from files, which are checked again for every connection, or self-signed at
//! startup.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

/// A certificate with its chain, and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Errors of certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("{} can't be read: {source}; name a PEM file", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is not a PEM file with {wanted}: {source}", path.display())]
    Pem { path: PathBuf, wanted: &'static str, source: pem::Error },
    #[error("{} holds no certificate; write PEM, the server's own first and then its chain", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} and {} can't be used together: {source}", files.certificate.display(), files.key.display())]
    Unusable { files: CertificateFiles, source: rustls::Error },
    #[error("no certificate can be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// The current certificate for connections.
pub struct ServingCertificate {
    files: Option<CertificateFiles>,
    /// The files are read by one task at a time, so that an older result can't replace a newer one.
    looking: tokio::sync::Mutex<()>,
    held: Mutex<HeldConfig>,
}

struct HeldConfig {
    /// Of the files that were read last, good or not.
    seen: [u8; 32],
    config: Arc<ServerConfig>,
}

impl ServingCertificate {
    /// The certificate in the files, or without files a new self-signed one.
    pub async fn new(files: Option<CertificateFiles>) -> Result<Self, CertificateError> {
        let held = match &files {
            Some(files) => {
                let texts = CertificateTexts::read(files).await?;
                HeldConfig { seen: texts.sum(), config: texts.config(files)? }
            }
            None => HeldConfig { seen: [0; 32], config: self_signed()? },
        };
        Ok(Self { files, looking: tokio::sync::Mutex::default(), held: Mutex::new(held) })
    }

    /// The certificate for the next connection. Unusable files change nothing; the log says so once.
    pub async fn acceptor(&self) -> TlsAcceptor {
        if let Some(files) = &self.files
            && let Err(error) = self.look_at(files).await
        {
            tracing::warn!(%error, "metrics are still served with the previous certificate");
        }
        TlsAcceptor::from(Arc::clone(&self.held.lock().config))
    }

    async fn look_at(&self, files: &CertificateFiles) -> Result<(), CertificateError> {
        let _one = self.looking.lock().await;
        let texts = CertificateTexts::read(files).await;
        let sum = texts.as_ref().map_or([0; 32], CertificateTexts::sum);
        let mut held = self.held.lock();
        if std::mem::replace(&mut held.seen, sum) != sum {
            held.config = texts?.config(files)?;
            tracing::info!(certificate = %files.certificate.display(), "serving metrics with a new certificate");
        }
        Ok(())
    }
}

/// The content of the two files.
struct CertificateTexts {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl CertificateTexts {
    async fn read(files: &CertificateFiles) -> Result<Self, CertificateError> {
        let mut certificate = read(&files.certificate).await?;
        // A mounted Secret changes its files together, possibly between the two reads.
        for _ in 0..3 {
            let key = read(&files.key).await?;
            let again = read(&files.certificate).await?;
            if again == certificate {
                return Ok(Self { certificate, key });
            }
            certificate = again;
        }
        Ok(Self { certificate, key: read(&files.key).await? })
    }

    fn sum(&self) -> [u8; 32] {
        Sha256::new().chain_update(&self.certificate).chain_update(&self.key).finalize().into()
    }

    fn config(&self, files: &CertificateFiles) -> Result<Arc<ServerConfig>, CertificateError> {
        let bad = |path: &Path, wanted| {
            let path = path.to_owned();
            move |source| CertificateError::Pem { path, wanted, source }
        };
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .map_err(bad(&files.certificate, "certificates"))?;
        if chain.is_empty() {
            return Err(CertificateError::NoCertificate { path: files.certificate.clone() });
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(bad(&files.key, "a private key"))?;
        config(chain, key).map_err(|source| CertificateError::Unusable { files: files.clone(), source })
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let read = tokio::fs::read(path).await;
    read.map_err(|source| CertificateError::Read { path: path.to_owned(), source })
}

fn self_signed() -> Result<Arc<ServerConfig>, CertificateError> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let key = key.map_err(|reason| rustls::Error::General(reason.to_owned()))?;
    Ok(config(vec![made.cert.der().clone()], key)?)
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &CertificateFiles) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(["waybill".to_owned()]).unwrap();
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().clone()
    }

    async fn seen(certificate: &ServingCertificate) -> [u8; 32] {
        let _ = certificate.acceptor().await;
        certificate.held.lock().seen
    }

    #[tokio::test]
    async fn new_files_are_used_and_broken_ones_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let files = CertificateFiles { certificate: file("tls.crt"), key: file("tls.key") };
        let missing = ServingCertificate::new(Some(files.clone())).await.err().unwrap().to_string();
        assert!(missing.contains("tls.crt can't be read"), "{missing}");
        write(&files);
        let certificate = ServingCertificate::new(Some(files.clone())).await.unwrap();
        let config = |certificate: &ServingCertificate| Arc::clone(&certificate.held.lock().config);
        let first = config(&certificate);
        let _ = certificate.acceptor().await;
        assert!(Arc::ptr_eq(&first, &config(&certificate)), "unchanged files are not parsed again");

        let key = std::fs::read(&files.key).unwrap();
        write(&files);
        std::fs::write(&files.key, &key).unwrap();
        let before = seen(&certificate).await;
        assert!(Arc::ptr_eq(&first, &config(&certificate)), "the key is that of another certificate");
        assert_eq!(before, seen(&certificate).await);
        std::fs::remove_file(&files.key).unwrap();
        let _ = certificate.acceptor().await;
        assert!(Arc::ptr_eq(&first, &config(&certificate)), "there is no key");

        write(&files);
        let _ = certificate.acceptor().await;
        assert!(!Arc::ptr_eq(&first, &config(&certificate)));
    }

    #[tokio::test]
    async fn what_is_no_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let files = CertificateFiles { certificate: file("tls.crt"), key: file("tls.key") };
        write(&files);
        for (name, text, word) in [
            ("tls.crt", "", "tls.crt holds no certificate"),
            ("tls.key", "nothing", "tls.key is not a PEM file with a private key"),
        ] {
            write(&files);
            std::fs::write(file(name), text).unwrap();
            let error = ServingCertificate::new(Some(files.clone())).await.err().unwrap().to_string();
            assert!(error.contains(word), "{error}");
        }
        ServingCertificate::new(None).await.unwrap();
    }
}
