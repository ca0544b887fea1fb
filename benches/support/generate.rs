//! Prints a made-up cluster as YAML manifests: `cargo run --example generate-cluster -- 10000 > cluster.yaml`.

#[path = "cluster.rs"]
mod cluster;

use std::io::{BufWriter, Write};

fn main() -> anyhow::Result<()> {
    let count = std::env::args().nth(1).unwrap_or_else(|| "10000".to_owned()).parse()?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    for object in cluster::objects(count) {
        writeln!(out, "---\n{}", serde_saphyr::to_string(&object)?)?;
    }
    Ok(())
}
