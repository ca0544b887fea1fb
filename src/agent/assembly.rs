//! Holds the whole routing of a generation in memory and cuts it into the files that Traefik reads.
//!
//! A new generation is applied as a difference: entries of shards that the index no longer names are removed, and those
//! of new shards are added. It is accepted or refused as a whole.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::error::NotHandedOn;
use super::renames::Renames;
use super::shard::{EntryKey, EntryKind, ShardEntries};
use crate::published::index::Index;
use crate::table::Counts;
use crate::traefik::document::Document;

/// Up to this number of entries, there is one file. Each file costs Traefik about 2.5 ms whenever it reads.
const SINGLE_FILE: usize = 256;

/// Up to this number of entries, there are 64 files, above it 128. Traefik's YAML parser compares the keys of a file
/// with each other, so files with thousands of entries cost more than many files.
const FEWER_FILES: usize = 40_000;

/// An entry, and the number of shards that contain it. Only certificates can be in several shards: in Secrets of
/// several namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shared {
    line: Arc<str>,
    times: u32,
}

/// The last accepted routing. Empty before the first generation.
#[derive(Debug, Default)]
pub struct Assembly {
    shards: BTreeMap<String, ShardEntries>,
    files: Vec<FileEntries>,
    entries: usize,
    changed: BTreeSet<usize>,
    renames: Renames,
    seed: u64,
}

impl Assembly {
    /// Nothing yet. Which file an entry goes to follows from its key and the seed. Whoever may choose keys must not know
    /// the seed, or they could fill one file; with the same seed the files are the same.
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Whether the shard of this object name is held.
    pub fn holds(&self, shard: &str) -> bool {
        self.shards.contains_key(shard)
    }

    /// Whether there is a router, service or certificate with this key.
    pub fn has(&self, key: &EntryKey) -> bool {
        self.files.get(self.file_of(key, self.files.len())).is_some_and(|file| file.contains_key(key))
    }

    /// The user's files have entries of these keys. Says which entries of ours have the same names and are called
    /// otherwise.
    pub fn give_way(&mut self, users: &BTreeSet<EntryKey>) -> Vec<String> {
        let renames = Renames::new(users);
        if renames != self.renames {
            // Routers that lead to a service can be in any file.
            self.changed.extend(0..self.files.len());
            self.renames = renames;
        }
        let reason = |key: &EntryKey| {
            let section = match key.0 {
                EntryKind::Router => "routers",
                EntryKind::Service => "services",
                EntryKind::Certificate => return None,
            };
            let (name, new) = (&key.1, self.renames.new_name(key)?);
            Some(format!(
                "http.{section}.{name} of --include keeps its name; waybill's entry of that name is renamed to {new}"
            ))
        };
        users.iter().filter(|key| self.has(key)).filter_map(reason).collect()
    }

    /// Which of so many files an entry is in.
    fn file_of(&self, key: &EntryKey, files: usize) -> usize {
        if files <= 1 {
            return 0;
        }
        let sum =
            Sha256::new().chain_update(self.seed.to_le_bytes()).chain_update(key.1.as_bytes()).finalize();
        let number = sum.iter().take(4).fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
        number % files
    }

    /// Accepts the generation of `index`, which names each of the shards `named` this many times. Those that are not held
    /// are in `fetched`. It is empty afterwards, and keeps the shards of `named` if the generation is refused.
    pub fn take(
        &mut self,
        index: &Index,
        named: &BTreeMap<String, usize>,
        fetched: &mut BTreeMap<String, ShardEntries>,
    ) -> Result<(), NotHandedOn> {
        fetched.retain(|name, _| named.contains_key(name) && !self.shards.contains_key(name));
        let gone: Vec<String> =
            self.shards.keys().filter(|name| !named.contains_key(*name)).cloned().collect();
        self.check(index, named, &gone, fetched)?;
        if self.files.is_empty() {
            self.files.push(BTreeMap::new());
            self.changed.insert(0);
        }
        let mut removed = HashMap::new();
        for name in gone {
            self.remove(&name, &mut removed);
        }
        for (name, shard) in std::mem::take(fetched) {
            self.add(name, shard, &mut removed);
        }
        let files = self.files.len();
        let changed: Vec<usize> = removed.keys().map(|key| self.file_of(key, files)).collect();
        self.changed.extend(changed);
        self.recut();
        Ok(())
    }

