//! ConfigMaps and Secrets of an output, as they are written.
//!
//! ```text
//! ConfigMap {output}               index.json                  names the shards; replacing it is the commit
//! ConfigMap {output}.r-{hash}      routing.yaml.gz             routers and services      immutable
//! Secret    {output}.k-{hash}      certificates.yaml.gz        certificates with keys    immutable
//! ConfigMap {output}.text          routing.yaml                all of it, for people and mounted files
//! ```

use std::collections::BTreeMap;
use std::io::{self, Write};

use flate2::{Compression, GzBuilder};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kubernetes::key::OutputKey;
use crate::kubernetes::well_known::{MANAGED_BY_LABEL, PART_LABEL, WAYBILL};
use crate::published::index::Index;
use crate::published::salt::{Salt, short_name};
use crate::table::{Digest, ShortDigest};
use crate::traefik::escape;

/// Label that names the output.
pub const OUTPUT_LABEL: &str = "waybill.dev/output";

/// Annotation of a shard: the sha256 of its document before compression, in hex.
pub const SHA256_ANNOTATION: &str = "waybill.dev/sha256";

/// Key of the index.
pub const INDEX_JSON: &str = "index.json";

/// Key of the text.
pub const ROUTING_YAML: &str = "routing.yaml";

/// Key of the routing in a shard.
pub const ROUTING_YAML_GZ: &str = "routing.yaml.gz";

/// Key of the certificates in a key shard.
pub const CERTIFICATES_YAML_GZ: &str = "certificates.yaml.gz";

/// Size of `routing.yaml` above which the text is no longer written. An object may hold 1 MiB.
pub const TEXT_LIMIT: usize = 900 * 1024;

/// The role of an object of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    Index,
    Routing,
    Keys,
    Text,
}

impl Part {
    /// Value of [`PART_LABEL`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Routing => "routing",
            Self::Keys => "keys",
            Self::Text => "text",
        }
    }
}

/// Name of a routing shard. `short` is its [`short_name`].
pub fn routing_shard_name(output: &OutputKey, short: ShortDigest) -> String {
    format!("{}.r-{short}", output.name())
}

/// Name of a key shard. `short` is its [`short_name`].
pub fn key_shard_name(output: &OutputKey, short: ShortDigest) -> String {
    format!("{}{short}", key_shard_prefix(output))
}

/// What the names of key shards begin with, and those of no other objects of the output.
pub fn key_shard_prefix(output: &OutputKey) -> String {
    format!("{}.k-", output.name())
}

/// Name of the text.
pub fn text_name(output: &OutputKey) -> String {
    format!("{}.text", output.name())
}

/// The output to which an object with this name belongs. No output has a dot in its name.
pub fn output_of(object: &str) -> &str {
    object.split('.').next().unwrap_or_default()
}

/// The labels of an output's objects.
pub fn labels(output: &OutputKey, part: Part) -> BTreeMap<String, String> {
    [(MANAGED_BY_LABEL, WAYBILL), (OUTPUT_LABEL, output.name()), (PART_LABEL, part.as_str())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// Whether an object has all of the [`labels`]. Without them it belongs to somebody else and is never touched.
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

/// An index without content: nothing is known to be published, and nothing is published yet.
pub fn empty_index(output: &OutputKey) -> ConfigMap {
    ConfigMap { metadata: metadata(output, Part::Index, output.name().to_owned()), ..ConfigMap::default() }
}

/// The index. To replace one, add its resourceVersion.
pub fn index(output: &OutputKey, index: &Index) -> ConfigMap {
    ConfigMap { data: Some([(INDEX_JSON.to_owned(), escape::json(index))].into()), ..empty_index(output) }
}

/// The text. To replace one, add its resourceVersion.
pub fn text(output: &OutputKey, document: String) -> ConfigMap {
    ConfigMap {
        metadata: metadata(output, Part::Text, text_name(output)),
        data: Some([(ROUTING_YAML.to_owned(), document)].into()),
        ..ConfigMap::default()
    }
}

/// A routing shard with the document of `digest`.
///
/// # Errors
/// If compressing fails, which cannot happen in memory.
pub fn routing_shard(
    output: &OutputKey,
    salt: Option<Salt>,
    digest: &Digest,
    document: &str,
) -> io::Result<ConfigMap> {
    let name = routing_shard_name(output, short_name(salt, digest));
    let data = [(ROUTING_YAML_GZ.to_owned(), compressed(document, ROUTING_LEVEL)?)];
    Ok(ConfigMap {
        metadata: shard_metadata(output, Part::Routing, digest, name),
        binary_data: Some(data.into()),
        immutable: Some(true),
        data: None,
    })
}

/// A key shard with the document of `digest`.
///
/// # Errors
/// If compressing fails, which cannot happen in memory.
pub fn key_shard(
    output: &OutputKey,
    salt: Option<Salt>,
    digest: &Digest,
    document: &str,
) -> io::Result<Secret> {
    let name = key_shard_name(output, short_name(salt, digest));
    let data = [(CERTIFICATES_YAML_GZ.to_owned(), compressed(document, KEYS_LEVEL)?)];
    Ok(Secret {
        metadata: shard_metadata(output, Part::Keys, digest, name),
        data: Some(data.into()),
        immutable: Some(true),
        type_: Some("Opaque".to_owned()),
        string_data: None,
    })
}

/// A shard is written whenever one of its entries changes, and etcd stores its bytes. Higher levels search longer for
/// repetitions that this text does not have: they take twice the time for the same size.
const ROUTING_LEVEL: u32 = 6;

/// Base64 compresses to three quarters at any level. The chain that certificates share saves more, and this is the
/// lowest level that finds it.
const KEYS_LEVEL: u32 = 2;

/// gzip without a name or a time, so that equal text gives equal bytes.
fn compressed(text: &str, level: u32) -> io::Result<ByteString> {
    let mut encoder =
        GzBuilder::new().mtime(0).write(Vec::with_capacity(text.len() / 8), Compression::new(level));
    encoder.write_all(text.as_bytes())?;
    Ok(ByteString(encoder.finish()?))
}
