//! Tracks which shards of an output exist, and which of them are garbage.
//!
//! | state | meaning | begins | ends |
//! | --- | --- | --- | --- |
//! | held | the object is there | list, watch, own create | it is deleted, or loses a label |
//! | named | the last index names it | commit | a commit without it |
//! | unnamed | held, and the last index does not name it | seen or created before its commit; a commit without it | a commit with it |
//! | kept | unnamed, and spared: a withdrawal that is held may need it | the caller says so | the caller says so |
//! | garbage | unnamed for 2 generations and 60 s, and not kept | time, commits | its DELETE; a commit with it |
//! | doomed | a DELETE of this object may be on its way | taken as garbage; found unnamed | another object of that name; a commit with it |
//! | damaged | named, and not held or its sum does not fit its name | deleted or edited | made anew |
//!
//! An index may name a shard once it is held, not doomed, and has the right sum ([`Shards::holds`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::kubernetes::key::OutputKey;
use crate::metrics::WriteKind;
use crate::publish::requests::ObjectTarget;
use crate::published::index::Index;
use crate::published::objects::{self, Part};
use crate::published::read;
use crate::published::salt::{Salt, short_name};
use crate::table::{Digest, ShortDigest};

/// The number of generations without a shard before it is garbage.
const GENERATIONS: u64 = 2;
/// The time without a shard before it is garbage. A slower reader has to start again.
const UNNAMED: Duration = Duration::from_secs(60);

/// Part and [`short_name`] of a shard.
pub type ShardKey = (Part, ShortDigest);

/// The key of a shard.
pub fn key(salt: Option<Salt>, part: Part, digest: &Digest) -> ShardKey {
    (part, short_name(salt, digest))
}

/// A shard's object.
pub fn target(output: &OutputKey, &(part, short): &ShardKey) -> ObjectTarget {
    let namespace = output.namespace();
    match part {
        Part::Keys => ObjectTarget::new::<Secret>(
            WriteKind::KeyShard,
            namespace,
            &objects::key_shard_name(output, short),
        ),
        _ => ObjectTarget::new::<ConfigMap>(
            WriteKind::RoutingShard,
            namespace,
            &objects::routing_shard_name(output, short),
        ),
    }
}

/// The shard with this object name; `None` if it is not one of this output's.
pub fn key_of(output: &OutputKey, name: &str) -> Option<ShardKey> {
    let rest = name.strip_prefix(output.name())?.strip_prefix('.')?;
    let (part, short) = match rest.split_at_checked(2)? {
        ("r-", short) => (Part::Routing, short),
        ("k-", short) => (Part::Keys, short),
        _ => return None,
    };
    Some((part, short.parse().ok()?))
}

/// The shards that an index names.
pub fn named_by(index: &Index) -> BTreeSet<ShardKey> {
    let routing = index.shards().map(|short| (Part::Routing, short));
    routing.chain(index.key_shards().map(|short| (Part::Keys, short))).collect()
}

/// An existing shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    pub uid: Option<String>,
    pub version: Option<String>,
    /// The digest in its annotation.
    sha256: Option<Digest>,
    /// Whether its name follows from that and the last index's salt. If not, readers refuse it.
    name_fits: bool,
    /// The first generation that did not name it, or 0 if none ever named it, and its time; `None` while the index
    /// names it.
    unnamed: Option<(u64, Instant)>,
    /// A DELETE of this very object may be on its way, from this writer or an earlier leader. It has to be recreated
    /// before an index names it again, because the DELETE names its uid.
    doomed: bool,
}

fn has_name(key: &ShardKey, salt: Option<Salt>, sha256: Option<Digest>) -> bool {
    sha256.is_some_and(|digest| short_name(salt, &digest) == key.1)
}

/// The shards of one output.
#[derive(Clone, Debug, Default)]
pub struct Shards {
    held: BTreeMap<ShardKey, Shard>,
    named: BTreeSet<ShardKey>,
    /// The last index's.
    salt: Option<Salt>,
    generation: u64,
}

impl Shards {
    /// A shard exists, according to a list or a watch.
    pub fn seen(&mut self, key: ShardKey, metadata: &ObjectMeta, now: Instant) {
        let doomed = match self.held.get(&key) {
            Some(before) if before.uid == metadata.uid => before.doomed,
            // An earlier leader may have considered it garbage.
            _ => !self.named.contains(&key),
        };
        self.insert(key, metadata, now, doomed);
    }

    /// A shard was created by this writer.
    pub fn created(&mut self, key: ShardKey, metadata: &ObjectMeta, now: Instant) {
        self.held.remove(&key);
        self.insert(key, metadata, now, false);
        if let Some(Shard { unnamed: Some((first, _)), .. }) = self.held.get_mut(&key) {
            // No reader can be after it, so it waits for no generation: there may never be another.
            *first = 0;
        }
    }

