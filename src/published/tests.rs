//! What is written can be read again, and what was tampered with can't.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use crate::kubernetes::key::{IngressKey, OutputKey, SecretKey, ServiceKey};
use crate::published::desired_output::{DesiredOutput, Stamp};
use crate::published::index::IndexError;
use crate::published::objects::{self, Part};
use crate::published::read::{self, ReadError};
use crate::published::salt::{Salt, short_name};
use crate::table::{Digest, ShortDigest, Table};
use crate::traefik::document::Keys;
use crate::traefik::dynamic::{Certificate, HttpService, LoadBalancer, Router, Server};
use crate::translate::fragment::{
    CertificateFragment, Created, Fragment, RouterFragment, ServiceFragment, ServiceOwner, Uid,
};
use crate::translate::size;

const SALT: &str = "0123456789abcdef0123456789abcdef";

fn salt() -> Option<Salt> {
    Salt::try_from(SALT.to_owned()).ok()
}

pub fn output() -> OutputKey {
    OutputKey::new("waybill", "waybill")
}

pub fn fragment(at: usize, certificate_length: usize) -> Fragment {
    let ingress = IngressKey::new("shop", format!("web-{at}"));
    let servers = vec![Server { url: format!("http://10.0.{}.{}:8080", at / 256, at % 256) }];
    let service = ServiceFragment {
        key: format!("shop-web-{at}-80").into(),
        owner: ServiceOwner {
            created: Created(1),
            service: ServiceKey::new("shop", format!("web-{at}")),
            port: "80".into(),
            variant: 0,
        },
        service: HttpService {
            load_balancer: LoadBalancer { servers, ..LoadBalancer::default() },
            ..HttpService::default()
        },
    };
    let certificate = Certificate {
        cert_file: format!(
            "-----BEGIN CERTIFICATE-----\n{:07}{}",
            at * 7919 % 10_000,
            "c".repeat(certificate_length)
        )
        .into(),
        key_file: format!("-----BEGIN PRIVATE KEY-----\n{at}").into(),
    };
    Fragment {
        ingress,
        created: Created(1),
        uid: Uid::default(),
        settings: Arc::default(),
        routers: vec![RouterFragment {
            key: format!("shop-web-{at}-example-org").into(),
            router: Router {
                rule: format!("Host(\"{at}.example.org\") && PathPrefix(\"/{{{{\")"),
                ..Router::default()
            },
            service: Arc::new(service),
        }],
        default_backend: None,
        certificates: (certificate_length > 0)
            .then(|| CertificateFragment {
                secret: SecretKey::new("shop", format!("web-{at}")),
                created: Created(1),
                certificate: Arc::new(certificate),
            })
            .into_iter()
            .collect(),
        problems: Vec::new(),
        uses_nodes: false,
        namespaces: Box::default(),
    }
}

fn table(count: usize, certificate_length: usize) -> Table {
    let mut table = Table::new();
    table.declare(&output());
    for at in 0..count {
        table.set(fragment(at, certificate_length));
    }
    table
}

/// The objects of [`output`].
pub struct Cluster {
    pub index: ConfigMap,
    pub config_maps: BTreeMap<String, ConfigMap>,
    pub secrets: BTreeMap<String, Secret>,
}

impl Cluster {
    pub fn of(table: &mut Table) -> Self {
        Self::salted(table, salt())
    }

    fn salted(table: &mut Table, salt: Option<Salt>) -> Self {
        let output = output();
        let state = table.declare(&output);
        let desired = DesiredOutput::new(state);
        let config_maps = desired.routing_shards.iter().map(|digest| {
            let document = state.routing_shard(digest).unwrap().document();
            let shard = objects::routing_shard(&output, salt, digest, &document).unwrap_or_default();
            (shard.metadata.name.clone().unwrap_or_default(), shard)
        });
        let secrets = desired.key_shards.iter().map(|digest| {
            let document = state.key_shard(digest).unwrap().document();
            let shard = objects::key_shard(&output, salt, digest, &document).unwrap_or_default();
            (shard.metadata.name.clone().unwrap_or_default(), shard)
        });
        let published_at = "2026-11-24T08:00:00Z";
        let stamp = Stamp { epoch: 2, generation: 9, awaited: 0, published_at, salt };
        Self {
            config_maps: config_maps.collect(),
            secrets: secrets.collect(),
            index: objects::index(&output, &desired.index(&stamp)),
        }
    }

