//! Clusters that change object by object while Traefik's provider runs and waybill follows each event.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::generate;
use super::kubectl;
use super::object::{Cluster, is, name, namespace, path, title};
use super::place::{Place, compare_all, differing, sorted};
use super::program::Operator;
use super::random::Random;
use super::report::Report;
use super::server::Snapshot;
use super::shrink;
use super::traefik::Running;
use super::waybill::{Library, options};

/// Numbers of clusters that no other round has.
const FIRST: usize = 2_000_000;

/// How long Traefik's provider may take to answer to what changed.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// Steps after which what was built event by event is compared with what is built anew.
const ANEW_EVERY: usize = 5;

/// The option sets under which changes are followed.
fn files() -> Vec<Value> {
    vec![
        json!({}),
        json!({"providers": {"kubernetesIngress": {
            "labelSelector": "tier=web", "allowEmptyServices": true, "allowExternalNameServices": true,
            "allowCrossNamespace": true}}}),
    ]
}

/// Someone who follows changes under a set of options.
struct Follower {
    file: Value,
    traefik: Running,
    library: Library,
    operator: Operator,
}

/// Changes one object in each of `count` clusters, `steps` times.
pub async fn run(seed: u64, count: usize, steps: usize) -> Report {
    let begun = Instant::now();
    let mut report = Report::default();
    let (mut place, mut clusters) = Place::with_clusters(&mut report, seed, FIRST..FIRST + count).await;
    let mut followers = Vec::new();
    for file in files() {
        kubectl::compare(&mut report, &place, "clusters that are to change", &clusters, &file).await;
        let traefik = place.traefik.start(&super::choices::peer_arguments(&file));
        let library = Library::with(options(&file), &place.snapshot(&clusters, &file).await);
        let operator = place.program.run(&place.server, &place.traefik, &file).await;
        followers.push(Follower { file, traefik, library, operator });
    }
    let mut random = Random::part(seed, FIRST as u64 + 1);
    let mut targets: Vec<Cluster> = clusters.clone();
    let mut variants = 0;
    for step in 0..steps {
        for (cluster, target) in clusters.iter_mut().zip(&mut targets) {
            let change = match pick(&mut random, cluster, target) {
                Some(change) => change,
                None => {
                    *target = generate::variant(seed, cluster, FIRST + variants);
                    variants += 1;
                    let Some(change) = pick(&mut random, cluster, target) else { continue };
                    change
                }
            };
            mutate(&mut report, &place, cluster, target, change, &mut followers).await;
        }
        if step % 3 == 1 {
            mutate_fixed(&mut place, &mut random, &mut followers).await;
        }
        if !settle(&mut report, step, &place, &clusters, &mut followers).await {
            break;
        }
        if step % ANEW_EVERY == ANEW_EVERY - 1 {
            anew(&mut report, step, &place, &clusters, &followers).await;
        }
    }
    for follower in followers {
        follower.operator.end().await;
    }
    println!("{} mutations of {count} clusters: {:.1} s", report.mutations, begun.elapsed().as_secs_f64());
    for failure in &report.failures {
        if let Some(cluster) = &failure.cluster {
            shrink::save(failure, cluster, &failure.text);
        }
    }
    report
}

/// What is to become of one object.
enum Change {
    Create(Value),
    Replace(Value),
    Delete(Value),
}

fn find(objects: &[Value], like: &Value) -> Option<usize> {
    objects.iter().position(|object| {
        object["kind"] == like["kind"] && namespace(object) == namespace(like) && name(object) == name(like)
    })
}

/// A step from what a cluster is to what it shall be.
fn pick(random: &mut Random, cluster: &Cluster, target: &mut Cluster) -> Option<Change> {
    let gone = cluster.objects.iter().filter(|object| find(&target.objects, object).is_none());
    let mut changes: Vec<Change> = gone.cloned().map(Change::Delete).collect();
    for object in &target.objects {
        match find(&cluster.objects, object) {
            None => changes.push(Change::Create(object.clone())),
            // What the API server returned is never what was asked for, so this is done once.
            Some(_) if object["metadata"]["uid"].is_null() => changes.push(Change::Replace(object.clone())),
            Some(_) => {}
        }
    }
    if changes.is_empty() { None } else { Some(changes.swap_remove(random.below(changes.len()))) }
}

