//! `make book`: `stage` lays the pages out for mdBook, in the tree that they have in the repository, with the files that
//! they link to; `check` follows every link in what mdBook made of them.

#[allow(dead_code, reason = "what the test of the documents needs")]
mod pages;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use walkdir::WalkDir;

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("stage") => stage(),
        Some("check") => check(),
        _ => bail!("name `stage` or `check`"),
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().context("a file without a folder")?;
    fs::create_dir_all(folder)?;
    fs::copy(from, to).with_context(|| from.display().to_string())?;
    Ok(())
}

fn stage() -> Result<()> {
    let book = root().join("target/book");
    let source = book.join("src");
    if source.exists() {
        fs::remove_dir_all(&source)?;
    }
    copy(&root().join("book/book.toml"), &book.join("book.toml"))?;
    copy(&root().join("book/SUMMARY.md"), &source.join("SUMMARY.md"))?;
    let summary = fs::read_to_string(root().join("book/SUMMARY.md"))?;
    let listed: BTreeSet<&Path> = pages::listed(&summary).into_iter().map(Path::new).collect();
    let mut linked = BTreeSet::new();
    for page in &listed {
        let text = fs::read_to_string(root().join(page)).with_context(|| page.display().to_string())?;
        let mut staged = String::new();
        let mut done = 0;
        for (range, target) in pages::links(&text) {
            let (path, _) = pages::resolve(page, target);
            staged.push_str(&text[done..range.start]);
            // mdBook calls a README.md index.html.
            staged.push_str(&target.replace("README.md", "index.md"));
            if root().join(&path).is_dir() {
                let readme = listed.contains(path.join("README.md").as_path());
                staged.push_str(if readme { "/index.md" } else { "/index.html" });
            }
            done = range.end;
            if !listed.contains(path.as_path()) {
                linked.insert(path);
            }
        }
        staged.push_str(&text[done..]);
        let to = source.join(page);
        fs::create_dir_all(to.parent().context("a page without a folder")?)?;
        fs::write(to, staged)?;
    }
    for path in linked {
        let full = root().join(&path);
        if !full.is_dir() {
            copy(&full, &source.join(&path))?;
        } else if !listed.contains(path.join("README.md").as_path()) {
            folder(&full, &source.join(&path))?;
        }
    }
    Ok(())
}

/// Copies the files of a folder that are no pages, with a list of them.
fn folder(from: &Path, to: &Path) -> Result<()> {
    let mut list = "<!doctype html><meta charset=\"utf-8\"><ul>\n".to_owned();
    for entry in WalkDir::new(from).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() && entry.path().extension().is_none_or(|ending| ending != "md") {
            let name = entry.path().strip_prefix(from)?;
            copy(entry.path(), &to.join(name))?;
            let _ = writeln!(list, "<li><a href=\"{0}\">{0}</a></li>", name.display());
        }
    }
    fs::write(to.join("index.html"), list + "</ul>\n")?;
    Ok(())
}

fn check() -> Result<()> {
    let html = root().join("target/book/html");
    let (link, id) = (Regex::new(r#"(?:href|src)="([^"]*)""#)?, Regex::new(r#" id="([^"]*)""#)?);
    let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
    for entry in WalkDir::new(&html) {
        let path = entry?.into_path();
        let name = path.strip_prefix(&html)?.to_owned();
        let is_page =
            name.extension().is_some_and(|ending| ending == "html") && name != Path::new("404.html");
        if is_page {
            files.insert(name, fs::read_to_string(&path)?);
        }
    }
    let mut dead = Vec::new();
    let mut links = 0;
    for (page, text) in &files {
        for (_, [target]) in link.captures_iter(text).map(|found| found.extract()) {
            if target.is_empty() || target.contains(':') {
                continue;
            }
            links += 1;
            let (path, fragment) = pages::resolve(page, target);
            let found = match files.get(&path) {
                Some(text) if !fragment.is_empty() => {
                    id.captures_iter(text).any(|found| found.get(1).is_some_and(|id| id.as_str() == fragment))
                }
                Some(_) => true,
                None => html.join(&path).exists(),
            };
            if !found {
                dead.push(format!("{}: {target}", page.display()));
            }
        }
    }
    ensure!(links > 1_000, "only {links} links were found");
    ensure!(dead.is_empty(), "dead links in the book:\n{}", dead.join("\n"));
    println!("{} pages with {links} links in target/book/html", files.len());
    Ok(())
}
