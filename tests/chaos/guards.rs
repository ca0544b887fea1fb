//! The guards against damage: a pause, by an annotation of an index or a class, and `operator.maxWithdrawal`. Both hold
//! one output back while everything else goes on, and say so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use waybill::published::index::Index;

use super::api::Failure;
use super::checks;
use super::harness::eventually;
use super::reader;
use super::replicas::Death;
use super::round::{Chaos, MARGIN, SOON};
use super::world::{self, KEPT, OUTPUTS};

/// What the replicas are given beside the options that decide about routing. In `edge`, the smaller output, at least
/// three of 28 routers stay whatever changes: 90 % is never exceeded but on purpose.
pub const FLAGS: [&str; 1] = ["--operator.maxwithdrawal=90"];

/// An output, class, namespace and parameters of its own, of which most is withdrawn at once.
const BULK: &str = "bulk";
/// Paths of the Ingress that goes; another one, with one, stays.
const MANY: usize = 20;
/// How long objects change while nothing of them may be published.
const CHURN: Duration = Duration::from_millis(1_500);

impl Chaos<'_> {
    /// Pauses `edge`, for a change of leaders too.
    pub async fn paused(&mut self, round: u64, by_class: bool) {
        let (namespace, name) = OUTPUTS[1].split_once('/').unwrap();
        let carrier = if by_class {
            world::class("edge", None)
        } else {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": namespace, "name": name},
            })
        };
        let annotate = |value: Value| json!({"metadata": {"annotations": {"waybill.dev/paused": value}}});
        self.admin.patch(&carrier, annotate("true".into())).await.unwrap();
        self.shows("waybill_publish_paused", 1.0).await;
        let before = self.index(OUTPUTS[1]).await;

        let over = AtomicBool::new(false);
        let stop = async {
            tokio::time::sleep(CHURN).await;
            over.store(true, Ordering::SeqCst);
        };
        tokio::join!(self.churn.run(&over), stop);
        // One that is certainly of that output.
        let version = self.mark(round);
        self.legal.allow_version("k-0", version);
        let kept = world::ingress(KEPT, "k-0", "", "");
        self.admin.patch(&kept, world::version_patch(version)).await.unwrap();
        self.published_version(1, round).await;
        self.stayed(OUTPUTS[1], &before).await;

        let (leader, _) = self.fleet.leader_beside(None, SOON).await;
        self.fleet.signal(leader, Death::Terminate);
        self.fleet.leader_beside(Some(leader), Duration::from_secs(1) + MARGIN).await;
        self.fleet.buried(leader, Death::Terminate).await;
        self.fleet.restore();
        self.shows("waybill_publish_paused", 1.0).await;
        self.published_version(2, round).await;
        let after = self.stayed(OUTPUTS[1], &before).await;
        assert!(after.epoch > before.epoch, "a paused output was not taken over: {before:?} {after:?}");
        self.told(&carrier, "Paused").await;

        self.admin.patch(&carrier, annotate(Value::Null)).await.unwrap();
        self.shows("waybill_publish_paused", 0.0).await;
        self.right_again("a pause").await;
        assert_ne!(self.index(OUTPUTS[1]).await.hash, before.hash, "nothing was held back");
    }

    /// Withdraws most of an output, which is held; then it is let through where `confirmed`, and brought back.
    pub async fn withdrawn(&mut self, round: u64, confirmed: bool) {
        let output = format!("waybill/{BULK}");
        let [many, rest @ ..] = bulk();
        for object in rest.iter().chain([&many]) {
            self.admin.ensure(object).await.unwrap();
        }
        self.routers(&output, MANY + 1).await;
        let before = self.index(&output).await;
        self.admin.delete("Ingress", BULK, "many").await.unwrap();
        self.shows("waybill_withdrawal_held", 1.0).await;
        self.published_version(3, round).await;
        self.stayed(&output, &before).await;
        let index = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "waybill", "name": BULK},
        });
        let note = self.told(&index, "WithdrawalHeld").await;
        if confirmed {
            assert!(
                note.contains("waybill.dev/confirm-withdrawal=") && note.ends_with(&format!(":{MANY}")),
                "{note}"
            );
            eventually("what was confirmed is withdrawn", SOON, async || {
                let now = self.index(&output).await;
                if now.counts.routers == 1 {
                    return Ok(());
                }
                // It is for one generation, which a change of leaders ends.
                let confirmation = format!("{}:{MANY}", now.generation);
                let patch =
                    json!({"metadata": {"annotations": {"waybill.dev/confirm-withdrawal": confirmation}}});
                let patched = self.admin.patch(&index, patch).await;
                Err(format!("{now:?} {:?}", patched.err()))
            })
            .await;
        }
        self.admin.ensure(&many).await.unwrap();
        self.shows("waybill_withdrawal_held", 0.0).await;
        self.routers(&output, MANY + 1).await;
        assert_eq!(self.index(&output).await.hash, before.hash);
        self.right_again("a withdrawal").await;
    }

    async fn index(&self, output: &str) -> Index {
        reader::now(&self.admin.client(), output).await.unwrap().index
    }

    async fn routers(&self, output: &str, count: usize) {
        eventually("so many routers are published", SOON, async || {
            let published = reader::now(&self.admin.client(), output).await?;
            let found = published.index.counts.routers;
            if found == count { Ok(()) } else { Err(format!("{found}, not {count}")) }
        })
        .await;
    }

    /// Nothing was committed since: on a busy machine the leader may be another one, which raises the epoch and, once,
    /// the generation. Gives what is there.
    async fn stayed(&self, output: &str, before: &Index) -> Index {
        let now = self.index(output).await;
        let same = Index {
            epoch: now.epoch,
            generation: now.generation,
            published_at: now.published_at.clone(),
            ..before.clone()
        };
        let (terms, generations) = (now.epoch - before.epoch, now.generation - before.generation);
        assert!(now == same && generations <= terms, "{output} did not stay: {before:?} {now:?}");
        now
    }

    /// Waits until whoever leads shows this.
    async fn shows(&self, series: &str, value: f64) {
        eventually(&format!("{series} is {value}"), SOON, async || {
            let leader = self.fleet.leader().await.ok_or("nobody leads")?;
            let name = &self.fleet.replicas[leader].name;
            let operator = self.fleet.running().find(|(running, _)| running == name);
            let (_, operator) = operator.ok_or_else(|| format!("{name} does not run"))?;
            match operator.metric(series).await {
                Some(found) if found == value => Ok(()),
                found => Err(format!("{found:?} at {name}")),
            }
        })
        .await;
    }

    /// Waits for the Event that tells of an object, and gives its note.
    async fn told(&self, object: &Value, reason: &str) -> String {
        let metadata = &object["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
        let kind = text(&object["kind"]);
        eventually(&format!("{reason} is told of {kind} {name}"), SOON, async || {
            let failed = |failure: Failure| failure.to_string();
            let uid =
                self.admin.get(&kind, &namespace, &name).await.map_err(failed)?["metadata"]["uid"].clone();
            let mut events = self.admin.list("Event").await.map_err(failed)?;
            events.retain(|event| event["regarding"]["uid"] == uid && event["reason"] == reason);
            // The latest one, since each withdrawal has one of its own.
            let last = events.iter().max_by_key(|event| text(&event["eventTime"]));
            last.map(|event| text(&event["note"])).ok_or_else(|| format!("{uid} has no such Event"))
        })
        .await
    }

    pub async fn right_again(&self, after: &str) {
        let right = checks::converge(&self.admin, self.plane.folder(), self.fleet.pace).await;
        if let Err(wrong) = right {
            panic!("after {after}: {wrong}\n{}", self.fleet.condition().await);
        }
    }
}

/// The Ingress that goes, and what else that output is made of.
fn bulk() -> [Value; 7] {
    let mut many = world::ingress(BULK, "many", BULK, "web");
    let paths = &mut many["spec"]["rules"][0]["http"]["paths"];
    let path = paths[0].clone();
    *paths = (0..MANY)
        .map(|at| {
            let mut path = path.clone();
            path["path"] = format!("/{at}").into();
            path
        })
        .collect();
    [
        many,
        world::namespace(BULK),
        json!({
            "apiVersion": "waybill.dev/v1alpha1", "kind": "IngressClassParameters",
            "metadata": {"name": BULK}, "spec": {"output": {"name": BULK}},
        }),
        world::class(BULK, Some(BULK)),
        world::service(BULK, "web"),
        world::slice(BULK, "web", &["10.4.0.1".to_owned()]),
        world::ingress(BULK, "stays", BULK, "web"),
    ]
}
