//! One round of each measurement.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::api::{Api, ListParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use waybill::operator::feeds::PAGE;
use waybill::published::index::Index;

use super::harness::operator::Operator;
use super::harness::{ControlPlane, Signal, eventually};
use super::report::Sample;
use super::{cluster, fill, process};

const OUTPUT: &str = "waybill/waybill";

/// A label of indices.
pub const INDICES: &str = "waybill.dev/part=index";

/// However slow the machine is.
const PATIENCE: Duration = Duration::from_secs(600);

/// Changes that lead to no commit, in a round, and the pause between them.
const QUIET_CHANGES: usize = 200;
const QUIET_PAUSE: Duration = Duration::from_millis(25);

/// Seconds for which nothing happens.
const IDLE: Duration = Duration::from_secs(10);

/// So many times more Secrets of no use are there when their memory is measured.
const MANY_TIMES: usize = 5;

/// Wall and CPU seconds.
pub struct Spent {
    pub wall: f64,
    pub cpu: f64,
}

/// What an endpoint change costs: CPU milliseconds, bytes written.
pub struct Changed {
    pub cpu: f64,
    pub bytes: f64,
}

async fn pages<K>(client: Client, selector: &str) -> Vec<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::all(client);
    let mut params = ListParams::default().limit(PAGE).fields(selector);
    let mut all = Vec::new();
    loop {
        let page = api.list(&params).await.unwrap();
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return all,
        }
    }
}

/// Lists and decodes what the routing is made of, TLS Secrets among it, all kinds at once, in this process.
pub async fn list(plane: &ControlPlane, count: usize) -> Spent {
    let (begun, cpu) = (Instant::now(), process::cpu_seconds(std::process::id()));
    let client = plane.admin();
    let (classes, ingresses, services, slices, secrets) = tokio::join!(
        tokio::spawn(pages::<IngressClass>(client.clone(), "")),
        tokio::spawn(pages::<Ingress>(client.clone(), "")),
        tokio::spawn(pages::<Service>(client.clone(), "")),
        tokio::spawn(pages::<EndpointSlice>(client.clone(), "")),
        tokio::spawn(pages::<Secret>(client.clone(), "type=kubernetes.io/tls")),
    );
    let spent =
        Spent { wall: begun.elapsed().as_secs_f64(), cpu: process::cpu_seconds(std::process::id()) - cpu };
    let listed = ingresses.unwrap().len().min(services.unwrap().len()).min(slices.unwrap().len());
    assert!(listed >= count && !classes.unwrap().is_empty() && secrets.unwrap().len() >= count / 5);
    spent
}

/// Starts the operator over a cluster without its output, until the whole routing is committed.
pub async fn start(plane: &ControlPlane, name: &str, count: usize, flags: &[&str]) -> (Operator, Spent) {
    fill::delete_output(plane).await;
    let token = plane.service_account_token("waybill", "waybill").await;
    let begun = Instant::now();
    let operator = plane.operator_with_token(name, &token, flags);
    let committed = async || {
        let routers = routers(plane).await?;
        if routers == count { Ok(()) } else { Err(format!("{routers} routers")) }
    };
    eventually("the first commit", PATIENCE, committed).await;
    let spent =
        Spent { wall: begun.elapsed().as_secs_f64(), cpu: process::cpu_seconds(operator.process.id()) };
    (operator, spent)
}

/// Ends the operator; it gives its lease back.
pub async fn stop(operator: &mut Operator) {
    operator.process.signal(Signal::TERM);
    let status = operator.process.ended(Duration::from_secs(10)).await;
    assert!(status.success(), "{}", operator.process.log_tail());
}

