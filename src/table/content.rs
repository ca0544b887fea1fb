//! What an output's shards hold: lines of routers and services, and certificates.

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

    /// Routers change seldom, are much alike, and gzip leaves a tenth of them, so there are few shards, which every index
    /// names. Of very many routers shards may be larger still.
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

    /// A changed endpoint writes a shard and the index, which names all of them: 12 bytes each. Twice as many make a
    /// shard smaller by about a fourteenth of its text (gzip, then base64), so that pays for the longer index above some
    /// 165 bytes a bucket for each bucket that there is. Never for what is small anyway, and always for what takes long
    /// to compress.
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

/// CertificateLines with their keys; the content of key shards.
pub(super) struct CertificateLines;

/// A certificate. It is rendered when it is needed and not kept as text, so that its key is in memory once.
#[derive(Clone)]
pub(super) struct KeptCertificate {
    pub certificate: Arc<Certificate>,
    /// [`hash::certificate_sum`]
    pub sum: Digest,
    /// Bytes of its line.
    length: usize,
}

impl KeptCertificate {
    /// Keeps a certificate.
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

    /// Certificates change seldom, and every index names all shards.
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

/// A shard as it was when it was asked for, not yet as text: at the first commit all of them are to be written.
pub struct ShardContent(pub(super) KindEntries);

/// The entries of a shard, by what it holds.
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
