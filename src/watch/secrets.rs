//! What is known of Secrets: their existence always, their content only while an Ingress names them.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kubernetes::Secret;
use crate::kubernetes::key::SecretKey;
use crate::traefik::dynamic::Certificate;
use crate::watch::collection::{Collection, Scope};
use crate::watch::deleted_secrets::DeletedSecrets;
use crate::watch::pem;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// The watch that shows a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretSource {
    /// The watch of type `kubernetes.io/tls`, with data.
    Tls,
    /// The watch of all other types, metadata only.
    Others,
}

/// The known state of a Secret that an Ingress names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretState {
    /// It does not exist (or has the label `owner=helm`).
    Missing,
    /// It has a certificate and a key.
    Certificate(Arc<Certificate>),
    /// It has no usable certificate or key.
    Invalid {
        /// The key of `data`, such as `tls.crt`.
        key: &'static str,
        fault: SecretFault,
    },
    /// It exists but could not be read; the last known certificate stays in use.
    Unavailable(Option<Arc<Certificate>>),
}

/// The possible faults of a key of a TLS Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretFault {
    Missing,
    Empty,
    /// Its value has no PEM block of a certificate or of a private key.
    NoBlock,
}

impl From<&Secret> for SecretState {
    /// Takes the certificates from `tls.crt` and the private key from `tls.key`. Traefik accepts either a path or PEM
    /// in these fields, so anything else could make the proxy read a file of its own.
    fn from(secret: &Secret) -> Self {
        let blocks = |key: &'static str, blocks: fn(&str) -> String| {
            let fault = match secret.data.as_ref().and_then(|data| data.get(key)) {
                None => SecretFault::Missing,
                Some(bytes) if bytes.0.is_empty() => SecretFault::Empty,
                Some(bytes) => {
                    let found = blocks(&String::from_utf8_lossy(&bytes.0));
                    if !found.is_empty() {
                        return Ok(found.into());
                    }
                    SecretFault::NoBlock
                }
            };
            Err(Self::Invalid { key, fault })
        };
        let certificate = blocks(CERTIFICATE, pem::certificates)
            .and_then(|cert_file| Ok(Certificate { cert_file, key_file: blocks(KEY, pem::private_keys)? }));
        certificate.map_or_else(|invalid| invalid, |certificate| Self::Certificate(Arc::new(certificate)))
    }
}

/// A Secret that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretEntry {
    /// The newest resourceVersion from a watch.
    version: Box<str>,
    /// The data that was read, and its resourceVersion.
    held: Option<(Box<str>, SecretState)>,
    /// The last attempt to read it failed.
    failed: bool,
}

impl SecretEntry {
    fn fresh(&self) -> bool {
        self.held.as_ref().is_some_and(|(version, _)| *version == self.version)
    }

    /// Its certificate, if it has one.
    fn certificate(&self) -> Option<Arc<Certificate>> {
        match &self.held {
            Some((_, SecretState::Certificate(certificate))) => Some(Arc::clone(certificate)),
            _ => None,
        }
    }

    /// The state for the translation. Data that is older than the newest version is used until the newer one has been
    /// fetched or could not be.
    fn state(&self) -> SecretState {
        match &self.held {
            Some((_, content)) if !self.failed || self.fresh() => content.clone(),
            Some((_, SecretState::Certificate(certificate))) => {
                SecretState::Unavailable(Some(Arc::clone(certificate)))
            }
            Some(_) | None => SecretState::Unavailable(None),
        }
    }
}

/// The effect of an event or a fetched Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecretChange {
    /// The translation would see another state than before.
    pub changed: bool,
    /// Its data is needed and not stored, or only an older version.
    pub fetch: bool,
}

/// The known state of a Secret when a GET for it began.
#[derive(Clone, Debug)]
pub struct Asked {
    tls: Option<Box<str>>,
    others: Option<Box<str>>,
}

/// All Secrets of the watched namespaces. A Secret's type never changes, so it is in both collections only between its
/// deletion and its recreation as another type.
#[derive(Debug)]
pub struct Secrets {
    tls: Collection<SecretEntry>,
    others: Collection<SecretEntry>,
    gone: DeletedSecrets,
}

impl Default for Secrets {
    fn default() -> Self {
        Self::new(&[Scope::All])
    }
}

impl Secrets {
    /// Secrets of these scopes.
    pub fn new(scopes: &[Scope]) -> Self {
        Self {
            tls: Collection::new(scopes),
            others: Collection::new(scopes),
            gone: DeletedSecrets::default(),
        }
    }

