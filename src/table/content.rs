//! The content of an output's shards: lines of routers and services, and certificates.

use std::sync::Arc;

use super::digest::Digest;
use super::hash;
use super::shards::{Content, PartEntries};
use crate::kubernetes::key::SecretKey;
use crate::traefik::document::{self, Keys};
use crate::traefik::dynamic::Certificate;
use crate::traefik::escape::Sink;

/// Routers by key.
pub(super) struct RouterLines;

/// Services by key.
pub(super) struct ServiceLines;

impl Content for RouterLines {
    type Key = Arc<str>;
    type Value = Arc<str>;

    /// Routers seldom change and are similar, so gzip compresses them to a tenth. So there are few shards, which every
    /// index names. With very many routers, shards may be larger.
    fn grow_above(count: usize) -> usize {
        count.saturating_mul(1024).clamp(96 * 1024, 192 * 1024)
    }

    fn cell(key: &Self::Key) -> usize {
        hash::cell(key)
    }

    fn length(line: &Self::Value) -> usize {
        line.len() + 2
    }

    fn write<'a>(
        sink: &mut impl Sink,
        entries: impl Iterator<Item = (&'a Self::Key, &'a Self::Value)> + Clone,
    ) {
        document::write(sink, lines(entries), [], [], Keys::LeftOut);
    }
}

impl Content for ServiceLines {
    type Key = Arc<str>;
    type Value = Arc<str>;

    /// A changed endpoint writes a shard and the index, which names all shards with 12 bytes each. Twice as many shards
    /// make each smaller by about a fourteenth of its text (after gzip and base64). This outweighs the longer index
    /// above about 165 bytes per bucket for each existing bucket. It never does for small content, and always does for
    /// content that takes long to compress.
    fn grow_above(count: usize) -> usize {
        count.saturating_mul(165).clamp(12 * 1024, 48 * 1024)
    }

    fn cell(key: &Self::Key) -> usize {
        hash::cell(key)
    }

    fn length(line: &Self::Value) -> usize {
        line.len() + 2
    }

    fn write<'a>(
        sink: &mut impl Sink,
        entries: impl Iterator<Item = (&'a Self::Key, &'a Self::Value)> + Clone,
    ) {
        document::write(sink, [], lines(entries), [], Keys::LeftOut);
    }
}

/// The lines of routers or services.
pub(super) fn lines<'a>(
    entries: impl Iterator<Item = (&'a Arc<str>, &'a Arc<str>)>,
) -> impl Iterator<Item = &'a str> {
    entries.map(|(_, line)| &**line)
}

/// Certificates with their keys: the content of key shards.
pub(super) struct CertificateLines;

/// A certificate. It is rendered when needed and not stored as text, so that its key is in memory only once.
#[derive(Clone)]
pub(super) struct KeptCertificate {
    pub certificate: Arc<Certificate>,
    /// [`hash::certificate_sum`]
    pub sum: Digest,
    /// Size of its line.
    length: usize,
}

impl KeptCertificate {
    /// Stores a certificate.
    pub fn new(certificate: Arc<Certificate>) -> Self {
        let length = document::certificate_line(&certificate, Keys::Shown).len();
        Self { sum: hash::certificate_sum(&certificate), certificate, length }
    }
}

impl PartialEq for KeptCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.certificate == other.certificate
    }
}

impl Content for CertificateLines {
    type Key = SecretKey;
    type Value = KeptCertificate;

    /// Certificates seldom change, and every index names all shards.
    fn grow_above(count: usize) -> usize {
        count.saturating_mul(2048).clamp(160 * 1024, 240 * 1024)
    }

    fn cell(secret: &SecretKey) -> usize {
        hash::cell(&secret.to_string())
    }

    fn length(kept: &KeptCertificate) -> usize {
        kept.length + 2
    }

    fn write<'a>(
        sink: &mut impl Sink,
        entries: impl Iterator<Item = (&'a SecretKey, &'a KeptCertificate)> + Clone,
    ) {
        document::write(sink, [], [], entries.map(|(_, kept)| &*kept.certificate), Keys::Shown);
    }
}

/// A shard at the time of the request, not yet as text, since the first commit writes all of them.
pub struct ShardContent(pub(super) KindEntries);

/// The entries of a shard, by their kind.
pub(super) enum KindEntries {
    Routers(PartEntries<RouterLines>),
    Services(PartEntries<ServiceLines>),
    Certificates(PartEntries<CertificateLines>),
}

impl ShardContent {
    /// Its document.
    pub fn document(&self) -> String {
        match &self.0 {
            KindEntries::Routers(entries) => entries.document(),
            KindEntries::Services(entries) => entries.document(),
            KindEntries::Certificates(entries) => entries.document(),
        }
    }
}