    pub fn read(&self) -> Result<read::Published, ReadError> {
        read::assemble(&output(), &self.index, &self.config_maps, Some(&self.secrets))
    }
}

#[test]
fn an_empty_output_is_an_index_with_zero_counts() {
    let cluster = Cluster::of(&mut table(0, 0));
    assert!(cluster.config_maps.is_empty() && cluster.secrets.is_empty());
    let data = cluster.index.data.clone().unwrap_or_default();
    // `for i in $(seq 256); do printf '\n' | sha256sum | cut -c1-64; done | xxd -r -p | sha256sum`
    let hash = "3f048877d2db8d84762ea99c5c1b5b97ec94d6e257fdfd2e0a2fb5e8e7aeb53c";
    assert_eq!(
        data.get("index.json").map(String::as_str),
        Some(&*format!(
            "{{\"formatVersion\":1,\"epoch\":2,\"generation\":9,\"awaited\":0,\"publishedAt\":\"2026-11-24T08:00:00Z\",\
             \"salt\":\"{SALT}\",\"hash\":\"{hash}\",\"shards\":\"\",\"keyShards\":\"\",\
             \"counts\":{{\"routers\":0,\"services\":0,\"certificates\":0}}}}"
        ))
    );
    assert!(cluster.read().is_ok_and(|published| published.document(Keys::Shown) == "{}\n"));
}

#[test]
fn a_small_output_is_one_shard_of_each_part() {
    let mut table = table(3, 40);
    let cluster = Cluster::of(&mut table);
    assert_eq!(cluster.config_maps.len(), 2, "routers and services");
    let (name, secret) = cluster
        .secrets
        .first_key_value()
        .map(|(name, secret)| (name.clone(), secret.clone()))
        .unwrap_or_default();
    assert_eq!(cluster.secrets.len(), 1);
    assert!(name.starts_with("waybill.k-") && name.len() == "waybill.k-".len() + 12, "{name}");
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    assert_eq!(secret.immutable, Some(true));
    assert!(objects::is_ours(&secret.metadata, &output(), Part::Keys));
    assert!(!objects::is_ours(&secret.metadata, &output(), Part::Routing));
    assert!(!objects::is_ours(&secret.metadata, &OutputKey::new("waybill", "public"), Part::Keys));

    let index = &cluster.index;
    assert_eq!(index.metadata.name.as_deref(), Some("waybill"));
    assert_eq!(index.metadata.namespace.as_deref(), Some("waybill"));
    assert_eq!(index.immutable, None);
    assert_eq!(index.metadata.owner_references, None);
    let labels: Vec<_> = index.metadata.labels.iter().flatten().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(
        labels,
        ["app.kubernetes.io/managed-by=waybill", "waybill.dev/output=waybill", "waybill.dev/part=index"]
    );
    let written = format!("{index:?}");
    assert!(!written.contains("PRIVATE KEY") && !written.contains("tls"), "{written}");

    let published = cluster.read().map_err(|e| e.to_string());
    let wanted = table.output(&output()).map(|output| output.assembled(Keys::Shown));
    assert_eq!(published.map(|published| published.document(Keys::Shown)), wanted.ok_or_else(String::new));
}

