//! The harness itself.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{Api, PostParams};

use crate::harness::{self, ControlPlane, NOBODY, Part, Signal, eventually};

#[tokio::test]
async fn manifests_are_applied_with_their_status() {
    let plane = harness::shared().await;
    let namespace = plane.namespace("apply").await;
    plane
        .apply(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, namespace: {namespace}}}\ndata: {{k: v}}\n\
             ---\n\
             ---\n\
             apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: {namespace}}}\n\
             spec: {{type: LoadBalancer, ports: [{{port: 80}}]}}\n\
             status: {{loadBalancer: {{ingress: [{{ip: 192.0.2.7}}]}}}}\n"
        ))
        .await;
    let map = Api::<ConfigMap>::namespaced(plane.admin(), &namespace).get("a").await.unwrap();
    assert_eq!(map.data.unwrap()["k"], "v");
    let service = Api::<Service>::namespaced(plane.admin(), &namespace).get("s").await.unwrap();
    let entries = service.status.unwrap().load_balancer.unwrap().ingress.unwrap();
    assert_eq!(entries[0].ip.as_deref(), Some("192.0.2.7"));
    let shown = plane.kubectl_ok(&["get", "service", "s", "-n", &namespace, "-o", "jsonpath={.spec.type}"]);
    assert_eq!(shown, "LoadBalancer");
}

#[tokio::test]
async fn rights_are_checked_and_everything_is_on_record() {
    let plane = harness::shared().await;
    let namespace = plane.namespace("rights").await;
    plane
        .apply(&format!(
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: reader, namespace: {namespace}}}\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n\
             metadata: {{name: reader, namespace: {namespace}}}\n\
             rules: [{{apiGroups: [''], resources: [configmaps], verbs: [list]}}]\n---\n\
             apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\n\
             metadata: {{name: reader, namespace: {namespace}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}}\n\
             subjects: [{{kind: ServiceAccount, name: reader, namespace: {namespace}}}]\n"
        ))
        .await;
    let token = plane.service_account_token(&namespace, "reader").await;
    let maps: Api<ConfigMap> = Api::namespaced(plane.client(&token), &namespace);
    assert!(maps.list(&Default::default()).await.is_ok());
    let refused = maps.create(&PostParams::default(), &ConfigMap::default()).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 403));
    let nobody: Api<ConfigMap> = Api::namespaced(plane.client(NOBODY), &namespace);
    assert!(nobody.list(&Default::default()).await.is_err());

    let user = format!("system:serviceaccount:{namespace}:reader");
    let seen: Vec<_> = plane
        .audit()
        .into_iter()
        .filter(|event| event.user.username == user)
        .map(|event| (event.verb.clone(), event.object_ref.resource.clone(), event.code(), event.is_write()))
        .collect();
    assert_eq!(
        seen,
        [("list".into(), "configmaps".into(), 200, false), ("create".into(), "configmaps".into(), 403, true)]
    );
}

#[tokio::test]
async fn it_stalls_dies_comes_back_with_its_data_and_leaves_nothing_behind() {
    let begun = Instant::now();
    let plane = ControlPlane::start().await;
    println!("a control plane started in {:?}", begun.elapsed());
    plane.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\n").await;

    plane.signal(Part::ApiServer, Signal::STOP);
    let stalled = Api::<ConfigMap>::default_namespaced(plane.admin());
    assert!(tokio::time::timeout(Duration::from_millis(300), stalled.get("kept")).await.is_err());
    plane.signal(Part::ApiServer, Signal::CONT);
    eventually("it answers again", Duration::from_secs(10), async || stalled.get("kept").await).await;

    for part in [Part::ApiServer, Part::Etcd] {
        plane.kill(part);
        if part == Part::ApiServer {
            assert!(Api::<ConfigMap>::default_namespaced(plane.admin()).get("kept").await.is_err());
        }
        plane.revive(part).await;
        let maps = Api::<ConfigMap>::default_namespaced(plane.admin());
        eventually("its data is back", Duration::from_secs(20), async || maps.get("kept").await).await;
    }

    let folder = plane.folder().to_owned();
    drop(plane);
    assert!(!folder.exists(), "{} is still there", folder.display());
    assert_eq!(processes_with(&folder), Vec::<String>::new());
}

/// What a test run that is killed leaves behind: nothing, since the janitor sees its pipe close.
/// Set for the process that the test below starts and kills: the same test in another role.
const TO_BE_KILLED: &str = "TEST_RUN_TO_BE_KILLED";

#[tokio::test]
async fn a_killed_test_run_leaves_nothing_behind() {
    if std::env::var_os(TO_BE_KILLED).is_some() {
        let plane = ControlPlane::start().await;
        println!("folder: {}", plane.folder().display());
        return std::future::pending().await;
    }
    let plane = harness::shared().await;
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "control_plane::a_killed_test_run_leaves_nothing_behind"]);
    command.env(TO_BE_KILLED, "1");
    let run = plane.spawn("run", &mut command);
    let folder = eventually("its control plane is up", Duration::from_secs(60), async || {
        let log = run.log();
        log.lines().find_map(|line| line.split("folder: ").nth(1).map(std::path::PathBuf::from)).ok_or(log)
    })
    .await;
    assert!(processes_with(&folder).len() >= 3, "etcd, kube-apiserver and janitor");
    drop(run);
    eventually("all is gone", Duration::from_secs(10), async || {
        let left = processes_with(&folder);
        if folder.exists() || !left.is_empty() { Err(format!("{left:?}")) } else { Ok(()) }
    })
    .await;
}

/// Command lines of processes that name the folder.
fn processes_with(folder: &std::path::Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(folder))
        .collect()
}
