use super::*;

fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, Include) {
    let place = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(place.path().join(name), text).unwrap();
    }
    let include = Include::new(place.path().to_owned());
    (place, include)
}

fn document(include: &Include) -> String {
    include.included().unwrap().document()
}

#[test]
fn files_are_joined_and_templates_become_text() {
    let (place, mut include) = folder(&[
        ("a.yaml", "http:\n  middlewares:\n    auth:\n      basicAuth: {users: ['{{ env \"HOME\" }}']}\n"),
        ("b.toml", "[http.middlewares.strip.stripPrefix]\nprefixes = [\"/x\"]\n"),
        ("c.yml", "tls: {certificates: [{certFile: a, keyFile: b}]}"),
        ("ignored.txt", "?"),
        ("empty.yaml", "\n"),
    ]);
    assert!(include.reload());
    assert!(!include.reload());
    assert_eq!(include.faults(), Vec::<String>::new());
    assert_eq!(
        document(&include),
        "{\"http\":{\"middlewares\":{\n\
         \"auth\":{\"basicAuth\":{\"users\":[\"\\u007b\\u007b env \\\"HOME\\\" }}\"]}},\n\
         \"strip\":{\"stripPrefix\":{\"prefixes\":[\"/x\"]}}\n\
         }},\"tls\":{\"certificates\":[\n{\"certFile\":\"a\",\"keyFile\":\"b\"}\n]}}\n"
    );
    std::fs::remove_file(place.path().join("a.yaml")).unwrap();
    assert!(include.reload());
    assert!(!document(&include).contains("auth"));
}

/// Traefik's parser knows only these booleans.
#[test]
fn what_is_a_text_for_traefik_stays_one() {
    let headers = "A: off, B: no, C: y, D: On, E: 0123, F: TRUE, G: false";
    let file = format!("http: {{middlewares: {{h: {{headers: {{customResponseHeaders: {{{headers}}}}}}}}}}}");
    let (_place, mut include) = folder(&[("a.yaml", &file)]);
    assert!(include.reload());
    let document = document(&include);
    let wanted = r#"{"A":"off","B":"no","C":"y","D":"On","E":83,"F":true,"G":false}"#;
    assert!(document.contains(wanted), "{document}");
}

#[test]
fn a_fault_quotes_nothing_of_a_file() {
    let yaml = "http:\n  middlewares:\n    auth:\n      basicAuth:\n        users: [\"admin:$2y$05$hash\"]\n        realm: a: b\n";
    let twice = "admin:$2y$05$hash: 1\nadmin:$2y$05$hash: 2\n";
    let (_place, mut include) =
        folder(&[("a.yaml", yaml), ("b.yaml", twice), ("c.toml", "[http]\nkey = \"$2y$05$hash\nx = 1\n")]);
    include.reload();
    let faults = include.faults();
    assert_eq!(faults.len(), 3, "{faults:?}");
    for fault in &faults {
        assert!(!fault.contains("$2y$") && !fault.contains('\n'), "{fault}");
    }
    assert!(faults[0].contains("a.yaml") && faults[0].contains("line 6, column"), "{faults:?}");
}

#[test]
fn a_bad_file_costs_no_other_and_counts_as_it_was() {
    let (place, mut include) = folder(&[
        ("a.yaml", "http: {middlewares: {one: {addPrefix: {prefix: /a}}}}"),
        ("b.yaml", "http: {middlewares: {two: {addPrefix: {prefix: /b}}}}"),
    ]);
    include.reload();
    for (bad, said) in [
        ("http: {}", "http: it is empty"),
        ("http: {middleware: {a: {b: c}}}", "http.middleware: Traefik knows only"),
        ("htp: {routers: {a: {b: c}}}", "htp: Traefik has no such section"),
        ("http: {routers: {}}", "http.routers: it is empty"),
        ("http: {routers: {a: {}}}", "http.routers.a: it is empty"),
        ("http: {middlewares: {waybill-1-2: {addPrefix: {prefix: /}}}}", "waybill's own"),
        ("a: b: c", "a.yaml"),
        ("[1]", "not a map"),
    ] {
        std::fs::write(place.path().join("a.yaml"), bad).unwrap();
        assert!(include.reload(), "{bad}");
        let faults = include.faults().join("\n");
        assert!(
            faults.contains(said) && faults.contains("its previous content stays in use"),
            "{bad}: {faults}"
        );
        let document = document(&include);
        assert!(document.contains("\"one\"") && document.contains("\"two\""), "{document}");
    }
}

#[test]
fn names_that_collide_are_refused() {
    let (_place, mut include) = folder(&[
        ("a.yaml", "http: {routers: {x: {rule: a, service: s}, y: {rule: b, service: s}}}"),
        ("b.yaml", "http: {routers: {y: {rule: c, service: s}}}"),
    ]);
    include.reload();
    assert_eq!(include.faults(), ["b.yaml: http.routers.y: another file has it too"]);
    let included = include.included().unwrap();
    assert_eq!(included.lines("http", "routers").len(), 2);
    assert_eq!(included.keys(), ["x", "y"].map(|name| (EntryKind::Router, name.into())).into());
}

#[test]
fn a_folder_that_is_gone_changes_nothing() {
    let (place, mut include) = folder(&[("a.yaml", "http: {middlewares: {one: {addPrefix: {prefix: /a}}}}")]);
    include.reload();
    let before = document(&include);
    drop(place);
    assert!(include.reload());
    assert!(!include.reload(), "it is told once");
    assert_eq!((document(&include), include.faults().len()), (before, 1));
}

