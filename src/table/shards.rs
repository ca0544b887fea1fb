//! Entries cut into shards, so that a change costs the shard that it is in and no other.
//!
//! Each entry belongs to the bucket that the top bits of its key's sha256 name. The number of buckets is a power
//! of two that follows the size of the whole. A bucket is one shard; a bucket without entries is none, and one
//! above [`PART_LIMIT`] is several, since an object has a limit of its own and a tenant could choose names that
//! all fall into one bucket. Readers only join shards, so how they were cut is not part of the format.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::digest::Digest;
use crate::traefik::document::Sink;
use crate::translate::size::ENTRY_LIMIT;

/// Bytes above which a bucket is cut into several shards. No entry is larger, so no shard is.
pub(super) const PART_LIMIT: usize = ENTRY_LIMIT;

/// What is kept in shards.
pub(super) trait Content {
    /// Sorts the entries.
    type Key: Ord + Clone;
    /// The entries; cheap to clone.
    type Value: Clone + PartialEq;

    /// Above this many bytes in a bucket on average, `count` buckets become twice as many. Half as many they become where
    /// those would be filled to less than half of what they are doubled at.
    fn grow_above(count: usize) -> usize;

    /// The first 64 bits of the key's sha256.
    fn place(key: &Self::Key) -> u64;
    /// Bytes that an entry adds to a document.
    fn length(value: &Self::Value) -> usize;
    /// Writes a document of sorted entries.
    fn write<'a>(
        sink: &mut impl Sink,
        entries: impl Iterator<Item = (&'a Self::Key, &'a Self::Value)> + Clone,
    ) where
        Self: 'a;
}

/// Entries, sorted as a whole and cut into shards.
pub(super) struct Shards<C: Content> {
    entries: BTreeMap<C::Key, (u64, C::Value)>,
    buckets: Vec<Bucket<C>>,
    bytes: usize,
}

struct Bucket<C: Content> {
    entries: BTreeMap<C::Key, C::Value>,
    /// The shards it is; `None` when an entry has changed since.
    shards: Option<Vec<Digest>>,
}

impl<C: Content> Default for Bucket<C> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), shards: Some(Vec::new()) }
    }
}

impl<C: Content> Default for Shards<C> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), buckets: vec![Bucket::default()], bytes: 0 }
    }
}

impl<C: Content> Shards<C> {
    /// All entries, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&C::Key, &C::Value)> + Clone {
        self.entries.iter().map(|(key, (_, value))| (key, value))
    }

    /// The entries from a key on, sorted.
    pub fn range(&self, from: Bound<C::Key>) -> impl Iterator<Item = (&C::Key, &C::Value)> {
        self.entries.range((from, Bound::Unbounded)).map(|(key, (_, value))| (key, value))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that the entries add to a document.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets an entry; whether that changed anything.
    pub fn put(&mut self, key: C::Key, value: C::Value) -> bool {
        let place = match self.entries.get_mut(&key) {
            Some((_, old)) if *old == value => return false,
            Some((place, old)) => {
                self.bytes = self.bytes - C::length(old) + C::length(&value);
                *old = value.clone();
                *place
            }
            None => {
                let place = C::place(&key);
                self.bytes += C::length(&value);
                self.entries.insert(key.clone(), (place, value.clone()));
                place
            }
        };
        let index = index(place, self.buckets.len());
        let bucket = &mut self.buckets[index];
        bucket.entries.insert(key, value);
        bucket.shards = None;
        true
    }

    /// Removes an entry; whether it was there.
    pub fn remove(&mut self, key: &C::Key) -> bool {
        let Some((place, value)) = self.entries.remove(key) else { return false };
        self.bytes -= C::length(&value);
        let index = index(place, self.buckets.len());
        let bucket = &mut self.buckets[index];
        bucket.entries.remove(key);
        bucket.shards = None;
        true
    }

    /// Brings the number of buckets in line with the size and hashes what changed. Work: the changed buckets,
    /// and all of them when their number changes.
    pub fn refresh(&mut self) {
        let mut count = self.buckets.len();
        while self.bytes > C::grow_above(count).saturating_mul(count) {
            count *= 2;
        }
        while count > 1 && self.bytes < C::grow_above(count / 2) / 2 * (count / 2) {
            count /= 2;
        }
        if count != self.buckets.len() {
            self.buckets = (0..count).map(|_| Bucket::default()).collect();
            for (key, (place, value)) in &self.entries {
                let bucket = &mut self.buckets[index(*place, count)];
                bucket.entries.insert(key.clone(), value.clone());
                bucket.shards = None;
            }
        }
        for bucket in &mut self.buckets {
            if bucket.shards.is_none() {
                bucket.shards =
                    Some(bucket.parts().map(|part| Digest::written(|sink| part.write(sink))).collect());
            }
        }
    }

    /// The shards, in order. Right after a [`Self::refresh`] that is all of them.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.buckets.iter().flat_map(|bucket| bucket.shards.iter().flatten().copied())
    }

    /// The document of a shard; `None` when there is no such shard any more.
    pub fn document(&self, digest: &Digest) -> Option<String> {
        self.buckets.iter().find_map(|bucket| {
            let position = bucket.shards.as_ref()?.iter().position(|shard| shard == digest)?;
            let part = bucket.parts().nth(position)?;
            let mut text = String::with_capacity(part.bytes + 128);
            part.write(&mut text);
            Some(text)
        })
    }

    /// The number of buckets.
    #[cfg(test)]
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }
}