/// Megabytes that the Secrets cost which nobody names, one for every second Ingress: the peaks of starts with
/// [`MANY_TIMES`] as many, each less the median of starts without any, and divided by that. The difference that fewer
/// make is lost in what the allocator does.
pub async fn memory_of_other_secrets(plane: &ControlPlane, count: usize, times: usize) -> Sample {
    let starts = async |name: &str| {
        let mut peaks = Vec::new();
        for _ in 0..times {
            let (mut operator, _) = start(plane, name, count, &[]).await;
            peaks.push(process::peak_megabytes(operator.process.id()));
            stop(&mut operator).await;
        }
        peaks
    };
    fill::delete_other_secrets(plane, count).await;
    let without = Sample::new(starts("load-no-secrets").await).median();
    fill::store_other_secrets(plane, count, MANY_TIMES).await;
    let with = starts("load-secrets").await;
    Sample::new(with.into_iter().map(|peak| (peak - without) / MANY_TIMES as f64).collect())
}

/// CPU milliseconds of a second in which nothing happens.
pub async fn idle(operator: &Operator) -> f64 {
    let id = operator.process.id();
    // What follows the first commit, statuses and garbage among it, is no rest.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = process::cpu_seconds(id);
    tokio::time::sleep(IDLE).await;
    (process::cpu_seconds(id) - before) * 1_000.0 / IDLE.as_secs_f64()
}

/// CPU milliseconds for a change of a slice that belongs to no Service.
pub async fn unused_slices(plane: &ControlPlane, operator: &Operator, round: usize) -> f64 {
    let client = plane.admin();
    let collection = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", cluster::namespace(0));
    if round == 0 {
        fill::write(&client, "POST", collection.clone(), fill::unused_slice(0, 0)).await;
    }
    quiet(operator, async |change| {
        let slice = fill::unused_slice(0, (change % 200 + 1) as u8);
        let patch = json!({"endpoints": slice["endpoints"]});
        fill::write(&client, "PATCH", format!("{collection}/unused"), patch).await;
    })
    .await
}

/// CPU milliseconds for a heartbeat in a node's status.
pub async fn heartbeats(plane: &ControlPlane, operator: &Operator, round: usize) -> f64 {
    let client = plane.admin();
    quiet(operator, async |change| {
        let (minute, second) = (change / 60, change % 60);
        let time = format!("2026-01-01T{round:02}:{minute:02}:{second:02}Z");
        let ready =
            json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": time});
        let path = format!("/api/v1/nodes/node-{}/status", change % 100);
        fill::write(&client, "PATCH", path, json!({"status": {"conditions": [ready]}})).await;
    })
    .await
}

async fn quiet(operator: &Operator, change: impl AsyncFn(usize)) -> f64 {
    let id = operator.process.id();
    let before = process::cpu_seconds(id);
    for number in 0..QUIET_CHANGES {
        change(number).await;
        tokio::time::sleep(QUIET_PAUSE).await;
    }
    (process::cpu_seconds(id) - before) * 1_000.0 / QUIET_CHANGES as f64
}

/// Waits until every change is published, and gives the generation of the index. A figure for work that was not done is
/// none.
pub async fn all_committed(plane: &ControlPlane, changed: &BTreeMap<usize, u8>) -> u64 {
    let wanted = urls(changed);
    eventually("all changes are committed", PATIENCE, async || {
        let (index, document) = plane.published(OUTPUT).await.ok_or("no index")?;
        let services = document["http"]["services"].as_object().ok_or("no services")?;
        let servers = services.values().filter_map(|service| service["loadBalancer"]["servers"].as_array());
        let urls: HashSet<&str> = servers.flatten().filter_map(|server| server["url"].as_str()).collect();
        let missing = wanted.iter().filter(|url| !urls.contains(url.as_str())).count();
        if missing == 0 {
            Ok(index.generation)
        } else {
            Err(format!("{missing} of {} are missing", wanted.len()))
        }
    })
    .await
}

/// The URLs of the servers that changes of endpoints lead to.
pub fn urls(changed: &BTreeMap<usize, u8>) -> Vec<String> {
    let first = |(number, generation): (&usize, &u8)| {
        url(&cluster::endpoint_slice(*number, *generation)["endpoints"][0])
    };
    changed.iter().map(first).collect()
}

