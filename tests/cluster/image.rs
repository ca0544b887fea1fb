//! The image as a kubelet would run it: `make test-image` builds it and says where it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::operator::{SOON, get};
use crate::harness::{ControlPlane, eventually, free_port};
use crate::operator::objects::{has_router, ingress, shop_with};

const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Without a say of cgroups, whose versions crun may not know, and gone with whoever started it. `$0` is the bundle.
const CRUN: &str = "mount -t tmpfs none /sys/fs/cgroup && \
    exec crun --root \"$0/state\" --cgroup-manager=disabled run --bundle \"$0\" waybill";

/// An unpacked OCI archive.
struct Archive(PathBuf);

impl Archive {
    fn unpack(folder: &Path) -> Self {
        let archive =
            std::env::var("WAYBILL_IMAGE").expect("WAYBILL_IMAGE names the archive; run `make test-image`");
        untar(Path::new(&archive), folder);
        Self(folder.to_owned())
    }

    fn blob(&self, descriptor: &Value) -> PathBuf {
        self.0.join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"))
    }

    fn json(path: &Path) -> Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// Manifests by platform.
    fn manifests(&self) -> Vec<(String, Value)> {
        let outer = Self::json(&self.0.join("index.json"));
        let index = Self::json(&self.blob(&outer["manifests"][0]));
        let entries = index["manifests"].as_array().expect("an index");
        entries
            .iter()
            .map(|entry| {
                let platform = &entry["platform"];
                let name = format!(
                    "{}/{}",
                    platform["os"].as_str().unwrap(),
                    platform["architecture"].as_str().unwrap()
                );
                (name, Self::json(&self.blob(entry)))
            })
            .collect()
    }
}

fn untar(archive: &Path, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let mut command = Command::new("tar");
    let status = command.arg("-xf").arg(archive).arg("-C").arg(folder).status().unwrap();
    assert!(status.success(), "{}", archive.display());
}

fn files(folder: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file());
    files.map(|entry| entry.path().strip_prefix(folder).unwrap().display().to_string()).collect()
}

/// What a container of the Deployment's gets, in the words of the OCI runtime: arguments, user, mounts.
fn bundle(image: &Value, arguments: &[String], port: u16, mounts: &[(&Path, &str)]) -> Value {
    let config = &image["config"];
    let (user, group) = config["User"].as_str().unwrap().split_once(':').expect("a user and a group");
    let (user, group): (u32, u32) = (user.parse().unwrap(), group.parse().unwrap());
    let mut namespaces = vec![json!({"type": "pid"}), json!({"type": "mount"}), json!({"type": "ipc"})];
    let mut linux = json!({});
    if !rustix::process::geteuid().is_root() {
        namespaces.push(json!({"type": "user"}));
        linux["uidMappings"] = json!([{"containerID": user, "hostID": 0, "size": 1}]);
        linux["gidMappings"] = json!([{"containerID": group, "hostID": 0, "size": 1}]);
    }
    linux["namespaces"] = namespaces.into();
    let mut mounted = vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc"}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]}),
    ];
    mounted.extend(mounts.iter().map(
        |(from, to)| json!({"destination": to, "type": "bind", "source": from, "options": ["rbind", "ro"]}),
    ));
    let entrypoint =
        config["Entrypoint"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned());
    json!({
        "ociVersion": "1.0.0",
        "root": {"path": "rootfs", "readonly": true},
        "mounts": mounted,
        "linux": linux,
        "process": {
            "user": {"uid": user, "gid": group},
            "cwd": "/",
            "args": entrypoint.chain(arguments.iter().cloned()).collect::<Vec<_>>(),
            "env": [
                "POD_NAME=contained", "POD_NAMESPACE=waybill", "KUBERNETES_SERVICE_HOST=127.0.0.1",
                format!("KUBERNETES_SERVICE_PORT={port}"),
            ],
            "noNewPrivileges": true,
            "capabilities": {},
        },
    })
}

/// The arguments of the Deployment's container, and its options.
fn deployed(plane: &ControlPlane) -> (Vec<String>, String) {
    let printed = plane.kubectl_ok(&["-n", "waybill", "get", "deployment", "waybill", "-o", "json"]);
    let deployment: Value = serde_json::from_str(&printed).unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    let arguments = serde_json::from_value(pod["containers"][0]["args"].clone()).unwrap();
    let options = pod["volumes"][0]["configMap"]["name"].as_str().unwrap();
    let path = ["jsonpath={.data.waybill\\.yaml}"];
    (
        arguments,
        plane.kubectl_ok(&[&["-n", "waybill", "get", "configmap", options, "-o"][..], &path].concat()),
    )
}

