//! The comparison that docs/migration.md asks users to make: what kubectl prints, piped into `waybill render`.

use serde_json::Value;

use super::object::Cluster;
use super::place::{Place, differing, sorted};
use super::report::Report;
use super::waybill::{Library, options};

const KINDS: &str = "ingresses,ingressclasses,services,endpointslices,secrets,nodes";

/// Compares what comes of kubectl's JSON with what comes of the objects themselves.
pub async fn compare(report: &mut Report, place: &Place, what: &str, clusters: &[Cluster], file: &Value) {
    report.answers += 1;
    // Not as YAML: kubectl refuses to print that when there is a control character anywhere.
    let printed = place.kubectl(&["get", KINDS, "-A", "-o", "json"]);
    let rendered = place.program.render_text(printed, file).await;
    let library = Library::with(options(file), &place.snapshot(clusters, file).await);
    let wanted = library.answer();
    if sorted(&rendered) != sorted(wanted) {
        let text =
            format!("kubectl | waybill render gives something else:\n{}", differing(&rendered, wanted));
        report.fail(what, text, None, file);
    }
}
