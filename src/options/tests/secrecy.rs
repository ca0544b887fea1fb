//! No input makes the reader panic, and none makes it show a token.

use proptest::prelude::*;

use super::*;
use crate::kubernetes::client::Token;
use crate::options::table::TABLE;

const SECRET: &str = "S3CRETS3CRET";

/// Everything that a program could print after loading.
fn printed(result: &Result<Loaded, OptionFaults>) -> String {
    match result {
        Ok(loaded) => format!(
            "{loaded:?}{:#?}{}{}",
            loaded.options,
            loaded.warnings.join("\n"),
            loaded.notes().join("\n")
        ),
        Err(faults) => format!("{faults}{faults:?}"),
    }
}

#[test]
fn slips_around_the_token_do_not_show_it() {
    let key = "providers.kubernetesIngress.token";
    let flags = [
        format!("--{key}={SECRET}"),
        format!("--{key}:{SECRET}"),
        format!("--{key}.x={SECRET}"),
        format!("--{key}n={SECRET}"),
        format!("--{key}={SECRET}\nx"),
        format!("--providers.kubernetesingress.endpoint=x --{key}={SECRET}"),
        format!("--providers.kubernetesingress.endpoint=https://u:{SECRET}@x"),
    ];
    for flag in &flags {
        let output = printed(&try_load(&[flag], &[], &[]));
        assert!(!output.contains(SECRET), "{flag}: {output}");
    }
    let split =
        split_arguments(["w", "--providers.kubernetesingress.tokn", SECRET].map(OsString::from), &["run"]);
    assert_eq!(split.rest, ["w"], "what may be a token is not left for clap to show");
    for variable in ["TOKEN", "TOKE", "TOKEN_X", "ENDPOINT_TOKEN"] {
        let name = format!("TRAEFIK_PROVIDERS_KUBERNETESINGRESS_{variable}");
        let output = printed(&try_load(&[], &[(&name, SECRET)], &[]));
        assert!(!output.contains(SECRET), "{name}: {output}");
    }
    for file in [
        format!("providers:\n  kubernetesIngress:\n    token: {SECRET}\n"),
        format!("providers:\n  kubernetesIngress:\n    token:{SECRET}\n"),
        format!("providers:\n  kubernetesIngress:\n    endpoint: x\n     token:{SECRET}\n"),
        format!("providers:\n  kubernetesIngress:\n    endpoint: x\n    token:{SECRET}\n"),
        format!("providers:\n  kubernetesIngress:\n    token: [{SECRET}]\n"),
        format!("providers:\n  kubernetesIngress:\n    token: {{x: {SECRET}}}\n"),
        format!("providers:\n  kubernetesIngress:\n    tokens: {SECRET}\n"),
        format!("providers:\n  kubernetesIngress:\n    token: \"{SECRET}\n"),
        format!("providers:\n  kubernetesIngress:\n    token: *{SECRET}\n"),
        format!("providers:\n  kubernetesIngress:\n    token: !!int {SECRET}\n"),
        format!("providers:\n  kubernetesIngress:\n   token: {SECRET}\n    x: y\n"),
        format!("providers:\n  kubernetesIngress: token={SECRET}\n"),
        format!("token: {SECRET}\n"),
    ] {
        let output = printed(&from_yaml_str(&file));
        assert!(!output.contains(SECRET), "{file}: {output}");
    }
    for file in [
        format!("[providers.kubernetesIngress]\ntoken = {SECRET}\n"),
        format!("[providers.kubernetesIngress]\ntoken = \"{SECRET}\n"),
        format!("[providers.kubernetesIngress]\ntoken = [\"{SECRET}\"]\n"),
        format!("[providers.kubernetesIngress]\ntoken \"{SECRET}\"\n"),
    ] {
        let output = printed(&try_load(&["--configfile=f.toml"], &[], &[("f.toml", &file)]));
        assert!(!output.contains(SECRET), "{file}: {output}");
    }
    let loaded = with_flags(&[&flags[0]]);
    assert_eq!(loaded.options.access.token, Some(Token::new(SECRET)));
}

/// A key of ours, or one that is nearly so.
fn key() -> impl Strategy<Value = String> {
    let known = (0..TABLE.len()).prop_map(|at| TABLE[at].key.to_owned());
    let near = (0..TABLE.len(), 0..60_usize, any::<char>()).prop_map(|(at, cut, c)| {
        let key = TABLE[at].key;
        let mut key: String = key.chars().take(cut.max(key.len() / 2)).collect();
        key.push(c);
        key
    });
    prop_oneof![3 => known, 1 => near, 1 => "\\PC{0,20}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_flags_panic(arguments in proptest::collection::vec("(-{0,3})\\PC{0,30}", 0..8)) {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let _ = printed(&try_load(&arguments, &[], &[]));
    }

    #[test]
    fn no_values_of_known_keys_panic(pairs in proptest::collection::vec((key(), any::<String>()), 0..6)) {
        let flags: Vec<_> = pairs.iter().map(|(key, value)| format!("--{key}={value}")).collect();
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let result = try_load(&flags, &[], &[]);
        // One line a fault, whatever the values hold.
        if let Err(faults) = &result {
            prop_assert_eq!(faults.to_string().lines().count(), faults.0.len());
        }
        let variables: Vec<_> = pairs
            .iter()
            .map(|(key, value)| (crate::options::table::Form::Variable.name(key), value.clone()))
            .collect();
        let variables: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let _ = printed(&try_load(&[], &variables, &[]));
    }

    #[test]
    fn no_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[-a-z:\\[\\]{}&*!|>'\"#%@,? \n\t=.0-9~<]{0,200}") {
        for text in [&*String::from_utf8_lossy(&bytes), &text] {
            let _ = printed(&from_yaml_str(text));
            let _ = printed(&from_yaml_str(&format!("providers:\n  kubernetesIngress:\n    {text}")));
            let _ = printed(&try_load(&["--configfile=f.toml"], &[], &[("f.toml", text)]));
        }
    }

    // On the token's own line: a text that stands on a line of its own as a key must be named, so that it can be fixed.
    #[test]
    fn no_file_shows_the_token(
        before in "[-a-z:\\[\\]{}&*!|>'\"#%@, ]{0,12}",
        after in "[-a-z:\\[\\]{}&*!|>'\"#%@, \n]{0,30}",
        blank in "[ :=]{0,2}",
    ) {
        let yaml = format!("providers:\n  kubernetesIngress:\n    token:{blank}{before}{SECRET}{after}\n    endpoint: x\n");
        let output = printed(&from_yaml_str(&yaml));
        prop_assert!(!output.contains(SECRET), "{yaml}\n{output}");
        let toml = format!("[providers.kubernetesIngress]\ntoken ={blank}{before}{SECRET}{after}\nendpoint = \"x\"\n");
        let output = printed(&try_load(&["--configfile=f.toml"], &[], &[("f.toml", &toml)]));
        prop_assert!(!output.contains(SECRET), "{toml}\n{output}");
        let flag = format!("--providers.kubernetesingress.token{blank}{before}{SECRET}{after}");
        let output = printed(&try_load(&[&flag, "--operator.logformat=x"], &[], &[]));
        prop_assert!(!output.contains(SECRET), "{flag}\n{output}");
    }
}
