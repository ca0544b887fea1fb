//! An agent's folder, followed: inotify reports every replacement of `current`, and every event that Traefik would read
//! on. So no generation is missed but those that are gone before they can be read.

use std::collections::BTreeMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
#[cfg(test)]
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use serde::Deserialize;
use waybill::published::read::{self, Published};
use waybill::table::Digest;
use waybill::traefik::dynamic::{Configuration, Http, Tls};

#[cfg(test)]
use super::harness::eventually;
use super::legal::Legal;
use super::world;

/// Epoch and generation.
pub type Mark = (u64, u64);

pub struct Disk {
    folder: PathBuf,
    output: &'static str,
    legal: Arc<Legal>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    last: Option<Mark>,
    /// Generations and their hashes since [`Disk::take`].
    generations: Vec<(Mark, String)>,
    /// The sums of what a Traefik has read on the last event that it could read everything on.
    loaded: Option<String>,
}

/// As `sums.json` has it.
#[derive(Deserialize)]
struct Sums {
    epoch: u64,
    generation: u64,
    files: BTreeMap<String, String>,
}

impl Disk {
    /// Makes the folder, and follows it until it is removed.
    pub fn follow(folder: PathBuf, output: &'static str, legal: Arc<Legal>) -> Arc<Self> {
        fs::create_dir_all(folder.join("dynamic")).unwrap();
        let events = inotify::init(CreateFlags::CLOEXEC).unwrap();
        let flags = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        for watched in [folder.clone(), folder.join("dynamic")] {
            inotify::add_watch(&events, &watched, flags).unwrap();
        }
        let disk = Arc::new(Self { folder, output, legal, seen: Mutex::default() });
        let follower = Arc::clone(&disk);
        std::thread::spawn(move || follower.run(events));
        disk
    }

    fn run(&self, events: OwnedFd) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(events, &mut buffer);
        while let Ok(event) = events.next() {
            let replaced = event.events().contains(ReadFlags::MOVED_TO);
            match event.file_name().and_then(|name| name.to_str().ok()) {
                Some("current") if replaced => self.replaced(),
                Some("current") => self.violated("for a moment there was no `current`"),
                Some("changed") if replaced => self.load(),
                _ if event.events().contains(ReadFlags::IGNORED) => return,
                _ => {}
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    fn violated(&self, what: &str) {
        self.legal.violated(format!("{}: {what}", self.folder.display()));
    }

    fn replaced(&self) {
        let current = || fs::read_link(self.folder.join("current"));
        loop {
            let Ok(link) = current() else { return };
            match generation(&self.folder.join(&link)) {
                Ok((mark, configuration)) => return self.took(mark, &configuration),
                // A generation is removed once there is another one.
                Err(_) if current().ok().as_ref() != Some(&link) => {}
                Err(why) => return self.violated(&why),
            }
        }
    }

    fn took(&self, mark: Mark, configuration: &Configuration) {
        let hash = read::hash(configuration).to_string();
        let last = self.seen().last.replace(mark);
        if last.is_some_and(|last| last > mark) {
            self.violated(&format!("epoch and generation {mark:?} after {last:?}"));
        }
        for fault in self.legal.faults(self.output, configuration) {
            self.violated(&format!("epoch and generation {mark:?}: {fault}"));
        }
        self.seen().generations.push((mark, hash));
    }

    /// Loads as Traefik does: through the links, and nothing where one leads nowhere.
    fn load(&self) {
        let sums = self.sums();
        if sums.is_ok() && self.links().iter().all(|link| link.exists()) {
            self.seen().loaded = sums.ok();
        }
    }

    fn sums(&self) -> Result<String, String> {
        fs::read_to_string(self.folder.join("current/sums.json")).map_err(|error| error.to_string())
    }

    fn links(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.join("dynamic/routing")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| !path.ends_with(MARKER)).collect()
    }

    /// What was on disk since this was asked last.
    pub fn take(&self) -> Vec<(Mark, String)> {
        std::mem::take(&mut self.seen().generations)
    }

    /// Whether it is what is published: on disk, for the Traefik that runs, and for one that starts now.
    pub fn compare(&self, published: &Published) -> Result<(), String> {
        let (mark, _) = generation(&self.folder.join("current"))?;
        let wanted = &published.index.hash;
        let starts = read::hash(&joined(self.links().into_iter())?).to_string();
        if starts != *wanted {
            let generation = published.index.generation;
            return Err(format!("{mark:?} is {starts}, and generation {generation} is {wanted}"));
        }
        if self.seen().loaded == Some(self.sums()?) {
            Ok(())
        } else {
            Err(format!("no event that Traefik could read {mark:?} on"))
        }
    }
}

const MARKER: &str = "generation.yaml";

/// Reads a generation: every file with its sum, and no other.
fn generation(folder: &Path) -> Result<(Mark, Configuration), String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", folder.display());
    let sums = fs::read(folder.join("sums.json")).map_err(|error| failed(&error))?;
    let sums: Sums = serde_json::from_slice(&sums).map_err(|error| failed(&error))?;
    let mut there: Vec<String> = fs::read_dir(folder)
        .map_err(|error| failed(&error))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name != MARKER && name != "sums.json")
        .collect();
    there.sort_unstable();
    if !there.iter().eq(sums.files.keys()) {
        return Err(failed(&format!("{there:?} are there, and not {:?}", sums.files)));
    }
    for (name, sum) in &sums.files {
        let text = fs::read_to_string(folder.join(name)).map_err(|error| failed(&error))?;
        if Digest::new(&text).to_string() != *sum {
            return Err(failed(&format!("{name} is not what its sum says")));
        }
    }
    let configuration =
        joined(sums.files.keys().map(|name| folder.join(name))).map_err(|error| failed(&error))?;
    let certificates = configuration.tls.iter().flat_map(|tls| &tls.certificates);
    let key = world::private_key();
    if certificates.clone().any(|certificate| *certificate.key_file != *key) {
        return Err(failed(&"a certificate has another key than its own"));
    }
    Ok(((sums.epoch, sums.generation), configuration))
}

