//! Writes the generated files of the chart; `make manifests` says with what.

#[path = "chart.rs"]
mod chart;

use std::path::Path;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [everything, namespaced, proxies] = arguments.as_slice() else {
        anyhow::bail!(
            "name the files with what kustomize renders of helm/everything, namespaced/team-a and examples/traefik"
        );
    };
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| path.to_owned());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(chart::FOLDER);
    let files = chart::files(&read(everything)?, &read(namespaced)?, &read(proxies)?)?;
    for entry in std::fs::read_dir(folder.join("templates"))? {
        let path = entry?.path();
        let name = path.strip_prefix(&folder)?.to_string_lossy().into_owned();
        if !files.contains_key(&name) && !chart::WRITTEN_BY_HAND.contains(&name.as_str()) {
            std::fs::remove_file(path)?;
        }
    }
    for (name, text) in files {
        std::fs::write(folder.join(&name), text).with_context(|| name.clone())?;
    }
    Ok(())
}
