//! Bad options: nothing starts, and every fault is a line.

use std::process::Command;

use crate::harness::operator::binary;

#[test]
fn bad_options_end_with_2_and_a_line_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("waybill.yaml");
    std::fs::write(
        &file,
        "providers:\n  kubernetesIngress:\n    ingresClass: traefik\noperator:\n  statusRate: fast\n",
    )
    .unwrap();
    let output = Command::new(binary())
        .arg("run")
        .arg(format!("--configFile={}", file.display()))
        .arg("--operator.leaderelection.leaseduration=5 apples")
        .env_clear()
        .env("TRAEFIK_PROVIDERS_KUBERNETESINGRESS_ALLOWEMPTYSERVICES", "perhaps")
        .env("TRAEFIK_PROVIDERS_KUBERNETESINGRESS_TOKEN", "hush-hush")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(output.stdout.is_empty());
    for (wanted, source) in [
        ("ingresClass", "waybill.yaml:3"),
        ("statusRate", "waybill.yaml:5"),
        ("leaseDuration", "--operator.leaderelection.leaseduration"),
        ("allowEmptyServices", "TRAEFIK_PROVIDERS_KUBERNETESINGRESS_ALLOWEMPTYSERVICES"),
    ] {
        let lines: Vec<_> = said.lines().filter(|line| line.contains(wanted)).collect();
        assert_eq!(lines.len(), 1, "{wanted}:\n{said}");
        assert!(lines[0].contains(source), "{source} is not named: {}", lines[0]);
    }
    assert_eq!(said.lines().count(), 4, "{said}");
    assert!(!said.contains("hush"), "a token is shown:\n{said}");
}

#[test]
fn timings_that_do_not_go_together_and_a_missing_endpoint_are_faults_too() {
    for (flags, wanted) in [
        (vec![], "providers.kubernetesIngress.endpoint"),
        (vec!["--operator.leaderelection.leaseduration=5s"], "operator.leaderElection"),
    ] {
        let output = Command::new(binary()).arg("run").args(&flags).env_clear().output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(wanted), "{flags:?}: {said}");
    }
}
