//! A folder that is full, read-only or not empty.

use std::path::Path;
use std::process::Command;

use crate::client::Backend;
use crate::harness::eventually;
use crate::harness::operator::SOON;
use crate::objects::{certificate, service, simple, slice};
use crate::world::{Edge, World};

/// In the mount namespace of this test alone.
fn mount(arguments: &[&str], folder: &Path) {
    let status = Command::new("mount").args(arguments).arg(folder).status().unwrap();
    assert!(status.success(), "mount {arguments:?}");
}

async fn says(edge: &Edge, what: &str) {
    eventually(&format!("the agent reports {what:?}"), SOON, async || {
        let answer = edge.probe("/readyz").await?;
        // It goes on serving, so it stays ready.
        if answer.status == 200 && answer.body.contains(what) { Ok(()) } else { Err(answer.body) }
    })
    .await;
}

pub async fn a_folder_that_can_t_be_written_blanks_nothing() {
    let world = World::start(&[]).await;
    let folder = world.plane.folder().join("small");
    std::fs::create_dir_all(&folder).unwrap();
    mount(&["-t", "tmpfs", "-o", "size=64k", "waybill"], &folder);
    // What others have put there before.
    std::fs::create_dir_all(folder.join("dynamic/routing")).unwrap();
    std::fs::write(folder.join("dynamic/notes.txt"), "mine").unwrap();
    std::fs::write(folder.join("dynamic/mine.yaml"), "http: {middlewares: {a: {addPrefix: {prefix: /a}}}}")
        .unwrap();
    let mut edge = Edge::start_in(&world, "edge", &folder).await;
    says(&edge, "dynamic/mine.yaml").await;
    let _backend = Backend::start("web", "10.99.1.1:8080").await;
    world.apply(&[service("web"), slice("web", &["10.99.1.1"]), simple("steady", "web")]).await;
    edge.answers(&[("steady.example/", "web")]).await;
    assert_eq!(std::fs::read_to_string(folder.join("dynamic/notes.txt")).unwrap(), "mine");

    // Read-only.
    mount(&["-o", "remount,ro"], &folder);
    world.apply(&[simple("one", "web")]).await;
    says(&edge, "can't be written").await;
    edge.answers(&[("steady.example/", "web"), ("one.example/", "404")]).await;
    mount(&["-o", "remount,rw"], &folder);
    edge.answers(&[("one.example/", "web")]).await;

    // Full.
    let filler = folder.join("filler");
    let _ = std::fs::write(&filler, vec![0; 64 << 10]);
    let (secret, _) = certificate(&world.plane, "large", "large.example");
    let mut large = simple("large", "web");
    large["spec"]["tls"] = serde_json::json!([{"secretName": "large"}]);
    world.apply(&[secret, large]).await;
    says(&edge, "can't be written").await;
    edge.answers(&[("steady.example/", "web"), ("large.example/", "404")]).await;
    std::fs::remove_file(&filler).unwrap();
    edge.answers(&[("large.example/", "web"), ("steady.example/", "web")]).await;
    edge.ready().await;
    assert!(edge.metric("waybill_agent_refusals_total{reason=\"folder\"}").await.unwrap() >= 2.0);

    // Read-only when the agent starts, and nothing is new.
    edge.loaded(&world).await;
    mount(&["-o", "remount,ro"], &folder);
    edge.start_agent(&world);
    says(&edge, "can't be written").await;
    mount(&["-o", "remount,rw"], &folder);
    world.apply(&[simple("two", "web")]).await;
    edge.answers(&[("two.example/", "web")]).await;
    drop(edge);
    let _ = Command::new("umount").arg("-l").arg(&folder).status();
}
