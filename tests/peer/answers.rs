//! The three answers to the same objects and options: Traefik's provider, `waybill render`, and `waybill run` against
//! the same API server, read as any reader of what it publishes would.

use serde_json::Value;

use super::object::Cluster;
use super::place::{Place, compare_all, differing, must_equal, sorted};
use super::report::Report;
use super::waybill::{Library, options};

/// Compares the three, cluster by cluster. Waybill's library is compared by meaning; both programs have to give what it
/// does, to the letter. It is handed back with the objects in it.
pub async fn compare_three(
    report: &mut Report,
    place: &Place,
    what: &str,
    clusters: &[Cluster],
    file: &Value,
) -> Library {
    let (theirs, library) = compare_two(report, place, what, clusters, file).await;
    let (published, said) = run(place, file, &library).await;
    must_be_published(report, what, clusters, file, (&theirs, &published), &library, &said);
    library
}

/// As [`compare_three`] without `waybill run`: Traefik's answer and the library.
pub async fn compare_two(
    report: &mut Report,
    place: &Place,
    what: &str,
    clusters: &[Cluster],
    file: &Value,
) -> (Value, Library) {
    let (theirs, snapshot) = tokio::join!(place.theirs(file), place.snapshot(clusters, file));
    let library = Library::with(options(file), &snapshot);
    compare_all(report, what, clusters, file, &theirs, &library);
    let rendered = place.program.render(&snapshot, file).await;
    let what = format!("waybill render, {what}");
    must_equal(report, &what, clusters, file, (&theirs, &rendered), &library);
    (theirs, library)
}

/// Runs an operator until it has published what the library says, and ends it: what it published, and its log.
async fn run(place: &Place, file: &Value, library: &Library) -> (Value, String) {
    let mut operator = place.program.run(&place.server, &place.traefik, file).await;
    let published = operator.settled(&place.server, library.answer()).await;
    let said = operator.said();
    operator.end().await;
    (published, said)
}

/// As [`must_equal`] for what an operator published, with its log where that is something else.
pub fn must_be_published(
    report: &mut Report,
    what: &str,
    clusters: &[Cluster],
    file: &Value,
    (theirs, published): (&Value, &Value),
    library: &Library,
    said: &str,
) {
    let what = format!("waybill run, {what}");
    let wanted = library.answer();
    if published.is_null() || sorted(published) != sorted(wanted) {
        let differing = differing(published, wanted);
        report.fail(&what, format!("waybill run publishes something else:\n{differing}\n{said}"), None, file);
    }
    must_equal(report, &what, clusters, file, (theirs, published), library);
}
