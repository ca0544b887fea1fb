//! Markdown as the book and the test of the documents read it: which pages there are, their headings and links.

use std::ops::Range;
use std::path::{Component, Path, PathBuf};

/// The pages that book/SUMMARY.md lists, by their paths in the repository.
pub fn listed(summary: &str) -> Vec<&str> {
    links(summary).into_iter().map(|(_, target)| target).collect()
}

/// Each line of a text with where it begins, those of code blocks left out.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let (mut fenced, mut next) = (false, 0);
    text.split_inclusive('\n').filter_map(move |line| {
        let start = next;
        next += line.len();
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        (!fenced && !is_fence).then_some((start, line))
    })
}

/// The headings of a document, without their marks.
pub fn headings(text: &str) -> impl Iterator<Item = &str> {
    prose(text).filter_map(|(_, line)| {
        let heading = line.trim_start_matches('#');
        (heading.len() < line.len()).then(|| heading.trim())
    })
}

/// The anchor that a heading gets on the usual forges and in the book.
pub fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// The targets of links within the repository, each with its place in the text.
pub fn links(text: &str) -> Vec<(Range<usize>, &str)> {
    let mut links = Vec::new();
    for (start, line) in prose(text) {
        let mut at = 0;
        while let Some(found) = line[at..].find("](") {
            let from = at + found + 2;
            let Some(length) = line[from..].find(')') else { break };
            let target = &line[from..from + length];
            at = from + length;
            let in_code = line[..from].matches('`').count() % 2 == 1;
            if !in_code && !target.contains("://") {
                links.push((start + from..start + at, target));
            }
        }
    }
    links
}

/// The file or folder that a link of a page leads to, from the top of the repository, and the anchor in it.
pub fn resolve<'a>(page: &Path, target: &'a str) -> (PathBuf, &'a str) {
    let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
    if path.is_empty() {
        return (page.to_owned(), fragment);
    }
    let mut full = PathBuf::new();
    for part in page.with_file_name(path).components() {
        if part == Component::ParentDir {
            full.pop();
        } else {
            full.push(part);
        }
    }
    (full, fragment)
}
