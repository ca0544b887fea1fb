//! What one changed endpoint costs from the fragment to the objects that are written, at 10,000 and at 50,000
//! Ingresses: with the one shard's gzip, and with the hash of the whole on top, which alone grows with the whole.

#![allow(missing_docs, reason = "criterion's macros make public items without")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use waybill::kubernetes::key::{IngressKey, OutputKey, ServiceKey};
use waybill::published::desired_output::DesiredOutput;
use waybill::published::objects;
use waybill::table::Table;
use waybill::traefik::dynamic::{HttpService, LoadBalancer, Router, Server};
use waybill::translate::fragment::{Created, Fragment, RouterFragment, ServiceFragment, ServiceOwner, Uid};
use waybill::translate::settings::Settings;

const COUNTS: [usize; 2] = [10_000, 50_000];

/// Changes whose median is printed.
const ROUNDS: usize = 500;

fn output() -> OutputKey {
    Settings::default().output
}

/// An Ingress with one path to a Service of three servers, the last of which is `port`'s.
fn fragment(settings: &Arc<Settings>, at: usize, port: u16) -> Fragment {
    let namespace = format!("team-{}", at % 100);
    let servers = (1..=3)
        .map(|host| {
            let port = if host == 3 { port } else { 8080 };
            Server { url: format!("http://10.{}.{}.{host}:{port}", at / 256 % 256, at % 256) }
        })
        .collect();
    let service = ServiceFragment {
        key: format!("{namespace}-app-{at}-80").into(),
        owner: ServiceOwner {
            created: Created(at as i64),
            service: ServiceKey::new(namespace.as_str(), format!("app-{at}")),
            port: "80".into(),
            variant: 0,
        },
        service: HttpService {
            load_balancer: LoadBalancer { servers, ..LoadBalancer::default() },
            ..HttpService::default()
        },
    };
    Fragment {
        ingress: IngressKey::new(namespace.as_str(), format!("app-{at}")),
        created: Created(at as i64),
        uid: Uid::default(),
        settings: settings.clone(),
        routers: vec![RouterFragment {
            key: format!("{namespace}-app-{at}-app-{at}-example-org").into(),
            router: Router {
                rule: format!("Host(\"app-{at}.example.org\") && PathPrefix(\"/\")"),
                ..Router::default()
            },
            service: Arc::new(service),
        }],
        default_backend: None,
        certificates: Vec::new(),
        problems: Vec::new(),
        uses_nodes: false,
        namespaces: Box::default(),
    }
}

struct Bench {
    table: Table,
    output: OutputKey,
    settings: Arc<Settings>,
    published: DesiredOutput,
    count: usize,
    round: usize,
}

impl Bench {
    fn new(count: usize) -> Self {
        let settings = Arc::new(Settings::default());
        let mut table = Table::new();
        let start = Instant::now();
        for at in 0..count {
            table.set(fragment(&settings, at, 8080));
        }
        let set = start.elapsed();
        let published = DesiredOutput::new(table.declare(&output()));
        let shards = published.routing_shards.len();
        println!("{count} Ingresses: set in {set:.0?}, {shards} shards after {:.0?}", start.elapsed());
        Self { table, output: output(), settings, published, count, round: 0 }
    }

    /// One changed server, up to the objects to create. How many those are.
    fn change(&mut self) -> usize {
        self.round += 1;
        let port = 9_000 + (self.round / self.count + self.round % 1_000) as u16;
        self.table.set(fragment(&self.settings, self.round * 7_919 % self.count, port));
        let output = self.table.declare(&self.output);
        let wanted = DesiredOutput::new(output);
        let mut created = 0;
        for (position, digest) in wanted.routing_shards.iter().enumerate() {
            if self.published.routing_shards.get(position) != Some(digest) {
                let Some(shard) = output.routing_shard(digest) else { continue };
                let document = shard.document();
                created += usize::from(
                    black_box(objects::routing_shard(&self.output, None, digest, &document)).is_ok(),
                );
            }
        }
        self.published = wanted;
        created
    }

    fn median(&mut self, mut run: impl FnMut(&mut Self)) -> Duration {
        let mut times: Vec<_> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                run(self);
                start.elapsed()
            })
            .collect();
        times.sort_unstable();
        times[times.len() / 2]
    }
}

fn changed_endpoint(criterion: &mut Criterion) {
    let mut medians = Vec::new();
    for count in COUNTS {
        let mut bench = Bench::new(count);
        assert_eq!(bench.change(), 1, "one changed server costs one shard");
        let shard = bench.median(|bench| {
            bench.change();
        });
        let whole = bench.median(|bench| {
            bench.change();
            black_box(bench.table.declare(&bench.output).hash());
        });
        medians.push((shard, whole));
        criterion.bench_function(&format!("changed endpoint of {count}"), |bencher| {
            bencher.iter(|| bench.change());
        });
    }
    let [(small, small_whole), (large, large_whole)] = medians[..] else { return };
    let ratio = |a: Duration, b: Duration| b.as_secs_f64() / a.as_secs_f64();
    println!(
        "changed endpoint to objects: {small:.1?} at 10,000, {large:.1?} at 50,000, ratio {:.2} (goal: 1)",
        ratio(small, large)
    );
    println!(
        "with the hash of the whole: {small_whole:.1?} and {large_whole:.1?}, ratio {:.2}",
        ratio(small_whole, large_whole)
    );
}

criterion_group!(benches, changed_endpoint);
criterion_main!(benches);
