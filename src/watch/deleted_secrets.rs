//! Certificates of recently deleted Secrets. Some tools renew a certificate by deleting and creating its Secret, and
//! nothing may be withdrawn in between.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::kubernetes::key::SecretKey;
use crate::traefik::dynamic::Certificate;

/// How long the certificate of a deleted Secret stays in use.
pub const STAYS: Duration = Duration::from_secs(10);

/// Certificates that outlive their Secrets, each for [`STAYS`] after the deletion and only while an Ingress names it.
#[derive(Debug, Default)]
pub struct DeletedSecrets(HashMap<SecretKey, (Arc<Certificate>, Instant)>);

impl DeletedSecrets {
    /// A Secret that was in use was deleted at `at`.
    pub fn keep(&mut self, key: SecretKey, certificate: Arc<Certificate>, at: Instant) {
        // The first deletion counts, so that a Secret that is deleted again and again is removed in time.
        self.0.entry(key).or_insert((certificate, at + STAYS));
    }

    /// The certificate, while it is kept.
    pub fn get(&self, key: &SecretKey) -> Option<&Arc<Certificate>> {
        self.0.get(key).map(|(certificate, _)| certificate)
    }

    /// Forgets it: the Secret exists again, or nobody names it any more.
    pub fn forget(&mut self, key: &SecretKey) -> Option<Arc<Certificate>> {
        self.0.remove(key).map(|(certificate, _)| certificate)
    }

    /// Forgets those whose time is over; returns their keys.
    pub fn expire(&mut self, now: Instant) -> Vec<SecretKey> {
        let over: Vec<SecretKey> =
            self.0.extract_if(|_, (_, until)| *until <= now).map(|(key, _)| key).collect();
        if self.0.is_empty() {
            self.0.shrink_to_fit();
        }
        over
    }

    /// When the next one's time is over.
    pub fn due(&self) -> Option<Instant> {
        self.0.values().map(|(_, until)| *until).min()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;
    use crate::kubernetes::Secret;
    use crate::watch::collection::Scope;
    use crate::watch::secrets::{SecretChange, SecretSource, SecretState, Secrets};

    const CRT: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";

    fn secret(version: &str, pairs: &[(&str, &str)]) -> Secret {
        let pairs = pairs.iter().map(|(key, text)| ((*key).to_owned(), ByteString((*text).into())));
        let mut secret = Secret { data: Some(pairs.collect()), ..Secret::default() };
        secret.metadata.resource_version = Some(version.into());
        secret
    }

    fn good(version: &str) -> Secret {
        secret(version, &[("tls.crt", CRT), ("tls.key", PRIVATE)])
    }

    fn key() -> SecretKey {
        SecretKey::new("web", "tls")
    }

    fn certificate() -> Arc<Certificate> {
        Arc::new(Certificate { cert_file: CRT.into(), key_file: PRIVATE.into() })
    }

    #[test]
    fn one_that_is_made_again_in_time_was_never_missing() {
        for source in [SecretSource::Tls, SecretSource::Others] {
            let mut secrets = Secrets::default();
            secrets.put(SecretSource::Tls, key(), &good("1"), true);
            let deleted = Instant::now();
            assert_eq!(secrets.remove(SecretSource::Tls, &key()), SecretChange::default());
            assert_eq!(secrets.state(&key()), SecretState::Certificate(certificate()));
            assert!(!secrets.needs_fetch(&key()), "there is nothing to be read");
            assert_eq!(secrets.expire_gone(deleted + STAYS - Duration::from_millis(1)), []);
            let again = match source {
                SecretSource::Tls => secrets.put(source, key(), &good("2"), true),
                SecretSource::Others => secrets.put_metadata(source, key(), &good("2").metadata, true),
            };
            assert!(!again.changed, "{source:?}");
            assert_eq!(again.fetch, source == SecretSource::Others);
            assert_eq!(secrets.state(&key()), SecretState::Certificate(certificate()));
            // It can't be read at first: the last certificate goes on, and is said to be old.
            if again.fetch {
                assert!(secrets.fetch_failed(&key()));
                assert_eq!(secrets.state(&key()), SecretState::Unavailable(Some(certificate())));
                let asked = secrets.ask(&key()).unwrap();
                assert!(secrets.fetched(&key(), &asked, Some(&good("2"))));
            }
            assert_eq!(secrets.gone_due(), None, "the copy is forgotten with the new one's coming");
            assert_eq!(secrets.expire_gone(deleted + 2 * STAYS), []);
            assert_eq!(secrets.state(&key()), SecretState::Certificate(certificate()));
        }
    }

    #[test]
    fn one_that_stays_away_goes_in_time_and_leaves_no_key_behind() {
        // By its deletion, by a list without it, and by a GET that finds none.
        for way in 0..3 {
            let mut secrets = Secrets::default();
            secrets.put(SecretSource::Tls, key(), &good("1"), true);
            let held = match secrets.state(&key()) {
                SecretState::Certificate(certificate) => Arc::downgrade(&certificate),
                other => unreachable!("{other:?}"),
            };
            match way {
                0 => assert!(!secrets.remove(SecretSource::Tls, &key()).changed),
                1 => {
                    secrets.begin_list(SecretSource::Tls, &Scope::All);
                    assert_eq!(secrets.end_list(SecretSource::Tls, &Scope::All), []);
                }
                _ => {
                    // A newer version is told of and can't be found.
                    secrets.put_metadata(SecretSource::Tls, key(), &good("2").metadata, true);
                    let asked = secrets.ask(&key()).unwrap();
                    assert!(!secrets.fetched(&key(), &asked, None));
                }
            }
            let due = secrets.gone_due().unwrap();
            assert!(due <= Instant::now() + STAYS);
            // A second deletion, heard of late, gives it no more time.
            secrets.remove(SecretSource::Tls, &key());
            assert_eq!(secrets.gone_due(), Some(due));
            assert!(held.upgrade().is_some());
            assert_eq!(secrets.expire_gone(due), [key()]);
            assert_eq!(secrets.state(&key()), SecretState::Missing);
            assert!(held.upgrade().is_none(), "way {way}: the private key is still in memory");
        }
    }

    #[test]
    fn what_nobody_names_is_forgotten_at_once() {
        let mut secrets = Secrets::default();
        secrets.put(SecretSource::Tls, key(), &good("1"), true);
        secrets.remove(SecretSource::Tls, &key());
        secrets.release(&key());
        assert_eq!((secrets.state(&key()), secrets.gone_due()), (SecretState::Missing, None));
        // Without a certificate there is nothing to keep.
        secrets.put(SecretSource::Tls, key(), &secret("1", &[]), true);
        assert!(secrets.remove(SecretSource::Tls, &key()).changed);
        assert_eq!(secrets.gone_due(), None);
    }
}
