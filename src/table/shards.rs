//! Entries cut into shards, so that a change costs the shard that it is in and no other.
//!
//! ```text
//! sha256 of an entry's key     7f…                             cell 0x7f of 256: a sum each, for the hash of the whole
//! sha256 of an entry's owner   2c…                             its place
//! buckets                      00…  │  40…  │  80…  │  c0…     a power of two, as many as the size asks for
//! shards                        a   │  b c  │   d   │          one a bucket; more above the limit of a shard
//! ```
//!
//! Cells never change, so the hash of the whole does not depend on how many shards there are. Buckets are ranges of
//! places. What changes together has one place, so a changed Ingress costs one shard however many paths it has. An empty
//! bucket is no shard, and one above [`PART_LIMIT`] is several: an object has a limit of its own, and a tenant could
//! choose names that all fall into one bucket. Readers only join shards, so how they were cut is not part of the format.

use std::collections::BTreeMap;

use super::digest::{Digest, Place};
use super::hash::CELLS;
use crate::traefik::escape::Sink;
use crate::translate::size::ENTRY_LIMIT;

/// Size above which a bucket is cut into several shards. No entry is larger, so no shard is.
pub(super) const PART_LIMIT: usize = ENTRY_LIMIT;

/// An entry of shards.
pub(super) trait Content {
    type Key: Ord + Clone;
    /// Cheap to clone.
    type Value: Clone + PartialEq;

    /// If buckets exceed this number of bytes on average, `count` is doubled. It is halved if the buckets would then be
    /// filled to less than half of their limit for doubling.
    fn grow_above(count: usize) -> usize;
    /// The cell of a key ([`super::hash::cell`]).
    fn cell(key: &Self::Key) -> usize;
    /// The size of an entry in a document.
    fn length(value: &Self::Value) -> usize;
    /// Writes a document of sorted entries.
    fn write<'a>(
        sink: &mut impl Sink,
        entries: impl Iterator<Item = (&'a Self::Key, &'a Self::Value)> + Clone,
    ) where
        Self: 'a;
}

/// The entries of a cell, each with its place.
type Cell<C> = BTreeMap<<C as Content>::Key, (Place, <C as Content>::Value)>;

/// The entries of a bucket.
struct Bucket<C: Content> {
    entries: BTreeMap<C::Key, C::Value>,
    /// `None` if an entry has changed since.
    shards: Option<Vec<Digest>>,
}

impl<C: Content> Default for Bucket<C> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), shards: None }
    }
}

/// Entries by the cell of their key and by their place, cut into shards.
pub(super) struct Shards<C: Content> {
    cells: Vec<Cell<C>>,
    buckets: Vec<Bucket<C>>,
    len: usize,
    bytes: usize,
}

impl<C: Content> Default for Shards<C> {
    fn default() -> Self {
        Self {
            cells: (0..CELLS).map(|_| BTreeMap::new()).collect(),
            buckets: vec![Bucket::default()],
            len: 0,
            bytes: 0,
        }
    }
}

impl<C: Content> Shards<C> {
    /// All entries, sorted. For rare use, because it sorts them.
    pub fn sorted(&self) -> Vec<(&C::Key, &C::Value)> {
        let mut sorted: Vec<_> = self.buckets.iter().flat_map(|bucket| &bucket.entries).collect();
        sorted.sort_unstable_by_key(|(key, _)| *key);
        sorted
    }

    /// All entries, in no order.
    pub fn values(&self) -> impl Iterator<Item = &C::Value> {
        self.buckets.iter().flat_map(|bucket| bucket.entries.values())
    }