    /// The state of a Secret.
    pub fn state(&self, key: &SecretKey) -> SecretState {
        match (self.tls.get(key), self.others.get(key)) {
            (Some(entry), None) | (None, Some(entry)) => entry.state(),
            (Some(tls), Some(others)) => if tls.held.is_some() { tls } else { others }.state(),
            (None, None) => self.gone.get(key).map_or(SecretState::Missing, |certificate| {
                SecretState::Certificate(Arc::clone(certificate))
            }),
        }
    }

    /// Whether both watches have listed once.
    pub fn synced(&self, source: SecretSource) -> bool {
        match source {
            SecretSource::Tls => self.tls.synced(),
            SecretSource::Others => self.others.synced(),
        }
    }

    /// The number of Secrets that a watch has shown.
    pub fn count(&self, source: SecretSource) -> usize {
        self.of(source).len()
    }

    /// A list begins.
    pub fn begin_list(&mut self, source: SecretSource, scope: &Scope) {
        self.of_mut(source).begin_list(scope);
    }

    /// A list has ended. Returns the Secrets that are deleted, except those whose certificate stays for a while.
    pub fn end_list(&mut self, source: SecretSource, scope: &Scope) -> Vec<SecretKey> {
        let now = Instant::now();
        let ended = self.of_mut(source).end_list(scope);
        let ended = ended.into_iter().map(|(key, entry)| (SecretKey(key), entry));
        ended.filter(|(key, entry)| !self.keep(key, entry.certificate(), now)).map(|(key, _)| key).collect()
    }

    /// Keeps the certificate of a deleted Secret. Returns false if there is none to keep.
    fn keep(&mut self, key: &SecretKey, certificate: Option<Arc<Certificate>>, now: Instant) -> bool {
        if self.tls.get(key).is_some() || self.others.get(key).is_some() {
            return false;
        }
        if let Some(certificate) = certificate {
            self.gone.keep(key.clone(), certificate, now);
        }
        self.gone.get(key).is_some()
    }

    /// When the certificate of a deleted Secret has stayed long enough.
    pub fn gone_due(&self) -> Option<Instant> {
        self.gone.due()
    }

    /// Forgets the certificates that have stayed long enough; returns the Secrets that are missing from now on.
    pub fn expire_gone(&mut self, now: Instant) -> Vec<SecretKey> {
        self.gone.expire(now)
    }

    /// A Secret with its data, which is stored only if it is needed.
    pub fn put(
        &mut self,
        source: SecretSource,
        key: SecretKey,
        secret: &Secret,
        wanted: bool,
    ) -> SecretChange {
        if owned_by_helm(&secret.metadata) {
            return self.hide(source, &key);
        }
        let version: Box<str> = secret.metadata.resource_version.as_deref().unwrap_or_default().into();
        let held = wanted.then(|| (version.clone(), SecretState::from(secret)));
        self.replace(source, key, SecretEntry { version, held, failed: false })
    }

    /// A Secret without its data.
    pub fn put_metadata(
        &mut self,
        source: SecretSource,
        key: SecretKey,
        meta: &ObjectMeta,
        wanted: bool,
    ) -> SecretChange {
        if owned_by_helm(meta) {
            return self.hide(source, &key);
        }
        let version: Box<str> = meta.resource_version.as_deref().unwrap_or_default().into();
        let known = self.of(source).get(&key);
        // Recreated: the previous state is used until the new one has been read.
        let before =
            || self.gone.get(&key).map(|kept| (Box::default(), SecretState::Certificate(Arc::clone(kept))));
        let held = known.map_or_else(before, |known| known.held.clone()).filter(|_| wanted);
        // If nothing is known of a Secret except that it can't be read, it is waited for only once, however often it
        // changes.
        let failed = wanted && held.is_none() && known.is_some_and(|known| known.failed);
        let entry = SecretEntry { version, held, failed };
        let fetch = wanted && !entry.fresh();
        // If a fetch follows, its result is the change; nothing is reported twice.
        let changed = self.replace(source, key, entry).changed && !fetch;
        SecretChange { changed, fetch }
    }

    /// A Secret was deleted. If its certificate is in use, it stays for a while.
    pub fn remove(&mut self, source: SecretSource, key: &SecretKey) -> SecretChange {
        let before = self.state(key);
        let certificate = self.of_mut(source).remove(key).and_then(|entry| entry.certificate());
        self.keep(key, certificate, Instant::now());
        SecretChange { changed: self.state(key) != before, fetch: false }
    }

