//! Changes of every kind that waybill looks at, one after the other, drawn from the seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::api::{Admin, Failure};
use super::legal::Legal;
use super::random::Random;
use super::world::{self, KEPT, KEPT_COUNT, LOOSE, LOOSE_COUNT, LOOSE_SERVICES};

/// Between two changes, in milliseconds.
const PAUSE: (usize, usize) = (10, 60);

/// What annotations of loose Ingresses look like; the last ones are wrong.
const ANNOTATIONS: [(&str, &str); 6] = [
    ("router.entrypoints", "websecure"),
    ("router.tls", "true"),
    ("router.middlewares", "auth@file"),
    ("router.priority", "many"),
    ("router.midlewares", "auth@file"),
    ("router.tls.certresolver", ""),
];

const PREFIX: &str = "traefik.ingress.kubernetes.io/";

pub struct Churn {
    admin: Admin,
    legal: Arc<Legal>,
    random: Random,
    version: i64,
    /// What became of changes, by status code; 0 is no answer.
    pub refused: BTreeMap<u16, u64>,
    pub changes: u64,
}

impl Churn {
    pub fn new(admin: Admin, legal: Arc<Legal>, seed: u64) -> Self {
        for at in 0..KEPT_COUNT {
            legal.allow_version(&format!("k-{at}"), 1);
        }
        let random = Random::part(seed, 0xc4u64);
        Self { admin, legal, random, version: 1, refused: BTreeMap::new(), changes: 0 }
    }

    /// Begins the changes of a round, which are the same whatever the earlier rounds came to.
    pub fn begin(&mut self, seed: u64, round: u64) {
        self.random = Random::part(seed ^ 0xc4, round);
        self.version = i64::try_from(round).unwrap_or_default() * 100_000 + 1;
    }