async fn mutate(
    report: &mut Report,
    place: &Place,
    cluster: &mut Cluster,
    target: &mut Cluster,
    change: Change,
    followers: &mut [Follower],
) {
    report.mutations += 1;
    let (asked, created) = match change {
        Change::Delete(object) => {
            delete(place, cluster, &object, followers).await;
            return;
        }
        Change::Create(object) => (object.clone(), place.server.create(&object).await),
        Change::Replace(object) => match place.server.replace(&object).await {
            Ok(replaced) => (object, Ok(replaced)),
            Err(_) => {
                // A field that can't be changed: another object of the same name then.
                delete(place, cluster, &object, followers).await;
                (object.clone(), place.server.create(&object).await)
            }
        },
    };
    let position = find(&target.objects, &asked).expect("it is wanted");
    match created {
        Ok(object) => {
            target.objects[position] = object.clone();
            match find(&cluster.objects, &object) {
                Some(position) => cluster.objects[position] = object.clone(),
                None => cluster.objects.push(object.clone()),
            }
            tell(followers, &object, true);
        }
        Err(_) => {
            report.refused += 1;
            target.objects.remove(position);
        }
    }
}

async fn delete(place: &Place, cluster: &mut Cluster, object: &Value, followers: &mut [Follower]) {
    place.server.delete(object).await.unwrap_or_else(|error| panic!("{}: {error}", title(object)));
    if let Some(position) = find(&cluster.objects, object) {
        let object = cluster.objects.remove(position);
        tell(followers, &object, false);
    }
}

/// Hands an event to waybill as the watch of an API server would: an Ingress that a selector no longer selects, and a
/// Secret that has become `owner=helm`, are gone.
fn tell(followers: &mut [Follower], object: &Value, there: bool) {
    for follower in followers {
        let touched = if there && follower.library.selects(object) {
            follower.library.apply(object)
        } else {
            follower.library.delete(object)
        };
        follower.library.reconcile(&touched);
    }
}

/// Class `second` comes and goes, and a node's address changes.
async fn mutate_fixed(place: &mut Place, random: &mut Random, followers: &mut [Follower]) {
    let class = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "second"},
                       "spec": {"controller": "traefik.io/ingress-controller"}});
    match find(&place.fixed, &class) {
        Some(position) => {
            let object = place.fixed.remove(position);
            place.server.delete(&object).await.unwrap_or_else(|error| panic!("{}: {error}", title(&object)));
            tell(followers, &object, false);
        }
        None => {
            let created = place.server.must_create(&class).await;
            tell(followers, &created, true);
            place.fixed.push(created);
        }
    }
    let position = place.fixed.iter().position(|object| is(object, "Node")).expect("a node");
    let mut node = place.fixed[position].clone();
    let address = format!("192.0.2.{}", random.between(100, 200));
    node["status"]["addresses"] = json!([{"type": "InternalIP", "address": address}]);
    let written = place.server.replace_at(&format!("{}/status", path(&node)), &node).await;
    let written = written.unwrap_or_else(|error| panic!("{}: {error}", title(&node)));
    tell(followers, &written, true);
    place.fixed[position] = written;
}

/// Waits until both answers are the same; whether they came to be.
async fn settle(
    report: &mut Report,
    step: usize,
    place: &Place,
    clusters: &[Cluster],
    followers: &mut [Follower],
) -> bool {
    let deadline = Instant::now() + SETTLED_WITHIN;
    for follower in followers {
        loop {
            let theirs = follower.traefik.newest.borrow_and_update().clone();
            let mut now = Report::default();
            compare_all(
                &mut now,
                &format!("step {step}"),
                clusters,
                &follower.file,
                &theirs,
                &follower.library,
            );
            let left = deadline.saturating_duration_since(Instant::now());
            if now.failures.is_empty() {
                report.add(now);
                break;
            }
            let changed = tokio::time::timeout(left, follower.traefik.newest.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                let said = follower.traefik.said();
                println!("step {step}: no equal answer within {SETTLED_WITHIN:?}; the provider says: {said}");
                report.add(now);
                return false;
            }
        }
        let wanted = follower.library.answer();
        let published = follower.operator.settled(&place.server, wanted).await;
        report.answers += 1;
        if published.is_null() || sorted(&published) != sorted(wanted) {
            let (differing, said) = (differing(&published, wanted), follower.operator.said());
            let text = format!("waybill run publishes something else:\n{differing}\n{said}");
            report.fail(&format!("step {step}"), text, None, &follower.file);
            return false;
        }
    }
    true
}

/// What came of all the events must be what comes of the objects.
async fn anew(report: &mut Report, step: usize, place: &Place, clusters: &[Cluster], followers: &[Follower]) {
    for follower in followers {
        let snapshot: Snapshot = place.snapshot(clusters, &follower.file).await;
        let fresh = Library::with(options(&follower.file), &snapshot);
        let (fresh, followed) = (fresh.answer(), follower.library.answer());
        if fresh != followed {
            let text = format!("waybill event by event differs from waybill anew\n  {followed}\n  {fresh}");
            report.fail(&format!("step {step}"), text, None, &follower.file);
        }
    }
}