impl<C: Content> Bucket<C> {
    /// Cuts the entries into shards of at most [`PART_LIMIT`] bytes; an entry above it is alone.
    fn parts(&self) -> impl Iterator<Item = ShardEntries<'_, C>> {
        let mut entries = self.entries.iter().peekable();
        std::iter::from_fn(move || {
            let (key, value) = entries.next()?;
            let mut part = ShardEntries { bytes: C::length(value), entries: vec![(key, value)] };
            while let Some((key, value)) =
                entries.next_if(|(_, value)| part.bytes + C::length(value) <= PART_LIMIT)
            {
                part.bytes += C::length(value);
                part.entries.push((key, value));
            }
            Some(part)
        })
    }
}

/// The entries of one shard.
struct ShardEntries<'a, C: Content> {
    bytes: usize,
    entries: Vec<(&'a C::Key, &'a C::Value)>,
}

impl<C: Content> ShardEntries<'_, C> {
    fn write(&self, sink: &mut impl Sink) {
        C::write(sink, self.entries.iter().copied());
    }
}

/// The bucket, of `count`, that the top bits of `place` name. `count` is a power of two.
fn index(place: u64, count: usize) -> usize {
    match count.trailing_zeros() {
        0 => 0,
        bits => (place >> (64 - bits)) as usize,
    }
}

#[cfg(test)]
mod tests {
    use super::super::digest::place;
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

        fn place(key: &String) -> u64 {
            place(key)
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

    fn filled(count: usize, length: usize) -> Shards<Lines> {
        let mut shards = Shards::default();
        for at in 0..count {
            shards.put(format!("key-{at}"), format!("{at:>length$}"));
        }
        shards.refresh();
        shards
    }

    fn documents(shards: &Shards<Lines>) -> Vec<String> {
        shards.digests().filter_map(|digest| shards.document(&digest)).collect()
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
            assert!(shards.remove(&format!("key-{at}")));
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
        shards.put(key.clone(), value);
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
        assert!(!shards.put("key-7".to_owned(), format!("{:>1023}", 7)));
        assert!(shards.put("key-7".to_owned(), "changed".to_owned()));
        assert_eq!(shards.buckets.iter().filter(|bucket| bucket.shards.is_none()).count(), 1);
        shards.refresh();
        let after: Vec<_> = shards.digests().collect();
        assert_eq!(before.iter().zip(&after).filter(|(before, after)| before != after).count(), 1);
        let gone = before.iter().find(|digest| !after.contains(digest));
        assert!(gone.is_some_and(|gone| shards.document(gone).is_none()));
        for digest in after {
            assert_eq!(shards.document(&digest).map(|text| Digest::new(&text)), Some(digest));
        }
    }

    /// Names that all fall into one bucket give several shards, none above the limit.
    #[test]
    fn a_crowded_bucket_is_cut() {
        let mut shards: Shards<Lines> = Shards::default();
        let crowd = (0..).map(|at| format!("key-{at}")).filter(|key| place(key) >> 60 == 0).take(20);
        for key in crowd {
            shards.put(key.clone(), format!("{key:>60000}"));
        }
        shards.put("huge".to_owned(), "x".repeat(2 * PART_LIMIT));
        shards.refresh();
        assert_eq!(shards.buckets(), 16);
        let documents = documents(&shards);
        assert!(documents.len() >= 6, "{}", documents.len());
        assert_eq!(documents.iter().filter(|text| text.len() > PART_LIMIT).count(), 1);
        assert_eq!(documents.iter().map(String::len).sum::<usize>(), shards.bytes());
    }
}