    fn insert(&mut self, key: ShardKey, metadata: &ObjectMeta, now: Instant, doomed: bool) {
        let unnamed = match self.held.get(&key) {
            Some(before) => before.unnamed,
            None if self.named.contains(&key) => None,
            // The next generation has not named it yet.
            None => Some((self.generation, now)),
        };
        let sha256 = read::sha256(metadata);
        let shard = Shard {
            uid: metadata.uid.clone(),
            version: metadata.resource_version.clone(),
            sha256,
            name_fits: has_name(&key, self.salt, sha256),
            unnamed,
            doomed,
        };
        self.held.insert(key, shard);
    }

    /// A shard was deleted. With a uid, only this very object is meant.
    pub fn gone(&mut self, key: &ShardKey, uid: Option<&str>) {
        let same = |held: &Shard| uid.is_none() || held.uid.is_none() || held.uid.as_deref() == uid;
        if self.held.get(key).is_some_and(same) {
            self.held.remove(key);
        }
    }

    /// The existing shard with this key.
    pub fn get(&self, key: &ShardKey) -> Option<&Shard> {
        self.held.get(key)
    }

    /// Whether a shard exists as wanted. One whose annotation was edited is refused by readers, and one that may be
    /// deleted at any moment does not count.
    pub fn holds(&self, salt: Option<Salt>, part: Part, digest: &Digest) -> bool {
        let held = self.held.get(&key(salt, part, digest));
        held.is_some_and(|held| !held.doomed && held.sha256 == Some(*digest))
    }

    /// Whether an intact shard with this key and another content exists.
    pub fn clashes(&self, salt: Option<Salt>, key: &ShardKey, digest: &Digest) -> bool {
        let held = self.held.get(key).and_then(|held| held.sha256);
        held != Some(*digest) && has_name(key, salt, held)
    }

    /// Whether the last index names it.
    pub fn is_named(&self, key: &ShardKey) -> bool {
        self.named.contains(key)
    }

    /// Whether a shard that the last index names is missing or changed.
    pub fn is_damaged(&self) -> bool {
        // A shard that was edited so that its name still fits is found by `holds`.
        self.named.iter().any(|key| self.held.get(key).is_none_or(|held| !held.name_fits))
    }

    /// Whether all shards that an index names exist, and none is about to be deleted.
    pub fn has_all(&self, index: &Index) -> bool {
        named_by(index).iter().all(|key| {
            let held = self.held.get(key);
            held.is_some_and(|held| !held.doomed && has_name(key, index.salt, held.sha256))
        })
    }

    /// All existing shards, in order.
    pub fn keys(&self) -> impl Iterator<Item = &ShardKey> {
        self.held.keys()
    }

    /// Forgets the existing shards before they are listed again. Since when each has been garbage is kept.
    pub fn relist(
        &mut self,
        part: Part,
        now: Instant,
        listed: impl IntoIterator<Item = (ShardKey, ObjectMeta)>,
    ) {
        let mut there = BTreeSet::new();
        for (key, metadata) in listed {
            there.insert(key);
            self.seen(key, &metadata, now);
        }
        self.held.retain(|key, _| key.0 != part || there.contains(key));
    }

    /// An index was committed or found.
    pub fn committed(&mut self, index: &Index, now: Instant) {
        self.generation = index.generation;
        self.named = named_by(index);
        let salted = std::mem::replace(&mut self.salt, index.salt) != index.salt;
        for (key, held) in &mut self.held {
            if salted {
                held.name_fits = has_name(key, index.salt, held.sha256);
            }
            if self.named.contains(key) {
                // Its writer made sure that no DELETE was on its way.
                (held.unnamed, held.doomed) = (None, false);
            } else if held.unnamed.is_none() {
                held.unnamed = Some((index.generation, now));
            }
        }
    }

    /// The shards that no index has named for long enough, to be deleted now: at most `limit`, and none that is `kept`.
    pub fn take_garbage(
        &mut self,
        now: Instant,
        limit: usize,
        kept: &BTreeSet<ShardKey>,
    ) -> Vec<(ShardKey, Shard)> {
        let last = self.last_generation();
        self.held
            .iter_mut()
            .filter(|(key, held)| {
                held.unnamed
                    .is_some_and(|(first, at)| first <= last && now.saturating_duration_since(at) >= UNNAMED)
                    && !kept.contains(*key)
            })
            .take(limit)
            .map(|(key, held)| {
                held.doomed = true;
                (*key, held.clone())
            })
            .collect()
    }

    /// When there may be garbage without another commit; `None` if there will be none.
    pub fn garbage_due(&self) -> Option<Instant> {
        self.held
            .values()
            .filter_map(|held| held.unnamed)
            .filter(|(first, _)| *first <= self.last_generation())
            .map(|(_, at)| at + UNNAMED)
            .min()
    }

