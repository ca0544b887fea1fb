//! What the translation of an Ingress costs: time, allocations, and one changed endpoint from the event to the shard.

#![allow(missing_docs, reason = "criterion's macros make public items without")]
#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/stores.rs"]
mod stores;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kube::runtime::watcher::Event;
use waybill::kubernetes::key::IngressKey;
use waybill::routing::Routing;
use waybill::translate::settings::Settings;
use waybill::translate::translate;
use waybill::watch::Scope;

/// Ingresses a second that one core should translate.
const GOAL: f64 = 200_000.0;

/// Passes whose rates are printed.
const PASSES: usize = 15;

/// CPU time of this thread: what else the machine does counts for little.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "counting allocations needs an allocator; this one only forwards")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn translate_all(routing: &Routing, settings: &Arc<Settings>) {
    for (key, ingress) in routing.stores().ingresses().iter() {
        black_box(translate(&IngressKey(key.clone()), ingress, settings, routing.stores()));
    }
}

/// One endpoint changes: event, index, translation, table, and the texts of the shards that changed.
fn change(routing: &mut Routing, number: usize, generation: u8) {
    let slice = stores::typed(cluster::endpoint_slice(number, generation));
    change_to(routing, slice);
}

fn change_to(routing: &mut Routing, slice: waybill::kubernetes::EndpointSlice) {
    let touched = routing.stores_mut().apply_slice(&Scope::All, Event::Apply(slice));
    for key in routing.affected(&touched) {
        for output in routing.reconcile(&key).unwrap().change.outputs {
            if let Some(output) = routing.table_mut().output_mut(&output) {
                output.refresh();
                black_box(output.routing_shards().count());
            }
        }
    }
}

fn translation(criterion: &mut Criterion) {
    let count = 10_000;
    let settings = Arc::new(Settings::default());
    let routing = stores::routing(count);

    let before = ALLOCATIONS.load(Ordering::Relaxed);
    translate_all(&routing, &settings);
    let allocations = (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / count as f64;
    let mut rates: Vec<f64> = (0..PASSES)
        .map(|_| {
            let start = cpu_seconds();
            translate_all(&routing, &settings);
            count as f64 / (cpu_seconds() - start)
        })
        .collect();
    rates.sort_unstable_by(f64::total_cmp);
    let [least, .., greatest] = rates[..] else { return };
    let rate = rates[rates.len() / 2];
    println!(
        "translation: {rate:.0} Ingresses per second of CPU ({least:.0} to {greatest:.0}), {:.2} of the goal; \
         {allocations:.1} allocations an Ingress",
        rate / GOAL
    );

    let mut group = criterion.benchmark_group("translate");
    group.throughput(Throughput::Elements(count as u64));
    group.sample_size(20);
    group.bench_function("10000 Ingresses", |bencher| bencher.iter(|| translate_all(&routing, &settings)));
    group.finish();
}

fn changed_endpoint(criterion: &mut Criterion) {
    let mut medians = Vec::new();
    for count in [10_000, 50_000] {
        let mut routing = stores::routing(count);
        routing.reconcile_all();
        for output in routing.table().outputs().map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            routing.table_mut().output_mut(&output).unwrap().refresh();
        }
        let mut times: Vec<_> = (0..2_000)
            .map(|round: usize| {
                let slice =
                    stores::typed(cluster::endpoint_slice(round * 7 % count, (round % 200 + 1) as u8));
                let start = cpu_seconds();
                change_to(&mut routing, slice);
                Duration::from_secs_f64(cpu_seconds() - start)
            })
            .collect();
        times.sort_unstable();
        medians.push(times[times.len() / 2]);
        let mut round = 0_usize;
        criterion.bench_function(&format!("changed endpoint of {count}"), |bencher| {
            bencher.iter(|| {
                round += 1;
                change(&mut routing, round * 7 % count, (round % 200 + 1) as u8);
            });
        });
        let key = IngressKey::new(cluster::namespace(0), "app-0");
        assert!(routing.settings(&key).is_some(), "the made-up Ingresses are ours");
    }
    let ratio = medians[1].as_secs_f64() / medians[0].as_secs_f64();
    println!(
        "changed endpoint: median {:?} at 10,000 and {:?} at 50,000, ratio {ratio:.2} (goal: 1)",
        medians[0], medians[1]
    );
}

criterion_group!(benches, translation, changed_endpoint);
criterion_main!(benches);
