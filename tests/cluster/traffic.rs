//! Requests through a real Traefik, which has nothing but what `waybill run` published: does each reach the backend
//! that the Ingresses say, with the certificate that they name?
//!
//! There are no pods. The backends are servers of the test's own on this machine, which the objects reach as
//! ExternalName Services, since an API server refuses loopback addresses in an EndpointSlice.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use axum::Router;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::Api;
use serde_json::{Value, json};

use waybill::traefik::document::Keys;

use crate::harness::operator::{Operator, SOON, get_host};
use crate::harness::published::Reader;
use crate::harness::{ControlPlane, Process, eventually, free_port, tool};
use crate::operator::objects::{ADDRESS, FAST, class, namespace};

const OUTPUT: &str = "waybill/waybill";

/// A server on this machine that answers every request with its name.
struct Backend {
    name: &'static str,
    port: u16,
}

impl Backend {
    async fn start(name: &'static str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answer = Router::new().fallback(async move || name);
        tokio::spawn(async move { axum::serve(listener, answer).await });
        Self { name, port }
    }

    /// The Service that leads here.
    fn service(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": self.name, "namespace": "shop"},
            "spec": {"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"name": "web", "port": self.port}]},
        })
    }
}

/// A path of an Ingress.
fn path(kind: &str, path: &str, backend: &str) -> Value {
    json!({"path": path, "pathType": kind, "backend": {"service": {"name": backend, "port": {"name": "web"}}}})
}

/// An Ingress of one host, or of none where it is empty.
fn ingress(name: &str, host: &str, paths: &[Value]) -> Value {
    let mut rule = json!({"http": {"paths": paths}});
    if !host.is_empty() {
        rule["host"] = host.into();
    }
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"ingressClassName": "traefik", "rules": [rule]},
    })
}

/// A proxy, and the folder that it reads.
struct Traefik {
    _process: Process,
    web: u16,
    secure: u16,
    folder: PathBuf,
}

impl Traefik {
    fn start(plane: &ControlPlane) -> Self {
        let folder = plane.folder().join("dynamic");
        std::fs::create_dir_all(&folder).unwrap();
        let (web, secure) = (free_port(), free_port());
        let mut command = Command::new(tool("traefik"));
        command
            .arg(format!("--entrypoints.web.address=127.0.0.1:{web}"))
            .arg(format!("--entrypoints.websecure.address=127.0.0.1:{secure}"))
            .arg(format!("--providers.file.directory={}", folder.display()))
            .args(["--providers.file.watch=true", "--providers.providersthrottleduration=50ms"])
            .args(["--global.checknewversion=false", "--global.sendanonymoususage=false"])
            .env_clear();
        Self { _process: plane.spawn("traefik", &mut command), web, secure, folder }
    }

    /// Hands it the output as one file, put in place at once. Of a file for each shard it would load some before the others.
    async fn take(&self, plane: &ControlPlane) {
        let published = Reader::named(&plane.admin(), OUTPUT).now(100).await.unwrap();
        let draft = plane.folder().join("draft");
        std::fs::write(&draft, published.document(Keys::Shown)).unwrap();
        std::fs::rename(&draft, self.folder.join("routing.yaml")).unwrap();
    }

    /// Status and body of what it answers to a request for `http://HOST/PATH`.
    async fn answer(&self, url: &str) -> Result<(u16, String), String> {
        let (host, path) = url.split_once('/').unwrap();
        get_host(self.web, host, &format!("/{path}")).await
    }

    /// Waits until requests are answered so: URL, and the backend's name or the status.
    async fn answers(&self, table: &[(&str, &str)]) {
        for (url, wanted) in table {
            eventually(&format!("{url} is answered by {wanted}"), SOON, async || {
                let (status, body) = self.answer(url).await?;
                let found = if status == 200 { body } else { status.to_string() };
                if found == *wanted { Ok(()) } else { Err(found) }
            })
            .await;
        }
    }

    /// What a client gets that trusts only one certificate, and only for this host.
    fn answer_with_tls(&self, host: &str, trusted: &str) -> Result<String, String> {
        let mut client = Command::new("openssl")
            .args([
                "s_client",
                "-quiet",
                "-verify_return_error",
                "-connect",
                &format!("127.0.0.1:{}", self.secure),
            ])
            .args(["-servername", host, "-verify_hostname", host, "-CAfile", trusted])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let request = format!("GET / HTTP/1.0\r\nHost: {host}\r\n\r\n");
        // Refused before the request is read: what it says tells more than a broken pipe.
        let _ = client.stdin.as_mut().unwrap().write_all(request.as_bytes());
        let output = client.wait_with_output().unwrap();
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or(answer))
    }
}

