//! The guard against removing too much at once (`operator.maxWithdrawal`), and the way past it.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::kubernetes::key::OutputKey;
use crate::translate::problem::{Category, Kind, Problem, Subject};

/// Annotation of an index that lets a held withdrawal through: `{generation}:{routers}`. It holds for what would
/// replace that generation, and for no more routers than that, so that it can't let another, later withdrawal
/// through. Every commit removes it.
pub const CONFIRM_ANNOTATION: &str = "waybill.dev/confirm-withdrawal";

/// Hashes of the keys of a shard's routers.
pub type RouterKeys = Arc<[u64]>;

/// A publish that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// Routers that are published and would be no more.
    pub removed: usize,
    /// Routers that are published.
    pub of: usize,
    /// The generation that would be replaced.
    pub generation: u64,
}

impl Withdrawal {
    /// Whether it is above so many percent; 0 stands for no limit.
    pub fn is_above(&self, percent: u8) -> bool {
        percent > 0 && self.removed as u128 * 100 > self.of as u128 * u128::from(percent)
    }

    /// Whether the index's annotations let it through.
    pub fn is_confirmed(&self, index: &ConfigMap) -> bool {
        let annotations = index.metadata.annotations.as_ref();
        let Some(text) = annotations.and_then(|annotations| annotations.get(CONFIRM_ANNOTATION)) else {
            return false;
        };
        let parsed = text.trim().split_once(':').and_then(|(generation, removed)| {
            Some((generation.parse::<u64>().ok()?, removed.parse::<usize>().ok()?))
        });
        parsed.is_some_and(|(generation, removed)| generation == self.generation && removed >= self.removed)
    }

    /// What lets it through.
    pub fn confirmation(&self) -> String {
        format!("{}:{}", self.generation, self.removed)
    }

    /// It, as a problem of the index.
    pub fn problem(&self, output: &OutputKey) -> Problem {
        Problem {
            category: Category::WithdrawalHeld,
            subject: index_subject(output),
            field: format!("metadata.annotations[{CONFIRM_ANNOTATION}]"),
            value: format!("{} of {} routers", self.removed, self.of),
            remedy: format!(
                "more routers would vanish than operator.maxWithdrawal allows, so nothing is published; bring back \
                 what is missing, or let it through: kubectl annotate --overwrite configmap -n {} {} \
                 {CONFIRM_ANNOTATION}={}",
                output.namespace(),
                output.name(),
                self.confirmation()
            ),
        }
    }
}

/// The index of an output.
pub fn index_subject(output: &OutputKey) -> Subject {
    Subject {
        kind: Kind::ConfigMap,
        namespace: output.namespace().to_owned(),
        name: output.name().to_owned(),
    }
}

/// The router keys of a routing document; `None` for what is none.
pub fn router_keys(document: &str) -> Option<RouterKeys> {
    #[derive(Deserialize)]
    struct Document<'a> {
        #[serde(borrow)]
        http: Option<Http<'a>>,
    }
    #[derive(Deserialize)]
    struct Http<'a> {
        #[serde(borrow)]
        routers: Option<std::collections::HashMap<std::borrow::Cow<'a, str>, IgnoredAny>>,
    }
    let document: Document<'_> = serde_json::from_str(document).ok()?;
    let routers = document.http.and_then(|http| http.routers).unwrap_or_default();
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    Some(routers.keys().map(|key| hasher.hash_one(key.as_bytes())).collect())
}

/// How many routers of `before` are not in `after`.
pub fn removed(before: &[RouterKeys], after: &[RouterKeys]) -> usize {
    let after: HashSet<u64> = after.iter().flat_map(|keys| keys.iter()).copied().collect();
    before.iter().flat_map(|keys| keys.iter()).filter(|key| !after.contains(key)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_told_apart_and_services_do_not_count() {
        let a = router_keys(r#"{"http":{"routers":{"a":{"rule":"x"},"b\u007b":{}},"services":{"s":{}}}}"#)
            .unwrap();
        let b = router_keys(r#"{"http":{"routers":{"b{":{"rule":"y"}}}}"#).unwrap();
        assert_eq!((a.len(), b.len()), (2, 1));
        let (a, b) = ([a], [b]);
        assert_eq!((removed(&a, &b), removed(&b, &a)), (1, 0));
        assert_eq!(router_keys("{}").unwrap().len(), 0);
        assert!(router_keys("routers:").is_none());
    }

    #[test]
    fn the_limit_is_a_share_of_what_is_published() {
        let of = |removed, of| Withdrawal { removed, of, generation: 1 };
        assert!(!of(100, 100).is_above(0), "no limit");
        assert!(of(31, 100).is_above(30) && !of(30, 100).is_above(30));
        assert!(!of(0, 0).is_above(1) && !of(100, 100).is_above(100));
    }

    #[test]
    fn a_confirmation_is_for_this_withdrawal_alone() {
        let with = |text: &str| {
            let mut index = ConfigMap::default();
            index.metadata.annotations = Some([(CONFIRM_ANNOTATION.to_owned(), text.to_owned())].into());
            index
        };
        let held = Withdrawal { removed: 120, of: 200, generation: 4711 };
        assert!(held.is_confirmed(&with(&held.confirmation())));
        assert!(held.is_confirmed(&with(" 4711:200 ")), "more than that was agreed to");
        for other in ["4711:119", "4710:120", "4712:120", "4711", "true", "", ":", "x:y", "4711:-1"] {
            assert!(!held.is_confirmed(&with(other)), "{other}");
        }
        assert!(!held.is_confirmed(&ConfigMap::default()));
    }
}
