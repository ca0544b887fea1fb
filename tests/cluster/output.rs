//! An output with many made-up routes, for tests of how it is published.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ListParams, Patch, PatchParams};
use waybill::kubernetes::key::{IngressKey, OutputKey, SecretKey, ServiceKey};
use waybill::publish::PublishError;
use waybill::publish::outputs::delete_shards;
use waybill::publish::outputs::{Outcome, OutputWriter, OwnKind, Report, Seen};
use waybill::published::index::Index;
use waybill::published::read::{self, Published};
use waybill::table::Table;
use waybill::traefik::document::Keys;
use waybill::traefik::dynamic::{Certificate, HttpService, LoadBalancer, Router, Server};
use waybill::translate::fragment::{
    CertificateFragment, Created, Fragment, RouterFragment, ServiceFragment, ServiceOwner, Uid,
};
use waybill::translate::settings::Settings;

use crate::harness::published::Reader;
use crate::harness::{self, ControlPlane};
use crate::term::{Term, grant};

/// With this many Ingresses there are several shards.
pub const MANY: usize = 1_000;

/// An output, the table behind it and who writes it.
pub struct Bench {
    pub plane: &'static ControlPlane,
    pub output: OutputKey,
    pub table: Table,
    pub term: Term,
    pub writer: OutputWriter,
    /// No class publishes there any more.
    pub retired: bool,
}

impl Bench {
    pub async fn new(ingresses: usize, max_withdrawal: u8) -> Self {
        let plane = harness::shared().await;
        let namespace = plane.namespace("publish").await;
        grant(plane, &namespace).await;
        let output = OutputKey::new(namespace.clone(), "out");
        let mut table = Table::new();
        table.declare(&output);
        let (term, writer) = begin(plane, &output, "first", max_withdrawal).await;
        let mut bench = Self { plane, output, table, term, writer, retired: false };
        for at in 0..ingresses {
            bench.set(at, "v1", at % 100 == 0);
        }
        bench
    }

    pub fn set(&mut self, at: usize, version: &str, certificate: bool) {
        self.table.set(fragment(&self.output, "shop", at, version, certificate));
    }

    pub fn set_in(&mut self, namespace: &str, at: usize, version: &str) {
        self.table.set(fragment(&self.output, namespace, at, version, false));
    }

    pub fn remove(&mut self, at: usize) {
        self.remove_in("shop", at);
    }

    pub fn remove_in(&mut self, namespace: &str, at: usize) {
        self.table.remove(&ingress(namespace, at));
    }

    pub async fn commit(&mut self) -> Result<Outcome, PublishError> {
        self.writer.take_over().await?;
        let output = self.table.declare(&self.output);
        let mut snapshot = self.writer.snapshot(output);
        snapshot.retired = self.retired;
        self.writer.commit(&snapshot).await
    }

    /// Deletes what is garbage at `now`; how much that was.
    pub async fn collect_garbage(&mut self, now: Instant) -> usize {
        let garbage = self.writer.take_garbage(now);
        let collected = delete_shards(self.term.requests.clone(), self.output.clone(), garbage).await;
        self.writer.collected(&collected);
        assert!(collected.error.is_none(), "{:?}", collected.error);
        collected.deleted
    }

    pub async fn committed(&mut self) -> Report {
        match self.commit().await {
            Ok(Outcome::Committed(report)) => report,
            other => panic!("not committed: {other:?}"),
        }
    }

