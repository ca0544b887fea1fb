//! The table against the reference, under names that are made to collide.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::reference;
use super::rivals_tests as rivals;
use super::*;
use crate::kubernetes::key::{SecretKey, ServiceKey};
use crate::traefik::document::{self, Keys};
use crate::traefik::dynamic::{
    Certificate, Configuration, Http, HttpService, LoadBalancer, Router, Server, Tls,
};
use crate::translate::fragment::{
    CertificateFragment, Created, DefaultBackend, RouterFragment, ServiceFragment, ServiceOwner, Uid,
};
use crate::translate::name;
use crate::translate::settings::Settings;

pub(super) fn service(url: &str) -> HttpService {
    let servers = vec![Server { url: url.to_owned() }];
    HttpService {
        load_balancer: LoadBalancer { servers, ..LoadBalancer::default() },
        ..HttpService::default()
    }
}

/// A service whose content follows from its owner, as translation gives it.
pub(super) fn service_of(
    created: i64,
    namespace: &str,
    service_name: &str,
    port: &str,
    variant: u64,
) -> Arc<ServiceFragment> {
    Arc::new(ServiceFragment {
        key: name::normalize(&format!("{namespace}-{service_name}-{port}")).into(),
        owner: ServiceOwner {
            created: Created(created),
            service: ServiceKey::new(namespace, service_name),
            port: port.into(),
            variant,
        },
        service: service(&format!("http://{namespace}.{service_name}.{port}.{variant}.{created}")),
    })
}

pub(super) fn router(key: &str, rule: &str, service: Arc<ServiceFragment>) -> RouterFragment {
    RouterFragment { key: key.into(), router: Router { rule: rule.to_owned(), ..Router::default() }, service }
}

pub(super) fn fragment(
    namespace: &str,
    ingress: &str,
    created: i64,
    routers: Vec<RouterFragment>,
) -> Fragment {
    Fragment {
        ingress: IngressKey::new(namespace, ingress),
        created: Created(created),
        uid: Uid::default(),
        settings: Arc::default(),
        routers,
        default_backend: None,
        certificates: Vec::new(),
        problems: Vec::new(),
        uses_nodes: false,
        namespaces: Box::default(),
    }
}

pub(super) fn certificate(namespace: &str, secret: &str) -> CertificateFragment {
    CertificateFragment {
        secret: SecretKey::new(namespace, secret),
        created: Created(1),
        certificate: Arc::new(Certificate {
            // Not in the order of the names.
            cert_file: format!("-----BEGIN {}", secret.chars().rev().collect::<String>()).into(),
            key_file: format!("-----BEGIN KEY {namespace}/{secret}").into(),
        }),
    }
}

pub(super) fn default_output() -> OutputKey {
    Settings::default().output
}

pub(super) fn parsed(output: &Output) -> Configuration {
    serde_json::from_str(&output.assembled(Keys::Shown)).expect("what is assembled is JSON")
}

mod generated {
    use super::*;

    /// Keys that Ingresses and Services of two namespaces both come to, and guesses of what others are moved on to.
    fn router_key() -> impl Strategy<Value = String> {
        let forced = |identity: &str| name::with_digest("a-b-c", identity);
        let long = "k".repeat(name::LIMIT - 1);
        select(vec![
            "a-b-c".to_owned(),
            "a-b".to_owned(),
            "default-router".to_owned(),
            forced("a-b/c"),
            forced("a/b-c"),
            name::with_digest(&forced("a/b-c"), "a/b-c"),
            name::with_digest("default-router", "a/b-c"),
            name::with_digest(&long, "a/b-c"),
            long,
        ])
    }

    fn some_service() -> impl Strategy<Value = Arc<ServiceFragment>> {
        let names = select(vec![("a-b", "c"), ("a", "b-c"), ("a", "b"), ("default", "backend")]);
        let guess = format!("80-{}", name::digest("a/b-c"));
        let ports = select(vec!["80".to_owned(), "8-0".to_owned(), "8--0".to_owned(), String::new(), guess]);
        (0..2_i64, names, ports, 0..2_u64).prop_map(|(created, (namespace, service), port, variant)| {
            service_of(created, namespace, service, &port, variant)
        })
    }

