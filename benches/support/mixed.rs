//! A made-up cluster as people have them, from the uniform one of `cluster.rs`.
//!
//! | Ingresses | what is different |
//! | --- | --- |
//! | the first 1,000 | share a namespace; the first 500 of them a Service too |
//! | every 50th; every 10th | has 50 paths; 5 paths |
//! | every 20th | has a wildcard host |
//!
//! A slice has 3 endpoints, every tenth 20, every tenth 1, and every hundredth 100.

use std::sync::OnceLock;

use serde_json::{Value, json};

#[path = "cluster.rs"]
#[allow(dead_code, unused_imports, reason = "the other parts of it are the same in both")]
mod uniform;

pub use uniform::class;

/// Ingresses in the namespace of the first one.
pub const LARGE_NAMESPACE: usize = 1_000;

/// Ingresses with the Service of the first one.
pub const SHARED: usize = 500;

/// How many outputs the Ingresses are spread over, namespace by namespace; one unless it is set. Several have a class
/// each.
pub static OUTPUTS: OnceLock<usize> = OnceLock::new();

fn outputs() -> usize {
    OUTPUTS.get().copied().unwrap_or(1)
}

/// The name of the class of an Ingress.
fn class_of(number: usize) -> String {
    let namespace = if number < LARGE_NAMESPACE { 0 } else { number / 100 };
    if outputs() == 1 { "traefik".to_owned() } else { format!("traefik-{}", namespace % outputs()) }
}

/// Where several outputs are wanted: the classes and their parameters, each with an output of its own.
pub fn classes() -> Vec<(Value, Value)> {
    let of = |number: usize| {
        let name = format!("traefik-{number}");
        let parameters = json!({
            "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters", "metadata": {"name": name},
            "spec": {"output": {"name": name}},
        });
        let mut class = class();
        class["metadata"]["name"] = name.as_str().into();
        class["spec"]["parameters"] =
            json!({"apiGroup": "waybill.dev", "kind": "IngressClassParameters", "name": name});
        (parameters, class)
    };
    if outputs() == 1 { Vec::new() } else { (0..outputs()).map(of).collect() }
}

/// A Service of 20 endpoints that one Ingress has.
pub const TWENTY_ENDPOINTS: usize = SHARED + 1;

/// Namespace of the Ingress with this number.
pub fn namespace(number: usize) -> String {
    uniform::namespace(if number < LARGE_NAMESPACE { 0 } else { number })
}

fn placed(number: usize, mut object: Value) -> Value {
    object["metadata"]["namespace"] = namespace(number).into();
    object
}

/// The number of the Service that an Ingress has.
pub fn backend(number: usize) -> usize {
    if number < SHARED { 0 } else { number }
}

/// How many routers an Ingress makes.
fn paths(number: usize) -> usize {
    match number {
        _ if number % 50 == 49 => 50,
        _ if number % 10 == 3 => 5,
        _ => 1,
    }
}

/// How many routers all of these Ingresses make.
pub fn routers(numbers: std::ops::Range<usize>) -> usize {
    numbers.map(paths).sum()
}

/// The Ingress with this number.
pub fn ingress(number: usize) -> Value {
    let mut ingress = placed(number, uniform::ingress(number));
    ingress["spec"]["ingressClassName"] = class_of(number).into();
    let rule = &mut ingress["spec"]["rules"][0];
    let mut first = rule["http"]["paths"][0].take();
    first["backend"]["service"]["name"] = format!("app-{}", backend(number)).into();
    let further = (1..paths(number)).map(|path| {
        let mut further = first.clone();
        further["path"] = format!("/section-{path}").into();
        further
    });
    rule["http"]["paths"] = std::iter::once(first.clone()).chain(further).collect();
    if number % 20 == 4 {
        let host = format!("*.{}", rule["host"].as_str().unwrap_or_default());
        rule["host"] = host.clone().into();
        if let Some(tls) = ingress["spec"].get_mut("tls") {
            tls[0]["hosts"][0] = host.into();
        }
    }
    ingress
}

/// The Service with this number.
pub fn service(number: usize) -> Value {
    placed(number, uniform::service(number))
}

fn endpoints(number: usize) -> usize {
    match number {
        _ if number % 100 == 11 => 100,
        _ if number % 10 == 1 => 20,
        _ if number % 10 == 2 => 1,
        _ => 3,
    }
}

/// The EndpointSlice with this number; `generation` changes its first address.
pub fn endpoint_slice(number: usize, generation: u8) -> Value {
    replaced(number, generation, 1)
}

/// The EndpointSlice with this number, whose first `count` addresses are those of `generation`.
pub fn replaced(number: usize, generation: u8, count: usize) -> Value {
    let mut slice = placed(number, uniform::endpoint_slice(number, 0));
    let like = slice["endpoints"][0].take();
    let endpoint = |index: usize| {
        // Those of a generation are in a network of their own, so that no two are ever the same.
        let (network, last) = if index < count { (10, usize::from(generation)) } else { (100, 10) };
        let mut endpoint = like.clone();
        endpoint["addresses"][0] =
            format!("{}.{}.{}.{}", network + number / 62_500, number / 250 % 250, number % 250, last + index)
                .into();
        endpoint
    };
    slice["endpoints"] = (0..endpoints(number)).map(endpoint).collect();
    slice
}

/// The TLS Secret with this number.
pub fn secret(number: usize) -> Value {
    placed(number, uniform::secret(number))
}
