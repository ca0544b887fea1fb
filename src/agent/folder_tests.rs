use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn files(all: &[(&str, &str)]) -> BTreeMap<String, FileContent> {
    all.iter().map(|(name, text)| ((*name).to_owned(), FileContent::Text((*text).to_owned()))).collect()
}

fn open(root: &Path) -> Result<Folder, NotHandedOn> {
    Folder::open(root, &OutputKey::new("waybill", "waybill"))
}

fn generations(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root.join("generations")).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What Traefik would read, by name.
fn seen(root: &Path) -> BTreeMap<String, String> {
    fs::read_dir(root.join("dynamic/routing"))
        .unwrap()
        .flatten()
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
        .collect()
}

#[test]
fn a_generation_is_what_traefik_sees_and_private() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("waybill");
    let mut folder = open(&root).unwrap();
    assert_eq!(folder.current(), None);
    assert!(
        folder
            .write(CommitId::new(7, 41), files(&[("routing-00.yaml", "{}\n"), ("user.yaml", "u")]))
            .unwrap()
    );
    let sum = folder.current().unwrap().sum();
    assert_eq!(
        seen(&root),
        [
            (
                "generation.yaml",
                &*format!(
                    "{{\"http\":{{\"middlewares\":{{\"waybill-7-41\":{{\"addPrefix\":\
                     {{\"prefix\":\"/7/41/{sum}\"}}}}}}}}}}\n"
                )
            ),
            ("routing-00.yaml", "{}\n"),
            ("user.yaml", "u"),
        ]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into()
    );
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("current/routing-00.yaml"), mode("generations")), (0o600, 0o700));
    assert_eq!(folder.strangers(), Vec::<String>::new());
}

#[test]
fn what_changes_no_byte_writes_nothing_and_what_did_not_change_is_linked() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = open(place.path()).unwrap();
    folder.write(CommitId::new(1, 1), files(&[("a.yaml", "a"), ("b.yaml", "b")])).unwrap();
    let event = || fs::metadata(place.path().join("dynamic/changed")).unwrap().ino();
    let before = event();
    assert!(!folder.write(CommitId::new(1, 2), files(&[("a.yaml", "a"), ("b.yaml", "b")])).unwrap());
    assert_eq!((event(), folder.current().unwrap().commit.generation), (before, 1));

    let inode = |name: &str| fs::metadata(place.path().join("current").join(name)).unwrap().ino();
    let (a, b) = (inode("a.yaml"), inode("b.yaml"));
    let mut next = files(&[("a.yaml", "changed")]);
    next.insert("b.yaml".to_owned(), FileContent::Unchanged);
    assert!(folder.write(CommitId::new(1, 3), next).unwrap());
    assert!(inode("a.yaml") != a && inode("b.yaml") == b && event() != before);
    assert_eq!(fs::read_dir(place.path().join("generations")).unwrap().count(), 1);

    // A file less: its link goes too.
    folder.write(CommitId::new(1, 4), files(&[("a.yaml", "changed")])).unwrap();
    assert_eq!(seen(place.path()).into_keys().collect::<Vec<_>>(), ["a.yaml", "generation.yaml"]);
}

#[test]
fn a_restart_goes_on_with_what_is_there_when_its_sums_agree() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let mut folder = open(root).unwrap();
    folder.write(CommitId::new(1, 1), files(&[("a.yaml", "a"), ("b.yaml", "b")])).unwrap();
    let written = folder.current().cloned();
    drop(folder);
    assert_eq!(open(root).unwrap().current().cloned(), written);

    type Damage = fn(&Path);
    let damages: [Damage; 4] = [
        |root| fs::write(root.join("current/b.yaml"), "c").unwrap(),
        |root| fs::remove_file(root.join("dynamic/routing/b.yaml")).unwrap(),
        |root| fs::write(root.join("current/sums.json"), "{").unwrap(),
        |root| fs::remove_file(root.join("current")).unwrap(),
    ];
    for (at, damage) in damages.iter().enumerate() {
        damage(root);
        let mut folder = open(root).unwrap();
        assert_eq!(folder.current(), None, "{at}");
        assert!(folder.write(CommitId::new(1, 2), files(&[("a.yaml", "a"), ("b.yaml", "b")])).unwrap());
        drop(folder);
        assert_eq!(open(root).unwrap().current().unwrap().commit.generation, 2, "{at}");
    }
}