    /// Shards that no generation from this one on has named may be garbage. An empty index may be the last one forever.
    fn last_generation(&self) -> u64 {
        if self.named.is_empty() {
            u64::MAX
        } else {
            self.generation.saturating_add(1).saturating_sub(GENERATIONS)
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::published::index::FORMAT_VERSION;
    use crate::published::objects::SHA256_ANNOTATION;
    use crate::table::Counts;

    fn index(generation: u64, shards: &[&Digest]) -> Index {
        Index {
            format_version: FORMAT_VERSION,
            epoch: 0,
            generation,
            awaited: 0,
            published_at: String::new(),
            salt: None,
            hash: String::new(),
            shards: shards.iter().map(|digest| digest.short().to_string()).collect(),
            key_shards: String::new(),
            counts: Counts::default(),
            namespaces: None,
        }
    }

    fn garbage(shards: &mut Shards, now: Instant) -> Vec<(ShardKey, Shard)> {
        shards.take_garbage(now, 9, &BTreeSet::new())
    }

    fn metadata(digest: &Digest, uid: &str) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.to_owned()),
            annotations: Some([(SHA256_ANNOTATION.to_owned(), digest.to_string())].into()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn names_lead_to_keys_and_back() {
        let output = OutputKey::new("ns", "public");
        let digest = Digest::new("x");
        for part in [Part::Routing, Part::Keys] {
            let key = key(None, part, &digest);
            let object = target(&output, &key).object;
            let name = object.split_once("ns/").unwrap().1;
            assert_eq!(key_of(&output, name), Some(key));
        }
        for other in
            ["public", "public-0.r-aaaaaaaaaaaa", "public.r-short", "public.x-aaaaaaaaaaaa", "public.é-a"]
        {
            assert_eq!(key_of(&output, other), None, "{other}");
        }
    }

    #[test]
    fn garbage_takes_two_generations_and_a_minute() {
        let start = Instant::now();
        let (old, new) = (Digest::new("old"), Digest::new("new"));
        let old_key = key(None, Part::Routing, &old);
        let mut shards = Shards::default();
        shards.seen(old_key, &metadata(&old, "1"), start);
        shards.committed(&index(1, &[&old]), start);
        shards.seen(key(None, Part::Routing, &new), &metadata(&new, "2"), start);
        shards.committed(&index(2, &[&new]), start);
        let late = start + Duration::from_secs(600);
        assert_eq!(garbage(&mut shards, late), [], "one generation without it");
        assert_eq!(shards.garbage_due(), None);
        shards.committed(&index(3, &[&new]), start + Duration::from_secs(1));
        assert_eq!(garbage(&mut shards, start + Duration::from_secs(59)), []);
        assert_eq!(shards.garbage_due(), Some(start + UNNAMED));
        assert_eq!(shards.take_garbage(start + UNNAMED, 9, &[old_key].into()), [], "it is kept");
        let taken: Vec<_> = garbage(&mut shards, start + UNNAMED).into_iter().map(|(key, _)| key).collect();
        assert_eq!(taken, [old_key]);
        // Wanted again before it was deleted: the DELETE may still come, so it has to be another object.
        assert!(!shards.holds(None, Part::Routing, &old));
        shards.seen(key(None, Part::Routing, &old), &metadata(&old, "1"), start + UNNAMED);
        assert!(!shards.holds(None, Part::Routing, &old));
        shards.created(key(None, Part::Routing, &old), &metadata(&old, "3"), start + UNNAMED);
        assert!(shards.holds(None, Part::Routing, &old));
        shards.committed(&index(4, &[&new, &old]), start + Duration::from_secs(61));
        assert_eq!(garbage(&mut shards, late), []);
    }

    #[test]
    fn a_shard_of_a_commit_that_failed_is_garbage_some_time() {
        let start = Instant::now();
        let digest = Digest::new("x");
        let mut shards = Shards::default();
        let other = Digest::new("other");
        shards.committed(&index(5, &[&other]), start);
        shards.created(key(None, Part::Keys, &digest), &metadata(&digest, "1"), start);
        assert_eq!(garbage(&mut shards, start + UNNAMED - Duration::from_secs(1)), []);
        assert_eq!(shards.garbage_due(), Some(start + UNNAMED));
        assert_eq!(shards.take_garbage(start + UNNAMED, 9, &[key(None, Part::Keys, &digest)].into()), []);
        assert_eq!(garbage(&mut shards, start + UNNAMED).len(), 1, "though nothing is committed any more");

        // An empty index has no successor to wait for.
        let mut shards = Shards::default();
        shards.created(key(None, Part::Keys, &digest), &metadata(&digest, "1"), start);
        shards.committed(&index(1, &[]), start);
        assert_eq!(shards.garbage_due(), Some(start + UNNAMED));
        assert_eq!(garbage(&mut shards, start + UNNAMED).len(), 1);
    }

    #[test]
    fn what_an_earlier_leader_may_be_deleting_is_not_taken_for_there() {
        let now = Instant::now();
        let (named, old) = (Digest::new("named"), Digest::new("old"));
        let mut shards = Shards::default();
        for (digest, uid) in [(&named, "1"), (&old, "2")] {
            shards.seen(key(None, Part::Routing, digest), &metadata(digest, uid), now);
        }
        shards.committed(&index(7, &[&named]), now);
        assert!(shards.holds(None, Part::Routing, &named) && !shards.holds(None, Part::Routing, &old));
        // It was ours, and goes back and forth within the minute: nothing has to be written.
        shards.committed(&index(8, &[]), now);
        assert!(shards.holds(None, Part::Routing, &named));
    }

    #[test]
    fn names_are_those_of_the_last_indexs_salt() {
        let now = Instant::now();
        let (salt, digest) = (Salt::new().ok(), Digest::new("x"));
        let salted = key(salt, Part::Routing, &digest);
        let salted_index = Index { salt, shards: salted.1.to_string(), ..index(2, &[]) };
        let mut shards = Shards::default();
        shards.created(key(None, Part::Routing, &digest), &metadata(&digest, "1"), now);
        shards.committed(&index(1, &[&digest]), now);
        shards.created(salted, &metadata(&digest, "2"), now);
        assert!(shards.holds(salt, Part::Routing, &digest) && shards.has_all(&salted_index));
        assert!(!shards.is_damaged());
        shards.committed(&salted_index, now);
        assert!(shards.holds(salt, Part::Routing, &digest) && !shards.is_damaged());
        // Someone edits the salt: readers refuse all shards, and the index has to be written again.
        shards.committed(&Index { salt: Salt::new().ok(), ..salted_index.clone() }, now);
        assert!(shards.is_damaged() && shards.has_all(&salted_index));
    }

    #[test]
    fn another_text_of_the_same_name_is_told_from_an_edit() {
        let now = Instant::now();
        let digest = Digest::new("x");
        let hex = digest.to_string();
        let like = |end: &str| Digest::try_from(&*format!("{}{end}", &hex[..64 - end.len()])).unwrap();
        let other = if hex.ends_with('0') { like("1") } else { like("0") };
        for salt in [None, Salt::new().ok()] {
            let key = key(salt, Part::Routing, &digest);
            let mut shards = Shards::default();
            assert!(!shards.clashes(salt, &key, &digest), "none is there");
            shards.seen(key, &metadata(&digest, "1"), now);
            assert!(!shards.clashes(salt, &key, &digest));
            shards.seen(key, &metadata(&other, "1"), now);
            // With a salt nobody knows of such a one, so this is an edit.
            assert_eq!(shards.clashes(salt, &key, &digest), salt.is_none());
            shards.seen(key, &metadata(&Digest::new("y"), "1"), now);
            assert!(!shards.clashes(salt, &key, &digest));
        }
    }

    #[test]
    fn one_that_is_gone_or_edited_is_noticed() {
        let now = Instant::now();
        let digest = Digest::new("x");
        let key = key(None, Part::Routing, &digest);
        let mut shards = Shards::default();
        shards.seen(key, &metadata(&digest, "1"), now);
        shards.committed(&index(1, &[&digest]), now);
        assert!(shards.holds(None, Part::Routing, &digest) && !shards.is_damaged());
        shards.gone(&key, Some("an earlier object of that name"));
        assert!(shards.holds(None, Part::Routing, &digest));
        let with = |sum: &str| ObjectMeta {
            annotations: Some([(SHA256_ANNOTATION.to_owned(), sum.to_owned())].into()),
            ..metadata(&digest, "1")
        };
        for (what, edited) in [
            ("removed", ObjectMeta { annotations: None, ..metadata(&digest, "1") }),
            ("no sum", with("0")),
            ("another sum", with(&Digest::new("y").to_string())),
            ("in capitals", with(&digest.to_string().to_uppercase())),
        ] {
            shards.seen(key, &edited, now);
            assert!(!shards.holds(None, Part::Routing, &digest) && shards.is_damaged(), "{what}");
            assert!(!shards.has_all(&index(1, &[&digest])), "{what}");
            shards.relist(Part::Routing, now, [(key, metadata(&digest, "1"))]);
            assert!(!shards.is_damaged(), "{what}");
        }
        shards.relist(Part::Keys, now, []);
        assert!(!shards.is_damaged(), "another part");
        shards.relist(Part::Routing, now, []);
        assert!(shards.is_damaged());
    }
}
