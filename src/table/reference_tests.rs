//! What an output should hold, worked out from nothing but the set of fragments: naive, and in another way than
//! the table does it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::kubernetes::key::{IngressKey, OutputKey, SecretKey};
use crate::traefik::certificate::{CertificateFacts, is_loadable};
use crate::traefik::dynamic::{Certificate, Configuration, Http, HttpService, Router, Tls};
use crate::translate::fragment::{CertificateFragment, Created, Fragment, ServiceFragment, ServiceOwner};
use crate::translate::name;

type RouterId = (Created, IngressKey, Arc<str>);

/// Moves everyone who does not hold the key where it stands on to its next one, all at once, until nobody has to.
fn resolve<C: Ord + Clone>(
    claims: impl Iterator<Item = (C, String)>,
    identity: impl Fn(&C) -> String,
    reserved: &str,
) -> BTreeMap<C, String> {
    let mut standing: BTreeMap<C, (bool, String)> = claims.map(|(who, key)| (who, (true, key))).collect();
    loop {
        let mut holders: BTreeMap<String, (bool, C)> = BTreeMap::new();
        for (who, (plain, key)) in &standing {
            let claim = (*plain, who.clone());
            holders
                .entry(key.clone())
                .and_modify(|holder| *holder = claim.clone().min(holder.clone()))
                .or_insert(claim);
        }
        holders.remove(reserved);
        let moving: Vec<C> = standing
            .iter()
            .filter(|(who, (_, key))| holders.get(key).is_none_or(|(_, holder)| holder != *who))
            .map(|(who, _)| who.clone())
            .collect();
        if moving.is_empty() {
            return standing.into_iter().map(|(who, (_, key))| (who, key)).collect();
        }
        for who in moving {
            let key = name::with_digest(&standing[&who].1, &identity(&who));
            standing.insert(who, (false, key));
        }
    }
}

/// What `output` holds.
pub(super) fn configuration(fragments: &BTreeMap<IngressKey, Fragment>, output: &OutputKey) -> Configuration {
    let fragments: Vec<&Fragment> =
        fragments.values().filter(|fragment| fragment.output() == output).collect();
    let mut services: BTreeMap<ServiceOwner, Arc<ServiceFragment>> = BTreeMap::new();
    let mut routers: BTreeMap<RouterId, (&Router, &ServiceOwner)> = BTreeMap::new();
    let mut certificates: BTreeMap<SecretKey, &CertificateFragment> = BTreeMap::new();
    for fragment in &fragments {
        for router in &fragment.routers {
            services.insert(router.service.owner.clone(), router.service.clone());
            routers.insert(
                (fragment.created, fragment.ingress.clone(), router.key.clone()),
                (&router.router, &router.service.owner),
            );
        }
        for certificate in &fragment.certificates {
            certificates.insert(certificate.secret.clone(), certificate);
        }
    }

    let service_keys = resolve(
        services.iter().map(|(owner, service)| (owner.clone(), service.key.to_string())),
        |owner| {
            let port =
                if name::normalize(&owner.port) == *owner.port { "" } else { &format!("/{}", owner.port) };
            let variant = if owner.variant == 0 { "" } else { &format!("#{:x}", owner.variant) };
            format!("{}{port}{variant}", owner.service)
        },
        "default-backend",
    );
    let router_keys = resolve(
        routers.keys().map(|id| (id.clone(), id.2.to_string())),
        |(_, ingress, _)| ingress.to_string(),
        "default-router",
    );

    let mut http = Http {
        services: services
            .iter()
            .map(|(owner, service)| (service_keys[owner].clone(), service.service.clone()))
            .collect::<BTreeMap<String, HttpService>>(),
        routers: routers
            .iter()
            .map(|(id, (router, owner))| {
                let service = service_keys[owner].clone();
                (router_keys[id].clone(), Router { service, ..(*router).clone() })
            })
            .collect(),
    };
    assert_eq!(http.routers.len(), routers.len(), "no router's key is taken twice");
    assert_eq!(http.services.len(), services.len(), "no service's key is taken twice");
    if let Some(default) = default_backend(&fragments) {
        let router = Router { service: "default-backend".to_owned(), ..default.router.clone() };
        http.routers.insert("default-router".to_owned(), router);
        http.services.insert("default-backend".to_owned(), default.service.clone());
    }
    let known: Vec<_> = certificates.into_values().map(|one| (one, known(&one.certificate))).collect();
    let rank = |(one, known): &(&CertificateFragment, Known)| (!known.1, one.created, one.secret.clone());
    let is_first = |one: &(&CertificateFragment, Known)| {
        known.iter().filter(|other| other.1.0 == one.1.0).map(rank).min() == Some(rank(one))
    };
    let served = known.iter().filter(|one| one.1.0.is_none() || is_first(one));
    let certificates: Vec<Certificate> = served.map(|(one, _)| (*one.certificate).clone()).collect();
    Configuration {
        http: (http != Http::default()).then_some(http),
        tls: (!certificates.is_empty()).then_some(Tls { certificates }),
    }
}

/// The names of a certificate that has any and can be read, and whether Traefik can load it.
type Known = (Option<Vec<String>>, bool);

/// By certificate and key.
type KnownByText = HashMap<(Arc<str>, Arc<str>), Known>;

/// Reads a certificate once.
fn known(certificate: &Certificate) -> Known {
    thread_local! {
        static KNOWN: RefCell<KnownByText> = RefCell::default();
    }
    let read = || {
        let facts = CertificateFacts::parse(&certificate.cert_file);
        let names = facts.map(|facts| facts.names).ok().filter(|names| !names.is_empty());
        (names, is_loadable(certificate))
    };
    let text = (certificate.cert_file.clone(), certificate.key_file.clone());
    KNOWN.with_borrow_mut(|known| known.entry(text).or_insert_with(read).clone())
}

fn default_backend<'a>(fragments: &[&'a Fragment]) -> Option<&'a crate::translate::fragment::DefaultBackend> {
    fragments
        .iter()
        .filter(|fragment| fragment.default_backend.is_some())
        .min_by_key(|fragment| (fragment.created, fragment.ingress.clone()))
        .and_then(|fragment| fragment.default_backend.as_deref())
}

/// How many routers of `output` come from each namespace.
pub(super) fn routers_by_namespace(
    fragments: &BTreeMap<IngressKey, Fragment>,
    output: &OutputKey,
) -> HashMap<Arc<str>, usize> {
    let refused = refused_default_backends(fragments);
    let mut counts = HashMap::new();
    for fragment in fragments.values().filter(|fragment| fragment.output() == output) {
        let is_default = fragment.default_backend.is_some() && !refused.contains(&fragment.ingress);
        let routers = fragment.routers.len() + usize::from(is_default);
        if routers > 0 {
            *counts.entry(fragment.ingress.shared_namespace()).or_default() += routers;
        }
    }
    counts
}

/// Ingresses that want to be the default backend of their output and aren't.
pub(super) fn refused_default_backends(fragments: &BTreeMap<IngressKey, Fragment>) -> BTreeSet<IngressKey> {
    let mut wanting: BTreeMap<&OutputKey, BTreeSet<(Created, IngressKey)>> = BTreeMap::new();
    for fragment in fragments.values().filter(|fragment| fragment.default_backend.is_some()) {
        wanting.entry(fragment.output()).or_default().insert((fragment.created, fragment.ingress.clone()));
    }
    wanting
        .into_values()
        .flat_map(|wanting| wanting.into_iter().skip(1).map(|(_, ingress)| ingress))
        .collect()
}
