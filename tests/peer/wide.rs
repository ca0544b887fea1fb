//! Many made-up clusters at once, under every option set that can be tried so.

use std::time::Instant;

use futures::stream::{self, StreamExt};

use super::answers::compare_three;
use super::choices::{Choice, pairwise};
use super::defaults;
use super::object::Cluster;
use super::place::Place;
use super::report::Report;
use super::shrink;

/// Clusters that share a control plane.
const TOGETHER: usize = 300;

/// Option sets that are tried at once.
const AT_ONCE: usize = 2;

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
        let mut reports = stream::iter(&choices)
            .map(|choice| compare_choice(&place, &clusters, choice))
            .buffer_unordered(AT_ONCE);
        while let Some(one) = reports.next().await {
            report.add(one);
        }
        drop(reports);
        let compared = begun.elapsed() - filled;
        defaults::run(&mut report, &place, &clusters).await;
        println!(
            "clusters {first} to {}: {:.1} s to fill, {:.1} s for {} option sets, {:.1} s for default backends",
            first + clusters.len(),
            filled.as_secs_f64(),
            compared.as_secs_f64(),
            choices.len(),
            (begun.elapsed() - filled - compared).as_secs_f64(),
        );
        shrink::write(&place, &clusters, &report).await;
        all.add(report);
    }
    all
}

async fn compare_choice(place: &Place, clusters: &[Cluster], choice: &Choice) -> Report {
    let mut report = Report::default();
    let file = choice.file(clusters);
    compare_three(&mut report, place, &choice.to_string(), clusters, &file).await;
    report.tried(choice, clusters.len());
    report
}
