//! Replicas of two releases beside each other: an upgrade and the way back, while objects change and while they rest.
//! `WAYBILL_OLD_BINARY` and `WAYBILL_OLD_SOURCE` name the older release; `make test-upgrade` sets them. Without them this
//! release stands for both, and the older one has an option that gives every rule another form.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use waybill::traefik::document::Keys;

use super::objects::{ADDRESS, FAST, ingress, secret, service, shop_with, slice, tls_ingress};
use crate::harness::operator::{Operator, SOON, binary, sort_certificates};
use crate::harness::published::{Miss, Reader};
use crate::harness::{ControlPlane, Signal, eventually};

const OUTPUT: &str = "waybill/waybill";
/// Enough for several shards.
const KEPT: usize = 200;
const OTHER_FORM: &str = "--providers.kubernetesingress.strictprefixmatching=true";
const ELECTION: [&str; 3] = [
    "--operator.leaderelection.leaseduration=3s",
    "--operator.leaderelection.renewdeadline=2s",
    "--operator.leaderelection.retryperiod=500ms",
];

type Routers = serde_json::Map<String, Value>;

struct Release {
    name: &'static str,
    program: OsString,
    source: PathBuf,
    flags: Vec<&'static str>,
    /// How it writes the routers that never change.
    routers: Routers,
}

impl Release {
    fn old_and_new() -> (Self, Self) {
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let new = Self {
            name: "new",
            program: binary(),
            source: source.clone(),
            flags: vec![FAST, ADDRESS],
            routers: Routers::new(),
        };
        let flags = new.flags.clone();
        let old = match std::env::var_os("WAYBILL_OLD_BINARY") {
            Some(program) => Self {
                name: "old",
                program,
                source: std::env::var_os("WAYBILL_OLD_SOURCE").map_or(source, PathBuf::from),
                flags,
                routers: Routers::new(),
            },
            None => Self {
                name: "old",
                program: binary(),
                source,
                flags: [flags, vec![OTHER_FORM]].concat(),
                routers: Routers::new(),
            },
        };
        (old, new)
    }

    fn install(&self, plane: &ControlPlane, folder: &str) {
        plane.install(&self.source.join(folder).display().to_string());
    }

    async fn replica(&self, plane: &ControlPlane, number: usize) -> Replica {
        let name = format!("{}-{number}", self.name);
        let token = plane.folder().join(format!("{name}.token"));
        std::fs::write(&token, plane.service_account_token("waybill", "waybill").await).unwrap();
        let mut command = Command::new(&self.program);
        command.arg("run").args(&self.flags).args(ELECTION).env_clear();
        plane.reached_by(&mut command, &token);
        Replica { operator: plane.operator_by(&name, command), name }
    }

    /// What its `render` makes of everything that the API server holds.
    fn rendered(&self, plane: &ControlPlane) -> Value {
        let kinds = "ingressclasses,ingressclassparameters,ingresses,services,endpointslices,secrets,nodes,namespaces";
        let path = plane.folder().join("objects.json");
        std::fs::write(&path, plane.kubectl_ok(&["get", kinds, "-A", "-o", "json"])).unwrap();
        let mut command = Command::new(&self.program);
        command.args(["render", "-o", "json", "-f"]).arg(path).args(&self.flags).env_clear();
        let mut document = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        sort_certificates(&mut document);
        document
    }
}

struct Replica {
    name: String,
    operator: Operator,
}

/// Who serves as it should: all is published as the leader's release renders it, and every Ingress has its address.
async fn right(plane: &ControlPlane, release: &Release) {
    let ingresses: Api<Ingress> = Api::all(plane.admin());
    eventually(&format!("all is as the {} release renders it", release.name), SOON, async || {
        let (index, document) = plane.published(OUTPUT).await.ok_or("no index")?;
        if document != release.rendered(plane) {
            return Err(format!("generation {} differs", index.generation));
        }
        let all = ingresses.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let bare = all.items.into_iter().find(|ingress| {
            let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
            status.and_then(|status| status.ingress.as_ref()).is_none_or(Vec::is_empty)
        });
        bare.map_or(Ok(()), |ingress| Err(format!("{:?} has no address", ingress.metadata.name)))
    })
    .await;
}