    fn ingress() -> impl Strategy<Value = IngressKey> {
        select(vec![("a-b", "c"), ("a", "b-c"), ("a", "b.c"), ("a", "b"), ("b", "a")])
            .prop_map(|(namespace, name)| IngressKey::new(namespace, name))
    }

    /// What an Ingress has that was translated when its Services and Secrets had another content.
    fn outdated(mut fragment: Fragment) -> Fragment {
        for router in &mut fragment.routers {
            Arc::make_mut(&mut router.service).service = service("http://older");
        }
        for of in &mut fragment.certificates {
            of.certificate = Arc::clone(&rivals::secrets()[0].certificate);
        }
        fragment
    }

    fn fragment() -> impl Strategy<Value = Fragment> {
        let routers = prop::collection::btree_map(router_key(), (some_service(), "[xy]"), 0..4);
        let certificates = subsequence(rivals::secrets(), 0..=3);
        (ingress(), 0..3_i64, routers, any::<(bool, bool, bool)>(), certificates).prop_map(
            |(ingress, created, routers, (default, second, problem), certificates)| {
                let output = if second { OutputKey::new("waybill", "second") } else { default_output() };
                let settings = Arc::new(Settings { output, ..Settings::default() });
                let routers =
                    routers.into_iter().map(|(key, (service, rule))| router(&key, &rule, service)).collect();
                let default_backend = default.then(|| {
                    Box::new(DefaultBackend {
                        router: Router { rule: "PathPrefix(\"/\")".to_owned(), ..Router::default() },
                        service: service(&format!("http://{ingress}")),
                    })
                });
                let problems = if problem { vec![default_backend_taken(&ingress)] } else { Vec::new() };
                Fragment {
                    settings,
                    default_backend,
                    certificates,
                    problems,
                    created: Created(created),
                    ..super::fragment(ingress.namespace(), ingress.name(), 0, routers)
                }
            },
        )
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(Box<Fragment>),
        Remove(IngressKey),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![3 => fragment().prop_map(|fragment| Step::Set(Box::new(fragment))), 1 => fragment().prop_map(|fragment| Step::Set(Box::new(outdated(fragment)))), 1 => ingress().prop_map(Step::Remove)];
        prop::collection::vec(step, 1..16)
    }

    /// The Services and Secrets as the Ingress has read them that was set last, in each output.
    #[derive(Default)]
    struct LastRead {
        services: BTreeMap<(OutputKey, ServiceOwner), Arc<ServiceFragment>>,
        certificates: BTreeMap<(OutputKey, SecretKey), CertificateFragment>,
    }

    impl LastRead {
        fn set(&mut self, fragment: &Fragment) {
            let output = || fragment.output().clone();
            for RouterFragment { service, .. } in &fragment.routers {
                self.services.insert((output(), service.owner.clone()), Arc::clone(service));
            }
            for certificate in &fragment.certificates {
                self.certificates.insert((output(), certificate.secret.clone()), certificate.clone());
            }
        }

        fn of(&self, fragment: &Fragment) -> Fragment {
            let (mut fragment, output) = (fragment.clone(), fragment.output().clone());
            for RouterFragment { service, .. } in &mut fragment.routers {
                *service = Arc::clone(&self.services[&(output.clone(), service.owner.clone())]);
            }
            for certificate in &mut fragment.certificates {
                *certificate = self.certificates[&(output.clone(), certificate.secret.clone())].clone();
            }
            fragment
        }
    }

    fn outputs() -> [OutputKey; 2] {
        [default_output(), OutputKey::new("waybill", "second")]
    }

    fn text(configuration: &Configuration, keys: Keys) -> String {
        let mut text = String::new();
        document::write_configuration(&mut text, configuration, keys);
        text
    }

    fn assembled(table: &Table) -> BTreeMap<OutputKey, String> {
        let text = |output: &OutputKey| {
            table.output(output).map_or("{}\n".to_owned(), |output| output.assembled(Keys::Shown))
        };
        outputs().map(|output| (output.clone(), text(&output))).into()
    }

    /// The Secrets of the published certificates: a copy has the same text.
    fn secrets(table: &Table, output: &OutputKey) -> Vec<SecretKey> {
        let output = table.output(output).into_iter();
        output.flat_map(Output::certificates_by_secret).map(|(secret, _)| secret.clone()).collect()
    }

