//! The sha256 of the whole document, resumed at the first entry that changed.
//!
//! The whole is one document and is hashed at every commit. Only what comes after a change has to be hashed again, so the
//! state of the hash is kept every [`DISTANCE`] bytes. A changed endpoint changes a service, and services come after all
//! routers. The certificates come last and are hashed every time. Their text is kept, because sorting and rendering it
//! would take longer than hashing it.

use std::collections::BTreeMap;
use std::ops::Bound;

use sha2::{Digest as _, Sha256};

use super::content::{RoutingLines, Section};
use super::digest::Digest;
use super::shards::{Content, Shards};
use crate::traefik::document::{self, Document, Keys};
use crate::traefik::dynamic::Certificate;

/// Bytes of lines between two kept states. Small in tests, so that a small routing has several.
const DISTANCE: usize = if cfg!(test) { 200 } else { 64 * 1024 };

type Key = <RoutingLines as Content>::Key;

/// The sha256 of an output's document without private keys, and how it came about.
#[derive(Default)]
pub(super) struct IncrementalHash {
    /// The state just before the line of each of these entries, which may be gone.
    states: BTreeMap<Key, Document<Sha256>>,
    /// The lines of the certificates, sorted by their text.
    certificates: Option<Box<str>>,
    whole: Option<Digest>,
}

impl IncrementalHash {
    /// An entry was set or removed.
    pub fn changed(&mut self, key: &Key) {
        self.whole = None;
        // The state before the entry itself stays right.
        while let Some(later) = self.states.last_entry().filter(|last| last.key() > key) {
            later.remove();
        }
    }

    /// CertificateLines changed. They come behind everything else.
    pub fn certificates_changed(&mut self) {
        self.whole = None;
        self.certificates = None;
    }

    /// The hash as it was taken last, unless something has changed since.
    pub fn known(&self) -> Option<Digest> {
        self.whole
    }

    /// Takes the hash. `certificates` come in any order.
    pub fn take<'a>(
        &mut self,
        routing: &Shards<RoutingLines>,
        certificates: impl Iterator<Item = &'a Certificate>,
    ) -> Digest {
        let start = self.states.last_key_value().map(|(key, state)| (key.clone(), state.clone()));
        let (from, mut document) = match start {
            Some((key, state)) => (Bound::Included(key), state),
            None => (Bound::Unbounded, Document::new(Sha256::new())),
        };
        let mut since = 0;
        for (key, line) in routing.range(from) {
            if since >= DISTANCE {
                self.states.insert(key.clone(), document.clone());
                since = 0;
            }
            match key.0 {
                Section::Router => document.router(line),
                Section::Service => document.service(line),
            }
            since += line.len();
        }
        let certificates = self.certificates.get_or_insert_with(|| {
            let mut sorted: Vec<&Certificate> = certificates.collect();
            sorted.sort_unstable_by(|a, b| a.cert_file.cmp(&b.cert_file));
            document::certificate_lines(sorted, Keys::LeftOut)
        });
        let whole = Digest::from(document.finish_with_lines(certificates));
        self.whole = Some(whole);
        whole
    }
}
