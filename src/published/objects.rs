//! ConfigMaps and Secrets of an output, as they are written.

use std::collections::BTreeMap;
use std::io::{self, Write};

use flate2::{Compression, GzBuilder};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kubernetes::key::OutputKey;
use crate::kubernetes::well_known::{MANAGED_BY_LABEL, PART_LABEL, WAYBILL};
use crate::published::desired_output::{Routing, Wanted};
use crate::published::index::Index;
use crate::table::Digest;
use crate::traefik::escape;

/// Label that names the output.
pub const OUTPUT_LABEL: &str = "waybill.dev/output";

/// Annotation of a shard: the sha256 of its document before compression, in hex.
pub const SHA256_ANNOTATION: &str = "waybill.dev/sha256";

/// Key of the index.
pub const INDEX_JSON: &str = "index.json";

/// Key of the routing in an index.
pub const ROUTING_YAML: &str = "routing.yaml";

/// Key of the routing in a shard.
pub const ROUTING_YAML_GZ: &str = "routing.yaml.gz";

/// Key of the certificates in a key shard.
pub const CERTIFICATES_YAML: &str = "certificates.yaml";

/// What an object is of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The ConfigMap that names everything else.
    Index,
    /// A ConfigMap with routers and services.
    Routing,
    /// A Secret with certificates and keys.
    Keys,
}

impl Part {
    /// Value of [`PART_LABEL`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Routing => "routing",
            Self::Keys => "keys",
        }
    }

    /// The part that a label names.
    pub fn from_label(label: &str) -> Option<Self> {
        [Self::Index, Self::Routing, Self::Keys].into_iter().find(|part| part.as_str() == label)
    }
}

/// Name of a routing shard. `short` is [`Digest::short`].
pub fn routing_shard_name(output: &OutputKey, short: &str) -> String {
    format!("{}.r-{short}", output.name())
}

/// Name of a key shard. `short` is [`Digest::short`].
pub fn key_shard_name(output: &OutputKey, short: &str) -> String {
    format!("{}.k-{short}", output.name())
}

/// The labels of an output's objects.
pub fn labels(output: &OutputKey, part: Part) -> BTreeMap<String, String> {
    [(MANAGED_BY_LABEL, WAYBILL), (OUTPUT_LABEL, output.name()), (PART_LABEL, part.as_str())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Whether an object carries all of the [`labels`]: without them it is somebody else's and never touched.
pub fn is_ours(metadata: &ObjectMeta, output: &OutputKey, part: Part) -> bool {
    metadata
        .labels
        .as_ref()
        .is_some_and(|there| labels(output, part).iter().all(|(key, value)| there.get(key) == Some(value)))
}

fn metadata(output: &OutputKey, part: Part, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(output.namespace().to_owned()),
        labels: Some(labels(output, part)),
        ..ObjectMeta::default()
    }
}

fn shard_metadata(output: &OutputKey, part: Part, digest: &Digest, name: String) -> ObjectMeta {
    let annotations = BTreeMap::from([(SHA256_ANNOTATION.to_owned(), digest.to_string())]);
    ObjectMeta { annotations: Some(annotations), ..metadata(output, part, name) }
}

/// The index. Whoever replaces one adds its resourceVersion.
pub fn index(output: &OutputKey, wanted: &Wanted, index: &Index) -> ConfigMap {
    let mut data = BTreeMap::from([(INDEX_JSON.to_owned(), escape::json(index))]);
    if let Routing::Single(document) = &wanted.routing {
        data.insert(ROUTING_YAML.to_owned(), document.clone());
    }
    ConfigMap {
        metadata: metadata(output, Part::Index, output.name().to_owned()),
        data: Some(data),
        ..ConfigMap::default()
    }
}

/// A routing shard with the document of `digest`.
///
/// # Errors
/// When compressing fails, which memory gives no occasion for.
pub fn routing_shard(output: &OutputKey, digest: &Digest, document: &str) -> io::Result<ConfigMap> {
    let name = routing_shard_name(output, &digest.short());
    let data = BTreeMap::from([(ROUTING_YAML_GZ.to_owned(), ByteString(compressed(document)?))]);
    Ok(ConfigMap {
        metadata: shard_metadata(output, Part::Routing, digest, name),
        binary_data: Some(data),
        immutable: Some(true),
        data: None,
    })
}

/// A key shard with the document of `digest`.
pub fn key_shard(output: &OutputKey, digest: &Digest, document: String) -> Secret {
    let name = key_shard_name(output, &digest.short());
    let data = BTreeMap::from([(CERTIFICATES_YAML.to_owned(), ByteString(document.into_bytes()))]);
    Secret {
        metadata: shard_metadata(output, Part::Keys, digest, name),
        data: Some(data),
        immutable: Some(true),
        type_: Some("Opaque".to_owned()),
        string_data: None,
    }
}

/// Of gzip.
const LEVEL: u32 = 6;

/// gzip without a name or a time, so that equal text gives equal bytes. A shard is written whenever one of its entries
/// changes, and its bytes are kept by etcd. What the levels above this one search longer for, this text does not have:
/// they take twice the time for the same bytes.
fn compressed(text: &str) -> io::Result<Vec<u8>> {
    let mut encoder =
        GzBuilder::new().mtime(0).write(Vec::with_capacity(text.len() / 8), Compression::new(LEVEL));
    encoder.write_all(text.as_bytes())?;
    encoder.finish()
}