#[test]
fn a_large_output_is_cut_and_comes_back_whole() {
    let mut table = table(2_000, 200);
    let cluster = Cluster::of(&mut table);
    assert!(cluster.config_maps.len() >= 2 && cluster.secrets.len() >= 2);
    assert!(cluster.index.data.as_ref().is_some_and(|data| data.len() == 1));
    for shard in cluster.config_maps.values() {
        assert_eq!((shard.immutable, &shard.data), (Some(true), &None));
        let document = read::routing_document(shard).unwrap_or_default();
        let packed = shard.binary_data.as_ref().and_then(|data| data.get("routing.yaml.gz"));
        let packed = packed.map(|packed| packed.0.as_slice()).unwrap_or_default();
        // Magic, method, no flags (so no name), no time.
        assert_eq!(packed[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
        assert!(packed.len() * 4 < document.len());
    }
    let published = cluster.read().map_err(|e| e.to_string());
    let table_configuration = table
        .output(&output())
        .and_then(|output| {
            serde_json::from_str::<crate::traefik::dynamic::Configuration>(&output.assembled(Keys::Shown))
                .ok()
        })
        .unwrap_or_default();
    let published = published.map(|published| published.configuration).unwrap_or_default();
    assert_eq!(published.http, table_configuration.http);
    let sorted = |configuration: crate::traefik::dynamic::Configuration| {
        let mut certificates = configuration.tls.unwrap_or_default().certificates;
        certificates.sort_by(|a, b| a.cert_file.cmp(&b.cert_file).then(a.key_file.cmp(&b.key_file)));
        certificates
    };
    assert_eq!(sorted(published), sorted(table_configuration));

    let without_secrets = read::assemble(&output(), &cluster.index, &cluster.config_maps, None);
    assert!(without_secrets.is_ok_and(|published| published.configuration.tls.is_none()));

    // The same again gives the same objects, down to the compressed bytes.
    let again = Cluster::of(&mut self::table(2_000, 200));
    assert_eq!(
        (again.index, again.config_maps, again.secrets),
        (cluster.index, cluster.config_maps, cluster.secrets)
    );
}

#[test]
fn a_change_needs_one_shard_and_an_old_one_is_gone() {
    let mut table = table(2_000, 0);
    let before = DesiredOutput::new(table.declare(&output()));
    assert_eq!(DesiredOutput::new(table.declare(&output())), before);
    let mut changed = fragment(7, 0);
    changed.routers[0].router.priority = 5;
    table.set(changed);
    let output = table.declare(&output());
    let after = DesiredOutput::new(output);
    let lost: Vec<_> =
        before.routing_shards.iter().filter(|shard| !after.routing_shards.contains(shard)).collect();
    assert_eq!(lost.len(), 1);
    assert!(output.routing_shard(lost[0]).is_none());
    assert_eq!(before.routing_shards.len(), after.routing_shards.len());
}

#[test]
fn what_was_tampered_with_is_refused() {
    let whole = || Cluster::of(&mut table(1_000, 200));
    assert!(whole().read().is_ok());

    let mut cluster = whole();
    let lost = cluster.config_maps.pop_first().map(|(name, _)| name);
    assert!(matches!(cluster.read(), Err(ReadError::ShardMissing { name }) if Some(&name) == lost.as_ref()));

    // A document that is not the one that the name says.
    let mut cluster = whole();
    let other = objects::routing_shard(&output(), salt(), &Digest::new("{}\n"), "{}\n").unwrap_or_default();
    if let Some(mut shard) = cluster.config_maps.first_entry() {
        shard.get_mut().binary_data = other.binary_data.clone();
    }
    assert!(matches!(cluster.read(), Err(ReadError::ShardChanged { .. })));

    // Not even where the annotation is changed with it.
    if let Some(mut shard) = cluster.config_maps.first_entry() {
        shard.get_mut().metadata.annotations = other.metadata.annotations;
    }
    assert!(matches!(cluster.read(), Err(ReadError::ShardMisnamed { .. })));

    let mut cluster = whole();
    if let Some(mut shard) = cluster.secrets.first_entry() {
        shard.get_mut().metadata.annotations = None;
    }
    assert!(matches!(cluster.read(), Err(ReadError::ShardChanged { .. })));

    let mut cluster = whole();
    if let Some(mut shard) = cluster.config_maps.first_entry() {
        shard.get_mut().binary_data =
            Some(BTreeMap::from([("routing.yaml.gz".into(), ByteString(vec![1, 2]))]));
    }
    assert!(matches!(cluster.read(), Err(ReadError::Packed { .. })));

    // An index that names a shard twice, one that leaves one out, and one with another hash.
    let reindexed = |from: &str, to: &str| {
        let mut cluster = whole();
        let data = cluster.index.data.get_or_insert_default();
        let text = data.get("index.json").map(|text| text.replacen(from, to, 1)).unwrap_or_default();
        assert_ne!(data.insert("index.json".into(), text.clone()), Some(text));
        cluster.read()
    };
    let index = read::index(&whole().index).map(|index| index.shards).unwrap_or_default();
    let twice = format!("{}{}", &index[..12], index);
    assert!(matches!(reindexed(&index, &twice), Err(ReadError::Twice { kind: "router", .. })));
    assert!(matches!(reindexed(&index, &index[12..]), Err(ReadError::NotTheWhole)));
    assert!(matches!(reindexed("\"hash\":\"", "\"hash\":\"0"), Err(ReadError::NotTheWhole)));
    for (from, to) in [(SALT, "f123456789abcdef0123456789abcdef"), (&format!("\"salt\":\"{SALT}\","), "")] {
        assert!(matches!(reindexed(from, to), Err(ReadError::ShardMisnamed { .. })), "{to:?}");
    }
    let newer = reindexed("\"formatVersion\":1", "\"formatVersion\":2");
    assert!(matches!(newer, Err(ReadError::Index(IndexError::NewerFormat { found: 2 }))));

    let mut cluster = whole();
    cluster.index.data = None;
    assert!(matches!(cluster.read(), Err(ReadError::KeyMissing { key: "index.json", .. })));
}

#[test]
fn an_output_without_a_salt_can_be_read() {
    let mut table = table(1_000, 200);
    let (plain, salted) = (Cluster::salted(&mut table, None), Cluster::of(&mut table));
    let read = plain.read().unwrap();
    assert_eq!(read.configuration, salted.read().unwrap().configuration);
    for (name, shard) in &plain.config_maps {
        assert!(!salted.config_maps.contains_key(name));
        assert_eq!(*name, format!("waybill.r-{}", read::sha256(&shard.metadata).unwrap().short()));
    }
}

/// A small gzip that unpacks to more than any shard ends with an error and not with the machine's memory.
#[test]
fn unpacking_is_bounded() {
    let bomb = " ".repeat(read::UNPACKED_LIMIT as usize + 1);
    let shard = objects::routing_shard(&output(), salt(), &Digest::new(&bomb), &bomb).unwrap_or_default();
    assert!(matches!(read::routing_document(&shard), Err(ReadError::Packed { .. })));
}

/// A broken document's error names the place and shows nothing of it.
#[test]
fn errors_don_t_quote_keys() {
    let text =
        "{\"tls\":{\"certificates\":[{\"certFile\":\"c\",\"keyFile\":\"-----BEGIN\"},{\"SECRET\":1}]}}";
    let digest = Digest::new(text);
    let mut cluster = Cluster::of(&mut table(1, 40));
    let short = read::index(&cluster.index).map(|index| index.key_shards).unwrap_or_default();
    let data = cluster.index.data.get_or_insert_default();
    if let Some(index) = data.get_mut("index.json") {
        *index = index.replace(&short, &short_name(salt(), &digest).to_string());
    }
    let shard = objects::key_shard(&output(), salt(), &digest, text).unwrap_or_default();
    cluster.secrets =
        BTreeMap::from([(objects::key_shard_name(&output(), short_name(salt(), &digest)), shard)]);
    let error = cluster.read().map_err(|e| e.to_string()).err().unwrap_or_default();
    assert!(error.contains("line 1, column") && !error.contains("SECRET"), "{error}");
}

/// Text that gzip can do nothing about, as a line has it: no byte of it is escaped.
fn noise(length: usize, seed: u64) -> String {
    let mut state = seed | 1;
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(letters[(state >> 32) as usize % letters.len()])
        })
        .collect()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
    /// Whatever entries there are of the sizes that the translation lets through: each object is taken by the API
    /// server, which takes 1 MiB, counted here with base64 and all that is around it.
    #[test]
    fn no_object_is_larger_than_the_api_server_takes(
        sizes in proptest::collection::vec((0..=size::ENTRY_LIMIT, 0..=size::ENTRY_LIMIT), 1..12),
        full in 0..4_usize,
    ) {
        const LARGEST: usize = 1024 * 1024;
        let mut table = Table::new();
        table.declare(&output());
        let limit = (size::ENTRY_LIMIT, size::ENTRY_LIMIT);
        for (at, (rule, certificate)) in std::iter::repeat_n(limit, full).chain(sizes).enumerate() {
            let mut fragment = fragment(at, 1);
            let line = |fragment: &Fragment| {
                crate::traefik::document::router_line(&fragment.routers[0].key, &fragment.routers[0].router).len()
            };
            fragment.routers[0].router.rule = String::new();
            let rest = rule.saturating_sub(line(&fragment));
            fragment.routers[0].router.rule = noise(rest, at as u64 * 2 + 1);
            let key = &fragment.routers[0].key;
            proptest::prop_assert!(size::router(key, &fragment.routers[0].router).is_none());
            let around = 64;
            let long = Certificate {
                cert_file: noise(certificate.saturating_sub(around), at as u64).into(),
                key_file: "key".into(),
            };
            proptest::prop_assert!(size::certificate(&long).is_none());
            fragment.certificates[0].certificate = Arc::new(long);
            table.set(fragment);
        }
        let cluster = Cluster::of(&mut table);
        let mut lengths = vec![serde_json::to_vec(&cluster.index)?.len()];
        for map in cluster.config_maps.values() {
            lengths.push(serde_json::to_vec(map)?.len());
        }
        for secret in cluster.secrets.values() {
            lengths.push(serde_json::to_vec(secret)?.len());
        }
        let largest = lengths.into_iter().max().unwrap_or_default();
        proptest::prop_assert!(largest < LARGEST / 2, "{largest}");
        proptest::prop_assert!(cluster.read().is_ok());
    }
}

