//! Damage to what waybill owns, which it has to put back, and to what it shares, which it has to leave alone.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use waybill::published::index::Index;

use super::api::{Admin, Failure};
use super::legal::Legal;
use super::reader;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The index says nothing.
    EmptyIndex,
    /// The routing as text is emptied.
    EmptyText,
    /// A routing shard is deleted.
    LostShard,
    /// A key Secret is deleted.
    LostKeys,
    /// Labels, annotations and keys of somebody else's.
    ForeignFields,
    /// The index is deleted.
    LostIndex,
}

impl Damage {
    /// What may be done while requests of a former leader are still under way. A deleted index is not among it: one of
    /// those could make it anew, since there is nothing that says how old it is.
    pub const AT_ANY_TIME: [Self; 5] =
        [Self::EmptyIndex, Self::EmptyText, Self::LostShard, Self::LostKeys, Self::ForeignFields];
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "damage {self:?}")
    }
}

/// Does damage and waits, without end, until what is published can be read again.
pub async fn damage(admin: &Admin, legal: &Arc<Legal>, output: &str, damage: Damage) {
    legal.begin_truce();
    while let Err(failure) = attempt(admin, legal, output, damage).await {
        assert!(failure.code() != 422, "{damage}: {failure}");
        pause().await;
    }
    while reader::now(&admin.client(), output).await.is_err() {
        pause().await;
    }
    legal.end_truce();
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}

async fn attempt(admin: &Admin, legal: &Legal, output: &str, damage: Damage) -> Result<(), Failure> {
    let (namespace, name) = output.split_once('/').unwrap();
    let index = admin.get("ConfigMap", namespace, name).await?;
    let named = index["data"]["index.json"].as_str().and_then(|text| Index::parse(text).ok());
    let shard =
        |part: &str, shards: Vec<String>| shards.first().map(|short| format!("{name}.{part}-{short}"));
    let routing = named.iter().flat_map(Index::shards).map(|name| name.to_string()).collect();
    let keys = named.iter().flat_map(Index::key_shards).map(|name| name.to_string()).collect();
    let merge = async |object: &Value, patch: Value| {
        let mut object = object.clone();
        (object["kind"], object["apiVersion"]) = ("ConfigMap".into(), "v1".into());
        let damaged = admin.patch(&object, patch).await?;
        legal.damage(damaged["metadata"]["resourceVersion"].as_str().unwrap_or_default());
        Ok(())
    };
    match damage {
        Damage::EmptyIndex => merge(&index, json!({"data": {"index.json": "{}"}})).await,
        Damage::EmptyText => match admin.get("ConfigMap", namespace, &format!("{name}.text")).await {
            Ok(text) => merge(&text, json!({"data": {"routing.yaml": ""}})).await,
            Err(failure) if failure.code() == 404 => Ok(()),
            Err(failure) => Err(failure),
        },
        Damage::LostIndex => {
            legal.deleted.fetch_add(1, Ordering::SeqCst);
            admin.delete("ConfigMap", namespace, name).await
        }
        Damage::LostShard => match shard("r", routing) {
            Some(shard) => admin.delete("ConfigMap", namespace, &shard).await,
            None => Ok(()),
        },
        Damage::LostKeys => match shard("k", keys) {
            Some(shard) => admin.delete("Secret", namespace, &shard).await,
            None => Ok(()),
        },
        Damage::ForeignFields => {
            let metadata =
                json!({"labels": {"team": "proxies"}, "annotations": {"team.example/owner": "proxies"}});
            merge(&index, json!({"metadata": metadata, "data": {"note": "ours"}})).await?;
            match shard("r", routing) {
                Some(shard) => {
                    let shard = json!({"metadata": {"namespace": namespace, "name": shard}});
                    merge(&shard, json!({"metadata": metadata})).await
                }
                None => Ok(()),
            }
        }
    }
}