    /// The entries of a cell, sorted.
    pub fn cell(&self, cell: usize) -> impl Iterator<Item = (&C::Key, &C::Value)> + Clone {
        self.cells[cell].iter().map(|(key, (_, value))| (key, value))
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The size of all entries in a document.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets an entry. Returns its cell if its value changed.
    pub fn put(&mut self, place: Place, key: C::Key, value: C::Value) -> Option<usize> {
        let cell = C::cell(&key);
        self.bytes += C::length(&value);
        let old = self.cells[cell].insert(key.clone(), (place, value.clone()));
        let same = match &old {
            Some((from, old)) => {
                self.bytes -= C::length(old);
                if *from != place {
                    self.bucket(*from).remove(&key);
                }
                old == &value
            }
            None => {
                self.len += 1;
                false
            }
        };
        if !same || old.is_some_and(|(from, _)| from != place) {
            self.bucket(place).insert(key, value);
        }
        (!same).then_some(cell)
    }

    /// Removes an entry. Returns its cell if it existed.
    pub fn remove(&mut self, key: &C::Key) -> Option<usize> {
        let cell = C::cell(key);
        let (place, value) = self.cells[cell].remove(key)?;
        self.bytes -= C::length(&value);
        self.len -= 1;
        self.bucket(place).remove(key);
        Some(cell)
    }

    /// The entries of the bucket of a place, which are about to change.
    fn bucket(&mut self, place: Place) -> &mut BTreeMap<C::Key, C::Value> {
        let bucket = index(place, self.buckets.len());
        let bucket = &mut self.buckets[bucket];
        bucket.shards = None;
        &mut bucket.entries
    }

    /// Adjusts the number of buckets to the size, and hashes what changed. The work is proportional to the changed
    /// buckets, or to all buckets if their number changes.
    pub fn refresh(&mut self) {
        let mut count = self.buckets.len();
        while self.bytes > C::grow_above(count).saturating_mul(count) {
            count *= 2;
        }
        while count > 1 && self.bytes < C::grow_above(count / 2) / 2 * (count / 2) {
            count /= 2;
        }
        if count != self.buckets.len() {
            let mut buckets: Vec<Bucket<C>> = (0..count).map(|_| Bucket::default()).collect();
            for (key, (place, value)) in self.cells.iter().flatten() {
                buckets[index(*place, count)].entries.insert(key.clone(), value.clone());
            }
            self.buckets = buckets;
        }
        for bucket in self.buckets.iter_mut().filter(|bucket| bucket.shards.is_none()) {
            let parts = bucket.parts();
            let shards =
                parts.iter().map(|part| Digest::written(|sink| C::write(sink, part.iter().copied())));
            bucket.shards = Some(shards.collect());
        }
    }

    /// The shards, in order. Complete only right after [`Self::refresh`].
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.buckets.iter().filter_map(|bucket| bucket.shards.as_ref()).flatten().copied()
    }

    /// The entries of a shard; `None` if it no longer exists.
    pub fn shard(&self, digest: &Digest) -> Option<PartEntries<C>> {
        self.buckets.iter().find_map(|bucket| {
            let position = bucket.shards.as_ref()?.iter().position(|shard| shard == digest)?;
            let part = bucket.parts().into_iter().nth(position)?;
            Some(PartEntries(part.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect()))
        })
    }

    /// The place of each entry.
    #[cfg(test)]
    pub fn places(&self) -> BTreeMap<C::Key, Place> {
        self.cells.iter().flatten().map(|(key, (place, _))| (key.clone(), *place)).collect()
    }

    /// The number of buckets.
    #[cfg(test)]
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }
}

/// The entries of a shard, sorted. They share the memory of the table's.
pub(super) struct PartEntries<C: Content>(Vec<(C::Key, C::Value)>);

impl<C: Content> PartEntries<C> {
    /// Their document.
    pub fn document(&self) -> String {
        let bytes: usize = self.0.iter().map(|(_, value)| C::length(value)).sum();
        let mut text = String::with_capacity(bytes + 128);
        C::write(&mut text, self.0.iter().map(|(key, value)| (key, value)));
        text
    }
}

impl<C: Content> Bucket<C> {
    /// Cuts the entries into shards of at most [`PART_LIMIT`] bytes. A larger entry gets a shard of its own.
    fn parts(&self) -> Vec<Vec<(&C::Key, &C::Value)>> {
        let mut parts: Vec<Vec<_>> = Vec::new();
        let mut bytes = 0;
        for (key, value) in &self.entries {
            bytes += C::length(value);
            match parts.last_mut() {
                Some(part) if bytes <= PART_LIMIT => part.push((key, value)),
                _ => {
                    bytes = C::length(value);
                    parts.push(vec![(key, value)]);
                }
            }
        }
        parts
    }
}

