//! Writes the statuses of parameters ([`crate::parameters::status`]), and the ConfigMap with the last accepted settings
//! ([`crate::parameters::memory`]).

use k8s_openapi::api::core::v1::ConfigMap;

use crate::metrics::WriteKind;
use crate::parameters::IngressClassParameters;
use crate::parameters::memory::{self, Memory};
use crate::parameters::resource::{GROUP, IngressClassParametersStatus, KIND, VERSION};
use crate::publish::error::PublishError;
use crate::publish::requests::{MANAGER, ObjectTarget, Requests};
use crate::translate::problem::{Kind, Subject};

const NAME_TAKEN: &str = "delete or rename it, or set another operator.leaderElection.leaseName";

/// The result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Done,
    /// Not needed: the object is up to date.
    Unchanged,
    /// The object no longer exists.
    Gone,
}

/// Writes about classes for one term of a leader. Cheap to clone.
#[derive(Clone)]
pub struct ClassWriter {
    requests: Requests,
    namespace: String,
    lease_name: String,
}

impl ClassWriter {
    /// `namespace` is the operator's, `lease_name` is `operator.leaderElection.leaseName`.
    pub fn new(requests: Requests, namespace: impl Into<String>, lease_name: impl Into<String>) -> Self {
        Self { requests, namespace: namespace.into(), lease_name: lease_name.into() }
    }

    /// Applies the status of the parameters object `name`, with force. If the object was recreated meanwhile, it gets
    /// the status of the old one, since an apply takes no uid. `observedGeneration` shows this, and the next write
    /// corrects it.
    ///
    /// # Errors
    /// Why it could not be written; [`PublishError::LeaseLost`] if the write was not started.
    pub async fn write_status(
        &self,
        name: &str,
        status: &IngressClassParametersStatus,
    ) -> Result<Written, PublishError> {
        let target = ObjectTarget::new::<IngressClassParameters>(WriteKind::ParametersStatus, "", name);
        let body = serde_json::json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": KIND,
            "metadata": {"name": name},
            "status": status,
        });
        let write = target.apply_status(MANAGER, true, &body)?;
        match self.requests.write_repeated(&write).await {
            Ok(_) => Ok(Written::Done),
            Err(PublishError::NotFound { .. }) => Ok(Written::Gone),
            Err(error) => Err(error),
        }
    }

    /// The current ConfigMap of the API server, if there is one. For a new leader, whose watch may not show yet what
    /// the last leader wrote.
    ///
    /// # Errors
    /// It cannot be read, or belongs to someone else.
    pub async fn read_memory(&self) -> Result<Option<ConfigMap>, PublishError> {
        let map: Option<ConfigMap> = self.requests.get(&self.target()).await?;
        match map {
            Some(map) if !memory::is_ours(&map) => {
                Err(PublishError::name_taken(Kind::ConfigMap, &map.metadata, NAME_TAKEN.to_owned()))
            }
            map => Ok(map),
        }
    }

    /// Makes the ConfigMap contain `memory`, even if someone edited or deleted it: creates it, or replaces the version
    /// that was read. Writes nothing if nothing differs, and creates nothing for an empty memory.
    ///
    /// # Errors
    /// [`PublishError::Conflict`]: someone else wrote meanwhile; call again. [`PublishError::OutputNameTaken`]: an
    /// object of that name lacks waybill's labels and is left alone. Otherwise, why it could not be written.
    pub async fn write_memory(&self, memory: &Memory) -> Result<Written, PublishError> {
        let before = self.read_memory().await?;
        let unchanged = match &before {
            Some(before) => memory.is_held_by(before),
            None => memory.encode().data.is_empty(),
        };
        if unchanged {
            return Ok(Written::Unchanged);
        }
        let mut map = memory.config_map(&self.namespace, &self.lease_name, before.as_ref());
        if before.is_some_and(|before| before.immutable == Some(true)) {
            // Someone made it immutable, so it can only be recreated. Followers keep what they know while there is none.
            let metadata = &mut map.metadata;
            let delete = self.target().delete(&metadata.uid.take(), &metadata.resource_version.take())?;
            self.requests.write(&delete).await?;
        }
        let write = if map.metadata.resource_version.is_some() {
            self.target().replace(&map)?
        } else {
            self.target().create(&map)?
        };
        self.requests.write(&write).await?;
        for class in memory.encode().left_out {
            tracing::warn!(
                %class,
                limit = memory::MAX_BYTES,
                "the settings of all classes together are too large to be stored, and those of this class are left \
                 out; if its parameters are not accepted after a restart, it has no routing: shorten its \
                 IngressClassParameters"
            );
        }
        Ok(Written::Done)
    }

    /// The ConfigMap, for problems.
    pub fn subject(&self) -> Subject {
        let (namespace, name) = (self.namespace.clone(), memory::name(&self.lease_name));
        Subject { kind: Kind::ConfigMap, namespace, name }
    }

    fn target(&self) -> ObjectTarget {
        ObjectTarget::new::<ConfigMap>(WriteKind::Classes, &self.namespace, &memory::name(&self.lease_name))
    }
}