    /// The number of entries after a change, and whether each exists only once.
    fn check(
        &self,
        index: &Index,
        named: &BTreeMap<String, usize>,
        gone: &[String],
        fetched: &BTreeMap<String, ShardEntries>,
    ) -> Result<(), NotHandedOn> {
        let leaving: HashMap<&EntryKey, ()> = gone
            .iter()
            .filter_map(|name| self.shards.get(name))
            .flat_map(|shard| &shard.0)
            .map(|e| (&e.key, ()))
            .collect();
        let mut arriving: HashMap<&EntryKey, ()> = HashMap::new();
        for (name, shard) in fetched {
            for entry in &shard.0 {
                let kind = match entry.key.0 {
                    EntryKind::Router => "routers",
                    EntryKind::Service => "services",
                    EntryKind::Certificate => continue,
                };
                let stays = self.has(&entry.key) && !leaving.contains_key(&entry.key);
                if stays || arriving.insert(&entry.key, ()).is_some() {
                    return Err(NotHandedOn::Invalid {
                        object: name.clone(),
                        field: format!("http.{kind}.{}", entry.key.1),
                        reason: "another shard has it too".to_owned(),
                    });
                }
            }
        }
        let mut found = Counts::default();
        for (name, shard) in self.shards.iter().chain(fetched) {
            let times = named.get(name).copied().unwrap_or_default();
            for entry in &shard.0 {
                match entry.key.0 {
                    EntryKind::Router => found.routers += times,
                    EntryKind::Service => found.services += times,
                    EntryKind::Certificate => found.certificates += times,
                }
            }
        }
        if found != index.counts {
            return Err(NotHandedOn::Counts { generation: index.generation, promised: index.counts, found });
        }
        Ok(())
    }

    /// Removes a shard. Entries that no other shard contains go to `removed`.
    fn remove(&mut self, name: &str, removed: &mut HashMap<EntryKey, Arc<str>>) {
        let Some(shard) = self.shards.remove(name) else { return };
        self.entries -= shard.0.len();
        for entry in shard.0 {
            let at = self.file_of(&entry.key, self.files.len());
            let Some(file) = self.files.get_mut(at) else { continue };
            if let Some(held) = file.get_mut(&entry.key) {
                held.times -= 1;
                if held.times == 0 {
                    file.remove(&entry.key);
                    removed.insert(entry.key, entry.line);
                }
            }
        }
    }

    /// Adds a shard. An entry that was `removed` and comes back unchanged is not a change.
    fn add(&mut self, name: String, shard: ShardEntries, removed: &mut HashMap<EntryKey, Arc<str>>) {
        self.entries += shard.0.len();
        for entry in &shard.0 {
            let at = self.file_of(&entry.key, self.files.len());
            let Some(file) = self.files.get_mut(at) else { continue };
            if let Some(held) = file.get_mut(&entry.key) {
                held.times += 1;
                continue;
            }
            let before = removed.remove(&entry.key);
            if before.is_none_or(|line| line != entry.line) {
                self.changed.insert(at);
            }
            file.insert(entry.key.clone(), Shared { line: Arc::clone(&entry.line), times: 1 });
        }
        self.shards.insert(name, shard);
    }

    /// Cuts everything again if there are now so many entries that they need more files. The number of files never
    /// shrinks.
    fn recut(&mut self) {
        let wanted = match self.entries {
            entries if entries <= SINGLE_FILE => 1,
            entries if entries <= FEWER_FILES => 64,
            _ => 128,
        };
        if wanted <= self.files.len() {
            return;
        }
        let mut files = vec![BTreeMap::new(); wanted];
        for (key, held) in std::mem::take(&mut self.files).into_iter().flatten() {
            let at = self.file_of(&key, wanted);
            if let Some(file) = files.get_mut(at) {
                file.insert(key, held);
            }
        }
        self.files = files;
        self.changed = (0..wanted).collect();
    }

    /// The number of files.
    pub fn file_count(&self) -> usize {
        self.files.len()
    }

    /// Whether a file may have changed since [`Self::written`].
    pub fn may_have_changed(&self, file: usize) -> bool {
        self.changed.contains(&file)
    }

    /// Marks everything as written.
    pub fn written(&mut self) {
        self.changed.clear();
    }

    /// The text of a file.
    pub fn file(&self, at: usize) -> String {
        self.document(self.files.get(at))
    }

    /// The lines of all entries of a kind, sorted by key.
    pub fn lines(&self, kind: EntryKind) -> Vec<String> {
        self.lines_of(&self.files, kind).into_iter().map(Cow::into_owned).collect()
    }