    /// Changes until it is over; no change is left half done.
    pub async fn run(&mut self, over: &AtomicBool) {
        while !over.load(Ordering::SeqCst) {
            let change = self.step().await;
            self.took(change);
            let pause = self.random.between(PAUSE.0, PAUSE.1) as u64;
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    fn took(&mut self, change: Result<(), Failure>) {
        self.changes += 1;
        if let Err(failure) = change {
            let code = failure.code();
            // While etcd dies, the API server calls a Service invalid that it can't give an IP address.
            let no_address = failure.to_string().contains("failed to allocate IP");
            assert!(!matches!(code, 400 | 422) || no_address, "a change that makes no sense: {failure}");
            *self.refused.entry(code).or_default() += 1;
        }
    }

    async fn step(&mut self) -> Result<(), Failure> {
        match self.random.below(100) {
            0..=29 => self.kept().await,
            30..=54 => self.ingress().await,
            55..=64 => self.service().await,
            65..=79 => self.slice().await,
            80..=87 => self.secret().await,
            88..=90 => self.namespace().await,
            91..=93 => self.node().await,
            94..=98 => self.class().await,
            _ => self.address().await,
        }
    }

    /// What is changed and never goes.
    async fn kept(&mut self) -> Result<(), Failure> {
        let at = self.random.below(KEPT_COUNT);
        let name = format!("k-{at}");
        self.version += 1;
        match self.random.below(10) {
            0..=3 => {
                self.legal.allow_version(&name, self.version);
                let ingress = world::ingress(KEPT, &name, "", "");
                self.admin.patch(&ingress, world::version_patch(self.version)).await?;
            }
            4..=7 => {
                let count = self.random.between(1, 4);
                let addresses: Vec<String> =
                    (0..count).map(|_| format!("10.2.{at}.{}", self.random.between(1, 250))).collect();
                let slice = world::slice(KEPT, &name, &addresses);
                self.admin.patch(&slice, json!({"endpoints": slice["endpoints"]})).await?;
            }
            8 => {
                let value = self.random.chance(50).to_string();
                let patch = json!({"metadata": {"annotations": {
                    format!("{PREFIX}service.passhostheader"): value,
                }}});
                self.admin.patch(&world::service(KEPT, &name), patch).await?;
            }
            _ => self.recreate(&name).await?,
        }
        Ok(())
    }

    /// Deletes a TLS Secret of `kept` and makes it again, with another certificate.
    async fn recreate(&mut self, name: &str) -> Result<(), Failure> {
        let secret = world::tls_secret(KEPT, name, self.version.unsigned_abs());
        self.admin.delete("Secret", KEPT, name).await?;
        // Whatever becomes of the API server: it is not left without.
        while let Err(failure) = self.admin.ensure(&secret).await {
            self.took(Err(failure));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    fn loose(&mut self) -> &'static str {
        LOOSE[self.random.below(LOOSE.len())]
    }

    async fn ingress(&mut self) -> Result<(), Failure> {
        let namespace = self.loose();
        let name = format!("l-{}", self.random.below(LOOSE_COUNT));
        if self.random.chance(35) {
            return self.admin.delete("Ingress", namespace, &name).await;
        }
        let class = *self.random.pick(&["traefik", "traefik", "edge", "picky", "mover", "flip", "nobody"]);
        let service = format!("s-{}", self.random.below(LOOSE_SERVICES));
        let mut ingress = world::ingress(namespace, &name, class, &service);
        if self.random.chance(40) {
            ingress = world::with_tls(ingress, &format!("t-{}", self.random.below(3)));
        }
        if self.random.chance(40) {
            let (key, value) = *self.random.pick(&ANNOTATIONS);
            ingress["metadata"]["annotations"] = json!({format!("{PREFIX}{key}"): value});
        }
        if self.random.chance(5) {
            let backend = ingress["spec"]["rules"][0]["http"]["paths"][0]["backend"].clone();
            ingress["spec"]["defaultBackend"] = backend;
        }
        match self.admin.create(&ingress).await {
            Err(failure) if failure.code() == 409 => {
                let patch = json!({
                    "metadata": {"annotations": ingress["metadata"]["annotations"]}, "spec": ingress["spec"],
                });
                self.admin.patch(&ingress, patch).await.map(drop)
            }
            created => created.map(drop),
        }
    }

    async fn service(&mut self) -> Result<(), Failure> {
        let namespace = self.loose();
        let name = format!("s-{}", self.random.below(LOOSE_SERVICES));
        if self.random.chance(40) {
            return self.admin.delete("Service", namespace, &name).await;
        }
        let mut service = world::service(namespace, &name);
        match self.random.below(6) {
            0 => service["spec"]["ports"][0]["port"] = 8443.into(),
            1 => service["spec"] = json!({"type": "ExternalName", "externalName": "elsewhere.example"}),
            2 => {
                service["metadata"]["annotations"] = json!({format!("{PREFIX}service.nativelb"): "perhaps"});
            }
            _ => {}
        }
        self.admin.ensure(&service).await
    }

    async fn slice(&mut self) -> Result<(), Failure> {
        let namespace = self.loose();
        let name = format!("s-{}", self.random.below(LOOSE_SERVICES));
        if self.random.chance(20) {
            return self.admin.delete("EndpointSlice", namespace, &format!("{name}-1")).await;
        }
        let count = self.random.below(4);
        let addresses: Vec<String> =
            (0..count).map(|_| format!("10.3.{count}.{}", self.random.between(1, 250))).collect();
        let slice = world::slice(namespace, &name, &addresses);
        match self.admin.patch(&slice, json!({"endpoints": slice["endpoints"]})).await {
            Err(failure) if failure.code() == 404 => self.admin.ensure(&slice).await,
            patched => patched.map(drop),
        }
    }

    async fn secret(&mut self) -> Result<(), Failure> {
        let namespace = self.loose();
        let name = format!("t-{}", self.random.below(3));
        if self.random.chance(40) {
            return self.admin.delete("Secret", namespace, &name).await;
        }
        self.version += 1;
        let mut secret = world::tls_secret(namespace, &name, self.version.unsigned_abs());
        match self.random.below(7) {
            0 => secret["data"]["tls.crt"] = world::base64(b"no certificate").into(),
            // Keys that somebody put into the wrong field.
            1 => secret["data"]["tls.crt"] = world::base64(world::CANARY).into(),
            2 => secret["data"]["tls.crt"] = secret["data"]["tls.key"].clone(),
            3 => secret["type"] = "Opaque".into(),
            _ => {}
        }
        self.admin.ensure(&secret).await
    }

    async fn namespace(&mut self) -> Result<(), Failure> {
        let namespace = self.loose();
        let value = if self.random.chance(50) { json!("in") } else { Value::Null };
        self.admin
            .patch(&world::namespace(namespace), json!({"metadata": {"labels": {"team": value}}}))
            .await
            .map(drop)
    }

    async fn node(&mut self) -> Result<(), Failure> {
        let at = self.random.below(3);
        let address = self.random.between(1, 250) as u64;
        let node = world::node(&format!("node-{at}"), address);
        match self.random.below(3) {
            0 if at > 0 => self.admin.delete("Node", "", &format!("node-{at}")).await,
            1 => self.admin.patch_status(&node, json!({"status": node["status"]})).await.map(drop),
            _ => self.admin.ensure(&node).await,
        }
    }

    /// IngressClasses and their parameters. Those of class `edge` change in what hides none of its routes.
    async fn class(&mut self) -> Result<(), Failure> {
        let flag = self.random.chance(50);
        let (parameters, spec) = match self.random.below(8) {
            0 => return self.admin.delete("IngressClass", "", "flip").await,
            1 | 2 => return self.admin.ensure(&world::class("flip", None)).await,
            3 => ("edge", json!({"strictPrefixMatching": flag})),
            4 => {
                ("edge", json!({"defaultEntryPoints": if flag { json!(["websecure"]) } else { Value::Null }}))
            }
            5 => {
                let names = if flag { json!({"team": "in"}) } else { json!({"team": "out"}) };
                ("picky", json!({"namespaces": {"selector": {"matchLabels": names}}}))
            }
            6 => {
                let output = if flag { "edge" } else { "waybill" };
                ("mover", json!({"output": {"name": output}}))
            }
            _ if flag => return self.admin.delete("IngressClassParameters", "", "mover").await,
            _ => return self.admin.ensure(&world::parameters("mover")).await,
        };
        self.admin.patch(&world::parameters(parameters), json!({"spec": spec})).await.map(drop)
    }

    /// An address that many statuses are made from.
    async fn address(&mut self) -> Result<(), Failure> {
        let (name, from) = *self.random.pick(&[("traefik", 1), ("edge", 101)]);
        let service = world::published_service(name, from + self.random.below(100) as u64);
        self.admin.patch_status(&service, json!({"status": service["status"]})).await.map(drop)
    }
}