    /// A Secret that exists but counts as missing.
    fn hide(&mut self, source: SecretSource, key: &SecretKey) -> SecretChange {
        let before = self.state(key);
        self.of_mut(source).remove(key);
        self.gone.forget(key);
        SecretChange { changed: self.state(key) != before, fetch: false }
    }

    /// A GET for a Secret begins; `None` if none is needed.
    pub fn ask(&self, key: &SecretKey) -> Option<Asked> {
        let version = |collection: &Collection<SecretEntry>| Some(collection.get(key)?.version.clone());
        self.needs_fetch(key).then(|| Asked { tls: version(&self.tls), others: version(&self.others) })
    }

    /// Whether a Secret exists whose newest data is not held.
    pub fn needs_fetch(&self, key: &SecretKey) -> bool {
        let entries = [self.tls.get(key), self.others.get(key)];
        entries.iter().flatten().next().is_some() && !entries.iter().flatten().any(|entry| entry.fresh())
    }

    /// Whether it exists and nothing is known of its data: neither an older version nor why it could not be read.
    pub fn is_unread(&self, key: &SecretKey) -> bool {
        let entries = [self.tls.get(key), self.others.get(key)];
        let mut entries = entries.iter().flatten().peekable();
        entries.peek().is_some() && entries.all(|entry| entry.held.is_none() && !entry.failed)
    }

    /// A GET was answered; `None` is 404, which means that the requested Secret is deleted. One that was recreated
    /// since is not, and nobody would report it a second time. Returns true if the state changed.
    pub fn fetched(&mut self, key: &SecretKey, asked: &Asked, secret: Option<&Secret>) -> bool {
        let before = self.state(key);
        let helm = secret.is_some_and(|secret| owned_by_helm(&secret.metadata));
        let mut certificate = None;
        for (collection, asked) in [(&mut self.tls, &asked.tls), (&mut self.others, &asked.others)] {
            let Some(secret) = secret.filter(|_| !helm) else {
                if helm || collection.get(key).is_some_and(|entry| Some(&entry.version) == asked.as_ref()) {
                    certificate =
                        collection.remove(key).and_then(|entry| entry.certificate()).or(certificate);
                }
                continue;
            };
            collection.update(key, |entry| {
                // Only the watches know the newest version: an answer may be older, and then a second fetch is in
                // progress.
                let version = secret.metadata.resource_version.as_deref().unwrap_or_default();
                entry.held = Some((version.into(), SecretState::from(secret)));
                entry.failed = false;
            });
        }
        if secret.is_none() {
            self.keep(key, certificate, Instant::now());
        }
        self.state(key) != before
    }

    /// A GET failed, but not with 404. Returns true if the state changed or is known for the first time.
    pub fn fetch_failed(&mut self, key: &SecretKey) -> bool {
        let before = self.state(key);
        let unread = self.is_unread(key);
        for collection in [&mut self.tls, &mut self.others] {
            collection.update(key, |entry| entry.failed = true);
        }
        unread || self.state(key) != before
    }

    /// No Ingress names it any more: its content is dropped.
    pub fn release(&mut self, key: &SecretKey) {
        self.gone.forget(key);
        for collection in [&mut self.tls, &mut self.others] {
            collection.update(key, |entry| {
                entry.held = None;
                entry.failed = false;
            });
        }
    }

    fn replace(&mut self, source: SecretSource, key: SecretKey, entry: SecretEntry) -> SecretChange {
        let before = self.state(&key);
        self.gone.forget(&key);
        let kept = key.0.clone();
        self.of_mut(source).insert(kept, entry, |old, new| old == new, Some);
        SecretChange { changed: self.state(&key) != before, fetch: false }
    }

    fn of(&self, source: SecretSource) -> &Collection<SecretEntry> {
        match source {
            SecretSource::Tls => &self.tls,
            SecretSource::Others => &self.others,
        }
    }

    fn of_mut(&mut self, source: SecretSource) -> &mut Collection<SecretEntry> {
        match source {
            SecretSource::Tls => &mut self.tls,
            SecretSource::Others => &mut self.others,
        }
    }
}

/// Helm stores its releases in Secrets; Traefik's provider does not see them either.
fn owned_by_helm(meta: &ObjectMeta) -> bool {
    meta.labels.as_ref().and_then(|labels| labels.get("owner")).is_some_and(|owner| owner == "helm")
}

#[cfg(test)]
#[path = "secrets/tests.rs"]
mod tests;
