//! Watches that die while the lease renews: how soon that is noticed, and who leads then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use waybill::kubernetes::client::{Access, Environment, Token, connect};
use waybill::kubernetes::key::IngressKey;
use waybill::metrics::{Label, Metrics, WatchKind};
use waybill::operator::feeds::{self, Feeds};
use waybill::operator::live::{Live, Phase};
use waybill::publish::lease::{Elector, LeaseHandle, LeaseOptions, Timings};
use waybill::publish::lease::{Limits, keep_fit};
use waybill::routing::Routing;
use waybill::translate::settings::ClassOptions;
use waybill::watch::Watched;

use crate::harness::operator::{Operator, SOON};
use crate::harness::{ControlPlane, StallingProxy, eventually};
use crate::operator::objects::{annotated, namespace, service, slice};

/// In place of 30, 60 and 35 s.
const WATCH_SECONDS: u32 = 3;
const LIMITS: Limits = Limits {
    dead_after: Duration::from_secs(12),
    live_within: Duration::from_secs(7),
    look: Duration::from_millis(100),
};

const LEASE: Duration = Duration::from_secs(6);

/// In place of 30 s.
const WAIT_FOR_RIGHT: Duration = Duration::from_secs(3);

/// kube gives up a watch that is silent for so long after its end is due.
const IDLE: Duration = Duration::from_secs(5);

/// A watch that is not answered is tried again after this.
const OPENING: Duration = Duration::from_secs(10);

/// On a busy machine, with the pauses between attempts.
const MARGIN: Duration = Duration::from_secs(6);

/// All that every replica watches for its input, where it watches the whole cluster.
const INPUT: [WatchKind; 9] = [
    WatchKind::Ingress,
    WatchKind::IngressClass,
    WatchKind::Service,
    WatchKind::EndpointSlice,
    WatchKind::TlsSecret,
    WatchKind::SecretMetadata,
    WatchKind::Node,
    WatchKind::Parameters,
    WatchKind::ClassMemory,
];

/// A replica in this process that watches and takes part in the election, with a service account of its own.
struct Replica {
    name: String,
    lease: LeaseHandle,
    metrics: Metrics,
    live: Arc<Live>,
    _tasks: JoinSet<()>,
}

impl Replica {
    /// `url` is the API server's, or a proxy's before it. It watches the whole cluster.
    async fn start(plane: &ControlPlane, url: &str, name: &str, lease: &str, limits: Limits) -> Self {
        grant(plane, name).await;
        let token = plane.service_account_token("waybill", name).await;
        let replica = Self::begin(plane, url, token, name, lease, limits, None).await;
        tokio::time::timeout(SOON, replica.live.reached(Phase::Synced)).await.expect("it has listed");
        replica
    }

    /// With the rights of the shipped overlay for some namespaces.
    async fn of_teams(plane: &ControlPlane, name: &str) -> Self {
        let token = plane.service_account_token("waybill", "waybill").await;
        let teams = ["team-a", "team-b"].map(Arc::from).to_vec();
        Self::begin(plane, &plane.url(), token, name, "waybill", LIMITS, Some(teams)).await
    }

