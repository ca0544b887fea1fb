//! Completions in real shells: Bash, which every check needs anyway, and zsh and fish where they are installed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

const PROGRAM: &str = env!("CARGO_BIN_EXE_waybill");

/// What a shell prints that runs `script`, with waybill on its PATH.
fn shell(name: &str, script: &str) -> Result<String> {
    let folder = Path::new(PROGRAM).parent().context("no folder")?;
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let mut command = Command::new(name);
    command.args(["-c", script]).env_clear().env("PATH", path).env("HOME", "/not/there");
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{name}: {said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// What Bash offers for a command line. It splits words at colons.
fn bash(line: &str) -> Result<String> {
    let last = line.rsplit([' ', ':', '=']).next().unwrap_or_default();
    let script = format!(
        "source <(waybill completions bash); COMP_LINE='{line}'; COMP_POINT={}; _waybill waybill '{last}'; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        line.len()
    );
    shell("bash", &script)
}

#[test]
fn bash_knows_commands_files_and_the_hosts_of_files() -> Result<()> {
    assert_eq!(bash("waybill expl")?, "explain\n");
    assert_eq!(bash("waybill explain -f exam")?, "examples/\n");
    assert_eq!(bash("waybill diff exam")?, "examples/\n");
    assert_eq!(bash("waybill explain --output=j")?, "json\n", "Bash replaces what is behind the = only");
    let found = bash("waybill explain -f examples/shop https://www.shop.example/")?;
    assert_eq!(
        found, "//www.shop.example/\n//www.shop.example/images\n//www.shop.example/search\n",
        "Bash replaces what is behind the colon only"
    );
    assert_eq!(bash("waybill explain -f examples/shop -n we")?, "web\n");
    assert_eq!(bash("waybill explain -f /not/there http")?, "\n");
    Ok(())
}

#[test]
fn fish_and_zsh_take_their_scripts() -> Result<()> {
    let is_there =
        |name: &str| ["/usr/bin", "/bin"].iter().any(|folder| Path::new(folder).join(name).exists());
    if is_there("fish") {
        let line = "waybill explain -f examples/shop https://www.shop.example/s";
        let found = shell("fish", &format!("waybill completions fish | source; complete -C '{line}'"))?;
        assert_eq!(found.trim(), "https://www.shop.example/search");
    } else {
        eprintln!("skipped: there is no fish");
    }
    if is_there("zsh") {
        let script = "compdef() { echo \"$@\"; }; source <(waybill completions zsh)";
        assert_eq!(shell("zsh", script)?, "_waybill waybill\n");
    } else {
        eprintln!("skipped: there is no zsh");
    }
    Ok(())
}