/// Which of `count` buckets the top bits of `place` select. `count` is a power of two.
fn index(place: u64, count: usize) -> usize {
    match count.trailing_zeros() {
        0 => 0,
        bits => (place >> (64 - bits)) as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::super::digest::place;
    use super::super::hash;
    use super::*;

    /// A document is a line for each entry.
    struct Lines;

    impl Content for Lines {
        type Key = String;
        type Value = String;

        /// 96 KiB, and from 16 buckets on twice that.
        fn grow_above(count: usize) -> usize {
            if count < 16 { 96 * 1024 } else { 192 * 1024 }
        }

        fn cell(key: &String) -> usize {
            hash::cell(key)
        }

        fn length(value: &String) -> usize {
            value.len() + 1
        }

        fn write<'a>(sink: &mut impl Sink, entries: impl Iterator<Item = (&'a String, &'a String)> + Clone) {
            for (_, value) in entries {
                sink.push(value);
                sink.push("\n");
            }
        }
    }

    /// Each is its own owner.
    fn put(shards: &mut Shards<Lines>, key: &str, value: String) -> Option<usize> {
        shards.put(place(key), key.to_owned(), value)
    }

    fn filled(count: usize, length: usize) -> Shards<Lines> {
        let mut shards = Shards::default();
        for at in 0..count {
            put(&mut shards, &format!("key-{at}"), format!("{at:>length$}"));
        }
        shards.refresh();
        shards
    }

    fn documents(shards: &Shards<Lines>) -> Vec<String> {
        shards.digests().filter_map(|digest| Some(shards.shard(&digest)?.document())).collect()
    }

    #[test]
    fn the_number_follows_the_size() {
        for (entries, count) in [(0, 1), (10, 1), (96, 1), (97, 2), (192, 2), (193, 4), (1_000, 16)] {
            let shards = filled(entries, 1023);
            assert_eq!(shards.buckets(), count, "{entries}");
            assert_eq!(shards.bytes(), entries * 1024);
            assert_eq!(documents(&shards).iter().map(String::len).sum::<usize>(), shards.bytes());
        }
        let mut shards = filled(1_000, 1023);
        for at in 0..1_000 {
            if at == 616 {
                shards.refresh();
                assert_eq!(shards.buckets(), 16, "24 KiB on average are still enough");
            }
            assert!(shards.remove(&format!("key-{at}")).is_some());
            if at == 616 {
                shards.refresh();
                assert_eq!(shards.buckets(), 8);
            }
        }
        shards.refresh();
        assert_eq!((shards.buckets(), shards.bytes(), shards.digests().count()), (1, 0, 0));
    }

    /// What a bucket may hold can depend on how many there are; their number stays where it is between the two limits.
    #[test]
    fn the_limit_may_follow_the_number() {
        let mut shards = filled(3_072, 1023);
        assert_eq!(shards.buckets(), 16);
        let extra = |at: usize| (format!("more-{at}"), format!("{at:>1023}"));
        let (key, value) = extra(0);
        put(&mut shards, &key, value);
        shards.refresh();
        assert_eq!(shards.buckets(), 32);
        shards.remove(&key);
        for at in 0..1_536 {
            if at % 256 == 0 {
                shards.refresh();
                assert_eq!(shards.buckets(), 32, "{at}");
            }
            shards.remove(&format!("key-{at}"));
        }
        shards.refresh();
        assert_eq!((shards.buckets(), shards.bytes()), (32, 1_536 * 1024));
        shards.remove(&"key-1536".to_owned());
        shards.refresh();
        assert_eq!(shards.buckets(), 16);
    }

    #[test]
    fn a_change_touches_one_shard() {
        let mut shards = filled(1_000, 1023);
        let before: Vec<_> = shards.digests().collect();
        assert_eq!(put(&mut shards, "key-7", format!("{:>1023}", 7)), None);
        assert!(put(&mut shards, "key-7", "changed".to_owned()).is_some());
        assert_eq!(shards.buckets.iter().filter(|bucket| bucket.shards.is_none()).count(), 1);
        shards.refresh();
        let after: Vec<_> = shards.digests().collect();
        assert_eq!(before.iter().zip(&after).filter(|(before, after)| before != after).count(), 1);
        let gone = before.iter().find(|digest| !after.contains(digest));
        assert!(gone.is_some_and(|gone| shards.shard(gone).is_none()));
        for digest in after {
            assert_eq!(shards.shard(&digest).map(|shard| Digest::new(&shard.document())), Some(digest));
        }
    }

    /// Names that all fall into one bucket give several shards, none above the limit.
    #[test]
    fn a_crowded_bucket_is_cut() {
        let mut shards: Shards<Lines> = Shards::default();
        let crowd = (0..).map(|at| format!("key-{at}")).filter(|key| place(key) >> 60 == 0).take(20);
        for key in crowd {
            put(&mut shards, &key, format!("{key:>60000}"));
        }
        put(&mut shards, "huge", "x".repeat(2 * PART_LIMIT));
        shards.refresh();
        assert_eq!(shards.buckets(), 16);
        let documents = documents(&shards);
        assert!(documents.len() >= 6, "{}", documents.len());
        assert_eq!(documents.iter().filter(|text| text.len() > PART_LIMIT).count(), 1);
        assert_eq!(documents.iter().map(String::len).sum::<usize>(), shards.bytes());
    }

    /// Entries of one owner change together, and one that changes hands moves to its new owner's bucket.
    #[test]
    fn entries_of_an_owner_share_a_shard() {
        let mut shards = filled(1_000, 1023);
        let before: Vec<_> = shards.digests().collect();
        let differ = |shards: &Shards<Lines>| {
            before.iter().zip(shards.digests()).filter(|(before, after)| *before != after).count()
        };
        for at in 0..20 {
            assert!(shards.put(place("shop"), format!("path-{at}"), "to it".to_owned()).is_some());
        }
        shards.refresh();
        assert_eq!(differ(&shards), 1);
        let elsewhere =
            (0..).map(|at| format!("other-{at}")).find(|key| place(key) >> 60 != place("shop") >> 60);
        let elsewhere = place(&elsewhere.unwrap_or_default());
        assert_eq!(
            shards.put(elsewhere, "path-0".to_owned(), "to it".to_owned()),
            None,
            "the same for readers"
        );
        shards.refresh();
        assert_eq!((differ(&shards), shards.len()), (2, 1_020));
        for at in 0..20 {
            assert!(shards.remove(&format!("path-{at}")).is_some());
        }
        shards.refresh();
        assert_eq!(differ(&shards), 0);
    }
}