    fn lines_of<'a>(
        &'a self,
        files: impl IntoIterator<Item = &'a FileEntries>,
        wanted: EntryKind,
    ) -> Vec<Cow<'a, str>> {
        let mut lines: Vec<(&EntryKey, &Shared)> =
            files.into_iter().flatten().filter(|((kind, _), _)| *kind == wanted).collect();
        lines.sort_unstable_by_key(|(key, _)| *key);
        lines.into_iter().map(|(key, held)| self.renames.line(key, &held.line)).collect()
    }

    fn document<'a>(&'a self, files: impl IntoIterator<Item = &'a FileEntries> + Clone) -> String {
        let mut text = Document::new(String::new());
        self.lines_of(files.clone(), EntryKind::Router).iter().for_each(|line| text.router(line));
        self.lines_of(files.clone(), EntryKind::Service).iter().for_each(|line| text.service(line));
        text.finish_with_lines(&self.lines_of(files, EntryKind::Certificate).join(",\n"))
    }
}

type FileEntries = BTreeMap<EntryKey, Shared>;

#[cfg(test)]
mod tests {
    use super::*;

    fn router(key: &str, rule: &str) -> String {
        format!("\"{key}\":{{\"service\":\"s\",\"rule\":\"{rule}\"}}")
    }

    fn whole(assembly: &Assembly) -> String {
        assembly.document(&assembly.files)
    }

    fn shard(entries: &[(&str, &str)]) -> ShardEntries {
        let routers: Vec<String> = entries.iter().map(|(key, rule)| router(key, rule)).collect();
        ShardEntries::parse("x", &format!("{{\"http\":{{\"routers\":{{{}}}}}}}", routers.join(","))).unwrap()
    }

    fn certificates(lines: &[&str]) -> ShardEntries {
        let lines: Vec<String> =
            lines.iter().map(|line| format!("{{\"certFile\":\"{line}\",\"keyFile\":\"k\"}}")).collect();
        ShardEntries::parse("x", &format!("{{\"tls\":{{\"certificates\":[{}]}}}}", lines.join(","))).unwrap()
    }

    fn index(routers: usize, certificates: usize) -> Index {
        Index {
            format_version: 1,
            epoch: 1,
            generation: 1,
            counts: Counts { routers, services: 0, certificates },
            ..serde_json::from_str(
                "{\"formatVersion\":1,\"epoch\":1,\"generation\":1,\"publishedAt\":\"\",\"hash\":\"\",\"shards\":\"\",\
                 \"keyShards\":\"\",\"counts\":{\"routers\":0,\"services\":0,\"certificates\":0}}",
            )
            .unwrap()
        }
    }

    fn take(
        assembly: &mut Assembly,
        counts: (usize, usize),
        shards: Vec<(&str, ShardEntries)>,
    ) -> Result<(), NotHandedOn> {
        let mut named = BTreeMap::new();
        for (name, _) in &shards {
            *named.entry((*name).to_owned()).or_default() += 1;
        }
        let mut fetched = shards.into_iter().map(|(name, shard)| (name.to_owned(), shard)).collect();
        assembly.take(&index(counts.0, counts.1), &named, &mut fetched)
    }

    #[test]
    fn a_generation_is_taken_whole_or_not_at_all() {
        let mut assembly = Assembly::default();
        take(
            &mut assembly,
            (2, 1),
            vec![("a", shard(&[("x", "1"), ("y", "1")])), ("k", certificates(&["c"]))],
        )
        .unwrap();
        let before = whole(&assembly);
        assert!(before.contains("\"x\"") && before.contains("certFile"));

        let twice =
            vec![("a", ShardEntries::default()), ("k", ShardEntries::default()), ("b", shard(&[("x", "2")]))];
        let refused = take(&mut assembly, (3, 1), twice).unwrap_err();
        assert_eq!(refused.reason(), "invalid");
        assert!(refused.to_string().contains("http.routers.x"), "{refused}");
        let short = vec![("b", shard(&[("x", "2")]))];
        let refused = take(&mut assembly, (2, 0), short).unwrap_err();
        assert_eq!(refused.reason(), "counts");
        assert_eq!(whole(&assembly), before);

        // Moved from a shard to another.
        take(&mut assembly, (1, 0), vec![("b", shard(&[("x", "2")]))]).unwrap();
        assert_eq!(whole(&assembly), format!("{{\"http\":{{\"routers\":{{\n{}\n}}}}}}\n", router("x", "2")));
        take(&mut assembly, (0, 0), vec![]).unwrap();
        assert_eq!(whole(&assembly), "{}\n");
    }

