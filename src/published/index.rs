//! `index.json`, which names the shards that belong together.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::published::salt::Salt;
use crate::table::{Counts, ShortDigest};

/// The written format. Readers accept it and the one before it (there is none before 1).
pub const FORMAT_VERSION: u64 = 1;

/// Identifies a commit of an output. A later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CommitId {
    /// The Lease's transitions when the writer was elected.
    pub epoch: u64,
    /// One more at every commit, continued by every leader.
    pub generation: u64,
}

impl CommitId {
    /// Before every commit.
    pub const NOTHING: Self = Self::new(0, 0);
    /// After every commit.
    pub const EVERYTHING: Self = Self::new(u64::MAX, u64::MAX);

    /// A commit of this epoch and generation.
    pub const fn new(epoch: u64, generation: u64) -> Self {
        Self { epoch, generation }
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (epoch {})", self.generation, self.epoch)
    }
}

/// The content of `index.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// [`FORMAT_VERSION`] of its writer.
    pub format_version: u64,
    /// See [`CommitId`].
    pub epoch: u64,
    /// See [`CommitId`].
    pub generation: u64,
    /// The newest generation that statuses wait for. An agent that has loaded it reports this at once.
    #[serde(default)]
    pub awaited: u64,
    pub published_at: String,
    /// The salt of the shards' names; `None` if they have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<Salt>,
    /// [`crate::table::hash`] in hex.
    pub hash: String,
    /// The routing shards in order, [`ShortDigest::LENGTH`] characters each.
    pub shards: String,
    /// The key shards in order, [`ShortDigest::LENGTH`] characters each.
    pub key_shards: String,
    pub counts: Counts,
    /// Routers by the namespace of their Ingress, for `operator.maxWithdrawal`; `None` without it. Of many namespaces,
    /// those with the most routers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<BTreeMap<String, usize>>,
}

/// The fault of an `index.json`.
#[derive(Debug, Error)]
pub enum IndexError {
    #[error("index.json is not what waybill writes: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error(
        "index.json has formatVersion {found}, this release knows {FORMAT_VERSION}: use the release that wrote it"
    )]
    NewerFormat { found: u64 },
    #[error("index.json has formatVersion {found}, but versions start at 1")]
    UnknownFormat { found: u64 },
    /// `shards` or `keyShards`.
    #[error(
        "index.json: {field} is not a sequence of names of {} characters (a to z, 2 to 7)",
        ShortDigest::LENGTH
    )]
    ShardNames { field: &'static str },
}

impl Index {
    /// Parses an `index.json`. The format is checked first, since a newer one may look quite different.
    pub fn parse(text: &str) -> Result<Self, IndexError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Format {
            format_version: u64,
        }
        let found = serde_json::from_str::<Format>(text)?.format_version;
        if found > FORMAT_VERSION {
            return Err(IndexError::NewerFormat { found });
        }
        if found == 0 {
            return Err(IndexError::UnknownFormat { found });
        }
        let index: Self = serde_json::from_str(text)?;
        for (field, names) in [("shards", &index.shards), ("keyShards", &index.key_shards)] {
            if short_names(names).count() * ShortDigest::LENGTH != names.len() {
                return Err(IndexError::ShardNames { field });
            }
        }
        Ok(index)
    }

    /// The commit that wrote it.
    pub fn commit(&self) -> CommitId {
        CommitId::new(self.epoch, self.generation)
    }

    /// The routing shards' names, in order.
    pub fn shards(&self) -> impl Iterator<Item = ShortDigest> {
        short_names(&self.shards)
    }

    /// The key shards' names, in order.
    pub fn key_shards(&self) -> impl Iterator<Item = ShortDigest> {
        short_names(&self.key_shards)
    }
}

fn short_names(run: &str) -> impl Iterator<Item = ShortDigest> {
    let starts = (0..run.len()).step_by(ShortDigest::LENGTH);
    starts.filter_map(|at| run.get(at..at + ShortDigest::LENGTH)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Digest;

    fn index() -> Index {
        Index {
            format_version: 1,
            epoch: 3,
            generation: 41,
            awaited: 40,
            published_at: "2026-11-24T08:00:00Z".to_owned(),
            salt: None,
            hash: Digest::new("").to_string(),
            shards: "aaaaaaaaaaaabbbbbbbbbbbb".to_owned(),
            key_shards: String::new(),
            counts: Counts { routers: 1, services: 2, certificates: 0 },
            namespaces: None,
        }
    }

    #[test]
    fn it_has_these_fields_and_no_other() {
        let text = serde_json::to_string(&index()).unwrap_or_default();
        assert_eq!(
            text,
            format!(
                "{{\"formatVersion\":1,\"epoch\":3,\"generation\":41,\"awaited\":40,\
                 \"publishedAt\":\"2026-11-24T08:00:00Z\",\"hash\":\"{}\",\"shards\":\"aaaaaaaaaaaabbbbbbbbbbbb\",\"keyShards\":\"\",\
                 \"counts\":{{\"routers\":1,\"services\":2,\"certificates\":0}}}}",
                Digest::new("")
            )
        );
        let read = Index::parse(&text);
        assert!(matches!(&read, Ok(read) if *read == index()), "{read:?}");
        assert_eq!(
            index().shards().map(|name| name.to_string()).collect::<Vec<_>>(),
            ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]
        );
        assert_eq!(index().key_shards().count(), 0);
        let guarded = Index { namespaces: Some([("shop".to_owned(), 1)].into()), ..index() };
        let text = serde_json::to_string(&guarded).unwrap_or_default();
        assert!(text.ends_with(r#","namespaces":{"shop":1}}"#), "{text}");
        assert!(matches!(&Index::parse(&text), Ok(read) if *read == guarded));
        let salt = "0123456789abcdef0123456789abcdef".to_owned();
        let salted = Index { salt: Salt::try_from(salt.clone()).ok(), ..index() };
        let text = serde_json::to_string(&salted).unwrap_or_default();
        assert!(text.contains(&format!("00Z\",\"salt\":\"{salt}\",\"hash\"")), "{text}");
        assert!(matches!(&Index::parse(&text), Ok(read) if *read == salted));
        let short = Index::parse(&text.replace(&salt, &salt[1..]));
        assert!(
            matches!(&short, Err(IndexError::Malformed(error)) if error.to_string().contains("32 lower-case hex")),
            "{short:?}"
        );
    }

    #[test]
    fn what_is_no_index_is_refused() {
        assert!(matches!(Index::parse("{\"formatVersion\":2}"), Err(IndexError::NewerFormat { found: 2 })));
        assert!(matches!(Index::parse("{\"formatVersion\":0}"), Err(IndexError::UnknownFormat { found: 0 })));
        for text in ["", "[]", "{\"formatVersion\":1}", "{\"epoch\":1}"] {
            assert!(matches!(Index::parse(text), Err(IndexError::Malformed(_))), "{text}");
        }
        for shards in ["short", "AAAAAAAAAAAA", "ääääää", "aaaaaaaaaaaa,"] {
            let index = Index { key_shards: shards.to_owned(), ..index() };
            let text = serde_json::to_string(&index).unwrap_or_default();
            let read = Index::parse(&text);
            assert!(matches!(read, Err(IndexError::ShardNames { field: "keyShards" })), "{read:?}");
        }
    }
}