    async fn begin(
        plane: &ControlPlane,
        url: &str,
        token: String,
        name: &str,
        lease: &str,
        limits: Limits,
        namespaces: Option<Vec<Arc<str>>>,
    ) -> Self {
        let metrics = Metrics::new("waybill").unwrap();
        let access = Access {
            endpoint: Some(url.parse().unwrap()),
            token: Some(Token::new(token)),
            cert_auth_file_path: Some(plane.ca_file().to_owned()),
        };
        let outside =
            Environment { variables: [].into(), service_account: "/not/there".into(), context: None };
        let client = connect(&access, &outside, name, &metrics).await.unwrap().client;
        let whole = namespaces.is_none();
        let watched = Watched { namespaces, nodes: whole };
        let classes = ClassOptions { lookup_disabled: !whole, ..ClassOptions::default() };
        let live = Arc::new(Live::new(Routing::new(watched, classes, Arc::default()), metrics.clone()));
        let what = Feeds {
            label_selector: String::new(),
            classes: whole,
            nodes: whole,
            namespace: "waybill".into(),
            class_memory: format!("{lease}.classes"),
            watch_seconds: WATCH_SECONDS,
            wait_for_right: WAIT_FOR_RIGHT,
        };
        let mut tasks = JoinSet::new();
        for feed in feeds::feeds(&what, &client, &live, &metrics) {
            tasks.spawn(feed);
        }
        let second = Duration::from_secs(1);
        let options = LeaseOptions {
            namespace: "waybill".into(),
            name: lease.into(),
            identity: name.into(),
            timings: Timings { lease_duration: LEASE, renew_deadline: 4 * second, retry_period: second / 2 },
        };
        let (elector, lease) = Elector::new(client, options, metrics.clone());
        tasks.spawn(elector.run(std::future::pending()));
        let listed = Arc::clone(&live);
        let listed = async move { listed.reached(Phase::Synced).await };
        tasks.spawn(keep_fit(lease.clone(), metrics.clone(), listed, limits));
        Self { name: name.into(), lease, metrics, live, _tasks: tasks }
    }

    /// Whether it has read an Ingress.
    fn has(&self, namespace: &str, name: &str) -> bool {
        self.live.routing().stores().ingresses().get(&IngressKey::new(namespace, name)).is_some()
    }

    /// Waits until it has exactly these Ingresses of these.
    async fn reads(&self, what: &str, wanted: &[(&str, &str, bool)]) {
        eventually(&format!("{}: {what}", self.name), SOON, async || {
            let of = |(namespace, name, _): &(&str, &str, bool)| self.has(namespace, name);
            let wrong: Vec<_> = wanted.iter().filter(|one| of(one) != one.2).collect();
            if wrong.is_empty() { Ok(()) } else { Err(format!("not so: {wrong:?}")) }
        })
        .await;
    }

    fn leads(&self) -> bool {
        self.lease.guard().is_some()
    }

    async fn is_leader(&self, leads: bool, within: Duration) -> Duration {
        let begun = Instant::now();
        let mut changes = self.lease.changes();
        let changed = tokio::time::timeout(within, changes.wait_for(|guard| guard.is_some() == leads)).await;
        let quietest = self.metrics.watch_age.quietest(|_| true, Instant::now());
        assert!(changed.is_ok(), "{}: leads {} after {within:?}, {quietest:?}", self.name, !leads);
        begun.elapsed()
    }

    /// Waits until it does not lead because this very kind is dead; gives how long that took.
    async fn gives_up_over(&self, kind: WatchKind) -> Duration {
        let begun = Instant::now();
        eventually(
            &format!("{} has lost {}", self.name, kind.as_str()),
            Duration::from_secs(90),
            async || {
                let quietest = self.metrics.watch_age.quietest(|of| of == kind, Instant::now());
                let age = quietest.map_or(Duration::ZERO, |(_, age)| age);
                let out = !self.leads() && self.metrics.candidate.get() == 0.0;
                if out && age > LIMITS.dead_after { Ok(()) } else { Err(format!("{age:?}, out: {out}")) }
            },
        )
        .await;
        begun.elapsed()
    }

    /// Waits until watches have failed so many times more.
    async fn fails_on(&self, kind: WatchKind, times: u64) {
        let before = self.metrics.watch_errors.get(kind);
        eventually("the watch goes on to fail", Duration::from_secs(60), async || {
            let now = self.metrics.watch_errors.get(kind);
            if now >= before + times { Ok(()) } else { Err(now) }
        })
        .await;
    }
}

