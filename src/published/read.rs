//! Reads an output: checks an index and its shards, and joins them.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::GzDecoder;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use thiserror::Error;

use crate::kubernetes::key::OutputKey;
use crate::published::index::{Index, IndexError};
use crate::published::objects::{self, CERTIFICATES_YAML_GZ, INDEX_JSON, ROUTING_YAML_GZ, SHA256_ANNOTATION};
use crate::published::salt::{Salt, short_name};
use crate::table::{Counts, Digest, hash as sums};
use crate::traefik::document::{self, Keys};
use crate::traefik::dynamic::{Configuration, Http, Tls};

/// The maximum unpacked size of a shard. An object holds 1 MiB at most; ours unpack to a tenth of this.
pub const UNPACKED_LIMIT: u64 = 16 * 1024 * 1024;

/// Why published objects can't be used.
#[derive(Debug, Error)]
pub enum ReadError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("{object} has no {key}")]
    KeyMissing { object: String, key: &'static str },
    /// Most likely there is a newer index.
    #[error("the shard {name} does not exist: read the index again")]
    ShardMissing { name: String },
    #[error("the content of {object} does not match {SHA256_ANNOTATION} (sha256 {found})")]
    ShardChanged { object: String, found: Digest },
    #[error("{object}: the name does not match {SHA256_ANNOTATION} and the salt of the index")]
    ShardMisnamed { object: String },
    #[error("{object}: {key} is not gzip, or more than {UNPACKED_LIMIT} bytes unpacked: {source}")]
    Packed { object: String, key: &'static str, source: std::io::Error },
    /// The reason says where the fault is, and quotes nothing of it.
    #[error("{object}: {key} is not a document that waybill writes: {reason}")]
    Document { object: String, key: &'static str, reason: String },
    #[error("two shards contain the {kind} {name:?}")]
    Twice { kind: &'static str, name: String },
    #[error("the content of the shards does not match the index (its counts or its hash)")]
    NotTheWhole,
}

/// A published output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub index: Index,
    /// Its routing. Certificates are in the order of the key shards: within one, by namespace and name of their Secret,
    /// which a reader doesn't know.
    pub configuration: Configuration,
}

impl Published {
    /// The whole as one document.
    pub fn document(&self, keys: Keys) -> String {
        let mut text = String::new();
        document::write_configuration(&mut text, &self.configuration, keys);
        text
    }
}

/// Reads the index from its ConfigMap.
pub fn index(config_map: &ConfigMap) -> Result<Index, ReadError> {
    let text = config_map.data.as_ref().and_then(|data| data.get(INDEX_JSON));
    Ok(Index::parse(text.ok_or_else(|| missing(&config_map.metadata, INDEX_JSON))?)?)
}

/// Reads the document from a routing shard, checked against the shard's sha256. Readers of an index also call
/// [`check_name`].
pub fn routing_document(shard: &ConfigMap) -> Result<String, ReadError> {
    unpacked(&shard.metadata, ROUTING_YAML_GZ, shard.binary_data.as_ref())
}

/// Reads the document from a key shard; see [`routing_document`].
pub fn key_document(shard: &Secret) -> Result<String, ReadError> {
    unpacked(&shard.metadata, CERTIFICATES_YAML_GZ, shard.data.as_ref())
}

fn unpacked(
    metadata: &ObjectMeta,
    key: &'static str,
    data: Option<&BTreeMap<String, ByteString>>,
) -> Result<String, ReadError> {
    let packed = data.and_then(|data| data.get(key)).ok_or_else(|| missing(metadata, key))?;
    let failed = |source| ReadError::Packed { object: name(metadata), key, source };
    let mut text = Vec::new();
    GzDecoder::new(&*packed.0).take(UNPACKED_LIMIT + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > UNPACKED_LIMIT {
        return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
    }
    checked(metadata, key, text)
}

fn checked(metadata: &ObjectMeta, key: &'static str, text: Vec<u8>) -> Result<String, ReadError> {
    let object = name(metadata);
    let text = String::from_utf8(text).map_err(|e| ReadError::Document {
        object: object.clone(),
        key,
        reason: e.utf8_error().to_string(),
    })?;
    let found = Digest::new(&text);
    if sha256(metadata) != Some(found) {
        return Err(ReadError::ShardChanged { object, found });
    }
    Ok(text)
}

/// The digest in a shard's annotation.
pub fn sha256(metadata: &ObjectMeta) -> Option<Digest> {
    let annotation = metadata.annotations.as_ref()?.get(SHA256_ANNOTATION)?;
    Digest::try_from(annotation.as_str()).ok()
}

/// Checks that a shard's name follows from its annotation and the index's salt.
pub fn check_name(metadata: &ObjectMeta, salt: Option<Salt>) -> Result<(), ReadError> {
    let object = name(metadata);
    let short = object.rsplit_once('-').map(|(_, short)| short);
    match (sha256(metadata), short.and_then(|short| short.parse().ok())) {
        (Some(sha256), Some(short)) if short_name(salt, &sha256) == short => Ok(()),
        _ => Err(ReadError::ShardMisnamed { object }),
    }
}

/// Joins an index and its shards, by object name. The name and sha256 of each shard are checked, and the whole against
/// the counts and the hash of the index. Without the right to read Secrets, leave out `secrets`: then there are no certificates, and
/// the whole can't be checked.
pub fn assemble(
    output: &OutputKey,
    index_object: &ConfigMap,
    config_maps: &BTreeMap<String, ConfigMap>,
    secrets: Option<&BTreeMap<String, Secret>>,
) -> Result<Published, ReadError> {
    let index = index(index_object)?;
    let mut joined = Joined::default();
    for short in index.shards() {
        let name = objects::routing_shard_name(output, short);
        let shard = config_maps.get(&name).ok_or(ReadError::ShardMissing { name })?;
        let text = routing_document(shard)?;
        check_name(&shard.metadata, index.salt)?;
        joined.add(parsed(&shard.metadata, ROUTING_YAML_GZ, &text)?)?;
    }
    for short in index.key_shards().filter(|_| secrets.is_some()) {
        let name = objects::key_shard_name(output, short);
        let shard = secrets.and_then(|secrets| secrets.get(&name)).ok_or(ReadError::ShardMissing { name })?;
        let text = key_document(shard)?;
        check_name(&shard.metadata, index.salt)?;
        joined.add(parsed(&shard.metadata, CERTIFICATES_YAML_GZ, &text)?)?;
    }

    let counts = Counts {
        routers: joined.http.routers.len(),
        services: joined.http.services.len(),
        certificates: if secrets.is_some() {
            joined.tls.certificates.len()
        } else {
            index.counts.certificates
        },
    };
    let configuration = joined.configuration();
    if counts != index.counts || (secrets.is_some() && hash(&configuration).to_string() != index.hash) {
        return Err(ReadError::NotTheWhole);
    }
    Ok(Published { index, configuration })
}

/// The hash of a configuration, as in an index ([`crate::table::hash`]).
pub fn hash(configuration: &Configuration) -> Digest {
    #[derive(Default)]
    struct Cell {
        routers: Vec<String>,
        services: Vec<String>,
    }
    let mut cells: Vec<Cell> = (0..=u8::MAX).map(|_| Cell::default()).collect();
    if let Some(http) = &configuration.http {
        for (key, router) in &http.routers {
            cells[sums::cell(key)].routers.push(document::router_line(key, router));
        }
        for (key, service) in &http.services {
            cells[sums::cell(key)].services.push(document::service_line(key, service));
        }
    }
    let certificates = configuration.tls.iter().flat_map(|tls| &tls.certificates);
    sums::whole(
        cells.iter().map(|cell| {
            sums::cell_sum(cell.routers.iter().map(String::as_str), cell.services.iter().map(String::as_str))
        }),
        certificates.map(sums::certificate_sum).collect(),
    )
}

#[derive(Default)]
struct Joined {
    http: Http,
    tls: Tls,
}

impl Joined {
    fn add(&mut self, document: Configuration) -> Result<(), ReadError> {
        let http = document.http.unwrap_or_default();
        for (name, router) in http.routers {
            if self.http.routers.insert(name.clone(), router).is_some() {
                return Err(ReadError::Twice { kind: "router", name });
            }
        }
        for (name, service) in http.services {
            if self.http.services.insert(name.clone(), service).is_some() {
                return Err(ReadError::Twice { kind: "service", name });
            }
        }
        self.tls.certificates.extend(document.tls.unwrap_or_default().certificates);
        Ok(())
    }

    fn configuration(self) -> Configuration {
        Configuration {
            http: (self.http != Http::default()).then_some(self.http),
            tls: (!self.tls.certificates.is_empty()).then_some(self.tls),
        }
    }
}

fn parsed(metadata: &ObjectMeta, key: &'static str, text: &str) -> Result<Configuration, ReadError> {
    serde_json::from_str(text).map_err(|e| ReadError::Document {
        object: name(metadata),
        key,
        // serde_json's messages may quote a value, which may be a key.
        reason: format!("line {}, column {}", e.line(), e.column()),
    })
}

fn missing(metadata: &ObjectMeta, key: &'static str) -> ReadError {
    ReadError::KeyMissing { object: name(metadata), key }
}

fn name(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}
