//! Entries cut into shards, so that a change costs the shard that it is in and no other.
//!
//! ```text
//! sha256 of an entry's key    7f…                            cell 0x7f of 256
//! cells   00 01 02 … 3f │ 40 … 7f │ 80 … bf │ c0 … ff         one sum each, for the hash of the whole
//! buckets       0       │    1    │    2    │    3            a power of two, as many as the size asks for
//! shards        a       │   b c   │    d    │                 one a bucket; more above the limit of a shard
//! ```
//!
//! Cells never change, so the hash of the whole does not depend on how many shards there are. Buckets are runs of
//! cells, or parts of one when there are more than 256. An empty bucket is no shard, and one above [`PART_LIMIT`] is
//! several: an object has a limit of its own, and a tenant could choose names that all fall into one bucket. Readers
//! only join shards, so how they were cut is not part of the format.

use std::collections::BTreeMap;

use super::digest::Digest;
use super::hash::CELLS;
use crate::traefik::escape::Sink;
use crate::translate::size::ENTRY_LIMIT;

/// Bytes above which a bucket is cut into several shards. No entry is larger, so no shard is.
pub(super) const PART_LIMIT: usize = ENTRY_LIMIT;

/// What is kept in shards.
pub(super) trait Content {
    type Key: Ord + Clone;
    /// Cheap to clone.
    type Value: Clone + PartialEq;

    /// Above this many bytes in a bucket on average, `count` buckets become twice as many. They become half as many
    /// when those would be filled to less than half of what they are doubled at.
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

/// The entries whose keys' sha256 begins with one byte.
type Cell<C> = BTreeMap<<C as Content>::Key, (u64, <C as Content>::Value)>;

/// Entries, in cells and cut into shards.
pub(super) struct Shards<C: Content> {
    cells: Vec<Cell<C>>,
    /// The shards of each bucket; `None` when an entry has changed since.
    buckets: Vec<Option<Vec<Digest>>>,
    len: usize,
    bytes: usize,
}

impl<C: Content> Default for Shards<C> {
    fn default() -> Self {
        Self {
            cells: (0..CELLS).map(|_| BTreeMap::new()).collect(),
            buckets: vec![Some(Vec::new())],
            len: 0,
            bytes: 0,
        }
    }
}

impl<C: Content> Shards<C> {
    /// All entries, sorted. For what is done seldom: it sorts them.
    pub fn sorted(&self) -> Vec<(&C::Key, &C::Value)> {
        sorted(self.cells.iter().flatten())
    }

    /// All entries, in no order.
    pub fn values(&self) -> impl Iterator<Item = &C::Value> {
        self.cells.iter().flat_map(BTreeMap::values).map(|(_, value)| value)
    }

    /// The entries of a cell, sorted.
    pub fn cell(&self, cell: usize) -> impl Iterator<Item = (&C::Key, &C::Value)> + Clone {
        self.cells[cell].iter().map(|(key, (_, value))| (key, value))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes that the entries add to a document.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets an entry. Gives its cell when that changed anything.
    pub fn put(&mut self, key: C::Key, value: C::Value) -> Option<usize> {
        let place = C::place(&key);
        let cell = index(place, CELLS);
        self.bytes += C::length(&value);
        match self.cells[cell].insert(key, (place, value.clone())) {
            Some((_, old)) => {
                self.bytes -= C::length(&old);
                if old == value {
                    return None;
                }
            }
            None => self.len += 1,
        }
        self.changed(place);
        Some(cell)
    }

    /// Removes an entry. Gives its cell when it was there.
    pub fn remove(&mut self, key: &C::Key) -> Option<usize> {
        let cell = index(C::place(key), CELLS);
        let (place, value) = self.cells[cell].remove(key)?;
        self.bytes -= C::length(&value);
        self.len -= 1;
        self.changed(place);
        Some(cell)
    }

    fn changed(&mut self, place: u64) {
        let bucket = index(place, self.buckets.len());
        self.buckets[bucket] = None;
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
            self.buckets = vec![None; count];
        }
        for bucket in 0..count {
            if self.buckets[bucket].is_none() {
                let parts = self.parts(bucket);
                let shards =
                    parts.iter().map(|part| Digest::written(|sink| C::write(sink, part.iter().copied())));
                self.buckets[bucket] = Some(shards.collect());
            }
        }
    }

    /// The shards, in order. Right after a [`Self::refresh`] that is all of them.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.buckets.iter().flatten().flatten().copied()
    }

    /// The document of a shard; `None` when there is no such shard any more.
    pub fn document(&self, digest: &Digest) -> Option<String> {
        self.buckets.iter().enumerate().find_map(|(bucket, shards)| {
            let position = shards.as_ref()?.iter().position(|shard| shard == digest)?;
            let parts = self.parts(bucket);
            let part = parts.get(position)?;
            let bytes: usize = part.iter().map(|(_, value)| C::length(value)).sum();
            let mut text = String::with_capacity(bytes + 128);
            C::write(&mut text, part.iter().copied());
            Some(text)
        })
    }

    /// The number of buckets.
    #[cfg(test)]
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// The entries of a bucket, sorted and cut into shards of at most [`PART_LIMIT`] bytes. An entry above it is alone.
    fn parts(&self, bucket: usize) -> Vec<Vec<(&C::Key, &C::Value)>> {
        let count = self.buckets.len();
        let cells = if count <= CELLS {
            let each = CELLS / count;
            bucket * each..(bucket + 1) * each
        } else {
            let cell = bucket / (count / CELLS);
            cell..cell + 1
        };
        let entries = self.cells[cells].iter().flatten();
        let mut parts: Vec<Vec<_>> = Vec::new();
        let mut bytes = 0;
        for (key, value) in sorted(entries.filter(|(_, (place, _))| index(*place, count) == bucket)) {
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

fn sorted<'a, K: Ord, V>(entries: impl Iterator<Item = (&'a K, &'a (u64, V))>) -> Vec<(&'a K, &'a V)> {
    let mut sorted: Vec<_> = entries.map(|(key, (_, value))| (key, value)).collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    sorted
}

/// Which of `count` the top bits of `place` name. `count` is a power of two.
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
        assert_eq!(shards.put("key-7".to_owned(), format!("{:>1023}", 7)), None);
        assert!(shards.put("key-7".to_owned(), "changed".to_owned()).is_some());
        assert_eq!(shards.buckets.iter().filter(|bucket| bucket.is_none()).count(), 1);
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