/// Rights of its own for a replica, those of the shipped manifests.
async fn grant(plane: &ControlPlane, name: &str) {
    let cluster = Api::<ClusterRole>::all(plane.admin()).get("waybill").await.unwrap();
    let role = Api::<Role>::namespaced(plane.admin(), "waybill").get("waybill").await.unwrap();
    let subjects = json!([{"kind": "ServiceAccount", "name": name, "namespace": "waybill"}]);
    let reference = |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
    let rbac = "rbac.authorization.k8s.io/v1";
    let here = json!({"name": name, "namespace": "waybill"});
    plane
        .apply_objects(&[
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here}),
            json!({"apiVersion": rbac, "kind": "ClusterRole", "metadata": {"name": name}, "rules": cluster.rules}),
            json!({"apiVersion": rbac, "kind": "ClusterRoleBinding", "metadata": {"name": name},
                   "roleRef": reference("ClusterRole"), "subjects": subjects}),
            json!({"apiVersion": rbac, "kind": "Role", "metadata": here, "rules": role.rules}),
            json!({"apiVersion": rbac, "kind": "RoleBinding", "metadata": here,
                   "roleRef": reference("Role"), "subjects": subjects}),
        ])
        .await;
}

fn without(rules: Option<Vec<PolicyRule>>, resource: &str) -> Vec<PolicyRule> {
    let mut rules = rules.unwrap_or_default();
    for rule in &mut rules {
        rule.resources.iter_mut().flatten().for_each(|one| {
            if one == resource {
                *one = "nothing".into();
            }
        });
    }
    rules
}

/// Takes a right away from a replica, or gives all of them back.
async fn rights(plane: &ControlPlane, name: &str, without_resource: Option<&str>) {
    let gone = without_resource.unwrap_or_default();
    let clusters: Api<ClusterRole> = Api::all(plane.admin());
    let roles: Api<Role> = Api::namespaced(plane.admin(), "waybill");
    let params = PatchParams::default();
    let rules = without(clusters.get("waybill").await.unwrap().rules, gone);
    clusters.patch(name, &params, &Patch::Merge(json!({"rules": rules}))).await.unwrap();
    let rules = without(roles.get("waybill").await.unwrap().rules, gone);
    roles.patch(name, &params, &Patch::Merge(json!({"rules": rules}))).await.unwrap();
}

/// What happens to a pair of replicas when first the one and then both lose a kind.
async fn lose(plane: &ControlPlane, kind: WatchKind, resource: &str) {
    let name = |which: &str| format!("{}-{which}", resource.replace('.', "-"));
    let (first, second, lease) = (name("first"), name("second"), name("lease"));
    let first = Replica::start(plane, &plane.url(), &first, &lease, LIMITS).await;
    first.is_leader(true, SOON).await;
    let second = Replica::start(plane, &plane.url(), &second, &lease, LIMITS).await;
    assert!(!second.leads());

    rights(plane, &first.name, Some(resource)).await;
    let gave_up = first.gives_up_over(kind).await;
    let taken = second.is_leader(true, SOON).await;
    println!("{}: given up {gave_up:.1?} after the right was gone, taken {taken:.2?} later", kind.as_str());
    assert_eq!(first.metrics.leases_lost.get(), 0, "it was not lost but given up");
    assert_eq!(first.metrics.candidate.get(), 0.0);

    // None is fit: nobody leads, and the lease does not go to and fro.
    rights(plane, &second.name, Some(resource)).await;
    second.gives_up_over(kind).await;
    let transitions = second.metrics.lease_transitions.get();
    for replica in [&first, &second] {
        replica.fails_on(kind, 2).await;
        assert!(!replica.leads() && replica.metrics.candidate.get() == 0.0, "{}", replica.name);
    }
    assert_eq!(second.metrics.lease_transitions.get(), transitions);

    // One that has all its watches again takes part again.
    rights(plane, &second.name, None).await;
    second.is_leader(true, SOON).await;
    assert!(!first.leads() && first.metrics.candidate.get() == 0.0);
}