/// Bytes that a changed endpoint writes where the services are in so many buckets: a shard as it is sent, and in the index
/// the names of all.
fn cost_of_a_change(services: &[&str], buckets: u64) -> usize {
    const SAMPLE: u64 = 4;
    let bucket = |line: &str| {
        // `shop-web-7-80` is the Service shop/web-7.
        let key = line.trim_start_matches('"').split('"').next().unwrap_or_default();
        let owner = key.trim_end_matches("-80").replacen("shop-", "shop/", 1);
        let place = u64::from_str_radix(&Digest::new(&owner).to_string()[..16], 16).unwrap();
        (u128::from(place) * u128::from(buckets)) >> 64
    };
    let shard = |number: u64| {
        let lines = services.iter().filter(|line| bucket(line) == number.into());
        let document: String = lines.map(|line| format!("{line}\n")).collect();
        let shard = objects::routing_shard(&output(), salt(), &Digest::new(&document), &document).unwrap();
        serde_json::to_vec(&shard).unwrap().len()
    };
    (0..SAMPLE).map(shard).sum::<usize>() / SAMPLE as usize + buckets as usize * ShortDigest::LENGTH
}

/// The number of shards is about the one that costs least: neither half as many nor twice as many would write much less.
#[test]
fn a_changed_endpoint_writes_as_little_as_can_be() {
    let mut table = table(10_000, 0);
    let state = table.declare(&output());
    let shards = DesiredOutput::new(state).routing_shards;
    let holds = |shard: &Digest, section| state.routing_shard(shard).unwrap().document().contains(section);
    let buckets = shards.iter().filter(|shard| holds(shard, "\"services\"")).count() as u64;
    assert!(shards.iter().all(|shard| holds(shard, "\"services\"") != holds(shard, "\"routers\"")));
    assert!(buckets.is_power_of_two() && buckets > 32, "{buckets}");
    let routing = state.routing();
    let (_, services) = routing.split_once("\"services\"").unwrap();
    let services: Vec<&str> = services.lines().filter(|line| line.starts_with('"')).collect();
    assert_eq!(services.len(), 10_000);
    let [half, chosen, twice] =
        [buckets / 2, buckets, buckets * 2].map(|buckets| cost_of_a_change(&services, buckets));
    assert!(chosen * 9 < half.min(twice) * 10, "{buckets} shards: {chosen} bytes, not {half} or {twice}");
    assert!(chosen < 4 * 1024, "{chosen}");
}
