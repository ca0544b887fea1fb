//! Where the programs are: `tests/tools/build` makes or finds them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder with etcd, kube-apiserver and kubectl, built if they are not up to date.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| build(&["etcd", "kube-apiserver", "kubectl"]))
}

/// Another of the tools, built if it is not up to date.
pub fn tool(name: &str) -> PathBuf {
    build(&[name]).join(name)
}

fn build(names: &[&str]) -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools");
    let output = Command::new(tools.join("build")).args(names).output().unwrap();
    assert!(
        output.status.success(),
        "tests/tools/build failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::env::var_os("WAYBILL_TOOLS_DIR").map_or_else(|| tools.join("bin"), PathBuf::from)
}

/// Says that a test is skipped, since the machine lacks something; in CI, where nobody reads that, it fails.
pub fn skip(missing: &str) {
    let in_ci = std::env::var("CI").is_ok_and(|text| text == "true");
    assert!(!in_ci, "{missing}, and with CI=true that is a failure");
    println!("skipped: {missing}");
}