    fn problems(table: &Table, ingresses: &BTreeSet<IngressKey>) -> BTreeMap<IngressKey, Vec<Problem>> {
        ingresses.iter().map(|ingress| (ingress.clone(), table.problems(ingress))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

        /// After every step the table holds what the reference says, and tells truly what the step changed.
        #[test]
        fn the_table_is_a_function_of_the_set(steps in steps()) {
            let mut table = Table::new();
            let mut set: BTreeMap<IngressKey, Fragment> = BTreeMap::new();
            let mut seen = BTreeSet::new();
            let mut last_read = LastRead::default();
            for step in steps {
                let ingress = match &step {
                    Step::Set(fragment) => fragment.ingress.clone(),
                    Step::Remove(ingress) => ingress.clone(),
                };
                seen.insert(ingress.clone());
                let before = (assembled(&table), problems(&table, &seen), set.get(&ingress).cloned());
                let secrets_before = outputs().map(|output| (output.clone(), secrets(&table, &output)));
                let change = match step {
                    Step::Set(fragment) => {
                        last_read.set(&fragment);
                        set.insert(ingress.clone(), (*fragment).clone());
                        table.set(*fragment)
                    }
                    Step::Remove(_) => {
                        set.remove(&ingress);
                        table.remove(&ingress)
                    }
                };
                let after = (assembled(&table), problems(&table, &seen), set.get(&ingress).cloned());

                prop_assert_eq!(change.fragment, before.2 != after.2);
                let changed: BTreeSet<_> = secrets_before
                    .into_iter()
                    .filter(|(output, before_it)| {
                        before.0[output] != after.0[output] || *before_it != secrets(&table, output)
                    })
                    .map(|(output, _)| output)
                    .collect();
                prop_assert_eq!(change.outputs.len(), changed.len());
                prop_assert_eq!(change.outputs.into_iter().collect::<BTreeSet<_>>(), changed);
                let changed: BTreeSet<_> =
                    seen.iter().filter(|ingress| before.1[*ingress] != after.1[*ingress]).cloned().collect();
                prop_assert_eq!(change.problems.len(), changed.len());
                prop_assert_eq!(change.problems.into_iter().collect::<BTreeSet<_>>(), changed);

                let refused = reference::refused_default_backends(&set);
                for ingress in &seen {
                    let own = set.get(ingress).map_or(0, |fragment| fragment.problems.len());
                    prop_assert_eq!(table.problems(ingress).len(), own + usize::from(refused.contains(ingress)));
                }
                let mut anew = Table::new();
                for fragment in set.values() {
                    anew.set(fragment.clone());
                }
                let shared = set.iter().map(|(ingress, of)| (ingress.clone(), last_read.of(of))).collect();
                for output in outputs() {
                    let wanted = reference::configuration(&shared, &output);
                    prop_assert_eq!(&after.0[&output], &text(&wanted, Keys::Shown));
                    let Some(of) = table.output_mut(&output) else { continue };
                    prop_assert_eq!(of.assembled(Keys::LeftOut), text(&wanted, Keys::LeftOut));
                    let http = wanted.http.clone().unwrap_or_default();
                    let mut certificates = wanted.tls.unwrap_or_default().certificates;
                    prop_assert_eq!(of.counts(), Counts {
                        routers: http.routers.len(),
                        services: http.services.len(),
                        certificates: certificates.len(),
                    });
                    let namespaces = of.routers_by_namespace();
                    prop_assert_eq!(namespaces.values().sum::<usize>(), http.routers.len());
                    prop_assert_eq!(namespaces, &reference::routers_by_namespace(&set, &output));
                    certificates.reverse();
                    let tls = (!certificates.is_empty()).then_some(Tls { certificates });
                    let read = Configuration { http: wanted.http, tls };
                    prop_assert_eq!(of.hash(), crate::published::read::hash(&read));
                    prop_assert_eq!(of.places(), anew.output(&output).map_or(Vec::new(), Output::places));

                    of.refresh();
                    let shards: Vec<_> = of.routing_shards().filter_map(|shard| Some(of.routing_shard(&shard)?.document())).collect();
                    let part = |http: Http| {
                        let there = http != Http::default();
                        there.then(|| text(&Configuration { http: Some(http), tls: None }, Keys::LeftOut))
                    };
                    let routers = part(Http { routers: http.routers, ..Http::default() });
                    let services = part(Http { services: http.services, ..Http::default() });
                    prop_assert_eq!(shards, routers.into_iter().chain(services).collect::<Vec<_>>());
                }
            }
        }

        /// Removing an Ingress leaves every router and service alone whose names have nothing to do with its own.
        #[test]
        fn a_removal_touches_only_names_that_collide(
            fragments in prop::collection::vec(fragment(), 2..8),
            own in "[a-c]{1,3}",
        ) {
            let mut table = Table::new();
            for fragment in &fragments {
                table.set(fragment.clone());
            }
            // One that collides with nobody goes without a trace.
            let before = assembled(&table);
            let lonely = super::fragment("z", &own, 0, vec![router(&format!("z-{own}"), "r", service_of(0, "z", &own, "80", 0))]);
            table.set(lonely.clone());
            table.remove(&lonely.ingress);
            prop_assert_eq!(assembled(&table), before);

            // One that may collide touches only keys that its own are the beginning of.
            let Some(gone) = table.fragment(&fragments[0].ingress).cloned() else { return Ok(()) };
            let output = gone.output().clone();
            let of = |table: &Table| table.output(&output).map(parsed).unwrap_or_default().http.unwrap_or_default();
            let before = of(&table);
            table.remove(&gone.ingress);
            let after = of(&table);
            let related = |key: &str, of: fn(&RouterFragment) -> &Arc<str>| {
                // Long keys are cut, so their first bytes have to do.
                gone.routers.iter().any(|router| key.starts_with(&of(router)[..of(router).len().min(400)]))
            };
            for (key, service) in &before.services {
                if key != "default-backend" && !related(key, |router| &router.service.key) {
                    prop_assert_eq!(after.services.get(key), Some(service));
                }
            }
            for (key, router) in &before.routers {
                if key != "default-router"
                    && !related(key, |router| &router.key)
                    && !related(&router.service, |router| &router.service.key)
                {
                    prop_assert_eq!(after.routers.get(key), Some(router));
                }
            }
        }
    }
}

#[test]
fn the_older_service_keeps_the_key_and_the_other_one_s_router_follows() {
    let mut table = Table::new();
    let young = service_of(2, "a", "b-c", "80", 0);
    let old = service_of(1, "a-b", "c", "80", 0);
    table.set(fragment("a", "one", 1, vec![router("a-one", "r", young)]));
    let output = parsed(table.output(&default_output()).expect("it is there"));
    assert_eq!(output.http.expect("routing").routers["a-one"].service, "a-b-c-80");

    table.set(fragment("a-b", "two", 2, vec![router("a-b-two", "r", old)]));
    let http = parsed(table.output(&default_output()).expect("it is there")).http.expect("routing");
    let moved = name::with_digest("a-b-c-80", "a/b-c");
    assert_eq!(http.routers["a-one"].service, moved);
    assert_eq!(http.routers["a-b-two"].service, "a-b-c-80");
    assert_eq!(http.services[&moved], service("http://a.b-c.80.0.2"));

    table.remove(&IngressKey::new("a-b", "two"));
    let http = parsed(table.output(&default_output()).expect("it is there")).http.expect("routing");
    assert_eq!(http.routers["a-one"].service, "a-b-c-80");
    assert_eq!(http.services.len(), 1);
}

#[test]
fn an_equal_fragment_does_nothing() {
    let mut table = Table::new();
    let one = fragment("a", "one", 1, vec![router("a-one", "r", service_of(1, "a", "s", "80", 0))]);
    assert_eq!(
        table.set(one.clone()),
        Change { fragment: true, outputs: vec![default_output()], problems: Vec::new() }
    );
    assert_eq!(table.set(one.clone()), Change::default());
    let created = Fragment { uses_nodes: true, ..one };
    assert_eq!(
        table.set(created),
        Change { fragment: true, ..Change::default() },
        "nothing published changes"
    );
    assert_eq!(table.remove(&IngressKey::new("a", "other")), Change::default());
}

/// An Ingress that moves is in both outputs until it is settled, wherever it goes meanwhile, and in none once it is gone.
#[test]
fn what_moves_stays_where_it_was_until_it_is_settled() {
    let of = |output: &str, host: &str| Fragment {
        settings: Arc::new(Settings { output: OutputKey::new("edge", output), ..Settings::default() }),
        ..fragment("a", "one", 1, vec![router("a-one", host, service_of(1, "a", "s", "80", 0))])
    };
    let key = IngressKey::new("a", "one");
    let holds = |table: &Table| -> Vec<String> {
        let filled = table.outputs().filter(|(_, output)| !output.is_empty());
        filled.map(|(key, _)| key.name().to_owned()).collect()
    };
    let outputs = |names: &[&str]| names.iter().map(|name| OutputKey::new("edge", *name)).collect::<Vec<_>>();
    let arrived = |table: &Table, name: &str| table.moving_to(&OutputKey::new("edge", name)).count();
    let mut table = Table::new();
    assert_eq!(table.set_moving(of("x", "r")).outputs, outputs(&["x"]));
    assert!(!table.is_moving(&key));
    assert_eq!(table.set_moving(of("y", "r")).outputs, outputs(&["y"]));
    assert!(table.is_moving(&key));
    assert_eq!((arrived(&table, "x"), arrived(&table, "y")), (0, 1));
    assert_eq!(holds(&table), ["x", "y"]);

    // Changed on the way: only where it is now; and on to a third one.
    assert_eq!(table.set_moving(of("y", "s")).outputs, outputs(&["y"]));
    table.set_moving(of("z", "s"));
    assert_eq!(holds(&table), ["x", "y", "z"]);
    assert_eq!((arrived(&table, "y"), arrived(&table, "z")), (0, 1));

    // Back to the first one, which has it in an older form.
    assert_eq!(table.set_moving(of("x", "s")).outputs, outputs(&["x"]));
    assert_eq!(table.settle(&key).outputs, outputs(&["y", "z"]));
    assert_eq!(table.settle(&key), Change::default());
    assert_eq!(holds(&table), ["x"]);
    let http =
        parsed(table.output(&OutputKey::new("edge", "x")).expect("it is there")).http.expect("routing");
    assert_eq!(http.routers["a-one"].rule, "s");

    // Gone on the way: at once, and from everywhere.
    table.set_moving(of("y", "s"));
    let mut gone = table.remove(&key).outputs;
    gone.sort_unstable();
    assert_eq!(gone, outputs(&["x", "y"]));
    assert_eq!(holds(&table), Vec::<String>::new());
    assert!(!table.is_moving(&key));
}

/// The key of an Ingress's certificate is in its output as long as somebody names its Secret, and no longer.
#[test]
fn certificates_are_counted() {
    let mut table = Table::new();
    let with = |name: &str, secrets: &[&str]| Fragment {
        certificates: secrets.iter().map(|secret| certificate("a", secret)).collect(),
        ..fragment("a", name, 1, Vec::new())
    };
    table.set(with("one", &["x1", "y0"]));
    table.set(with("two", &["y0"]));
    let output = table.output_mut(&default_output()).expect("it is there");
    assert_eq!(output.counts().certificates, 2);
    // Sorted by name.
    let text = output.assembled(Keys::LeftOut);
    assert!(text.find("BEGIN 1x") < text.find("BEGIN 0y"), "{text}");
    let certificates = |table: &mut Table| {
        let output = table.output_mut(&default_output()).expect("it is there");
        output.refresh();
        let shards: Vec<_> = output.key_shards().collect();
        assert!(shards.len() <= 1 && output.routing_shards().next().is_none());
        shards
            .first()
            .and_then(|shard| output.key_shard(shard))
            .map(|shard| shard.document())
            .unwrap_or_default()
    };
    assert!(certificates(&mut table).contains("KEY a/x1"));
    table.set(with("one", &[]));
    assert!(!certificates(&mut table).contains("KEY a/x1") && certificates(&mut table).contains("KEY a/y0"));
    table.remove(&IngressKey::new("a", "two"));
    assert_eq!(certificates(&mut table), "");
}