/// Killed between two steps of a change. Traefik refuses everything for a link to nothing, and reads only on an event.
#[test]
fn a_change_that_was_interrupted_is_finished() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let mut folder = open(root).unwrap();
    folder.write(CommitId::new(1, 1), files(&[("a.yaml", "a")])).unwrap();
    drop(folder);
    let event = || fs::metadata(root.join("dynamic/changed")).unwrap().ino();
    let before = event();

    // Before `current` was replaced: the next generation has a file more.
    symlink("../../current/b.yaml", root.join("dynamic/routing/b.yaml")).unwrap();
    let folder = open(root).unwrap();
    assert_eq!(seen(root).into_keys().collect::<Vec<_>>(), ["a.yaml", "generation.yaml"]);
    assert_eq!(
        (folder.current().unwrap().commit.generation, event()),
        (1, before),
        "nothing new for Traefik"
    );
    drop(folder);

    // After that, and before the event.
    fs::rename(root.join("generations/1"), root.join("generations/2")).unwrap();
    fs::remove_file(root.join("current")).unwrap();
    symlink("generations/2", root.join("current")).unwrap();
    drop(open(root).unwrap());
    let after = event();
    assert_ne!(after, before, "Traefik has to read");
    drop(open(root).unwrap());
    assert_eq!(event(), after);

    // A link to nothing that a failed attempt left.
    let mut folder = open(root).unwrap();
    symlink("../../current/b.yaml", root.join("dynamic/routing/b.yaml")).unwrap();
    assert!(folder.check());
    assert_eq!(seen(root).len(), 2);
}

#[test]
fn what_is_of_another_output_is_left_to_traefik_and_counts_as_nothing() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let of = |name: &str| Folder::open(root, &OutputKey::new("edge", name)).unwrap();
    of("old").write(CommitId::new(50, 90_000), files(&[("a.yaml", "a"), ("b.yaml", "b")])).unwrap();
    let before = seen(root);
    let mut folder = of("new");
    assert_eq!((folder.current(), folder.text("a.yaml"), seen(root)), (None, None, before));
    // Also what is the same for both is written anew: the marker is another one.
    assert!(folder.write(CommitId::new(1, 1), files(&[("a.yaml", "a")])).unwrap());
    assert_eq!(seen(root).into_keys().collect::<Vec<_>>(), ["a.yaml", "generation.yaml"]);
    drop(folder);
    assert_eq!(of("old").current(), None);
    assert_eq!(of("new").current().unwrap().commit.generation, 1);
}

/// Killed while it wrote a generation, and before it had removed the last one. Both may hold keys that were replaced.
#[test]
fn generations_that_nobody_reads_are_removed() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let leave_behind = || {
        for other in ["0", "7"] {
            fs::create_dir_all(root.join("generations").join(other)).unwrap();
            fs::write(root.join("generations").join(other).join("a.yaml"), "key").unwrap();
        }
    };
    leave_behind();
    let mut folder = open(root).unwrap();
    assert_eq!(generations(root), Vec::<String>::new());
    folder.write(CommitId::new(1, 1), files(&[("a.yaml", "a")])).unwrap();
    drop(folder);
    leave_behind();
    let mut folder = open(root).unwrap();
    assert_eq!((generations(root), &*seen(root)["a.yaml"]), (vec!["8".to_owned()], "a"));

    // Where a change fails half-way, whatever the step.
    for in_the_way in ["dynamic/changed", "link.new", "current.new"] {
        let _ = fs::remove_file(root.join(in_the_way));
        fs::create_dir_all(root.join(in_the_way).join("x")).unwrap();
        folder
            .write(
                CommitId::new(1, 2),
                files(&[("a.yaml", in_the_way), (&format!("{}.yaml", in_the_way.len()), "")]),
            )
            .unwrap_err();
        folder.check();
        assert_eq!(generations(root).len(), 1, "{in_the_way}");
        fs::remove_dir_all(root.join(in_the_way)).unwrap();
    }
    assert!(folder.write(CommitId::new(1, 2), files(&[("a.yaml", "b")])).unwrap());
    assert_eq!((generations(root).len(), &*seen(root)["a.yaml"]), (1, "b"));

    // `current` is not ours: which generation is read is not known.
    fs::remove_file(root.join("current")).unwrap();
    fs::create_dir(root.join("current")).unwrap();
    drop(folder);
    let _folder = open(root).unwrap();
    assert_eq!(generations(root).len(), 1);
}

