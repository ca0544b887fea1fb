//! What a reader may see, and what it did see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use waybill::traefik::dynamic::{Configuration, Http, HttpService, Router};

use super::world;

/// Shared between readers, who damages what is published, and who changes objects.
#[derive(Default)]
pub struct Legal {
    /// Routers and services that are always the same, by output and key.
    stable: Mutex<BTreeMap<String, Stable>>,
    /// Priorities that routers of `kept` may have: those that their Ingresses ever had.
    versions: Mutex<BTreeMap<String, BTreeSet<i64>>>,
    /// Certificates that must never be missing from the operator's own output.
    certificates: Mutex<BTreeSet<String>>,
    /// Odd while what is published is damaged on purpose.
    truces: AtomicU64,
    /// resourceVersions of indexes that were damaged on purpose: a watch may tell of one when it is all right again.
    damaged: Mutex<BTreeSet<String>>,
    /// Indexes that were deleted on purpose.
    pub deleted: AtomicU64,
    violations: Mutex<Vec<String>>,
    pub states: AtomicU64,
    pub retries: AtomicU64,
    pub readers: AtomicU64,
}

#[derive(Default)]
struct Stable {
    routers: BTreeMap<String, Router>,
    services: BTreeMap<String, HttpService>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Legal {
    /// Remembers what never changes.
    pub fn settle(&self, output: &str, configuration: &Configuration) {
        let http = configuration.http.clone().unwrap_or_default();
        let of_stable = |key: &str| world::UNTOUCHED.iter().any(|prefix| key.starts_with(prefix));
        let mut stable = Stable { routers: http.routers, services: http.services };
        stable.routers.retain(|key, _| of_stable(key));
        stable.services.retain(|key, _| of_stable(key));
        lock(&self.stable).insert(output.to_owned(), stable);
    }

    /// From now on the router of a kept Ingress may have this priority.
    pub fn allow_version(&self, name: &str, version: i64) {
        lock(&self.versions).entry(world::router_key(world::KEPT, name)).or_default().insert(version);
    }

    pub fn require_certificate(&self, text: String) {
        lock(&self.certificates).insert(text);
    }

    /// What is published is damaged from now on, until [`Legal::end_truce`].
    pub fn begin_truce(&self) {
        self.truces.fetch_add(1, Ordering::SeqCst);
    }

    pub fn end_truce(&self) {
        self.truces.fetch_add(1, Ordering::SeqCst);
    }

    /// A number that stays the same, and even, while nobody damages what is published.
    pub fn truce(&self) -> u64 {
        self.truces.load(Ordering::SeqCst)
    }

    /// An index is damaged in this version.
    pub fn damage(&self, version: &str) {
        lock(&self.damaged).insert(version.to_owned());
    }

    pub fn is_damaged(&self, version: &str) -> bool {
        lock(&self.damaged).contains(version)
    }

    pub fn violated(&self, what: String) {
        let mut violations = lock(&self.violations);
        if violations.len() < 20 {
            violations.push(what);
        }
    }

    pub fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    /// What is wrong with a state that could be loaded.
    pub fn faults(&self, output: &str, configuration: &Configuration) -> Vec<String> {
        let mut faults = Vec::new();
        let nothing = Http::default();
        let http = configuration.http.as_ref().unwrap_or(&nothing);
        if let Some(stable) = lock(&self.stable).get(output) {
            for (key, router) in &stable.routers {
                if http.routers.get(key.as_str()) != Some(router) {
                    faults.push(format!("router {key} is {:?}", http.routers.get(key.as_str())));
                }
            }
            for (key, service) in &stable.services {
                if http.services.get(key.as_str()) != Some(service) {
                    faults.push(format!("service {key} is {:?}", http.services.get(key.as_str())));
                }
            }
        }
        let of_edge = output == world::OUTPUTS[1];
        for at in (0..world::KEPT_COUNT).filter(|at| (world::kept_class(*at) == "edge") == of_edge) {
            let key = world::router_key(world::KEPT, &format!("k-{at}"));
            let Some(router) = http.routers.get(key.as_str()) else {
                faults.push(format!("router {key} is missing"));
                continue;
            };
            let version = router.priority;
            if !lock(&self.versions).get(&key).is_some_and(|known| known.contains(&version)) {
                faults.push(format!("router {key} has the priority {version}, which it never had"));
            }
            let service = http.services.get(&router.service);
            if service.is_none_or(|service| service.load_balancer.servers.is_empty()) {
                faults.push(format!("router {key} leads nowhere"));
            }
        }
        if !of_edge {
            let there: BTreeSet<&str> = configuration
                .tls
                .iter()
                .flat_map(|tls| &tls.certificates)
                .map(|certificate| certificate.cert_file.as_ref())
                .collect();
            for certificate in lock(&self.certificates).iter() {
                if !there.contains(certificate.as_str()) {
                    faults.push(format!("a certificate is missing: {}", &certificate[..80]));
                }
            }
        }
        faults
    }
}