/// What a reader met from the beginning to the end.
#[derive(Default)]
struct Seen {
    states: usize,
    forms: BTreeSet<&'static str>,
    wrong: Vec<String>,
}

/// Reads as fast as it can. Every state has to be whole and newer than the last, with all routers that never change in
/// the form of one release.
async fn read(mut reader: Reader, forms: [(&'static str, Routers); 2], over: Arc<AtomicBool>) -> Seen {
    let mut seen = Seen::default();
    let mut last = (0, 0);
    while !over.load(Ordering::SeqCst) && seen.wrong.len() < 5 {
        let published = match reader.now(5).await {
            Ok(published) => published,
            Err(Miss::NoAnswer(_)) => continue,
            Err(miss) => {
                seen.wrong.push(format!("after {last:?}: {miss:?}"));
                continue;
            }
        };
        let now = (published.index.epoch, published.index.generation);
        if now.0 < last.0 || now.1 < last.1 {
            seen.wrong.push(format!("back from {last:?} to {now:?}"));
        }
        if now == last {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        last = now;
        seen.states += 1;
        let document: Value = serde_json::from_str(&published.document(Keys::LeftOut)).unwrap();
        let (routers, services) = (&document["http"]["routers"], &document["http"]["services"]);
        let mut of_none = Vec::new();
        for (name, form) in &forms {
            match form.iter().find(|(key, router)| routers[key.as_str()] != **router) {
                None => _ = seen.forms.insert(name),
                Some((key, _)) => of_none.push(format!("{key} of the {name} release: {}", routers[key])),
            }
        }
        if of_none.len() == forms.len() {
            seen.wrong.push(format!("{now:?} is of neither release: {of_none:?}"));
        }
        let nowhere = forms[0].1.values().find(|router| {
            let servers =
                &services[router["service"].as_str().unwrap_or_default()]["loadBalancer"]["servers"];
            servers.as_array().is_none_or(Vec::is_empty)
        });
        if let Some(router) = nowhere {
            seen.wrong.push(format!("{now:?}: {router} leads nowhere"));
        }
    }
    seen
}

/// Changes of what is not kept, and of what kept routers lead to; gives how many there were.
async fn churn(plane: &ControlPlane, over: &AtomicBool) -> usize {
    let ingresses: Api<Ingress> = Api::namespaced(plane.admin(), "shop");
    let mut changes = 0;
    while !over.load(Ordering::SeqCst) {
        let loose = format!("loose-{}", changes % 7);
        match changes % 4 {
            0 => plane.apply_objects(&[tls_ingress("shop", &loose, "web", &["tls"])]).await,
            1 => plane.apply_objects(&[slice("shop", "web", &format!("10.1.1.{}", changes % 200))]).await,
            2 => {
                let text = format!("certificate {changes}");
                plane.apply_objects(&[secret("shop", "tls", "kubernetes.io/tls", &text, "a2V5")]).await;
            }
            _ => match ingresses.delete(&loose, &Default::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                deleted => _ = deleted.unwrap(),
            },
        }
        changes += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    changes
}

/// What a replica wrote so far, by verb and object; shards, which are named after their content, by what they are.
fn writes(plane: &ControlPlane, replica: &Replica) -> BTreeMap<String, usize> {
    let mut writes = BTreeMap::new();
    for event in plane.requests_of(&replica.name) {
        let object = &event.object_ref;
        if !event.is_write() || object.resource == "leases" {
            continue;
        }
        let name = match &object.name {
            name if name.contains(".r-") => "a routing shard",
            name if name.contains(".k-") => "a key shard",
            name => name,
        };
        *writes
            .entry(format!("{} {}/{name} {}", event.verb, object.resource, object.subresource))
            .or_default() += 1;
    }
    writes
}

/// Ingresses whose addresses a release wrote that had no field manager for each installation: the next one applies each once
/// more.
async fn to_take_over(plane: &ControlPlane) -> BTreeSet<String> {
    let ingresses: Api<Ingress> = Api::namespaced(plane.admin(), "shop");
    let all = ingresses.list(&ListParams::default()).await.unwrap().items.into_iter();
    let older = all.filter(|ingress| {
        let managers = ingress.metadata.managed_fields.iter().flatten();
        !managers.filter_map(|entry| entry.manager.as_deref()).any(|manager| manager.starts_with("waybill:"))
    });
    older.filter_map(|ingress| ingress.metadata.name).collect()
}

/// While nothing changes, `next` takes over from `leader`, and writes its epoch and what its release writes otherwise.
async fn takes_over_at_rest(
    plane: &ControlPlane,
    leader: Replica,
    next: &Replica,
    same_form: bool,
    mark: &str,
) {
    let (before, _) = plane.published(OUTPUT).await.unwrap();
    let older = to_take_over(plane).await;
    replace(leader, next, Signal::TERM).await;
    // Whatever it has to write is written before the status of an Ingress that comes now.
    plane.apply_objects(&[ingress("shop", mark, "web")]).await;
    let ingresses: Api<Ingress> = Api::namespaced(plane.admin(), "shop");
    eventually("the new Ingress has its address", SOON, async || {
        let status = ingresses.get(mark).await.unwrap().status.unwrap_or_default();
        status.load_balancer.unwrap_or_default().ingress.ok_or("none")
    })
    .await;
    let (after, _) = plane.published(OUTPUT).await.unwrap();
    let mut writes = writes(plane, next);
    println!("{} wrote {writes:?}", next.name);
    let mut take = |what: &str| writes.remove(what).unwrap_or_default();
    let (shards, indexes) = (take("create configmaps/a routing shard "), take("update configmaps/waybill "));
    // Of generations before.
    take("delete configmaps/a routing shard ");
    take("delete secrets/a key shard ");
    assert_eq!(take(&format!("patch ingresses/{mark} status")), 1);
    for name in older {
        assert!(take(&format!("patch ingresses/{name} status")) <= 1, "{name}");
    }
    // The mark is in the text, which is written now and then.
    assert!(take("update configmaps/waybill.text ") <= 1);
    // Counts are written every 30 seconds, so the last leader may have owed them.
    let of_class = take("patch ingressclassparameters/edge status");
    // What an older release does too often is past help.
    if next.name.starts_with("new-") || std::env::var_os("WAYBILL_OLD_BINARY").is_none() {
        assert!(of_class <= 1, "{of_class} statuses");
        assert_eq!(writes, BTreeMap::new(), "it wrote what was right already");
    }
    assert_eq!(after.generation - before.generation, indexes as u64);
    if same_form {
        assert_eq!((shards, indexes), (1, 2), "one index for the epoch, a shard and an index for {mark}");
    } else {
        let all = after.shards().count();
        assert!(all > 1, "one shard can't be of two releases");
        assert!(shards <= all + 1 && indexes <= 3, "{shards} shards of {all}, and {indexes} indexes");
    }
}

/// The leader goes, and `next`, which is there already, leads.
async fn replace(mut leader: Replica, next: &Replica, signal: Signal) {
    next.operator.ready().await;
    leader.operator.process.signal(signal);
    let status = leader.operator.process.ended(SOON).await;
    assert!(status.success() || signal == Signal::KILL, "{}", leader.operator.process.log_tail());
    next.operator.leads().await;
}

/// As [`replace`] while objects change; gives how many changes there were.
async fn replace_in_churn(plane: &ControlPlane, leader: Replica, next: &Replica, signal: Signal) -> usize {
    let over = AtomicBool::new(false);
    let older = to_take_over(plane).await;
    let takeover = async {
        replace(leader, next, signal).await;
        let (led, _) = plane.published(OUTPUT).await.unwrap();
        eventually("the new leader publishes", SOON, async || {
            let (now, _) = plane.published(OUTPUT).await.unwrap();
            if now.generation > led.generation + 20 { Ok(()) } else { Err(now.generation) }
        })
        .await;
        over.store(true, Ordering::SeqCst);
    };
    let (changes, ()) = tokio::join!(churn(plane, &over), takeover);
    let writes = writes(plane, next);
    println!("{} wrote {writes:?} while there were {changes} changes", next.name);
    let indexes = writes.get("update configmaps/waybill ").copied().unwrap_or_default();
    assert!(indexes > 0 && indexes <= changes + 2, "{indexes} indexes for {changes} changes");
    let is_older = |what: &str| older.iter().any(|name| what == format!("patch ingresses/{name} status"));
    let again = writes.keys().find(|what| what.contains("ingresses/kept-") && !is_older(what));
    assert!(again.is_none(), "{again:?}: that status was right");
    changes
}

#[tokio::test]
async fn two_releases_take_over_from_each_other() {
    let (mut old, mut new) = Release::old_and_new();
    let plane = ControlPlane::start().await;
    old.install(&plane, "crds");
    old.install(&plane, "manifests");
    plane
        .apply_objects(&shop_with([
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "edge"},
                "spec": {
                    "controller": "traefik.io/ingress-controller",
                    "parameters": {"apiGroup": "waybill.dev", "kind": "IngressClassParameters", "name": "edge"},
                },
            }),
            json!({
                "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters",
                "metadata": {"name": "edge"}, "spec": {"defaultEntryPoints": ["websecure"]},
            }),
            secret("shop", "tls", "kubernetes.io/tls", "first", "a2V5"),
            service("shop", "other"),
            slice("shop", "other", "10.1.0.2"),
        ]))
        .await;
    let kept: Vec<Value> = (0..KEPT)
        .map(|at| {
            let mut ingress = tls_ingress("shop", &format!("kept-{at}"), ["web", "other"][at % 2], &["tls"]);
            ingress["spec"]["ingressClassName"] = ["traefik", "edge"][at % 3 / 2].into();
            ingress["spec"]["rules"][0]["http"]["paths"][0]["path"] = "/app".into();
            ingress
        })
        .collect();
    plane.apply_objects(&kept).await;
    for release in [&mut old, &mut new] {
        let mut document = release.rendered(&plane);
        let Value::Object(routers) = document["http"]["routers"].take() else { panic!("{document:#}") };
        assert!(routers.len() >= KEPT, "{} routers", routers.len());
        release.routers = routers;
    }
    let same_form = old.routers == new.routers;
    println!("both releases write the same routers: {same_form}");

    let first = old.replica(&plane, 1).await;
    first.operator.leads().await;
    right(&plane, &old).await;
    let over = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn(read(
        Reader::named(&plane.admin(), OUTPUT),
        [&old, &new].map(|release| (release.name, release.routers.clone())),
        Arc::clone(&over),
    ));

    // The upgrade, as docs/upgrade.md has it: the definition, the rights, the pods.
    new.install(&plane, "crds");
    new.install(&plane, "manifests");
    let second = new.replica(&plane, 2).await;
    let mut changes = replace_in_churn(&plane, first, &second, Signal::TERM).await;
    right(&plane, &new).await;
    plane.assert_nothing_refused();
    // Back: the definition stays.
    old.install(&plane, "manifests");
    let third = old.replica(&plane, 3).await;
    takes_over_at_rest(&plane, second, &third, same_form, "mark-3").await;
    right(&plane, &old).await;
    // Again, and a leader that dies.
    new.install(&plane, "manifests");
    let fourth = new.replica(&plane, 4).await;
    takes_over_at_rest(&plane, third, &fourth, same_form, "mark-4").await;
    right(&plane, &new).await;
    old.install(&plane, "manifests");
    let fifth = old.replica(&plane, 5).await;
    changes += replace_in_churn(&plane, fourth, &fifth, Signal::KILL).await;
    right(&plane, &old).await;

    over.store(true, Ordering::SeqCst);
    let seen = reader.await.unwrap();
    println!("{} states were read during {changes} changes, of {:?}", seen.states, seen.forms);
    assert!(seen.wrong.is_empty(), "{:#?}", seen.wrong);
    assert!(seen.states > 20 && seen.forms.len() == 2, "{} of {:?}", seen.states, seen.forms);
    // After the way back, the newer replica runs on for a moment with the older rights.
    let mut refused: Vec<_> = ["old-3", "old-5"].iter().flat_map(|name| plane.requests_of(name)).collect();
    refused.retain(|event| event.code() == 403);
    assert!(refused.is_empty(), "{refused:#?}");
}
