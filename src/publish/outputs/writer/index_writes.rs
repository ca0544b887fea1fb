//! Reads, replaces and lists the index.

use std::time::Instant;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource as _;

use super::put_back::OwnKind;
use super::{Known, NAME_TAKEN, OWN_VERSIONS, OutputWriter};
use crate::kubernetes::well_known::{MANAGED_BY_LABEL, WAYBILL};
use crate::metrics::WriteKind;
use crate::publish::error::PublishError;
use crate::publish::outputs::held_index::{self, HeldIndex, NotOurs};
use crate::publish::requests::ObjectTarget;
use crate::published::index::{FORMAT_VERSION, Index};
use crate::published::objects::{self, INDEX_JSON, OUTPUT_LABEL, Part};
use crate::translate::problem::Kind;

impl OutputWriter {
    /// The index as an object to read or write.
    pub(super) fn target(&self) -> ObjectTarget {
        ObjectTarget::new::<ConfigMap>(WriteKind::Index, self.output.namespace(), self.output.name())
    }

    /// Reads the existing index.
    pub(super) async fn read_index(&mut self) -> Result<(), PublishError> {
        self.index = Known::Nothing;
        let target = self.target();
        let Some(mut read) = self.requests.get::<ConfigMap>(&target).await? else {
            self.index = Known::Absent;
            return Ok(());
        };
        // It has to be the very object that was ours a moment ago.
        let same = self.index_uid.is_some() && read.metadata.uid == self.index_uid;
        let unlabelled = same && !objects::is_ours(&read.metadata, &self.output, Part::Index);
        if unlabelled {
            let labels = objects::labels(&self.output, Part::Index);
            read.metadata.labels.get_or_insert_default().extend(labels);
        }
        let metadata = read.metadata.clone();
        let is_index = read.data.as_ref().is_some_and(|data| data.contains_key(INDEX_JSON));
        match HeldIndex::new(&self.output, read) {
            Ok(mut held) => {
                held.unlabelled = unlabelled;
                self.hold(held);
                Ok(())
            }
            Err(NotOurs::NewerFormat(found)) => {
                Err(PublishError::NewerFormat { object: target.object, found, own: FORMAT_VERSION })
            }
            Err(NotOurs::Labels) => {
                let mut remedy = NAME_TAKEN.to_owned();
                if is_index {
                    remedy.push_str(&self.labels_back());
                }
                Err(PublishError::name_taken(Kind::ConfigMap, &metadata, remedy))
            }
        }
    }

    /// Reads the index if it may differ from the known one. If someone has deleted or replaced the last commit, its
    /// shards may be gone too before their watch shows it, so they are listed before anything is restored.
    pub(super) async fn refresh(&mut self) -> Result<(), PublishError> {
        if matches!(self.index, Known::Nothing) {
            self.read_index().await?;
            self.listed &= self.last.is_none() || self.index() == self.last.as_ref();
        }
        self.list().await
    }

    /// The command for an index that lost its labels while nobody led.
    fn labels_back(&self) -> String {
        let labels: Vec<String> = objects::labels(&self.output, Part::Index)
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        format!(
            "; if it is this output's index and only lost its labels: kubectl label --overwrite configmap -n {} {} {}",
            self.output.namespace(),
            self.output.name(),
            labels.join(" ")
        )
    }

    fn hold(&mut self, held: HeldIndex) {
        self.index_uid.clone_from(&held.object.metadata.uid);
        // It never goes back, even if someone deletes the index or restores an old one.
        self.generation = self.generation.max(held.generation.unwrap_or_default());
        if let Some(version) = held.version() {
            self.own_versions.push_back(version.to_owned());
            if self.own_versions.len() > OWN_VERSIONS {
                self.own_versions.pop_front();
            }
        }
        if let Some(index) = &held.index {
            if self.tried.as_ref() == Some(index) {
                self.last = self.tried.take();
            }
            self.shards.committed(index, Instant::now());
        }
        self.index = Known::Held(Box::new(held));
    }

    /// Lists the existing shards.
    pub(super) async fn list(&mut self) -> Result<(), PublishError> {
        if self.listed {
            return Ok(());
        }
        let namespace = self.output.namespace().to_owned();
        let selector = format!("{MANAGED_BY_LABEL}={WAYBILL},{OUTPUT_LABEL}={}", self.output.name());
        let list = async |path: String, what: &str| {
            self.requests.list_metadata(&format!("{what} of {}", self.output), &path, &selector).await
        };
        let (config_maps, secrets) = futures::try_join!(
            list(ConfigMap::url_path(&(), Some(&namespace)), "ConfigMaps"),
            list(Secret::url_path(&(), Some(&namespace)), "Secrets"),
        )?;
        for (kind, listed) in [(OwnKind::ConfigMap, config_maps), (OwnKind::Secret, secrets)] {
            self.relist(kind, listed.into_iter().map(|object| object.metadata).collect());
        }
        self.listed = true;
        Ok(())
    }

    /// Replaces the existing index; returns the bytes written.
    pub(super) async fn put_index(&mut self, index: Index) -> Result<u64, PublishError> {
        let mut object = held_index::replacement(&self.output, self.held(), &index);
        if object.immutable == Some(true) {
            // Someone made it immutable, so it can only be recreated. Readers keep what they have while there is none.
            self.delete_index(&mut object).await?;
        }
        self.tried = Some(index.clone());
        let target = self.target();
        let write = if object.metadata.resource_version.is_some() {
            target.replace(&object)?
        } else {
            target.create(&object)?
        };
        let written = match self.requests.write(&write).await {
            Ok(written) => written,
            // It was deleted in between: start again.
            Err(PublishError::NotFound { object: name, .. })
                if object.metadata.resource_version.is_some() =>
            {
                self.index = Known::Nothing;
                return Err(PublishError::Conflict { object: name });
            }
            Err(error) => {
                if error.is_ambiguous() {
                    self.index = Known::Nothing;
                }
                return Err(error);
            }
        };
        object.metadata = ObjectMeta { managed_fields: None, ..written.metadata };
        match HeldIndex::new(&self.output, object) {
            Ok(held) => self.hold(held),
            // Something between us and the store removed our labels, so it has to be read again.
            Err(_) => self.index = Known::Nothing,
        }
        self.generation = self.generation.max(index.generation);
        Ok(write.bytes())
    }

    async fn delete_index(&mut self, object: &mut ConfigMap) -> Result<(), PublishError> {
        let metadata = &mut object.metadata;
        let delete = self.target().delete(&metadata.uid.take(), &metadata.resource_version.take())?;
        self.requests.write(&delete).await?;
        self.index = Known::Nothing;
        metadata.creation_timestamp = None;
        object.immutable = None;
        Ok(())
    }
}