#[tokio::test]
#[ignore = "needs the image, buildah and crun: make test-image"]
async fn it_works_as_its_user_with_a_root_that_cannot_be_written() {
    let plane = ControlPlane::start().await;
    plane.install("manifests/install");
    plane.apply_objects(&shop_with([ingress("shop", "web", "web")])).await;
    let archive = Archive::unpack(&plane.folder().join("archive"));
    let ours = format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
    let manifests = archive.manifests();
    let found = manifests.iter().find(|(platform, _)| *platform == ours);
    let (_, manifest) = found.unwrap_or_else(|| panic!("no image for {ours}: {manifests:?}"));

    // Outside of the test's own folder, which nobody else may enter.
    let place = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()
        .unwrap();
    let root = place.path().join("rootfs");
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().for_each(|layer| untar(&archive.blob(layer), &root));
    assert_eq!(files(&root), ["licenses/LICENSE", "licenses/LICENSES.txt", "waybill"]);

    let (account, settings) = (place.path().join("account"), place.path().join("options"));
    std::fs::create_dir(&account).unwrap();
    std::fs::create_dir(&settings).unwrap();
    let (mut arguments, options) = deployed(&plane);
    std::fs::write(settings.join("waybill.yaml"), options).unwrap();
    std::fs::write(account.join("token"), plane.service_account_token("waybill", "waybill").await).unwrap();
    std::fs::copy(plane.ca_file(), account.join("ca.crt")).unwrap();
    std::fs::write(account.join("namespace"), "waybill").unwrap();
    let port = free_port();
    arguments.push(format!("--operator.metricsAddress=127.0.0.1:{port}"));
    let image = Archive::json(&archive.blob(&manifest["config"]));
    let mounts = [(account.as_path(), ACCOUNT), (settings.as_path(), "/etc/waybill")];
    let config = bundle(&image, &arguments, plane.port(), &mounts);
    std::fs::write(place.path().join("config.json"), config.to_string()).unwrap();

    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--map-root-user", "--mount-proc"]);
    }
    command.args(["sh", "-c", CRUN]).arg(place.path());
    let mut process = plane.spawn("image", &mut command);
    eventually("the container is ready", SOON, async || match get(port, "/readyz").await {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?} {:?}\n{}", process.exited(), process.log_tail())),
    })
    .await;
    plane
        .eventually_published("waybill/waybill", "it is published", |one| has_router(one, "shop", "web"))
        .await;
    plane.assert_nothing_refused();

    // The process of the image, by what the kernel says of it.
    let inside = eventually("waybill is among the processes", SOON, async || {
        running(&root.join("waybill")).ok_or("no process runs the image's binary")
    })
    .await;
    let status = std::fs::read_to_string(inside.join("status")).unwrap();
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
    assert_eq!(
        (line("CapEff:").trim_start_matches('0'), line("NoNewPrivs:").as_str()),
        ("", "1"),
        "{status}"
    );
    if rustix::process::geteuid().is_root() {
        assert_eq!(line("Uid:").split_whitespace().next(), Some("65532"), "{status}");
    }
    let mounts = std::fs::read_to_string(inside.join("mounts")).unwrap();
    let root_mount = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
    assert!(root_mount.split(' ').nth(3).unwrap().split(',').any(|option| option == "ro"), "{mounts}");

    // SIGTERM ends it in an orderly way, as a kubelet expects.
    let id = inside.file_name().unwrap().to_str().unwrap().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(id).unwrap(), rustix::process::Signal::TERM)
        .unwrap();
    let status = process.ended(SOON).await;
    assert!(status.success(), "{status}: {}", process.log_tail());
}

/// The folder in /proc of the process that runs a program.
fn running(program: &Path) -> Option<PathBuf> {
    let program = std::fs::metadata(program).ok()?;
    std::fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path()).find(|process| {
        use std::os::unix::fs::MetadataExt;
        let same = |found: std::fs::Metadata| (found.dev(), found.ino()) == (program.dev(), program.ino());
        std::fs::metadata(process.join("exe")).is_ok_and(same)
    })
}