/// Files together; a router or service that is in two of them is of two generations.
fn joined(files: impl Iterator<Item = PathBuf>) -> Result<Configuration, String> {
    let (mut http, mut tls) = (Http::default(), Tls::default());
    for path in files {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let text = fs::read_to_string(&path).map_err(|error| failed(&error))?;
        let file: Configuration = serde_json::from_str(&text).map_err(|error| failed(&error))?;
        let of_file = file.http.unwrap_or_default();
        for (key, router) in of_file.routers {
            if http.routers.insert(key.clone(), router).is_some() {
                return Err(failed(&format!("router {key} is in another file too")));
            }
        }
        for (key, service) in of_file.services {
            if http.services.insert(key.clone(), service).is_some() {
                return Err(failed(&format!("service {key} is in another file too")));
            }
        }
        tls.certificates.extend(file.tls.unwrap_or_default().certificates);
    }
    Ok(Configuration { http: Some(http), tls: Some(tls) })
}

/// Whoever sees nothing finds no fault.
#[tokio::test]
async fn what_may_not_be_on_disk_is_seen() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("agent");
    let legal = Arc::new(Legal::default());
    let disk = Disk::follow(root.clone(), world::OUTPUTS[1], Arc::clone(&legal));
    let write = |number: u64, generation: u64, text: &str, sum: &str| {
        let folder = root.join(format!("generations/{number}"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("a.yaml"), text).unwrap();
        let sums = serde_json::json!({"epoch": 1, "generation": generation, "files": {"a.yaml": sum}});
        fs::write(folder.join("sums.json"), sums.to_string()).unwrap();
        let draft = root.join("current.new");
        std::os::unix::fs::symlink(format!("generations/{number}"), &draft).unwrap();
        fs::rename(draft, root.join("current")).unwrap();
    };
    let sum = Digest::new("{}").to_string();
    // The routing of the chaos test is not in it either.
    let told = || {
        let mut told = legal.violations();
        told.retain(|what| !what.ends_with(" is missing"));
        told
    };
    // One after the other: what is replaced at once need not be seen.
    let seen = async |violations: usize, generations: usize| {
        eventually("it is seen", Duration::from_secs(10), async || {
            let seen = (told().len(), disk.seen().generations.len());
            if seen == (violations, generations) { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    };
    write(1, 7, "{}", "another");
    seen(1, 0).await;
    write(2, 7, "{}", &sum);
    seen(1, 1).await;
    write(3, 6, "{}", &sum);
    seen(2, 2).await;
    fs::remove_file(root.join("current")).unwrap();
    seen(3, 2).await;
    let texts = ["what its sum says", "(1, 6) after", "no `current`"];
    assert!(told().iter().zip(texts).all(|(said, text)| said.contains(text)));
}