/// The URL of the server that an endpoint becomes.
pub fn url(endpoint: &Value) -> String {
    format!("http://{}:8080", endpoint["addresses"][0].as_str().unwrap())
}

/// Changes the endpoints of one Service.
pub async fn change_endpoint(client: &Client, number: usize, generation: u8) {
    let slice = cluster::endpoint_slice(number, generation);
    let path = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices/app-{number}-x7k2p",
        cluster::namespace(number)
    );
    fill::write(client, "PATCH", path, json!({"endpoints": slice["endpoints"]})).await;
}

/// Routers in what is published.
pub async fn routers(plane: &ControlPlane) -> Result<usize, String> {
    Ok(indices(plane).await?.values().map(|index| index.counts.routers).sum())
}

/// The indices of all outputs, by name.
pub async fn indices(plane: &ControlPlane) -> Result<BTreeMap<String, Index>, String> {
    let maps: Api<ConfigMap> = Api::namespaced(plane.admin(), "waybill");
    let listed =
        maps.list(&ListParams::default().labels(INDICES)).await.map_err(|error| error.to_string())?;
    let read = listed.items.into_iter().map(|map| {
        let text = map.data.and_then(|mut data| data.remove("index.json")).ok_or("no index.json")?;
        let index = Index::parse(&text).map_err(|error| error.to_string())?;
        Ok((map.metadata.name.unwrap_or_default(), index))
    });
    let read: BTreeMap<String, Index> = read.collect::<Result<_, String>>()?;
    if read.is_empty() { Err("no index".to_owned()) } else { Ok(read) }
}

async fn generation(plane: &ControlPlane) -> u64 {
    plane.published(OUTPUT).await.expect("an index").0.generation
}

/// Commits in a time in which something changed throughout: with the throttle as shipped one every two seconds, and one
/// in four is the least that a slow machine may make of it.
fn assert_commits(before: u64, after: u64, seconds: f64) {
    let commits = after - before;
    assert!(commits as f64 >= seconds / 4.0, "only {commits} commits in {seconds:.0} s of changes");
}

/// Changes an endpoint of one Service after the other, one a second.
pub async fn endpoints(
    plane: &ControlPlane,
    operator: &Operator,
    round: usize,
    changes: usize,
    count: usize,
) -> Changed {
    let client = plane.admin();
    let id = operator.process.id();
    let commits = generation(plane).await;
    let (bytes, cpu) = (written(operator).await, process::cpu_seconds(id));
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut changed = BTreeMap::new();
    for change in 0..changes {
        tick.tick().await;
        let number = (round * changes + change) * 7 % count;
        let address = (change % 200 + 1 + round) as u8;
        changed.insert(number, address);
        change_endpoint(&client, number, address).await;
    }
    // The last ones are committed after the throttle's distance.
    assert_commits(commits, all_committed(plane, &changed).await, changes as f64);
    Changed {
        cpu: (process::cpu_seconds(id) - cpu) * 1_000.0 / changes as f64,
        bytes: (written(operator).await - bytes) / changes as f64,
    }
}

/// Changes a second, and for how many of them it is counted what they cost without an operator.
pub const BUSY: u64 = 20;
const BARE_CHANGES: u64 = 100;

/// Megabytes that etcd is given to keep in five minutes in which 20 endpoints change a second, without the changes
/// themselves. Measured over fewer seconds, so many times.
pub async fn growth(plane: &ControlPlane, count: usize, seconds: u64, times: usize) -> Sample {
    let before = put_bytes(plane).await;
    busy(plane, count, 0..BARE_CHANGES).await;
    let bare = (put_bytes(plane).await - before) / BARE_CHANGES as f64;
    let (mut operator, _) = start(plane, "load-growth", count, &[]).await;
    let mut grown = Vec::new();
    let changes = BUSY * seconds;
    for time in 0..times as u64 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let commits = generation(plane).await;
        let (before, begun) = (put_bytes(plane).await, Instant::now());
        let first = BARE_CHANGES + time * changes;
        let changed = busy(plane, count, first..first + changes).await;
        let lasted = begun.elapsed().as_secs_f64();
        assert_commits(commits, all_committed(plane, &changed).await, lasted);
        let put = put_bytes(plane).await - before - bare * changes as f64;
        grown.push(put / lasted * 300.0 / 1e6);
    }
    stop(&mut operator).await;
    Sample::new(grown)
}

