//! What rendering manifests costs, against parsing the same YAML with the same library and nothing else.

#![allow(missing_docs, reason = "criterion's macros make public items without")]
#![allow(clippy::unwrap_used)]

#[path = "support/cluster.rs"]
mod cluster;

use std::fmt::Write;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::Value;
use waybill::kubernetes::manifests::Manifests;
use waybill::offline;
use waybill::options::{self, Options};
use waybill::traefik::document::Keys;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rendering should take at most this much of the time that parsing takes.
const GOAL: f64 = 1.3;

fn manifests(count: usize) -> String {
    let mut text = String::new();
    for object in cluster::objects(count) {
        writeln!(text, "---\n{}", serde_saphyr::to_string(&object).unwrap()).unwrap();
    }
    text
}

/// The library's own way through a stream of documents, without limits that would stop it.
fn parse(text: &str) -> usize {
    let options = serde_saphyr::options! { budget: None, with_snippet: false };
    let documents: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options).unwrap();
    documents.len()
}

fn read(text: &str) -> Manifests {
    let mut manifests = Manifests::default();
    manifests.add(&Arc::from("cluster.yaml"), text.as_bytes());
    manifests
}

fn render(text: &str, options: &Options) -> usize {
    let mut routing = offline::routing(read(text), options);
    let problems = routing.all_problems().len();
    assert_eq!(problems, 0);
    routing.table_mut().declare(&options.settings.output).assembled(Keys::LeftOut).len()
}

/// The time that this thread has had a processor, so that a busy machine does not count; elsewhere than on Linux
/// the time since `start`.
fn processor_time(start: Instant) -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = statistics.as_deref().and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// The shortest of several runs: what the machine does beside it only ever adds.
fn shortest(mut run: impl FnMut() -> usize) -> Duration {
    let times = (0..5).map(|_| {
        let start = Instant::now();
        let before = processor_time(start);
        black_box(run());
        processor_time(start) - before
    });
    times.min().unwrap()
}

fn bench(criterion: &mut Criterion) {
    let text = manifests(10_000);
    let options = options::from_yaml_str("").unwrap().options;
    let parsing = shortest(|| parse(&text));
    let reading = shortest(|| read(&text).len());
    let rendering = shortest(|| render(&text, &options));
    let ratio = rendering.as_secs_f64() / parsing.as_secs_f64();
    println!(
        "10,000 Ingresses, {} MB: parsing {parsing:.1?}, reading {reading:.1?}, rendering {rendering:.1?}: \
         {ratio:.2} times parsing (goal {GOAL})",
        text.len() >> 20
    );
    let small = manifests(1_000);
    let mut group = criterion.benchmark_group("manifests of 1,000 Ingresses");
    group.sample_size(20);
    group.bench_function("parse", |bencher| bencher.iter(|| parse(black_box(&small))));
    group.bench_function("read", |bencher| bencher.iter(|| read(black_box(&small)).len()));
    group.bench_function("render", |bencher| bencher.iter(|| render(black_box(&small), &options)));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