#[test]
fn one_agent_a_folder() {
    let place = tempfile::tempdir().unwrap();
    let _first = open(place.path()).unwrap();
    let refused = open(place.path()).unwrap_err().to_string();
    assert!(refused.contains("another waybill agent"), "{refused}");
}

#[test]
fn what_can_t_be_written_leaves_the_last_generation_standing() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let mut folder = open(root).unwrap();
    folder.write(CommitId::new(1, 1), files(&[("a.yaml", "a")])).unwrap();
    let before = seen(root);
    // A file where a folder belongs stands for everything that can go wrong; root ignores a read-only mode.
    fs::rename(root.join("generations"), root.join("aside")).unwrap();
    fs::write(root.join("generations"), "").unwrap();
    let refused = folder.write(CommitId::new(1, 2), files(&[("a.yaml", "b")])).unwrap_err();
    assert_eq!(refused.reason(), "folder");
    fs::remove_file(root.join("generations")).unwrap();
    fs::rename(root.join("aside"), root.join("generations")).unwrap();
    assert_eq!((seen(root), folder.current().unwrap().commit.generation), (before, 1));
    assert!(folder.write(CommitId::new(1, 2), files(&[("a.yaml", "b")])).unwrap());
    assert_eq!(seen(root)["a.yaml"], "b");
}

#[test]
fn a_folder_says_before_it_is_needed_that_it_can_t_be_written() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let mut folder = open(root).unwrap();
    folder.check_writable().unwrap();
    folder.write(CommitId::new(1, 1), files(&[("a.yaml", "a")])).unwrap();
    let event = || fs::metadata(root.join("dynamic")).unwrap().modified().unwrap();
    let before = event();
    folder.check_writable().unwrap();
    assert_eq!(event(), before, "nothing new for Traefik");
    fs::rename(root.join("generations"), root.join("aside")).unwrap();
    fs::write(root.join("generations"), "").unwrap();
    let refused = folder.check_writable().unwrap_err().to_string();
    assert!(refused.contains(root.join("generations").to_str().unwrap()), "{refused}");
    if !rustix::process::geteuid().is_root() {
        fs::set_permissions(root, fs::Permissions::from_mode(0o500)).unwrap();
        let refused = open(&root.join("other")).unwrap_err().to_string();
        assert!(refused.contains("Permission denied"), "{refused}");
        fs::set_permissions(root, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn strange_files_are_named_and_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    fs::create_dir_all(root.join("dynamic/routing")).unwrap();
    fs::create_dir_all(root.join("generations/keep")).unwrap();
    for name in ["dynamic/mine.yaml", "dynamic/routing/theirs.yaml", "dynamic/routing/a.yaml"] {
        fs::write(root.join(name), "x").unwrap();
    }
    let mut folder = open(root).unwrap();
    folder.write(CommitId::new(1, 1), files(&[("a.yaml", "a")])).unwrap();
    assert_eq!(folder.strangers(), ["dynamic/mine.yaml", "dynamic/routing/theirs.yaml"]);
    assert_eq!(seen(root)["a.yaml"], "a");
    assert!(root.join("generations/keep").exists());
}

#[test]
fn the_seed_is_kept_with_what_is_on_disk() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = open(place.path()).unwrap();
    let seed = folder.seed();
    folder.write(CommitId::new(1, 1), files(&[("a.yaml", "a")])).unwrap();
    assert!(folder.check());
    drop(folder);
    assert_eq!(open(place.path()).unwrap().seed(), seed);
    // An older agent wrote none.
    let sums = place.path().join("current/sums.json");
    let text = fs::read_to_string(&sums).unwrap().replace(&format!(",\"seed\":{seed}"), "");
    fs::write(&sums, text).unwrap();
    let folder = open(place.path()).unwrap();
    assert!(folder.current().is_some() && ![0, seed].contains(&folder.seed()));
}
