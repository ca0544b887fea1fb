//! What the leader writes about classes: the status of their parameters, and the ConfigMap that remembers what was
//! accepted last. Both are decided elsewhere ([`crate::parameters::status`], [`crate::parameters::memory`]).

use k8s_openapi::api::core::v1::ConfigMap;
use serde::Serialize;

use crate::metrics::WriteKind;
use crate::parameters::memory::{self, Memory};
use crate::parameters::resource::{GROUP, IngressClassParametersStatus, KIND, VERSION};
use crate::publish::error::PublishError;
use crate::publish::requests::{Requests, Write};
use crate::translate::problem::Kind;

const NAME_TAKEN: &str = "delete or rename it, or set another operator.leaderElection.leaseName";

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was done.
    Done,
    /// It was not needed: what is there is what is wanted.
    Unchanged,
    /// There is no such object any more.
    Gone,
}

/// Writes for one term of a leader. Cheap to clone.
#[derive(Clone)]
pub struct ClassWriter {
    requests: Requests,
    namespace: String,
    lease_name: String,
}

/// A status and nothing else, for server-side apply.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusApply<'a> {
    api_version: String,
    kind: &'static str,
    metadata: Identity<'a>,
    status: &'a IngressClassParametersStatus,
}

#[derive(Serialize)]
struct Identity<'a> {
    name: &'a str,
}

impl ClassWriter {
    /// `namespace` is the operator's, `lease_name` is `operator.leaderElection.leaseName`.
    pub fn new(requests: Requests, namespace: impl Into<String>, lease_name: impl Into<String>) -> Self {
        Self { requests, namespace: namespace.into(), lease_name: lease_name.into() }
    }

    /// Applies the status of the parameters object `name`, by force. An object that was made anew
    /// in between gets what was found out about the old one until its own turn comes (the API server looks at no
    /// uid here); `observedGeneration` and the next write put that right.
    ///
    /// # Errors
    /// Whatever kept it from being done; [`PublishError::LeaseLost`] when it was not even started.
    pub async fn write_status(
        &self,
        name: &str,
        status: &IngressClassParametersStatus,
    ) -> Result<Written, PublishError> {
        let body = StatusApply {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: KIND,
            metadata: Identity { name },
            status,
        };
        let path = format!("/apis/{GROUP}/{VERSION}/ingressclassparameters/{name}/status");
        let write = Write::apply(WriteKind::ParametersStatus, format!("{KIND} {name}"), &path, &body)?;
        match self.requests.write_repeated(&write).await {
            Ok(_) => Ok(Written::Done),
            Err(PublishError::NotFound { .. }) => Ok(Written::Gone),
            Err(error) => Err(error),
        }
    }

    /// The ConfigMap as the API server has it now; `None` where there is none. For a new leader: what its
    /// predecessor wrote last may not have come through the watch yet.
    ///
    /// # Errors
    /// Whatever kept it from being read, and that it belongs to someone else.
    pub async fn read_memory(&self) -> Result<Option<ConfigMap>, PublishError> {
        let map: Option<ConfigMap> = self.requests.get(&self.object(), &self.path()).await?;
        match map {
            Some(map) if !memory::is_ours(&map) => {
                Err(PublishError::name_taken(Kind::ConfigMap, &map.metadata, NAME_TAKEN.to_owned()))
            }
            map => Ok(map),
        }
    }

    /// Makes the ConfigMap hold `memory`: creates it, or replaces it with the resourceVersion that was read, also
    /// where someone edited or deleted it. Nothing is written where nothing differs; an empty memory creates
    /// nothing.
    ///
    /// # Errors
    /// Whatever kept it from being done. [`PublishError::Conflict`]: someone wrote in between; call again.
    /// [`PublishError::OutputNameTaken`]: an object of that name lacks waybill's labels and is left alone.
    pub async fn write_memory(&self, memory: &Memory) -> Result<Written, PublishError> {
        let before = self.read_memory().await?;
        let unchanged = match &before {
            Some(before) => memory.is_held_by(before),
            None => memory.classes().next().is_none(),
        };
        if unchanged {
            return Ok(Written::Unchanged);
        }
        let map = memory.config_map(&self.namespace, &self.lease_name, before.as_ref());
        let write = match before {
            Some(_) => Write::replace(WriteKind::Classes, self.object(), &self.path(), &map)?,
            None => Write::create(WriteKind::Classes, self.object(), &self.collection(), &map)?,
        };
        self.requests.write(&write).await?;
        Ok(Written::Done)
    }

    fn object(&self) -> String {
        format!("ConfigMap {}/{}", self.namespace, memory::name(&self.lease_name))
    }

    fn collection(&self) -> String {
        format!("/api/v1/namespaces/{}/configmaps", self.namespace)
    }

    fn path(&self) -> String {
        format!("{}/{}", self.collection(), memory::name(&self.lease_name))
    }
}
