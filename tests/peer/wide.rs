//! Many made-up clusters at once, under every option set that can be tried so.

use std::time::Instant;

use futures::stream::{self, StreamExt};
use serde_json::json;

use super::choices::{Choice, pairwise};
use super::object::Cluster;
use super::place::{Place, compare_all, must_equal, wants_default};
use super::report::Report;
use super::shrink;
use super::waybill::{Library, options};

/// Clusters that share a control plane.
const TOGETHER: usize = 250;

/// Providers at work at once.
const PROVIDERS: usize = 2;

/// Clusters of a round whose default backend is looked at by itself.
const ALONE: usize = 6;

/// Compares clusters 0 to `count` of a seed.
pub async fn run(seed: u64, count: usize) -> Report {
    let choices: Vec<Choice> = pairwise(seed).into_iter().filter(Choice::is_wide).collect();
    let mut all = Report::default();
    for first in (0..count).step_by(TOGETHER) {
        let begun = Instant::now();
        let mut report = Report::default();
        let numbers = first..(first + TOGETHER).min(count);
        let (place, clusters) = Place::with_clusters(&mut report, seed, numbers).await;
        let filled = begun.elapsed();
        compare_choices(&mut report, &place, &clusters, &choices).await;
        compare_alone(&mut report, &place, &clusters).await;
        println!(
            "clusters {first} to {}: {:.1} s to fill, {:.1} s for {} option sets",
            first + clusters.len(),
            filled.as_secs_f64(),
            (begun.elapsed() - filled).as_secs_f64(),
            choices.len()
        );
        shrink::write(&place, &clusters, &report).await;
        all.add(report);
    }
    all
}

async fn compare_choices(report: &mut Report, place: &Place, clusters: &[Cluster], choices: &[Choice]) {
    let mut answers = stream::iter(choices)
        .map(|choice| async move {
            let file = choice.file(clusters);
            let theirs = place.theirs(&file).await;
            let snapshot = place.snapshot(clusters, &file).await;
            let rendered = place.program.render(&snapshot, &file).await;
            (choice, file, theirs, snapshot, rendered)
        })
        .buffered(PROVIDERS);
    while let Some((choice, file, theirs, snapshot, rendered)) = answers.next().await {
        let library = Library::with(options(&file), &snapshot);
        compare_all(report, &choice.to_string(), clusters, &file, &theirs, &library);
        let what = format!("waybill render, {choice}");
        must_equal(report, &what, clusters, &file, (&theirs, &rendered), &library);
    }
}

/// The default router is there once for all: what a cluster's own would be shows only where no other's counts.
async fn compare_alone(report: &mut Report, place: &Place, clusters: &[Cluster]) {
    for cluster in clusters.iter().filter(|cluster| wants_default(cluster)).take(ALONE) {
        let selector = format!("cluster={}", cluster.name);
        let file = json!({"providers": {"kubernetesIngress": {"labelSelector": selector}}});
        let theirs = place.theirs(&file).await;
        let clusters = std::slice::from_ref(cluster);
        let library = Library::with(options(&file), &place.snapshot(clusters, &file).await);
        compare_all(report, &selector, clusters, &file, &theirs, &library);
    }
}
