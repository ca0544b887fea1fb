//! `waybill agent --once`, by somebody who only has a kubeconfig.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::Value;

use crate::harness::operator::{SOON, binary};
use crate::harness::{ControlPlane, eventually};
use crate::output::{Bench, MANY};

/// How long it waits for an index, and a busy machine.
const GIVES_UP_WITHIN: Duration = Duration::from_secs(90);

fn once(plane: &ControlPlane, output: &str, directory: &Path) -> Command {
    let mut command = Command::new(binary());
    command
        .args(["agent", "--once", "--output", output, "--directory"])
        .arg(directory)
        .arg("--kubeconfig")
        .arg(plane.admin_kubeconfig())
        .env_clear();
    command
}

/// What Traefik would read, by name, and the inode of the one event.
fn on_disk(directory: &Path) -> (BTreeMap<String, String>, u64) {
    let entries = fs::read_dir(directory.join("dynamic/routing")).unwrap().flatten();
    let read = |path| fs::read_to_string(path).unwrap();
    let files = entries.map(|entry| (entry.file_name().into_string().unwrap(), read(entry.path()))).collect();
    (files, fs::metadata(directory.join("dynamic/changed")).unwrap().ino())
}

#[tokio::test]
async fn once_writes_what_is_published_and_ends() {
    let mut bench = Bench::new(MANY, 0).await;
    let plane = bench.plane;
    let place = tempfile::tempdir().unwrap();
    let nothing = place.path().join("nothing");
    let missing = format!("{}/missing", bench.output.namespace());
    let mut waits = plane.spawn("once", &mut once(plane, &missing, &nothing));

    bench.committed().await;
    let (output, directory) = (bench.output.to_string(), place.path().join("agent"));
    let run = async || {
        let mut process = plane.spawn("once", &mut once(plane, &output, &directory));
        let status = process.ended(SOON).await;
        assert_eq!(status.code(), Some(0), "{}", process.log());
    };
    run().await;
    let written = on_disk(&directory);
    let joined: Vec<Value> = written.0.values().map(|text| serde_json::from_str(text).unwrap()).collect();
    let routers = joined.iter().filter_map(|file| file["http"]["routers"].as_object());
    assert_eq!(routers.map(serde_json::Map::len).sum::<usize>(), MANY);
    let certificates = joined.iter().filter_map(|file| file["tls"]["certificates"].as_array());
    let certificates: Vec<&Value> = certificates.flatten().collect();
    assert_eq!(certificates.len(), MANY / 100);
    assert!(certificates.iter().all(|one| one["keyFile"].as_str().unwrap().contains("PRIVATE KEY")));

    // Nothing has changed since.
    let target = fs::read_link(directory.join("current")).unwrap();
    run().await;
    assert_eq!(
        (on_disk(&directory), fs::read_link(directory.join("current")).unwrap()),
        (written.clone(), target)
    );
    bench.set(1, "v2", false);
    bench.committed().await;
    run().await;
    assert_ne!(on_disk(&directory), written);

    let status = waits.ended(GIVES_UP_WITHIN).await;
    let said = waits.log();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("no complete generation within 60 s: there is no index"), "{said}");
    assert!(!nothing.join("current").exists());
}

/// Root may write whatever its mode is, so the folder is mounted read-only, in a mount namespace of its own.
#[tokio::test]
async fn a_folder_that_can_t_be_written_ends_once_at_once() {
    let mut bench = Bench::new(1, 0).await;
    bench.committed().await;
    let place = tempfile::tempdir().unwrap();
    let (output, directory) = (bench.output.to_string(), place.path().join("agent"));
    fs::create_dir(&directory).unwrap();
    for (state, mounting) in [("empty", "-t tmpfs -o ro none"), ("in use", "-o bind,ro .")] {
        let plain = once(bench.plane, &output, &directory);
        let mut command = Command::new("unshare");
        let script = format!("cd \"$1\" && mount {mounting} \"$1\" && shift && exec \"$@\"");
        command.args(["--map-root-user", "--mount", "sh", "-c", &script, "sh"]).arg(&directory);
        command
            .arg(plain.get_program())
            .args(plain.get_args())
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        let mut process = bench.plane.spawn("once", &mut command);
        let status = process.ended(SOON).await;
        let said = process.log();
        assert_eq!(status.code(), Some(2), "{state}: {said}");
        assert!(
            said.contains("Read-only file system") && said.contains(directory.to_str().unwrap()),
            "{said}"
        );

        let mut process = bench.plane.spawn("once", &mut once(bench.plane, &output, &directory));
        assert_eq!(process.ended(SOON).await.code(), Some(0), "{}", process.log());
    }
}

/// The index stays as it is when a shard is created again.
#[tokio::test]
async fn a_damaged_shard_is_asked_for_until_it_is_right() {
    let mut bench = Bench::new(MANY, 0).await;
    bench.committed().await;
    let before = bench.index_object().await;
    let shard = bench.shard_names().await.remove(0);
    let edit = serde_json::json!({"metadata": {"annotations": {"waybill.dev/sha256": null}}});
    bench.config_maps().patch(&shard, &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();

    let place = tempfile::tempdir().unwrap();
    let mut agent =
        bench.plane.spawn("once", &mut once(bench.plane, &bench.output.to_string(), place.path()));
    eventually("the shard is refused", SOON, async || {
        let log = agent.log();
        if log.contains("refused") && log.contains(&shard) { Ok(()) } else { Err(log) }
    })
    .await;
    assert!(bench.watch().await);
    let report = bench.committed().await;
    assert_eq!((report.routing_shards, report.index), (1, false), "{report:?}");
    let status = agent.ended(SOON).await;
    assert_eq!(status.code(), Some(0), "{}", agent.log());
    let after = bench.index_object().await;
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
}