    pub fn config_maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.plane.admin(), self.output.namespace())
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.plane.admin(), self.output.namespace())
    }

    pub async fn index_object(&self) -> ConfigMap {
        self.config_maps().get(self.output.name()).await.unwrap()
    }

    pub async fn index(&self) -> Index {
        read::index(&self.index_object().await).unwrap()
    }

    /// What a reader gets.
    pub async fn read(&self) -> Published {
        Reader::new(&self.plane.admin(), self.output.clone())
            .now(1)
            .await
            .unwrap_or_else(|miss| panic!("{miss:?}"))
    }

    /// A reader gets what the table holds.
    pub async fn assert_published(&mut self) {
        let read = self.read().await;
        let output = self.table.declare(&self.output);
        assert_eq!(read.index.hash, output.hash().to_string());
        assert_eq!(read.document(Keys::LeftOut).len(), output.assembled(Keys::LeftOut).len());
    }

    pub async fn annotate(&self, key: &str, value: Option<&str>) {
        let patch = serde_json::json!({"metadata": {"annotations": {key: value}}});
        self.config_maps()
            .patch(self.output.name(), &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }

    /// Tells the writer what watches would: everything that is there now.
    pub async fn watch(&mut self) -> bool {
        let mut put_back = false;
        let maps =
            self.config_maps().list(&ListParams::default().labels("waybill.dev/output")).await.unwrap();
        let maps = maps.items.into_iter().map(|map| map.metadata).collect();
        put_back |= self.writer.observe(OwnKind::ConfigMap, Seen::Listed(maps));
        let secrets = self.secrets().list(&ListParams::default().labels("waybill.dev/output")).await.unwrap();
        let secrets = secrets.items.into_iter().map(|secret| secret.metadata).collect();
        put_back |= self.writer.observe(OwnKind::Secret, Seen::Listed(secrets));
        put_back
    }

    /// Writes by the operator in this namespace, as the API server saw them: verb, kind and code.
    pub fn writes(&self) -> Vec<(String, String, u16)> {
        let user = format!("system:serviceaccount:{}:waybill", self.output.namespace());
        self.plane
            .audit()
            .into_iter()
            .filter(|event| event.user.username == user && event.is_write())
            .inspect(|event| {
                assert!(event.uri.contains("timeout="), "a write without time-out: {}", event.uri);
            })
            .map(|event| {
                let code = event.code();
                (event.verb, event.object_ref.resource, code)
            })
            .collect()
    }

    pub async fn shard_names(&self) -> Vec<String> {
        let maps = self.config_maps().list(&ListParams::default()).await.unwrap();
        let names = maps.items.into_iter().filter_map(|map| map.metadata.name);
        names.filter(|name| name.starts_with("out.r-")).collect()
    }
}

pub async fn begin(
    plane: &ControlPlane,
    output: &OutputKey,
    identity: &str,
    max_withdrawal: u8,
) -> (Term, OutputWriter) {
    let term = Term::begin(plane, output.namespace(), identity).await;
    let writer = OutputWriter::new(output.clone(), term.requests.clone(), max_withdrawal);
    (term, writer)
}

fn ingress(namespace: &str, at: usize) -> IngressKey {
    IngressKey::new(namespace, format!("web-{at}"))
}

fn fragment(output: &OutputKey, namespace: &str, at: usize, version: &str, certificate: bool) -> Fragment {
    let servers = vec![Server { url: format!("http://10.0.{}.{}:8080", at / 256, at % 256) }];
    let service = ServiceFragment {
        key: format!("{namespace}-web-{at}-80").into(),
        owner: ServiceOwner {
            created: Created(1),
            service: ServiceKey::new(namespace, format!("web-{at}")),
            port: "80".into(),
            variant: 0,
        },
        service: HttpService {
            load_balancer: LoadBalancer { servers, ..LoadBalancer::default() },
            ..HttpService::default()
        },
    };
    let certificate = certificate.then(|| CertificateFragment {
        secret: SecretKey::new(namespace, format!("web-{at}")),
        created: Created(1),
        certificate: Arc::new(Certificate {
            cert_file: format!("-----BEGIN CERTIFICATE-----\n{at}").into(),
            key_file: format!("-----BEGIN PRIVATE KEY-----\n{at}{version}").into(),
        }),
    });
    Fragment {
        ingress: ingress(namespace, at),
        created: Created(1),
        uid: Uid::default(),
        settings: Arc::new(Settings { output: output.clone(), ..Settings::default() }),
        routers: vec![RouterFragment {
            key: format!("{namespace}-web-{at}-example-org").into(),
            router: Router {
                rule: format!("Host(\"{at}.example.org\") && PathPrefix(\"/{version}\")"),
                ..Router::default()
            },
            service: Arc::new(service),
        }],
        default_backend: None,
        certificates: certificate.into_iter().collect(),
        problems: Vec::new(),
        uses_nodes: false,
        namespaces: Box::default(),
    }
}
