//! What the API server's own log says of the writes: epochs never go back, and nobody shares one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use waybill::published::index::Index;

use super::disk::Mark;
use super::harness::AuditEvent;
use super::world::OUTPUTS;

/// The log, read further with every look. The API server begins a new file every 100 MB, and names the old one after
/// the time.
pub struct Log {
    folder: PathBuf,
    /// Bytes of each file that were read, by inode.
    read: BTreeMap<u64, u64>,
    rest: String,
    /// The last successful write of each index.
    last: BTreeMap<String, Written>,
    /// Who has written under an epoch of an output.
    writers: BTreeMap<(String, u64), String>,
    /// The hashes of an output that were written, or tried to be, by epoch and generation.
    hashes: BTreeMap<(String, Mark), BTreeSet<String>>,
    pub commits: u64,
    pub late: u64,
}

#[derive(Clone, Debug)]
struct Written {
    epoch: u64,
    by: String,
    /// The resourceVersion that it replaced; 0 for none.
    over: u64,
}

impl Log {
    pub fn new(folder: &std::path::Path) -> Self {
        Self {
            folder: folder.to_owned(),
            read: BTreeMap::new(),
            rest: String::new(),
            last: BTreeMap::new(),
            writers: BTreeMap::new(),
            hashes: BTreeMap::new(),
            commits: 0,
            late: 0,
        }
    }

    /// The whole lines since the last look.
    fn more(&mut self) -> String {
        let mut text = std::mem::take(&mut self.rest);
        for mut file in self.files() {
            let read = self.read.entry(file.metadata().unwrap().ino()).or_default();
            file.seek(SeekFrom::Start(*read)).unwrap();
            *read += file.read_to_string(&mut text).unwrap() as u64;
        }
        let end = text.rfind('\n').map_or(0, |end| end + 1);
        self.rest = text.split_off(end);
        text
    }

    /// All files, the oldest first.
    fn files(&self) -> Vec<File> {
        loop {
            // What is begun anew meanwhile is among the old ones the next time.
            let Ok(newest) = File::open(self.folder.join("audit.log")) else { return Vec::new() };
            let names = std::fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path());
            let old = |path: &PathBuf| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with("audit-") && name.ends_with(".log")
            };
            let old: BTreeSet<PathBuf> = names.filter(old).collect();
            let files: Vec<File> =
                old.iter().filter_map(|path| File::open(path).ok()).chain([newest]).collect();
            let inodes: BTreeSet<u64> = files.iter().map(|file| file.metadata().unwrap().ino()).collect();
            if files.len() == old.len() + 1 && inodes.len() == files.len() {
                return files;
            }
        }
    }

    /// Looks at what came since the last time. Gives what is wrong, and the text for others to look at.
    pub fn look(&mut self) -> (Vec<String>, String) {
        let text = self.more();
        let mut faults = Vec::new();
        for line in text.lines() {
            // A line that was begun when the API server was killed.
            let Ok(event) = serde_json::from_str::<AuditEvent>(line) else { continue };
            if event.stage == "ResponseComplete"
                && event.user_agent.starts_with("waybill/")
                && event.is_write()
            {
                self.write(&event, &mut faults);
            }
        }
        (faults, text)
    }

    fn write(&mut self, event: &AuditEvent, faults: &mut Vec<String>) {
        if event.object_ref.resource != "leases" && !event.uri.contains("timeout=") {
            faults.push(format!("a write without a time-out: {event:?}"));
        }
        let output = format!("{}/{}", event.object_ref.namespace, event.object_ref.name);
        let of_index = event.object_ref.resource == "configmaps" && OUTPUTS.contains(&output.as_str());
        if !of_index || !matches!(event.verb.as_str(), "create" | "update") {
            return;
        }
        let done = (200..300).contains(&event.code());
        // An API server that has lost etcd refuses before it reads what it is sent.
        if !done && event.request_object.is_null() {
            return;
        }
        let text = event.request_object["data"]["index.json"].as_str().unwrap_or_default();
        let Ok(index) = Index::parse(text) else {
            faults.push(format!("an index that is none: {event:?}"));
            return;
        };
        let hashes = self.hashes.entry((output.clone(), (index.epoch, index.generation))).or_default();
        hashes.insert(index.hash.clone());
        let over = event.request_object["metadata"]["resourceVersion"].as_str();
        let over = over.and_then(|version| version.parse().ok()).unwrap_or_default();
        let written = Written { epoch: index.epoch, by: event.user_agent.clone(), over };
        let writer = self.writers.entry((output.clone(), index.epoch)).or_insert_with(|| written.by.clone());
        if *writer != written.by {
            faults.push(format!("{output}: epoch {} is of {writer} and of {}", index.epoch, written.by));
        }
        let last = self.last.get(&output);
        let older = last.is_some_and(|last| last.epoch > index.epoch);
        if !done {
            self.late += u64::from(older);
            return;
        }
        self.commits += 1;
        // The log has its lines in the order of the answers: what was replaced tells which write came first.
        if older && last.is_none_or(|last| over == 0 || over > last.over) {
            faults.push(format!("{output}: {written:?} succeeded after {last:?}"));
        }
        if !older {
            self.last.insert(output, written);
        }
    }

    /// What a generation was published with; nothing where no line of the log tells of it.
    pub fn hashes(&self, output: &str, mark: Mark) -> Option<&BTreeSet<String>> {
        self.hashes.get(&(output.to_owned(), mark))
    }

    /// Epochs that were written under so far, each output for itself.
    pub fn epochs(&self) -> u64 {
        self.writers.len() as u64
    }
}

#[test]
fn a_late_write_that_succeeds_is_seen_and_one_that_fails_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new(folder.path());
    let line = |by: &str, epoch: u64, over: u64, code: u16| {
        let index = serde_json::json!({
            "formatVersion": 1, "epoch": epoch, "generation": 1, "publishedAt": "", "hash": "", "shards": "",
            "keyShards": "", "counts": {"routers": 0, "services": 0, "certificates": 0},
        });
        let event = serde_json::json!({
            "auditID": "1", "stage": "ResponseComplete", "requestURI": "/x?timeout=1s", "verb": "update",
            "user": {"username": "u"}, "userAgent": format!("waybill/1 ({by})"), "stageTimestamp": "",
            "objectRef": {"resource": "configmaps", "namespace": "waybill", "name": "waybill"},
            "responseStatus": {"code": code},
            "requestObject": {
                "metadata": {"resourceVersion": over.to_string()}, "data": {"index.json": index.to_string()},
            },
        });
        format!("{event}\n")
    };
    let text = line("a", 1, 10, 200) + &line("b", 2, 20, 200) + &line("a", 1, 15, 409);
    std::fs::write(folder.path().join("audit.log"), &text).unwrap();
    assert_eq!(log.look().0, Vec::<String>::new());
    assert_eq!((log.commits, log.late, log.epochs()), (2, 1, 2));
    // Begun anew twice, and a line that is not whole.
    let current = folder.path().join("audit.log");
    std::fs::rename(&current, folder.path().join("audit-1.log")).unwrap();
    std::fs::write(folder.path().join("audit-2.log"), line("a", 1, 30, 200)).unwrap();
    std::fs::write(&current, line("c", 2, 40, 200) + "{").unwrap();
    let faults = log.look().0;
    assert_eq!(faults.len(), 2, "{faults:#?}");
    assert!(faults[0].contains("succeeded after") && faults[1].contains("epoch 2 is of"), "{faults:#?}");
    assert_eq!(log.rest, "{");
}
