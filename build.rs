//! Which commit a release is built from. `WAYBILL_COMMIT` and `WAYBILL_COMMIT_DATE` say so where there is no git. A
//! debug build names none, so that a commit does not make the tests compile again.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]).filter(|_| release) {
        println!("cargo::rerun-if-changed={log}");
    }
    for (variable, format) in [("WAYBILL_COMMIT", "--format=%h"), ("WAYBILL_COMMIT_DATE", "--format=%cs")] {
        println!("cargo::rerun-if-env-changed={variable}");
        let given = std::env::var(variable).ok().filter(|value| !value.is_empty());
        let value = given.or_else(|| git(&["log", "-1", "--abbrev=12", format]).filter(|_| release));
        println!("cargo::rustc-env={variable}={}", value.as_deref().unwrap_or("unknown"));
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}
