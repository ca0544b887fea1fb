//! Writes the generated files of the chart; `make manifests` says with what.

#[path = "chart.rs"]
mod chart;

use std::path::Path;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let mut rendered = Vec::new();
    for path in std::env::args().skip(1) {
        rendered.push(std::fs::read_to_string(&path).with_context(|| path.clone())?);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(chart::FOLDER);
    let files = chart::files(&rendered)?;
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