/// A certificate for a host and its key as a Secret, and the file of the certificate.
fn certificate(plane: &ControlPlane, name: &str, host: &str) -> (Value, String) {
    let file = |ending: &str| plane.folder().join(format!("{name}.{ending}")).display().to_string();
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", &format!("/CN={host}"), "-addext", &format!("subjectAltName=DNS:{host}")])
        .args(["-keyout", &file("key"), "-out", &file("crt")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |ending| std::fs::read_to_string(file(ending)).unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": "shop"},
        "stringData": {"tls.crt": read("crt"), "tls.key": read("key")},
    });
    (secret, file("crt"))
}

async fn started(flags: &[&str]) -> (ControlPlane, Operator, Traefik) {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let mut flags = flags.to_vec();
    flags.extend([ADDRESS, FAST, "--providers.kubernetesingress.allowexternalnameservices"]);
    plane.apply_objects(&[namespace("shop"), class()]).await;
    let operator = plane.operator("only", &flags).await;
    operator.leads().await;
    let traefik = Traefik::start(&plane);
    (plane, operator, traefik)
}

/// Waits until so many routers are published, and hands them to the proxy.
async fn published(plane: &ControlPlane, traefik: &Traefik, routers: usize) {
    plane
        .eventually_published(OUTPUT, &format!("{routers} routers are published"), |document| {
            document["http"]["routers"].as_object().map_or(0, |routers| routers.len()) == routers
        })
        .await;
    traefik.take(plane).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_reaches_the_backend_that_the_ingress_api_promises() {
    let (plane, _operator, traefik) =
        started(&["--operator.routing.precedence=spec", "--operator.routing.brokenbackends=answer503"]).await;
    let mut objects = Vec::new();
    for name in ["root", "exact", "prefix", "deep", "slash", "trailing", "wild", "sub", "any", "fallback"] {
        objects.push(Backend::start(name).await.service());
    }
    let mut foreign = ingress("foreign", "foreign.test", &[path("Prefix", "/", "root")]);
    foreign["spec"]["ingressClassName"] = "another".into();
    let mut fallback = ingress("fallback", "", &[]);
    fallback["spec"] = json!({
        "ingressClassName": "traefik",
        "defaultBackend": {"service": {"name": "fallback", "port": {"name": "web"}}},
    });
    objects.extend([
        ingress(
            "paths",
            "paths.example",
            &[
                path("Prefix", "/", "root"),
                path("Exact", "/foo", "exact"),
                path("Prefix", "/foo", "prefix"),
                path("Prefix", "/aaa/bbb", "deep"),
                path("Exact", "/bar/", "slash"),
                path("Prefix", "/trailing/", "trailing"),
                path("Prefix", "/gone", "missing"),
            ],
        ),
        ingress("wild", "*.example", &[path("Prefix", "/", "wild")]),
        ingress("sub", "sub.example", &[path("Exact", "/only", "sub")]),
        ingress("any", "", &[path("Prefix", "/any", "any")]),
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "another"},
            "spec": {"controller": "example.com/another"},
        }),
        foreign,
        fallback,
    ]);
    plane.apply_objects(&objects).await;
    published(&plane, &traefik, 11).await;
    traefik
        .answers(&[
            ("paths.example/", "root"),
            ("paths.example/else", "root"),
            // Exact before Prefix, of one length.
            ("paths.example/foo", "exact"),
            ("paths.example/foo/", "prefix"),
            ("paths.example/foo/bar", "prefix"),
            // Whole elements only, and case counts.
            ("paths.example/foobar", "root"),
            ("paths.example/FOO", "root"),
            ("paths.example/aaa/bbb", "deep"),
            ("paths.example/aaa/bbb/ccc", "deep"),
            ("paths.example/aaa/bbbccc", "root"),
            ("paths.example/aaa", "root"),
            ("paths.example/bar/", "slash"),
            ("paths.example/bar", "root"),
            // A slash at the end of a Prefix says nothing.
            ("paths.example/trailing", "trailing"),
            ("paths.example/trailing/", "trailing"),
            ("paths.example/trailing/more", "trailing"),
            ("paths.example/trailingmore", "root"),
            // A typo of one path does not hand its requests to another.
            ("paths.example/gone/", "503"),
            // A host in any case, and with a port.
            ("PATHS.example/foo", "exact"),
            ("paths.example:8080/foo", "exact"),
            // One label for the star, and the exact host first.
            ("one.example/", "wild"),
            ("two.one.example/", "fallback"),
            ("example/", "fallback"),
            ("sub.example/only", "sub"),
            ("sub.example/other", "wild"),
            // No host: every host that nobody else has.
            ("elsewhere.test/any", "any"),
            ("elsewhere.test/any/thing", "any"),
            ("paths.example/any", "root"),
            // What nobody else has, another controller's Ingresses included.
            ("elsewhere.test/", "fallback"),
            ("elsewhere.test/anything", "fallback"),
            ("foreign.test/", "fallback"),
        ])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_host_is_served_with_its_own_certificate() {
    let (plane, _operator, traefik) = started(&[]).await;
    let mut objects = Vec::new();
    let mut trusted = Vec::new();
    for (name, host) in [("first", "first.example"), ("second", "second.example")] {
        let (secret, file) = certificate(&plane, name, host);
        let mut ingress = ingress(name, host, &[path("Prefix", "/", name)]);
        ingress["spec"]["tls"] = json!([{"secretName": name}]);
        ingress["metadata"]["annotations"] = json!({"traefik.ingress.kubernetes.io/router.tls": "true"});
        objects.extend([Backend::start(name).await.service(), secret, ingress]);
        trusted.push(file);
    }
    plane.apply_objects(&objects).await;
    published(&plane, &traefik, 2).await;
    for (host, wanted, trusted) in
        [("first.example", "first", &trusted[0]), ("second.example", "second", &trusted[1])]
    {
        eventually(&format!("{host} is served with TLS"), SOON, async || {
            let body = traefik.answer_with_tls(host, trusted)?;
            if body == wanted { Ok(()) } else { Err(body) }
        })
        .await;
    }
    let refused = traefik.answer_with_tls("first.example", &trusted[1]).unwrap_err();
    assert!(refused.contains("verify error"), "{refused}");

    // A renewed one takes its place.
    let (secret, renewed) = certificate(&plane, "first", "first.example");
    plane.apply_objects(&[secret]).await;
    eventually("the renewed certificate is served", SOON, async || {
        traefik.take(&plane).await;
        traefik.answer_with_tls("first.example", &renewed)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_while_other_routes_come_and_go() {
    let (plane, _operator, traefik) = started(&[]).await;
    let ingresses: Api<Ingress> = Api::namespaced(plane.admin(), "shop");
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    let steady = Backend::start("steady").await;
    plane
        .apply_objects(&[
            old.service(),
            new.service(),
            steady.service(),
            ingress("steady", "steady.example", &[path("Prefix", "/", "steady")]),
            ingress("moving", "moving.example", &[path("Prefix", "/", "old")]),
        ])
        .await;
    published(&plane, &traefik, 2).await;
    traefik.answers(&[("steady.example/", "steady"), ("moving.example/", "old")]).await;

    let traefik = Arc::new(traefik);
    let over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU32::new(0));
    let client = tokio::spawn({
        let (traefik, over, served) = (traefik.clone(), over.clone(), served.clone());
        async move {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(traefik.answer("steady.example/").await, Ok((200, "steady".to_owned())));
                served.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    for round in 0..5 {
        let backend = if round % 2 == 0 { "new" } else { "old" };
        plane.apply_objects(&[ingress("moving", "moving.example", &[path("Prefix", "/", backend)])]).await;
        eventually(&format!("round {round}: the other backend answers"), SOON, async || {
            traefik.take(&plane).await;
            let (_, body) = traefik.answer("moving.example/").await?;
            if body == backend { Ok(()) } else { Err(body) }
        })
        .await;
        plane.apply_objects(&[ingress("extra", "extra.example", &[path("Prefix", "/", "new")])]).await;
        published(&plane, &traefik, 3).await;
        traefik.answers(&[("extra.example/", "new")]).await;
        ingresses.delete("extra", &Default::default()).await.unwrap();
        published(&plane, &traefik, 2).await;
        traefik.answers(&[("extra.example/", "404")]).await;
    }
    over.store(true, Ordering::Relaxed);
    client.await.expect("the steady route was always there");
    assert!(served.load(Ordering::Relaxed) > 10, "{served:?}");
}

/// A folder as the kubelet mounts a ConfigMap: each file is a link into a folder of its time, behind a link that is
/// exchanged at once.
struct Mount {
    folder: PathBuf,
    times: AtomicU32,
}

impl Mount {
    fn write(&self, file: &str, content: &str) {
        let time = format!("..{}", self.times.fetch_add(1, Ordering::Relaxed));
        std::fs::create_dir_all(self.folder.join(&time)).unwrap();
        std::fs::write(self.folder.join(&time).join(file), content).unwrap();
        let (data, draft) = (self.folder.join("..data"), self.folder.join("..data_tmp"));
        let before = std::fs::read_link(&data);
        std::os::unix::fs::symlink(&time, &draft).unwrap();
        std::fs::rename(&draft, &data).unwrap();
        match before {
            Ok(before) => std::fs::remove_dir_all(self.folder.join(before)).unwrap(),
            Err(_) => std::os::unix::fs::symlink(format!("..data/{file}"), self.folder.join(file)).unwrap(),
        }
    }
}

/// The arguments of the container `traefik` in the shipped example, with ports and folder of this machine.
fn mounted_arguments(web: u16, folder: &std::path::Path) -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("manifests/examples/traefik-mounted/traefik.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let deployment =
        documents.iter().find(|document| document["kind"] == "Deployment").expect("a Deployment");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let mount = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
    let arguments = container["args"].as_array().unwrap().iter().map(|argument| argument.as_str().unwrap());
    arguments
        .map(|argument| match argument.split_once("address=:") {
            Some((begin, _)) if begin.contains(".web.") => format!("{begin}address=127.0.0.1:{web}"),
            Some((begin, _)) => format!("{begin}address=127.0.0.1:{}", free_port()),
            None => argument.replace(mount, &folder.display().to_string()),
        })
        .collect()
}

/// The example `traefik-mounted` as the kubelet would show it to Traefik: a volume with the `routing.yaml` of the text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_traefik_with_the_text_mounted_serves_it_and_follows_it() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    plane.apply_objects(&[namespace("shop"), class()]).await;
    let operator = plane
        .operator("only", &[ADDRESS, FAST, "--providers.kubernetesingress.allowexternalnameservices"])
        .await;
    operator.leads().await;
    let (old, new) = (Backend::start("old").await, Backend::start("new").await);
    let moving = |backend: &str| ingress("moving", "moving.example", &[path("Prefix", "/", backend)]);
    plane.apply_objects(&[old.service(), new.service(), moving("old")]).await;
    let mount = Mount { folder: plane.folder().join("mounted"), times: AtomicU32::new(0) };
    std::fs::create_dir(&mount.folder).unwrap();
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(plane.admin(), "waybill");
    let published = async |service: &str| {
        let service = format!("shop-{service}-web");
        let has = |document: &Value| document["http"]["services"][&service].is_object();
        plane.eventually_published(OUTPUT, &format!("{service} is published"), has).await;
        // The text is written at most every 30 s.
        eventually("the text follows", SOON * 2, async || {
            let text = maps.get("waybill.text").await.unwrap().data.unwrap().remove("routing.yaml").unwrap();
            let document: Value = serde_json::from_str(&text).unwrap();
            if has(&document) { Ok(text) } else { Err(text) }
        })
        .await
    };
    mount.write("routing.yaml", &published("old").await);

    let web = free_port();
    let mut command = Command::new(tool("traefik"));
    command
        .args(mounted_arguments(web, &mount.folder))
        .args(["--global.checknewversion=false", "--global.sendanonymoususage=false"])
        .env_clear();
    let traefik = plane.spawn("traefik", &mut command);
    let answers = async |backend: &str| {
        eventually(&format!("{backend} answers"), SOON, async || {
            match get_host(web, "moving.example", "/").await {
                Ok((200, body)) if body == backend => Ok(()),
                other => Err(format!("{other:?}\n{}", traefik.log_tail())),
            }
        })
        .await;
    };
    answers("old").await;
    // More than once, since Traefik follows a file that is exchanged only where it watches the folder.
    for backend in ["new", "old"] {
        plane.apply_objects(&[moving(backend)]).await;
        mount.write("routing.yaml", &published(backend).await);
        answers(backend).await;
    }
}
