//! Which Secrets' certificates are published.
//!
//! Traefik keeps the first certificate that it reads of each set of names and ignores all others, and which one that is
//! would depend on how shards and files are cut. So one of each set is published: that of the oldest Secret, so that a
//! later one takes no host from the first. One that Traefik can't load comes after all others. What can't be read or has
//! no names is published as it is, for each Secret.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::content::{CertificateLines, KeptCertificate};
use super::digest::{Digest, place};
use super::shards::Shards;
use crate::kubernetes::key::SecretKey;
use crate::traefik::certificate::{CertificateFacts, is_loadable};
use crate::traefik::dynamic::Certificate;
use crate::translate::fragment::{CertificateFragment, Created};

/// Secrets that Ingresses of an output name.
#[derive(Default)]
pub(super) struct Certificates {
    secrets: HashMap<SecretKey, UsedSecret>,
    /// By [`names_of`] their certificates.
    rivals: HashMap<Digest, Rivals>,
    published: Shards<CertificateLines>,
}

/// A Secret that Ingresses name.
struct UsedSecret {
    /// How many.
    users: usize,
    certificate: Arc<Certificate>,
    created: Created,
    /// See [`names_of`].
    names: Digest,
    unloadable: bool,
}

/// Secrets with certificates for the same names.
struct Rivals {
    /// The one that is published.
    first: Rank,
    others: BTreeSet<Rank>,
}

/// The least of several is published.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Whether Traefik cannot load it. Determined only if there are rivals, because parsing a key is slow.
    unloadable: bool,
    created: Created,
    secret: SecretKey,
}

impl Certificates {
    /// What is published.
    pub fn published(&self) -> &Shards<CertificateLines> {
        &self.published
    }

    /// Secrets that are not published because of another one, each with that one. Those with an identical certificate are
    /// left out.
    pub fn shadowed(&self) -> impl Iterator<Item = (&SecretKey, &SecretKey)> {
        let certificate = |rank: &Rank| self.secrets.get(&rank.secret).map(|used| &used.certificate);
        self.rivals.values().flat_map(move |Rivals { first, others }| {
            let others = others.iter().filter(move |other| certificate(other) != certificate(first));
            others.map(move |other| (&other.secret, &first.secret))
        })
    }

    /// Brings the shards up to date.
    pub fn refresh(&mut self) {
        self.published.refresh();
    }

    /// Sets the content of a Secret that an Ingress uses; it replaces what any Ingress brought before. `is_new`: the
    /// Ingress did not name the Secret before. Returns whether that changed what is published.
    pub fn take(&mut self, fragment: &CertificateFragment, is_new: bool) -> bool {
        let CertificateFragment { secret, created, certificate } = fragment;
        let mut users = usize::from(is_new);
        if let Some(used) = self.secrets.get_mut(secret) {
            used.users += users;
            if used.created == *created && used.certificate == *certificate {
                return false;
            }
            users = used.users;
        }
        let names = names_of(secret, certificate);
        let certificate = Arc::clone(certificate);
        let used = UsedSecret { users, certificate, created: *created, names, unloadable: false };
        self.replace(secret, Some(used))
    }

    /// An Ingress no longer names a Secret. Whether that changed what is published.
    pub fn leave(&mut self, secret: &SecretKey) -> bool {
        let Some(used) = self.secrets.get_mut(secret) else { return false };
        used.users -= 1;
        used.users == 0 && self.replace(secret, None)
    }

    fn replace(&mut self, secret: &SecretKey, new: Option<UsedSecret>) -> bool {
        let old = self.secrets.remove(secret);
        let touched: BTreeSet<Digest> = old.iter().chain(&new).map(|used| used.names).collect();
        let first = |this: &Self| -> Vec<SecretKey> {
            let rivals = touched.iter().filter_map(|names| this.rivals.get(names));
            rivals.map(|rivals| rivals.first.secret.clone()).collect()
        };
        let before = first(self);
        if let Some(old) = old {
            self.withdraw(secret, &old);
        }
        if let Some(new) = new {
            self.add(secret, new);
        }
        let after = first(self);
        let mut changed = false;
        for gone in before.iter().filter(|first| !after.contains(first)) {
            changed |= self.published.remove(gone).is_some();
        }
        for first in after.into_iter().filter(|first| first == secret || !before.contains(first)) {
            let Some(used) = self.secrets.get(&first) else { continue };
            let kept = KeptCertificate::new(Arc::clone(&used.certificate));
            changed |= self.published.put(place(&first.to_string()), first, kept).is_some();
        }
        changed
    }

    fn withdraw(&mut self, secret: &SecretKey, old: &UsedSecret) {
        let Some(rivals) = self.rivals.get_mut(&old.names) else { return };
        if rivals.first.secret != *secret {
            rivals.others.remove(&old.rank(secret));
        } else if let Some(next) = rivals.others.pop_first() {
            rivals.first = next;
        } else {
            self.rivals.remove(&old.names);
        }
    }

    fn add(&mut self, secret: &SecretKey, mut new: UsedSecret) {
        if let Some(rivals) = self.rivals.get_mut(&new.names) {
            let first = self.secrets.get_mut(&rivals.first.secret);
            if let Some(first) = first {
                if rivals.others.is_empty() {
                    first.unloadable = !is_loadable(&first.certificate);
                    rivals.first.unloadable = first.unloadable;
                }
                // Copies of a certificate are looked at once.
                let is_copy = first.certificate == new.certificate;
                new.unloadable = if is_copy { first.unloadable } else { !is_loadable(&new.certificate) };
            }
            let rank = new.rank(secret);
            if rank < rivals.first {
                let later = std::mem::replace(&mut rivals.first, rank);
                rivals.others.insert(later);
            } else {
                rivals.others.insert(rank);
            }
        } else {
            let rivals = Rivals { first: new.rank(secret), others: BTreeSet::new() };
            self.rivals.insert(new.names, rivals);
        }
        self.secrets.insert(secret.clone(), new);
    }
}

impl UsedSecret {
    fn rank(&self, secret: &SecretKey) -> Rank {
        Rank { unloadable: self.unloadable, created: self.created, secret: secret.clone() }
    }
}

/// What Traefik tells a certificate from others by: its names. One that can't be read stands alone, and so does one
/// without names, which Traefik uses for no host.
fn names_of(secret: &SecretKey, certificate: &Certificate) -> Digest {
    match CertificateFacts::parse(&certificate.cert_file) {
        Ok(facts) if !facts.names.is_empty() => Digest::new(&format!("names {}", facts.names.join(","))),
        _ => Digest::new(&format!("secret {secret}")),
    }
}