    #[test]
    fn a_certificate_of_two_secrets_is_written_once_and_stays_with_either() {
        let mut assembly = Assembly::default();
        let both = || vec![("k", certificates(&["c"])), ("l", certificates(&["c", "d"]))];
        take(&mut assembly, (0, 3), both()).unwrap();
        let before = whole(&assembly);
        assert_eq!(before.matches("certFile").count(), 2);
        take(&mut assembly, (0, 2), vec![("l", certificates(&["c", "d"]))]).unwrap();
        assert_eq!(whole(&assembly), before);
    }

    /// Shards with the same text are one object, and the operator counts what it named.
    #[test]
    fn a_shard_counts_as_often_as_it_is_named() {
        let mut assembly = Assembly::default();
        let twice = || vec![("k", certificates(&["c"])), ("k", certificates(&["c"]))];
        assert_eq!(take(&mut assembly, (0, 1), twice()).unwrap_err().reason(), "counts");
        take(&mut assembly, (0, 2), twice()).unwrap();
        let before = whole(&assembly);
        assert_eq!(before.matches("certFile").count(), 1);
        take(&mut assembly, (0, 1), vec![("k", certificates(&["c"]))]).unwrap();
        assert_eq!(whole(&assembly), before);
        take(&mut assembly, (0, 0), vec![]).unwrap();
        assert_eq!(whole(&assembly), "{}\n");
    }

    #[test]
    fn many_entries_are_cut_into_files_and_a_change_touches_one() {
        let mut assembly = Assembly::default();
        let names: Vec<String> = (0..1_000).map(|at| format!("router-{at}")).collect();
        let entries: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        take(&mut assembly, (100, 0), vec![("a", shard(&entries[..100]))]).unwrap();
        assert_eq!(assembly.file_count(), 1);
        let shards = |last| vec![("a", shard(&entries[..100])), (last, shard(&entries[100..]))];
        take(&mut assembly, (1_000, 0), shards("b")).unwrap();
        assert_eq!(assembly.file_count(), 64);
        let largest = (0..64).map(|at| assembly.file(at).lines().count()).max().unwrap();
        assert!(largest < 40, "{largest}");
        assert_eq!((0..64).map(|at| assembly.file(at).matches("rule").count()).sum::<usize>(), 1_000);

        assembly.written();
        let mut changed = entries.clone();
        changed[500].1 = "2";
        let before: Vec<String> = (0..64).map(|at| assembly.file(at)).collect();
        take(&mut assembly, (1_000, 0), vec![("a", shard(&entries[..100])), ("c", shard(&changed[100..]))])
            .unwrap();
        let differ: Vec<usize> = (0..64).filter(|at| assembly.file(*at) != before[*at]).collect();
        let marked: Vec<usize> = (0..64).filter(|at| assembly.may_have_changed(*at)).collect();
        assert_eq!((differ.len(), differ), (1, marked));
        // It stays in as many files.
        take(&mut assembly, (1, 0), vec![("d", shard(&entries[..1]))]).unwrap();
        assert_eq!(assembly.file_count(), 64);
    }

    #[test]
    fn whoever_does_not_know_the_seed_can_not_fill_a_file() {
        let mut known = Assembly::new(1);
        let names: Vec<String> = (0..30_000).map(|at| format!("router-{at}")).collect();
        let key = |name: &String| (EntryKind::Router, name.as_str().into());
        let chosen: Vec<(&str, &str)> = names
            .iter()
            .filter(|name| known.file_of(&key(name), 64) == 0)
            .map(|name| (name.as_str(), "1"))
            .collect();
        assert!(chosen.len() > 300, "{}", chosen.len());
        let largest = |assembly: &mut Assembly| {
            take(assembly, (chosen.len(), 0), vec![("a", shard(&chosen))]).unwrap();
            (0..64).map(|at| assembly.file(at).matches("rule").count()).max().unwrap()
        };
        assert_eq!(largest(&mut known), chosen.len());
        let other = largest(&mut Assembly::new(2));
        assert!(other < 30, "{other}");
    }

    #[test]
    fn a_name_of_the_users_changes_files_when_it_comes_and_goes_alone() {
        let mut assembly = Assembly::default();
        take(&mut assembly, (2, 0), vec![("a", shard(&[("x", "1"), ("y", "1")]))]).unwrap();
        let plain = whole(&assembly);
        let users = |name: &str| BTreeSet::from([(EntryKind::Router, name.into())]);
        for (name, other) in [("x", true), ("x", false), ("z", true), ("z", false)] {
            assembly.written();
            let reasons = assembly.give_way(&users(name));
            assert_eq!(
                (reasons.len(), assembly.may_have_changed(0)),
                (usize::from(name == "x"), other),
                "{name}"
            );
            assert_eq!(whole(&assembly) == plain, name == "z");
        }
    }
}
