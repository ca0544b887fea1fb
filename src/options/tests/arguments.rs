//! What is an option among arguments, and what is left for the rest of the command line.

use super::*;

fn rest(arguments: &[&str]) -> Vec<String> {
    let arguments = std::iter::once("waybill").chain(arguments.iter().copied()).map(OsString::from);
    let split = split_arguments(arguments, &["run", "render"]);
    split.rest.iter().skip(1).map(|argument| argument.to_string_lossy().into_owned()).collect()
}

#[test]
fn options_stand_anywhere_and_the_rest_keeps_its_order() {
    assert_eq!(
        rest(&[
            "--operator.status=off",
            "render",
            "-f",
            "examples/shop",
            "-o=json",
            "--providers.kubernetesingress.namespaces",
            "shop",
            "-",
            "--strict",
            "--providers.kubernetesingress.allowemptyservices",
            "-h",
            "--help",
            "--show-secrets=x",
        ]),
        ["render", "-f", "examples/shop", "-o=json", "-", "--strict", "-h", "--help", "--show-secrets=x"]
    );
    assert_eq!(rest(&[]), Vec::<String>::new());
    assert_eq!(rest(&["", "-", "--=x", "---x"]), ["", "-", "--=x", "---x"]);
    assert!(split_arguments([], &[]).rest.is_empty());
}

#[test]
fn two_dashes_end_the_options() {
    assert_eq!(rest(&["run", "--", "--operator.status=off"]), ["run", "--", "--operator.status=off"]);
}

#[test]
fn a_boolean_never_takes_the_command_for_its_value() {
    let arguments = ["--providers.kubernetesingress.allowemptyservices", "run"];
    assert_eq!(rest(&arguments), ["run"]);
    assert!(with_flags(&arguments).options.settings.allow_empty_services);
    for switch in
        ["--providers.kubernetesingress", "--ping", "--api.insecure", "--providers.docker", "--log.unheard"]
    {
        assert_eq!(rest(&[switch, "run", "x"]), ["run", "x"], "{switch}");
    }
    assert_eq!(rest(&["run", "--api.insecure", "file"]), ["run", "file"]);
    assert_eq!(rest(&["run", "--log.level", "render"]), ["run"]);
}

#[test]
fn a_value_stands_behind_a_blank_or_an_equals_sign_in_any_case_and_with_one_dash() {
    for arguments in [
        &["--operator.output.name=a"][..],
        &["-operator.output.name=a"],
        &["--Operator.OUTPUT.Name", "a"],
        &["-OPERATOR.output.name", "a"],
        &["--operator.output.name=b", "--operator.output.name=a"],
    ] {
        assert_eq!(with_flags(arguments).options.settings.output.name(), "a", "{arguments:?}");
    }
    // Only the first sign counts.
    let loaded = with_flags(&["--providers.kubernetesingress.labelselector=app=web"]);
    assert_eq!(loaded.options.label_selector.as_str(), "app=web");
}

#[test]
fn what_is_printed_of_flags_holds_no_value() {
    let split = split_arguments(["w", "--providers.kubernetesingress.token=SECRET"].map(OsString::from), &[]);
    assert_eq!(format!("{:?}", split.flags), r#"["providers.kubernetesIngress.token"]"#);
}

#[cfg(unix)]
#[test]
fn arguments_that_are_no_text_are_faults_or_left_alone() {
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(b"-f\xff".to_vec());
    let split = split_arguments([OsString::from("w"), odd.clone()], &[]);
    assert_eq!(split.rest, [OsString::from("w"), odd]);
    let odd = OsString::from_vec(b"--operator.output.name=\xff".to_vec());
    let split = split_arguments([OsString::from("w"), odd], &[]);
    let nothing = |_: &Path| Err(io::ErrorKind::NotFound.into());
    assert!(load_with(&split.flags, &BTreeMap::new(), Path::new(""), &nothing).is_err());
}
