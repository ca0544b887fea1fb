//! A failing case cut down to what still fails, and written out.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::object::{Cluster, manifests, title};
use super::place::{Place, compare_all};
use super::report::{Failure, Report};
use super::server::Snapshot;
use super::waybill::{Library, options};

/// Cases that are cut down in a round; each takes up to a minute.
const CASES: usize = 3;

/// Attempts to leave something out of a case, each with a provider of its own.
const ATTEMPTS: usize = 120;

/// Parts of objects that may be left out one by one.
const PARTS: &[&str] = &[
    "/metadata/annotations",
    "/metadata/labels",
    "/spec/tls",
    "/spec/rules",
    "/spec/rules/0/http/paths",
    "/spec/rules/1/http/paths",
    "/spec/ports",
    "/ports",
    "/endpoints",
];

/// Writes the first failures of a round, cut down, to a folder each. What was tried stays in the control plane.
pub async fn write(place: &Place, clusters: &[Cluster], report: &Report) {
    let mut seen = std::collections::BTreeSet::new();
    let failures = report
        .failures
        .iter()
        .filter(|failure| failure.cluster.as_ref().is_some_and(|cluster| seen.insert(cluster.name.clone())));
    for failure in failures.take(CASES) {
        let Some(cluster) = &failure.cluster else { continue };
        let others: Vec<Cluster> =
            clusters.iter().filter(|other| other.name != cluster.name).cloned().collect();
        let mut shrinker =
            Shrinker { place, others, cluster: cluster.clone(), file: &failure.file, left: ATTEMPTS };
        let text = match shrinker.difference().await {
            Some(text) => {
                shrinker.run().await;
                shrinker.difference().await.unwrap_or(text)
            }
            // It does not come again, which is worth knowing.
            None => format!("{}\n(it did not come again)", failure.text),
        };
        let folder = save(failure, &shrinker.cluster, &text);
        println!("written to {}: {}: {text}", folder.display(), failure.what);
    }
}

/// Writes a case to its folder.
pub fn save(failure: &Failure, cluster: &Cluster, text: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a parent");
    let folder = target.join("peer-failures").join(&cluster.name);
    std::fs::create_dir_all(&folder).expect("a folder");
    let plain: Vec<Value> = cluster.objects.iter().map(plain).collect();
    let mut file = failure.file.clone();
    for list in ["namespaces", "crossProviderNamespaces"] {
        let items =
            file.pointer_mut(&format!("/providers/kubernetesIngress/{list}")).and_then(Value::as_array_mut);
        if let Some(items) = items.filter(|items| !items.is_empty()) {
            // Those of other clusters; what is left must not be an empty list, which means something else.
            items.retain(|item| {
                item.as_str().is_some_and(|name| cluster.namespaces.iter().any(|own| own == name))
            });
            items.push("edge".into());
        }
    }
    for (file, text) in [
        ("input.yaml", manifests(&plain)),
        ("options.yaml", format!("{file:#}\n")),
        ("difference.txt", format!("{}\n{text}\n", failure.what)),
    ] {
        std::fs::write(folder.join(file), text).expect("a file");
    }
    folder
}

/// An object as a user would write it.
fn plain(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for key in ["resourceVersion", "uid", "managedFields", "generation", "creationTimestamp"] {
            metadata.remove(key);
        }
    }
    object
}

struct Shrinker<'a> {
    place: &'a Place,
    others: Vec<Cluster>,
    cluster: Cluster,
    file: &'a Value,
    left: usize,
}

impl Shrinker<'_> {
    /// What differs now.
    async fn difference(&self) -> Option<String> {
        let theirs = self.place.theirs(self.file).await;
        let all: Vec<Cluster> = self.others.iter().cloned().chain([self.cluster.clone()]).collect();
        let snapshot: Snapshot = self.place.snapshot(&all, self.file).await;
        let library = Library::with(options(self.file), &snapshot);
        let mut report = Report::default();
        compare_all(&mut report, "", &all, self.file, &theirs, &library);
        let own = |failure: &&Failure| {
            failure.cluster.as_ref().is_some_and(|cluster| cluster.name == self.cluster.name)
        };
        report.failures.iter().find(own).map(|failure| failure.text.clone())
    }

    async fn run(&mut self) {
        let mut position = 0;
        while position < self.cluster.objects.len() && self.left > 0 {
            if !self.without_object(position).await {
                position += 1;
            }
        }
        for position in 0..self.cluster.objects.len() {
            for part in PARTS {
                self.without_parts(position, part).await;
            }
        }
    }

    async fn without_object(&mut self, position: usize) -> bool {
        self.left -= 1;
        let object = self.cluster.objects.remove(position);
        let _ = self.place.server.delete(&object).await;
        if self.difference().await.is_some() {
            return true;
        }
        match self.place.server.create(&plain(&object)).await {
            Ok(created) => self.cluster.objects.insert(position, created),
            Err(error) => println!("{} does not come back: {error}", title(&object)),
        }
        false
    }

    async fn without_parts(&mut self, position: usize, pointer: &str) {
        let count = match self.cluster.objects[position].pointer(pointer) {
            Some(Value::Object(fields)) => fields.len(),
            Some(Value::Array(items)) => items.len(),
            _ => 0,
        };
        for part in (0..count).rev() {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            let before = self.cluster.objects[position].clone();
            let mut after = before.clone();
            match after.pointer_mut(pointer) {
                Some(Value::Object(fields)) => {
                    let key = fields.keys().nth(part).cloned().unwrap_or_default();
                    fields.remove(&key);
                }
                Some(Value::Array(items)) => drop(items.remove(part)),
                _ => return,
            }
            let Ok(written) = self.place.server.replace(&after).await else { continue };
            self.cluster.objects[position] = written;
            if self.difference().await.is_none() {
                let restored = self.place.server.replace(&before).await;
                self.cluster.objects[position] = restored.unwrap_or(before);
            }
        }
    }
}
