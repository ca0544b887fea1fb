//! What has to hold once faults are over: routing, statuses and Events are what the objects in the API server say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use k8s_openapi::api::networking::v1::IngressLoadBalancerIngress;
use serde::Deserialize as _;
use serde_json::{Value, json};
use waybill::kubernetes::key::IngressKey;
use waybill::kubernetes::manifests::Manifests;
use waybill::offline;
use waybill::options;
use waybill::published::read::Published;
use waybill::traefik::document::Keys;
use waybill::translate::problem::{Category, Problem};
use waybill::translate::status::{self, DesiredStatus};

use super::api::{Admin, Failure};
use super::harness::operator::{binary, sort_certificates};
use super::reader;
use super::replicas::Pace;
use super::world::OUTPUTS;

/// Everything that decides about routing.
const KINDS: [&str; 9] = [
    "IngressClass",
    "IngressClassParameters",
    "ConfigMap",
    "Ingress",
    "Service",
    "EndpointSlice",
    "Secret",
    "Node",
    "Namespace",
];

/// Objects that were read are compared with so many times as long as it took to read them, before they are read again.
const READ_AGAIN: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);
/// What takes longer is explained.
const LONG: Duration = Duration::from_secs(30);

/// What the objects say.
pub struct Expected {
    routing: BTreeMap<&'static str, Value>,
    /// By Ingress; `None` where the status is left as it is.
    statuses: BTreeMap<IngressKey, Option<BTreeSet<String>>>,
    problems: BTreeSet<Problem>,
    /// By kind, namespace and name.
    uids: BTreeMap<(String, String, String), String>,
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Writes everything that the API server holds to a file, and gives its objects.
pub async fn dump(admin: &Admin, folder: &Path) -> Result<(PathBuf, Vec<Value>), Failure> {
    let mut objects = Vec::new();
    for kind in KINDS {
        objects.extend(admin.list(kind).await?);
    }
    let path = folder.join("objects.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": &objects});
    std::fs::write(&path, serde_json::to_vec(&list).unwrap()).unwrap();
    Ok((path, objects))
}

/// Runs `waybill render` with the options of the replicas.
pub fn rendered(path: &Path, format: &str, output: &str, pace: Pace) -> Output {
    let mut command = Command::new(binary());
    command.args(["render", "-o", format, "--output-name", output, "-f"]).arg(path).args(pace.flags());
    command.env_clear().output().unwrap()
}

fn entries(entries: &[IngressLoadBalancerIngress]) -> BTreeSet<String> {
    entries.iter().map(|entry| json!(entry).to_string()).collect()
}