/// Changes endpoints, and gives for each slice the last change.
async fn busy(plane: &ControlPlane, count: usize, changes: std::ops::Range<u64>) -> BTreeMap<usize, u8> {
    let client = plane.admin();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / BUSY as u32);
    let mut changed = BTreeMap::new();
    for change in changes {
        tick.tick().await;
        let number = change as usize * 7 % count;
        let address = (change % 200 + 3) as u8;
        changed.insert(number, address);
        change_endpoint(&client, number, address).await;
    }
    changed
}

/// CPU milliseconds for a change while [`BUSY`] endpoints change a second, commits included.
pub async fn busy_cpu(
    plane: &ControlPlane,
    operator: &Operator,
    count: usize,
    changes: std::ops::Range<u64>,
) -> f64 {
    // What follows the first commit is no part of it.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let id = operator.process.id();
    let before = process::cpu_seconds(id);
    let number = changes.end - changes.start;
    let changed = busy(plane, count, changes).await;
    all_committed(plane, &changed).await;
    (process::cpu_seconds(id) - before) * 1_000.0 / number as f64
}

/// Bytes that were ever put into etcd, by its own count.
async fn put_bytes(plane: &ControlPlane) -> f64 {
    const SERIES: &str = "etcd_debugging_mvcc_total_put_size_in_bytes ";
    let mut socket = UnixStream::connect(plane.folder().join("client.sock")).await.unwrap();
    socket.write_all(b"GET /metrics HTTP/1.0\r\nHost: etcd\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let value = answer.lines().find_map(|line| line.strip_prefix(SERIES));
    value.and_then(|value| value.parse().ok()).expect("etcd counts what is put into it")
}

/// Bytes that the operator has written, over all kinds.
async fn written(operator: &Operator) -> f64 {
    let (_, metrics) = operator.get("/metrics").await.unwrap();
    let series = metrics.lines().filter(|line| line.starts_with("waybill_written_bytes_total{"));
    // Leases are renewed whether anything changes or not.
    let series = series.filter(|line| !line.contains("kind=\"lease\""));
    series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Statuses a second while all of them have to be written, over five-second stretches.
pub async fn statuses(plane: &ControlPlane, count: usize, rate: u32, seconds: u64) -> Sample {
    const STRETCH: u64 = 5;
    const SERIES: &str = "waybill_writes_total{kind=\"ingress_status\",result=\"success\"}";
    let rate = format!("--operator.statusrate={rate}");
    let flags = ["--providers.kubernetesingress.ingressendpoint.ip=192.0.2.1", &rate];
    let (mut operator, _) = start(plane, "load-statuses", count, &flags).await;
    let written = async || operator.metric(SERIES).await.unwrap_or_default();
    eventually(
        "the first status",
        PATIENCE,
        async || {
            if written().await > 0.0 { Ok(()) } else { Err("none yet") }
        },
    )
    .await;
    // What may be written at once is through by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut rates = Vec::new();
    let mut last = (Instant::now(), written().await);
    for _ in 0..seconds / STRETCH {
        tokio::time::sleep(Duration::from_secs(STRETCH)).await;
        let now = (Instant::now(), written().await);
        // At the end there are none left to write.
        if now.1 as usize >= count {
            break;
        }
        rates.push((now.1 - last.1) / (now.0 - last.0).as_secs_f64());
        last = now;
    }
    stop(&mut operator).await;
    Sample::new(rates)
}
