//! What a change costs: the shards that it writes.

use std::collections::BTreeSet;

use super::tests::{default_output, fragment, router, service, service_of};
use super::*;
use crate::translate::fragment::ServiceFragment;

/// One changed server among 2,000 Services costs one shard; nothing else is rendered or hashed again.
#[test]
fn one_changed_server_costs_one_shard() {
    let mut table = Table::new();
    let of = |at: usize, url: &str| {
        let shared = service_of(1, "shop", &format!("s{at}"), "80", 0);
        let changed = Arc::new(ServiceFragment { service: service(url), ..(*shared).clone() });
        fragment(
            "shop",
            &format!("i{at}"),
            1,
            vec![router(&format!("shop-i{at}"), "PathPrefix(\"/\")", changed)],
        )
    };
    for at in 0..2_000 {
        table.set(of(at, "http://10.0.0.1:8080"));
    }
    let shards = |table: &mut Table| {
        let output = table.output_mut(&default_output()).expect("it is there");
        output.refresh();
        output.routing_shards().collect::<Vec<_>>()
    };
    let before = shards(&mut table);
    assert!(before.len() >= 2, "{}", before.len());
    let change = table.set(of(7, "http://10.0.0.2:8080"));
    assert_eq!(change.outputs, [default_output()]);
    let after = shards(&mut table);
    assert_eq!(before.iter().zip(&after).filter(|(before, after)| before != after).count(), 1);
}

/// What all routers of an Ingress share costs one shard, up to as many routers as a shard has room for. Where they are
/// follows from how many there are now.
#[test]
fn a_changed_annotation_costs_one_shard() {
    let of = |paths: usize, entry_point: &str| {
        let service = service_of(1, "shop", "web", "80", 0);
        let routers = (0..paths).map(|path| {
            let mut router = router(&format!("shop-web-{path}"), &"r".repeat(200), service.clone());
            router.router.entry_points = vec![entry_point.to_owned()];
            router
        });
        fragment("shop", "web", 1, routers.collect())
    };
    let other = |at: usize| {
        let service = service_of(1, "shop", &format!("s{at}"), "80", 0);
        fragment(
            "shop",
            &format!("i{at}"),
            1,
            vec![router(&format!("shop-i{at}"), &"r".repeat(200), service)],
        )
    };
    let filled = |web: Fragment| {
        let mut table = Table::new();
        for at in 0..2_000 {
            table.set(other(at));
        }
        table.set(web);
        table
    };
    let shards = |table: &mut Table| {
        let output = table.output_mut(&default_output()).expect("it is there");
        output.refresh();
        output.routing_shards().collect::<Vec<_>>()
    };
    let mut table = filled(of(100, "web"));
    let before = shards(&mut table);
    assert!(before.len() >= 16, "{}", before.len());
    table.set(of(100, "websecure"));
    let after = shards(&mut table);
    assert_eq!(before.iter().zip(&after).filter(|(before, after)| before != after).count(), 1);

    let one = |table: &Table| {
        let places = table.output(&default_output()).map(Output::places).unwrap_or_default();
        // The routers of this Ingress are the last ones, since they are sorted by key.
        places[2_000..2_100].iter().collect::<BTreeSet<_>>().len()
    };
    assert_eq!(one(&table), 1);
    table.set(of(200, "websecure"));
    assert_eq!(one(&table), 100);
    assert_eq!(shards(&mut table), shards(&mut filled(of(200, "websecure"))));
    table.set(of(100, "websecure"));
    assert_eq!((one(&table), shards(&mut table)), (1, after));
}