#[tokio::test]
async fn whoever_loses_a_watch_of_any_kind_gives_the_lease_up_and_none_flaps() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let kinds = [
        (WatchKind::Ingress, "ingresses"),
        (WatchKind::IngressClass, "ingressclasses"),
        (WatchKind::Service, "services"),
        (WatchKind::EndpointSlice, "endpointslices"),
        (WatchKind::SecretMetadata, "secrets"),
        (WatchKind::Node, "nodes"),
        (WatchKind::ClassMemory, "configmaps"),
    ];
    join_all(kinds.map(|(kind, resource)| lose(&plane, kind, resource))).await;
}

/// Whoever owns a watched namespace can take our rights in it away: with the RoleBinding, or with the namespace.
#[tokio::test]
async fn a_namespace_that_may_not_be_read_holds_up_no_other() {
    let plane = ControlPlane::start().await;
    for name in ["team-a", "team-b"] {
        let web = [service(name, "web"), slice(name, "web", "10.1.0.1"), annotated(name, "web", "web")];
        plane.apply_objects(&[namespace(name)]).await;
        plane.apply_objects(&web).await;
    }
    plane.install("manifests/namespaced");
    let first = Replica::of_teams(&plane, "first").await;
    first.is_leader(true, SOON).await;
    first.reads("both are read", &[("team-a", "web", true), ("team-b", "web", true)]).await;
    let take = |team: &str| {
        let binding = plane.kubectl_ok(&["-n", team, "get", "rolebinding", "waybill-watched", "-o", "json"]);
        plane.kubectl_ok(&["-n", team, "delete", "rolebinding", "waybill-watched"]);
        let mut binding: Value = serde_json::from_str(&binding).unwrap();
        let metadata = binding["metadata"].as_object_mut().unwrap();
        metadata.retain(|key, _| matches!(&**key, "name" | "namespace"));
        binding
    };
    let of_b = take("team-b");
    plane.may_no_longer("list", "ingresses", "team-b").await;

    // It goes on to lead and to read the other, and keeps what it has read of this one.
    let begun = Instant::now();
    for kind in [WatchKind::Ingress, WatchKind::Service, WatchKind::EndpointSlice, WatchKind::TlsSecret] {
        first.fails_on(kind, 2).await;
    }
    plane.kubectl_ok(&["-n", "team-b", "delete", "ingress", "web"]);
    eventually("it leads all the time", SOON, async || {
        let quietest = first.metrics.watch_age.quietest(|_| true, Instant::now());
        assert!(first.leads() && first.metrics.candidate.get() == 1.0, "{quietest:?}");
        if begun.elapsed() > 2 * LIMITS.dead_after { Ok(()) } else { Err("it does") }
    })
    .await;
    plane.apply_objects(&[annotated("team-a", "later", "web")]).await;
    first.reads("the other team's is read", &[("team-a", "later", true), ("team-b", "web", true)]).await;

    // One that starts only now does without it.
    let second = Replica::of_teams(&plane, "second").await;
    tokio::time::timeout(SOON, second.live.reached(Phase::Synced))
        .await
        .expect("it has listed the other one");
    second
        .reads(
            "one team's are read",
            &[("team-a", "web", true), ("team-a", "later", true), ("team-b", "web", false)],
        )
        .await;
    drop(first);
    second.is_leader(true, SOON).await;

    plane.apply_objects(&[of_b, annotated("team-b", "back", "web")]).await;
    second.reads("the right is back", &[("team-b", "back", true), ("team-b", "web", false)]).await;

    // Where no namespace may be read, the fault is not a team's, and nothing counts as gone.
    take("team-a");
    take("team-b");
    plane.may_no_longer("list", "ingresses", "team-a").await;
    let third = Replica::of_teams(&plane, "third").await;
    third.gives_up_over(WatchKind::Ingress).await;
    assert_eq!(*third.live.phase().borrow(), Phase::Listing);
    second.reads("all stays", &[("team-a", "web", true), ("team-b", "back", true)]).await;

    // Nor does one that has just started take the Lease before it has listed, although nobody else would.
    drop(second);
    let fourth = Replica::of_teams(&plane, "fourth").await;
    let begun = Instant::now();
    eventually("the Lease is up", SOON, async || {
        assert!(!third.leads() && !fourth.leads());
        if begun.elapsed() > 2 * LEASE { Ok(()) } else { Err("it may not be yet") }
    })
    .await;
}