#[test]
fn what_traefik_does_not_load_is_taken_back() {
    let (place, mut include) =
        folder(&[("a.yaml", "http: {middlewares: {one: {addPrefix: {prefix: /good}}}}")]);
    let change = |include: &mut Include, field: &str| {
        let text = format!("http: {{middlewares: {{one: {{addPrefix: {{{field}: /a}}}}}}}}");
        std::fs::write(place.path().join("a.yaml"), text).unwrap();
        assert!(include.reload());
    };
    include.reload();
    include.handed_on();
    assert!(!include.not_loaded(), "there is nothing to go back to");
    let before = document(&include);
    include = Include::new(place.path().to_owned());
    include.resume(&before);
    include.loaded();
    assert!(include.reload());
    include.handed_on();
    assert!(!include.not_loaded(), "another cause: these files were loaded before");

    change(&mut include, "prefx");
    assert!(!include.not_loaded(), "it is not handed on yet");
    include.handed_on();
    assert!(include.not_loaded());
    assert!(document(&include).contains("/good"));
    assert!(include.faults().concat().contains("Traefik did not load"), "{:?}", include.faults());
    include.handed_on();
    include.loaded();
    assert_eq!(include.faults().len(), 1, "the files are as wrong as before");
    // A Traefik that was started anew and takes long says nothing about them.
    assert!(!include.not_loaded());
    assert!(document(&include).contains("/good"));

    // A change is tried. Where going back does not help either, it was something else.
    change(&mut include, "prefix");
    assert_eq!(include.faults(), Vec::<String>::new());
    include.handed_on();
    assert!(include.not_loaded());
    include.handed_on();
    assert!(include.not_loaded());
    assert!(document(&include).contains("prefix\":\"/a"));
    include.handed_on();
    assert!(!include.not_loaded());
    include.loaded();
    assert_eq!(include.faults(), Vec::<String>::new());
}

const OPTIONS: &str = "tls: {options: {default: {clientAuth: {clientAuthType: RequireAndVerifyClientCert}}}}";

/// What `tls.yaml` is when an agent starts, and what the fault says. `None` is no folder.
const WRONG: [(Option<&str>, &str); 3] = [
    (Some("tls: {options: {default: {clientAuth"), "tls.yaml: "),
    (Some("tls: {options: {default: {}}}"), "tls.yaml: tls.options.default: it is empty"),
    (None, "No such file"),
];

fn wrong_at_start(text: Option<&str>) -> (tempfile::TempDir, Include) {
    let (place, mut include) = folder(&[]);
    match text {
        Some(text) => std::fs::write(place.path().join("tls.yaml"), text).unwrap(),
        None => include = Include::new(place.path().join("later")),
    }
    (place, include)
}

#[test]
fn a_file_that_is_wrong_at_the_start_leaves_what_was_on_disk() {
    let (_place, mut include) = folder(&[("tls.yaml", OPTIONS)]);
    include.reload();
    let before = document(&include);
    for (text, said) in WRONG {
        let (place, mut include) = wrong_at_start(text);
        assert!(include.resume(&before));
        assert!(include.reload());
        assert_eq!(document(&include), before, "{text:?}");
        let faults = include.faults().concat();
        assert!(
            faults.contains(said) && faults.ends_with("; the content that is on disk stays in use"),
            "{faults}"
        );

        // Traefik loads it, and does so again with the next generation: nothing to take back.
        include.loaded();
        include.handed_on();
        assert!(!include.not_loaded());

        // Other files are not read by half, and the fix counts.
        let folder = include.folder.clone();
        std::fs::create_dir_all(&folder).unwrap();
        if text.is_some() {
            std::fs::write(folder.join("a.yaml"), "http: {middlewares: {a: {addPrefix: {prefix: /a}}}}")
                .unwrap();
            assert!(include.reload());
            assert_eq!(document(&include), before, "{text:?}");
        }
        std::fs::write(folder.join("tls.yaml"), OPTIONS.replace("AndVerify", "Any")).unwrap();
        assert!(include.reload());
        assert!(document(&include).contains("RequireAnyClientCert"), "{text:?}");
        assert_eq!(include.faults(), Vec::<String>::new());
        drop(place);
    }
    // Before, there was no such file.
    let (_place, mut include) = wrong_at_start(WRONG[0].0);
    assert!(include.resume(""));
    include.reload();
    assert_eq!(document(&include), Included::default().document());
}

#[test]
fn without_anything_from_before_nothing_is_handed_on_until_the_files_are_right() {
    for (text, said) in WRONG {
        let (_place, mut include) = wrong_at_start(text);
        assert!(!include.resume("{"), "it can't be used");
        assert!(include.reload());
        assert_eq!(include.included(), None, "{text:?}");
        let faults = include.faults().concat();
        let nothing = "; nothing is handed to Traefik until it is fixed";
        assert!(faults.contains(said) && faults.ends_with(nothing), "{faults}");

        let folder = include.folder.clone();
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("tls.yaml"), OPTIONS).unwrap();
        assert!(include.reload());
        assert!(document(&include).contains("clientAuth"), "{text:?}");

        // From now on a new file that is wrong costs nobody anything.
        std::fs::write(folder.join("new.yaml"), "http: {}").unwrap();
        assert!(include.reload());
        assert!(document(&include).contains("clientAuth"), "{text:?}");
        let faults = include.faults().concat();
        assert!(
            faults.contains("new.yaml") && faults.ends_with("; it is left out until it is fixed"),
            "{faults}"
        );
        std::fs::write(folder.join("tls.yaml"), "tls: {}").unwrap();
        assert!(include.reload());
        assert!(document(&include).contains("clientAuth"), "{text:?}");
    }
    // A file that is taken away is right as well.
    let (place, mut include) = wrong_at_start(WRONG[0].0);
    include.reload();
    std::fs::remove_file(place.path().join("tls.yaml")).unwrap();
    assert!(include.reload());
    assert_eq!(include.included(), Some(&Included::default()));
}
