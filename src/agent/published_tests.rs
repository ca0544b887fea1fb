//! The whole way of certificates: from the table over what is published to what the agent assembles.

use std::sync::Arc;

use super::assembly::Assembly;
use super::error::NotHandedOn;
use super::shard::{EntryKind, ShardEntries};
use super::source::named;
use crate::kubernetes::key::SecretKey;
use crate::published::desired_output::DesiredOutput;
use crate::published::read;
use crate::published::tests::{Cluster, fragment, output};
use crate::table::Table;
use crate::traefik::dynamic::Certificate;
use crate::translate::fragment::CertificateFragment;

/// Takes what is published, as a reader and as the agent does.
fn take(assembly: &mut Assembly, table: &mut Table) -> Result<usize, NotHandedOn> {
    let cluster = Cluster::of(table);
    let published = cluster.read().unwrap();
    let named = named(&output(), &published.index);
    let fetched = named.keys().map(|name| {
        let text = match cluster.secrets.get(name) {
            Some(secret) => read::key_document(secret).unwrap(),
            None => read::routing_document(&cluster.config_maps[name]).unwrap(),
        };
        (name.clone(), ShardEntries::parse(name, &text).unwrap())
    });
    assembly.take(&published.index, &named, fetched.collect())?;
    Ok(assembly.lines(EntryKind::Certificate).len())
}

/// A wildcard certificate may be copied to every namespace, and two shards of copies alone have the same text.
#[test]
fn copies_of_a_certificate_are_taken() {
    for (copies, length) in [(2, 200 * 1024), (300, 5 * 1024)] {
        let certificate = Arc::new(Certificate {
            cert_file: format!("-----BEGIN CERTIFICATE-----\n{}", "c".repeat(length)).into(),
            key_file: "-----BEGIN PRIVATE KEY-----".into(),
        });
        let mut table = Table::new();
        let mut assembly = Assembly::default();
        for at in 0..copies {
            let mut fragment = fragment(at, 0);
            let secret = SecretKey::new(format!("team-{at}"), "wildcard");
            fragment.certificates = vec![CertificateFragment { secret, certificate: certificate.clone() }];
            table.set(fragment);
        }
        assert_eq!(take(&mut assembly, &mut table).unwrap(), 1);
        let desired = DesiredOutput::new(table.declare(&output()));
        let mut shards: Vec<_> = desired.shards().collect();
        let named = shards.len();
        shards.sort_unstable();
        shards.dedup();
        assert_eq!(shards.len(), named, "no object is made twice");
        // Copies are renewed one after the other.
        let renewed = Arc::new(Certificate {
            key_file: "-----BEGIN PRIVATE KEY-----2".into(),
            ..(*certificate).clone()
        });
        for at in [0, 1] {
            let mut fragment = fragment(at, 0);
            let secret = SecretKey::new(format!("team-{at}"), "wildcard");
            fragment.certificates = vec![CertificateFragment { secret, certificate: renewed.clone() }];
            table.set(fragment);
            let wanted = if copies == 2 && at == 1 { 1 } else { 2 };
            assert_eq!(take(&mut assembly, &mut table).unwrap(), wanted);
        }
    }
}