/// A kind that may be missing everywhere takes nobody out.
#[tokio::test]
async fn a_definition_that_is_not_there_is_no_dead_watch() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let limits = Limits { dead_after: Duration::from_secs(15), ..LIMITS };
    let replica = Replica::start(&plane, &plane.url(), "only", "lease", limits).await;
    replica.is_leader(true, SOON).await;
    rights(&plane, "only", Some("ingressclassparameters")).await;
    // It is looked for every 5 to 10 s; long enough for a dead one to be seen.
    let begun = Instant::now();
    eventually("it was looked for again and again", Duration::from_secs(60), async || {
        let (_, age) =
            replica.metrics.watch_age.quietest(|kind| kind == WatchKind::Parameters, Instant::now()).unwrap();
        assert!(age < limits.dead_after, "{age:?}");
        if begun.elapsed() > 2 * limits.dead_after { Ok(()) } else { Err(format!("{age:?}")) }
    })
    .await;
    assert!(replica.leads());
}

/// When each kind was heard of again after all connections stalled at `stalled`.
async fn heard_again(
    kinds: &[WatchKind],
    stalled: Instant,
    within: Duration,
    age: impl AsyncFn(WatchKind) -> Option<Duration>,
) -> Vec<(WatchKind, Duration)> {
    let mut again: Vec<(WatchKind, Duration)> = Vec::new();
    eventually("all kinds are heard of again", within, async || {
        for kind in kinds {
            if again.iter().any(|(known, _)| known == kind) {
                continue;
            }
            let since = stalled.elapsed();
            if age(*kind).await.is_some_and(|age| age < since) {
                again.push((*kind, since));
            }
        }
        let missing: Vec<_> =
            kinds.iter().filter(|kind| !again.iter().any(|(known, _)| known == *kind)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
    })
    .await;
    for (kind, after) in &again {
        println!("{}: heard of again {after:.1?} after the stall", kind.as_str());
    }
    again
}

#[tokio::test]
async fn a_stalled_connection_is_noticed_for_every_kind() {
    let plane = ControlPlane::start().await;
    plane.install("manifests");
    let proxy = StallingProxy::start(([127, 0, 0, 1], plane.port()).into()).await;
    let limits = Limits { dead_after: Duration::from_secs(30), ..LIMITS };
    let replica = Replica::start(&plane, &proxy.url(), "only", "lease", limits).await;
    replica.is_leader(true, SOON).await;
    proxy.stall_open();
    let stalled = Instant::now();
    let age = async |kind: WatchKind| {
        replica.metrics.watch_age.quietest(|of| of == kind, Instant::now()).map(|(_, age)| age)
    };
    // One try may go to a connection that was idle when it died.
    let longest = Duration::from_secs(WATCH_SECONDS.into()) + IDLE + OPENING;
    // That of parameters fails each time, the definition not being there, and is looked for every 5 to 10 s.
    let again = heard_again(&INPUT, stalled, longest + 2 * MARGIN, age).await;
    for kind in INPUT.iter().filter(|kind| **kind != WatchKind::Parameters) {
        assert!(
            replica.metrics.watch_errors.get(*kind) >= 1,
            "{kind:?} was heard of without having been noticed"
        );
    }
    for (kind, after) in again.iter().filter(|(kind, _)| *kind != WatchKind::Parameters) {
        assert!(*after < longest + MARGIN, "{kind:?}: {after:?}");
    }
}

/// A replica of the real binary that goes through a proxy.
async fn through(plane: &ControlPlane, proxy: &StallingProxy, name: &str) -> Operator {
    let token = plane.service_account_token("waybill", "waybill").await;
    let file = plane.folder().join(format!("{name}.token"));
    std::fs::write(&file, token).unwrap();
    let mut command = std::process::Command::new(crate::harness::operator::binary());
    command.args([
        "run".to_owned(),
        format!("--providers.kubernetesingress.endpoint={}", proxy.url()),
        format!("--providers.kubernetesingress.token={}", file.display()),
        format!("--providers.kubernetesingress.certauthfilepath={}", plane.ca_file().display()),
    ]);
    command.env_clear();
    plane.operator_by(name, command)
}

/// The real times.
#[tokio::test]
#[ignore = "takes minutes: make test-long; the short forms are above"]
async fn a_dead_watch_is_noticed_and_the_lease_given_up_in_the_times_as_shipped() {
    let plane = ControlPlane::start().await;
    plane.install("crds");
    plane.install("manifests");
    let proxy = StallingProxy::start(([127, 0, 0, 1], plane.port()).into()).await;
    let operator = through(&plane, &proxy, "leader").await;
    operator.leads().await;
    let mut kinds = INPUT.to_vec();
    kinds.extend([WatchKind::OwnConfigMap, WatchKind::OwnSecret]);
    let age = async |kind: WatchKind| {
        let series = format!("waybill_watch_age_seconds{{kind=\"{}\"}}", kind.as_str());
        operator.metric(&series).await.map(Duration::from_secs_f64)
    };
    eventually("all are watched", SOON, async || {
        for kind in &kinds {
            age(*kind).await.ok_or_else(|| format!("{kind:?}"))?;
        }
        Ok::<_, String>(())
    })
    .await;
    let errors = async |kind: WatchKind| {
        operator
            .metric(&format!("waybill_watch_errors_total{{kind=\"{}\"}}", kind.as_str()))
            .await
            .unwrap_or_default()
    };
    let mut before = Vec::new();
    for kind in &kinds {
        before.push((*kind, errors(*kind).await));
    }
    proxy.stall_open();
    let stalled = Instant::now();
    let mut noticed = Vec::new();
    eventually("all are noticed", Duration::from_secs(60), async || {
        for (kind, count) in &before {
            if !noticed.iter().any(|(known, _)| known == kind) && errors(*kind).await > *count {
                println!("{}: noticed {:.1?} after the stall", kind.as_str(), stalled.elapsed());
                noticed.push((*kind, stalled.elapsed()));
            }
        }
        if noticed.len() == kinds.len() { Ok(()) } else { Err(format!("{noticed:?}")) }
    })
    .await;
    let longest = noticed.iter().map(|(_, after)| *after).max().unwrap();
    assert!(longest <= Duration::from_secs(36), "{longest:?}");
    heard_again(&kinds, stalled, Duration::from_secs(120), age).await;
    operator.leads().await;

    let roles: Api<ClusterRole> = Api::all(plane.admin());
    let whole = roles.get("waybill").await.unwrap().rules;
    let rules = without(whole.clone(), "endpointslices");
    let params = PatchParams::default();
    roles.patch("waybill", &params, &Patch::Merge(json!({"rules": rules}))).await.unwrap();
    let gone = Instant::now();
    eventually("the lease is given up", Duration::from_secs(120), async || {
        match operator.metric("waybill_candidate").await {
            Some(0.0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    println!("given up {:.1?} after the right was taken away", gone.elapsed());
    assert!(gone.elapsed() > Duration::from_secs(59));
    operator.shows("leader_election_master_status{name=\"waybill\"}", 0.0).await;
    operator.shows("waybill_leases_lost_total", 0.0).await;
    roles.patch("waybill", &params, &Patch::Merge(json!({"rules": whole}))).await.unwrap();
    let back = Instant::now();
    operator.leads().await;
    println!("leading again {:.1?} after the right came back", back.elapsed());
}
