//! Made-up clusters: everything that the API server takes, good and bad, as small as it can be.

mod annotation;
mod extreme;
mod fixed;
mod ingress;
mod known;
mod secret;
mod service;

use serde_json::{Value, json};

pub use fixed::fixed;
pub use known::{KEY_AND_CERTIFICATE, MANY, Make};
pub use secret::{base64, mark, unbase64};

use super::object::Cluster;
use super::random::Random;

/// Ends of namespaces. `shop` with `eu-web` and `shop-eu` with `web` make one key.
const NAMESPACES: &[&str] = &["shop", "shop-eu", "team", "blog-2"];

/// Names that namespaces share. `web.v2` and `web-v2` make one key.
const INGRESSES: &[&str] = &["web", "eu-web", "api", "web.v2", "web-v2", "blog", "x"];

const SERVICES: &[&str] = &["web", "eu-web", "api", "web-80", "db", "cache", "blog"];

const SECRETS: &[&str] = &["web-tls", "eu-web-tls", "api-tls", "wild", "old"];

/// Of so many clusters one is at the limits of what the API server takes.
const EXTREME_EVERY: usize = 25;
const EXTREME: usize = 7;

/// Of so many clusters one shows every known difference.
const KNOWN_EVERY: usize = 50;
const KNOWN: usize = 11;

/// What the parts of a cluster are made from.
struct Maker<'a> {
    random: Random,
    /// The cluster's name.
    cluster: &'a str,
    namespaces: &'a [String],
    /// Annotations, of the Ingresses as of the Services, that are faulty, in percent.
    faults: u64,
}

/// The name of cluster `number`.
pub fn cluster_name(number: usize) -> String {
    format!("c{number}")
}

/// Whether cluster `number` is one at the limits, of which the API server has to take everything.
pub fn is_extreme(number: usize) -> bool {
    number % EXTREME_EVERY == EXTREME
}

/// Cluster `number` of a seed.
pub fn cluster(seed: u64, number: usize) -> Cluster {
    let name = cluster_name(number);
    if number % KNOWN_EVERY == KNOWN {
        let namespaces = known::NAMESPACES.iter().map(|end| format!("{name}-{end}")).collect();
        return Cluster { namespaces, objects: known::objects(&name), name };
    }
    let mut random = Random::part(seed, number as u64);
    let count = random.between(1, 3);
    let namespaces: Vec<String> =
        random.some(NAMESPACES, count).into_iter().map(|end| format!("{name}-{end}")).collect();
    let objects = objects(random, &name, &namespaces, is_extreme(number).then_some(number / EXTREME_EVERY));
    Cluster { name, namespaces, objects }
}

/// Other objects for the namespaces of a cluster.
pub fn variant(seed: u64, of: &Cluster, number: usize) -> Cluster {
    let random = Random::part(seed, u64::MAX - number as u64);
    let objects = objects(random, &of.name, &of.namespaces, None);
    Cluster { name: of.name.clone(), namespaces: of.namespaces.clone(), objects }
}

fn objects(mut random: Random, name: &str, namespaces: &[String], extreme: Option<usize>) -> Vec<Value> {
    let faults = *random.pick(&[0, 5, 5, 25]);
    let mut maker = Maker { random, cluster: name, namespaces, faults };
    let mut objects = Vec::new();
    match extreme {
        Some(number) => maker.extreme(&mut objects, number),
        None => namespaces.iter().for_each(|namespace| maker.namespace(namespace, &mut objects)),
    }
    objects
}

impl Maker<'_> {
    fn namespace(&mut self, namespace: &str, objects: &mut Vec<Value>) {
        let count = self.random.between(1, 4);
        for name in self.random.some(SERVICES, count) {
            let service = self.service(namespace, name);
            let slices = self.slices(namespace, &service);
            objects.push(service);
            objects.extend(slices);
        }
        if self.random.chance(5) {
            // A slice of a Service that is not there.
            objects.extend(self.slices(namespace, &json!({"metadata": {"name": "gone"}, "spec": {}})));
        }
        let count = self.random.between(0, 2);
        for name in self.random.some(SECRETS, count) {
            objects.push(self.secret(namespace, name));
        }
        let count = self.random.between(1, 4);
        for name in self.random.some(INGRESSES, count) {
            let ingress = self.ingress(namespace, name, objects);
            objects.push(ingress);
        }
    }
}