impl Expected {
    pub async fn of(admin: &Admin, folder: &Path, pace: Pace) -> Result<Self, Failure> {
        let (path, objects) = dump(admin, folder).await?;
        let routing = OUTPUTS.map(|output| {
            let answer = rendered(&path, "json", output, pace);
            let mut document: Value = serde_json::from_slice(&answer.stdout)
                .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&answer.stderr)));
            sort_certificates(&mut document);
            (output, document)
        });
        let file = json!({"providers": {"kubernetesIngress": {
            "ingressEndpoint": {"publishedService": "edge/traefik"},
        }}});
        let options = options::from_yaml_str(&file.to_string()).unwrap().options;
        let manifests = Manifests::read(&[path], std::io::empty()).unwrap();
        let live = offline::routing(manifests, &options);
        let mut problems = live.all_problems();
        problems.extend(live.classes().problems());
        let mut statuses = BTreeMap::new();
        let mut uids = BTreeMap::new();
        for object in &objects {
            let kind = text(object, "/kind");
            let (namespace, name) = (text(object, "/metadata/namespace"), text(object, "/metadata/name"));
            if kind == "Ingress" {
                let key = IngressKey::new(namespace.as_str(), name.as_str());
                let wanted = match live.settings(&key).map(|settings| status::wanted(settings, live.stores()))
                {
                    // It is not ours, so what we wrote is withdrawn.
                    None => Some(BTreeSet::new()),
                    Some(Ok(DesiredStatus::Entries(wanted))) => Some(entries(&wanted)),
                    Some(Ok(DesiredStatus::LeaveAlone) | Err(_)) => None,
                };
                statuses.insert(key, wanted);
            }
            uids.insert((kind, namespace, name), text(object, "/metadata/uid"));
        }
        Ok(Self { routing: routing.into(), statuses, problems, uids })
    }

    /// How many Ingresses, routers and problems there are.
    pub fn size(&self) -> (usize, usize, usize) {
        let routers =
            |document: &Value| document["http"]["routers"].as_object().map_or(0, serde_json::Map::len);
        (self.statuses.len(), self.routing.values().map(routers).sum(), self.problems.len())
    }

    /// What is not as expected now.
    pub async fn compare(&self, admin: &Admin) -> Result<(), String> {
        for (output, wanted) in &self.routing {
            let published = reader::now(&admin.client(), output).await?;
            compare_routing(output, &published, wanted)?;
        }
        self.compare_statuses(&admin.list("Ingress").await.map_err(|failure| failure.to_string())?)?;
        let lease = admin.get("Lease", "waybill", "waybill").await.map_err(|failure| failure.to_string())?;
        let events = admin.list("Event").await.map_err(|failure| failure.to_string())?;
        let leader = (text(&lease, "/spec/holderIdentity"), text(&lease, "/spec/acquireTime"));
        self.compare_events(&events, &leader)
    }

    fn compare_statuses(&self, ingresses: &[Value]) -> Result<(), String> {
        for ingress in ingresses {
            let key = IngressKey::new(text(ingress, "/metadata/namespace"), text(ingress, "/metadata/name"));
            let there = &ingress["status"]["loadBalancer"]["ingress"];
            let there = Vec::<IngressLoadBalancerIngress>::deserialize(there).unwrap_or_default();
            match self.statuses.get(&key) {
                None => return Err(format!("Ingress {key} is new")),
                Some(Some(wanted)) if *wanted != entries(&there) => {
                    return Err(format!("the status of Ingress {key} is {there:?}, not {wanted:?}"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Every problem has its Event. An Event that this term of the leader told and whose problem is over has another
    /// one that says so; what an earlier one told, nobody remembers.
    fn compare_events(&self, events: &[Value], (holder, since): &(String, String)) -> Result<(), String> {
        let told = |uid: &str, reason: &str, field: &str| {
            events.iter().any(|event| {
                text(event, "/regarding/uid") == uid
                    && text(event, "/reason") == reason
                    && text(event, "/note").starts_with(&format!("{field}: "))
            })
        };
        let mut stand = BTreeSet::new();
        for problem in &self.problems {
            let subject = &problem.subject;
            let kind = subject.kind.as_str().to_owned();
            let Some(uid) = self.uids.get(&(kind, subject.namespace.clone(), subject.name.clone())) else {
                continue;
            };
            if !told(uid, problem.category.as_str(), &problem.field) {
                return Err(format!("no Event tells of {problem:?}"));
            }
            stand.insert((uid.clone(), problem.category.as_str().to_owned(), problem.field.clone()));
        }
        let alive: BTreeSet<&String> = self.uids.values().collect();
        for event in events {
            let (uid, reason) = (text(event, "/regarding/uid"), text(event, "/reason"));
            let note = text(event, "/note");
            // As texts these are in order: the API server writes each with six digits after the point.
            let last = text(event, "/series/lastObservedTime").max(text(event, "/eventTime"));
            // What another one wrote may have arrived late.
            let ours = text(event, "/reportingInstance") == *holder && text(event, "/type") == "Warning";
            if !ours || !alive.contains(&uid) || last < *since {
                continue;
            }
            let Some((field, _)) = note.split_once(": ") else { continue };
            // It stands for ten minutes, and only who leads can know of it.
            if reason == Category::StatusContested.as_str() {
                continue;
            }
            let stands = stand.contains(&(uid.clone(), reason.clone(), field.to_owned()));
            if !stands && !told(&uid, &format!("{reason}Resolved"), field) {
                let about = text(event, "/regarding/name");
                let name = text(event, "/metadata/name");
                return Err(format!(
                    "Event {name} tells of {reason} at {about}, which is over: {note}; last told at {last}, \
                     and {holder} leads since {since}"
                ));
            }
        }
        Ok(())
    }
}

fn compare_routing(output: &str, published: &Published, wanted: &Value) -> Result<(), String> {
    let mut there: Value = serde_json::from_str(&published.document(Keys::LeftOut)).unwrap();
    sort_certificates(&mut there);
    if there == *wanted {
        return Ok(());
    }
    let mut lines = vec![format!("{output}, generation {}:", published.index.generation)];
    for (sign, some, other) in [("published", &there, wanted), ("wanted", wanted, &there)] {
        for section in ["routers", "services"] {
            for (key, value) in some["http"][section].as_object().into_iter().flatten() {
                if other["http"][section][key] != *value {
                    lines.push(format!("  {sign}: {section} {key}: {value}"));
                }
            }
        }
        let none = Vec::new();
        let certificates =
            |document: &Value| document["tls"]["certificates"].as_array().unwrap_or(&none).len();
        lines.push(format!("  {sign}: {} certificates", certificates(some)));
    }
    lines.truncate(12);
    Err(lines.join("\n"))
}

/// Waits until everything is as the objects say; gives how long that took and what it was, or what is not right.
pub async fn converge(admin: &Admin, folder: &Path, pace: Pace) -> Result<(Duration, Expected), String> {
    let (begun, within) = (Instant::now(), pace.right_within);
    let mut last = String::new();
    while begun.elapsed() < within {
        let reading = Instant::now();
        let expected = match Expected::of(admin, folder, pace).await {
            Ok(expected) => expected,
            Err(failure) => {
                last = failure.to_string();
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (read, took) = (Instant::now(), reading.elapsed());
        while read.elapsed() < took * READ_AGAIN {
            match expected.compare(admin).await {
                Ok(()) => {
                    if begun.elapsed() > LONG {
                        println!("it took {:.1?}, of which the last was for: {last}", begun.elapsed());
                    }
                    return Ok((begun.elapsed(), expected));
                }
                Err(why) => last = why,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Err(format!("not right within {within:?}: {last}"))
}

/// Objects with an ownerReference: none may have one, or deleting the owner would take the routing along.
pub async fn owned(admin: &Admin) -> Result<Vec<String>, Failure> {
    let mut owned = Vec::new();
    for kind in KINDS.iter().chain(&["Event", "Lease"]) {
        for object in admin.list(kind).await? {
            if object["metadata"]["ownerReferences"].is_array() {
                owned.push(format!("{kind} {}", text(&object, "/metadata/name")));
            }
        }
    }
    Ok(owned)
}
